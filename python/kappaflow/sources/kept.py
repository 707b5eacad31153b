"""Rows kept as Parquet, so that they can be read twice: a snapshot of a stream, a query or a table."""

import datetime
import fcntl
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kappaflow.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

COMPLETE = "_COMPLETE"
_UNFINISHED = ".unfinished"
GROUP_ROWS = 131_072
_GROUP_BYTES = 128 << 20
_FILE_GROUPS = 64
_FORMAT = 1


@dataclass(frozen=True)
class KeptFile:
    """One Parquet file of a snapshot."""

    name: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class Kept:
    """A finished snapshot: a directory of Parquet files, and the note `_COMPLETE` of what is in it.

    `what`: what it was made of. `when`: when it was finished, in UTC. `digest`: the SHA-256 of the files' bytes.
    `reused`: it had been there before.
    """

    path: Path
    what: str
    when: str
    digest: str
    rows: int
    columns: tuple[str, ...]
    files: tuple[KeptFile, ...]
    reused: bool = False

    @property
    def pin(self) -> str:
        """Identifies the content."""
        return f"kept:{self.digest}"


def materialise(source: object, snapshot_path: str | Path, *, what: str = "a stream") -> Kept:
    """Keeps rows as Parquet in the directory `snapshot_path`, from where they can be published, again and again.

    source: anything with `__arrow_c_stream__` (a pandas or Polars frame, a pyarrow table or reader, a DuckDB
        relation), a pyarrow dataset, or a function without arguments that returns one of them.
    what: what `_COMPLETE` says that it was made of. It identifies the snapshot: one of something else is refused.

    The directory appears whole or not at all. If it is there already, the source is not read and what is there is
    returned, so that a retry has the same rows; for new ones give another directory, or remove this one. Memory is
    bounded by the larger of a row group (131,072 rows or 128 MiB) and what the source gives at a time.

    Raises SourceError if the source fails, a column has no place in Parquet, or the directory holds something else.
    """
    path = Path(snapshot_path).expanduser().absolute()
    found = find(path, what)
    if found is not None:
        return found
    try:
        beside, held = _begin(path)
    except OSError as error:
        raise SourceError(f"{path.parent} can't be written ({error.strerror or error})") from error
    try:
        schema, files = _write(_batches(source, what), beside, what)
        note = Kept(
            path=path,
            what=what,
            when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            digest=_digest(beside, files),
            rows=sum(file.rows for file in files),
            columns=tuple(schema.names),
            files=tuple(files),
        )
        _note(beside, note)
        _publish(beside, path)
    except OSError as error:
        raise SourceError(
            f"the rows of {what} can't be kept in {path} ({error.strerror or error})"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        os.close(held)
    # Of two at once one wins, and both go on with what it kept.
    winner = find(path, what)
    return note if winner is None or winner.digest == note.digest else winner


def find(path: Path, what: str) -> Kept | None:
    """The finished snapshot in a directory; None if there is no directory.

    SourceError if what is there is no finished snapshot, is of something else, or is no longer whole.
    """
    if not path.exists():
        return None
    try:
        told = json.loads((path / COMPLETE).read_text())
        if told["format"] != _FORMAT:
            raise ValueError(f"format {told['format']!r}, expected {_FORMAT}")
        files = tuple(KeptFile(**file) for file in told["files"])
        columns = tuple(str(name) for name in told["columns"])
        kept = Kept(
            path, told["what"], told["when"], told["digest"], int(told["rows"]), columns, files, reused=True
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"{path} is there, and is no finished snapshot ({type(error).__name__}: {error}); "
            "give another directory, or remove this one"
        ) from error
    if kept.what != what:
        raise SourceError(
            f"{path} holds the rows of {kept.what}, kept on {kept.when}, and not of {what}; "
            "give another directory, or remove this one"
        )
    for file in kept.files:
        size = (path / file.name).stat().st_size if (path / file.name).exists() else None
        if size != file.bytes:
            now = "is gone" if size is None else f"has {size} bytes"
            raise SourceError(f"{path / file.name} {now}; when it was kept it had {file.bytes}")
    return kept


def _batches(source: Any, what: str) -> "pa.RecordBatchReader":
    """The source as a stream of Arrow batches."""
    import pyarrow as pa

    if callable(source) and not hasattr(source, "__arrow_c_stream__"):
        source = source()
    if hasattr(source, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(source)
    if hasattr(source, "scanner"):  # a pyarrow dataset
        return source.scanner().to_reader()
    raise SourceError(
        f"{what} is of type {type(source).__name__}: expected something with __arrow_c_stream__ or a pyarrow dataset"
    )


def _write(reader: "pa.RecordBatchReader", directory: Path, what: str) -> "tuple[pa.Schema, list[KeptFile]]":
    """Writes all batches, 64 row groups a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files: list[KeptFile] = []
    writer: pq.ParquetWriter | None = None
    groups = rows = 0

    def close() -> None:
        nonlocal writer, groups, rows
        if writer is not None:
            writer.close()
            path = directory / _name(len(files))
            _sync(path)
            files.append(KeptFile(path.name, path.stat().st_size, rows))
        writer, groups, rows = None, 0, 0

    try:
        for group in _groups(reader):
            if writer is None:
                writer = pq.ParquetWriter(directory / _name(len(files)), reader.schema, compression="zstd")
            writer.write_table(group, row_group_size=GROUP_ROWS)
            groups += 1
            rows += group.num_rows
            if groups == _FILE_GROUPS:
                close()
        if writer is None and not files:  # no rows: a file that tells the columns
            writer = pq.ParquetWriter(directory / _name(0), reader.schema, compression="zstd")
        close()
    except pa.ArrowNotImplementedError as error:
        raise SourceError(
            f"the rows of {what} can't be kept as Parquet: {error}. "
            f"Their columns: {', '.join(f'{one.name} {one.type}' for one in reader.schema)}"
        ) from error
    except OSError:
        raise
    except Exception as error:  # whatever the source raises while it is read
        raise SourceError(f"the rows of {what} can't be read ({type(error).__name__}: {error})") from error
    finally:
        if writer is not None:
            with suppress(Exception):
                writer.close()
    return reader.schema, files


def _groups(reader: "pa.RecordBatchReader") -> "Iterator[pa.Table]":
    """The rows in tables of a row group each: 131,072 rows, or fewer if they are large."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in reader:
        at = 0
        while at < batch.num_rows:
            each = max(1, batch.nbytes // batch.num_rows)
            room = min(GROUP_ROWS - rows, max(1, (_GROUP_BYTES - size) // each))
            piece = batch.slice(at, room)
            waiting.append(piece)
            at += piece.num_rows
            rows += piece.num_rows
            size += each * piece.num_rows
            if rows == GROUP_ROWS or size + each > _GROUP_BYTES:
                yield pa.Table.from_batches(waiting, reader.schema)
                waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting, reader.schema)


def _begin(path: Path) -> tuple[Path, int]:
    """A new directory beside `path`, and the handle that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    while True:
        beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_UNFINISHED}")
        beside.mkdir()
        held = _hold(beside)
        if held is None:  # another's sweep was faster
            continue
        if beside.exists():
            return beside, held
        os.close(held)


def _hold(directory: Path) -> int | None:
    """Marks an unfinished snapshot as somebody's, until this process ends; None if another has it, or removed it."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _sweep(path: Path) -> None:
    """Removes what those left unfinished who were killed while they kept the same snapshot."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_UNFINISHED}"):
        held = _hold(left)
        if held is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(held)


def _name(number: int) -> str:
    return f"part-{number:05}.parquet"


def _digest(directory: Path, files: Sequence[KeptFile]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with (directory / file.name).open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _note(directory: Path, kept: Kept) -> None:
    told = {"format": _FORMAT, **asdict(kept)}
    del told["path"], told["reused"]
    note = directory / COMPLETE
    note.write_text(json.dumps(told, indent=1) + "\n")
    _sync(note)
    _sync(directory)


def _publish(beside: Path, path: Path) -> None:
    """Gives the directory its name in one step; if another has it already, that one stays."""
    try:
        beside.rename(path)
    except OSError:
        if not path.exists():
            raise
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
