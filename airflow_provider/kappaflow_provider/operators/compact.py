"""Upkeep of the landed table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kappaflow_provider.operators.base import KappaFlowOperator
from kappaflow_provider.progress import in_words
from kappaflow_provider.xcom import small

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class CompactTableOperator(KappaFlowOperator):
    """Makes large files of the small ones in the job's table, and removes what is no part of it.

    Safe while landers commit.

    clean_older_than_h: hours; files of killed landers and files that were replaced are removed when they are older.
        Default 168, a week; None removes nothing. Templated.
    """

    template_fields: Sequence[str] = (*KappaFlowOperator.template_fields, "clean_older_than_h")

    def __init__(self, *, clean_older_than_h: float | str | None = 168.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clean_older_than_h = clean_older_than_h

    def execute(self, context: "Context") -> dict[str, Any]:
        """Calls `kappaflow.compact_table` and `kappaflow.clean_table`."""
        import kappaflow

        with self.calling() as params:
            done = {
                "compact": kappaflow.compact_table(self.job_file, params=params, on_progress=self.progress())
            }
            self.log.info("compacted: %s", in_words(done["compact"]))
            if self.clean_older_than_h not in (None, ""):
                done["clean"] = kappaflow.clean_table(
                    self.job_file,
                    older_than_h=float(self.clean_older_than_h or 0),
                    params=params,
                    on_progress=self.progress(),
                )
                self.log.info("cleaned up: %s", in_words(done["clean"]))
        result: dict[str, Any] = small(done)
        return result
