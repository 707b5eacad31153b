"""The command `kappaflow work replicas`: how many workers a region needs."""

import argparse
from typing import TYPE_CHECKING

import kappaflow
from kappaflow.cli import show
from kappaflow.cli.progress import progress
from kappaflow.cli.stages import job_arguments, only_region, out
from kappaflow.types import Summary

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

COMMAND = "work replicas"

_HELP = """\
With R records a second coming, L waiting and D seconds for them, and W records a second of one worker:

    workers = max(R / (0.7 W), (R + L / D) / W)       D = deadline - p99 - pod start - rebalance

L is the lag of the job's consumer group, R is watched for a few seconds (none once publishing has ended), W is the
median of the runs of this job's workers that have ended, and the deadline is what is left of limits.job_deadline_ms.
Options say otherwise.

A partition is one worker's. Partitions of which more is asked than a worker does are named as hot: more workers do not
help them, more slots of the service or another key do. A deadline that can't be met is said to be so, with why.

    kappaflow work replicas job.toml
    kappaflow work replicas job.toml --rate 400 --deadline 3600 --max 20 --json

Exit codes: 0 said, 1 the deadline can't be met or the broker can't be asked, 2 wrong usage or job file.
"""


def add_parser(commands: "SubParsers") -> None:
    """Add the subcommand."""
    command = commands.add_parser(
        COMMAND,
        parents=[job_arguments()],
        help="say how many workers a region needs",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=_run)
    add = command.add_argument
    add("--region", help="the region (default: the only one of the job)")
    add("--rate", type=_positive, metavar="N", help="records a second that one worker does")
    add("--partition-rate", type=_positive, metavar="N", help="the same of one partition, if that is less")
    add("--arrivals", type=_number, metavar="N", help="records a second that come")
    add("--deadline", type=_number, metavar="S", help="seconds from now until what waits is to be done")
    add(
        "--watch",
        type=_number,
        default=5.0,
        metavar="S",
        help="seconds to watch arrivals (default: %(default)s)",
    )
    add(
        "--p99-ms",
        type=_whole,
        default=1_000,
        metavar="MS",
        help="99th percentile of a call (default: %(default)s)",
    )
    add(
        "--pod-start-ms",
        type=_whole,
        default=60_000,
        metavar="MS",
        help="until a new worker works (default: %(default)s)",
    )
    add(
        "--rebalance-ms",
        type=_whole,
        default=5_000,
        metavar="MS",
        help="while the group changes (default: %(default)s)",
    )
    add(
        "--utilisation",
        type=_share,
        default=0.7,
        metavar="SHARE",
        help="of a worker, by arrivals (default: %(default)s)",
    )
    add("--min", type=_whole, default=0, metavar="N", help="workers at least (default: %(default)s)")
    add("--max", type=_whole, default=100, metavar="N", help="workers at most (default: %(default)s)")


def _number(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0 on")
    return number


def _positive(text: str) -> float:
    number = _number(text)
    if number == 0:
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
    return number


def _share(text: str) -> float:
    share = _positive(text)
    if share > 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a share above 0 and up to 1")
    return share


def _whole(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 0 on")
    return number


def _run(args: argparse.Namespace) -> int:
    params = dict(args.param)
    with progress(args.quiet) as on_progress:
        found = kappaflow.replicas(
            args.job,
            region=args.region or only_region(args.job, params),
            params=params,
            rate_per_s=args.rate,
            partition_rate_per_s=args.partition_rate,
            arrivals_per_s=args.arrivals,
            deadline_s=args.deadline,
            watch_s=args.watch,
            p99_ms=args.p99_ms,
            pod_start_ms=args.pod_start_ms,
            rebalance_ms=args.rebalance_ms,
            utilisation=args.utilisation,
            min=args.min,
            max=args.max,
            on_progress=on_progress,
        )
    out(args, found, lambda: _show(found))
    return 1 if found["unmeetable"] else 0


def _show(found: Summary) -> None:
    hot = set(found["hot"])
    show.table(
        f"region {found['region']}",
        ["what", "value"],
        [
            ["workers there should be", found["replicas"]],
            ["waiting", found["lag"]],
            ["coming a second", found["arrivals_per_s"]],
            ["one worker a second", found["rate_per_s"]],
            ["  of so many runs (0: given)", found["rate_of_runs"]],
            ["seconds to the deadline", found["deadline_s"]],
            [
                "seconds until nothing waits",
                "never" if found["drained_in_s"] is None else found["drained_in_s"],
            ],
        ],
    )
    if hot:
        rows = [
            [p["partition"], p["lag"], p["arrivals_per_s"]]
            for p in found["partitions"]
            if p["partition"] in hot
        ]
        show.table("hot partitions", ["partition", "waiting", "coming a second"], rows)
    if found["message"]:
        show.lines([f"the deadline can't be met: {found['message']}"])
