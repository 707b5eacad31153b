"""Landing in Spark's executors: the same table and the same ledger as by a lander, whatever dies."""

import json
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer

import kappaflow
from kappaflow import _native, api
from kappaflow.errors import NotReadyError, TableError, TooManyDeadLettersError, TopicError
from tests.integration.answers import EXACT, ID, PARTITIONS, Answer, Answers, family
from tests.integration.object_stores import SECRET, s3
from tests.integration.spark_case import Case, Cluster
from tests.integration.stock import eventually

pytest.importorskip("pyspark")
from pyspark.sql import SparkSession

from kappaflow.spark import land

# py4j leaves the sockets of threads that have ended to the garbage collector.
py4j_sockets = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
pytestmark = [pytest.mark.integration, py4j_sockets]

ROWS = 4_000
PLAIN = {"table": "plain"}


@pytest.fixture
def answers(regions: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest) -> Answers:
    name = request.node.name.removeprefix("test_").partition("[")[0]
    return Answers(tmp_path / "job", regions["east"], f"spark-land-{name}", ROWS)


def various(answers: Answers) -> None:
    """Families, some of two attempts, and one that is torn."""
    answers.write(answer for n in range(ROWS - 2) for answer in family(n, 1 + n % 3))
    answers.write(answer for n in range(0, 300, 3) for answer in family(n, 1, attempt=2))
    answers.write(family(ROWS - 2, 3)[:2])
    answers.write([Answer(ROWS - 1)])


def test_the_table_and_its_ledger_are_those_of_a_lander(spark: SparkSession, answers: Answers) -> None:
    various(answers)
    said: list[tuple[int, int | None]] = []
    ours = land(spark, answers.job, on_progress=lambda p: said.append((p["done"], p["total"])))
    theirs = kappaflow.land(answers.job, params=PLAIN)
    same = ("landed", "inputs", "duplicates", "incomplete", "foreign", "dead_lettered", "open")
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    assert (ours["inputs"], ours["duplicates"]) == (ROWS - 1, {"re_read": 0, "re_published": 100})
    assert (ours["incomplete"], ours["orphans"], ours["version"]) == (1, 0, 1)
    assert ours["regions"][0]["commits"] == 1
    assert ours["regions"][0]["records"] == theirs["regions"][0]["records"]
    assert sorted(o["partition"] for o in ours["regions"][0]["offsets"]) == list(range(PARTITIONS))
    assert said[-1] == (ours["regions"][0]["records"],) * 2
    written = answers.written()
    for table in ("landed", "plain"):
        assert written.compare(answers.landed(table)) == EXACT
    schemas = [
        {pq.read_schema(file) for file in api.table(answers.job, params=params)["files"]}
        for params in ({}, PLAIN)
    ]
    assert schemas[0] == schemas[1] and len(schemas[0]) == 1

    # Again: nothing is new. A lander goes on from there, and Spark from where that has ended.
    assert land(spark, answers.job)["landed"] == 0
    answers.write(family(ROWS - 2, 3)[2:])
    assert answers.land()["landed"] == 3
    again = land(spark, answers.job)
    assert (again["landed"], again["version"]) == (0, 2)
    assert answers.written().compare(answers.landed()) == EXACT
    assert answers.explained() == ROWS


def test_what_cannot_be_read_is_a_dead_letter(spark: SparkSession, answers: Answers) -> None:
    answers.write(Answer(n) for n in range(ROWS - 3))
    broken(answers, range(ROWS - 3, ROWS))
    text = answers.job.read_text()
    answers.job.write_text(text.replace("commit_mib = 1", "commit_mib = 1\nmax_dead_letters = 2"))
    with pytest.raises(TooManyDeadLettersError, match="max_dead_letters = 2"):
        land(spark, answers.job)
    assert not api.table(answers.job)["files"]
    answers.job.write_text(text)
    landed = land(spark, answers.job)
    assert (landed["landed"], landed["dead_lettered"]) == (ROWS - 3, 3)
    ledger = kappaflow.reconcile(answers.job)
    kappaflow.check_ledger(ledger)
    assert (ledger["landed"], ledger["dead_lettered"]) == (ROWS - 3, 3)


def broken(answers: Answers, rows: Iterable[int]) -> None:
    """Answers of the rows that are no Avro."""
    producer = Producer({"bootstrap.servers": answers.server})
    for n in rows:
        header = ID.pack(1, answers.id, *divmod(n, answers.split_rows), 1, 0, 1)
        producer.produce(answers.topic, b"broken", headers={"kf-id": header}, partition=n % PARTITIONS)
    assert producer.flush(60) == 0


def pieces(lead: "_native.RemoteLand") -> list[tuple[str, str]]:
    tasks = json.loads(lead.tasks())
    assert {order for order, _ in tasks["pieces"]} <= {0}
    return [(tasks["orders"][order], piece) for order, piece in tasks["pieces"]]


