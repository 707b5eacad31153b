"""The ledger report for people: a failure names the rows."""

from kappaflow.errors import UnexplainedError
from kappaflow.types import Summary


def check_ledger(report: Summary) -> None:
    """Raise `UnexplainedError` naming rows if a `reconcile` report left any without a fate, or found any doubled."""
    if report["explained"]:
        return
    lines = [
        f"{report['missing']} of {report['expected']} rows are missing and "
        f"{report['duplicated']} are doubled in the table"
    ]
    lines += [
        f"  {example['fate']}: split {example['split']} seq {example['seq']} "
        f"({example['file']} row {example['row']})"
        for example in report["examples"]
    ]
    lines += [f"  {note}" for note in report["notes"]]
    raise UnexplainedError("\n".join(lines))
