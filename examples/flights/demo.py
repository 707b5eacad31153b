"""The flights job through an Airflow DAG on two real Kafkas, with a worker killed half-way; and proof of every row.

    python demo.py             # `make demo` runs it after set-up

It makes the data, starts a Kafka a region, runs the DAG of dag.py with `dag.test()` on SQLite, and the workers
beside it, so that publishing and working overlap. When half of a region's rows are done it ends one of its workers
with `kill -9` and starts another. Then it checks the ledger against what the source says, by fate and by cause,
prints the metrics, and calls the service over HTTP two ways: a row at a time from many threads, and by KappaFlow.
It writes a report (one HTML page), and stops everything it started.

All that people read goes to stderr. The last line of stdout is one JSON object with the counts and the seconds.
Exit 0; 1 if a row is unexplained or anything failed; 130 if interrupted. Everything is in .kappaflow/demo, made afresh
each time.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import expected
import kappaflow
import make_data
from demo_run import airflow_run, check, two_ways
from demo_run.counts import Counts
from demo_run.place import FLIGHTS, REGIONS, DemoError, Place, fresh
from demo_run.processes import Child, Processes, now_ms
from demo_run.screen import Screen
from kappaflow import report
from kappaflow.cli import show
from kappaflow.dev import DevStack
from kappaflow.report import Mark, ReportData, Span, collect, problems
from kappaflow.types import Summary
from warehouse import DataError

KILLED_REGION = "east"
# The region that loses a worker has two; the other has one.
WORKERS = {"east": 2, "west": 1}
LOOK_EVERY_S = 0.5
LOOK_CLOSELY_EVERY_S = 0.15
MOST_RESTARTS = 5
# Workers end by themselves when their region is done, which is before the DAG lands what they answered.
WORKERS_END_WITHIN_S = 30.0


@dataclass
class Fleet:
    """The workers, and what happened to them."""

    processes: Processes
    place: Place
    params: Mapping[str, str]
    screen: Screen
    workers: dict[str, list[Child]] = field(default_factory=lambda: {region: [] for region in REGIONS})
    marks: list[Mark] = field(default_factory=list)
    killed: str | None = None
    restarts: int = 0

    def start(self, region: str, why: str = "") -> Child:
        """One more worker in a region."""
        name = f"worker {region}-{len(self.workers[region]) + 1}"
        command = [sys.executable, "-m", "kappaflow", "work", str(self.place.job_file), "--region", region]
        command += [f"--param={key}={value}" for key, value in self.params.items()]
        child = self.processes.start(name, command)
        self.workers[region].append(child)
        self.screen.say(f"{name} started (pid {child.process.pid}){why}")
        return child

    def tend(self, counts: Counts) -> None:
        """Starts workers in the regions that have rows, kills one half-way, replaces what died."""
        missing = [region for region in sorted(counts.region_rows) if not self.workers[region]]
        if missing and airflow_run.has_succeeded(self.place, "dispatch"):
            for region in missing:
                for _ in range(WORKERS[region]):
                    self.start(region)
        if self.killed is None and counts.half_way(KILLED_REGION):
            self._kill(counts)
        for region, workers in self.workers.items():
            for worker in list(workers):
                seen = worker.ended_ms
                if worker.code() not in (None, 0) and seen is None and not worker.killed:
                    self._replace(region, worker)

    def _kill(self, counts: Counts) -> None:
        victim = next((w for w in self.workers[KILLED_REGION] if w.code() is None), None)
        if victim is None:
            return
        victim.kill()
        self.killed = victim.name
        rows, done = counts.region_rows[KILLED_REGION], counts.committed[KILLED_REGION]
        self.screen.shout(
            f"kill -9 {victim.process.pid}: {victim.name} is dead, "
            f"{done:,} of {rows:,} rows of region {KILLED_REGION} done"
        )
        self.marks.append(Mark(now_ms(), f"kill -9 of {victim.name}", True))
        replacement = self.start(KILLED_REGION, " in its place")
        self.marks.append(Mark(now_ms(), f"{replacement.name} in its place"))

    def _replace(self, region: str, worker: Child) -> None:
        self.screen.say(f"{worker.name} ended with exit code {worker.code()}:\n{worker.last_lines(8)}")
        self.restarts += 1
        if self.restarts > MOST_RESTARTS:
            raise DemoError(f"workers end again and again; see {worker.log}")
        self.start(region)

    def running(self) -> list[Child]:
        return [w for workers in self.workers.values() for w in workers if w.code() is None]

    def in_words(self) -> str:
        """`east 2, west 1`."""
        alive = {region: sum(w.code() is None for w in ws) for region, ws in self.workers.items()}
        return ", ".join(f"{region} {count}" for region, count in alive.items()) or "none"

    def spans(self) -> list[Span]:
        """A bar a worker, for the timeline."""
        return [
            Span(w.name, region, "work", w.started_ms, w.ended_ms or now_ms())
            for region, workers in self.workers.items()
            for w in workers
        ]


def demo(
    place: Place, processes: Processes, stack: DevStack, screen: Screen, rules: str, timeout_s: float
) -> dict[str, Any]:
    """Runs everything; returns the line for stdout. Raises DemoError, or what the stages raise."""
    begun_ms = now_ms()
    screen.say(make_data.make(FLIGHTS / "data"))
    screen.say("starting a Kafka for each region, and making Airflow's database")
    migrating = airflow_run.migrate(processes, place)
    stack.up()
    params = {"rules": rules, **{region: stack.bootstrap(region) for region in REGIONS}}
    screen.say("Kafka: " + ", ".join(f"{region} {params[region]}" for region in REGIONS))
    if migrating.process.wait():
        raise DemoError(f"airflow db migrate failed:\n{migrating.last_lines()}")
    said = expected.expected(rules, FLIGHTS / "data" / "flights", FLIGHTS / "data" / "lookup")
    screen.say(f"the source holds {said['rows']:,} flights; the DAG {airflow_run.DAG_ID} starts")
    conf = {"job_file": str(place.job_file), "service_mode": "fleet", **params}
    dag = airflow_run.run_dag(processes, place, conf)
    fleet = Fleet(processes, place, params, screen)
    counts = Counts(place.job_file, params, said["rows"])
    _follow(place, dag, fleet, counts, screen, timeout_s)
    screen.say("the DAG run succeeded; checking its ledger against the source")
    data = gather(place, params, said, fleet, counts)
    data.ways = two_ways.compare(place, processes, screen, params)
    data.seconds = {**data.seconds, "total": (now_ms() - begun_ms) / 1_000}
    show_results(data, screen)
    wrong = problems(data)
    if fleet.killed is None:
        wrong.append("no worker was killed: the work was done before it could be")
    written = report.write(place.report, data)
    screen.say(f"report: {written}")
    for problem in wrong:
        screen.shout(problem)
    return last_line(data, fleet, wrong)


def _follow(place: Place, dag: Child, fleet: Fleet, counts: Counts, screen: Screen, timeout_s: float) -> None:
    """Until the DAG has ended and its workers are done. Raises DemoError if the DAG fails, or nothing ends."""
    begun_ms = now_ms()
    with screen:
        while dag.code() is None or (dag.code() == 0 and fleet.running()):
            counts.look()
            fleet.tend(counts)
            screen.show(counts, airflow_run.in_words(airflow_run.tasks(place)), fleet.in_words())
            if now_ms() - begun_ms > timeout_s * 1_000:
                raise DemoError(
                    f"not done after {timeout_s:.0f} s (--timeout-s); the DAG says:\n{dag.last_lines()}"
                )
            if dag.ended_ms is not None and now_ms() - dag.ended_ms > WORKERS_END_WITHIN_S * 1_000:
                names = ", ".join(worker.name for worker in fleet.running())
                raise DemoError(f"the DAG run is done, and {names} still at work: see {place.logs}")
            close = fleet.killed is None and counts.committed.get(KILLED_REGION, 0) > 0
            time.sleep(LOOK_CLOSELY_EVERY_S if close else LOOK_EVERY_S)
        counts.look()
    if dag.code():
        states = "\n".join(
            f"  {task.task} {task.label}: {task.state}"
            for task in airflow_run.tasks(place)
            if task.state != "success"
        )
        raise DemoError(f"the DAG run failed:\n{states}\n{dag.last_lines(40)}\nall of it: {dag.log}")


def gather(
    place: Place, params: Mapping[str, str], said: Mapping[str, Any], fleet: Fleet, counts: Counts
) -> ReportData:
    """What the job's own records say, and what was watched and counted beside them."""
    data = collect(place.job_file, params=params)
    data.source = check.source(said, data.ledger)
    data.checks = check.checks(place.job_file, params, said, data.ledger)
    # From the last moment before the first row: Airflow's start is no throughput.
    first = next((i for i, sample in enumerate(counts.samples) if sample.published), 0)
    data.samples = counts.samples[max(0, first - 1) :]
    data.marks = fleet.marks
    stages = [span for span in data.spans if span.stage in ("publish", "land")]
    others = [
        Span(f"{task.task} {task.label}".strip(), task.label, task.task, task.start_ms, task.end_ms)
        for task in airflow_run.tasks(place)
        if task.task in ("split", "dispatch", "reconcile", "metrics", "publish", "land")
        and task.start_ms is not None
        and task.end_ms is not None
        and not any(span.stage == task.task for span in stages)
    ]
    data.spans = sorted([*stages, *others, *fleet.spans()], key=lambda span: span.start_ms)
    data.seconds = _seconds(data, counts)
    return data


