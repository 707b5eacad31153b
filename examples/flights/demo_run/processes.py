"""The demo's processes: each in a session of its own, its output in a file, none left behind."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kappaflow.dev.process import ProcessId, identify, is_running, terminate

# A worker drains for 3 s at most.
GRACE_S = 5.0
# What a killed demo left has nothing to finish: all it made is about to be removed.
LEFTOVER_GRACE_S = 3.0


@dataclass
class Child:
    """A process that the demo started. `ended_ms` is set when its end was first seen."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    started_ms: int
    ended_ms: int | None = None
    killed: bool = False

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        code = self.process.poll()
        if code is not None and self.ended_ms is None:
            self.ended_ms = now_ms()
        return code

    def kill(self) -> None:
        """`kill -9`, as a crash: of the process alone, so that what it started has to cope."""
        self.process.kill()
        self.process.wait()
        self.killed = True
        self.ended_ms = now_ms()

    def last_lines(self, count: int = 30) -> str:
        """The end of what it printed."""
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        return ""


class Processes:
    """Starts processes and ends them all; a file names them, for the next run if this one is killed."""

    def __init__(self, record: Path, logs: Path) -> None:
        self._record = record
        self._logs = logs
        self.all: list[Child] = []

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> Child:
        """Starts a process with stdout and stderr in `logs/NAME.log` (spaces as dashes).

        A session of its own keeps Ctrl-C from it: the demo decides in which order things end.
        """
        log = self._logs / f"{name.replace(' ', '-')}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env} if env else None,
                start_new_session=True,
            )
        child = Child(name, process, log, now_ms())
        self.all.append(child)
        known = [identify(one.process.pid) for one in self.all if one.process.poll() is None]
        self._record.write_text(json.dumps([[one.pid, one.started] for one in known if one is not None]))
        return child

    def stop(self) -> None:
        """Ends all: SIGTERM to their sessions, and SIGKILL to what still runs 5 s later."""
        for child in self.all:
            if child.code() is None:
                _signal_group(child, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        for child in self.all:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.1, deadline - time.monotonic()))
            # Also what a killed worker left: its session is still named by its pid.
            _signal_group(child, signal.SIGKILL)
            child.process.wait()
            child.code()


def _signal_group(child: Child, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, number)


def end_leftovers(record: Path, say: Callable[[str], None]) -> None:
    """Ends the processes that a killed demo noted, if they are still the same ones."""
    try:
        noted = [ProcessId(int(pid), str(started)) for pid, started in json.loads(record.read_text())]
    except (OSError, ValueError, TypeError):
        return
    left = [process for process in noted if is_running(process)]
    if left:
        say(f"stopping {len(left)} processes that a killed demo left")
        terminate(left, LEFTOVER_GRACE_S)


def now_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000
