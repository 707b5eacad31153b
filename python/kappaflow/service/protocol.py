"""The frames between a worker and its service process, over a Unix domain socket.

A frame is two big-endian u32 (length of the head, length of the body), the head (a JSON object with a `type`), and the
body (an Arrow IPC stream, or nothing). Version 1:

    process → worker  hello    {protocol, pid}
    worker → process  start    {protocol, job, callable, warm_up, options, python_path, verdicts, deadline_ms, mark,
                                answer_schema}                                body: Arrow schema of the answers
    process → worker  ready    {} | failed {step, reason, lines}
    worker → process  batch    {id, split: […], seq: […], attempt: […]}       body: the records
    process → worker  answers  {id, n: […], why: {row: [reason, detail]}}     body: the answers, in the records' order

`n` has one number a record: children (0: filtered), -1 retry, -2 dead letter. `mark` names a file of three u64 (native
order), which the process maps and writes before each call: batch id, row being worked on, count of calls. It survives
the process, so a worker knows on which record it died or hangs.
"""

import json
import socket
import struct
from typing import Any, Final

VERSION: Final = 1
RETRY: Final = -1
DEAD_LETTER: Final = -2
MARK_BYTES: Final = 24

_LENGTHS = struct.Struct(">II")


class Connection:
    """Frames over a connected socket. Blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, head: dict[str, Any], body: bytes | memoryview = b"") -> None:
        text = json.dumps(head, separators=(",", ":")).encode()
        self._sock.sendall(_LENGTHS.pack(len(text), len(body)) + text)
        if body:
            self._sock.sendall(body)

    def receive(self) -> tuple[dict[str, Any], memoryview] | None:
        """The next frame, or None once the other side is gone."""
        lengths = self._exactly(_LENGTHS.size)
        if lengths is None:
            return None
        head_length, body_length = _LENGTHS.unpack(lengths)
        head = self._exactly(head_length)
        body = self._exactly(body_length)
        if head is None or body is None:
            return None
        return json.loads(bytes(head)), body

    def _exactly(self, length: int) -> memoryview | None:
        data = memoryview(bytearray(length))
        at = 0
        while at < length:
            got = self._sock.recv_into(data[at:])
            if got == 0:
                return None
            at += got
        return data
