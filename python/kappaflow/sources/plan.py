"""The plan of a source: which files hold its rows, and which of their columns are which."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from kappaflow.errors import SourceError
from kappaflow.sources.filters import columns_of
from kappaflow.sources.kept import Kept, find, materialise
from kappaflow.sources.spec import Spec

if TYPE_CHECKING:
    import pyarrow as pa

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
    """The fields that `columns` asks for, in that order, and those that the filter needs; all if it is absent."""
    if spec.columns is None:
        return list(fields)
    known = {one.name: one for one in fields}
    for name in spec.columns:
        if name not in known:
            raise SourceError(f"{what} has no column {name!r}; its columns: {', '.join(known)}")
    more = sorted(columns_of(spec.filter) & set(known) - set(spec.columns))
    return [known[name] for name in (*spec.columns, *more)]


def check_filter(spec: Spec, what: str, known: Collection[str]) -> None:
    """SourceError if the filter names a column that is none of the `known`."""
    for unknown in sorted(columns_of(spec.filter) - set(known)):
        raise SourceError(
            f"source.filter names {unknown!r}; the columns of {what}: {', '.join(sorted(known))}"
        )


def instead(
    spec: Spec, what: str, pin: str, why: tuple[str, str], read: "Callable[[], pa.RecordBatchReader]"
) -> Plan:
    """The rows of a table that can't be read as files, kept as Parquet below `source.snapshot_path`.

    why: why it can't be, and the way out that a person has; the SourceError's if there is no `snapshot_path`.
    """
    reason, way_out = why
    path = spec.kept_path()
    if path is None:
        raise SourceError(
            f"{what} {reason}. {way_out}, or give source.snapshot_path, where its rows are then kept as Parquet."
        )
    kept = find(path, pin) or materialise(read, path, what=pin)
    return of_kept(spec, f"{what}, kept on {kept.when} since it {reason}", kept)


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
