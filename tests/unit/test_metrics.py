"""Metrics files: names, what is asserted of rows, and what is said where it does not hold."""

from pathlib import Path

import pytest

from kappaflow.errors import JobFileError
from kappaflow.metrics import Claim, MetricError, check_metrics, named_queries
from kappaflow.types import Metric


def test_queries_have_names_and_may_claim_something_of_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sql"
    path.write_text(
        "-- name: totals\nSELECT 1;\n\n-- name: twice\n-- assert: rows = 0\nSELECT n FROM landed GROUP BY n\n"
        "-- name: some\n--assert:rows>=10\nSELECT 2"
    )
    found = named_queries(path)
    assert {name: query.claim for name, query in found.items()} == {
        "totals": None,
        "twice": Claim("=", 0),
        "some": Claim(">=", 10),
    }
    assert found["totals"].text == "SELECT 1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELECT 1", "has no query"),
        ("-- name: a\nSELECT 1\n-- name: a\nSELECT 2", "two queries named a"),
        (
            "-- name: a\n-- assert: row = 0\nSELECT 1",
            "metric a: expected one line like `-- assert: rows = 0`",
        ),
        ("-- name: a\n-- assert: rows = 0\n-- assert: rows = 1\nSELECT 1", "found 'rows = 0; rows = 1'"),
    ],
)
def test_what_a_file_says_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "metrics.sql"
    path.write_text(text)
    with pytest.raises(JobFileError, match=r"output\.metrics") as caught:
        named_queries(path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("relation", "rows", "holds"),
    [
        ("=", 0, [True, False]),
        ("<>", 0, [False, True]),
        ("!=", 0, [False, True]),
        ("<", 1, [True, False]),
        ("<=", 0, [True, False]),
        (">", 0, [False, True]),
        (">=", 1, [False, True]),
    ],
)
def test_a_claim_compares_rows(relation: str, rows: int, holds: list[bool]) -> None:
    assert [Claim(relation, rows).failed(found) is None for found in (0, 1)] == holds


def test_rows_that_should_not_be_are_shown() -> None:
    rows = [[f"row {n}", n] for n in range(12)]
    good: Metric = {"columns": ["n"], "rows": [[1]], "failed": None}
    bad: Metric = {"columns": ["what", "n"], "rows": rows, "failed": Claim("=", 0).failed(12)}
    check_metrics({"good": good, "plain": {"columns": ["n"], "rows": [[1]]}})
    with pytest.raises(MetricError) as caught:
        check_metrics({"good": good, "bad": bad})
    said = str(caught.value)
    assert said.startswith("bad: asserts rows = 0, and has 12; row 0, 0; row 1, 1")
    assert said.endswith("row 9, 9; and 2 more")
