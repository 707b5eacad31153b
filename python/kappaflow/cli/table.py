"""`kappaflow table compact | clean | export`: upkeep of the landed table."""

import argparse
from typing import TYPE_CHECKING

import kappaflow
from kappaflow.cli import show
from kappaflow.cli.progress import progress
from kappaflow.cli.stages import job_arguments, out
from kappaflow.upkeep import WEEK_H

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(commands: "SubParsers") -> None:
    """Add `table` and its three commands."""
    summary = "upkeep of the landed table: compact, clean, export"
    top = commands.add_parser("table", help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    actions = top.add_subparsers(dest="action", required=True, metavar="ACTION")
    common = job_arguments()
    compact = actions.add_parser(
        "compact",
        parents=[common],
        help="make large files of small ones",
        description="Make files of about 128 MiB of small ones. Rows stay as they are; safe while landing goes on.",
    )
    compact.set_defaults(run=_compact)
    clean = actions.add_parser(
        "clean",
        parents=[common],
        help="remove files that are no part of the table",
        description="Remove what is no part of the table and old: files of killed landers, and replaced ones.",
    )
    clean.add_argument(
        "--older-than-h",
        type=float,
        default=WEEK_H,
        metavar="HOURS",
        help="longer than a lander or a reader may take (default: %(default)g, a week)",
    )
    clean.set_defaults(run=_clean)
    export = actions.add_parser(
        "export",
        parents=[common],
        help="write the table to a bare directory",
        description="Write what readers see to a new directory, whole, for readers that take every file they find.",
    )
    export.add_argument("directory", metavar="DIRECTORY", help="a directory that is not there yet")
    export.set_defaults(run=_export)


def _compact(args: argparse.Namespace) -> int:
    with progress(args.quiet) as on_progress:
        summary = kappaflow.compact_table(args.job, params=dict(args.param), on_progress=on_progress)
    out(args, summary, lambda: show.facts("compact", summary))
    return 0


def _clean(args: argparse.Namespace) -> int:
    with progress(args.quiet) as on_progress:
        summary = kappaflow.clean_table(
            args.job, older_than_h=args.older_than_h, params=dict(args.param), on_progress=on_progress
        )
    out(args, summary, lambda: show.facts("clean", summary))
    return 0


def _export(args: argparse.Namespace) -> int:
    with progress(args.quiet) as on_progress:
        summary = kappaflow.export_table(
            args.job, args.directory, params=dict(args.param), on_progress=on_progress
        )
    out(args, summary, lambda: show.facts("export", summary))
    return 0
