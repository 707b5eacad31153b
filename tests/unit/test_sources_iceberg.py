"""Iceberg tables as they are planned: snapshots, changed schemas and partitions, delete files."""

import datetime
import json
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import (
    AddSchemaUpdate,
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    SetCurrentSchemaUpdate,
    SetSnapshotRefUpdate,
)
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import DoubleType, LongType, NestedField, StringType
from pyroaring import BitMap

from kappaflow.errors import SourceError
from tests.unit.planned import plan, rows

DAYS = [datetime.date(2013, 1, 1), datetime.date(2013, 1, 2), None]
FLIGHTS = pa.table(
    {"day": pa.array(DAYS), "carrier": ["AA", "B6", "UA"], "delay": pa.array([1, 2, None], pa.int64())}
)


@pytest.fixture
def properties(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "warehouse").mkdir()
    return {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/catalog.db",
        "warehouse": f"file://{tmp_path}/warehouse",
    }


@pytest.fixture
def catalog(properties: dict[str, str]) -> Catalog:
    catalog = load_catalog("test", **properties)
    catalog.create_namespace("db")
    return catalog


@pytest.fixture
def table(catalog: Catalog) -> Table:
    table = catalog.create_table("db.flights", FLIGHTS.schema)
    table.append(FLIGHTS)
    return table


@pytest.fixture
def planned(tmp_path: Path, properties: dict[str, str]) -> Callable[..., dict[str, Any]]:
    def of(**keys: object) -> dict[str, Any]:
        asked = {"format": "iceberg", "table": "db.flights", "catalog": {"name": "test", **properties}}
        return plan(tmp_path, **{**asked, **keys})

    return of


Planned = Callable[..., dict[str, Any]]


def as_rows(arrow: pa.Table) -> list[dict[str, Any]]:
    return sorted(arrow.to_pylist(), key=repr)


def test_a_snapshot_is_the_table_as_it_was(table: Table, planned: Planned) -> None:
    first = table.current_snapshot()
    assert first is not None
    time.sleep(0.01)
    between = datetime.datetime.now(datetime.UTC)
    time.sleep(0.01)
    table.append(FLIGHTS)

    now = planned()
    assert rows(now) == as_rows(pa.concat_tables([FLIGHTS, FLIGHTS]))
    current = table.current_snapshot()
    assert current is not None
    assert now["what"] == f"iceberg db.flights at snapshot {current.snapshot_id}"
    assert [field["name"] for field in now["fields"]] == ["day", "carrier", "delay"]
    assert planned() == now

    before = planned(snapshot_id=first.snapshot_id)
    assert rows(before) == as_rows(FLIGHTS)
    assert planned(as_of=between.isoformat()) == before
    assert (
        planned(as_of=between.astimezone(datetime.timezone(datetime.timedelta(hours=5))).isoformat())
        == before
    )
    assert before["pin"] != now["pin"]


def test_a_state_that_is_not_there_is_refused(table: Table, planned: Planned) -> None:
    current = table.current_snapshot()
    assert current is not None
    with pytest.raises(SourceError, match=rf"no snapshot 7 \(any more\); its latest: {current.snapshot_id}"):
        planned(snapshot_id=7)
    with pytest.raises(SourceError, match=r"no snapshot of 2013-01-31T00:00:00\+00:00 or before"):
        planned(as_of="2013-01-31T00:00:00Z")
    with pytest.raises(SourceError, match=r"db.absent is not in the catalog"):
        planned(table="db.absent")
    for as_of in ("2013-01-31", "yesterday", 7):
        with pytest.raises(SourceError, match=r"source.as_of .*expected a time with its zone"):
            planned(as_of=as_of)
    with pytest.raises(SourceError, match=r"source.snapshot_id is 'x', expected a whole number"):
        planned(snapshot_id="x")


def test_a_table_without_rows_is_planned(catalog: Catalog, planned: Planned) -> None:
    catalog.create_table("db.flights", FLIGHTS.schema)
    found = planned()
    assert (found["files"], len(found["fields"])) == ([], 3)


