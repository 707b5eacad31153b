"""The service as production runs it: an ordinary HTTP server with few slots and a slow call downstream.

    python -m delay_cost.server --port 8080

``POST /price`` takes a flight as JSON and answers

    200  its price, as JSON
    204  nothing to price: cancelled, or not covered by the rules (header X-Reason)
    400  not a flight: {"error": "bad_flight", "detail": ...}
    422  a flight that cannot be priced: {"error": "not_arrived", "detail": ...}
    503  every slot is taken: come back after Retry-After seconds

``GET /healthz`` answers 200 with the rules, the cache's sizes and what was answered since the start.
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections import Counter
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any

from .cache import CacheError
from .pricing import BadFlight, Cancelled, NotArrived, NotCovered, Pricer
from .rules import RULES

MAX_BODY_BYTES = 64 * 1024
IDLE_SECONDS = 30
DRAIN_SECONDS = 5
RETRY_AFTER_SECONDS = 1


class Server(ThreadingHTTPServer):
    """Serves one Pricer. ``slots`` requests are priced at a time, each at least ``downstream_ms`` long."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], pricer: Pricer, slots: int = 8, downstream_ms: float = 20
    ) -> None:
        self.pricer = pricer
        self.slots = slots
        self.downstream_s = downstream_ms / 1000
        self.verbose = False
        self._free = threading.BoundedSemaphore(slots)
        self._answered: Counter[str] = Counter()
        self._lock = threading.Lock()
        super().__init__(address, Handler)

    def price(self, body: bytes) -> tuple[int, dict[str, str], dict[str, Any] | None]:
        """Prices one request: status, extra headers, and the body's content (None: no body)."""
        if not self._free.acquire(blocking=False):
            self._count("busy")
            detail = f"all {self.slots} slots are taken"
            return 503, {"Retry-After": str(RETRY_AFTER_SECONDS)}, {"error": "busy", "detail": detail}
        try:
            flight = _decode(body)
            # The call that makes the service slow: in production a fare system, here a wait as long.
            time.sleep(self.downstream_s)
            answer = self.pricer.price(flight)
        except (Cancelled, NotCovered) as nothing:
            self._count("cancelled" if isinstance(nothing, Cancelled) else "not_covered")
            return 204, {"X-Reason": str(nothing)}, None
        except NotArrived as unpriced:
            self._count("not_arrived")
            return 422, {}, {"error": "not_arrived", "detail": str(unpriced)}
        except BadFlight as bad:
            self._count("bad_flight")
            return 400, {}, {"error": "bad_flight", "detail": str(bad)}
        finally:
            self._free.release()
        self._count("priced")
        return 200, {}, answer

    def health(self) -> dict[str, Any]:
        """What ``GET /healthz`` answers."""
        with self._lock:
            answered = dict(self._answered)
        return {
            "status": "ok",
            "rules": self.pricer.rules.version,
            "slots": self.slots,
            "cache": self.pricer.cache.sizes(),
            "answered": answered,
        }

    def drain(self, seconds: float = DRAIN_SECONDS) -> bool:
        """Takes every slot, so that nothing new is priced and what was begun ends. False if time ran out."""
        until = time.monotonic() + seconds
        return all(
            self._free.acquire(timeout=max(until - time.monotonic(), 0.001)) for _ in range(self.slots)
        )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error of ours; anything else is printed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def _count(self, what: str) -> None:
        with self._lock:
            self._answered[what] += 1


class Handler(BaseHTTPRequestHandler):
    """One connection, kept alive between requests."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "delay-cost"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    # Headers and body leave in one segment: otherwise the second waits for the acknowledgement of the first.
    wbufsize = -1

    def do_GET(self) -> None:
        """``/healthz``."""
        if self.path == "/healthz":
            self._answer(200, {}, self.server.health())
        else:
            self._answer(404, {}, {"error": "not_found", "detail": "there are POST /price and GET /healthz"})

    def do_POST(self) -> None:
        """``/price``."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            # Without its length the body cannot be told from the next request: answer, then close.
            self.close_connection = True
            self._answer(
                411, {}, {"error": "no_length", "detail": "send the body's length in Content-Length"}
            )
            return
        if int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            self._answer(
                413, {}, {"error": "too_large", "detail": f"a flight has at most {MAX_BODY_BYTES} bytes"}
            )
            return
        body = self.rfile.read(int(length))
        if self.path == "/price":
            self._answer(*self.server.price(body))
        else:
            self._answer(404, {}, {"error": "not_found", "detail": "there are POST /price and GET /healthz"})

    def _answer(self, status: int, headers: dict[str, str], content: dict[str, Any] | None) -> None:
        body = b"" if content is None else json.dumps(content, default=_json).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent unless asked: a log line a request would cost more than the pricing."""
        if self.server.verbose:
            super().log_message(format, *args)


def _decode(body: bytes) -> dict[str, Any]:
    try:
        flight = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadFlight(f"the body is not JSON: {error}") from error
    if not isinstance(flight, dict):
        raise BadFlight(f"the body is a JSON {type(flight).__name__}: expected one object, a flight")
    return flight


def _json(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"{value!r} has no JSON form")


def main(arguments: list[str] | None = None) -> int:
    """Runs the server until SIGTERM or Ctrl-C. Exit 0; 2 for wrong usage, missing tables or a taken port."""
    parser = argparse.ArgumentParser(
        prog="python -m delay_cost.server", description="The delay cost service."
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one; default: %(default)s")
    parser.add_argument("--rules", choices=sorted(RULES), default="v2", help="default: %(default)s")
    parser.add_argument(
        "--data-dir", default=None, help="the lookup tables; default: data/lookup beside the package"
    )
    parser.add_argument(
        "--slots", type=int, default=8, help="requests priced at a time; default: %(default)s"
    )
    parser.add_argument("--downstream-ms", type=float, default=20, help="the slow call; default: %(default)s")
    parser.add_argument("--verbose", action="store_true", help="log every request to stderr")
    options = parser.parse_args(arguments)
    if options.slots < 1 or options.downstream_ms < 0:
        parser.error("--slots is at least 1, --downstream-ms at least 0")
    try:
        pricer = Pricer.load(options.rules, options.data_dir)
        server = Server((options.host, options.port), pricer, options.slots, options.downstream_ms)
    except CacheError as error:
        print(f"delay_cost: {error}", file=sys.stderr)
        return 2
    except (OSError, OverflowError) as error:
        print(f"delay_cost: cannot listen on {options.host}:{options.port}: {error}", file=sys.stderr)
        return 2
    server.verbose = options.verbose

    def stop(_signal: int, _frame: FrameType | None) -> None:
        # shutdown() waits for serve_forever, which this thread is running.
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(
        f"delay_cost {options.rules} listening on http://{options.host}:{server.server_address[1]}",
        flush=True,
    )
    with server:
        server.serve_forever(poll_interval=0.1)
        server.drain()
    return 0


if __name__ == "__main__":
    sys.exit(main())
