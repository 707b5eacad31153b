"""Publishing to a real Kafka: a job file beside what others take for the same flights, from the same Parquet.

The year three times, to 12 partitions, acks=all, idempotent, lz4, each record with an identity header where the tool
can write one. The broker is warm: ours and the ready batches go through it once before what is measured. Every topic
that holds the rows is read back by a stock client and compared, value by value; of those that hold ready bytes the
records are counted by offsets. `--rows` cuts the work, `--peers` chooses.
"""

import argparse
import io
import json
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka.schema_registry import SchemaRegistryClient

from harness import FLIGHTS, ROOT, finish, flights, kafka, median, say
from kappaflow.dev.jars import KAFKA_VERSION
from publish_peers import java, ours, program
from publish_peers.confluent import strict
from publish_peers.program import Task
from publish_peers.spark_home import for_spark
from publish_peers.topics import Topics

PARTITIONS = 12
COPIES = 3
SCHEMA = (FLIGHTS / "flight.avsc").read_text()
AIMS = {"spark": 1.8, "arrow-kafka-pyo3": 8.0, "confluent-kafka": 30.0, "ProducerPerformance": 1.0}
"""At least so many times a peer's rows a second."""
AIM_CPU_US, AIM_RSS_MIB = 2.9, 512
PEERS = [*AIMS, "ceiling"]

Row = tuple[Any, ...]


class Run:
    """One run: the Kafka, the rows, and what was found wrong."""

    def __init__(self, task: Task, python: Path, table: pa.Table) -> None:
        self.task, self.python, self.table = task, python, table
        self.topics = Topics(task.bootstrap)
        self.registry = SchemaRegistryClient({"url": task.registry})
        self.wrong: list[str] = []
        self.record_bytes = 0
        given = fastavro.parse_schema(json.loads(SCHEMA))
        self._schemas: dict[int | None, Any] = {None: given}
        self._typed = Counter(tuple(strict(row).values()) for row in self._rows())

    def _rows(self) -> Iterator[dict[str, Any]]:
        for batch in self.table.to_batches(10_000):
            yield from batch.to_pylist()

    # -- the contenders; each takes a task with a topic of its own

    def ours(self, task: Task) -> dict[str, Any]:
        found = ours.publish(task)
        self._compare("ours", ours.topic_of(task), self._typed)
        del found["splits"]
        return found

    def confluent(self, task: Task) -> dict[str, Any]:
        self.topics.create(task.topic, PARTITIONS)
        found = program.run(self.python, "confluent", task)
        self._compare("confluent-kafka", task.topic, self._typed)
        return found

    def arrow_kafka(self, task: Task) -> dict[str, Any]:
        self.topics.create(task.topic, PARTITIONS)
        found = program.run(self.python, "arrow_kafka", task)
        as_they_are = Counter(tuple(row.values()) for row in self._rows())
        self._compare("arrow-kafka-pyo3", task.topic, as_they_are, identities=False)
        return found

    def spark(self, task: Task) -> dict[str, Any]:
        for topic in (task.topic, f"{task.topic}-warm"):
            self.topics.create(topic, PARTITIONS)
        found = program.run(self.python, "spark", task)
        self._compare("spark", task.topic, self._typed, framed=False)
        return found

    def producer_performance(self, task: Task) -> dict[str, Any]:
        self.topics.create(task.topic, PARTITIONS)
        some = self.table.slice(0, 10_000).to_pylist()
        found = java.publish(task, some, self.record_bytes)
        self._count("ProducerPerformance", task.topic, task.rows)
        return found

    def ceiling(self, task: Task) -> dict[str, Any]:
        for codec in ("plain", "lz4"):
            self.topics.create(f"{task.topic}-{codec}", PARTITIONS)
        found = program.run(Path(sys.executable), "ceiling", task)
        for codec, figures in found.items():
            self._count(f"ceiling {codec}", f"{task.topic}-{codec}", figures["rows"])
        return found

    # -- what came of it

    def _count(self, who: str, topic: str, expected: int) -> None:
        if (there := self.topics.count(topic)) != expected:
            self.wrong.append(f"{who}: {there} records in the topic, {expected} expected")

    def _compare(
        self, who: str, topic: str, expected: Counter[Row], *, framed: bool = True, identities: bool = True
    ) -> None:
        """Holds every value of a topic against the source's, and looks that each has an identity of its own."""
        seen: Counter[Row] = Counter()
        ids: set[bytes] = set()
        size = 0
        for headers, value in self.topics.records(topic):
            seen[tuple(self._decoded(value, framed).values())] += 1
            size += len(value)
            for name, identity in headers or ():
                size += len(name) + len(identity) + 2  # their lengths
                ids.add(identity)
        count = seen.total()
        if seen != expected:
            more, less = (seen - expected).total(), (expected - seen).total()
            self.wrong.append(
                f"{who}: {count} values, of which {more} are not the source's; {less} are missing"
            )
        if identities and len(ids) != count:
            self.wrong.append(f"{who}: {len(ids)} identities on {count} records")
        if who == "ours":
            self.record_bytes = round(size / max(count, 1))

    def _decoded(self, value: bytes, framed: bool) -> dict[str, Any]:
        stream = io.BytesIO(value)
        schema_id = None
        if framed:
            magic, schema_id = struct.unpack(">bI", stream.read(5))
            if magic != 0:
                raise ValueError(f"a value that begins with {magic}, not with the framing's 0")
            if schema_id not in self._schemas:
                text = self.registry.get_schema(schema_id).schema_str or ""
                self._schemas[schema_id] = fastavro.parse_schema(json.loads(text))
        record: Any = fastavro.schemaless_reader(stream, self._schemas[schema_id], None)
        if stream.read(1):
            raise ValueError("a value that goes on behind its datum")
        return dict(record)


