"""XComs hold counts and offset ranges: small, and plain JSON."""

import json
from collections.abc import Mapping
from typing import Any

MAX_ITEMS = 100


def small(value: Any, max_items: int = MAX_ITEMS) -> Any:
    """`value` as plain JSON, with each list cut at `max_items`; a cut list of a dict gets a sibling `<key>_total`.

    What JSON has no form for (dates, decimals) becomes text.
    """
    return _cut(json.loads(json.dumps(value, default=str)), max_items)


def _cut(value: Any, max_items: int) -> Any:
    if isinstance(value, Mapping):
        out: dict[str, Any] = {}
        for key, item in value.items():
            out[key] = _cut(item, max_items)
            if isinstance(item, list) and len(item) > max_items:
                out[f"{key}_total"] = len(item)
        return out
    if isinstance(value, list):
        return [_cut(item, max_items) for item in value[:max_items]]
    return value
