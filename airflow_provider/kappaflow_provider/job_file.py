"""The little that the provider must know of a job file before it calls `kappaflow`."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kappaflow_provider.exceptions import KappaFlowFailed


def declared_params(job_file: str) -> frozenset[str]:
    """The names under `[params]`."""
    return frozenset(_table_of(_read(job_file), "params"))


def registry_connections(job_file: str, params: Mapping[str, object]) -> list[str]:
    """The connections that regions name as their registry, `registry = "conn:NAME"`; NAME may be a param."""
    regions = _read(job_file).get("regions")
    named = [region.get("registry") for region in regions or [] if isinstance(region, dict)]
    return _connections(job_file, params, named)


def source_connections(job_file: str, params: Mapping[str, object]) -> list[str]:
    """The connection that the source names as its database, `source.connection = "conn:NAME"`, if it does."""
    return _connections(job_file, params, [_table_of(_read(job_file), "source").get("connection")])


def _connections(job_file: str, params: Mapping[str, object], named: Sequence[object]) -> list[str]:
    job = _read(job_file)
    values = {
        name: declared["default"]
        for name, declared in _table_of(job, "params").items()
        if isinstance(declared, dict) and "default" in declared
    } | dict(params)
    found: list[str] = []
    for name in named:
        if not isinstance(name, str):
            continue
        filled = re.sub(r"\$\{(\w+)\}", lambda hit: str(values.get(hit[1], hit[0])), name)
        if filled.startswith("conn:"):
            found.append(filled.removeprefix("conn:"))
    return list(dict.fromkeys(found))


def _read(job_file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(job_file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise KappaFlowFailed(f"{job_file}: can't read the job file: {error}", "job_file") from error


def _table_of(job: Mapping[str, Any], key: str) -> dict[str, Any]:
    table = job.get(key, {})
    return table if isinstance(table, dict) else {}
