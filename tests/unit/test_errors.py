"""One exception family: every kind of error that the core has is an exception of its own in Python."""

import re
from pathlib import Path

import pytest

from kappaflow.errors import KappaFlowError, of_kind

SOURCE = Path(__file__).resolve().parents[2] / "rust" / "core" / "src" / "error.rs"
KINDS = sorted(set(re.findall(r'=> "(\w+)"', SOURCE.read_text())))


def test_the_kinds_were_found() -> None:
    assert {"job_file", "publish", "unexplained", "interrupted"} <= set(KINDS)


@pytest.mark.parametrize("kind", [*KINDS, "forked"])
def test_each_kind_has_its_exception(kind: str) -> None:
    error = of_kind(kind, "what happened")
    assert type(error) is not KappaFlowError
    assert error.kind == kind
    assert str(error) == "what happened"


def test_an_unknown_kind_is_still_one_of_the_family() -> None:
    assert type(of_kind("from a newer core", "x")) is KappaFlowError
