"""What `spark-submit` runs to publish a job: `spark-submit .../spark/submit.py job.toml --param day=2013-01-31`.

The total is printed as JSON, and written to `--receipt FILE` for who has submitted it, or the error in its place.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kappaflow.errors import KappaFlowError
from kappaflow.types import Progress

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
            sys.stderr.write(f"publish {progress['label']}: {progress['done']:,} of {progress['total']:,}\n")


def main(args: Sequence[str] | None = None) -> int:
    """Publish, and say what became of it. The exit code is 0, or 1 with the error on standard error."""
    from pyspark.sql import SparkSession

    from kappaflow.spark import publish

    parser = argparse.ArgumentParser(description="Publish a job's snapshot in Spark's executors.")
    parser.add_argument("job", help="path of the job file, as the driver sees it")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--child", help="one child job (default: all)")
    parser.add_argument("--lease-ms", type=int, default=10_000, help="silence after which an attempt is dead")
    parser.add_argument("--receipt", type=Path, help="a file for the total, as JSON")
    given = parser.parse_args(args)
    params = {name: value for name, _, value in (param.partition("=") for param in given.param)}
    spark = SparkSession.builder.appName(f"kappaflow publish {Path(given.job).name}").getOrCreate()
    try:
        published = publish(
            spark, given.job, params=params, child=given.child, lease_ms=given.lease_ms, on_progress=Lines()
        )
        total, code = json.dumps(published.total), 0
        sys.stdout.write(total + "\n")
    except KappaFlowError as error:
        total, code = json.dumps({"error": {"kind": error.kind, "message": str(error)}}), 1
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        spark.stop()
    if given.receipt is not None:
        given.receipt.write_text(total, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
