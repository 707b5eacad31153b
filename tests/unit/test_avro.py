"""Arrow to and from Avro messages in Python, without Kafka."""

import io
import json
import threading
from pathlib import Path
from typing import Any

import fastavro
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from kappaflow.avro import Decoder, Encoder
from kappaflow.errors import DecodeError, EncodeError, FrameError, PlanError, SchemaError

SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "Trip",
        "fields": [
            {"name": "id", "type": "int"},
            {"name": "to", "type": ["null", "string"]},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ],
    }
)
TABLE = pa.table(
    {
        "id": pa.array([1, 2**40, 3], pa.int64()),
        "to": pa.array(["a", None, None]),
        "at": pa.array([0, 1, 2], pa.timestamp("ms", "UTC")),
    }
)


def fast(message: bytes, schema: str = SCHEMA) -> Any:
    return fastavro.schemaless_reader(io.BytesIO(message), fastavro.parse_schema(json.loads(schema)), None)


def test_messages_are_what_fastavro_reads_and_rejects_are_named() -> None:
    encoded = Encoder(TABLE, SCHEMA).encode(TABLE)
    assert len(encoded) == 2
    assert [fast(encoded[i])["id"] for i in range(2)] == [1, 3]
    assert encoded.rows.tolist() == [0, 2]
    assert encoded.messages.to_pylist() == [encoded[0], encoded[1]]
    (reject,) = encoded.rejects
    assert (reject.row, reject.column, reject.value) == (1, "id", str(2**40))
    assert "int" in reject.reason
    with pytest.raises(IndexError):
        encoded[2]


def test_framed_and_back() -> None:
    encoded = Encoder(TABLE.schema, SCHEMA, schema_id=7).encode(TABLE)
    assert encoded[0][:5] == b"\x00\x00\x00\x00\x07"
    decoder = Decoder(SCHEMA, schema_id=7)
    assert decoder.extend(encoded) == []
    assert len(decoder) == 2
    batch = decoder.flush()
    assert batch.to_pylist() == [TABLE.to_pylist()[0], TABLE.to_pylist()[2]]
    assert batch.schema == decoder.schema
    assert len(decoder) == 0


def test_a_refused_message_takes_nothing_with_it() -> None:
    encoded = Encoder(TABLE, SCHEMA, schema_id=7).encode(TABLE)
    whole = encoded[0]
    other = b"\x00\x00\x00\x00\x08" + whole[5:]
    messages = pa.chunked_array([pa.array([whole, whole[:-1], other]), pa.array([b"<html>", None, whole])])
    decoder = Decoder(SCHEMA, schema_id=7)
    refused = decoder.extend(messages)
    assert [number for number, _ in refused] == [1, 2, 3, 4]
    assert decoder.flush().num_rows == 2
    for (_, reason), word in zip(refused, ["ends", "schema 8", "0x3c", "null"], strict=True):
        assert word in reason
    with pytest.raises(DecodeError, match="ends at byte"):
        decoder.push(whole[:-1])
    with pytest.raises(FrameError, match="schema 8"):
        decoder.push(bytearray(other))
    with pytest.raises(FrameError, match="too short"):
        decoder.push(b"\x00")
    with pytest.raises(DecodeError, match="array of bytes"):
        decoder.extend(pa.array([1, 2]))
    assert len(decoder) == 0


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_every_array_of_bytes_is_read(kind: pa.DataType) -> None:
    encoded = Encoder(TABLE, SCHEMA).encode(TABLE)
    decoder = Decoder(SCHEMA)
    assert decoder.extend(pa.array([encoded[0], encoded[1]], kind).slice(1)) == []
    assert decoder.flush().column("id").to_pylist() == [3]


def test_frames_of_any_library() -> None:
    schema = '{"type":"record","name":"R","fields":[{"name":"x","type":"long"}]}'
    for frame in (
        pd.DataFrame({"x": [1, 2]}),
        pl.DataFrame({"x": [1, 2]}),
        pa.RecordBatch.from_pydict({"x": [1, 2]}),
        pa.table({"x": [1, 2]}).to_reader(),
    ):
        arrow = frame.schema if isinstance(frame, pa.RecordBatchReader) else frame
        encoded = Encoder(arrow, schema).encode(frame)
        assert [fast(encoded[i], schema)["x"] for i in range(2)] == [1, 2]


