"""Moving the oldest records of a journal into a SQLite file of their own.

* The archive is a journal like any other: it is verified where it lies, names the archive before it, and holds the
  nodes of the Merkle tree and the signed heads that prove it.
* It is written under another name, verified, made durable and only then given its own; only then do its records leave
  the journal, in one transaction with the anchor that takes their place. A process that is killed in between leaves
  both whole, and the records in both.
* What a stream is folded from stays: nothing from an instrument's last checkpoint on is moved, nor anything after it.
"""

from __future__ import annotations

import contextlib
import glob
import os
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, ColumnElement, Connection, Select, case, delete, func, insert, select

from actors.events import EventType
from actors.journal import parquet_archive
from actors.journal.archive_anchor import Anchor, read_anchor, write_anchor
from actors.journal.evidence_tables import add_tables, grow, heads, keep_for_cut, nodes, rotations
from actors.journal.filters import aware_iso
from actors.journal.schema import (
    IS_HALT,
    corrupt,
    create_file,
    engine_for,
    ensure_schema,
    in_our_words,
    move_head,
    read_head,
    records,
    writing,
)
from actors.journal.types import Archived, ArchiveRefused, JournalUnavailable, Verification
from actors.journal.verification import verify
from brokers.kit.whole_file import sync

Crash = Callable[[str], None]
"""Called after each step; a test ends the work there."""

Seal = Callable[[Connection, int], None]
"""Signs a head over so many records."""

_PAGE: Final = 5000


def archive(
    connection: Connection, name: str, before: datetime, file: Path, step: Crash, seal: Seal | None = None
) -> Archived:
    """Move the records before ``before`` out of the journal ``name``, whose one writer is ``connection``; ``seal``
    signs where it is cut, so that the archive proves itself. See :meth:`Journal.archive`."""
    attempted = f"archive the records of {name} before {aware_iso(before)} in {file}"
    if file.exists():
        raise ArchiveRefused(attempted, "there is such a file, and no archive is written over", "Name another file")
    if parquet_archive.is_parquet(file):
        parquet_archive.check_installed()
    with connection.begin():
        start = read_anchor(connection, attempted)
        last_seq, held_by = _last_to_go(connection, start, aware_iso(before), attempted)
        if last_seq <= start.seq:
            return Archived(0, start.seq + 1, start.seq, start.hash, None, held_by)
        new = _anchor_at(connection, start, last_seq, file.name)
    whole_tree = _grown(connection)
    if seal is not None and whole_tree:
        seal(connection, last_seq)
    part = file.with_name(file.name + ".part")
    with _in_words(attempted), _removed_if_it_fails(part):
        _write(connection, part, start, new, attempted)
        step("written")
        _check(part, start, new, attempted)
        if parquet_archive.is_parquet(file):
            _as_parquet(part, start, new, attempted)
        os.chmod(part, 0o400)  # it is evidence from now on: a supervisor started on it by mistake is refused
        os.rename(part, file)
        sync(file.parent)
    step("named")
    with writing(connection):
        if read_anchor(connection, attempted) != start:
            raise corrupt(
                attempted, f"it was cut by another hand meanwhile; {file} holds records that it may still have"
            )
        if whole_tree:
            keep_for_cut(connection, last_seq)
        connection.execute(delete(records).where(records.c.seq <= last_seq))
        write_anchor(connection, new)
    step("cut")
    return Archived(last_seq - start.seq, start.seq + 1, last_seq, new.hash, str(file), held_by)


def _grown(connection: Connection) -> bool:
    """Whether the tree is kept up to here; it is not where earlier records were archived before there was one."""
    try:
        while grow(connection):
            pass
    except JournalUnavailable:
        return False
    return True


def _last_to_go(connection: Connection, start: Anchor, before: str, attempted: str) -> tuple[int, str | None]:
    """The last record that may leave, and the stream that keeps the next one where it is that which holds it."""
    first_young = connection.execute(select(func.min(records.c.seq)).where(records.c.time >= before)).scalar()
    # The last record stays in any case: a journal knows by it where and when it ended.
    last_old = min(first_young or 2**62, read_head(connection, attempted)[0]) - 1
    needed = {stream: seq for stream, seq in _first_needed(connection).items() if seq <= last_old}
    if not needed:
        return max(last_old, start.seq), None
    stream = min(needed, key=lambda name: needed[name])
    return needed[stream] - 1, stream


