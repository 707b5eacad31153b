"""What we encode, fastavro and the registry's stock deserializer read to the same values; what they write, we do."""

import datetime as dt
import decimal
import io
import json
import struct
import uuid
from dataclasses import dataclass, field
from typing import Any

import fastavro
import pyarrow as pa
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kappaflow.avro import Decoder, Encoder

UTC = dt.UTC
TOPIC = "oracle"
PROPERTY = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclass(frozen=True)
class Kind:
    """An Avro type, the Arrow type we decode it to, and its values as Python libraries have them.

    `sources` are further Arrow types that it is encoded from.
    """

    avro: Any
    arrow: pa.DataType
    values: st.SearchStrategy[Any]
    sources: tuple[pa.DataType, ...] = field(default=())


@dataclass(frozen=True)
class Member:
    """A value of a union of several types, and which of those that are not null it is of."""

    of: int
    at: int
    value: Any


def logical(base: str, name: str) -> dict[str, str]:
    return {"type": base, "logicalType": name}


def times(grain: int) -> st.SearchStrategy[dt.time]:
    """Times of day of whole multiples of so many microseconds."""
    return st.times().map(lambda t: t.replace(microsecond=t.microsecond // grain * grain, fold=0))


def moments(grain: int, zone: dt.tzinfo | None) -> st.SearchStrategy[dt.datetime]:
    return st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)).map(
        lambda t: t.replace(microsecond=t.microsecond // grain * grain, tzinfo=zone, fold=0)
    )


def decimals(precision: int, scale: int) -> st.SearchStrategy[decimal.Decimal]:
    limit = 10**precision - 1
    # Made of its digits: arithmetic would round to the context's precision.
    return st.integers(-limit, limit).map(
        lambda v: decimal.Decimal((int(v < 0), tuple(map(int, str(abs(v)))), -scale))
    )


text = st.text(st.characters(codec="utf-8"), max_size=20)
LEAVES = [
    Kind("boolean", pa.bool_(), st.booleans()),
    Kind("int", pa.int32(), st.integers(-(2**31), 2**31 - 1), (pa.int64(), pa.decimal128(20, 0))),
    Kind("long", pa.int64(), st.integers(-(2**63), 2**63 - 1), (pa.decimal128(38, 2),)),
    Kind("float", pa.float32(), st.floats(width=32, allow_nan=False), (pa.float64(),)),
    Kind("double", pa.float64(), st.floats(allow_nan=False)),
    Kind(
        "string",
        pa.string(),
        text,
        (pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())),
    ),
    Kind("bytes", pa.binary(), st.binary(max_size=20), (pa.large_binary(), pa.binary_view())),
    Kind(logical("int", "date"), pa.date32(), st.dates(), (pa.date64(),)),
    Kind(logical("int", "time-millis"), pa.time32("ms"), times(1000), (pa.time64("us"), pa.time64("ns"))),
    Kind(logical("long", "time-micros"), pa.time64("us"), times(1), (pa.time64("ns"),)),
    Kind(
        logical("long", "timestamp-millis"),
        pa.timestamp("ms", "UTC"),
        moments(1000, UTC),
        (pa.timestamp("us", "UTC"),),
    ),
    Kind(
        logical("long", "timestamp-micros"),
        pa.timestamp("us", "UTC"),
        moments(1, UTC),
        (pa.timestamp("us", "Asia/Tokyo"),),
    ),
    Kind(
        logical("long", "local-timestamp-millis"),
        pa.timestamp("ms"),
        moments(1000, None),
        (pa.timestamp("us"),),
    ),
    Kind(logical("long", "local-timestamp-micros"), pa.timestamp("us"), moments(1, None)),
]


def union_of(*kinds: Kind) -> Kind:
    """A union of types that Python libraries tell apart by a value's class."""
    n = len(kinds)
    values = st.one_of(*(kind.values.map(lambda v, i=i: Member(n, i, v)) for i, kind in enumerate(kinds)))
    arrow = pa.struct([(f"member{i}", kind.arrow) for i, kind in enumerate(kinds)])
    return Kind([kind.avro for kind in kinds], arrow, values)


# Of booleans, longs, strings, doubles and bytes: each is of a class of its own.
UNIONS = [union_of(*(LEAVES[i] for i in branches)) for branches in ([2, 5], [5, 0], [6, 2, 5], [0, 4, 5, 6])]


