"""Placing child jobs on the regions with headroom."""

import time
from typing import TYPE_CHECKING, Any

from kappaflow_provider.exceptions import KappaFlowFailed, KappaFlowRetriable
from kappaflow_provider.operators.base import KappaFlowOperator
from kappaflow_provider.xcom import small

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from kappaflow.types import Dispatched


class RegionDispatchOperator(KappaFlowOperator):
    """Places the child jobs on the regions with headroom, and makes their topics there.

    Returns the placements, `[{"child", "region", "rows", "token"}]`, to map over. XComs: `waiting` (children
    without a place, with `allow_waiting`) and `regions` (each region's load).

    wait_timeout_s: how long children may wait for headroom that other jobs hold; default 3,600. What is placed
        meanwhile stays placed. Then the task fails, and may be retried.
    poll_interval_s: seconds between looks; default 15.
    allow_waiting: return as soon as any child is placed, and leave the others to a later dispatch. Default False.
    """

    def __init__(
        self,
        *,
        wait_timeout_s: float = 3_600.0,
        poll_interval_s: float = 15.0,
        allow_waiting: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wait_timeout_s = wait_timeout_s
        self.poll_interval_s = poll_interval_s
        self.allow_waiting = allow_waiting

    def execute(self, context: "Context") -> list[dict[str, Any]]:
        """Calls `kappaflow.dispatch`, again and again while children wait for headroom."""
        deadline = time.monotonic() + self.wait_timeout_s
        while True:
            done, without = self._dispatch()
            if done is not None and (self.allow_waiting or not done["waiting"]):
                break
            if time.monotonic() >= deadline:
                raise KappaFlowRetriable(
                    f"after {self.wait_timeout_s:.0f} s, no region has headroom for: {without}. "
                    "It is released when jobs are reconciled; or raise cap_max of a region.",
                    "no_headroom",
                )
            self._check_it_can_ever_fit()
            self.log.info("waiting for headroom: %s", without)
            time.sleep(min(self.poll_interval_s, max(0.0, deadline - time.monotonic())))
        for region in done["regions"]:
            self.log.info(
                "region %s: %s rows under way of %s",
                region["name"],
                f"{region['active'] + region['queued']:,}",
                f"{region['cap_max']:,}",
            )
        context["ti"].xcom_push(key="waiting", value=list(done["waiting"]))
        context["ti"].xcom_push(key="regions", value=small(done["regions"]))
        placements: list[dict[str, Any]] = [dict(placement) for placement in done["placed"]]
        return placements

    def _dispatch(self) -> tuple["Dispatched | None", str]:
        """What was placed, and in words what was not. None if no child has a place."""
        import kappaflow
        from kappaflow.errors import NoHeadroomError

        with self.calling() as params:
            try:
                done = kappaflow.dispatch(self.job_file, params=params, on_progress=self.progress())
            except NoHeadroomError as error:
                return None, str(error)
        return done, ", ".join(done["waiting"])

    def _check_it_can_ever_fit(self) -> None:
        """A job that is larger than all its regions together would wait here for what only it can release."""
        import kappaflow

        with self.calling() as params:
            plan = kappaflow.plan(self.job_file, params=params)
            regions = kappaflow.regions(self.job_file, params=params)
        rows = sum(child["rows"] for child in plan["children"] if child["state"] != "done")
        room = sum(region["cap_max"] for region in regions)
        if rows > room:
            raise KappaFlowFailed(
                f"the job's {rows:,} open rows are more than its regions take together ({room:,}): raise cap_max, "
                "add a region, or set allow_waiting=True and run the DAG again for the rest",
                "no_headroom",
            )
