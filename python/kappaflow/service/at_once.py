"""A coroutine function: as many records at once as the worker gives, each answered when it is done."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pyarrow as pa

from kappaflow.service import answers
from kappaflow.service.calls import CURRENT, CallOf
from kappaflow.service.outcomes import NOT_CALLED, Judge, Outcome
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


class Chain:
    """Rows of one batch that are called one after the other: those of a lane, or a single one."""

    __slots__ = ("batch", "calls", "late", "place", "records", "rows", "since", "task")

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.rows: list[int] = []
        self.records: list[dict[str, Any]] = []
        self.calls: list[CallOf] = []
        self.place = 0
        """Of the row that is being called."""
        self.since = 0.0
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
        self._open: set[Chain] = set()
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
        lanes = head.get("lane")
        chains: list[Chain] = []
        by_lane: dict[int, Chain] = {}
        for row, record in enumerate(records.to_pylist()):
            lane = None if lanes is None else lanes[row]
            chain = None if lane is None else by_lane.get(lane)
            if chain is None:
                chain = Chain(batch)
                chains.append(chain)
                if lane is not None:
                    by_lane[lane] = chain
            chain.rows.append(row)
            chain.records.append(record)
            chain.calls.append(calls[row])
        for chain in chains:
            self._open.add(chain)
            chain.since = self._loop.time()
            chain.task = self._loop.create_task(self._work(chain))

    async def _work(self, chain: Chain) -> None:
        while chain.place < len(chain.rows):
            outcome = await self._one(chain)
            if chain not in self._open:
                return  # given up meanwhile
            self._finish(chain, outcome)
            if outcome.n == RETRY:
                break
        self._leave(chain)

    async def _one(self, chain: Chain) -> Outcome:
        self._mark.batch(chain.batch)
        self._mark.row(chain.rows[chain.place])
        chain.since = self._loop.time()
        CURRENT.set(chain.calls[chain.place])
        record = chain.records[chain.place]
        try:
            answer = await self._call(record if self._read is None else self._read(record))
        except BaseException as error:
            if chain.late and isinstance(error, asyncio.CancelledError):
                return self._late()
            return self._judge.raised(error)
        return self._judge.answered(answer)

    def _late(self) -> Outcome:
        return Outcome(RETRY, [], "Deadline", f"no answer within {self._deadline_seconds:g} s")

    def _finish(self, chain: Chain, outcome: Outcome) -> None:
        if not self._done:
            # What ends in the same turn of the loop goes in one frame.
            self._loop.call_soon(self._flush)
        self._done.setdefault(chain.batch, []).append((chain.rows[chain.place], outcome))
        chain.place += 1

    def _leave(self, chain: Chain) -> None:
        """What is left of it is not called."""
        while chain.place < len(chain.rows):
            self._finish(chain, NOT_CALLED)
        self._open.discard(chain)

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
            for chain in list(self._open):
                over = now - chain.since - self._deadline_seconds
                if over >= 0 and not chain.late and chain.task is not None:
                    chain.late = True
                    chain.task.cancel()
                elif over >= ABANDON_SECONDS:
                    self._finish(chain, self._late())
                    self._leave(chain)
