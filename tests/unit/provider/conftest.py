"""Airflow with a home of its own, and a `kappaflow` whose stages only say that they were called."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# Before Airflow is imported: it makes its home then.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="kappaflow-airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
pytest.importorskip("airflow")

import kappaflow

JOB_FILE = """
name = "j"
[params]
rules = { type = "string", default = "v2" }
east = { type = "string", default = "127.0.0.1:1", identity = false }
"""


@dataclass
class Pushed:
    """What stands for the task instance: keeps the XComs."""

    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


@dataclass
class Calls:
    """Which stages were called, with what."""

    made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)

    def of(self, stage: str) -> list[dict[str, Any]]:
        return [kwargs for name, _, kwargs in self.made if name == stage]


Stage = Callable[..., Calls]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """`stage("publish", result)` puts a fake in place; an exception as result is raised, a list gives one a call."""
    calls = Calls()

    def put(name: str, *results: Any) -> Calls:
        waiting = list(results)

        def fake(*args: Any, **kwargs: Any) -> Any:
            calls.made.append((name, args, kwargs))
            result = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if callable(result) and not isinstance(result, type):
                return result(*args, **kwargs)
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr(kappaflow, name, fake)
        return calls

    return put


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": Pushed()}


@pytest.fixture
def job_file(tmp_path: Path) -> str:
    path = tmp_path / "job.toml"
    path.write_text(JOB_FILE)
    return str(path)
