"""When a region's egress is complete; asked by the sensor and by its trigger alike."""

from collections.abc import Mapping
from typing import Any

from kappaflow_provider.xcom import small


def look(job_file: str, region: str, params: Mapping[str, object]) -> tuple[bool, dict[str, Any]]:
    """Whether the egress of a region is complete, and its figures. Raises KappaFlowError."""
    import kappaflow

    lag = kappaflow.lag(job_file, region=region, params=params)
    return bool(lag["published"]) and lag["lag"] == 0, small(lag)
