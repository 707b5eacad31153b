"""`kappaflow-worker`, the worker without Python, beside a service over HTTP."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import kappaflow
from tests.integration.fleet_site import Site, exact
from tests.integration.http_services import Answer, Replay, Request, said, serving
from tests.integration.stock import eventually

pytestmark = pytest.mark.integration
ROWS = 400


def answer(request: Request) -> Answer:
    return said({"n": request.record["n"]})


@pytest.fixture
def program() -> Path:
    found = os.environ.get("KAPPAFLOW_WORKER")
    if found is None:
        # `make test` builds it and names it; nothing else here needs cargo.
        pytest.skip("KAPPAFLOW_WORKER names no kappaflow-worker")
    return Path(found)


@contextmanager
def running(program: Path, replay: Replay, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [program, replay.job, "--region=east", "--json", *options]
    # Nothing of Python is found by it.
    worker = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"PATH": ""}
    )
    try:
        yield worker
    finally:
        worker.kill()
        worker.communicate()


def test_it_works_until_all_is_done(program: Path, tmp_path: Path, regions: dict[str, str]) -> None:
    replay = Replay(tmp_path, regions["east"])
    with serving(answer) as service:
        replay.make(ROWS, f'[service.http]\nurl = "{service.url}"')
        kappaflow.dispatch(replay.job)
        with running(program, replay) as worker:
            # It is there before the publisher, and waits for it.
            kappaflow.publish(replay.job)
            out, err = worker.communicate(timeout=120)
    assert worker.returncode == 0, err
    assert json.loads(out)["answered"] == ROWS
    assert replay.work()["landed"] == ROWS


def test_it_works_until_it_is_stopped(program: Path, tmp_path: Path, regions: dict[str, str]) -> None:
    replay = Replay(tmp_path, regions["east"])
    with serving(answer) as service:
        replay.make(ROWS, f'[service.http]\nurl = "{service.url}"')
        replay.publish()
        with running(program, replay, "--until=stopped") as worker:
            region = {"region": "east"}
            eventually(lambda: kappaflow.lag(replay.job, **region)["lag"] == 0)
            with pytest.raises(subprocess.TimeoutExpired):
                worker.wait(3)
            worker.send_signal(signal.SIGTERM)
            out, err = worker.communicate(timeout=30)
    assert worker.returncode == 0, err
    assert json.loads(out)["answered"] == ROWS
    assert replay.work()["landed"] == ROWS


def test_it_serves_jobs_as_a_fleet(program: Path, tmp_path: Path, regions: dict[str, str]) -> None:
    with serving(answer) as service:
        site = Site(tmp_path, regions["east"], service)
        jobs = [site.job(name, ROWS) for name in ("one", "two")]
        command = [program, "fleet", f"--store={site.store}", "--service=prices", "--region=east", "--json"]
        fleet = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PATH": ""})
        try:
            for replay in jobs:
                kappaflow.submit(replay.job)
            eventually(lambda: all(site.of(replay)["state"] == "done" for replay in jobs))
            fleet.send_signal(signal.SIGTERM)
            out, _ = fleet.communicate(timeout=60)
        finally:
            fleet.kill()
            fleet.communicate()
    assert fleet.returncode == 0
    summary = json.loads(out.splitlines()[-1])
    assert (summary["done"], summary["failed"], summary["read"]) == (2, 0, 2 * ROWS)
    for replay in jobs:
        exact(replay, ROWS)
