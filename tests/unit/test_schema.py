"""Schemas from tables, plans and checks, in Python and on the command line."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kappaflow import cli, schema
from kappaflow.avro import Encoder
from kappaflow.errors import PlanError, SchemaError, SourceError

TRIPS = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "flight date": pa.array(["2013-01-01", None, "2013-01-03"]),
        "delay": pa.array([1.5, None, 2.0]),
        "tags": pa.array([["a"], [], None], pa.list_(pa.string())),
    }
)
NARROW = '{"type":"record","name":"R","fields":[{"name":"id","type":"int"},{"name":"delay","type":"int"}]}'


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "trips.parquet"
    pq.write_table(TRIPS, path)
    return path


def fields(derived: schema.Derived) -> dict[str, Any]:
    return {field["name"]: field["type"] for field in json.loads(derived["schema"])["fields"]}


def test_null_is_where_nulls_are(parquet: Path) -> None:
    for table in (parquet, str(parquet), TRIPS, pl.DataFrame(TRIPS)):
        derived = schema.derive(table, name="Trip", namespace="a.b")
        assert derived["rows"] == 3
        assert derived["renamed"] == [["flight date", "flight_date"]]
        assert fields(derived) == {
            "id": "long",
            "flight_date": ["null", "string"],
            "delay": ["null", "double"],
            "tags": ["null", {"type": "array", "items": "string"}],
        }
    assert '"namespace": "a.b"' in derived["schema"]
    declared = schema.derive(parquet, nullable="declared")
    assert fields(declared)["id"] == ["null", "long"]


def test_what_is_derived_takes_every_row(parquet: Path) -> None:
    derived = schema.derive(parquet)
    assert schema.check(parquet, derived["schema"])["rejected"] == 0
    encoded = Encoder(TRIPS, derived["schema"]).encode(TRIPS)
    parsed = fastavro.parse_schema(json.loads(derived["schema"]))
    rows = [fastavro.schemaless_reader(io.BytesIO(encoded[i]), parsed, None) for i in range(3)]
    assert [list(row.values()) for row in rows] == [list(row.values()) for row in TRIPS.to_pylist()]  # type: ignore[union-attr]


def test_a_span_of_time_is_a_duration() -> None:
    spans = pa.table({"span": pa.array([0, 90_061_001, None], pa.duration("ms"))})
    derived = schema.derive(spans)
    duration = {"type": "fixed", "name": "Row_span", "size": 12, "logicalType": "duration"}
    assert fields(derived) == {"span": ["null", duration]}
    # Avro's has no sign, and nothing shorter than a millisecond.
    assert [row["field"] for row in derived["checked"]] == ["span"]
    encoded = Encoder(spans, derived["schema"]).encode(spans)
    # A day of a calendar is no span: all of it is milliseconds.
    assert encoded[1][-12:] == struct.pack("<III", 0, 0, 90_061_001)


# Names are C strings on their way between libraries: a NUL would end them.
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)


@given(st.lists(NAMES, max_size=8, unique=True))
def test_any_names_become_names_that_every_parser_takes(names: list[str]) -> None:
    table = pa.table({name: [i] for i, name in enumerate(names)})
    derived = schema.derive(table)
    parsed = fastavro.parse_schema(json.loads(derived["schema"]))
    if names:
        encoded = Encoder(table, derived["schema"]).encode(table)
        row: Any = fastavro.schemaless_reader(io.BytesIO(encoded[0]), parsed, None)
        assert list(row.values()) == list(range(len(names)))


def test_a_check_counts_by_column_and_reason(parquet: Path) -> None:
    report = schema.check(parquet, NARROW, extra="ignore")
    assert (report["rows"], report["passed"], report["rejected"]) == (3, 1, 2)
    found = {(c["column"], c["reason"]): c["examples"] for c in report["by_reason"]}
    assert {column for column, _ in found} == {"delay"}
    whole = next(examples for (_, reason), examples in found.items() if "whole" in reason)
    assert whole == [{"file": "trips.parquet", "row": 0, "value": "1.5"}]


def test_mistakes_say_what_to_do(parquet: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="flight date"):
        schema.plan(parquet, NARROW)
    with pytest.raises(SourceError, match="no such file"):
        schema.derive(tmp_path / "none.parquet")
    with pytest.raises(SchemaError, match="Avro's rules"):
        schema.derive(TRIPS, name="1 trip")
    with pytest.raises(PlanError, match="int64"):
        schema.derive(pa.table({"span": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}))
    with pytest.raises(TypeError, match="schema="):
        schema.check(parquet)
    bad = tmp_path / "bad.avsc"
    bad.write_text('{"type": "record"')
    with pytest.raises(SchemaError, match=r"bad\.avsc.*line 1 column"):
        schema.check(parquet, bad)


def run(*words: str) -> int:
    return cli.main(["schema", *words])


def test_derive_plan_and_check_on_the_command_line(
    parquet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "trip.avsc"
    assert run("derive", str(parquet), "--name", "Trip", "--out", str(out), "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "flight_date" in captured.err
    assert run("derive", str(parquet), "--name", "Trip") == 0
    assert capsys.readouterr().out == out.read_text()

    assert run("plan", str(parquet), "--schema", str(out), "--json") == 0
    captured = capsys.readouterr()
    assert [row["field"] for row in json.loads(captured.out)][:2] == ["id", "flight_date"]
    assert "flight date" in captured.err

    assert run("check", str(parquet), "--schema", str(out), "--quiet") == 0
    capsys.readouterr()
    # The files may hold nulls where none are: strict mode goes by what they may hold.
    assert run("plan", str(parquet), "--schema", str(out), "--mode", "strict") == 1
    assert "null" in capsys.readouterr().err
    assert run("derive", str(parquet), "--nullable", "declared", "--out", str(out), "--quiet") == 0
    assert run("check", str(parquet), "--schema", str(out), "--mode", "strict", "--quiet") == 0
    capsys.readouterr()
    narrow = tmp_path / "narrow.avsc"
    narrow.write_text(NARROW)
    assert run("check", str(parquet), "--schema", str(narrow), "--extra", "ignore", "--json") == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rejected"] == 2
    assert "whole number" in captured.err
    assert "trips.parquet" in captured.err


def test_wrong_usage_is_told(parquet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", str(parquet)) == 2
    assert "--schema FILE" in capsys.readouterr().err
    job = tmp_path / "job.toml"
    assert run("plan", str(job), "--schema", "x.avsc") == 2
    assert "names its schema itself" in capsys.readouterr().err
    assert run("plan", str(job)) == 1
    assert "job.toml" in capsys.readouterr().err
    assert run("derive", str(parquet), "--out", str(tmp_path)) == 1
    assert "can't write" in capsys.readouterr().err


JOB = """
name = "trips"
side_effects = "none"
[source]
path = "trips.parquet"
[schema]
ingress = "in.avsc"
egress = "in.avsc"
extra = "ignore"
[rejects]
redact = ["{redact}"]
[service]
version = "1"
callable = "m:f"
[output]
path = "landed"
[[regions]]
name = "local"
bootstrap_servers = "127.0.0.1:1"
cap_max = 100
"""


def test_a_job_file_says_what_is_checked_and_what_is_shown(parquet: Path, tmp_path: Path) -> None:
    (tmp_path / "in.avsc").write_text(NARROW)
    job = tmp_path / "job.toml"
    job.write_text(JOB.format(redact="delay"))
    report = schema.check(job)
    assert report["rejected"] == 2
    shown = {example["value"] for found in report["by_reason"] for example in found["examples"]}
    assert shown == {"[redacted]"}
    assert [row["field"] for row in schema.plan(job)] == ["id", "delay"]
    job.write_text(JOB.format(redact="dealy"))
    with pytest.raises(SchemaError, match=r"dealy.*rejects\.redact"):
        schema.check(job)
