"""Stock clients of Kafka, as a stack's tests use them, and the dev stack's command line."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

TOPIC = "t"


def cli(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kappaflow.dev", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def eventually(condition: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def resolved(options: dict[str, str]) -> dict[str, str]:
    """The options with what their references refer to."""
    return {
        name: Path(value.removeprefix("file:")).read_text() if value.startswith("file:") else value
        for name, value in options.items()
    }


def make_topic(admin: AdminClient, partitions: int = 1, replicas: int = -1) -> None:
    admin.create_topics([NewTopic(TOPIC, partitions, replicas)])[TOPIC].result(20)


def produce(options: dict[str, str], values: list[bytes], timeout_ms: int = 30_000) -> tuple[int, set[str]]:
    """How many were acknowledged, and the names of all errors, of deliveries and of the client."""
    acknowledged, errors = 0, set()

    def delivered(error: object, _message: object) -> None:
        nonlocal acknowledged
        if error is None:
            acknowledged += 1
        else:
            errors.add(error.name())  # type: ignore[attr-defined]

    producer = Producer(
        {
            **options,
            "acks": "all",
            "message.timeout.ms": timeout_ms,
            "error_cb": lambda error: errors.add(error.name()),
            "log_level": 0,
        }
    )
    for value in values:
        producer.produce(TOPIC, value, on_delivery=delivered)
        producer.poll(0)
    assert producer.flush(timeout_ms / 1_000 + 30) == 0
    return acknowledged, errors


def consume(options: dict[str, str], count: int) -> list[bytes]:
    consumer = Consumer({**options, "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.subscribe([TOPIC])
    values: list[bytes] = []
    deadline = time.monotonic() + 60
    try:
        while len(values) < count and time.monotonic() < deadline:
            for message in consumer.consume(count, timeout=0.5):
                if message.error() is None:
                    values.append(message.value() or b"")
    finally:
        consumer.close()
    return values


def messages(bootstrap: str, topic: str) -> Iterator[Message]:
    """Every committed message of a topic, those of a partition in their order."""
    options = {"bootstrap.servers": bootstrap, "group.id": "tests", "enable.auto.commit": False}
    consumer = Consumer({**options, "enable.partition.eof": True})
    try:
        left = set(consumer.list_topics(topic, 10).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in left])
        while left:
            message = consumer.poll(10)
            assert message is not None
            if message.error() is not None:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                left.discard(message.partition())
                continue
            yield message
    finally:
        consumer.close()
