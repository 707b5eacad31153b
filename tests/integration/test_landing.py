"""Working and landing on and on, as processes that are told to stop."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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
            lander.send_signal(signal.SIGINT)
            out, err = lander.communicate(timeout=60)
        finally:
            lander.kill()
            lander.communicate()
        assert lander.returncode == 0, err
        summary = json.loads(out.splitlines()[-1])
        assert (summary["landed"], summary["incomplete"], summary["orphans"]) == (ROWS, 0, 0)
        assert summary["regions"][0]["commits"] == summary["version"] > 1
        assert workers.done_twice() == 0
