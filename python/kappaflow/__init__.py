"""Replay offline data through a production service, as an event stream, and prove what happened to every record.

Five verbs: `publish`, `work`, `land`, `reconcile`, `dispatch`; `run` does them all in order. Each takes the path of a
job file. Importing this package starts no thread and loads no extension module: that happens at the first call.
"""

from kappaflow.api import (
    dispatch,
    doctor,
    events,
    job_schema,
    lag,
    land,
    names,
    plan,
    publish,
    reconcile,
    regions,
    rehearse,
    replicas,
    resolve,
    run,
    status,
    watch,
    work,
)
from kappaflow.errors import KappaFlowError, UnexplainedError
from kappaflow.fleets import cancel, fleet_status, run_fleet, submit
from kappaflow.ledger import check_ledger
from kappaflow.metrics import check_metrics, metrics, sql, sql_to_file
from kappaflow.upkeep import clean_table, compact_table, export_table

__all__ = [
    "KappaFlowError",
    "UnexplainedError",
    "cancel",
    "check_ledger",
    "check_metrics",
    "clean_table",
    "compact_table",
    "dispatch",
    "doctor",
    "events",
    "export_table",
    "fleet_status",
    "job_schema",
    "lag",
    "land",
    "metrics",
    "names",
    "plan",
    "publish",
    "reconcile",
    "regions",
    "rehearse",
    "replicas",
    "resolve",
    "run",
    "run_fleet",
    "sql",
    "sql_to_file",
    "status",
    "submit",
    "watch",
    "work",
]
