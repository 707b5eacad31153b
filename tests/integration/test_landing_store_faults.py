"""Stores that fail while a table is landed in them: each row once, or a clear failure and then an exact resume."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import kappaflow
from kappaflow.dev import DevStack
from kappaflow.dev.s3 import S3
from kappaflow.errors import KappaFlowError
from tests.integration.workers import Workers, replaying

pytestmark = pytest.mark.integration

ROWS = 300


@contextmanager
def landing_in(url: str, options: dict[str, str], directory: Path, servers: str) -> Iterator[Workers]:
    """A job that is worked on, with a table there that a lander commits to many times."""
    listed = "\n".join(f'"{name}" = "{value}"' for name, value in options.items())
    output = f'path = "{url}"\ncommit_ms = 50\n[output.options]\n{listed}'
    with replaying(directory, servers, ROWS, ('path = "landed"', output)) as workers:
        kappaflow.work(workers.replay.job, region="east")
        yield workers


def landed(job: Path) -> list[int]:
    found = kappaflow.sql(job, "SELECT n FROM answers ORDER BY n").to_pydict()
    return list(found["n"])


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[S3, str, dict[str, str]]]:
    """An S3 server, a place in it, and the options that a job gives."""
    server = S3(tmp_path / "s3", print)
    server.launch(None, set())
    try:
        server.await_ready(60)
        status = server.status()
        assert status is not None
        options: dict[str, Any] = dict(status.options)
        url = f"s3://{options.pop('bucket')}/prices"
        monkeypatch.setenv("LAKE_SECRET", options["aws_secret_access_key"])
        options["aws_secret_access_key"] = "env:LAKE_SECRET"
        (tmp_path / "job").mkdir()
        yield server, url, options
    finally:
        server.stop(20)


def test_a_store_that_is_throttled_takes_every_row_once(
    regions: dict[str, str], tmp_path: Path, lake: tuple[S3, str, dict[str, str]]
) -> None:
    server, url, options = lake
    with landing_in(url, options, tmp_path / "job", regions["east"]) as workers:
        job = workers.replay.job
        # What is tried again gets through.
        server.fail(4)
        assert kappaflow.land(job)["landed"] == ROWS
        server.fail(4)
        kappaflow.compact_table(job)
        server.fail(4)
        assert landed(job) == list(range(ROWS))
        assert kappaflow.land(job)["landed"] == 0
        ledger = kappaflow.reconcile(job)
        assert (ledger["landed"], ledger["duplicated"]) == (ROWS, 0)


@pytest.mark.parametrize("every", [2, 3])
def test_puts_that_are_done_but_answered_too_late_are_not_done_twice(
    regions: dict[str, str], tmp_path: Path, lake: tuple[S3, str, dict[str, str]], every: int
) -> None:
    server, url, options = lake
    # A commit is three PUTs: with 2 the sidecar's and the manifest's answers are late, with 3 the manifest's.
    options["timeout"] = "1 second"
    with landing_in(url, options, tmp_path / "job", regions["east"]) as workers:
        job = workers.replay.job
        server.slow(every, 2_500)
        done = kappaflow.land(job)
        assert done["landed"] == ROWS
        assert (done["version"], done["orphans"]) == (sum(r["commits"] for r in done["regions"]), 0)
        kappaflow.compact_table(job)
        server.slow(0, 0)
        assert landed(job) == list(range(ROWS))
        assert kappaflow.land(job)["landed"] == 0
        ledger = kappaflow.reconcile(job)
        assert (ledger["landed"], ledger["duplicated"], ledger["explained"]) == (ROWS, 0, True)


def test_an_hdfs_that_dies_and_comes_back_has_every_row_once(regions: dict[str, str], tmp_path: Path) -> None:
    with DevStack(tmp_path / "stack", hdfs=True) as stack:
        (hdfs,) = stack.servers()
        (tmp_path / "job").mkdir()
        # The client gives up soon.
        options = {
            "dfs.client.failover.max.attempts": "2",
            "dfs.client.socket-timeout": "5000",
        }
        with landing_in(f"{hdfs.url}/prices", options, tmp_path / "job", regions["east"]) as workers:
            job = workers.replay.job
            assert hdfs.pid is not None
            failed: list[KappaFlowError] = []

            def land() -> None:
                try:
                    kappaflow.land(job)
                except KappaFlowError as error:
                    failed.append(error)

            lander = threading.Thread(target=land)
            lander.start()
            time.sleep(0.6)
            os.kill(hdfs.pid, 9)
            lander.join()
            for error in failed:
                assert error.kind in ("table", "source", "io"), error
            stack.up()
            kappaflow.land(job)
            assert landed(job) == list(range(ROWS))
            ledger = kappaflow.reconcile(job)
            assert (ledger["landed"], ledger["duplicated"], ledger["explained"]) == (ROWS, 0, True)
