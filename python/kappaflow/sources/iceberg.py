"""Iceberg tables, planned by pyiceberg: the files of one snapshot, whose columns are found by their field ids."""

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kappaflow.errors import SourceError
from kappaflow.sources.filters import NULL_OPS, Condition
from kappaflow.sources.plan import Plan, PlannedField, PlannedFile, check_filter, chosen, instead
from kappaflow.sources.spec import Spec, wheel

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import DataScan, FileScanTask, Table

_COMPACT = "Compact the table (rewrite its data files)"
# How pyiceberg names what leads to storage, and how object_store does.
STORAGE = {
    "s3.endpoint": "aws_endpoint",
    "s3.region": "aws_region",
    "s3.access-key-id": "aws_access_key_id",
    "s3.secret-access-key": "aws_secret_access_key",
    "s3.session-token": "aws_session_token",
    "adls.account-name": "azure_storage_account_name",
    "adls.account-key": "azure_storage_account_key",
    "adls.tenant-id": "azure_storage_tenant_id",
    "adls.client-id": "azure_storage_client_id",
    "adls.client-secret": "azure_storage_client_secret",
}


def plan(spec: Spec) -> Plan:
    """Pins the snapshot asked for, the one at a time, or the current one, and lists its files."""
    wheel("pyiceberg.catalog", "iceberg")
    name = spec.text("table")
    try:
        table = _load(spec, name)
        snapshot_id = _snapshot_id(spec, table, name)
        if snapshot_id is None:  # a table without a snapshot has no rows yet
            fields = _fields(table.schema())
            what = f"iceberg {name}, which is empty"
            return Plan(what, f"iceberg:{table.metadata.table_uuid}@none", [], chosen(spec, what, fields))
        return _plan(spec, table, name, snapshot_id)
    except Exception as error:  # what pyiceberg raises: catalogs, files, validation
        raise spec.failed(f"iceberg {name} can't be planned", error) from error


def _load(spec: Spec, name: str) -> "Table":
    from pyiceberg.catalog import load_catalog
    from pyiceberg.exceptions import NoSuchTableError

    properties = {
        key: spec.resolved(f"catalog.{key}", value) for key, value in spec.options("catalog").items()
    }
    catalog = load_catalog(properties.pop("name", None), **properties)
    try:
        return catalog.load_table(name)
    except NoSuchTableError as error:
        raise SourceError(f"iceberg {name} is not in the catalog: {error}") from error


def _snapshot_id(spec: Spec, table: "Table", name: str) -> int | None:
    wanted, as_of = spec.number("snapshot_id"), spec.moment("as_of")
    if wanted is not None:
        if table.snapshot_by_id(wanted) is None:
            known = ", ".join(str(one.snapshot_id) for one in table.snapshots()[-5:])
            raise SourceError(
                f"iceberg {name} has no snapshot {wanted} (any more); its latest: {known or 'none at all'}"
            )
        return wanted
    if as_of is not None:
        found = table.snapshot_as_of_timestamp(int(as_of.timestamp() * 1_000))
        if found is None:
            raise SourceError(f"iceberg {name} has no snapshot of {as_of.isoformat()} or before (any more)")
        return found.snapshot_id
    current = table.current_snapshot()
    return None if current is None else current.snapshot_id


def _plan(spec: Spec, table: "Table", name: str, snapshot_id: int) -> Plan:
    asked = (
        "snapshot_id" if spec.number("snapshot_id") is not None else "as_of" if spec.moment("as_of") else None
    )
    snapshot = table.snapshot_by_id(snapshot_id)
    # A state of the past is seen by its own schema; the current one by the current schema.
    past = None if asked is None or snapshot is None else snapshot.schema_id
    schema = table.schema() if past is None else table.schemas()[past]
    what = f"iceberg {name} at snapshot {snapshot_id}"
    pin = f"iceberg:{table.metadata.table_uuid}@{snapshot_id}/{schema.schema_id}"
    fields = chosen(spec, what, _fields(schema))
    known = {field.name for field in schema.fields}
    check_filter(spec, what, known)
    # A scan by id sees that snapshot's own schema; one without an id the current snapshot and schema.
    scan = table.scan(row_filter=_expression(spec), snapshot_id=None if past is None else snapshot_id)
    tasks = _tasks(scan, what)
    why = _unreadable(table, schema, tasks)
    if why is not None:
        return instead(spec, what, pin, why, lambda: _read(table, scan, tasks))
    files = [
        PlannedFile(
            task.file.file_path.removeprefix("file://"),
            task.file.file_size_in_bytes,
            task.file.record_count,
            identities(table, task.file),
        )
        for task in tasks
    ]
    return Plan(what, pin, files, fields, _storage(spec))


def _fields(schema: "Schema") -> list[PlannedField]:
    return [PlannedField(field.name, id=field.field_id) for field in schema.fields]


