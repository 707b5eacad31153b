"""The sensors wait for what they say, and no longer."""

import asyncio
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from kappaflow.errors import JobFileError, KafkaError, NotReadyError
from kappaflow_provider.exceptions import KappaFlowFailed, KappaFlowRetriable
from kappaflow_provider.sensors.egress import EgressCompleteSensor
from kappaflow_provider.sensors.headroom import RegionHeadroomSensor
from kappaflow_provider.sensors.lag import ConsumerLagSensor
from kappaflow_provider.sensors.table import LandedTableSensor
from kappaflow_provider.triggers.egress import EgressCompleteTrigger

Json = dict[str, Any]
BEHIND = {"lag": 5, "ingress_end": 10, "committed": 5, "published": True, "egress_end": 5, "landed": 0}
DONE = BEHIND | {"lag": 0, "committed": 10}
REGIONS = [
    {"name": "east", "cap_max": 40, "active": 0, "queued": 30, "headroom": 10},
    {"name": "west", "cap_max": 40, "active": 0, "queued": 0, "headroom": 40},
]
PLAN = {"children": [{"rows": 50, "state": "queued"}, {"rows": 35, "state": "waiting"}]}


@pytest.mark.parametrize(
    ("region", "rows", "roomy"),
    [
        (None, 10, ["east", "west"]),
        (None, None, ["west"]),
        ("east", "11", []),
        (None, 41, []),
        ("north", 1, []),
    ],
)
def test_headroom(stage: Any, context: Json, job_file: str, region: Any, rows: Any, roomy: list[str]) -> None:
    stage("regions", REGIONS)
    stage("plan", PLAN)
    sensor = RegionHeadroomSensor(task_id="t", job_file=job_file, region=region, rows=rows)
    found = sensor.poke(context)
    assert (bool(found), found.xcom_value) == (bool(roomy), roomy)


def test_lag(stage: Any, context: Json, job_file: str) -> None:
    stage("lag", NotReadyError("dispatch it first"), BEHIND, BEHIND)
    sensor = ConsumerLagSensor(task_id="t", job_file=job_file, region="east", max_lag="5")
    assert not sensor.poke(context)
    assert sensor.poke(context).xcom_value == BEHIND
    sensor.max_lag = 4
    assert not sensor.poke(context)


LANDED = {
    "children": [{"name": "all", "state": "done"}],
    "regions": [{"name": "east", "progress": DONE | {"landed": 5}}, {"name": "west", "progress": None}],
    "table": {"path": "/lake", "version": 2, "files": 1, "rows": 5, "shown": True},
}


@pytest.mark.parametrize(
    ("changed", "complete"),
    [
        ({}, True),
        ({"regions": []}, False),
        ({"regions": [{"name": "east", "progress": BEHIND}]}, False),
        ({"regions": [{"name": "east", "progress": DONE}]}, False),
        ({"regions": [{"name": "east", "progress": DONE | {"landed": 5, "published": False}}]}, False),
        ({"children": [{"name": "b", "state": "waiting"}]}, False),
        ({"table": LANDED["table"] | {"shown": False}}, False),
    ],
)
def test_a_table_is_landed_when_readers_see_all_answers(
    stage: Any, context: Json, job_file: str, changed: Json, complete: bool
) -> None:
    stage("status", NotReadyError("dispatch it first"), LANDED | changed)
    sensor = LandedTableSensor(task_id="t", job_file=job_file)
    assert not sensor.poke(context)
    found = sensor.poke(context)
    assert (bool(found), found.xcom_value) == (complete, LANDED["table"] if complete else None)


@pytest.mark.parametrize(
    ("lag", "done"), [(BEHIND, False), (DONE | {"published": False}, False), (DONE, True)]
)
def test_egress_is_complete_when_published_and_caught_up(
    stage: Any, context: Json, job_file: str, lag: Json, done: bool
) -> None:
    stage("lag", lag)
    sensor = EgressCompleteSensor(task_id="t", job_file=job_file, region="east", deferrable=False)
    assert bool(sensor.poke(context)) == done


def test_it_polls_until_done(stage: Any, context: Json, job_file: str) -> None:
    stage("lag", BEHIND, BEHIND, DONE)
    sensor = EgressCompleteSensor(
        task_id="t", job_file=job_file, region="east", deferrable=False, poke_interval=0
    )
    assert sensor.execute(context) == DONE


@pytest.mark.parametrize(
    ("error", "wanted"),
    [(KafkaError("timed out"), KappaFlowRetriable), (JobFileError("bad"), KappaFlowFailed)],
)
def test_errors_end_the_wait(
    stage: Any, context: Json, job_file: str, error: Exception, wanted: type[Exception]
) -> None:
    stage("lag", error)
    with pytest.raises(wanted):
        EgressCompleteSensor(task_id="t", job_file=job_file, region="east", deferrable=False).execute(context)


def test_a_short_wait_is_not_deferred(stage: Any, context: Json, job_file: str) -> None:
    stage("lag", BEHIND, DONE)
    sensor = EgressCompleteSensor(
        task_id="t", job_file=job_file, region="east", deferrable=True, poke_interval=0
    )
    assert sensor.execute(context) == DONE


def test_a_long_wait_is_deferred_and_ends(stage: Any, context: Json, job_file: str) -> None:
    stage("lag", BEHIND)
    sensor = EgressCompleteSensor(
        task_id="t", job_file=job_file, region="east", deferrable=True, before_deferring_s=0
    )
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context)
    trigger = deferred.value.trigger
    assert isinstance(trigger, EgressCompleteTrigger)
    assert deferred.value.method_name == "execute_complete"
    done = {"status": "done", "figures": DONE}
    assert sensor.execute_complete(context, done) == DONE
    with pytest.raises(KappaFlowFailed, match="bad key"):
        sensor.execute_complete(context, {"status": "error", "kind": "job_file", "message": "bad key"})
    with pytest.raises(KappaFlowRetriable, match="no broker"):
        sensor.execute_complete(context, {"status": "error", "kind": "kafka", "message": "no broker"})
    with pytest.raises(KappaFlowRetriable):
        sensor.execute_complete(context, None)


def fired(job_file: str, quiet_s: float = 0) -> tuple[Any, float]:
    async def run() -> tuple[Any, float]:
        trigger = EgressCompleteTrigger(job_file, "east", poll_interval_s=0, quiet_s=quiet_s)
        path, kwargs = trigger.serialize()
        assert path == "kappaflow_provider.triggers.egress.EgressCompleteTrigger"
        begun = asyncio.get_running_loop().time()
        async for event in EgressCompleteTrigger(**kwargs).run():
            return event.payload, asyncio.get_running_loop().time() - begun
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(run())


def test_the_trigger_waits_through_a_restart_of_the_broker(stage: Any, job_file: str) -> None:
    stage("lag", NotReadyError("dispatch it first"), KafkaError("down"), KafkaError("down"), BEHIND, DONE)
    assert fired(job_file)[0] == {"status": "done", "figures": DONE}


def test_the_trigger_is_quiet_at_first(stage: Any, job_file: str) -> None:
    stage("lag", DONE)
    assert fired(job_file, quiet_s=0.3)[1] >= 0.3


@pytest.mark.parametrize(
    ("error", "kind"),
    [(KafkaError("down"), "kafka"), (JobFileError("bad"), "job_file"), (OSError("x"), "error")],
)
def test_the_trigger_says_what_went_wrong(stage: Any, job_file: str, error: Exception, kind: str) -> None:
    stage("lag", error)
    assert fired(job_file)[0] == {"status": "error", "kind": kind, "message": str(error)}
