"""From what a callable returns or raises to verdicts and answers."""

import dataclasses
import traceback
from collections import Counter
from typing import Any, NamedTuple

import pyarrow as pa

from kappaflow.service import answers
from kappaflow.service.protocol import DEAD_LETTER, HELD, RETRY

MESSAGE_CHARACTERS = 500
SHOWN_TRACEBACKS = 5
"""Tracebacks printed to the log for each unexpected exception class."""


class Outcome(NamedTuple):
    """What one call came to: `n` as in the protocol; reason and detail unless it was answered."""

    n: int
    rows: list[dict[str, Any]]
    reason: str = ""
    detail: str = ""


NOT_CALLED = Outcome(HELD, [])


class Judge:
    """What an answer is, and what an exception means."""

    def __init__(self, verdicts: dict[type[BaseException], str], schema: pa.Schema, schema_name: str) -> None:
        self._verdicts = verdicts
        self._schema = schema
        self._schema_name = schema_name
        self._shown: Counter[str] = Counter()

    def answered(self, answer: Any) -> Outcome:
        if isinstance(answer, dict):
            return Outcome(1, [answer])
        if answer is None:
            return Outcome(0, [], "NoAnswer")
        children = [_plain(child) for child in (answer if isinstance(answer, list | tuple) else [answer])]
        rows = [child for child in children if child is not None]
        if len(rows) == len(children):
            return Outcome(len(rows), rows, "" if rows else "NoChildren")
        expected = "a dict, a dataclass instance or a model, a list of them, or None"
        return Outcome(
            DEAD_LETTER, [], "AnswerMisfit", f"the answer is a {type(answer).__name__}: expected {expected}"
        )

    def raised(self, error: BaseException) -> Outcome:
        name, message = type(error).__name__, " ".join(str(error).split())[:MESSAGE_CHARACTERS]
        for kind in type(error).__mro__:
            verdict = self._verdicts.get(kind)
            if verdict is not None:
                return Outcome(
                    {"filtered": 0, "dead_letter": DEAD_LETTER}.get(verdict, RETRY), [], name, message
                )
        self._shown[name] += 1
        if self._shown[name] <= SHOWN_TRACEBACKS:
            traceback.print_exception(error)
        return Outcome(RETRY, [], name, message)

    def pack(self, outcomes: list[Outcome]) -> tuple[dict[str, Any], memoryview]:
        """`n` and `why` of an answers frame, and its body."""
        try:
            batch = answers.batch([row for o in outcomes for row in o.rows], self._schema)
        except answers.MisfitError:
            # Somebody's answer doesn't fit: find out whose, so that only it is refused.
            outcomes = [self._fitting(o) for o in outcomes]
            batch = answers.batch([row for o in outcomes for row in o.rows], self._schema)
        return head_of(outcomes), answers.stream(batch)

    def _fitting(self, outcome: Outcome) -> Outcome:
        try:
            answers.batch(outcome.rows, self._schema)
        except answers.MisfitError as error:
            return self.misfit(error)
        return outcome

    def misfit(self, error: answers.MisfitError) -> Outcome:
        detail = f"the answer does not fit {self._schema_name}: {error}"[:MESSAGE_CHARACTERS]
        return Outcome(DEAD_LETTER, [], "AnswerMisfit", detail)


def head_of(outcomes: list[Outcome]) -> dict[str, Any]:
    why = {str(place): [o.reason, o.detail] for place, o in enumerate(outcomes) if o.n <= 0}
    return {"n": [o.n for o in outcomes], "why": why}


def _plain(answer: Any) -> dict[str, Any] | None:
    """An answer as a dict, if it can be one."""
    if isinstance(answer, dict):
        return answer
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        return dataclasses.asdict(answer)
    dump = getattr(answer, "model_dump", None)
    found = dump() if callable(dump) and not isinstance(answer, type) else None
    return found if isinstance(found, dict) else None
