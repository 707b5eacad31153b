"""What runs in an executor: a task's piece of work is handed to the native core."""

import json
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kappaflow.errors import KappaFlowError

if TYPE_CHECKING:
    from pyspark import Accumulator

# Kinds of errors that another attempt may not meet.
PASSING = frozenset({"kafka", "registry", "io", "table", "interrupted", "internal"})


def publish_splits(
    orders: Sequence[str], pieces: Sequence[tuple[int, str]], batches: Iterable[Any]
) -> Iterator[Any]:
    """Publish the splits whose numbers are in `batches`, one a task, and say what this attempt has done."""
    # In the worker, after its fork: the core's threads live in the process that made them.
    import pyarrow as pa

    from kappaflow import _native

    schema = pa.schema([("split", pa.int32()), ("rows", pa.int64()), ("acknowledged", pa.int64())])
    host = _host()
    for batch in batches:
        for at in batch.column(0).to_pylist():
            order, piece = pieces[at]
            attempted = json.loads(_native.publish_split(orders[order], piece, host))
            yield pa.RecordBatch.from_pylist([attempted], schema=schema)


def land_ranges(
    orders: Sequence[str],
    pieces: Sequence[tuple[int, str]],
    read: "Accumulator[int] | None",
    batches: Iterable[Any],
) -> Iterator[Any]:
    """Land the partitions whose numbers are in `batches`, one a task, and say what is to be committed.

    What another attempt would meet again is told; what it may not meet is raised, for Spark to try again.
    """
    import pyarrow as pa

    from kappaflow import _native

    schema = pa.schema(
        [("piece", pa.int32()), *((name, pa.string()) for name in ("landed", "kind", "message"))]
    )
    host = _host()
    for batch in batches:
        for at in batch.column(0).to_pylist():
            order, piece = pieces[at]
            answer = {"piece": at}
            try:
                answer["landed"] = _native.land_range(orders[order], piece, host)
            except KappaFlowError as error:
                if error.kind in PASSING:
                    raise
                answer |= {"kind": error.kind, "message": str(error)}
            else:
                if read is not None:
                    read.add(json.loads(answer["landed"])["landing"]["records"])
            yield pa.RecordBatch.from_pylist([answer], schema=schema)


def _host() -> str:
    """Where this is, for people."""
    from pyspark import TaskContext

    task = TaskContext.get()
    host = socket.gethostname()
    if task is not None:
        host += f", Spark task {task.taskAttemptId()} (try {task.attemptNumber() + 1})"
    return host
