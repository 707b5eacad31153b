"""Iceberg tables: landed exactly once, replaced, compacted and evolved, read back by pyiceberg and DuckDB."""

import datetime
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import LongType, NestedField

import kappaflow
from kappaflow.errors import JobFileError, KappaFlowError, TableError
from kappaflow.tables import iceberg
from tests.integration import workers as replays
from tests.integration.http_services import Answer, Request, said
from tests.integration.object_stores import SECRET, s3
from tests.integration.rest_catalog import rest_catalog
from tests.integration.workers import replaying

pytestmark = pytest.mark.integration

ROWS = 200
NAME = "lake.prices"


def reached(catalog: Path | str) -> dict[str, str]:
    """A catalog's properties: of one in a directory, or of a REST server."""
    if isinstance(catalog, str):
        return {"type": "rest", "uri": catalog}
    return {"type": "sql", "uri": f"sqlite:///{catalog}/catalog.db"}


def output(catalog: Path | str, place: str = "landed", more: str = "") -> tuple[str, str]:
    """What a job file says of the table."""
    said = f'path = "{place}"\nformat = "iceberg"\ntable = "{NAME}"\n{more}\n[output.catalog]\n'
    properties = (f'{name} = "{value}"' for name, value in reached(catalog).items())
    return 'path = "landed"', said + "\n".join(properties)


def table(catalog: Path | str, **options: str) -> Table:
    return load_catalog(None, **reached(catalog), **options).load_table(NAME)


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[str]:
    """A REST catalog."""
    if shutil.which("javac") is None:
        pytest.skip("there is no JDK to compile the catalog's server with")
    with rest_catalog(tmp_path) as uri:
        yield uri


def rows(found: Table) -> list[dict[str, Any]]:
    """What readers see, in order, without what changes from run to run."""
    kept = ["n", "price", "note", "_split", "_seq", "_child", "_of"]
    return list(found.scan().to_arrow().select(kept).sort_by("n").to_pylist())


def numbers(found: Table) -> list[int]:
    return [row["n"] for row in rows(found)]


def by_duckdb(job: Path) -> list[int]:
    return list(kappaflow.sql(job, "SELECT n FROM answers ORDER BY n").to_pydict()["n"])


