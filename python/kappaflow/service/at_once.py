"""A coroutine function: as many records at once as the worker gives, each answered when it is done."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pyarrow as pa

from kappaflow.service import answers
from kappaflow.service.calls import CURRENT, CallOf
from kappaflow.service.outcomes import Judge, Outcome
from kappaflow.service.protocol import RETRY, pack, receive

LOOK_SECONDS = 0.2
"""How often the deadlines are looked at, at most."""
ABANDON_SECONDS = 1.0
"""How long a call that was cancelled may take to end before it is given up."""
FRAME_BYTES = 1 << 20


class Mark(Protocol):
    def batch(self, number: int) -> None: ...
    def row(self, row: int) -> None: ...
    def alive(self) -> None: ...


class UnderWay:
    """A row of a batch that is being called."""

    __slots__ = ("batch", "late", "row", "since", "task")

    def __init__(self, batch: int, row: int, since: float) -> None:
        self.batch = batch
        self.row = row
        self.since = since
        self.late = False
        self.task: asyncio.Task[None] | None = None


class AtOnce:
    """See the module."""

    def __init__(
        self,
        call: Callable[[Any], Coroutine[Any, Any, Any]],
        read: Callable[[dict[str, Any]], Any] | None,
        calls: Callable[[dict[str, Any], pa.RecordBatch], list[CallOf]],
        judge: Judge,
        mark: Mark,
        deadline_seconds: float,
    ) -> None:
        self._call = call
        self._read = read
        self._calls = calls
        self._judge = judge
        self._mark = mark
        self._deadline_seconds = deadline_seconds
        self._open: set[UnderWay] = set()
        self._done: dict[int, list[tuple[int, Outcome]]] = {}
        """By batch, what is done and not sent yet."""

    async def serve(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        reader, self._writer = await asyncio.open_connection(sock=sock, limit=FRAME_BYTES)
        looking = asyncio.create_task(self._look())
        while (frame := await receive(reader)) is not None:
            head, body = frame
            self._begin(head, answers.unstream(body))
        looking.cancel()

    def _begin(self, head: dict[str, Any], records: pa.RecordBatch) -> None:
        batch = head["id"]
        calls = self._calls(head, records)
        for row, (record, call) in enumerate(zip(records.to_pylist(), calls, strict=True)):
            one = UnderWay(batch, row, self._loop.time())
            self._open.add(one)
            one.task = self._loop.create_task(self._work(one, record, call))

    async def _work(self, one: UnderWay, record: dict[str, Any], call: CallOf) -> None:
        outcome = await self._outcome(one, record, call)
        # Else it was given up meanwhile.
        if one in self._open:
            self._finish(one, outcome)

    async def _outcome(self, one: UnderWay, record: dict[str, Any], call: CallOf) -> Outcome:
        self._mark.batch(one.batch)
        self._mark.row(one.row)
        one.since = self._loop.time()
        CURRENT.set(call)
        try:
            answer = await self._call(record if self._read is None else self._read(record))
        except BaseException as error:
            if one.late and isinstance(error, asyncio.CancelledError):
                return self._late()
            return self._judge.raised(error)
        return self._judge.answered(answer)

    def _late(self) -> Outcome:
        return Outcome(RETRY, [], "Deadline", f"no answer within {self._deadline_seconds:g} s")

    def _finish(self, one: UnderWay, outcome: Outcome) -> None:
        self._open.discard(one)
        if not self._done:
            # What ends in the same turn of the loop goes in one frame.
            self._loop.call_soon(self._flush)
        self._done.setdefault(one.batch, []).append((one.row, outcome))

    def _flush(self) -> None:
        done, self._done = self._done, {}
        for batch, found in done.items():
            head, body = self._judge.pack([outcome for _, outcome in found])
            rows = [row for row, _ in found]
            self._writer.write(pack({"type": "answers", "id": batch, "rows": rows, **head}, body))

    async def _look(self) -> None:
        """Cancels what is past its deadline, gives up what does not even end then, shows that this process lives."""
        while True:
            await asyncio.sleep(min(LOOK_SECONDS, self._deadline_seconds / 4))
            self._mark.alive()
            now = self._loop.time()
            for one in list(self._open):
                over = now - one.since - self._deadline_seconds
                if over >= 0 and not one.late and one.task is not None:
                    one.late = True
                    one.task.cancel()
                elif over >= ABANDON_SECONDS:
                    self._finish(one, self._late())
