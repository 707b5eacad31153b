"""Arrow to Avro and back: ours beside arrow-avro's and apache-avro's crates and fastavro, one core, the same rows.

Four tables: the flights with the schema's types, the flights as the warehouse has them (floats for integers, text for
timestamps: arrow-avro would write other values, so it is left out), TPC-H's lineitem, and a nested one. The Rust
program `codec_bench` measures the crates and compares what they write byte for byte; fastavro is measured here, and
what it writes is compared with ours. `--instructions` also counts instructions a row, under callgrind.

Everyone starts from the same batches: apache-avro takes trees of values, and building them is part of its figure.
`apache-avro-from-values` is what it takes once it is given them, as fastavro is given its rows.
"""

import argparse
import io
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness import FLIGHTS, ROOT, finish, flights, say

FRAME = b"\x00" + struct.pack(">I", 1)
FEW = 20_000
"""Rows for fastavro, which is a hundred times slower."""

NESTED = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "note", "type": ["null", "string"]},
        {
            "name": "customer",
            "type": {
                "type": "record",
                "name": "Customer",
                "fields": [
                    {"name": "number", "type": "int"},
                    {"name": "email", "type": ["null", "string"]},
                    {
                        "name": "at",
                        "type": [
                            "null",
                            {
                                "type": "record",
                                "name": "Place",
                                "fields": [
                                    {"name": "lat", "type": "double"},
                                    {"name": "lon", "type": "double"},
                                ],
                            },
                        ],
                    },
                ],
            },
        },
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {
            "name": "lines",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Line",
                    "fields": [
                        {"name": "sku", "type": "string"},
                        {"name": "count", "type": "int"},
                        {"name": "price", "type": ["null", "double"]},
                    ],
                },
            },
        },
        {"name": "scores", "type": ["null", {"type": "map", "values": "float"}]},
        {"name": "paid", "type": ["null", "boolean"]},
        {"name": "placed", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
}
LINEITEM = {
    "type": "record",
    "name": "lineitem",
    "fields": [
        {"name": name, "type": ty}
        for name, ty in [
            ("l_orderkey", "long"),
            ("l_partkey", "long"),
            ("l_suppkey", "long"),
            ("l_linenumber", "int"),
            *(
                (name, {"type": "bytes", "logicalType": "decimal", "precision": 15, "scale": 2})
                for name in ("l_quantity", "l_extendedprice", "l_discount", "l_tax")
            ),
            ("l_returnflag", "string"),
            ("l_linestatus", "string"),
            *(
                (name, {"type": "int", "logicalType": "date"})
                for name in ("l_shipdate", "l_commitdate", "l_receiptdate")
            ),
            ("l_shipinstruct", "string"),
            ("l_shipmode", "string"),
            ("l_comment", "string"),
        ]
    ],
}


def flight_schema() -> dict[str, Any]:
    """The flights' own schema with null allowed in 14 of the 19 columns, as a warehouse declares them."""
    schema: dict[str, Any] = json.loads((FLIGHTS / "flight.avsc").read_text())
    for field in schema["fields"]:
        if field["name"] not in ("year", "month", "day", "origin", "time_hour") and isinstance(
            field["type"], str
        ):
            field["type"] = ["null", field["type"]]
    assert sum(isinstance(field["type"], list) for field in schema["fields"]) == 14
    return schema


def typed_flights(warehouse: pa.Table) -> pa.Table:
    """The same rows in the types that the schema names."""
    columns = []
    for name, column in zip(warehouse.column_names, warehouse.columns, strict=True):
        if name == "time_hour":
            column = column.cast(pa.timestamp("ms", "UTC"))
        elif not pa.types.is_string(column.type):
            column = column.cast(pa.int32())
        columns.append(column)
    return pa.table(columns, names=warehouse.column_names)


