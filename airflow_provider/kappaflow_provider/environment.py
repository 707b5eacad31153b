"""Values of connections where the stages look for them: in the environment of this process, for the time of a call."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def placed(values: Mapping[str, str]) -> Iterator[None]:
    """Within the block the variables have these values; after it those that they had."""
    before = {name: os.environ.get(name) for name in values}
    try:
        os.environ.update(values)
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old


def variable(conn_id: str) -> str:
    """`KAPPAFLOW_CONN_MY_REGISTRY` for connection `my-registry`: where `conn:my-registry` of a job file leads."""
    return "KAPPAFLOW_CONN_" + re.sub(r"[^A-Za-z0-9]", "_", conn_id).upper()
