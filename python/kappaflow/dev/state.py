"""What the dev stack remembers between calls, in one JSON file, and what it tells about a region."""

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from kappaflow.dev.ports import HOST
from kappaflow.dev.process import ProcessId, is_running
from kappaflow.dev.secure import Access
from kappaflow.errors import DevStackError

STATE_FILE = "state.json"
SERVERS = ("registry", "s3", "hdfs")  # the directories of servers, beside those of the regions
PLAINTEXT, CONTROLLER = "PLAINTEXT", "CONTROLLER"  # the listeners that every broker has
_FORMAT = 2
_REGION_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

Health = Literal["running", "unresponsive", "paused", "dead", "stopped", "degraded"]


@dataclass(frozen=True)
class BrokerStatus:
    """One broker's process as it is now; `state` and `pid` as in `RegionStatus`, but never *degraded*."""

    broker: int
    state: Health
    address: str
    pid: int | None
    directory: str
    log_file: str


@dataclass(frozen=True)
class RegionStatus:
    """A region's Kafka as it is now.

    `state`: *running* (every broker answers, as one of this cluster), *unresponsive* (its process runs but does not
    answer so), *paused* (stopped by SIGSTOP), *dead* (ended without having been asked to), *stopped*; *degraded* if
    its brokers differ. A broker's `pid` is None unless its process runs. `secure` is None for a region whose
    listeners are plain.
    """

    region: str
    state: Health
    bootstrap_servers: str
    cluster_id: str
    min_insync_replicas: int
    directory: str
    brokers: tuple[BrokerStatus, ...]
    secure: Access | None


@dataclass(frozen=True)
class Shape:
    """What a region is made with, and keeps."""

    brokers: int = 1
    min_insync_replicas: int = 1
    secure: bool = False

    @property
    def replicas(self) -> int:
        """How many copies of a topic's records there are where the topic doesn't say: as many as brokers, up to 3."""
        return min(3, self.brokers)


@dataclass
class BrokerRecord:
    """What is remembered of a broker. `process` is None after a clean stop. `ports`: by listener."""

    ports: dict[str, int]
    process: ProcessId | None = None

    @property
    def port(self) -> int:
        """The port of the plain listener."""
        return self.ports[PLAINTEXT]

    def runs(self) -> bool:
        """True if its process runs, also if it is paused."""
        return self.process is not None and is_running(self.process)


@dataclass
class RegionRecord:
    """What is remembered of a region; its brokers by number, which is Kafka's node id."""

    cluster_id: str
    brokers: dict[int, BrokerRecord]
    shape: Shape = field(default_factory=Shape)

    @property
    def bootstrap_servers(self) -> str:
        """The plain listeners for clients: `host:port`, with commas between them."""
        return self.addresses(PLAINTEXT)

    def label(self, name: str, broker: int) -> str:
        """What messages call one of its brokers."""
        of_several = f"broker {broker}" if self.shape.brokers > 1 else "the Kafka"
        return f"{of_several} of region {name!r}"

    def addresses(self, listener: str) -> str:
        """The brokers' addresses at a listener: `host:port`, with commas between them."""
        return ",".join(f"{HOST}:{broker.ports[listener]}" for broker in self.brokers.values())


@dataclass
class StackState:
    """What is remembered of all regions, by name, in the order in which they were first started."""

    regions: dict[str, RegionRecord] = field(default_factory=dict)

    def ports(self) -> set[int]:
        """Every port that is remembered, of all listeners."""
        brokers = (broker for region in self.regions.values() for broker in region.brokers.values())
        return {port for broker in brokers for port in broker.ports.values()}


def broker_home(directory: Path, region: str, broker: int) -> Path:
    """The directory of one broker in the stack's."""
    return directory / region / f"broker-{broker}"


def check_region_name(name: str) -> None:
    """Raises DevStackError unless `name` can name a region (and so a directory)."""
    if _REGION_NAME.fullmatch(name) is None or name in (STATE_FILE, "lock", *SERVERS):
        raise DevStackError(
            f"{name!r} can't name a region: use 1 to 63 of a-z, 0-9, '.', '_' and '-', "
            f"beginning with a letter or a digit, and none of {', '.join(SERVERS)}."
        )


def load_state(directory: Path) -> StackState:
    """The state kept in `directory`; empty if there is none. DevStackError if it can't be understood."""
    path = directory / STATE_FILE
    try:
        text = path.read_text()
    except FileNotFoundError:
        return StackState()
    except OSError as error:
        raise DevStackError(f"cannot read the dev stack's state file {path} ({error.strerror}).") from error
    try:
        return _parse(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DevStackError(
            f"the dev stack's state file {path} can't be understood ({type(error).__name__}: {error}). "
            "Delete it and run `kappaflow dev up` again: data, and Kafkas that still run, are then found "
            "by their directories."
        ) from error


def save_state(directory: Path, state: StackState) -> None:
    """Replaces the state file as one step, so that a reader never sees half of it."""
    path = directory / STATE_FILE
    data = {"format": _FORMAT, "regions": {name: asdict(region) for name, region in state.regions.items()}}
    beside = path.with_name(f"{STATE_FILE}.new")
    try:
        with beside.open("w") as file:
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise DevStackError(f"cannot write the dev stack's state file {path} ({error.strerror}).") from error


def _parse(data: dict[str, object]) -> StackState:
    if data["format"] != _FORMAT:
        raise ValueError(f"format {data['format']!r}, expected {_FORMAT}")
    regions = _object(data["regions"], "regions")
    return StackState({str(name): _parse_region(_object(value, name)) for name, value in regions.items()})


def _parse_region(value: dict[str, object]) -> RegionRecord:
    cluster_id, shape = value["cluster_id"], _object(value["shape"], "shape")
    if not isinstance(cluster_id, str):
        raise TypeError("'cluster_id' must be a string")
    brokers = {
        int(number): _parse_broker(_object(broker, f"broker {number}"))
        for number, broker in _object(value["brokers"], "brokers").items()
    }
    if not brokers:
        raise ValueError("'brokers' is empty")
    kept = Shape(_integer(shape["brokers"]), _integer(shape["min_insync_replicas"]), shape["secure"] is True)
    return RegionRecord(cluster_id, brokers, kept)


def _parse_broker(value: dict[str, object]) -> BrokerRecord:
    ports = {name: _integer(port) for name, port in _object(value["ports"], "ports").items()}
    if PLAINTEXT not in ports:
        raise ValueError(f"'ports' lacks {PLAINTEXT}")
    if value["process"] is None:
        return BrokerRecord(ports)
    process = _object(value["process"], "process")
    return BrokerRecord(ports, ProcessId(_integer(process["pid"]), str(process["started"])))


def _object(value: object, name: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{name!r} is not an object")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is not an integer")
    return value
