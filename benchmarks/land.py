"""Landing: a topic of flights made into Parquet (zstd), beside Spark Structured Streaming, from the same real Kafka.

Ours decodes the Avro values, drops what came twice, and commits files and offsets. Spark writes the same records by
`AvailableNow` in a warm session, once as the bytes they are and once decoded by `from_avro`; it drops nothing. `writing
alone` is what our Parquet writer takes for the same rows from memory, on one thread: the bound. Every output is held
against the source by its count and a checksum of all values. `--rows` cuts the work, `--rounds` says how often.
"""

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import pyarrow as pa

from harness import FLIGHTS, figures, finish, flights, kafka, median, say
from kappaflow.dev.jars import KAFKA_VERSION
from land_peers.ours import PARTITIONS, Job
from publish_peers.confluent import strict
from publish_peers.program import run_command, run_module
from publish_peers.spark_home import for_spark

ROWS = 3_000_000
AIM_SPARK, AIM_MB_PER_CPU_S, AIM_RSS_MIB = 2.0, 30.0, 1_024
COLUMNS = {
    field["name"]: "string" if "string" in field["type"] else "number"
    for field in json.loads((FLIGHTS / "flight.avsc").read_text())["fields"]
}
TIMES = {"time_hour": "epoch_ms(time_hour)"}


def encoded(table: pa.Table) -> list[bytes]:
    """Each row as an Avro datum, by a stock encoder."""
    schema = fastavro.parse_schema(json.loads((FLIGHTS / "flight.avsc").read_text()))
    data = []
    for batch in table.to_batches(10_000):
        for row in batch.to_pylist():
            out = io.BytesIO()
            fastavro.schemaless_writer(out, schema, strict(row))
            data.append(out.getvalue())
    return data


class Check:
    """Counts and checksums of values: the source's, and what is expected of so many records made of it in turns."""

    def __init__(self, data: list[bytes], rows: int) -> None:
        self.rows = rows
        schema = fastavro.parse_schema(json.loads((FLIGHTS / "flight.avsc").read_text()))
        decoded = [fastavro.schemaless_reader(io.BytesIO(datum), schema, None) for datum in data]
        source = pa.Table.from_pylist(decoded).append_column("datum", pa.array(data, pa.binary()))
        self.times = rows // len(data), rows % len(data)
        self.database = duckdb.connect()
        self.database.execute("SET TimeZone = 'UTC'")
        self.database.register("source", source)
        self.wrong: list[str] = []

    def decoded(self, who: str, files: list[str]) -> None:
        # A number's hash depends on its type, and the writers do not choose the same ones.
        columns = ", ".join(
            name if kind == "string" else f"{TIMES.get(name, name)}::BIGINT" for name, kind in COLUMNS.items()
        )
        self._compare(who, f"hash({columns})", f"hash({columns})", files)

    def undecoded(self, who: str, files: list[str]) -> None:
        # What it wrote has the registry's framing before the datum.
        self._compare(who, "hash(datum)", "hash(value[6:])", files)

    def _compare(self, who: str, source: str, landed: str, files: list[str]) -> None:
        whole, rest = self.times
        expected = sum(
            times * self._sum(f"SELECT {source} AS h FROM (FROM source LIMIT {limit})")
            for times, limit in ((whole, self._source_rows()), (1, rest))
            if times and limit
        )
        found = self.database.execute(
            f"SELECT count(*), sum(h::HUGEINT) FROM (SELECT {landed} AS h FROM read_parquet($files))",
            {"files": files},
        ).fetchone()
        if found is None or found[0] != self.rows or int(found[1]) != expected:
            self.wrong.append(f"{who}: {found}, expected {self.rows} rows of the sum {expected}")

    def _source_rows(self) -> int:
        return int(self._one("SELECT count(*) FROM source"))

    def _sum(self, query: str) -> int:
        return int(self._one(f"SELECT sum(h::HUGEINT) FROM ({query})"))

    def _one(self, query: str) -> Any:
        row = self.database.execute(query).fetchone()
        return row[0] if row else 0


