"""Summaries as tables on stderr, so that stdout stays for machines (`--json`)."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kappaflow.avro import PlanRow
from kappaflow.types import Dispatched, JobPlan, Metric, Summary

# Rows of a list that are shown; the rest is counted.
_SHOWN = 40


def _console() -> Console:
    # Where there is no terminal nothing wraps: a log has room.
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 160)


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}"
    return str(value)


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, limit: int | None = _SHOWN
) -> None:
    """One table; numbers to the right."""
    console = _console()
    if title:
        console.print(title, style="italic", soft_wrap=True)
    shown = Table()
    for index, column in enumerate(columns):
        numeric = any(isinstance(row[index], int | float) for row in rows)
        shown.add_column(column, justify="right" if numeric else "left")
    for row in rows[:limit]:
        # Data is no markup, whatever brackets are in it.
        shown.add_row(*(escape(_text(value)) for value in row))
    console.print(shown)
    if limit is not None and len(rows) > limit:
        console.print(f"... and {len(rows) - limit:,} more rows")


def lines(texts: Sequence[str]) -> None:
    """Plain lines."""
    for text in texts:
        _console().print(text, soft_wrap=True, markup=False)


def facts(title: str, summary: Summary) -> None:
    """The plain facts of a summary: numbers and texts, and counts by name."""
    rows: list[list[Any]] = []
    for key, value in summary.items():
        if isinstance(value, dict):
            rows += [
                [f"{key}: {name}", count]
                for name, count in value.items()
                if not isinstance(count, dict | list)
            ]
        elif isinstance(value, list):
            if value and all(isinstance(item, dict) for item in value):
                names = [str(item.get("region", item.get("name", ""))) for item in value]
                rows.append([key, ", ".join(names)])
        else:
            rows.append([key, value])
    table(title, ["what", "value"], rows)


def plan(plan: JobPlan) -> None:
    table(
        f"job {plan['name']} ({plan['job']}): {plan['rows']:,} rows, {plan['files']} files, {plan['splits']} splits",
        ["child", "rows", "state", "region"],
        [[c["name"], c["rows"], c["state"], c["region"] or ""] for c in plan["children"]],
    )


def dispatched(dispatched: Dispatched) -> None:
    table(
        "child jobs",
        ["child", "region", "rows"],
        [[p["child"], p["region"], p["rows"]] for p in dispatched["placed"]],
    )
    if dispatched["waiting"]:
        _console().print(f"waiting for headroom: {', '.join(dispatched['waiting'])}")
    table(
        "regions (rows)",
        ["region", "cap_max", "active", "queued"],
        [[r["name"], r["cap_max"], r["active"], r["queued"]] for r in dispatched["regions"]],
    )


def coercion(title: str, rows: list[PlanRow]) -> None:
    """A plan, field by field."""
    columns = ["column", "arrow type", "field", "avro type", "rule", "declared", "may be rejected"]
    shown = [
        [
            row["column"] or "(default)",
            row["arrow_type"],
            row["field"],
            row["avro_type"],
            row["rule"],
            "; ".join(row["declared"]),
            "; ".join(row["may_reject"]),
        ]
        for row in rows
    ]
    table(title, columns, shown, limit=None)


def rehearsal(told: Summary) -> None:
    """What a publish would send."""
    coercion("plan", told["plan"])
    parts = told["sampled_by_partition"].values()
    table(
        "nothing was sent; what would be, by a sample of the rows",
        ["what", "value"],
        [
            ["child jobs", ", ".join(told["children"])],
            ["rows", told["rows"]],
            ["splits", told["splits"]],
            ["partitions", told["partitions"]],
            ["sampled rows", told["sampled_rows"]],
            ["sampled rows of the fullest partition", max(parts, default=0)],
            ["bytes a row", told["bytes_per_row"]],
            ["expected bytes (before compression)", told["expected_bytes"]],
        ],
    )
    _rejected("rejected of the sample", told)


def receipt(receipt: Summary) -> None:
    facts("receipt", {k: v for k, v in receipt.items() if k not in ("splits", "rejects", "children")})
    _rejected("rejected", receipt)


def _rejected(title: str, summary: Summary) -> None:
    if summary["rejects"]:
        table(
            title,
            ["field", "reason", "rows"],
            [[r["field"], r["reason"], r["count"]] for r in summary["rejects"]],
        )


def ledger(report: Summary) -> None:
    """The ledger: one fate a row, then the causes, the child jobs and what is unexplained."""
    fates = ["landed", "filtered", "dead_lettered", "rejected", "missing"]
    rows: list[list[Any]] = [[fate, report[fate]] for fate in fates]
    rows += [["= expected", report["expected"]], ["doubled in the table", report["duplicated"]]]
    rows += [["done twice", report["done_twice"]], ["mended", report["mended"]]]
    table("ledger", ["fate", "rows"], rows)
    if report["by_cause"]:
        causes = [[c["fate"], c["reason"], c["rows"]] for c in report["by_cause"]]
        table("by cause", ["fate", "cause", "rows"], causes)
    if report["missing_examples"]:
        table(
            "missing rows (the first ones)",
            ["why", "file", "row", "split", "seq"],
            [
                [m["why"], m["file"], m["row_in_file"], m["split"], m["seq"]]
                for m in report["missing_examples"]
            ],
        )
    for note in report["notes"]:
        _console().print(note)


def doctor(told: Summary) -> None:
    """What failed last, where it is seen."""
    by_outcome = {"ok": 0, "unknown": 1, "failed": 2}
    needs = sorted(told["needs"], key=lambda need: by_outcome[need["outcome"]])
    table(
        f"job {told['name']} ({told['job']}): what it needs, and what trying it told",
        ["region", "kind", "needs", "outcome", "told"],
        [[n["region"] or "", n["kind"], n["what"], n["outcome"], n["told"]] for n in needs],
        limit=None,
    )
    lines([f"{len(needs)} needs, {told['failed']} failed, {told['unknown']} can't be told"])


def status(status: Summary) -> None:
    table(
        f"job {status['name']} ({status['job']}): {status['rows']:,} rows",
        ["child", "rows", "state", "region"],
        [[c["name"], c["rows"], c["state"], c["region"] or ""] for c in status["children"]],
    )
    keys = ["cap_max", "active", "queued", "headroom"]
    table(
        "regions (rows)",
        ["region", *keys, "ingress", "committed", "lag", "egress", "landed"],
        [[r["name"], *(r[key] for key in keys), *_progress(r["progress"])] for r in status["regions"]],
    )
    landed = status["table"]
    _console().print(
        f"table {landed['path']}: version {landed['version']}, {landed['rows']:,} rows", soft_wrap=True
    )


def _progress(progress: Summary | None) -> list[int | None]:
    """What a region has done; nothing before it was prepared."""
    keys = ["ingress_end", "committed", "lag", "egress_end", "landed"]
    return [progress[key] if progress else None for key in keys]


def metrics(results: dict[str, Metric]) -> None:
    for name, result in results.items():
        table(name, result["columns"], result["rows"])
