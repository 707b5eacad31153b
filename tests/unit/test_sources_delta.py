"""Delta tables as they are planned: versions, partitions, column mapping, deletion vectors."""

import datetime
import json
import os
import struct
import time
import zlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyroaring import BitMap

from kappaflow.errors import SourceError
from tests.unit.planned import plan, rows

FLIGHTS = pa.table({"carrier": ["AA", "B6", "UA"], "delay": pa.array([1, 2, None], pa.int64())})
Planned = Callable[..., dict[str, Any]]


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    def of(**keys: object) -> dict[str, Any]:
        return plan(tmp_path, **{"format": "delta", "path": "flights", **keys})

    return of


def as_rows(arrow: pa.Table) -> list[dict[str, Any]]:
    return sorted(arrow.to_pylist(), key=repr)


def commits(table: Path) -> list[Path]:
    return sorted((table / "_delta_log").glob("*.json"))


def test_a_version_is_the_table_as_it_was(tmp_path: Path, planned: Planned) -> None:
    table = tmp_path / "flights"
    write_deltalake(table, FLIGHTS)
    time.sleep(0.05)
    between = datetime.datetime.now(datetime.UTC)
    time.sleep(0.05)
    write_deltalake(table, FLIGHTS, mode="append")

    now = planned()
    assert rows(now) == as_rows(pa.concat_tables([FLIGHTS, FLIGHTS]))
    assert now["what"] == "delta flights at version 1"
    assert [field["name"] for field in now["fields"]] == ["carrier", "delay"]
    assert planned() == now
    assert planned(path=str(table))["files"] == now["files"]

    before = planned(version=0)
    assert rows(before) == as_rows(FLIGHTS)
    assert planned(as_of=between.isoformat()) == before
    assert before["pin"] != now["pin"]
    assert rows(planned(columns=["delay"])) == as_rows(now_of(table).select(["delay"]))


def now_of(table: Path) -> pa.Table:
    return pa.table(DeltaTable(table).scan())


def test_a_state_that_is_not_there_is_refused(tmp_path: Path, planned: Planned) -> None:
    write_deltalake(tmp_path / "flights", FLIGHTS)
    with pytest.raises(SourceError, match=r"delta flights can't be planned: .*version 9"):
        planned(version=9)
    with pytest.raises(SourceError, match=r"no version of 2013-01-31T00:00:00\+00:00 or before"):
        planned(as_of="2013-01-31T00:00:00Z")
    with pytest.raises(SourceError, match=r"delta absent can't be planned"):
        planned(path="absent")
    with pytest.raises(SourceError, match=r"no column 'x'; its columns: carrier, delay"):
        planned(columns=["x"])


def test_a_time_is_refused_where_the_log_tells_two_versions_for_it(tmp_path: Path, planned: Planned) -> None:
    table = tmp_path / "flights"
    write_deltalake(table, FLIGHTS)
    time.sleep(0.05)
    write_deltalake(table, FLIGHTS, mode="append")
    now = datetime.datetime.now(datetime.UTC)
    for path in commits(table):  # as after a copy of the table
        os.utime(path, (now.timestamp() + 3_600,) * 2)
    with pytest.raises(SourceError, match=r"has version 0 at .* version 1 by those .*source.version"):
        planned(as_of=now.isoformat())
    assert rows(planned(version=1)) == as_rows(pa.concat_tables([FLIGHTS, FLIGHTS]))


def test_partitions_of_any_name_and_type_are_told_as_text(tmp_path: Path, planned: Planned) -> None:
    moment = datetime.datetime(2013, 1, 2, 3, 4, 5, 678, tzinfo=datetime.UTC)
    data = pa.table(
        {
            "day": pa.array([datetime.date(2013, 1, 1), None, datetime.date(2013, 1, 2)]),
            "name": ["a b/ü%2F", "__HIVE_DEFAULT_PARTITION__", "=?#"],
            "flag": [True, False, None],
            "at": pa.array([moment, None, moment], pa.timestamp("us", "UTC")),
            "fee": pa.array([Decimal("1.50"), Decimal("-2.00"), None]),
            "rank": pa.array([1, None, 3], pa.int32()),
            "x": [1, 2, 3],
        }
    )
    write_deltalake(
        tmp_path / "flights", data, partition_by=[name for name in data.column_names if name != "x"]
    )
    at = "2013-01-02T03:04:05.000678Z"
    assert rows(planned()) == sorted(
        [
            {
                "day": "2013-01-01",
                "name": "a b/ü%2F",
                "flag": "true",
                "at": at,
                "fee": "1.50",
                "rank": "1",
                "x": 1,
            },
            {
                "day": None,
                "name": "__HIVE_DEFAULT_PARTITION__",
                "flag": "false",
                "at": None,
                "fee": "-2.00",
                "rank": None,
                "x": 2,
            },
            {"day": "2013-01-02", "name": "=?#", "flag": None, "at": at, "fee": None, "rank": "3", "x": 3},
        ],
        key=repr,
    )
    assert [row["x"] for row in rows(planned(filter=[["day", "=", "2013-01-02"]]))] == [3]
    assert [row["x"] for row in rows(planned(filter=[["flag", "=", "true"], ["x", "<", 5]]))] == [1]
    assert rows(planned(filter=[["x", "in", [7, 8]]])) == []
    assert {row["x"] for row in rows(planned(filter=[["day", "is null"], ["x", ">", 1]]))} == {2, 3}
    assert len(rows(planned(filter=[[["day", "is null"]], [["x", "=", 1]]]))) == 3
    with pytest.raises(SourceError, match="names 'y'; the columns of delta flights"):
        planned(filter=[["y", "=", 1]])


