"""Stages in real tasks of a real Airflow, stopped as Airflow stops tasks: they end soon, and go on exactly."""

import datetime
import fcntl
import time
import urllib.error
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kappaflow.dev import DevStack
from tests.integration.fleet_site import Site, answer, exact
from tests.integration.http_services import Replay, serving
from tests.integration.publishing import ROWS, Case, make
from tests.integration.stock import eventually

pytest.importorskip("airflow")
pytestmark = pytest.mark.integration

DAG = """
import datetime
from airflow.providers.common.compat.sdk import dag
from kappaflow_provider.operators.ingress import KafkaIngressOperator

@dag(dag_id={name!r}, schedule=None, catchup=False)
def made():
    KafkaIngressOperator(task_id="publish", job_file={job!r}, retries=0, execution_timeout={timeout})

made()
"""
FLEET_DAG = """
from airflow.providers.common.compat.sdk import dag
from kappaflow_provider.operators.service import ServiceConsumerOperator

@dag(dag_id="in_fleet", schedule=None, catchup=False)
def made():
    ServiceConsumerOperator(task_id="work", job_file={job!r}, region="east", retries=0)

made()
"""
# Seconds that a stop may take, as the operator promises.
STOP_S = 5.0
EXECUTION_TIMEOUT_S = 8.0


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    with DevStack(tmp_path_factory.mktemp("dev")) as stack:
        yield stack


@pytest.fixture(scope="module")
def cases(kafka: DevStack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """A job for each way to be stopped, so slow that it is under way for a minute."""
    base = tmp_path_factory.mktemp("jobs")
    made = {name: make(base / name, kafka.bootstrap(), name) for name in ("timed_out", "marked_failed")}
    for case in made.values():
        case.edit("max_rows_per_s = 10000", "max_rows_per_s = 1000")
        case.ok("dispatch")
    return made


@pytest.fixture(scope="module")
def site(kafka: DevStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A fleet, for a job that takes it half a minute."""
    with serving(answer) as service:
        site = Site(tmp_path_factory.mktemp("site"), kafka.bootstrap(), service)
        site.job("in-fleet", 4_000)
        site.start()
        yield site
        for process in site.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def airflow(cases: dict[str, Case], site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Airflow's own components, with a DAG for each job."""
    from airflow_components import Airflow
    from demo_run.processes import Processes

    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    dags.mkdir()
    (home / "logs").mkdir()
    for name, case in cases.items():
        timeout = f"datetime.timedelta(seconds={EXECUTION_TIMEOUT_S})" if name == "timed_out" else "None"
        text = DAG.format(name=name, job=str(case.dir / "job.toml"), timeout=timeout)
        (dags / f"{name}.py").write_text(text)
    (dags / "in_fleet.py").write_text(FLEET_DAG.format(job=str(site.base / "in-fleet" / "job.toml")))
    processes = Processes(home / "processes.json", home / "logs")
    # A task asks the server this often whether it should still be running.
    airflow = Airflow(processes, home / "airflow", dags, {"AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1"})
    try:
        airflow.start()
        yield airflow
    finally:
        processes.stop()
        airflow.end_tasks()


class Task:
    """The one task of a run of a DAG."""

    def __init__(self, airflow: Any, dag: str, task: str = "publish") -> None:
        self._airflow = airflow
        eventually(lambda: self._known(dag), within_s=120)
        run = airflow.post(f"dags/{dag}/dagRuns", {"logical_date": None})["dag_run_id"]
        self.path = f"dags/{dag}/dagRuns/{run}/taskInstances/{task}"

    def _known(self, dag: str) -> bool:
        try:
            self._airflow.get(f"dags/{dag}")
        except urllib.error.HTTPError:
            return False
        return True

    def now(self) -> dict[str, Any]:
        self._airflow.watch()
        told: dict[str, Any] = self._airflow.get(self.path)
        return told

    def said(self, event: str) -> float:
        """When the task's log said so, in seconds."""
        lines = self._airflow.get(f"{self.path}/logs/1")["content"]
        times = [line["timestamp"] for line in lines if line["event"] == event]
        assert times, lines
        return datetime.datetime.fromisoformat(times[0]).timestamp()


def published(case: Case) -> int:
    return int(case.ok("status")["acknowledged"])


def is_publishing(case: Case) -> bool:
    """Whether a process has the lock of the child job."""
    [lock] = case.dir.glob(".kappaflow/*/publish-all.lock")
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def waited(until: Callable[[], bool], timeout_s: float) -> float:
    begun = time.monotonic()
    eventually(until, within_s=timeout_s)
    return time.monotonic() - begun


def goes_on(case: Case) -> None:
    """What was done is kept, and the rest is sent by the next try."""
    assert 0 < published(case) < ROWS
    case.edit("max_rows_per_s = 1000", "max_rows_per_s = 1000000")
    case.exact(case.ok("publish"))


def test_an_execution_timeout_stops_the_publish(airflow: Any, cases: dict[str, Case]) -> None:
    case = cases["timed_out"]
    task = Task(airflow, "timed_out")
    eventually(lambda: task.now()["state"] == "failed", within_s=120)
    assert 0 <= task.said("Task failed with exception") - task.said("Process timed out") < STOP_S
    assert not is_publishing(case)
    goes_on(case)


def test_a_task_that_is_marked_failed_stops_publishing(airflow: Any, cases: dict[str, Case]) -> None:
    case = cases["marked_failed"]
    task = Task(airflow, "marked_failed")
    eventually(lambda: task.now()["state"] == "running" and published(case) > 0, within_s=120)
    assert is_publishing(case)
    airflow.patch(task.path, {"new_state": "failed"})
    # A heartbeat tells the task, which then has as long as it promises; the rest is a crowded machine's.
    assert waited(lambda: not is_publishing(case), timeout_s=60) < 2 * STOP_S
    assert task.now()["state"] == "failed"
    goes_on(case)


def test_a_task_that_is_marked_failed_takes_its_job_back_from_the_fleet(airflow: Any, site: Site) -> None:
    replay = Replay(site.base / "in-fleet", site.servers)
    task = Task(airflow, "in_fleet", "work")
    eventually(lambda: task.now()["state"] == "running" and site.called(replay) > 50, within_s=120)
    airflow.patch(task.path, {"new_state": "failed"})
    eventually(lambda: site.of(replay)["state"] == "cancelled", within_s=60)
    assert "by the task work, which was stopped" in site.of(replay)["note"]
    assert site.called(replay) < 4_000
    # The next try goes on.
    Task(airflow, "in_fleet", "work")
    eventually(lambda: site.of(replay)["state"] == "done", within_s=240)
    exact(replay, 4_000)
    assert site.called(replay) == 4_000, "nothing was called twice"
