"""Publishing into the ingress topics."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kappaflow_provider.operators.base import KappaFlowOperator
from kappaflow_provider.receipts import log_receipt
from kappaflow_provider.xcom import small

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class KafkaIngressOperator(KappaFlowOperator):
    """Publishes a child job to its region's ingress topic, and returns the receipt, counted from acknowledgements.

    `rows` = `acknowledged` + `rejected`, or the task fails. A retry reads back what the earlier try delivered, and
    sends only the rest.

    child: name of a child job, or a placement as RegionDispatchOperator returns them; templated; to be mapped over.
        By default all that are placed.
    """

    template_fields: Sequence[str] = (*KappaFlowOperator.template_fields, "child")

    def __init__(self, *, child: str | Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.child = child

    def execute(self, context: "Context") -> dict[str, Any]:
        """Calls `kappaflow.publish`."""
        import kappaflow

        child = self.child["child"] if isinstance(self.child, Mapping) else self.child
        with self.calling() as params:
            receipt = kappaflow.publish(
                self.job_file, params=params, child=child or None, on_progress=self.progress()
            )
        log_receipt(child, receipt)
        result: dict[str, Any] = small(receipt)
        return result
