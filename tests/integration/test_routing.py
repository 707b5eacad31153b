"""Where rows go: keys, partitions and times of records, and how fast, as any other client sees it."""

import threading
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import kappaflow

pytestmark = pytest.mark.integration

SCHEMA = """{"type": "record", "name": "Trip", "fields": [
    {"name": "id", "type": "long"}, {"name": "plate", "type": "string"}]}"""


def trips(count: int) -> pa.Table:
    begin = datetime(2013, 1, 1, tzinfo=UTC)
    return pa.table(
        {
            "id": pa.array(range(count), pa.int64()),
            "plate": [f"N{i % 37}" for i in range(count)],
            "at": pa.array([begin + timedelta(seconds=i) for i in range(count)], pa.timestamp("us", "UTC")),
            "to": pa.array([i % 4 for i in range(count)], pa.int8()),
        }
    )


def publish(table: pa.Table, server: str, registry: str, **more: Any) -> tuple[str, dict[str, Any]]:
    topic = f"trips-{uuid.uuid4()}"
    receipt = kappaflow.publish(
        table, topic=topic, schema=SCHEMA, bootstrap_servers=server, registry=registry, **more
    )
    assert receipt["acknowledged"] + receipt["rejected"] == receipt["rows"] == table.num_rows
    return topic, dict(receipt)


def consume(server: str, topic: str, count: int) -> list[Any]:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": server, "group.id": "reader", "enable.auto.commit": False})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    messages: list[Any] = []
    while len(messages) < count:
        more = consumer.consume(count - len(messages), timeout=10)
        assert more, f"{len(messages)} of {count} records came"
        messages.extend(more)
    consumer.close()
    return messages


def test_keys_in_avro_are_read_by_the_stock_deserializer_and_routed_as_its_clients_do(
    regions: dict[str, str], registry_url: str
) -> None:
    from confluent_kafka import Producer
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    table = trips(500).select(["id", "plate"])
    topic, _ = publish(table, regions["east"], registry_url, key=["plate"], key_format="avro", partitions=4)
    # The partition that a stock client with Java's partitioner gives the same bytes.
    producer = Producer({"bootstrap.servers": regions["east"], "partitioner": "murmur2_random"})
    chosen: dict[Any, Any] = {}
    kappaflow.publish(
        table.slice(0, 0),
        topic=f"{topic}-twin",
        schema=SCHEMA,
        bootstrap_servers=regions["east"],
        registry=registry_url,
        partitions=4,
    )
    messages = consume(regions["east"], topic, 500)
    for key in {message.key() for message in messages}:
        producer.produce(
            f"{topic}-twin", key=key, on_delivery=lambda _, m: chosen.__setitem__(m.key(), m.partition())
        )
    producer.flush(30)
    assert len(chosen) == 37
    with SchemaRegistryClient({"url": registry_url}) as client:
        assert client.get_latest_version(f"{topic}-key").schema.schema_str == '"string"'
        key_of, value_of = AvroDeserializer(client), AvroDeserializer(client)
        for message in messages:
            key = key_of(message.key(), SerializationContext(topic, MessageField.KEY))
            value = value_of(message.value(), SerializationContext(topic, MessageField.VALUE))
            assert value is not None
            assert key == value["plate"]
            assert message.partition() == chosen[message.key()]


def test_partitions_and_times_of_records_are_those_of_their_columns(
    regions: dict[str, str], tmp_path: Path
) -> None:
    table = trips(200)
    topic, receipt = publish(
        table,
        regions["east"],
        f"dir:{tmp_path}",
        partitions=3,
        partition_column="to",
        timestamp_column="at",
    )
    # There is no partition 3.
    assert receipt["rejected"] == 50
    assert {reject["column"] for reject in receipt["rejects"]} == {"to"}
    messages = consume(regions["east"], topic, 150)
    begin = datetime(2013, 1, 1, tzinfo=UTC)
    seconds = set()
    for message in messages:
        at = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
        second = round((at - begin).total_seconds())
        assert message.partition() == second % 4
        seconds.add(second)
    assert seconds == {i for i in range(200) if i % 4 < 3}

    # A topic that forgets old records would forget these at once.
    with pytest.raises(kappaflow.errors.TopicError, match=r"retention\.ms = -1"):
        kappaflow.publish(
            table.slice(0, 1),
            topic=publish(table.slice(0, 0), regions["east"], f"dir:{tmp_path}", extra="ignore")[0],
            schema=SCHEMA,
            bootstrap_servers=regions["east"],
            registry=f"dir:{tmp_path}",
            timestamp_column="at",
            extra="ignore",
        )


def test_the_publisher_waits_for_the_service(regions: dict[str, str], tmp_path: Path) -> None:
    from confluent_kafka import Consumer, TopicPartition

    server, group, count = regions["east"], f"slow-{uuid.uuid4()}", 3_000
    table = trips(count).select(["id", "plate"])
    topic, _ = publish(table.slice(0, 0), server, f"dir:{tmp_path}", partitions=1)
    common: dict[str, Any] = {
        "topic": topic,
        "schema": SCHEMA,
        "bootstrap_servers": server,
        "registry": f"dir:{tmp_path}",
    }

    consumer = Consumer({"bootstrap.servers": server, "group.id": group, "enable.auto.commit": False})
    consumer.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
    # Nobody is there: what fits is sent, then it ends with its name.
    with pytest.raises(kappaflow.errors.NoConsumerError, match=f"200 records wait for group {group}"):
        kappaflow.publish(table, **common, max_lag_records=200, group=group, consumer_timeout_ms=1_000)

    consumer.subscribe([topic])
    ahead = []
    done = threading.Event()

    def work() -> None:
        taken = 0
        while taken < 200 + count and not done.is_set():
            messages = consumer.consume(250, timeout=1)
            taken += len(messages)
            if messages:
                # What is there before this is committed was let in by the commit before it.
                _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), cached=False)
                ahead.append(end - (taken - len(messages)))
                consumer.commit(asynchronous=False)
        consumer.close()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        receipt = kappaflow.publish(table, **common, max_lag_records=200, group=group)
    finally:
        worker.join(30)
        done.set()
    assert receipt["acknowledged"] == count
    assert receipt["limit"] == "pacing"
    assert len(ahead) > 5
    assert max(ahead) <= 200


def test_the_rate_is_capped_and_told(regions: dict[str, str], tmp_path: Path) -> None:
    table = trips(1_500).select(["id", "plate"])
    _, receipt = publish(table, regions["east"], f"dir:{tmp_path}", max_rows_per_s=1_000)
    assert receipt["limit"] == "pacing"
    assert receipt["waited"]["pacing_s"] > 1.0
    assert receipt["bytes"] > 1_500 * 7