def per_core(found: dict[str, Any], avro_bytes: int) -> dict[str, Any]:
    """With MB of Avro a second, and a second of CPU."""
    megabytes = avro_bytes / 1e6
    cpu = found["cpu_us_per_row"] * found["rows"] / 1e6
    return {
        **found,
        "mb_per_s": round(megabytes / found["seconds"], 1),
        "mb_per_cpu_s": round(megabytes / cpu, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows to land (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, whose medians count (default: 3)")
    parser.add_argument(
        "--writer", type=Path, help="the built example `write_parquet`: what writing alone takes"
    )
    parser.add_argument("--no-spark", action="store_true", help="ours alone")
    options = parser.parse_args()
    if options.rows < 1 or options.rounds < 1:
        parser.error("--rows and --rounds are at least 1")
    python = Path(sys.executable)
    spark = "not asked for" if options.no_spark else for_spark(python)
    say("encoding the flights")
    data = encoded(flights())
    check = Check(data, options.rows)
    whole, rest = check.times
    avro_bytes = whole * sum(map(len, data)) + sum(map(len, data[:rest]))
    runs: dict[str, list[dict[str, Any]]] = {}
    with kafka(registry=False) as (stack, base):
        job = Job(base / "job", options.rows, stack.bootstrap("bench"))
        say(f"writing {options.rows} answers")
        job.answer(job.place(), data)
        for number in range(options.rounds + 1):
            # Round 0 is not counted: it warms the broker for all.
            for who in ("ours", "writing alone", "spark", "spark, decoded") if number else ("ours",):
                say(f"round {number} of {options.rounds}: {who}")
                out = base / f"{who.replace(', ', '-')}-{number}"
                if who == "ours":
                    found = job.land(f"table-{number}")
                    check.decoded(who, job.files(f"table-{number}"))
                elif who == "writing alone":
                    if options.writer is None:
                        continue
                    said, *_, peak = run_command([str(options.writer), *job.files(f"table-{number}")], base)
                    told = json.loads(said)
                    # One thread, which waits for nothing but the last sync.
                    found = figures(told["rows"], told["seconds"], told["seconds"], peak)
                elif isinstance(spark, str):
                    continue
                else:
                    home, jars = spark
                    decoded = who == "spark, decoded"
                    task = {
                        "bootstrap": job.bootstrap,
                        "topic": job.topic,
                        "rows": options.rows,
                        "schema": (FLIGHTS / "flight.avsc").read_text(),
                        "decoded": decoded,
                        "out": str(out),
                        "java": home,
                        "jars": jars,
                        "scratch": str(base),
                    }
                    found = run_module(python, "land_peers.spark", task)
                    files = [str(path) for path in out.glob("*.parquet")]
                    (check.decoded if decoded else check.undecoded)(who, files)
                if number:
                    runs.setdefault(who, []).append(per_core(found, avro_bytes))
    for what in check.wrong:
        say(f"WRONG: {what}")
    medians = {who: median(found) for who, found in runs.items()}
    ours = medians.pop("ours")
    if isinstance(spark, str):
        medians["spark"] = {"skipped": spark}
    ratios = {
        who: round(ours["rows_per_s"] / found["rows_per_s"], 3)
        for who, found in medians.items()
        if "rows_per_s" in found
    }
    aims = [
        ("times spark's rows/s", AIM_SPARK, ratios.get("spark")),
        ("MB of Avro a CPU second", AIM_MB_PER_CPU_S, ours["mb_per_cpu_s"]),
    ]
    reached: list[dict[str, Any]] = [
        {"what": what, "at_least": least, "reached": found, "met": found >= least}
        for what, least, found in aims
        if found is not None
    ]
    peak = ours["peak_rss_mib"]
    reached.append(
        {"what": "peak_rss_mib", "at_most": AIM_RSS_MIB, "reached": peak, "met": peak <= AIM_RSS_MIB}
    )
    shape = {"partitions": PARTITIONS, "avro_bytes_per_row": round(avro_bytes / options.rows, 1)}
    packages = ["pyspark", "duckdb", "fastavro"]
    versions = {"kafka": KAFKA_VERSION}
    return finish("land", {**ours, **shape}, medians, ratios, not check.wrong, packages, versions, reached)


if __name__ == "__main__":
    sys.exit(main())
