"""A lander that stops at any step of its commits, or whose disk fails there: the next one leaves the same table."""

import os
import random
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

ROWS = 12_000
"""Enough for three commits of the least size."""
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
    done = crash.land()
    assert done.returncode == 0, done.stderr
    assert len(list(crash.directory.glob("_kappaflow/*.json"))) == 3
    return crash.steps


def tried(crash: Crash, written: Written) -> bool:
    """Whether it met its step. Whatever that did, readers see whole families, and the next lander the rest."""
    first = crash.land()
    met = len(crash.steps) >= crash.at
    told = f"{crash.how} at step {crash.at} of {len(crash.steps)}: {crash.steps[crash.at - 1 : crash.at]}"
    if crash.how in ("kill", "half"):
        assert first.returncode == (-9 if met else 0), told
    else:
        assert first.returncode in (0, 1), (told, first.stderr)
        error = "No space left on device" if crash.how == "full" else "Input/output error"
        assert first.returncode == 0 or error in first.stderr, (told, first.stderr)
        assert "Traceback" not in first.stderr, (told, first.stderr)
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
    chosen = points(steps, how)
    if os.environ.get("KAPPAFLOW_CRASH_POINTS") != "all":
        seed = time.time_ns()
        print(f"seed {seed}")
        chosen = sorted(random.Random(seed).sample(chosen, min(SAMPLE, len(chosen))))
    crashes = [Crash(answers, f"{how}-{at}", library, how, at) for at in chosen]
    with ThreadPoolExecutor(2) as pool:
        met = list(pool.map(lambda crash: tried(crash, written), crashes))
    print(f"{how}: {sum(met)} of {len(met)} steps were met, of {len(steps)} that a lander does")
    # Records come in another order each time, and the last file may have a write less.
    assert sum(met) >= len(met) - 2
