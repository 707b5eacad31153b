"""Spark: `to_avro` and the Kafka sink, in a session that has done the same once before."""

import os
from typing import Any

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import to_avro

from harness import measured
from publish_peers.program import Task, main

NOTE = "warm: the second run of a session; values without a registry's framing, which it doesn't write"
SETTINGS = {
    "kafka.acks": "all",
    "kafka.enable.idempotence": "true",
    "kafka.compression.type": "lz4",
    "kafka.linger.ms": "50",
    "kafka.batch.size": "1000000",
}


def identity() -> Column:
    """17 bytes that no other row has."""
    return F.concat(F.lit(bytearray(9)), F.monotonically_increasing_id().cast("binary"))


def publish(task: Task) -> dict[str, Any]:
    os.environ |= {"JAVA_HOME": task.java, "SPARK_LOCAL_IP": "127.0.0.1"}
    spark = (
        SparkSession.builder.master("local[2]")
        .appName("publish")
        .config("spark.jars", ",".join(task.jars))
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.ansi.enabled", "false")  # else a number is never cast to its bytes
        .config("spark.local.dir", task.scratch)
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    session: Any = spark  # the way to its JVM is not typed
    lang = session._jvm.java.lang
    jvm = int(lang.ProcessHandle.current().pid())

    def work(topic: str) -> int:
        flights = spark.read.parquet(task.source)
        integers = {name for name, type_ in flights.dtypes if type_ in ("double", "bigint")}
        fields = [
            F.col(name).cast("int").alias(name) if name in integers else F.col(name)
            for name in flights.columns
        ]
        fields[flights.columns.index("time_hour")] = F.col("time_hour").cast("timestamp").alias("time_hour")
        header = F.struct(F.lit("kf-id").alias("key"), identity().alias("value"))
        records = flights.select(
            to_avro(F.struct(*fields), task.schema).alias("value"), F.array(header).alias("headers")
        )
        sink = records.write.format("kafka").options(**SETTINGS)
        sink.option("kafka.bootstrap.servers", task.bootstrap).option("topic", topic).save()
        return task.rows

    work(f"{task.topic}-warm")
    found = measured(lambda: work(task.topic), jvm)
    java = str(lang.System.getProperty("java.version"))
    version = spark.version
    spark.stop()
    return {
        **found,
        "settings": {"master": "local[2]", **SETTINGS},
        "spark": version,
        "java": java,
        "note": NOTE,
    }


if __name__ == "__main__":
    main(publish)
