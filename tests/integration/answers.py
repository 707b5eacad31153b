"""Jobs whose answers a stock client writes as workers do, and what of those answers a table has."""

import io
import json
import os
import struct
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import shake_128
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Producer

import kappaflow
from kappaflow import api
from tests.integration.stock import messages

PARTITIONS = 4
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Answer",
    "fields": [
        {"name": "n", "type": "long"},
        {"name": "note", "type": ["null", "string"]},
        {"name": "proof", "type": "bytes"},
    ],
}
JOB = """
name = "{name}"
side_effects = "none"
[params.table]
default = "landed"
identity = false
[source]
path = "rows.parquet"
split_rows = {split_rows}
[schema]
ingress = "in.avsc"
egress = "out.avsc"
[topics]
partitions = {partitions}
[service]
version = "1"
callable = "nobody:nothing"
transactional = {transactional}
[output]
path = "{place}${{table}}"
commit_mib = 1
{output}
[[regions]]
name = "east"
bootstrap_servers = "{server}"
cap_max = 10000000
[limits]
session_timeout_ms = 6000
"""
ID = struct.Struct(">BQIIIII")
PARSED = fastavro.parse_schema(SCHEMA)

Place = tuple[int, int]
"""Partition and offset."""


@dataclass(frozen=True)
class Answer:
    """One of the answers to row `n`."""

    n: int
    attempt: int = 1
    child: int = 0
    of: int = 1

    @property
    def value(self) -> dict[str, Any]:
        """Differs from every other answer's, and is not smaller when it is compressed."""
        proof = shake_128(f"{self.n}/{self.attempt}/{self.child}".encode()).digest(150)
        note = None if self.n % 3 == 0 else f"{self.child} of {self.of}"
        return {"n": self.n, "note": note, "proof": proof}


def family(n: int, of: int, attempt: int = 1) -> list[Answer]:
    return [Answer(n, attempt, child, of) for child in range(of)]


@dataclass(frozen=True)
class Landed:
    """How a table differs from what was answered: zeros if each answered row's family is there, once."""

    lost: int
    doubled: int
    """Rows of which there is another, by identity."""
    torn: int
    """Rows whose families are not whole, or of two attempts."""
    strange: int
    """Rows that are not the record that they say to be."""

    @property
    def right(self) -> bool:
        return not (self.doubled or self.torn or self.strange)

    @property
    def exact(self) -> bool:
        return self.right and not self.lost


EXACT = Landed(lost=0, doubled=0, torn=0, strange=0)


