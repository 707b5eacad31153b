"""The record a callable is being called with, for the callable itself."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the service: which source row it is for."""

    job: str
    """16 hex digits."""
    split: int
    seq: int
    attempt: int
    """1 for the first try of this row by this worker, then 2, 3, …"""
    as_of: Any = None
    """As of when the record is meant: the value of its field `service.as_of`, if the job names one."""
    traceparent: str | None = None
    """The ingress record's header of this name (W3C Trace Context), if it has one."""

    @property
    def idempotency_key(self) -> str:
        """`job/split/seq`: the same for every try at this row, by any worker."""
        return f"{self.job}/{self.split}/{self.seq}"


CallOf = tuple[str, int, int, int, Any, str | None]

# A plain tuple, set before every call: a `Call` is made only when somebody asks.
CURRENT: ContextVar[CallOf | None] = ContextVar("kappaflow_call", default=None)


# Of the batch that a callable of batches is being called with.
CURRENT_BATCH: ContextVar[list[CallOf] | None] = ContextVar("kappaflow_calls", default=None)


def context() -> Call:
    """The record the service is being called with. `LookupError` outside of a call (for instance in the warm-up)."""
    current = CURRENT.get()
    if current is None:
        raise LookupError("kappaflow.service.context() works only inside a call of the service by a worker")
    return Call(*current)


def contexts() -> list[Call]:
    """The records of the batch the service is being called with, by row. `LookupError` outside of such a call."""
    current = CURRENT_BATCH.get()
    if current is None:
        raise LookupError("kappaflow.service.contexts() works only inside a call with a batch by a worker")
    return [Call(*call) for call in current]
