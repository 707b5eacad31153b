"""Asks a Kafka broker who it is, by two requests of the Kafka protocol on a plain socket.

A port that answers proves nothing: it may be somebody else's server. So readiness is that the broker names
our cluster id, and itself among its live brokers.
"""

import socket
import struct
from dataclasses import dataclass

from kappaflow.dev.ports import HOST

_API_VERSIONS = 18
_METADATA = 3
_METADATA_VERSION = 2  # the first version that tells the cluster id; every Kafka since 0.10.1 takes it
_MAX_ANSWER_BYTES = 1 << 20


class ProbeError(Exception):
    """What listens there did not answer as a Kafka does; the text says how."""


@dataclass(frozen=True)
class Broker:
    """A live broker as the cluster's metadata lists it."""

    node_id: int
    host: str
    port: int


@dataclass(frozen=True)
class Cluster:
    """What a broker told about its cluster. `controller_id` is -1 while there is none."""

    cluster_id: str | None
    controller_id: int
    brokers: tuple[Broker, ...]


def ask(port: int, *, timeout_s: float = 2.0) -> Cluster:
    """The cluster that the broker on loopback `port` belongs to.

    A step may take `timeout_s` seconds. Raises ProbeError if nothing listens there, or what does is no Kafka.
    """
    try:
        with socket.create_connection((HOST, port), timeout=timeout_s) as connection:
            _check_versions(_exchange(connection, _API_VERSIONS, 0, 1, b""))
            no_topics = struct.pack(">i", 0)
            return parse_metadata(_exchange(connection, _METADATA, _METADATA_VERSION, 2, no_topics))
    except OSError as error:
        raise ProbeError(f"no answer on {HOST}:{port}: {error}") from error


def is_member(port: int, cluster_id: str, node_id: int, *, timeout_s: float = 2.0) -> bool:
    """True if the broker on `port` is of `cluster_id`, and lists `node_id` at that port as alive."""
    try:
        cluster = ask(port, timeout_s=timeout_s)
    except ProbeError:
        return False
    alive = any(broker.node_id == node_id and broker.port == port for broker in cluster.brokers)
    return cluster.cluster_id == cluster_id and alive


def _exchange(connection: socket.socket, key: int, version: int, correlation: int, body: bytes) -> "_Reader":
    client = b"kappaflow-dev"
    message = struct.pack(f">hhih{len(client)}s", key, version, correlation, len(client), client) + body
    connection.sendall(struct.pack(">i", len(message)) + message)
    (size,) = struct.unpack(">i", _read_exactly(connection, 4))
    if not 4 <= size <= _MAX_ANSWER_BYTES:
        raise ProbeError(f"an answer of {size} bytes: not a Kafka broker")
    reader = _Reader(_read_exactly(connection, size))
    if reader.int32() != correlation:
        raise ProbeError("the answer does not carry our correlation id: not a Kafka broker")
    return reader


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise ProbeError("the connection was closed before the answer was complete")
        data += chunk
    return bytes(data)


def _check_versions(answer: "_Reader") -> None:
    error_code = answer.int16()
    if error_code != 0:
        raise ProbeError(f"ApiVersions was answered with error code {error_code}")
    for _ in range(answer.count()):
        key, low, high = answer.int16(), answer.int16(), answer.int16()
        if key == _METADATA and low <= _METADATA_VERSION <= high:
            return
    raise ProbeError(f"the broker does not take version {_METADATA_VERSION} of the Metadata request")


def parse_metadata(answer: "_Reader") -> Cluster:
    """The cluster in a Metadata answer of version 2, after its correlation id."""
    brokers: list[Broker] = []
    for _ in range(answer.count()):
        broker = Broker(node_id=answer.int32(), host=answer.string() or "", port=answer.int32())
        answer.string()  # rack
        brokers.append(broker)
    return Cluster(cluster_id=answer.string(), controller_id=answer.int32(), brokers=tuple(brokers))


class _Reader:
    """Reads the protocol's primitive types, and never past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        if size < 0 or self._at + size > len(self._data):
            raise ProbeError("the answer is shorter than it says: not a Kafka broker")
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def int16(self) -> int:
        return int.from_bytes(self._take(2), "big", signed=True)

    def int32(self) -> int:
        return int.from_bytes(self._take(4), "big", signed=True)

    def count(self) -> int:
        return max(0, self.int32())

    def string(self) -> str | None:
        size = self.int16()
        return None if size < 0 else self._take(size).decode("utf-8", "replace")
