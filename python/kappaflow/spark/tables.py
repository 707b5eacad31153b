"""A job's landed rows in Spark: as a frame, and by the metrics of the job file in Spark's SQL."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kappaflow.api import JobPath, ParamValues, resolve, table
from kappaflow.errors import JobFileError, NotReadyError
from kappaflow.metrics import IDENTITY_COLUMNS, PARAM, MetricError, named_queries
from kappaflow.types import Metric

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Hadoop's name for Amazon's store.
_S3 = re.compile("^s3://")


def landed(spark: "SparkSession", job: JobPath, *, params: ParamValues | None = None) -> "DataFrame":
    """The rows of a job that are in its table, with the identity columns: those that `kappaflow sql` has as `landed`.

    The files are those of the newest version, read by Spark from where they are: the executors must reach them, and
    an object store needs Hadoop's connector and its settings (`s3://` is read as `s3a://`).
    """
    found = table(job, params=params, local=False)
    if not found["files"]:
        raise NotReadyError("the table has no landed files yet; run `kappaflow land` on the job file first")
    files = [_S3.sub("s3a://", file) for file in found["files"]]
    # Files of an earlier schema lack columns.
    frame = spark.read.option("mergeSchema", "true").parquet(*files)
    return frame.where(frame["_job"] == found["job"])


def metrics(spark: "SparkSession", job: JobPath, *, params: ParamValues | None = None) -> dict[str, Metric]:
    """`kappaflow.metrics` by Spark SQL: the job's `output.metrics`, over the views `landed` and `answers`.

    `$NAME` is the job's param of that name, and what a metric asserts of its rows is found as there: raise it with
    `kappaflow.check_metrics`. The views are temporary ones of the session, and stay.
    """
    from pyspark.errors import PySparkException

    resolved = resolve(job, params=params)
    if resolved["metrics"] is None:
        raise JobFileError(
            f"{resolved['path']}: output.metrics: is not set; name a SQL file of metrics there"
        )
    frame = landed(spark, job, params=params)
    frame.createOrReplaceTempView("landed")
    frame.drop(*IDENTITY_COLUMNS).createOrReplaceTempView("answers")
    results: dict[str, Metric] = {}
    for name, query in named_queries(Path(resolved["metrics"])).items():
        text, values = query.text, {}
        for param in set(PARAM.findall(text)) & set(resolved["params"]):
            text = re.sub(rf"\${param}\b", f":{param}", text)
            values[param] = resolved["params"][param]
        try:
            rows = spark.sql(text, args=values)
            found: list[Any] = rows.collect()
        except PySparkException as error:
            raise MetricError(f"metric {name} failed in Spark: {error}") from error
        result: Metric = {"columns": list(rows.columns), "rows": [list(row) for row in found]}
        if query.claim is not None:
            result["failed"] = query.claim.failed(len(found))
        results[name] = result
    return results
