"""Landers that are killed at random moments, two hundred by default: nothing is lost or doubled, all is explained.

One topic of 300,000 answers, families and answers of attempts that came to nothing among them, is landed into one table
after the other in small commits. Into every other table two landers write at once, each all partitions. They are killed
again and again with `kill -9`, until one comes to the end; then the table is held against an independent decode of the
topic. The last line on stdout is JSON; exit 1 if a row is lost, doubled, of a torn family, not what was answered, or
not explained.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from kappaflow.dev import DevStack
from tests.integration.answers import Answer, Answers, Written, ended, family

ROWS = 150_000
COMMITS = "commit_ms = 200"
"""Beside 1 MiB."""
FIRST = "another lander committed first"
"""Why a lander may give way to the other one."""


def given() -> Iterator[Answer]:
    """One row in five has three answers; one in four was begun before, and one in six is answered again."""
    for n in range(ROWS):
        of = 3 if n % 5 == 0 else 1
        if n % 4 == 0:
            yield from family(n, of, attempt=1)[: max(1, of - 1)]
        yield from family(n, of, attempt=2)
        if n % 6 == 0:
            yield from family(n, 2, attempt=3)


class Table:
    """One table, and the landers that are to fill it."""

    def __init__(self, answers: Answers, name: str, landers: int, moments: random.Random) -> None:
        self.answers, self.name, self.moments = answers, name, moments
        self.landers = [answers.start(name) for _ in range(landers)]
        self.count: Counter[str] = Counter()
        self.peak_mib = 0.0

    def landed(self, kills: int) -> None:
        """Kills landers at most so often, until one comes to the end."""
        while self.count["kills"] < kills:
            time.sleep(self.moments.uniform(0.2, 1.0))
            self._measure()
            at = self.moments.randrange(len(self.landers))
            self.landers[at].kill()
            for index, lander in enumerate(self.landers):
                if lander.poll() is None and index != at:
                    continue
                _, err = lander.communicate()
                if lander.returncode == 0:
                    return
                killed = lander.returncode == -9
                if not killed and FIRST not in err:
                    raise RuntimeError(err)
                self.count["kills" if killed else "gave_way"] += 1
                self.landers[index] = self.answers.start(self.name)

    def finished(self) -> None:
        for lander in self.landers:
            lander.kill()
            lander.communicate()
        self.count["orphans"] += ended(self.answers.start(self.name))["orphans"]

    def wrong(self, written: Written) -> dict[str, int]:
        """What is wrong with the table: zeros."""
        found = asdict(written.compare(self.answers.landed(self.name)))
        return {**found, "unexplained": ROWS - self.answers.explained(self.name)}

    def _measure(self) -> None:
        for lander in self.landers:
            with suppress(OSError, StopIteration):
                lines = Path(f"/proc/{lander.pid}/status").read_text().splitlines()
                most = next(line for line in lines if line.startswith("VmHWM:"))
                self.peak_mib = max(self.peak_mib, int(most.split()[1]) / 1024)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="landers to kill (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the moments")
    args = parser.parse_args()
    moments = random.Random(args.seed)
    sys.stderr.write(f"seed {args.seed}\n")
    total: Counter[str] = Counter()
    peak, tables = 0.0, 0
    with tempfile.TemporaryDirectory() as directory, DevStack(Path(directory) / "dev") as stack:
        answers = Answers(Path(directory) / "job", stack.bootstrap(), "soak", ROWS, output=COMMITS)
        answers.write(given())
        written = answers.written()
        begun = time.monotonic()
        while total["kills"] < args.kills:
            table = Table(answers, f"table-{tables}", 1 + tables % 2, moments)
            try:
                table.landed(args.kills - total["kills"])
            finally:
                table.finished()
            wrong = table.wrong(written)
            versions = len(list((answers.dir / table.name / "_kappaflow").glob("*.json")))
            told = {"landers": len(table.landers), **table.count, "commits": versions, **wrong}
            sys.stderr.write(f"{time.monotonic() - begun:.0f} s: {json.dumps(told)}\n")
            total.update(told)
            peak, tables = max(peak, table.peak_mib), tables + 1
        seconds = time.monotonic() - begun
    passed = not any(total[what] for what in wrong)
    line = {
        "soak": "land",
        "seed": args.seed,
        "records": len(written.records),
        "rows": ROWS,
        "tables": tables,
        **{what: total[what] for what in ("kills", "gave_way", "commits", "orphans", *wrong)},
        "seconds": round(seconds),
        "rss_mib_most": round(peak, 1),
        "cores": os.cpu_count(),
        "passed": passed,
    }
    sys.stdout.write(json.dumps(line) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
