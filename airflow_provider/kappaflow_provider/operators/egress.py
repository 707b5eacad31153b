"""Landing the egress topics."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kappaflow_provider.operators.base import KappaFlowOperator
from kappaflow_provider.receipts import log_landing
from kappaflow_provider.xcom import small

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class KafkaEgressOperator(KappaFlowOperator):
    """Lands a region's egress in the job's table, up to where it ends now, files and offsets in one commit.

    A large landing makes several (`output.commit_mib`, `commit_ms`).

    region: templated; to be mapped over. By default all regions of the job.
    shared: this task is one of several that share the partitions of a region, as members of a group.
    """

    template_fields: Sequence[str] = (*KappaFlowOperator.template_fields, "region")

    def __init__(self, *, region: str | None = None, shared: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.region = region
        self.shared = shared

    def execute(self, context: "Context") -> dict[str, Any]:
        """Calls `kappaflow.land`."""
        import kappaflow

        with self.calling() as params:
            summary = kappaflow.land(
                self.job_file,
                region=self.region or None,
                shared=self.shared,
                params=params,
                on_progress=self.progress(),
            )
        log_landing(self.region, summary)
        result: dict[str, Any] = small(summary)
        return result
