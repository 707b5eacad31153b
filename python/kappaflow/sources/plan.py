"""The plan of a source: which files hold its rows, and which of their columns are which."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from kappaflow.errors import SourceError
from kappaflow.sources.kept import Kept
from kappaflow.sources.spec import Spec

VERSION = 1


@dataclass(frozen=True)
class PlannedFile:
    """A Parquet file, by path or URL. `bytes` and `rows`, where known, are checked when it is read.

    `partition`: values of columns that are the same in the whole file, as Hive folders would name them.
    """

    path: str
    bytes: int | None
    rows: int | None
    partition: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedField:
    """A column: its name, and its Parquet field id or its name in the files, where those say which it is."""

    name: str
    id: int | None = None
    physical: str | None = None


@dataclass(frozen=True)
class Plan:
    """A source at one point in time. `pin` identifies the content, `fields` its columns (None: all, by their names).

    `options`: how the storage of the files is reached; secrets are references.
    """

    what: str
    pin: str
    files: Sequence[PlannedFile]
    fields: Sequence[PlannedField] | None
    options: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """As JSON, for the core. What is empty is left out."""
        told = {"version": VERSION, **asdict(self)}
        if not self.options:
            del told["options"]
        return json.dumps(told)


def plan(spec: str) -> str:
    """Plans a source. In go the keys of a job file's `[source]` with `dir` and `request`, out comes the plan, as JSON.

    Raises SourceError, which names the source and what to do.
    """
    asked = Spec.of(json.loads(spec))
    found = _PLANNERS.get(asked.format)
    if found is None:
        known = ", ".join(sorted(_PLANNERS))
        raise SourceError(f"source.format is {asked.format!r}, expected one of {known}")
    return found(asked).text()


def of_kept(spec: Spec, what: str, kept: Kept) -> Plan:
    """The plan of rows that were kept as Parquet."""
    files = [PlannedFile(str(kept.path / one.name), one.bytes, one.rows) for one in kept.files]
    return Plan(what, kept.pin, files, chosen(spec, what, [PlannedField(name) for name in kept.columns]))


def chosen(spec: Spec, what: str, fields: Sequence[PlannedField]) -> list[PlannedField]:
    """The fields that `columns` asks for, in that order; all of them if it is absent."""
    if spec.columns is None:
        return list(fields)
    known = {one.name: one for one in fields}
    for name in spec.columns:
        if name not in known:
            raise SourceError(f"{what} has no column {name!r}; its columns: {', '.join(known)}")
    return [known[name] for name in spec.columns]


def without_room(what: str, why: str, way_out: str) -> SourceError:
    """What can't be read as files, and `snapshot_path` is not there to keep its rows."""
    return SourceError(
        f"{what} {why}. {way_out}, or give source.snapshot_path, where its rows are then kept as Parquet."
    )


def _iceberg(spec: Spec) -> Plan:
    from kappaflow.sources import iceberg

    return iceberg.plan(spec)


def _delta(spec: Spec) -> Plan:
    from kappaflow.sources import delta

    return delta.plan(spec)


def _sql(spec: Spec) -> Plan:
    from kappaflow.sources import sql

    return sql.plan(spec)


_PLANNERS: dict[str, Callable[[Spec], Plan]] = {"iceberg": _iceberg, "delta": _delta, "sql": _sql}
