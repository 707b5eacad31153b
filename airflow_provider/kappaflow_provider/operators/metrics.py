"""SQL over what landed."""

from typing import TYPE_CHECKING, Any

from kappaflow_provider.exceptions import KappaFlowFailed
from kappaflow_provider.operators.base import KappaFlowOperator
from kappaflow_provider.xcom import small

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from kappaflow.types import Metric


class SqlMetricsOperator(KappaFlowOperator):
    """Runs the job's `output.metrics` over the landed table.

    Returns `{name: {"columns", "rows"}}`, at most `max_rows` rows a metric. It is also the XCom `metrics`, which is
    there when the task fails, too: if what a metric asserts of its rows (`-- assert: rows = 0`) does not hold, which
    are then shown.

    checks: name of the metric whose rows must all end in 0; the task fails and names those that don't. Default
        "checks", which a job need not have; None checks nothing.
    max_rows: default 100.
    """

    def __init__(self, *, checks: str | None = "checks", max_rows: int = 100, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.checks = checks
        self.max_rows = max_rows

    def execute(self, context: "Context") -> dict[str, Any]:
        """Calls `kappaflow.metrics`."""
        import kappaflow

        with self.calling() as params:
            metrics = kappaflow.metrics(self.job_file, params=params)
        for name, metric in metrics.items():
            self.log.info("%s\n%s", name, text_table(metric, self.max_rows))
        result: dict[str, Any] = small(metrics, self.max_rows)
        context["ti"].xcom_push(key="metrics", value=result)
        failed = failing(metrics[self.checks]) if self.checks and self.checks in metrics else []
        if failed:
            raise KappaFlowFailed(f"{self.checks}: " + "; ".join(failed), "metric")
        with self.calling():
            kappaflow.check_metrics(metrics)
        return result


def failing(metric: "Metric") -> list[str]:
    """The rows that do not end in 0, in words."""
    return [", ".join(str(value) for value in row) for row in metric["rows"] if row[-1] != 0]


def text_table(metric: "Metric", max_rows: int) -> str:
    """A metric as a table in plain text."""
    lines = [metric["columns"], *([str(v) for v in row] for row in metric["rows"][:max_rows])]
    widths = [max(len(row[i]) for row in lines) for i in range(len(metric["columns"]))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in lines
    ]
    if len(metric["rows"]) > max_rows:
        text.append(f"… {len(metric['rows']) - max_rows} more rows")
    return "\n".join(text)
