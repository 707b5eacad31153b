"""Spark Structured Streaming, `AvailableNow`: a topic to Parquet, in a session that has done the same once before.

The values as they are, or decoded by `from_avro`. Neither drops a record that came twice.
"""

import json
import os
import sys
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro

from harness import measured


def land(task: dict[str, Any]) -> dict[str, Any]:
    os.environ |= {"JAVA_HOME": task["java"], "SPARK_LOCAL_IP": "127.0.0.1"}
    spark = (
        SparkSession.builder.master("local[2]")
        .appName("land")
        .config("spark.jars", ",".join(task["jars"]))
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.parquet.compression.codec", "zstd")
        .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        .config("spark.local.dir", task["scratch"])
        .config("spark.driver.memory", "2g")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    session: Any = spark  # the way to its JVM is not typed
    lang = session._jvm.java.lang
    jvm = int(lang.ProcessHandle.current().pid())

    def work(out: str) -> int:
        stream = (
            spark.readStream.format("kafka")
            .option("kafka.bootstrap.servers", task["bootstrap"])
            .option("subscribe", task["topic"])
            .option("startingOffsets", "earliest")
            .load()
        )
        value = F.col("value")
        if task["decoded"]:
            # Without the five bytes of the registry's framing, which it does not read.
            datum = F.expr("substring(value, 6)")
            value = from_avro(datum, task["schema"]).alias("value")
        rows = stream.select(value, "partition", "offset")
        if task["decoded"]:
            rows = rows.select("value.*", "partition", "offset")
        query = (
            rows.writeStream.format("parquet")
            .option("checkpointLocation", f"{out}-checkpoint")
            .trigger(availableNow=True)
            .start(out)
        )
        query.awaitTermination()
        return int(task["rows"])

    work(f"{task['out']}-warm")
    found = measured(lambda: work(task["out"]), jvm)
    told = {"spark": spark.version, "java": str(lang.System.getProperty("java.version"))}
    spark.stop()
    return {**found, **told, "settings": {"master": "local[2]", "spark.driver.memory": "2g"}}


if __name__ == "__main__":
    print(json.dumps(land(json.loads(sys.argv[1]))))
