"""A report's data from a job's own records: its status, timeline, ledger and metrics."""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import cast

import kappaflow
from kappaflow.api import JobPath, ParamValues
from kappaflow.errors import JobFileError, NotReadyError
from kappaflow.report.data import ReportData, Span, spans_of
from kappaflow.types import Child, Metric, Summary

_COMPONENTS = ("kappaflow", "apache-airflow", "airflow-provider-kappaflow", "duckdb", "pyarrow")


def collect(job: JobPath, *, params: ParamValues | None = None, ledger: Summary | None = None) -> ReportData:
    """What a job's store, topics and table tell of it now. Changes nothing but what `reconcile` notes.

    ledger: what `kappaflow.reconcile` returned, if it was just called; otherwise it is called here.
    The throughput has a point for each event, which is coarse: a program that watched the job can set finer
    `samples`. Raises what `kappaflow.reconcile` raises, such as NotReadyError for a job that was never begun.
    """
    resolved = kappaflow.resolve(job, params=params)
    report = ledger if ledger is not None else kappaflow.reconcile(job, params=params)
    status = kappaflow.status(job, params=params)
    spans = spans_of(kappaflow.events(job, params=params))
    return ReportData(
        name=str(status.get("name", resolved["file"]["name"])),
        job=str(status["job"]),
        ledger=report,
        params=resolved["params"],
        children=cast("list[Child]", status["children"]),
        spans=spans,
        metrics=_metrics(job, params),
        seconds=seconds_of(spans),
        versions=versions(),
    )


def _metrics(job: JobPath, params: ParamValues | None) -> dict[str, Metric]:
    """The job's metrics; none if it has no queries, or nothing landed."""
    try:
        return kappaflow.metrics(job, params=params)
    except (JobFileError, NotReadyError):
        return {}


def seconds_of(spans: Sequence[Span]) -> dict[str, float]:
    """How long each stage was at work, from its first start to its last end, and all of them together."""
    found: dict[str, float] = {}
    for stage in dict.fromkeys(span.stage for span in spans):
        members = [span for span in spans if span.stage == stage]
        found[stage] = (max(s.end_ms for s in members) - min(s.start_ms for s in members)) / 1_000
    if spans:
        found["total"] = (max(s.end_ms for s in spans) - min(s.start_ms for s in spans)) / 1_000
    return found


def versions() -> dict[str, str]:
    """Versions of what is installed and has a part in a job."""
    found = {"Python": platform.python_version()}
    for component in _COMPONENTS:
        try:
            found[component] = version(component)
        except PackageNotFoundError:
            continue
    return found