class Answers:
    """A job of rows `0..rows` in splits of `split_rows`, dispatched; what was asked is never published."""

    def __init__(
        self,
        directory: Path,
        server: str,
        name: str,
        rows: int,
        *,
        split_rows: int = 5_000,
        output: str = "",
        place: str = "",
        transactional: bool = False,
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.dir, self.server, self.rows, self.split_rows = directory, server, rows, split_rows
        self.transactional = transactional
        self.job = directory / "job.toml"
        column = pa.table({"n": pa.array(range(rows), pa.int64())})
        pq.write_table(column, directory / "rows.parquet", row_group_size=split_rows)
        ingress = {**SCHEMA, "name": "Row", "fields": SCHEMA["fields"][:1]}
        (directory / "in.avsc").write_text(json.dumps(ingress))
        (directory / "out.avsc").write_text(json.dumps(SCHEMA))
        self.job.write_text(
            JOB.format(
                name=name,
                server=server,
                split_rows=split_rows,
                partitions=PARTITIONS,
                output=output,
                place=place,
                transactional=str(transactional).lower(),
            )
        )
        self.id = int(kappaflow.dispatch(self.job)["job"], 16)
        self.topic = kappaflow.names(self.job, region="east")["topics"]["egress"]

    @cached_property
    def _frame(self) -> bytes:
        """What stands before each value: the id that the dispatch has registered the schema under."""
        subject = next(self.dir.rglob(f"subjects/{self.topic}-value"))
        number = json.loads((subject / "1.json").read_text())["id"]
        return struct.pack(">bI", 0, number)

    def send(self, producer: Producer, answer: Answer) -> None:
        """All answers to a row go to one partition."""
        value = io.BytesIO()
        fastavro.schemaless_writer(value, PARSED, answer.value)
        split, seq = divmod(answer.n, self.split_rows)
        header = ID.pack(1, self.id, split, seq, answer.attempt, answer.child, answer.of)
        record = {
            "value": self._frame + value.getvalue(),
            "headers": {"kf-id": header},
            "partition": answer.n % PARTITIONS,
        }
        while True:
            with suppress(BufferError):
                producer.produce(self.topic, **record)
                break
            producer.poll(0.1)

    def write(self, answers: Iterable[Answer]) -> None:
        producer = Producer(
            {"bootstrap.servers": self.server, "enable.idempotence": True, "compression.type": "lz4"}
        )
        for answer in answers:
            self.send(producer, answer)
        assert producer.flush(60) == 0

    def start(self, table: str = "landed", verb: str = "land", **environment: str) -> "subprocess.Popen[str]":
        """A lander as a process, or what else works on the table."""
        command = [sys.executable, "-m", "kappaflow", *verb.split(), str(self.job), "--json", "--quiet"]
        return subprocess.Popen(
            [*command, "--param", f"table={table}"],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def land(self, table: str = "landed") -> dict[str, Any]:
        """Lands by a process that must end well; its summary."""
        return ended(self.start(table))

    def written(self) -> "Written":
        """The committed records of the topic, as a stock client and an independent decoder read them."""
        found = Written()
        for message in messages(self.server, self.topic):
            headers = dict(message.headers() or ())
            version, job, split, seq, attempt, child, of = ID.unpack(headers["kf-id"])
            assert (version, job) == (1, self.id)
            value = fastavro.schemaless_reader(io.BytesIO((message.value() or b"")[5:]), PARSED, None)
            assert isinstance(value, dict)
            place = message.partition(), message.offset()
            found.records[place] = {
                **value,
                "_job": f"{job:016x}",
                "_split": split,
                "_seq": seq,
                "_child": child,
                "_of": of,
                "_attempt": attempt,
            }
        return found

    def landed(self, table: str = "landed") -> Iterator[dict[str, Any]]:
        """The rows that are the table's now."""
        for file in api.table(self.job, params={"table": table})["files"]:
            yield from pq.read_table(file).to_pylist()

    def explained(self, table: str = "landed") -> int:
        """Checks that every row has its fate, and says how many have landed."""
        ledger = kappaflow.reconcile(self.job, params={"table": table})
        kappaflow.check_ledger(ledger)
        return int(ledger["landed"])


def ended(lander: "subprocess.Popen[str]") -> dict[str, Any]:
    """The summary of a lander that must end well."""
    out, err = lander.communicate(timeout=120)
    assert lander.returncode == 0, err
    summary: dict[str, Any] = json.loads(out.splitlines()[-1])
    return summary


class Written:
    """What is in a topic, by place."""

    def __init__(self) -> None:
        self.records: dict[Place, dict[str, Any]] = {}

    @cached_property
    def answered(self) -> set[tuple[int, int]]:
        """The inputs, by split and seq, of which some attempt's family is whole."""
        families: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for record in self.records.values():
            attempt = (record["_split"], record["_seq"], record["_attempt"], record["_of"])
            families[attempt].add(record["_child"])
        return {(key[0], key[1]) for key, children in families.items() if len(children) == key[3]}

    def compare(self, rows: Iterable[dict[str, Any]]) -> Landed:
        """A table's rows with these records, by identity and by value."""
        strange = 0
        count: Counter[tuple[int, ...]] = Counter()
        families: dict[tuple[int, int], list[tuple[int, ...]]] = defaultdict(list)
        for row in rows:
            place = row.pop("_partition"), row.pop("_offset")
            strange += self.records.get(place) != row
            who = row["_split"], row["_seq"]
            count[*who, row["_child"]] += 1
            families[who].append((row["_child"], row["_of"], row["_attempt"]))
        torn = 0
        for members in families.values():
            children = {child for child, _, _ in members}
            if len({told[1:] for told in members}) > 1 or children != set(range(members[0][1])):
                torn += len(members)
        return Landed(
            lost=len(self.answered - set(families)),
            doubled=count.total() - len(count),
            torn=torn,
            strange=strange,
        )
