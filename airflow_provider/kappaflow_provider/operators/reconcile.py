"""Giving every expected row its one fate."""

from typing import TYPE_CHECKING, Any

from kappaflow_provider.operators.base import KappaFlowOperator
from kappaflow_provider.xcom import small

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

FATES = ("landed", "filtered", "dead_lettered", "rejected", "missing", "duplicated")


class OffsetReconcileOperator(KappaFlowOperator):
    """Reconciles the job: every expected row is landed, filtered, dead-lettered or rejected; or the task fails.

    Returns the report: the counts by fate, by cause and by child job. It is also the XCom `ledger`, which is there
    when the task fails, too. A failure names rows.
    """

    def execute(self, context: "Context") -> dict[str, Any]:
        """Calls `kappaflow.reconcile` and `kappaflow.check_ledger`."""
        import kappaflow

        with self.calling() as params:
            report = kappaflow.reconcile(self.job_file, params=params, on_progress=self.progress())
            self.log.info(
                "%s rows expected: %s",
                f"{report['expected']:,}",
                ", ".join(f"{report[fate]:,} {fate.replace('_', '-')}" for fate in FATES),
            )
            result: dict[str, Any] = small(report)
            context["ti"].xcom_push(key="ledger", value=result)
            kappaflow.check_ledger(report)
        return result
