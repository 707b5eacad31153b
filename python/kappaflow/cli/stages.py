"""The commands of the stages: each reads a job file, shows progress on stderr and its summary on stdout."""

import argparse
import json
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import kappaflow
from kappaflow.cli import show
from kappaflow.cli.progress import progress
from kappaflow.types import Summary

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]


def job_arguments() -> argparse.ArgumentParser:
    """What every command on a job file takes."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("job", help="the job file (job.toml)")
    common.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        type=param,
        help="a value for one of the job's [params]; may be repeated",
    )
    common.add_argument("--json", action="store_true", help="print one JSON object on stdout, last")
    common.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return common


def add_parsers(commands: "SubParsers") -> None:
    """Add a subcommand for each stage."""
    common = job_arguments()

    def add(
        name: str,
        run: Callable[[argparse.Namespace], int],
        summary: str,
        detail: str = "",
        *more: argparse.ArgumentParser,
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            parents=[common, *more],
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}. {detail}",
        )
        command.set_defaults(run=run)
        return command

    pinning = argparse.ArgumentParser(add_help=False)
    pinning.add_argument(
        "--new-snapshot",
        action="store_true",
        help="pin the source as it is now, as a new job if it changed, though the job has been planned before",
    )

    run = add(
        "run",
        _run,
        "run the whole job: dispatch, publish and work at once, land, reconcile",
        "Safe to repeat: what is done is confirmed, what is not goes on where it stopped.",
        pinning,
    )
    run.add_argument(
        "--sample",
        type=_rows,
        metavar="N",
        help="first send N rows, from all over the snapshot, through all stages, as a job NAME-sample of their own",
    )
    run.add_argument(
        "--sample-failures",
        type=_failures,
        default="1%",
        metavar="COUNT|SHARE",
        help="rejected and dead-lettered rows of the sample with which the whole still begins (default: 1%%)",
    )
    add(
        "plan",
        _plan,
        "pin the snapshot and show the splits and child jobs",
        "Reads the sources' footers only; talks to no broker. What is pinned is what later stages use.",
        pinning,
    )
    add(
        "dispatch",
        _dispatch,
        "place the child jobs on the regions with headroom and prepare their topics",
        "",
        pinning,
    )
    publish = add(
        "publish",
        _publish,
        "publish the placed child jobs to their ingress topics",
        "Counts come from acknowledgements. Rows that the schema refuses are kept with their reasons.",
    )
    publish.add_argument("--child", help="only this child job (default: all that are placed)")
    publish.add_argument(
        "--dry-run",
        action="store_true",
        help="send nothing: show the plan, the splits and partitions, and the bytes that a sample of the rows promises",
    )
    work = add(
        "work",
        _work,
        "run a worker: hand the ingress to the service until it is done",
        "Start it as often as there is room; one that idles stands by for one that dies.",
    )
    work.add_argument("--region", help="the region to work in (default: the only one of the job)")
    work.add_argument(
        "--watch", action="store_true", help="don't work, only wait until a fleet has done the region"
    )
    work.add_argument(
        "--until",
        choices=["done", "now", "stopped"],
        default="done",
        help="when to end: all is published and worked on; what is there now is; or only by Ctrl-C (default: done)",
    )
    work.add_argument(
        "--listen",
        metavar="ADDRESS:PORT",
        help="answer /metrics (Prometheus), /healthz, /readyz and /replicas there, e.g. 127.0.0.1:9464",
    )
    work.add_argument(
        "--instance-id",
        metavar="NAME",
        help="a name that this worker keeps over restarts (a pod's name), so that a quick restart moves no partition",
    )
    land = add("land", _land, "land the answers in the table, up to where the egress ends now, or on and on")
    land.add_argument("--region", help="only this region (default: all with placed child jobs)")
    land.add_argument(
        "--until",
        choices=["now", "stopped"],
        default="now",
        help="when to end: where the egress ends as it begins, or only by Ctrl-C (default: now)",
    )
    land.add_argument(
        "--shared",
        action="store_true",
        help="one of several landers that share the partitions, as members of a group; each ends when all is landed",
    )
    land.add_argument(
        "--export",
        metavar="DIRECTORY",
        help="then write the table to this new directory, for readers that take every file they find",
    )
    add(
        "reconcile",
        _reconcile,
        "give every row its one fate, and fail if any is unexplained",
        "Exit 1 names the rows; the whole list is kept as Parquet.",
    )
    doctor = add(
        "doctor",
        _doctor,
        "list what the job needs (network paths, rights, topics, subjects, quotas) and try each",
        "Changes nothing. Exit 1 if anything fails; before dispatch the rights on topics can't be told yet.",
    )
    doctor.add_argument(
        "--spark", action="store_true", help="also what a publish from Spark needs (the receipts topic)"
    )
    add("status", _status, "show where the job is")
    sql = add(
        "sql",
        _sql,
        "query the landed table (views `landed` and `answers`), or run the job's metrics",
        "Without QUERY the named queries of output.metrics are run; exit 1 if what one asserts does not hold. "
        "$NAME in a query is the job's param of that name.",
    )
    sql.add_argument("query", nargs="?", metavar="QUERY")
    sql.add_argument(
        "--out",
        metavar="FILE",
        help="write the rows of QUERY there, as its name ends: .csv, .parquet or .json",
    )
    report = add(
        "report",
        _report,
        "write a self-contained HTML page of what became of every row",
        "Reconciles first. Exit 1 if anything is unexplained.",
    )
    report.add_argument("--out", default="report.html", metavar="FILE", help="where (default: %(default)s)")


def param(text: str) -> tuple[str, str]:
    """A `NAME=VALUE` of the command line."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=VALUE")
    return name, value


