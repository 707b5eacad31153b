"""How a peer runs: a process of its own, in an environment of its own, that is told its task and tells its figures."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import ROOT

BENCHMARKS = ROOT / "benchmarks"


@dataclass(frozen=True)
class Task:
    """What to publish, and where to."""

    source: str
    """A directory of Parquet files, which are read in the order of their names."""
    rows: int
    topic: str
    partitions: int
    bootstrap: str
    registry: str
    schema: str
    """The Avro schema that the values shall have, as JSON."""
    scratch: str
    """A directory for files that only this run needs."""
    jars: tuple[str, ...] = ()
    """What Spark needs beside its own."""
    java: str = ""
    """The Java that Spark runs on."""

    def files(self) -> list[Path]:
        return sorted(Path(self.source).glob("*.parquet"))


def main(publish: Callable[[Task], dict[str, Any]]) -> None:
    """A program's whole main: its task is its argument, and its figures are the last line of stdout."""
    given = json.loads(sys.argv[1])
    print(json.dumps(publish(Task(**{**given, "jars": tuple(given["jars"])}))))


def run(python: Path, name: str, task: Task) -> dict[str, Any]:
    """The figures of `publish_peers.NAME`, run by that Python."""
    return run_module(python, f"publish_peers.{name}", asdict(task))


def run_module(python: Path, module: str, task: dict[str, Any]) -> dict[str, Any]:
    """The figures that are the last line a module prints, which is told its task."""
    command = [str(python), "-m", module, json.dumps(task)]
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{module} ended with {done.returncode}: {done.stdout[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def run_command(command: list[str], scratch: Path) -> tuple[str, float, float, float]:
    """Runs any command: its stdout, seconds, CPU seconds, and the peak memory (MiB) of its largest process.

    By a launcher between: what a process takes over from a large parent would count as its own.
    """
    told = scratch / "launched.json"
    launcher = [sys.executable, "-S", str(BENCHMARKS / "publish_peers" / "launch.py"), str(told)]
    done = subprocess.run([*launcher, *command], stdout=subprocess.PIPE, text=True, cwd=scratch, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout[-2000:]}")
    found = json.loads(told.read_text())
    return done.stdout, found["seconds"], found["cpu_s"], found["peak_mib"]


def versions(python: Path) -> dict[str, str]:
    """The peers' versions in that Python's environment."""
    code = "import json, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in %r}))"
    names = ["arrow-kafka-pyo3", "confluent-kafka", "pyspark"]
    told = subprocess.run([str(python), "-c", code % names], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, str] = json.loads(told.stdout)
    return found
