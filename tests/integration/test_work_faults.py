"""Whatever happens to workers: nothing is missing, no dead letters, and only what was open in a crash is done twice."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kappaflow.dev import DevStack
from tests.integration.workers import IN_FLIGHT, OPEN, Workers, replaying

pytestmark = pytest.mark.integration

ROWS = 9_000


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """A Kafka of these tests alone."""
    with DevStack(tmp_path_factory.mktemp("dev")) as stack:
        yield stack


@pytest.fixture
def workers(one: DevStack, tmp_path: Path) -> Iterator[Workers]:
    with replaying(tmp_path, one.bootstrap(), ROWS) as workers:
        yield workers


def test_rolling_restarts_do_nothing_twice(workers: Workers) -> None:
    workers.rolled()
    assert workers.done_twice() == 0


def test_kill_9_repeats_no_more_than_was_open(workers: Workers) -> None:
    running = [workers.start() for _ in range(3)]
    for step in range(1, 4):
        workers.wait_for_calls(step * ROWS // 5)
        dying = running.pop(0)
        dying.kill()
        running.append(workers.start())
    for worker in running:
        workers.finished(worker)
    assert workers.done_twice() <= 3 * IN_FLIGHT


def test_a_worker_that_stood_still_for_longer_than_its_session(workers: Workers) -> None:
    workers.stood_still(10)
    assert workers.done_twice() <= IN_FLIGHT


def test_a_broker_that_restarts(one: DevStack, workers: Workers) -> None:
    workers.without_broker(one)
    # What was delivered and could not be committed while the broker was away is done again.
    assert workers.done_twice() <= 2 * OPEN


def test_a_service_that_flaps(workers: Workers) -> None:
    running = [workers.start() for _ in range(2)]

    def flap() -> None:
        for step in range(1, 5):
            workers.wait_for_calls(step * ROWS // 6)
            workers.service.stop()
            time.sleep(1.5)
            workers.service.start()

    flapping = threading.Thread(target=flap)
    flapping.start()
    for worker in running:
        workers.finished(worker)
    flapping.join()
    # A call that was cut off may have been done: it is tried again.
    assert workers.done_twice() <= 4 * 2 * 8
