"""The page about a worker's figures names those that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = (ROOT / "rust/core/src/work/metrics/families.rs").read_text()
PAGE = (ROOT / "docs/metrics.md").read_text()


def test_the_page_lists_every_figure_in_its_order() -> None:
    families = re.findall(r'(?:counter|gauge)\(\s*"([a-z0-9_.]+)"', SOURCE)
    assert len(families) == len(set(families)) > 20
    listed = re.findall(r"^\| `([a-z0-9_.]+)` \|", PAGE, re.MULTILINE)
    # A histogram is no family of the list: calls keep it.
    listed.remove("messaging.process.duration")
    assert listed == families


def test_the_page_names_every_cause_and_outcome() -> None:
    counts = (ROOT / "rust/core/src/work/metrics/counts.rs").read_text()
    causes = re.findall(r'Self::\w+ => "(\w+)"', counts)
    assert causes
    calls = (ROOT / "rust/core/src/work/metrics/calls.rs").read_text()
    found = re.search(r"HOWS: \[&str; \d+\] = \[(.*?)\]", calls, re.DOTALL)
    assert found
    for name in (*causes, *re.findall(r'"(\w+)"', found[1])):
        assert f"`{name}`" in PAGE, name
