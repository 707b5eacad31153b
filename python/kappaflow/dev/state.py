"""What the dev stack remembers between calls, in one JSON file, and what it tells about a region."""

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from kappaflow.dev.ports import HOST
from kappaflow.dev.process import ProcessId
from kappaflow.errors import DevStackError

STATE_FILE = "state.json"
REGISTRY = "registry"  # the directory of the schema registry, beside those of the regions
_FORMAT = 1
_REGION_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

Health = Literal["running", "unresponsive", "paused", "dead", "stopped"]


@dataclass(frozen=True)
class RegionStatus:
    """A region's Kafka as it is now.

    `state`: *running* (answers, as this cluster), *unresponsive* (its process runs but does not answer so),
    *paused* (stopped by SIGSTOP), *dead* (ended without having been asked to), *stopped*.
    `pid` is None unless a process runs.
    """

    region: str
    state: Health
    bootstrap_servers: str
    cluster_id: str
    pid: int | None
    directory: str
    log_file: str


@dataclass
class RegionRecord:
    """What is remembered of a region. `process` is None after a clean stop."""

    port: int
    cluster_id: str
    process: ProcessId | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients, `host:port`."""
        return f"{HOST}:{self.port}"


@dataclass
class StackState:
    """What is remembered of all regions, by name, in the order in which they were first started."""

    regions: dict[str, RegionRecord] = field(default_factory=dict)


def check_region_name(name: str) -> None:
    """Raises DevStackError unless `name` can name a region (and so a directory)."""
    if _REGION_NAME.fullmatch(name) is None or name in (STATE_FILE, "lock", REGISTRY):
        raise DevStackError(
            f"{name!r} can't name a region: use 1 to 63 of a-z, 0-9, '.', '_' and '-', "
            f"beginning with a letter or a digit, and not {REGISTRY!r}."
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
    regions = data["regions"]
    if not isinstance(regions, dict):
        raise TypeError("'regions' is not an object")
    return StackState({str(name): _parse_region(value) for name, value in regions.items()})


def _parse_region(value: dict[str, object]) -> RegionRecord:
    port, cluster_id, process = value["port"], value["cluster_id"], value["process"]
    if not isinstance(port, int) or not isinstance(cluster_id, str):
        raise TypeError("'port' must be an integer and 'cluster_id' a string")
    if process is None:
        return RegionRecord(port, cluster_id)
    if not isinstance(process, dict):
        raise TypeError("'process' is not an object")
    return RegionRecord(port, cluster_id, ProcessId(int(process["pid"]), str(process["started"])))
