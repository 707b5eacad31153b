"""The errors of KappaFlow as Airflow's: some are worth another try, the others fail the task at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

# Trying again cannot help: somebody has to change the job file, the data, the schema, the rules or the DAG first.
FAIL_FAST = frozenset(
    {
        "job_file",
        "source_changed",
        "schema",
        "plan",
        "incompatible",
        "registry_settings",
        "not_a_registry",
        "registry_denied",
        "registry_not_found",
        "registry_refused",
        "registry_unusable",
        "too_many_rejects",
        "not_ready",
        "cancelled",
        "unexplained",
        "metric",
        "forked",
    }
)


class KappaFlowRetriable(AirflowException):
    """A stage failed in a way that may pass (a broker, a registry, the store): Airflow may retry the task.

    Retrying is safe: what was done is kept, and the stage goes on from there.
    """

    def __init__(self, message: str, kind: str = "error") -> None:
        super().__init__(message)
        self.kind = kind


class KappaFlowFailed(AirflowFailException):
    """A stage failed in a way that no retry mends: the task fails now, whatever its `retries`."""

    def __init__(self, message: str, kind: str = "error") -> None:
        super().__init__(message)
        self.kind = kind


class KappaFlowStopped(KappaFlowRetriable):
    """Airflow ended the task (marked failed, cleared, or its worker is shutting down)."""


def of_kind(kind: str, message: str) -> KappaFlowRetriable | KappaFlowFailed:
    """The Airflow exception for an error of a kind (`KappaFlowError.kind`), with its message."""
    return KappaFlowFailed(message, kind) if kind in FAIL_FAST else KappaFlowRetriable(message, kind)


@contextmanager
def as_airflow_errors() -> Iterator[None]:
    """Turns errors of KappaFlow within the block into Airflow's, keeping their text."""
    from kappaflow.errors import KappaFlowError

    try:
        yield
    except KappaFlowError as error:
        raise of_kind(error.kind, str(error)) from error
