"""A job that is published while things die around it, and what a stock client finds of it afterwards."""

import json
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Consumer, KafkaError, TopicPartition

from kappaflow.dev import DevStack
from tests.integration.stock import messages

ROWS = 60_000
SCHEMA = """{"type": "record", "name": "Row", "fields": [
    {"name": "id", "type": "long"}, {"name": "text", "type": "string"}]}"""


@dataclass(frozen=True)
class Case:
    """A job of 60,000 rows in 12 splits, sent at 10,000 rows a second so that there is time to break something."""

    dir: Path
    server: str
    name: str
    bad: frozenset[int] = frozenset()
    """Rows without the id that the schema needs."""

    def command(self, stage: str) -> list[str]:
        return [sys.executable, "-m", "kappaflow", stage, str(self.dir / "job.toml"), "--json", "--quiet"]

    def run(self, stage: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(stage), capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def ok(self, stage: str) -> dict[str, Any]:
        done = self.run(stage)
        assert done.returncode == 0, done.stderr
        summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return summary

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command("publish"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def edit(self, old: str, new: str) -> None:
        text = (self.dir / "job.toml").read_text()
        assert old in text
        (self.dir / "job.toml").write_text(text.replace(old, new))

    def ingress(self) -> Counter[int]:
        """How often each row's id is in the topic, by a stock client."""
        options = {"bootstrap.servers": self.server, "group.id": "reader", "enable.partition.eof": True}
        consumer = Consumer(options)
        topic = f"{self.name}.ingress"
        left = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, p, 0) for p in left])
        ids: Counter[int] = Counter()
        while left:
            messages = consumer.consume(10_000, timeout=10)
            assert messages, f"partitions {left} did not come to their end"
            for message in messages:
                if message.error() is None:
                    ids[_id(message.value() or b"")] += 1
                else:
                    assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                    left.discard(message.partition())
        consumer.close()
        return ids

    def exact(self, receipt: dict[str, Any], doubled: int = 0) -> None:
        """Every row is there; more than once only as often as was told."""
        bad, good = len(self.bad), ROWS - len(self.bad)
        assert (receipt["rows"], receipt["acknowledged"], receipt["rejected"]) == (ROWS, good, bad)
        ids = self.ingress()
        assert set(ids) == set(range(ROWS)) - self.bad
        assert ids.total() - good == doubled

    def kept_rejects(self) -> list[int]:
        """The rows whose rejects are kept beside the job."""
        files = sorted(self.dir.glob(".kappaflow/*/rejects/*.parquet"))
        return sorted(row for file in files for row in pq.read_table(file)["row_in_file"].to_pylist())

    def dead_letters(self) -> int:
        """Records of the dead-letter topic."""
        return sum(1 for _ in messages(self.server, f"{self.name}.deadletter"))


def _id(message: bytes) -> int:
    value = shift = 0
    for byte in message[5:]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return (value >> 1) ^ -(value & 1)


def make(
    directory: Path,
    server: str,
    name: str,
    *,
    replication: int = 1,
    kafka: str = "",
    width: int = 1,
    bad: Collection[int] = (),
) -> Case:
    """The job in a directory of its own. `width`: characters of the texts; bad rows have 8,000 random ones."""
    directory.mkdir()
    (directory / "in.avsc").write_text(SCHEMA)
    (directory / "out.avsc").write_text(SCHEMA.replace('"Row"', '"Answer"'))
    bad = frozenset(bad)
    text = [secrets.token_hex(4_000) if i in bad else f"row {i}".ljust(width) for i in range(ROWS)]
    table = pa.table({"id": [None if i in bad else i for i in range(ROWS)], "text": text})
    (directory / "data").mkdir()
    pq.write_table(table, directory / "data" / "rows.parquet", row_group_size=5_000)
    (directory / "job.toml").write_text(f"""
name = "{name}"
side_effects = "none"
[source]
path = "data"
split_rows = 5000
[schema]
ingress = "in.avsc"
egress = "out.avsc"
[topics]
template = "{{name}}.{{role}}"
partitions = 4
replication = {replication}
[service]
version = "1"
callable = "module:function"
[output]
path = "landed"
[[regions]]
name = "east"
bootstrap_servers = "{server}"
cap_max = 1000000
{kafka}
[limits]
max_rows_per_s = 10000
broker_timeout_ms = 60000
""")
    return Case(directory, server, name, bad)


def finished(publisher: "subprocess.Popen[str]", timeout_s: float = 120) -> tuple[int, str, str]:
    out, err = publisher.communicate(timeout=timeout_s)
    return publisher.returncode, out, err


def secured(stack: DevStack, directory: Path, options: dict[str, str], name: str) -> Case:
    """The job on a secure listener; what looks at its topics comes by the listener without passwords."""
    server = options["bootstrap.servers"]
    lines = [f'"{k}" = {json.dumps(v)}' for k, v in options.items() if k != "bootstrap.servers"]
    case = make(directory, server, name, kafka="[regions.kafka]\n" + "\n".join(lines))
    case.edit("max_rows_per_s = 10000\nbroker_timeout_ms = 60000", "broker_timeout_ms = 8000")
    return Case(case.dir, stack.bootstrap(), name)
