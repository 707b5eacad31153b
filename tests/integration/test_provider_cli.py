"""Airflow's own commands know the provider, as in an installation."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow")
pytestmark = pytest.mark.integration


OURS = re.compile("kappaflow|schema_registry")


class Airflow:
    """`airflow …` with a home of its own."""

    def __init__(self, home: Path) -> None:
        database = f"sqlite:///{home / 'airflow.db'}?timeout=60"
        self.env = os.environ | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        }

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "airflow", *words]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def rows(self, *words: str) -> list[dict[str, Any]]:
        """The rows of a listing that are ours; a warning about us fails the test."""
        done = self(*words, "--output", "json")
        said = (done.stdout + done.stderr).splitlines()
        assert not [line for line in said if "warn" in line.lower() and "kappaflow" in line.lower()], said
        listed: list[dict[str, Any]] = json.loads(done.stdout[done.stdout.index("[{") :])
        return [row for row in listed if OURS.search(json.dumps(row))]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    found = [entry.value for entry in entry_points(group="apache_airflow_provider")]
    assert "kappaflow_provider.get_provider_info:get_provider_info" in found, (
        "airflow-provider-kappaflow is not installed: pip install -e airflow_provider"
    )
    return Airflow(tmp_path_factory.mktemp("airflow"))


def test_providers_list(airflow: Airflow) -> None:
    [row] = airflow.rows("providers", "list")
    assert row["package_name"] == "airflow-provider-kappaflow"


def test_providers_hooks(airflow: Airflow) -> None:
    rows = airflow.rows("providers", "hooks")
    assert {row["connection_type"] for row in rows} == {"kappaflow_kafka", "schema_registry"}


def test_providers_widgets(airflow: Airflow) -> None:
    rows = airflow.rows("providers", "widgets")
    fields = {row["connection_parameter_name"] for row in rows}
    assert {"extra__kappaflow_kafka__security_protocol", "extra__kappaflow_kafka__ssl_key_pem"} <= fields


def test_providers_behaviours_and_triggers(airflow: Airflow) -> None:
    assert len(airflow.rows("providers", "behaviours")) == 2
    assert "kappaflow_provider.triggers.egress" in airflow("providers", "triggers").stdout


def test_connections_add_takes_both_types(airflow: Airflow) -> None:
    airflow("db", "migrate")
    extra = json.dumps({"security_protocol": "SASL_SSL", "ssl_key_pem": "PEM-TEXT"})
    kafka = ["--conn-type", "kappaflow_kafka", "--conn-host", "b1:9092,b2:9092", "--conn-login", "u"]
    airflow("connections", "add", "east", *kafka, "--conn-password", "s3cret-word", "--conn-extra", extra)
    registry = ["--conn-type", "schema_registry", "--conn-host", "http://localhost:8081/apis/ccompat/v7"]
    airflow("connections", "add", "registry", *registry)
    rows = airflow.rows("connections", "list")
    assert {row["conn_type"] for row in rows} == {"kappaflow_kafka", "schema_registry"}
