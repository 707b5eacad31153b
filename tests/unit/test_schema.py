"""Schemas from tables, plans and checks, in Python and on the command line."""

import datetime as dt
import io
import json
import struct
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import fastavro
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
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


def of(name: str, kind: Any) -> str:
    """A schema of one field."""
    return json.dumps({"type": "record", "name": "R", "fields": [{"name": name, "type": kind}]})


def latin1() -> pa.Table:
    """Text that is none in row 1, at the top, in lists and in a dictionary; row 2 is rejected for another reason."""
    text = pa.array([b"caf\xc3\xa9", b"caf\xe9", b"tea", None], pa.binary()).view(pa.string())
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3, 3]), text.slice(0, 3))
    keys = pa.array([0, 1, 2, None], pa.int8())
    return pa.table(
        {
            "id": pa.array([1, 2, 1 << 40, 4]),
            "text": text,
            "lists": lists,
            "same": pa.DictionaryArray.from_arrays(keys, text.slice(0, 3), safe=False),
        }
    )


TEXTS = json.dumps(
    {
        "type": "record",
        "name": "T",
        "fields": [
            {"name": "id", "type": "int"},
            {"name": "text", "type": ["null", "string"]},
            {"name": "lists", "type": {"type": "array", "items": "string"}},
            {"name": "same", "type": ["null", "string"]},
        ],
    }
)


def test_text_that_is_none_costs_its_own_row(tmp_path: Path) -> None:
    path = tmp_path / "latin1.parquet"
    # Some rows before it have been read when it comes; a group of its own has statistics of its own.
    good = pa.concat_tables([latin1().slice(0, 1)] * 20_000)
    pq.write_table(
        pa.concat_tables([good, latin1(), good]), path, row_group_size=15_000, use_dictionary=False
    )
    for table, before in ((latin1(), 0), (path, 20_000)):
        report = schema.check(table, TEXTS)
        assert report["rejected"] == 2
        assert report["passed"] == report["rows"] - 2
        found = {(c["column"], c["reason"]): c["examples"][0] for c in report["by_reason"]}
        assert {key: e["row"] - before for key, e in found.items()} == {
            ("text", "not UTF-8"): 1,
            ("id", "out of range of int"): 2,
        }
        assert found["text", "not UTF-8"]["value"] == "636166e9"
    encoded = Encoder(latin1().schema, TEXTS).encode(latin1())
    assert encoded.rows.tolist() == [0, 3]
    assert [(r.row, r.reason) for r in encoded.rejects] == [(1, "not UTF-8"), (2, "out of range of int")]
    # A symbol is text: bytes can't be one, and the column is named.
    symbols = of("text", {"type": "enum", "name": "E", "symbols": ["tea"]})
    with pytest.raises(PlanError, match="text"):
        schema.check(latin1().select(["text"]), symbols)


def test_what_is_no_arrow_data_is_named() -> None:
    keys = pa.array([0, 5], pa.int8())
    wrong = pa.DictionaryArray.from_arrays(keys, pa.array(["a"]), safe=False)
    table = pa.table({"same": wrong})
    with pytest.raises(SourceError, match='column "same"'):
        schema.check(table, of("same", "string"))


def test_the_timestamps_of_hive_and_impala(tmp_path: Path) -> None:
    path = tmp_path / "int96.parquet"
    at = pa.array([1_357_034_400_000_000_000, 1_357_034_400_000_000_001], pa.timestamp("ns"))
    pq.write_table(pa.table({"at": at}), path, use_deprecated_int96_timestamps=True)
    assert str(pq.read_schema(path).field("at").type) == "timestamp[ns]"
    with pytest.raises(PlanError, match="zone"):
        schema.check(path, of("at", {"type": "long", "logicalType": "timestamp-millis"}))
    for name, fields in (("local-timestamp-millis", {}), ("timestamp-millis", {"at": {"zone": "UTC"}})):
        report = schema.check(path, of("at", {"type": "long", "logicalType": name}), fields=fields)
        assert (report["passed"], report["rejected"]) == (1, 1)
        assert report["by_reason"][0]["reason"] == "would lose precision"


# Whose rules no year brings a change to: the two databases may be of different years.
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Sao_Paulo"]


@settings(derandomize=True, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.lists(st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2500, 1, 1)), max_size=50),
)
def test_clocks_of_a_zone_are_those_of_zoneinfo(name: str, readings: list[dt.datetime]) -> None:
    readings = [reading.replace(microsecond=0) for reading in readings]
    zone = ZoneInfo(name)
    avsc = of("at", {"type": "long", "logicalType": "timestamp-millis"})
    table = pa.table({"at": pa.array(readings, pa.timestamp("ms"))})
    encoded = Encoder(table, avsc, fields={"at": {"zone": name}}).encode(table)
    parsed = fastavro.parse_schema(
        {"type": "record", "name": "R", "fields": [{"name": "at", "type": "long"}]}
    )
    messages = (io.BytesIO(message) for message in encoded.messages.to_pylist())
    values = [fastavro.schemaless_reader(message, parsed, None)["at"] for message in messages]  # type: ignore[index, call-overload]
    instants = dict(zip(encoded.rows.tolist(), values, strict=True))
    for i, reading in enumerate(readings):
        first, second = (reading.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
        if first.utcoffset() == second.utcoffset():
            assert instants[i] == first.timestamp() * 1_000
        else:
            assert i not in instants


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
