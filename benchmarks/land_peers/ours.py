"""Ours: a job whose answers are in its topic, landed by `kappaflow land` in a process of its own."""

import json
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Producer

from harness import FLIGHTS, figures
from publish_peers.program import run_command

SPLIT_ROWS = 50_000
PARTITIONS = 12
JOB = """
name = "bench-land"
side_effects = "none"

[params.table]
identity = false

[source]                                 # never published: its answers are there already
path = "rows.parquet"
split_rows = {split_rows}

[schema]
ingress = "row.avsc"
egress = "{egress}"

[topics]
partitions = {partitions}
template = "land-{{role}}"

[service]                                # never called
callable = "nobody:nothing"
version = "1"

[output]
path = "${{table}}"

[[regions]]
name = "bench"
bootstrap_servers = "{bootstrap}"
cap_max = 1000000000
"""
ROW = {"type": "record", "name": "Row", "fields": [{"name": "n", "type": "long"}]}
ID = struct.Struct(">BQIIIII")
"""Of an answer's header: version, job, split, seq, attempt, child, of."""


@dataclass(frozen=True)
class Job:
    """A job of so many rows, placed."""

    home: Path
    rows: int
    bootstrap: str

    topic = "land-egress"

    def place(self) -> int:
        """Writes the files, dispatches, and gives the job's number."""
        self.home.mkdir()
        numbers = pa.table({"n": pa.array(range(self.rows), pa.int64())})
        pq.write_table(numbers, self.home / "rows.parquet", row_group_size=SPLIT_ROWS)
        (self.home / "row.avsc").write_text(json.dumps(ROW))
        (self.home / "job.toml").write_text(
            JOB.format(
                split_rows=SPLIT_ROWS,
                partitions=PARTITIONS,
                egress=FLIGHTS / "flight.avsc",
                bootstrap=self.bootstrap,
            )
        )
        told = subprocess.run(
            [*self._command("dispatch"), "--param", "table=landed"],
            cwd=self.home,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return int(json.loads(told.stdout.splitlines()[-1])["job"], 16)

    def answer(self, number: int, data: list[bytes]) -> None:
        """Answers every row once, with the given Avro data one after the other, again and again."""
        subject = next(self.home.rglob(f"subjects/{self.topic}-value"))
        schema_id = json.loads((subject / "1.json").read_text())["id"]
        frame = struct.pack(">bI", 0, schema_id)
        values = [frame + datum for datum in data]
        attempt = int(time.time())
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 50,
                "batch.size": 1_000_000,
                "queue.buffering.max.messages": 500_000,
            }
        )
        for n in range(self.rows):
            split, seq = divmod(n, SPLIT_ROWS)
            identity = ID.pack(1, number, split, seq, attempt, 0, 1)
            value, partition = values[n % len(values)], n // 1_000 % PARTITIONS
            while True:
                with suppress(BufferError):
                    producer.produce(self.topic, value, partition=partition, headers={"kf-id": identity})
                    break
                producer.poll(0.1)
        if left := producer.flush(120):
            raise RuntimeError(f"{left} answers were not acknowledged")

    def land(self, table: str) -> dict[str, Any]:
        """The figures. Seconds are the summary's: like a peer's, they leave out the interpreter's start."""
        command = [*self._command("land"), "--param", f"table={table}"]
        said, seconds, cpu, peak = run_command(command, self.home)
        told = json.loads(said.splitlines()[-1])
        return {
            **figures(told["landed"], told["seconds"], cpu, peak),
            "process_seconds": round(seconds, 3),
            "files": told["files"],
            "bytes": told["bytes"],
        }

    def files(self, table: str) -> list[str]:
        """The table's, by its newest manifest."""
        newest = max((self.home / table / "_kappaflow").glob("*.json"))
        return [str(self.home / table / file["path"]) for file in json.loads(newest.read_text())["files"]]

    def _command(self, verb: str) -> list[str]:
        return [sys.executable, "-m", "kappaflow", verb, "--quiet", "--json", "job.toml"]
