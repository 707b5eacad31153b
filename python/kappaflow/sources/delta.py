"""Delta tables, planned by deltalake: the files of one version, whose columns are found by their physical names."""

import datetime
import json
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kappaflow.errors import SourceError
from kappaflow.sources.filters import NULL_OPS
from kappaflow.sources.plan import Plan, PlannedField, PlannedFile, check_filter, chosen, instead
from kappaflow.sources.spec import Spec, wheel

if TYPE_CHECKING:
    from deltalake import DeltaTable


def plan(spec: Spec) -> Plan:
    """Pins the version asked for, the one at a time, or the latest, and lists its files."""
    wheel("deltalake", "delta")
    place = spec.text("path")
    uri = place if "://" in place else str((spec.directory / place).absolute())
    what = f"delta {place}"
    try:
        return _plan(spec, _load(spec, uri, what), what)
    except Exception as error:  # what deltalake raises: logs, storage, protocol
        raise spec.failed(f"{what} can't be planned", error) from error


def _load(spec: Spec, uri: str, what: str) -> "DeltaTable":
    from deltalake import DeltaTable

    options = {key: spec.resolved(f"options.{key}", value) for key, value in spec.options("options").items()}
    version, as_of = spec.number("version"), spec.moment("as_of")
    table = DeltaTable(uri, version=version, storage_options=options or None)
    if as_of is None:
        return table
    commits = {one["version"]: one["timestamp"] for one in table.history() if "timestamp" in one}
    until = [number for number, told_ms in commits.items() if told_ms <= as_of.timestamp() * 1_000]
    if not until:
        raise SourceError(f"{what} has no version of {as_of.isoformat()} or before (any more)")
    # The wheel goes by the times of the log's files, which a copy of a table changes, and takes the first version
    # for any time before it; the commits tell their times too.
    table.load_as_version(as_of)
    if table.version() != max(until):
        raise SourceError(
            f"{what} has version {table.version()} at {as_of.isoformat()} by the times of its log's files and version "
            f"{max(until)} by those that its commits tell: say which, by source.version"
        )
    return table


def _plan(spec: Spec, table: "DeltaTable", what: str) -> Plan:
    what = f"{what} at version {table.version()}"
    pin = f"delta:{table.metadata().id}@{table.version()}"
    schema = json.loads(table.schema().to_json())["fields"]
    mapped = table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none"
    fields = chosen(spec, what, [_field(one, mapped) for one in schema])
    known = {str(one["name"]) for one in schema}
    check_filter(spec, what, known)
    why = _unreadable(table, schema, mapped)
    if why is not None:
        return instead(spec, what, pin, why, lambda: table.scan())
    return Plan(what, pin, _files(spec, table), fields, spec.options("options"))


def _field(field: Mapping[str, Any], mapped: bool) -> PlannedField:
    told = field["metadata"]
    physical = str(told["delta.columnMapping.physicalName"]) if mapped else None
    # By name also where ids are mapped: writers put both down, and a file that has lost its ids has its names.
    return PlannedField(str(field["name"]), physical=physical)


def _unreadable(table: "DeltaTable", schema: list[dict[str, Any]], mapped: bool) -> tuple[str, str] | None:
    """Why the files alone don't tell the rows, and the way out; None if they do."""
    partitions = table.metadata().partition_columns
    may_have = "deletionVectors" in (table.protocol().reader_features or [])
    if may_have and any(batch.num_rows for batch in table.deletion_vectors()):
        return "has deletion vectors", "Purge them (REORG TABLE … APPLY (PURGE))"
    raw = [str(one["name"]) for one in schema if one["name"] in partitions and one["type"] == "binary"]
    if raw:
        return f"is partitioned by bytes ({', '.join(raw)})", "Publish a copy that is not"
    nested = [str(field["name"]) for field in schema if mapped and isinstance(field["type"], dict)]
    if nested:
        return (
            f"has columns whose inner fields have other names in the files ({', '.join(nested)})",
            "Publish a copy that has no column mapping",
        )
    return None


def _files(spec: Spec, table: "DeltaTable") -> list[PlannedFile]:
    import pyarrow as pa

    # The wheel's form has no word for null: what asks for it leaves no file out.
    compared = [[one for one in group if one.op not in NULL_OPS] for group in spec.filter]
    conditions = [[(one.column, one.op, one.value) for one in group] for group in compared]
    wanted = set(
        table.file_uris(file_pruning_predicate=conditions if conditions and all(conditions) else None)
    )
    files: list[PlannedFile] = []
    for action in pa.table(table.get_add_actions(flatten=False)).to_pylist():
        uri = _uri(table.table_uri, str(action["path"]))
        if uri in wanted:
            partition = {name: _text(value) for name, value in (action.get("partition") or {}).items()}
            files.append(PlannedFile(uri, action["size_bytes"], action["num_records"], partition))
    if len(files) != len(wanted):
        raise SourceError(
            f"the log of {table.table_uri} lists {len(wanted)} files, and tells about {len(files)} of them"
        )
    return sorted(files, key=lambda file: file.path)  # the log keeps no order


def _uri(root: str, path: str) -> str:
    """A file's path, or URL, as `file_uris` gives it. In the log paths are percent-encoded, and mostly relative."""
    plain = urllib.parse.unquote(path)
    if "://" in path:
        return plain.removeprefix("file://")
    if root.startswith("file://"):
        root = urllib.parse.unquote(root.removeprefix("file://"))
    return f"{root.rstrip('/')}/{plain}"


def _text(value: object) -> str | None:
    """A partition's value as text that every Avro type of its kind is read from."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.date):  # or a datetime, in UTC where it has a zone
        return value.isoformat().replace("+00:00", "Z")
    return str(value)