def test_columns_that_were_added_renamed_and_dropped_are_found_by_id(table: Table, planned: Planned) -> None:
    first = table.current_snapshot()
    assert first is not None
    with table.update_schema() as change:
        change.rename_column("carrier", "airline")
        change.delete_column("delay")
        change.add_column("delay", LongType())  # another column of the same name
        change.add_column("note", StringType())
    newer = pa.table(
        {"day": pa.array(DAYS), "airline": ["DL"] * 3, "delay": [7, 8, 9], "note": ["x", None, "z"]}
    )
    table.append(newer)

    older = [
        {"day": day, "airline": name, "delay": None, "note": None}
        for day, name in zip(DAYS, ["AA", "B6", "UA"], strict=True)
    ]
    assert rows(planned()) == sorted(older + newer.to_pylist(), key=repr)
    assert rows(planned()) == as_rows(table.scan().to_arrow())
    # The past is seen by its own schema.
    past = planned(snapshot_id=first.snapshot_id)
    assert rows(past) == as_rows(FLIGHTS)
    assert rows(planned(columns=["note", "airline"])) == as_rows(
        table.scan().to_arrow().select(["note", "airline"])
    )
    with pytest.raises(SourceError, match=r"no column 'carrier'; its columns: day, airline, delay, note"):
        planned(columns=["carrier"])


def test_the_current_schema_holds_before_anything_is_written_with_it(table: Table, planned: Planned) -> None:
    before = planned()
    with table.update_schema() as change:
        change.rename_column("carrier", "airline")
    after = planned()
    assert [field["name"] for field in after["fields"]] == ["day", "airline", "delay"]
    assert rows(after) == as_rows(table.scan().to_arrow())
    assert after["pin"] != before["pin"]


def test_partitions_are_told_where_they_are_columns_and_may_change(
    catalog: Catalog, planned: Planned
) -> None:
    table = catalog.create_table("db.flights", FLIGHTS.schema)
    with table.update_spec() as change:
        change.add_field("day", IdentityTransform())
    table.append(FLIGHTS)
    with table.update_spec() as change:
        change.add_field("carrier", BucketTransform(4), "bucket")
        change.add_field("delay", IdentityTransform())
    table.append(FLIGHTS)

    found = planned()
    assert rows(found) == as_rows(pa.concat_tables([FLIGHTS, FLIGHTS]))
    told = sorted((file["partition"] for file in found["files"]), key=repr)
    days = ["2013-01-01", "2013-01-02", None]
    first = [{"day": day} for day in days]
    second = [{"day": day, "delay": delay} for day, delay in zip(days, ["1", "2", None], strict=True)]
    assert told == sorted(first + second, key=repr)

    one_day = planned(filter=[["day", "=", "2013-01-02"]])
    assert {row["carrier"] for row in rows(one_day)} == {"B6"}
    either = planned(
        filter=[[["day", "==", "2013-01-01"]], [["delay", ">", 1], ["carrier", "not in", ["AA"]]]]
    )
    assert {row["carrier"] for row in rows(either)} == {"AA", "B6"}
    assert rows(planned(filter=[["delay", "in", [98, 99]]])) == []
    assert {row["carrier"] for row in rows(planned(filter=[["day", "is null"]]))} == {"UA"}
    assert {row["carrier"] for row in rows(planned(filter=[["day", "is not null"]]))} == {"AA", "B6"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("day = 1", r"'day = 1', expected a list"),
        ([["day", "~", 1]], r"operator '~' on 'day', expected one of =, !="),
        ([["day", "=", None]], r"compares 'day' = None, expected a value"),
        ([["day", "is null", 1]], r"operator 'is null' on 'day'"),
        ([["day", "="]], r"compares 'day' = None, expected a value"),
        ([["day", "in", 1]], r"compares 'day' in 1, expected a list of values"),
        ([["day", "in", []]], r"expected a list of values"),
        ([["day", "=", [1]]], r"expected a value"),
        ([[["day", "=", 1], ["x"]]], r"\['x'\], expected \[column, op, value\]"),
        ([[]], r"has \[\], expected a list"),
        ([["airline", "=", "AA"]], r"names 'airline'; the columns of iceberg .*carrier, day, delay"),
    ],
)
def test_a_filter_that_cannot_be_read_is_refused(
    table: Table, planned: Planned, wrong: object, told: str
) -> None:
    assert table.current_snapshot()
    with pytest.raises(SourceError, match=told):
        planned(filter=wrong)


class _Manifests(ManifestWriterV2):
    """Manifests of files that pyiceberg reads and doesn't write."""

    def __init__(self, of_deletes: bool, *more: Any) -> None:
        self._of_deletes = of_deletes
        super().__init__(*more)

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES if self._of_deletes else ManifestContent.DATA

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes" if self._of_deletes else "data"}


def write_deletion_vector(data_file: str, positions: list[int], path: Path) -> None:
    """A Puffin file with the deletion vector of one data file, by the letter of the format."""
    bitmap = struct.pack("<QI", 1, 0) + BitMap(positions).serialize()
    framed = b"\xd1\xd3\x39\x64" + bitmap
    blob = struct.pack(">I", len(framed)) + framed + struct.pack(">I", zlib.crc32(framed))
    about = {
        "type": "deletion-vector-v1",
        "fields": [],
        "snapshot-id": -1,
        "sequence-number": -1,
        "offset": 4,
        "length": len(blob),
        "properties": {"referenced-data-file": data_file, "cardinality": str(len(positions))},
    }
    footer = json.dumps({"blobs": [about], "properties": {}}).encode()
    end = struct.pack("<I", len(footer)) + bytes(4) + b"PFA1"
    path.write_bytes(b"PFA1" + blob + b"PFA1" + footer + end)


