"""What must become of every flight, counted in the source alone: no line of the service is asked.

    python expected.py --rules v2

prints one JSON object, against which a job's ledger can be checked:

    rows                          flights in the source
    landed                        how many must land
    filtered, dead_lettered       how many must be, by cause; the causes' names are those of CAUSES
    rejected                      how many must be, by fault (none of the real data; see --corrupted)
    landed_with, source_with      flights whose plane, dest or weather is unknown, or that left at 2400
    children                      rows, landed, filtered, dead_lettered and rejected (plain numbers) by month
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb

HERE = Path(__file__).resolve().parent

CAUSES = {
    "cancelled": "delay_cost.pricing:Cancelled",
    "not_covered": "delay_cost.pricing:NotCovered",
    "not_arrived": "delay_cost.pricing:NotArrived",
}
"""By cause, the exception that the service raises for it."""

# What each version of the rules does with a flight that departed and has no arr_delay.
NOT_ARRIVED = {"v1": ("filtered", "not_covered"), "v2": ("dead_lettered", "not_arrived")}

QUERY = """
    CREATE TABLE fates AS
    SELECT f.m AS child,
           CASE WHEN r.fault IS NOT NULL THEN 'rejected'
                WHEN f.dep_time IS NULL THEN 'filtered'
                WHEN f.arr_delay IS NULL THEN $fate
                ELSE 'landed' END AS fate,
           CASE WHEN r.fault IS NOT NULL THEN r.fault
                WHEN f.dep_time IS NULL THEN 'cancelled'
                WHEN f.arr_delay IS NULL THEN $cause
                ELSE 'landed' END AS cause,
           p.tailnum IS NULL AS plane_unknown,
           a.faa IS NULL AS dest_unknown,
           w.origin IS NULL AS weather_unknown,
           f.dep_time IS NOT DISTINCT FROM 2400 AS departed_midnight
    FROM read_parquet($flights, filename = true, file_row_number = true,
                      hive_partitioning = true, hive_types_autocast = false) AS f
    LEFT JOIN read_csv($planes, all_varchar = true) AS p ON p.tailnum = f.tailnum
    LEFT JOIN read_csv($airports, all_varchar = true) AS a ON a.faa = f.dest
    LEFT JOIN read_csv($weather, all_varchar = true) AS w ON w.origin = f.origin AND w.time_hour = f.time_hour
    LEFT JOIN rejects AS r ON r.row = f.file_row_number AND ends_with(f.filename, '/' || r.file)
"""


def expected(
    rules: str = "v2",
    flights: str | Path = HERE / "data" / "flights",
    lookup: str | Path = HERE / "data" / "lookup",
    corrupted: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Counts the fates that the flights in the folder ``flights`` must meet under ``rules`` (see the module).

    ``corrupted`` are the cells that ``make_data.py --corrupt`` names, each the only fault of its row. Raises
    KeyError for rules that do not exist, duckdb.Error if a file cannot be read.
    """
    fate, cause = NOT_ARRIVED[rules]
    with duckdb.connect() as db:
        db.execute("CREATE TABLE rejects (file VARCHAR, row BIGINT, fault VARCHAR)")
        for cell in corrupted:
            db.execute("INSERT INTO rejects VALUES (?, ?, ?)", [cell["file"], cell["row"], cell["fault"]])
        files = {name: str(Path(lookup) / f"{name}.csv") for name in ("planes", "airports", "weather")}
        glob = str(Path(flights) / "m=*" / "*.parquet")
        db.execute(QUERY, {"flights": glob, "fate": fate, "cause": cause, **files})
        counts = db.execute("SELECT fate, cause, count(*) FROM fates GROUP BY ALL ORDER BY ALL").fetchall()
        by_child = db.execute("SELECT child, fate, count(*) FROM fates GROUP BY ALL ORDER BY ALL").fetchall()
        said: dict[str, Any] = {
            "rules": rules,
            "rows": sum(count for _, _, count in counts),
            "landed": sum(count for what, _, count in counts if what == "landed"),
        }
        for group in ("filtered", "dead_lettered", "rejected"):
            said[group] = {why: count for what, why, count in counts if what == group}
        for where, condition in (("landed_with", "fate = 'landed'"), ("source_with", "true")):
            said[where] = _flags(db, condition)
    children: dict[str, dict[str, int]] = {}
    for child, what, count in by_child:
        none = dict.fromkeys(("rows", "landed", "filtered", "dead_lettered", "rejected"), 0)
        of_child = children.setdefault(child, none)
        of_child["rows"] += count
        of_child[what] += count
    said["children"] = children
    return said


def _flags(db: duckdb.DuckDBPyConnection, condition: str) -> dict[str, int]:
    names = ("plane_unknown", "dest_unknown", "weather_unknown", "departed_midnight")
    counts = ", ".join(f"count(*) FILTER (WHERE {name})" for name in names)
    found = db.execute(f"SELECT {counts} FROM fates WHERE {condition}").fetchone()
    assert found is not None  # an aggregate without GROUP BY has exactly one row
    return dict(zip(names, found, strict=True))


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 if the data cannot be read."""
    parser = argparse.ArgumentParser(prog="expected.py", description="What must become of every flight.")
    parser.add_argument("--rules", choices=sorted(NOT_ARRIVED), default="v2", help="default: %(default)s")
    parser.add_argument("--data", type=Path, default=HERE / "data", help="what make_data.py wrote")
    parser.add_argument(
        "--corrupted", type=Path, metavar="DIR", help="count the copy that --corrupt wrote instead"
    )
    options = parser.parse_args(arguments)
    try:
        lookup = options.data / "lookup"
        if options.corrupted:
            cells = json.loads((options.corrupted / "corrupted.json").read_text())["corrupted"]
            said = expected(options.rules, options.corrupted / "flights", lookup, cells)
        else:
            said = expected(options.rules, options.data / "flights", lookup)
    except (OSError, duckdb.Error) as error:
        reason = str(error).splitlines()[0]
        print(f"expected.py: {reason} (make_data.py writes the data)", file=sys.stderr)
        return 2
    print(json.dumps(said, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
