"""Landed tables of formats that others know: how the core asks for them. See `kappaflow.tables.delta`."""

import json
from typing import Any

from kappaflow.errors import TableError

__all__ = ["call"]


def call(request: str) -> str:
    """Answer one request of the core, both JSON: `head` gives what the table is, `commit` says whether it is in."""
    asked: dict[str, Any] = json.loads(request)
    if asked["format"] != "delta":
        raise TableError(f"tables of format {asked['format']!r} can't be spoken to here")
    from kappaflow.tables import delta

    place, options = asked["place"], asked["options"]
    if asked["action"] == "head":
        return json.dumps(delta.head(place, options))
    return json.dumps(delta.commit(place, options, asked["commit"]))