def _first_needed(connection: Connection) -> dict[str, int]:
    """By stream, the first record from which its state is folded: its last checkpoint, or the first there is. The
    streams of accounts and of the supervisor only record what happened: nothing is folded from them except the halts of
    trading. A halt in force, in whichever stream, stays until it is lifted."""
    kept = select(records.c.stream, func.max(records.c.seq)).where(records.c.type == EventType.CHECKPOINT.value)
    found: dict[str, int] = {row[0]: row[1] for row in connection.execute(kept.group_by(records.c.stream))}
    of_instruments = select(records.c.stream, func.min(records.c.seq)).where(records.c.stream.contains("/"))
    for stream, seq in connection.execute(of_instruments.group_by(records.c.stream)):
        found.setdefault(stream, seq)
    halts = select(records.c.stream, func.max(records.c.seq)).where(IS_HALT)
    for stream, seq in connection.execute(halts.group_by(records.c.stream)).all():
        kind = connection.execute(select(records.c.type).where(records.c.seq == seq)).scalar_one()
        if kind == EventType.TRADING_HALTED.value:
            found[stream] = min(seq, found.get(stream, seq))
    return found


def _anchor_at(connection: Connection, start: Anchor, seq: int, file: str) -> Anchor:
    last_hash = connection.execute(select(records.c.hash).where(records.c.seq == seq)).scalar_one()
    last = select(records.c.stream, func.max(records.c.version)).where(records.c.seq <= seq).group_by(records.c.stream)
    versions = {row[0]: row[1] for row in connection.execute(last)}
    return Anchor(seq, last_hash, file, {**start.versions, **versions})


def _write(source: Connection, part: Path, start: Anchor, new: Anchor, attempted: str) -> None:
    """The archive under its passing name, durable and in one file."""
    _remove(part)  # of a process that was killed: nothing left the journal for it
    create_file(part)
    url = URL.create("sqlite", database=str(part))
    engine = engine_for(url, read_only=False, busy_timeout_s=0.0, doubtful=False, on_connect=None)
    with contextlib.closing(engine.connect()) as connection:
        ensure_schema(connection, url, read_only=False, alone=contextlib.nullcontext)
        add_tables(connection)
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - the engine makes no other
        with connection.begin(), source.begin():
            _copy(source, connection, select(records).where(records.c.seq <= new.seq).order_by(records.c.seq))
            _copy(source, connection, select(nodes).where((nodes.c.place + 1) * _width() <= new.seq))
            _copy(source, connection, select(heads).where(heads.c.size <= new.seq))
            _copy(source, connection, select(rotations))
            move_head(connection, new.seq, new.hash)
            if start.seq:
                write_anchor(connection, start)
        # One file, without a log beside it: it can be copied, and read where nobody may write.
        (mode,) = driver.execute("PRAGMA journal_mode=DELETE").fetchone()
        if mode != "delete":
            raise JournalUnavailable(attempted, f"the archive stays in the journal mode {mode}", "Try it again")
    sync(part)
    sync(part.parent)


def _width() -> ColumnElement[int]:
    """How many records a node of the tree is over."""
    return case(*((nodes.c.level == level, 1 << level) for level in range(32)), else_=1 << 62)


def _copy(source: Connection, target: Connection, chosen: Select[Any]) -> None:
    """Rows into the table of the same name, by pages: the journal may be on a server, and larger than memory."""
    (table,) = chosen.get_final_froms()
    names = list(chosen.selected_columns.keys())
    found = source.execute(chosen.execution_options(stream_results=True))
    for page in found.partitions(_PAGE):
        target.execute(insert(table), [dict(zip(names, row, strict=True)) for row in page])  # type: ignore[arg-type]  # a table


def _check(part: Path, start: Anchor, new: Anchor, attempted: str) -> None:
    """The archive, read again from the disk, holds every record it should, from the one cut to the other."""
    url = URL.create("sqlite", database=str(part))
    engine = engine_for(url, read_only=True, busy_timeout_s=0.0, doubtful=False, on_connect=None)
    with contextlib.closing(engine.connect()) as connection:
        found = verify(connection, wanted=new.hash)
    expected = Verification(True, new.seq - start.seq, None, None, new.seq, start.seq, start.file)
    if found != expected:
        raise corrupt(attempted, f"the records to be archived are not as they were written: {found.reason or found}")


def _as_parquet(part: Path, start: Anchor, new: Anchor, attempted: str) -> None:
    """Put Parquet in the place of the archive, once the journal made of that again is found whole."""
    columns = part.with_name(part.name + ".columns")
    again = part.with_name(part.name + ".again")
    try:
        parquet_archive.write(part, columns)
        parquet_archive.restore(columns, again)
        _check(again, start, new, attempted)
        sync(columns)
        os.replace(columns, part)
        sync(part.parent)
    finally:
        columns.unlink(missing_ok=True)
        for beside in part.parent.glob(f"{glob.escape(again.name)}*"):
            beside.unlink(missing_ok=True)


def _remove(part: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        part.with_name(part.name + suffix).unlink(missing_ok=True)


@contextlib.contextmanager
def _removed_if_it_fails(part: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(part)
        raise


@contextlib.contextmanager
def _in_words(attempted: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise in_our_words(error, attempted) from None
    except OSError as error:
        found = f"{error.filename or 'a file'}: {error.strerror or error}"
        raise JournalUnavailable(
            attempted, found, "Name a file in a directory that is writable and has space"
        ) from error
