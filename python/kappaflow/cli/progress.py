"""Progress on stderr: bars on a terminal, a log line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kappaflow.types import OnProgress, Progress

# Seconds between two lines about the same thing where there is no terminal.
_LINE_EVERY_S = 5.0


@contextmanager
def progress(quiet: bool) -> Iterator[OnProgress | None]:
    """Give a callback for `on_progress`, or None if nothing is to be shown."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bars() as on_progress:
            yield on_progress
    else:
        yield _lines()


def _lines() -> OnProgress:
    last: dict[tuple[str, str], float] = {}

    def on_progress(report: Progress) -> None:
        key = (report["stage"], report["label"])
        now = time.monotonic()
        ended = report["total"] is not None and report["done"] >= report["total"]
        if not ended and now - last.get(key, float("-inf")) < _LINE_EVERY_S:
            return
        last[key] = now
        total = f" of {report['total']:,}" if report["total"] is not None else ""
        note = f" ({report['note']})" if report["note"] else ""
        unit = {"dispatch": "child jobs", "fleet": "jobs"}.get(report["stage"], "rows")
        sys.stderr.write(f"{report['stage']} {report['label']}: {report['done']:,}{total} {unit}{note}\n")

    return on_progress


@contextmanager
def _bars() -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.fields[stage]:<9} {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )
    tasks: dict[tuple[str, str], TaskID] = {}

    def on_progress(report: Progress) -> None:
        key = (report["stage"], report["label"])
        if key not in tasks:
            tasks[key] = bars.add_task(report["label"], stage=report["stage"], note="", total=None)
        bars.update(tasks[key], completed=report["done"], total=report["total"], note=report["note"])

    with bars:
        yield on_progress
