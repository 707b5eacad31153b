"""Processes are only ever signalled if they are the very ones that were started."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kappaflow.dev import process
from kappaflow.dev.process import ProcessId

Spawn = Callable[..., ProcessId]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    started: list[ProcessId] = []

    def run(*argv: str) -> ProcessId:
        log, pid_file = tmp_path / "log", tmp_path / "pid"
        started.append(
            process.spawn(list(argv), cwd=tmp_path, environment=os.environ, log_file=log, pid_file=pid_file)
        )
        return started[-1]

    yield run
    for one in started:
        process.kill(one)


def wait_for(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_recycled_pid_is_neither_running_nor_signalled(spawn: Spawn) -> None:
    now_holding_the_pid = spawn("sleep", "60")
    recorded = ProcessId(now_holding_the_pid.pid, "the start of a process long gone")

    assert not process.is_running(recorded)
    assert not process.send(recorded, signal.SIGKILL)
    process.kill(recorded)
    assert process.terminate([recorded], grace_s=0.1) == {recorded: "ended"}
    assert process.is_running(now_holding_the_pid)


def test_own_session_log_and_pid_file(spawn: Spawn, tmp_path: Path) -> None:
    one = spawn(sys.executable, "-c", "print('hello', flush=True); import time; time.sleep(60)")
    wait_for(lambda: "hello" in (tmp_path / "log").read_text())

    assert os.getsid(one.pid) == one.pid != os.getsid(0)
    assert (tmp_path / "pid").read_text().strip() == str(one.pid)
    assert process.identify(one.pid) == one, "the same process before and after it became the server"


def test_terminate_asks_first_and_kills_those_that_do_not_end(spawn: Spawn, tmp_path: Path) -> None:
    polite = spawn("sleep", "60")
    deaf = spawn("/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done")
    wait_for(lambda: "deaf" in (tmp_path / "log").read_text())

    assert process.terminate([polite, deaf], grace_s=0.5) == {polite: "ended", deaf: "killed"}
    assert not process.is_running(polite)
    assert not process.is_running(deaf)


def test_terminate_ends_a_paused_process(spawn: Spawn) -> None:
    one = spawn("sleep", "60")
    process.send(one, process.STOP)
    wait_for(lambda: process.is_paused(one))

    assert process.terminate([one], grace_s=5.0) == {one: "ended"}


def test_a_server_ends_by_sigterm_even_if_its_starter_ignored_it(spawn: Spawn) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        one = spawn("sleep", "60")
    finally:
        signal.signal(signal.SIGTERM, before)

    assert process.terminate([one], grace_s=5.0) == {one: "ended"}


def test_the_pid_file_is_trusted_only_with_the_mark(spawn: Spawn, tmp_path: Path) -> None:
    one = spawn(sys.executable, "-c", "import time; time.sleep(60)", "the-mark")
    wait_for(lambda: process.from_pid_file(tmp_path / "pid", "the-mark"))

    assert process.from_pid_file(tmp_path / "pid", "the-mark") == one
    assert process.from_pid_file(tmp_path / "pid", "another-mark") is None
    assert process.from_pid_file(tmp_path / "absent", "the-mark") is None
    process.kill(one)
    assert process.from_pid_file(tmp_path / "pid", "the-mark") is None


def test_a_command_that_fails_at_once_is_not_running(spawn: Spawn, tmp_path: Path) -> None:
    one = spawn("/no/such/program")
    wait_for(lambda: not process.is_running(one))

    assert "/no/such/program" in (tmp_path / "log").read_text()


def test_a_process_is_not_gone_while_threads_of_it_still_hold_its_files(spawn: Spawn, tmp_path: Path) -> None:
    # The first thread ends alone (as the JVM's does first in a `kill -9`): it then shows as a zombie.
    program = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "print('ready', flush=True)\n"
        "ctypes.PyDLL(None).pthread_exit(None)\n"
    )
    one = spawn(sys.executable, "-c", program)
    wait_for(lambda: "ready" in (tmp_path / "log").read_text())
    if sys.platform == "linux":
        stat = Path(f"/proc/{one.pid}/stat")
        wait_for(lambda: ") Z " in stat.read_text())

    assert process.is_running(one)
    process.kill(one)
    assert not process.is_running(one)
