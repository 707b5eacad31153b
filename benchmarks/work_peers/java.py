"""The peers in Java: compiled once a run, each in a JVM of its own."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from harness import say
from kappaflow.dev.jars import JarSet, class_path
from publish_peers.program import run_command
from work_peers.task import Task

VERSION = "0.5.3.3"
JARS = JarSet(
    f"Confluent Parallel Consumer {VERSION}",
    f"parallel-consumer-{VERSION}",
    (
        f"io.confluent.parallelconsumer:parallel-consumer-core:{VERSION}",
        "org.slf4j:slf4j-simple:1.7.36",
    ),
    "17 MB",
    100 << 20,
)
NAMES = {"raw": "raw", "Parallel Consumer": "parallel"}


class Java:
    """A JDK with the peers' program compiled."""

    def __init__(self, scratch: Path) -> None:
        compiler = shutil.which("javac")
        if compiler is None:
            raise FileNotFoundError("no javac on the PATH: the peers in Java need a JDK, 17 or later")
        self._java = Path(compiler).resolve().with_name("java")
        self._scratch = scratch
        self._classes = scratch / "classes"
        jars = class_path(JARS, say)
        self._path = ":".join(map(str, [self._classes, *jars]))
        source = Path(__file__).with_name("Peer.java")
        subprocess.run(
            [compiler, "--release", "17", "-cp", self._path, "-d", str(self._classes), str(source)],
            check=True,
        )
        told = subprocess.run([str(self._java), "-version"], capture_output=True, text=True, check=True)
        self.version = told.stderr.splitlines()[0]

    def work(self, name: str, task: Task) -> dict[str, Any]:
        command = [
            str(self._java),
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            *("-cp", self._path, "Peer", NAMES[name]),
            *(task.bootstrap, task.ingress, task.egress, str(task.rows), f"{task.work:.0f}"),
            *(str(task.concurrency), "key" if task.by_key else "none", task.url or "-"),
        ]
        _, seconds, cpu, peak = run_command(command, self._scratch)
        return {"process_seconds": seconds, "cpu_s": cpu, "peak_rss_mib": peak}
