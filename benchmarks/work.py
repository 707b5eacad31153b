"""The worker beside others that read a topic, work on each record, and answer it to another topic.

Work is waiting for 0, 1, 10 or 100 ms, in the process or in a service called over HTTP, unordered and by 1,000 keys,
with the same number of records at once for everyone; and, in Python, waiting for 5 ms by 100 keys and computing.
Records a second are counted from the first answer to the last by the broker's clock, so that nobody's start counts.
Each run is checked: every record answered once, and the records of a key one after the other. `--only` chooses,
`--seconds` cuts.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from harness import ROOT, finish, kafka, say
from kappaflow.dev.jars import KAFKA_VERSION
from kappaflow.errors import DevStackError
from publish_peers.program import BENCHMARKS, run_command
from publish_peers.topics import Topics
from work_peers import check, java, ours
from work_peers.task import Task

PARTITIONS = 8
MOST_ROWS = 500_000
RATES = {
    "raw": 200_000,
    "Parallel Consumer": 25_000,
    "Pyrallel-Consumer": 3_000,
    "serial": 2_500,
    "ours": 30_000,
    "ours, sync": 100_000,
    "ours, batches": 400_000,
    "ours, native": 200_000,
    "ours, native batches": 1_000_000,
}
"""About what each gives at most, so that runs take about as long; nothing else is made of them."""
HTTP_RATE = 10_000
CALLABLES = {
    "ours": "work_peers.service:wait",
    "ours, sync": "work_peers.service:at_once",
    "ours, batches": "work_peers.batches:batch",
}
NATIVE = {"ours, native": 1, "ours, native batches": ours.BATCH}
"""In Rust, with so many records a call."""
HASHES = 500
"""Of a record, where the work is to compute: as Pyrallel-Consumer's own benchmark has it."""
NOTE = "`ours` waits in async Python, in another process; `ours, native` in Rust, in the worker, as peers in Java do"


@dataclass(frozen=True)
class Case:
    """What is to be done; everyone of `who` does it."""

    name: str
    work: float
    keys: int | None
    who: tuple[str, ...]
    http: bool = False
    cpu: bool = False

    def ceiling(self, concurrency: int) -> float | None:
        """Records a second if nothing but the work took time; by key, no key can be done more than once at a time."""
        if not self.work or self.cpu:
            return None
        return min(concurrency, self.keys or concurrency) / self.work * 1_000


def cases() -> list[Case]:
    """All of them."""
    found = []
    for http in (False, True):
        for keys in (None, 1_000):
            for work in (0, 1, 10, 100):
                who = ["ours", "Parallel Consumer", "Pyrallel-Consumer"]
                if not http:
                    who.insert(1, "ours, native")
                if keys is None:
                    who.insert(1, "raw")
                if not work and not http:
                    who[1:1] = ["ours, sync", "ours, batches", "ours, native batches"]
                name = f"{'http' if http else 'here'} {work} ms {f'{keys} keys' if keys else 'unordered'}"
                found.append(Case(name, work, keys, tuple(who), http))
    everyone = ("ours", "ours, native", "Parallel Consumer", "Pyrallel-Consumer")
    found.append(Case("here 5 ms 100 keys", 5, 100, everyone))
    computing = ("ours", "serial", "Pyrallel-Consumer")
    found.append(Case("cpu unordered", HASHES, None, computing, cpu=True))
    return found


