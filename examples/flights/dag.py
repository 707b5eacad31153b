"""The flights job as an Airflow DAG: every stage a task, publishing mapped over the months.

Put it (or a link to it) in your DAG folder. It needs `airflow-provider-kappaflow` and this folder's job file. The
environment variables FLIGHTS_JOB_FILE, FLIGHTS_EAST and FLIGHTS_WEST, set for Airflow's processes, change what the form
of a run proposes.
"""

import os
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

JOB_FILE = os.environ.get("FLIGHTS_JOB_FILE") or str(Path(__file__).resolve().with_name("job.toml"))
EAST = os.environ.get("FLIGHTS_EAST", "127.0.0.1:19092")
WEST = os.environ.get("FLIGHTS_WEST", "127.0.0.1:19093")
# What the job file declares under [params]: all of it may be set when the DAG is triggered.
JOB_PARAMS = ("rules", "data", "east", "west")
# No task depends on logical_date: a run that the API or an asset starts has none.
JOB: dict[str, Any] = {
    "job_file": "{{ params.job_file }}",
    "job_params": {name: f"{{{{ params.{name} }}}}" for name in JOB_PARAMS},
}

ABOUT = """
Replays the 336,776 flights that left New York City in 2013 through the delay cost service, on Kafka in two regions,
and lands what each delay cost as a table.

1. **split** pins the data and cuts the job into a child job a month; **dispatch** places them where there is
   **headroom**.
2. **publish** sends each month to the ingress topic of its region.
3. **work** has a region's flights answered: by workers of its own (`inline`), or by a fleet that runs elsewhere
   (`fleet`).
4. **egress_complete** and **lag** make sure that a region is done; then **land** commits its answers to the table.
5. **reconcile** gives every flight its one fate, and fails if one has none; **metrics** sums up the table.

Any task may be cleared and run again: what was done is kept, and nothing is done twice in the table.
"""


@dag(
    dag_id="flights_delay_cost",
    description="What did every flight delay of 2013 cost? All flights through the delay cost service",
    schedule=None,
    catchup=False,
    tags=["kappaflow"],
    doc_md=ABOUT,
    params={
        "job_file": Param(
            JOB_FILE,
            type="string",
            title="Job file",
            description="The path of job.toml, as the workers see it",
        ),
        "rules": Param(
            "v2", enum=["v1", "v2"], title="Rules", description="The version of the service's rules"
        ),
        "data": Param(
            "data/flights", type="string", title="Data", description="The flights, relative to the job file"
        ),
        "east": Param(EAST, type="string", title="Kafka of east", description="Its bootstrap servers"),
        "west": Param(WEST, type="string", title="Kafka of west", description="Its bootstrap servers"),
        "service_mode": Param(
            "inline",
            enum=["inline", "fleet"],
            title="Who works",
            description="inline: the tasks run the workers; fleet: they run elsewhere, and the tasks watch",
        ),
    },
    default_args={"retries": 2, "retry_delay": 10},
)
def flights_delay_cost() -> None:
    """The stages in order. Publishing never waits for workers; a fleet works while it goes on."""
    split = SplitJobOperator(
        task_id="split", doc_md="Pins the data and cuts it into splits, and into a child job a month.", **JOB
    )
    headroom = RegionHeadroomSensor(
        task_id="headroom",
        doc_md="Waits until a region has room for the largest month.",
        poke_interval=15,
        timeout=3_600,
        **JOB,
    )
    dispatch = RegionDispatchOperator(
        task_id="dispatch",
        doc_md="Gives each month a region with headroom, and makes the topics there.",
        **JOB,
    )
    publish = KafkaIngressOperator.partial(
        task_id="publish",
        doc_md="Publishes a month's flights. Its receipt is counted from what the brokers acknowledged.",
        map_index_template="{{ task.child }}",
        **JOB,
    ).expand(child=split.output)

    @task(doc_md="The regions that got a month: what the next tasks are mapped over.")
    def regions(placements: Any) -> list[str]:
        return sorted({placement["region"] for placement in placements})

    placed = regions(dispatch.output)
    a_region = {"map_index_template": "{{ task.region }}", **JOB}
    work = ServiceConsumerOperator.partial(
        task_id="work",
        doc_md="Until all that was published in a region is answered and committed.",
        service_mode="{{ params.service_mode }}",
        **a_region,
    ).expand(region=placed)
    egress_complete = EgressCompleteSensor.partial(
        task_id="egress_complete",
        doc_md="Waits until every flight that was published in a region has its answer in the egress topic.",
        poke_interval=5,
        timeout=3_600,
        **a_region,
    ).expand(region=placed)
    lag = ConsumerLagSensor.partial(
        task_id="lag",
        doc_md="Waits until a region's workers have nothing left to do.",
        max_lag=0,
        poke_interval=5,
        timeout=3_600,
        **a_region,
    ).expand(region=placed)
    land = KafkaEgressOperator.partial(
        task_id="land",
        doc_md="Lands a region's answers in the table, in one commit with their offsets.",
        **a_region,
    ).expand(region=placed)
    reconcile = OffsetReconcileOperator(
        task_id="reconcile",
        doc_md="Gives every flight its one fate. Fails, and names flights, if one has none or two.",
        **JOB,
    )
    metrics = SqlMetricsOperator(
        task_id="metrics", doc_md="Runs metrics.sql over the table. Fails if one of its checks does.", **JOB
    )

    split >> headroom >> dispatch >> [publish, placed]
    publish >> work >> [egress_complete, lag] >> land >> reconcile >> metrics


flights_delay_cost()
