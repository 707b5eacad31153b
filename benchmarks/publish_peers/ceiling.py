"""The broker's ceiling: record batches made beforehand, sent over one socket with several requests under way."""

import random
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from harness import measured
from kappaflow.dev.wire import AnswerError, Reader, connected, string
from publish_peers.program import Task, main

BATCH_RECORDS = 8_000
IN_FLIGHT = 8
RECORD_BYTES = 120
"""One record as it stands in a batch, its 17-byte identity and the header's name included."""
CODECS = {"plain": 0, "lz4": 3}
_PRODUCE, _VERSION = 0, 8
_DISTINCT = 4
_LZ4_HEAD = (
    b"\x04\x22\x4d\x18\x60\x70\x73"  # magic; independent blocks, of up to 4 MiB; the two bytes' checksum
)
_BATCH_HEAD = struct.Struct(">hiqqqhii")
_WORDS = ("EWR", "JFK", "LGA", "2013", "UA", "DL", "1400", "517", "830", "N14228", "IAH", "-5", "227", "15")


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


def crc32c(data: bytes, table: list[int] = _table()) -> int:  # noqa: B008 - made once
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def varint(number: int) -> bytes:
    """Zigzag, as records write their lengths."""
    number = number << 1 ^ number >> 31
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def record(delta: int, dice: random.Random) -> bytes:
    """A record without a key and with an identity in its header, filled up with words to its size."""
    head = b"\0\0" + varint(delta) + varint(-1)
    identity = (
        varint(1) + varint(5) + b"kf-id" + varint(17) + b"\1" + dice.randbytes(8) + struct.pack(">q", delta)
    )
    room = RECORD_BYTES - len(head) - len(identity) - 4  # two lengths of two bytes each
    value = ",".join(dice.choices(_WORDS, k=room // 2)).encode()[:room]
    body = head + varint(len(value)) + value + identity
    return varint(len(body)) + body


def lz4_frame(data: bytes) -> bytes:
    """One frame of one block of up to 4 MiB. pyarrow's own have blocks that lean on others, which Kafka refuses."""
    block: bytes = pa.compress(data, codec="lz4_raw", asbytes=True)
    return _LZ4_HEAD + struct.pack("<I", len(block)) + block + bytes(4)


def batch(codec: str, seed: int) -> bytes:
    """A record batch of version 2. The broker gives it its offsets, so it may be sent again and again."""
    dice = random.Random(seed)
    records = b"".join(record(delta, dice) for delta in range(BATCH_RECORDS))
    if codec != "plain":
        records = lz4_frame(records)
    now_ms = time.time_ns() // 1_000_000  # old records would be deleted at once
    tail = (
        _BATCH_HEAD.pack(CODECS[codec], BATCH_RECORDS - 1, now_ms, now_ms, -1, -1, -1, BATCH_RECORDS)
        + records
    )
    return struct.pack(">qiibI", 0, len(tail) + 9, -1, 2, crc32c(tail)) + tail


def request(topic: str, partition: int, ready: bytes, correlation: int) -> bytes:
    """A Produce request of one batch, acks=all."""
    body = struct.pack(">hhi", -1, -1, 30_000) + struct.pack(">i", 1) + string(topic)
    body += struct.pack(">iii", 1, partition, len(ready)) + ready
    message = struct.pack(">hhi", _PRODUCE, _VERSION, correlation) + string("kappaflow-bench") + body
    return struct.pack(">i", len(message)) + message


def take_answer(connection: socket.socket, topic: str) -> None:
    """Reads one answer and looks at its error code."""
    (size,) = struct.unpack(">i", _exactly(connection, 4))
    answer = Reader(_exactly(connection, size))
    answer.int32()
    answer.count(), answer.string(), answer.count()
    partition, error = answer.int32(), answer.int16()
    if error != 0:
        raise AnswerError(f"{topic}[{partition}] refused a batch with error code {error}")


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += connection.recv(size - len(data)) or _closed()
    return bytes(data)


def _closed() -> bytes:
    raise AnswerError("the connection was closed before the answer was complete")


def sending(task: Task, connection: socket.socket, codec: str) -> Callable[[], int]:
    """Prepares every request, and gives what sends them: at least the task's rows, in whole batches."""
    topic = f"{task.topic}-{codec}"
    ready = [batch(codec, seed) for seed in range(_DISTINCT)]
    count = -(-task.rows // BATCH_RECORDS)
    requests = [request(topic, n % task.partitions, ready[n % _DISTINCT], n) for n in range(count)]

    def send() -> int:
        for number, one in enumerate(requests):
            if number >= IN_FLIGHT:
                take_answer(connection, topic)
            connection.sendall(one)
        for _ in range(min(IN_FLIGHT, count)):
            take_answer(connection, topic)
        return count * BATCH_RECORDS

    return send


def publish(task: Task) -> dict[str, Any]:
    """The figures by codec; a topic each, `TOPIC-plain` and `TOPIC-lz4`."""
    found: dict[str, Any] = {}
    for codec in CODECS:
        with connected(int(task.bootstrap.rpartition(":")[2]), timeout_s=60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found[codec] = {**measured(sending(task, connection, codec)), "record_bytes": RECORD_BYTES}
    return found


if __name__ == "__main__":
    main(publish)
