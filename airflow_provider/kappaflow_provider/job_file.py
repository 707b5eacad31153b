"""The little that the provider must know of a job file before it calls `kappaflow`."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kappaflow_provider.exceptions import KappaFlowFailed


def declared_params(job_file: str) -> frozenset[str]:
    """The names under `[params]`."""
    return frozenset(_table_of(_read(job_file), "params"))


def registry_connections(job_file: str, params: Mapping[str, object]) -> list[str]:
    """The connections that regions name as their registry, `registry = "conn:NAME"`; NAME may be a param."""
    job = _read(job_file)
    values = {
        name: declared["default"]
        for name, declared in _table_of(job, "params").items()
        if isinstance(declared, dict) and "default" in declared
    } | dict(params)
    found: list[str] = []
    regions = job.get("regions")
    for region in regions if isinstance(regions, list) else []:
        registry = region.get("registry") if isinstance(region, dict) else None
        if not isinstance(registry, str):
            continue
        filled = re.sub(r"\$\{(\w+)\}", lambda hit: str(values.get(hit[1], hit[0])), registry)
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
