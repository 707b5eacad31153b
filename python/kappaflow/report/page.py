"""A report as one HTML page: nothing is fetched, everything is escaped, and a table says what each chart shows."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from typing import Any

from kappaflow.report import charts
from kappaflow.report.charts import Line, Part, count
from kappaflow.report.data import ReportData, causes, name, problems, rates, spread_landings
from kappaflow.report.pressure import pressure
from kappaflow.report.tables import is_number, more, table, text
from kappaflow.report.ways import ways
from kappaflow.types import Metric, Summary

_CHARTED_METRICS = 4
_MOST_BARS = 30
_TABLE_SAMPLES = 40
_MOST_ROWS = 200


def page(data: ReportData) -> str:
    """The whole document."""
    wrong = problems(data)
    sections = [
        _header(data, wrong),
        _stages(data),
        _causes(data),
        _throughput(data),
        _timeline(data),
        _section("One service, called two ways", *ways(data.ways)) if data.ways else "",
        _section("More than the service takes", *pressure(data.pressure)) if data.pressure else "",
        _children(data),
        _metrics(data.metrics),
        _about(data),
    ]
    verdict = "every row explained" if not wrong else "not explained"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(data.name)}: {verdict}</title>\n<style>\n{_style()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )


def _style() -> str:
    return (files("kappaflow.report") / "style.css").read_text(encoding="utf-8")


def _section(title: str, *content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(content)}</section>"


def _header(data: ReportData, wrong: Sequence[str]) -> str:
    ledger = data.ledger
    if wrong:
        title = f"{ledger['missing']:,} rows missing" if ledger["missing"] else "Not every row is explained"
        words = f"<ul>{''.join(f'<li>{escape(problem)}</li>' for problem in wrong)}</ul>"
        words += _examples(ledger)
    else:
        title = "Every row explained"
        counted = "" if data.source is None else " The counts by cause are those counted in the source."
        words = f"<p>{ledger['expected']:,} rows were expected; each has exactly one fate.{counted}</p>"
    facts = [
        (name(fate), count(ledger[fate])) for fate in ("expected", "landed", "filtered", "dead_lettered")
    ]
    facts += [(name(key), count(ledger[key])) for key in ("rejected", "missing", "duplicated")]
    if ledger.get("done_twice"):
        facts.append(("done twice", count(ledger["done_twice"])))
    if "total" in data.seconds:
        facts.append(("took", f"{data.seconds['total']:,.1f} s"))
    return (
        f'<header class="{"bad" if wrong else "good"}"><h1>{escape(data.name)} '
        f"<small>job {escape(data.job)}</small></h1>"
        f'<p class="verdict">{"✗" if wrong else "✓"} {escape(title)}</p>{words}{_facts(facts)}</header>'
    )


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    return f'<dl class="facts">{items}</dl>'


def _examples(ledger: Summary) -> str:
    content = ""
    for fate in ("missing", "duplicated"):
        rows: list[Mapping[str, Any]] = list(ledger.get(f"{fate}_examples") or ())[:_MOST_ROWS]
        if rows:
            columns = list(rows[0])
            cells = [[row.get(column) for column in columns] for row in rows]
            content += more(f"The first {fate} rows", table(columns, cells))
    return content


def _stages(data: ReportData) -> str:
    ledger = data.ledger
    expected, rejected, missing = ledger["expected"], ledger["rejected"], ledger["missing"]
    answered_or_lost = expected - rejected - ledger["filtered"] - ledger["dead_lettered"] - missing
    acknowledged = expected - rejected - missing
    lost = Part("missing", "missing", missing)
    landed = [Part("landed", "landed", ledger["landed"])]
    if ledger["duplicated"]:
        landed.append(Part("duplicated", "doubled in the table", ledger["duplicated"]))
    bars = [
        charts.stacked("Expected", [Part("expected", "rows in the source", expected)], expected),
        charts.stacked(
            "Published",
            [
                Part("acknowledged", "acknowledged", acknowledged),
                Part("rejected", "rejected by the schema", rejected),
                lost,
            ],
            expected,
        ),
        charts.stacked(
            "Worked",
            [
                Part("answered", "answered", answered_or_lost),
                Part("filtered", "filtered", ledger["filtered"]),
                Part("dead_lettered", "dead-lettered", ledger["dead_lettered"]),
                lost,
            ],
            expected,
        ),
        charts.stacked("Landed", [*landed, lost], expected),
    ]
    twice = (
        f'<p class="soft">{ledger["done_twice"]:,} rows were done twice after a stop or a crash; '
        "the table has each once.</p>"
        if ledger.get("done_twice")
        else ""
    )
    notes = "".join(f'<p class="soft">{escape(str(note))}</p>' for note in ledger.get("notes", ()))
    return _section("Ledger", *bars, twice, notes)


def _causes(data: ReportData) -> str:
    found = causes(data)
    head = ["fate", "cause", "rows"]
    checked = data.source is not None
    if checked:
        head += ["in the source", ""]
    body = "".join(
        f"<tr{'' if cause.right else ' class=wrong-row'}>"
        f'<td class="fate"><i class="swatch {cause.fate}"></i>{escape(name(cause.fate))}</td>'
        f'<td class="code">{_breakable(cause.cause)}</td><td class="n">{cause.rows:,}</td>'
        + (f'<td class="n">{cause.source or 0:,}</td><td>{_mark(cause.right)}</td>' if checked else "")
        + "</tr>"
        for cause in found
        if cause.rows or cause.source
    )
    total = sum(cause.rows for cause in found) + data.ledger["missing"]
    if data.ledger["missing"]:
        body += (
            '<tr class="wrong-row"><td><i class="swatch missing"></i>missing</td><td></td>'
            f'<td class="n">{data.ledger["missing"]:,}</td>{"<td></td><td></td>" if checked else ""}</tr>'
        )
    foot = f'<td>all</td><td></td><td class="n">{total:,}</td>'
    if checked:
        foot += f'<td class="n">{sum(cause.source or 0 for cause in found):,}</td><td></td>'
    numeric = {2, 3}
    columns = "".join(
        f'<th scope="col"{" class=n" if i in numeric else ""}>{escape(title)}</th>'
        for i, title in enumerate(head)
    )
    content = (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody>'
        f"<tfoot><tr>{foot}</tr></tfoot></table></div>"
    )
    if data.checks:
        rows = "".join(
            f'<tr{"" if c.right else " class=wrong-row"}><td>{escape(c.what)}</td><td class="n">{c.found:,}</td>'
            f'<td class="n">{c.expected:,}</td><td>{_mark(c.right)}</td></tr>'
            for c in data.checks
        )
        content += (
            '<details open><summary>Further checks</summary><div class="scroll" tabindex="0"><table><thead><tr>'
            '<th scope="col">what</th><th scope="col" class="n">found</th><th scope="col" class="n">expected</th>'
            f'<th scope="col"></th></tr></thead><tbody>{rows}</tbody></table></div></details>'
        )
    return _section("By cause" + (", checked against the source" if checked else ""), content)


def _breakable(dotted: str) -> str:
    """A dotted name that may go on in the next line after each of its parts."""
    return re.sub(r"([.:_])(?=\w)", r"\1<wbr>", escape(dotted))


def _mark(right: bool) -> str:
    return (
        ('<span class="right">✓<span class="wide"> same</span></span>')
        if right
        else '<span class="wrong">✗<span class="wide"> differs</span></span>'
    )


def _throughput(data: ReportData) -> str:
    if len(data.samples) < 2:
        return ""
    start, end, origin = data.samples[0].at_ms, data.samples[-1].at_ms, _bounds(data)[0]
    stages = (
        ("published", "published (acknowledged)"),
        ("worked", "worked (committed)"),
        ("landed", "landed"),
    )
    counts = [
        Line(key, label, [(s.at_ms, float(getattr(s, key))) for s in data.samples]) for key, label in stages
    ]
    by_time = rates(spread_landings(data.samples, data.spans))
    rated = [
        Line(key, label, [(at_ms, found[key]) for at_ms, found in by_time])
        for key, label in (("published", "Publish"), ("worked", "Work"), ("landed", "Land"))
    ]
    step = max(1, len(data.samples) // _TABLE_SAMPLES)
    shown = [*data.samples[:-1:step], data.samples[-1]]
    rows = [[f"{(s.at_ms - origin) / 1000:.1f}", s.published, s.worked, s.landed] for s in shown]
    spread = (
        '<p class="soft">A landing is one commit, so its rows appear at once above; '
        "as a rate they are spread over the time it took.</p>"
        if any(span.stage == "land" for span in data.spans)
        else ""
    )
    return _section(
        "Throughput",
        charts.lines("Rows done", counts, data.marks, start, end, "rows", origin_ms=origin),
        *(
            charts.lines(
                f"{line.label} rate", [line], data.marks, start, end, "rows/s", origin_ms=origin, low=True
            )
            for line in rated
        ),
        spread,
        more("The same as a table", table(["seconds", "published", "worked", "landed"], rows, numeric=True)),
    )


def _bounds(data: ReportData) -> tuple[int, int]:
    """When the first thing began and the last one ended: every chart counts its seconds from there."""
    begun = [span.start_ms for span in data.spans] + [sample.at_ms for sample in data.samples[:1]]
    ended = [span.end_ms for span in data.spans] + [sample.at_ms for sample in data.samples[-1:]]
    return min(begun), max(ended)


def _timeline(data: ReportData) -> str:
    if not data.spans:
        return ""
    start, end = _bounds(data)
    rows: list[list[Any]] = [
        [
            f"{(s.start_ms - start) / 1000:.1f}",
            s.lane,
            "no end noted" if s.open_ended else f"{(s.end_ms - s.start_ms) / 1000:.1f} s",
        ]
        for s in data.spans
    ]
    rows += [[f"{(mark.at_ms - start) / 1000:.1f}", mark.label, ""] for mark in data.marks]
    rows.sort(key=lambda row: float(row[0]))
    return _section(
        "Timeline",
        charts.timeline(data.spans, data.marks, start, end),
        more("The same as a table", table(["seconds", "what", "took"], rows)),
    )


def _children(data: ReportData) -> str:
    if not data.children:
        return ""
    of_child = {child["child"]: child for child in data.ledger.get("children", ())}
    fates = [
        f
        for f in ("landed", "filtered", "dead_lettered", "rejected", "missing")
        if any(f in c for c in of_child.values())
    ]
    rows: list[list[Any]] = []
    for child in sorted(data.children, key=lambda c: (c["region"] or "", c["name"])):
        counts = of_child.get(child["name"], {})
        state = child["state"]
        rows.append(
            [
                child["region"] or "none",
                child["name"],
                child["rows"],
                *(counts.get(f, 0) for f in fates),
                state,
            ]
        )
    by_region: dict[str, int] = {}
    for child in data.children:
        by_region[child["region"] or "none"] = by_region.get(child["region"] or "none", 0) + child["rows"]
    bars = charts.bars("Rows by region", sorted(((k, float(v)) for k, v in by_region.items())), "rows")
    head = ["region", "child job", "rows", *(name(fate) for fate in fates), "state"]
    return _section("Child jobs", bars, table(head, rows))


def _metrics(metrics: Mapping[str, Metric]) -> str:
    parts = []
    charted = 0
    for title, metric in metrics.items():
        shown = table(metric["columns"], metric["rows"][:_MOST_ROWS], numeric=True)
        if len(metric["rows"]) > _MOST_ROWS:
            shown += f'<p class="soft">… and {len(metric["rows"]) - _MOST_ROWS:,} more rows</p>'
        column = charted_column(title, metric) if charted < _CHARTED_METRICS else None
        heading = title.replace("_", " ")
        if column is not None:
            charted += 1
            rows = [(text(row[0]), float(row[column])) for row in metric["rows"] if is_number(row[column])]
            shown = charts.bars(heading, rows, metric["columns"][column]) + shown
            parts.append(f'<div class="metric">{shown}</div>')
        elif len(metric["rows"]) == 1:
            facts = [
                (column.replace("_", " "), text(value))
                for column, value in zip(metric["columns"], metric["rows"][0], strict=True)
            ]
            parts.append(
                f'<div class="metric alone"><div><h3>{escape(heading)}</h3>{_facts(facts)}</div></div>'
            )
        else:
            parts.append(f'<div class="metric alone"><div><h3>{escape(heading)}</h3>{shown}</div></div>')
    return _section("Metrics", *parts) if parts else ""


def charted_column(title: str, metric: Metric) -> int | None:
    """Which column of a metric is worth bars beside its first: one that the metric is named for, or sorted by.

    None if there are too few or too many rows, or nothing but zeros.
    """
    rows = metric["rows"]
    if not 2 <= len(rows) <= _MOST_BARS:
        return None
    numeric = [
        i
        for i in range(1, len(metric["columns"]))
        if any(is_number(row[i]) for row in rows)
        and all(row[i] is None or is_number(row[i]) for row in rows)
        and any(row[i] for row in rows)
    ]
    words = title.split("_by_")[0].split("_") if "_by_" in title else []
    for i in numeric:
        if any(word in metric["columns"][i].split("_") for word in words):
            return i
    for i in numeric:
        values = [row[i] for row in rows]
        if None not in values and values == sorted(values, reverse=True):
            return i
    return numeric[0] if numeric else None


def _about(data: ReportData) -> str:
    parts = []
    if data.seconds:
        rows = [[name(stage), f"{seconds:,.1f} s"] for stage, seconds in data.seconds.items()]
        parts.append(table(["stage", "took"], rows, caption="Durations"))
    if data.params:
        rows = [[key, str(value)] for key, value in data.params.items()]
        parts.append(table(["param", "value"], rows, caption="Params"))
    if data.versions:
        rows = [[key, value] for key, value in data.versions.items()]
        parts.append(table(["component", "version"], rows, caption="Versions"))
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    content = f'<div class="metric">{"".join(f"<div>{part}</div>" for part in parts)}</div>' if parts else ""
    return _section("About this run", content, f"<footer>Written by KappaFlow on {made}.</footer>")
