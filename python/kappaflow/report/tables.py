"""Tables, and numbers as people read them."""

from collections.abc import Sequence
from html import escape
from numbers import Real
from typing import Any, cast

from kappaflow.report.charts import count


def is_number(value: object) -> bool:
    """Whether a value is a number to people."""
    # DuckDB gives decimals for some numbers: they are numbers to people, though not to `numbers.Real`.
    return not isinstance(value, bool) and (isinstance(value, Real) or type(value).__name__ == "Decimal")


def more(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def text(value: object, places: int | None = None) -> str:
    """A cell's text; `places` are a column's decimals, so that its points are below each other."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if is_number(value):
        number = cast(float, value)
        return count(number) if places is None else f"{number:,.{places}f}"
    return str(value)


def _places(values: Sequence[object]) -> int:
    """The decimals that a column needs, at most 2."""
    found = 0
    for value in values:
        if is_number(value):
            fraction = f"{cast(float, value):.2f}".rstrip("0").partition(".")[2]
            found = max(found, len(fraction))
    return found


# Cells of so few letters, such as dates, are not broken into two lines.
_SHORT = 10


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, caption: str = "", numeric: bool = False
) -> str:
    """A table; numbers (with `numeric` all columns of figures, even if given as text) are to the right."""
    right = {
        i
        for i in range(len(columns))
        if rows and all(row[i] is None or is_number(row[i]) or (numeric and _figure(row[i])) for row in rows)
    }
    places = {i: _places([row[i] for row in rows]) for i in right}
    # Years, ids and the like in a first column are names: no thousands in them.
    names = {0} if numeric else set()
    head = "".join(
        f'<th scope="col"{" class=n" if i in right else ""}>{escape(str(column).replace("_", " "))}</th>'
        for i, column in enumerate(columns)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=n' if i in right else ' class=s' if len(str(cell)) <= _SHORT else ''}>"
            f"{escape(str(cell) if i in names and cell is not None else text(cell, places.get(i)))}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    inner = f"{said}<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll" tabindex="0"><table>{inner}</table></div>'


def _figure(value: object) -> bool:
    return isinstance(value, str) and value.replace(".", "", 1).replace(",", "").isdigit()
