"""The base of the operators."""

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator

from kappaflow_provider.progress import ProgressLog
from kappaflow_provider.stage import JOB_TEMPLATE_FIELDS, Stage


def _stats() -> Any:
    """Airflow's metrics, where this version has them."""
    try:
        from airflow.providers.common.compat.sdk import Stats
    except ImportError:
        from airflow.stats import Stats
    return Stats


class KappaFlowOperator(Stage, BaseOperator):
    """A stage of a job as a task. The call may be killed at any point and tried again.

    job_file: path of the job file, as the worker sees it. Templated.
    job_params: params of the job file by name. Templated. (An operator's own `params` are Airflow's.)
    region_connections: connection id (type `kappaflow_kafka`) by region name. Its options are in the environment
        as `KAPPAFLOW_<REGION>_<OPTION>` during the call, for `env:` references in the job file. Templated.
    """

    template_fields: Sequence[str] = JOB_TEMPLATE_FIELDS
    template_fields_renderers = {"job_params": "json", "region_connections": "json"}  # noqa: RUF012
    ui_color = "#e4efe9"

    def __init__(
        self,
        *,
        job_file: str,
        job_params: Mapping[str, object] | None = None,
        region_connections: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_file = job_file
        self.job_params = job_params
        self.region_connections = region_connections

    def on_kill(self) -> None:
        """Stops the call that is under way; what was done is kept."""
        self.stop()

    def progress(self) -> ProgressLog:
        """An `on_progress` that writes to the task's log and to Airflow's metrics."""
        return ProgressLog(self.log, _stats().gauge)
