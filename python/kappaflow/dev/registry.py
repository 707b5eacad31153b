"""The stack's schema registry: Apicurio Registry, which has Confluent's API, on loopback with its data in a file."""

import json
import urllib.request

from kappaflow.dev import ports
from kappaflow.dev.jars import registry_jar
from kappaflow.dev.java import find_java
from kappaflow.dev.server import Record, Server

MIN_JAVA_MAJOR = 21  # what Apicurio 3.3 asks for
HEAP_MIB = 256
_LEVEL = "BACKWARD"  # as of Confluent's registry; Apicurio's own default is NONE
_ANSWER_TIMEOUT_S = 5.0


class Registry(Server):
    """The schema registry of all regions."""

    kind = "registry"
    title = "the schema registry"
    keeps_port = True
    more_ports = 1  # its page of metrics, which would listen on every address of the machine, at 9000

    def url(self, record: Record) -> str:
        """The base of Confluent's API; it has a path."""
        return f"http://{ports.HOST}:{record.port}/apis/ccompat/v7"

    def prepare(self) -> None:
        """Fetches Apicurio, and looks for a Java."""
        registry_jar(self._on_event)
        find_java(MIN_JAVA_MAJOR)

    def command(self, record: Record) -> list[str]:
        """Apicurio with its data in a file of H2's."""
        return [
            str(find_java(MIN_JAVA_MAJOR).executable),
            *("-XX:+UseSerialGC", f"-Xmx{HEAP_MIB}m", "-XX:+ExitOnOutOfMemoryError", self.mark),
            f"-Dquarkus.http.host={ports.HOST}",
            f"-Dquarkus.http.port={record.port}",
            f"-Dquarkus.management.host={ports.HOST}",
            f"-Dquarkus.management.port={record.more_ports[0]}",
            # It tells its name when asked: so we know that it is ours.
            f"-Dapicurio.app.name={record.name}",
            *("-Dapicurio.storage.kind=sql", "-Dapicurio.storage.sql.kind=h2"),
            f"-Dapicurio.datasource.url=jdbc:h2:file:{self.root / 'data' / 'registry'}",
            *("-jar", str(registry_jar(self._on_event))),
        ]

    def answers(self, record: Record) -> bool:
        """True if what answers on the record's port tells the record's name."""
        try:
            info = _call(record, "GET", "/apis/registry/v3/system/info")
        except (OSError, ValueError):
            return False
        return str(info.get("name", "")).startswith(f"{record.name} ")

    def configure(self, record: Record) -> None:
        """Sets the compatibility level."""
        _call(record, "PUT", "/apis/ccompat/v7/config", {"compatibility": _LEVEL})


def _call(record: Record, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, object]:
    request = urllib.request.Request(
        f"http://{ports.HOST}:{record.port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
    with opener.open(request, timeout=_ANSWER_TIMEOUT_S) as answer:
        told = json.load(answer)
    return told if isinstance(told, dict) else {}
