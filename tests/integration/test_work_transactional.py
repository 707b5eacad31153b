"""Answers and offsets in one transaction: who reads what is committed sees each answer once, whatever dies."""

import io
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fastavro
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from kappaflow.dev import DevStack
from tests.integration.http_services import EGRESS
from tests.integration.stock import messages
from tests.integration.workers import IN_FLIGHT, OPEN, Workers, replaying

pytestmark = pytest.mark.integration

ROWS = 3_000
TRANSACTIONAL = ("concurrency = 8", "concurrency = 8\ntransactional = true")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """A Kafka of these tests alone."""
    with DevStack(tmp_path_factory.mktemp("dev")) as stack:
        yield stack


@pytest.fixture
def workers(one: DevStack, tmp_path: Path) -> Iterator[Workers]:
    with replaying(tmp_path, one.bootstrap(), ROWS, TRANSACTIONAL) as workers:
        yield workers


def egress(workers: Workers) -> str:
    servers = workers.replay.servers
    name = workers.replay.job.read_text().split('name = "')[1].split('"')[0]
    topics = AdminClient({"bootstrap.servers": servers}).list_topics(timeout=10).topics
    (topic,) = (topic for topic in topics if topic.startswith(f"{name}.") and topic.endswith(".egress"))
    return str(topic)


def answered_once(workers: Workers) -> int:
    """Checks that a stock client reads one answer to each row; how many were called more than once."""
    again = workers.done_twice()
    schema = fastavro.parse_schema(EGRESS)
    answers = Counter(
        fastavro.schemaless_reader(io.BytesIO((message.value() or b"")[5:]), schema, None)["n"]
        for message in messages(workers.replay.servers, egress(workers))
    )
    assert answers == Counter(range(ROWS))
    return again


def written(workers: Workers) -> int:
    """Records and markers of transactions in the egress topic, of those that were given up too."""
    topic = egress(workers)
    consumer = Consumer({"bootstrap.servers": workers.replay.servers, "group.id": "tests"})
    try:
        partitions = consumer.list_topics(topic, 10).topics[topic].partitions
        ends = (consumer.get_watermark_offsets(TopicPartition(topic, number), 10) for number in partitions)
        return sum(high - low for low, high in ends)
    finally:
        consumer.close()


def test_rolling_restarts_do_nothing_twice(workers: Workers) -> None:
    workers.rolled()
    assert answered_once(workers) == 0
    # The offsets are in transactions too: markers are among the records.
    assert written(workers) > ROWS


def test_kill_9_leaves_no_answer_twice(workers: Workers) -> None:
    """Workers that are started again under their names take up at once what the dead ones had open."""
    names = [("--instance-id", f"worker-{number}") for number in range(3)]
    running = [workers.start(*name) for name in names]
    for step in range(1, 4):
        workers.wait_for_calls(step * ROWS // 5)
        dying = step - 1
        running[dying].kill()
        running[dying] = workers.start(*names[dying])
    for worker in running:
        workers.finished(worker)
    assert answered_once(workers) <= 3 * IN_FLIGHT


def test_a_dead_workers_transaction_runs_out(one: DevStack, tmp_path: Path) -> None:
    """Without names the next owner waits until the broker gives the transaction up."""
    soon = ("broker_timeout_ms = 60000", "broker_timeout_ms = 10000")
    with replaying(tmp_path, one.bootstrap(), ROWS, TRANSACTIONAL, soon) as workers:
        running = [workers.start() for _ in range(2)]
        workers.wait_for_calls(ROWS // 3)
        running.pop(0).kill()
        running.append(workers.start())
        for worker in running:
            workers.finished(worker)
        assert answered_once(workers) <= IN_FLIGHT


def test_a_worker_that_stood_still_commits_nothing_of_what_others_have(workers: Workers) -> None:
    workers.stood_still(10)
    assert answered_once(workers) <= IN_FLIGHT


def test_a_worker_whose_transaction_was_given_up_goes_on(one: DevStack, tmp_path: Path) -> None:
    """It stood still until the broker had ended its transaction, and with it its producer.

    Only where it waited for the answer to its commit can it not know what came of it: then it ends, and says so.
    """
    soon = ("broker_timeout_ms = 60000", "broker_timeout_ms = 10000")
    with replaying(tmp_path, one.bootstrap(), ROWS, TRANSACTIONAL, soon) as workers:
        running = [workers.start() for _ in range(2)]
        workers.wait_for_calls(ROWS // 5)
        running[0].send_signal(signal.SIGSTOP)
        time.sleep(25)
        running[0].send_signal(signal.SIGCONT)
        workers.finished(running[1])
        _, err = running[0].communicate(timeout=400)
        assert running[0].returncode == 0 or "whether it was committed is not known here" in err
        assert answered_once(workers) <= IN_FLIGHT


def test_the_groups_new_protocol_too(one: DevStack, tmp_path: Path) -> None:
    new = ("[limits]", '[limits]\ngroup_protocol = "consumer"')
    with replaying(tmp_path, one.bootstrap(), ROWS, TRANSACTIONAL, new) as workers:
        running = [workers.start() for _ in range(2)]
        workers.wait_for_calls(ROWS // 3)
        running.append(workers.start())
        workers.wait_for_calls(ROWS // 2)
        leaving = running.pop(0)
        leaving.send_signal(signal.SIGTERM)
        leaving.communicate(timeout=60)
        for worker in running:
            workers.finished(worker)
        assert answered_once(workers) == 0


def test_a_broker_that_restarts(one: DevStack, workers: Workers) -> None:
    workers.without_broker(one)
    assert answered_once(workers) <= 2 * OPEN
