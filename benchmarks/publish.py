"""Publishing to a real Kafka: ours beside confluent-kafka's producer with its AvroSerializer, on the same flights.

Both write the same schema with registry framing and a 17-byte identity header, idempotent, acks=all, lz4, to 12
partitions; both topics are then read back and compared, value by value. `--rows` cuts the work.
"""

import argparse
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

import kappaflow
from harness import FLIGHTS, finish, flights, kafka, measured, say

PARTITIONS = 12
SCHEMA = (FLIGHTS / "flight.avsc").read_text()


def ours(table: pa.Table, bootstrap: str, base: Path) -> int:
    receipt = kappaflow.publish(
        table,
        topic="ours",
        schema=SCHEMA,
        bootstrap_servers=bootstrap,
        registry=f"dir:{base / 'registry'}",
        partitions=PARTITIONS,
        fields={"time_hour": {"zone": "UTC"}},
    )
    return int(receipt["acknowledged"])


def strict(row: dict[str, Any]) -> dict[str, Any]:
    """A warehouse row as the schema wants it: what a user of the stock client has to write."""
    for name, value in row.items():
        if isinstance(value, float):
            row[name] = int(value)
    row["time_hour"] = datetime.fromisoformat(row["time_hour"])
    return row


def confluent(table: pa.Table, bootstrap: str, serializer: AvroSerializer) -> int:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    acknowledged = 0

    def delivered(error: Any, _message: Any) -> None:
        nonlocal acknowledged
        if error is None:
            acknowledged += 1

    context = SerializationContext("confluent", MessageField.VALUE)
    for seq, row in enumerate(row for batch in table.to_batches(10_000) for row in batch.to_pylist()):
        value = serializer(strict(row), context)
        header: list[tuple[str, str | bytes | None]] = [("kf-id", seq.to_bytes(17, "big"))]
        while True:
            try:
                producer.produce("confluent", value, headers=header, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()
    return acknowledged


def read_back(bootstrap: str, topic: str, decode: AvroDeserializer) -> list[dict[str, Any]]:
    """All values of a topic, in the order of their seq (the last 4 bytes of the header)."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "check", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    open_partitions = PARTITIONS
    records: list[tuple[Any, Any]] = []
    context = SerializationContext(topic, MessageField.VALUE)
    while open_partitions:
        for message in consumer.consume(10_000, 10):
            if message.error():
                open_partitions -= 1
            else:
                headers: Any = message.headers()
                records.append((dict(headers)["kf-id"][-4:], decode(message.value(), context)))
    consumer.close()
    return [record for _, record in sorted(records, key=lambda record: record[0])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=336_776, help="rows of the year (default: all 336,776)")
    table = flights(parser.parse_args().rows)
    with kafka() as (bootstrap, base):
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for future in admin.create_topics([NewTopic("confluent", PARTITIONS, 1)]).values():
            future.result()
        registry = SchemaRegistryClient.new_client({"url": "mock://bench"})
        serializer = AvroSerializer(registry, SCHEMA)
        say("ours")
        our_figures = measured(lambda: ours(table, bootstrap, base))
        say("confluent-kafka + AvroSerializer")
        their_figures = measured(lambda: confluent(table, bootstrap, serializer))
        say("comparing both topics")
        ours_registry = SchemaRegistryClient.new_client({"url": "mock://ours"})
        ours_registry.register_schema("ours-value", Schema(SCHEMA, "AVRO"))
        left = read_back(bootstrap, "ours", AvroDeserializer(ours_registry))
        right = read_back(bootstrap, "confluent", AvroDeserializer(registry))
        expected = [strict(row) for row in table.to_pylist()]
        checked = left == right == expected
        if not checked:
            say(
                f"WRONG: {len(left)} and {len(right)} records against {len(expected)} expected, or values differ"
            )
    code: int = finish(
        "publish",
        our_figures,
        {"confluent-kafka AvroSerializer": their_figures},
        {"confluent-kafka AvroSerializer": round(our_figures["rows_per_s"] / their_figures["rows_per_s"], 2)},
        checked,
        ["confluent-kafka", "pyarrow"],
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