def commit(table: Table, content: DataFileContent, path: Path, count: int) -> None:
    """Commits a file as another engine does: its manifest, a manifest list, a snapshot."""
    parent = table.current_snapshot()
    assert parent is not None
    snapshot_id = parent.snapshot_id + 1
    file = DataFile.from_args(
        content=content,
        file_path=f"file://{path}",
        file_format=FileFormat(path.suffix.removeprefix(".").upper()),
        partition=Record(),
        record_count=count,
        file_size_in_bytes=path.stat().st_size,
        column_sizes={},
        value_counts={},
        null_value_counts={},
        nan_value_counts={},
        lower_bounds={},
        upper_bounds={},
        key_metadata=None,
        split_offsets=None,
        equality_ids=[2] if content == DataFileContent.EQUALITY_DELETES else None,
        sort_order_id=None,
    )
    file.spec_id = table.spec().spec_id
    output = table.io.new_output(f"file://{path}.manifest.avro")
    with _Manifests(
        content != DataFileContent.DATA, table.spec(), table.schema(), output, snapshot_id, "null"
    ) as writer:
        entry = ManifestEntry.from_args(
            status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, data_file=file
        )
        writer.add_entry(entry)
    listed = f"file://{path}.list.avro"
    number = table.metadata.next_sequence_number()
    with write_manifest_list(
        2, table.io.new_output(listed), snapshot_id, parent.snapshot_id, number, "null"
    ) as lister:
        lister.add_manifests([*parent.manifests(table.io), writer.to_manifest_file()])
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent.snapshot_id,
        sequence_number=number,
        timestamp_ms=int(time.time() * 1_000),
        manifest_list=listed,
        summary=Summary(Operation.DELETE),
        schema_id=table.schema().schema_id,
    )
    table.catalog.commit_table(
        table,
        (
            AssertTableUUID(uuid=table.metadata.table_uuid),
            AssertRefSnapshotId(ref="main", snapshot_id=parent.snapshot_id),
        ),
        (
            AddSnapshotUpdate(snapshot=snapshot),
            SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=snapshot_id),
        ),
    )
    table.refresh()


@pytest.mark.parametrize("form", ["parquet", "puffin"])
def test_rows_that_deletes_take_away_are_kept_without_them(
    table: Table, planned: Planned, tmp_path: Path, form: str
) -> None:
    (data,) = table.scan().plan_files()
    path = tmp_path / f"positions.{form}"
    if form == "puffin":
        write_deletion_vector(data.file.file_path, [1], path)
    else:
        positions = pa.table({"file_path": [data.file.file_path], "pos": pa.array([1], pa.int64())})
        pq.write_table(positions, path)
    commit(table, DataFileContent.POSITION_DELETES, path, count=1)
    left = sorted((row for row in FLIGHTS.to_pylist() if row["carrier"] != "B6"), key=repr)
    assert as_rows(table.scan().to_arrow()) == left, "so it is what another engine would have written"

    with pytest.raises(SourceError, match=r"has delete files.*Compact the table.*snapshot_path"):
        planned()
    found = planned(snapshot_path="kept")
    assert rows(found) == left
    assert found["what"].endswith("since it has delete files or deletion vectors")
    assert found["pin"].startswith("kept:")
    assert planned(snapshot_path="kept") == found
    (file,) = found["files"]
    assert Path(file["path"]).parent == tmp_path / "kept" / ("0" * 64)


def test_equality_deletes_are_refused_by_name(table: Table, planned: Planned, tmp_path: Path) -> None:
    pq.write_table(pa.table({"carrier": ["B6"]}), tmp_path / "equal.parquet")
    commit(table, DataFileContent.EQUALITY_DELETES, tmp_path / "equal.parquet", count=1)
    for keys in ({}, {"snapshot_path": "kept"}):
        with pytest.raises(SourceError, match=r"has equality delete files.*Compact the table"):
            planned(**keys)


