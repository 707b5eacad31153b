"""The delay cost service over HTTP, as production calls it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLIGHTS = Path(__file__).resolve().parents[2] / "examples" / "flights"
sys.path.insert(0, str(FLIGHTS))

from delay_cost.cache import Airport, Cache, Plane, Weather  # noqa: E402
from delay_cost.pricing import Pricer  # noqa: E402
from delay_cost.rules import RULES  # noqa: E402
from delay_cost.server import Server  # noqa: E402

CACHE = Cache(
    airports={"IAH": Airport(-6)},
    planes={"N14228": Plane(149, 1999)},
    airlines={"UA": "United Air Lines Inc."},
    weather={("EWR", 376954): Weather(1_000, None, 0)},
)
FLIGHT: dict[str, Any] = {
    "year": 2013,
    "month": 1,
    "day": 1,
    "dep_time": 517,
    "sched_dep_time": 515,
    "dep_delay": 12,
    "arr_time": 830,
    "sched_arr_time": 819,
    "arr_delay": 20,
    "carrier": "UA",
    "flight": 1545,
    "tailnum": "N14228",
    "origin": "EWR",
    "dest": "IAH",
    "air_time": 227,
    "distance": 1400,
    "hour": 5,
    "minute": 15,
    "time_hour": "2013-01-01T10:00:00Z",
}


@contextmanager
def serving(rules: str = "v2", slots: int = 4, downstream_ms: float = 0) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Pricer(RULES[rules], CACHE), slots, downstream_ms)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(
    server: Server, body: object, path: str = "/price", method: str = "POST"
) -> tuple[int, http.client.HTTPMessage, Any]:
    """Status, headers and decoded body of one request; ``body`` is bytes, or something to send as JSON."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    try:
        connection.request(method, path, sent)
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, answer.headers, json.loads(content) if content else None
    finally:
        connection.close()


def test_a_priced_flight_is_200_and_what_the_function_says() -> None:
    with serving() as server:
        status, headers, answer = ask(server, FLIGHT)
    assert status == 200 and headers["Content-Type"] == "application/json"
    direct = Pricer(RULES["v2"], CACHE).price(FLIGHT)
    assert answer == direct | {"time_hour": "2013-01-01T10:00:00Z"}
    assert answer["cost_cents"] == 78_000 and answer["weather_known"]


def test_a_cancelled_flight_is_204() -> None:
    with serving() as server:
        status, headers, answer = ask(
            server, FLIGHT | {"dep_time": None, "dep_delay": None, "arr_delay": None}
        )
    assert (status, answer) == (204, None)
    assert "cancelled" in headers["X-Reason"]


def test_a_flight_that_did_not_arrive_is_422_or_by_v1_204() -> None:
    diverted = FLIGHT | {"arr_delay": None}
    with serving() as server:
        status, _, answer = ask(server, diverted)
    assert status == 422 and answer["error"] == "not_arrived" and "diverted" in answer["detail"]
    with serving(rules="v1") as server:
        status, headers, answer = ask(server, diverted)
    assert (status, answer) == (204, None) and "not covered" in headers["X-Reason"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        ([FLIGHT], "a JSON list"),
        ({}, "year is missing"),
        (FLIGHT | {"arr_delay": 20.5}, "arr_delay is 20.5"),
        (FLIGHT | {"time_hour": "soon"}, "time_hour is 'soon'"),
    ],
)
def test_what_is_no_flight_is_400_with_the_reason(body: object, why: str) -> None:
    with serving(slots=1) as server:
        status, _, answer = ask(server, body)
        assert status == 400 and answer["error"] == "bad_flight" and why in answer["detail"]
        # The slot is free again.
        assert ask(server, FLIGHT)[0] == 200


def test_full_is_503_with_retry_after() -> None:
    with serving(slots=2, downstream_ms=600) as server, ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(lambda _: ask(server, FLIGHT), range(6)))
        assert sorted(status for status, _, _ in answers) == [200, 200, 503, 503, 503, 503]
        for status, headers, answer in answers:
            if status == 503:
                assert headers["Retry-After"] == "1" and answer["error"] == "busy"
        assert ask(server, FLIGHT)[0] == 200


