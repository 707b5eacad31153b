"""What runs in an executor: a task's split is handed to the native core."""

import json
import socket
from collections.abc import Iterator, Sequence
from typing import Any


def publish_splits(
    orders: Sequence[str], pieces: Sequence[tuple[int, str]], batches: Iterator[Any]
) -> Iterator[Any]:
    """Publish the splits whose numbers are in `batches`, one a task, and say what this attempt has done."""
    # In the worker, after its fork: the core's threads live in the process that made them.
    import pyarrow as pa
    from pyspark import TaskContext

    from kappaflow import _native

    schema = pa.schema([("split", pa.int32()), ("rows", pa.int64()), ("acknowledged", pa.int64())])
    task = TaskContext.get()
    host = socket.gethostname()
    if task is not None:
        host += f", Spark task {task.taskAttemptId()} (try {task.attemptNumber() + 1})"
    for batch in batches:
        for at in batch.column(0).to_pylist():
            order, piece = pieces[at]
            attempted = json.loads(_native.publish_split(orders[order], piece, host))
            yield pa.RecordBatch.from_pylist([attempted], schema=schema)
