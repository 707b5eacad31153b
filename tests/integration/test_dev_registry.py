"""The dev stack's schema registry: a real one beside the Kafkas, which keeps what it was told."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from kappaflow.dev import DevStack, DevStackError
from kappaflow.dev.jars import registry_jar

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", autouse=True)
def _app() -> None:
    registry_jar(lambda text: print(text, file=sys.stderr))


def cli(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kappaflow.dev", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def call(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def test_it_comes_with_the_stack_and_keeps_its_schemas(directory: Path) -> None:
    up = cli("up", "--dir", str(directory), "--registry", "--json")
    assert up.returncode == 0, up.stderr
    told = json.loads(up.stdout)["registry"]
    url, pid = told["url"], told["pid"]
    assert told["state"] == "running"
    assert call(f"{url}/config")["compatibilityLevel"] == "BACKWARD"
    first = call(f"{url}/subjects/s/versions", {"schema": '"int"'})
    # Its other pages are on loopback too.
    listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    own = [line.split()[3] for line in listening.splitlines() if f"pid={pid}," in line]
    assert own and all("127.0.0.1" in address for address in own), own

    status = cli("status", "--dir", str(directory))
    assert status.returncode == 0
    assert url in status.stdout
    assert cli("up", "--dir", str(directory)).returncode == 0
    assert json.loads(cli("status", "--dir", str(directory), "--json").stdout)["registry"]["pid"] == pid
    assert (
        "Listening on"
        in json.loads(cli("logs", "--dir", str(directory), "--json").stdout)["logs"]["registry"]
    )

    # Killed, and the stack's own notes lost: it is up again at its port, with its schemas.
    os.kill(pid, signal.SIGKILL)
    (directory / "state.json").unlink()
    down = cli("status", "--dir", str(directory), "--json")
    assert down.returncode == 1
    assert json.loads(down.stdout)["registry"]["state"] == "dead"
    again = json.loads(cli("up", "--dir", str(directory), "--json").stdout)["registry"]
    assert again["url"] == url
    assert again["pid"] != pid
    assert call(f"{url}/subjects/s/versions", {"schema": '"int"'}) == first

    assert cli("down", "--dir", str(directory), "--wipe").returncode == 0
    assert not directory.exists()


def test_a_taken_port_is_refused_and_nothing_is_left_running(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        stack = DevStack(directory, registry_port=port)
        with pytest.raises(DevStackError, match=f"port {port} .*schema registry, is taken.*--registry-port"):
            stack.up()
    assert all(region.state == "stopped" for region in stack.status())


def test_without_one_there_is_none(tmp_path: Path) -> None:
    stack = DevStack(tmp_path / "dev")
    assert stack.servers() == []
    with pytest.raises(DevStackError, match="--registry"):
        stack.registry_url()
    with pytest.raises(DevStackError, match="'registry' can't name a region"):
        DevStack(tmp_path / "dev", regions=["registry"])
    with pytest.raises(DevStackError, match="out of range"):
        DevStack(tmp_path / "dev", registry_port=70_000)
