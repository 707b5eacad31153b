"""A small copy of the flights with known faults in known cells: what a gate has to find, and nothing else."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from warehouse import DataError, months, part_path

ROWS_PER_MONTH = 2_000
ROWS_PER_GROUP = 500
MONTHS = ("2013-01", "2013-02", "2013-03")

# (month, row in that month's file, column, fault, value). At most one fault a row, so that whichever column a
# gate looks at first, the answer is one. First and last rows of row groups and of files are among them;
# 2013-03 stays clean.
FAULTS: tuple[tuple[str, int, str, str, Any], ...] = (
    ("2013-01", 0, "dep_delay", "fraction", 2.5),
    ("2013-01", 499, "flight", "fraction", 1545.000001),
    ("2013-01", 500, "carrier", "null", None),
    ("2013-01", 777, "distance", "null", None),
    ("2013-01", 999, "year", "null", None),
    ("2013-01", 1_000, "time_hour", "timestamp", "2013-13-45T99:00:00Z"),
    ("2013-01", 1_234, "time_hour", "timestamp", "yesterday"),
    ("2013-01", 1_500, "flight", "too_large", 3_000_000_000.0),
    ("2013-01", 1_999, "sched_arr_time", "too_large", 2**40),
    ("2013-02", 0, "time_hour", "null", None),
    ("2013-02", 1, "time_hour", "timestamp", ""),
    ("2013-02", 2, "air_time", "fraction", -0.5),
    ("2013-02", 1_001, "minute", "too_large", -(2**31) - 1),
    ("2013-02", 1_002, "distance", "too_large", 1e300),
    ("2013-02", 1_003, "arr_delay", "too_large", 2147483648.0),
    ("2013-02", 1_999, "origin", "null", None),
)


@dataclass(frozen=True)
class Cell:
    """One corrupted cell. ``row`` counts from 0 in the file, ``row_in_group`` from 0 in its row group."""

    file: str
    row: int
    row_group: int
    row_in_group: int
    column: str
    fault: str
    value: Any


def make_corrupt(out: Path, flights: pa.Table) -> dict[str, Any]:
    """Writes ``out/flights/m=.../part-0.parquet`` and ``out/corrupted.json``, replacing an earlier one.

    Returns ``{"path", "rows", "rejected", "corrupted": [...]}``, with one Cell for each corrupted cell, its
    file relative to ``path``. ``fault`` is ``fraction`` (in an integer column), ``null`` (in a required one),
    ``timestamp`` (unparsable) or ``too_large`` (for an int). Raises DataError if ``out`` holds anything else.
    """
    if out.exists() and any(out.iterdir()) and not (out / "corrupted.json").is_file():
        raise DataError(f"{out} holds files that this program did not write: name another folder (--corrupt)")
    corrupted: list[Cell] = []
    tables: list[pa.Table] = []
    for month, whole in months(flights):
        if month not in MONTHS:
            continue
        table = whole.slice(0, ROWS_PER_MONTH)
        for at, row, column, fault, value in FAULTS:
            if at != month:
                continue
            table = _put(table, column, row, value)
            group, row_in_group = divmod(row, ROWS_PER_GROUP)
            corrupted.append(Cell(part_path(month), row, group, row_in_group, column, fault, value))
        tables.append(table)
    said = {
        "path": str(out / "flights"),
        "rows": sum(table.num_rows for table in tables),
        "rejected": len(corrupted),
        "corrupted": [asdict(cell) for cell in corrupted],
    }
    new = out.parent / f".{out.name}.tmp-new"
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    try:
        for month, table in zip(MONTHS, tables, strict=True):
            path = new / "flights" / part_path(month)
            path.parent.mkdir(parents=True)
            pq.write_table(table, path, row_group_size=ROWS_PER_GROUP, compression="zstd")
        (new / "corrupted.json").write_text(json.dumps(said, indent=2) + "\n")
        new.rename(out)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error}") from error
    return said


def _put(table: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    field = table.schema.field(column)
    values = table[column].to_pylist()
    values[row] = value
    return table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))
