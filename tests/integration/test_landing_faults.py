"""What may happen to a landing from outside: each row once, or a clear failure and then the rest."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

import kappaflow
from kappaflow.dev import DevStack
from tests.integration.answers import EXACT, PARTITIONS, Answer, Answers, ended, family
from tests.integration.stock import eventually

pytestmark = pytest.mark.integration

ROWS = 12_000
"""Enough for three commits of the least size."""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """A Kafka of these tests alone."""
    with DevStack(tmp_path_factory.mktemp("dev")) as stack:
        yield stack


@pytest.fixture
def answers(one: DevStack, tmp_path: Path, request: pytest.FixtureRequest) -> Answers:
    name = request.node.name.removeprefix("test_")
    return Answers(tmp_path / "job", one.bootstrap(), name, ROWS)


def refused(answers: Answers) -> str:
    """What a lander says that can't land."""
    _, err = (lander := answers.start()).communicate(timeout=120)
    assert lander.returncode == 1
    assert "Traceback" not in err
    return err


def test_two_landers_at_once_land_each_row_once(answers: Answers) -> None:
    answers.write(answer for n in range(ROWS) for answer in family(n, 1 + n % 3))
    landers = [answers.start() for _ in range(2)]
    summaries = [ended(lander) for lander in landers]
    assert sum(summary["inputs"] for summary in summaries) == ROWS
    assert sum(summary["landed"] for summary in summaries) == 2 * ROWS
    assert answers.written().compare(answers.landed()) == EXACT
    assert answers.explained() == ROWS


def test_what_a_killed_lander_of_a_group_leaves_the_others_land(one: DevStack, tmp_path: Path) -> None:
    rows = 5 * ROWS
    answers = Answers(tmp_path / "job", one.bootstrap(), "group", rows)
    answers.write(answer for n in range(rows) for answer in family(n, 1 + n % 2))
    landers = [answers.start(verb="land --shared") for _ in range(3)]
    eventually(lambda: any((answers.dir / "landed").glob("_kappaflow/*.json")))
    landers[0].kill()
    for lander in landers[1:]:
        ended(lander)
    landers[0].communicate()
    assert answers.written().compare(answers.landed()) == EXACT
    assert answers.explained() == rows


def test_a_disk_that_is_full_fails_clearly_and_with_room_the_rest_lands(answers: Answers) -> None:
    disk = answers.dir / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no tmpfs may be mounted here; test_landing_crashes.py fills a disk in another way")
    try:
        answers.write(answer for n in range(ROWS) for answer in family(n, 2))
        _, err = (lander := answers.start("disk/table")).communicate(timeout=120)
        assert lander.returncode == 1
        assert "No space left on device" in err and "Traceback" not in err
        written = answers.written()
        part = written.compare(answers.landed("disk/table"))
        assert part.right and 0 < part.lost <= ROWS
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        summary = answers.land("disk/table")
        assert (summary["inputs"], summary["orphans"]) == (part.lost, 0)
        assert written.compare(answers.landed("disk/table")) == EXACT
        assert answers.explained("disk/table") == ROWS
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_topic_without_records_lands_as_nothing(answers: Answers) -> None:
    summary = answers.land()
    assert (summary["landed"], summary["version"], summary["files"]) == (0, 0, 0)
    assert list(answers.landed()) == []
    answers.write([Answer(7)])
    assert answers.land()["landed"] == 1
    assert answers.land()["landed"] == 0
    assert [row["n"] for row in answers.landed()] == [7]


def open_transaction(answers: Answers, rows: range) -> Producer:
    """A producer that has sent answers and neither commits nor aborts; keep it, for its end would abort."""
    producer = Producer(
        {
            "bootstrap.servers": answers.server,
            "transactional.id": answers.topic,
            "transaction.timeout.ms": 1_000 if answers.transactional else 60_000,
        }
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for n in rows:
        answers.send(producer, Answer(n))
    assert producer.flush(30) == 0
    return producer


def test_what_an_open_transaction_sent_is_not_landed_nor_awaited(answers: Answers) -> None:
    answers.write(map(Answer, range(1_000)))
    hanging = open_transaction(answers, range(1_000, 2_000))
    answers.write(map(Answer, range(1_000, ROWS)))
    begun = time.monotonic()
    assert answers.land()["landed"] == 1_000
    assert time.monotonic() - begun < 20
    hanging.abort_transaction(30)
    assert answers.land()["landed"] == ROWS - 1_000
    assert answers.written().compare(answers.landed()) == EXACT
    assert answers.explained() == ROWS


def test_the_transaction_of_a_worker_that_died_is_awaited(one: DevStack, tmp_path: Path) -> None:
    answers = Answers(tmp_path / "job", one.bootstrap(), "awaited", ROWS, transactional=True)
    hanging = open_transaction(answers, range(1_000))
    answers.write(map(Answer, range(ROWS)))
    summary = answers.land()
    assert (summary["landed"], summary["open"]) == (ROWS, 0)
    assert answers.written().compare(answers.landed()) == EXACT
    assert answers.explained() == ROWS
    del hanging


def test_a_topic_that_was_made_again_is_refused(answers: Answers) -> None:
    answers.write(map(Answer, range(100)))
    assert answers.land()["landed"] == 100
    admin = AdminClient({"bootstrap.servers": answers.server})
    admin.delete_topics([answers.topic])[answers.topic].result(30)
    assert "egress" in refused(answers)
    eventually(lambda: answers.topic not in admin.list_topics(timeout=10).topics)
    admin.create_topics([NewTopic(answers.topic, PARTITIONS)])[answers.topic].result(30)
    answers.write(map(Answer, range(100, 200)))
    assert "it was recreated, and what was not landed yet is lost" in refused(answers)
    assert sorted(row["n"] for row in answers.landed()) == list(range(100))


def test_answers_that_expired_before_they_landed_are_named(answers: Answers) -> None:
    answers.write(map(Answer, range(1_000)))
    assert answers.land()["landed"] == 1_000
    answers.write(map(Answer, range(1_000, ROWS)))
    admin = AdminClient({"bootstrap.servers": answers.server})
    partition = TopicPartition(answers.topic, 1, 1_000)
    admin.delete_records([partition])[partition].result(30)
    told = refused(answers)
    assert "partition 1" in told and "the log now starts at 1000" in told, told
    assert "expired by the topic's retention" in told
    # What had landed before is there, and the ledger says what is not.
    assert sorted(row["n"] for row in answers.landed()) == list(range(1_000))
    ledger = kappaflow.reconcile(answers.job)
    assert (ledger["landed"], ledger["missing"]) == (1_000, ROWS - 1_000)
    with pytest.raises(kappaflow.UnexplainedError):
        kappaflow.check_ledger(ledger)
    assert pq.read_table(ledger["missing_file"]).num_rows == ROWS - 1_000
