"""Waiting for a job's rows in its table."""

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import PokeReturnValue

from kappaflow_provider.exceptions import KappaFlowFailed
from kappaflow_provider.progress import in_words
from kappaflow_provider.sensors.base import KappaFlowSensor

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class LandedTableSensor(KappaFlowSensor):
    """Waits until all answers of the job are in its table and readers see them.

    That is: every child job is placed, published and worked on, the egress of every region is landed, and where
    `output.mode` replaces other rows, `reconcile` has shown them. Returns the table's path, version, files and rows.
    """

    def poke(self, context: "Context") -> PokeReturnValue:
        """Calls `kappaflow.status`."""
        import kappaflow

        try:
            with self.calling() as params:
                status = kappaflow.status(self.job_file, params=params)
        except KappaFlowFailed as error:
            if error.kind != "not_ready":
                raise
            self.log.info("not yet: %s", error)
            return PokeReturnValue(False)
        missing = left(status)
        for reason in missing:
            self.log.info("not yet: %s", reason)
        if missing:
            return PokeReturnValue(False)
        self.log.info("the table is complete: %s", in_words(status["table"]))
        return PokeReturnValue(True, status["table"])


def left(status: dict[str, Any]) -> list[str]:
    """What is still to be done, in words; empty when the table is complete."""
    waiting = [child["name"] for child in status["children"] if child["state"] == "waiting"]
    reasons = [f"child job {name} is not placed" for name in waiting]
    regions = {region["name"]: region["progress"] for region in status["regions"] if region["progress"]}
    if not regions:
        reasons.append("no region has topics of the job yet")
    for name, lag in regions.items():
        if not lag["published"]:
            reasons.append(f"region {name} is not published to the end")
        if lag["lag"] > 0:
            reasons.append(f"region {name}: {lag['lag']:,} records are to be worked on")
        elif lag["landed"] < lag["egress_end"]:
            reasons.append(f"region {name}: {lag['egress_end'] - lag['landed']:,} answers are to be landed")
    if not reasons and not status["table"]["shown"]:
        reasons.append("the rows are landed, and no reconcile has shown them to readers yet")
    return reasons
