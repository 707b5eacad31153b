"""The little that the provider must know of a job file before it calls `kappaflow`."""

import tomllib
from pathlib import Path

from kappaflow_provider.exceptions import KappaFlowFailed


def declared_params(job_file: str) -> frozenset[str]:
    """The names under `[params]`."""
    try:
        table = tomllib.loads(Path(job_file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise KappaFlowFailed(f"{job_file}: can't read the job file: {error}", "job_file") from error
    params = table.get("params", {})
    return frozenset(params) if isinstance(params, dict) else frozenset()
