"""SQL over what landed."""

from typing import TYPE_CHECKING, Any

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

    max_rows: default 100.
    """

    def __init__(self, *, max_rows: int = 100, **kwargs: Any) -> None:
        super().__init__(**kwargs)
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
        with self.calling():
            kappaflow.check_metrics(metrics)
        return result


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
