"""What a report is made of, and what is derived from it. Times are milliseconds since the Unix epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from kappaflow.types import Child, Event, Metric, Summary

FATES = ("landed", "filtered", "dead_lettered", "rejected", "missing")


@dataclass(frozen=True)
class Sample:
    """How many rows each stage had done at a moment."""

    at_ms: int
    published: int
    worked: int
    landed: int


@dataclass(frozen=True)
class Mark:
    """A moment that the charts show; `alarm` ones (a kill) stand out."""

    at_ms: int
    label: str
    alarm: bool = False


@dataclass(frozen=True)
class Span:
    """A stage at work on something for a time: a bar of the timeline. `open_ended`: its end is not known."""

    lane: str
    label: str
    stage: str
    start_ms: int
    end_ms: int
    open_ended: bool = False


@dataclass(frozen=True)
class Check:
    """A figure, and what it must be by another way of counting."""

    what: str
    found: int
    expected: int

    @property
    def right(self) -> bool:
        return self.found == self.expected


@dataclass(frozen=True)
class WaySample:
    """What one way of calling a service had come to, so long after it began."""

    at_ms: int
    answered: int
    errors: int


@dataclass(frozen=True)
class Way:
    """One way of calling a service, to be seen beside another.

    answered, errors, timeouts: calls by how they ended; `lost`: rows that have no answer at the end.
    p99_ms: of the calls that were answered.
    """

    label: str
    seconds: float
    answered: int
    errors: int
    timeouts: int
    lost: int
    p99_ms: float
    samples: Sequence[WaySample] = ()


@dataclass(frozen=True)
class PressureSample:
    """What a worker told of itself, so long after it began, and the memory it had resident."""

    at_ms: int
    lag_records: int
    in_flight: int
    limit: int
    p99_ms: float
    rss_mib: float


@dataclass(frozen=True)
class Pressure:
    """A worker with far more before it than its service takes.

    unloaded_p99_ms: of the same service, one call after the other.
    timeouts: calls that were given up.
    """

    samples: Sequence[PressureSample]
    unloaded_p99_ms: float
    timeouts: int


@dataclass
class ReportData:
    """Everything a report shows. Only `name`, `job` and `ledger` are needed; parts without data are left out.

    name, job: the job's name and its id (16 hex digits).
    ledger: what `kappaflow.reconcile` returned.
    params: the job's params, shown as they are: no secrets.
    children: the child jobs, as `kappaflow.status` lists them.
    samples: counts over time, oldest first; none gives no throughput charts.
    marks: moments to point out, such as a kill.
    spans: bars of the timeline; see `spans_of`.
    metrics: what `kappaflow.metrics` returned.
    source: rows by fate and cause as counted elsewhere, to be compared with the ledger's; None compares nothing.
    checks: further comparisons.
    ways: one service called in several ways, side by side.
    pressure: a worker with far more before it than its service takes.
    seconds: durations by stage, in seconds.
    versions: version by component.
    """

    name: str
    job: str
    ledger: Summary
    params: Mapping[str, object] = field(default_factory=dict)
    children: Sequence[Child] = ()
    samples: Sequence[Sample] = ()
    marks: Sequence[Mark] = ()
    spans: Sequence[Span] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    source: Mapping[str, Mapping[str, int]] | None = None
    checks: Sequence[Check] = ()
    ways: Sequence[Way] = ()
    pressure: Pressure | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cause:
    """Rows of one fate for one reason; `source` is None if nothing was counted elsewhere."""

    fate: str
    cause: str
    rows: int
    source: int | None

    @property
    def right(self) -> bool:
        return self.source is None or self.source == self.rows


def causes(data: ReportData) -> list[Cause]:
    """The ledger by fate and cause, side by side with the source; a cause only one of them knows has 0 in the other."""
    found: list[Cause] = []
    by_cause: dict[str, dict[str, int]] = {"landed": {"": int(data.ledger["landed"])}}
    for item in data.ledger.get("by_cause", ()):
        by_cause.setdefault(item["fate"], {})[item["reason"]] = int(item["rows"])
    for fate in FATES[:-1]:
        rows = by_cause.get(fate, {})
        source = None if data.source is None else data.source.get(fate, {})
        names = [*rows, *(name for name in source or {} if name not in rows)]
        found += [
            Cause(fate, name, rows.get(name, 0), None if source is None else source.get(name, 0))
            for name in names
        ]
    return found


def problems(data: ReportData) -> list[str]:
    """What keeps the verdict from being *every row explained*, in words; empty if nothing does."""
    ledger = data.ledger
    said = []
    if ledger["missing"]:
        said.append(f"{ledger['missing']:,} of {ledger['expected']:,} rows are missing")
    if ledger["duplicated"]:
        said.append(f"{ledger['duplicated']:,} rows are doubled in the table")
    if ledger.get("unexpected"):
        said.append(f"{ledger['unexpected']:,} rows were seen that the source does not have")
    if not ledger["explained"] and not said:
        said.append("the ledger is not explained")
    said += [
        f"{name(cause.fate)}{f' for {cause.cause}' if cause.cause else ''}: "
        f"the ledger has {cause.rows:,} rows, the source {cause.source:,}"
        for cause in causes(data)
        if not cause.right
    ]
    said += [f"{c.what}: {c.found:,}, expected {c.expected:,}" for c in data.checks if not c.right]
    return said


def name(key: str) -> str:
    """A key for people: `dead_lettered` is *dead-lettered*."""
    return {"dead_lettered": "dead-lettered"}.get(key, key.replace("_", " "))


_BEGINNINGS = frozenset({"begin", "started"})


def spans_of(events: Sequence[Event], end_ms: int | None = None) -> list[Span]:
    """Bars from a job's timeline: from a beginning to the next line about the same stage, label and process.

    A stage that never said anything more was killed, or is still at work: its bar is `open` and reaches to `end_ms`,
    or to the last event.
    """
    spans: list[Span] = []
    begun: dict[tuple[str, str, object], int] = {}
    last = end_ms if end_ms is not None else max((event["at_ms"] for event in events), default=0)
    for event in events:
        key = (event["stage"], event["label"], event["detail"].get("pid"))
        at_ms = event["at_ms"]
        if key in begun:
            # Begun again without an end: it ended somewhere in between.
            beginning = event["what"] in _BEGINNINGS
            spans.append(_span(key, begun.pop(key), at_ms, open_ended=beginning))
        if event["what"] in _BEGINNINGS:
            begun[key] = at_ms
    spans += [_span(key, start, max(start, last), open_ended=True) for key, start in begun.items()]
    return _told_apart(sorted(spans, key=lambda span: (span.start_ms, span.end_ms)))


def _span(key: tuple[str, str, object], start_ms: int, end_ms: int, *, open_ended: bool) -> Span:
    stage, label, pid = key
    lane = f"{stage} {label}".strip()
    return Span(lane if pid is None else f"{lane} ({pid})", label, stage, start_ms, end_ms, open_ended)


def _told_apart(spans: list[Span]) -> list[Span]:
    """Lanes by number instead of by pid: `work east 1`, `work east 2`; no number where there is but one."""
    lanes = dict.fromkeys(span.lane for span in spans)
    plain = {lane: lane.rpartition(" (")[0] if lane.endswith(")") else lane for lane in lanes}
    names: dict[str, str] = {}
    for lane, base in plain.items():
        members = [other for other in lanes if plain[other] == base]
        names[lane] = base if len(members) == 1 else f"{base} {members.index(lane) + 1}"
    return [replace(span, lane=names[span.lane]) for span in spans]


def spread_landings(samples: Sequence[Sample], spans: Sequence[Span]) -> list[Sample]:
    """The samples with each landing's jump spread over the time that the landing took.

    A landing is one commit, so its rows appear at once; as a rate that would be a needle that flattens the rest.
    """
    lands = [span for span in spans if span.stage == "land" and span.end_ms > span.start_ms]
    landed = [float(sample.landed) for sample in samples]
    for index in range(1, len(samples)):
        gained = samples[index].landed - samples[index - 1].landed
        at_ms = samples[index].at_ms
        before_ms = samples[index - 1].at_ms
        # The commit that brought them ended between the two samples, or a moment earlier than it was seen.
        ended = [span for span in lands if before_ms - 1_500 <= span.end_ms <= at_ms + 500]
        if gained <= 0 or not ended:
            continue
        start_ms = min(span.start_ms for span in ended)
        for earlier in range(index):
            part = (samples[earlier].at_ms - start_ms) / max(1, at_ms - start_ms)
            landed[earlier] += gained * min(1.0, max(0.0, part))
    return [
        Sample(sample.at_ms, sample.published, sample.worked, round(rows))
        for sample, rows in zip(samples, landed, strict=True)
    ]


def rates(samples: Sequence[Sample], buckets: int = 90) -> list[tuple[int, dict[str, float]]]:
    """Rows a second at the middle of equal stretches of time, at least a second each."""
    if len(samples) < 2:
        return []
    first, last = samples[0].at_ms, samples[-1].at_ms
    count = max(1, min(buckets, (last - first) // 1_000))
    edges = [first + (last - first) * i / count for i in range(count + 1)]
    found: list[tuple[int, dict[str, float]]] = []
    for start, end in pairwise(edges):
        seconds = max(0.001, (end - start) / 1_000)
        a, b = at(samples, start), at(samples, end)
        found.append(
            (
                round((start + end) / 2),
                {
                    "published": max(0.0, b[0] - a[0]) / seconds,
                    "worked": max(0.0, b[1] - a[1]) / seconds,
                    "landed": max(0.0, b[2] - a[2]) / seconds,
                },
            )
        )
    return found


def at(samples: Sequence[Sample], at_ms: float) -> tuple[float, float, float]:
    """The counts at a moment, between samples by proportion."""
    previous = samples[0]
    for sample in samples:
        if sample.at_ms >= at_ms:
            width = sample.at_ms - previous.at_ms
            part = (at_ms - previous.at_ms) / width if width > 0 else 1.0
            return (
                previous.published + (sample.published - previous.published) * part,
                previous.worked + (sample.worked - previous.worked) * part,
                previous.landed + (sample.landed - previous.landed) * part,
            )
        previous = sample
    return float(previous.published), float(previous.worked), float(previous.landed)
