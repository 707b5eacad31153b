"""The rows of a query, kept as Parquet first: a database answers a query anew each time, and not always the same."""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kappaflow.errors import SourceError
from kappaflow.sources.kept import Kept, find, materialise
from kappaflow.sources.plan import Plan, of_kept
from kappaflow.sources.spec import Spec, wheel

if TYPE_CHECKING:
    import pyarrow as pa

DRIVERS = ("postgresql", "duckdb")


def plan(spec: Spec) -> Plan:
    """Runs the query once for this request, and from then on goes by what was kept."""
    query, driver = spec.text("query"), spec.text("driver")
    if driver not in DRIVERS:
        raise SourceError(f"source.driver is {driver!r}, expected one of {', '.join(DRIVERS)}")
    path = spec.kept_path()
    if path is None:
        raise SourceError("source.snapshot_path is missing: the rows of a query are kept there as Parquet")
    what = f"{driver} query {hashlib.sha256(query.encode()).hexdigest()[:16]}"
    kept = find(path, what)
    if kept is None:
        kept = _keep(spec, query, driver, what)
    return of_kept(spec, f"{what}, kept on {kept.when}", kept)


def _keep(spec: Spec, query: str, driver: str, what: str) -> Kept:
    path = spec.kept_path()
    connection = spec.resolved("connection", spec.text("connection"))
    if connection == spec.text("connection"):
        raise SourceError(
            "source.connection may hold a password: give a reference, env:NAME, file:PATH or conn:NAME, "
            "not the URI itself"
        )
    running = _postgresql if driver == "postgresql" else _duckdb
    try:
        with running(spec, connection, query) as rows:
            return materialise(rows, path or "", what=what)
    except Exception as error:  # what the drivers raise: connections, SQL, types
        raise spec.failed(f"the {driver} query of source.query failed", error) from error


@contextlib.contextmanager
def _postgresql(_spec: Spec, uri: str, query: str) -> "Iterator[pa.RecordBatchReader]":
    """By the ADBC driver, which copies the result in PostgreSQL's binary form."""
    driver = wheel("adbc_driver_postgresql.dbapi", "sql")
    with driver.connect(uri) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        reader = cursor.fetch_record_batch()
        _refuse_raw(reader.schema)
        yield reader


@contextlib.contextmanager
def _duckdb(spec: Spec, path: str, query: str) -> "Iterator[object]":
    """A DuckDB file, opened for reading."""
    import duckdb

    with duckdb.connect(str(spec.directory / path), read_only=True) as connection:
        rows = connection.sql(query)
        if rows is None:
            raise SourceError("source.query gives no rows: expected a SELECT")
        yield rows


def _refuse_raw(schema: "pa.Schema") -> None:
    """The driver hands over a type that it doesn't know as the bytes that the server sent: of use to nobody."""
    import pyarrow as pa

    for column in schema:
        name = (column.metadata or {}).get(b"ADBC:postgresql:typname", b"bytea").decode()
        stored = column.type.storage_type if isinstance(column.type, pa.BaseExtensionType) else column.type
        if name != "bytea" and pa.types.is_binary(stored):
            raise SourceError(
                f"column {column.name!r} of source.query is a PostgreSQL {name}, which has no Arrow type: "
                f"cast it in the query, as {column.name}::text"
            )
