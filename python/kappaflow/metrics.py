"""SQL over the landed table, by DuckDB: the view `landed` is this job's rows in the files that the manifest names."""

import json
import operator
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kappaflow.api import JobPath, ParamValues, resolve, table
from kappaflow.errors import FileError, JobFileError, KappaFlowError, NotReadyError
from kappaflow.types import Metric

if TYPE_CHECKING:
    import duckdb
    import pyarrow

_NAME = re.compile(r"^--\s*name:\s*(\S+)\s*$", re.MULTILINE)
_ASSERT = re.compile(r"^--\s*assert:(.*)$", re.MULTILINE)
_CLAIM = re.compile(r"\s*rows\s*(=|<>|!=|<=|>=|<|>)\s*(\d+)\s*")
_RELATIONS = {
    "=": operator.eq,
    "<>": operator.ne,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
PARAM = re.compile(r"\$([A-Za-z_]\w*)")
SHOWN_ROWS = 10
"""Rows of a metric that an error shows."""
IDENTITY_COLUMNS = ("_job", "_split", "_seq", "_child", "_of", "_attempt", "_partition", "_offset")


class MetricError(KappaFlowError):
    """A query failed, or what a metric claims of its rows does not hold; the text names the metric and says why."""

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
            # By name: files of an earlier schema lack columns, and folders of partitions repeat some.
            f"CREATE VIEW landed AS SELECT * FROM read_parquet([{listed}], union_by_name = true, "
            f"hive_partitioning = false) WHERE _job = '{landed['job']}'"
        )
        connection.execute(f"CREATE VIEW answers AS SELECT * EXCLUDE ({hidden}) FROM landed")
        yield connection
    finally:
        connection.close()


def sql(job: JobPath, query: str, *, params: ParamValues | None = None) -> "pyarrow.Table":
    """Run one query over the views `landed` and `answers`; `$NAME` in it is the job's param of that name."""
    with connect(job, params) as connection:
        return _run(connection, None, query, _params(job, params)).to_arrow_table()


def sql_to_file(job: JobPath, query: str, out: JobPath, *, params: ParamValues | None = None) -> int:
    """Write the rows of a query to a file, as its name ends: `.csv`, `.parquet` or `.json` (an object a line).

    Returns how many they are.
    """
    path = Path(out)
    if path.suffix not in (".csv", ".parquet", ".json"):
        raise FileError(f"can't write {path}: its name should end in .csv, .parquet or .json")
    with connect(job, params) as connection:
        rows = _run(connection, None, query, _params(job, params)).to_arrow_table()
        try:
            if path.suffix == ".json":
                with path.open("w", encoding="utf-8") as file:
                    file.writelines(json.dumps(row, default=str) + "\n" for row in rows.to_pylist())
            elif path.suffix == ".csv":
                connection.from_arrow(rows).write_csv(fspath(path))
            else:
                connection.from_arrow(rows).write_parquet(fspath(path), compression="zstd")
        except OSError as error:
            raise FileError(f"can't write {path}: {error.strerror}") from error
    return int(rows.num_rows)


def metrics(job: JobPath, *, params: ParamValues | None = None) -> dict[str, Metric]:
    """Run the named queries of `output.metrics` (each after a line `-- name: NAME`), in the file's order.

    A metric with a line `-- assert: rows = 0` (or another relation, or number) has the key `failed`: what it claims,
    where that does not hold, else None. `check_metrics` raises it.
    """
    resolved = resolve(job, params=params)
    if resolved["metrics"] is None:
        raise JobFileError(
            f"{resolved['path']}: output.metrics: is not set; name a SQL file of metrics there, or give a query"
        )
    queries = named_queries(Path(resolved["metrics"]))
    results: dict[str, Metric] = {}
    with connect(job, params) as connection:
        for name, query in queries.items():
            relation = _run(connection, name, query.text, resolved["params"])
            result: Metric = {
                "columns": list(relation.columns),
                "rows": [list(row) for row in relation.fetchall()],
            }
            if query.claim is not None:
                result["failed"] = query.claim.failed(len(result["rows"]))
            results[name] = result
    return results


def check_metrics(results: Mapping[str, Metric]) -> None:
    """Raise `MetricError` if what a metric claims of its rows does not hold, with the first of them."""
    told = []
    for name, metric in results.items():
        if failed := metric.get("failed"):
            shown = ["; " + ", ".join(str(value) for value in row) for row in metric["rows"][:SHOWN_ROWS]]
            more = len(metric["rows"]) - len(shown)
            rest = f"; and {more} more" if more > 0 else ""
            told.append(f"{name}: {failed}{''.join(shown)}{rest}")
    if told:
        raise MetricError("\n".join(told))


@dataclass(frozen=True)
class Claim:
    """What a metric says of the number of its rows."""

    relation: str
    rows: int

    def failed(self, rows: int) -> str | None:
        """Why it does not hold, if so."""
        if _RELATIONS[self.relation](rows, self.rows):
            return None
        return f"asserts rows {self.relation} {self.rows}, and has {rows}"


@dataclass(frozen=True)
class Query:
    """A named query of a metrics file."""

    text: str
    claim: Claim | None = None


def named_queries(path: Path) -> dict[str, Query]:
    """The queries of a metrics file by name."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise JobFileError(f"output.metrics: can't read {path}: {error}") from error
    marks = list(_NAME.finditer(text))
    if not marks:
        raise JobFileError(f"output.metrics: {path} has no query; begin each with a line `-- name: NAME`")
    queries: dict[str, Query] = {}
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        name = mark.group(1)
        if name in queries:
            raise JobFileError(f"output.metrics: {path} has two queries named {name}")
        query = text[mark.end() : following.start() if following else len(text)].strip().rstrip(";")
        queries[name] = Query(query, _claim(path, name, query))
    return queries


def _claim(path: Path, name: str, query: str) -> Claim | None:
    claims = _ASSERT.findall(query)
    if not claims:
        return None
    found = _CLAIM.fullmatch(claims[0])
    if found is None or len(claims) > 1:
        raise JobFileError(
            f"output.metrics: {path}: metric {name}: expected one line like `-- assert: rows = 0`, "
            f"found {'; '.join(claim.strip() for claim in claims)!r}"
        )
    return Claim(found.group(1), int(found.group(2)))


def _params(job: JobPath, params: ParamValues | None) -> Mapping[str, Any]:
    found: Mapping[str, Any] = resolve(job, params=params)["params"]
    return found


def _run(
    connection: "duckdb.DuckDBPyConnection", name: str | None, query: str, params: Mapping[str, Any]
) -> "duckdb.DuckDBPyRelation":
    import duckdb

    named = {param: params[param] for param in PARAM.findall(query) if param in params}
    try:
        found = connection.sql(query, params=named) if named else connection.sql(query)
    except duckdb.Error as error:
        what = "the query" if name is None else f"metric {name}"
        raise MetricError(f"{what} failed: {error}") from error
    if found is None:
        what = "the query" if name is None else f"metric {name}"
        raise MetricError(f"{what} is empty: expected a SELECT")
    return found
