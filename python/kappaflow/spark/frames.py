"""DataFrames kept as Parquet, so that a row has an identity that holds."""

from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kappaflow.api import ParamValues, resolve
from kappaflow.errors import JobFileError, SourceError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TIMESTAMPS = "spark.sql.parquet.outputTimestampType"


def keep(
    spark: "SparkSession",
    frame: "DataFrame",
    job: str,
    params: ParamValues | None,
    snapshot_path: str | PathLike[str] | None,
) -> None:
    """Write the frame's rows where the job's `source.path` is, unless they are there."""
    resolved = resolve(job, params=params)
    source = resolved["file"]["source"]
    if source["format"] != "parquet":
        raise JobFileError(
            f'{job}: source.format: is "{source["format"]}"; a DataFrame is kept as Parquet: "parquet"'
        )
    said = _as_url(source["path"], resolved["dir"])
    path = said if snapshot_path is None else _as_url(fspath(snapshot_path), resolved["dir"])
    if _plain(path) != _plain(said):
        raise JobFileError(
            f"{job}: source.path: is {said}, and the frame would be kept at {path}; it has to be the same place"
        )
    if _state(spark, path) == "whole":
        return
    before = spark.conf.get(TIMESTAMPS)
    # Spark's default, INT96, is deprecated in Parquet.
    spark.conf.set(TIMESTAMPS, "TIMESTAMP_MICROS")
    try:
        frame.write.mode("overwrite").parquet(path)
    finally:
        if before is None:
            spark.conf.unset(TIMESTAMPS)
        else:
            spark.conf.set(TIMESTAMPS, before)


def _as_url(path: str, base: str) -> str:
    return path if "://" in path else (Path(base) / path).absolute().as_uri()


def _plain(url: str) -> str:
    """Hadoop's clients of S3 have names of their own for its URLs."""
    return url.replace("s3a://", "s3://", 1).replace("s3n://", "s3://", 1).rstrip("/")


def _state(spark: "SparkSession", path: str) -> str:
    """`whole` if Spark has written rows there to their end, `free` if there is nothing but what a write has left."""
    session: Any = spark
    if not hasattr(session, "_jvm"):
        raise SourceError(
            "a DataFrame can't be kept through Spark Connect: write it as Parquet, and publish that"
        )
    hadoop = session._jvm.org.apache.hadoop.fs
    place = hadoop.Path(path)
    files = place.getFileSystem(session._jsc.hadoopConfiguration())
    if not files.exists(place):
        return "free"
    if files.exists(hadoop.Path(place, "_SUCCESS")):
        return "whole"
    # Spark moves files out of this directory when a write ends, and then removes it.
    if files.exists(hadoop.Path(place, "_temporary")) or not files.listStatus(place):
        return "free"
    raise SourceError(
        f"{path}: holds something that is no whole snapshot of a DataFrame (no _SUCCESS); give another place, "
        "or remove it"
    )
