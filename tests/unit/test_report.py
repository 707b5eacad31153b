"""The report: what it says, that it fetches nothing, that everything is escaped, and what it derives."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from kappaflow import report
from kappaflow.errors import FileError
from kappaflow.report import Check, Mark, Pressure, PressureSample, ReportData, Sample, Span, Way, WaySample
from kappaflow.report.charts import ticks
from kappaflow.report.collect import seconds_of
from kappaflow.report.data import at, rates, spread_landings
from kappaflow.report.page import charted_column
from kappaflow.report.tables import text

T0 = 1_780_000_000_000


def cause(fate: str, reason: str, rows: int) -> dict[str, Any]:
    return {"fate": fate, "reason": reason, "rows": rows}


def ledger(**changes: Any) -> dict[str, Any]:
    return {
        "expected": 336_776,
        "landed": 327_346,
        "filtered": 8_255,
        "dead_lettered": 1_175,
        "rejected": 0,
        "missing": 0,
        "duplicated": 0,
        "done_twice": 0,
        "explained": True,
        "notes": [],
        "by_cause": [cause("filtered", "Cancelled", 8_255), cause("dead_lettered", "NotArrived", 1_175)],
        "children": [{"child": "2013-01", "landed": 327_346}],
        **changes,
    }


def full(**changes: Any) -> ReportData:
    data = ReportData(
        name="flights",
        job="4f2a9c0d11e7b358",
        ledger=ledger(),
        params={"rules": "v2"},
        children=[{"name": "2013-01", "rows": 336_776, "state": "done", "region": "east", "token": 1}],
        samples=[Sample(T0 + i * 1_000, i * 10_000, i * 9_000, 0 if i < 30 else 327_346) for i in range(34)],
        marks=[Mark(T0 + 12_000, "kill -9 of worker east-1", True)],
        spans=[
            Span("publish 2013-01", "2013-01", "publish", T0, T0 + 9_000),
            Span("land east", "east", "land", T0 + 25_000, T0 + 30_000),
        ],
        metrics={
            "cost_by_month": {
                "columns": ["month", "n", "cost_usd"],
                "rows": [["01", 3, 1_234_567], ["02", 4, 1]],
            }
        },
        source={
            "landed": {"": 327_346},
            "filtered": {"Cancelled": 8_255},
            "dead_lettered": {"NotArrived": 1_175},
        },
        checks=[Check("unknown planes", 48_329, 48_329)],
        seconds={"publish": 9.0, "total": 33.0},
        versions={"kappaflow": "0.1.0"},
    )
    for name, value in changes.items():
        setattr(data, name, value)
    return data


class Reader(HTMLParser):
    """Tags that are open and closed, attributes, and the text outside styles."""

    VOID = frozenset({"meta", "br", "wbr", "line", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def read(data: ReportData) -> Reader:
    reader = Reader()
    reader.feed(report.page(data))
    assert reader.open == []
    return reader


def test_the_verdict_and_every_part_are_there() -> None:
    said = read(full()).text
    for words in (
        "Every row explained",
        "336,776 acknowledged",
        "8,255 filtered",
        "kill -9 of worker east-1",
        "✓ same",
        "Rows by region",
        "1,234,567",
        "land east",
        "0.1.0",
    ):
        assert words in said.replace("✓  same", "✓ same"), words


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    page = report.page(full())
    assert "http" not in page
    assert "url(" not in page
    assert "@import" not in page
    tags = read(full()).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object"}
    assert not [attrs for _, attrs in tags if {"src", "href"} & set(attrs)]


def test_charts_have_names_and_tables_have_headers() -> None:
    tags = read(full()).tags
    drawings = [attrs for tag, attrs in tags if tag == "svg" or attrs.get("role") == "img"]
    assert drawings
    assert all(attrs.get("aria-label") for attrs in drawings)
    assert all(attrs.get("scope") == "col" for tag, attrs in tags if tag == "th")
    assert ("html", {"lang": "en"}) in tags


def test_everything_is_escaped() -> None:
    evil = "<script>\"&'</script>"
    data = full(
        name=evil,
        params={evil: evil},
        marks=[Mark(T0 + 1_000, evil, True)],
        spans=[Span(evil, evil, "publish", T0, T0 + 5_000)],
        metrics={evil: {"columns": [evil, "n"], "rows": [[evil, 2], [evil, 1]]}},
        checks=[Check(evil, 1, 2)],
        versions={evil: evil},
        children=[{"name": evil, "rows": 1, "state": "done", "region": evil, "token": 1}],
        ledger=ledger(by_cause=[cause("filtered", evil, 8_255)], notes=[evil]),
        source=None,
    )
    reader = read(data)
    assert "script" not in {tag for tag, _ in reader.tags}
    assert evil in reader.text


def test_missing_rows_are_the_headline_and_are_named() -> None:
    examples = [{"split": 3, "seq": 17, "file": "part-0.parquet", "row_in_file": 10_017, "why": "lost"}]
    found = read(
        full(ledger=ledger(landed=327_345, missing=1, explained=False, missing_examples=examples))
    ).text
    assert "✗ 1 rows missing" in found
    assert "part-0.parquet" in found
    assert "Every row explained" not in found
    assert "✗ differs" in found.replace("✗  differs", "✗ differs")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ledger": ledger(duplicated=2, explained=False)}, "2 rows are doubled in the table"),
        ({"checks": [Check("unknown planes", 1, 48_329)]}, "unknown planes: 1, expected 48,329"),
        ({"source": {}}, "landed: the ledger has 327,346 rows, the source 0"),
        (
            {"ledger": ledger(by_cause=[cause("dead_lettered", "NotArrived", 1_175)])},
            "filtered for Cancelled: the ledger has 0 rows, the source 8,255",
        ),
        ({"ledger": ledger(explained=False)}, "the ledger is not explained"),
    ],
)
def test_problems_are_said(changes: dict[str, Any], said: str) -> None:
    assert said in " | ".join(report.problems(full(**changes)))
    assert "not explained" in report.page(full(**changes)).split("</title>")[0]


def test_nothing_wrong_is_no_problem() -> None:
    assert report.problems(full()) == []
    assert report.problems(full(source=None, checks=[])) == []


def test_causes_stand_beside_the_source_and_none_is_left_out() -> None:
    by_cause = [cause("filtered", "Cancelled", 8_255), cause("rejected", "hour: too large", 4)]
    data = full(
        ledger=ledger(by_cause=by_cause), source={"landed": {"": 5}, "dead_lettered": {"NotArrived": 3}}
    )
    found = {(c.fate, c.cause): (c.rows, c.source) for c in report.causes(data)}
    assert found == {
        ("landed", ""): (327_346, 5),
        ("filtered", "Cancelled"): (8_255, 0),
        ("dead_lettered", "NotArrived"): (0, 3),
        ("rejected", "hour: too large"): (4, 0),
    }


def test_a_bare_ledger_makes_a_report() -> None:
    found = read(ReportData(name="n", job="j", ledger=ledger())).text
    assert "Every row explained" in found
    assert "Throughput" not in found
    assert "Timeline" not in found


def test_write_makes_the_folder_and_names_the_file_that_it_can_not_write(tmp_path: Path) -> None:
    written = report.write(tmp_path / "a" / "report.html", full())
    assert written.read_text(encoding="utf-8").startswith("<!doctype html>")
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"report\.html"):
        report.write(tmp_path / "file" / "report.html", full())


def test_spans_run_from_started_to_the_next_line_of_the_same() -> None:
    def event(at_ms: int, stage: str, label: str, what: str, **detail: int) -> Any:
        return {"at_ms": at_ms, "stage": stage, "label": label, "what": what, "detail": detail}

    spans = report.spans_of(
        [
            event(0, "dispatch", "a", "placed"),
            event(1_000, "publish", "a", "started"),
            event(1_500, "publish", "b", "started"),
            event(4_000, "publish", "a", "published"),
            event(5_000, "publish", "b", "started"),  # killed, and begun again
            event(6_000, "publish", "b", "published"),
            event(7_000, "work", "east", "begin", pid=1),
            event(7_500, "work", "east", "begin", pid=2),
            event(8_000, "work", "east", "end", pid=2),
            event(9_000, "land", "west", "started"),
        ]
    )
    assert [(s.lane, s.start_ms, s.end_ms, s.open_ended) for s in spans] == [
        ("publish a", 1_000, 4_000, False),
        ("publish b", 1_500, 5_000, True),
        ("publish b", 5_000, 6_000, False),
        ("work east 1", 7_000, 9_000, True),
        ("work east 2", 7_500, 8_000, False),
        ("land west", 9_000, 9_000, True),
    ]
    assert seconds_of(spans) == {"publish": 5.0, "work": 2.0, "land": 0.0, "total": 8.0}


def test_a_landing_is_spread_over_its_time_and_keeps_its_rows() -> None:
    samples = [Sample(i * 1_000, 0, 0, 0 if i < 8 else 1_000) for i in range(11)]
    spread = spread_landings(samples, [Span("land", "", "land", 4_000, 7_900)])
    assert [s.landed for s in spread] == [0, 0, 0, 0, 0, 250, 500, 750, 1_000, 1_000, 1_000]
    assert spread_landings(samples, []) == samples


def test_rates_add_up_to_the_counts() -> None:
    samples = [Sample(T0 + i * 700, i * 70, i * 35, 0) for i in range(40)]
    found = rates(samples)
    width_s = 39 * 0.7 / len(found)
    assert sum(rate["published"] for _, rate in found) * width_s == pytest.approx(39 * 70)
    assert found[3][1]["published"] == pytest.approx(100)
    assert at(samples, T0 + 350)[0] == pytest.approx(35)
    assert rates(samples[:1]) == []


@pytest.mark.parametrize(
    ("top", "last"), [(0, 1), (1, 1), (7, 8), (99, 100), (336_776, 400_000), (400_000, 400_000), (0.3, 0.3)]
)
def test_ticks_are_round_and_reach_the_top(top: float, last: float) -> None:
    found = ticks(top)
    assert found[0] == 0
    assert found[-1] == pytest.approx(last)
    assert 2 <= len(found) <= 7


def test_the_charted_column_is_the_one_that_the_metric_is_about() -> None:
    rows = [["a", 3, 10], ["b", 9, 5]]
    assert charted_column("cost_by_month", {"columns": ["m", "n", "cost_usd"], "rows": rows}) == 2
    assert charted_column("top", {"columns": ["m", "n", "usd"], "rows": rows}) == 2
    assert charted_column("checks", {"columns": ["wrong", "n"], "rows": [["a", 0], ["b", 0]]}) is None
    assert charted_column("one", {"columns": ["a", "b"], "rows": [["x", 1]]}) is None


def test_numbers_are_for_people() -> None:
    assert text(1_234_567) == "1,234,567"
    assert text(1_234.5) == "1,234.50"
    assert text(1_234.5, 1) == "1,234.5"
    assert text(None) == ""
    assert text(True) == "true"


def test_two_ways_of_calling_a_service_are_beside_each_other_in_a_table_and_one_plot() -> None:
    naive = Way(
        "64 threads", 10, 3_000, 24_000, 2, 24_002, 61.2, [WaySample(0, 0, 0), WaySample(500, 150, 1_200)]
    )
    ours = Way("KappaFlow", 30, 27_000, 0, 0, 0, 11.0, [WaySample(0, 0, 0), WaySample(500, 400, 0)])
    html = report.page(ReportData("flights", "0" * 16, ledger(), ways=[naive, ours]))
    section = html[html.index("One service, called two ways") :]
    for figure in ("24,000", "24,002", "61.2", "11.0", "300", "900"):
        assert f">{figure}<" in section, figure
    assert "64 threads: errors reaches 2,400 calls/s" in section
    assert "KappaFlow: answered reaches 800 calls/s" in section
    assert section.count("<polyline") == 4


def test_a_worker_under_pressure_is_a_table_and_four_plots() -> None:
    samples = [
        PressureSample(
            at_ms=at * 1_000, lag_records=900 - at, in_flight=7 + at % 2, limit=8, p99_ms=24.34, rss_mib=81
        )
        for at in range(60)
    ]
    shown = Pressure(samples, unloaded_p99_ms=21.5, timeouts=0)
    html = report.page(ReportData("flights", "0" * 16, ledger(), pressure=shown))
    section = html[html.index("More than the service takes") :].partition("</section>")[0]
    assert section.count("<svg") == 4
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", section)
    assert cells == ["8", "8", "24.3", "21.5", "81", "0", "59"]
    assert "Records that wait. lag reaches 900 records" in section
    assert "under way reaches 8 calls" in section
