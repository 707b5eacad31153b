"""Reads the files of a source's plan as its fields say, independently of the core."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kappaflow import sources


def plan(directory: Path, **keys: object) -> dict[str, Any]:
    spec = {"dir": str(directory), "request": "0" * 64, **keys}
    found: dict[str, Any] = json.loads(sources.plan(json.dumps(spec)))
    assert found["version"] == 1
    return found


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows, sorted by their text; also checks each file's bytes and rows."""
    read: list[dict[str, Any]] = []
    for file in found["files"]:
        path = Path(file["path"])
        table = pq.read_table(path, partitioning=None)
        assert file["bytes"] == path.stat().st_size
        assert file["rows"] == table.num_rows
        columns = {field["name"]: _column(table, field, file["partition"]) for field in found["fields"]}
        read += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return sorted(read, key=repr)


def _column(table: pa.Table, field: dict[str, Any], partition: dict[str, Any]) -> list[Any]:
    if field["id"] is not None:
        wanted = str(field["id"]).encode()
        at = [
            i for i, one in enumerate(table.schema) if (one.metadata or {}).get(b"PARQUET:field_id") == wanted
        ]
    else:
        at = [i for i, name in enumerate(table.column_names) if name == (field["physical"] or field["name"])]
    if at:
        return table.column(at[0]).to_pylist()
    return [partition.get(field["name"])] * table.num_rows
