"""What the core asks of a table's format, and how failures of the format's wheel are told."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kappaflow.errors import TableError

if TYPE_CHECKING:
    import pyarrow as pa

# Looks at a table that others keep committing to.
TRIES = 20

WHEELS = {"delta": "deltalake", "iceberg": "pyiceberg"}

Entry = Mapping[str, Any]


def columns(asked: Entry) -> "pa.Schema":
    """The columns of a commit."""
    import pyarrow as pa

    return pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(asked["commit"]["schema"])))


@contextmanager
def told(asked: Entry) -> Iterator[None]:
    """Errors of the wheel as TableError, without secrets of the options and the catalog."""
    try:
        yield
    except TableError:
        raise
    except ImportError as error:
        kind, wheel = asked["format"], WHEELS[asked["format"]]
        raise TableError(
            f"tables of format {kind} need the wheel {wheel}: pip install 'kappaflow[{kind}]' ({error})"
        ) from error
    except Exception as error:
        text = str(error)
        for name, value in [*asked["options"].items(), *asked["catalog"].items()]:
            is_secret = any(word in name for word in ("key", "secret", "token", "password", "credential"))
            # A URI with a user's name may have the password, too.
            if (is_secret or "@" in value) and len(value) > 3:
                text = text.replace(value, "…")
        place = asked["table"] or asked["place"]
        raise TableError(f"table {place}: {type(error).__name__}: {text}") from None
