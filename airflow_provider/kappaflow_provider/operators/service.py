"""Putting the ingress through the service."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    service_mode: "inline" runs a worker in this task; "fleet" submits the job to the fleet of its service, which runs
        elsewhere, and watches it; a task that is stopped takes the job back. Templated. By default what the job file
        says in `service.mode`.
    listen: `ADDRESS:PORT` where an inline worker answers /metrics, /healthz, /readyz and /replicas. Templated.
    """

    template_fields: Sequence[str] = (*KappaFlowOperator.template_fields, "region", "service_mode", "listen")

    def __init__(
        self, *, region: str, service_mode: str | None = None, listen: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.region = region
        self.service_mode = service_mode
        self.listen = listen

    def execute(self, context: "Context") -> dict[str, Any]:
        """Calls `kappaflow.work` (inline), or `kappaflow.submit` and `kappaflow.watch` (fleet)."""
        import kappaflow

        with self.calling() as params:
            mode = self.service_mode
            if not mode:
                mode = kappaflow.resolve(self.job_file, params=params)["file"]["service"]["mode"]
            if mode not in MODES:
                raise KappaFlowFailed(
                    f"service_mode is {mode!r}: expected one of {', '.join(MODES)}", "job_file"
                )
            self.log.info(
                "region %s: %s",
                self.region,
                "working here" if mode == "inline" else "submitting it to the fleet",
            )
            show = self.progress()
            if mode == "inline":
                summary = kappaflow.work(
                    self.job_file, region=self.region, params=params, listen=self.listen, on_progress=show
                )
            else:
                kappaflow.submit(self.job_file, region=self.region, params=params)
                by = f"the task {self.task_id}, which was stopped,"
                with self.taken_back(params, by):
                    summary = kappaflow.watch(
                        self.job_file, region=self.region, params=params, on_progress=show
                    )
        result: dict[str, Any] = small(summary)
        self.log.info("region %s is done: %s", self.region, in_words(summary))
        return result

    @contextmanager
    def taken_back(self, params: Mapping[str, object], by: str) -> Iterator[None]:
        """Cancels the submitted job if Airflow, and not the job, ends what is done within."""
        import kappaflow

        try:
            yield
        except kappaflow.KappaFlowError:
            raise
        except BaseException:
            kappaflow.cancel(self.job_file, region=self.region, params=params, by=by)
            raise
