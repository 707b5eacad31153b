"""The process of the S3 server: moto's application with a page of our own, by which it is known, and told to fail."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from kappaflow.dev.ports import HOST
from kappaflow.dev.s3 import CONTROL

_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Named:
    """An application that tells its name at one path, and answers 503, or late, as often as it was told there."""

    def __init__(self, name: str, inner: Wsgi) -> None:
        self._name = name
        self._inner = inner
        self._to_fail = 0
        self._slow_every = self._slow_ms = self._puts = 0
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """As WSGI has it."""
        if environ["PATH_INFO"] == CONTROL:
            if environ["REQUEST_METHOD"] == "POST":
                body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                with self._lock:
                    self._told(json.loads(body))
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps({"name": self._name, "to_fail": self._to_fail}).encode()]
        with self._lock:
            fails, self._to_fail = self._to_fail > 0, max(0, self._to_fail - 1)
        if fails:
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [_BUSY]
        return self._answer(environ, start_response)

    def _told(self, order: dict[str, int]) -> None:
        self._to_fail = order.get("fail", self._to_fail)
        self._slow_every = order.get("slow_every", self._slow_every)
        self._slow_ms = order.get("slow_ms", self._slow_ms)
        self._puts = 0

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = self._inner(environ, start_response)
        if environ["REQUEST_METHOD"] != "PUT":
            return answer
        with self._lock:
            self._puts += 1
            slow = self._slow_every > 0 and self._puts % self._slow_every == 0
        if slow:
            # What was put is there by now.
            time.sleep(self._slow_ms / 1_000)
        return answer


def main() -> None:
    """`python -m kappaflow.dev.s3_server MARK NAME PORT BUCKET REGION`."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from moto.s3.models import s3_backends
    from werkzeug.serving import run_simple

    _mark, name, port, bucket, region = sys.argv[1:]
    s3_backends["123456789012"]["aws"].create_bucket(bucket, region)
    application = Named(name, DomainDispatcherApplication(create_backend_app))
    run_simple(HOST, int(port), application, threaded=True)


if __name__ == "__main__":
    main()
