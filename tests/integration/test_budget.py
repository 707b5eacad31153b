"""What a service may be asked, over all jobs and workers that share its budget."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import kappaflow
from kappaflow.errors import JobFileError
from tests.integration.http_services import Answer, Replay, Request, said, serving
from tests.integration.stock import eventually

pytestmark = pytest.mark.integration

ROWS = 300
RATE = 60
BURST = 6
"""A tenth of a second's calls."""
AT_ONCE = 4


def at(directory: Path, servers: str, service: str, name: str) -> Replay:
    """A job whose store is beside its own directory, to be shared."""
    directory.mkdir()
    replay = Replay(directory, servers)
    replay.make(ROWS, service)
    text = replay.job.read_text().replace('name = "', f'name = "{name}-', 1)
    replay.job.write_text(text + '[store]\nurl = "sqlite:../shared.db"\n')
    replay.publish()
    return replay


def test_workers_of_two_jobs_stay_below_the_rate_together(tmp_path: Path, regions: dict[str, str]) -> None:
    times: list[float] = []

    def answer(request: Request) -> Answer:
        times.append(time.monotonic())
        return said({"n": request.record["n"]})

    with serving(answer) as service:
        budget = f"concurrency = {AT_ONCE}\nbudget = {{ max_calls_per_s = {RATE} }}"
        limited = f'{budget}\n[service.http]\nurl = "{service.url}'
        jobs = [
            at(tmp_path / "one", regions["east"], f'{limited}/one/{{n}}"', "one"),
            at(tmp_path / "two", regions["east"], f'{limited}/two/{{n}}"', "two"),
        ]
        command = [sys.executable, "-m", "kappaflow", "work", "--region", "east"]
        workers = [subprocess.Popen([*command, str(job.job)], stderr=subprocess.DEVNULL) for job in jobs]
        assert [worker.wait(120) for worker in workers] == [0, 0]
    assert len(times) == 2 * ROWS
    times.sort()
    for first, at_first in enumerate(times):
        within = sum(1 for then in times[first:] if then < at_first + 2)
        # Each worker may begin with a burst and end with one, and calls may wait in the server's queue.
        assert within <= 2 * RATE + 4 * BURST + 2 * AT_ONCE, f"{within} calls in 2 s"
    assert {request.path.split("/")[1] for request in service.requests} == {"one", "two"}


def hours(begin: int) -> str:
    """A window of four hours that begins so many hours from now, in UTC."""
    hour = time.gmtime().tm_hour + begin
    return f"{hour % 24:02}:00-{(hour + 4) % 24:02}:00"


def test_outside_its_window_a_service_is_not_called(tmp_path: Path, regions: dict[str, str]) -> None:
    replay = Replay(tmp_path, regions["east"])
    window = hours(3)

    def answer(request: Request) -> Answer:
        return said({"n": request.record["n"]})

    with serving(answer) as service:
        closed = f'budget = {{ windows = ["{window}"] }}\n[service.http]\nurl = "{service.url}"'
        replay.make(50, closed)
        replay.publish()
        command = [sys.executable, "-m", "kappaflow", "work", str(replay.job), "--region", "east"]
        log = tmp_path / "worker.log"
        with log.open("w") as err:
            worker = subprocess.Popen(command, stderr=err)
        eventually(lambda: "outside service.budget.windows; opens" in log.read_text())
        time.sleep(2)
        worker.terminate()
        worker.wait(30)
        assert not service.requests
        replay.job.write_text(replay.job.read_text().replace(window, hours(-1)))
        assert replay.work()["landed"] == 50


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ("max_calls_per_s = 0", r"service\.budget\.max_calls_per_s.*expected a number above 0"),
        ('windows = ["noon"]', r"service\.budget\.windows.*expected days, hours or both"),
        ('time_zone = "Here"', r"service\.budget\.time_zone.*Here"),
    ],
)
def test_what_is_no_budget_is_told_by_its_key(tmp_path: Path, budget: str, told: str) -> None:
    replay = Replay(tmp_path, "127.0.0.1:1")
    replay.make(1, f'budget = {{ {budget} }}\n[service.http]\nurl = "http://x"')
    with pytest.raises(JobFileError, match=told):
        kappaflow.dispatch(replay.job)
