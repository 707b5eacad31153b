"""The job: its records published, then a worker in a process of its own, by the job file."""

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness import ROOT
from publish_peers.program import run_command
from work_peers.records import EGRESS, INGRESS, TEXT_BYTES
from work_peers.task import Task

JOB = """
name = "bench-{name}"
side_effects = "none"

[source]
path = "source"

[schema]
ingress = "ingress.avsc"
egress = "egress.avsc"

[topics]
partitions = {partitions}
template = "{name}-{{role}}"
{key}
[service]
version = "1"
{service}
[output]
path = "landed"

[[regions]]
name = "bench"
bootstrap_servers = "{bootstrap}"
cap_max = 1000000000
"""
PYTHON = """
callable = "{callable}"
warm_up = "work_peers.service:set_up"
options = {{ work = {work} }}
python_path = ["{path}"]
processes = {processes}
"""
TOGETHER = """
concurrency = {concurrency}
"""
IN_BATCHES = """
batch_records = {batch}
"""
NATIVE = """
native = "wait-{work:.0f}"
concurrency = {concurrency}
batch_records = {batch}
"""
HTTP = """
concurrency = {concurrency}

[service.http]
url = "{url}"
answer = {{ carry = ["id"] }}
"""
BATCH = 5_000
PROCESSES = 2


@dataclass(frozen=True)
class Job:
    """One that was published and waits for its worker."""

    home: Path
    name: str
    native: Path | None = None
    """The program that has its service in it, if it is in Rust."""

    @property
    def ingress(self) -> str:
        return f"{self.name}-ingress"

    @property
    def egress(self) -> str:
        return f"{self.name}-egress"


def keys(rows: int, count: int) -> list[int]:
    """The key of each record, the same ones in every run."""
    return random.Random(count).choices(range(count), k=rows)


def _kappaflow(home: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "kappaflow", *arguments, "--quiet", "job.toml"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"kappaflow {arguments[0]} ended with {done.returncode}: {done.stderr[-2000:]}")


@dataclass(frozen=True)
class Native:
    """A service in Rust."""

    program: Path
    batch: int


def prepare(
    base: Path, name: str, task: Task, *, key_count: int, partitions: int, called: str | Native
) -> Job:
    """A job with its records in its ingress topic; `called`: by module and name, where it is not called by HTTP."""
    home = base / name
    (home / "source").mkdir(parents=True)
    table = pa.table(
        {
            "id": pa.array(range(task.rows), pa.int64()),
            "k": pa.array(keys(task.rows, key_count), pa.int32()),
            "text": pa.array([f"{row:0{TEXT_BYTES}}" for row in range(task.rows)]),
        }
    )
    pq.write_table(table, home / "source" / "items.parquet", row_group_size=100_000)
    (home / "ingress.avsc").write_text(INGRESS)
    (home / "egress.avsc").write_text(EGRESS)
    if task.url:
        service = HTTP.format(url=task.url, concurrency=task.concurrency)
    elif isinstance(called, Native):
        service = NATIVE.format(work=task.work, concurrency=task.concurrency, batch=called.batch)
    else:
        service = PYTHON.format(
            callable=called, work=task.work, path=ROOT / "benchmarks", processes=PROCESSES
        )
        if called.endswith(":wait"):
            service += TOGETHER.format(concurrency=task.concurrency)
        elif called.endswith(":batch"):
            service += IN_BATCHES.format(batch=BATCH)
    (home / "job.toml").write_text(
        JOB.format(
            name=name,
            partitions=partitions,
            key='key = ["k"]\n' if task.by_key else "",
            service=service,
            bootstrap=task.bootstrap,
        )
    )
    _kappaflow(home, "dispatch")
    _kappaflow(home, "publish")
    return Job(home, name, called.program if isinstance(called, Native) else None)


def work(job: Job) -> dict[str, Any]:
    """Runs the worker to its end; what its process took, and what it says itself."""
    command = [sys.executable, "-m", "kappaflow", "work", "--quiet", "--json", "job.toml"]
    if job.native:
        command = [str(job.native), "--json", "--region", "bench", "job.toml"]
    said, seconds, cpu, peak = run_command(command, job.home)
    summary = json.loads(said.splitlines()[-1])
    return {
        "process_seconds": seconds,
        "cpu_s": cpu,
        "peak_rss_mib": peak,
        "read": summary["read"],
        "retried": summary["retried"],
        "dead_lettered": sum(summary["dead_lettered"].values()),
    }
