"""What every benchmark shares: the flights, a Kafka of its own, measuring, and the one JSON line at the end."""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
FLIGHTS = ROOT / "examples" / "flights"


def say(text: str) -> None:
    """To stderr: stdout is for the JSON line."""
    sys.stderr.write(f"{text}\n")


def flights(rows: int | None = None) -> pa.Table:
    """The first rows of the year, or all of it, loosely typed as the warehouse has them."""
    sys.path.insert(0, str(FLIGHTS))
    import make_data

    make_data.make(FLIGHTS / "data")
    paths = sorted((FLIGHTS / "data" / "flights").rglob("*.parquet"))
    table = pa.concat_tables(pq.read_table(path, partitioning=None) for path in paths)
    return table.slice(0, rows).combine_chunks()


@contextmanager
def kafka() -> Iterator[tuple[str, Path]]:
    """A real Kafka in a directory of its own: its bootstrap servers and the directory."""
    from kappaflow.dev import DevStack

    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        with DevStack(base / "dev", regions=["bench"]) as stack:
            try:
                yield stack.bootstrap("bench"), base
            finally:
                stack.down(wipe=True)


def measured(work: Callable[[], int]) -> dict[str, float]:
    """Run `work`, which returns a number of rows; give seconds, rows/s and CPU µs/row of this process."""
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    rows = work()
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "rows": rows,
        "seconds": round(seconds, 3),
        "rows_per_s": round(rows / seconds),
        "cpu_us_per_row": round(cpu / rows * 1e6, 3),
    }


def finish(
    name: str,
    ours: dict[str, float],
    peers: dict[str, dict[str, float]],
    ratios: dict[str, Any],
    checked: bool,
    packages: list[str],
    crates: dict[str, str] | None = None,
) -> int:
    """Print the JSON line and return the exit code: 1 if an output was wrong."""
    line: dict[str, Any] = {
        "benchmark": name,
        "ours": ours,
        "peers": peers,
        "ratios": ratios,
        "checked": checked,
        "versions": {
            "python": sys.version.split()[0],
            **{package: version(package) for package in ["kappaflow", *packages]},
            **(crates or {}),
        },
    }
    sys.stdout.write(json.dumps(line) + "\n")
    return 0 if checked else 1
