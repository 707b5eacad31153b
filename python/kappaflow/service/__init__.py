"""What a Python service sees of KappaFlow: `context()`, the record that is being worked on.

A service needs nothing of this. One that writes, charges or mails uses `context().idempotency_key` so that a record
done twice acts once. The processes that run services are `python -m kappaflow.service`, started by the worker.
"""

from kappaflow.service.calls import Call, context

__all__ = ["Call", "context"]
