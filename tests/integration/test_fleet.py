"""Fleets: several jobs through one service, fairly and exactly; submitted, watched, cancelled."""

import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

import kappaflow
from kappaflow.errors import CancelledError, FleetError, NotReadyError
from kappaflow.types import Progress
from tests.integration.fleet_site import SLOTS, Site, answer, exact
from tests.integration.http_services import Replay, serving
from tests.integration.stock import eventually

pytestmark = pytest.mark.integration


def submit(replay: Replay) -> None:
    assert kappaflow.submit(replay.job)["regions"] == ["east"]


def watch(replay: Replay, on_progress: Callable[[Progress], None] | None = None) -> None:
    kappaflow.watch(replay.job, region="east", on_progress=on_progress)


@pytest.fixture
def site(tmp_path: Path, regions: dict[str, str]) -> Iterator[Site]:
    with serving(answer) as service:
        site = Site(tmp_path, regions["east"], service)
        yield site
        for process in site.processes:
            process.kill()
            process.wait()


def test_a_small_job_does_not_wait_for_a_large_one(site: Site) -> None:
    large, small = site.job("large", 3_000), site.job("small", 150)
    fleet = site.start()
    submit(large)
    eventually(lambda: site.called(large) > 100)
    submit(small)
    watch(small)
    calls = order(site, small)
    # All calls up to the small one's last, less its own: the large one is not done.
    assert calls[-1] - len(calls) < 3_000
    # From its first call to its last each had two of the four slots, as long as it had something to call: about as many
    # calls, and not the twenty times as many that the large one could make.
    assert 0.5 < (calls[-1] - calls[0]) / (2 * len(calls)) < 3
    watch(large)
    assert site.service.most_at_once == SLOTS
    for replay, rows in ((large, 3_000), (small, 150)):
        exact(replay, rows)
        assert site.called(replay) == rows, "nothing was called twice"
    eventually(lambda: {site.of(job)["state"] for job in (large, small)} == {"done"})
    site.stop(fleet)
    assert site.status()["members"] == []


def test_weights_say_who_gets_more(site: Site) -> None:
    one = site.job("one", 5_000)
    three = site.job("three", 5_000)
    three.job.write_text(three.job.read_text().replace('name = "prices"', 'name = "prices"\nweight = 3'))
    site.start()
    submit(one)
    submit(three)
    eventually(lambda: min(site.called(one), site.called(three)) > 100)
    eventually(lambda: [(site.of(job)["figures"] or {}).get("share") for job in (one, three)] == [1, 3])
    before = site.called(one), site.called(three)
    eventually(lambda: site.called(three) - before[1] > 300)
    # What one does not call for a moment the other may, so this is about three.
    ratio = (site.called(three) - before[1]) / (site.called(one) - before[0])
    assert 1.5 < ratio < 6, ratio


def test_what_was_cancelled_goes_on_where_it_ended(site: Site) -> None:
    replay = site.job("cancelled", 600)
    site.start()
    submit(replay)
    seen: list[str] = []
    watching = threading.Thread(target=lambda: seen.append(failure(replay)))
    watching.start()
    eventually(lambda: site.called(replay) > 100)
    assert kappaflow.cancel(replay.job, by="anna")["regions"] == ["east"]
    assert kappaflow.cancel(replay.job)["regions"] == []
    watching.join(30)
    assert re.search(r"CancelledError.*was cancelled in region east by anna at 20\d\d-", seen[0])
    eventually(lambda: site.status()["members"][0]["jobs"] == [])
    done = site.called(replay)
    assert done < 600
    assert kappaflow.lag(replay.job, region="east")["committed"] == done, (
        "all that was under way is committed"
    )
    assert site.of(replay)["state"] == "cancelled"
    submit(replay)
    watch(replay)
    exact(replay, 600)
    assert site.called(replay) == 600, "nothing was called twice"


def failure(replay: Replay) -> str:
    try:
        watch(replay)
    except kappaflow.KappaFlowError as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def test_one_of_two_processes_is_killed(site: Site) -> None:
    jobs = [site.job(name, 900) for name in ("first", "second")]
    processes = [site.start(), site.start()]
    for replay in jobs:
        submit(replay)
    eventually(lambda: [len(m["jobs"]) for m in site.status()["members"]] == [2, 2])
    eventually(lambda: min(site.called(replay) for replay in jobs) > 100)
    processes[0].kill()
    for replay in jobs:
        watch(replay)
        exact(replay, 900)
        assert site.called(replay) <= 900 + 400, "only what was open is done twice"
    site.stop(processes[1])


