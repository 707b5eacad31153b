"""A server beside the Kafkas: one process in a directory of its own, on loopback, with its port and name kept."""

import json
import secrets
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from kappaflow.dev import ports, process
from kappaflow.dev.kafka import java_environment, last_lines
from kappaflow.dev.process import ProcessId
from kappaflow.dev.state import Health
from kappaflow.errors import DevStackError

_POLL_S = 0.1


@dataclass(frozen=True)
class ServerStatus:
    """A server as it is now; the words are those of `RegionStatus`.

    `url` is for clients, `options` what else they need to be told; neither holds a secret.
    """

    kind: str
    state: Health
    url: str
    options: Mapping[str, str]
    pid: int | None
    directory: str
    log_file: str


@dataclass
class Record:
    """What is kept of a server beside its data. `name` is what it is known by when it is asked."""

    port: int
    name: str
    configured: bool = False
    more_ports: list[int] = field(default_factory=list)


class Server(ABC):
    """The server in one directory. Whoever calls holds the stack's lock; only `status` is for anyone."""

    kind: ClassVar[str]  # its option, `--KIND`, and its directory
    title: ClassVar[str]  # what sentences call it
    keeps_port: ClassVar[bool] = (
        False  # whether it may be told a port, `--KIND-port`, and a taken one is refused
    )
    more_ports: ClassVar[int] = 0  # how many ports it needs beside the one that clients are told

    def __init__(self, root: Path, on_event: Callable[[str], None]) -> None:
        self.root = root
        self.log_file = root / f"{self.kind}.log"
        self._on_event = on_event
        self._pid_file = root / "pid"
        self.mark = f"-Dkappaflow.dev.home={root}"

    @abstractmethod
    def url(self, record: Record) -> str:
        """Where clients find it."""

    @abstractmethod
    def prepare(self) -> None:
        """Fetches what it runs from, before anything is started."""

    @abstractmethod
    def command(self, record: Record) -> list[str]:
        """What starts it. `mark` is in it, as a word of its own."""

    @abstractmethod
    def answers(self, record: Record) -> bool:
        """True if what listens at its port is this very server, and ready."""

    def configure(self, record: Record) -> None:  # noqa: B027  # most need nothing
        """Tells a new one what it should know. OSError or ValueError if it can't be told."""

    def options(self, record: Record) -> dict[str, str]:
        """What clients need to be told beside the URL."""
        del record
        return {}

    def known(self) -> bool:
        """True if one was started here before, and not removed since."""
        return self._record() is not None

    def status(self) -> ServerStatus | None:
        """How it is now; None if there is none. Asks it; changes nothing."""
        record = self._record()
        if record is None:
            return None
        running = self._process()
        return ServerStatus(
            kind=self.kind,
            state=self._health(record, running),
            url=self.url(record),
            options=self.options(record),
            pid=None if running is None else running.pid,
            directory=str(self.root),
            log_file=str(self.log_file),
        )

    def has_died(self) -> bool:
        """True if it was started, not stopped, and no process runs. Quick."""
        return self.known() and self._pid_file.exists() and self._process() is None

    def launch(self, wanted_port: int | None, avoid: set[int]) -> bool:
        """Starts it unless it runs; True if it did. `await_ready` waits for it."""
        record = self._record()
        running = self._process()
        if record is not None and running is not None:
            if wanted_port not in (None, record.port):
                raise DevStackError(
                    f"{self.title} already runs on port {record.port}; to move it to {wanted_port}, "
                    "run `kappaflow dev down` first."
                )
            process.send(running, process.CONTINUE)  # in case it is paused
            return False
        self.prepare()
        if record is None:
            port = wanted_port or ports.choose_free(avoid)
            record = Record(port, f"kappaflow-{secrets.token_hex(8)}")
        record.port = wanted_port or record.port
        if self.keeps_port:
            ports.refuse_taken(record.port, self.title, f"--{self.kind}-port")
        elif not ports.is_free(record.port):
            record.port = ports.choose_free(avoid)
        record.more_ports = []
        for _ in range(self.more_ports):
            record.more_ports.append(ports.choose_free(avoid | {record.port, *record.more_ports}))
        self._on_event(f"starting {self.title} at {self.url(record)}")
        self._keep(record)
        if self.log_file.exists():
            self.log_file.replace(self.log_file.with_name(f"{self.log_file.name}.1"))
        process.spawn(
            self.command(record),
            cwd=self.root,
            environment=java_environment(),
            log_file=self.log_file,
            pid_file=self._pid_file,
        )
        return True

    def await_ready(self, timeout_s: float) -> None:
        """Waits until it answers as itself. A new one is configured."""
        record = self._record()
        if record is None:
            return
        begun = time.monotonic()
        seen = False
        while not self.answers(record):
            running = self._process()
            seen = seen or running is not None
            late = time.monotonic() >= begun + timeout_s
            # The process writes its pid itself, a moment after its start.
            if late or (running is None and (seen or time.monotonic() >= begun + 2)):
                why = f"has not answered for {timeout_s:.0f} s" if late else "ended while it started"
                raise DevStackError(
                    f"{self.title} at {self.url(record)} {why}. Its last lines in {self.log_file}:\n"
                    f"{last_lines(self.log_file, 20)}"
                )
            time.sleep(_POLL_S)
        if not record.configured:
            try:
                self.configure(record)
            except (OSError, ValueError) as error:
                raise DevStackError(
                    f"{self.title} at {self.url(record)} could not be configured ({error})."
                ) from error
            record.configured = True
            self._keep(record)
        self._on_event(f"{self.title} is ready after {time.monotonic() - begun:.1f} s")

    def stop(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL to one that still runs `timeout_s` seconds later."""
        running = self._process()
        if running is not None:
            self._on_event(f"stopping {self.title}")
            if process.terminate([running], timeout_s)[running] == "killed":
                self._on_event(f"{self.title} did not end within {timeout_s:.0f} s and was killed")
        self._pid_file.unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes its directory, data included. DevStackError if that fails."""
        try:
            shutil.rmtree(self.root)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise DevStackError(f"cannot remove {self.root} ({error}).") from error

    def _process(self) -> ProcessId | None:
        return process.from_pid_file(self._pid_file, self.mark)

    def _health(self, record: Record, running: ProcessId | None) -> Health:
        if running is None:
            return "dead" if self._pid_file.exists() else "stopped"
        if process.is_paused(running):
            return "paused"
        return "running" if self.answers(record) else "unresponsive"

    def _record(self) -> Record | None:
        path = self.root / f"{self.kind}.json"
        try:
            kept = json.loads(path.read_text())
            more = [int(port) for port in kept["more_ports"]]
            return Record(int(kept["port"]), str(kept["name"]), bool(kept["configured"]), more)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DevStackError(
                f"{path} can't be understood ({type(error).__name__}: {error}). "
                f"Delete {self.root} to begin with an empty one."
            ) from error

    def _keep(self, record: Record) -> None:
        beside = self.root / f"{self.kind}.json.new"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(asdict(record)))
            beside.replace(self.root / f"{self.kind}.json")
        except OSError as error:
            raise DevStackError(
                f"cannot write in {self.root} ({error.strerror}). "
                "Choose a directory you may write to, with --dir."
            ) from error
