"""Each source that Python plans, published to a real Kafka, and compared row by row as a stock client decodes it."""

import datetime
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adbc_driver_postgresql import dbapi
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog import load_catalog
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DoubleType

import kappaflow
from kappaflow.errors import SourceError
from tests.integration.stock import messages

pytestmark = pytest.mark.integration

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Flight",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
        {"name": "carrier", "type": ["null", "string"]},
        {"name": "delay", "type": ["null", "double"]},
    ],
}
JOB = """
name = "{name}"
side_effects = "none"
[source]
{source}
[schema]
ingress = "flight.avsc"
egress = "flight.avsc"
extra = "ignore"
[topics]
partitions = 3
replication = 1
[service]
mode = "inline"
version = "1"
callable = "m:f"
[output]
path = "landed"
mode = "append"
[[regions]]
name = "east"
bootstrap_servers = "{servers}"
cap_max = 1000000
"""


def flights(first: int, count: int) -> pa.Table:
    ids = range(first, first + count)
    days = [datetime.date(2013, 1, 1) + datetime.timedelta(days=at % 3) if at % 5 else None for at in ids]
    carriers = [f"C{at % 7}" if at % 11 else None for at in ids]
    delays = [at / 8 if at % 13 else None for at in ids]
    return pa.table({"id": pa.array(ids, pa.int64()), "day": days, "carrier": carriers, "delay": delays})


def as_rows(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.select(["id", "day", "carrier", "delay"]).to_pylist(), key=lambda row: int(row["id"]))


@pytest.fixture
def published(tmp_path: Path, regions: dict[str, str]) -> Callable[[str], list[dict[str, Any]]]:
    """Publishes a job with this source, and decodes what is in its ingress topic, sorted by id."""

    def of(source: str) -> list[dict[str, Any]]:
        (tmp_path / "flight.avsc").write_text(json.dumps(SCHEMA))
        name = tmp_path.name.replace("_", "-")
        job = tmp_path / "job.toml"
        job.write_text(JOB.format(name=name, source=source, servers=regions["east"]))
        planned = kappaflow.plan(job)
        kappaflow.dispatch(job)
        receipt = kappaflow.publish(job)
        assert receipt["rejected"] == 0, receipt["rejects"]
        again = kappaflow.publish(job)
        assert again["acknowledged"] == receipt["acknowledged"] == planned["rows"]
        rows = decoded(regions["east"], f"{name}.{receipt['job']}.east.ingress")
        assert len(rows) == receipt["rows"]
        return sorted(rows, key=lambda row: int(row["id"]))

    return of


def decoded(servers: str, topic: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for message in messages(servers, topic):
        value = message.value() or b""
        assert value[0] == 0, "framed as a registry's clients expect it"
        row = fastavro.schemaless_reader(io.BytesIO(value[5:]), SCHEMA, None)
        assert isinstance(row, dict)
        rows.append(row)
    return rows


Published = Callable[[str], list[dict[str, Any]]]


def test_an_iceberg_table_whose_schema_and_partitions_changed(tmp_path: Path, published: Published) -> None:
    (tmp_path / "warehouse").mkdir()
    uri, warehouse = f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse"
    catalog = load_catalog("test", type="sql", uri=uri, warehouse=warehouse)
    catalog.create_namespace("db")
    first = flights(0, 1_000).rename_columns(["id", "day", "airline", "late"]).drop_columns(["late"])
    table = catalog.create_table("db.flights", first.schema)
    table.append(first)
    with table.update_schema() as change:
        change.rename_column("airline", "carrier")
        change.add_column("delay", DoubleType())
    with table.update_spec() as spec:
        spec.add_field("day", IdentityTransform())
    table.append(flights(1_000, 1_000))
    pinned = table.current_snapshot()
    assert pinned is not None
    table.append(flights(5_000, 10))  # later than what is asked for

    rows = published(
        f'format = "iceberg"\ntable = "db.flights"\nsnapshot_id = {pinned.snapshot_id}\n'
        f'catalog = {{ name = "test", type = "sql", uri = "{uri}", warehouse = "{warehouse}" }}'
    )
    assert rows == as_rows(table.scan(snapshot_id=pinned.snapshot_id).to_arrow())
    assert len(rows) == 2_000
    assert all(row["delay"] is None for row in rows[:1_000])


def test_a_delta_table_that_is_partitioned_and_mapped(tmp_path: Path, published: Published) -> None:
    path, data = tmp_path / "flights", flights(0, 2_000)
    mode = {"delta.columnMapping.mode": "name"}
    DeltaTable.create(path, schema=data.schema, partition_by=["day", "carrier"], configuration=mode)
    write_deltalake(path, data, mode="append")
    write_deltalake(path, flights(5_000, 10), mode="append")
    assert published('format = "delta"\npath = "flights"\nversion = 1') == as_rows(data)


def test_a_delta_table_that_is_kept_first(tmp_path: Path, published: Published) -> None:
    path = tmp_path / "flights"
    data = flights(0, 500).append_column("at", pa.array([{"lat": 1.5}] * 500))
    DeltaTable.create(path, schema=data.schema, configuration={"delta.columnMapping.mode": "name"})
    write_deltalake(path, data, mode="append")
    with pytest.raises(SourceError, match=r"inner fields have other names.*snapshot_path"):
        published('format = "delta"\npath = "flights"')
    assert published('format = "delta"\npath = "flights"\nsnapshot_path = "kept"') == as_rows(data)


def test_a_query_of_duckdb(tmp_path: Path, published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    data = flights(0, 2_000)
    pq.write_table(data, tmp_path / "flights.parquet")
    with duckdb.connect(str(tmp_path / "flights.duckdb")) as connection:
        connection.execute(f"CREATE TABLE flights AS FROM '{tmp_path}/flights.parquet'")
    monkeypatch.setenv("FLIGHTS", "flights.duckdb")
    rows = published(
        'format = "sql"\ndriver = "duckdb"\nconnection = "env:FLIGHTS"\nsnapshot_path = "kept"\n'
        'query = "SELECT * FROM flights WHERE id % 2 = 0"'
    )
    assert rows == [row for row in as_rows(data) if row["id"] % 2 == 0]


def test_a_query_of_postgresql(tmp_path: Path, published: Published, postgresql: str) -> None:
    data = flights(0, 2_000)
    with dbapi.connect(postgresql) as connection:
        with connection.cursor() as cursor:
            cursor.adbc_ingest("published_flights", data.to_reader())
        connection.commit()
    (tmp_path / "uri").write_text(postgresql)
    rows = published(
        'format = "sql"\ndriver = "postgresql"\nconnection = "file:uri"\nsnapshot_path = "kept"\n'
        'query = "SELECT id, day, carrier, delay FROM published_flights"'
    )
    assert rows == as_rows(data)
