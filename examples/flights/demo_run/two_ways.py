"""One service over HTTP, called two ways: a row at a time from many threads, and by KappaFlow."""

import http.client
import json
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pyarrow.parquet as pq

import kappaflow
from kappaflow.dev import ports
from kappaflow.report import Way, WaySample

from .place import FLIGHTS, DemoError, Place
from .processes import Child, Processes
from .screen import Screen

MONTH = "2013-01"
RULES = "v2"
SLOTS = 8
THREADS = 64
NAIVE_S = 10.0
TIMEOUT_S = 10.0
LOOK_EVERY_S = 0.25
START_WITHIN_S = 30.0
WORK_WITHIN_S = 300.0
# What the service answers when it has understood: a price, nothing to price, or why there is none.
ANSWERS = frozenset({200, 204, 400, 422})
TIMEOUT = -1


def compare(place: Place, processes: Processes, screen: Screen, params: Mapping[str, str]) -> list[Way]:
    """Both ways, one after the other. Raises DemoError if the service or the worker fails, or rows are unexplained."""
    data = FLIGHTS / "data" / "flights" / f"m={MONTH}"
    port = ports.choose_free(())
    command = [sys.executable, "-m", "delay_cost.server", "--port", str(port), "--rules", RULES]
    command += [f"--slots={SLOTS}"]
    server = processes.start("service", command, {"PYTHONPATH": str(FLIGHTS)})
    url = f"http://127.0.0.1:{port}"
    _await_service(server, url)
    screen.say(
        f"the service over HTTP has {SLOTS} slots: {THREADS} threads call it row by row, {NAIVE_S:.0f} s at most"
    )
    rows = pq.read_table(data, partitioning=None).to_pylist()
    bodies = [json.dumps(row).encode() for row in rows]
    naive = _Naive(url, bodies).run()
    screen.say(f"answered {naive.answered:,}, failed {naive.errors:,}; now KappaFlow, the whole month")
    replayed = _replay(place, processes, {**params, "service": url, "data": str(data)}, len(rows))
    screen.say(f"answered {replayed.answered:,} of {len(rows):,}, each with its fate")
    return [naive, replayed]


def _await_service(server: Child, url: str) -> None:
    end = time.monotonic() + START_WITHIN_S
    while time.monotonic() < end and server.code() is None:
        try:
            with urlopen(f"{url}/healthz", timeout=1):
                return
        except URLError:
            time.sleep(0.1)
    raise DemoError(f"the service does not answer at {url}: {server.last_lines()}")