@pytest.mark.parametrize("kind", ["sql", "rest"])
def test_an_iceberg_table_has_each_row_once(
    regions: dict[str, str], tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    catalog: Path | str = tmp_path if kind == "sql" else request.getfixturevalue("rest")
    soon = output(catalog, more="commit_ms = 1")
    with replaying(tmp_path, regions["east"], ROWS, soon) as workers:
        job = workers.replay.job
        kappaflow.work(job, region="east")
        # Two landers at once, that both find no table: what one lands, the other does not.
        command = [sys.executable, "-m", "kappaflow", "land", str(job), "--json", "--quiet"]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        landed = [
            json.loads(lander.communicate(timeout=120)[0].splitlines()[-1])["landed"] for lander in both
        ]
        assert sum(landed) == ROWS
        found = table(catalog)
        assert numbers(found) == list(range(ROWS)) == by_duckdb(job)
        assert {row["price"] for row in rows(found)} == {1.0}
        again = kappaflow.land(job)
        assert (again["landed"], table(catalog).metadata_location) == (0, found.metadata_location)
        ledger = kappaflow.reconcile(job)
        assert (ledger["landed"], ledger["duplicated"], ledger["explained"]) == (ROWS, 0, True)
        assert kappaflow.status(job)["table"]["rows"] == ROWS

        # Ours, and another's that puts its own file in the place of all of ours: the same rows, and the ledger stands.
        before = rows(found)
        kappaflow.compact_table(job)
        compacted = table(catalog)
        assert rows(compacted) == before
        assert len(list(compacted.scan().plan_files())) == 1
        compacted.overwrite(compacted.scan().to_arrow())
        assert rows(table(catalog)) == before
        assert by_duckdb(job) == list(range(ROWS))
        # The property names our commit when no snapshot of ours is left.
        rewritten = table(catalog)
        current = rewritten.metadata.current_snapshot_id
        rewritten.maintenance.expire_snapshots().by_ids(
            [s.snapshot_id for s in rewritten.snapshots() if s.snapshot_id != current]
        ).commit()
        assert len(table(catalog).snapshots()) == 1
        assert kappaflow.land(job)["landed"] == 0
        assert kappaflow.reconcile(job)["landed"] == ROWS


def test_a_commit_whose_answer_is_lost_is_in_once(
    regions: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replaying(tmp_path, regions["east"], ROWS, output(tmp_path)) as workers:
        job = workers.replay.job
        kappaflow.work(job, region="east")
        commit = SqlCatalog.commit_table

        def lost(*asked: Any) -> Any:
            commit(*asked)
            raise OSError("the catalog is away")

        monkeypatch.setattr(SqlCatalog, "commit_table", lost)
        # The table was made, and nobody was told so.
        with pytest.raises(TableError, match="the catalog is away"):
            kappaflow.land(job)
        # Rows came in, and nobody was told so: reading back says that they did.
        assert kappaflow.land(job)["landed"] == ROWS
        monkeypatch.setattr(SqlCatalog, "commit_table", commit)
        assert numbers(table(tmp_path)) == list(range(ROWS))
        assert kappaflow.land(job)["landed"] == 0
        assert kappaflow.reconcile(job)["landed"] == ROWS


@pytest.mark.parametrize("by", ["another's", "another lander's"])
def test_a_commit_is_made_on_what_was_looked_at_or_not_at_all(
    regions: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    with replaying(tmp_path, regions["east"], ROWS, output(tmp_path)) as workers:
        job = workers.replay.job
        kappaflow.work(job, region="east")
        append, commit = iceberg._append, SqlCatalog.commit_table
        seen: list[str] = []

        def late(catalog: SqlCatalog, found: Table, *asked: Any) -> Any:
            if not seen:
                # After the look at the table, before the commit.
                seen.append("looked")
                if by == "another's":
                    other = table(tmp_path)
                    other.append(other.scan().to_arrow())
                else:
                    command = [sys.executable, "-m", "kappaflow", "land", str(job), "--quiet"]
                    subprocess.run(command, check=True, timeout=120)
            try:
                return commit(catalog, found, *asked)
            except CommitFailedException:
                seen.append("refused")
                raise

        def appending(found: Table, asked: Mapping[str, Any]) -> bool:
            with monkeypatch.context() as patched:
                patched.setattr(SqlCatalog, "commit_table", late)
                return append(found, asked)

        monkeypatch.setattr(iceberg, "_append", appending)
        landed = kappaflow.land(job)["landed"]
        assert landed == (ROWS if by == "another's" else 0)
        assert seen == ["looked", "refused"]
        assert numbers(table(tmp_path)) == list(range(ROWS))
        ledger = kappaflow.reconcile(job)
        assert (ledger["landed"], ledger["duplicated"]) == (ROWS, 0)


def test_a_backfill_replaces_partitions_and_columns_come(regions: dict[str, str], tmp_path: Path) -> None:
    said = output(tmp_path, str(tmp_path / "lake"), 'mode = "replace_partitions"\npartition_key = ["note"]')
    for number, name in enumerate(["one", "two"]):
        (tmp_path / name).mkdir()
        with replaying(tmp_path / name, regions["east"], ROWS, said) as workers:
            job = workers.replay.job
            if number == 1:
                schema = json.loads((tmp_path / name / "out.avsc").read_text())
                schema["fields"].append({"name": "more", "type": ["null", "string"], "default": None})
                (tmp_path / name / "out.avsc").write_text(json.dumps(schema))
            kappaflow.work(job, region="east")
            kappaflow.land(job)
            assert len(rows(table(tmp_path))) == (ROWS if number else 0)
            ledger = kappaflow.reconcile(job)
            assert ledger["published"] is not None
            found = table(tmp_path)
            assert numbers(found) == list(range(ROWS)) == by_duckdb(job)
            assert [field.name for field in found.spec().fields] == ["note"]
            seen = found.scan().to_arrow()
            assert set(seen["_job"].to_pylist()) == {ledger["job"]}
            assert ("more" in seen.column_names) == bool(number)
            assert found.scan(row_filter="note is null").count() == ROWS
    assert kappaflow.reconcile(tmp_path / "one" / "job.toml")["landed"] == ROWS


WHEN = datetime.datetime(2026, 3, 29, 1, 2, 3, 456_000, datetime.UTC)


def nested(request: Request) -> Answer:
    n = request.record["n"]
    at = (WHEN + datetime.timedelta(milliseconds=n)).isoformat()
    of = {"tags": [f"t{n}", None], "more": {"k": {"at": at}}, "kind": "BIG" if n % 2 else "SMALL"}
    return said({"n": n, "price": 1.0, "at": at, **of})


def test_readers_get_times_and_nested_values_as_answered(
    regions: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "answer", nested)
    millis = {"type": "long", "logicalType": "timestamp-millis"}
    fields = [
        {"name": "at", "type": millis, "default": 0},
        {"name": "tags", "type": {"type": "array", "items": ["null", "string"]}, "default": []},
        {
            "name": "more",
            "type": {
                "type": "map",
                "values": {"type": "record", "name": "More", "fields": [{"name": "at", "type": millis}]},
            },
            "default": {},
        },
        {
            "name": "kind",
            "type": {"type": "enum", "name": "Kind", "symbols": ["SMALL", "BIG"]},
            "default": "SMALL",
        },
    ]
    said = output(tmp_path, more='partition_key = ["kind"]')
    with replaying(tmp_path, regions["east"], ROWS, said) as workers:
        job = workers.replay.job
        schema = json.loads((tmp_path / "out.avsc").read_text())
        schema["fields"] += fields
        (tmp_path / "out.avsc").write_text(json.dumps(schema))
        kappaflow.work(job, region="east")
        assert kappaflow.land(job)["landed"] == ROWS
        found = table(tmp_path)
        big = found.scan(row_filter="kind = 'BIG' and n < 4").to_arrow().sort_by("n")
        for row in big.to_pylist():
            at = WHEN + datetime.timedelta(milliseconds=row["n"])
            assert (row["at"], row["tags"]) == (at, [f"t{row['n']}", None])
            assert row["more"] == [("k", {"at": at})]
        assert big["n"].to_pylist() == [1, 3]
        # The files are told apart by their bounds, too.
        late = WHEN + datetime.timedelta(milliseconds=ROWS)
        assert not list(found.scan(row_filter=f"at >= '{late.isoformat()}'").plan_files())
        assert big.schema.field("at").type == pa.timestamp("us", "UTC")
        of_duckdb = kappaflow.sql(job, 'SELECT max("at") AS last FROM answers').to_pydict()["last"]
        assert of_duckdb == [WHEN + datetime.timedelta(milliseconds=ROWS - 1)]


def test_what_iceberg_or_the_table_can_not_hold_is_refused(regions: dict[str, str], tmp_path: Path) -> None:
    with replaying(tmp_path, regions["east"], ROWS, output(tmp_path)) as workers:
        job = workers.replay.job
        kappaflow.work(job, region="east")
        original = (tmp_path / "out.avsc").read_text()
        schema = json.loads(original)
        nanos = {"type": "long", "logicalType": "timestamp-nanos"}
        schema["fields"].append({"name": "at", "type": ["null", nanos], "default": None})
        (tmp_path / "out.avsc").write_text(json.dumps(schema))
        with pytest.raises(KappaFlowError, match="field at: Iceberg has no nanoseconds"):
            kappaflow.land(job)
        (tmp_path / "out.avsc").write_text(original)

        catalog = load_catalog(None, type="sql", uri=f"sqlite:///{tmp_path}/catalog.db")
        catalog.create_namespace("lake")
        place = f"file://{tmp_path}/landed"
        catalog.create_table(NAME, pa.schema([("n", pa.string())]), location=place)
        with pytest.raises(TableError, match="its column n is string, and that of the answers is"):
            kappaflow.land(job)
        catalog.drop_table(NAME)
        catalog.create_table(NAME, pa.schema([("n", pa.int64())]), location=f"{place}-elsewhere")
        with pytest.raises(TableError, match=r"lies in .*-elsewhere, and output.path is"):
            kappaflow.land(job)
        catalog.drop_table(NAME)
        columns = Schema(NestedField(1, "n", LongType()))
        by_n = PartitionSpec(PartitionField(1, 1000, BucketTransform(4), "n_bucket"))
        catalog.create_table(NAME, columns, location=place, partition_spec=by_n)
        with pytest.raises(
            TableError, match=r"is partitioned by \['bucket\[4\]\(n\)'\], and output.partition_key is \[\]"
        ):
            kappaflow.land(job)
        catalog.drop_table(NAME)
        assert kappaflow.land(job)["landed"] == ROWS

        # Files of others may lie anywhere; those that readers here could not find are named.
        found = table(tmp_path)
        with found.transaction() as making:
            making.set_properties({"write.data.path": f"file://{tmp_path}/other"})
        found = table(tmp_path)
        found.overwrite(found.scan().to_arrow())
        with pytest.raises(TableError, match=rf"has a file outside of .*/landed: file://{tmp_path}/other/"):
            kappaflow.land(job)
        text = job.read_text()
        job.write_text(text.replace('format = "iceberg"', 'format = "delta"'))
        with pytest.raises(JobFileError, match=r"output\.table.*is of format iceberg only"):
            kappaflow.land(job)
        job.write_text(text.replace(f'table = "{NAME}"', 'table = "prices"'))
        with pytest.raises(JobFileError, match=r"output\.table.*has no namespace"):
            kappaflow.land(job)
        job.write_text(text.replace(f'table = "{NAME}"\n', ""))
        with pytest.raises(JobFileError, match=r"output\.table.*is missing"):
            kappaflow.land(job)
        job.write_text(text.replace('type = "sql"', 'type = "sql"\npassword = "x"'))
        with pytest.raises(JobFileError, match=r"output\.catalog.*password"):
            kappaflow.land(job)


def test_an_iceberg_table_in_a_store(
    regions: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3(tmp_path) as store:
        monkeypatch.setenv(SECRET, store.secret)
        (tmp_path / "job").mkdir()
        place = f"{store.url}/prices"
        old, new = output(tmp_path, place)
        said = (old, f"{new}\n[output.options]\n{store.options}")
        with replaying(tmp_path / "job", regions["east"], ROWS, said) as workers:
            job = workers.replay.job
            kappaflow.work(job, region="east")
            assert kappaflow.land(job)["landed"] == ROWS
            given = kappaflow.resolve(job)["file"]["output"]["options"]
            options = {
                "s3.endpoint": given["endpoint"],
                "s3.access-key-id": given["access_key_id"],
                "s3.secret-access-key": store.secret,
                "s3.region": given["region"],
            }
            assert numbers(table(tmp_path, **options)) == list(range(ROWS)) == by_duckdb(job)
            assert kappaflow.reconcile(job)["landed"] == ROWS
