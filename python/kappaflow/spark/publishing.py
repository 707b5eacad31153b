"""Publishing from Spark: each split of a snapshot is read, encoded and sent by the executor that has its task.

The rows never pass through the JVM: an executor's Python hands a split to the native core, which reads the split's row
groups and sends them. Install `kappaflow` where the executors run, too. What an attempt knows is in the job's receipts
topic, so that task retries, speculation and the loss of executors change nothing in the result.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, cast

from kappaflow.api import JobPath, ParamValues, param_texts
from kappaflow.errors import KappaFlowError
from kappaflow.spark.jobs import run
from kappaflow.types import OnProgress, Summary

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# What a task answers; its receipt is in the receipts topic.
ATTEMPTED = "split int, rows long, acknowledged long"
RECEIPTS = (
    "split int, child string, file string, rows long, acknowledged long, rejected long, "
    "ranges array<struct<partition: int, first: long, last: long>>"
)


@dataclass(frozen=True)
class Published:
    """What a publish from Spark has done."""

    receipts: "DataFrame"
    """One row a split: `split, child, file, rows, acknowledged, rejected, ranges`."""
    total: Summary
    """As `kappaflow.publish` returns it."""


def publish(
    spark: "SparkSession",
    source: "JobPath | DataFrame",
    *,
    job: JobPath | None = None,
    params: ParamValues | None = None,
    child: str | None = None,
    snapshot_path: str | PathLike[str] | None = None,
    lease_ms: int = 10_000,
    on_progress: OnProgress | None = None,
) -> Published:
    """Publish a job's snapshot in Spark's executors, one task a split, and return receipts and their total.

    `source` is the path of a job file, or a DataFrame together with `job`. Child jobs that are not placed are
    dispatched. What is closed is not sent again; what a publish before has left open is read back, whichever kind of
    publish that was. The executors must see the files of the source: on a file system that they share, or in an object
    store. References to secrets (`env:`, `file:`) are resolved in the executors as well as here.

    A DataFrame is kept first, as Parquet: computed anew it may have other rows, or in another order, and rows have
    identities that must hold. It is kept where the job's `source.path` says; `snapshot_path` is that place as Spark
    names it, if that differs (`s3a://` for `s3://`). Rows that are there already, whole, are taken as they are.

    An attempt at a split that is silent for `lease_ms` is taken for dead by the next one.
    """
    from kappaflow import _native
    from kappaflow.spark.frames import keep

    if isinstance(source, str | PathLike):
        if job is not None or snapshot_path is not None:
            raise TypeError("job= and snapshot_path= go with a DataFrame")
        path = fspath(source)
    elif hasattr(source, "write"):
        if job is None:
            raise TypeError("publishing a DataFrame needs job=, the path of a job file")
        path = fspath(job)
        keep(spark, source, path, params, snapshot_path)
    else:
        raise TypeError(f"expected the path of a job file or a Spark DataFrame, got {type(source).__name__}")
    parallelism = _parallelism(spark)
    lead = _native.RemotePublish(path, param_texts(params), child, lease_ms, parallelism, on_progress)
    try:
        tasks = json.loads(lead.tasks())
        failed = _run(spark, lead, tasks, on_progress) if tasks["pieces"] else None
        try:
            total = cast(Summary, json.loads(lead.finish(on_progress)))
        except KappaFlowError as error:
            raise error from failed
    except BaseException as error:
        # That error is what the caller has to see.
        with suppress(KappaFlowError):
            lead.leave(getattr(error, "kind", type(error).__name__))
        raise
    return Published(receipts=_receipts(spark, total["splits"]), total=total)


def _parallelism(spark: "SparkSession") -> int:
    """About how many tasks run at once."""
    try:
        return max(1, spark.sparkContext.defaultParallelism)
    except Exception:  # a session of Spark Connect has no context
        return 1


def _run(
    spark: "SparkSession", lead: Any, tasks: dict[str, Any], on_progress: OnProgress | None
) -> Exception | None:
    """Runs one Spark task a split while receipts are taken here; says how the Spark job failed, if it did."""
    from kappaflow.spark.task import publish_splits

    each = partial(publish_splits, tasks["orders"], tasks["pieces"])
    _, failed = run(spark, len(tasks["pieces"]), each, ATTEMPTED, lambda: lead.poll(on_progress))
    return failed


def _receipts(spark: "SparkSession", splits: Sequence[dict[str, Any]]) -> "DataFrame":
    columns = ("split", "child", "file", "rows", "acknowledged", "rejected")
    rows = [(*(split[name] for name in columns), [tuple(r) for r in split["ranges"]]) for split in splits]
    return spark.createDataFrame(rows, RECEIPTS)
