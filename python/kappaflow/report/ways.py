"""Several ways of calling one service: what came of each in a table, and all over time in one plot."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from kappaflow.report import charts
from kappaflow.report.charts import Line
from kappaflow.report.data import Way, WaySample
from kappaflow.report.tables import table

_COLOURS = (("worked", "missing"), ("landed", "rejected"))
"""Of what was answered each way, and of errors."""


def ways(shown: Sequence[Way]) -> tuple[str, str]:
    """The table and the plot."""
    head = ["", "answered", "answered/s", "errors", "timeouts", "p99 ms", "rows lost", "seconds"]
    rows = [
        [
            way.label,
            way.answered,
            round(way.answered / max(0.001, way.seconds)),
            way.errors,
            way.timeouts,
            round(way.p99_ms, 1),
            way.lost,
            round(way.seconds, 1),
        ]
        for way in shown
    ]
    series = []
    for way, (answered, errors) in zip(shown, _COLOURS, strict=False):
        series += [
            Line(answered, f"{way.label}: answered", _rates(way.samples, lambda s: s.answered)),
            Line(errors, f"{way.label}: errors", _rates(way.samples, lambda s: s.errors)),
        ]
    end_ms = max((sample.at_ms for way in shown for sample in way.samples), default=1)
    return table(head, rows), charts.lines("Calls a second", series, [], 0, end_ms, "calls/s", origin_ms=0)


def _rates(samples: Sequence[WaySample], count: Callable[[WaySample], int]) -> list[tuple[int, float]]:
    """A second, from sample to sample."""
    return [
        (after.at_ms, (count(after) - count(before)) / (after.at_ms - before.at_ms) * 1_000)
        for before, after in pairwise(samples)
        if after.at_ms > before.at_ms
    ]
