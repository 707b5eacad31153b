"""The services in Python: wait, or work, for so long a record."""

import asyncio
import hashlib
import time
from typing import Any

Record = dict[str, Any]
_work = 0.0


def set_up(*, work: float) -> None:
    global _work
    _work = work


def hash_often(times: int) -> None:
    """Work for the processor that holds the interpreter's lock: each hash is of a few bytes."""
    digest = b"x"
    for _ in range(times):
        digest = hashlib.sha256(digest).digest()


async def wait(record: Record) -> Record:
    begun = time.monotonic_ns()
    if _work:
        await asyncio.sleep(_work / 1_000)
    return {"id": record["id"], "begun": begun, "ended": time.monotonic_ns()}


def at_once(record: Record) -> Record:
    """No work: what is left is the way there and back."""
    now = time.monotonic_ns()
    return {"id": record["id"], "begun": now, "ended": now}


def compute(record: Record) -> Record:
    begun = time.monotonic_ns()
    hash_often(int(_work))
    return {"id": record["id"], "begun": begun, "ended": time.monotonic_ns()}
