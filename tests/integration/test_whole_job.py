"""A whole job, stage by stage and in one: parity with the service, kills, and what stock clients read."""

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka.admin import AdminClient

import kappaflow
from tests.conftest import Job, JobMaker
from tests.integration.stock import messages

pytestmark = pytest.mark.integration

IDENTITY = ["_job", "_split", "_seq", "_child", "_of", "_attempt", "_partition", "_offset"]


def landed(job: Job) -> pa.Table:
    """The landed table in the order of the source."""
    return kappaflow.sql(job.file, "SELECT * FROM landed ORDER BY _split, _seq, _child", params=job.params)


def priced(job: Job) -> tuple[list[tuple[int, int, dict[str, Any]]], Counter[str]]:
    """Every source row priced by a direct call: (split, seq, answer) of those answered, causes of those not."""
    from delay_cost import pricing

    pricing.load(rules=job.params.get("rules", "v2"), data_dir=job.dir / "data" / "lookup")
    answers: list[tuple[int, int, dict[str, Any]]] = []
    causes: Counter[str] = Counter()
    split = 0
    for path in sorted((job.dir / "data" / "flights").rglob("*.parquet")):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            for seq, row in enumerate(file.read_row_group(group).to_pylist()):
                for column, value in row.items():
                    if isinstance(value, float) and value.is_integer():
                        row[column] = int(value)
                try:
                    answers.append((split, seq, pricing.price(row)))
                except (pricing.Cancelled, pricing.NotArrived, pricing.NotCovered) as cause:
                    causes[type(cause).__name__] += 1
            split += 1
    return answers, causes


@pytest.mark.parametrize(("rules", "months"), [("v1", 2), ("v2", 12)])
def test_parity_with_direct_calls_row_for_row(make_job: JobMaker, rules: str, months: int) -> None:
    job = make_job(months, rules=rules)
    summary = job.run("run", timeout_s=400).ok()
    answers, causes = priced(job)
    ledger = summary["ledger"]
    assert ledger["explained"]
    assert ledger["missing"] == ledger["duplicated"] == ledger["rejected"] == 0
    assert ledger["landed"] == len(answers)
    assert {cause["reason"]: cause["rows"] for cause in ledger["by_cause"]} == dict(causes)
    table = landed(job)
    rows = table.to_pylist()
    assert len(rows) == len(answers)
    names = [name for name in table.column_names if name not in IDENTITY]
    for row, (split, seq, answer) in zip(rows, answers, strict=True):
        assert (row["_split"], row["_seq"], row["_child"], row["_of"]) == (split, seq, 0, 1)
        assert {name: row[name] for name in names} == answer


@pytest.mark.parametrize("cleanup", ["empty", "delete"])
def test_the_ingress_is_cleaned_when_all_is_explained_and_not_before(
    make_job: JobMaker, cleanup: str
) -> None:
    job = make_job(1)
    job.edit("[topics]", f'[topics]\ntransactional = true\ncleanup = "{cleanup}"')
    region = job.run("dispatch").ok()["placed"][0]["region"]
    job.run("publish").ok()
    assert job.run("reconcile").code != 0
    assert kept(job, region) == 27_004
    job.run("work", "--region", region).ok()
    job.run("land").ok()
    ledger = job.run("reconcile").ok()
    assert ledger["explained"]
    [note] = [note for note in ledger["notes"] if "topics.cleanup" in note]
    assert ("is emptied of" if cleanup == "empty" else "is deleted") in note
    assert kept(job, region) == (0 if cleanup == "empty" else None)
    # Everything again: nobody misses what was cleaned, and nothing is done twice.
    for stage in (["dispatch"], ["publish"], ["work", "--region", region], ["land"]):
        job.run(*stage).ok()
    again = job.run("reconcile").ok()
    assert again["explained"] and again["landed"] == ledger["landed"]
    assert kept(job, region) == (0 if cleanup == "empty" else None)
    assert job.run("status").ok()["regions"]
    assert job.run("run").ok()["ledger"]["explained"]


def kept(job: Job, region: str) -> int | None:
    """Records that a stock client finds in the ingress topic; None: there is no topic."""
    server, name = job.params[region], job.run("status").ok()["name"]
    topics = AdminClient({"bootstrap.servers": server}).list_topics(timeout=10).topics
    ingress = [t for t in topics if t.startswith(f"{name}.") and t.endswith(".ingress")]
    return sum(1 for _ in messages(server, ingress[0])) if ingress else None


