"""The commands `fleet run`, `fleet status`, `submit` and `cancel`."""

import argparse
import time
from typing import TYPE_CHECKING

import kappaflow
from kappaflow.cli import show
from kappaflow.cli.progress import progress
from kappaflow.cli.stages import job_arguments, out
from kappaflow.types import Summary

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_RUN = """\
Serve the jobs that are submitted for a service in a region, several at once, until Ctrl-C or SIGTERM: then what is
under way is finished and committed. Start it as often as there is room: the processes share the jobs' partitions.

    kappaflow fleet run --store sqlite:/data/store.db --service http://prices:8080 --region east

Secrets of the jobs are resolved here, from this environment: the store has only their references.
"""


def add_parsers(commands: "SubParsers") -> None:
    """Add the subcommands."""
    common = job_arguments()
    submit = commands.add_parser(
        "submit",
        parents=[common],
        help="submit a job to the fleet of its service",
        description="Submit a job to the fleet of its service. Safe to repeat. "
        "`work --watch` waits for its end, `cancel` takes it back.",
    )
    submit.set_defaults(run=_submit)
    cancel = commands.add_parser(
        "cancel",
        parents=[common],
        help="take a job back from its fleet",
        description="Take a job back from its fleet. What is under way is finished and committed; "
        "a later `submit` goes on from there.",
    )
    cancel.set_defaults(run=_cancel)
    for command in (submit, cancel):
        command.add_argument("--region", help="only this region (default: all with placed child jobs)")

    fleet = commands.add_parser("fleet", help="serve the jobs that are submitted to a service, or show them")
    actions = fleet.add_subparsers(dest="action", required=True, metavar="ACTION")
    run = actions.add_parser(
        "run",
        help="serve the jobs that are submitted for a service in a region",
        description=_RUN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.set_defaults(run=_run)
    run.add_argument(
        "--service",
        required=True,
        metavar="NAME",
        help="what the jobs call it: service.fleet.name, by default the callable, or scheme://host:port of the URL",
    )
    run.add_argument("--region", required=True, help="the region to work in, as the job files name it")
    run.add_argument(
        "--max-jobs",
        type=_positive,
        default=4,
        metavar="N",
        help="jobs that are worked on at once here; others wait, in their order (default: %(default)s)",
    )
    run.add_argument(
        "--listen",
        metavar="ADDRESS:PORT",
        help="answer /metrics (Prometheus), /healthz, /readyz and /replicas there, e.g. 127.0.0.1:9464",
    )
    run.add_argument("--quiet", action="store_true", help="no progress on stderr")
    status = actions.add_parser(
        "status", help="show the fleets of a store and the jobs that were given to them"
    )
    status.set_defaults(run=_status)
    for command in (run, status):
        command.add_argument("--store", required=True, metavar="URL", help="sqlite:PATH, that of the jobs")
        command.add_argument("--json", action="store_true", help="print one JSON object on stdout, last")


def _positive(text: str) -> int:
    number = int(text)
    if not 0 < number < 2**32:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 1 on")
    return number


def _submit(args: argparse.Namespace) -> int:
    found = kappaflow.submit(args.job, region=args.region, params=dict(args.param))
    out(args, found, lambda: _tell("submitted to the fleet of", found))
    return 0


def _cancel(args: argparse.Namespace) -> int:
    found = kappaflow.cancel(args.job, region=args.region, params=dict(args.param))
    out(args, found, lambda: _tell("taken back from the fleet of", found))
    return 0


def _tell(what: str, found: Summary) -> None:
    regions = ", ".join(found["regions"]) or "no region: it was submitted in none"
    show.lines([f"job {found['job']} is {what} {found['service']} in {regions}"])


def _run(args: argparse.Namespace) -> int:
    with progress(args.quiet) as on_progress:
        summary = kappaflow.run_fleet(
            store=args.store,
            service=args.service,
            region=args.region,
            max_jobs=args.max_jobs,
            listen=args.listen,
            on_progress=on_progress,
        )
    out(args, summary, lambda: show.facts("fleet", summary))
    return 0


def _status(args: argparse.Namespace) -> int:
    status = kappaflow.fleet_status(args.store)
    out(args, status, lambda: _show(status))
    return 0


def _show(status: Summary) -> None:
    now = time.time() * 1000
    show.table(
        "fleets",
        ["service", "region", "host", "pid", "jobs", "at most", "seen s ago"],
        [
            [
                *(member[key] for key in ("service", "region", "host", "pid")),
                len(member["jobs"]),
                member["max_jobs"],
                max(0, round((now - member["seen_ms"]) / 1000)),
            ]
            for member in status["members"]
        ],
    )
    show.table(
        "jobs",
        ["job", "name", "region", "service", "state", "before it", "read", "share", "waiting", "note"],
        [
            [
                *(job[key] for key in ("job", "name", "region", "service")),
                "served" if job["members"] else job["state"],
                job["place"],
                *((job["figures"] or {}).get(key) for key in ("read", "share", "lag")),
                job["note"],
            ]
            for job in status["jobs"]
        ],
    )
