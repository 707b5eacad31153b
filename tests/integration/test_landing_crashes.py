"""Landers and compactions that stop at any step, or whose disk fails there: the next one leaves the same table."""

import os
import random
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import kappaflow
from kappaflow.dev import DevStack
from tests.integration.answers import EXACT, Answers, Written, family
from tests.integration.crashing import Crash, build, points

pytestmark = pytest.mark.integration

ROWS = 24_000
"""Enough for three commits of the least size, or four: a batch may be on its way to the files when one is due."""
SAMPLE = 12
"""So many steps of each kind are tried, or all: `make crash-points`."""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """A Kafka of these tests alone."""
    with DevStack(tmp_path_factory.mktemp("dev")) as stack:
        yield stack


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def answers(one: DevStack, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Families of three, single answers, and some of both again, from a later attempt."""
    answers = Answers(tmp_path_factory.mktemp("job"), one.bootstrap(), "crashes", ROWS)
    answers.write(answer for n in range(ROWS) for answer in (family(n, 3) if n % 5 == 0 else family(n, 1)))
    answers.write(answer for n in range(0, ROWS, 7) for answer in (family(n, 2, attempt=2)))
    return answers


@pytest.fixture(scope="module")
def written(answers: Answers) -> Written:
    return answers.written()


@pytest.fixture(scope="module")
def steps(answers: Answers, library: Path) -> list[str]:
    """What a lander does that nothing happens to."""
    crash = Crash(answers, "whole", library)
    done = crash.run()
    assert done.returncode == 0, done.stderr
    assert versions(crash.directory) in (3, 4)
    return crash.steps


def versions(table: Path) -> int:
    return len(list(table.glob("_kappaflow/*.json")))


def chosen(points: list[int]) -> list[int]:
    if os.environ.get("KAPPAFLOW_CRASH_POINTS") == "all":
        return points
    seed = time.time_ns()
    print(f"seed {seed}")
    return sorted(random.Random(seed).sample(points, min(SAMPLE, len(points))))


def ended(crash: Crash) -> tuple[bool, str]:
    """Whether it met its step, and what that was. It must have died of it, or said what failed."""
    done = crash.run()
    met = len(crash.steps) >= crash.at
    told = f"{crash.how} at step {crash.at} of {len(crash.steps)}: {crash.steps[crash.at - 1 : crash.at]}"
    if crash.how in ("kill", "half"):
        assert done.returncode == (-9 if met else 0), told
    else:
        assert done.returncode in (0, 1), (told, done.stderr)
        error = "No space left on device" if crash.how == "full" else "Input/output error"
        assert done.returncode == 0 or error in done.stderr, (told, done.stderr)
        assert "Traceback" not in done.stderr, (told, done.stderr)
    return met, told


def tried(crash: Crash, written: Written) -> bool:
    """Whether it met its step. Whatever that did, readers see whole families, and the next lander the rest."""
    met, told = ended(crash)
    if crash.how == "full":
        assert crash.left == [], told
    before = written.compare(crash.answers.landed(crash.table))
    assert before.right, (told, before)
    kappaflow.land(crash.answers.job, params={"table": crash.table})
    assert written.compare(crash.answers.landed(crash.table)) == EXACT, told
    assert crash.answers.explained(crash.table) == ROWS, told
    return met


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("how", ["kill", "half", "full", "lost"])
def test_a_lander_may_stop_at_every_step(
    answers: Answers, written: Written, library: Path, steps: list[str], how: str
) -> None:
    crashes = [Crash(answers, f"{how}-{at}", library, how, at) for at in chosen(points(steps, how))]
    with ThreadPoolExecutor(2) as pool:
        met = list(pool.map(lambda crash: tried(crash, written), crashes))
    print(f"{how}: {sum(met)} of {len(met)} steps were met, of {len(steps)} that a lander does")
    # Records come in another order each time, and of four commits one may be too few to come about again.
    assert sum(met) >= len(met) * 2 // 3


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("how", ["kill", "half", "full", "lost"])
def test_a_compaction_may_stop_at_every_step(
    answers: Answers, written: Written, library: Path, steps: list[str], how: str
) -> None:
    """Readers see each row once all the while, and the next compaction does what is left."""

    def compaction(at: int) -> Crash:
        table = f"compacted-{how}-{at}"
        shutil.copytree(answers.dir / "whole", answers.dir / table)
        return Crash(answers, table, library, how, at, "table compact")

    def tried(at: int) -> bool:
        crash = compaction(at)
        met, told = ended(crash)
        assert written.compare(answers.landed(crash.table)) == EXACT, told
        kappaflow.compact_table(answers.job, params={"table": crash.table})
        assert written.compare(answers.landed(crash.table)) == EXACT, told
        assert answers.explained(crash.table) == ROWS, told
        return met

    whole = compaction(0)
    assert whole.run().returncode == 0
    assert versions(whole.directory) > versions(answers.dir / "whole"), "it compacts nothing"
    with ThreadPoolExecutor(2) as pool:
        met = list(pool.map(tried, chosen(points(whole.steps, how))))
    print(f"{how}: {sum(met)} of {len(met)} steps were met, of {len(whole.steps)} that a compaction does")
    assert sum(met) >= len(met) - 2
