"""README's walk-through, run as written: its files are written, its commands run, in an empty directory."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kappaflow.dev import DevStack
from tests.conftest import ROOT

pytestmark = pytest.mark.system

# A block that follows "... `name`:" is that file; any other is for the shell.
FILE = re.compile(r"`(\w+\.\w+)`:$")


def section(title: str) -> str:
    """The text under a heading, up to the next one."""
    return re.split(r"\n#+ ", (ROOT / "README.md").read_text().split(f"# {title}\n", 1)[1], maxsplit=1)[0]


def blocks(text: str) -> list[tuple[str, str]]:
    """The indented blocks of a text, each with the last line of prose before it."""
    found: list[tuple[str, str]] = []
    prose, code = "", list[str]()
    for line in [*text.splitlines(), "."]:
        if line.startswith("    ") or (code and not line):
            code.append(line[4:])
        elif line:
            if code:
                found.append((prose, "\n".join(code).strip() + "\n"))
            prose, code = line, []
    return found


class Walk:
    """One directory in which a reader types."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bootstrap = ""

    def type(self, commands: str) -> str:
        """What a shell prints for some commands."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.directory,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """The directory after the whole walk-through."""
    walk = Walk(tmp_path_factory.mktemp("readme"))
    try:
        for prose, block in blocks(section("A job of your own, in five minutes")):
            if block.startswith("pip install"):
                continue  # tests/system/test_wheels.py installs wheels
            # The reader's 9092 may be somebody else's here.
            if block.startswith("kappaflow dev up"):
                walk.type(block.replace(" --port 9092", ""))
                status = json.loads(walk.type("kappaflow dev status --json"))
                walk.bootstrap = status["regions"][0]["bootstrap_servers"]
            elif file := FILE.search(prose):
                (walk.directory / file[1]).write_text(block.replace("127.0.0.1:9092", walk.bootstrap))
            else:
                walk.type(block)
        yield walk
    finally:
        DevStack(walk.directory / ".kappaflow" / "dev").down(wipe=True)


def test_the_job_ends_as_the_readme_says(walk: Walk) -> None:
    said = walk.type("kappaflow reconcile job.toml --json 2>/dev/null")
    ledger = json.loads(said.splitlines()[-1])
    assert ledger["explained"]
    assert (ledger["expected"], ledger["landed"], ledger["filtered"]) == (10_000, 9_999, 1)
    told = json.loads(
        walk.type('kappaflow sql job.toml "SELECT sum(fee) FROM landed" --json 2>/dev/null').splitlines()[-1]
    )
    assert told["rows"][0][0] == pytest.approx(sum(i / 4 * 0.02 for i in range(10_000)))


def test_stages_that_are_named_exist(walk: Walk) -> None:
    listed = re.search(r"`kappaflow ((?:\w+ \| )+\w+)`", section("A job of your own, in five minutes"))
    assert listed
    for stage in listed[1].split(" | "):
        walk.type(f"kappaflow {stage} job.toml --json")


def test_a_data_frame_is_published(walk: Walk) -> None:
    [(_, code)] = blocks(section("From a DataFrame"))
    frame = "import pandas\nframe = pandas.DataFrame({'id': [1, 2, 3], 'amount': [0.5, 1.0, 2.0]})\n"
    ask = "assert receipt['acknowledged'] == 3 and receipt['rejected'] == 0, receipt\n"
    (walk.directory / "frame.py").write_text(frame + code.replace("127.0.0.1:9092", walk.bootstrap) + ask)
    walk.type("python frame.py")


def test_what_airflow_users_import_exists() -> None:
    pytest.importorskip("airflow")
    for _, code in blocks(section("From Airflow")):
        if code.startswith("from "):
            for module in re.findall(r"from (kappaflow_provider\S+) import", code):
                assert (ROOT / "airflow_provider" / module.replace(".", "/")).is_dir()
