"""Landed tables of formats that others know: how the core asks for them. See its modules `delta`, `iceberg`."""

import json
from importlib import import_module
from typing import Any

from kappaflow.errors import TableError
from kappaflow.tables.asked import WHEELS, told

__all__ = ["call"]


def call(request: str) -> str:
    """Answer one request of the core, both JSON: `head` gives what the table is, `commit` says whether it is in."""
    asked: dict[str, Any] = json.loads(request)
    if asked["format"] not in WHEELS:
        raise TableError(f"tables of format {asked['format']!r} can't be spoken to here")
    with told(asked):
        speaker = import_module(f"kappaflow.tables.{asked['format']}")
        return json.dumps(speaker.head(asked) if asked["action"] == "head" else speaker.commit(asked))
