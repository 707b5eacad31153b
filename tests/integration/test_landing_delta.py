"""Delta tables: landed exactly once, replaced, compacted and evolved, read back by deltalake and DuckDB."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

import kappaflow
from kappaflow.errors import TableError
from kappaflow.tables import delta
from tests.integration.object_stores import SECRET, s3
from tests.integration.workers import Workers, replaying

pytestmark = pytest.mark.integration

ROWS = 200
DELTA = 'path = "landed"\nformat = "delta"'


def rows(place: str | Path, options: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """What readers see, in order, without what changes from run to run."""
    table = pa.table(
        DeltaTable(str(place), storage_options=dict(options) if options else None).to_pyarrow_table()
    )
    kept = ["n", "price", "note", "_split", "_seq", "_child", "_of"]
    return list(table.select(kept).sort_by("n").to_pylist())


def by_duckdb(workers: Workers) -> list[int]:
    found = kappaflow.sql(workers.replay.job, "SELECT n FROM answers ORDER BY n").to_pydict()
    return list(found["n"])


def test_a_delta_table_has_each_row_once(regions: dict[str, str], tmp_path: Path) -> None:
    soon = ('path = "landed"', DELTA + "\ncommit_ms = 50")
    with replaying(tmp_path, regions["east"], ROWS, soon) as workers:
        job, place = workers.replay.job, tmp_path / "landed"
        kappaflow.work(job, region="east")
        # Two landers at once: what one lands, the other does not.
        command = [sys.executable, "-m", "kappaflow", "land", str(job), "--json", "--quiet"]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        landed = [
            json.loads(lander.communicate(timeout=120)[0].splitlines()[-1])["landed"] for lander in both
        ]
        assert sum(landed) == ROWS
        found = rows(place)
        assert [row["n"] for row in found] == list(range(ROWS)) == by_duckdb(workers)
        assert {row["price"] for row in found} == {1.0}
        version = DeltaTable(str(place)).version()
        again = kappaflow.land(job)
        assert (again["landed"], DeltaTable(str(place)).version()) == (0, version)
        ledger = kappaflow.reconcile(job)
        assert (ledger["landed"], ledger["duplicated"], ledger["explained"]) == (ROWS, 0, True)
        assert kappaflow.status(job)["table"]["rows"] == ROWS

        # Ours and Delta's own compaction, and its clean-up: the same rows, and the ledger stands.
        compacted = kappaflow.compact_table(job)
        files = DeltaTable(str(place)).file_uris()
        assert compacted["files_after"] == 1 or len(files) == 1
        DeltaTable(str(place)).optimize.z_order(["n"])
        assert set(DeltaTable(str(place)).file_uris()).isdisjoint(files)
        DeltaTable(str(place)).vacuum(0, dry_run=False, enforce_retention_duration=False)
        assert rows(place) == found
        assert by_duckdb(workers) == list(range(ROWS))
        assert kappaflow.reconcile(job)["landed"] == ROWS
        assert kappaflow.land(job)["landed"] == 0


def test_a_commit_whose_answer_is_lost_is_in_once(
    regions: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replaying(tmp_path, regions["east"], ROWS, ('path = "landed"', DELTA)) as workers:
        job = workers.replay.job
        kappaflow.work(job, region="east")
        commit, head = delta.commit, delta.head
        monkeypatch.setattr(delta, "commit", lambda *asked: commit(*asked) and 1 / 0)
        assert kappaflow.land(job)["landed"] == ROWS
        # Nobody can say: the table is as it was, and the next landing goes on from there.
        monkeypatch.setattr(delta, "commit", commit)
        assert [row["n"] for row in rows(tmp_path / "landed")] == list(range(ROWS))
        assert kappaflow.land(job)["landed"] == 0

        def lost(asked: Mapping[str, Any]) -> Any:
            raise OSError("the store is away")

        monkeypatch.setattr(delta, "head", lost)
        with pytest.raises(TableError, match="the store is away"):
            kappaflow.land(job)
        monkeypatch.setattr(delta, "head", head)
        assert kappaflow.reconcile(job)["landed"] == ROWS


def test_a_backfill_replaces_partitions_and_columns_come(regions: dict[str, str], tmp_path: Path) -> None:
    place = tmp_path / "lake"
    output = f'path = "{place}"\nformat = "delta"\nmode = "replace_partitions"\npartition_key = ["note"]'
    for number, name in enumerate(["one", "two"]):
        (tmp_path / name).mkdir()
        with replaying(tmp_path / name, regions["east"], ROWS, ('path = "landed"', output)) as workers:
            job = workers.replay.job
            if number == 1:
                schema = json.loads((tmp_path / name / "out.avsc").read_text())
                schema["fields"].append({"name": "more", "type": ["null", "string"], "default": None})
                (tmp_path / name / "out.avsc").write_text(json.dumps(schema))
            kappaflow.work(job, region="east")
            kappaflow.land(job)
            before = rows(place)
            assert len(before) == (ROWS if number else 0)
            ledger = kappaflow.reconcile(job)
            assert ledger["published"] is not None
            assert [row["n"] for row in rows(place)] == list(range(ROWS))
            seen = pa.table(DeltaTable(str(place)).to_pyarrow_table())
            assert set(seen["_job"].to_pylist()) == {ledger["job"]}
            assert ("more" in seen.column_names) == bool(number)
    assert kappaflow.reconcile(tmp_path / "one" / "job.toml")["landed"] == ROWS


def test_a_delta_table_in_a_store(
    regions: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3(tmp_path) as store:
        monkeypatch.setenv(SECRET, store.secret)
        output = f'path = "{store.url}/prices"\nformat = "delta"\n[output.options]\n{store.options}'
        (tmp_path / "job").mkdir()
        with replaying(tmp_path / "job", regions["east"], ROWS, ('path = "landed"', output)) as workers:
            job = workers.replay.job
            kappaflow.work(job, region="east")
            assert kappaflow.land(job)["landed"] == ROWS
            options = {
                name: os.environ[SECRET] if value == f"env:{SECRET}" else value
                for name, value in kappaflow.resolve(job)["file"]["output"]["options"].items()
            }
            found = rows(f"{store.url}/prices", options)
            assert [row["n"] for row in found] == list(range(ROWS)) == by_duckdb(workers)
            assert kappaflow.reconcile(job)["landed"] == ROWS
