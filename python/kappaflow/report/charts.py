"""Charts as HTML and SVG that need nothing from outside: they take the page's width and its light or dark colours.

Text is HTML laid over the drawing, so that it stays readable when the drawing is stretched or narrowed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from kappaflow.report.data import Mark, Span


@dataclass(frozen=True)
class Line:
    """A line of a chart; `key` is the CSS class that colours it."""

    key: str
    label: str
    points: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Part:
    """A piece of a stacked bar; `key` is the CSS class that colours it."""

    key: str
    label: str
    value: int


def count(value: float) -> str:
    """A number for people: thousands apart, and no more decimals than matter."""
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.2f}"


def short(value: float) -> str:
    """A number for an axis: 250k, 1.5M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def clock(seconds: float) -> str:
    """A time since the start: 42 s, 3:05."""
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60}:{whole % 60:02d}"


def ticks(top: float, wanted: int = 4) -> list[float]:
    """Round numbers from 0 to the first that is `top` or above."""
    if top <= 0:
        return [0.0, 1.0]
    raw = top / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    return [step * i for i in range(math.ceil(top / step * 0.999) + 1)]


def lines(
    title: str,
    series: Sequence[Line],
    marks: Sequence[Mark],
    start_ms: int,
    end_ms: int,
    unit: str,
    *,
    origin_ms: int,
    low: bool = False,
) -> str:
    """Lines over time, with labelled vertical lines for the marks; a `low` chart has the lines only.

    Times are said in seconds since `origin_ms`, which all charts of a page share.
    """
    width_ms = max(1, end_ms - start_ms)
    scale = ticks(max((value for line in series for _, value in line.points), default=0.0), 2 if low else 4)
    top = scale[-1]
    grid = "".join(
        f'<line x1="0" x2="1000" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>' for y in _heights(scale)
    )
    drawn = "".join(
        f'<polyline class="line {line.key}" points="'
        + " ".join(
            f"{(t - start_ms) / width_ms * 1000:.1f},{400 - value / top * 400:.1f}"
            for t, value in line.points
        )
        + '"/>'
        for line in series
    )
    shown = [mark for mark in marks if start_ms <= mark.at_ms <= end_ms]
    said = "; ".join(
        f"{line.label} reaches {count(round(max((v for _, v in line.points), default=0.0)))} {unit}"
        for line in series
    )
    summary = f"{title}. {said}." + "".join(
        f" {mark.label} at {clock((mark.at_ms - origin_ms) / 1000)}." for mark in shown
    )
    x_axis = _x_axis(start_ms, end_ms, origin_ms)
    y_axis = "".join(
        f'<span style="top:{y / 4:.2f}%">{short(v)}</span>'
        for v, y in zip(scale, _heights(scale), strict=True)
    )
    keys = legend([(line.key, line.label) for line in series]) if len(series) > 1 else ""
    labels = "" if low else mark_labels(shown, start_ms, width_ms, origin_ms)
    return (
        f'<figure class="chart"><figcaption>{escape(title)} <small>{escape(unit)}</small></figcaption>{keys}'
        f'<div class="marks" style="--rows:{0 if low else len(shown)}" aria-hidden="true">{labels}</div>'
        f'<div class="plot{" low" if low else ""}"><div class="y" aria-hidden="true">{y_axis}</div>'
        f'<svg role="img" aria-label="{escape(summary)}" viewBox="0 0 1000 400" preserveAspectRatio="none">'
        f"<title>{escape(summary)}</title>{grid}{drawn}{_mark_lines(shown, start_ms, width_ms)}</svg></div>"
        f'<div class="x" aria-hidden="true">{x_axis}</div></figure>'
    )


def _heights(scale: Sequence[float]) -> list[float]:
    return [400 - value / scale[-1] * 400 for value in scale]


