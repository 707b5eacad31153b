"""`python -m kappaflow.service SOCKET`: a service process, started by a worker. Not for people."""

import signal
import socket
import sys

from kappaflow.service.protocol import Connection
from kappaflow.service.runner import serve


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m kappaflow.service SOCKET (a worker starts this)", file=sys.stderr)  # noqa: T201
        return 2
    # Ctrl-C reaches the whole process group: the worker decides what it means, and closes the socket when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(sys.argv[1])
        try:
            return serve(Connection(sock))
        except (BrokenPipeError, ConnectionResetError):
            return 0  # the worker is gone


if __name__ == "__main__":
    sys.exit(main())
