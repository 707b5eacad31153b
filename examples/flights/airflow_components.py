"""Airflow's own components as watched children: api-server, scheduler, dag-processor, triggerer.

`airflow standalone` does as much, but leaves its children behind when it is ended, and says nothing when one dies.
"""

import json
import os
import secrets
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from demo_run.place import DemoError
from demo_run.processes import Child, Processes

HOST = "127.0.0.1"
USER = "admin"
COMPONENTS = {
    "api-server": ("api-server",),
    "dag-processor": ("dag-processor",),
    # Their log servers would listen on every interface; the api-server reads the logs' files.
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}


class ComponentError(DemoError):
    """A component ended, or does not answer; the text has its last log lines."""


class Airflow:
    """An Airflow of its own: home, database, components and REST client.

    processes: what starts and ends the components.
    home: AIRFLOW_HOME, made if absent. dags: the folder of DAG files; write them before `start`, since a new one
    is only seen minutes later. All listens on loopback. environment: for the DAG, more than Airflow's own.
    """

    def __init__(
        self, processes: Processes, home: Path, dags: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._processes = processes
        self._components: dict[str, Child] = {}
        self.port = _free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.password = secrets.token_urlsafe(9)
        home.mkdir(parents=True, exist_ok=True)
        passwords = home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USER: self.password}))
        # Tasks leave the sessions of our components; by this mark they are found all the same.
        self._mark = secrets.token_hex(8)
        self._env = {
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
            "KAPPAFLOW_DEMO_MARK": self._mark,
            # Airflow renames its processes, which would wipe their environment.
            "SPT_NOENV": "1",
            **(environment or {}),
        }
        self._token = ""

    def start(self, timeout_s: float = 180.0) -> None:
        """Makes the database, starts the components and waits until all say that they are well."""
        migrate = self._start("db migrate", "db", "migrate")
        if migrate.process.wait(timeout_s):
            raise ComponentError(f"airflow db migrate failed:\n{migrate.last_lines()}")
        for name, words in COMPONENTS.items():
            self._components[name] = self._start(name, *words)
        deadline = time.monotonic() + timeout_s
        while ill := self._ill():
            self.watch()
            if time.monotonic() > deadline:
                raise ComponentError(f"after {timeout_s:.0f} s these do not answer: {ill}")
            time.sleep(0.5)

    def watch(self) -> None:
        """Raises ComponentError if a component has ended."""
        for name, child in self._components.items():
            code = child.code()
            if code is not None:
                raise ComponentError(
                    f"Airflow's {name} ended with {code}. Its last lines:\n{child.last_lines()}"
                )

    def end_tasks(self) -> None:
        """SIGKILL to what the components have left behind, once they are ended."""
        mark = f"KAPPAFLOW_DEMO_MARK={self._mark}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)

    def get(self, path: str) -> Any:
        """GET `/api/v2/<path>`. Raises urllib.error.HTTPError."""
        return self._call("GET", path)

    def post(self, path: str, body: object) -> Any:
        """POST `/api/v2/<path>`."""
        return self._call("POST", path, body)

    def patch(self, path: str, body: object) -> Any:
        """PATCH `/api/v2/<path>`."""
        return self._call("PATCH", path, body)

    def _start(self, name: str, *words: str) -> Child:
        command = [sys.executable, "-m", "airflow", *words]
        return self._processes.start(f"airflow {name}", command, self._env)

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
