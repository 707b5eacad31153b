"""A Spark job of native tasks, one for each piece of work, run while the driver looks after it."""

import threading
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import Row, SparkSession

# Between two looks.
LOOK_S = 1.0
# How long a stopped Spark job may take to end.
STOP_S = 30.0


def run(
    spark: "SparkSession",
    count: int,
    each: Callable[[Iterable[Any]], Iterable[Any]],
    columns: str,
    look: Callable[[], object],
) -> "tuple[list[Row], Exception | None]":
    """Run `each` in `count` tasks, which get their numbers, and `look` meanwhile.

    Returns their rows, of `columns`, and how the Spark job failed, if it did. What `look` raises stops the tasks.
    """
    from pyspark import InheritableThread

    tag = f"kappaflow-{uuid.uuid4().hex}"
    ended = threading.Event()
    rows: list[Row] = []
    failed: list[Exception] = []

    def submit() -> None:
        try:
            spark.addTag(tag)
            rows.extend(spark.range(0, count, 1, count).mapInArrow(each, columns).collect())
        except Exception as error:
            failed.append(error)
        finally:
            ended.set()

    thread = InheritableThread(target=submit, session=spark)
    thread.daemon = True
    thread.start()
    try:
        while not ended.wait(LOOK_S):
            look()
    except BaseException:
        spark.interruptTag(tag)
        ended.wait(STOP_S)
        raise
    return rows, failed[0] if failed else None
