"""What every benchmark shares: the flights, a Kafka of its own, measuring, and the one JSON line at the end."""

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from kappaflow.dev import DevStack

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
def kafka(*, registry: bool = True) -> Iterator[tuple["DevStack", Path]]:
    """A stack with a real Kafka, the region `bench`, and a registry; and a directory beside its data."""
    from kappaflow.dev import DevStack

    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        with DevStack(base / "dev", regions=["bench"], registry=registry) as stack:
            try:
                yield stack, base
            finally:
                stack.down(wipe=True)


def cpu_s(pid: int | str) -> float:
    """CPU seconds that a process has taken so far; of another one as the kernel shows them, in 1/100 s."""
    if pid == "self":
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_mib(pid: int | str) -> float:
    """The most memory that a process has had resident, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024


def measured(work: Callable[[], int], *others: int) -> dict[str, float]:
    """Run `work`, which returns a number of rows; give seconds, rows/s and CPU µs/row, and the peak of memory so far.

    They are those of this process, and of `others` that work for it.
    """
    pids: list[int | str] = ["self", *others]
    before, begun = sum(map(cpu_s, pids)), time.perf_counter()
    rows = work()
    seconds = time.perf_counter() - begun
    return figures(rows, seconds, sum(map(cpu_s, pids)) - before, sum(map(peak_rss_mib, pids)))


def figures(rows: int, seconds: float, cpu: float, peak_mib: float) -> dict[str, float]:
    """What a benchmark says of one run; `cpu` in seconds."""
    return {
        "rows": rows,
        "seconds": round(seconds, 3),
        "rows_per_s": round(rows / seconds),
        "cpu_us_per_row": round(cpu / rows * 1e6, 3),
        "peak_rss_mib": round(peak_mib, 1),
    }


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The runs' medians, figure by figure; what is no number is the last one's."""
    found = dict(runs[-1])
    for name, value in found.items():
        if isinstance(value, dict) and "rows_per_s" in value:
            found[name] = median([run[name] for run in runs])
        elif isinstance(value, int | float):
            middle = statistics.median(run[name] for run in runs)
            found[name] = round(middle) if isinstance(value, int) else round(middle, 3)
    if "rows_per_s" in found and len(runs) > 1:
        found["rows_per_s_of_runs"] = [run["rows_per_s"] for run in runs]
    return found


def finish(
    name: str,
    ours: dict[str, Any],
    peers: dict[str, dict[str, Any]],
    ratios: dict[str, Any],
    checked: bool,
    packages: list[str],
    versions: dict[str, str] | None = None,
    aims: list[dict[str, Any]] | None = None,
) -> int:
    """Print the JSON line and return the exit code: 1 if an output was wrong. `versions`: of other things."""
    line: dict[str, Any] = {
        "benchmark": name,
        "ours": ours,
        "peers": peers,
        "ratios": ratios,
        "checked": checked,
        "versions": {
            "python": sys.version.split()[0],
            **{package: version(package) for package in ["kappaflow", *packages]},
            **(versions or {}),
        },
    }
    if aims is not None:
        line["aims"] = aims
    sys.stdout.write(json.dumps(line) + "\n")
    return 0 if checked else 1
