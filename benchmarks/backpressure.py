"""Far more than the service takes: minutes of its work, published in seconds.

The flights service over HTTP, as it is (8 slots, 20 ms downstream, 503 when full), is given as many rows as it prices
in five minutes. Its concurrency, its p99 beside that of one call after the other, the worker's memory, and what is
given up are looked at twice a second. The last line on stdout is JSON; `--report` is the page with the plots.
"""

import argparse
import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pyarrow as pa
import pyarrow.parquet as pq

import harness
import kappaflow
from kappaflow import report
from kappaflow.dev import ports
from kappaflow.report import Pressure, PressureSample

SLOTS = 8
CALL_S = 0.02
LOOK_EVERY_S = 0.5
UNLOADED_CALLS = 1_000
# Memory is compared from here on: what a worker needs to begin, and to read ahead, is no leak.
WARM_S = 60.0


def unloaded_p99_ms(port: int, bodies: list[bytes]) -> float:
    """Of calls one after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    times = []
    for body in bodies:
        begun = time.perf_counter()
        connection.request("POST", "/price", body, {"Content-Type": "application/json"})
        connection.getresponse().read()
        times.append((time.perf_counter() - begun) * 1_000)
    connection.close()
    times = sorted(times[len(times) // 10 :])
    return times[int(len(times) * 0.99)]


def rss_mib(pid: int) -> float:
    """What a process has resident now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4_096 / 2**20


