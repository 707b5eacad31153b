"""A filter in disjunctive normal form, as pyarrow and pandas write it: a list of lists of [column, op, value].

It is used to leave out files that can't hold a row that passes; the rows themselves are filtered where they are read.
"""

from dataclasses import dataclass
from typing import Any

from kappaflow.errors import SourceError

OPS = ("=", "!=", "<", "<=", ">", ">=", "in", "not in")
NULL_OPS = ("is null", "is not null")  # without a value


@dataclass(frozen=True)
class Condition:
    """A column compared with a value, with a list of them for `in` and `not in`, or with none for `NULL_OPS`."""

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
    return isinstance(item, list) and len(item) in (2, 3) and all(isinstance(one, str) for one in item[:2])


def _group(group: object) -> tuple[Condition, ...]:
    if not isinstance(group, list) or not group:
        raise SourceError(f"source.filter has {group!r}, expected a list of [column, op, value]")
    return tuple(_condition(item) for item in group)


def _condition(item: object) -> Condition:
    if not isinstance(item, list) or not _is_condition(item):
        raise SourceError(f"source.filter has {item!r}, expected [column, op, value]")
    column, op = item[0], "=" if item[1] == "==" else item[1].lower()
    if op in NULL_OPS and len(item) == 2:
        return Condition(column, op, None)
    if op not in OPS:  # also one of `NULL_OPS` with a value
        raise SourceError(
            f"source.filter has the operator {op!r} on {column!r}, expected one of {', '.join((*OPS, *NULL_OPS))}"
        )
    value = item[2] if len(item) == 3 else None
    is_list = isinstance(value, list)
    if is_list != (op in ("in", "not in")) or value is None or (is_list and (not value or None in value)):
        wanted = "a list of values" if op in ("in", "not in") else "a value"
        raise SourceError(
            f"source.filter compares {column!r} {op} {value!r}, expected {wanted}, none of them null"
        )
    return Condition(column, op, value)
