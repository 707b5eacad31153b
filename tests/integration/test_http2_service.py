"""HTTP/2, in the clear and by TLS: many calls on one connection, servers that turn away, leave, or can't speak it."""

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import kappaflow
from kappaflow.dev import ports
from kappaflow.dev.secure import Authority
from kappaflow.errors import JobFileError, ServiceError
from tests.integration import http_services
from tests.integration.http_services import Answer, Replay, said
from tests.integration.stock import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def replay(tmp_path: Path, regions: dict[str, str]) -> Replay:
    return Replay(tmp_path, regions["east"])


@dataclass
class Http2Service:
    """A server that can be ended and started again on its port."""

    dir: Path
    slots: int = 1_000
    tls: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    path: Path | None = None
    """Of a Unix socket, in place of the port."""
    port: int = field(default_factory=lambda: ports.choose_free(()))
    server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    @property
    def calls(self) -> list[dict[str, Any]]:
        log = self.dir / "calls.log"
        # The last line may be on its way.
        return [json.loads(line) for line in log.read_text().rpartition("\n")[0].splitlines()]

    @property
    def versions(self) -> set[str]:
        return {call["version"] for call in self.calls}

    @property
    def connections(self) -> int:
        return len({tuple(call["peer"]) for call in self.calls})

    def start(self) -> None:
        bind = f"127.0.0.1:{self.port}" if self.path is None else f"unix:{self.path}"
        settings = [f"{name}={value}" for name, value in {"bind": bind, **self.tls, **self.settings}.items()]
        program = [sys.executable, "-m", "tests.integration.http2_server"]
        command = [*program, str(self.dir / "calls.log"), str(self.slots), *settings]
        self.server = subprocess.Popen(command)
        eventually(self.takes_connections, within_s=30)

    def takes_connections(self) -> bool:
        family, address = (
            (socket.AF_INET, ("127.0.0.1", self.port))
            if self.path is None
            else (socket.AF_UNIX, str(self.path))
        )
        with socket.socket(family) as probe:
            return probe.connect_ex(address) == 0

    def stop(self) -> None:
        if self.server is not None:
            self.server.kill()
            self.server.wait(30)
            self.server = None


@contextmanager
def serving(replay: Replay, **more: Any) -> Iterator[Http2Service]:
    service = Http2Service(replay.dir, **more)
    service.start()
    try:
        yield service
    finally:
        service.stop()


def test_many_calls_share_a_connection(replay: Replay) -> None:
    with serving(replay) as service:
        http = f'concurrency = 50\n[service.http]\nurl = "{service.url}/v1/{{n}}"\nversion = "2"'
        replay.make(600, http)
        replay.publish()
        assert replay.work()["landed"] == 600
    assert service.versions == {"2"}
    assert service.connections == 1
    assert 10 < max(call["at_once"] for call in service.calls) <= 50
    assert len(service.calls) == 600


def test_by_tls_too_with_certificates(replay: Replay) -> None:
    authority = Authority(replay.dir)
    authority.issue("prices", replay.dir / "prices.pem", replay.dir / "prices.key")
    authority.issue("worker", replay.dir / "worker.pem", replay.dir / "worker.key")
    tls = {
        "certfile": str(replay.dir / "prices.pem"),
        "keyfile": str(replay.dir / "prices.key"),
        "ca_certs": str(replay.dir / "ca.pem"),
    }
    files = 'ca_file = "ca.pem"\ncert_file = "worker.pem"\nkey_file = "worker.key"'
    with serving(replay, tls=tls) as service:
        http = f'concurrency = 20\n[service.http]\nurl = "{service.url}"\nversion = "2"\n{files}'
        replay.make(200, http)
        replay.publish()
        assert replay.work()["landed"] == 200
    assert service.versions == {"2"}
    assert service.connections == 1


