"""What the operators share that run a stage in Spark's executors."""

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
        "operators for Spark need the extra: pip install 'airflow-provider-kappaflow[spark]'"
    ) from error

from kappaflow_provider.stage import JOB_TEMPLATE_FIELDS, Stage

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class SparkStage(Stage, SparkSubmitOperator):
    """A stage that a script of `kappaflow.spark` runs, which is submitted.

    `conn_id`, `conf` and all else that says how are those of `SparkSubmitOperator`. `kappaflow` has to be installed
    where the driver and the executors run. All of them see the job file's directory, with the store in it; so does this
    worker.

    The variables of `region_connections` are in the environment of `spark-submit`, and so of a driver in client mode.
    Executors need them, too, and get them from Spark's own settings: they are on no command line.

    job_file, job_params, region_connections: those of the other operators. Templated.
    """

    verb: str
    """The stage, as the script names it."""

    template_fields: Sequence[str] = (*SparkSubmitOperator.template_fields, *JOB_TEMPLATE_FIELDS)

    def __init__(
        self,
        *,
        job_file: str,
        job_params: Mapping[str, object] | None = None,
        region_connections: Mapping[str, str] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        for given in ("application", "application_args"):
            if given in kwargs:
                raise ValueError(f"{given} is not to be given: what is submitted is kappaflow's own script")
        super().__init__(name=name or f"kappaflow-{self.verb}", **kwargs)
        self.job_file = job_file
        self.job_params = job_params
        self.region_connections = region_connections

    def submitted(self, context: "Context", *words: str) -> dict[str, Any]:
        """Submits the stage with more words of its command line, waits for it, and reads what it returned."""
        import kappaflow
        from kappaflow.errors import of_kind

        self.application = str(Path(kappaflow.__file__).parent / "spark" / "submit.py")
        # Beside the store: the driver sees it, wherever it runs.
        receipt = Path(self.job_file).absolute().parent / ".kappaflow" / f"spark-{uuid.uuid4().hex}.json"
        try:
            with self.calling() as params:
                receipt.parent.mkdir(parents=True, exist_ok=True)
                self.application_args = [
                    self.verb,
                    self.job_file,
                    *(f"--param={name}={value}" for name, value in kappaflow.api.param_texts(params).items()),
                    *words,
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
        return total

    def on_kill(self) -> None:
        """Ends what was submitted; what was done is kept."""
        super().on_kill()
        self.stop()
