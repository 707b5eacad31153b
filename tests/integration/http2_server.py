"""A server that speaks HTTP/2 (and 1.1), a program of its own, so that it can be ended: what it was asked is in a file.

python -m tests.integration.http2_server LOG SLOTS KEY=VALUE…      the settings are hypercorn's
"""

import asyncio
import json
import ssl
import sys
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config


class Prices:
    """Prices rows, so many at once; others are turned away."""

    def __init__(self, log: Path, slots: int) -> None:
        self.log = log.open("a", buffering=1)
        self.slots = slots
        self.now = 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        n = json.loads(body)["n"]
        self.now += 1
        seen = {"n": n, "version": scope["http_version"], "peer": scope["client"], "at_once": self.now}
        self.log.write(json.dumps(seen) + "\n")
        full = self.now > self.slots
        try:
            await asyncio.sleep(0.001 if full else 0.01)
        finally:
            self.now -= 1
        status, headers, content = 200, [], json.dumps({"n": n, "price": n * 2.0}).encode()
        if full:
            status, headers, content = 503 if n % 2 else 429, [(b"retry-after", b"0")], b"full"
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def main() -> None:
    """Serve until a signal ends it."""
    config = Config()
    config.errorlog = None
    config.graceful_timeout = 0.2
    # It would cut off what is under way behind so many.
    config.keep_alive_max_requests = 1_000_000
    for setting in sys.argv[3:]:
        name, _, value = setting.partition("=")
        setattr(config, name, {"bind": [value]}.get(name, int(value) if value.isdigit() else value))
    if config.ca_certs:
        config.verify_mode = ssl.CERT_REQUIRED
    asyncio.run(serve(Prices(Path(sys.argv[1]), int(sys.argv[2])), config))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