def nested(rows: int = 100_000) -> pa.Table:
    """Orders with structs, lists and maps, some of them null; the same in every run."""
    dice = np.random.default_rng(1)
    words = np.array(["red", "green", "express", "gift", "backorder", "a much longer tag than the others"])

    def some(values: list[Any], share: float = 0.1) -> list[Any]:
        return [
            None if none else value
            for value, none in zip(values, dice.random(len(values)) < share, strict=True)
        ]

    def lists(most: int, items: Callable[[int], list[Any]]) -> list[list[Any]]:
        lengths = dice.integers(0, most + 1, rows)
        every = iter(items(int(lengths.sum())))
        return [[next(every) for _ in range(length)] for length in lengths]

    def lines(count: int) -> list[Any]:
        prices = some(dice.uniform(1, 500, count).round(2).tolist())
        skus, counts = dice.integers(0, 10**6, count), dice.integers(1, 40, count)
        return [
            {"sku": f"SKU-{s:06}", "count": int(c), "price": p}
            for s, c, p in zip(skus, counts, prices, strict=True)
        ]

    places = [
        {"lat": a, "lon": b}
        for a, b in zip(dice.uniform(-90, 90, rows), dice.uniform(-180, 180, rows), strict=True)
    ]
    customers = [
        {"number": int(n), "email": email, "at": at}
        for n, email, at in zip(
            dice.integers(0, 10**7, rows),
            some([f"user{i}@example.com" for i in range(rows)]),
            some(places),
            strict=True,
        )
    ]
    keys = lists(3, lambda count: words[dice.integers(0, len(words), count)].tolist())
    scores = [[(key, float(i) / 4) for i, key in enumerate(dict.fromkeys(each))] for each in keys]
    place = pa.struct([pa.field("lat", pa.float64(), False), pa.field("lon", pa.float64(), False)])
    customer = pa.struct([pa.field("number", pa.int32(), False), ("email", pa.string()), ("at", place)])
    line = pa.struct(
        [pa.field("sku", pa.string(), False), pa.field("count", pa.int32(), False), ("price", pa.float64())]
    )
    schema = pa.schema(
        [
            pa.field("id", pa.int64(), False),
            ("note", pa.string()),
            pa.field("customer", customer, False),
            pa.field("tags", pa.list_(pa.field("item", pa.string(), False)), False),
            pa.field("lines", pa.list_(pa.field("item", line, False)), False),
            ("scores", pa.map_(pa.string(), pa.field("value", pa.float32(), False))),
            ("paid", pa.bool_()),
            pa.field("placed", pa.timestamp("us", "UTC"), False),
        ]
    )
    columns = [
        list(range(10**6, 10**6 + rows)),
        some([f"note {i}" for i in range(rows)], 0.5),
        customers,
        lists(4, lambda count: words[dice.integers(0, len(words), count)].tolist()),
        lists(5, lines),
        some(scores),
        some((dice.random(rows) < 0.5).tolist()),
        (1_700_000_000_000_000 + dice.integers(0, 10**13, rows)).tolist(),
    ]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def tables(directory: Path) -> Iterator[tuple[str, Path, dict[str, Any], list[str]]]:
    """Name, Parquet file, Avro schema, and arguments for the Rust program."""
    warehouse = flights()
    for name, table in (
        ("flights", typed_flights(warehouse)),
        ("flights-warehouse", warehouse),
        ("nested", nested()),
    ):
        pq.write_table(table, directory / f"{name}.parquet")
    subprocess.run(
        [
            Path(sys.executable).parent / "tpchgen-cli",
            "parquet",
            "-s",
            "0.1",
            "-T",
            "lineitem",
            "-o",
            directory,
        ],
        check=True,
        stdout=sys.stderr,
    )
    yield "flights", directory / "flights.parquet", flight_schema(), []
    yield "flights-warehouse", directory / "flights-warehouse.parquet", flight_schema(), ["--warehouse"]
    yield "lineitem", directory / "lineitem.parquet", LINEITEM, []
    yield "nested", directory / "nested.parquet", NESTED, []