def test_a_job_that_fails_takes_no_other_with_it(site: Site) -> None:
    broken, sound = site.job("broken", 50), site.job("sound", 300)
    ingress = kappaflow.names(broken.job, region="east")["topics"]["ingress"]
    admin = AdminClient({"bootstrap.servers": site.servers})
    admin.delete_topics([ingress])[ingress].result(30)
    fleet = site.start()
    submit(broken)
    submit(sound)
    eventually(lambda: site.of(broken)["state"] == "failed")
    with pytest.raises(FleetError, match=f"given job .* up in region east: topic {ingress}.*is gone"):
        watch(broken)
    watch(sound)
    exact(sound, 300)
    assert fleet.poll() is None


def test_without_a_fleet_the_watch_says_how_to_start_one(site: Site) -> None:
    replay = site.job("alone", 20)
    text = replay.job.read_text().replace('name = "prices"', 'name = "prices"\ntimeout_ms = 1500')
    replay.job.write_text(text)
    submit(replay)
    told = rf"no fleet of service prices .*kappaflow fleet run --store {site.store} --service prices --region east"
    with pytest.raises(NotReadyError, match=told):
        watch(replay)
    # It stays submitted, and workers of its own may do it as well.
    kappaflow.work(replay.job, region="east")
    watch(replay)
    assert site.of(replay)["state"] == "done"
    exact(replay, 20)


def test_jobs_wait_in_the_order_of_their_submission(site: Site) -> None:
    jobs = [site.job(name, 100) for name in ("a", "b", "c")]
    for replay in jobs:
        submit(replay)
    submit(jobs[0])
    site.start("--max-jobs", "1")
    notes: list[str] = []

    watch(jobs[2], on_progress=lambda progress: notes.append(progress["note"]))
    assert "in the fleet's queue, 1 before it" in notes
    assert [site.called(replay) for replay in jobs] == [100, 100, 100]
    firsts = [next(iter(order(site, replay))) for replay in jobs]
    assert firsts == sorted(firsts)
    for replay in jobs:
        exact(replay, 100)


def order(site: Site, replay: Replay) -> list[int]:
    job = kappaflow.names(replay.job, region="east")["job"]
    return [i for i, r in enumerate(site.service.requests) if r.headers["x-kappaflow-replay"] == job]


def test_callables_and_whole_runs(site: Site) -> None:
    callable_job = 'callable = "priced:price"\npython_path = ["."]\nprocesses = 1'
    replays = [site.job(name, 200, service=callable_job) for name in ("p", "q")]
    for replay in replays:
        (replay.dir / "priced.py").write_text(
            'def price(record):\n    return {"n": record["n"], "price": 2.0}\n'
        )
    listen = f"127.0.0.1:{free_port()}"
    site.start("--listen", listen)
    summary = kappaflow.run(replays[0].job)
    assert summary["ledger"]["landed"] == 200
    assert summary["rounds"][0]["work"] == []
    command = [sys.executable, "-m", "kappaflow", "submit", str(replays[1].job), "--json"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert told["service"] == "prices"
    watch(replays[1])
    exact(replays[1], 200)
    for path in ("healthz", "readyz", "metrics"):
        with urllib.request.urlopen(f"http://{listen}/{path}") as answered:
            assert answered.status == 200


def free_port() -> int:
    from kappaflow.dev import ports

    return ports.choose_free(())


def test_a_run_that_is_stopped_takes_its_job_back(site: Site) -> None:
    replay = site.job("stopped", 900)
    site.start()
    command = [sys.executable, "-m", "kappaflow", "run", str(replay.job)]
    run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    eventually(lambda: site.called(replay) > 100)
    run.terminate()
    assert run.wait(30) == 130
    assert site.of(replay)["state"] == "cancelled"
    with pytest.raises(CancelledError, match="by a run that was stopped"):
        watch(replay)
    assert kappaflow.run(replay.job)["ledger"]["landed"] == 900
