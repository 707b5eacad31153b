"""One Kafka of one region: its directory, its configuration, how it is formatted and started."""

import base64
import os
import shutil
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from kappaflow.dev import process
from kappaflow.dev.java import Java
from kappaflow.dev.ports import HOST
from kappaflow.dev.process import ProcessId
from kappaflow.errors import DevStackError

NODE_ID = 1
HEAP_MIB = 512
_FORMAT_TIMEOUT_S = 60.0
_HEADER = "# Written by `kappaflow dev up` at each start: changes made here are lost."


@dataclass(frozen=True)
class Home:
    """The directory of one region's Kafka and the files in it."""

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
    def format_log_file(self) -> Path:
        """What Kafka's formatting of the data directory printed."""
        return self.root / "format.log"

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
        return _read_property(self.data / "meta.properties", "cluster.id")

    def kept_port(self) -> int | None:
        """The client port of the last start, from the configuration file; None if there is none."""
        listener = _read_property(self.config, "advertised.listeners")
        port = listener.rpartition(":")[2] if listener else ""
        return int(port) if port.isdigit() else None

    def remove_data(self) -> None:
        """Deletes data and configuration, so that no cluster is known here; logs stay."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.config.unlink(missing_ok=True)
        self.pid_file.unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes the directory with its data. DevStackError if that fails."""
        try:
            shutil.rmtree(self.root)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise DevStackError(f"cannot remove {self.root} ({error}).") from error


@dataclass(frozen=True)
class Runtime:
    """What every Kafka here runs on: a Java and the jars."""

    java: Java
    jars: tuple[Path, ...]

    @property
    def class_path(self) -> str:
        """The jars as java's `-cp` takes them."""
        return os.pathsep.join(str(jar) for jar in self.jars)


def new_cluster_id() -> str:
    """A random cluster id in Kafka's form: a UUID in URL-safe base64, not beginning with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        if not text.startswith("-"):
            return text


def config_text(*, port: int, controller_port: int, data: Path) -> str:
    """Kafka's configuration for one region: one node that is broker and controller, on loopback."""
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": NODE_ID,
        # Static voters: they are not kept in the data, so the controller's port may differ at each start.
        "controller.quorum.voters": f"{NODE_ID}@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data),
        # A misspelt topic must fail, as it does in production.
        "auto.create.topics.enable": "false",
        "default.replication.factor": 1,
        # One node: no copies. Few partitions: the inner topics are made at the first use, within a second.
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # Groups form at once, and clients may ask for sessions as short as tests want them. With the new
        # group protocol the broker alone sets the session, so it is short here (Kafka's own default: 45 s).
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1_000,
        "group.consumer.min.session.timeout.ms": 1_000,
        "group.consumer.session.timeout.ms": 6_000,
        "group.consumer.min.heartbeat.interval.ms": 500,
        "group.consumer.heartbeat.interval.ms": 1_000,
        # After a `kill -9` the new process is let in once the old one's session is over (Kafka's default:
        # 9 s).
        "broker.session.timeout.ms": 3_000,
        "broker.heartbeat.interval.ms": 500,
        # The cleaner's buffer is 128 MiB otherwise, a quarter of the heap.
        "log.cleaner.dedupe.buffer.size": 8 << 20,
        # Looks often, so that tests of a topic's retention need not wait for minutes.
        "log.retention.check.interval.ms": 5_000,
    }
    return "\n".join([_HEADER, *(f"{key}={_escaped(str(value))}" for key, value in settings.items()), ""])


def write_config(home: Home, *, port: int, controller_port: int) -> None:
    """Makes the directory and writes the configuration. DevStackError if that is not allowed."""
    for forbidden in (",", os.pathsep, "\n"):
        if forbidden in str(home.root):
            raise DevStackError(
                f"the directory {home.root} has a {forbidden!r} in its name, which Kafka can't take. "
                "Use another, with --dir."
            )
    try:
        home.root.mkdir(parents=True, exist_ok=True)
        home.config.write_text(config_text(port=port, controller_port=controller_port, data=home.data))
    except OSError as error:
        raise DevStackError(
            f"cannot write {home.config} ({error.strerror}). Choose a directory you may write to, with --dir."
        ) from error


def start_formatting(home: Home, runtime: Runtime, cluster_id: str) -> ProcessId:
    """Starts Kafka's own formatting of the data directory; `finish_formatting` waits for it."""
    home.format_log_file.unlink(missing_ok=True)
    tool = [
        str(runtime.java.executable),
        *("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m"),
        home.mark,
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        *("-cp", runtime.class_path, "kafka.tools.StorageTool"),
        *("format", "--ignore-formatted", "-t", cluster_id, "-c", str(home.config)),
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


def launch(home: Home, runtime: Runtime) -> ProcessId:
    """Starts the Kafka of `home` in a session of its own and returns at once."""
    if home.log_file.exists():
        home.log_file.replace(home.log_file.with_name(f"{home.log_file.name}.1"))
    return process.spawn(
        java_command(home, runtime),
        cwd=home.root,
        environment=java_environment(),
        log_file=home.log_file,
        pid_file=home.pid_file,
    )


def java_command(home: Home, runtime: Runtime) -> list[str]:
    """The command that runs Kafka."""
    return [
        str(runtime.java.executable),
        *("-XX:+UseSerialGC", f"-Xmx{HEAP_MIB}m", "-Xms128m", "-XX:+ExitOnOutOfMemoryError"),
        home.mark,
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "-Dorg.slf4j.simpleLogger.showThreadName=false",
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


def _escaped(value: str) -> str:
    """As Java reads it from a properties file, which is Latin-1 with escapes of UTF-16 units."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)


def java_environment() -> dict[str, str]:
    """Our environment, with a locale in which Java finds files whose names are not ASCII."""
    return {**os.environ, "LC_ALL": "C.UTF-8"} if sys.platform == "linux" else dict(os.environ)


def _read_property(path: Path, key: str) -> str | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition("=")
        if name.strip() == key:
            return value.strip()
    return None
