"""A Spark driver of the tests, in a process of its own: `spark_driver.py STAGE MASTER JOB OUT [CONF=VALUE …]`."""

import json
import sys
import traceback
from pathlib import Path

from pyspark.sql import SparkSession

from kappaflow.errors import KappaFlowError
from kappaflow.spark import land, publish
from kappaflow.types import Progress


def say(progress: Progress) -> None:
    print(progress["stage"], progress["done"], flush=True)


def main() -> None:
    stage, master, job, out, *conf = sys.argv[1:]
    builder = SparkSession.builder.master(master)
    for setting in conf:
        name, _, value = setting.partition("=")
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    try:
        if stage == "land":
            result = land(spark, job, on_progress=say)
        else:
            published = publish(spark, job, lease_ms=5_000, on_progress=say)
            receipts = [row.asDict(True) for row in published.receipts.collect()]
            result = {"total": published.total, "receipts": receipts}
    except KappaFlowError as error:
        traceback.print_exc()
        result = {"error": error.kind, "message": str(error)}
    Path(out).write_text(json.dumps(result))
    spark.stop()


if __name__ == "__main__":
    main()
