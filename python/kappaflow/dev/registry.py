"""The stack's schema registry: Apicurio Registry, which has Confluent's API, on loopback with its data in a file."""

import json
import secrets
import shutil
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from kappaflow.dev import ports, process
from kappaflow.dev.jars import registry_jar
from kappaflow.dev.java import Java, find_java
from kappaflow.dev.kafka import java_environment, last_lines
from kappaflow.dev.process import ProcessId
from kappaflow.dev.state import Health
from kappaflow.errors import DevStackError

MIN_JAVA_MAJOR = 21  # what Apicurio 3.3 asks for
HEAP_MIB = 256
_LEVEL = "BACKWARD"  # as of Confluent's registry; Apicurio's own default is NONE
_POLL_S = 0.1
_ANSWER_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class RegistryStatus:
    """The stack's schema registry as it is now; the words are those of `RegionStatus`. `url` is for clients."""

    state: Health
    url: str
    pid: int | None
    directory: str
    log_file: str


@dataclass
class _Record:
    """What is kept of it beside its data. `name` is what it tells when asked."""

    port: int
    name: str
    configured: bool = False

    @property
    def url(self) -> str:
        return f"http://{ports.HOST}:{self.port}/apis/ccompat/v7"


class Registry:
    """The registry in one directory. Whoever calls holds the stack's lock; only `status` is for anyone."""

    def __init__(self, root: Path, on_event: Callable[[str], None]) -> None:
        self.root = root
        self.log_file = root / "registry.log"
        self._on_event = on_event
        self._pid_file = root / "pid"
        self._mark = f"-Dkappaflow.dev.home={root}"

    def known(self) -> bool:
        """True if one was started here before, and not removed since."""
        return self._record() is not None

    def status(self) -> RegistryStatus | None:
        """How it is now; None if there is none. Asks it; changes nothing."""
        record = self._record()
        if record is None:
            return None
        running = self._process()
        state = self._health(record, running)
        return RegistryStatus(
            state=state,
            url=record.url,
            pid=None if running is None else running.pid,
            directory=str(self.root),
            log_file=str(self.log_file),
        )

    def has_died(self) -> bool:
        """True if it was started, not stopped, and no process runs. Quick."""
        return self.known() and self._pid_file.exists() and self._process() is None

    def launch(self, wanted_port: int | None, avoid: set[int]) -> bool:
        """Starts it unless it runs; True if it did. `await_ready` waits for it."""
        record = self._record()
        running = self._process()
        if record is not None and running is not None:
            if wanted_port not in (None, record.port):
                raise DevStackError(
                    f"the schema registry already runs on port {record.port}; to move it to {wanted_port}, "
                    "run `kappaflow dev down` first."
                )
            process.send(running, process.CONTINUE)  # in case it is paused
            return False
        jar, java = registry_jar(self._on_event), find_java(MIN_JAVA_MAJOR)
        port = wanted_port or (record.port if record is not None else ports.choose_free(avoid))
        ports.refuse_taken(port, "the schema registry", "--registry-port")
        if record is None:
            record = _Record(port, f"kappaflow-{secrets.token_hex(8)}")
        record.port = port
        self._on_event(f"starting the schema registry at {record.url}")
        self._keep(record)
        if self.log_file.exists():
            self.log_file.replace(self.log_file.with_name(f"{self.log_file.name}.1"))
        process.spawn(
            self._command(record, jar, java, ports.choose_free(avoid | {port})),
            cwd=self.root,
            environment=java_environment(),
            log_file=self.log_file,
            pid_file=self._pid_file,
        )
        return True

    def await_ready(self, timeout_s: float) -> None:
        """Waits until it answers under its name. A new one is given its compatibility level."""
        record = self._record()
        if record is None:
            return
        begun = time.monotonic()
        seen = False
        while not _answers(record):
            running = self._process()
            seen = seen or running is not None
            late = time.monotonic() >= begun + timeout_s
            # The process writes its pid itself, a moment after its start.
            if late or (running is None and (seen or time.monotonic() >= begun + 2)):
                why = f"has not answered for {timeout_s:.0f} s" if late else "ended while it started"
                raise DevStackError(
                    f"the schema registry at {record.url} {why}. Its last lines in {self.log_file}:\n"
                    f"{last_lines(self.log_file, 20)}"
                )
            time.sleep(_POLL_S)
        if not record.configured:
            try:
                _call(record, "PUT", "/apis/ccompat/v7/config", {"compatibility": _LEVEL})
            except (OSError, ValueError) as error:
                raise DevStackError(
                    f"the schema registry at {record.url} took no level ({error})."
                ) from error
            record.configured = True
            self._keep(record)
        self._on_event(f"the schema registry is ready after {time.monotonic() - begun:.1f} s")

    def stop(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL to one that still runs `timeout_s` seconds later."""
        running = self._process()
        if running is not None:
            self._on_event("stopping the schema registry")
            if process.terminate([running], timeout_s)[running] == "killed":
                self._on_event(f"the schema registry did not end within {timeout_s:.0f} s and was killed")
        self._pid_file.unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes its directory, data included. DevStackError if that fails."""
        try:
            shutil.rmtree(self.root)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise DevStackError(f"cannot remove {self.root} ({error}).") from error

    def _process(self) -> ProcessId | None:
        return process.from_pid_file(self._pid_file, self._mark)

    def _health(self, record: _Record, running: ProcessId | None) -> Health:
        if running is None:
            return "dead" if self._pid_file.exists() else "stopped"
        if process.is_paused(running):
            return "paused"
        return "running" if _answers(record) else "unresponsive"

    def _record(self) -> _Record | None:
        path = self.root / "registry.json"
        try:
            kept = json.loads(path.read_text())
            return _Record(int(kept["port"]), str(kept["name"]), bool(kept["configured"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DevStackError(
                f"{path} can't be understood ({type(error).__name__}: {error}). "
                f"Delete {self.root} to begin with an empty schema registry."
            ) from error

    def _keep(self, record: _Record) -> None:
        beside = self.root / "registry.json.new"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(asdict(record)))
            beside.replace(self.root / "registry.json")
        except OSError as error:
            raise DevStackError(
                f"cannot write in {self.root} ({error.strerror}). "
                "Choose a directory you may write to, with --dir."
            ) from error

    def _command(self, record: _Record, jar: Path, java: Java, management_port: int) -> list[str]:
        return [
            str(java.executable),
            *("-XX:+UseSerialGC", f"-Xmx{HEAP_MIB}m", "-XX:+ExitOnOutOfMemoryError", self._mark),
            f"-Dquarkus.http.host={ports.HOST}",
            f"-Dquarkus.http.port={record.port}",
            # Its page of metrics would listen on every address of the machine, at 9000.
            f"-Dquarkus.management.host={ports.HOST}",
            f"-Dquarkus.management.port={management_port}",
            # It tells its name when asked: so we know that it is ours.
            f"-Dapicurio.app.name={record.name}",
            *("-Dapicurio.storage.kind=sql", "-Dapicurio.storage.sql.kind=h2"),
            f"-Dapicurio.datasource.url=jdbc:h2:file:{self.root / 'data' / 'registry'}",
            *("-jar", str(jar)),
        ]


def _answers(record: _Record) -> bool:
    """True if what answers on the record's port tells the record's name."""
    try:
        info = _call(record, "GET", "/apis/registry/v3/system/info")
    except (OSError, ValueError):
        return False
    return str(info.get("name", "")).startswith(f"{record.name} ")


def _call(record: _Record, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, object]:
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