def test_the_downstream_call_takes_its_time() -> None:
    with serving(downstream_ms=100) as server:
        began = time.monotonic()
        assert ask(server, FLIGHT)[0] == 200
        assert time.monotonic() - began >= 0.1


def test_health_counts_what_was_answered() -> None:
    with serving(slots=3) as server:
        ask(server, FLIGHT)
        ask(server, FLIGHT | {"dep_time": None})
        ask(server, {})
        status, _, health = ask(server, b"", "/healthz", "GET")
    assert status == 200
    assert health == {
        "status": "ok",
        "rules": "v2",
        "slots": 3,
        "cache": {"airports": 1, "planes": 1, "airlines": 1, "weather": 1},
        "answered": {"priced": 1, "cancelled": 1, "bad_flight": 1},
    }


def test_other_paths_and_sizes_are_refused() -> None:
    with serving() as server:
        assert ask(server, FLIGHT, "/prices")[0] == 404
        assert ask(server, b"", "/", "GET")[0] == 404
        assert ask(server, b" " * (64 * 1024 + 1))[0] == 413
        with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=10) as bare:
            bare.sendall(b"POST /price HTTP/1.1\r\nHost: x\r\n\r\n")
            assert bare.recv(1_000).startswith(b"HTTP/1.1 411")


def test_a_connection_is_kept_over_every_kind_of_answer() -> None:
    bodies = [FLIGHT, {}, FLIGHT | {"dep_time": None}, FLIGHT | {"arr_delay": None}, FLIGHT]
    with serving() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
        statuses, sockets = [], set()
        for body in bodies:
            connection.request("POST", "/price", json.dumps(body))
            sockets.add(id(connection.sock))
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()
    assert statuses == [200, 400, 204, 422, 200] and len(sockets) == 1


def run(*options: str, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "delay_cost.server", *options]
    return subprocess.Popen(
        command,
        cwd=FLIGHTS,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    (tmp_path / "airports.csv").write_text("faa,tz\nIAH,-6\n")
    (tmp_path / "planes.csv").write_text("tailnum,year,seats\nN14228,1999,149\n")
    (tmp_path / "airlines.csv").write_text("carrier,name\nUA,United\n")
    (tmp_path / "weather.csv").write_text(
        "origin,visib,wind_gust,precip,time_hour\nEWR,10,NA,0,2013-01-01T10:00:00Z\n"
    )
    return tmp_path


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_program_serves_and_stops_when_told(tables: Path, stop: signal.Signals) -> None:
    program = run("--port", "0", "--data-dir", str(tables), "--downstream-ms", "400", "--rules", "v1")
    try:
        assert program.stdout is not None
        line = program.stdout.readline()
        assert line.startswith("delay_cost v1 listening on http://127.0.0.1:")
        port = int(line.rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/price", json.dumps(FLIGHT))
        # Connections are accepted in their order: when the later one is answered, the first is being worked on.
        later = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        later.request("GET", "/healthz")
        later.getresponse().read()
        later.close()
        time.sleep(0.1)
        program.send_signal(stop)
        # What was begun is answered, although the order to stop came in the middle of it.
        answer = connection.getresponse()
        assert answer.status == 200 and json.loads(answer.read())["rules"] == "v1"
        connection.close()
        assert program.wait(timeout=10) == 0
        assert program.stderr is not None and program.stderr.read() == ""
    finally:
        program.kill()
        program.communicate()


def test_the_program_says_what_is_wrong(tables: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wrong = {
            "cannot listen on": ("--port", str(taken.getsockname()[1]), "--data-dir", str(tables)),
            "run make_data.py": ("--port", "0", "--data-dir", str(tmp_path / "nowhere")),
            "invalid choice: 'v9'": ("--rules", "v9"),
            "--slots is at least 1": ("--slots", "0"),
        }
        for message, options in wrong.items():
            program = run(*options)
            _, said = program.communicate(timeout=20)
            assert program.returncode == 2 and message in said and "Traceback" not in said
