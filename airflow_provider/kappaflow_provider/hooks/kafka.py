"""A region's Kafka as an Airflow connection of type `kappaflow_kafka`."""

import json
import re
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, BaseHook, mask_secret

from kappaflow_provider import connection_forms
from kappaflow_provider.environment import placed

_API_VERSIONS = 18
_MAX_ANSWER_BYTES = 1 << 20
_DEFAULT_PORT = 9092
# Names of options whose value is a secret, beyond the fields of the form: they may come in `options`.
_SECRET = re.compile(r"password|secret|(?<!\.ca)\.pem$|jaas|token(?!.*\.url$)", re.IGNORECASE)


class KappaFlowKafkaHook(BaseHook):
    """Reads a `kappaflow_kafka` connection: bootstrap servers, security, and further librdkafka options.

    kafka_conn_id: default `kappaflow_kafka_default`. The connection is read at the first use.
    connection: one that was read already, as in a trigger.
    """

    conn_name_attr = "kafka_conn_id"
    default_conn_name = "kappaflow_kafka_default"
    conn_type = connection_forms.KAFKA_TYPE
    hook_name = "KappaFlow Kafka"

    def __init__(self, kafka_conn_id: str = default_conn_name, *, connection: Any = None) -> None:
        super().__init__()
        self.kafka_conn_id = kafka_conn_id
        self._connection = connection
        self._options: dict[str, str] | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The form's fields; only Airflow before 3.2 asks for them here."""
        return connection_forms.widgets(connection_forms.KAFKA_FIELDS)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The form's labels; only Airflow before 3.2 asks for them here."""
        return connection_forms.behaviour(connection_forms.KAFKA_BEHAVIOUR)

    def get_conn(self) -> dict[str, str]:
        """The connection as librdkafka options, `bootstrap.servers` included."""
        return self.options

    @property
    def bootstrap_servers(self) -> str:
        """`host:port[,host:port]`, or empty if the connection has no host."""
        return self.options.get("bootstrap.servers", "")

    @property
    def options(self) -> dict[str, str]:
        """The connection as librdkafka options. Secrets among them are masked in logs from here on."""
        if self._options is None:
            options = _options(self._connection or self.get_connection(self.kafka_conn_id))
            for name, value in options.items():
                if is_secret(name):
                    mask_secret(value)
            self._options = options
        return self._options

    @contextmanager
    def in_environment(self, region: str) -> Iterator[None]:
        """The options as environment variables of this process within the block, for `env:` references.

        See `variable` for their names.
        """
        with placed({variable(region, option): value for option, value in self.options.items()}):
            yield

    def test_connection(self) -> tuple[bool, str]:
        """Asks each bootstrap server for its API versions, over TLS if the protocol says so.

        Credentials are not tried: a broker asks for them after this.
        """
        try:
            options = self.options
            servers = [s.strip() for s in options.get("bootstrap.servers", "").split(",") if s.strip()]
            if not servers:
                return (
                    False,
                    "the connection names no bootstrap servers: fill in the host, as host:port[,host:port]",
                )
            context = _tls(options)
        except Exception as error:
            return False, f"{type(error).__name__}: {error}"
        for server in servers:
            try:
                _ask_versions(server, context)
            except (OSError, ValueError) as error:
                return False, f"{server} does not answer as a Kafka broker: {error}"
        tried = "; the credentials are tried by the first task" if _signs_in(options) else ""
        return True, f"{', '.join(servers)}: a Kafka broker answers{tried}"


def is_secret(option: str) -> bool:
    """True if the value of a librdkafka option is to be kept out of logs."""
    return bool(_SECRET.search(option))


def variable(region: str, option: str) -> str:
    """`KAPPAFLOW_EAST_SASL_PASSWORD` for region `east` and option `sasl.password`."""
    return re.sub(r"[^A-Z0-9]+", "_", f"KAPPAFLOW_{region}_{option}".upper())


def _signs_in(options: Mapping[str, str]) -> bool:
    return any(name.startswith("sasl.") for name in options)


def _options(connection: Any) -> dict[str, str]:
    extra: Mapping[str, Any] = connection.extra_dejson
    options: dict[str, str] = {}
    if connection.host:
        host = str(connection.host)
        lone = "," not in host and not re.search(r":\d+$", host)
        options["bootstrap.servers"] = f"{host}:{connection.port or _DEFAULT_PORT}" if lone else host
    if connection.login:
        options["sasl.username"] = str(connection.login)
    if connection.password:
        options["sasl.password"] = str(connection.password)
    for field in connection_forms.KAFKA_FIELDS:
        if field.option and extra.get(field.name) not in (None, ""):
            options[field.option] = str(extra[field.name])
    if "ssl.key.pem" in options:
        options["ssl.key.pem"] = _with_line_breaks(options["ssl.key.pem"])
    return options | _further(extra.get("options"), connection.conn_id)


def _with_line_breaks(pem: str) -> str:
    """A PEM whose line breaks a one-line field of the form has taken; any other text as it is."""
    if "\n" in pem.strip():
        return pem
    parts = re.findall(r"(-----BEGIN ([^-]+)-----)(.*?)(-----END \2-----)", pem.replace("\\n", " "))
    if not parts or any(":" in body for _, _, body, _ in parts):  # headers of an old form
        return pem
    lines: list[str] = []
    for begin, _, body, end in parts:
        packed = re.sub(r"\s+", "", body)
        lines += [begin, *(packed[i : i + 64] for i in range(0, len(packed), 64)), end]
    return "\n".join(lines) + "\n"


def _further(given: Any, conn_id: str | None) -> dict[str, str]:
    if given in (None, ""):
        return {}
    parsed = given
    if isinstance(given, str):
        try:
            parsed = json.loads(given)
        except json.JSONDecodeError as error:
            raise AirflowException(
                f"connection {conn_id}: options: expected a JSON object of librdkafka options ({error.msg})"
            ) from None  # the text may hold a secret
    if not isinstance(parsed, dict):
        raise AirflowException(f"connection {conn_id}: options: expected a JSON object of librdkafka options")
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in parsed.items()
    }


def _tls(options: Mapping[str, str]) -> ssl.SSLContext | None:
    if "SSL" not in options.get("security.protocol", "").upper().split("_"):
        return None
    return ssl.create_default_context(cafile=options.get("ssl.ca.location"))


def _ask_versions(server: str, context: ssl.SSLContext | None, timeout_s: float = 5.0) -> None:
    host, _, port = server.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{server!r} is not host:port")
    host = host.strip("[]")
    with socket.create_connection((host, int(port)), timeout=timeout_s) as plain:
        connection = context.wrap_socket(plain, server_hostname=host) if context else plain
        with connection:
            client = b"kappaflow-provider"
            request = struct.pack(f">hhih{len(client)}s", _API_VERSIONS, 0, 1, len(client), client)
            connection.sendall(struct.pack(">i", len(request)) + request)
            size, correlation = struct.unpack(">ii", _read(connection, 8))
            if correlation != 1 or not 6 <= size <= _MAX_ANSWER_BYTES:
                raise ValueError("its answer is not Kafka's")


def _read(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ValueError("it closed the connection without an answer")
        data += piece
    return bytes(data)
