"""What can be asked of a table and an Avro schema before anything is published: derive, plan, check.

A table is a path (a Parquet file, a directory or a glob), or anything with Arrow's `__arrow_c_stream__`. `plan` and
`check` also take a job file, whose source and ingress schema they use then. No broker is talked to.
"""

import json
from os import PathLike, fspath
from typing import Literal, TypedDict, cast

from kappaflow.api import ParamValues, param_texts
from kappaflow.avro import FieldDeclarations, PlanRow, plan_options, schema_text
from kappaflow.types import OnProgress


class Derived(TypedDict):
    """A derived schema: its JSON; the rows that were looked at; columns whose names Avro does not take, with their
    fields' names; and the plan's rows of columns that no Avro type holds for sure."""

    schema: str
    rows: int
    renamed: list[tuple[str, str]]
    checked: list[PlanRow]


class Example(TypedDict):
    """A rejected row: its file (empty for a stream), its number there, and the value."""

    file: str
    row: int
    value: str


class Checked(TypedDict):
    """Rows rejected for one reason at one column, and the first few of them."""

    column: str
    reason: str
    rows: int
    examples: list[Example]


class CheckReport(TypedDict):
    """What a check found: `rows = passed + rejected`."""

    rows: int
    passed: int
    rejected: int
    by_reason: list[Checked]
    seconds: float


def derive(
    table: object,
    *,
    name: str = "Row",
    namespace: str | None = None,
    nullable: Literal["seen", "declared"] = "seen",
    on_progress: OnProgress | None = None,
) -> Derived:
    """Derive an Avro schema from a table, every row looked at.

    A field is nullable where there are nulls; with `nullable="declared"`, where the table's own schema says so. A
    column whose name Avro does not take gets the nearest one, and its own as an alias, by which the plan finds it.
    """
    from kappaflow import _native

    options = json.dumps({"name": name, "namespace": namespace, "nullable": nullable})
    return cast(Derived, json.loads(_native.schema_derive(_table(table), options, on_progress)))


def plan(
    table: object,
    schema: str | PathLike[str] | None = None,
    *,
    params: ParamValues | None = None,
    mode: Literal["checked", "strict"] = "checked",
    extra: Literal["refuse", "ignore"] = "refuse",
    fields: FieldDeclarations | None = None,
) -> list[PlanRow]:
    """The plan by which a table becomes messages of a schema: a row a field, with what may be rejected.

    `table` may also be an Arrow schema, or a job file; of a job file only `params` may be given besides. Raises
    `PlanError` if the columns can't become the fields.
    """
    from kappaflow import _native

    if schema is None:
        return cast("list[PlanRow]", json.loads(_native.schema_plan_job(_job(table), param_texts(params))))
    given = (schema_text(schema), _what(schema), plan_options(mode, extra, fields))
    return cast("list[PlanRow]", json.loads(_native.schema_plan(_table(table), given)))


def check(
    table: object,
    schema: str | PathLike[str] | None = None,
    *,
    params: ParamValues | None = None,
    mode: Literal["checked", "strict"] = "checked",
    extra: Literal["refuse", "ignore"] = "refuse",
    fields: FieldDeclarations | None = None,
    on_progress: OnProgress | None = None,
) -> CheckReport:
    """Send every row of a table through the gate of a schema, and count what would be rejected, by column and reason.

    `table` may also be a job file; then only `params` may be given besides.
    """
    from kappaflow import _native

    if schema is None:
        found = _native.schema_check_job(_job(table), param_texts(params), on_progress)
    else:
        given = (schema_text(schema), _what(schema), plan_options(mode, extra, fields))
        found = _native.schema_check(_table(table), given, on_progress)
    return cast(CheckReport, json.loads(found))


def _table(table: object) -> object:
    return fspath(table) if isinstance(table, PathLike) else table


def _job(table: object) -> str:
    path = _table(table)
    if isinstance(path, str) and path.endswith(".toml"):
        return path
    raise TypeError(
        "give schema= with a table; only a job file (*.toml) says by itself which schema it means"
    )


def _what(schema: str | PathLike[str]) -> str:
    text = fspath(schema)
    return "given" if text.lstrip().startswith(("{", '"', "[")) else text
