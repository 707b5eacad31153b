"""The wheels that people install, in an empty environment with Airflow."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.system, pytest.mark.timeout(1_200)]

TYPES = ("kappaflow_kafka", "schema_registry")


def tool(name: str) -> str:
    """A build tool: beside this Python, on the PATH, or where scripts/setup puts it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kappaflow" / "tools" / "bin"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], str(cache)])
    found = shutil.which(name, path=path)
    assert found, f"{name} is not there: run scripts/setup"
    return found


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path = ROOT) -> tuple[str, str]:
    """What a command that works prints on stdout and stderr."""
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, f"{command} exits with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr


@dataclass(frozen=True)
class Installed:
    """An environment with both wheels and Airflow."""

    dir: Path
    ours: Path
    provider: Path

    @property
    def bin(self) -> Path:
        return self.dir / "venv" / "bin"

    def run(self, command: str, *words: str | Path) -> str:
        """What one of its commands prints, stderr being empty and no warning being among it."""
        env = {
            "AIRFLOW_HOME": str(self.dir / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": "",
            "VIRTUAL_ENV": str(self.dir / "venv"),
        }
        stdout, stderr = run(self.bin / command, *words, env=env, cwd=self.dir)
        assert not re.search("warn|error|Traceback", stderr, re.IGNORECASE), stderr
        assert "WARN" not in stdout, stdout
        return stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Both wheels, built as the extension of this clone was, in an empty environment."""
    base = tmp_path_factory.mktemp("wheels")
    uv, dist = tool("uv"), base / "dist"
    # In the dev profile, so that what is compiled already is not compiled again. Not repaired for other systems.
    build = ["build", "--locked", "--profile", "dev", "--auditwheel", "skip", "--out", dist]
    run(tool("maturin"), *build)
    run(
        *[uv, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable],
        *["--out-dir", dist, ROOT / "airflow_provider"],
    )
    [ours] = dist.glob("kappaflow-*.whl")
    [provider] = dist.glob("airflow_provider_kappaflow-*.whl")
    # Hashes can't be used as constraints beside two local wheels.
    lock = (ROOT / "requirements" / "dev.txt").read_text()
    constraints = base / "constraints.txt"
    constraints.write_text("\n".join(re.findall(r"^[A-Za-z0-9][^\s]*==[^\\\n]*", lock, re.MULTILINE)))
    run(uv, "venv", "--quiet", "--python", sys.executable, base / "venv")
    python = base / "venv" / "bin" / "python"
    run(
        *[uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python],
        *["--constraints", constraints, ours, provider, "apache-airflow"],
    )
    run(uv, "pip", "check", "--python", python)
    made = Installed(base, ours, provider)
    made.run("airflow", "db", "migrate")
    return made


def test_the_wheels_have_what_they_should_and_nothing_else(installed: Installed) -> None:
    for wheel, package in ((installed.ours, "kappaflow"), (installed.provider, "kappaflow_provider")):
        names = zipfile.ZipFile(wheel).namelist()
        assert f"{package}/py.typed" in names
        assert any(name.endswith("/licenses/LICENSE") for name in names), names
        for name in names:
            top, *_, last = name.split("/")
            assert top == package or top.endswith(".dist-info"), name
            assert "test" not in name and "__pycache__" not in name, name
            if top == package:
                assert last.endswith((".py", ".pyi", ".so", ".css", ".proto", "py.typed")), name
    names = zipfile.ZipFile(installed.ours).namelist()
    assert {"kappaflow/_native.pyi", "kappaflow/_native.abi3.so"} <= set(names)


def test_the_commands_work(installed: Installed) -> None:
    assert installed.run("kappaflow", "--version") == "kappaflow 0.1.0\n"
    listed = re.findall(r"^    (\w+)\b", installed.run("kappaflow", "--help"), re.MULTILINE)
    assert {"run", "plan", "dispatch", "publish", "work", "land", "reconcile", "status", "sql", "dev"} <= set(
        listed
    )
    for command in listed:
        assert f"kappaflow {command}" in installed.run("kappaflow", command, "--help")
    # The extension loads, and only when it is needed.
    code = (
        "import kappaflow, sys; assert 'kappaflow._native' not in sys.modules; assert kappaflow.job_schema()"
    )
    installed.run("python", "-c", code)


def test_airflow_knows_the_provider(installed: Installed) -> None:
    assert "airflow-provider-kappaflow" in installed.run("airflow", "providers", "list")
    for what in ("hooks", "widgets"):
        said = installed.run("airflow", "providers", what)
        assert all(name in said for name in TYPES), said


def test_airflow_takes_connections_of_both_types(installed: Installed) -> None:
    for name in TYPES:
        installed.run(
            "airflow", "connections", "add", name, "--conn-type", name, "--conn-host", "127.0.0.1:9092"
        )
        [connection] = json.loads(installed.run("airflow", "connections", "get", name, "-o", "json"))
        assert connection["conn_type"] == name


def test_the_flights_dag_parses_without_a_broker(installed: Installed) -> None:
    dags = installed.dir / "airflow" / "dags"
    dags.mkdir(exist_ok=True)
    shutil.copy(ROOT / "examples" / "flights" / "dag.py", dags / "flights.py")
    code = f"""
import sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag({str(dags)!r})
assert not bag.import_errors, bag.import_errors
assert set(bag.dags) == {{"flights_delay_cost"}}, bag.dags
assert "kappaflow._native" not in sys.modules
"""
    installed.run("python", "-c", code)
