"""HTTP services of this machine that behave as each record's `n` says, and jobs that replay rows through them."""

import json
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

import kappaflow

INGRESS = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "n", "type": "long"},
        {"name": "item", "type": ["null", "string"]},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "photo", "type": ["null", "bytes"]},
        {"name": "shop", "type": "int"},
    ],
}
EGRESS = {
    "type": "record",
    "name": "Price",
    "fields": [
        {"name": "n", "type": "long"},
        {"name": "price", "type": ["null", "double"]},
        {"name": "note", "type": ["null", "string"], "default": None},
    ],
}
JOB = """
name = "{name}"
side_effects = "none"
[source]
path = "data"
[schema]
ingress = "in.avsc"
egress = "out.avsc"
[topics]
partitions = 4
{topics}
[service]
version = "1"
{service}
[output]
path = "landed"
[[regions]]
name = "east"
bootstrap_servers = "{servers}"
cap_max = 1000000
[limits]
max_in_flight_records = 400
"""


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def records(self) -> list[dict[str, Any]]:
        """Of a batch, as a list or by lines."""
        if self.headers["content-type"] == "application/x-ndjson":
            return [json.loads(line) for line in self.body.splitlines()]
        found: list[dict[str, Any]] = json.loads(self.body)
        return found


Answer = tuple[int, dict[str, str], bytes]


def said(value: object, status: int = 200, **headers: str) -> Answer:
    return status, headers, json.dumps(value).encode()


class UnixServer(ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", 0

    def get_request(self) -> tuple[socket.socket, Any]:
        request, _ = super().get_request()
        return request, ("a Unix socket", 0)


@dataclass
class Service:
    """A server that can be stopped and started again on its port; it keeps what it was asked."""

    answer: Callable[[Request], Answer]
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    most_at_once: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    server: ThreadingHTTPServer | None = None
    tls: ssl.SSLContext | None = None
    path: Path | None = None
    """Of a Unix socket, in place of the port."""

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, self.rfile.read(length))
                with service.lock:
                    service.now += 1
                    service.most_at_once = max(service.most_at_once, service.now)
                    service.requests.append(request)
                try:
                    status, more, body = service.answer(request)
                finally:
                    with service.lock:
                        service.now -= 1
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST

            def log_message(self, *_: object) -> None:
                pass

        ThreadingHTTPServer.request_queue_size = 128
        if self.path is None:
            self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
            self.port = self.server.server_address[1]
        else:
            self.server = UnixServer(str(self.path), Handler)  # type: ignore[arg-type]
        if self.tls is not None:
            self.server.socket = self.tls.wrap_socket(self.server.socket, server_side=True)
        self.server.daemon_threads = True
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


@contextmanager
def serving(
    answer: Callable[[Request], Answer], tls: ssl.SSLContext | None = None, path: Path | None = None
) -> Iterator[Service]:
    service = Service(answer, tls=tls, path=path)
    service.start()
    try:
        yield service
    finally:
        service.stop()


@dataclass(frozen=True)
class Replay:
    """A job of rows `0..rows`; `service` is what `[service]` says beside the version."""

    dir: Path
    servers: str

    @property
    def job(self) -> Path:
        return self.dir / "job.toml"

    def make(self, rows: int, service: str, egress: dict[str, Any] = EGRESS, topics: str = "") -> "Replay":
        (self.dir / "data").mkdir()
        table = pa.table(
            {
                "n": pa.array(range(rows), pa.int64()),
                "item": [f"item {n} ü/?" if n % 5 else None for n in range(rows)],
                "day": pa.array(range(15_000, 15_000 + rows), pa.int32()).cast(pa.date32()),
                "shop": pa.array([n % 7 for n in range(rows)], pa.int32()),
                "photo": pa.array([bytes([n % 256, 0, 255]) for n in range(rows)], pa.binary()),
            }
        )
        pq.write_table(table, self.dir / "data" / "part-0.parquet")
        (self.dir / "in.avsc").write_text(json.dumps(INGRESS))
        (self.dir / "out.avsc").write_text(json.dumps(egress))
        name = f"replay-{time.time_ns()}"
        text = JOB.format(name=name, servers=self.servers, service=service, topics=topics)
        self.job.write_text(text)
        return self

    def publish(self) -> None:
        kappaflow.dispatch(self.job)
        kappaflow.publish(self.job)

    def work(self) -> dict[str, Any]:
        """Works, lands and reconciles; gives the ledger, in which every row has its one fate, and `work` in it."""
        done = kappaflow.work(self.job, region="east")
        kappaflow.land(self.job)
        ledger = kappaflow.reconcile(self.job)
        kappaflow.check_ledger(ledger)
        return {**ledger, "work": done}

    def landed(self) -> list[dict[str, Any]]:
        files = sorted(map(str, (self.dir / "landed").rglob("*.parquet")))
        table = duckdb.sql(f"SELECT * FROM read_parquet({files!r}) ORDER BY n, _child").to_arrow_table()
        return [{k: v for k, v in row.items() if not k.startswith("_")} for row in table.to_pylist()]