class Run:
    """One run: the Kafka, and what was found wrong."""

    def __init__(self, base: Path, bootstrap: str, options: argparse.Namespace) -> None:
        self.base, self.bootstrap, self.options = base, bootstrap, options
        self.topics = Topics(bootstrap)
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self.java: java.Java | str = self._java()
        self.wrong: list[str] = []
        self._count = 0

    def _java(self) -> java.Java | str:
        try:
            return java.Java(self.base)
        except (FileNotFoundError, DevStackError) as error:
            return str(error)

    def measure(self, case: Case, who: str, url: str) -> dict[str, Any]:
        """One contender at one case, on topics of its own."""
        if isinstance(self.java, str) and who in java.NAMES:
            return {"skipped": self.java}
        if who == "Pyrallel-Consumer" and self.options.pyrallel is None:
            return {"skipped": "Pyrallel-Consumer is not in the peers' Python: it wants 3.12 or later"}
        self._count += 1
        task = Task(
            bootstrap=self.bootstrap,
            ingress="",
            egress="",
            rows=self._rows(case, who),
            work=case.work,
            concurrency=self.options.concurrency,
            by_key=case.keys is not None,
            url=url,
            cpu=case.cpu,
        )
        name = f"work-{self._count}"
        called: str | ours.Native = CALLABLES.get(who, CALLABLES["ours"])
        if case.cpu:
            called = "work_peers.service:compute"
        elif who in NATIVE:
            called = ours.Native(self.options.native, NATIVE[who])
        job = ours.prepare(
            self.base, name, task, key_count=case.keys or 1, partitions=PARTITIONS, called=called
        )
        task = replace(task, ingress=job.ingress, egress=job.egress)
        self._broker_time(task.egress)
        try:
            found = self._work(who, job, task)
            keys = ours.keys(task.rows, case.keys) if case.keys else None
            rate, wrong = check.look(self.topics, task.ingress, task.egress, task.rows, keys)
        finally:
            self.topics.delete(*(f"{name}-{role}" for role in ("ingress", "egress", "deadletter", "verdict")))
        self.wrong += [f"{case.name}: {who}: {what}" for what in wrong]
        rows = {
            "rows": task.rows,
            "rows_per_s": round(rate),
            "cpu_us_per_row": found["cpu_s"] / task.rows * 1e6,
        }
        told = {name: value for name, value in found.items() if name != "cpu_s"}
        return {name: round(value, 2) for name, value in {**rows, **told}.items()}

    def _rows(self, case: Case, who: str) -> int:
        """As many as take about so long."""
        rate = min(RATES[who], case.ceiling(self.options.concurrency) or MOST_ROWS)
        if case.http:
            rate = min(rate, HTTP_RATE)
        if case.cpu:
            rate = min(rate, 2 * RATES["serial"])
        if rate >= RATES["ours"] and not case.work:
            rate = MOST_ROWS / 10
        return max(1_000, min(MOST_ROWS, int(rate * self.options.seconds)))

    def _work(self, who: str, job: ours.Job, task: Task) -> dict[str, Any]:
        if who.startswith("ours"):
            return ours.work(job)
        if not isinstance(self.java, str) and who in java.NAMES:
            return self.java.work(who, task)
        name = {"serial": "serial", "Pyrallel-Consumer": "pyrallel"}[who]
        python = self.options.pyrallel if name == "pyrallel" else sys.executable
        environment = f"PYTHONPATH={BENCHMARKS}"
        command = ["env", environment, str(python), "-m", f"work_peers.{name}", task.text()]
        _, seconds, cpu, peak = run_command(command, self.base)
        return {"process_seconds": seconds, "cpu_s": cpu, "peak_rss_mib": peak}

    def _broker_time(self, topic: str) -> None:
        """Records of this topic get the broker's time, when it has them, and not the client's."""
        entry = ConfigEntry(
            "message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET
        )
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        for future in self.admin.incremental_alter_configs([resource]).values():
            future.result()