def write_source(directory: Path, rows: int) -> pa.Table:
    """The year, three times or as far as `rows` goes, as twelve Parquet files; returns it."""
    directory.mkdir()
    table = pa.concat_tables([flights()] * COPIES).slice(0, rows)
    each = -(-table.num_rows // 12)
    for part in range(-(-table.num_rows // each)):
        pq.write_table(
            table.slice(part * each, each), directory / f"part-{part:02}.parquet", row_group_size=50_000
        )
    return table


def aims(ours: dict[str, Any], ratios: dict[str, float]) -> list[dict[str, Any]]:
    """What is aimed at, and what was reached."""
    found: list[dict[str, Any]] = [
        {
            "what": f"times {peer}'s rows/s",
            "at_least": least,
            "reached": ratios[peer],
            "met": ratios[peer] >= least,
        }
        for peer, least in AIMS.items()
        if peer in ratios
    ]
    for figure, most in (("cpu_us_per_row", AIM_CPU_US), ("peak_rss_mib", AIM_RSS_MIB)):
        found.append({"what": figure, "at_most": most, "reached": ours[figure], "met": ours[figure] <= most})
    return found


def measure(
    run: Run, chosen: list[str], rounds: int, spark: tuple[str, tuple[str, ...]] | str
) -> dict[str, Any]:
    """Every contender in every round, one after the other; the medians by name.

    Round 0 is not counted: the first tool to meet a broker just started would pay for its JVM's compiling.
    """
    contenders: dict[str, Callable[[Task], dict[str, Any]]] = {
        "ours": run.ours,
        "spark": run.spark,
        "arrow-kafka-pyo3": run.arrow_kafka,
        "confluent-kafka": run.confluent,
        "ProducerPerformance": run.producer_performance,
        "ceiling": run.ceiling,
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ("ours", *chosen)}
    for number in range(rounds + 1):
        for name in runs if number else ("ours", "ceiling"):
            if name == "spark" and isinstance(spark, str):
                continue
            say(f"round {number} of {rounds}: {name}")
            topic = f"{name.lower()}-{number}"
            home, jars = ("", ()) if isinstance(spark, str) else spark
            task = Task(**{**vars(run.task), "topic": topic, "java": home, "jars": jars})
            found = contenders[name](task)
            if number:
                runs[name].append(found)
            run.topics.delete(topic, *(f"{topic}-{more}" for more in ("ingress", "warm", "plain", "lz4")))
    return {name: median(found) if found else {"skipped": spark} for name, found in runs.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", type=int, default=1_010_328, help="rows to publish (default and most: 1,010,328)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds, of which the medians count (default: 3)"
    )
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, help="which peers (default: all)")
    parser.add_argument(
        "--peers-python",
        type=Path,
        default=ROOT / ".venv-bench" / "bin" / "python",
        help="a Python that has requirements/bench.txt (default: .venv-bench's)",
    )
    options = parser.parse_args()
    if options.rows < 1 or options.rounds < 1:
        parser.error("--rows and --rounds are at least 1")
    if not options.peers_python.exists():
        parser.error(f"{options.peers_python} is not there: `make bench NAME=publish` makes it")
    spark = for_spark(options.peers_python) if "spark" in options.peers else ""
    with kafka() as (stack, base):
        table = write_source(base / "flights", options.rows)
        task = Task(
            source=str(base / "flights"),
            rows=table.num_rows,
            topic="",
            partitions=PARTITIONS,
            bootstrap=stack.bootstrap("bench"),
            registry=stack.registry_url(),
            schema=SCHEMA,
            scratch=str(base),
        )
        run = Run(task, options.peers_python, table)
        found = measure(run, options.peers, options.rounds, spark)
    for what in run.wrong:
        say(f"WRONG: {what}")
    mine = found.pop("ours")
    rates = {peer: figures.get("rows_per_s") for peer, figures in found.items()}
    rates |= {
        f"ceiling {codec}": figures["rows_per_s"] for codec, figures in found.get("ceiling", {}).items()
    }
    ratios = {peer: round(mine["rows_per_s"] / rate, 3) for peer, rate in rates.items() if rate}
    versions = {"kafka": KAFKA_VERSION, **program.versions(options.peers_python)}
    return finish("publish", mine, found, ratios, not run.wrong, ["pyarrow"], versions, aims(mine, ratios))


if __name__ == "__main__":
    sys.exit(main())
