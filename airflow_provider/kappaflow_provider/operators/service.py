"""Putting the ingress through the service."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kappaflow_provider.exceptions import KappaFlowFailed
from kappaflow_provider.operators.base import KappaFlowOperator
from kappaflow_provider.progress import in_words
from kappaflow_provider.xcom import small

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

MODES = ("inline", "fleet")


class ServiceConsumerOperator(KappaFlowOperator):
    """Has a region's ingress put through the service, until all that was published is answered and committed.

    region: templated; to be mapped over.
    service_mode: "inline" runs a worker in this task; "fleet" waits for workers that run elsewhere. Templated. By
        default what the job file says in `service.mode`.
    """

    template_fields: Sequence[str] = (*KappaFlowOperator.template_fields, "region", "service_mode")

    def __init__(self, *, region: str, service_mode: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.region = region
        self.service_mode = service_mode

    def execute(self, context: "Context") -> dict[str, Any]:
        """Calls `kappaflow.work` (inline) or `kappaflow.watch` (fleet)."""
        import kappaflow

        with self.calling() as params:
            mode = self.service_mode
            if not mode:
                mode = kappaflow.resolve(self.job_file, params=params)["file"]["service"]["mode"]
            if mode not in MODES:
                raise KappaFlowFailed(
                    f"service_mode is {mode!r}: expected one of {', '.join(MODES)}", "job_file"
                )
            stage = kappaflow.work if mode == "inline" else kappaflow.watch
            self.log.info(
                "region %s: %s", self.region, "working here" if mode == "inline" else "watching the fleet"
            )
            summary = stage(self.job_file, region=self.region, params=params, on_progress=self.progress())
        result: dict[str, Any] = small(summary)
        self.log.info("region %s is done: %s", self.region, in_words(summary))
        return result
