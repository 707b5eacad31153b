"""The frames between a worker and its service process, over a Unix domain socket.

A frame is two big-endian u32 (length of the head, length of the body), the head (a JSON object with a `type`), and the
body (an Arrow IPC stream, or nothing). Version 2:

    process → worker  hello    {protocol, pid}
    worker → process  start    {protocol, job, callable, warm_up, options, python_path, verdicts, deadline_ms, mark,
                                answer_schema}                                body: Arrow schema of the answers
    process → worker  ready    {at_once} | failed {step, reason, lines}
    worker → process  batch    {id, split: […], seq: […], attempt: […], lane: […] | null}   body: the records
    process → worker  answers  {id, rows: […] | absent, n: […], why: {place: [reason, detail]}}
                                                                              body: the answers, in the order of `n`

Several batches may be on their way. One frame answers a batch whole, or, with `rows`, some of its rows; `at_once` says
that a process works on all it has at once, and answers rows as they are done. `n` has one number a row: children (0:
filtered), -1 retry, -2 dead letter, -3 held: not called, because one before it with the same number in `lane` has to
be tried again. Rows of a lane are called in their order, one at a time. A process that works on all at once is given
one of a lane at a time.

`mark` names a file of three u64 (native order), which the process maps and writes before each call: batch id, row being
worked on, count of calls. It survives the process, so a worker knows on which record it died or hangs. A process that
works on all at once also counts up while it lives.
"""

import asyncio
import json
import socket
import struct
from typing import Any, Final

VERSION: Final = 2
RETRY: Final = -1
DEAD_LETTER: Final = -2
HELD: Final = -3
MARK_BYTES: Final = 24

_LENGTHS = struct.Struct(">II")


def pack(head: dict[str, Any], body: bytes | memoryview = b"") -> bytes:
    """A frame."""
    text = json.dumps(head, separators=(",", ":")).encode()
    return b"".join((_LENGTHS.pack(len(text), len(body)), text, body))


class Connection:
    """Frames over a connected socket. Blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def send(self, head: dict[str, Any], body: bytes | memoryview = b"") -> None:
        self.sock.sendall(pack(head, body))

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
            got = self.sock.recv_into(data[at:])
            if got == 0:
                return None
            at += got
        return data


async def receive(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes] | None:
    """The next frame of a stream, or None once the other side is gone."""
    try:
        head_length, body_length = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
        head = await reader.readexactly(head_length)
        body = await reader.readexactly(body_length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return json.loads(head), body
