"""What `spark-submit` runs to publish or land a job: `spark-submit .../spark/submit.py publish job.toml`.

What that returns is printed as JSON, and written to `--receipt FILE` for who has submitted it, or the error in its
place.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kappaflow.errors import KappaFlowError
from kappaflow.types import Progress, Summary

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Between two lines of progress.
EVERY_S = 5.0


class Lines:
    """Progress as lines on standard error."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._said_at >= EVERY_S:
            self._said_at = now
            total = "" if progress["total"] is None else f" of {progress['total']:,}"
            sys.stderr.write(f"{progress['stage']} {progress['label']}: {progress['done']:,}{total}\n")


def main(args: Sequence[str] | None = None) -> int:
    """Run the stage, and say what became of it. The exit code is 0, or 1 with the error on standard error."""
    from pyspark.sql import SparkSession

    given = _parser().parse_args(args)
    params = {name: value for name, _, value in (param.partition("=") for param in given.param)}
    name = f"kappaflow {given.stage} {Path(given.job).name}"
    spark = SparkSession.builder.appName(name).getOrCreate()
    try:
        done, code = json.dumps(_run(spark, given, params)), 0
        sys.stdout.write(done + "\n")
    except KappaFlowError as error:
        done, code = json.dumps({"error": {"kind": error.kind, "message": str(error)}}), 1
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        spark.stop()
    if given.receipt is not None:
        given.receipt.write_text(done, encoding="utf-8")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run a stage of a job in Spark's executors.")
    stages = parser.add_subparsers(dest="stage", required=True)
    publish = stages.add_parser("publish", help="publish a job's snapshot, one task a split")
    publish.add_argument("--child", help="one child job (default: all)")
    publish.add_argument(
        "--lease-ms", type=int, default=10_000, help="silence after which an attempt is dead"
    )
    land = stages.add_parser("land", help="land a job's egress in its table, one task a partition")
    land.add_argument("--region", help="one region (default: all)")
    for stage in (publish, land):
        stage.add_argument("job", help="path of the job file, as the driver sees it")
        stage.add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
        stage.add_argument("--receipt", type=Path, help="a file for what it has done, as JSON")
    return parser


def _run(spark: "SparkSession", given: argparse.Namespace, params: dict[str, str]) -> Summary:
    from kappaflow.spark import land, publish

    if given.stage == "land":
        return land(spark, given.job, region=given.region, params=params, on_progress=Lines())
    published = publish(
        spark, given.job, params=params, child=given.child, lease_ms=given.lease_ms, on_progress=Lines()
    )
    return published.total


if __name__ == "__main__":
    sys.exit(main())
