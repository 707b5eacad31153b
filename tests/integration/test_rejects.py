"""Rejected rows are kept as the job says: beside it and in the dead-letter topic, and nobody takes them for letters."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

import kappaflow
from kappaflow.errors import SchemaError, SourceError, TooManyRejectsError
from tests.conftest import Job, JobMaker
from tests.integration.stock import messages

pytestmark = pytest.mark.integration

SCHEMA = '{"type":"record","name":"R","fields":[{"name":"id","type":"int"},{"name":"ssn","type":"string"}]}'


def headers(message: Message) -> dict[str, str]:
    return {name: bytes(value or b"").decode("utf-8", "replace") for name, value in message.headers() or []}


def letters(bootstrap: str, topic: str) -> list[tuple[dict[str, str], Any]]:
    """Headers and payload of the rejects in a dead-letter topic, by row."""
    found = [
        (headers(m), json.loads(v) if (v := m.value()) is not None else None)
        for m in messages(bootstrap, topic)
        if headers(m).get("kf-stage") == "publish"
    ]
    return sorted(found, key=lambda letter: (letter[0]["kf-file"], int(letter[0]["kf-row"])))


def kept(job: Job) -> list[dict[str, Any]]:
    files = Path(job.dir).glob(".kappaflow/*/rejects/*.parquet")
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    return sorted(rows, key=lambda row: (row["file"], row["row_in_file"]))


def spoiled(job: Job) -> Job:
    """A job of which three rows can't be what the schema says."""
    (path,) = (job.dir / "data" / "flights").glob("*/*.parquet")
    table = pq.read_table(path, partitioning=None)
    distance = table.column("distance").to_pylist()
    for row in (5, 700, 26_000):
        distance[row] = 0.5
    position = table.schema.get_field_index("distance")
    pq.write_table(table.set_column(position, "distance", pa.array(distance, pa.float64())), path)
    return job


@pytest.mark.parametrize("payload", ["full", "keys", "none"])
def test_rejects_are_kept_as_the_job_says(make_job: JobMaker, regions: dict[str, str], payload: str) -> None:
    job = spoiled(make_job(1, name=f"job-{payload}"))
    job.edit("[limits]", f'[rejects]\nreject_payload = "{payload}"\nredact = ["tailnum"]\n\n[limits]')
    job.edit("[topics]", '[topics]\nkey = ["carrier", "flight"]')
    summary = job.run("run").ok()
    assert summary["rounds"][0]["receipt"]["rejects_sent"] == 3
    ledger = summary["ledger"]
    # The topic has them too, and still they are rejected rows: no dead letters, and nothing that was mended.
    assert ledger["explained"]
    assert ledger["rejected"] == 3
    assert ledger["mended"] == 0
    rows = kept(job)
    name = f"{json.loads(job.run('status').stdout.splitlines()[-1])['name']}.{summary['job']}"
    region = next(
        region
        for region in regions
        if f"{name}.{region}.deadletter"
        in AdminClient({"bootstrap.servers": regions[region]}).list_topics(timeout=10).topics
    )
    sent = letters(regions[region], f"{name}.{region}.deadletter")
    assert [row["row_in_file"] for row in rows] == [5, 700, 26_000]
    assert len(sent) == 3
    for row, (head, values) in zip(rows, sent, strict=True):
        assert (head["kf-file"], head["kf-row"]) == (row["file"], str(row["row_in_file"]))
        assert (head["kf-column"], head["kf-reason"]) == ("distance", row["reason"])
        assert head["kf-value"] == row["value"] == ("0.5" if payload == "full" else "")
        assert len(head["kf-id"]) > 0
        assert values == (json.loads(row["payload"]) if row["payload"] else None)
        if payload == "full":
            assert values["tailnum"] == "[redacted]"
            assert values["distance"] == 0.5
        elif payload == "keys":
            assert sorted(values) == ["carrier", "flight"]
        else:
            assert values is None


def test_a_column_that_is_not_there_can_not_be_redacted(make_job: JobMaker) -> None:
    job = make_job(1)
    job.edit("[limits]", '[rejects]\nredact = ["tailnumber"]\n\n[limits]')
    job.run("dispatch").ok()
    refused = job.run("publish")
    assert refused.code == 1
    assert '"tailnumber", which rejects.redact names' in refused.stderr


def publish(regions: dict[str, str], tmp_path: Path, data: object, topic: str, **more: Any) -> dict[str, Any]:
    registry = f"dir:{tmp_path / 'registry'}"
    options = {"schema": SCHEMA, "bootstrap_servers": regions["east"], "registry": registry, **more}
    return kappaflow.publish(data, topic=topic, **options)


