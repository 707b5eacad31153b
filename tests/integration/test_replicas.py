"""How many workers: asked of a real group, before, while and after it works."""

import json

import pytest

import kappaflow
from tests.conftest import JobMaker

pytestmark = pytest.mark.integration


def test_replicas_come_from_the_real_lag_and_the_rate_of_ended_runs(make_job: JobMaker) -> None:
    job = make_job(1)
    job.run("dispatch").ok()
    (region,) = [
        r["name"] for r in kappaflow.regions(job.file, params=job.params) if r["active"] + r["queued"]
    ]
    job.run("publish").ok()

    unknown = job.run("work replicas", "--region", region)
    assert unknown.code == 1
    assert "no run of a worker" in unknown.stderr and "--rate" in unknown.stderr

    # 27,004 rows in 100 s less 66 s of overhead: 794 a second, 300 by each.
    terms = ["--region", region, "--rate", "300", "--deadline", "100"]
    found = job.run("work replicas", *terms).ok()
    assert (found["lag"], found["arrivals_per_s"], found["rate_of_runs"]) == (27_004, 0, 0)
    assert (found["replicas"], found["needed"], found["unmeetable"], found["hot"]) == (3, 3, None, [])
    assert sum(part["lag"] for part in found["partitions"]) == 27_004
    assert found["drained_in_s"] == pytest.approx(27_004 / 900, rel=0.05)

    few = job.run("work replicas", *terms, "--max", "2")
    assert few.code == 1
    assert json.loads(few.stdout)["unmeetable"] == {"reason": "too_many", "needed": 3, "most": 2}
    assert "it takes 3 workers, and there may be 2" in few.stderr
    slow = job.run("work replicas", *terms, "--partition-rate", "50")
    assert slow.code == 1
    assert json.loads(slow.stdout)["hot"] == [0, 1, 2, 3, 4, 5]
    assert "more workers do not help it" in slow.stderr
    late = job.run("work replicas", *terms[:-1], "10")
    assert json.loads(late.stdout)["unmeetable"] == {"reason": "no_time", "short_ms": 56_000}

    job.run("work", "--region", region).ok()
    done = job.run("work replicas", "--region", region).ok()
    assert (done["replicas"], done["lag"], done["rate_of_runs"]) == (0, 0, 1)
    assert done["rate_per_s"] > 0
    # A day less what has passed.
    assert 80_000 < done["deadline_s"] < 86_400


def test_wrong_usage_is_told(make_job: JobMaker) -> None:
    job = make_job(1)
    several = job.run("work replicas")
    assert several.code == 1 and "--region east|west" in several.stderr
    for words in (["--rate", "0"], ["--utilisation", "2"], ["--deadline", "-1"], ["--max", "1.5"]):
        assert job.run("work replicas", "--region", "east", *words).code == 2
