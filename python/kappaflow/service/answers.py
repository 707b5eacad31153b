"""Answers (dicts) into Arrow, and nothing that doesn't fit: pyarrow alone would make 1 of 1.5 and drop unknown keys."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa


class MisfitError(ValueError):
    """An answer is not what the schema says."""


def batch(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    """All rows as one batch. `MisfitError`, naming the field, if any row doesn't fit."""
    names = set(schema.names)
    for row in rows:
        if not names.issuperset(row):
            extra = next(key for key in row if key not in names)
            raise MisfitError(f"field {extra!r} is not in the schema")
    columns = []
    for field in schema:
        name = field.name
        values = [row.get(name) for row in rows]
        check(values, field.type, name)
        try:
            columns.append(pa.array(values, field.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise MisfitError(f"field {name}: {' '.join(str(error).split())}") from error
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * len(rows), pa.struct([])))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def stream(batch: pa.RecordBatch) -> memoryview:
    """The batch as the body of a frame."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


def unstream(body: bytes | memoryview) -> pa.RecordBatch:
    """The one batch of a frame's body."""
    with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
        return reader.read_next_batch()


def check(values: Sequence[Any], type_: pa.DataType, path: str) -> None:
    """Refuses what pyarrow would silently change on the way to `type_`. Works on the set of Python types first."""
    types = set(map(type, values))
    types.discard(type(None))
    if not types:
        return
    if pa.types.is_integer(type_):
        for kind in types:
            if issubclass(kind, float | Decimal):
                wrong = next((v for v in values if isinstance(v, kind) and v != v // 1), None)
                if wrong is not None:
                    raise MisfitError(f"field {path}: {wrong!r} is no whole number")
    elif pa.types.is_timestamp(type_):
        for value in values:
            if isinstance(value, datetime) and (value.utcoffset() is None) != (type_.tz is None):
                wanted = "an aware datetime" if type_.tz is not None else "a naive datetime"
                raise MisfitError(f"field {path}: {value!r} where {wanted} is expected")
    elif pa.types.is_date(type_):
        for kind in types:
            if issubclass(kind, datetime):
                raise MisfitError(f"field {path}: {kind.__name__} where a {date.__name__} is expected")
    elif pa.types.is_string(type_) or pa.types.is_binary(type_) or pa.types.is_fixed_size_binary(type_):
        text = pa.types.is_string(type_)
        for kind in types:
            if issubclass(kind, bytes if text else str):
                wanted = "text" if text else "bytes"
                raise MisfitError(f"field {path}: {kind.__name__} where {wanted} is expected")
    elif pa.types.is_struct(type_):
        names = {field.name for field in type_}
        for value in values:
            if isinstance(value, dict) and not names.issuperset(value):
                extra = next(key for key in value if key not in names)
                raise MisfitError(f"field {path}.{extra} is not in the schema")
        for field in type_:
            inner = [v.get(field.name) for v in values if isinstance(v, dict)]
            check(inner, field.type, f"{path}.{field.name}")
    elif pa.types.is_map(type_):
        for value in values:
            if isinstance(value, dict):
                check(list(value.values()), type_.item_type, f"{path}{{}}")
    elif pa.types.is_list(type_) or pa.types.is_large_list(type_):
        inner = [v for value in values if isinstance(value, list | tuple) for v in value]
        check(inner, type_.value_type, f"{path}[]")
