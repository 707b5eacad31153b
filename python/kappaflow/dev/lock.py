"""A lock file that two processes at work on one directory meet at."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kappaflow.errors import DevStackError


@contextmanager
def locked(path: Path, *, timeout_s: float, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Holds the lock file `path` (made if absent) for the length of the block; a holder's death frees it.

    Waits up to `timeout_s` seconds and calls `on_wait` once, with a sentence, if it has to wait.
    Raises DevStackError that names the holder's pid when the time is over.
    """
    if sys.platform == "win32":
        raise DevStackError("the dev stack runs on Linux and macOS; on Windows use it inside WSL.")
    import fcntl

    deadline = time.monotonic() + timeout_s
    told = False
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DevStackError(
                f"cannot write the lock file {path} ({error.strerror}). "
                "Choose a directory that you may write to."
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            if time.monotonic() >= deadline:
                raise DevStackError(
                    f"another process (pid {holder}) is at work on {path.parent}, for {timeout_s:.0f} s now. "
                    "Wait for it, or end it, then try again."
                ) from None
            if not told and on_wait is not None:
                on_wait(f"waiting for another process (pid {holder}) that is at work on {path.parent}")
                told = True
            time.sleep(0.1)
            continue
        except BaseException:
            os.close(handle)
            raise
        if _is_at(handle, path):
            break
        os.close(handle)  # its last holder removed the file: take the one that is there now
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(handle)
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
