"""The flights job in a real Airflow: its own components, real Kafkas, workers outside the tasks, one of them killed.

    python airflow_demo.py [--dir DIR] [--rules v1|v2] [--exit-when-done]

Shows progress on stderr, and prints one JSON line on stdout when the job is done. Then the UI stays open until Ctrl-C.
"""

import argparse
import json
import shutil
import signal
import sys
import time
import urllib.error
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import kappaflow
import make_data
from airflow_components import USER, Airflow, Child, Children, ComponentError
from expected import CAUSES, expected
from kappaflow import report
from kappaflow.cli import show
from kappaflow.dev import DevStack

HERE = Path(__file__).resolve().parent
DAG_ID = "flights_delay_cost"
REGIONS = ("east", "west")
MARKER = ".kappaflow-demo"
_TRIES = 3
_TICK_S = 1.0


@dataclass
class Fleet:
    """The workers of the job, one a region, outside Airflow; a dead one is replaced, as a supervisor would."""

    children: Children
    job: Path
    params: dict[str, str]
    workers: dict[str, Child] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    marks: list[report.Mark] = field(default_factory=list)

    def start(self, region: str) -> None:
        """Starts a worker in a region."""
        self.tries[region] = self.tries.get(region, 0) + 1
        params = [f"--param={name}={value}" for name, value in self.params.items()]
        command = [sys.executable, "-m", "kappaflow", "work", str(self.job), "--region", region, *params]
        name = f"worker-{region}-{self.tries[region]}"
        self.workers[region] = self.children.start(name, command, self.job.parent)

    def kill_one(self, region: str) -> None:
        """Ends a worker without warning, as a crash does, and starts another."""
        worker = self.workers[region].process
        worker.kill()
        worker.wait()
        at_ms = time.time_ns() // 1_000_000
        self.marks.append(report.Mark(at_ms, f"kill -9 of the worker in {region}", alarm=True))
        say(f"*** kill -9 {worker.pid}: the worker of {region} is dead; another takes over")
        self.start(region)

    def watch(self) -> None:
        """Notes workers that are done; replaces those that failed, a few times."""
        for region, worker in list(self.workers.items()):
            code = worker.process.poll()
            if code is None or region in self.done:
                continue
            if code == 0:
                self.done.add(region)
                say(f"worker of {region} is done")
            elif self.tries[region] > _TRIES:
                raise ComponentError(f"the worker of {region} ended with {code}:\n{worker.last_lines()}")
            else:
                say(f"the worker of {region} ended with {code}; starting another ({worker.log_file})")
                self.start(region)


