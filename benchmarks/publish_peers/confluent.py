"""confluent-kafka's producer with its AvroSerializer: what a user of the stock client writes."""

import json
from datetime import datetime
from typing import Any

import pyarrow.parquet as pq
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from harness import measured
from publish_peers.program import Task, main


def strict(row: dict[str, Any]) -> dict[str, Any]:
    """A warehouse row as the schema wants it."""
    for name, value in row.items():
        if isinstance(value, float):
            row[name] = int(value)
    row["time_hour"] = datetime.fromisoformat(row["time_hour"])
    return row


def publish(task: Task) -> dict[str, Any]:
    serializer = AvroSerializer(
        SchemaRegistryClient({"url": task.registry}), json.dumps(json.loads(task.schema))
    )
    context = SerializationContext(task.topic, MessageField.VALUE)
    settings = {
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 50,
        "batch.size": 1_000_000,
        "compression.type": "lz4",
        "queue.buffering.max.messages": 1_000_000,
    }

    def work() -> int:
        producer = Producer({"bootstrap.servers": task.bootstrap, **settings})
        acknowledged = 0

        def delivered(error: Any, _message: Any) -> None:
            nonlocal acknowledged
            acknowledged += error is None

        seq = 0
        for file in task.files():
            for batch in pq.ParquetFile(file).iter_batches(10_000):
                for row in batch.to_pylist():
                    value = serializer(strict(row), context)
                    header: list[tuple[str, str | bytes | None]] = [("kf-id", seq.to_bytes(17, "big"))]
                    seq += 1
                    while True:
                        try:
                            producer.produce(task.topic, value, headers=header, on_delivery=delivered)
                            break
                        except BufferError:
                            producer.poll(0.1)
                    producer.poll(0)
        producer.flush()
        return acknowledged

    return {**measured(work), "settings": settings}


if __name__ == "__main__":
    main(publish)
