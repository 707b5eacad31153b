"""The schema is a gate: what can't be what it says is rejected by name, and everything else arrives."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import kappaflow
from tests.conftest import FLIGHTS, Job, JobMaker

pytestmark = pytest.mark.integration

# What the reason for each kind of fault has to say.
REASONS = {
    "fraction": r"whole number",
    "null": r"null",
    "timestamp": r"timestamp|calendar|date",
    "too_large": r"range",
}


@pytest.fixture
def corrupted(make_job: JobMaker) -> tuple[Job, dict[str, Any]]:
    """A job over the corrupted copy, and which cells were corrupted how."""
    job = make_job(1)
    out = job.dir / "corrupted"
    done = subprocess.run(
        [sys.executable, str(FLIGHTS / "make_data.py"), "--corrupt", str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    return Job(job.dir, {**job.params, "data": str(out / "flights")}), json.loads(done.stdout)


def kept_rejects(job: Job) -> list[dict[str, Any]]:
    rows = [
        row
        for path in sorted(Path(job.dir).glob(".kappaflow/*/rejects/*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    return sorted(rows, key=lambda row: (row["file"], row["row_in_file"]))


def test_rejects_name_row_column_value_and_reason_and_the_rest_arrives(
    corrupted: tuple[Job, dict[str, Any]],
) -> None:
    job, faults = corrupted
    summary = job.run("run").ok()
    ledger = summary["ledger"]
    assert ledger["explained"]
    assert ledger["expected"] == faults["rows"]
    assert ledger["rejected"] == faults["rejected"] == 16
    assert ledger["landed"] + ledger["filtered"] + ledger["dead_lettered"] == faults["rows"] - 16
    kept = kept_rejects(job)
    cells = sorted(faults["corrupted"], key=lambda cell: (cell["file"], cell["row"]))
    assert len(kept) == len(cells)
    for reject, cell in zip(kept, cells, strict=True):
        assert reject["file"].endswith(cell["file"])
        assert (reject["row_in_file"], reject["column"]) == (cell["row"], cell["column"])
        assert re.search(REASONS[cell["fault"]], reject["reason"]), reject
        if cell["value"] is not None and isinstance(cell["value"], str):
            assert cell["value"] in reject["value"]


def test_more_rejects_than_allowed_stop_the_publish_with_a_summary(
    corrupted: tuple[Job, dict[str, Any]],
) -> None:
    job, _ = corrupted
    job.edit("max_rejects = 1000", "max_rejects = 3")
    job.run("dispatch").ok()
    refused = job.run("publish")
    assert refused.code == 1
    assert "max_rejects = 3" in refused.stderr
    assert "whole number" in refused.stderr or "null" in refused.stderr
    # The limit is no part of what the job is: raised, the same job goes on.
    job.edit("max_rejects = 3", "max_rejects = 1000")
    assert job.run("publish").ok()["rejected"] == 16


def publish_here(
    regions: dict[str, str], tmp_path: Path, data: object, topic: str, **more: Any
) -> dict[str, Any]:
    return kappaflow.publish(
        data,
        topic=topic,
        schema=FLIGHTS / "flight.avsc",
        bootstrap_servers=regions["east"],
        registry=f"dir:{tmp_path / 'registry'}",
        fields={"time_hour": {"zone": "UTC"}},
        **more,
    )


@pytest.mark.parametrize("kind", ["pyarrow", "pandas", "polars"])
def test_frames_are_published_without_a_job_file(
    kind: str, regions: dict[str, str], flights_data: Path, tmp_path: Path
) -> None:
    path = flights_data / "flights" / "m=2013-01" / "part-0.parquet"
    data: Any
    if kind == "pyarrow":
        data = pq.read_table(path, partitioning=None)
    elif kind == "pandas":
        import pandas as pd

        data = pd.read_parquet(path, partitioning=None)
    else:
        import polars as pl

        data = pl.read_parquet(path, hive_partitioning=False)
    receipt = publish_here(regions, tmp_path, data, f"frames-{kind}")
    # pandas has no nulls beside NaN in a float column: those rows are rejected by name, never turned into 0.
    assert receipt["rows"] == 27_004
    assert receipt["acknowledged"] + receipt["rejected"] == 27_004
    if kind != "pandas":
        assert receipt["rejected"] == 0
    end = sum(last - first + 1 for _, first, last in receipt["ranges"])
    assert end >= receipt["acknowledged"]


def test_a_frame_without_a_column_is_refused_before_anything_is_sent(
    regions: dict[str, str], flights_data: Path, tmp_path: Path
) -> None:
    path = flights_data / "flights" / "m=2013-01" / "part-0.parquet"
    table = pq.read_table(path, partitioning=None).drop_columns(["carrier"])
    with pytest.raises(kappaflow.errors.PlanError, match="carrier"):
        publish_here(regions, tmp_path, table, "frames-short")