def _seconds(data: ReportData, counts: Counts) -> dict[str, float]:
    """How long each stage took, from its first start to its last end; working ends with the last row committed."""
    found: dict[str, float] = {}
    for stage in ("publish", "work", "land"):
        spans = [span for span in data.spans if span.stage == stage]
        if spans:
            end = max(span.end_ms for span in spans)
            if stage == "work" and counts.samples:
                whole = counts.samples[-1].worked
                end = next(s.at_ms for s in counts.samples if s.worked >= whole)
            found[stage] = round((end - min(span.start_ms for span in spans)) / 1_000, 1)
    return found


def show_results(data: ReportData, screen: Screen) -> None:
    """The ledger, its check against the source, and the metrics, as tables on stderr."""
    show.ledger(data.ledger)
    rows = [
        [report.name(cause.fate), cause.cause, cause.rows, cause.source, "same" if cause.right else "DIFFERS"]
        for cause in report.causes(data)
    ]
    rows += [
        ["", one.what, one.found, one.expected, "same" if one.right else "DIFFERS"] for one in data.checks
    ]
    show.table(
        "the ledger and the table against the source", ["fate", "what", "found", "in the source", ""], rows
    )
    show.metrics(dict(data.metrics))
    taken = ", ".join(f"{stage} {seconds:,.1f} s" for stage, seconds in data.seconds.items())
    screen.say(f"took: {taken}")


