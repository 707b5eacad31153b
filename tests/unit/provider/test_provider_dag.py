"""The example DAG, without a broker."""

import runpy
from pathlib import Path
from typing import Any

import pytest

DAG_FILE = Path(__file__).resolve().parents[3] / "examples" / "flights" / "dag.py"


@pytest.fixture(scope="module")
def dag() -> Any:
    from airflow.providers.common.compat.sdk import DAG

    namespace = runpy.run_path(str(DAG_FILE))
    built = namespace["flights_delay_cost"]()
    assert isinstance(built, DAG)
    return built


def test_its_tasks_are_in_order(dag: Any) -> None:
    order = [task.task_id for task in dag.topological_sort()]
    stages = ["split", "headroom", "dispatch", "publish", "work", "land", "reconcile", "metrics"]
    assert [task for task in order if task in stages] == stages
    assert set(order) == {*stages, "regions", "egress_complete", "lag"}
    # Publishing must not wait for workers.
    assert not dag.get_task("publish").get_flat_relative_ids(upstream=True) & {
        "work",
        "lag",
        "egress_complete",
    }


def test_it_publishes_mapped_over_the_children(dag: Any) -> None:
    from airflow.providers.common.compat.sdk import MappedOperator

    mapped = {task.task_id for task in dag.tasks if isinstance(task, MappedOperator)}
    assert mapped == {"publish", "work", "egress_complete", "lag", "land"}


def test_nothing_in_it_needs_a_logical_date() -> None:
    text = DAG_FILE.read_text()
    for word in ("{{ ds", "data_interval", "{{ logical_date", "execution_date"):
        assert word not in text


def test_it_passes_every_param_of_the_job() -> None:
    import tomllib

    declared = tomllib.loads(DAG_FILE.with_name("job.toml").read_text())["params"]
    assert set(runpy.run_path(str(DAG_FILE))["JOB_PARAMS"]) == set(declared)


def test_the_ui_can_tell_what_it_does(dag: Any) -> None:
    from airflow.providers.common.compat.sdk import MappedOperator

    assert "reconcile" in dag.doc_md
    assert [task.task_id for task in dag.tasks if not task.doc_md] == []
    for task in dag.tasks:
        if isinstance(task, MappedOperator):
            assert task.map_index_template


def test_the_environment_changes_what_a_run_proposes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTS_JOB_FILE", "/there/job.toml")
    monkeypatch.setenv("FLIGHTS_WEST", "west:9092")
    params = runpy.run_path(str(DAG_FILE))["flights_delay_cost"]().params
    assert (params["job_file"], params["east"], params["west"]) == (
        "/there/job.toml",
        "127.0.0.1:19092",
        "west:9092",
    )