@st.composite
def leaves(draw: st.DrawFn) -> Kind:
    """A type without parts, or a union of such; names are given by the caller's schema."""
    which = draw(st.integers(0, len(LEAVES) + 4))
    if which < len(LEAVES):
        return LEAVES[which]
    if which == len(LEAVES) + 4:
        return draw(st.sampled_from(UNIONS))
    name = f"N{draw(st.integers(0, 10**9))}"
    if which == len(LEAVES):
        symbols = ["A", "B", "C_1"]
        sources = (pa.dictionary(pa.int32(), pa.string()), pa.large_string())
        return Kind(
            {"type": "enum", "name": name, "symbols": symbols}, pa.string(), st.sampled_from(symbols), sources
        )
    if which == len(LEAVES) + 1:
        size = draw(st.integers(1, 20))
        values = st.binary(min_size=size, max_size=size)
        return Kind({"type": "fixed", "name": name, "size": size}, pa.binary(size), values, (pa.binary(),))
    if which == len(LEAVES) + 2:
        return Kind(logical("string", "uuid"), pa.string(), st.uuids())
    precision = draw(st.integers(1, 76))
    scale = draw(st.integers(0, precision))
    arrow = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    avro: dict[str, Any] = logical("bytes", "decimal") | {"precision": precision, "scale": scale}
    if draw(st.booleans()):
        avro |= {"type": "fixed", "name": name, "size": 33}
    return Kind(avro, arrow, decimals(precision, scale), (pa.decimal256(76, scale),))


def nested(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    return st.one_of(inner.map(array_of), inner.map(map_of), st.lists(inner, max_size=3).map(record_of))


def array_of(kind: Kind) -> Kind:
    sources = (pa.large_list(kind.arrow), *(pa.list_(source) for source in kind.sources))
    values = st.lists(kind.values, max_size=3)
    return Kind({"type": "array", "items": kind.avro}, pa.list_(kind.arrow), values, sources)


def map_of(kind: Kind) -> Kind:
    values = st.dictionaries(text, kind.values, max_size=3)
    return Kind({"type": "map", "values": kind.avro}, pa.map_(pa.string(), kind.arrow), values)


NAMES = iter(range(10**9))


def record_of(kinds: list[Kind]) -> Kind:
    names = [f"f{i}" for i in range(len(kinds))]
    fields = [{"name": name, "type": kind.avro} for name, kind in zip(names, kinds, strict=True)]
    values = st.fixed_dictionaries({name: kind.values for name, kind in zip(names, kinds, strict=True)})
    arrow = pa.struct([(name, kind.arrow) for name, kind in zip(names, kinds, strict=True)])
    return Kind({"type": "record", "name": f"Record{next(NAMES)}", "fields": fields}, arrow, values)


def nullable(kind: Kind) -> Kind:
    branches = kind.avro if isinstance(kind.avro, list) else [kind.avro]
    return Kind(["null", *branches], kind.arrow, st.none() | kind.values, kind.sources)


KINDS = st.recursive(
    leaves() | leaves().map(nullable), lambda k: nested(k) | nested(k).map(nullable), max_leaves=5
)


def unique(avro: Any, names: set[str]) -> Any:
    """The type with names that are used once: a part may have been drawn twice."""
    if isinstance(avro, list):
        return [unique(branch, names) for branch in avro]
    if not isinstance(avro, dict):
        return avro
    avro = dict(avro)
    if "name" in avro and avro["type"] in ("record", "enum", "fixed"):
        while avro["name"] in names:
            avro["name"] += "x"
        names.add(avro["name"])
    for key in ("items", "values"):
        if key in avro:
            avro[key] = unique(avro[key], names)
    if "fields" in avro:
        avro["fields"] = [f | {"type": unique(f["type"], names)} for f in avro["fields"]]
    return avro


@dataclass(frozen=True)
class Table:
    schema: str
    kinds: list[Kind]
    rows: list[dict[str, Any]]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    kinds = draw(st.lists(KINDS, min_size=1, max_size=4))
    record = record_of(kinds)
    schema = json.dumps(unique(record.avro, set()))
    return Table(schema, kinds, draw(st.lists(record.values, max_size=6)))


def plain(value: Any) -> Any:
    """Values that compare: floats by their bits, uuids as text, maps as dictionaries however a library gives them."""
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(v, tuple) for v in value):
            return {key: plain(v) for key, v in value}
        return [plain(v) for v in value]
    return value


