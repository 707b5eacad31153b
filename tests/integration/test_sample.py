"""A canary of some rows, before the whole."""

from pathlib import Path

import pytest

import kappaflow
from kappaflow.errors import SampleError
from tests.integration.http_services import Answer, Replay, Request, said, serving

pytestmark = pytest.mark.integration
ROWS = 3_000
SAMPLE = 100


@pytest.fixture
def replay(tmp_path: Path, regions: dict[str, str]) -> Replay:
    replay = Replay(tmp_path, regions["east"])
    # Its service is put in by each test.
    replay.make(ROWS, '[service.http]\nurl = "SERVICE"')
    return replay


def test_the_whole_follows_a_sample_that_went_well(replay: Replay) -> None:
    def answer(request: Request) -> Answer:
        return said({"n": request.record["n"]})

    with serving(answer) as service:
        replay.job.write_text(replay.job.read_text().replace("SERVICE", service.url))
        done = kappaflow.run(replay.job, sample=SAMPLE)
        assert (done["sample"]["expected"], done["sample"]["landed"]) == (SAMPLE, SAMPLE)
        assert done["sample"]["name"] == f"{done['ledger']['name']}-sample"
        assert (done["ledger"]["expected"], done["ledger"]["landed"]) == (ROWS, ROWS)
        assert len(service.requests) == ROWS + SAMPLE
        # The sample's rows are in no table but its own.
        assert [row["n"] for row in replay.landed()] == list(range(ROWS))
        # Again: it is confirmed, and nothing is called.
        again = kappaflow.run(replay.job, sample=SAMPLE)
    assert (again["sample"]["landed"], again["ledger"]["landed"]) == (SAMPLE, ROWS)
    assert len(service.requests) == ROWS + SAMPLE


def test_a_sample_that_fails_keeps_the_whole_back(replay: Replay) -> None:
    def answer(request: Request) -> Answer:
        n = request.record["n"]
        return said({"n": n}) if n % 10 else said("no such item", 404)

    with serving(answer) as service:
        replay.job.write_text(replay.job.read_text().replace("SERVICE", service.url))
        with pytest.raises(
            SampleError, match=r"10 of 100 rows of the sample failed, and at most 1% may: 10 dead"
        ):
            kappaflow.run(replay.job, sample=SAMPLE)
        assert len(service.requests) == SAMPLE
        assert not (replay.dir / "landed").exists()
        done = kappaflow.run(replay.job, sample=SAMPLE, sample_failures="10%")
    assert (done["sample"]["dead_lettered"], done["ledger"]["dead_lettered"]) == (10, ROWS / 10)
