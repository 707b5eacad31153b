"""Iceberg tables, by pyiceberg: each of our commits is one snapshot, and names our manifest by a property of the table.

Property and snapshot are set together, on the very snapshot that was looked at; a commit that lost a race looks at the
table anew. A property outlives the snapshots that expire.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from kappaflow.errors import TableError
from kappaflow.sources.iceberg import STORAGE, identities
from kappaflow.tables.asked import TRIES, Entry, columns, told

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table
    from pyiceberg.types import IcebergType

POINTER = "kappaflow.commit"
# Of the table as it is held here, never of the catalog's: a commit that is tried again on another snapshot than the one
# looked at could come after another lander's.
NO_RETRIES = {"commit.retry.num-retries": "0"}


def head(asked: Entry) -> dict[str, Any] | None:
    """The current snapshot: the number of our commit that the table names, and its files. None: no table yet."""
    with told(asked), _catalog(asked) as catalog:
        table = _load(catalog, asked)
        if table is None:
            return None
        known = _files(table)
        files = [
            {
                "path": _below(table, asked, path),
                "rows": file.record_count,
                "bytes": file.file_size_in_bytes,
                "partition": identities(table, file),
            }
            for path, file in known.items()
        ]
        return {"pointer": _pointer(table), "files": files}


def commit(asked: Entry) -> bool:
    """Make the next snapshot. False if the table names another commit of ours than is expected."""
    from pyiceberg.exceptions import CommitFailedException

    entry = asked["commit"]
    with told(asked), _catalog(asked) as catalog:
        for _ in range(TRIES):
            table = _load(catalog, asked)
            if (None if table is None else _pointer(table)) != entry["expected"]:
                return False
            try:
                if table is None:
                    _create(catalog, asked)
                elif _append(table, asked):
                    return True
            except CommitFailedException:
                # A snapshot came in between, whoever's: the next look says whether it was one of ours.
                continue
    raise TableError(f"table {asked['table']}: {TRIES} commits of others came in between")


@contextmanager
def _catalog(asked: Entry) -> "Iterator[Catalog]":
    # What the catalog itself says of the storage comes first.
    properties = {**_storage(asked["options"]), **asked["catalog"]}
    catalog = _load_catalog(properties.pop("name", None), properties)
    try:
        yield catalog
    finally:
        catalog.close()


def _load_catalog(name: str | None, properties: dict[str, str]) -> "Catalog":
    """A SQL catalog makes its two tables when first loaded; of two that do so at once one fails, and looks again."""
    from pyiceberg.catalog import load_catalog

    for _ in range(2):
        try:
            return load_catalog(name, **properties)
        except Exception as error:
            if "already exists" not in str(error):
                raise
    return load_catalog(name, **properties)


def _storage(options: Mapping[str, str]) -> dict[str, str]:
    """The options that lead to storage, as pyiceberg names them; object_store knows each with a prefix and without."""
    given = {re.sub("^(aws|azure_storage)_", "", name.lower()): value for name, value in options.items()}
    short = {theirs: re.sub("^(aws|azure_storage)_", "", ours) for theirs, ours in STORAGE.items()}
    return {theirs: given[name] for theirs, name in short.items() if name in given}


def _load(catalog: "Catalog", asked: Entry) -> "Table | None":
    from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

    try:
        table = catalog.load_table(asked["table"])
    except (NoSuchTableError, NoSuchNamespaceError):
        return None
    if _plain(table.location()) != _plain(asked["place"]):
        raise TableError(
            f"table {asked['table']} lies in {table.location()}, and output.path is {asked['place']}: "
            "make them the same, since files are written there and its readers expect them there"
        )
    return table


def _create(catalog: "Catalog", asked: Entry) -> None:
    """Make the table, without rows. Another may make it meanwhile, which is as good."""
    from pyiceberg.exceptions import NamespaceAlreadyExistsError, TableAlreadyExistsError

    namespace = catalog.namespace_from(asked["table"])
    with suppress(NamespaceAlreadyExistsError):
        catalog.create_namespace_if_not_exists(namespace)
    place = asked["place"]
    location = f"file://{place}" if place.startswith("/") else place
    with (
        suppress(TableAlreadyExistsError),
        catalog.create_table_transaction(asked["table"], columns(asked), location) as making,
        making.update_spec() as spec,
    ):
        for name in asked["commit"]["partition_key"]:
            spec.add_identity(name)


def _append(table: "Table", asked: Entry) -> bool:
    """Add and remove the files in one snapshot. False if one that is to go is not there (any more)."""
    entry = asked["commit"]
    _check_partition(table, entry["partition_key"])
    is_new = _check_columns(table, columns(asked))
    gone = [_above(table, file["path"]) for file in entry["removed"]]
    known = _files(table) if gone else {}
    if any(path not in known for path in gone):
        return False
    table.metadata.properties.update(NO_RETRIES)
    properties = {POINTER: f"{entry['pointer']:016x}"}
    with table.transaction() as making:
        if is_new:
            with making.update_schema() as schema:
                schema.union_by_name(columns(asked))
        if making.table_metadata.name_mapping() is None:
            # The files know their columns by name only.
            mapping = making.table_metadata.schema().name_mapping.model_dump_json()
            making.set_properties({"schema.name-mapping.default": mapping})
        making.set_properties(properties)
        snapshot = making.update_snapshot(snapshot_properties=properties)
        # A commit that has no files makes a snapshot too: what another has committed meanwhile is noticed by that.
        with snapshot.overwrite() if gone else snapshot.fast_append() as update:
            for file in entry["added"]:
                update.append_data_file(_data_file(table, making.table_metadata, file))
            for path in gone:
                update.delete_data_file(known[path])
    return True


def _check_partition(table: "Table", wanted: list[str]) -> None:
    from pyiceberg.transforms import IdentityTransform

    fields = table.spec().fields
    names = [table.schema().find_column_name(field.source_id) for field in fields]
    if names != list(wanted) or not all(isinstance(field.transform, IdentityTransform) for field in fields):
        has = [f"{field.transform}({name})" for field, name in zip(fields, names, strict=True)]
        raise TableError(
            f"table {'.'.join(table.name())} is partitioned by {has}, "
            f"and output.partition_key is {wanted}: make it the same, or land into another table"
        )


def _check_columns(table: "Table", wanted: "pa.Schema") -> bool:
    """Whether there are columns that the table lacks."""
    import pyarrow as pa
    from pyiceberg.io.pyarrow import pyarrow_to_schema

    schema = table.schema()
    known = {field.name: field for field in schema.fields}
    old = pa.schema([field for field in wanted if field.name in known])
    for field in pyarrow_to_schema(old, schema.name_mapping).fields:
        has = known[field.name]
        if has.field_type != field.field_type:
            raise TableError(
                f"table {'.'.join(table.name())}: its column {field.name} is {has.field_type}, "
                f"and that of the answers is {field.field_type}"
            )
    return len(old) < len(wanted)


def _data_file(table: "Table", metadata: Any, file: Entry) -> "DataFile":
    """What the table keeps of a file, with the bounds and counts that its footer gives."""
    import pyarrow.parquet as pq
    from pyiceberg.io.pyarrow import (
        compute_statistics_plan,
        data_file_statistics_from_parquet_metadata,
        parquet_path_to_id_mapping,
    )
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    path, schema = _above(table, file["path"]), metadata.schema()
    with table.io.new_input(path).open() as stream:
        footer = pq.read_metadata(stream)
    statistics = data_file_statistics_from_parquet_metadata(
        footer,
        stats_columns=compute_statistics_plan(schema, metadata.properties),
        parquet_column_mapping=parquet_path_to_id_mapping(schema),
    )
    values = file.get("partition", {})
    partition = [
        _value(schema.find_type(field.source_id), values.get(schema.find_column_name(field.source_id)))
        for field in metadata.spec().fields
    ]
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(*partition),
        file_size_in_bytes=file["bytes"],
        sort_order_id=None,
        spec_id=metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def _value(kind: "IcebergType", text: str | None) -> object:
    """A partition's value, of the text that the core writes."""
    from pyiceberg.types import BooleanType, DateType, StringType
    from pyiceberg.utils.datetime import date_str_to_days

    if text is None or isinstance(kind, StringType):
        return text
    if isinstance(kind, BooleanType):
        return text == "true"
    return date_str_to_days(text) if isinstance(kind, DateType) else int(text)


