"""A filter in disjunctive normal form, as pyarrow and pandas write it: a list of lists of (column, op, value).

It is used to leave out files that can't hold a row that passes; the rows themselves are filtered where they are read.
"""

from dataclasses import dataclass
from typing import Any

from kappaflow.errors import SourceError

OPS = ("=", "!=", "<", "<=", ">", ">=", "in", "not in")


@dataclass(frozen=True)
class Condition:
    """A column compared with a value, or with a list of values for `in` and `not in`."""

    column: str
    op: str
    value: Any


Filter = tuple[tuple[Condition, ...], ...]  # any of them, of which all must hold; empty: everything passes


def parse_filter(value: object) -> Filter:
    """Reads `[[column, op, value], …]` (all must hold), or a list of such lists (one of them must). None: no filter."""
    if value is None or value == []:
        return ()
    if not isinstance(value, list):
        raise SourceError(f"source.filter is {value!r}, expected a list of [column, op, value]")
    groups = [value] if all(_is_condition(item) for item in value) else value
    return tuple(_group(group) for group in groups)


def columns_of(of: Filter) -> set[str]:
    """The columns that a filter names."""
    return {condition.column for group in of for condition in group}


def _is_condition(item: object) -> bool:
    return isinstance(item, list) and len(item) == 3 and isinstance(item[0], str) and isinstance(item[1], str)


def _group(group: object) -> tuple[Condition, ...]:
    if not isinstance(group, list) or not group:
        raise SourceError(f"source.filter has {group!r}, expected a list of [column, op, value]")
    return tuple(_condition(item) for item in group)


def _condition(item: object) -> Condition:
    if not isinstance(item, list) or not _is_condition(item):
        raise SourceError(f"source.filter has {item!r}, expected [column, op, value]")
    column, op, value = item
    op = "=" if op == "==" else op.lower()
    if op not in OPS:
        raise SourceError(
            f"source.filter has the operator {op!r} on {column!r}, expected one of {', '.join(OPS)}"
        )
    is_list = isinstance(value, list)
    if is_list != (op in ("in", "not in")) or value is None or (is_list and (not value or None in value)):
        wanted = "a list of values" if op in ("in", "not in") else "a value"
        raise SourceError(
            f"source.filter compares {column!r} {op} {value!r}, expected {wanted}, none of them null"
        )
    return Condition(column, op, value)
