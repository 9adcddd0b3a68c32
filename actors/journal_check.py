"""Reading the journal with suspicion: is each record what was written, and are all of them there?

Hash and link of every record, gaps in ``seq``, gaps in the versions of each stream, event ids that stand twice in a
stream, the end against the head that the last commit left, and the structure of a SQLite file. What no journal can
show by itself is a file replaced by an older copy of itself: for that, keep a copy of the head elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, func, select
from sqlalchemy.exc import DBAPIError

from actors.chain import GENESIS, canonical_bytes, chained
from actors.events import Event, EventType, Record, Severity, from_iso
from actors.journal_schema import corrupt, head, in_our_words, records
from actors.journal_types import JournalCorrupt, Verification

_PAGE: Final = 1000
_TAIL: Final = 100
_HEAD: Final = select(head.c.seq, head.c.hash)


def record_of(row: Row[Any], attempted: str, *, check_hash: bool = False) -> Record:
    """A stored row as a record; raises :class:`JournalCorrupt` for one that cannot be read or, where asked, whose
    hash is not that of its content."""
    if check_hash and _hash_of(row) != row.hash:
        raise corrupt(attempted, f"record {row.seq} was altered: its content does not have its hash")
    values: tuple[Any, ...] = tuple(row)
    seq, stream, version, event_id, time, kind, severity, payload, prev_hash, own_hash = values
    try:
        event = Event(event_id, EventType(kind), Severity(severity), from_iso(time), orjson.loads(payload))
    except (ValueError, TypeError) as error:
        raise corrupt(attempted, f"record {seq} cannot be read ({error})") from None
    return Record(seq, stream, version, event, prev_hash, own_hash)


def read_head(connection: Connection, attempted: str) -> tuple[int, str]:
    """``seq`` and ``hash`` of the last record as the last commit left them; raises :class:`JournalCorrupt`."""
    row = connection.execute(_HEAD).one_or_none()
    if row is None:
        raise corrupt(attempted, "the head that the last commit left is gone")
    return row.seq, row.hash


def check_tail(connection: Connection, attempted: str) -> tuple[int, str]:
    """``seq`` and ``hash`` of the last record, after the last hundred were found whole, linked and at the end.

    Raises :class:`JournalCorrupt` otherwise: nothing is to be appended after what is not there.
    """
    with connection.begin():
        seq, last_hash = read_head(connection, attempted)
        last = connection.execute(select(records).order_by(records.c.seq.desc()).limit(_TAIL)).all()
    chain = _Chain(last[-1].seq - 1, last[-1].prev_hash) if len(last) == _TAIL else _Chain(0, GENESIS)
    for row in reversed(last):
        wrong = chain.follow(row)
        if wrong is not None:
            raise corrupt(attempted, wrong)
    wrong = _wrong_end(chain, seq, last_hash)
    if wrong is not None:
        raise corrupt(attempted, wrong)
    return seq, last_hash


def verify(connection: Connection) -> Verification:
    """Read and check every record; see :class:`Verification`. May run beside a writer: it ends where that one is."""
    chain = _Chain(0, GENESIS)
    versions: dict[str, int] = {}
    try:
        while True:
            for row in _rows_after(connection, chain):
                wrong = chain.follow(row) or _wrong_version(row, versions)
                if wrong is not None:
                    bad = min(row.seq, chain.seq + 1)
                    return Verification(False, bad - 1, bad, wrong)
            with connection.begin():
                seq, last_hash = read_head(connection, "verify the journal")
                last_seq = connection.execute(select(func.max(records.c.seq))).scalar() or 0
            if last_seq == chain.seq:
                break
        wrong = _wrong_end(chain, seq, last_hash)
        if wrong is not None:
            return Verification(False, chain.seq, min(chain.seq, seq) + 1, wrong)
        return _twice(connection, chain) or _structure(connection, chain) or Verification(True, chain.seq)
    except JournalCorrupt as error:
        return Verification(False, chain.seq, None, error.found)
    except DBAPIError as error:
        damage = in_our_words(error, "verify the journal")
        if not isinstance(damage, JournalCorrupt):
            raise
        return Verification(False, chain.seq, chain.seq + 1, f"the file is damaged: {damage.found}")


class _Chain:
    """Where a walk along the records has come to."""

    def __init__(self, seq: int, last_hash: str) -> None:
        self.seq = seq
        self.hash = last_hash

    def follow(self, row: Row[Any]) -> str | None:
        """Step onto the next record, or say what is wrong with it and stay."""
        if row.seq != self.seq + 1:
            return f"record {self.seq + 1} is missing: {self.seq} is followed by {row.seq}"
        if row.prev_hash != self.hash:
            return f"record {row.seq} does not follow the one before it: its prev_hash is another"
        if _hash_of(row) != row.hash:
            return f"record {row.seq} was altered: its content does not have its hash"
        self.seq, self.hash = row.seq, row.hash
        return None


def _hash_of(row: Row[Any]) -> str | None:
    values: tuple[Any, ...] = tuple(row)
    *content, prev_hash, _ = values
    try:
        return chained(prev_hash, canonical_bytes(*content))
    except (TypeError, ValueError, AttributeError):
        return None  # a field that is no longer of its type


def _wrong_version(row: Row[Any], versions: dict[str, int]) -> str | None:
    expected = versions.get(row.stream, 0) + 1
    if row.version != expected:
        return f"record {row.seq} is version {row.version} of {row.stream}, where {expected} was expected"
    versions[row.stream] = expected
    return None


def _wrong_end(chain: _Chain, seq: int, last_hash: str) -> str | None:
    if chain.seq < seq:
        return f"records are cut off the end: the last commit left {seq}, and {chain.seq} is the last there is"
    if chain.seq > seq:
        return f"records were added by another hand: the last commit left {seq}, and there are {chain.seq}"
    if chain.hash != last_hash:
        return f"the last record is not the one that the last commit left: {last_hash} was its hash"
    return None


def _rows_after(connection: Connection, chain: _Chain) -> Iterator[Row[Any]]:
    """The rows after where the chain stands, by pages; one by one where a page cannot be read, to find which row."""
    size = _PAGE
    while True:
        page = select(records).where(records.c.seq > chain.seq).order_by(records.c.seq).limit(size)
        try:
            with connection.begin():
                rows = connection.execute(page).all()
        except DBAPIError:
            if size == 1:
                raise
            size = 1
            continue
        yield from rows
        if len(rows) < size:
            return


def _twice(connection: Connection, chain: _Chain) -> Verification | None:
    second = (
        select(func.max(records.c.seq).label("seq"))
        .group_by(records.c.stream, records.c.event_id)
        .having(func.count() > 1)
        .subquery()
    )
    with connection.begin():
        seq = connection.execute(select(func.min(second.c.seq))).scalar()
    if seq is None:
        return None
    return Verification(False, chain.seq, seq, f"record {seq} has an event id that its stream has before")


def _structure(connection: Connection, chain: _Chain) -> Verification | None:
    if connection.dialect.name != "sqlite":
        return None
    with connection.begin():
        found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
    return None if found == "ok" else Verification(False, chain.seq, None, f"the file is damaged: {found}")
