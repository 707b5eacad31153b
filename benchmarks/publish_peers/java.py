"""Java's ProducerPerformance, of the broker's own version: ready bytes, no reading and no encoding."""

import re
from pathlib import Path
from typing import Any

from harness import figures, say
from kappaflow.dev.jars import KAFKA, class_path
from kappaflow.dev.java import find_java
from publish_peers.program import Task, run_command

NOTE = "ready text of the size of our values and headers, picked at random; CPU and memory of the whole JVM"
SETTINGS = {
    "acks": "all",
    "enable.idempotence": "true",
    "compression.type": "lz4",
    "linger.ms": "50",
    "batch.size": "1000000",
    "buffer.memory": "67108864",
}


def payloads(rows: list[dict[str, Any]], size: int) -> str:
    """A line a row, of exactly `size` characters: real values, so that they compress as such."""
    texts = (",".join(map(str, row.values())) for row in rows)
    return "\n".join(text[:size].ljust(size, ".") for text in texts)


def publish(task: Task, rows: list[dict[str, Any]], record_bytes: int) -> dict[str, Any]:
    java = find_java()
    file = Path(task.scratch) / "payloads.txt"
    file.write_text(payloads(rows, record_bytes))
    command = [
        str(java.executable),
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        *("-cp", ":".join(map(str, class_path(KAFKA, say))), "org.apache.kafka.tools.ProducerPerformance"),
        *("--bootstrap-server", task.bootstrap, "--topic", task.topic, "--num-records", str(task.rows)),
        *("--throughput", "-1", "--payload-file", str(file), "--command-property"),
        *(f"{name}={value}" for name, value in SETTINGS.items()),
    ]
    said, _, cpu, peak = run_command(command, Path(task.scratch))
    summary = re.findall(r"(\d+) records sent, ([\d.]+) records/sec", said)[-1]
    rows_sent, rate = int(summary[0]), float(summary[1])
    found = figures(rows_sent, rows_sent / rate, cpu, peak)
    return {**found, "record_bytes": record_bytes, "settings": SETTINGS, "java": java.version, "note": NOTE}
