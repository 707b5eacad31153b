"""What Spark needs to run: a Java, and jars that pyspark lacks. Apart, for a peer's Python has no kappaflow."""

from pathlib import Path

from harness import say
from kappaflow.dev.jars import JarSet, class_path
from kappaflow.dev.java import find_java
from kappaflow.errors import DevStackError

SPARK_VERSION = "4.1.1"
SPARK = JarSet(
    f"Spark {SPARK_VERSION} for Kafka and Avro",
    f"spark-kafka-avro-{SPARK_VERSION}",
    (
        f"org.apache.spark:spark-sql-kafka-0-10_2.13:{SPARK_VERSION}",
        f"org.apache.spark:spark-avro_2.13:{SPARK_VERSION}",
    ),
    "67 MB",
    200 << 20,
)


def for_spark(python: Path) -> tuple[str, tuple[str, ...]] | str:
    """Its Java's home and the jars that pyspark lacks; or why it can't run."""
    try:
        executable = find_java(17, 21).executable.resolve()
        jars = class_path(SPARK, say)
    except DevStackError as error:
        return str(error)
    its_own = {
        path.name for path in python.parent.parent.glob("lib/python3*/site-packages/pyspark/jars/*.jar")
    }
    if not its_own:
        return f"no pyspark in the environment of {python}"
    return str(executable.parent.parent), tuple(str(jar) for jar in jars if jar.name not in its_own)