@dataclass
class _Naive:
    """Threads that call row after row, as a script would, until all are called or the time is up.

    A row without an answer is lost.
    """

    url: str
    bodies: list[bytes]
    answered: int = 0
    errors: int = 0
    timeouts: int = 0
    times_ms: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> Way:
        numbers = count()
        begun = time.monotonic()
        threads = [threading.Thread(target=self._call, args=(numbers, begun)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        samples = [WaySample(0, 0, 0)]
        while any(thread.is_alive() for thread in threads):
            time.sleep(LOOK_EVERY_S)
            with self.lock:
                at_ms = round((time.monotonic() - begun) * 1_000)
                samples.append(WaySample(at_ms, self.answered, self.errors))
        times = sorted(self.times_ms)
        return Way(
            label=f"{THREADS} threads, a row at a time",
            seconds=time.monotonic() - begun,
            answered=self.answered,
            errors=self.errors,
            timeouts=self.timeouts,
            lost=self.errors + self.timeouts,
            p99_ms=times[int(len(times) * 0.99)] if times else 0.0,
            samples=samples,
        )

    def _call(self, numbers: "count[int]", begun: float) -> None:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=TIMEOUT_S)
        while time.monotonic() - begun < NAIVE_S and (number := next(numbers)) < len(self.bodies):
            since = time.monotonic()
            status = 0
            try:
                connection.request(
                    "POST", "/price", self.bodies[number], {"Content-Type": "application/json"}
                )
                response = connection.getresponse()
                response.read()
                status = response.status
            except TimeoutError:
                status = TIMEOUT
                connection.close()
            except (http.client.HTTPException, OSError):
                connection.close()
            took_ms = (time.monotonic() - since) * 1_000
            with self.lock:
                self.answered += status in ANSWERS
                self.timeouts += status == TIMEOUT
                self.errors += status not in (TIMEOUT, *ANSWERS)
                if status in ANSWERS:
                    self.times_ms.append(took_ms)
        connection.close()


def _replay(place: Place, processes: Processes, params: Mapping[str, str], rows: int) -> Way:
    """The month by its job, from Parquet to the table; what the worker tells of itself meanwhile."""
    job = place.job_file.with_name("http.toml")
    given = {name: params[name] for name in ("data", "service", "east")}
    kappaflow.dispatch(job, params=given)
    kappaflow.publish(job, params=given)
    address = f"127.0.0.1:{ports.choose_free(())}"
    command = [sys.executable, "-m", "kappaflow", "work", str(job), "--listen", address]
    worker = processes.start("worker http", [*command, *(f"--param={k}={v}" for k, v in given.items())])
    watch = _Watch(f"http://{address}/metrics")
    end = time.monotonic() + WORK_WITHIN_S
    while worker.code() is None:
        if time.monotonic() > end:
            raise DemoError(f"the month is not done after {WORK_WITHIN_S:.0f} s:\n{worker.last_lines()}")
        watch.look()
        time.sleep(LOOK_EVERY_S)
    if worker.code():
        raise DemoError(f"the worker failed:\n{worker.last_lines()}")
    kappaflow.land(job, params=given)
    ledger = kappaflow.reconcile(job, params=given)
    kappaflow.check_ledger(ledger)
    return watch.way(rows, lost=ledger["missing"])


class _Watch:
    """The worker's own figures over time. Its clock begins with its first call."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._samples: list[WaySample] = []
        self._begun = 0.0
        self._last: dict[str, float] = {}

    def look(self) -> None:
        try:
            with urlopen(self._url, timeout=2) as page:
                figures = _figures(page.read().decode())
        except OSError:
            return
        answered, errors = _answered(figures), _errors(figures)
        if answered + errors == 0:
            self._begun = time.monotonic()
            self._samples = [WaySample(0, 0, 0)]
            return
        at_ms = round((time.monotonic() - self._begun) * 1_000)
        self._samples.append(WaySample(at_ms, round(answered), round(errors)))
        self._last = figures

    def way(self, rows: int, lost: int) -> Way:
        if len(self._samples) < 2:
            raise DemoError(f"the worker told nothing of itself at {self._url}")
        return Way(
            label="KappaFlow",
            seconds=self._samples[-1].at_ms / 1_000,
            answered=rows - lost,
            errors=round(_errors(self._last)),
            timeouts=round(self._last.get("deadline", 0.0)),
            lost=lost,
            p99_ms=self._last.get("p99", 0.0) * 1_000,
            samples=self._samples,
        )


def _answered(figures: Mapping[str, float]) -> float:
    return sum(figures.get(how, 0.0) for how in ("answered", "filtered", "dead_letter"))


def _errors(figures: Mapping[str, float]) -> float:
    return sum(figures.get(how, 0.0) for how in ("busy", "retry", "died", "other"))


def _figures(page: str) -> dict[str, float]:
    """Calls by how they ended, and their p99 in seconds."""
    found: dict[str, float] = {}
    for line in page.splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("messaging_process_duration_seconds_count"):
            outcome = name.partition('kappaflow_outcome="')[2].partition('"')[0]
            found[outcome] = float(value)
        elif name.startswith("kappaflow_worker_call_p99_seconds{"):
            found["p99"] = float(value)
    return found
