"""Splitting a job into child jobs."""

from typing import TYPE_CHECKING, Any

from kappaflow_provider.operators.base import KappaFlowOperator
from kappaflow_provider.xcom import small

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class SplitJobOperator(KappaFlowOperator):
    """Pins the snapshot and cuts the job into splits and child jobs; again, it confirms what was planned.

    Returns the names of the child jobs, to map over. XCom `plan`: `{"job", "name", "rows", "files", "splits",
    "children"}`. Airflow maps over at most `[core] max_map_length` (1,024) children.

    new_snapshot: pin the source as it is now, as a new job if it changed, though the job has been planned before.
        Default False: a task that is tried again, or a cleared one, replays the snapshot that is pinned.
    """

    def __init__(self, *, new_snapshot: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.new_snapshot = new_snapshot

    def execute(self, context: "Context") -> list[str]:
        """Calls `kappaflow.plan`."""
        import kappaflow

        with self.calling() as params:
            plan = kappaflow.plan(self.job_file, params=params, new_snapshot=self.new_snapshot)
        names = [child["name"] for child in plan["children"]]
        self.log.info(
            "job %s: %s rows of %s files in %s splits and %s child jobs",
            plan["job"],
            f"{plan['rows']:,}",
            plan["files"],
            plan["splits"],
            len(names),
        )
        context["ti"].xcom_push(key="plan", value=small(plan))
        return names
