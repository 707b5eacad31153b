"""Arrow to and from Avro messages, without Kafka: the same plan, gate, encoder and decoder that a job uses.

    encoder = Encoder(frame, schema, schema_id=7)    # the plan is made here, and refused here
    encoded = encoder.encode(frame)
    encoded.messages                                 # one framed message a row that passed
    encoded.rejects                                  # a column, a value and a reason for each row that didn't

    decoder = Decoder(schema, schema_id=7)
    decoder.extend(encoded.messages)
    decoder.flush()                                  # a pyarrow.RecordBatch

Data is anything with Arrow's `__arrow_c_stream__` or `__arrow_c_array__`: pandas, Polars, pyarrow, DuckDB. No row is
looped over in Python, and the GIL is released meanwhile.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, cast

from kappaflow.errors import SchemaError

if TYPE_CHECKING:
    import pyarrow

FieldDeclarations = Mapping[str, Mapping[str, object]]


class Reject(NamedTuple):
    """A row that can't be what the schema says: its first bad value, in the order of the schema's fields."""

    row: int
    column: str
    value: str
    reason: str


class PlanRow(TypedDict):
    """One line of a plan: a field, where its values come from, and what may be rejected."""

    column: str | None
    field: str
    arrow_type: str
    avro_type: str
    rule: Literal["exact", "checked", "lossy", "default"]
    may_reject: list[str]
    declared: list[str]


@dataclass(frozen=True)
class Encoded:
    """Encoded rows. Message `i` is `buffer[offsets[i]:offsets[i + 1]]`, made of row `rows[i]` of the data."""

    buffer: memoryview
    offsets: memoryview
    rows: memoryview
    rejects: list[Reject]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < len(self.rows):
            raise IndexError(f"message {index} of {len(self.rows)}")
        return bytes(self.buffer[self.offsets[index] : self.offsets[index + 1]])

    @cached_property
    def messages(self) -> "pyarrow.LargeBinaryArray":
        """The messages as an Arrow array, nothing copied."""
        import pyarrow

        parts = [None, pyarrow.py_buffer(self.offsets), pyarrow.py_buffer(self.buffer)]
        array = pyarrow.LargeBinaryArray.from_buffers(pyarrow.large_binary(), len(self.rows), parts)
        return cast("pyarrow.LargeBinaryArray", array)


class Encoder:
    """Encodes batches of one Arrow schema as messages of one Avro schema."""

    def __init__(
        self,
        arrow: object,
        schema: str | PathLike[str],
        *,
        schema_id: int | None = None,
        mode: Literal["checked", "strict"] = "checked",
        extra: Literal["refuse", "ignore"] = "refuse",
        fields: FieldDeclarations | None = None,
    ) -> None:
        """Make the plan.

        `arrow` is an Arrow schema, or data of it; `schema` is the path of an Avro schema or its JSON. With a
        `schema_id` messages are framed as a schema registry's clients do (`0x00` and the id), else they are bare
        datums. `mode`, `extra` (what to do with columns that the schema lacks) and `fields` are those of a job file's
        `[schema]`.

        Raises `SchemaError`, or `PlanError` if the columns can't become the fields.
        """
        from kappaflow import _native

        options = plan_options(mode, extra, fields)
        self._native = _native.AvroEncoder(arrow, schema_text(schema), schema_id, options)

    @property
    def plan(self) -> list[PlanRow]:
        """One row a field, in the schema's order."""
        return cast("list[PlanRow]", json.loads(self._native.plan()))

    def encode(self, data: object) -> Encoded:
        """Encode every row that passes the gate. Raises `EncodeError` if the data is not of the planned schema."""
        buffer, offsets, rows, rejects = self._native.encode(data)
        return Encoded(
            memoryview(buffer),
            memoryview(offsets).cast("Q"),
            memoryview(rows).cast("I"),
            [Reject(*reject) for reject in rejects],
        )


class Decoder:
    """Decodes messages of one Avro schema into Arrow batches. A message that is refused leaves no trace."""

    def __init__(
        self,
        writer: str | PathLike[str],
        *,
        schema_id: int | None = None,
        reader_schema: str | PathLike[str] | None = None,
    ) -> None:
        """Make a decoder for messages written with a schema, given by path or as JSON.

        With a `schema_id` messages must be framed with it, else they are bare datums. The batches are of the
        `reader_schema`, if there is one, by Avro's rules: fields by name or alias, its defaults for those that the
        writer has not, promoted numbers. Raises `SchemaError`, or `DecodeError` for a type that no Arrow column is made
        of, or where what was written can't be read as `reader_schema`, naming each field that doesn't fit.
        """
        from kappaflow import _native

        reader = None if reader_schema is None else schema_text(reader_schema)
        self._native = _native.AvroDecoder(schema_text(writer), schema_id, reader)

    @property
    def schema(self) -> "pyarrow.Schema":
        """The schema of the batches."""
        import pyarrow

        return pyarrow.schema(self._native.schema)

    def __len__(self) -> int:
        """Rows since the last flush."""
        return len(self._native)

    def push(self, message: bytes | bytearray | memoryview) -> None:
        """Decode one message as the next row. Raises `DecodeError`; the rows before it stay."""
        self._native.push(bytes(message))

    def extend(self, messages: object) -> list[tuple[int, str]]:
        """Decode an Arrow array of messages; returns number and reason of each one that was refused."""
        if isinstance(messages, Encoded):
            messages = messages.messages
        return self._native.extend(messages)

    def flush(self) -> "pyarrow.RecordBatch":
        """The rows since the last flush, as one batch; the decoder starts anew."""
        import pyarrow

        batch: Any = self._native.flush()
        return pyarrow.record_batch(batch)


def plan_options(mode: str, extra: str, fields: FieldDeclarations | None) -> str:
    """The options of a plan as the extension module takes them."""
    declared = {name: dict(said) for name, said in (fields or {}).items()}
    return json.dumps({"mode": mode, "extra": extra, "fields": declared})


def schema_text(schema: str | PathLike[str]) -> str:
    """The JSON of a schema that is given as JSON or by path."""
    if isinstance(schema, str) and schema.lstrip().startswith(("{", '"', "[")):
        return schema
    try:
        return Path(schema).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SchemaError(f"can't read the schema {schema}: {error}") from error
