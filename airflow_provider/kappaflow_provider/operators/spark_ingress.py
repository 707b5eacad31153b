"""Publishing into the ingress topics from Spark's executors."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kappaflow_provider.receipts import log_receipt
from kappaflow_provider.spark import SparkStage
from kappaflow_provider.xcom import small

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class SparkKafkaIngressOperator(SparkStage):
    """Publishes a child job in Spark's executors, one task a split, and returns the total of acknowledgements.

    How it is submitted, and what driver and executors need, is said of `SparkStage`; the executors see the source, too.
    A retry sends only what is not there.

    child: name of a child job, or a placement as RegionDispatchOperator returns them; templated; to be mapped over.
        By default all that are placed; if none is, they are dispatched.
    lease_ms: an attempt at a split that is silent for so long is taken for dead.
    """

    verb = "publish"
    template_fields: Sequence[str] = (*SparkStage.template_fields, "child")
    ui_color = "#e4efe9"

    def __init__(
        self, *, child: str | Mapping[str, Any] | None = None, lease_ms: int = 10_000, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.child = child
        self.lease_ms = lease_ms

    def execute(self, context: "Context") -> dict[str, Any]:  # type: ignore[override]  # SparkSubmitOperator gives none
        """Submits the publish, waits for it, and reads its total."""
        child = self.child["child"] if isinstance(self.child, Mapping) else self.child
        words = [f"--child={child}"] if child else []
        total = self.submitted(context, *words, f"--lease-ms={self.lease_ms}")
        log_receipt(child, total)
        result: dict[str, Any] = small(total)
        return result