def same(found: Any, expected: Any) -> None:
    # Arrow gives an empty map as an empty list.
    assert repr(normal(plain(found))) == repr(normal(plain(expected)))


def normal(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: normal(v) for key, v in sorted(value.items())} or []
    if isinstance(value, list):
        return [normal(v) for v in value]
    if isinstance(value, dt.datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
    return value


def arrow_value(value: Any) -> Any:
    """As pyarrow takes it: uuids are text to it, and a union is a struct of its members."""
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Member):
        members: dict[str, Any] = {f"member{i}": None for i in range(value.of)}
        return members | {f"member{value.at}": arrow_value(value.value)}
    if isinstance(value, dict):
        return {key: arrow_value(v) for key, v in value.items()}
    if isinstance(value, list):
        return [arrow_value(v) for v in value]
    return value


def avro_value(value: Any) -> Any:
    """As the Avro libraries take it: a value of a union is the value."""
    if isinstance(value, Member):
        return avro_value(value.value)
    if isinstance(value, dict):
        return {key: avro_value(v) for key, v in value.items()}
    if isinstance(value, list):
        return [avro_value(v) for v in value]
    return value


def column(kind: Kind, arrow: pa.DataType, values: list[Any]) -> pa.Array:
    array = pa.array([arrow_value(value) for value in values], kind.arrow)
    return array if arrow == kind.arrow else array.cast(arrow)


class Registry:
    """The stock client's own mock of a registry, with one schema."""

    def __init__(self, schema: str) -> None:
        self.client = SchemaRegistryClient.new_client({"url": f"mock://{next(NAMES)}"})
        self.id = self.client.register_schema(f"{TOPIC}-value", Schema(schema, "AVRO"))
        self.context = SerializationContext(TOPIC, MessageField.VALUE)


@PROPERTY
@given(tables(), st.data())
def test_what_we_encode_the_others_read(table: Table, data: st.DataObject) -> None:
    columns = []
    for i, kind in enumerate(table.kinds):
        arrow = data.draw(st.sampled_from([kind.arrow, *kind.sources]), label=f"source {i}")
        columns.append(column(kind, arrow, [row[f"f{i}"] for row in table.rows]))
    batch = pa.record_batch(columns, [f"f{i}" for i in range(len(columns))])
    cut = data.draw(st.integers(0, len(table.rows)), label="cut")
    registry = Registry(table.schema)
    encoded = Encoder(batch, table.schema, schema_id=registry.id).encode(batch.slice(cut))
    assert (len(encoded), encoded.rejects) == (len(table.rows) - cut, [])
    stock = AvroDeserializer(registry.client, table.schema)
    parsed = fastavro.parse_schema(json.loads(table.schema))
    for message, row in zip(encoded.messages.to_pylist(), table.rows[cut:], strict=True):
        assert message[:5] == b"\0" + struct.pack(">I", registry.id)
        datum = io.BytesIO(message[5:])
        same(fastavro.schemaless_reader(datum, parsed, None), avro_value(row))
        assert datum.read() == b""
        # The stock deserializer takes a record of no bytes for a frame cut short.
        if len(message) > 5:
            same(stock(message, registry.context), avro_value(row))


@PROPERTY
@given(tables())
def test_what_the_others_write_we_decode(table: Table) -> None:
    registry = Registry(table.schema)
    stock = AvroSerializer(registry.client, table.schema, conf={"auto.register.schemas": False})
    parsed = fastavro.parse_schema(json.loads(table.schema))
    bare, framed = Decoder(table.schema), Decoder(table.schema, schema_id=registry.id)
    for row in table.rows:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, avro_value(row))
        bare.push(out.getvalue())
        message = stock(avro_value(row), registry.context)
        assert message is not None
        framed.push(message)
    for decoder in (bare, framed):
        batch = decoder.flush()
        assert batch.schema.names == [f"f{i}" for i in range(len(table.kinds))]
        for i, kind in enumerate(table.kinds):
            found = batch.column(i)
            assert str(found.type).replace(" not null", "") == str(kind.arrow).replace(" not null", "")
            for value, row in zip(found.to_pylist(), table.rows, strict=True):
                same(value, arrow_value(row[f"f{i}"]))
