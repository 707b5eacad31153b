"""What the stages return: plain dicts that JSON can carry. Counts are rows unless a name says otherwise."""

from collections.abc import Callable
from typing import Any, Literal, NotRequired, TypedDict


class Progress(TypedDict):
    """How far a stage is; given to `on_progress` a few times a second."""

    stage: str
    label: str
    done: int
    total: int | None
    note: str
    figures: dict[str, float]
    """Further numbers by name, for metrics. A landing: `rows`, `bytes` and `files` written, `lag_records` to its end.
    A publish: `rows_per_s`, `bytes_per_s`, `lag_records`, `held_back` (1 while a limit holds it back) and
    `pacing_waited_s`."""


OnProgress = Callable[[Progress], object]


class Child(TypedDict):
    name: str
    rows: int
    state: Literal["waiting", "queued", "active", "done"]
    region: str | None
    token: int


class JobPlan(TypedDict):
    job: str
    name: str
    rows: int
    files: int
    splits: int
    children: list[Child]


class Placement(TypedDict):
    child: str
    region: str
    rows: int
    token: int


class Region(TypedDict):
    """A region's load, in rows; `headroom = cap_max - (active + queued)`."""

    name: str
    cap_max: int
    active: int
    queued: int
    headroom: int


class Dispatched(TypedDict):
    job: str
    placed: list[Placement]
    waiting: list[str]
    regions: list[Region]


class Event(TypedDict):
    """A line of the job's timeline; `at_ms` is milliseconds since the Unix epoch."""

    at_ms: int
    stage: str
    label: str
    what: str
    detail: dict[str, Any]


class Metric(TypedDict):
    """The rows of a named query. `failed`, of one that asserts something of them: why it does not hold, or None."""

    columns: list[str]
    rows: list[list[Any]]
    failed: NotRequired[str | None]


# Summaries that grow with their stages; their keys are described with each function of `kappaflow`.
Summary = dict[str, Any]
