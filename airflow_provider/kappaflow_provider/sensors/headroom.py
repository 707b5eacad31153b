"""Waiting for room in a region."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import PokeReturnValue

from kappaflow_provider.sensors.base import KappaFlowSensor

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class RegionHeadroomSensor(KappaFlowSensor):
    """Waits until a region has headroom for `rows`. Returns the names of the regions that have.

    It reserves nothing: RegionDispatchOperator does, and waits as well.

    region: by default any region of the job. Templated.
    rows: by default those of the job's largest child that has no place yet. Templated.
    """

    template_fields: Sequence[str] = (*KappaFlowSensor.template_fields, "region", "rows")

    def __init__(self, *, region: str | None = None, rows: int | str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.region = region
        self.rows = rows

    def poke(self, context: "Context") -> PokeReturnValue:
        """Calls `kappaflow.regions`."""
        import kappaflow

        with self.calling() as params:
            if self.rows in (None, ""):
                plan = kappaflow.plan(self.job_file, params=params)
                waiting = [child["rows"] for child in plan["children"] if child["state"] == "waiting"]
                rows = max(waiting, default=0)
            else:
                rows = int(self.rows or 0)
            regions = kappaflow.regions(self.job_file, params=params)
        if self.region:
            regions = [region for region in regions if region["name"] == self.region]
        room = ", ".join(f"{region['name']} {region['headroom']:,}" for region in regions)
        self.log.info("headroom for %s rows: %s", f"{rows:,}", room or f"the job has no region {self.region}")
        roomy = [region["name"] for region in regions if region["headroom"] >= rows]
        return PokeReturnValue(bool(roomy), roomy)
