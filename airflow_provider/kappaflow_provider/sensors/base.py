"""The base of the sensors."""

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import BaseSensorOperator

from kappaflow_provider.stage import JOB_TEMPLATE_FIELDS, Stage


class KappaFlowSensor(Stage, BaseSensorOperator):
    """A sensor over one job. An earlier stage that has not run yet is no error here: the sensor waits for it.

    job_file, job_params, region_connections: as for the operators. Templated.
    poke_interval: seconds between looks; default 15.
    mode, timeout and the rest: as for every Airflow sensor.
    """

    template_fields: Sequence[str] = JOB_TEMPLATE_FIELDS
    template_fields_renderers = {"job_params": "json", "region_connections": "json"}  # noqa: RUF012
    ui_color = "#f3ecdc"

    def __init__(
        self,
        *,
        job_file: str,
        job_params: Mapping[str, object] | None = None,
        region_connections: Mapping[str, str] | None = None,
        poke_interval: float = 15.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.job_file = job_file
        self.job_params = job_params
        self.region_connections = region_connections

    def on_kill(self) -> None:
        """Stops the look that is under way."""
        self.stop()
