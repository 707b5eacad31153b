"""Asks a Kafka broker who it is, by two requests of the Kafka protocol on a plain socket.

A port that answers proves nothing: it may be somebody else's server. So readiness is that the broker names
our cluster id, and itself among its live brokers.
"""

import struct
from dataclasses import dataclass

from kappaflow.dev import wire
from kappaflow.dev.wire import AnswerError, Reader

_API_VERSIONS = 18
_METADATA = 3
_METADATA_VERSION = 2  # the first version that tells the cluster id; every Kafka since 0.10.1 takes it


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

    A step may take `timeout_s` seconds. Raises AnswerError if nothing listens there, or what does is no Kafka.
    """
    with wire.connected(port, timeout_s=timeout_s) as connection:
        _check_versions(wire.exchange(connection, _API_VERSIONS, 0, 1, b""))
        no_topics = struct.pack(">i", 0)
        return parse_metadata(wire.exchange(connection, _METADATA, _METADATA_VERSION, 2, no_topics))


def is_member(port: int, cluster_id: str, node_id: int, *, timeout_s: float = 2.0) -> bool:
    """True if the broker on `port` is of `cluster_id`, and lists `node_id` at that port as alive."""
    try:
        cluster = ask(port, timeout_s=timeout_s)
    except AnswerError:
        return False
    alive = any(broker.node_id == node_id and broker.port == port for broker in cluster.brokers)
    return cluster.cluster_id == cluster_id and alive


def _check_versions(answer: Reader) -> None:
    error_code = answer.int16()
    if error_code != 0:
        raise AnswerError(f"ApiVersions was answered with error code {error_code}")
    for _ in range(answer.count()):
        key, low, high = answer.int16(), answer.int16(), answer.int16()
        if key == _METADATA and low <= _METADATA_VERSION <= high:
            return
    raise AnswerError(f"the broker does not take version {_METADATA_VERSION} of the Metadata request")


def parse_metadata(answer: Reader) -> Cluster:
    """The cluster in a Metadata answer of version 2, after its correlation id."""
    brokers: list[Broker] = []
    for _ in range(answer.count()):
        broker = Broker(node_id=answer.int32(), host=answer.string() or "", port=answer.int32())
        answer.string()  # rack
        brokers.append(broker)
    return Cluster(cluster_id=answer.string(), controller_id=answer.int32(), brokers=tuple(brokers))
