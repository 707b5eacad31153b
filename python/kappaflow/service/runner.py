"""A service process: start, then batches of records in, answers out, until the worker is gone."""

import asyncio
import inspect
import mmap
import os
import select
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from kappaflow.service import answers, at_once, batches, loading, shapes
from kappaflow.service.calls import CURRENT, CURRENT_BATCH, CallOf
from kappaflow.service.outcomes import NOT_CALLED, Judge, Outcome, head_of
from kappaflow.service.protocol import MARK_BYTES, RETRY, VERSION, Connection


class Runner:
    """The callable of one process, with what is needed to call it."""

    def __init__(self, start: dict[str, Any], schema: pa.Schema) -> None:
        path = [str(Path(p)) for p in start["python_path"]]
        sys.path[:0] = path
        self._job: str = start["job"]
        self._as_of: str | None = start.get("as_of")
        self._schema = schema
        self._call = loading.load_callable(start["callable"], "service.callable", path)
        self._judge = Judge(loading.load_verdicts(start["verdicts"], path), schema, start["answer_schema"])
        self._deadline_seconds: float = start["deadline_ms"] / 1000
        self._mark = Mark(start["mark"])
        self._batches = shapes.takes_batches(self._call)
        self._read = shapes.reader(self._call)
        self.loop: asyncio.Runner | None = None
        called = self._call if inspect.isroutine(self._call) else type(self._call).__call__
        self.at_once = inspect.iscoroutinefunction(called)
        if self.at_once and self._batches:
            name = start["callable"]
            reason = (
                f'service.callable = "{name}" is a coroutine function that takes a batch: make it a plain one'
            )
            raise loading.StartError("import", reason)
        if self.at_once:
            self.loop = asyncio.Runner()
        if start["warm_up"]:
            warm_up = loading.load_callable(start["warm_up"], "service.warm_up", path)
            try:
                found = warm_up(**start["options"])
                if inspect.isawaitable(found):
                    self.loop = self.loop or asyncio.Runner()
                    self.loop.run(_wait(found))
            except BaseException as error:
                reason = f'service.warm_up = "{start["warm_up"]}" raised {loading.describe(error)}'
                raise loading.StartError("warm_up", reason, loading.last_lines(error)) from error

    def run(self, head: dict[str, Any], records: pa.RecordBatch) -> tuple[dict[str, Any], memoryview]:
        """The head and the body of the answer to one batch."""
        calls = self.calls(head, records)
        self._mark.batch(head["id"])
        if self._batches:
            found = self._whole(records, calls)
            if found is not None:
                return {"type": "answers", "id": head["id"], **found[0]}, found[1]
            arguments: Sequence[Any] = [records.slice(row, 1) for row in range(records.num_rows)]
            one = self._one_of_batch
        else:
            arguments = records.to_pylist()
            one = self._one
        lanes = head.get("lane") or [None] * len(calls)
        blocked: set[int] = set()
        outcomes = []
        for row, (argument, call, lane) in enumerate(zip(arguments, calls, lanes, strict=True)):
            if lane in blocked:
                outcomes.append(NOT_CALLED)
                continue
            self._mark.row(row)
            outcome = one(argument, call)
            if outcome.n == RETRY and lane is not None:
                blocked.add(lane)
            outcomes.append(outcome)
        self._mark.row(len(calls))
        found_head, body = self._judge.pack(outcomes)
        return {"type": "answers", "id": head["id"], **found_head}, body

    def calls(self, head: dict[str, Any], records: pa.RecordBatch) -> list[CallOf]:
        as_of = [None] * records.num_rows if self._as_of is None else records[self._as_of].to_pylist()
        traces = head.get("traceparent") or [None] * records.num_rows
        rows = zip(head["split"], head["seq"], head["attempt"], as_of, traces, strict=True)
        return [(self._job, *row) for row in rows]

    def _one(self, record: dict[str, Any], call: CallOf) -> Outcome:
        CURRENT.set(call)
        try:
            return self._judge.answered(self._call(record if self._read is None else self._read(record)))
        except BaseException as error:
            return self._judge.raised(error)

    def _whole(
        self, records: pa.RecordBatch, calls: list[CallOf]
    ) -> tuple[dict[str, Any], memoryview] | None:
        """The answers to a batch; None if one of its records is in the way, so that each is called by itself."""
        self._mark.row(0)
        CURRENT_BATCH.set(calls)
        try:
            counts, batch = batches.counted(self._call(records), records.num_rows, self._schema)
        except BaseException as error:
            if records.num_rows == 1:
                return self._judge.pack([self._judged(error)])
            return None
        self._mark.row(records.num_rows)
        head = head_of([Outcome(n, [], "" if n else "NoAnswer") for n in counts])
        return head, answers.stream(batch)

    def _one_of_batch(self, record: pa.RecordBatch, call: CallOf) -> Outcome:
        CURRENT_BATCH.set([call])
        try:
            counts, batch = batches.counted(self._call(record), 1, self._schema)
        except BaseException as error:
            return self._judged(error)
        return Outcome(counts[0], batch.to_pylist(), "" if counts[0] else "NoAnswer")

    def _judged(self, error: BaseException) -> Outcome:
        if isinstance(error, answers.MisfitError):
            return self._judge.misfit(error)
        return self._judge.raised(error)

    def serve_at_once(self, connection: Connection) -> None:
        """Until the worker closes the socket."""
        assert self.loop is not None
        service = at_once.AtOnce(
            self._call, self._read, self.calls, self._judge, self._mark, self._deadline_seconds
        )
        self.loop.run(service.serve(connection.sock))


class Mark:
    """What this process is doing, where its worker can see it even after its death."""

    def __init__(self, path: str) -> None:
        with Path(path).open("r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), MARK_BYTES)).cast("Q")
        self._count = 0

    def batch(self, number: int) -> None:
        self._words[0] = number

    def row(self, row: int) -> None:
        self._words[1] = row
        self.alive()

    def alive(self) -> None:
        self._count += 1
        self._words[2] = self._count


async def _wait(found: Awaitable[Any]) -> Any:
    return await found


def watch(fd: int, leave: Callable[[int], None] = os._exit) -> threading.Thread:
    """Ends this process as soon as the worker is gone, even in the middle of a call."""

    def wait() -> None:
        poll = select.poll()
        # A worker that only has no more to send is not gone.
        poll.register(fd, select.POLLHUP)
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
    watch(connection.sock.fileno())
    try:
        runner = Runner(start, pa.ipc.read_schema(pa.py_buffer(schema)))
    except loading.StartError as error:
        connection.send({"type": "failed", "step": error.step, "reason": error.reason, "lines": error.lines})
        return 1
    connection.send({"type": "ready", "at_once": runner.at_once})
    if runner.at_once:
        runner.serve_at_once(connection)
        return 0
    while (frame := connection.receive()) is not None:
        head, body = frame
        connection.send(*runner.run(head, answers.unstream(body)))
    return 0
