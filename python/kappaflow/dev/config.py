"""The configuration file of one broker: written at each start, and read back when all else is lost."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kappaflow.dev import secure
from kappaflow.dev.ports import HOST
from kappaflow.dev.state import CONTROLLER, PLAINTEXT, BrokerRecord, RegionRecord, Shape

_HEADER = "# Written by `kappaflow dev up` at each start: changes made here are lost."


def text(broker: int, region: RegionRecord, *, data: Path, secure_settings: Mapping[str, str]) -> str:
    """Kafka's configuration for one of a region's brokers: broker and controller in one process, on loopback."""
    shape, replicas, ports = region.shape, region.shape.replicas, region.brokers[broker].ports
    clients = [name for name in ports if name != CONTROLLER]
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": broker,
        # Static voters: they are not kept in the data, so the controllers' ports may differ at each start.
        "controller.quorum.voters": ",".join(
            f"{number}@{HOST}:{other.ports[CONTROLLER]}" for number, other in region.brokers.items()
        ),
        "listeners": ",".join(f"{name}://{HOST}:{ports[name]}" for name in (*clients, CONTROLLER)),
        "advertised.listeners": ",".join(f"{name}://{HOST}:{ports[name]}" for name in clients),
        "listener.security.protocol.map": ",".join(f"{name}:{_protocol(name)}" for name in ports),
        "controller.listener.names": CONTROLLER,
        "inter.broker.listener.name": PLAINTEXT,
        "log.dirs": data,
        # A misspelt topic must fail, as it does in production.
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": shape.min_insync_replicas,
        # Few partitions: the inner topics are made at the first use, within a second.
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": min(2, replicas),
        "share.coordinator.state.topic.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": min(2, replicas),
        # Groups form at once, and clients may ask for sessions as short as tests want them. With the new
        # group protocol the broker alone sets the session, so it is short here (Kafka's own default: 45 s).
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1_000,
        "group.consumer.min.session.timeout.ms": 1_000,
        "group.consumer.session.timeout.ms": 6_000,
        "group.consumer.min.heartbeat.interval.ms": 500,
        "group.consumer.heartbeat.interval.ms": 1_000,
        # After a `kill -9` the new process is let in once the old one's session is over (Kafka's default:
        # 9 s).
        "broker.session.timeout.ms": 3_000,
        "broker.heartbeat.interval.ms": 500,
        # The cleaner's buffer is 128 MiB otherwise, a quarter of the heap.
        "log.cleaner.dedupe.buffer.size": 8 << 20,
        # Looks often, so that tests of a topic's retention need not wait for minutes.
        "log.retention.check.interval.ms": 5_000,
    }
    lines = (f"{key}={_escaped(str(value))}" for key, value in {**settings, **secure_settings}.items())
    return "\n".join([_HEADER, *lines, ""])


@dataclass(frozen=True)
class Kept:
    """What a configuration file tells of its broker and its region."""

    broker: BrokerRecord
    shape: Shape


def read_back(path: Path) -> Kept | None:
    """What the configuration file `path` tells; None if there is none, or it is not one of ours."""
    listeners = read_property(path, "listeners") or ""
    voters = read_property(path, "controller.quorum.voters") or ""
    in_sync = read_property(path, "min.insync.replicas") or ""
    ports: dict[str, int] = {}
    for listener in listeners.split(","):
        name, _, address = listener.partition("://")
        port = address.rpartition(":")[2]
        if port.isdigit():
            ports[name] = int(port)
    if PLAINTEXT not in ports or not in_sync.isdigit():
        return None
    return Kept(BrokerRecord(ports), Shape(len(voters.split(",")), int(in_sync), secure.SASL_SSL in ports))


def read_property(path: Path, key: str) -> str | None:
    """The value of `key` in a properties file; None if the file or the key is absent."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition("=")
        if name.strip() == key:
            return value.strip()
    return None


def _protocol(listener: str) -> str:
    if listener == secure.EXPIRED:
        return secure.SASL_SSL
    return listener if listener in secure.LISTENERS else PLAINTEXT


def _escaped(value: str) -> str:
    """As Java reads it from a properties file, which is Latin-1 with escapes of UTF-16 units."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)
