"""Landing from Spark: each partition of an egress topic is read, decoded and written by the executor of its task.

A task does all that a lander does but the commit: it hands over what it has written, and the driver commits the files
of all tasks at once. Task retries, speculation and the loss of executors leave files that no commit names, and change
nothing in the result.
"""

import json
import re
from functools import partial
from os import fspath
from typing import TYPE_CHECKING, Any, cast

from kappaflow import errors
from kappaflow.api import JobPath, ParamValues, param_texts
from kappaflow.errors import KappaFlowError, TableError, of_kind
from kappaflow.spark.jobs import run
from kappaflow.types import OnProgress, Progress, Summary

if TYPE_CHECKING:
    from pyspark import Accumulator
    from pyspark.sql import SparkSession

# What a task answers: what it has landed, or why it can't land and no other attempt could.
ANSWERED = "piece int, landed string, kind string, message string"


def land(
    spark: "SparkSession",
    job: JobPath,
    *,
    region: str | None = None,
    params: ParamValues | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Land the egress of a region (or of all) in the table, one Spark task a partition, and return what `land` returns.

    What is there as it begins is landed, in one commit a region. The rows, their columns and the ledger are those of
    `kappaflow.land`, which may go on at the same time: of two that land the same, the table takes one, and this one
    begins anew after what the other landed.

    The executors must see the place of the table, and a schema registry that is a directory: on a file system that they
    share, or as an object store and a service. References to secrets (`env:`, `file:`) are resolved in the executors as
    well as here. Each task has `output.memory_mib` for the files that it writes. Progress is told as tasks end.
    """
    from kappaflow import _native

    lead = _native.RemoteLand(fspath(job), param_texts(params), region)
    while True:
        tasks = json.loads(lead.tasks(on_progress))
        landed = _run(spark, tasks, region or "all regions", on_progress) if tasks["pieces"] else []
        if json.loads(lead.commit(landed)):
            return cast(Summary, json.loads(lead.finish()))


def _run(
    spark: "SparkSession", tasks: dict[str, Any], label: str, on_progress: OnProgress | None
) -> list[tuple[int, str]]:
    """What each task has landed, with the number of its order."""
    from kappaflow.spark.task import land_ranges

    pieces, read = tasks["pieces"], _counter(spark)

    def look() -> None:
        if on_progress is not None and read is not None:
            done, total = read.value, tasks["records"]
            figures = {"lag_records": float(total - done)}
            on_progress(Progress(stage="land", label=label, done=done, total=total, note="", figures=figures))

    each = partial(land_ranges, tasks["orders"], pieces, read)
    rows, failed = run(spark, len(pieces), each, ANSWERED, look)
    if failed is not None:
        raise _told(failed) from failed
    for row in rows:
        if row["kind"] is not None:
            raise of_kind(row["kind"], row["message"])
    look()
    return [(pieces[row["piece"]][0], row["landed"]) for row in rows]


def _counter(spark: "SparkSession") -> "Accumulator[int] | None":
    """Counts records in tasks, for the driver to see."""
    try:
        return spark.sparkContext.accumulator(0)
    except Exception:  # a session of Spark Connect has no context
        return None


def _told(failed: Exception) -> KappaFlowError:
    """The error that a task has raised, from what Spark says of it."""
    raised = re.search(r"kappaflow\.errors\.(\w+): (.+)", str(failed))
    kind = getattr(errors, raised[1], None) if raised else None
    if raised and isinstance(kind, type) and issubclass(kind, KappaFlowError):
        return kind(raised[2])
    return TableError(f"landing in Spark has failed, and nothing of it is landed: {failed}")
