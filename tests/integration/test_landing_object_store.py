"""A table in an object store: landed, queried, reconciled, and replaced by a backfill."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import kappaflow
from tests.integration.http_services import Replay
from tests.integration.object_stores import SECRET, Store, azure, hdfs, s3

pytestmark = pytest.mark.integration

ROWS = 500
SERVICE = """
import math

def answer(row):
    return {"n": row["n"], "price": row["n"] * 1.5, "note": None if row["n"] % 3 else f"row {row['n']}"}
"""


# The emulator of Google's store takes no uploads by the XML API, which the client writes with.
@pytest.fixture(params=[s3, azure, hdfs], ids=["s3", "azure", "hdfs"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with request.param(tmp_path) as store:
        monkeypatch.setenv(SECRET, store.secret)
        yield store


def job(directory: Path, servers: str, store: Store, price: str) -> Replay:
    directory.mkdir()
    replay = Replay(directory, servers).make(ROWS, 'python_path = ["."]\ncallable = "prices:answer"')
    (directory / "prices.py").write_text(SERVICE.replace("1.5", price))
    output = f"""path = "{store.url}/prices"
mode = "new_version"
[output.options]
{store.options}
"""
    replay.job.write_text(replay.job.read_text().replace('path = "landed"', output))
    return replay


def test_a_table_in_a_store_is_landed_asked_and_replaced(
    tmp_path: Path, store: Store, regions: dict[str, str]
) -> None:
    before = "SELECT count(*) AS rows, sum(price) AS prices, count(note) AS notes FROM answers"
    for name, price, versions in [("one", "1.5", 2), ("two", "2.0", 4)]:
        replay = job(tmp_path / name, regions["east"], store, price)
        replay.publish()
        ledger = replay.work()
        assert (ledger["landed"], ledger["published"]) == (ROWS, versions)
        [found] = kappaflow.sql(replay.job, before).to_pylist()
        assert found == {"rows": ROWS, "prices": sum(n * float(price) for n in range(ROWS)), "notes": 167}
        again = kappaflow.land(replay.job)
        assert (again["landed"], again["version"]) == (0, versions)
        status = kappaflow.status(replay.job)
        assert status["table"]["path"] == f"{store.url}/prices"
        assert (status["table"]["rows"], status["table"]["version"]) == (ROWS, versions)
        checked = [
            need
            for need in kappaflow.doctor(replay.job)["needs"]
            if need["what"].startswith("writing the table")
        ]
        assert [need["outcome"] for need in checked] == ["ok"], checked
    assert again["orphans"] == 0
    # What the second has replaced is gone, and the first's ledger stands.
    first = Replay(tmp_path / "one", regions["east"])
    assert kappaflow.reconcile(first.job)["landed"] == ROWS
    kept = (tmp_path / "one" / ".kappaflow").rglob("*")
    assert all(store.secret.encode() not in path.read_bytes() for path in kept if path.is_file())
    copies = tmp_path / "one" / ".kappaflow" / "spool" / "data"
    [old] = copies.iterdir()
    new = Path(shutil.copy(old, copies / "new.parquet"))
    os.utime(old, (0, 0))
    kappaflow.clean_table(first.job, older_than_h=1)
    assert list(copies.iterdir()) == [new]
    assert kappaflow.reconcile(first.job)["landed"] == ROWS