def test_who_does_not_ask_for_it_has_http_1_1(replay: Replay) -> None:
    authority = Authority(replay.dir)
    authority.issue("prices", replay.dir / "prices.pem", replay.dir / "prices.key")
    tls = {"certfile": str(replay.dir / "prices.pem"), "keyfile": str(replay.dir / "prices.key")}
    with serving(replay, tls=tls) as service:
        replay.make(50, f'[service.http]\nurl = "{service.url}"\nca_file = "ca.pem"')
        replay.publish()
        assert replay.work()["landed"] == 50
    assert service.versions == {"1.1"}


def test_on_a_unix_socket(replay: Replay) -> None:
    with serving(replay, path=replay.dir / "service.socket") as service:
        http = '[service.http]\nurl = "http://prices/v1"\nunix_socket = "service.socket"\nversion = "2"'
        replay.make(50, http)
        replay.publish()
        assert replay.work()["landed"] == 50
    assert service.versions == {"2"}


def test_a_service_that_is_full_is_left_in_peace(replay: Replay) -> None:
    with serving(replay, slots=3) as service:
        http = f'max_attempts = 1\nconcurrency = 12\n[service.http]\nurl = "{service.url}"\nversion = "2"'
        replay.make(300, http)
        replay.publish()
        ledger = replay.work()
    assert (ledger["landed"], ledger["work"]["dead_lettered"]) == (300, {})
    assert len(service.calls) > 300, "some were turned away"


def test_a_server_that_leaves_and_comes_again_costs_no_record(replay: Replay) -> None:
    def dies() -> None:
        eventually(lambda: len(service.calls) >= 800, within_s=60)
        service.stop()
        time.sleep(0.5)
        service.start()

    # It says GOAWAY now and then, and cuts off what is under way.
    with serving(replay, settings={"keep_alive_max_requests": "300"}) as service:
        http = f'max_attempts = 9\nconcurrency = 20\n[service.http]\nurl = "{service.url}"\nversion = "2"'
        replay.make(2_000, http)
        replay.publish()
        dying = threading.Thread(target=dies)
        dying.start()
        ledger = replay.work()
        dying.join(60)
    assert (ledger["landed"], ledger["dead_lettered"]) == (2_000, 0)
    assert service.connections >= 4


def test_a_server_that_can_not_speak_it_is_told_by_name_and_costs_no_record(replay: Replay) -> None:
    def plain(request: http_services.Request) -> Answer:
        return said({"n": request.record["n"]})

    with http_services.serving(plain) as service:
        replay.make(20, f'max_attempts = 1\n[service.http]\nurl = "{service.url}"\nversion = "2"')
        replay.publish()
        with pytest.raises(
            ServiceError, match=r'does not speak HTTP/2 .*give service\.http\.version = "1\.1"'
        ):
            kappaflow.work(replay.job, region="east")
        assert not service.requests
        replay.job.write_text(replay.job.read_text().replace('"2"', '"1.1"'))
        ledger = replay.work()
    assert (ledger["landed"], ledger["dead_lettered"]) == (20, 0)


@pytest.mark.parametrize("alpn", [["http/1.1"], []])
def test_the_same_by_tls(replay: Replay, alpn: list[str]) -> None:
    authority = Authority(replay.dir)
    authority.issue("prices", replay.dir / "prices.pem", replay.dir / "prices.key")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(replay.dir / "prices.pem", replay.dir / "prices.key")
    if alpn:
        tls.set_alpn_protocols(alpn)
    with http_services.serving(lambda _: said({}), tls=tls) as service:
        replay.make(20, f'[service.http]\nurl = "{service.url}"\nversion = "2"\nca_file = "ca.pem"')
        replay.publish()
        with pytest.raises(ServiceError, match="does not speak HTTP/2"):
            kappaflow.work(replay.job, region="east")
        assert not service.requests


def test_other_versions_are_refused(replay: Replay) -> None:
    replay.make(1, '[service.http]\nurl = "http://x"\nversion = "3"')
    with pytest.raises(JobFileError, match=r"service\.http\.version.*expected `1\.1` or `2`"):
        kappaflow.dispatch(replay.job)