def test_each_stage_by_itself_and_again(make_job: JobMaker) -> None:
    job = make_job(1)
    plan = job.run("plan").ok()
    assert plan["rows"] == 27_004
    too_early = job.run("publish")
    assert too_early.code == 1
    assert "kappaflow dispatch" in too_early.stderr
    placed = job.run("dispatch").ok()
    assert [p["child"] for p in placed["placed"]] == ["2013-01"]
    region = placed["placed"][0]["region"]
    receipt = job.run("publish").ok()
    assert (receipt["rows"], receipt["acknowledged"], receipt["rejected"]) == (27_004, 27_004, 0)
    done = job.run("work", "--region", region).ok()
    assert done["answered"] + sum(done["filtered"].values()) + sum(done["dead_lettered"].values()) == 27_004
    job.run("land").ok()
    ledger = job.run("reconcile").ok()
    assert ledger["explained"]
    table = landed(job)
    # Everything again: confirmed, nothing sent, worked or landed twice.
    again = job.run("publish").ok()
    assert again["acknowledged"] == 27_004
    status = job.run("status").ok()
    assert all(child["state"] == "done" for child in status["children"])
    summary = job.run("run").ok()
    assert summary["ledger"]["landed"] == ledger["landed"]
    assert landed(job).equals(table)
    metrics = job.run("sql").ok()
    assert metrics["totals"]["rows"][0][0] == ledger["landed"]
    assert job.run("sql", "SELECT count(*) AS n FROM landed").ok() == {
        "columns": ["n"],
        "rows": [[ledger["landed"]]],
    }


def test_dispatch_waits_for_headroom_and_goes_on_when_it_is_released(make_job: JobMaker) -> None:
    job = make_job(3)
    job.edit("cap_max = 200000", "cap_max = 30000")
    dispatched = job.run("dispatch").ok()
    assert len(dispatched["placed"]) == 2
    assert len(dispatched["waiting"]) == 1
    assert all(r["active"] + r["queued"] <= r["cap_max"] for r in dispatched["regions"])
    summary = job.run("run").ok()
    assert summary["ledger"]["explained"]
    assert summary["ledger"]["expected"] == 27_004 + 24_951 + 28_834
    assert all(r["headroom"] == r["cap_max"] for r in kappaflow.regions(job.file, params=job.params))


