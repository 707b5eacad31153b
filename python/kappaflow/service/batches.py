"""Callables that take a batch: an Arrow batch in, an Arrow batch out."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

from kappaflow.service import answers


@dataclass(frozen=True)
class Answers:
    """Answers that are not one a record: `of[i]` is the number of the record that row i of `batch` answers.

    Numbers ascend; a record may have several answers, and one that has none is filtered.
    """

    batch: pa.RecordBatch
    of: list[int]


def counted(found: Any, records: int, schema: pa.Schema) -> tuple[list[int], pa.RecordBatch]:
    """How many answers each record has, and the answers by the schema. `MisfitError` if they don't fit it."""
    if found is None:
        return [0] * records, pa.RecordBatch.from_pylist([], schema=schema)
    batch, of = (found.batch, found.of) if isinstance(found, Answers) else (found, None)
    if isinstance(batch, pa.Table):
        batch = batch.combine_chunks().to_batches(max_chunksize=None)
        batch = batch[0] if batch else pa.RecordBatch.from_pylist([], schema=schema)
    if not isinstance(batch, pa.RecordBatch):
        kind = type(found).__name__
        raise answers.MisfitError(
            f"the answer is a {kind}: expected a pyarrow.RecordBatch, or kappaflow.service.Answers"
        )
    if of is None:
        if batch.num_rows != records:
            raise answers.MisfitError(
                f"{batch.num_rows} answers to {records} records: say which answers which by kappaflow.service.Answers"
            )
        return [1] * records, fitted(batch, schema)
    numbers = list(of)
    ascending = all(a <= b for a, b in pairwise(numbers))
    if len(numbers) != batch.num_rows or not ascending or any(not 0 <= n < records for n in numbers):
        raise answers.MisfitError(
            f"`of` has {len(numbers)} numbers for {batch.num_rows} answers, or not ascending ones"
        )
    counts = [0] * records
    for number in numbers:
        counts[number] += 1
    return counts, fitted(batch, schema)


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch by the schema; columns that it hasn't are null. `MisfitError` names the column."""
    extra = next((name for name in batch.schema.names if name not in schema.names), None)
    if extra is not None:
        raise answers.MisfitError(f"field {extra!r} is not in the schema")
    columns = []
    for field in schema:
        place = batch.schema.get_field_index(field.name)
        if place < 0:
            columns.append(pa.nulls(batch.num_rows, field.type))
            continue
        try:
            columns.append(batch.column(place).cast(field.type))
        except (pa.ArrowException, ValueError) as error:
            raise answers.MisfitError(f"field {field.name}: {' '.join(str(error).split())}") from error
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * batch.num_rows, pa.struct([])))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
