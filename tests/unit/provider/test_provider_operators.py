"""Each operator calls its stage, and returns small, plain JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from kappaflow.errors import JobFileError, KafkaError, NoHeadroomError, NotReadyError, UnexplainedError
from kappaflow_provider.exceptions import KappaFlowFailed, KappaFlowRetriable, KappaFlowStopped
from kappaflow_provider.operators.compact import CompactTableOperator
from kappaflow_provider.operators.dispatch import RegionDispatchOperator
from kappaflow_provider.operators.egress import KafkaEgressOperator
from kappaflow_provider.operators.ingress import KafkaIngressOperator
from kappaflow_provider.operators.metrics import SqlMetricsOperator
from kappaflow_provider.operators.reconcile import OffsetReconcileOperator
from kappaflow_provider.operators.service import ServiceConsumerOperator
from kappaflow_provider.operators.split import SplitJobOperator

Json = dict[str, Any]
CHILDREN = [
    {"name": "a", "rows": 30, "state": "queued", "region": "east", "token": 1},
    {"name": "b", "rows": 20, "state": "waiting", "region": None, "token": 0},
]
PLAN = {"job": "0" * 16, "name": "j", "rows": 50, "files": 2, "splits": 2, "children": CHILDREN}
REGIONS = [{"name": "east", "cap_max": 40, "active": 0, "queued": 30, "headroom": 10}]
RECEIPT = {
    "job": "0" * 16,
    "rows": 10,
    "acknowledged": 9,
    "rejected": 1,
    "read_back": 0,
    "doubled": 0,
    "splits": [{"split": n} for n in range(150)],
    "rejects": [{"field": "flight", "reason": "not whole", "count": 1}],
    "seconds": 0.5,
}
LEDGER = {
    "expected": 10,
    "landed": 9,
    "filtered": 0,
    "dead_lettered": 0,
    "rejected": 0,
    "missing": 1,
    "duplicated": 0,
    "explained": False,
}


def placed(*names: str) -> list[Json]:
    return [{"child": name, "region": "east", "rows": 30, "token": 1} for name in names]


def dispatched(*names: str, waiting: tuple[str, ...] = ()) -> Json:
    return {"job": "0" * 16, "placed": placed(*names), "waiting": list(waiting), "regions": REGIONS}


def test_split_returns_the_children_and_pushes_the_plan(stage: Any, context: Json, job_file: str) -> None:
    calls = stage("plan", PLAN)
    operator = SplitJobOperator(task_id="t", job_file=job_file, job_params={"rules": "v1"})
    assert operator.execute(context) == ["a", "b"]
    assert calls.made == [("plan", (job_file,), {"params": {"rules": "v1"}, "new_snapshot": False})]
    assert context["ti"].xcoms["plan"] == PLAN


def test_split_pins_anew_if_it_is_told_to(stage: Any, context: Json, job_file: str) -> None:
    calls = stage("plan", PLAN)
    SplitJobOperator(task_id="t", job_file=job_file, new_snapshot=True).execute(context)
    assert calls.made == [("plan", (job_file,), {"params": {}, "new_snapshot": True})]


def test_dispatch_returns_the_placements(stage: Any, context: Json, job_file: str) -> None:
    stage("dispatch", dispatched("a", "b"))
    assert RegionDispatchOperator(task_id="t", job_file=job_file).execute(context) == placed("a", "b")
    assert context["ti"].xcoms == {"waiting": [], "regions": REGIONS}


def test_dispatch_waits_for_headroom(stage: Any, context: Json, job_file: str) -> None:
    no_room = NoHeadroomError("no region has headroom for child job a of 30 rows: east has 10 of 40")
    calls = stage("dispatch", no_room, dispatched("a", waiting=("b",)), dispatched("a", "b"))
    stage("plan", PLAN)
    stage("regions", [{**REGIONS[0], "cap_max": 60}])
    operator = RegionDispatchOperator(task_id="t", job_file=job_file, poll_interval_s=0)
    assert operator.execute(context) == placed("a", "b")
    assert len(calls.of("dispatch")) == 3


def test_dispatch_gives_up_waiting_in_a_way_that_is_retried(stage: Any, context: Json, job_file: str) -> None:
    stage("dispatch", dispatched("a", waiting=("b",)))
    operator = RegionDispatchOperator(task_id="t", job_file=job_file, wait_timeout_s=0)
    with pytest.raises(KappaFlowRetriable, match="headroom for: b"):
        operator.execute(context)


def test_dispatch_does_not_wait_for_what_can_never_be(stage: Any, context: Json, job_file: str) -> None:
    stage("dispatch", dispatched("a", waiting=("b",)))
    stage("plan", PLAN)
    stage("regions", REGIONS)
    with pytest.raises(KappaFlowFailed, match=r"50 open rows.*together \(40\).*raise cap_max"):
        RegionDispatchOperator(task_id="t", job_file=job_file).execute(context)


def test_dispatch_may_leave_some_waiting(stage: Any, context: Json, job_file: str) -> None:
    stage("dispatch", dispatched("a", waiting=("b",)))
    operator = RegionDispatchOperator(task_id="t", job_file=job_file, allow_waiting=True)
    assert operator.execute(context) == placed("a")
    assert context["ti"].xcoms["waiting"] == ["b"]


@pytest.mark.parametrize(
    ("child", "name"),
    [("2013-01", "2013-01"), ({"child": "2013-01", "region": "east"}, "2013-01"), (None, None)],
)
def test_ingress_publishes_a_child(stage: Any, context: Json, job_file: str, child: Any, name: Any) -> None:
    calls = stage("publish", RECEIPT)
    receipt = KafkaIngressOperator(task_id="t", job_file=job_file, child=child).execute(context)
    assert calls.of("publish")[0]["child"] == name
    assert receipt["acknowledged"] == 9
    assert len(receipt["splits"]) == 100
    assert receipt["splits_total"] == 150
    json.dumps(receipt)


@pytest.mark.parametrize(
    ("given", "in_job", "called"),
    [
        ("inline", "fleet", "work"),
        ("fleet", "inline", "watch"),
        (None, "fleet", "watch"),
        ("", "inline", "work"),
    ],
)
def test_service_works_or_watches(
    stage: Any, context: Json, job_file: str, given: str | None, in_job: str, called: str
) -> None:
    stage("resolve", {"file": {"service": {"mode": in_job}}})
    stage("work", {"read": 10})
    submitted = stage("submit", {"regions": ["east"]})
    calls = stage("watch", {"read": 10})
    address = "127.0.0.1:9464"
    operator = ServiceConsumerOperator(
        task_id="t", job_file=job_file, region="east", service_mode=given, listen=address
    )
    assert operator.execute(context) == {"read": 10}
    [kwargs] = calls.of(called)
    assert kwargs["region"] == "east"
    assert kwargs.get("listen") == (address if called == "work" else None)
    assert not calls.of({"work": "watch", "watch": "work"}[called])
    assert len(submitted.of("submit")) == (called == "watch")


@pytest.mark.parametrize(
    ("ended", "taken_back"),
    [(KappaFlowStopped("stopped by Airflow", "interrupted"), 1), (KafkaError("no broker"), 0)],
)
def test_service_takes_a_job_back_when_airflow_ends_the_task(
    stage: Any, context: Json, job_file: str, ended: Exception, taken_back: int
) -> None:
    stage("submit", {"regions": ["east"]})
    stage("watch", ended)
    calls = stage("cancel", {"regions": ["east"]})
    operator = ServiceConsumerOperator(task_id="t", job_file=job_file, region="east", service_mode="fleet")
    with pytest.raises(KappaFlowRetriable):
        operator.execute(context)
    assert len(calls.of("cancel")) == taken_back
    for kwargs in calls.of("cancel"):
        assert kwargs["region"] == "east"
        assert "which was stopped" in kwargs["by"]


def test_service_refuses_an_unknown_mode(stage: Any, context: Json, job_file: str) -> None:
    operator = ServiceConsumerOperator(task_id="t", job_file=job_file, region="east", service_mode="flet")
    with pytest.raises(KappaFlowFailed, match="'flet': expected one of inline, fleet"):
        operator.execute(context)


@pytest.mark.parametrize("region", ["east", None])
def test_egress_lands(stage: Any, context: Json, job_file: str, region: str | None) -> None:
    calls = stage("land", {"rows": 9})
    operator = KafkaEgressOperator(task_id="t", job_file=job_file, region=region)
    assert operator.execute(context) == {"rows": 9}
    assert calls.of("land")[0]["region"] == region


def test_reconcile_pushes_the_ledger_and_fails_naming_rows(stage: Any, context: Json, job_file: str) -> None:
    stage("reconcile", LEDGER)
    calls = stage("check_ledger", UnexplainedError("1 of 10 rows are missing: part-0.parquet row 8"))
    with pytest.raises(KappaFlowFailed, match=r"1 of 10 rows are missing: part-0.parquet row 8"):
        OffsetReconcileOperator(task_id="t", job_file=job_file).execute(context)
    assert calls.made[1] == ("check_ledger", (LEDGER,), {})
    assert context["ti"].xcoms["ledger"]["missing"] == 1


def test_reconcile_returns_an_explained_ledger(stage: Any, context: Json, job_file: str) -> None:
    stage("reconcile", LEDGER | {"explained": True, "landed": 10, "missing": 0})
    assert OffsetReconcileOperator(task_id="t", job_file=job_file).execute(context)["landed"] == 10


def test_metrics_are_small_tables(stage: Any, context: Json, job_file: str) -> None:
    from datetime import date
    from decimal import Decimal

    rows = [[date(2013, 1, 1), Decimal("1.5")]] * 300
    stage("metrics", {"daily": {"columns": ["day", "usd"], "rows": rows}})
    operator = SqlMetricsOperator(task_id="t", job_file=job_file, max_rows=10)
    daily = operator.execute(context)["daily"]
    assert daily["rows"] == [["2013-01-01", "1.5"]] * 10
    assert daily["rows_total"] == 300


@pytest.mark.parametrize(("given", "hours"), [(168.0, 168.0), ("2.5", 2.5), (None, None)])
def test_a_table_is_compacted_and_cleaned_up(
    stage: Any, context: Json, job_file: str, given: Any, hours: float | None
) -> None:
    stage("compact_table", {"files_before": 5, "files_after": 1})
    calls = stage("clean_table", {"orphans": 2})
    operator = CompactTableOperator(task_id="t", job_file=job_file, clean_older_than_h=given)
    done = operator.execute(context)
    assert done["compact"] == {"files_before": 5, "files_after": 1}
    made = [(name, how.get("older_than_h")) for name, _, how in calls.made]
    assert made == [("compact_table", None)] + ([] if hours is None else [("clean_table", hours)])


def test_what_a_metric_asserts_of_its_rows_has_to_hold(stage: Any, context: Json, job_file: str) -> None:
    strange = {"columns": ["n"], "rows": [[3]], "failed": "asserts rows = 0, and has 1"}
    stage("metrics", {"strange": strange})
    with pytest.raises(KappaFlowFailed, match="strange: asserts rows = 0, and has 1; 3"):
        SqlMetricsOperator(task_id="t", job_file=job_file).execute(context)
    assert context["ti"].xcoms["metrics"]["strange"]["rows"] == [[3]]


@pytest.mark.parametrize(
    "error", [JobFileError("job.toml: name: is empty"), NotReadyError("dispatch it first")]
)
def test_what_no_retry_mends_fails_at_once(
    stage: Any, context: Json, job_file: str, error: Exception
) -> None:
    stage("land", error)
    with pytest.raises(KappaFlowFailed, match=str(error)):
        KafkaEgressOperator(task_id="t", job_file=job_file).execute(context)


def test_a_missing_job_file_fails_at_once(stage: Any, context: Json, tmp_path: Path) -> None:
    calls = stage("land", {})
    with pytest.raises(KappaFlowFailed, match="no such job file"):
        KafkaEgressOperator(task_id="t", job_file=str(tmp_path / "none.toml")).execute(context)
    assert not calls.made


def test_a_broker_error_is_retried(stage: Any, context: Json, job_file: str) -> None:
    stage("land", KafkaError("Kafka of region east (metadata): timed out"))
    with pytest.raises(KappaFlowRetriable, match="Kafka of region east") as caught:
        KafkaEgressOperator(task_id="t", job_file=job_file).execute(context)
    assert caught.value.kind == "kafka"


def test_on_kill_ends_the_call_and_nothing_else(stage: Any, context: Json, job_file: str) -> None:
    operator = KafkaEgressOperator(task_id="t", job_file=job_file)
    operator.on_kill()
    stage("land", lambda *_, **__: operator.on_kill())
    with pytest.raises(KappaFlowStopped):
        operator.execute(context)
    operator.on_kill()


def test_fields_are_templates(job_file: str) -> None:
    operator = ServiceConsumerOperator(
        task_id="t",
        job_file="{{ params.file }}",
        job_params={"rules": "{{ params.rules }}"},
        region="{{ params.region }}",
        service_mode="{{ params.mode }}",
    )
    values = {"file": job_file, "rules": "v1", "region": "east", "mode": "fleet"}
    operator.render_template_fields({"params": values})
    assert operator.job_file == job_file
    assert operator.job_params == {"rules": "v1"}
    assert (operator.region, operator.service_mode) == ("east", "fleet")
    assert {"job_file", "job_params", "child"} <= set(KafkaIngressOperator.template_fields)
    assert {"job_file", "job_params", "region"} <= set(KafkaEgressOperator.template_fields)


def test_a_summary_in_words() -> None:
    from kappaflow_provider.progress import in_words

    summary = {"region": "east", "landed": 12_345, "regions": [{"landed": 1}], "done": True, "seconds": 1.26}
    assert in_words(summary | {"duplicates": {"re_read": 2}}) == (
        "landed 12,345, done yes, seconds 1.3, duplicates: re_read 2"
    )
