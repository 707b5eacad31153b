"""One broker of a region: its directory, how it is formatted and started."""

import base64
import os
import shutil
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from kappaflow.dev import config, process, secure, tokens
from kappaflow.dev.files import write_private
from kappaflow.dev.java import Java
from kappaflow.dev.process import ProcessId
from kappaflow.dev.state import RegionRecord, Shape
from kappaflow.errors import DevStackError

_FORMAT_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Home:
    """The directory of one broker and the files in it."""

    root: Path

    @property
    def data(self) -> Path:
        """Kafka's log directory: the records and the cluster's metadata."""
        return self.root / "data"

    @property
    def config(self) -> Path:
        """Kafka's configuration file."""
        return self.root / "server.properties"

    @property
    def log_file(self) -> Path:
        """What Kafka prints since its last start; that of the start before is in `kafka.log.1`."""
        return self.root / "kafka.log"

    @property
    def format_arguments(self) -> Path:
        """The arguments of Kafka's formatting, while that runs."""
        return self.root / "format.arguments"

    @property
    def format_log_file(self) -> Path:
        """What Kafka's formatting of the data directory printed."""
        return self.root / "format.log"

    @property
    def secure(self) -> Path:
        """The directory of the region's certificates and passwords, which its brokers share."""
        return self.root.parent / "secure"

    @property
    def pid_file(self) -> Path:
        """The pid of the last process started here, written by that process itself."""
        return self.root / "pid"

    @property
    def mark(self) -> str:
        """A text in the command line of this directory's Kafka and of no other process."""
        return f"-Dkappaflow.dev.home={self.root}"

    def kept_cluster_id(self) -> str | None:
        """The cluster id that the data was formatted with; None if there is no data."""
        return config.read_property(self.data / "meta.properties", "cluster.id")

    def remove_data(self) -> None:
        """Deletes data and configuration, so that no cluster is known here; logs stay."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.config.unlink(missing_ok=True)
        self.pid_file.unlink(missing_ok=True)


@dataclass(frozen=True)
class Runtime:
    """What every Kafka here runs on: a Java and the jars."""

    java: Java
    jars: tuple[Path, ...]

    @property
    def class_path(self) -> str:
        """The jars as java's `-cp` takes them."""
        return os.pathsep.join(str(jar) for jar in self.jars)


def heap_mib(shape: Shape) -> int:
    """A broker's heap: half a GiB, and less where several share the machine."""
    return 512 if shape.brokers == 1 else 256


def new_cluster_id() -> str:
    """A random cluster id in Kafka's form: a UUID in URL-safe base64, not beginning with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        if not text.startswith("-"):
            return text


def write_config(home: Home, broker: int, region: RegionRecord) -> None:
    """Makes the directory and writes the configuration. DevStackError if that is not allowed."""
    for forbidden in (",", os.pathsep, "\n"):
        if forbidden in str(home.root):
            raise DevStackError(
                f"the directory {home.root} has a {forbidden!r} in its name, which Kafka can't take. "
                "Use another, with --dir."
            )
    try:
        home.root.mkdir(parents=True, exist_ok=True)
        more = secure.settings(home.secure, broker) if region.shape.secure else {}
        text = config.text(broker, region, data=home.data, secure_settings=more)
        write_private(home.config, text.encode())  # it may hold passwords
    except OSError as error:
        raise DevStackError(
            f"cannot write {home.config} ({error.strerror}). Choose a directory you may write to, with --dir."
        ) from error


def start_formatting(home: Home, runtime: Runtime, region: RegionRecord) -> ProcessId:
    """Starts Kafka's own formatting of the data directory; `finish_formatting` waits for it."""
    home.format_log_file.unlink(missing_ok=True)
    arguments = ["format", "--ignore-formatted", "-t", region.cluster_id, "-c", str(home.config)]
    if region.shape.secure:
        arguments += secure.formatting_arguments(home.secure)
    # In a file: what stands in a command line, everybody on this machine can read.
    quoted = (part.replace("\\", "\\\\") for part in ("kafka.tools.StorageTool", *arguments))
    write_private(home.format_arguments, "".join(f'"{part}"\n' for part in quoted).encode())
    tool = [
        str(runtime.java.executable),
        *("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m"),
        home.mark,
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        *("-cp", runtime.class_path, f"@{home.format_arguments}"),
    ]
    return process.spawn(
        tool,
        cwd=home.root,
        environment=java_environment(),
        log_file=home.format_log_file,
        pid_file=home.pid_file,
    )


def finish_formatting(home: Home, tool: ProcessId) -> None:
    """Waits for `start_formatting`'s process. DevStackError with its last lines if it failed."""
    if not process.wait_gone(tool, _FORMAT_TIMEOUT_S):
        process.kill(tool)
        raise DevStackError(
            f"Kafka's formatting of {home.data} was not done after {_FORMAT_TIMEOUT_S:.0f} s. Try again."
        )
    if home.kept_cluster_id() is None:  # the formatting writes it last
        raise DevStackError(
            f"Kafka could not format {home.data}. Its last lines:\n{last_lines(home.format_log_file, 15)}"
        )
    home.format_arguments.unlink(missing_ok=True)


def launch(home: Home, runtime: Runtime, heap_mib: int) -> ProcessId:
    """Starts the broker of `home` in a session of its own and returns at once."""
    if home.log_file.exists():
        home.log_file.replace(home.log_file.with_name(f"{home.log_file.name}.1"))
    return process.spawn(
        java_command(home, runtime, heap_mib),
        cwd=home.root,
        environment=java_environment(),
        log_file=home.log_file,
        pid_file=home.pid_file,
    )


def java_command(home: Home, runtime: Runtime, heap_mib: int) -> list[str]:
    """The command that runs Kafka."""
    return [
        str(runtime.java.executable),
        *("-XX:+UseSerialGC", f"-Xmx{heap_mib}m", "-Xms128m", "-XX:+ExitOnOutOfMemoryError"),
        home.mark,
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "-Dorg.slf4j.simpleLogger.showThreadName=false",
        # Only what is named so is read: an address that brokers open is a way into them.
        f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={tokens.JWKS_URL}",
        # Thousands of lines that repeat the configuration at each start.
        "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig=warn",
        *("-cp", runtime.class_path, "kafka.Kafka", str(home.config)),
    ]


def last_lines(path: Path, count: int) -> str:
    """The last lines of a text file; empty if it can't be read."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - (64 << 10)))
            return _tail_of(file.read().decode("utf-8", "replace"), count)
    except OSError:
        return ""


def _tail_of(text: str, count: int) -> str:
    return "\n".join(text.splitlines()[-count:]) if count > 0 else ""


def java_environment() -> dict[str, str]:
    """Our environment, with a locale in which Java finds files whose names are not ASCII."""
    return {**os.environ, "LC_ALL": "C.UTF-8"} if sys.platform == "linux" else dict(os.environ)
