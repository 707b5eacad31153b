"""Landing the egress topics from Spark's executors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kappaflow_provider.receipts import log_landing
from kappaflow_provider.spark import SparkStage
from kappaflow_provider.xcom import small

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class SparkKafkaEgressOperator(SparkStage):
    """Lands a region's egress in the job's table from Spark's executors, one task a partition, in one commit.

    How it is submitted, and what driver and executors need, is said of `SparkStage`; the executors see the table's
    place, too.

    region: templated; to be mapped over. By default all regions of the job.
    """

    verb = "land"
    template_fields: Sequence[str] = (*SparkStage.template_fields, "region")
    ui_color = "#e4efe9"

    def __init__(self, *, region: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.region = region

    def execute(self, context: "Context") -> dict[str, Any]:  # type: ignore[override]  # SparkSubmitOperator gives none
        """Submits the landing, waits for it, and reads its summary."""
        summary = self.submitted(context, *([f"--region={self.region}"] if self.region else []))
        log_landing(self.region, summary)
        result: dict[str, Any] = small(summary)
        return result
