"""What Airflow reads: valid, importable, and without the extension module."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

from kappaflow_provider.get_provider_info import get_provider_info
from kappaflow_provider.progress import ProgressLog, line

ROOT = Path(__file__).resolve().parents[3]
INFO = get_provider_info()
MODULES = [
    module
    for kind in ("operators", "sensors", "hooks", "triggers")
    for entry in INFO[kind]
    for module in entry["python-modules"]
]


def test_it_is_valid() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


@pytest.mark.parametrize("module", MODULES)
def test_modules_import(module: str) -> None:
    importlib.import_module(module)


def test_no_module_is_forgotten() -> None:
    package = ROOT / "airflow_provider" / "kappaflow_provider"
    files = {
        f"kappaflow_provider.{kind}.{file.stem}"
        for kind in ("operators", "sensors", "hooks", "triggers")
        for file in (package / kind).glob("*.py")
        if file.stem not in ("__init__", "base")
    }
    assert files == set(MODULES)


@pytest.mark.parametrize("entry", INFO["connection-types"], ids=lambda entry: entry["connection-type"])
def test_hooks_are_what_the_connection_types_say(entry: dict[str, Any]) -> None:
    module, _, name = entry["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)
    assert (hook.conn_type, hook.hook_name) == (entry["connection-type"], entry["hook-name"])


def test_secrets_have_password_fields() -> None:
    [kafka] = [e for e in INFO["connection-types"] if e["connection-type"] == "kappaflow_kafka"]
    secret = {name for name, field in kafka["conn-fields"].items() if "format" in field["schema"]}
    assert secret == {"sasl_oauthbearer_client_secret", "ssl_key_password", "ssl_key_pem"}


def test_nothing_imports_the_extension_module_or_starts_a_thread() -> None:
    dag = ROOT / "examples" / "flights" / "dag.py"
    code = f"""
import importlib, runpy, sys, threading
import airflow, airflow.providers.common.compat.sdk
before = threading.active_count()
for module in {["kappaflow_provider.get_provider_info", *MODULES]!r}:
    importlib.import_module(module)
assert "kappaflow" not in sys.modules, "kappaflow was imported"
assert threading.active_count() == before, threading.enumerate()
runpy.run_path({str(dag)!r})
assert "kappaflow" not in sys.modules, "the DAG imported kappaflow"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_progress_is_a_line_every_few_seconds() -> None:
    lines: list[str] = []
    now = [0.0]

    class Log:
        def info(self, event: str, *args: Any) -> None:
            lines.append(event % args)

    gauges: list[tuple[str, float, dict[str, Any]]] = []

    def gauge(stat: str, value: float, *, tags: dict[str, Any]) -> None:
        gauges.append((stat, value, tags))

    progress = ProgressLog(Log(), gauge, every_s=5, clock=lambda: now[0])
    for tick in range(200):
        now[0] = tick / 10
        report = {"stage": "publish", "label": "2013-01", "done": tick, "total": 200, "note": ""}
        progress({**report, "figures": {"rows_per_s": 10.0}})
    tags = {"label": "2013-01"}
    assert gauges[:3] == [
        ("kappaflow.publish.done", 50, tags),
        ("kappaflow.publish.total", 200, tags),
        ("kappaflow.publish.rows_per_s", 10.0, tags),
    ]
    assert len(gauges) == 9
    assert lines == [f"publish 2013-01: {n} of 200 ({n // 2} %)" for n in (50, 100, 150)]
    bare = {"stage": "work", "label": "", "done": 1234, "total": None, "note": "2 waiting"}
    assert line(bare) == "work: 1,234, 2 waiting"
