"""A real schema registry over HTTP, shared with confluent-kafka's own client, serializer and deserializer."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

import kappaflow
from kappaflow.avro import Decoder
from kappaflow.errors import IncompatibleSchemaError, RegistryError, RegistryNotFoundError
from tests.conftest import JobMaker

pytestmark = pytest.mark.integration

ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "what", "type": ["null", "string"], "default": None},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    ],
}
ROWS = pa.table(
    {
        "id": pa.array([1_000_000_001, 2_000_000_002, 3_000_000_003], pa.int64()),
        "what": pa.array(["a", None, "ü"]),
        "price": pa.array(["1.50", "0.00", "-2.25"]).cast(pa.decimal128(9, 2)),
    }
)


@pytest.fixture
def client(registry_url: str) -> Iterator[SchemaRegistryClient]:
    """Confluent's own client."""
    with SchemaRegistryClient({"url": registry_url}) as client:
        yield client


def name_of(test: str) -> str:
    """A name for topics, subjects and records that no other test has."""
    return f"{test}_{os.urandom(4).hex()}"


def order(record: str, **field: Any) -> str:
    fields = [*ORDER["fields"], field] if field else ORDER["fields"]
    return json.dumps({**ORDER, "name": record, "fields": fields})


def send(regions: dict[str, str], registry: str, topic: str, schema: str, **options: Any) -> dict[str, Any]:
    return kappaflow.publish(
        ROWS,
        topic=topic,
        schema=schema,
        bootstrap_servers=regions["east"],
        registry=registry,
        partitions=1,
        registry_options=options,
    )


