"""The ledger report for people: a failure names the rows."""

from kappaflow.errors import UnexplainedError
from kappaflow.types import Summary


def check_ledger(report: Summary) -> None:
    """Raise `UnexplainedError`, naming rows, if a `reconcile` report left any without a fate or found any doubled."""
    if not report["explained"]:
        raise UnexplainedError(report["problem"])
