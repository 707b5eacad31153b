"""A job whose source is in an object store: exactly the rows that the filter lets pass reach the topic."""

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, TopicPartition

import kappaflow
from kappaflow.errors import JobFileError, SourceChangedError
from tests.integration.object_stores import SECRET, Store, azure, google, hdfs, s3

pytestmark = pytest.mark.integration

SCHEMA = {
    "type": "record",
    "name": "Flight",
    "fields": [
        {"name": "n", "type": "long"},
        {"name": "carrier", "type": ["null", "string"]},
        {"name": "distance", "type": ["null", "double"]},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    ],
}
JOB = """
name = "lake"
side_effects = "none"

[params.most]
type = "float"
default = 1500.0

[source]
path = "%s/flights"
columns = ["n", "carrier", "distance", "day"]
filter = [["carrier", "in", ["UA", "AA"]], ["distance", "<=", "${most}"], ["day", "!=", 2013-01-02]]
child_by = "day"
split_rows = 200

[source.options]
%s

[schema]
ingress = "flight.avsc"
egress = "flight.avsc"

[service]
version = "1"
callable = "service:answer"

[output]
path = "landed"

[[regions]]
name = "east"
bootstrap_servers = "%s"
cap_max = 100000
"""


@pytest.fixture(params=[s3, azure, google, hdfs], ids=["s3", "azure", "google", "hdfs"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with request.param(tmp_path) as store:
        monkeypatch.setenv(SECRET, store.secret)
        yield store


def put(store: Store, key: str, rows: list[dict[str, Any]]) -> None:
    schema = pa.schema(
        [("n", pa.int64()), ("carrier", pa.string()), ("distance", pa.float64()), ("more", pa.string())]
    )
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), out, row_group_size=100)
    store.put(key, out.getvalue())


def rows(day: int) -> list[dict[str, Any]]:
    carriers = ["UA", "AA", "DL", None]
    return [
        {
            "n": day * 1_000 + i,
            "carrier": carriers[i % 4],
            "distance": None if i % 7 == 0 else i * 4.0,
            "more": "not asked for " * 20,
        }
        for i in range(1_000)
    ]


def decoded(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    """Every record of a topic, by a stock client."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "tests", "enable.auto.commit": False})
    found: list[dict[str, Any]] = []
    try:
        for number in consumer.list_topics(topic, 10).topics[topic].partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), 10)
            consumer.assign([TopicPartition(topic, number, low)])
            for _ in range(high - low):
                message = consumer.poll(10)
                assert message is not None and message.error() is None
                value = message.value() or b""
                assert struct.unpack(">b", value[:1]) == (0,)
                row = fastavro.schemaless_reader(io.BytesIO(value[5:]), SCHEMA, None)
                assert isinstance(row, dict)
                found.append(dict(row))
    finally:
        consumer.close()
    return found


def test_the_rows_that_pass_reach_the_topic_and_no_others(
    tmp_path: Path, store: Store, regions: dict[str, str]
) -> None:
    source = {day: rows(day) for day in (1, 2, 3)}
    for day, content in source.items():
        put(store, f"flights/day=2013-01-0{day}/part-0.parquet", content)
    job = tmp_path / "job.toml"
    job.write_text(JOB % (store.url, store.options, regions["east"]))
    (tmp_path / "flight.avsc").write_text(json.dumps(SCHEMA))

    expected = sorted(
        (row["n"], row["carrier"], row["distance"], f"2013-01-0{day}")
        for day in (1, 3)
        for row in source[day]
        if row["carrier"] in ("UA", "AA") and row["distance"] is not None and row["distance"] <= 1500
    )
    plan = kappaflow.plan(job)
    assert plan["rows"] == len(expected)
    assert [child["name"] for child in plan["children"]] == ["2013-01-01", "2013-01-03"]

    # The next day there is more, and what was pinned is what is replayed.
    put(store, "flights/day=2013-01-04/part-0.parquet", rows(4))
    placed = kappaflow.dispatch(job)
    assert placed["job"] == plan["job"]
    receipt = kappaflow.publish(job)
    assert (receipt["rows"], receipt["acknowledged"], receipt["rejected"]) == (
        len(expected),
        len(expected),
        0,
    )
    found = decoded(regions["east"], f"lake.{plan['job']}.east.ingress")
    assert sorted((row["n"], row["carrier"], row["distance"], str(row["day"])) for row in found) == expected
    assert store.secret not in (tmp_path / ".kappaflow/store.db").read_bytes().decode("latin-1")

    new = kappaflow.plan(job, new_snapshot=True)
    assert new["job"] != plan["job"] and new["files"] == 3
    put(store, "flights/day=2013-01-04/part-0.parquet", rows(5))
    kappaflow.dispatch(job)
    with pytest.raises(
        SourceChangedError,
        match=rf"(?s){store.url}/flights/day=2013-01-04/part-0\.parquet.*( now|footer differs).*--new-snapshot",
    ):
        kappaflow.publish(job)


@pytest.mark.parametrize("store", [s3, google], ids=["s3", "google"], indirect=True)
def test_a_store_that_keeps_versions_gives_the_one_that_was_pinned(
    tmp_path: Path, store: Store, regions: dict[str, str]
) -> None:
    assert store.keep_versions is not None
    store.keep_versions()
    source = rows(1)
    put(store, "flights/day=2013-01-01/part-0.parquet", source)
    job = tmp_path / "job.toml"
    job.write_text(JOB % (store.url, store.options, regions["east"]))
    (tmp_path / "flight.avsc").write_text(json.dumps(SCHEMA))
    plan = kappaflow.plan(job)

    put(store, "flights/day=2013-01-01/part-0.parquet", rows(2))
    kappaflow.dispatch(job)
    kappaflow.publish(job)
    found = decoded(regions["east"], f"lake.{plan['job']}.east.ingress")
    assert sorted(row["n"] for row in found) == [
        row["n"]
        for row in source
        if row["carrier"] in ("UA", "AA") and row["distance"] is not None and row["distance"] <= 1500
    ]


def test_an_option_of_another_store_is_refused_by_name(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(JOB % ("s3://lake", 'account_name = "us"', "127.0.0.1:1"))
    with pytest.raises(JobFileError, match=r"source\.options.*account_name.*it has: access_key_id"):
        kappaflow.resolve(job)
