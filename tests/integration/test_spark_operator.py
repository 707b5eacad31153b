"""SparkKafkaIngressOperator and SparkKafkaEgressOperator with a real `spark-submit`, in tasks of a real DAG."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.answers import Answers, family
from tests.integration.spark_case import SETTINGS, SPARK_ENV, Case

pytest.importorskip("pyspark")
pytest.importorskip("airflow.providers.apache.spark")
pytestmark = pytest.mark.integration

DAG = """
import json, os
from airflow.sdk import DAG
from kappaflow_provider.operators.spark_egress import SparkKafkaEgressOperator
from kappaflow_provider.operators.spark_ingress import SparkKafkaIngressOperator

with DAG("spark", schedule=None) as dag:
    given = {"job_file": os.environ["SPARK_JOB"], "conf": json.loads(os.environ["SPARK_CONF"])}
    if os.environ["SPARK_STAGE"] == "publish":
        SparkKafkaIngressOperator(task_id="stage", lease_ms=5_000, **given)
    else:
        SparkKafkaEgressOperator(task_id="stage", region="east", **given)
"""
# In a process of its own: Airflow reads its environment when it is imported.
RUN = """
import json
import spark_dag
run = spark_dag.dag.test(logical_date=None)
task, = run.get_task_instances()
print(json.dumps({"state": str(task.state), "total": task.xcom_pull(task_ids="stage")}))
"""


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Runs a stage's operator on the job beside it; gives the task's state, its XCom, and what was logged."""
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "spark_dag.py").write_text(DAG)
    env = (
        os.environ
        | SPARK_ENV
        | {
            "AIRFLOW_HOME": str(tmp_path / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'airflow.db'}?timeout=60",
            "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2,4]"}),
            "PYTHONPATH": os.pathsep.join([str(dags), os.environ.get("PYTHONPATH", "")]),
            "SPARK_CONF": json.dumps(SETTINGS),
            "SPARK_JOB": str(tmp_path / "job.toml"),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
    )

    def python(*words: str, stage: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *words]
        around = env | {"SPARK_STAGE": stage}
        return subprocess.run(command, env=around, capture_output=True, text=True, timeout=400, check=False)

    migrated = python("-m", "airflow", "db", "migrate")
    assert migrated.returncode == 0, migrated.stderr

    def of(stage: str) -> tuple[dict[str, Any], str]:
        done = python("-c", RUN, stage=stage)
        assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-5_000:]
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result, done.stdout + done.stderr

    return of


def test_the_total_is_the_tasks_xcom(tmp_path: Path, regions: dict[str, str], run: Any) -> None:
    case = Case(tmp_path, regions["east"]).make(bad=(7,))
    result, log = run("publish")
    assert "success" in result["state"], log[-6_000:]
    total = result["total"]
    assert (total["rows"], total["acknowledged"], total["rejected"]) == (6_000, 5_999, 1)
    assert "published all child jobs: 6,000 rows = 5,999 acknowledged + 1 rejected" in log
    assert case.once(5_999)
    assert list((tmp_path / ".kappaflow").glob("spark-*.json")) == []


def test_what_the_publish_failed_with_is_what_the_task_fails_with(
    tmp_path: Path, regions: dict[str, str], run: Any
) -> None:
    Case(tmp_path, regions["east"]).make(data=False)
    result, log = run("publish")
    assert "success" not in result["state"]
    assert result["total"] is None
    assert "KappaFlow" in log
    assert f"source {tmp_path / 'data'}" in log
    assert list((tmp_path / ".kappaflow").glob("spark-*.json")) == []


def test_the_summary_of_a_landing_is_the_tasks_xcom(
    tmp_path: Path, regions: dict[str, str], run: Any
) -> None:
    answers = Answers(tmp_path, regions["east"], "spark-land-task", 100)
    answers.write(answer for n in range(100) for answer in family(n, 2))
    result, log = run("land")
    assert "success" in result["state"], log[-6_000:]
    assert (result["total"]["landed"], result["total"]["inputs"]) == (200, 100)
    assert "east: version 1, landed 200, inputs 100" in log
    assert f"the table is {tmp_path / 'landed'}, its version 1" in log
    assert answers.explained() == 100
