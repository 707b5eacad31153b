"""What landed, in Spark: the same rows, and the same metrics by the same file."""

from pathlib import Path

import pytest

import kappaflow
from tests.integration.workers import replaying

pytest.importorskip("pyspark")
from pyspark.sql import SparkSession

from kappaflow.spark.tables import landed, metrics

# py4j leaves the sockets of threads that have ended to the garbage collector.
py4j_sockets = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
pytestmark = [pytest.mark.integration, py4j_sockets]

METRICS = """
-- name: totals
SELECT count(*) AS rows, sum(price) AS prices, min(n) AS first, max(n) AS last FROM answers;

-- name: by_shop
SELECT n % 7 AS shop, count(*) FILTER (WHERE price > 0) AS priced, round(avg(n), 2) AS mean
FROM landed
GROUP BY ALL
ORDER BY shop;

-- name: strange
-- assert: rows = 0
SELECT n, price FROM answers WHERE n % $every = 3 ORDER BY n;
"""


def test_a_file_of_metrics_says_the_same_in_spark_and_in_duckdb(
    regions: dict[str, str], tmp_path: Path, spark: SparkSession
) -> None:
    (tmp_path / "metrics.sql").write_text(METRICS)
    edits = [
        ('path = "landed"', 'path = "landed"\nmetrics = "metrics.sql"\npartition_key = ["note"]'),
        ("[source]", '[params.every]\ntype = "int"\ndefault = 10\nidentity = false\n[source]'),
    ]
    with replaying(tmp_path, regions["east"], 50, *edits) as workers:
        job = workers.replay.job
        workers.replay.work()
    # Files that no version names are not the table's.
    (tmp_path / "landed" / "data" / "killed.parquet").write_bytes(b"PAR1")
    frame = landed(spark, job)
    assert sorted(row["n"] for row in frame.select("n").collect()) == list(range(50))
    assert {"_job", "_split", "_seq", "_partition", "_offset"} < set(frame.columns)
    found = metrics(spark, job)
    assert found == kappaflow.metrics(job)
    assert found["strange"]["failed"] == "asserts rows = 0, and has 5"
    assert "failed" not in found["totals"]
    assert metrics(spark, job, params={"every": 3})["strange"]["failed"] is None
