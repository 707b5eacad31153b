"""The record a callable is being called with, for the callable itself."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the service: which source row it is for."""

    job: str
    """16 hex digits."""
    split: int
    seq: int
    attempt: int
    """1 for the first try of this row by this worker, then 2, 3, …"""

    @property
    def idempotency_key(self) -> str:
        """`job/split/seq`: the same for every try at this row, by any worker."""
        return f"{self.job}/{self.split}/{self.seq}"


# A plain tuple, set before every call: a `Call` is made only when somebody asks.
CURRENT: ContextVar[tuple[str, int, int, int] | None] = ContextVar("kappaflow_call", default=None)


def context() -> Call:
    """The record the service is being called with. `LookupError` outside of a call (for instance in the warm-up)."""
    current = CURRENT.get()
    if current is None:
        raise LookupError("kappaflow.service.context() works only inside a call of the service by a worker")
    return Call(*current)
