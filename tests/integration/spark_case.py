"""A job for Spark, a driver of its own for it, and the processes below that."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark

import kappaflow
from kappaflow.dev import ports
from tests.integration.stock import eventually, messages

DRIVER = Path(__file__).with_name("spark_driver.py")
SCHEMA = {
    "type": "record",
    "name": "Row",
    "fields": [{"name": "id", "type": "long"}, {"name": "text", "type": "string"}],
}
JOB = """
name = "{name}"
side_effects = "none"
[source]
path = "data"
split_rows = 1000
[schema]
ingress = "row.avsc"
egress = "row.avsc"
[topics]
partitions = 4
[service]
version = "1"
callable = "m:f"
[output]
path = "landed"
[[regions]]
name = "east"
bootstrap_servers = "{servers}"
cap_max = 100000000
{more}
"""
LOG4J = """
rootLogger.level = info
rootLogger.appenderRef.stdout.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c{1}: %m%n
"""
SPARK_ENV = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
SETTINGS = {
    "spark.ui.showConsoleProgress": "false",
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.task.maxFailures": "4",
}


class Case:
    """A job of `splits` splits of 1,000 rows each; an id with a fraction is rejected."""

    def __init__(self, directory: Path, servers: str) -> None:
        self.dir, self.servers = directory, servers
        self.job = directory / "job.toml"
        self.drivers: list[subprocess.Popen[bytes]] = []

    def make(self, splits: int = 6, bad: tuple[int, ...] = (), more: str = "", data: bool = True) -> "Case":
        (self.dir / "row.avsc").write_text(json.dumps(SCHEMA))
        name = f"spark-{time.time_ns()}"
        self.job.write_text(JOB.format(name=name, servers=self.servers, more=more))
        self.rows = splits * 1_000
        if data:
            (self.dir / "data").mkdir()
            ids = [at + 0.5 if at in bad else float(at) for at in range(self.rows)]
            table = pa.table({"id": ids, "text": [f"row {at}" for at in range(self.rows)]})
            pq.write_table(table, self.dir / "data" / "part-0.parquet", row_group_size=1_000)
        return self

    def identities(self) -> Counter[bytes]:
        """How often each row's identity is in the ingress topic, as a stock client reads it."""
        status = kappaflow.status(self.job)
        topic = f"{status['name']}.{status['job']}.east.ingress"
        found: Counter[bytes] = Counter()
        for message in messages(self.servers, topic):
            found[dict(message.headers() or [])["kf-id"]] += 1
        return found

    def once(self, rows: int | None = None) -> bool:
        found = self.identities()
        assert len(found) == (self.rows if rows is None else rows)
        return set(found.values()) == {1}

    def driver(self, master: str, out: Path, stage: str = "publish", **conf: str) -> subprocess.Popen[bytes]:
        settings = SETTINGS | {name.replace("_", "."): value for name, value in conf.items()}
        words = [f"{name}={value}" for name, value in settings.items()]
        command = [sys.executable, str(DRIVER), stage, master, str(self.job), str(out), *words]
        self.drivers.append(start(command, self.dir / "driver.log"))
        return self.drivers[-1]

    def result(self, process: subprocess.Popen[bytes], out: Path, timeout_s: float = 240) -> dict[str, Any]:
        try:
            process.wait(timeout_s)
        finally:
            end(process.pid)
        assert out.is_file(), (self.dir / "driver.log").read_text()[-6_000:]
        result: dict[str, Any] = json.loads(out.read_text())
        return result

    def begun(self) -> None:
        """Waits until a driver says that rows are acknowledged, and not all are."""

        def some() -> bool:
            said = re.findall(r"^publish (\d+)$", (self.dir / "driver.log").read_text(), re.MULTILINE)
            return bool(said) and int(said[-1]) > 0

        eventually(some, 120)

    def end(self) -> None:
        """Ends drivers that a failed test has left."""
        for driver in self.drivers:
            end(driver.pid)
            driver.wait(20)


class Cluster:
    """A standalone Spark: a master, and two workers that pass for two machines, since speculation wants another one."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "spark.log"
        self.port, ui = ports.choose_free(()), ports.choose_free(())
        self.master = f"spark://127.0.0.1:{self.port}"
        deploy = "org.apache.spark.deploy"
        master = [f"{deploy}.master.Master", "--port", str(self.port), "--webui-port", str(ui)]
        self.processes = [self._start("127.0.0.1", directory, *master)]
        eventually(lambda: "I have been elected leader" in self.log.read_text())
        for host in ("127.0.0.1", "127.0.0.2"):
            worker = [
                f"{deploy}.worker.Worker",
                "-c",
                "2",
                "-m",
                "2g",
                "-d",
                str(directory / host),
                self.master,
            ]
            self.processes.append(self._start(host, directory, *worker))
        eventually(lambda: self.log.read_text().count("Registering worker") == 2)

    def _start(self, host: str, directory: Path, main: str, *words: str) -> subprocess.Popen[bytes]:
        program = Path(pyspark.__file__).parent / "bin" / "spark-class"
        log4j = directory / "log4j2.properties"
        log4j.write_text(LOG4J)
        more = {
            "SPARK_LOCAL_IP": host,
            "SPARK_DAEMON_JAVA_OPTS": f"-Dlog4j2.configurationFile={log4j.as_uri()}",
        }
        return start([str(program), main, "--host", host, *words], self.log, more)

    def executors(self, word: str) -> list[int]:
        return [pid for process in self.processes for pid in processes(process.pid, word)]

    def python_workers(self) -> list[int]:
        """The processes in which tasks run: each is forked by a daemon of its executor."""
        return [pid for pid in self.executors("pyspark.daemon") if not children(pid)]

    def stop(self) -> None:
        for pid in self.executors("pyspark.daemon") + self.executors("CoarseGrainedExecutorBackend"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            end(process.pid)
            process.wait(20)


def start(
    command: list[str], log: Path, more: Mapping[str, str] = MappingProxyType({})
) -> subprocess.Popen[bytes]:
    """In a group of its own, so that all of it can be ended."""
    with log.open("ab") as out:
        env = os.environ | SPARK_ENV | more
        return subprocess.Popen(command, env=env, stdout=out, stderr=out, start_new_session=True)


def end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def processes(group: int, word: str) -> list[int]:
    """The processes of a driver's group, or below it, whose command has a word."""
    listed = subprocess.run(
        ["ps", "-axwwo", "pid=,pgid=,ppid=,command="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 3) for line in listed.stdout.splitlines()]
    below = {group}
    for _ in range(6):
        below |= {int(pid) for pid, pgid, ppid, _ in rows if int(ppid) in below or int(pgid) == group}
    return [int(pid) for pid, _, _, command in rows if int(pid) in below and word in command]


def children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return [child for child, parent in pairs if parent == pid]
