"""Archives as Parquet: the records as columns that any tool reads, and in the file's metadata what proves them.

The metadata key ``reconciliation-journal`` holds, as JSON, the rows of the other tables of a journal: where the archive
begins and ends, the nodes of the Merkle tree, the signed heads and the rotations of the key. To be read as a journal
the file is made into one again, in a directory that ends with this process; so nothing is believed of it that is not
believed of a journal, and the same verification says what is wrong with it. Needs the extra ``parquet``.
"""

from __future__ import annotations

import atexit
import base64
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from actors.journal.types import JournalCorrupt, JournalMissing, JournalUnavailable
from brokers.kit.foreign_row import read_json

SUFFIX: Final = ".parquet"
_KEY: Final = b"reconciliation-journal"
_COLUMNS: Final = ("seq", "stream", "version", "event_id", "time", "type", "severity", "payload", "prev_hash", "hash")
_BESIDE: Final = {
    "journal_schema": ("version",),
    "journal_head": ("id", "seq", "hash"),
    "journal_anchor": ("id", "seq", "hash", "file", "digest"),
    "journal_archived_versions": ("stream", "version"),
    "journal_tree": ("level", "place", "hash"),
    "journal_signed_heads": ("size", "time", "note", "stamp"),
    "journal_key_rotations": ("number", "note"),
}
_AT_ONCE: Final = 50_000


def is_parquet(file: Path) -> bool:
    """Whether a file is named as such an archive."""
    return file.suffix == SUFFIX


def check_installed() -> None:
    """Raises :class:`JournalUnavailable` where the library is missing."""
    _pyarrow("pyarrow")


def write(journal: Path, file: Path) -> None:
    """Write the archive in ``journal``, a SQLite file, as Parquet."""
    pa, pq = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    try:
        beside = {name: [list(map(_plain, row)) for row in _rows(connection, name, of)] for name, of in _BESIDE.items()}
        types = {"seq": pa.int64(), "version": pa.int64()}
        schema = pa.schema([(name, types.get(name, pa.string())) for name in _COLUMNS], {_KEY: json.dumps(beside)})
        with pq.ParquetWriter(str(file), schema, compression="zstd") as writer:
            found = _rows(connection, "journal_records", _COLUMNS, " ORDER BY seq")
            while page := found.fetchmany(_AT_ONCE):
                writer.write_table(pa.table(list(map(list, zip(*page, strict=True))), schema=schema))
    finally:
        connection.close()


def restore(file: Path, journal: Path) -> None:
    """Make the journal again that was written as Parquet. Raises :class:`JournalCorrupt` where it is none."""
    from actors.journal.evidence_tables import add_tables
    from actors.journal.store import Journal

    attempted = f"read the archive {file}"
    pa, pq = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    empty = Journal.open(f"sqlite:///{journal}", exclusive=True)
    empty.with_connection(add_tables)
    empty.close()
    journal.with_name(journal.name + ".mark").unlink(missing_ok=True)
    connection = sqlite3.connect(journal)
    try:
        with pq.ParquetFile(str(file)) as source, connection:
            beside = read_json(_metadata(source.schema_arrow.metadata))
            for name, columns in _BESIDE.items():
                connection.execute(f"DELETE FROM {name}")  # noqa: S608 - a table of ours
                _insert(connection, name, columns, (list(map(_stored, row)) for row in beside[name]))
            for batch in source.iter_batches(_AT_ONCE, columns=list(_COLUMNS)):
                _insert(
                    connection,
                    "journal_records",
                    _COLUMNS,
                    zip(*(one.to_pylist() for one in batch.columns), strict=True),
                )
        connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    except FileNotFoundError:
        raise JournalMissing(attempted, "there is no such file", "Name the file that `audit archive` wrote") from None
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, sqlite3.Error) as error:
        found = (str(error) or type(error).__name__).splitlines()[0]
        raise JournalCorrupt(
            attempted, f"it is damaged, or no archive of a journal ({found})", "Restore a copy"
        ) from None
    finally:
        connection.close()


def _metadata(found: Mapping[bytes, bytes] | None) -> bytes:
    if found is None or _KEY not in found:
        raise ValueError("its metadata are those of another file")
    return found[_KEY]


def readable(file: Path) -> Path:
    """The file itself, or the journal made of it where it is Parquet. Raises what :func:`restore` does."""
    if not is_parquet(file):
        return file
    try:
        found = file.stat()
    except OSError:
        raise JournalMissing(f"read the archive {file}", "there is no such file", "Name another") from None
    return _restored(file.absolute(), found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=64)
def _restored(file: Path, _changed_ns: int, _size: int) -> Path:
    made = _directory() / f"{len(list(_directory().iterdir()))}"
    made.mkdir()
    journal = made / f"{file.name}.db"
    restore(file, journal)
    return journal


@lru_cache(maxsize=1)
def _directory() -> Path:
    made = tempfile.mkdtemp(prefix="journal-archives-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def _rows(connection: sqlite3.Connection, table: str, columns: tuple[str, ...], more: str = "") -> sqlite3.Cursor:
    return connection.execute(f"SELECT {', '.join(columns)} FROM {table}{more}")  # noqa: S608 - names of ours


def _insert(connection: sqlite3.Connection, table: str, columns: tuple[str, ...], rows: Iterator[Any]) -> None:
    places = ", ".join("?" * len(columns))
    connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)  # noqa: S608 - as above


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _stored(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


def _pyarrow(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise JournalUnavailable(
            "use an archive in Parquet", "the library pyarrow is not installed", "Install the extra 'parquet'"
        ) from None
