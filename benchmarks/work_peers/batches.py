"""The service in Python that takes and gives Arrow batches, and has no work."""

import time

import pyarrow as pa


def batch(records: pa.RecordBatch) -> pa.RecordBatch:
    now = pa.array([time.monotonic_ns()] * records.num_rows, pa.int64())
    return pa.record_batch({"id": records.column("id"), "begun": now, "ended": now})