def _tasks(scan: "DataScan", what: str) -> "list[FileScanTask]":
    try:
        # In an order of their own: manifests are read by several threads.
        return sorted(scan.plan_files(), key=lambda task: str(task.file.file_path))
    except ValueError as error:
        if "equality deletes" not in str(error):
            raise
        raise SourceError(
            f"{what} has equality delete files, which pyiceberg can't read, so its rows can't be kept either. "
            f"{_COMPACT}, and publish the snapshot that comes of it"
        ) from error


def _unreadable(table: "Table", schema: "Schema", tasks: "Sequence[FileScanTask]") -> tuple[str, str] | None:
    """Why the files alone don't tell the rows, and the way out; None if they do."""
    from pyiceberg.manifest import FileFormat

    if any(task.delete_files for task in tasks):
        return "has delete files or deletion vectors", _COMPACT
    formats = {
        str(task.file.file_format.value) for task in tasks if task.file.file_format != FileFormat.PARQUET
    }
    if formats:
        return f"has files of the format {', '.join(sorted(formats))}", "Rewrite them as Parquet"
    defaults = [field.name for field in schema.fields if field.initial_default is not None]
    if defaults:
        return f"has columns with a default for older rows ({', '.join(defaults)})", _COMPACT
    if table.name_mapping() is not None:
        return "maps names to fields, since it may have files without field ids", _COMPACT
    nested = _changed_inside(schema, list(table.schemas().values()))
    if nested:
        return f"has columns whose inner fields were changed ({', '.join(nested)})", _COMPACT
    return None


def _changed_inside(schema: "Schema", all_schemas: "Sequence[Schema]") -> list[str]:
    """Top-level columns with fields inside that another schema of the table names or types otherwise, or lacks."""

    def inside(field: Any) -> frozenset[tuple[int, str, str]]:
        found: set[tuple[int, str, str]] = set()
        waiting = list(getattr(field.field_type, "fields", ()))
        while waiting:
            one = waiting.pop()
            inner = list(getattr(one.field_type, "fields", ()))
            waiting += inner
            found.add((one.field_id, one.name, "" if inner else str(one.field_type)))
        return frozenset(found)

    shapes: dict[int, set[frozenset[tuple[int, str, str]]]] = {}
    for one in all_schemas:
        for field in one.fields:
            shapes.setdefault(field.field_id, set()).add(inside(field))
    return [field.name for field in schema.fields if len(shapes.get(field.field_id, ())) > 1]


def identities(table: "Table", file: "DataFile") -> dict[str, str | None]:
    """The values of the columns that the file is partitioned by as they are; transformed ones say little."""
    from pyiceberg.transforms import IdentityTransform

    spec = table.specs()[file.spec_id]
    schema = table.schema()
    found: dict[str, str | None] = {}
    for at, field in enumerate(spec.fields):
        column = schema.find_column_name(field.source_id)
        if isinstance(field.transform, IdentityTransform) and column is not None:
            value = file.partition[at]
            kind = schema.find_type(field.source_id)
            found[column] = None if value is None else field.transform.to_human_string(kind, value)
    return found


def _read(table: "Table", scan: "DataScan", tasks: "Sequence[FileScanTask]") -> "pa.RecordBatchReader":
    """The rows as pyiceberg reads them, a file at a time: all at once it would hold them all."""
    import pyarrow as pa
    from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow

    projection = scan.projection()
    arrow = schema_to_pyarrow(projection, include_field_ids=False)
    reader = ArrowScan(table.metadata, table.io, projection, scan.row_filter)

    def batches() -> "Iterator[pa.RecordBatch]":
        for task in tasks:
            for batch in reader.to_record_batches([task]):
                yield batch.cast(arrow)

    return pa.RecordBatchReader.from_batches(arrow, batches())


def _expression(spec: Spec) -> "BooleanExpression":
    from pyiceberg.expressions import AlwaysTrue, And, Or

    groups = [functools.reduce(And, [_comparison(one) for one in group]) for group in spec.filter]
    return functools.reduce(Or, groups) if groups else AlwaysTrue()


def _comparison(condition: Condition) -> "BooleanExpression":
    from pyiceberg import expressions

    if condition.op in NULL_OPS:
        column = expressions.Reference(condition.column)
        return (
            expressions.IsNull(term=column) if condition.op == "is null" else expressions.NotNull(term=column)
        )
    made = {
        "=": expressions.EqualTo,
        "!=": expressions.NotEqualTo,
        "<": expressions.LessThan,
        "<=": expressions.LessThanOrEqual,
        ">": expressions.GreaterThan,
        ">=": expressions.GreaterThanOrEqual,
        "in": expressions.In,
        "not in": expressions.NotIn,
    }[condition.op]
    found: BooleanExpression = made(condition.column, condition.value)
    return found


def _storage(spec: Spec) -> dict[str, str]:
    """The catalog's properties that lead to storage, under object_store's names; secrets stay references."""
    properties = spec.options("catalog")
    found = {ours: properties[theirs] for theirs, ours in STORAGE.items() if theirs in properties}
    if found.get("aws_endpoint", "").startswith("http://"):
        found["aws_allow_http"] = "true"
    return found