def last_line(data: ReportData, fleet: Fleet, wrong: list[str]) -> dict[str, Any]:
    ledger: Summary = data.ledger
    counted = ("expected", "landed", "filtered", "dead_lettered", "rejected", "missing", "duplicated")
    seconds = {
        stage: round(data.seconds.get(stage, 0.0), 1) for stage in ("publish", "work", "land", "total")
    }
    line = {
        "job": data.job,
        **{key: ledger[key] for key in counted},
        "seconds": seconds,
        "done_twice": ledger["done_twice"],
        "killed": fleet.killed,
        "http": [
            {
                "way": way.label,
                "answered": way.answered,
                "errors": way.errors,
                "timeouts": way.timeouts,
                "p99_ms": round(way.p99_ms, 1),
                "rows_per_s": round(way.answered / max(way.seconds, 0.001)),
                "lost": way.lost,
            }
            for way in data.ways
        ],
        "explained": not wrong,
    }
    return {**line, "problems": wrong} if wrong else line


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="demo.py", description="The flights job through Airflow, and proof of it."
    )
    parser.add_argument("--rules", choices=["v1", "v2"], default="v2", help="default: %(default)s")
    parser.add_argument(
        "--dir", type=Path, default=FLIGHTS / ".kappaflow" / "demo", help="default: %(default)s"
    )
    parser.add_argument(
        "--timeout-s", type=float, default=600.0, help="for the DAG run; default: %(default)s"
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    screen = Screen()
    try:
        with fresh(options.dir.absolute(), screen.say) as place:
            stack = DevStack(place.dev, regions=list(REGIONS))
            processes = Processes(place.processes, place.logs)
            try:
                line = demo(place, processes, stack, screen, options.rules, options.timeout_s)
            finally:
                _stop(processes, stack, screen)
    except (DemoError, DataError, kappaflow.KappaFlowError) as error:
        screen.say(f"the demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        screen.say("interrupted; everything that was started is stopped")
        return 130
    print(json.dumps(line), flush=True)
    return 0 if line["explained"] else 1


def _stop(processes: Processes, stack: DevStack, screen: Screen) -> None:
    """Ends everything; a second Ctrl-C does not keep it from that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    screen.say("stopping what was started")
    processes.stop()
    stack.down()


if __name__ == "__main__":
    sys.exit(main())
