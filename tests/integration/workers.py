"""Workers of one job as processes, an HTTP service that they call, and what has become of each row."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kappaflow.dev import DevStack
from tests.integration.http_services import Answer, Replay, Request, Service, said, serving
from tests.integration.stock import eventually

IN_FLIGHT = 400
"""As many records as a worker holds at most, by the job file."""
OPEN = IN_FLIGHT + 400
"""As many as one may have called that can't be committed while the broker is away: those it holds, and those it
answered in the half second since its last commit, by 8 calls at once of 5 ms and what they cost."""


class Workers:
    """Workers of one job, as processes of the command line."""

    def __init__(self, replay: Replay, service: Service, rows: int) -> None:
        self.replay = replay
        self.service = service
        self.rows = rows
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
        assert (ledger["landed"], ledger["missing"], ledger["dead_lettered"]) == (self.rows, 0, 0)
        assert [row["n"] for row in self.replay.landed()] == list(range(self.rows))
        calls = Counter(request.record["n"] for request in self.service.requests)
        assert set(calls) == set(range(self.rows))
        return calls.total() - self.rows

    def rolled(self) -> None:
        """Three workers, each stopped and replaced while there is work; ends when it is done."""
        running = [self.start() for _ in range(3)]
        for step in range(1, 4):
            self.wait_for_calls(step * self.rows // 5)
            leaving = running.pop(0)
            leaving.send_signal(signal.SIGTERM)
            running.append(self.start())
            leaving.communicate(timeout=60)
            assert leaving.returncode == 130
        for worker in running:
            self.finished(worker)

    def stood_still(self, seconds: float) -> None:
        """Three workers, one of which stands still for so long; ends when all is done."""
        running = [self.start() for _ in range(3)]
        self.wait_for_calls(self.rows // 5)
        running[0].send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        running[0].send_signal(signal.SIGCONT)
        for worker in running:
            self.finished(worker)

    def without_broker(self, stack: DevStack) -> None:
        """Two workers, whose broker is away for a while; ends when all is done."""
        running = [self.start() for _ in range(2)]
        self.wait_for_calls(self.rows // 5)
        stack.stop("local")
        time.sleep(5)
        stack.start("local")
        for worker in running:
            self.finished(worker)

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.communicate()


def answer(request: Request) -> Answer:
    time.sleep(0.005)
    return said({"n": request.record["n"], "price": 1.0})


@contextmanager
def replaying(directory: Path, servers: str, rows: int, *edits: tuple[str, str]) -> Iterator[Workers]:
    """A job of 100 partitions, published; `edits` are what its file says otherwise."""
    with serving(answer) as service:
        replay = Replay(directory, servers)
        replay.make(rows, f'concurrency = 8\n[service.http]\nurl = "{service.url}"')
        text = replay.job.read_text()
        limits = "[limits]\nsession_timeout_ms = 6000\nbroker_timeout_ms = 60000"
        for old, new in (("partitions = 4", "partitions = 100"), ("[limits]", limits), *edits):
            assert old in text, old
            text = text.replace(old, new)
        replay.job.write_text(text)
        replay.publish()
        workers = Workers(replay, service, rows)
        try:
            yield workers
        finally:
            workers.end()
