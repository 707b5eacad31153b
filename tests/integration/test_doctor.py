"""`kappaflow doctor`: what a job needs, each tried, and nothing changed by it."""

import json
import socket
from collections import Counter
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

import kappaflow
from tests.conftest import Job, JobMaker

pytestmark = pytest.mark.integration


def told(job: Job, code: int, *words: str) -> dict[str, Any]:
    done = job.run("doctor", *words)
    assert done.code == code, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert summary["healthy"] == (code == 0)
    assert summary["failed"] == sum(need["outcome"] == "failed" for need in summary["needs"])
    return summary


def outcomes(summary: dict[str, Any], kind: str) -> Counter[str]:
    return Counter(need["outcome"] for need in summary["needs"] if need["kind"] == kind)


def topics(job: Job) -> set[str]:
    name = job.run("status").ok()["name"]
    servers = (job.params[region] for region in ("east", "west"))
    found = (set(AdminClient({"bootstrap.servers": s}).list_topics(timeout=10).topics) for s in servers)
    return {topic for topic in set.union(*found) if topic.startswith(name)}


def test_before_dispatch_it_tells_what_may_be_created_and_creates_nothing(make_job: JobMaker) -> None:
    job = make_job(1)
    job.edit("[topics]", "[topics]\ntransactional = true")
    summary = told(job, 0)
    needs = [need["what"] for need in summary["needs"]]
    assert outcomes(summary, "topic") == {"ok": 8}
    assert sum("the right to CREATE it" in what for what in needs) == 8
    assert any(what.startswith("WRITE and DESCRIBE on transactional ids kappaflow.") for what in needs)
    assert outcomes(summary, "network") == {"ok": 2 * 3}
    assert outcomes(summary, "subject") == {"ok": 6}
    assert {need["region"] for need in summary["needs"]} == {None, "east", "west"}
    receipts = [need["what"] for need in told(job, 0, "--spark")["needs"] if ".receipts" in need["what"]]
    assert sum("the right to CREATE it" in what for what in receipts) == 2
    assert sum(what.startswith("WRITE on topic") for what in receipts) == 2
    assert not any(".receipts" in what for what in needs)
    assert topics(job) == set()


def test_after_dispatch_it_asks_the_broker_for_each_right(make_job: JobMaker) -> None:
    job = make_job(1)
    job.edit("[topics]", '[topics]\ncleanup = "delete"')
    region = job.run("dispatch").ok()["placed"][0]["region"]
    before = topics(job)
    summary = told(job, 0)
    mine = [need for need in summary["needs"] if need["region"] == region and need["kind"] == "right"]
    # Three for each of four topics, one to delete, one on the group.
    assert [need["outcome"] for need in mine].count("ok") == 3 * 4 + 1 + 1, mine
    assert any(need["what"].startswith("DELETE on topic") for need in mine)
    registered = [n["told"] for n in summary["needs"] if n["kind"] == "subject" and n["region"] == region]
    assert all(text.startswith("schema ") for text in registered)
    assert topics(job) == before
    shown = job.run("doctor").stderr
    assert "can't be told" in shown and "READ on group" in shown


def test_what_can_not_be_reached_or_used_is_told_and_the_rest_is_looked_at(make_job: JobMaker) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        job = make_job(1, east=f"127.0.0.1:{taken.getsockname()[1]}")
        job.edit("replication = 1", "replication = 3")
        summary = told(job, 1)
    [unreached] = [n for n in summary["needs"] if n["region"] == "east" and n["outcome"] == "failed"]
    assert unreached["kind"] == "network" and "no broker answered" in unreached["told"]
    west = [n for n in summary["needs"] if n["region"] == "west" and n["outcome"] == "failed"]
    # One broker can't hold three replicas.
    assert {n["kind"] for n in west} == {"topic"} and len(west) == 4
    assert all("can't be created" in n["told"] for n in west)


def test_a_subject_that_takes_no_such_schema_is_told(make_job: JobMaker) -> None:
    job = make_job(1)
    job.edit("[schema]", "[schema]\nauto_register = false")
    summary = told(job, 1)
    assert outcomes(summary, "subject")["failed"] > 0
    texts = [n["told"] for n in summary["needs"] if n["kind"] == "subject" and n["outcome"] == "failed"]
    assert all("auto_register" in text for text in texts), texts
    assert kappaflow.doctor(job.file, params=job.params)["failed"] == summary["failed"]
