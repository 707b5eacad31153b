"""Grants rights in a cluster, by one request of the Kafka protocol."""

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from kappaflow.dev import wire
from kappaflow.dev.wire import AnswerError

_CREATE_ACLS, _VERSION = 30, 1
_LITERAL, _ALLOW = 3, 3


class Resource(enum.IntEnum):
    """What a right is about, with the protocol's numbers."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4


class Operation(enum.IntEnum):
    """What a right lets one do, with the protocol's numbers."""

    READ = 3
    DESCRIBE = 8


@dataclass(frozen=True)
class Acl:
    """The right of a user, from any host, to an operation on the resource of this name (`*`: on all)."""

    user: str
    resource: Resource
    name: str
    operation: Operation


def grant(port: int, acls: Sequence[Acl]) -> None:
    """Grants the rights, by the broker on loopback `port`; those that are there stay. AnswerError if it refuses."""
    body = struct.pack(">i", len(acls)) + b"".join(_encoded(acl) for acl in acls)
    with wire.connected(port, timeout_s=10.0) as connection:
        answer = wire.exchange(connection, _CREATE_ACLS, _VERSION, 1, body)
    answer.int32()  # how long the broker throttled us
    for acl, _ in zip(acls, range(answer.count()), strict=True):
        code, message = answer.int16(), answer.string()
        if code != 0:
            raise AnswerError(f"the right {acl} was refused with error code {code}: {message}")


def _encoded(acl: Acl) -> bytes:
    return b"".join(
        (
            struct.pack(">b", acl.resource),
            wire.string(acl.name),
            struct.pack(">b", _LITERAL),
            wire.string(f"User:{acl.user}"),
            wire.string("*"),
            struct.pack(">bb", acl.operation, _ALLOW),
        )
    )
