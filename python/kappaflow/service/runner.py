"""A service process: start, then batches of records in, answers out, until the worker is gone."""

import asyncio
import inspect
import mmap
import os
import select
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from kappaflow.service import answers, loading
from kappaflow.service.calls import CURRENT
from kappaflow.service.protocol import DEAD_LETTER, MARK_BYTES, RETRY, VERSION, Connection

MESSAGE_CHARACTERS = 500
SHOWN_TRACEBACKS = 5
"""Tracebacks printed to the log for each unexpected exception class."""


class Outcome(NamedTuple):
    """What one call came to: `n` as in the protocol; reason and detail unless it was answered."""

    n: int
    rows: list[dict[str, Any]]
    reason: str = ""
    detail: str = ""


class Runner:
    """The callable of one process, with what is needed to call it."""

    def __init__(self, start: dict[str, Any], schema: pa.Schema) -> None:
        path = [str(Path(p)) for p in start["python_path"]]
        sys.path[:0] = path
        self._job: str = start["job"]
        self._schema = schema
        self._schema_name: str = start["answer_schema"]
        self._call = loading.load_callable(start["callable"], "service.callable", path)
        self._verdicts = loading.load_verdicts(start["verdicts"], path)
        self._deadline_seconds: float = start["deadline_ms"] / 1000
        self._shown: Counter[str] = Counter()
        self._mark = _map_mark(start["mark"])
        self._calls = 0
        self._loop: asyncio.Runner | None = None
        called = self._call if inspect.isroutine(self._call) else type(self._call).__call__
        if inspect.iscoroutinefunction(called):
            self._loop = asyncio.Runner()
        if start["warm_up"]:
            warm_up = loading.load_callable(start["warm_up"], "service.warm_up", path)
            try:
                found = warm_up(**start["options"])
                if inspect.isawaitable(found):
                    self._loop = self._loop or asyncio.Runner()
                    self._loop.run(_wait(found))
            except BaseException as error:
                reason = f'service.warm_up = "{start["warm_up"]}" raised {loading.describe(error)}'
                raise loading.StartError("warm_up", reason, loading.last_lines(error)) from error

    def run(self, head: dict[str, Any], records: list[dict[str, Any]]) -> tuple[dict[str, Any], memoryview]:
        """The head and the body of the answer to one batch."""
        calls = [
            (self._job, split, seq, attempt)
            for split, seq, attempt in zip(head["split"], head["seq"], head["attempt"], strict=True)
        ]
        self._mark[0] = head["id"]
        if self._loop is not None:
            outcomes = self._loop.run(self._together(records, calls))
        else:
            outcomes = [
                self._one(row, record, call)
                for row, (record, call) in enumerate(zip(records, calls, strict=True))
            ]
        self._begin(len(records))
        outcomes, body = self._pack(outcomes)
        why = {str(row): [o.reason, o.detail] for row, o in enumerate(outcomes) if o.n <= 0}
        return {"type": "answers", "id": head["id"], "n": [o.n for o in outcomes], "why": why}, body

    def _begin(self, row: int) -> None:
        self._calls += 1
        self._mark[1] = row
        self._mark[2] = self._calls

    def _one(self, row: int, record: dict[str, Any], call: tuple[str, int, int, int]) -> Outcome:
        self._begin(row)
        CURRENT.set(call)
        try:
            return _answer(self._call(record))
        except BaseException as error:
            return self._raised(error)

    async def _together(
        self, records: list[dict[str, Any]], calls: list[tuple[str, int, int, int]]
    ) -> list[Outcome]:
        async def one(row: int, record: dict[str, Any], call: tuple[str, int, int, int]) -> Outcome:
            self._begin(row)
            CURRENT.set(call)
            limit = asyncio.timeout(self._deadline_seconds)
            try:
                async with limit:
                    return _answer(await self._call(record))
            except BaseException as error:
                if limit.expired():
                    return Outcome(RETRY, [], "Deadline", f"no answer within {self._deadline_seconds:g} s")
                return self._raised(error)

        return await asyncio.gather(
            *(one(*each) for each in zip(range(len(records)), records, calls, strict=True))
        )

    def _raised(self, error: BaseException) -> Outcome:
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

    def _pack(self, outcomes: list[Outcome]) -> tuple[list[Outcome], memoryview]:
        try:
            batch = answers.batch([row for o in outcomes for row in o.rows], self._schema)
        except answers.MisfitError:
            # Somebody's answer doesn't fit: find out whose, so that only it is refused.
            outcomes = [self._fitting(o) for o in outcomes]
            batch = answers.batch([row for o in outcomes for row in o.rows], self._schema)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema) as writer:
            writer.write_batch(batch)
        return outcomes, memoryview(sink.getvalue())

    def _fitting(self, outcome: Outcome) -> Outcome:
        try:
            answers.batch(outcome.rows, self._schema)
        except answers.MisfitError as error:
            detail = f"the answer does not fit {self._schema_name}: {error}"[:MESSAGE_CHARACTERS]
            return Outcome(DEAD_LETTER, [], "AnswerMisfit", detail)
        return outcome


def _answer(answer: Any) -> Outcome:
    if isinstance(answer, dict):
        return Outcome(1, [answer])
    if answer is None:
        return Outcome(0, [], "NoAnswer")
    if isinstance(answer, list | tuple) and all(isinstance(child, dict) for child in answer):
        return Outcome(len(answer), list(answer), "" if answer else "NoChildren")
    detail = f"the answer is a {type(answer).__name__}: expected a dict, a list of dicts, or None"
    return Outcome(DEAD_LETTER, [], "AnswerMisfit", detail)


async def _wait(found: Awaitable[Any]) -> Any:
    return await found


def _map_mark(path: str) -> memoryview:
    with Path(path).open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), MARK_BYTES)).cast("Q")


def watch(fd: int, leave: Callable[[int], None] = os._exit) -> threading.Thread:
    """Ends this process as soon as the worker is gone, even in the middle of a call."""

    def wait() -> None:
        poll = select.poll()
        poll.register(fd, getattr(select, "POLLRDHUP", 0) | select.POLLHUP)
        poll.poll()
        leave(0)

    thread = threading.Thread(target=wait, name="kappaflow-worker-watch", daemon=True)
    thread.start()
    return thread


def serve(connection: Connection) -> int:
    """Speaks the protocol until the worker closes the socket. Returns the process's exit code."""
    connection.send({"type": "hello", "protocol": VERSION, "pid": os.getpid()})
    first = connection.receive()
    if first is None:
        return 0
    start, schema = first
    if start.get("type") != "start" or start.get("protocol") != VERSION:
        spoken = start.get("protocol")
        reason = f"the worker speaks protocol {spoken}, this kappaflow {VERSION}: install the same versions"
        connection.send({"type": "failed", "step": "hello", "reason": reason, "lines": []})
        return 1
    watch(connection.fileno())
    try:
        runner = Runner(start, pa.ipc.read_schema(pa.py_buffer(schema)))
    except loading.StartError as error:
        connection.send({"type": "failed", "step": error.step, "reason": error.reason, "lines": error.lines})
        return 1
    connection.send({"type": "ready"})
    while (frame := connection.receive()) is not None:
        head, body = frame
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            records = reader.read_all().to_pylist()
        connection.send(*runner.run(head, records))
    return 0
