"""Publishing at scale, ours alone: many partitions, many rows, large rows; exact counts, and memory that stays bounded.

Each part is a job file published to a real Kafka in a process of its own. Its topic is then counted by offsets, and the
identities in its headers are read by a stock client, record by record, and held against the receipt's splits: each
row once. `--rows` cuts every part.
"""

import argparse
import json
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from encode import LINEITEM
from harness import FLIGHTS, finish, flights, kafka, say
from publish_peers import ours
from publish_peers.program import Task
from publish_peers.topics import Topics

AIM_RSS_MIB = 512
LARGE_ROW_BYTES = 10_000
LARGE = {
    "type": "record",
    "name": "Large",
    "fields": [{"name": "id", "type": "long"}, {"name": "body", "type": "string"}],
}
LINEITEMS_PER_SCALE = 6_000_000
_IDENTITY = struct.Struct(">BQII")


def write_flights(directory: Path, rows: int) -> int:
    """The year, as often as `rows` asks."""
    year = flights()
    for part, begin in enumerate(range(0, rows, year.num_rows)):
        pq.write_table(year.slice(0, rows - begin), directory / f"year-{part}.parquet", row_group_size=50_000)
    return rows


def write_lineitem(directory: Path, rows: int) -> int:
    """TPC-H's lineitem, of as many rows as `rows` asks or a few more or less: orders have one to seven."""
    scale = rows / LINEITEMS_PER_SCALE
    tool = [
        str(Path(sys.executable).parent / "tpchgen-cli"),
        "parquet",
        "-s",
        f"{scale:.5f}",
        "-T",
        "lineitem",
    ]
    subprocess.run([*tool, "-o", str(directory)], check=True, stdout=sys.stderr)
    return sum(pq.ParquetFile(path).metadata.num_rows for path in directory.glob("*.parquet"))


def write_large(directory: Path, rows: int) -> int:
    """Rows of random hexadecimal digits, which Parquet halves and lz4 can't make smaller; one row group at a time."""
    group_rows = 2_000
    offsets = pa.array(range(0, (group_rows + 1) * LARGE_ROW_BYTES, LARGE_ROW_BYTES), pa.int32())
    dice = random.Random(1)
    schema = pa.schema([("id", pa.int64()), ("body", pa.string())])
    with pq.ParquetWriter(
        directory / "large.parquet", schema, compression="zstd", use_dictionary=False
    ) as writer:
        for begin in range(0, rows, group_rows):
            text = dice.randbytes(group_rows * LARGE_ROW_BYTES // 2).hex().encode()
            body = pa.StringArray.from_buffers(group_rows, offsets.buffers()[1], pa.py_buffer(text))
            ids = pa.array(range(begin, begin + group_rows), pa.int64())
            writer.write_table(pa.table([ids, body], schema=schema).slice(0, rows - begin))
    return rows


@dataclass(frozen=True)
class Part:
    """One thing to publish."""

    rows: int
    partitions: int
    schema: str
    write: Callable[[Path, int], int]
    """Writes the source into a directory; returns its rows."""
    row_bytes: int
    """Of disk a row, in the source and in the topic together."""
    fields: str = ""


PARTS = {
    "flights, 100 partitions": Part(
        1_010_328, 100, (FLIGHTS / "flight.avsc").read_text(), write_flights, 200, ours.FLIGHT_FIELDS
    ),
    "lineitem": Part(10_000_000, 12, json.dumps(LINEITEM), write_lineitem, 300),
    "rows of 10 KB": Part(1_000_000, 12, json.dumps(LARGE), write_large, 17_000),
}


@dataclass
class Seen:
    """Which rows of which splits were met: a byte a row."""

    splits: dict[int, bytearray]
    records: int = 0
    wrong: list[str] = field(default_factory=list)

    def take(self, identity: bytes) -> None:
        self.records += 1
        version, _, split, seq = _IDENTITY.unpack(identity)
        rows = self.splits.get(split)
        if version != 1 or rows is None or seq >= len(rows):
            self.wrong.append(f"no row has the identity {identity.hex()}")
        elif rows[seq]:
            self.wrong.append(f"split {split} row {seq} is there twice")
        else:
            rows[seq] = 1

    def missing(self) -> int:
        return sum(rows.count(0) for rows in self.splits.values())


def check(topics: Topics, topic: str, rows: int, splits: dict[int, int]) -> list[str]:
    """What is wrong with the topic: counts by offsets, and each identity once."""
    wrong = []
    if (count := topics.count(topic)) != rows:
        wrong.append(f"{count} records by offsets, {rows} rows in the source")
    seen = Seen({split: bytearray(acknowledged) for split, acknowledged in splits.items()})
    for headers, _ in topics.records(topic):
        seen.take(dict(headers)["kf-id"])
    if seen.missing() or seen.records != rows:
        wrong.append(f"{seen.records} records read, {rows} rows in the source, {seen.missing()} missing")
    return wrong + seen.wrong[:5]


def publish(name: str, part: Part, rows: int, base: Path, stack: Any) -> tuple[dict[str, Any], list[str]]:
    """Figures, and what is wrong; source and topic are gone afterwards."""
    source = base / "source"
    source.mkdir()
    say(f"{name}: writing the source")
    written = part.write(source, rows)
    task = Task(
        source=str(source),
        rows=written,
        topic=name.replace(" ", "-").replace(",", ""),
        partitions=part.partitions,
        bootstrap=stack.bootstrap("bench"),
        registry=stack.registry_url(),
        schema=part.schema,
        scratch=str(base),
    )
    say(f"{name}: publishing {written:,} rows to {part.partitions} partitions")
    found = ours.publish(task, part.fields)
    splits = found.pop("splits")
    say(f"{name}: reading the topic")
    topics = Topics(task.bootstrap)
    wrong = check(topics, ours.topic_of(task), written, splits)
    topics.delete(ours.topic_of(task))
    shutil.rmtree(source)
    mib_per_s = round(found["bytes"] / found["seconds"] / (1 << 20), 1)
    return {**found, "source_rows": written, "splits": len(splits), "mib_per_s": mib_per_s}, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="the most rows of a part (default: as many as each has)")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS), help="which (default: all)")
    options = parser.parse_args()
    if options.rows is not None and options.rows < 1:
        parser.error("--rows is at least 1")
    figures: dict[str, Any] = {}
    wrong: list[str] = []
    with kafka() as (stack, base):
        for name in options.parts:
            part = PARTS[name]
            rows = min(part.rows, options.rows or part.rows)
            free, needed = shutil.disk_usage(base).free, rows * part.row_bytes + (2 << 30)
            if free < needed:
                wrong.append(
                    f"{name}: {needed >> 20} MiB of disk are needed in {base}, {free >> 20} are free"
                )
                continue
            figures[name], found = publish(name, part, rows, base, stack)
            wrong += [f"{name}: {what}" for what in found]
    for what in wrong:
        say(f"WRONG: {what}")
    aims = [
        {
            "what": f"{name}: peak_rss_mib",
            "at_most": AIM_RSS_MIB,
            "reached": found["peak_rss_mib"],
            "met": found["peak_rss_mib"] <= AIM_RSS_MIB,
        }
        for name, found in figures.items()
    ]
    return finish("publish_scale", figures, {}, {}, not wrong, ["pyarrow", "tpchgen-cli"], aims=aims)


if __name__ == "__main__":
    sys.exit(main())
