"""Progress of a stage as lines of a task's log, and as gauges of Airflow's metrics."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

EVERY_S = 5.0


class Log(Protocol):
    """A task's logger, whichever kind the Airflow version has."""

    def info(self, event: str, *args: Any) -> Any: ...


class Gauge(Protocol):
    """How Airflow's metrics take a number: `Stats.gauge`."""

    def __call__(self, stat: str, value: float, *, tags: dict[str, Any]) -> Any: ...


class ProgressLog:
    """An `on_progress` callback: at most one line every `every_s` seconds, however often it is called.

    With each line `gauge` gets `kappaflow.STAGE.done`, `.total` and the stage's own figures (`.rows_per_s`,
    `.lag_records`, ...), tagged by the label: a child job, a region.
    """

    def __init__(
        self,
        log: Log,
        gauge: Gauge | None = None,
        *,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._gauge = gauge
        self._every_s = every_s
        self._clock = clock
        self._said_at = clock()

    def __call__(self, progress: Mapping[str, Any]) -> None:
        now = self._clock()
        if now - self._said_at < self._every_s:
            return
        self._said_at = now
        self._log.info("%s", line(progress))
        if self._gauge is not None:
            numbers = {
                "done": progress["done"],
                "total": progress.get("total"),
                **progress.get("figures", {}),
            }
            for name, number in numbers.items():
                if number is not None:
                    self._gauge(
                        f"kappaflow.{progress['stage']}.{name}",
                        number,
                        tags={"label": progress.get("label", "")},
                    )


def line(progress: Mapping[str, Any]) -> str:
    """`publish 2013-01: 20,000 of 27,004 (74 %)`."""
    done, total = progress["done"], progress.get("total")
    text = f"{progress['stage']} {progress.get('label') or ''}".rstrip() + f": {done:,}"
    if total:
        text += f" of {total:,} ({100 * done // total} %)"
    note = progress.get("note")
    return f"{text}, {note}" if note else text


def in_words(summary: Mapping[str, Any]) -> str:
    """A summary's numbers in words: `landed 164,242, duplicates: re_read 0, seconds 3.6`. Its lists are left out."""
    words = []
    for key, value in summary.items():
        if isinstance(value, Mapping):
            inner = in_words(value)
            if inner:
                words.append(f"{key}: {inner}")
        elif isinstance(value, bool):
            words.append(f"{key} {'yes' if value else 'no'}")
        elif isinstance(value, float):
            words.append(f"{key} {value:,.1f}")
        elif isinstance(value, int):
            words.append(f"{key} {value:,}")
    return ", ".join(words)
