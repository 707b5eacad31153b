"""Streams kept as Parquet: whole or not at all, once, within bounds; and the queries of DuckDB."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from kappaflow import sources
from kappaflow.errors import SourceError
from kappaflow.sources import materialise
from tests.unit.planned import plan, rows

TABLE = pa.table({"x": [1, 2, 3], "s": ["a", None, "c"]})


def read(path: Path) -> pa.Table:
    return pq.read_table([file for file in sorted(path.iterdir()) if file.suffix == ".parquet"])


@pytest.mark.parametrize(
    "of",
    [
        lambda: TABLE,
        lambda: TABLE.to_reader(max_chunksize=1),
        lambda: TABLE.to_pandas(),
        lambda: pl.from_arrow(TABLE),
        lambda: duckdb.connect().from_arrow(TABLE),
        lambda: ds.dataset(TABLE),
        lambda: lambda: TABLE.to_reader(),
    ],
    ids=["table", "reader", "pandas", "polars", "duckdb", "dataset", "function"],
)
def test_anything_arrow_is_kept_and_not_read_again(tmp_path: Path, of: Callable[[], object]) -> None:
    kept = materialise(of(), tmp_path / "a" / "kept")
    assert (kept.rows, kept.columns, kept.reused) == (3, ("x", "s"), False)
    assert read(kept.path).to_pylist() == TABLE.to_pylist()
    again = materialise(_never, tmp_path / "a" / "kept")
    assert again.reused
    assert (again.pin, again.when, again.files) == (kept.pin, kept.when, kept.files)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]
    assert json.loads((kept.path / "_COMPLETE").read_text())["rows"] == 3


def _never() -> object:
    raise AssertionError("what is kept was read again")


def test_what_is_no_stream_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"of type list: expected something with __arrow_c_stream__"):
        materialise([1], tmp_path / "kept")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=r"file can't be written \(File exists\)"):
        materialise(TABLE, tmp_path / "file" / "kept")


def test_no_rows_keep_their_columns(tmp_path: Path) -> None:
    kept = materialise(TABLE.slice(0, 0), tmp_path / "kept")
    assert kept.rows == 0
    assert read(kept.path).schema.names == ["x", "s"]


def test_row_groups_are_even_and_files_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kappaflow.sources import kept as module

    monkeypatch.setattr(module, "_FILE_GROUPS", 2)
    count = 131_072 * 5 + 7
    table = pa.table({"x": pa.array(range(count), pa.int32())})
    kept = materialise(table.to_reader(max_chunksize=50_001), tmp_path / "kept")
    sizes = [
        [meta.row_group(at).num_rows for at in range(meta.num_row_groups)]
        for meta in (pq.read_metadata(kept.path / file.name) for file in kept.files)
    ]
    assert sizes == [[131_072] * 2, [131_072] * 2, [131_072, 7]]
    assert [file.rows for file in kept.files] == [262_144, 262_144, 131_079]
    assert read(kept.path).equals(table)


def test_large_rows_make_small_groups(tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        for at in range(20):
            yield pa.record_batch({"b": [bytes([at]) * (1 << 20)] * 10})

    schema = pa.schema({"b": pa.binary()})
    kept = materialise(pa.RecordBatchReader.from_batches(schema, batches()), tmp_path / "kept")
    meta = pq.read_metadata(kept.path / kept.files[0].name)
    assert kept.rows == 200
    assert meta.num_row_groups >= 2
    assert max(meta.row_group(at).num_rows for at in range(meta.num_row_groups)) <= 128


@pytest.mark.parametrize("kind", [OSError, ValueError, pa.ArrowInvalid])
def test_a_source_that_fails_leaves_nothing(tmp_path: Path, kind: type[Exception]) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield from TABLE.to_batches()
        raise kind("the disk of the source went away")

    with pytest.raises(SourceError, match="the disk of the source went away"):
        materialise(pa.RecordBatchReader.from_batches(TABLE.schema, batches()), tmp_path / "kept")
    assert list(tmp_path.iterdir()) == []
    assert materialise(TABLE, tmp_path / "kept").rows == 3


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    program = """
import sys, time, pyarrow as pa
from kappaflow.sources import materialise
def batches():
    yield pa.record_batch({"x": range(200_000)})
    print("written", flush=True)
    time.sleep(60)
