"""The ledger against the source: what `expected.py` counts there, with no line of the service or of KappaFlow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import expected
import kappaflow
from kappaflow.report import Check, ReportData, causes
from kappaflow.types import Summary

# What the landed table can be asked for, by the names of expected.py.
_LANDED_WITH = {
    "plane_unknown": ("landed with an unknown plane", "NOT plane_known"),
    "dest_unknown": ("landed with an unknown destination", "NOT dest_known"),
    "weather_unknown": ("landed without known weather", "NOT weather_known"),
    "departed_midnight": (
        "landed with a departure at 2400",
        "list_contains([reason.code FOR reason IN reasons], 'departed_midnight')",
    ),
}


def source(said: Mapping[str, Any], ledger: Summary) -> dict[str, dict[str, int]]:
    """What the source holds by fate and cause, the causes named as the ledger names them.

    `expected.py` names the exception in full, `delay_cost.pricing:Cancelled`; a ledger may name the class alone.
    """
    named = {cause.cause for cause in causes(ReportData(name="", job="", ledger=ledger))}
    found: dict[str, dict[str, int]] = {"landed": {"": said["landed"]}, "rejected": dict(said["rejected"])}
    for fate in ("filtered", "dead_lettered"):
        found[fate] = {}
        for cause, rows in said[fate].items():
            full = expected.CAUSES[cause]
            short = full.rpartition(":")[2]
            found[fate][short if short in named else full] = rows
    return found


def checks(
    job_file: Path, params: Mapping[str, str], said: Mapping[str, Any], ledger: Summary
) -> list[Check]:
    """Further figures: the source's rows, the landed table asked by SQL, and the ledger of each child job."""
    filters = ", ".join(f"count(*) FILTER (WHERE {condition})" for _, condition in _LANDED_WITH.values())
    query = f"SELECT count(*), count(DISTINCT (_split, _seq)), {filters} FROM landed"
    row = list(kappaflow.sql(job_file, query, params=params).to_pylist()[0].values())
    found = [
        Check("rows that the ledger expects", int(ledger["expected"]), said["rows"]),
        Check("rows in the landed table", int(row[0]), said["landed"]),
        Check("flights in the landed table", int(row[1]), said["landed"]),
    ]
    for value, (key, (what, _)) in zip(row[2:], _LANDED_WITH.items(), strict=True):
        found.append(Check(what, int(value), said["landed_with"][key]))
    for child in ledger["children"]:
        for fate, rows in said["children"][child["child"]].items():
            key = "expected" if fate == "rows" else fate
            if key in child and (int(child[key]) != rows):
                found.append(Check(f"{child['child']}: {key}", int(child[key]), rows))
    return found