def _pointer(table: "Table") -> int | None:
    named = table.properties.get(POINTER)
    return None if named is None else int(named, 16)


def _files(table: "Table") -> "Mapping[str, DataFile]":
    """The files of the current snapshot, by path."""
    found = {}
    for task in table.scan().plan_files():
        if task.delete_files:
            raise TableError(
                f"table {'.'.join(table.name())} has rows of {task.file.file_path} deleted one by one, by "
                f"{next(iter(task.delete_files)).file_path}: rewrite its data files with the engine that deleted them"
            )
        found[task.file.file_path] = task.file
    return found


def _above(table: "Table", path: str) -> str:
    return f"{table.location().rstrip('/')}/{path}"


def _below(table: "Table", asked: Entry, path: str) -> str:
    """A file's path from the table's place, as the core names it."""
    place, plain = _plain(asked["place"]) + "/", _plain(path)
    if not plain.startswith(place):
        raise TableError(f"table {'.'.join(table.name())} has a file outside of {asked['place']}: {path}")
    return plain.removeprefix(place)


def _plain(place: str) -> str:
    """A directory or URL without the ways to write the same."""
    for one, other in (("file://", ""), ("file:", ""), ("s3a://", "s3://"), ("s3n://", "s3://")):
        if place.startswith(one):
            place = other + place.removeprefix(one)
            break
    return place.rstrip("/")
