"""Delta tables, by deltalake: a commit adds and removes files, and names ours by an application's transaction.

The transaction's number is all that Delta keeps of us. It is compared before a commit, and no commit is tried again
blindly: one that lost a race looks at the table anew.
"""

import json
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from kappaflow.errors import TableError
from kappaflow.tables.asked import TRIES, Entry, columns, told

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable, Schema

APP = "kappaflow"


def head(asked: Entry) -> dict[str, Any] | None:
    """The newest version: the number of our commit that it names, and its files. None if there is no table yet."""
    with told(asked):
        table = _open(asked["place"], asked["options"])
        if table is None:
            return None
        return {"pointer": table.transaction_version(APP), "files": list(_files(table))}


def commit(asked: Entry) -> bool:
    """Make the next version. False if the newest names another commit of ours than is expected."""
    place, options, entry = asked["place"], asked["options"], asked["commit"]
    with told(asked):
        for _ in range(TRIES):
            table = _open(place, options)
            if (None if table is None else table.transaction_version(APP)) != entry["expected"]:
                return False
            if table is None:
                if _create(place, options, entry, columns(asked)):
                    return True
            elif _append(table, entry, columns(asked)):
                return True
    raise TableError(f"table {place}: {TRIES} commits of others came in between")


def _open(place: str, options: Mapping[str, str]) -> "DeltaTable | None":
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        return DeltaTable(place, storage_options=dict(options) or None)
    except TableNotFoundError:
        return None


def _create(place: str, options: Mapping[str, str], entry: Entry, columns: "pa.Schema") -> bool:
    from deltalake import DeltaTable
    from deltalake.exceptions import CommitFailedError, DeltaError
    from deltalake.transaction import create_table_with_add_actions

    try:
        create_table_with_add_actions(
            place,
            _schema(columns),
            _added(entry),
            mode="error",
            partition_by=list(entry["partition_key"]) or None,
            storage_options=dict(options) or None,
            commit_properties=_properties(entry),
        )
    except CommitFailedError:
        return False
    except DeltaError:
        # Another may have made it meanwhile.
        if DeltaTable.is_deltatable(place, dict(options) or None):
            return False
        raise
    return True


def _append(table: "DeltaTable", entry: Entry, columns: "pa.Schema") -> bool:
    from deltalake.exceptions import CommitFailedError

    wanted = list(entry["partition_key"])
    if table.metadata().partition_columns != wanted:
        raise TableError(
            f"table {table.table_uri} is partitioned by {table.metadata().partition_columns}, "
            f"and output.partition_key is {wanted}: make it the same, or land into another output.path"
        )
    schema = _schema(columns)
    known = {field.name: field for field in table.schema().fields}
    for field in schema.fields:
        if field.name in known and known[field.name].type != field.type:
            raise TableError(
                f"table {table.table_uri}: its column {field.name} is {known[field.name].type}, "
                f"and that of the answers is {field.type}"
            )
    try:
        if new := [field for field in schema.fields if field.name not in known]:
            # By itself: a table that has the columns already is as good.
            table.alter.add_columns(new)
            return False
        table.create_write_transaction(
            [*_added(entry), *_removed(entry)],
            mode="append",
            schema=table.schema(),
            partition_by=wanted or None,
            commit_properties=_properties(entry),
        )
    except CommitFailedError:
        # A version came in between, whoever's: the next look says whether it was one of ours.
        return False
    return True


def _schema(columns: "pa.Schema") -> "Schema":
    from deltalake import Schema

    try:
        return Schema.from_arrow(columns)
    except Exception as error:
        raise TableError(f"Delta has no such columns: {error}") from error


def _properties(entry: Entry) -> Any:
    from deltalake.transaction import CommitProperties, Transaction

    return CommitProperties(app_transactions=[Transaction(APP, entry["pointer"])], max_commit_retries=0)


def _added(entry: Entry) -> list[Any]:
    from deltalake.transaction import AddAction

    now_ms = round(time.time() * 1000)
    return [
        AddAction(
            # Paths in the log are URLs: the folders' own % are encoded once more.
            quote(file["path"], safe="/="),
            file["bytes"],
            _partition(entry, file),
            now_ms,
            entry["data_change"],
            json.dumps({"numRecords": file["rows"]}),
        )
        for file in entry["added"]
    ]


def _removed(entry: Entry) -> list[Any]:
    from deltalake.transaction import RemoveAction

    now_ms = round(time.time() * 1000)
    return [
        RemoveAction(
            quote(file["path"], safe="/="),
            entry["data_change"],
            now_ms,
            size=file["bytes"],
            partition_values=_partition(entry, file),
        )
        for file in entry["removed"]
    ]


def _partition(entry: Entry, file: Entry) -> dict[str, str | None]:
    values = file.get("partition", {})
    return {name: values.get(name) for name in entry["partition_key"]}


def _files(table: "DeltaTable") -> Iterable[dict[str, Any]]:
    import pyarrow as pa

    for action in pa.table(table.get_add_actions(flatten=False)).to_pylist():
        partition = action.get("partition") or {}
        yield {
            "path": unquote(str(action["path"])),
            "rows": action["num_records"],
            "bytes": action["size_bytes"],
            "partition": {name: _text(value) for name, value in partition.items()},
        }


def _text(value: object) -> str | None:
    """A partition's value as the core writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)