def out(args: argparse.Namespace, summary: object, render: Callable[[], None]) -> None:
    """Show a summary to people, and to machines if they ask."""
    render()
    if args.json:
        sys.stdout.write(json.dumps(summary, default=str) + "\n")


def _run(args: argparse.Namespace) -> int:
    with progress(args.quiet) as on_progress:
        summary = kappaflow.run(
            args.job,
            params=dict(args.param),
            new_snapshot=args.new_snapshot,
            sample=args.sample,
            sample_failures=args.sample_failures,
            on_progress=on_progress,
        )
    out(args, summary, lambda: show.ledger(summary["ledger"]))
    kappaflow.check_ledger(summary["ledger"])
    return 0


def _plan(args: argparse.Namespace) -> int:
    plan = kappaflow.plan(args.job, params=dict(args.param), new_snapshot=args.new_snapshot)
    out(args, plan, lambda: show.plan(plan))
    return 0


def _dispatch(args: argparse.Namespace) -> int:
    with progress(args.quiet) as on_progress:
        dispatched = kappaflow.dispatch(
            args.job, params=dict(args.param), new_snapshot=args.new_snapshot, on_progress=on_progress
        )
    out(args, dispatched, lambda: show.dispatched(dispatched))
    return 0


def _publish(args: argparse.Namespace) -> int:
    if args.dry_run:
        told = kappaflow.rehearse(args.job, params=dict(args.param), child=args.child)
        out(args, told, lambda: show.rehearsal(told))
        return 0
    with progress(args.quiet) as on_progress:
        receipt = kappaflow.publish(
            args.job, params=dict(args.param), child=args.child, on_progress=on_progress
        )
    out(args, receipt, lambda: show.receipt(receipt))
    return 0


def _work(args: argparse.Namespace) -> int:
    params = dict(args.param)
    region = args.region or only_region(args.job, params)
    given = {"--until": args.until != "done", "--listen": args.listen, "--instance-id": args.instance_id}
    if args.watch and (options := [option for option, value in given.items() if value]):
        raise kappaflow.KappaFlowError(f"{options[0]} is for a worker; with --watch none runs here")
    with progress(args.quiet) as on_progress:
        if args.watch:
            summary = kappaflow.watch(args.job, region=region, params=params, on_progress=on_progress)
        else:
            summary = kappaflow.work(
                args.job,
                region=region,
                params=params,
                until=args.until,
                listen=args.listen,
                instance_id=args.instance_id,
                on_progress=on_progress,
            )
    out(args, summary, lambda: show.facts("work", summary))
    return 0


def _rows(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of rows, 1 or more")
    return int(text)


def _failures(text: str) -> str:
    if not re.fullmatch(r"\d+|\d+(\.\d+)?%", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a count such as 10, or a share such as 1%")
    return text


def only_region(job: str, params: dict[str, str]) -> str:
    """The region of a job that has one."""
    names = [region["name"] for region in kappaflow.resolve(job, params=params)["file"]["regions"]]
    if len(names) == 1:
        return str(names[0])
    raise kappaflow.KappaFlowError(f"the job has several regions; name one: --region {'|'.join(names)}")


def _land(args: argparse.Namespace) -> int:
    with progress(args.quiet) as on_progress:
        summary = kappaflow.land(
            args.job,
            region=args.region,
            until=args.until,
            shared=args.shared,
            params=dict(args.param),
            on_progress=on_progress,
        )
    if args.export:
        summary["export"] = kappaflow.export_table(args.job, args.export, params=dict(args.param))
    out(args, summary, lambda: show.facts("land", summary))
    return 0


def _reconcile(args: argparse.Namespace) -> int:
    with progress(args.quiet) as on_progress:
        report: Summary = kappaflow.reconcile(args.job, params=dict(args.param), on_progress=on_progress)
    out(args, report, lambda: show.ledger(report))
    kappaflow.check_ledger(report)
    return 0


def _doctor(args: argparse.Namespace) -> int:
    with progress(args.quiet) as on_progress:
        told = kappaflow.doctor(args.job, params=dict(args.param), spark=args.spark, on_progress=on_progress)
    out(args, told, lambda: show.doctor(told))
    return 0 if told["healthy"] else 1


def _status(args: argparse.Namespace) -> int:
    status = kappaflow.status(args.job, params=dict(args.param))
    out(args, status, lambda: show.status(status))
    return 0


def _sql(args: argparse.Namespace) -> int:
    params = dict(args.param)
    if args.query is None:
        if args.out is not None:
            raise kappaflow.KappaFlowError("--out is for the rows of one query: give QUERY")
        results = kappaflow.metrics(args.job, params=params)
        out(args, results, lambda: show.metrics(results))
        kappaflow.check_metrics(results)
    elif args.out is not None:
        rows = kappaflow.sql_to_file(args.job, args.query, args.out, params=params)
        out(args, {"out": args.out, "rows": rows}, lambda: show.lines([f"{args.out}: {rows} rows"]))
    else:
        table = kappaflow.sql(args.job, args.query, params=params)
        rows = table.to_pylist()
        columns = table.column_names
        out(
            args,
            {"columns": columns, "rows": [list(row.values()) for row in rows]},
            lambda: show.table("", columns, [list(row.values()) for row in rows]),
        )
    return 0


def _report(args: argparse.Namespace) -> int:
    from kappaflow import report

    data = report.collect(args.job, params=dict(args.param))
    path = report.write(args.out, data)
    wrong = report.problems(data)
    out(args, {"report": str(path), "problems": wrong}, lambda: show.lines([f"report: {path}", *wrong]))
    return 1 if wrong else 0