@contextmanager
def service(program: Path, case: Case) -> Iterator[str]:
    """The service over HTTP of a case: its URL; empty if it calls none."""
    if not case.http:
        yield ""
        return
    process = subprocess.Popen([str(program), f"{case.work:.0f}"], stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or not (address := process.stdout.readline().strip()):
            raise RuntimeError(f"{program} does not serve")
        yield f"http://{address}/work"
    finally:
        process.terminate()
        process.wait()


def measure(run: Run, chosen: list[Case], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every case with everyone, in every round; the medians by case and name."""
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number in range(1, options.rounds + 1):
        for case in chosen:
            for who in case.who:
                say(f"round {number} of {options.rounds}: {case.name}: {who}")
                try:
                    with service(options.stub, case) as url:
                        found = run.measure(case, who, url)
                except RuntimeError as error:
                    run.wrong.append(f"{case.name}: {who}: {error}")
                    found = {"failed": str(error)}
                say(f"  {found.get('rows_per_s') or found}")
                runs.setdefault((case.name, who), []).append(found)
    medians: dict[str, dict[str, Any]] = {}
    for (case_name, who), several in runs.items():
        medians.setdefault(case_name, {})[who] = median(several)
    for case in chosen:
        if (ceiling := case.ceiling(options.concurrency)) is not None:
            medians[case.name]["ceiling_rows_per_s"] = round(ceiling)
    return medians


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    for run in runs:
        if "rows_per_s" not in run:
            return run
    found = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    if len(runs) > 1:
        found["rows_per_s_of_runs"] = [run["rows_per_s"] for run in runs]
    return found


def aims(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What is aimed at, and what was reached, of what was measured."""

    def rate(case: str, who: str) -> float | None:
        rate: float | None = found.get(case, {}).get(who, {}).get("rows_per_s")
        return rate

    told: list[dict[str, Any]] = []

    def aim(what: str, least: float, reached: float | None, of: float | None = 1.0) -> None:
        if reached and of:
            value = round(reached / of, 3)
            told.append({"what": what, "at_least": least, "reached": value, "met": value >= least})

    for place in ("here", "http"):
        for work in (1, 10):
            case = f"{place} {work} ms 1000 keys"
            peer = rate(case, "Parallel Consumer")
            for who in ("ours", "ours, native"):
                aim(f"{case}: {who}, times Parallel Consumer", 3, rate(case, who), peer)
        for order in ("unordered", "1000 keys"):
            case = f"{place} 100 ms {order}"
            ceiling = found.get(case, {}).get("ceiling_rows_per_s")
            for who in ("ours", "ours, native"):
                aim(f"{case}: {who}, share of the ceiling", 0.9, rate(case, who), ceiling)
    case = "here 0 ms unordered"
    for who in ("ours, batches", "ours, native batches"):
        aim(f"{case}: {who}, share of the raw loop", 0.8, rate(case, who), rate(case, "raw"))
    case = "here 5 ms 100 keys"
    aim(f"{case}: rows/s in async Python", 10_000, rate(case, "ours"))
    aim("cpu: times serial", 1.6, rate("cpu unordered", "ours"), rate("cpu unordered", "serial"))
    return told


def pyrallel_in(python: Path) -> str | None:
    """Its version in that Python's environment."""
    code = "import importlib.metadata as m; print(m.version('pyrallel-consumer'))"
    told = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return told.stdout.strip() if told.returncode == 0 else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [case.name for case in cases()]
    parser.add_argument(
        "--only", nargs="*", metavar="WORDS", help=f"cases with these words, of: {', '.join(names)}"
    )
    parser.add_argument("--who", nargs="*", choices=sorted(RATES), help="contenders (default: all)")
    parser.add_argument(
        "--rounds", type=int, default=1, help="rounds, of which the medians count (default: 1)"
    )
    parser.add_argument("--seconds", type=int, default=10, help="about how long a run takes (default: 10)")
    parser.add_argument(
        "--concurrency", type=int, default=200, help="records worked on at once (default: 200)"
    )
    parser.add_argument(
        "--peers-python",
        type=Path,
        default=ROOT / ".venv-bench-work" / "bin" / "python",
        help="a Python that has requirements/bench-work.txt (default: .venv-bench-work's)",
    )
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument(
        "--stub",
        type=Path,
        default=target / "release" / "examples" / "stub_server",
        help="the service over HTTP, built of rust/worker/examples/stub_server.rs",
    )
    parser.add_argument(
        "--native",
        type=Path,
        default=target / "release" / "examples" / "native_worker",
        help="the worker with services in Rust, built of rust/worker/examples/native_worker.rs",
    )
    options = parser.parse_args()
    if min(options.rounds, options.seconds, options.concurrency) < 1:
        parser.error("--rounds, --seconds and --concurrency are at least 1")
    words = options.only or [""]
    chosen = [case for case in cases() if any(word in case.name for word in words)]
    if options.who:
        chosen = [replace(case, who=tuple(w for w in case.who if w in options.who)) for case in chosen]
    for program, wanted in (
        (options.stub, any(case.http for case in chosen)),
        (options.native, any(who in NATIVE for case in chosen for who in case.who)),
    ):
        if wanted and not program.exists():
            parser.error(f"{program} is not there: `make bench NAME=work` makes it")
    version = pyrallel_in(options.peers_python) if options.peers_python.exists() else None
    options.pyrallel = options.peers_python if version else None
    with kafka(registry=False) as (stack, base):
        run = Run(base, stack.bootstrap("bench"), options)
        found = measure(run, chosen, options)
    for what in run.wrong:
        say(f"WRONG: {what}")
    mine = {case: {who: f for who, f in by.items() if who.startswith("ours")} for case, by in found.items()}
    peers = {case: {who: f for who, f in by.items() if who not in mine[case]} for case, by in found.items()}
    ratios = {
        case: {
            who: round(mine[case]["ours"]["rows_per_s"] / figures["rows_per_s"], 3)
            for who, figures in by.items()
            if isinstance(figures, dict)
            and figures.get("rows_per_s")
            and "rows_per_s" in mine[case].get("ours", {})
        }
        for case, by in peers.items()
    }
    versions = {
        "kafka": KAFKA_VERSION,
        "parallel-consumer": java.VERSION,
        "java": run.java if isinstance(run.java, str) else run.java.version,
        "pyrallel-consumer": version or "none",
        "note": NOTE,
    }
    say(f"concurrency {options.concurrency}")
    return finish("work", mine, peers, ratios, not run.wrong, ["confluent-kafka"], versions, aims(found))


if __name__ == "__main__":
    sys.exit(main())
