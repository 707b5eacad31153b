"""A job's report for people: one self-contained HTML page that says what became of every row.

    from kappaflow import report

    report.write("report.html", report.collect("job.toml"))

The page fetches nothing, follows the reader's light or dark setting, and is readable on a phone.
"""

from os import PathLike
from pathlib import Path

from kappaflow.errors import FileError
from kappaflow.report.collect import collect
from kappaflow.report.data import (
    Check,
    Mark,
    Pressure,
    PressureSample,
    ReportData,
    Sample,
    Span,
    Way,
    WaySample,
    causes,
    name,
    problems,
    spans_of,
)
from kappaflow.report.page import page

__all__ = [
    "Check",
    "Mark",
    "Pressure",
    "PressureSample",
    "ReportData",
    "Sample",
    "Span",
    "Way",
    "WaySample",
    "causes",
    "collect",
    "name",
    "page",
    "problems",
    "spans_of",
    "write",
]


def write(path: str | PathLike[str], data: ReportData) -> Path:
    """Write the report, and return where it is. Raises `FileError` if it can't be written."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page(data), encoding="utf-8")
    except OSError as error:
        raise FileError(f"can't write the report to {target}: {error.strerror}") from error
    return target.resolve()
