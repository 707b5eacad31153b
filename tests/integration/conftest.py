"""Servers that tests share."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kappaflow.dev import DevStack, ports

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def server_program(name: str) -> str:
    """Debian keeps the server's programs off the PATH."""
    found = shutil.which(name) or max(
        map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), default=None
    )
    assert found is not None, "no PostgreSQL server here: apt-get install postgresql"
    return found


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URI of a PostgreSQL of our own on loopback, which asks for a password."""
    # PostgreSQL refuses to run as root, and its user must reach the directory.
    directory = Path(tempfile.mkdtemp(prefix="kappaflow-pg-"))
    password = secrets.token_hex(8)
    (directory / "password").write_text(password)
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        for path in (directory, directory / "password"):
            shutil.chown(path, "postgres", "postgres")
        as_user = {"user": "postgres", "group": "postgres", "cwd": directory}
    data, port = directory / "data", ports.choose_free(())

    def run(*command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120, **as_user)

    run(
        server_program("initdb"),
        "-D",
        str(data),
        "-U",
        "kf",
        "-A",
        "scram-sha-256",
        f"--pwfile={directory}/password",
    )
    options = f"-p {port} -k {directory} -c listen_addresses=127.0.0.1 -c fsync=off"
    run(server_program("pg_ctl"), "-D", str(data), "-w", "-o", options, "-l", str(directory / "log"), "start")
    try:
        yield f"postgresql://kf:{password}@127.0.0.1:{port}/postgres"
    finally:
        run(server_program("pg_ctl"), "-D", str(data), "-w", "-m", "immediate", "stop")
        shutil.rmtree(directory)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A stack's directory; at the end nothing may run in it any more, whatever the test did."""
    path = tmp_path / "dev"
    yield path
    DevStack(path).down()
    found = subprocess.run(["ps", "-axwwo", "command="], capture_output=True, text=True, check=True).stdout
    assert [line for line in found.splitlines() if f"home={path}/" in line] == []


@pytest.fixture(scope="module")
def spark() -> Iterator["SparkSession"]:
    """A Spark session in this process."""
    from pyspark.sql import SparkSession

    from tests.integration.spark_case import SETTINGS, SPARK_ENV

    before = {name: os.environ.get(name) for name in SPARK_ENV}
    os.environ.update(SPARK_ENV)
    builder = SparkSession.builder.master("local[2,4]")
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