def scrape(address: str) -> dict[str, float]:
    """The worker's figures, those of several partitions added up; calls by `calls.` and how they ended."""
    with urlopen(f"http://{address}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    found: dict[str, float] = {}
    for line in lines:
        name, _, value = line.rpartition(" ")
        name, _, labels = name.partition("{")
        if name == "messaging_process_duration_seconds_count":
            name = "calls." + labels.partition('kappaflow_outcome="')[2].partition('"')[0]
        if not line.startswith("#"):
            found[name] = found.get(name, 0.0) + float(value)
    return found


def watch(worker: "subprocess.Popen[bytes]", address: str) -> tuple[list[PressureSample], dict[str, float]]:
    """Looks until the worker ends; what was seen from its first call on, and the last figures."""
    samples: list[PressureSample] = []
    last: dict[str, float] = {}
    begun = 0.0
    while worker.poll() is None:
        time.sleep(LOOK_EVERY_S)
        try:
            figures = scrape(address)
        except OSError:
            continue  # it does not listen yet, or no more
        if figures.get("calls.answered", 0) == 0:
            begun = time.monotonic()
            continue
        last = figures
        samples.append(
            PressureSample(
                at_ms=round((time.monotonic() - begun) * 1_000),
                lag_records=round(figures.get("kappaflow_worker_lag_records", 0)),
                in_flight=round(figures["kappaflow_worker_in_flight"]),
                limit=round(figures["kappaflow_worker_limit"]),
                p99_ms=figures.get("kappaflow_worker_call_p99_seconds", 0) * 1_000,
                rss_mib=rss_mib(worker.pid),
            )
        )
    if worker.returncode:
        raise SystemExit(f"the worker failed with {worker.returncode}")
    return samples, last


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, default=5, help="of the service's work (default: %(default)s)"
    )
    parser.add_argument("--report", type=Path, default=Path("backpressure.html"), help="default: %(default)s")
    arguments = parser.parse_args()
    rows = round(arguments.minutes * 60 * SLOTS / CALL_S)
    table = harness.flights(rows)
    rows = table.num_rows
    port = ports.choose_free(())
    command = [sys.executable, "-m", "delay_cost.server", "--port", str(port), "--rules", "v2"]
    with harness.kafka(registry=False) as (stack, base):
        job = make_job(base, table)
        params = {
            "data": "data",
            "service": f"http://127.0.0.1:{port}",
            "east": stack.bootstrap("bench"),
        }
        server = subprocess.Popen(command, cwd=harness.FLIGHTS, stderr=subprocess.DEVNULL)
        try:
            while server.poll() is None and ports.is_free(port):
                time.sleep(0.1)
            bodies = [json.dumps(row).encode() for row in table.slice(0, UNLOADED_CALLS).to_pylist()]
            unloaded = unloaded_p99_ms(port, bodies)
            harness.say(f"one call after the other: p99 {unloaded:.1f} ms")
            kappaflow.dispatch(job, params=params)
            begun = time.monotonic()
            kappaflow.publish(job, params=params)
            publish_s = time.monotonic() - begun
            harness.say(f"{rows:,} rows published in {publish_s:.1f} s")
            address = f"127.0.0.1:{ports.choose_free(())}"
            words = ["work", str(job), "--quiet", "--json", "--listen", address]
            words += [f"--param={name}={value}" for name, value in params.items()]
            begun = time.monotonic()
            worker = subprocess.Popen([sys.executable, "-m", "kappaflow", *words], stdout=subprocess.DEVNULL)
            samples, last = watch(worker, address)
            work_s = time.monotonic() - begun
        finally:
            server.terminate()
            server.wait(30)
        kappaflow.land(job, params=params)
        ledger = kappaflow.reconcile(job, params=params)
        calls = {
            name.removeprefix("calls."): round(n) for name, n in last.items() if name.startswith("calls.")
        }
        pressure = Pressure(samples, unloaded, calls.get("deadline", 0))
        data = report.collect(job, params=params)
        data.pressure = pressure
        harness.say(f"plots: {report.write(arguments.report, data)}")
    warm = [s.rss_mib for s in samples if s.at_ms > WARM_S * 1_000] or [s.rss_mib for s in samples]
    # The window of the worker's p99 is a minute: from then on it holds calls under load only.
    p99 = max(s.p99_ms for s in samples)
    at_once = max(s.in_flight for s in samples)
    ours = {
        "rows": rows,
        "publish_s": round(publish_s, 2),
        "work_s": round(work_s, 1),
        "rows_per_s": round(rows / work_s),
        "calls_at_once": at_once,
        "p99_ms": round(p99, 2),
        "unloaded_p99_ms": round(unloaded, 2),
        "rss_mib_first": round(warm[0], 1),
        "rss_mib_most": round(max(warm), 1),
        "calls": calls,
    }
    aims = [
        {
            "what": "published in seconds, at most",
            "aim": 6,
            "found": ours["publish_s"],
            "reached": publish_s <= 6,
        },
        {"what": "calls at once, at most", "aim": SLOTS, "found": at_once, "reached": at_once <= SLOTS},
        {
            "what": "p99 to the unloaded one, at most",
            "aim": 1.3,
            "found": round(p99 / unloaded, 2),
            "reached": p99 <= 1.3 * unloaded,
        },
        {
            "what": "memory, most to first, at most",
            "aim": 1.2,
            "found": round(max(warm) / warm[0], 2),
            "reached": max(warm) <= 1.2 * warm[0],
        },
        {"what": "time-outs", "aim": 0, "found": pressure.timeouts, "reached": pressure.timeouts == 0},
    ]
    checked = bool(ledger["explained"]) and ledger["missing"] == 0 and samples[-1].lag_records == 0
    ceiling = round(SLOTS / CALL_S)
    ratios = {"to the service's ceiling": round(ours["rows_per_s"] / ceiling, 2)}
    return harness.finish("backpressure", ours, {}, ratios, checked, ["pyarrow"], aims=aims)


def make_job(base: Path, table: pa.Table) -> Path:
    """The example's job over HTTP, over these rows."""
    (base / "data").mkdir()
    pq.write_table(table, base / "data" / "flights.parquet", row_group_size=10_000)
    for name in ("http.toml", "flight.avsc", "delay_cost.avsc"):
        (base / name).write_bytes((harness.FLIGHTS / name).read_bytes())
    return base / "http.toml"


if __name__ == "__main__":
    sys.exit(main())
