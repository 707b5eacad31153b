"""A site with a fleet: a store, a service of a few slots, jobs replayed through it, and the fleet's processes."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kappaflow
from tests.integration.http_services import Answer, Replay, Request, Service, said

SLOTS = 4


class Site:
    """A store, a service of a few slots, the jobs that are replayed through it, and the processes of its fleet."""

    def __init__(self, base: Path, servers: str, service: Service) -> None:
        self.base = base
        self.servers = servers
        self.service = service
        self.store = f"sqlite:{base / 'store.db'}"
        self.processes: list[subprocess.Popen[str]] = []

    def job(self, name: str, rows: int, *more: str, service: str | None = None) -> Replay:
        """A published job of its own, not submitted yet."""
        directory = self.base / name
        directory.mkdir()
        lines = ['mode = "fleet"', *more]
        http = f'concurrency = {SLOTS}\n[service.http]\nurl = "{self.service.url}"\n'
        replay = Replay(directory, self.servers)
        replay.make(rows, "\n".join([*lines, service or http]) + '\n[service.fleet]\nname = "prices"')
        text = replay.job.read_text() + f'\n[store]\nurl = "{self.store}"\n'
        replay.job.write_text(text.replace("[limits]", "[limits]\nsession_timeout_ms = 6000"))
        replay.publish()
        return replay

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "kappaflow", "fleet", "run", "--store", self.store]
        command += ["--service", "prices", "--region", "east", *options]
        with (self.base / f"fleet-{len(self.processes)}.log").open("w") as log:
            process = subprocess.Popen(command, stderr=log, text=True)
        self.processes.append(process)
        return process

    def stop(self, process: subprocess.Popen[str]) -> None:
        process.terminate()
        assert process.wait(30) == 0

    def status(self) -> dict[str, Any]:
        return kappaflow.fleet_status(self.store)

    def of(self, replay: Replay) -> dict[str, Any]:
        """What the store says of a submitted job."""
        job = kappaflow.names(replay.job, region="east")["job"]
        [found] = [found for found in self.status()["jobs"] if found["job"] == job]
        return dict(found)

    def called(self, replay: Replay) -> int:
        job = kappaflow.names(replay.job, region="east")["job"]
        return sum(r.headers["x-kappaflow-replay"] == job for r in list(self.service.requests))


def exact(replay: Replay, rows: int) -> None:
    """Every row has its one fate, and is in the table."""
    kappaflow.land(replay.job)
    ledger = kappaflow.reconcile(replay.job)
    kappaflow.check_ledger(ledger)
    assert ledger["landed"] == rows
    assert [row["n"] for row in replay.landed()] == list(range(rows))


def answer(request: Request) -> Answer:
    time.sleep(0.03)
    return said({"n": request.record["n"], "price": 1.0})
