"""Ours: a job file, placed by `kappaflow dispatch`, then `kappaflow publish` in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness import FLIGHTS, figures
from publish_peers.program import Task, run_command

JOB = """
name = "bench"
side_effects = "none"

[source]
path = "{source}"

[schema]
ingress = "ingress.avsc"
egress = "{egress}"
{fields}
[topics]
partitions = {partitions}
template = "{topic}-{{role}}"

[service]                                # never called: the job is only published
callable = "nobody:nothing"
version = "1"

[output]
path = "landed"

[[regions]]
name = "bench"
bootstrap_servers = "{bootstrap}"
registry = "{registry}"
cap_max = 1000000000
"""
FLIGHT_FIELDS = """
[schema.fields.time_hour]
zone = "UTC"
"""


def topic_of(task: Task) -> str:
    """The name that the job's template makes of the task's."""
    return f"{task.topic}-ingress"


def publish(task: Task, fields: str = FLIGHT_FIELDS) -> dict[str, Any]:
    """The figures, and what the receipt says.

    Seconds are the receipt's: like a peer's, they leave out the interpreter's start. CPU and memory are those of
    the whole process.
    """
    home = Path(task.scratch) / task.topic
    home.mkdir()
    (home / "ingress.avsc").write_text(task.schema)
    (home / "job.toml").write_text(
        JOB.format(
            source=task.source,
            egress=FLIGHTS / "delay_cost.avsc",
            fields=fields,
            partitions=task.partitions,
            topic=task.topic,
            bootstrap=task.bootstrap,
            registry=task.registry,
        )
    )
    kappaflow = [sys.executable, "-m", "kappaflow"]
    dispatch = [*kappaflow, "dispatch", "--quiet", "job.toml"]
    subprocess.run(dispatch, cwd=home, check=True, stdout=sys.stderr)
    said, seconds, cpu, peak = run_command([*kappaflow, "publish", "--quiet", "--json", "job.toml"], home)
    receipt = json.loads(said.splitlines()[-1])
    return {
        **figures(receipt["acknowledged"], receipt["seconds"], cpu, peak),
        "process_seconds": round(seconds, 3),
        "rejected": receipt["rejected"],
        "bytes": receipt["bytes"],
        "limit": receipt["limit"],
        "splits": {split["split"]: split["acknowledged"] for split in receipt["splits"]},
    }
