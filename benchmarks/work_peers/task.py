"""What a contender is given, and how it says that it is done."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Task:
    """Records of a topic are to be worked on, and answered to another."""

    bootstrap: str
    ingress: str
    egress: str
    rows: int
    work: float
    """Of a record: milliseconds to wait, or, where `cpu`, hashes to make."""
    concurrency: int
    """Records at once, at most."""
    by_key: bool
    url: str = ""
    """The service to call. Empty: the work is done in the process."""
    cpu: bool = False
    python: str = ""
    """A Python that has the peers."""
    scratch: str = ""

    def text(self) -> str:
        return json.dumps(asdict(self))


def main(work: Callable[[Task], None]) -> None:
    """A program's whole main: its task is its argument."""
    work(Task(**json.loads(sys.argv[1])))
