"""Landers that stop, or whose disk fails, at a chosen step of what they do to the table's files (`crash_points.c`)."""

import json
import subprocess
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

from tests.integration.answers import Answers

SOURCE = Path(__file__).with_name("crash_points.c")


def build(directory: Path) -> Path:
    """The library that is loaded into landers."""
    library = directory / "crash_points.so"
    command = ["cc", "-Wall", "-Wextra", "-Werror", "-Wno-implicit-fallthrough", "-O1", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", str(library), str(SOURCE), "-ldl"], check=True, timeout=60)
    return library


@dataclass(frozen=True)
class Crash:
    """A lander of one table, or what else works on it, told what is to happen at which of its steps; 0: nothing."""

    answers: Answers
    table: str
    library: Path
    how: str = "kill"
    at: int = 0
    verb: str = "land"

    @property
    def directory(self) -> Path:
        return self.answers.dir / self.table

    @property
    def log(self) -> Path:
        return self.answers.dir / f"{self.table}.log"

    def run(self) -> "subprocess.CompletedProcess[str]":
        """Runs it to its end, whichever that is."""
        told = {
            "LD_PRELOAD": str(self.library),
            "CRASH_DIR": str(self.directory),
            "CRASH_LOG": str(self.log),
            "CRASH_HOW": self.how,
            "CRASH_AT": str(self.at),
        }
        lander = self.answers.start(self.table, self.verb, **told)
        out, err = lander.communicate(timeout=120)
        return subprocess.CompletedProcess(lander.args, lander.returncode, out, err)

    @cached_property
    def steps(self) -> list[str]:
        """What it did, or was about to do, in order."""
        return self.log.read_text().split()

    @property
    def left(self) -> list[str]:
        """Data files, whole or not, that are not the table's."""
        newest = max(self.directory.glob("_kappaflow/*.json"), default=None)
        named = {file["path"] for file in json.loads(newest.read_text())["files"]} if newest else set()
        there = {str(path.relative_to(self.directory)) for path in self.directory.glob("data/*")}
        return sorted(there - named)


def points(steps: list[str], how: str) -> list[int]:
    """Where `how` makes a difference: of equal steps in a row (the writes of a file) the first and the last."""
    found = []
    at = 1
    for step, run in groupby(steps):
        last = at + len(list(run)) - 1
        if how != "half" or step == "write":
            found += sorted({at, last})
        at = last + 1
    return found
