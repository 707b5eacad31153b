"""Publishers that are killed at random moments, a hundred by default: nothing is lost and every row is explained.

Jobs of 60,000 rows, of which 600 are bad, half of them in transactions. Each is killed again and again with `kill -9`,
some after the broker was made to wait; then it is finished, and a stock client reads what is there. The last line on
stdout is JSON; exit 1 if a row is lost, not explained, or doubled where it must not be.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kappaflow.dev import DevStack
from tests.integration.publishing import ROWS, Case, finished, make

KILLS_A_JOB = 20
BAD = range(50, ROWS, 100)


def kill(stack: DevStack, case: Case, moments: random.Random) -> None:
    """One publisher, killed at some moment; one in five while the broker answers nothing."""
    publisher = case.start()
    time.sleep(moments.uniform(0.2, 2.0))
    if moments.random() < 0.2:
        stack.pause("local")
        time.sleep(moments.uniform(0.0, 0.5))
        publisher.send_signal(signal.SIGKILL)
        stack.resume("local")
    else:
        publisher.send_signal(signal.SIGKILL)
    finished(publisher)


def check(case: Case, receipt: dict[str, Any]) -> dict[str, int]:
    """What is wrong with a job that is published: zeros."""
    ids = case.ingress()
    good = set(range(ROWS)) - case.bad
    explained = receipt["acknowledged"] + receipt["rejected"]
    return {
        "lost": len(good - set(ids)),
        "strange": len(set(ids) - good),
        "unexplained": abs(ROWS - explained) + abs(len(good) - receipt["acknowledged"]),
        "rejects_wrong": int(case.kept_rejects() != sorted(case.bad)),
        "doubled": ids.total() - len(ids),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="publishers to kill (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the moments")
    args = parser.parse_args()
    moments = random.Random(args.seed)
    sys.stderr.write(f"seed {args.seed}\n")
    jobs = []
    with tempfile.TemporaryDirectory() as directory, DevStack(Path(directory) / "dev") as stack:
        for number, left in enumerate(range(args.kills, 0, -KILLS_A_JOB)):
            transactional = number % 2 == 1
            case = make(Path(directory) / f"job{number}", stack.bootstrap(), f"soak{number}", bad=BAD)
            if transactional:
                case.edit("[topics]", "[topics]\ntransactional = true")
            case.ok("dispatch")
            kills = min(KILLS_A_JOB, left)
            for _ in range(kills):
                kill(stack, case, moments)
            case.edit("max_rows_per_s = 10000\n", "")
            receipt = case.ok("publish")
            told = {"kills": kills, "transactional": transactional, **check(case, receipt)}
            sys.stderr.write(f"{json.dumps(told)}\n")
            jobs.append(told)
    total = {
        key: sum(job[key] for job in jobs)
        for key in ("kills", "lost", "strange", "unexplained", "rejects_wrong")
    }
    doubled = {
        "doubled": sum(job["doubled"] for job in jobs if not job["transactional"]),
        "doubled_in_transactions": sum(job["doubled"] for job in jobs if job["transactional"]),
    }
    # Doubles of a killed publisher that sends without transactions are known and landed once.
    wrong = sum(total.values()) - total["kills"] + doubled["doubled_in_transactions"]
    line = {
        "soak": "publish",
        "seed": args.seed,
        "jobs": len(jobs),
        "rows": ROWS * len(jobs),
        **total,
        **doubled,
    }
    sys.stdout.write(json.dumps({**line, "cores": os.cpu_count(), "passed": wrong == 0}) + "\n")
    return 0 if wrong == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
