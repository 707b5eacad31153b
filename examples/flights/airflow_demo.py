"""The flights job in a real Airflow: its own components, real Kafkas, workers outside the tasks, one of them killed.

    python airflow_demo.py     # `make demo-airflow` runs it after set-up

As demo.py, but the DAG is started by Airflow's REST API and run by its scheduler. What people read goes to stderr; when
the job is done, stdout gets one JSON object with the counts and the seconds. Then the UI stays open until Ctrl-C. Exit
0; 1 if a row is unexplained or anything failed; 130 if interrupted before the job was done. Everything is in
.kappaflow/demo-airflow, made afresh each time.
"""

import argparse
import json
import signal
import sys
import time
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import expected
import kappaflow
import make_data
from airflow_components import USER, Airflow, ComponentError
from demo import Fleet, gather, last_line, show_results
from demo_run import airflow_run
from demo_run.counts import Counts
from demo_run.place import FLIGHTS, REGIONS, DemoError, Place, fresh
from demo_run.processes import Processes, now_ms
from demo_run.screen import Screen
from kappaflow import report
from kappaflow.dev import DevStack
from warehouse import DataError

DAG_ID = airflow_run.DAG_ID
_LOOK_EVERY_S = 1.0
_LOOK_CLOSELY_EVERY_S = 0.15
_REPORTED = ("success", "failed", "up_for_retry", "upstream_failed", "deferred")


