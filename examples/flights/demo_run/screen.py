"""What people see on stderr: live bars on a terminal, a line every few seconds elsewhere."""

import os
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .counts import Counts

_LINE_EVERY_S = 5.0
_STAGES = (("published", "published"), ("worked", "worked"), ("landed", "landed"))


class Screen:
    """Says what happens, and shows how far the job is between `with` and its end."""

    def __init__(self) -> None:
        if not sys.stderr.isatty():
            # Tables in a log need not fold at 80 columns.
            os.environ.setdefault("COLUMNS", "110")
        self.console = Console(stderr=True, highlight=False)
        self._begun = time.monotonic()
        self._line_at = float("-inf")
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            # Without its refreshing thread: the demo forks processes meanwhile.
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """One line, with the time since the start."""
        self.console.print(Text(f"{time.monotonic() - self._begun:6.1f} s  {text}"), soft_wrap=True)

    def shout(self, text: str) -> None:
        """A line that nobody overlooks."""
        if self.console.is_terminal:
            self.console.print(Panel(Text(text, style="bold red"), border_style="red", expand=False))
        else:
            self.say(f"*** {text} ***")

    def show(self, counts: Counts, airflow: str, workers: str) -> None:
        """The newest counts."""
        if self._live is not None:
            self._live.update(self._picture(counts, airflow, workers), refresh=True)
            return
        now = time.monotonic()
        if now - self._line_at < _LINE_EVERY_S:
            return
        self._line_at = now
        self.say(f"{_in_words(counts)}; {airflow}; {workers}")

    def _picture(self, counts: Counts, airflow: str, workers: str) -> Group:
        bars = Table.grid(padding=(0, 2))
        for column in ("left", "left", "right", "right"):
            bars.add_column(justify=column)
        last = counts.samples[-1] if counts.samples else None
        for stage, label in _STAGES:
            rows: int = getattr(last, stage) if last else 0
            bars.add_row(
                label,
                ProgressBar(total=max(1, counts.expected), completed=min(rows, counts.expected), width=36),
                f"{rows:,}",
                f"{counts.rate(stage):,.0f} rows/s",
            )
        return Group(bars, Text(f"Airflow  {airflow}"), Text(f"workers  {workers}"))


def _in_words(counts: Counts) -> str:
    if not counts.samples:
        return "nothing published yet"
    last = counts.samples[-1]
    return ", ".join(
        f"{label} {getattr(last, stage):,} ({counts.rate(stage):,.0f}/s)" for stage, label in _STAGES
    )
