"""Airflow on SQLite in the demo's directory: its environment, its database, and how far the DAG's tasks are."""

import json
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .place import FLIGHTS, Place
from .processes import Child, Processes

DAG_ID = "flights_delay_cost"
_DONE = ("success", "skipped")


@dataclass(frozen=True)
class Task:
    """A task instance as Airflow's database has it. Times are milliseconds since the Unix epoch."""

    task: str
    label: str
    state: str
    start_ms: int | None
    end_ms: int | None


def environment(place: Place) -> dict[str, str]:
    """What makes an Airflow of its own of this directory."""
    return {
        "AIRFLOW_HOME": str(place.airflow),
        "AIRFLOW__CORE__DAGS_FOLDER": str(place.dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_database(place)}?timeout=60",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def _database(place: Place) -> Path:
    return place.airflow / "airflow.db"


def migrate(processes: Processes, place: Place) -> Child:
    """Starts `airflow db migrate`."""
    return processes.start(
        "airflow-db", [sys.executable, "-m", "airflow", "db", "migrate"], environment(place)
    )


def run_dag(processes: Processes, place: Place, conf: Mapping[str, str]) -> Child:
    """Starts the DAG by `dag.test()`."""
    runner = Path(__file__).with_name("dag_test.py")
    command = [sys.executable, str(runner), str(FLIGHTS / "dag.py"), DAG_ID, json.dumps(dict(conf))]
    return processes.start("dag", command, environment(place))


def tasks(place: Place) -> list[Task]:
    """The run's tasks in the order of their start; none before there is a run."""
    query = (
        "SELECT task_id, map_index, rendered_map_index, state, start_date, end_date FROM task_instance "
        "WHERE dag_id = ? ORDER BY start_date IS NULL, start_date, task_id, map_index"
    )
    try:
        with closing(sqlite3.connect(f"file:{_database(place)}?mode=ro", uri=True, timeout=0.5)) as db:
            rows = db.execute(query, [DAG_ID]).fetchall()
    except sqlite3.Error:
        return []  # not made yet, or being written: the next look will tell
    return [
        Task(task, str(rendered or (index if index >= 0 else "")), state or "none", _ms(start), _ms(end))
        for task, index, rendered, state, start, end in rows
    ]


def _ms(text: str | None) -> int | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


def has_succeeded(place: Place, task: str) -> bool:
    """Whether a task, with all that it is mapped over, has succeeded."""
    found = [one.state for one in tasks(place) if one.task == task]
    return bool(found) and all(state in _DONE for state in found)


def in_words(found: list[Task]) -> str:
    """`publish 2013-07 (9 of 24 tasks done)`."""
    if not found:
        return "Airflow is starting"
    done = sum(1 for task in found if task.state in _DONE)
    running = next((f"{task.task} {task.label}".strip() for task in found if task.state == "running"), "")
    return f"{running or 'between tasks'} ({done} of {len(found)} tasks done)"
