"""arrow-kafka-pyo3: Arrow tables in, Avro by a schema that it derives itself."""

from typing import Any

import pyarrow.parquet as pq
from arrow_kafka_pyo3 import ArrowKafkaSink

from harness import measured
from publish_peers.program import Task, main

NOTE = (
    "writes by a schema that it derives from the table, as it takes none; without a header, as it has one for all"
    " rows of a call; rows are those enqueued, as it counts no acknowledgements (the topic is checked)"
)


def publish(task: Task) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "max_in_flight": 5,
        "linger_ms": 50,
        "batch_size": 1_000_000,
        "compression_type": "lz4",
        "enable_idempotence": True,
        "acks": "all",
    }

    def work() -> int:
        sink = ArrowKafkaSink(kafka_servers=task.bootstrap, schema_registry_url=task.registry, **settings)
        rows = 0
        for file in task.files():
            rows += sink.consume_arrow(pq.read_table(file, partitioning=None), task.topic)
        sink.flush(timeout_ms=600_000)
        sink.close()
        return rows

    return {**measured(work), "settings": settings, "note": NOTE}


if __name__ == "__main__":
    main(publish)