def test_of_two_that_land_the_same_the_table_takes_one(answers: Answers) -> None:
    answers.write(Answer(n) for n in range(ROWS))
    lead = _native.RemoteLand(str(answers.job), {})
    # An attempt whose answer nobody takes leaves files that no commit names.
    given = pieces(lead)
    _native.land_range(*given[0], "here")
    landed = [(0, _native.land_range(*piece, "here")) for piece in given]
    assert answers.land()["landed"] == ROWS
    assert json.loads(lead.commit(landed)) is False
    answers.write(Answer(n, attempt=2) for n in range(10))
    again = [(0, _native.land_range(*piece, "here")) for piece in pieces(lead)]
    assert json.loads(lead.commit(again)) is True
    summary = json.loads(lead.finish())
    assert (summary["landed"], summary["duplicates"]["re_published"]) == (0, 10)
    assert summary["orphans"] > 0
    assert answers.written().compare(answers.landed()) == EXACT
    assert answers.explained() == ROWS


def test_what_is_not_in_the_tables_place_is_not_committed(answers: Answers, tmp_path: Path) -> None:
    answers.write(Answer(n) for n in range(ROWS))
    lead = _native.RemoteLand(str(answers.job), {})
    given = pieces(lead)
    landed = [(0, _native.land_range(*piece, "here")) for piece in given]
    with pytest.raises(TableError, match="3 of 4 tasks have answered"):
        lead.commit(landed[1:])

    lead = _native.RemoteLand(str(answers.job), {})
    given = pieces(lead)
    landed = [(0, _native.land_range(*piece, "here")) for piece in given]
    table = answers.dir / "landed"
    table.rename(tmp_path / "another-machines")
    with pytest.raises(
        TableError, match=r"is not there on there: .* file system that all of these machines see"
    ):
        _native.land_range(*given[0], "there")
    table.mkdir()
    with pytest.raises(
        TableError, match=r"which is not there as seen from here: .* Nothing of this is landed"
    ):
        lead.commit(landed)
    assert answers.land()["landed"] == ROWS


def test_an_order_of_another_version_is_refused(answers: Answers) -> None:
    answers.write([Answer(0)])
    [(order, piece)] = pieces(_native.RemoteLand(str(answers.job), {}))
    other = order.replace('"version":1', '"version":2')
    with pytest.raises(NotReadyError, match="same version of KappaFlow wherever"):
        _native.land_range(other, piece, "here")


def test_a_topic_that_is_gone_is_told_by_name(spark: SparkSession, answers: Answers) -> None:
    from confluent_kafka.admin import AdminClient

    answers.write([Answer(0)])
    admin = AdminClient({"bootstrap.servers": answers.server})
    admin.delete_topics([answers.topic])[answers.topic].result()
    with pytest.raises(TopicError, match="is gone: what was not landed yet is lost"):
        land(spark, answers.job)


@pytest.mark.parametrize("table_format", ["parquet", "delta"])
def test_a_table_in_an_object_store(
    regions: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table_format: str
) -> None:
    with s3(tmp_path) as store:
        monkeypatch.setenv(SECRET, store.secret)
        output = f'format = "{table_format}"\n[output.options]\n{store.options}'
        name = f"spark-land-store-{table_format}"
        place = f"{store.url}/"
        answers = Answers(tmp_path / "job", regions["east"], name, ROWS, output=output, place=place)
        answers.write(answer for n in range(ROWS) for answer in family(n, 1 + n % 2))
        case = Case(answers.dir, answers.server)
        try:
            summary = case.result(case.driver("local[2]", out := tmp_path / "out.json", "land"), out)
        finally:
            case.end()
        assert summary["inputs"] == ROWS, summary
        assert store.secret not in (answers.dir / "driver.log").read_text()
        rows = kappaflow.sql(answers.job, "SELECT count(*) AS rows, count(DISTINCT n) AS inputs FROM landed")
        assert rows.to_pylist() == [{"rows": ROWS + ROWS // 2, "inputs": ROWS}]
        assert answers.explained() == ROWS


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.mark.parametrize("victim", ["executor", "python"])
def test_what_is_killed_on_the_way_changes_nothing(
    regions: dict[str, str], tmp_path: Path, cluster: Cluster, victim: str
) -> None:
    rows = 40_000
    answers = Answers(tmp_path / "job", regions["east"], f"spark-land-killed-{victim}", rows)
    answers.write(answer for n in range(rows) for answer in family(n, 1 + n % 3))
    case = Case(answers.dir, answers.server)
    out = tmp_path / "out.json"
    process = case.driver(cluster.master, out, "land")
    try:
        data = answers.dir / "landed" / "data"
        eventually(lambda: data.is_dir() and any(data.iterdir()), 120)
        doomed = {
            "executor": lambda: cluster.executors("CoarseGrainedExecutorBackend"),
            "python": cluster.python_workers,
        }[victim]()
        os.kill(doomed[0], signal.SIGKILL)
        summary = case.result(process, out)
    finally:
        case.end()
    assert summary.get("inputs") == rows, summary
    log = (answers.dir / "driver.log").read_text()
    assert "Lost executor" in log or "Lost task" in log, log[-3_000:]
    assert answers.written().compare(answers.landed()) == EXACT
    assert answers.explained() == rows
