"""What a callable takes: the annotation of its first parameter says so.

Nothing, or `dict`: the record as a dict. A dataclass, or a pydantic model: an instance of it. `pyarrow.RecordBatch`:
all records of a batch at once.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import pyarrow as pa


def takes_batches(call: Callable[..., Any]) -> bool:
    return _annotation(call) is pa.RecordBatch


def reader(call: Callable[..., Any]) -> Callable[[dict[str, Any]], Any] | None:
    """How a record becomes what the callable takes; None where it takes the record as it is."""
    wanted = _annotation(call)
    if not isinstance(wanted, type):
        return None
    if dataclasses.is_dataclass(wanted):
        return _of_dataclass(wanted)
    validate = getattr(wanted, "model_validate", None)
    return validate if callable(validate) else None


def _annotation(call: Callable[..., Any]) -> Any:
    function = call if inspect.isroutine(call) else type(call).__call__
    try:
        parameters = list(inspect.signature(call).parameters)
        hints = typing.get_type_hints(function)
    except (NameError, TypeError, ValueError):
        return None  # annotations that can't be resolved say nothing
    return hints.get(parameters[0]) if parameters else None


def _of_dataclass(wanted: type) -> Callable[[dict[str, Any]], Any]:
    """Makes instances; fields that are dataclasses themselves, or lists of such, are made too."""
    hints = typing.get_type_hints(wanted)
    inner = {
        field.name: made
        for field in dataclasses.fields(wanted)
        if (made := _of_field(hints[field.name])) is not None
    }
    names = {field.name for field in dataclasses.fields(wanted) if field.init}

    def make(record: dict[str, Any]) -> Any:
        values = {name: value for name, value in record.items() if name in names}
        for name, made in inner.items():
            if values.get(name) is not None:
                values[name] = made(values[name])
        return wanted(**values)

    return make


def _of_field(hint: Any) -> Callable[[Any], Any] | None:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        return _of_field(kinds[0]) if len(kinds) == 1 else None
    if typing.get_origin(hint) is list:
        item = _of_field(typing.get_args(hint)[0])
        return None if item is None else lambda values: [None if v is None else item(v) for v in values]
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _of_dataclass(hint)
    return None
