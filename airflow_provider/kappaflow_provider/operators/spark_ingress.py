"""Publishing into the ingress topics from Spark's executors."""

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowOptionalProviderFeatureException
from airflow.providers.common.compat.sdk import AirflowException

try:
    from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
except ImportError as error:
    raise AirflowOptionalProviderFeatureException(
        "SparkKafkaIngressOperator needs the extra: pip install 'airflow-provider-kappaflow[spark]'"
    ) from error

from kappaflow_provider.receipts import log_receipt
from kappaflow_provider.stage import JOB_TEMPLATE_FIELDS, Stage
from kappaflow_provider.xcom import small

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class SparkKafkaIngressOperator(Stage, SparkSubmitOperator):
    """Publishes a child job in Spark's executors, one task a split, and returns the total of acknowledgements.

    It submits a script of `kappaflow.spark`; `conn_id`, `conf` and all else that says how are those of
    `SparkSubmitOperator`. `kappaflow` has to be installed where the driver and the executors run. All of them and this
    worker see the job file's directory, with the store in it; the executors see the source. A retry sends only what is
    not there.

    The variables of `region_connections` are in the environment of `spark-submit`, and so of a driver in client mode.
    Executors need them, too, and get them from Spark's own settings: they are on no command line.

    job_file, job_params, region_connections: those of the other operators. Templated.
    child: name of a child job, or a placement as RegionDispatchOperator returns them; templated; to be mapped over.
        By default all that are placed; if none is, they are dispatched.
    lease_ms: an attempt at a split that is silent for so long is taken for dead.
    """

    template_fields: Sequence[str] = (*SparkSubmitOperator.template_fields, *JOB_TEMPLATE_FIELDS, "child")
    ui_color = "#e4efe9"

    def __init__(
        self,
        *,
        job_file: str,
        job_params: Mapping[str, object] | None = None,
        region_connections: Mapping[str, str] | None = None,
        child: str | Mapping[str, Any] | None = None,
        lease_ms: int = 10_000,
        name: str = "kappaflow-publish",
        **kwargs: Any,
    ) -> None:
        for given in ("application", "application_args"):
            if given in kwargs:
                raise ValueError(f"{given} is not to be given: what is submitted is kappaflow's own script")
        super().__init__(name=name, **kwargs)
        self.job_file = job_file
        self.job_params = job_params
        self.region_connections = region_connections
        self.child = child
        self.lease_ms = lease_ms

    def execute(self, context: "Context") -> dict[str, Any]:  # type: ignore[override]  # SparkSubmitOperator gives none
        """Submits the publish, waits for it, and reads its total."""
        import kappaflow
        from kappaflow.errors import of_kind

        child = self.child["child"] if isinstance(self.child, Mapping) else self.child
        self.application = str(Path(kappaflow.__file__).parent / "spark" / "submit.py")
        # Beside the store: the driver sees it, wherever it runs.
        receipt = Path(self.job_file).absolute().parent / ".kappaflow" / f"spark-{uuid.uuid4().hex}.json"
        try:
            with self.calling() as params:
                receipt.parent.mkdir(parents=True, exist_ok=True)
                self.application_args = [
                    self.job_file,
                    *(f"--param={name}={value}" for name, value in kappaflow.api.param_texts(params).items()),
                    *([f"--child={child}"] if child else []),
                    f"--lease-ms={self.lease_ms}",
                    f"--receipt={receipt}",
                ]
                try:
                    super().execute(context)
                except AirflowException:
                    told = json.loads(receipt.read_text(encoding="utf-8")) if receipt.is_file() else {}
                    if "error" not in told:
                        raise
                    raise of_kind(told["error"]["kind"], told["error"]["message"]) from None
                total: dict[str, Any] = json.loads(receipt.read_text(encoding="utf-8"))
        finally:
            receipt.unlink(missing_ok=True)
        log_receipt(child, total)
        result: dict[str, Any] = small(total)
        return result

    def on_kill(self) -> None:
        """Ends what was submitted; what was done is kept."""
        super().on_kill()
        self.stop()
