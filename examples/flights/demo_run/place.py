"""The demo's own directory: made afresh each time, with nothing left in the way by a run that was killed."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kappaflow.dev import DevStack

from .processes import end_leftovers

FLIGHTS = Path(__file__).resolve().parent.parent
REGIONS = ("east", "west")
# The job works on a copy of its file, so that the demo neither finds nor removes what a run of one's own made.
_COPIED = ("job.toml", "http.toml", "flight.avsc", "delay_cost.avsc", "metrics.sql")
_LINKED = ("delay_cost", "data")


class DemoError(Exception):
    """The demo can't go on; the text says why, and what to do."""


@dataclass(frozen=True)
class Place:
    """Where everything of one run is."""

    root: Path

    @property
    def dev(self) -> Path:
        return self.root / "dev"

    @property
    def airflow(self) -> Path:
        return self.root / "airflow"

    @property
    def dags(self) -> Path:
        return self.root / "dags"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def job_file(self) -> Path:
        return self.root / "job" / "job.toml"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def processes(self) -> Path:
        return self.root / "processes.json"


@contextmanager
def fresh(root: Path, say: Callable[[str], None]) -> Iterator[Place]:
    """An empty place, locked against a second demo; what a killed demo left running is stopped first.

    Raises DemoError if another demo is at work there.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root.parent / f"{root.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"another demo is at work in {root}: wait for it, or stop it") from None
        place = Place(root)
        end_leftovers(place.processes, say)
        if place.dev.exists():
            DevStack(place.dev, on_event=say).down(wipe=True)
        shutil.rmtree(root)
        for directory in (place.logs, place.dags, place.airflow, place.job_file.parent):
            directory.mkdir(parents=True)
        for name in _COPIED:
            shutil.copy(FLIGHTS / name, place.job_file.parent)
        for name in _LINKED:
            (place.job_file.parent / name).symlink_to(FLIGHTS / name, target_is_directory=True)
        (place.dags / "dag.py").symlink_to(FLIGHTS / "dag.py")
        yield place