@dataclass
class Run:
    """A run of the DAG, as the REST API tells of it."""

    airflow: Airflow
    id: str
    screen: Screen
    seen: dict[tuple[str, int], str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{self.airflow.url}/dags/{DAG_ID}/runs/{self.id}"

    def state(self) -> str:
        """`queued`, `running`, `success` or `failed`."""
        return str(self.airflow.get(f"dags/{DAG_ID}/dagRuns/{self.id}")["state"])

    def tell(self) -> None:
        """Says which tasks have ended since the last call."""
        for task in self.airflow.get(f"dags/{DAG_ID}/dagRuns/{self.id}/taskInstances?limit=200")[
            "task_instances"
        ]:
            key, state = (task["task_id"], task["map_index"]), task["state"] or "none"
            if self.seen.get(key) == state:
                continue
            self.seen[key] = state
            if state in _REPORTED:
                index = task.get("rendered_map_index") or (key[1] if key[1] >= 0 else "")
                took = f" in {task['duration']:.1f} s" if state == "success" and task["duration"] else ""
                self.screen.say(f"  {f'{key[0]} {index}'.strip():<22} {state}{took}")


def trigger(airflow: Airflow, conf: Mapping[str, str], screen: Screen, timeout_s: float = 120.0) -> Run:
    """Starts a run of the DAG as soon as Airflow knows it. Raises ComponentError."""
    deadline = time.monotonic() + timeout_s
    while True:
        airflow.watch()
        try:
            airflow.get(f"dags/{DAG_ID}")
            body = {"logical_date": None, "conf": dict(conf)}
            return Run(airflow, str(airflow.post(f"dags/{DAG_ID}/dagRuns", body)["dag_run_id"]), screen)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise ComponentError(f"Airflow refused the run: {error.read().decode()}") from error
        if time.monotonic() > deadline:
            broken = json.dumps(airflow.get("importErrors"))
            raise ComponentError(f"Airflow does not know the DAG after {timeout_s:.0f} s: {broken}")
        time.sleep(_LOOK_EVERY_S)


def follow(run: Run, fleet: Fleet, counts: Counts, timeout_s: float) -> None:
    """Until the run has ended and its workers are done. Raises DemoError if it fails, or does not end."""
    deadline = time.monotonic() + timeout_s
    told_at = 0.0
    while True:
        counts.look()
        fleet.tend(counts)
        if time.monotonic() - told_at >= _LOOK_EVERY_S:
            told_at = time.monotonic()
            run.airflow.watch()
            run.tell()
            tasks = airflow_run.in_words(airflow_run.tasks(fleet.place))
            run.screen.show(counts, tasks, fleet.in_words())
            state = run.state()
            if state == "failed":
                raise DemoError(f"the DAG run failed: see {run.url}")
            if state == "success" and not fleet.running():
                run.tell()
                return
        if time.monotonic() > deadline:
            raise DemoError(f"not done after {timeout_s:.0f} s (--timeout-s): see {run.url}")
        close = fleet.killed is None and any(counts.committed.values())
        time.sleep(_LOOK_CLOSELY_EVERY_S if close else _LOOK_EVERY_S)


def results(
    place: Place,
    params: Mapping[str, str],
    said: Mapping[str, Any],
    fleet: Fleet,
    counts: Counts,
    took_s: float,
) -> dict[str, Any]:
    """Checks the ledger against the source, shows it and the metrics, writes the report; returns the last line."""
    data = gather(place, params, said, fleet, counts)
    data.seconds = {**data.seconds, "total": took_s}
    show_results(data, fleet.screen)
    fleet.screen.say(f"report: {report.write(place.report, data)}")
    wrong = report.problems(data)
    if fleet.killed is None:
        wrong.append("no worker was killed: the work was done before it could be")
    for problem in wrong:
        fleet.screen.shout(problem)
    return last_line(data, fleet, wrong)


def demo(options: argparse.Namespace, place: Place, screen: Screen, started: ExitStack) -> int:
    """Everything, in order; `started` stops what was started. Returns the exit code."""
    screen.say(make_data.make(FLIGHTS / "data"))
    screen.say("starting a Kafka for each region")
    stack = started.enter_context(DevStack(place.dev, regions=list(REGIONS)))
    params = {"rules": options.rules, **{region: stack.bootstrap(region) for region in REGIONS}}
    processes = Processes(place.processes, place.logs)
    # So that a run that somebody starts in the UI finds the same job and the same brokers.
    proposed = {"FLIGHTS_JOB_FILE": str(place.job_file)}
    proposed |= {f"FLIGHTS_{region.upper()}": params[region] for region in REGIONS}
    airflow = Airflow(processes, place.airflow, place.dags, proposed)
    started.callback(airflow.end_tasks)
    started.callback(processes.stop)
    screen.say("starting Airflow: api-server, dag-processor, scheduler, triggerer")
    airflow.start()
    login = f"{airflow.url}  login: {USER}  password: {airflow.password}"
    screen.say(f"Airflow: {login}")
    said = expected.expected(options.rules, FLIGHTS / "data" / "flights", FLIGHTS / "data" / "lookup")
    conf = {"job_file": str(place.job_file), "service_mode": "fleet", **params}
    run = trigger(airflow, conf, screen)
    screen.say(f"the source holds {said['rows']:,} flights; the run is {run.url}")
    begun_ms = now_ms()
    fleet = Fleet(processes, place, params, screen)
    counts = Counts(place.job_file, params, said["rows"])
    with screen:
        follow(run, fleet, counts, options.timeout_s)
    took_s = (now_ms() - begun_ms) / 1_000
    line = results(place, params, said, fleet, counts, took_s)
    print(json.dumps(line), flush=True)
    if not options.exit_when_done:
        screen.say(f"the UI stays open until Ctrl-C: {login}")
        stay(airflow)
    return 0 if line["explained"] else 1


def stay(airflow: Airflow) -> None:
    """Until Ctrl-C. Raises ComponentError if a component ends."""
    try:
        while True:
            airflow.watch()
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        return


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="airflow_demo.py", description="The flights job in a real Airflow.")
    parser.add_argument("--rules", choices=["v1", "v2"], default="v2", help="default: %(default)s")
    parser.add_argument(
        "--dir", type=Path, default=FLIGHTS / ".kappaflow" / "demo-airflow", help="default: %(default)s"
    )
    parser.add_argument(
        "--timeout-s", type=float, default=900.0, help="for the DAG run; default: %(default)s"
    )
    parser.add_argument("--exit-when-done", action="store_true", help="don't leave the UI open")
    options = parser.parse_args(arguments)
    screen = Screen()
    try:
        with (
            interruptible(screen),
            fresh(options.dir.absolute(), screen.say) as place,
            ExitStack() as started,
        ):
            started.callback(screen.say, "everything that was started is stopped")
            return demo(options, place, screen, started)
    except (DemoError, DataError, kappaflow.KappaFlowError) as error:
        screen.say(f"the demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


@contextmanager
def interruptible(screen: Screen) -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGHUP is KeyboardInterrupt; later ones don't disturb the stopping."""
    came = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        if came:
            screen.say("still stopping; please wait")
            return
        came = True
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
