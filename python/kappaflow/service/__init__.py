"""What a Python service sees of KappaFlow: `context()`, the record that is being worked on.

One that takes batches sees `contexts()`, and may answer with `Answers`.

A service needs nothing of this. One that writes, charges or mails uses `context().idempotency_key` so that a record
done twice acts once. The processes that run services are `python -m kappaflow.service`, started by the worker.
"""

from typing import TYPE_CHECKING, Any

from kappaflow.service.calls import Call, context, contexts

if TYPE_CHECKING:
    from kappaflow.service.batches import Answers

__all__ = ["Answers", "Call", "context", "contexts"]


def __getattr__(name: str) -> Any:
    if name == "Answers":
        # Only who uses it needs pyarrow at import.
        from kappaflow.service.batches import Answers

        return Answers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
