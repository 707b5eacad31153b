"""Whatever happens to workers: nothing is missing, no dead letters, and only what was open in a crash is done twice."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from kappaflow.dev import DevStack
from tests.integration.http_services import Answer, Replay, Request, Service, said, serving
from tests.integration.stock import eventually

pytestmark = pytest.mark.integration

ROWS = 9_000
IN_FLIGHT = 400
"""As many records as a worker holds at most, by the job file."""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """A Kafka of these tests alone."""
    with DevStack(tmp_path_factory.mktemp("dev")) as stack:
        yield stack


class Fleet:
    """Workers of one job, as processes of the command line."""

    def __init__(self, replay: Replay, service: Service) -> None:
        self.replay = replay
        self.service = service
        self.workers: list[subprocess.Popen[str]] = []

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "kappaflow",
            "work",
            str(self.replay.job),
            "--region",
            "east",
            "--json",
        ]
        worker = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.workers.append(worker)
        return worker

    def called(self) -> int:
        return len(self.service.requests)

    def wait_for_calls(self, calls: int) -> None:
        eventually(lambda: self.called() >= calls, within_s=120)

    def finished(self, worker: subprocess.Popen[str]) -> tuple[int, str]:
        out, err = worker.communicate(timeout=400)
        assert "Traceback" not in err
        assert worker.returncode == 0, err
        return json.loads(out.splitlines()[-1])["read"], err

    def done_twice(self) -> int:
        """Checks that every row has its answer, once, in the table; how many were called more than once."""
        ledger = self.replay.work()
        assert (ledger["landed"], ledger["missing"], ledger["dead_lettered"]) == (ROWS, 0, 0)
        assert [row["n"] for row in self.replay.landed()] == list(range(ROWS))
        calls = Counter(request.record["n"] for request in self.service.requests)
        assert set(calls) == set(range(ROWS))
        return calls.total() - ROWS


def answer(request: Request) -> Answer:
    time.sleep(0.005)
    return said({"n": request.record["n"], "price": 1.0})


@pytest.fixture
def fleet(one: DevStack, tmp_path: Path) -> Iterator[Fleet]:
    with serving(answer) as service:
        replay = Replay(tmp_path, one.bootstrap())
        replay.make(ROWS, f'concurrency = 8\n[service.http]\nurl = "{service.url}"')
        text = replay.job.read_text()
        text = text.replace("partitions = 4", "partitions = 100")
        text = text.replace("[limits]", "[limits]\nsession_timeout_ms = 6000\nbroker_timeout_ms = 60000")
        replay.job.write_text(text)
        replay.publish()
        fleet = Fleet(replay, service)
        yield fleet
        for worker in fleet.workers:
            worker.kill()
            worker.communicate()


def test_rolling_restarts_do_nothing_twice(fleet: Fleet) -> None:
    running = [fleet.start() for _ in range(3)]
    for step in range(1, 4):
        fleet.wait_for_calls(step * ROWS // 5)
        leaving = running.pop(0)
        leaving.send_signal(signal.SIGTERM)
        running.append(fleet.start())
        leaving.communicate(timeout=60)
        assert leaving.returncode == 130
    for worker in running:
        fleet.finished(worker)
    assert fleet.done_twice() == 0


def test_kill_9_repeats_no_more_than_was_open(fleet: Fleet) -> None:
    running = [fleet.start() for _ in range(3)]
    for step in range(1, 4):
        fleet.wait_for_calls(step * ROWS // 5)
        dying = running.pop(0)
        dying.kill()
        running.append(fleet.start())
    for worker in running:
        fleet.finished(worker)
    assert fleet.done_twice() <= 3 * IN_FLIGHT


def test_a_worker_that_stood_still_for_longer_than_its_session(fleet: Fleet) -> None:
    running = [fleet.start() for _ in range(3)]
    fleet.wait_for_calls(ROWS // 5)
    running[0].send_signal(signal.SIGSTOP)
    time.sleep(10)
    running[0].send_signal(signal.SIGCONT)
    for worker in running:
        fleet.finished(worker)
    assert fleet.done_twice() <= IN_FLIGHT


def test_a_broker_that_restarts(one: DevStack, fleet: Fleet) -> None:
    running = [fleet.start() for _ in range(2)]
    fleet.wait_for_calls(ROWS // 5)
    one.stop("local")
    time.sleep(5)
    one.start("local")
    for worker in running:
        fleet.finished(worker)
    # What was delivered and could not be committed while the broker was away is done again.
    assert fleet.done_twice() <= 2 * IN_FLIGHT


def test_a_service_that_flaps(fleet: Fleet) -> None:
    running = [fleet.start() for _ in range(2)]

    def flap() -> None:
        for step in range(1, 5):
            fleet.wait_for_calls(step * ROWS // 6)
            fleet.service.stop()
            time.sleep(1.5)
            fleet.service.start()

    flapping = threading.Thread(target=flap)
    flapping.start()
    for worker in running:
        fleet.finished(worker)
    flapping.join()
    # A call that was cut off may have been done: it is tried again.
    assert fleet.done_twice() <= 4 * 2 * 8