def start(job: Job, *words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(job.command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def kill_after(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """SIGKILL after a while; False if it had ended by then."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    assert process.communicate()[1] is not None
    return False


def kill_when(process: "subprocess.Popen[bytes]", reached: Callable[[], bool]) -> bool:
    """SIGKILL as soon as that is reached; False if it had ended by then."""
    while process.poll() is None:
        if reached():
            return kill_after(process, 0)
    process.communicate()
    return False


def reference(make_job: JobMaker, months: int) -> pa.Table:
    job = make_job(months, name="reference")
    job.run("run").ok()
    return landed(job)


def test_kill_minus_nine_in_every_stage_leaves_the_same_table(make_job: JobMaker) -> None:
    seed = 20130101
    chance = random.Random(seed)
    expected = reference(make_job, 3)
    job = make_job(3, name="killed")
    dispatched = job.run("dispatch").ok()
    kills = Counter[str]()
    for _ in range(4):
        kills["publish"] += kill_after(start(job, "publish"), chance.uniform(0.3, 1.2))
    receipt = job.run("publish").ok()
    assert receipt["acknowledged"] == receipt["rows"] == expected_rows(job)
    for region in sorted({p["region"] for p in dispatched["placed"]}):

        def committed(region: str = region) -> int:
            return int(kappaflow.lag(job.file, region=region, params=job.params)["committed"])

        for _ in range(2):
            # By what it has done: machines are fast or slow.
            wanted = committed() + chance.randint(1, 5_000)
            worker = start(job, "work", "--region", region)
            kills["work"] += kill_when(
                worker, lambda wanted=wanted, committed=committed: committed() >= wanted
            )
        job.run("work", "--region", region).ok()
    for _ in range(4):
        kills["land"] += kill_after(start(job, "land"), chance.uniform(0.2, 1.0))
    job.run("land").ok()
    ledger = job.run("reconcile").ok()
    assert all(kills[stage] for stage in ("publish", "work", "land")), (
        f"seed {seed}: not killed in time: {kills}"
    )
    assert ledger["explained"]
    assert ledger["missing"] == ledger["duplicated"] == 0
    changing = ["_job", "_attempt", "_partition", "_offset"]
    table = landed(job)
    assert table.drop_columns(changing).equals(expected.drop_columns(changing))


def expected_rows(job: Job) -> int:
    return sum(pq.ParquetFile(p).metadata.num_rows for p in (job.dir / "data" / "flights").rglob("*.parquet"))


def test_a_worker_killed_half_way_is_replaced_by_its_standby(make_job: JobMaker) -> None:
    job = make_job(1)
    job.edit("[limits]", "[limits]\nsession_timeout_ms = 2000")
    placed = job.run("dispatch").ok()["placed"]
    region = placed[0]["region"]
    job.run("publish").ok()
    workers = [start(job, "work", "--region", region) for _ in range(2)]
    deadline = time.monotonic() + 60
    while kappaflow.lag(job.file, region=region, params=job.params)["committed"] < 5_000:
        assert time.monotonic() < deadline, "no worker got anywhere"
        time.sleep(0.2)
    workers[0].kill()
    workers[0].communicate()
    _, stderr = workers[1].communicate(timeout=90)
    assert workers[1].returncode == 0, stderr.decode()
    job.run("land").ok()
    ledger = job.run("reconcile").ok()
    assert ledger["explained"]
    assert ledger["landed"] == len(landed(job))


def test_stock_clients_read_both_topics(make_job: JobMaker) -> None:
    """confluent-kafka's own AvroDeserializer gets the right values from ingress and egress."""
    from confluent_kafka import Consumer, TopicPartition
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    job = make_job(1)
    summary = job.run("run").ok()
    region = kappaflow.plan(job.file, params=job.params)["children"][0]["region"]
    assert region is not None

    # The stock client's in-memory registry gives ids from 1, as our directory does: filled in that order they agree.
    registry = SchemaRegistryClient.new_client({"url": "mock://directory"})
    schemas = job.dir / ".kappaflow" / "registry" / "schemas"
    for schema_id in range(1, len(list(schemas.iterdir())) + 1):
        schema = Schema((schemas / f"{schema_id}.avsc").read_text(), "AVRO")
        assert registry.register_schema(f"subject-{schema_id}", schema) == schema_id
    decode = AvroDeserializer(registry)
    decoded: dict[str, list[tuple[bytes, dict[str, Any]]]] = {}
    for role in ("ingress", "egress"):
        topic = f"{job_name(job)}.{summary['job']}.{region}.{role}"
        consumer = Consumer(
            {
                "bootstrap.servers": job.params[region],
                "group.id": "stock",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        consumer.assign([TopicPartition(topic, p, 0) for p in range(6)])
        open_partitions, records = 6, []
        while open_partitions:
            message = consumer.poll(10)
            assert message is not None, "nothing came for 10 s"
            if message.error():
                open_partitions -= 1
                continue
            context = SerializationContext(topic, MessageField.VALUE)
            records.append((dict(message.headers())["kf-id"], decode(message.value(), context)))
        consumer.close()
        decoded[role] = sorted(records, key=lambda record: record[0])
    source = [
        row
        for path in sorted((job.dir / "data" / "flights").rglob("*.parquet"))
        for row in pq.read_table(path, partitioning=None).to_pylist()
    ]
    assert len(decoded["ingress"]) == len(source) == 27_004
    for (_, record), row in zip(decoded["ingress"], source, strict=True):
        when = record.pop("time_hour")
        assert when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") == row.pop("time_hour")
        assert record == row
    columns = [c for c in landed(job).column_names if c not in IDENTITY]
    for (_, record), row in zip(decoded["egress"], landed(job).to_pylist(), strict=True):
        assert record == {name: row[name] for name in columns}


def job_name(job: Job) -> str:
    return str(kappaflow.resolve(job.file, params=job.params)["file"]["name"])


def test_two_landers_at_once_land_everything_once(make_job: JobMaker) -> None:
    job = make_job(1)
    region = job.run("dispatch").ok()["placed"][0]["region"]
    job.run("publish").ok()
    job.run("work", "--region", region).ok()
    landers = [start(job, "land") for _ in range(3)]
    errors = [lander.communicate(timeout=120)[1].decode() for lander in landers]
    assert any(lander.returncode == 0 for lander in landers), errors
    job.run("land").ok()
    ledger = job.run("reconcile").ok()
    assert ledger["explained"]
    assert ledger["duplicated"] == 0


def test_ctrl_c_stops_publish_in_seconds_and_it_resumes(make_job: JobMaker, tmp_path: Path) -> None:
    import signal

    job = make_job(3)
    job.run("dispatch").ok()
    process = start(job, "publish")
    time.sleep(0.8)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert time.monotonic() - begun < 6
    assert process.returncode in (0, 130)
    receipt = job.run("publish").ok()
    assert receipt["acknowledged"] == receipt["rows"]
