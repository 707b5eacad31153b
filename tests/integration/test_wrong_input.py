"""The obvious mistakes: each gets, in seconds, an error that a newcomer can act on; nothing is lost."""

import time
from collections.abc import Callable

import pyarrow.parquet as pq
import pytest

from tests.conftest import Job, JobMaker, Ran

pytestmark = pytest.mark.integration


def timed(run: Callable[[], Ran], within_s: float = 25.0) -> Ran:
    begun = time.monotonic()
    ran = run()
    assert time.monotonic() - begun < within_s
    return ran


def refused(ran: Ran, code: int, *words: str) -> None:
    assert ran.code == code, ran.stderr
    for word in words:
        assert word in ran.stderr
    assert "Traceback" not in ran.stderr


def test_missing_job_file(make_job: JobMaker) -> None:
    job = make_job(1)
    job.file.unlink()
    refused(timed(lambda: job.run("run")), 2, "job.toml", "No such file")
    job.file.mkdir()
    refused(timed(lambda: job.run("run")), 2, "job.toml", "directory")


def test_missing_source(make_job: JobMaker) -> None:
    job = Job((made := make_job(1)).dir, {**made.params, "data": "nowhere"})
    refused(timed(lambda: job.run("run")), 1, "nowhere", "no such file or directory")


def test_missing_column(make_job: JobMaker) -> None:
    job = make_job(1)
    part = job.dir / "data" / "flights" / "m=2013-01" / "part-0.parquet"
    pq.write_table(pq.read_table(part, partitioning=None).drop_columns(["carrier"]), part)
    job.run("dispatch").ok()
    refused(timed(lambda: job.run("publish")), 1, "carrier")


def test_extra_column(make_job: JobMaker) -> None:
    job = make_job(1)
    part = job.dir / "data" / "flights" / "m=2013-01" / "part-0.parquet"
    table = pq.read_table(part, partitioning=None)
    pq.write_table(table.append_column("gate", table["carrier"]), part)
    job.run("dispatch").ok()
    refused(timed(lambda: job.run("publish")), 1, "gate")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("batch_records = 500", "batch_record = 500", ("service", "batch_record", "unknown field")),
        ("batch_records = 500", 'batch_records = "many"', ("service.batch_records", "many")),
        ("partitions = 6", "partitions = 0", ("topics.partitions", "at least 1")),
        ('side_effects = "none"', 'side_effects = "some"', ("side_effects", "some", "idempotent")),
        ('side_effects = "none"', "", ("side_effects", "missing")),
        ('path = "${data}"', 'path = "${date}"', ("source.path", "${date}")),
        ("[limits]", "[limits", ("TOML", "line")),
        ('compression = "lz4"', 'compression = "brotli"', ("topics.compression", "brotli", "zstd")),
        ('mode = "append"', 'mode = "overwrite"', ("output.mode", "overwrite", "append")),
        (
            "[limits]",
            '[regions.kafka]\n"security.protocol" = "SASL_SSL"\n"sasl.mechanism" = "OAUTHBEARER"\n[limits]',
            ('regions[1].kafka."sasl.oauthbearer.method"', "oidc"),
        ),
        (
            "[limits]",
            '[regions.kafka]\n"security.protocol" = "SASL_SSL"\n"sasl.mechanism" = "GSSAPI"\n[limits]',
            ('regions[1].kafka."sasl.mechanism"', "this build lacks", "feature gssapi"),
        ),
    ],
)
def test_wrong_job_file(make_job: JobMaker, old: str, new: str, words: tuple[str, ...]) -> None:
    job = make_job(1)
    job.edit(old, new)
    refused(timed(lambda: job.run("plan"), 10), 2, "job.toml", *words)


def test_unknown_param_and_a_value_that_is_no_choice(make_job: JobMaker) -> None:
    job = make_job(1)
    refused(Job(job.dir, {**job.params, "day": "x"}).run("plan"), 2, "params.day", "no such param")
    refused(Job(job.dir, {**job.params, "rules": "v9"}).run("plan"), 2, "params.rules", "v1, v2")


def test_no_broker(make_job: JobMaker) -> None:
    job = Job((made := make_job(1)).dir, {**made.params, "east": "127.0.0.1:9", "west": "127.0.0.1:9"})
    refused(timed(lambda: job.run("dispatch")), 1, "127.0.0.1:9", "no broker answered", "bootstrap_servers")
    # Nothing is lost: with the right address the same job goes on.
    assert made.run("run").ok()["ledger"]["explained"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("delay_cost.pricing:price", "delay_costs.pricing:price", ("delay_costs", "python_path")),
        ("delay_cost.pricing:price", "delay_cost.pricing:prize", ("prize",)),
        ('options = { rules = "${rules}" }', 'options = { rules = "v7" }', ("warm_up", "v7")),
    ],
)
def test_a_service_that_does_not_start(
    make_job: JobMaker, old: str, new: str, words: tuple[str, ...]
) -> None:
    job = make_job(1)
    right = job.file.read_text()
    job.edit(old, new)
    region = job.run("dispatch").ok()["placed"][0]["region"]
    job.run("publish").ok()
    ran = timed(lambda: job.run("work", "--region", region))
    # The service's own traceback is what its author needs; ours would only be in the way.
    refused(Ran(ran.code, ran.stdout, ran.stderr.partition("Traceback")[0]), 1, "service")
    assert all(word in ran.stderr for word in words), ran.stderr
    job.file.write_text(right)
    assert job.run("run").ok()["ledger"]["explained"]


def test_a_service_that_fails_on_some_records_and_kills_its_process_on_one(make_job: JobMaker) -> None:
    job = make_job(1)
    (job.dir / "moody.py").write_text(
        """
import os
from delay_cost import pricing

def price(flight):
    if (flight["day"], flight["flight"]) == (2, 707):
        raise RuntimeError("not my day")
    if (flight["day"], flight["flight"], flight["origin"]) == (3, 727, "JFK"):
        os._exit(7)
    print("chatter on stdout")
    return pricing.price(flight)
"""
    )
    job.edit('callable = "delay_cost.pricing:price"', 'callable = "moody:price"')
    ledger = job.run("run").ok()["ledger"]
    assert ledger["explained"]
    causes = {c["reason"]: c["rows"] for c in ledger["by_cause"] if c["fate"] == "dead_lettered"}
    assert causes["RuntimeError"] >= 1
    # The record that kills its process is found and blamed alone; its neighbours are answered.
    unexpected = {
        cause: count for cause, count in causes.items() if cause not in ("RuntimeError", "NotArrived")
    }
    assert list(unexpected.values()) == [1], causes


def test_wrong_usage(make_job: JobMaker) -> None:
    job = make_job(1)
    assert job.run("work").code in (1, 2)
    refused(job.run("land", "--region", "north"), 2, "north", "east")
