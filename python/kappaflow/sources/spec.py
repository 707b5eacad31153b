"""What a planner is asked: the `[source]` section of a job file, and where that file is."""

import datetime
import importlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from kappaflow.errors import SourceError
from kappaflow.sources.filters import Filter, parse_filter


@dataclass(frozen=True)
class Spec:
    """One request. `text`, `number` and `moment` read the keys that belong to a format."""

    format: str
    directory: Path
    request: str
    keys: Mapping[str, object]
    columns: tuple[str, ...] | None
    filter: Filter
    secrets: list[str] = field(default_factory=list)  # those resolved so far

    @classmethod
    def of(cls, keys: Mapping[str, object]) -> "Spec":
        """Checks what all formats share. SourceError names the key."""
        found = {name: keys.get(name) for name in ("format", "dir", "request")}
        for name, value in found.items():
            if not isinstance(value, str) or not value:
                raise SourceError(f"source.{name} is {value!r}, expected a text")
        columns = keys.get("columns")
        if columns is not None and not (
            isinstance(columns, list) and columns and all(isinstance(name, str) for name in columns)
        ):
            raise SourceError(f"source.columns is {columns!r}, expected a list of column names")
        return cls(
            format=str(found["format"]),
            directory=Path(str(found["dir"])),
            request=str(found["request"]),
            keys=keys,
            columns=tuple(columns) if columns is not None else None,
            filter=parse_filter(keys.get("filter")),
        )

    def text(self, name: str) -> str:
        """A key that the format needs."""
        value = self.keys.get(name)
        if not isinstance(value, str) or not value:
            raise SourceError(f"source.{name} is {value!r}; format = {self.format!r} needs it, as a text")
        return value

    def number(self, name: str) -> int | None:
        """A whole number, if the key is there."""
        value = self.keys.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise SourceError(f"source.{name} is {value!r}, expected a whole number")
        return value

    def moment(self, name: str) -> datetime.datetime | None:
        """A time with its zone, if the key is there."""
        value = self.keys.get(name)
        if value is None:
            return None
        try:
            moment = datetime.datetime.fromisoformat(str(value))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise SourceError(
                f"source.{name} is {value!r}, expected a time with its zone, as 2013-01-31T00:00:00Z"
            )
        return moment

    def options(self, name: str) -> dict[str, str]:
        """A table of texts; empty if the key is not there. Its secrets are still references."""
        value = self.keys.get(name, {})
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            raise SourceError(f"source.{name} is not a table of texts")
        return dict(value)

    def resolved(self, name: str, reference: str) -> str:
        """What `env:NAME`, `file:PATH` (relative to the job file) or `conn:NAME` (a connection of Airflow, which its
        tasks put in place) refers to; any other text is itself.

        So is a URL, `file://…`, which catalogs take for a warehouse.
        """
        kind, _, place = reference.partition(":")
        if kind == "env":
            value = os.environ.get(place)
            if value is None:
                raise SourceError(
                    f"source.{name} refers to the environment variable {place}, which is not set"
                )
        elif kind == "conn":
            variable = "KAPPAFLOW_CONN_" + re.sub(r"[^A-Za-z0-9]", "_", place).upper()
            value = os.environ.get(variable)
            if value is None:
                raise SourceError(
                    f"source.{name} refers to the connection {place} of Airflow, which its tasks put in place "
                    f"({variable}); elsewhere give env:NAME or file:PATH"
                )
        elif kind == "file" and not place.startswith("//"):
            path = self.directory / place
            try:
                value = path.read_text().rstrip("\r\n")
            except OSError as error:
                raise SourceError(
                    f"source.{name} refers to the file {path}, which can't be read ({error.strerror})"
                ) from error
        else:
            return reference
        if value:
            self.secrets.append(value)
        return value

    def kept_path(self) -> Path | None:
        """Where rows of this request are kept as Parquet: a directory of its own below `snapshot_path`."""
        if self.keys.get("snapshot_path") is None:
            return None
        place = self.text("snapshot_path")
        if "://" in place:
            raise SourceError(
                f"source.snapshot_path is {place!r}: rows are kept in a directory of a file system that is mounted here"
            )
        return self.directory / place / self.request

    def failed(self, what: str, error: Exception) -> SourceError:
        """What was raised while `what` was done, in our family and without the secrets that a library was given."""
        told = str(error) if isinstance(error, SourceError) else f"{what}: {type(error).__name__}: {error}"
        for secret in self.secrets:
            told = told.replace(secret, "***")
        return SourceError(told)


def wheel(module: str, extra: str) -> ModuleType:
    """Imports what a format is read with. SourceError tells how to install it if it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SourceError(
            f"{module.partition('.')[0]} can't be imported ({error}): `pip install 'kappaflow[{extra}]'`"
        ) from error