def _x_axis(start_ms: int, end_ms: int, origin_ms: int) -> str:
    """Round times since the origin, at their places between start and end."""
    width_s = max(1, end_ms - start_ms) / 1_000
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600, 86_400)
    step = next((step for step in steps if width_s / step <= 7), width_s)
    first_s = (start_ms - origin_ms) / 1_000
    shown = [i * step for i in range(math.ceil(first_s / step), int((first_s + width_s) // step) + 1)]
    return "".join(
        f'<span style="left:{(at - first_s) / width_s * 100:.2f}%">{clock(at)}</span>' for at in shown
    )


def _mark_lines(marks: Sequence[Mark], start_ms: int, width_ms: int) -> str:
    return "".join(
        f'<line class="mark{" alarm" if mark.alarm else ""}" y1="0" y2="400" '
        f'x1="{(mark.at_ms - start_ms) / width_ms * 1000:.1f}" x2="{(mark.at_ms - start_ms) / width_ms * 1000:.1f}"/>'
        for mark in marks
    )


def mark_labels(marks: Sequence[Mark], start_ms: int, width_ms: int, origin_ms: int) -> str:
    """The marks' labels, each on its own row, with a stem down to the plot.

    The space beside a label shrinks before the label does, so that no label leaves a narrow page.
    """
    said = ""
    for row, mark in enumerate(marks):
        at = (mark.at_ms - start_ms) / width_ms * 100
        kind = " alarm" if mark.alarm else ""
        side, space = ("before", 100 - at) if at > 50 else ("after", at)
        said += (
            f'<i class="stem{kind}" style="left:{at:.2f}%;top:calc({row} * 1.45rem)"></i>'
            f'<span class="label {side}{kind}"><i style="flex:0 1 {space:.2f}%"></i>'
            f"<span>{escape(mark.label)} <small>{clock((mark.at_ms - origin_ms) / 1000)}</small></span></span>"
        )
    return said


def legend(keys: Sequence[tuple[str, str]]) -> str:
    """Which colour is what."""
    items = "".join(f'<li><i class="swatch {key}"></i>{escape(label)}</li>' for key, label in keys)
    return f'<ul class="legend">{items}</ul>'


def stacked(title: str, parts: Sequence[Part], whole: int) -> str:
    """One bar of the ledger: pieces of `whole`. A piece too small to see still gets two pixels."""
    shown = [part for part in parts if part.value]
    said = ", ".join(f"{count(part.value)} {part.label}" for part in shown) or "none"
    pieces = "".join(
        f'<span class="piece {part.key}" style="flex:{part.value} 0 0" '
        f'title="{escape(part.label)}: {count(part.value)}"></span>'
        for part in shown
    )
    rest = whole - sum(part.value for part in shown)
    if rest > 0:
        pieces += f'<span class="piece rest" style="flex:{rest} 0 0"></span>'
    words = "".join(
        f'<span class="word"><i class="swatch {part.key}"></i>{count(part.value)} {escape(part.label)}</span> '
        for part in shown
    )
    return (
        f'<div class="stage"><h3>{escape(title)}</h3>'
        f'<div class="bar" role="img" aria-label="{escape(f"{title}: {said}, of {count(whole)}")}">{pieces}</div>'
        f'<p class="words">{words}</p></div>'
    )


def bars(title: str, rows: Sequence[tuple[str, float]], column: str) -> str:
    """Horizontal bars, one a row, each with its number."""
    top = max((abs(value) for _, value in rows), default=0.0) or 1.0
    drawn = "".join(
        f'<span class="name">{escape(label)}</span>'
        f'<span class="track"><i{" class=below" if value < 0 else ""} '
        f'style="width:{abs(value) / top * 100:.2f}%"></i></span>'
        f'<span class="number">{count(value)}</span>'
        for label, value in rows
    )
    said = f"{title}, {column} by row: " + ", ".join(f"{label} {count(value)}" for label, value in rows[:5])
    return (
        f'<figure class="chart"><figcaption>{escape(title)} <small>{escape(column)}</small></figcaption>'
        f'<div class="hbars" role="img" aria-label="{escape(said)}">{drawn}</div></figure>'
    )


def timeline(spans: Sequence[Span], marks: Sequence[Mark], start_ms: int, end_ms: int) -> str:
    """A lane a stage and label, with its bars; the marks go through all lanes."""
    width_ms = max(1, end_ms - start_ms)
    place: Callable[[int], float] = lambda at_ms: (at_ms - start_ms) / width_ms * 100  # noqa: E731
    lanes: dict[str, list[Span]] = {}
    for span in spans:
        lanes.setdefault(span.lane, []).append(span)
    rows = ""
    for lane, members in lanes.items():
        bars_of = "".join(
            f'<i class="run {escape(span.stage)}{" open" if span.open_ended else ""}" '
            f'style="left:{place(span.start_ms):.2f}%;'
            f'width:{max(0.15, place(span.end_ms) - place(span.start_ms)):.2f}%"></i>'
            for span in members
        )
        rows += f'<span class="name">{escape(lane)}</span><span class="lane">{bars_of}</span>'
    shown = [mark for mark in marks if start_ms <= mark.at_ms <= end_ms]
    stems = "".join(
        f'<i class="stem{" alarm" if mark.alarm else ""}" style="left:{place(mark.at_ms):.2f}%"></i>'
        for mark in shown
    )
    x_axis = _x_axis(start_ms, end_ms, start_ms)
    said = f"Timeline of {len(lanes)} lanes over {clock(width_ms / 1000)}; the table below has the same."
    labels = mark_labels(shown, start_ms, width_ms, start_ms)
    return (
        f'<figure class="chart timeline"><div class="frame" role="img" aria-label="{escape(said)}">'
        f'<div class="marks" style="--rows:{len(shown)}">{labels}</div>'
        f'<div class="lanes">{rows}<div class="stems">{stems}</div></div>'
        f'<div class="x">{x_axis}</div></div></figure>'
    )