def test_a_frame_s_rejects_have_a_topic_and_a_limit(regions: dict[str, str], tmp_path: Path) -> None:
    frame = pa.table({"id": [1, 2**40, 3, 2**41], "ssn": ["a", "b", "c", "d"]})
    options = {"dead_letter": "frame-letters", "redact": ["ssn"]}
    receipt = publish(regions, tmp_path, frame, "frame-rejects", max_rejects="50%", **options)
    assert (receipt["rejected"], receipt["rejects_sent"]) == (2, 2)
    assert receipt["reject_counts"][0]["count"] == 2
    sent = letters(regions["east"], "frame-letters")
    assert [values for _, values in sent] == [{"id": x, "ssn": "[redacted]"} for x in (2**40, 2**41)]
    assert json.loads(receipt["rejects"][0]["payload"])["ssn"] == "[redacted]"
    with pytest.raises(TooManyRejectsError, match=r"max_rejects = 1 .*2 . id.*topic frame-letters"):
        publish(regions, tmp_path, frame, "frame-rejects", max_rejects=1, **options)
    with pytest.raises(TooManyRejectsError, match="49%"):
        publish(regions, tmp_path, frame, "frame-rejects", max_rejects="49%")
    with pytest.raises(kappaflow.errors.JobFileError, match="a share such as"):
        publish(regions, tmp_path, frame, "frame-rejects", max_rejects="many")
    with pytest.raises(SchemaError, match=r"rejects\.redact"):
        publish(regions, tmp_path, frame, "frame-rejects", redact=["nope"])


def test_a_text_larger_than_a_message_costs_its_own_row(regions: dict[str, str], tmp_path: Path) -> None:
    frame = pa.table({"id": [1, 2, 3], "ssn": ["a", "x" * (64 << 20), "c"]})
    receipt = publish(regions, tmp_path, frame, "huge", dead_letter="huge-letters")
    assert (receipt["acknowledged"], receipt["rejected"], receipt["rejects_sent"]) == (2, 1, 1)
    (reject,) = receipt["rejects"]
    assert reject["row"] == 1
    assert "max.message.bytes" in reject["reason"]
    # No message holds its values: it is named all the same, and they are said to be left out.
    ((head, values),) = letters(regions["east"], "huge-letters")
    assert values is None
    assert "bytes" in head["kf-left-out"]


def test_a_message_larger_than_the_queue_is_a_reject_not_a_standstill(
    regions: dict[str, str], tmp_path: Path
) -> None:
    admin = AdminClient({"bootstrap.servers": regions["east"]})
    new = NewTopic("wide", 1, 1, config={"max.message.bytes": str(200 << 20)})
    admin.create_topics([new])["wide"].result(10)
    resource = ConfigResource(ResourceType.TOPIC, "wide")
    assert admin.describe_configs([resource])[resource].result(10)
    frame = pa.table({"id": [1, 2], "ssn": ["x" * (65 << 20), "c"]})
    receipt = publish(regions, tmp_path, frame, "wide")
    assert (receipt["acknowledged"], receipt["rejected"]) == (1, 1)
    assert "publish_queue_mib" in receipt["rejects"][0]["reason"]


def test_what_is_no_utf8_is_rejected_by_row(regions: dict[str, str], tmp_path: Path) -> None:
    frame = pa.table({"id": [1, 2], "ssn": pa.array([b"ok", b"\xff\xfe"], pa.binary())})
    receipt = publish(regions, tmp_path, frame, "utf8")
    assert (receipt["acknowledged"], receipt["rejected"]) == (1, 1)
    assert receipt["rejects"][0]["reason"] == "not UTF-8"
    assert receipt["rejects"][0]["value"] == "fffe"


def test_frames_of_nothing(regions: dict[str, str], tmp_path: Path) -> None:
    empty = pa.table({"id": pa.array([], pa.int32()), "ssn": pa.array([], pa.string())})
    assert publish(regions, tmp_path, empty, "nothing")["rows"] == 0
    nulls = pa.table({"id": pa.nulls(3), "ssn": pa.nulls(3)})
    receipt = publish(regions, tmp_path, nulls, "nothing")
    assert (receipt["acknowledged"], receipt["rejected"]) == (0, 3)
    assert "null" in receipt["rejects"][0]["reason"]
    bare = pa.RecordBatch.from_struct_array(pa.array([{}, {}], pa.struct([])))
    reader = pa.RecordBatchReader.from_batches(bare.schema, [bare])
    columnless = publish(
        regions, tmp_path, reader, "columnless", schema='{"type":"record","name":"N","fields":[]}'
    )
    assert columnless["acknowledged"] == 2


def test_a_batch_of_other_columns_stops_the_stream_by_row(regions: dict[str, str], tmp_path: Path) -> None:
    first = pa.table({"id": [1], "ssn": ["a"]})
    other = pa.table({"id": [2]})
    batches = iter([first.to_batches()[0], other.to_batches()[0]])
    reader = pa.RecordBatchReader.from_batches(first.schema, batches)
    with pytest.raises(SourceError, match="after row 1"):
        publish(regions, tmp_path, reader, "mixed")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1 column"),
        ('{"type": "banana"}', "banana"),
        ('{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}', "a"),
        ('{"type":"record","name":"R","fields":[{"name":"b","type":"int","default":"x"}]}', "b"),
        ('{"type":"record","name":"R","fields":[{"name":"c","type":["null",["int"]]}]}', "[Uu]nion"),
    ],
)
def test_a_bad_schema_file_is_named_with_the_place(make_job: JobMaker, text: str, says: str) -> None:
    job = make_job(1)
    (job.dir / "flight.avsc").write_text(text)
    refused = job.run("plan")
    assert refused.code == 1
    assert "flight.avsc" in refused.stderr
    assert re.search(says, refused.stderr.split("flight.avsc", 1)[1]), refused.stderr
