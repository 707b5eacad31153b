"""Upkeep of a job's landed table: compaction, clean-up, and the export for readers of bare directories."""

import json
from os import fspath
from typing import cast

from kappaflow.api import JobPath, ParamValues, param_texts
from kappaflow.types import OnProgress, Summary

WEEK_H = 168.0


def compact_table(
    job: JobPath, *, params: ParamValues | None = None, on_progress: OnProgress | None = None
) -> Summary:
    """Make files of about 128 MiB of the small ones in a table, in one commit for each; the rows stay as they are.

    Safe while landers commit. Returns `{"table", "version", "files_before", "files_after", "rows", …}`.
    """
    from kappaflow import _native

    return cast(Summary, json.loads(_native.compact_table(fspath(job), param_texts(params), on_progress)))


def clean_table(
    job: JobPath,
    *,
    older_than_h: float = WEEK_H,
    params: ParamValues | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Remove what is no part of the table and older than that: files of killed landers, and those that were replaced.

    older_than_h: hours; at least twice `output.commit_ms`, for so long a lander's file may wait for its commit, and
        longer than anybody reads an older version of the table.

    Returns `{"table", "replaced", "orphans", "bytes", "others", …}`.
    """
    from kappaflow import _native

    older_than_ms = round(older_than_h * 3_600_000)
    found = _native.clean_table(fspath(job), param_texts(params), older_than_ms, on_progress)
    return cast(Summary, json.loads(found))


def export_table(
    job: JobPath,
    directory: JobPath,
    *,
    params: ParamValues | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Write the rows that readers see to a new directory on disk, which appears whole, with a file `_SUCCESS`.

    For readers that take every file they find. Files of the same disk are linked.
    Returns `{"directory", "version", "files", "rows", "bytes", …}`.
    """
    from kappaflow import _native

    found = _native.export_table(fspath(job), param_texts(params), fspath(directory), on_progress)
    return cast(Summary, json.loads(found))
