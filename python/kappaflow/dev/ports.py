"""TCP ports on loopback: free ones, taken ones, and who has taken them."""

import random
import socket
from collections.abc import Collection
from pathlib import Path

from kappaflow.errors import DevStackError

HOST = "127.0.0.1"
# Below the range from which systems hand out ports to outgoing connections (32768 up on Linux), so that a
# Kafka that is down does not find its port taken by a chance connection when it comes up again.
_CHOICE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """True if a server could listen on `port` of loopback now: nobody answers there, and it can be bound."""
    with socket.socket() as client:
        client.settimeout(0.5)
        if client.connect_ex((HOST, port)) == 0:
            return False
    with socket.socket() as server:
        # As Kafka binds: a port whose old connections still linger counts as free.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
        except OSError:
            return False
    return True


def choose_free(avoid: Collection[int]) -> int:
    """A free port from 20,000 to 31,999 that is not in `avoid`."""
    for _ in range(500):
        port = random.choice(_CHOICE)
        if port not in avoid and is_free(port):
            return port
    raise DevStackError(
        f"found no free port from {_CHOICE.start} to {_CHOICE.stop - 1} on {HOST}; name one with --port."
    )


def refuse_taken(port: int, wanted_for: str, option: str = "--port") -> None:
    """Raises DevStackError, naming the holder where the system tells, if `port` is taken."""
    if is_free(port):
        return
    holder = who_listens(port)
    by = f" by {holder}" if holder else ""
    raise DevStackError(
        f"port {port} on {HOST}, wanted for {wanted_for}, is taken{by}. "
        f"End that process, or choose another port with {option} (or none: free ones are then chosen)."
    )


def who_listens(port: int) -> str | None:
    """`pid 123 (name)` of the process that listens on `port`, where Linux tells; else None."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for descriptor in (process / "fd").iterdir():
                if str(descriptor.readlink()) in wanted:
                    return f"pid {process.name} ({(process / 'comm').read_text().strip()})"
        except OSError:  # gone meanwhile, or someone else's
            continue
    return None


def _listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            rows = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            is_listening = columns[3] == "0A"
            if is_listening and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(columns[9])
    return found
