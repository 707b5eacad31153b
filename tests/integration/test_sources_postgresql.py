"""Queries of a real PostgreSQL, kept as Parquet."""

import datetime
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adbc_driver_postgresql import dbapi

from kappaflow.errors import SourceError
from tests.unit.planned import plan, rows

pytestmark = pytest.mark.integration


@pytest.fixture
def planned(tmp_path: Path, postgresql: str) -> Callable[..., dict[str, Any]]:
    (tmp_path / "uri").write_text(postgresql + "\n")

    def of(query: str, **keys: object) -> dict[str, Any]:
        given = {"format": "sql", "driver": "postgresql", "connection": "file:uri", "snapshot_path": "kept"}
        return plan(tmp_path, **{**given, "query": query, **keys})

    return of


def execute(uri: str, *statements: str) -> None:
    with dbapi.connect(uri) as connection:
        for statement in statements:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        connection.commit()


Planned = Callable[..., dict[str, Any]]


def test_a_query_is_run_once_whatever_becomes_of_its_table(postgresql: str, planned: Planned) -> None:
    execute(
        postgresql,
        "CREATE TABLE flights (day date, carrier text, delay int, fee numeric(10,2), at timestamptz, ok boolean)",
        "INSERT INTO flights VALUES ('2013-01-01', 'AA', 1, 1.50, '2013-01-01 05:00+00', true), "
        "('2013-01-02', NULL, NULL, NULL, NULL, NULL)",
    )
    query = "SELECT * FROM flights"
    found = planned(query)
    expected = [
        {
            "day": datetime.date(2013, 1, 1),
            "carrier": "AA",
            "delay": 1,
            "fee": "1.50",
            "at": datetime.datetime(2013, 1, 1, 5, tzinfo=datetime.UTC),
            "ok": True,
        },
        {
            "day": datetime.date(2013, 1, 2),
            "carrier": None,
            "delay": None,
            "fee": None,
            "at": None,
            "ok": None,
        },
    ]
    assert rows(found) == sorted(expected, key=repr)
    execute(postgresql, "DROP TABLE flights")
    assert planned(query) == found
    with pytest.raises(
        SourceError, match=r'the postgresql query of source.query failed.*"flights" does not exist'
    ):
        planned(query, request="1" * 64)


def test_a_type_without_an_arrow_type_is_refused_and_a_cast_helps(planned: Planned) -> None:
    with pytest.raises(SourceError, match=r"column 'ip' of source.query is a PostgreSQL inet.*ip::text"):
        planned("SELECT 1 AS x, '10.0.0.1'::inet AS ip")
    assert rows(planned("SELECT 1 AS x, '10.0.0.1'::inet::text AS ip")) == [{"x": 1, "ip": "10.0.0.1/32"}]


def test_a_wrong_password_is_told_and_not_shown(postgresql: str, planned: Planned, tmp_path: Path) -> None:
    password = postgresql.split(":")[2].partition("@")[0]
    (tmp_path / "wrong").write_text(postgresql.replace(password, "guessed-it"))
    with pytest.raises(SourceError, match="password authentication failed") as caught:
        planned("SELECT 1 AS x", connection="file:wrong")
    assert "guessed-it" not in str(caught.value)
    (tmp_path / "nowhere").write_text(f"postgresql://kf:{password}@127.0.0.1:1/postgres")
    with pytest.raises(SourceError, match=r"the postgresql query of source.query failed") as caught:
        planned("SELECT 1 AS x", connection="file:nowhere")
    assert password not in str(caught.value)


def test_a_connection_of_airflow_is_where_its_tasks_put_it(
    postgresql: str, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match="KAPPAFLOW_CONN_THE_WAREHOUSE"):
        planned("SELECT 1 AS x", connection="conn:the-warehouse")
    monkeypatch.setenv("KAPPAFLOW_CONN_THE_WAREHOUSE", postgresql)
    assert rows(planned("SELECT 2 AS x", connection="conn:the-warehouse")) == [{"x": 2}]


def test_a_query_that_fails_half_way_leaves_nothing_behind(planned: Planned, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="division by zero"):
        planned("SELECT 1 / (999999 - i) AS x FROM generate_series(1, 1000000) t(i)")
    assert list((tmp_path / "kept").iterdir()) == []


def test_memory_is_bounded_whatever_the_result_has(postgresql: str, tmp_path: Path) -> None:
    (tmp_path / "uri").write_text(postgresql)
    # 3 M rows of 300 bytes: 900 MB that never are in memory at once.
    program = f"""
import json, resource, sys
from kappaflow import sources
import pyarrow.parquet, adbc_driver_postgresql.dbapi
spec = dict(format="sql", driver="postgresql", connection="file:uri", snapshot_path="kept", dir={str(tmp_path)!r},
            request="0" * 64, query="SELECT i, repeat(md5(i::text), 9) AS s FROM generate_series(1, 3000000) t(i)")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = json.loads(sources.plan(json.dumps(spec)))
print(sum(file["rows"] for file in found["files"]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    count, more_kib = map(int, done.stdout.split())
    assert count == 3_000_000
    assert more_kib < 500 << 10