def messages(regions: dict[str, str], topic: str, count: int) -> list[Any]:
    consumer = Consumer({"bootstrap.servers": regions["east"], "group.id": "stock"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = [consumer.poll(20) for _ in range(count)]
    consumer.close()
    assert all(message is not None and not message.error() for message in found)
    return found


def test_the_stock_deserializer_reads_what_we_publish(
    client: SchemaRegistryClient, regions: dict[str, str], registry_url: str
) -> None:
    topic = name_of("ours")
    for subject, expected in (
        ("topic", f"{topic}-value"),
        ("record", f"shop.{topic}"),
        ("topic_record", f"{topic}-shop.{topic}"),
    ):
        assert send(regions, registry_url, topic, order(topic), subject=subject)["acknowledged"] == 3
        assert client.get_latest_version(expected).version == 1
    decode = AvroDeserializer(client)
    context = SerializationContext(topic, MessageField.VALUE)
    rows = [decode(message.value(), context) for message in messages(regions, topic, 9)]
    assert rows == ROWS.to_pylist() * 3


def test_we_read_what_the_stock_serializer_writes(client: SchemaRegistryClient) -> None:
    topic = name_of("theirs")
    encode = AvroSerializer(client, order(topic))
    context = SerializationContext(topic, MessageField.VALUE)
    written = [encode(row, context) for row in ROWS.to_pylist()]
    registered = client.get_latest_version(f"{topic}-value")
    decoder = Decoder(registered.schema.schema_str, schema_id=registered.schema_id)
    for message in written:
        decoder.push(message)
    assert decoder.flush().to_pylist() == ROWS.to_pylist()


def test_both_register_the_same_schema_under_one_id(
    client: SchemaRegistryClient, regions: dict[str, str], registry_url: str
) -> None:
    topic = name_of("same")
    schema_id = client.register_schema(f"{topic}-value", Schema(order(topic), "AVRO"))
    send(regions, registry_url, topic, order(topic), auto_register=False)
    send(regions, registry_url, topic, order(topic), normalize=True)
    assert client.get_versions(f"{topic}-value") == [1]
    prefix = b"\0" + schema_id.to_bytes(4, "big")
    assert all(message.value().startswith(prefix) for message in messages(regions, topic, 6))


def test_an_incompatible_schema_leaves_no_record_and_no_topic(
    client: SchemaRegistryClient, regions: dict[str, str], registry_url: str
) -> None:
    topic = name_of("gate")
    # What is there has no `what` and no `price`: reading it needs defaults that ours has not.
    older = json.dumps({**ORDER, "name": topic, "fields": ORDER["fields"][:1]})
    client.register_schema(f"{topic}-value", Schema(older, "AVRO"))
    with pytest.raises(IncompatibleSchemaError, match=f"{topic}-value") as caught:
        send(regions, registry_url, topic, order(topic))
    assert "price" in str(caught.value)
    consumer = Consumer({"bootstrap.servers": regions["east"], "group.id": "look"})
    assert topic not in consumer.list_topics(timeout=20).topics
    consumer.close()


def test_what_the_registry_says_records_are_written_with(
    client: SchemaRegistryClient, regions: dict[str, str], registry_url: str
) -> None:
    topic = name_of("latest")
    with pytest.raises(RegistryNotFoundError, match="auto_register = true"):
        send(regions, registry_url, topic, order(topic), auto_register=False)
    # The registry's is wider by a field with a default, which the rows don't have.
    wider = order(topic, name="note", type="string", default="-")
    schema_id = client.register_schema(f"{topic}-value", Schema(wider, "AVRO"))
    send(regions, registry_url, topic, order(topic), use_latest=True)
    send(regions, registry_url, topic, order(topic), schema_id=schema_id)
    decode = AvroDeserializer(client)
    context = SerializationContext(topic, MessageField.VALUE)
    rows = [decode(message.value(), context) for message in messages(regions, topic, 6)]
    assert rows == [{**row, "note": "-"} for row in ROWS.to_pylist()] * 2
    with pytest.raises(RegistryNotFoundError, match="999999"):
        send(regions, registry_url, topic, order(topic), schema_id=999_999)


def test_a_guid_in_a_header_is_read_by_the_stock_deserializer(
    regions: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apicurio tells no GUIDs, so the registry is a directory, and the stock client is given its schema."""
    topic = name_of("guid")
    send(regions, f"dir:{tmp_path}", topic, order(topic), framing="guid")
    asked: list[str] = []

    def by_guid(guid: str, *_: object) -> Schema:
        asked.append(guid)
        return Schema((tmp_path / "schemas" / "1.avsc").read_text(), "AVRO")

    client = SchemaRegistryClient.new_client({"url": "mock://guid"})
    monkeypatch.setattr(client, "get_schema_by_guid", by_guid)
    decode = AvroDeserializer(client)
    rows = []
    for message in messages(regions, topic, 3):
        headers = dict(message.headers())
        assert headers["__value_schema_id"][0] == 1
        context = SerializationContext(topic, MessageField.VALUE, list(message.headers()))
        rows.append(decode(message.value(), context))
    assert rows == ROWS.to_pylist()
    assert len(set(asked)) == 1


def test_a_registry_without_guids_says_so(regions: dict[str, str], registry_url: str) -> None:
    with pytest.raises(RegistryError, match='use framing = "id"'):
        send(regions, registry_url, name_of("noguid"), order(name_of("noguid")), framing="guid")


@pytest.mark.parametrize("framing", ["id", "guid"])
def test_a_whole_job(make_job: JobMaker, registry_url: str, framing: str) -> None:
    """Published, answered, landed and reconciled, over HTTP by a connection, and with GUIDs in a directory."""
    job = make_job(1, name=f"registry-{framing}")
    job.edit("[schema]", f'[schema]\nframing = "{framing}"')
    if framing == "id":
        text = job.file.read_text().replace('name = "east"', 'name = "east"\nregistry = "conn:apicurio"')
        job.file.write_text(text.replace('name = "west"', 'name = "west"\nregistry = "conn:apicurio"'))
        refused = job.run("dispatch")
        assert refused.code == 1
        assert "KAPPAFLOW_CONN_APICURIO" in refused.stderr
        os.environ["KAPPAFLOW_CONN_APICURIO"] = json.dumps({"urls": [registry_url]})
    try:
        summary = job.run("run").ok()
    finally:
        os.environ.pop("KAPPAFLOW_CONN_APICURIO", None)
    ledger = summary["ledger"]
    assert ledger["explained"]
    assert ledger["missing"] == ledger["duplicated"] == 0
    assert ledger["landed"] > 20_000
    assert "Undecodable" not in {cause["reason"] for cause in ledger["by_cause"]}
    # Over HTTP nothing is kept in a directory.
    assert (job.dir / ".kappaflow" / "registry").exists() == (framing == "guid")
