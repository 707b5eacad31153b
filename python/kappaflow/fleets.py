"""Fleets: workers that run on their own and serve several jobs; a job is submitted, watched, cancelled."""

import getpass
import json
import socket
import sys
from os import fspath
from typing import cast

from kappaflow.api import JobPath, ParamValues, param_texts
from kappaflow.types import OnProgress, Summary


def submit(job: JobPath, *, region: str | None = None, params: ParamValues | None = None) -> Summary:
    """Submit a job to the fleet of its service, in a region or in all that have child jobs of it.

    Again, it confirms that; a job that has ended there meanwhile goes on. `watch` waits for its end. Returns
    `{"job", "service", "regions"}`.
    """
    from kappaflow import _native

    return cast(Summary, json.loads(_native.submit(fspath(job), param_texts(params), region)))


def cancel(
    job: JobPath, *, region: str | None = None, params: ParamValues | None = None, by: str | None = None
) -> Summary:
    """Take a job back from its fleet: what is under way is finished and committed, and `submit` goes on from there.

    by: who says so, for those who watch the job (default: the user, and the machine). Returns `{"job", "service",
    "regions"}`, the regions in which it was submitted.
    """
    from kappaflow import _native

    by = by or f"{_user()} on {socket.gethostname()}"
    return cast(Summary, json.loads(_native.cancel(fspath(job), param_texts(params), by, region)))


def run_fleet(
    *,
    store: str,
    service: str,
    region: str,
    max_jobs: int = 4,
    listen: str | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Serve the jobs that are submitted to a service's fleet in a region, until this is interrupted: then the summary.

    store: `sqlite:PATH`, that of the jobs.
    service: what the jobs call it: `service.fleet.name`, by default the callable, or scheme://host:port of the URL.
    max_jobs: jobs that are worked on at once here; others wait, in the order of their submission.
    listen: `ADDRESS:PORT` where `/metrics`, `/healthz`, `/readyz` and `/replicas` are answered meanwhile.

    Secrets of the jobs (`env:`, `file:`, `conn:`) are resolved here: the store has only their references.
    """
    from kappaflow import _native

    summary = _native.fleet(store, service, region, sys.executable, max_jobs, listen, on_progress)
    return cast(Summary, json.loads(summary))


def fleet_status(store: str) -> Summary:
    """How the fleets of a store stand, and the jobs that were given to them: `{"members", "jobs"}`."""
    from kappaflow import _native

    return cast(Summary, json.loads(_native.fleet_status(store)))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"
