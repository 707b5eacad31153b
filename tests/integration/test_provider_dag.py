"""The example DAG through real Kafkas: every stage a task, and the same result when it is run again."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Job, JobMaker

pytest.importorskip("airflow")
pytestmark = pytest.mark.integration

FLIGHTS = Path(__file__).resolve().parents[2] / "examples" / "flights"

# In a process of its own: Airflow reads its environment when it is imported.
RUN = """
import json, sys
import flights_delay_cost
conf = json.loads(sys.argv[1])
run = flights_delay_cost.flights_delay_cost().test(logical_date=None, run_conf=conf)
tasks = {f"{ti.task_id} {ti.rendered_map_index or ''}".strip(): str(ti.state) for ti in run.get_task_instances()}
print(json.dumps({"state": str(run.state), "tasks": tasks}))
"""


class Dag:
    """The DAG in an Airflow of its own, run by `dag.test()`: one task after another, workers inline."""

    def __init__(self, home: Path) -> None:
        self._dags = home / "dags"
        self._dags.mkdir(parents=True)
        (self._dags / "flights_delay_cost.py").write_text((FLIGHTS / "dag.py").read_text())
        self._env = os.environ | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=60",
            "PYTHONPATH": os.pathsep.join([str(self._dags), os.environ.get("PYTHONPATH", "")]),
        }
        migrated = self._python("-m", "airflow", "db", "migrate")
        assert migrated.returncode == 0, migrated.stderr

    def run(self, job: Job, **conf: str) -> tuple[dict[str, Any], str]:
        """Runs it; returns the state of the run and of its tasks, and all that was logged."""
        given = {"job_file": str(job.file), **job.params, **conf}
        done = self._python("-c", RUN, json.dumps(given))
        assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-5_000:]
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result, done.stdout + done.stderr

    def _python(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words], env=self._env, capture_output=True, text=True, timeout=400, check=False
        )


@pytest.fixture(scope="module")
def dag(tmp_path_factory: pytest.TempPathFactory) -> Dag:
    return Dag(tmp_path_factory.mktemp("airflow"))


def test_the_dag_explains_every_row_and_may_be_run_again(dag: Dag, make_job: JobMaker) -> None:
    job = make_job(2)
    first, log = dag.run(job)
    assert first["state"] == "success", log[-8_000:]
    assert {"publish 2013-01", "publish 2013-02", "work east", "work west"} <= set(first["tasks"])
    ledger = job.run("reconcile").ok()
    assert ledger["explained"]
    assert ledger["landed"] + ledger["filtered"] + ledger["dead_lettered"] == ledger["expected"] > 50_000

    again, log = dag.run(job)
    assert again["state"] == "success", log[-8_000:]
    assert job.run("reconcile").ok()["landed"] == ledger["landed"]


def test_a_wrong_param_fails_the_first_task_with_its_reason(dag: Dag, make_job: JobMaker) -> None:
    job = make_job(1)
    job.edit('choices = ["v1", "v2"]', 'choices = ["v1"]')
    result, log = dag.run(job)
    assert result["state"] == "failed"
    assert result["tasks"]["split"] == "failed"
    assert result["tasks"]["publish"] == "upstream_failed"
    assert "params.rules" in log