def test_rows_are_numbered_through_all_batches() -> None:
    table = pa.Table.from_batches([*TABLE.to_batches(), *TABLE.to_batches()])
    encoded = Encoder(table, SCHEMA).encode(table)
    assert encoded.rows.tolist() == [0, 2, 3, 5]
    assert [r.row for r in encoded.rejects] == [1, 4]
    assert fast(encoded[3])["id"] == 3


def test_nothing_in_nothing_out() -> None:
    encoded = Encoder(TABLE, SCHEMA).encode(TABLE.schema.empty_table())
    assert (len(encoded), encoded.rejects, encoded.messages.to_pylist()) == (0, [], [])
    assert Decoder(SCHEMA).flush().num_rows == 0


def test_batches_are_of_the_reader_schema() -> None:
    fields = [
        {"name": "destination", "aliases": ["to"], "type": ["null", "string"]},
        {"name": "id", "type": "double"},
        {"name": "seats", "type": "int", "default": 4},
    ]
    reader = {"type": "record", "name": "Trip", "fields": fields}
    encoded = Encoder(TABLE, SCHEMA, schema_id=7).encode(TABLE)
    decoder = Decoder(SCHEMA, schema_id=7, reader_schema=json.dumps(reader))
    assert decoder.schema.names == ["destination", "id", "seats"]
    broken = [encoded[0][:-1], encoded[0], b"\0", None, encoded[1], encoded[1] + b"\0"]
    assert [number for number, _ in decoder.extend(pa.array(broken, pa.binary()))] == [0, 2, 3, 5]
    rows = [{"destination": "a", "id": 1.0, "seats": 4}, {"destination": None, "id": 3.0, "seats": 4}]
    assert decoder.flush().to_pylist() == rows

    fields.append({"name": "price", "type": "int"})
    with pytest.raises(DecodeError, match="price"):
        Decoder(SCHEMA, reader_schema=json.dumps(reader))
    with pytest.raises(SchemaError, match="not a valid Avro schema"):
        Decoder(SCHEMA, reader_schema="{")


def test_zero_columns_have_rows() -> None:
    schema = '{"type":"record","name":"R","fields":[]}'
    batch = pa.RecordBatch.from_struct_array(pa.array([{}, {}], pa.struct([])))
    encoded = Encoder(batch, schema, schema_id=1).encode(batch)
    assert [encoded[0], encoded[1]] == [b"\0\0\0\0\1"] * 2
    decoder = Decoder(schema, schema_id=1)
    decoder.extend(encoded)
    assert len(decoder) == 2


def test_the_plan_is_a_table() -> None:
    rows = Encoder(TABLE, SCHEMA).plan
    assert [r["field"] for r in rows] == ["id", "to", "at"]
    assert [r["rule"] for r in rows][:2] == ["checked", "exact"]
    assert rows[0]["column"] == "id"
    assert rows[0]["may_reject"]


def test_errors_are_of_the_family(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no column"):
        Encoder(pa.schema([("id", pa.int32())]), SCHEMA)
    with pytest.raises(PlanError, match="nope"):
        Encoder(TABLE, SCHEMA, fields={"id": {"nope": 1}})
    with pytest.raises(SchemaError, match="not a valid Avro schema"):
        Encoder(TABLE, "{")
    with pytest.raises(SchemaError, match="can't read the schema"):
        Decoder(tmp_path / "none.avsc")
    with pytest.raises(EncodeError, match="planned"):
        Encoder(TABLE, SCHEMA).encode(pa.table({"id": [1]}))
    with pytest.raises(ValueError, match="__arrow_c_stream__"):
        Encoder(TABLE, SCHEMA).encode([1, 2])

    def broken() -> Any:
        yield TABLE.to_batches()[0]
        raise ValueError("the source is gone")

    short = iter([TABLE.to_batches()[0], TABLE.select(["id"]).to_batches()[0]])
    with pytest.raises(EncodeError, match="not of the stream's schema"):
        Encoder(TABLE, SCHEMA).encode(pa.RecordBatchReader.from_batches(TABLE.schema, short))
    with pytest.raises(EncodeError, match="the source is gone"):
        Encoder(TABLE, SCHEMA).encode(pa.RecordBatchReader.from_batches(TABLE.schema, broken()))


def test_threads_share_an_encoder_and_a_decoder() -> None:
    encoder, decoder = Encoder(TABLE, SCHEMA), Decoder(SCHEMA)

    def go() -> None:
        for _ in range(20):
            decoder.extend(encoder.encode(TABLE))

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert decoder.flush().num_rows == 4 * 20 * 2
