"""One exception family: every kind of error that the core has is an exception of its own in Python."""

import re
from pathlib import Path

import pytest

from kappaflow.errors import KappaFlowError, of_kind

RUST = Path(__file__).resolve().parents[2] / "rust"
CORE = re.findall(r'=> "(\w+)"', (RUST / "core" / "src" / "error.rs").read_text())
# Of kappaflow-avro: the errors there are, and the name that the glue gives each.
AVRO = dict(
    re.findall(
        r'impl AvroError for (\w+) \{\s+const KIND: &str = "(\w+)"',
        (RUST / "python" / "src" / "errors.rs").read_text(),
    )
)
KINDS = sorted({*CORE, *AVRO.values()})


def test_the_kinds_were_found() -> None:
    assert {"job_file", "publish", "unexplained", "interrupted"} <= set(KINDS)


def test_each_error_of_the_avro_crate_has_a_kind() -> None:
    sources = (RUST / "avro" / "src").rglob("*.rs")
    errors = [name for path in sources for name in re.findall(r"pub enum (\w+Error)\b", path.read_text())]
    assert len(errors) >= 5
    assert set(errors) == set(AVRO)


@pytest.mark.parametrize("kind", [*KINDS, "forked"])
def test_each_kind_has_its_exception(kind: str) -> None:
    error = of_kind(kind, "what happened")
    assert type(error) is not KappaFlowError
    assert error.kind == kind
    assert str(error) == "what happened"


def test_an_unknown_kind_is_still_one_of_the_family() -> None:
    assert type(of_kind("from a newer core", "x")) is KappaFlowError
