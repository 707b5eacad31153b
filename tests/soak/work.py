"""Workers among faults for half an hour: nothing is lost, what is done twice is counted, and memory stays flat.

A job of 100 partitions goes through an HTTP service by three workers. One of them runs from the beginning to the end,
and its memory is looked at every second; the others are killed (`kill -9`), restarted, or stopped for longer than their
session, and the service goes away for a while, at random moments. Then every row must have its answer once in the
table. The last line on stdout is JSON; exit 1 if a row is lost, done twice without a crash to explain it, or memory
grows.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from pathlib import Path

from kappaflow.dev import DevStack
from tests.integration.http_services import Request
from tests.integration.workers import IN_FLIGHT, Workers, replaying

ROWS_PER_S = 200
"""Of three workers with two calls each, of 5 ms and what a call costs, so that a run takes about its minutes."""
SESSION_S = 6
CONCURRENCY = 2
WARM_S = 120.0
"""What a worker needs to begin, and to read ahead, is no leak: its memory is compared from here on."""
GROWTH = 1.1
"""What the last tenth of a run may have more than the first tenth after that."""


class Counted(list[Request]):
    """Requests as counts by row: half an hour of them would be a gigabyte."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.by_row = array("I", bytes(4 * rows))
        self.total = 0

    def append(self, request: Request) -> None:
        self.by_row[request.record["n"]] += 1
        self.total += 1


class Memory(threading.Thread):
    """What a process has resident, every second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.page = Path(f"/proc/{pid}/statm")
        self.mib: list[float] = []

    def run(self) -> None:
        while True:
            try:
                pages = int(self.page.read_text().split()[1])
            except (OSError, IndexError):
                return
            self.mib.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
            time.sleep(1)

    def first_and_last(self) -> tuple[float, float]:
        """Medians of the first and the last tenth, after the beginning."""
        warm = self.mib[round(WARM_S) :] or self.mib
        tenth = max(1, len(warm) // 10)
        return statistics.median(warm[:tenth]), statistics.median(warm[-tenth:])


def ended(worker: "subprocess.Popen[str]") -> bool:
    return worker.poll() is not None


def fault(workers: Workers, running: list["subprocess.Popen[str]"], moments: random.Random) -> str:
    """One of them, at one of the workers or the service; says which."""
    kind = moments.choice(["kill", "kill", "restart", "restart", "stop", "flap"])
    if kind == "flap":
        workers.service.stop()
        time.sleep(moments.uniform(0.5, 3))
        workers.service.start()
        return kind
    at = moments.randrange(len(running))
    worker = running[at]
    if ended(worker):
        return "none"
    if kind == "stop":
        worker.send_signal(signal.SIGSTOP)
        time.sleep(SESSION_S * moments.uniform(0.5, 2))
        worker.send_signal(signal.SIGCONT)
        return kind
    worker.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
    worker.communicate(timeout=60)
    running[at] = workers.start()
    return kind


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="about so long (default: %(default)s)")
    parser.add_argument("--transactional", action="store_true", help="answers and offsets in transactions")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the faults")
    args = parser.parse_args()
    moments = random.Random(args.seed)
    sys.stderr.write(f"seed {args.seed}\n")
    rows = round(args.minutes * 60 * ROWS_PER_S)
    service = f"concurrency = {CONCURRENCY}\ntransactional = {str(args.transactional).lower()}"
    edits = [("concurrency = 8", service), ("broker_timeout_ms = 60000", "broker_timeout_ms = 30000")]
    faults: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as directory, DevStack(Path(directory) / "dev") as stack:
        job = Path(directory) / "job"
        job.mkdir()
        with replaying(job, stack.bootstrap(), rows, *edits) as workers:
            calls = workers.service.requests = Counted(rows)
            begun = time.monotonic()
            steady = workers.start()
            memory = Memory(steady.pid)
            memory.start()
            running = [workers.start() for _ in range(2)]
            while not ended(steady):
                time.sleep(moments.uniform(5, 25))
                if not ended(steady):
                    kind = fault(workers, running, moments)
                    faults[kind] = faults.get(kind, 0) + 1
                    sys.stderr.write(f"{time.monotonic() - begun:.0f} s, {calls.total} calls: {kind}\n")
            seconds = time.monotonic() - begun
            for worker in [steady, *running]:
                workers.finished(worker)
            ledger = workers.replay.work()
    crashes = faults.get("kill", 0) + faults.get("stop", 0)
    twice = calls.total - rows
    first, last = memory.first_and_last()
    failed = {
        "not_landed": rows - ledger["landed"],
        "missing": ledger["missing"],
        "dead_lettered": ledger["dead_lettered"],
        "never_called": calls.by_row.count(0),
    }
    # A call that the service cut off when it went away may have been done: it is tried again.
    explained = crashes * IN_FLIGHT + faults.get("flap", 0) * 3 * CONCURRENCY
    passed = not any(failed.values()) and twice <= explained and last <= first * GROWTH
    line = {
        "soak": "work",
        "seed": args.seed,
        "transactional": args.transactional,
        "rows": rows,
        "seconds": round(seconds),
        "faults": faults,
        **failed,
        "done_twice": twice,
        "done_twice_at_most": explained,
        "rss_mib_first": round(first, 1),
        "rss_mib_last": round(last, 1),
        "rss_mib_most": round(max(memory.mib), 1),
        "cores": os.cpu_count(),
        "passed": passed,
    }
    sys.stdout.write(json.dumps(line) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
