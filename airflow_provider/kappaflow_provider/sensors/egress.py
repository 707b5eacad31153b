"""Waiting for a region's egress to be complete."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import PokeReturnValue, conf

from kappaflow_provider.egress_state import look
from kappaflow_provider.exceptions import KappaFlowFailed, of_kind
from kappaflow_provider.progress import in_words
from kappaflow_provider.sensors.base import KappaFlowSensor

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class EgressCompleteSensor(KappaFlowSensor):
    """Waits until all that was published to a region is answered and committed, so that its egress is whole.

    Returns the region's figures. Modes poke and reschedule, and deferrable.

    region: templated; to be mapped over.
    deferrable: wait in the triggerer, without a worker slot. Default: `[operators] default_deferrable`.
    before_deferring_s: how long it looks in the task first; default 15. A trigger that fires within seconds of
        being deferred can fail its task, so short waits are no matter for the triggerer.
    """

    template_fields: Sequence[str] = (*KappaFlowSensor.template_fields, "region")

    def __init__(
        self,
        *,
        region: str,
        deferrable: bool | None = None,
        before_deferring_s: float = 15.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.region = region
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = deferrable
        self.before_deferring_s = before_deferring_s

    def execute(self, context: "Context") -> Any:
        """Looks; deferrable, it goes on in the triggerer."""
        if not self.deferrable:
            return super().execute(context)
        until = time.monotonic() + self.before_deferring_s
        while True:
            done = self.poke(context)
            if done:
                return done.xcom_value
            if time.monotonic() >= until:
                break
            time.sleep(min(self.poke_interval, 3.0))
        from kappaflow_provider.triggers.egress import EgressCompleteTrigger

        trigger = EgressCompleteTrigger(
            job_file=self.job_file,
            region=self.region,
            job_params=dict(self.job_params or {}),
            region_connections=dict(self.region_connections or {}),
            poll_interval_s=self.poke_interval,
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self.timeout))

    def execute_complete(self, context: "Context", event: dict[str, Any] | None = None) -> Any:
        """Where the task goes on when the trigger has fired."""
        if event is None or event.get("status") not in ("done", "error"):
            raise of_kind("error", f"the trigger said what nobody understands: {event!r}")
        if event["status"] == "error":
            raise of_kind(event["kind"], event["message"])
        self.log.info("the egress of %s is complete: %s", self.region, in_words(event["figures"]))
        return event["figures"]

    def poke(self, context: "Context") -> PokeReturnValue:
        """Calls `kappaflow.lag`."""
        try:
            with self.calling() as params:
                done, figures = look(self.job_file, self.region, params)
        except KappaFlowFailed as error:
            if error.kind != "not_ready":
                raise
            self.log.info("not yet: %s", error)
            return PokeReturnValue(False)
        self.log.info("region %s: %s", self.region, in_words(figures))
        return PokeReturnValue(done, figures)
