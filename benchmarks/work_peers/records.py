"""The records: an id, a key and some text, in Avro behind the registry's five bytes. Answers name the id, and when work
on it began and ended, by one clock of the machine, in ns."""

import json
import struct

TEXT_BYTES = 60
INGRESS = json.dumps(
    {
        "type": "record",
        "name": "Item",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "k", "type": "int"},
            {"name": "text", "type": "string"},
        ],
    }
)
EGRESS = json.dumps(
    {
        "type": "record",
        "name": "Answer",
        "fields": [{"name": name, "type": "long"} for name in ("id", "begun", "ended")],
    }
)
_ANSWER = struct.Struct(">bqqq")
_OF_A_PEER = 1  # where the registry's framing has a 0
Answer = tuple[int, int, int]


def longs(value: bytes, count: int) -> list[int]:
    """The first fields of a framed Avro datum, if they are longs."""
    found, at = [], 5
    for _ in range(count):
        number = shift = 0
        while True:
            byte = value[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found.append((number >> 1) ^ -(number & 1))
    return found


def answer(record: int, begun: int, ended: int) -> bytes:
    """As peers write it, who need no registry."""
    return _ANSWER.pack(_OF_A_PEER, record, begun, ended)


def read_answer(value: bytes) -> Answer:
    """As a peer or the worker wrote it."""
    if value[0] == _OF_A_PEER:
        _, record, begun, ended = _ANSWER.unpack(value)
    else:
        record, begun, ended = longs(value, 3)
    return record, begun, ended
