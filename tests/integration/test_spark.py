"""Publishing in Spark's executors, which are killed, stopped and retried."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import kappaflow
from kappaflow.errors import JobFileError, SourceError, TooManyRejectsError
from tests.integration.object_stores import SECRET, Store, google, s3
from tests.integration.spark_case import Case, Cluster, end

pytest.importorskip("pyspark")
from pyspark.sql import SparkSession

from kappaflow.spark import publish

# py4j leaves the sockets of threads that have ended to the garbage collector.
py4j_sockets = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
pytestmark = [pytest.mark.integration, py4j_sockets]


@pytest.fixture
def case(tmp_path: Path, regions: dict[str, str]) -> Iterator[Case]:
    case = Case(tmp_path, regions["east"])
    yield case
    case.end()


def test_receipts_are_a_frame_with_a_row_a_split(spark: SparkSession, case: Case) -> None:
    case.make(bad=(3, 1_500, 1_501))
    seen: list[int] = []
    published = publish(spark, case.job, on_progress=lambda progress: seen.append(progress["done"]))
    receipts = sorted(published.receipts.collect(), key=lambda row: row["split"])
    assert [(row["rows"], row["acknowledged"], row["rejected"]) for row in receipts] == [
        (1_000, 999, 1),
        (1_000, 998, 2),
        *[(1_000, 1_000, 0)] * 4,
    ]
    assert receipts[0]["file"] == "part-0.parquet" and len(receipts[0]["ranges"]) > 0
    total = published.total
    assert (total["rows"], total["acknowledged"], total["rejected"]) == (6_000, 5_997, 3)
    assert (total["read_back"], total["doubled"], total["rejects_sent"]) == (0, 0, 3)
    assert [(r["field"], r["count"]) for r in total["rejects"]] == [("id", 3)]
    kept = pq.read_table(f"{total['rejects_path']}/split-1.parquet").to_pylist()
    assert [(r["seq"], r["row_in_file"], r["column"], r["value"]) for r in kept] == [
        (500, 1_500, "id", "1500.5"),
        (501, 1_501, "id", "1501.5"),
    ]
    assert case.once(5_997) and seen

    # The same once more: nothing is sent, and the receipts are the same; so it is without Spark.
    again = publish(spark, case.job)
    assert sorted(again.receipts.collect(), key=lambda row: row["split"]) == receipts
    assert again.total["bytes"] == 0
    assert kappaflow.publish(case.job)["acknowledged"] == 5_997
    assert case.once(5_997)


def test_too_many_rejects_stop_the_spark_job(spark: SparkSession, case: Case) -> None:
    case.make(bad=tuple(range(0, 6_000, 400)), more="[limits]\nmax_rejects = 4\n")
    with pytest.raises(TooManyRejectsError, match=r"more than limits\.max_rejects = 4"):
        publish(spark, case.job)
    case.job.write_text(case.job.read_text().replace("max_rejects = 4", "max_rejects = 100"))
    total = publish(spark, case.job).total
    assert (total["acknowledged"], total["rejected"]) == (5_985, 15)
    assert case.once(5_985)


def test_a_source_that_executors_do_not_see_is_told(spark: SparkSession, case: Case) -> None:
    case.make()
    kappaflow.plan(case.job)
    (case.dir / "data").rename(case.dir / "elsewhere")
    with pytest.raises(SourceError, match=r"is not there on .*Spark task.* or in an object store"):
        publish(spark, case.job)


@pytest.mark.parametrize("kind", [s3, google], ids=["s3", "google"])
def test_executors_read_an_object_store(
    case: Case, kind: Callable[[Path], AbstractContextManager[Store]], monkeypatch: pytest.MonkeyPatch
) -> None:
    case.make()
    with kind(case.dir) as store:
        monkeypatch.setenv(SECRET, store.secret)
        local = case.dir / "data" / "part-0.parquet"
        store.put("rows/part-0.parquet", local.read_bytes())
        local.unlink()
        options = f"split_rows = 1000\n[source.options]\n{store.options}"
        text = (
            case.job.read_text()
            .replace('"data"', f'"{store.url}/rows"')
            .replace("split_rows = 1000", options)
        )
        case.job.write_text(text)
        out = case.dir / "out.json"
        result = case.result(case.driver("local[2]", out), out)
        assert (result["total"]["rows"], result["total"]["acknowledged"]) == (6_000, 6_000), result
        assert len(result["receipts"]) == 6
        assert case.once()
    assert store.secret not in (case.dir / "driver.log").read_text()


def test_a_frame_is_kept_first(spark: SparkSession, case: Case) -> None:
    from pyspark.sql import functions

    case.make(data=False)
    # Other rows each time it is computed.
    frame = spark.range(0, 6_000, 1, 3).select(
        functions.col("id"), functions.concat(functions.lit("row "), functions.rand()).alias("text")
    )
    with pytest.raises(JobFileError, match="has to be the same place"):
        publish(spark, frame, job=case.job, snapshot_path=case.dir / "other")
    with pytest.raises(TypeError, match="job="):
        publish(spark, frame)
    total = publish(spark, frame, job=case.job, snapshot_path=case.dir / "data").total
    assert (total["rows"], total["acknowledged"]) == (6_000, 6_000)
    kept = pq.read_table(case.dir / "data").to_pylist()
    # Kept rows are taken as they are.
    again = publish(spark, frame, job=case.job).total
    assert (again["acknowledged"], again["bytes"]) == (6_000, 0)
    assert pq.read_table(case.dir / "data").to_pylist() == kept
    assert case.once()
    (case.dir / "data" / "_SUCCESS").unlink()
    with pytest.raises(SourceError, match="no whole snapshot"):
        publish(spark, frame, job=case.job)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


# Slow enough for something to happen on the way: of the four tasks that run at once each gets a part of it.
SLOW = "[limits]\nmax_rows_per_s = 200\n"


def test_an_executor_that_is_killed_changes_nothing(case: Case, cluster: Cluster) -> None:
    case.make(splits=6, more=SLOW)
    out = case.dir / "out.json"
    process = case.driver(cluster.master, out)
    case.begun()
    executors = cluster.executors("CoarseGrainedExecutorBackend")
    assert len(executors) == 2
    os.kill(executors[0], signal.SIGKILL)
    result = case.result(process, out)
    assert "error" not in result, result
    total = result["total"]
    assert (total["rows"], total["acknowledged"], total["rejected"]) == (6_000, 6_000, 0)
    assert total["read_back"] > 0
    assert case.once()


def test_a_python_worker_that_is_killed_is_a_task_that_is_retried(case: Case, cluster: Cluster) -> None:
    case.make(splits=4, more=SLOW)
    out = case.dir / "out.json"
    process = case.driver(cluster.master, out)
    case.begun()
    os.kill(cluster.python_workers()[0], signal.SIGKILL)
    result = case.result(process, out)
    assert "error" not in result, result
    assert result["total"]["acknowledged"] == 4_000 and result["total"]["read_back"] > 0
    assert case.once()


def test_speculation_beside_an_attempt_that_stands_still_doubles_nothing(
    case: Case, cluster: Cluster
) -> None:
    case.make(splits=4, more=SLOW)
    out = case.dir / "out.json"
    process = case.driver(
        cluster.master,
        out,
        spark_speculation="true",
        spark_speculation_interval="200ms",
        spark_speculation_multiplier="1.1",
        spark_speculation_quantile="0.3",
        spark_speculation_minTaskRuntime="500ms",
    )
    case.begun()
    os.kill(cluster.python_workers()[0], signal.SIGSTOP)
    result = case.result(process, out)
    assert "error" not in result, result
    assert result["total"]["acknowledged"] == 4_000 and result["total"]["read_back"] > 0
    assert case.once()


def test_a_driver_that_is_killed_is_followed_by_one_that_goes_on(case: Case, cluster: Cluster) -> None:
    case.make(splits=6, more=SLOW)
    out = case.dir / "out.json"
    process = case.driver(cluster.master, out)
    case.begun()
    end(process.pid)
    process.wait(20)
    result = case.result(case.driver(cluster.master, out), out)
    assert "error" not in result, result
    total = result["total"]
    assert (total["rows"], total["acknowledged"]) == (6_000, 6_000) and total["read_back"] > 0
    assert [row["acknowledged"] for row in result["receipts"]] == [1_000] * 6
    assert case.once()
