"""A worker under more than its service takes: what waits, what is called at once, how long calls take, its memory."""

from collections.abc import Callable

from kappaflow.report import charts
from kappaflow.report.charts import Line
from kappaflow.report.data import Pressure, PressureSample
from kappaflow.report.tables import table


def pressure(shown: Pressure) -> tuple[str, ...]:
    """The table and the plots."""
    samples = shown.samples
    start_ms, end_ms = samples[0].at_ms, samples[-1].at_ms

    def of(figure: Callable[[PressureSample], float]) -> list[tuple[int, float]]:
        return [(sample.at_ms, figure(sample)) for sample in samples]

    def plot(title: str, unit: str, *series: Line) -> str:
        return charts.lines(
            title, series, [], start_ms, end_ms, unit, origin_ms=start_ms, low=len(series) == 1
        )

    unloaded = [(start_ms, shown.unloaded_p99_ms), (end_ms, shown.unloaded_p99_ms)]
    head = ["calls at once, at most", "limit", "p99 ms", "p99 ms unloaded", "MiB", "time-outs", "seconds"]
    row = [
        max(sample.in_flight for sample in samples),
        max(sample.limit for sample in samples),
        round(samples[-1].p99_ms, 1),
        round(shown.unloaded_p99_ms, 1),
        round(max(sample.rss_mib for sample in samples)),
        shown.timeouts,
        round((end_ms - start_ms) / 1_000),
    ]
    return (
        table(head, [row]),
        plot("Records that wait", "records", Line("published", "lag", of(lambda s: s.lag_records))),
        plot(
            "Calls at once",
            "calls",
            Line("landed", "limit", of(lambda s: s.limit)),
            Line("worked", "under way", of(lambda s: s.in_flight)),
        ),
        plot(
            "99th percentile of a call",
            "ms",
            Line("landed", "unloaded", unloaded),
            Line("worked", "under load", of(lambda s: s.p99_ms)),
        ),
        plot("Memory of the worker", "MiB", Line("published", "resident", of(lambda s: s.rss_mib))),
    )
