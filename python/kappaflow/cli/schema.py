"""`kappaflow schema derive | plan | check`: what can be asked of a table and a schema before anything is published."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kappaflow import schema
from kappaflow.cli import show
from kappaflow.cli.progress import progress
from kappaflow.cli.stages import param
from kappaflow.errors import FileError, JobFileError

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(commands: "SubParsers") -> None:
    """Add `schema` and its three commands."""
    summary = "derive an Avro schema from a table, show the plan, check every row"
    top = commands.add_parser("schema", help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    actions = top.add_subparsers(dest="action", required=True, metavar="ACTION")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="print one JSON object on stdout, last")
    output.add_argument("--quiet", action="store_true", help="no progress on stderr")

    derive = actions.add_parser(
        "derive",
        parents=[output],
        help="derive an Avro schema from Parquet files",
        description="Derive an Avro schema from Parquet files: exact types, null where nulls are.",
    )
    derive.add_argument("table", help="a Parquet file, a directory of them, or a glob")
    derive.add_argument("--name", default="Row", help="name of the record (default: %(default)s)")
    derive.add_argument("--namespace", help="namespace of the record")
    derive.add_argument(
        "--nullable",
        choices=["seen", "declared"],
        default="seen",
        help="null where nulls are, or where the files' own schema says so (default: %(default)s)",
    )
    derive.add_argument("--out", metavar="FILE", help="write the schema there (default: stdout)")
    derive.set_defaults(run=_derive)

    terms = argparse.ArgumentParser(add_help=False)
    terms.add_argument(
        "table", help="a job file (*.toml); or a Parquet file, a directory of them, or a glob, with --schema"
    )
    terms.add_argument("--schema", metavar="FILE", help="the Avro schema, where no job file names it")
    terms.add_argument(
        "--mode", choices=["checked", "strict"], help="strict: only rules that no value can fail"
    )
    terms.add_argument("--extra", choices=["refuse", "ignore"], help="columns that the schema lacks")
    terms.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", type=param, help="a param of the job"
    )
    plan = actions.add_parser(
        "plan",
        parents=[terms, output],
        help="show which column becomes which field, by which rule, and what may be rejected",
        description="Show the plan: which column becomes which field, by which rule, and what may be rejected.",
    )
    plan.set_defaults(run=_plan)
    check = actions.add_parser(
        "check",
        parents=[terms, output],
        help="send every row through the gate, and count what would be rejected",
        description="Send every row through the gate, as a publish would. Exit 1 if any would be rejected.",
    )
    check.set_defaults(run=_check)


def _derive(args: argparse.Namespace) -> int:
    with progress(args.quiet) as on_progress:
        derived = schema.derive(
            args.table,
            name=args.name,
            namespace=args.namespace,
            nullable=args.nullable,
            on_progress=on_progress,
        )
    if derived["renamed"]:
        show.table("names that Avro does not take", ["column", "field"], derived["renamed"])
    if derived["checked"]:
        show.coercion("columns that no Avro type holds for sure", derived["checked"])
    if args.out:
        try:
            Path(args.out).write_text(derived["schema"], encoding="utf-8")
        except OSError as error:
            raise FileError(f"can't write {args.out}: {error.strerror}") from None
    elif not args.json:
        sys.stdout.write(derived["schema"])
    if args.json:
        sys.stdout.write(json.dumps(derived) + "\n")
    return 0


def _plan(args: argparse.Namespace) -> int:
    _check_usage(args)
    if args.schema is None:
        rows = schema.plan(args.table, params=dict(args.param))
    else:
        rows = schema.plan(args.table, args.schema, **_options(args))
    show.coercion("plan", rows)
    if args.json:
        sys.stdout.write(json.dumps(rows) + "\n")
    return 0


def _check(args: argparse.Namespace) -> int:
    _check_usage(args)
    with progress(args.quiet) as on_progress:
        if args.schema is None:
            report = schema.check(args.table, params=dict(args.param), on_progress=on_progress)
        else:
            report = schema.check(args.table, args.schema, **_options(args), on_progress=on_progress)
    counts = [[key, report[key]] for key in ("rows", "passed", "rejected")]
    show.table("check", ["what", "rows"], counts)
    if report["by_reason"]:
        rows = [
            [
                found["column"],
                found["reason"],
                found["rows"],
                example["file"],
                example["row"],
                example["value"],
            ]
            for found in report["by_reason"]
            for example in found["examples"]
        ]
        show.table("would be rejected", ["column", "reason", "rows", "in file", "row", "value"], rows)
    if args.json:
        sys.stdout.write(json.dumps(report) + "\n")
    return 1 if report["rejected"] else 0


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of a plan that were given."""
    return {name: value for name in ("mode", "extra") if (value := getattr(args, name)) is not None}


def _check_usage(args: argparse.Namespace) -> None:
    is_job = args.table.endswith(".toml")
    if is_job and (args.schema or args.extra or args.mode):
        reason = "names its schema itself: --schema, --mode and --extra are for Parquet paths"
        raise JobFileError(f"{args.table} {reason}")
    if not is_job and args.schema is None:
        raise JobFileError(f"{args.table} is no job file (*.toml): give the schema with --schema FILE")
    if not is_job and args.param:
        raise JobFileError("--param is for job files")
