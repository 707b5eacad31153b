"""Waiting for a region's workers to catch up."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import PokeReturnValue

from kappaflow_provider.exceptions import KappaFlowFailed
from kappaflow_provider.sensors.base import KappaFlowSensor
from kappaflow_provider.xcom import small

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class ConsumerLagSensor(KappaFlowSensor):
    """Waits until a region's workers are at most `max_lag` records behind what is in its ingress topic.

    A lag of 0 does not say that publishing is done: EgressCompleteSensor does. Returns the lag's figures.

    region: templated; to be mapped over.
    max_lag: records; default 0. Templated.
    """

    template_fields: Sequence[str] = (*KappaFlowSensor.template_fields, "region", "max_lag")

    def __init__(self, *, region: str, max_lag: int | str = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.region = region
        self.max_lag = max_lag

    def poke(self, context: "Context") -> PokeReturnValue:
        """Calls `kappaflow.lag`."""
        import kappaflow

        try:
            with self.calling() as params:
                lag = kappaflow.lag(self.job_file, region=self.region, params=params)
        except KappaFlowFailed as error:
            if error.kind != "not_ready":
                raise
            self.log.info("not yet: %s", error)
            return PokeReturnValue(False)
        self.log.info("region %s: %s records behind", self.region, f"{lag['lag']:,}")
        return PokeReturnValue(lag["lag"] <= int(self.max_lag), small(lag))
