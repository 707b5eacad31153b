"""SQL over the landed table, by DuckDB: the view `landed` is this job's rows in the live files of the manifest."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kappaflow.api import JobPath, ParamValues, resolve, table
from kappaflow.errors import JobFileError, KappaFlowError, NotReadyError
from kappaflow.types import Metric

if TYPE_CHECKING:
    import duckdb
    import pyarrow

_NAME = re.compile(r"^--\s*name:\s*(\S+)\s*$", re.MULTILINE)
IDENTITY_COLUMNS = ("_job", "_split", "_seq", "_child", "_of", "_attempt", "_partition", "_offset")


class MetricError(KappaFlowError):
    """A query failed; the text names the metric and what the database said."""

    kind = "metric"


@contextmanager
def connect(job: JobPath, params: ParamValues | None = None) -> Iterator["duckdb.DuckDBPyConnection"]:
    """A DuckDB connection with the views `landed` (with identity) and `answers` (without)."""
    import duckdb

    landed = table(job, params=params)
    if not landed["files"]:
        raise NotReadyError("the table has no landed files yet; run `kappaflow land` on the job file first")
    listed = ", ".join("'" + file.replace("'", "''") + "'" for file in landed["files"])
    hidden = ", ".join(IDENTITY_COLUMNS)
    connection = duckdb.connect()
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f"CREATE VIEW landed AS SELECT * FROM read_parquet([{listed}]) WHERE _job = '{landed['job']}'"
        )
        connection.execute(f"CREATE VIEW answers AS SELECT * EXCLUDE ({hidden}) FROM landed")
        yield connection
    finally:
        connection.close()


def sql(job: JobPath, query: str, *, params: ParamValues | None = None) -> "pyarrow.Table":
    """Run one query over the views `landed` and `answers`."""
    with connect(job, params) as connection:
        return _run(connection, None, query).to_arrow_table()


def metrics(job: JobPath, *, params: ParamValues | None = None) -> dict[str, Metric]:
    """Run the named queries of `output.metrics` (each after a line `-- name: NAME`), in the file's order."""
    resolved = resolve(job, params=params)
    if resolved["metrics"] is None:
        raise JobFileError(
            f"{resolved['path']}: output.metrics: is not set; name a SQL file of metrics there, or give a query"
        )
    queries = named_queries(Path(resolved["metrics"]))
    results: dict[str, Metric] = {}
    with connect(job, params) as connection:
        for name, query in queries.items():
            relation = _run(connection, name, query)
            results[name] = {
                "columns": list(relation.columns),
                "rows": [list(row) for row in relation.fetchall()],
            }
    return results


def named_queries(path: Path) -> dict[str, str]:
    """The queries of a metrics file by name."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise JobFileError(f"output.metrics: can't read {path}: {error}") from error
    marks = list(_NAME.finditer(text))
    if not marks:
        raise JobFileError(f"output.metrics: {path} has no query; begin each with a line `-- name: NAME`")
    queries: dict[str, str] = {}
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        name = mark.group(1)
        if name in queries:
            raise JobFileError(f"output.metrics: {path} has two queries named {name}")
        queries[name] = text[mark.end() : following.start() if following else len(text)].strip().rstrip(";")
    return queries


def _run(connection: "duckdb.DuckDBPyConnection", name: str | None, query: str) -> "duckdb.DuckDBPyRelation":
    import duckdb

    try:
        return connection.sql(query)
    except duckdb.Error as error:
        what = "the query" if name is None else f"metric {name}"
        raise MetricError(f"{what} failed: {error}") from error