schema = pa.schema({"x": pa.int64()})
materialise(pa.RecordBatchReader.from_batches(schema, batches()), sys.argv[1])
"""
    command = [sys.executable, "-c", program, str(tmp_path / "kept")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "written\n"
        (left,) = tmp_path.iterdir()
        materialise(TABLE, tmp_path / "kept[0]")
        assert left.exists()
        killed.kill()
    assert materialise(TABLE, tmp_path / "kept").rows == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "kept[0]"]


def test_a_type_that_parquet_lacks_is_named(tmp_path: Path) -> None:
    table = pa.table({"x": [1], "span": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})
    with pytest.raises(SourceError, match=r"can't be kept as Parquet.*span month_day_nano_interval"):
        materialise(table, tmp_path / "kept")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_looked_at_before_it_is_used(tmp_path: Path) -> None:
    kept = materialise(TABLE, tmp_path / "kept", what="flights of May")
    with pytest.raises(
        SourceError, match=r"holds the rows of flights of May, kept on 2.* and not of flights of June"
    ):
        materialise(TABLE, tmp_path / "kept", what="flights of June")
    (file,) = kept.files
    whole = (kept.path / file.name).read_bytes()
    (kept.path / file.name).write_bytes(whole[:-1])
    with pytest.raises(
        SourceError, match=rf"has {file.bytes - 1} bytes; when it was kept it had {file.bytes}"
    ):
        materialise(TABLE, tmp_path / "kept", what="flights of May")
    (kept.path / file.name).unlink()
    with pytest.raises(SourceError, match=r"part-00000.parquet is gone"):
        materialise(TABLE, tmp_path / "kept", what="flights of May")
    for note in ("", "{}", '{"format": 99}'):
        (kept.path / "_COMPLETE").write_text(note)
        with pytest.raises(SourceError, match="is no finished snapshot"):
            materialise(TABLE, tmp_path / "kept", what="flights of May")
    (tmp_path / "mine").mkdir()
    with pytest.raises(
        SourceError, match=r"is no finished snapshot.*give another directory, or remove this one"
    ):
        materialise(TABLE, tmp_path / "mine")


def test_of_several_at_once_one_is_kept_and_all_go_on_with_it(tmp_path: Path) -> None:
    def keep(at: int) -> sources.Kept:
        return materialise(pa.table({"x": [at] * 1_000}), tmp_path / "kept")

    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(keep, range(8)))
    assert len({one.digest for one in kept}) == 1
    assert len(set(read(tmp_path / "kept").column("x").to_pylist())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "flights.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE flights AS SELECT i AS x, 'f' || i AS s FROM range(5) t(i)")
    monkeypatch.setenv("DATABASE", "flights.duckdb")
    return path


def asked(tmp_path: Path, **keys: object) -> dict[str, Any]:
    query = "SELECT * FROM flights ORDER BY x"
    given = {"format": "sql", "driver": "duckdb", "connection": "env:DATABASE", "query": query}
    return plan(tmp_path, **{**given, "snapshot_path": "kept", **keys})


def test_a_duckdb_query_is_run_once(tmp_path: Path, database: Path) -> None:
    found = asked(tmp_path)
    expected = [{"x": at, "s": f"f{at}"} for at in range(5)]
    assert rows(found) == sorted(expected, key=repr)
    assert found["what"].startswith("duckdb query ")
    with duckdb.connect(str(database)) as connection:
        connection.execute("DELETE FROM flights")
    assert asked(tmp_path) == found, "the next day, too"
    assert rows(asked(tmp_path, request="1" * 64)) == []
    assert rows(asked(tmp_path, columns=["s"])) == [{"s": row["s"]} for row in expected]
    with pytest.raises(SourceError, match=r"and not of duckdb query"):
        asked(tmp_path, query="SELECT 1 AS x")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"driver": "oracle"}, "source.driver is 'oracle', expected one of postgresql, duckdb"),
        ({"query": ""}, "source.query is ''; format = 'sql' needs it"),
        ({"snapshot_path": None}, "source.snapshot_path is missing"),
        ({"snapshot_path": "s3://bucket/kept"}, "a file system that is mounted here"),
        ({"connection": "flights.duckdb"}, "give a reference, env:NAME, file:PATH or conn:NAME"),
        ({"connection": "env:ABSENT"}, "environment variable ABSENT, which is not set"),
        ({"query": "SELECT * FROM absent"}, "the duckdb query of source.query failed.*absent"),
        ({"query": "SELEKT"}, "the duckdb query of source.query failed.*SELEKT"),
        ({"query": "-- nothing"}, "gives no rows: expected a SELECT"),
        ({"columns": ["y"]}, "has no column 'y'; its columns: x, s"),
        ({"columns": []}, r"source.columns is \[\], expected a list of column names"),
        ({"format": "orc"}, "source.format is 'orc', expected one of delta, iceberg, sql"),
        ({"dir": 7}, "source.dir is 7, expected a text"),
        ({"format": "iceberg", "table": "t", "catalog": {"a": 1}}, "source.catalog is not a table of texts"),
    ],
)
def test_what_is_asked_wrongly_is_named(
    tmp_path: Path, database: Path, keys: dict[str, object], told: str
) -> None:
    assert database.exists()
    with pytest.raises(SourceError, match=told):
        asked(tmp_path, **keys)


@pytest.mark.parametrize(
    ("module", "keys"),
    [
        ("pyiceberg.catalog", {"format": "iceberg", "table": "t"}),
        ("deltalake", {"format": "delta", "path": "t"}),
        ("adbc_driver_postgresql.dbapi", {"driver": "postgresql"}),
    ],
)
def test_a_missing_wheel_is_told_with_how_to_get_it(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch, module: str, keys: dict[str, object]
) -> None:
    assert database.exists()
    monkeypatch.setitem(sys.modules, module, None)
    extra = {"iceberg": "iceberg", "delta": "delta"}.get(str(keys.get("format")), "sql")
    with pytest.raises(SourceError, match=rf"pip install 'kappaflow\[{extra}\]'"):
        asked(tmp_path, **keys)


def test_planning_imports_no_wheel_until_it_is_asked(tmp_path: Path) -> None:
    wheels = ("pyarrow", "pyiceberg", "deltalake")
    program = f"import sys, kappaflow.sources; print([name for name in {wheels} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"


def test_a_frame_of_pandas_keeps_its_missing_values(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": pd.array([1, None], dtype="Int64"), "t": pd.to_datetime(["2013-01-01", None])})
    kept = materialise(frame, tmp_path / "kept")
    assert read(kept.path).column("x").to_pylist() == [1, None]
