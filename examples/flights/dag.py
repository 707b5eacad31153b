"""The flights job as an Airflow DAG: every stage a task, publishing mapped over the months.

Put it (or a link to it) in your DAG folder. It needs `airflow-provider-kappaflow` and this folder's job file.
"""

from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import Param, dag, task

from kappaflow_provider.operators.dispatch import RegionDispatchOperator
from kappaflow_provider.operators.egress import KafkaEgressOperator
from kappaflow_provider.operators.ingress import KafkaIngressOperator
from kappaflow_provider.operators.metrics import SqlMetricsOperator
from kappaflow_provider.operators.reconcile import OffsetReconcileOperator
from kappaflow_provider.operators.service import ServiceConsumerOperator
from kappaflow_provider.operators.split import SplitJobOperator
from kappaflow_provider.sensors.egress import EgressCompleteSensor
from kappaflow_provider.sensors.headroom import RegionHeadroomSensor
from kappaflow_provider.sensors.lag import ConsumerLagSensor

JOB_FILE = Path(__file__).resolve().with_name("job.toml")
# What the job file declares under [params]: all of it may be set when the DAG is triggered.
JOB_PARAMS = ("rules", "data", "east", "west")
# No task depends on logical_date: a run that the API or an asset starts has none.
JOB: dict[str, Any] = {
    "job_file": "{{ params.job_file }}",
    "job_params": {name: f"{{{{ params.{name} }}}}" for name in JOB_PARAMS},
}


@dag(
    dag_id="flights_delay_cost",
    description="What did every flight delay of 2013 cost? All flights through the delay cost service",
    schedule=None,
    catchup=False,
    tags=["kappaflow"],
    params={
        "job_file": Param(str(JOB_FILE), type="string", description="The job file, as the workers see it"),
        "rules": Param("v2", enum=["v1", "v2"], description="The version of the service's rules"),
        "data": Param("data/flights", type="string", description="The flights, relative to the job file"),
        "east": Param("127.0.0.1:19092", type="string", description="Bootstrap servers of region east"),
        "west": Param("127.0.0.1:19093", type="string", description="Bootstrap servers of region west"),
        "service_mode": Param(
            "inline",
            enum=["inline", "fleet"],
            description="inline: the tasks run the workers; fleet: they run elsewhere, and the tasks watch",
        ),
    },
    default_args={"retries": 2, "retry_delay": 10},
)
def flights_delay_cost() -> None:
    """The stages in order. Publishing never waits for workers; a fleet works while it goes on."""
    split = SplitJobOperator(task_id="split", **JOB)
    headroom = RegionHeadroomSensor(task_id="headroom", poke_interval=15, timeout=3_600, **JOB)
    dispatch = RegionDispatchOperator(task_id="dispatch", **JOB)
    publish = KafkaIngressOperator.partial(
        task_id="publish", map_index_template="{{ task.child }}", **JOB
    ).expand(child=split.output)

    @task
    def regions(placements: Any) -> list[str]:
        """The regions that got a child job."""
        return sorted({placement["region"] for placement in placements})

    placed = regions(dispatch.output)
    by_region = {"map_index_template": "{{ task.region }}"}
    work = ServiceConsumerOperator.partial(
        task_id="work", service_mode="{{ params.service_mode }}", **JOB, **by_region
    ).expand(region=placed)
    egress_complete = EgressCompleteSensor.partial(
        task_id="egress_complete", **JOB, poke_interval=5, timeout=3_600, **by_region
    ).expand(region=placed)
    lag = ConsumerLagSensor.partial(
        task_id="lag", **JOB, max_lag=0, poke_interval=5, timeout=3_600, **by_region
    ).expand(region=placed)
    land = KafkaEgressOperator.partial(task_id="land", **JOB, **by_region).expand(region=placed)
    reconcile = OffsetReconcileOperator(task_id="reconcile", **JOB)
    metrics = SqlMetricsOperator(task_id="metrics", **JOB)

    split >> headroom >> dispatch >> [publish, placed]
    publish >> work >> [egress_complete, lag] >> land >> reconcile >> metrics


flights_delay_cost()