def test_columns_whose_inner_fields_changed_are_kept_as_they_are_now(
    catalog: Catalog, planned: Planned, tmp_path: Path
) -> None:
    data = pa.table({"id": [1, 2], "at": [{"lat": 1.0, "lon": 2.0}, None]})
    table = catalog.create_table("db.flights", data.schema)
    table.append(data)
    assert rows(planned()) == as_rows(data)
    with table.update_schema() as change:
        change.rename_column(("at", "lat"), "latitude")
    with pytest.raises(SourceError, match=r"inner fields were changed \(at\)"):
        planned()
    found = planned(snapshot_path=str(tmp_path / "kept"))
    assert rows(found) == as_rows(table.scan().to_arrow())
    assert {"latitude", "lon"} <= set(rows(found)[0]["at"] or rows(found)[1]["at"])


def test_files_that_are_not_parquet_are_kept_as_parquet(
    table: Table, planned: Planned, tmp_path: Path
) -> None:
    ids = [field.with_metadata({"iceberg.id": str(at)}) for at, field in enumerate(FLIGHTS.schema, start=1)]
    orc.write_table(FLIGHTS.cast(pa.schema(ids)), tmp_path / "more.orc")
    commit(table, DataFileContent.DATA, tmp_path / "more.orc", count=3)
    with pytest.raises(SourceError, match=r"has files of the format ORC. Rewrite them as Parquet"):
        planned()
    assert rows(planned(snapshot_path="kept")) == as_rows(pa.concat_tables([FLIGHTS, FLIGHTS]))


def test_a_default_for_older_rows_is_kept_with_them(table: Table, planned: Planned) -> None:
    # Tables of version 3, which have defaults, are read by pyiceberg and not written: so the schema is committed as is.
    fee = NestedField(4, "fee", LongType(), required=False, initial_default=7)
    schema = Schema(*table.schema().fields, fee, schema_id=1)
    table.catalog.commit_table(
        table, (), (AddSchemaUpdate(schema=schema), SetCurrentSchemaUpdate(schema_id=1))
    )
    with pytest.raises(SourceError, match=r"has columns with a default for older rows \(fee\)"):
        planned()
    expected = FLIGHTS.append_column("fee", pa.array([7, 7, 7]))
    assert rows(planned(snapshot_path="kept")) == as_rows(expected)


def test_files_without_field_ids_are_kept_by_the_names_that_the_table_maps(
    table: Table, planned: Planned, tmp_path: Path
) -> None:
    pq.write_table(FLIGHTS, tmp_path / "older.parquet")
    table.add_files([f"file://{tmp_path}/older.parquet"])
    with table.update_schema() as change:
        change.rename_column("carrier", "airline")
    with pytest.raises(SourceError, match=r"may have files without field ids"):
        planned()
    renamed = FLIGHTS.rename_columns(["day", "airline", "delay"])
    assert rows(planned(snapshot_path="kept")) == as_rows(pa.concat_tables([renamed, renamed]))


def test_columns_whose_type_was_widened_are_planned(catalog: Catalog, planned: Planned) -> None:
    data = pa.table({"x": pa.array([1, 2], pa.int32()), "y": pa.array([1.5, None], pa.float32())})
    table = catalog.create_table("db.flights", data.schema)
    table.append(data)
    with table.update_schema() as change:
        change.update_column("x", LongType())
        change.update_column("y", DoubleType())
    table.append(pa.table({"x": [1 << 40], "y": [0.1]}))
    assert rows(planned()) == as_rows(table.scan().to_arrow())


def test_secrets_of_the_catalog_are_references_and_never_told(
    table: Table,
    planned: Planned,
    properties: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert table.current_snapshot()
    monkeypatch.setenv("CATALOG_URI", properties["uri"])
    (tmp_path / "secret").write_text("hush-hush\n")
    storage = {
        "s3.endpoint": "http://127.0.0.1:1",
        "s3.secret-access-key": "file:secret",
        "s3.access-key-id": "me",
    }
    catalog = {**properties, "name": "test", "uri": "env:CATALOG_URI", **storage}
    found = planned(catalog=catalog)
    assert rows(found) == as_rows(FLIGHTS)
    assert found["options"] == {
        "aws_endpoint": "http://127.0.0.1:1",
        "aws_access_key_id": "me",
        "aws_secret_access_key": "file:secret",
        "aws_allow_http": "true",
    }
    with pytest.raises(SourceError, match="the environment variable NOT_THERE, which is not set"):
        planned(catalog={**catalog, "uri": "env:NOT_THERE"})
    with pytest.raises(SourceError, match=r"catalog.s3.secret-access-key refers to the file .*absent"):
        planned(catalog={**catalog, "s3.secret-access-key": "file:absent"})
    (tmp_path / "wrong").write_text("postgres-hush://no-such-driver")
    with pytest.raises(SourceError, match="can't be planned") as caught:
        planned(catalog={**catalog, "uri": "file:wrong"})
    assert "hush" not in str(caught.value)
