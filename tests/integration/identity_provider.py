"""An identity provider on loopback, whose tokens the brokers of a secure region take, and what it can be made to do."""

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

CLIENT, SECRET = "kappaflow", "s3cret-0f-the-cl1ent"
Answer = tuple[int, str]


class Provider:
    """Grants tokens to the client that has the right secret. `answer`, if set, is what it answers instead.

    certificate: that of the server, and its key, for TLS.
    """

    def __init__(self, token: Callable[[float], str], life_s: int, certificate: Path | None = None) -> None:
        self.granted = 0
        self.scopes: set[str] = set()
        self.answer: Callable[[], Answer] | None = None
        self._token = token
        self._life_s = life_s
        self._certificate = certificate
        self._server = self._serving(0)
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}/token"

    def stop(self) -> None:
        """Nothing listens there any more."""
        self._server.shutdown()
        self._server.server_close()

    def start(self) -> None:
        """Listens again, where it did."""
        self._server = self._serving(self._server.server_port)

    def grant(self, expires_in: float, lives: float) -> Answer:
        """A token that is said to live so long, and does live so long."""
        self.granted += 1
        token = self._token(lives)
        return 200, json.dumps({"access_token": token, "token_type": "Bearer", "expires_in": expires_in})

    def asked(self, authorization: str, form: dict[str, list[str]]) -> Answer:
        """What it answers to a request."""
        if self.answer is not None:
            return self.answer()
        right = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if authorization != right or form.get("grant_type") != ["client_credentials"]:
            # As some do, it tells all that it knows.
            told = base64.b64decode(authorization.removeprefix("Basic ")).decode()
            return 401, json.dumps({"error": "invalid_client", "error_description": f"who is {told}?"})
        self.scopes.update(form.get("scope", []))
        # A token's end is a whole second.
        return self.grant(self._life_s, self._life_s + 1)

    def _serving(self, port: int) -> ThreadingHTTPServer:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, text = provider.asked(self.headers.get("Authorization", ""), parse_qs(body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


@contextmanager
def serving(
    token: Callable[[float], str], life_s: int, certificate: Path | None = None
) -> Iterator[Provider]:
    """A provider within the block. token: makes one that lives for so many seconds."""
    provider = Provider(token, life_s, certificate)
    try:
        yield provider
    finally:
        provider.stop()
