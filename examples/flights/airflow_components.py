"""Airflow's own components as watched children: api-server, scheduler, dag-processor, triggerer.

`airflow standalone` does as much, but leaves its children behind when it is ended, and says nothing when one dies.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
USER = "admin"
COMPONENTS = {
    "api-server": ("api-server",),
    "dag-processor": ("dag-processor",),
    # Their log servers would listen on every interface; the api-server reads the logs' files.
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
_STOP_S = 20.0


class ComponentError(Exception):
    """A component ended, or does not answer; the text has its last log lines."""


@dataclass
class Child:
    """A process of ours, its output in a file."""

    name: str
    process: subprocess.Popen[bytes]
    log_file: Path

    def last_lines(self, count: int = 25) -> str:
        """The end of its log."""
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return "\n".join(text.splitlines()[-count:])


class Children:
    """Processes that are started, watched and ended together, with all that they started in turn."""

    def __init__(self, log_dir: Path, env: Mapping[str, str]) -> None:
        # What our children start may leave their process groups; by this mark it is found all the same.
        self._mark = f"KAPPAFLOW_DEMO_MARK={secrets.token_hex(8)}"
        name, _, value = self._mark.partition("=")
        # Airflow renames its processes, which would wipe their environment.
        self.env = {**env, name: value, "SPT_NOENV": "1"}
        self._log_dir = log_dir
        self.running: dict[str, Child] = {}
        log_dir.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: list[str], cwd: Path) -> Child:
        """Starts a process in a session of its own, so that Ctrl-C reaches only us."""
        log_file = self._log_dir / f"{name}.log"
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, process, log_file)
        self.running[name] = child
        return child

    def stop(self) -> None:
        """SIGTERM to each, SIGKILL to what is left of them and of their children. Later Ctrl-Cs don't disturb it."""
        for child in reversed(self.running.values()):
            with suppress(ProcessLookupError):
                child.process.terminate()
        deadline = time.monotonic() + _STOP_S
        for child in self.running.values():
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, deadline - time.monotonic()))
        for pid in self._left():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for child in self.running.values():
            child.process.wait()
        self.running.clear()

    def _left(self) -> list[int]:
        """Processes of our children's sessions, or with our mark in their environment."""
        sessions = {str(child.process.pid) for child in self.running.values()}
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                session = (entry / "stat").read_text().rpartition(")")[2].split()[3]
                marked = self._mark.encode() in (entry / "environ").read_bytes().split(b"\0")
                if marked or session in sessions:
                    found.append(int(entry.name))
        return found


class Airflow:
    """An Airflow of its own: home, database, components and REST client.

    home: AIRFLOW_HOME, made if absent. dags: the folder of DAG files; write them before `start`, since a new one
    is only seen minutes later. All listens on loopback.
    """

    def __init__(self, home: Path, dags: Path) -> None:
        self.home = home
        self.port = _free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.password = secrets.token_urlsafe(9)
        home.mkdir(parents=True, exist_ok=True)
        passwords = home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USER: self.password}))
        self.children = Children(
            home / "logs" / "components",
            os.environ
            | {
                "AIRFLOW_HOME": str(home),
                "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
                "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
                # More tasks at a time end in "database is locked" on SQLite.
                "AIRFLOW__CORE__PARALLELISM": "4",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=60",
                "AIRFLOW__API__HOST": HOST,
                "AIRFLOW__API__PORT": str(self.port),
                "AIRFLOW__API__WORKERS": "1",
                "AIRFLOW__API__BASE_URL": self.url,
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
                "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
                "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            },
        )
        self._token = ""

    def start(self, timeout_s: float = 180.0) -> None:
        """Makes the database, starts the components and waits until all say that they are well."""
        command = [sys.executable, "-m", "airflow"]
        migrate = self.children.start("db-migrate", [*command, "db", "migrate"], self.home)
        if migrate.process.wait(timeout_s):
            raise ComponentError(f"airflow db migrate failed:\n{migrate.last_lines()}")
        del self.children.running["db-migrate"]
        for name, words in COMPONENTS.items():
            self.children.start(name, [*command, *words], self.home)
        deadline = time.monotonic() + timeout_s
        while ill := self._ill():
            self.watch()
            if time.monotonic() > deadline:
                raise ComponentError(
                    f"after {timeout_s:.0f} s these do not answer: {ill}; logs: {self.home}/logs"
                )
            time.sleep(0.5)

    def watch(self) -> None:
        """Raises ComponentError if a component has ended."""
        for name in COMPONENTS:
            child = self.children.running[name]
            code = child.process.poll()
            if code is not None:
                raise ComponentError(
                    f"Airflow's {name} ended with {code}. Its last lines:\n{child.last_lines()}"
                )

    def get(self, path: str) -> Any:
        """GET `/api/v2/<path>`. Raises urllib.error.HTTPError."""
        return self._call("GET", path)

    def post(self, path: str, body: object) -> Any:
        """POST `/api/v2/<path>`."""
        return self._call("POST", path, body)

    def _ill(self) -> str:
        try:
            health = self._open("GET", "/api/v2/monitor/health")
        except OSError:
            return "api-server"
        names = {"scheduler": "scheduler", "triggerer": "triggerer", "dag_processor": "dag-processor"}
        return ", ".join(n for key, n in names.items() if (health.get(key) or {}).get("status") != "healthy")

    def _call(self, method: str, path: str, body: object = None) -> Any:
        if not self._token:
            login = {"username": USER, "password": self.password}
            self._token = self._open("POST", "/auth/token", login)["access_token"]
        try:
            return self._open(method, f"/api/v2/{path}", body)
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
            self._token = ""  # it ran out while the UI was open
            return self._call(method, path, body)

    def _open(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(f"{self.url}{path}", method=method)
        request.add_header("Accept", "application/json")
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, data, timeout=30) as answer:
            return json.load(answer)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
