"""What the tests share: two real Kafkas, the flights, and jobs cut from the flights example."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kappaflow.dev import DevStack

ROOT = Path(__file__).resolve().parent.parent
FLIGHTS = ROOT / "examples" / "flights"
sys.path.insert(0, str(FLIGHTS))


@dataclass(frozen=True)
class Job:
    """A job directory of a test, and how to run the command line on it."""

    dir: Path
    params: dict[str, str]

    @property
    def file(self) -> Path:
        return self.dir / "job.toml"

    def command(self, *words: str, json_output: bool = True) -> list[str]:
        """`kappaflow WORD job.toml --param … --json`."""
        stage, *more = words
        params = [f"--param={name}={value}" for name, value in self.params.items()]
        json_flag = ["--json"] if json_output else []
        return [sys.executable, "-m", "kappaflow", *stage.split(), str(self.file), *params, *json_flag, *more]

    def run(self, *words: str, timeout_s: float = 120) -> "Ran":
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=timeout_s, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text, f"{old!r} is not in the job file"
        self.file.write_text(text.replace(old, new))


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    def ok(self) -> dict[str, Any]:
        """The summary of a command that must have worked."""
        assert self.code == 0, f"exit {self.code}\n{self.stderr}"
        summary: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return summary


@pytest.fixture(scope="session")
def flights_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole year as a warehouse holds it, and the service's lookup tables."""
    import make_data

    out = tmp_path_factory.mktemp("flights") / "data"
    make_data.make(out)
    return out


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator["DevStack"]:
    """Two regions, each a real Kafka, and a real schema registry."""
    from kappaflow.dev import DevStack

    with DevStack(tmp_path_factory.mktemp("dev"), regions=["east", "west"], registry=True) as stack:
        yield stack


@pytest.fixture(scope="session")
def regions(stack: "DevStack") -> dict[str, str]:
    """The regions' bootstrap servers by name."""
    return {name: stack.bootstrap(name) for name in ("east", "west")}


@pytest.fixture(scope="session")
def registry_url(stack: "DevStack") -> str:
    """Where the schema registry is."""
    return stack.registry_url()


@pytest.fixture
def make_job(tmp_path: Path, flights_data: Path, regions: dict[str, str]) -> "JobMaker":
    return JobMaker(tmp_path, flights_data, regions)


@dataclass
class JobMaker:
    """Cuts jobs from the flights example: the same schemas, service and rules, on as many months as a test needs."""

    base: Path
    data: Path
    regions: dict[str, str]

    def __call__(self, months: int = 1, *, name: str = "job", **params: str) -> Job:
        directory = self.base / name
        directory.mkdir()
        for file in ("job.toml", "flight.avsc", "delay_cost.avsc", "metrics.sql"):
            shutil.copy(FLIGHTS / file, directory)
        shutil.copytree(
            FLIGHTS / "delay_cost", directory / "delay_cost", ignore=shutil.ignore_patterns("__pycache__")
        )
        (directory / "data").mkdir()
        shutil.copytree(self.data / "lookup", directory / "data" / "lookup")
        for month in range(1, months + 1):
            part = f"m=2013-{month:02d}"
            shutil.copytree(self.data / "flights" / part, directory / "data" / "flights" / part)
        job = Job(directory, {**self.regions, **params})
        # Each test's job is one of its own, also where tests share the Kafkas.
        unique = f"{self.base.name}-{name}".replace("[", "-").replace("]", "")
        job.edit('name = "flights-delay-cost"', f'name = "{unique}"')
        return job