def crates(arguments: list[str]) -> list[str]:
    """The command that runs the Rust program: built for release, as wheels are."""
    cargo = [
        "cargo",
        "build",
        "--quiet",
        "--locked",
        "--release",
        "-p",
        "kappaflow-avro",
        "--example",
        "codec_bench",
    ]
    built = subprocess.run(
        [*cargo, "--message-format", "json"], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    program: str = next(m["executable"] for m in reversed(messages) if m.get("executable"))
    return [program, *arguments]


def least(work: Callable[[], Any], rows: int, rounds: int = 5) -> float:
    """Nanoseconds a row of the round that the machine's other work disturbed least."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        work()
        times.append((time.perf_counter_ns() - begun) / rows)
    return min(times)


def with_fastavro(table: pa.Table, schema: dict[str, Any], ours: bytes) -> tuple[dict[str, float], list[str]]:
    """Its figures, and where it writes other bytes than ours or reads other values."""
    parsed = fastavro.parse_schema(schema)
    maps = [field.name for field in table.schema if pa.types.is_map(field.type)]
    rows = table.slice(0, FEW).to_pylist()
    for row in rows:
        for name in maps:
            row[name] = None if row[name] is None else dict(row[name])

    def encode() -> bytes:
        out = io.BytesIO()
        for row in rows:
            out.write(FRAME)
            fastavro.schemaless_writer(out, parsed, row)
        return out.getvalue()

    theirs = encode()

    def decode() -> list[Any]:
        stream = io.BytesIO(theirs)
        found = []
        for _ in rows:
            stream.seek(len(FRAME), io.SEEK_CUR)
            found.append(fastavro.schemaless_reader(stream, parsed, None))
        return found

    wrong = []
    if not ours.startswith(theirs):
        wrong.append("fastavro wrote other bytes")
    if decode() != rows:
        wrong.append("fastavro read other values")
    return {"encode/fastavro": least(encode, len(rows)), "decode/fastavro": least(decode, len(rows))}, wrong


def instructions(command: list[str], contender: str) -> float:
    """Instructions a row of one contender, counted by callgrind."""
    tool = [
        "valgrind",
        "--tool=callgrind",
        "--toggle-collect=*measured*",
        f"--callgrind-out-file={os.devnull}",
    ]
    run = subprocess.run([*tool, *command, "--only", contender], check=True, capture_output=True, text=True)
    collected = re.search(r"Collected : (\d+)", run.stderr)
    assert collected, run.stderr
    return int(collected[1]) / float(json.loads(run.stdout)["rows"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each crate (default: 15)")
    parser.add_argument(
        "--instructions", action="store_true", help="also count instructions a row (needs valgrind)"
    )
    options = parser.parse_args()
    ours: dict[str, float] = {}
    peers: dict[str, dict[str, float]] = {}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        for name, path, schema, flags in tables(directory):
            say(name)
            avsc, out = directory / f"{name}.avsc", directory / f"{name}.avro"
            avsc.write_text(json.dumps(schema))
            command = crates([str(path), str(avsc), *flags])
            run = [*command, "--rounds", str(options.rounds), "--out", str(out)]
            found = json.loads(subprocess.run(run, check=True, stdout=subprocess.PIPE).stdout)
            wrong += [f"{name}: {what}" for what in found["wrong"]]
            figures: dict[str, float] = found["ns_per_row"]
            if flags:
                # Rows that arrow-avro can't write are held against the same rows in the schema's types.
                if out.read_bytes() != (directory / "flights.avro").read_bytes():
                    wrong.append(f"{name}: other bytes than of the typed rows")
            else:
                more, differences = with_fastavro(pq.read_table(path), schema, out.read_bytes())
                figures |= more
                wrong += [f"{name}: {what}" for what in differences]
            for figure, ns in figures.items():
                verb, who = figure.split("/")
                into = ours if who == "ours" else peers.setdefault(who, {})
                into[f"{name} {verb} ns_per_row"] = round(ns, 1)
                into[f"{name} {verb} ns_per_field"] = round(ns / found["fields"], 2)
                if options.instructions and who in ("ours", "arrow-avro"):
                    into[f"{name} {verb} instructions_per_row"] = round(instructions(command, figure), 1)
    for what in wrong:
        say(f"WRONG: {what}")
    ratios = {
        peer: {
            figure.removesuffix(" ns_per_row"): round(ns / ours[figure], 2)
            for figure, ns in figures.items()
            if figure.endswith(" ns_per_row")
        }
        for peer, figures in peers.items()
    }
    lock = (ROOT / "Cargo.lock").read_text()
    versions = dict(re.findall(r'name = "(arrow-avro|apache-avro)"\nversion = "(.*)"', lock))
    return finish("encode", ours, peers, ratios, not wrong, ["fastavro", "pyarrow", "tpchgen-cli"], versions)


if __name__ == "__main__":
    sys.exit(main())
