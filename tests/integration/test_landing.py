"""Working and landing on and on, as processes that are told to stop."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import kappaflow
from kappaflow.errors import FileError
from kappaflow.metrics import MetricError
from tests.integration.stock import eventually
from tests.integration.workers import replaying

pytestmark = pytest.mark.integration

ROWS = 1_000


def test_a_lander_follows_a_worker_until_both_are_stopped(regions: dict[str, str], tmp_path: Path) -> None:
    soon = ('path = "landed"', 'path = "landed"\ncommit_ms = 500')
    with replaying(tmp_path, regions["east"], ROWS, soon) as workers:
        command = [sys.executable, "-m", "kappaflow", "land", str(workers.replay.job)]
        lander = subprocess.Popen(
            [*command, "--until", "stopped", "--json", "--quiet"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            worker = workers.start("--until", "stopped")
            eventually(lambda: any((tmp_path / "landed").rglob("*.json")))
            eventually(lambda: len(workers.replay.landed()) == ROWS)
            worker.send_signal(signal.SIGTERM)
            assert workers.finished(worker)[0] == ROWS
            # A process in the background of a shell is deaf to SIGINT.
            lander.send_signal(signal.SIGTERM)
            out, err = lander.communicate(timeout=60)
        finally:
            lander.kill()
            lander.communicate()
        assert lander.returncode == 0, err
        summary = json.loads(out.splitlines()[-1])
        assert (summary["landed"], summary["incomplete"], summary["orphans"]) == (ROWS, 0, 0)
        assert summary["regions"][0]["commits"] == summary["version"] > 1
        assert workers.done_twice() == 0


METRICS = """
-- name: priced
SELECT count(*) AS n FROM answers WHERE price = 1.0;

-- name: strange
-- assert: rows = 0
SELECT n, price FROM answers WHERE n % $every = 3 ORDER BY n;
"""


def test_what_landed_is_asked_by_sql(regions: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "metrics.sql").write_text(METRICS)
    edits = [
        ('path = "landed"', 'path = "landed"\nmetrics = "metrics.sql"'),
        ("[source]", '[params.every]\ntype = "int"\ndefault = 10\nidentity = false\n[source]'),
    ]
    with replaying(tmp_path, regions["east"], 50, *edits) as workers:
        job = workers.replay.job
        assert workers.replay.work()["landed"] == 50
    found = kappaflow.metrics(job)
    assert found["priced"] == {"columns": ["n"], "rows": [[50]]}
    assert [row[0] for row in found["strange"]["rows"]] == [3, 13, 23, 33, 43]
    with pytest.raises(MetricError, match=r"strange: asserts rows = 0, and has 5; 3, 1\.0; 13, 1\.0"):
        kappaflow.check_metrics(found)
    kappaflow.check_metrics(kappaflow.metrics(job, params={"every": 3}))

    query = "SELECT n, note FROM answers WHERE n % $every = 3 ORDER BY n"
    rows = [3, 13, 23, 33, 43]
    for name in ("rows.csv", "rows.parquet", "rows.json"):
        assert kappaflow.sql_to_file(job, query, tmp_path / name) == 5
    with (tmp_path / "rows.csv").open() as file:
        assert [int(row["n"]) for row in csv.DictReader(file)] == rows
    assert pq.read_table(tmp_path / "rows.parquet")["n"].to_pylist() == rows
    lines = (tmp_path / "rows.json").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"n": n, "note": None} for n in rows]
    with pytest.raises(FileError, match=r"should end in \.csv, \.parquet or \.json"):
        kappaflow.sql_to_file(job, query, tmp_path / "rows.xlsx")
    with pytest.raises(MetricError, match="the query is empty: expected a SELECT"):
        kappaflow.sql(job, "-- nothing")

    command = [sys.executable, "-m", "kappaflow", "sql", str(job)]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert failed.returncode == 1
    assert "strange: asserts rows = 0, and has 5" in failed.stderr
    written = subprocess.run(
        [*command, query, "--out", str(tmp_path / "again.csv"), "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert json.loads(written.stdout.splitlines()[-1])["rows"] == 5, written.stderr


def test_a_table_is_kept_in_order(regions: dict[str, str], tmp_path: Path) -> None:
    soon = ('path = "landed"', 'path = "landed"\npartition_key = ["note"]\ncommit_ms = 10')
    with replaying(tmp_path, regions["east"], 50, soon) as workers:
        job, landed = workers.replay.job, tmp_path / "landed"

        def run(*words: str) -> tuple[int, dict[str, Any], str]:
            command = [sys.executable, "-m", "kappaflow", *words, "--json", "--quiet"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr

        def everything() -> list[int]:
            found = kappaflow.sql(job, "SELECT n FROM answers ORDER BY n").to_pydict()
            return list(found["n"])

        kappaflow.work(job, region="east", until="now")
        first, summary, _ = run("land", str(job), "--export", str(tmp_path / "bare"))
        assert (first, summary["landed"], summary["export"]["rows"]) == (0, 50, 50)
        bare = sorted(
            str(path.relative_to(tmp_path / "bare")) for path in (tmp_path / "bare").rglob("*.parquet")
        )
        assert len(bare) == 1 and bare[0].startswith("note=__HIVE_DEFAULT_PARTITION__/")
        whole = pq.read_table(tmp_path / "bare" / bare[0])
        assert sorted(whole["n"].to_pylist()) == list(range(50))
        taken, error, _ = run("table", "export", str(job), str(tmp_path / "bare"))
        assert taken == 1 and "is there already" in error["error"]["message"]

        # As killed landers leave it.
        (landed / "data" / "killed.parquet").write_bytes(b"PAR1")
        _, compacted, _ = run("table", "compact", str(job))
        assert (compacted["files_before"], compacted["given_up"]) == (0, 0)
        too_soon, error, _ = run("table", "clean", str(job), "--older-than-h", "0.000001")
        assert too_soon == 2 and "output.commit_ms" in error["error"]["message"]
        time.sleep(0.2)
        _, cleaned, _ = run("table", "clean", str(job), "--older-than-h", "0.00002")
        assert (cleaned["orphans"], cleaned["replaced"]) == (1, 0)
        assert not (landed / "data" / "killed.parquet").exists()
        assert everything() == list(range(50))
        assert workers.done_twice() == 0
