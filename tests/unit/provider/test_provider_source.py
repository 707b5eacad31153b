"""The database of a source as a connection of Airflow: where the stages find it, and for how long."""

import os
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, Connection

from kappaflow_provider.hooks import source
from kappaflow_provider.hooks.source import KappaFlowSourceHook
from kappaflow_provider.operators.split import SplitJobOperator

Json = dict[str, Any]


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(source, "mask_secret", seen.append)
    return seen


def connected(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> KappaFlowSourceHook:
    connection = Connection(conn_id="the-warehouse", **fields)
    monkeypatch.setattr(KappaFlowSourceHook, "get_connection", classmethod(lambda *_: connection))
    return KappaFlowSourceHook("the-warehouse")


def test_a_connection_becomes_what_the_driver_takes(
    monkeypatch: pytest.MonkeyPatch, masked: list[str]
) -> None:
    server = {"host": "db", "port": 5433, "schema": "flights", "login": "me", "password": "s3cret@/"}
    hook = connected(monkeypatch, conn_type="postgres", **server)
    assert hook.get_conn() == "postgresql://me:s3cret%40%2F@db:5433/flights"
    assert masked == ["s3cret@/"]
    assert connected(monkeypatch, conn_type="duckdb", host="/data/w.duckdb").get_conn() == "/data/w.duckdb"
    with pytest.raises(AirflowException, match="the-warehouse: its type is mysql"):
        connected(monkeypatch, conn_type="mysql").get_conn()


def test_the_job_finds_it_during_the_call_only(
    monkeypatch: pytest.MonkeyPatch, masked: list[str], stage: Any, context: Json, job_file: str
) -> None:
    connected(monkeypatch, conn_type="postgres", host="db", login="me", password="s3cret-p")
    with Path(job_file).open("a") as file:
        file.write('db = { type = "string" }\n[source]\nformat = "sql"\nconnection = "conn:${db}"\n')
    seen: list[str] = []

    def plan(*_: Any, **__: Any) -> Json:
        seen.append(os.environ["KAPPAFLOW_CONN_THE_WAREHOUSE"])
        return {"job": "j", "name": "n", "rows": 1, "files": 1, "splits": 1, "children": []}

    stage("plan", plan)
    operator = SplitJobOperator(task_id="t", job_file=job_file, job_params={"db": "the-warehouse"})
    result = operator.execute(context)
    assert seen == ["postgresql://me:s3cret-p@db"]
    assert "KAPPAFLOW_CONN_THE_WAREHOUSE" not in os.environ
    assert "s3cret-p" not in str(result) + str(context["ti"].xcoms)
