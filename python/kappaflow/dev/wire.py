"""Kafka's protocol on a plain socket, as far as the dev stack speaks it."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from kappaflow.dev.ports import HOST

_MAX_ANSWER_BYTES = 1 << 20


class AnswerError(Exception):
    """What listens there did not answer as a Kafka does, or refused; the text says how."""


@contextmanager
def connected(port: int, *, timeout_s: float) -> Iterator[socket.socket]:
    """A connection to loopback `port`, each step of which may take `timeout_s` seconds.

    In the block, too, what goes wrong with the connection is an AnswerError.
    """
    try:
        with socket.create_connection((HOST, port), timeout=timeout_s) as connection:
            yield connection
    except OSError as error:
        raise AnswerError(f"no answer on {HOST}:{port}: {error}") from error


def exchange(connection: socket.socket, key: int, version: int, correlation: int, body: bytes) -> "Reader":
    """Sends one request and reads its answer, up to behind the correlation id."""
    client = b"kappaflow-dev"
    message = struct.pack(f">hhih{len(client)}s", key, version, correlation, len(client), client) + body
    connection.sendall(struct.pack(">i", len(message)) + message)
    (size,) = struct.unpack(">i", _read_exactly(connection, 4))
    if not 4 <= size <= _MAX_ANSWER_BYTES:
        raise AnswerError(f"an answer of {size} bytes: not a Kafka broker")
    reader = Reader(_read_exactly(connection, size))
    if reader.int32() != correlation:
        raise AnswerError("the answer does not carry our correlation id: not a Kafka broker")
    return reader


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise AnswerError("the connection was closed before the answer was complete")
        data += chunk
    return bytes(data)


def string(text: str) -> bytes:
    """A string as the protocol writes it."""
    data = text.encode()
    return struct.pack(">h", len(data)) + data


class Reader:
    """Reads the protocol's primitive types, and never past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        if size < 0 or self._at + size > len(self._data):
            raise AnswerError("the answer is shorter than it says: not a Kafka broker")
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def int16(self) -> int:
        return int.from_bytes(self._take(2), "big", signed=True)

    def int32(self) -> int:
        return int.from_bytes(self._take(4), "big", signed=True)

    def count(self) -> int:
        return max(0, self.int32())

    def string(self) -> str | None:
        size = self.int16()
        return None if size < 0 else self._take(size).decode("utf-8", "replace")
