"""Processes of our own, told apart from strangers that were given the same pid later.

A pid alone is no name: once its process has ended the system may hand it to another. So a process is known by
its pid and the moment of its start, and is only ever signalled when both fit.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kappaflow.errors import DevStackError

STOP = signal.SIGSTOP
CONTINUE = signal.SIGCONT
_POLL_S = 0.05
# Puts its own pid down before it becomes the server, so that a starter killed in between leaves a trace.
_LAUNCH = 'echo $$ >"$1" && cd "$2" && shift 2 && exec "$@"'


@dataclass(frozen=True)
class ProcessId:
    """A pid and the moment that its process started, in the system's own terms."""

    pid: int
    started: str


@dataclass(frozen=True)
class _Seen:
    started: str
    state: str  # as ps and /proc write it: R, S, D, T (stopped), Z (ended, not yet collected)
    threads: int  # with Z: more than 1 while others of its threads still end, and hold its files and ports


def identify(pid: int) -> ProcessId | None:
    """The process that has `pid` now, or None."""
    seen = _look(pid)
    return None if seen is None else ProcessId(pid, seen.started)


def is_running(process: ProcessId) -> bool:
    """True if this very process still runs (also while it is paused)."""
    seen = _look(process.pid)
    if seen is None or seen.started != process.started:
        return False
    if seen.state == "Z" and seen.threads <= 1:
        _collect(process.pid)
        return False
    return True


def is_paused(process: ProcessId) -> bool:
    """True if this very process is stopped by a signal (SIGSTOP)."""
    seen = _look(process.pid)
    return seen is not None and seen.started == process.started and seen.state == "T"


def send(process: ProcessId, number: signal.Signals) -> bool:
    """Sends a signal to this very process; False if it is gone."""
    opened: int | None = None
    if sys.platform == "linux":
        try:
            opened = os.pidfd_open(
                process.pid
            )  # from here on it is this process, whatever becomes of the pid
        except ProcessLookupError:
            return False
        except OSError:
            opened = None  # an old kernel
    try:
        if not is_running(process):
            return False
        if opened is not None:
            signal.pidfd_send_signal(opened, number)
        else:
            os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    finally:
        if opened is not None:
            os.close(opened)
    return True


def limit_files(process: ProcessId, limit_bytes: int) -> None:
    """From now on this very process can't make a file larger than that. DevStackError where the system can't."""
    if sys.platform != "linux":
        raise DevStackError("limiting the files of a running process needs Linux.")
    import resource

    if is_running(process):
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit_bytes, hard))


def wait_gone(process: ProcessId, timeout_s: float) -> bool:
    """Waits until the process has ended; False if it still runs after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while is_running(process):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def wait_paused(process: ProcessId, timeout_s: float) -> bool:
    """Waits until SIGSTOP has taken effect; False if it has not after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not is_paused(process):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def terminate(processes: list[ProcessId], grace_s: float) -> dict[ProcessId, Literal["ended", "killed"]]:
    """Ends processes together: SIGTERM, and SIGKILL to those that still run `grace_s` seconds later."""
    for process in processes:
        send(process, signal.SIGTERM)
        send(process, signal.SIGCONT)  # a paused process takes no SIGTERM until it goes on
    deadline = time.monotonic() + grace_s
    outcome: dict[ProcessId, Literal["ended", "killed"]] = {}
    for process in processes:
        if wait_gone(process, max(0.0, deadline - time.monotonic())):
            outcome[process] = "ended"
        else:
            kill(process)
            outcome[process] = "killed"
    return outcome


def kill(process: ProcessId) -> None:
    """SIGKILL, and waits until the process is gone."""
    if send(process, signal.SIGKILL):
        wait_gone(process, 10.0)


def spawn(
    argv: list[str], *, cwd: Path, environment: Mapping[str, str], log_file: Path, pid_file: Path
) -> ProcessId:
    """Starts a process in a session of its own, its output to `log_file`, its pid also in `pid_file`.

    It outlives its starter, and gets no Ctrl-C that is meant for the starter.
    """
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _LAUNCH, "sh", str(pid_file), str(cwd), *argv],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
            # Signals that a shell or Python had ignored would stay ignored, and SIGTERM must stop it.
            setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE],
            setsigmask=[],
        )
    finally:
        os.close(log)
    process = identify(pid)
    return process if process is not None else ProcessId(pid, "ended at once")


def from_pid_file(pid_file: Path, mark: str) -> ProcessId | None:
    """The running process whose pid is in `pid_file`, if `mark` stands in its command line; else None."""
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return None
    process = identify(pid)
    if process is None or not is_running(process) or f"{mark} " not in f"{_command_line(pid)} ":
        return None
    return process


def _collect(pid: int) -> None:
    """Takes the exit status of an ended child of ours, so that its entry goes; a stranger's child is left."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _look(pid: int) -> _Seen | None:
    if sys.platform == "linux":
        return _look_in_proc(pid)
    return _look_by_ps(pid)


def _look_in_proc(pid: int) -> _Seen | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The name stands in parentheses and may hold anything, also parentheses: count from the last one.
    fields = text.rpartition(")")[2].split()
    return _Seen(started=f"{boot}/{fields[19]}", state=fields[0], threads=int(fields[17]))


def _look_by_ps(pid: int) -> _Seen | None:
    done = _ps(pid, "stat=,lstart=")
    state, _, started = done.strip().partition(" ")
    return _Seen(started=started.strip(), state=state[:1], threads=1) if started else None


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return _ps(pid, "command=")


def _ps(pid: int, columns: str) -> str:
    try:
        return subprocess.run(
            ["ps", "-o", columns, "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return ""