@dataclass
class Watcher:
    """Says what changes: tasks by their state, regions by their counts. Kills a worker when the half is done."""

    airflow: Airflow
    run: str
    fleet: Fleet
    kill: bool
    seen: dict[str, str] = field(default_factory=dict)
    samples: list[report.Sample] = field(default_factory=list)
    said_at: float = 0.0

    def until_done(self, timeout_s: float) -> str:
        """Watches until the run has ended; returns its state."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.airflow.watch()
            self.fleet.watch()
            state = str(self.airflow.get(f"dags/{DAG_ID}/dagRuns/{self.run}")["state"])
            self._tasks()
            if state in ("success", "failed"):
                return state
            if time.monotonic() > deadline:
                raise ComponentError(f"the run has not ended after {timeout_s:.0f} s: see {self.airflow.url}")
            time.sleep(_TICK_S)

    def _tasks(self) -> None:
        path = f"dags/{DAG_ID}/dagRuns/{self.run}/taskInstances?limit=200"
        tasks = self.airflow.get(path)["task_instances"]
        for task in tasks:
            index = task.get("rendered_map_index") or (task["map_index"] if task["map_index"] >= 0 else "")
            name = f"{task['task_id']}[{index}]" if index != "" else task["task_id"]
            key = f"{task['task_id']}/{task['map_index']}"
            state = task["state"] or "none"
            if self.seen.get(key) == state:
                continue
            self.seen[key] = state
            if state == "success":
                say(f"{name:<24} {state} in {task['duration'] or 0:.1f} s")
            elif state in ("failed", "up_for_retry", "upstream_failed", "deferred"):
                say(f"{name:<24} {state}")
        if any(task["task_id"] == "dispatch" and task["state"] == "success" for task in tasks):
            self._regions()

    def _regions(self) -> None:
        children = kappaflow.plan(self.fleet.job, params=self.fleet.params)["children"]
        placed = {c["region"]: 0 for c in children if c["region"]}
        for child in children:
            if child["region"]:
                placed[child["region"]] += child["rows"]
        for region in placed:
            if region not in self.fleet.workers:
                say(f"starting the worker of {region}, outside Airflow")
                self.fleet.start(region)
        counts = {r: kappaflow.lag(self.fleet.job, region=r, params=self.fleet.params) for r in placed}
        published, worked, landed = (
            sum(int(c[key]) for c in counts.values()) for key in ("ingress_end", "committed", "landed")
        )
        self.samples.append(report.Sample(time.time_ns() // 1_000_000, published, worked, landed))
        if time.monotonic() - self.said_at >= 5:
            self.said_at = time.monotonic()
            say(f"published {published:,}, worked {worked:,}, landed {landed:,}")
        for region, rows in placed.items():
            if self.kill and region not in self.fleet.done and counts[region]["committed"] >= rows * 0.4:
                self.kill = False
                self.fleet.kill_one(region)


def prepare(directory: Path) -> Path:
    """A fresh directory with the job in it; returns the job file. Only ever empties one of its own."""
    if directory.exists() and any(directory.iterdir()) and not (directory / MARKER).exists():
        raise SystemExit(f"{directory} holds something else: choose another with --dir")
    if directory.exists():
        DevStack(directory / "dev").down()
        shutil.rmtree(directory)
    job = directory / "job"
    job.mkdir(parents=True)
    (directory / MARKER).touch()
    make_data.make(HERE / "data")
    for name in ("job.toml", "flight.avsc", "delay_cost.avsc", "metrics.sql"):
        shutil.copy(HERE / name, job)
    shutil.copytree(HERE / "delay_cost", job / "delay_cost", ignore=shutil.ignore_patterns("__pycache__"))
    (job / "data").symlink_to(HERE / "data")
    dags = directory / "dags"
    dags.mkdir()
    shutil.copy(HERE / "dag.py", dags / f"{DAG_ID}.py")
    return job / "job.toml"


def trigger(airflow: Airflow, conf: dict[str, str], timeout_s: float = 120.0) -> str:
    """Starts a run of the DAG as soon as Airflow knows it; returns its id."""
    deadline = time.monotonic() + timeout_s
    while True:
        airflow.watch()
        try:
            airflow.get(f"dags/{DAG_ID}")
            body = {"logical_date": None, "conf": conf}
            return str(airflow.post(f"dags/{DAG_ID}/dagRuns", body)["dag_run_id"])
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise ComponentError(f"Airflow refused the run: {error.read().decode()}") from error
        if time.monotonic() > deadline:
            broken = airflow.get("importErrors")
            raise ComponentError(
                f"Airflow does not know the DAG after {timeout_s:.0f} s: {json.dumps(broken)}"
            )
        time.sleep(1)


def results(job: Path, params: dict[str, str], watcher: Watcher) -> tuple[dict[str, Any], list[str]]:
    """Shows the ledger and the metrics, writes the report; returns the last line, and what is wrong."""
    ledger = kappaflow.reconcile(job, params=params)
    data = report.collect(job, params=params, ledger=ledger)
    wanted = expected(params["rules"], HERE / "data" / "flights", HERE / "data" / "lookup")
    data.source = {"landed": {"": wanted["landed"]}} | {
        fate: {CAUSES.get(cause, cause): rows for cause, rows in wanted[fate].items()}
        for fate in ("filtered", "dead_lettered", "rejected")
    }
    data.samples, data.marks = watcher.samples, watcher.fleet.marks
    show.ledger(ledger)
    show.metrics(dict(data.metrics))
    page = report.write(job.parent.parent / "report.html", data)
    say(f"report: {page}")
    counts = ("expected", "landed", "filtered", "dead_lettered", "rejected", "missing", "duplicated")
    seconds = {name: round(data.seconds.get(name, 0.0), 2) for name in ("publish", "work", "land", "total")}
    return {"job": data.job, **{key: ledger[key] for key in counts}, "seconds": seconds}, report.problems(
        data
    )


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 1 if a row is unexplained or a part failed."""
    parser = argparse.ArgumentParser(prog="airflow_demo.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dir", type=Path, default=Path(".kappaflow/demo-airflow"), help="default: %(default)s"
    )
    parser.add_argument("--rules", choices=("v1", "v2"), default="v2", help="default: %(default)s")
    parser.add_argument("--no-kill", action="store_true", help="kill no worker")
    parser.add_argument("--timeout", type=float, default=900.0, metavar="S", help="for the run; default: 900")
    parser.add_argument("--exit-when-done", action="store_true", help="don't leave the UI open")
    options = parser.parse_args(arguments)
    try:
        with interruptible():
            return demo(options)
    except (ComponentError, kappaflow.KappaFlowError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def demo(options: argparse.Namespace) -> int:
    """Everything, in order; what was started is stopped whatever happens."""
    directory: Path = options.dir.absolute()
    job = prepare(directory)
    with ExitStack() as started:
        stack = started.enter_context(DevStack(directory / "dev", regions=REGIONS, on_event=say))
        params = {"rules": options.rules, **{region: stack.bootstrap(region) for region in REGIONS}}
        airflow = Airflow(directory / "airflow", directory / "dags")
        started.callback(airflow.children.stop)
        say("starting api-server, dag-processor, scheduler and triggerer")
        airflow.start()
        say(f"Airflow: {airflow.url}  login: {USER}  password: {airflow.password}")
        workers = Children(directory / "workers", airflow.children.env)
        started.callback(workers.stop)
        run = trigger(airflow, {**params, "job_file": str(job), "service_mode": "fleet"})
        say(f"run {run} of DAG {DAG_ID} is under way")
        watcher = Watcher(airflow, run, Fleet(workers, job, params), kill=not options.no_kill)
        state = watcher.until_done(options.timeout)
        if state != "success":
            say(f"the run ended as {state}: see {airflow.url}/dags/{DAG_ID}/runs/{run}")
            code = 1
        else:
            line, wrong = results(job, params, watcher)
            for sentence in wrong:
                say(f"wrong: {sentence}")
            print(json.dumps(line), flush=True)
            code = 1 if wrong else 0
        if not options.exit_when_done:
            stay(airflow)
        return code


def stay(airflow: Airflow) -> None:
    """Leaves the UI open until Ctrl-C."""
    say(f"the UI stays open at {airflow.url} (login {USER}, password {airflow.password}); Ctrl-C stops all")
    try:
        while True:
            airflow.watch()
            time.sleep(1)
    except KeyboardInterrupt:
        say("stopping")


@contextmanager
def interruptible() -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGHUP is KeyboardInterrupt; later ones don't disturb the stopping."""
    came = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        if not came:
            came = True
            raise KeyboardInterrupt
        say("still stopping; please wait")

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_BEGUN = time.monotonic()


def say(text: str) -> None:
    """A line on stderr, with the seconds since the start."""
    print(f"{time.monotonic() - _BEGUN:6.1f}  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