def test_bytes_that_partition_a_table_are_refused(tmp_path: Path, planned: Planned) -> None:
    write_deltalake(tmp_path / "flights", pa.table({"key": [b"ab"], "x": [1]}), partition_by=["key"])
    with pytest.raises(SourceError, match=r"is partitioned by bytes \(key\)"):
        planned()


def test_mapped_columns_are_found_by_their_physical_names(tmp_path: Path, planned: Planned) -> None:
    table = tmp_path / "flights"
    mode = {"delta.columnMapping.mode": "name"}
    DeltaTable.create(table, schema=FLIGHTS.schema, partition_by=["carrier"], configuration=mode)
    write_deltalake(table, FLIGHTS, mode="append")
    found = planned()
    assert all(field["physical"].startswith("col-") for field in found["fields"])
    assert rows(found) == as_rows(FLIGHTS)

    # Renamed, as an engine with that command does: only the table's metadata change.
    log = commits(table)
    metadata = next(
        action for line in log[0].read_text().splitlines() if "metaData" in (action := json.loads(line))
    )
    schema = json.loads(metadata["metaData"]["schemaString"])
    for field in schema["fields"]:
        field["name"] = {"carrier": "airline", "delay": "late"}[field["name"]]
    metadata["metaData"] |= {"schemaString": json.dumps(schema), "partitionColumns": ["airline"]}
    (table / "_delta_log" / f"{len(log):020}.json").write_text(json.dumps(metadata) + "\n")
    assert rows(planned()) == as_rows(FLIGHTS.rename_columns(["airline", "late"]))


def test_mapped_columns_with_fields_inside_are_kept_first(tmp_path: Path, planned: Planned) -> None:
    data = pa.table({"id": [1, 2], "at": [{"lat": 1.0}, None]})
    table = tmp_path / "flights"
    DeltaTable.create(table, schema=data.schema, configuration={"delta.columnMapping.mode": "name"})
    write_deltalake(table, data, mode="append")
    with pytest.raises(
        SourceError, match=r"inner fields have other names in the files \(at\).*snapshot_path"
    ):
        planned()
    assert rows(planned(snapshot_path="kept")) == as_rows(data)


def delete_by_vector(table: Path, positions: list[int]) -> None:
    """Deletes rows of the table's only file by a deletion vector, by the letter of the protocol."""
    (log,) = commits(table)
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    (added,) = (action["add"] for action in actions if "add" in action)
    data = struct.pack("<IQI", 1_681_511_377, 1, 0) + BitMap(positions).serialize()
    name = "deletion_vector_00000000-0000-4000-8000-000000000000.bin"
    framed = b"\x01" + struct.pack(">I", len(data)) + data + struct.pack(">I", zlib.crc32(data))
    (table / name).write_bytes(framed)
    vector = {
        "storageType": "p",
        "pathOrInlineDv": f"file://{table / name}",
        "offset": 1,
        "sizeInBytes": len(data),
        "cardinality": len(positions),
    }
    stats = json.loads(added["stats"]) | {"tightBounds": False}
    features = ["deletionVectors"]
    written = [
        {
            "protocol": {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": features,
                "writerFeatures": features,
            }
        },
        {"remove": {"path": added["path"], "deletionTimestamp": 1, "dataChange": True}},
        {"add": added | {"deletionVector": vector, "stats": json.dumps(stats)}},
    ]
    log.with_name("00000000000000000001.json").write_text("".join(json.dumps(one) + "\n" for one in written))


def test_rows_that_deletion_vectors_take_away_are_kept_without_them(tmp_path: Path, planned: Planned) -> None:
    table = tmp_path / "flights"
    write_deltalake(table, FLIGHTS)
    delete_by_vector(table, [1])
    left = as_rows(FLIGHTS.take([0, 2]))
    with pytest.raises(SourceError, match=r"has deletion vectors. Purge them.*snapshot_path"):
        planned()
    found = planned(snapshot_path="kept")
    assert rows(found) == left
    assert found["what"].endswith("since it has deletion vectors")
    assert planned(snapshot_path="kept") == found
    assert rows(planned(version=0)) == as_rows(FLIGHTS)
