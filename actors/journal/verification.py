"""Reading the journal with suspicion: is each record what was written, and are all of them there?

Hash and link of every record, gaps in ``seq``, gaps in the versions of each stream, event ids that stand twice in a
stream, the end against the head that the last commit left, and the structure of a SQLite file. What no journal can
show by itself is that it was replaced by an older copy of itself: for that there are the mark beside it
(:mod:`actors.journal.high_water_mark`) and a head that was noted elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, func, select
from sqlalchemy.exc import DBAPIError

from actors.events import Event, EventType, Record, Severity, from_iso
from actors.journal.archive_anchor import NO_CUT, Anchor, read_anchor
from actors.journal.hash_chain import GENESIS, canonical_bytes, chained
from actors.journal.high_water_mark import Seen
from actors.journal.parallel_verification import WORTH_IT, all_right
from actors.journal.schema import corrupt, in_our_words, read_head, records
from actors.journal.types import JournalCorrupt, Verification

_PAGE: Final = 1000
_TAIL: Final = 100


def record_of(row: Row[Any], attempted: str, *, check_hash: bool = False) -> Record:
    """A stored row as a record; raises :class:`JournalCorrupt` for one that cannot be read or, where asked, whose
    hash is not that of its content."""
    if check_hash and _hash_of(row) != row.hash:
        raise corrupt(attempted, f"record {row.seq} was altered: its content does not have its hash")
    values: tuple[Any, ...] = tuple(row)
    seq, stream, version, event_id, time, kind, severity, payload, prev_hash, own_hash = values
    try:
        event = Event(event_id, EventType(kind), Severity(severity), from_iso(time), orjson.loads(payload))
        if not isinstance(event.payload, dict):
            raise TypeError("its payload is no object")
    except (ValueError, TypeError) as error:
        raise corrupt(attempted, f"record {seq} cannot be read ({error})") from None
    return Record(seq, stream, version, event, prev_hash, own_hash)


def check_tail(connection: Connection, attempted: str) -> tuple[int, str]:
    """``seq`` and ``hash`` of the last record, after the last hundred were found whole, linked and at the end.

    Raises :class:`JournalCorrupt` otherwise: nothing is to be appended after what is not there.
    """
    with connection.begin():
        anchor = read_anchor(connection, attempted)
        seq, last_hash = read_head(connection, attempted)
        last = connection.execute(select(records).order_by(records.c.seq.desc()).limit(_TAIL)).all()
    chain = _Chain(last[-1].seq - 1, last[-1].prev_hash) if len(last) == _TAIL else _Chain(anchor.seq, anchor.hash)
    for row in reversed(last):
        wrong = chain.follow(row)
        if wrong is not None:
            raise corrupt(attempted, wrong)
    wrong = _wrong_end(chain, seq, last_hash)
    if wrong is not None:
        raise corrupt(attempted, wrong)
    return seq, last_hash


def check_from(connection: Connection, seq: int, last_hash: str, attempted: str) -> None:
    """That the records after ``seq``, whose hash is given, are whole and linked to the end that the last commit left;
    raises :class:`JournalCorrupt` otherwise."""
    chain = _Chain(seq, last_hash)
    for row in _rows_after(connection, chain):
        wrong = chain.follow(row)
        if wrong is not None:
            raise corrupt(attempted, wrong)
    with connection.begin():
        end = read_head(connection, attempted)
    wrong = _wrong_end(chain, *end)
    if wrong is not None:
        raise corrupt(attempted, wrong)


def verify(connection: Connection, *, wanted: str | None = None, seen: Seen | None = None) -> Verification:
    """Read and check every record; see :class:`Verification`. May run beside a writer: it ends where that one is.

    ``wanted`` is a hash that must be one of the chain's, and ``seen`` a record that was durable before this began.
    """
    walk = _Walk(connection, wanted, seen)
    try:
        return walk.to_the_end() or walk.beyond_the_end() or walk.whole()
    except JournalCorrupt as error:
        return walk.wrong(None, error.found)
    except DBAPIError as error:
        damage = in_our_words(error, walk.attempted)
        if not isinstance(damage, JournalCorrupt):
            raise
        last = f"record {walk.chain.seq} is the last that can be read with all before it"
        return walk.wrong(walk.chain.seq + 1, f"the file is damaged ({damage.found}); {last}")


def verify_in_parallel(
    connection: Connection,
    file: Path,
    wanted: str | None,
    seen: Seen | None,
    progress: Callable[[int, int], None],
) -> Verification | None:
    """As :func:`verify`, on every core, for a large file in which nothing is wrong; ``None`` where it is not large, or
    something may be."""
    attempted = "verify the journal"
    with connection.begin():
        start = read_anchor(connection, attempted)
        end = read_head(connection, attempted)
        last_seq = connection.execute(select(func.max(records.c.seq))).scalar() or start.seq
        places = {} if wanted is None else {"wanted": records.c.hash == wanted}
        found = {
            name: connection.execute(select(records.c.seq).where(where)).scalar() for name, where in places.items()
        }
        there = None
        if seen is not None:
            there = connection.execute(select(records.c.hash).where(records.c.seq == seen.seq)).scalar()
    count = end[0] - start.seq
    head_seq = start.seq if wanted == start.hash else found.get("wanted")
    if count < WORTH_IT or last_seq != end[0] or (wanted is not None and head_seq is None):
        return None
    if seen is not None and _wrong_seen(seen, start, end[0], there) is not None:
        return None
    whole = all_right(file, (start.seq, start.hash, start.versions), end, lambda read: progress(read, count))
    return Verification(True, count, None, None, head_seq, start.seq, start.file) if whole else None


def check_seen(connection: Connection, seen: Seen, attempted: str, remedy: str) -> None:
    """What was durable is there; raises :class:`JournalCorrupt` with ``remedy`` otherwise."""
    with connection.begin():
        start = read_anchor(connection, attempted)
        last_seq = read_head(connection, attempted)[0]
        found = connection.execute(select(records.c.hash).where(records.c.seq == seen.seq)).scalar()
    wrong = _wrong_seen(seen, start, last_seq, found)
    if wrong is not None:
        raise JournalCorrupt(attempted, wrong, remedy)


def _wrong_seen(seen: Seen, start: Anchor, last_seq: int, found: str | None) -> str | None:
    if seen.seq > last_seq:
        return f"it ends at record {last_seq}, and record {seen.seq} was durable: what came between is lost"
    if seen.seq < start.seq or seen.hash == (start.hash if seen.seq == start.seq else found):
        return None
    return f"record {seen.seq} is not the one that was durable: its hash was {seen.hash}, so this is another journal"


class _Walk:
    """One reading of all records, and what is known when it ends."""

    attempted: Final = "verify the journal"

    def __init__(self, connection: Connection, wanted: str | None, seen: Seen | None) -> None:
        self._connection = connection
        self._wanted = wanted
        self._seen = seen
        self._head_seq: int | None = None
        self._hash_there: str | None = None
        self._start = NO_CUT
        self.chain = _Chain(0, GENESIS)

    def to_the_end(self) -> Verification | None:
        """Follow the chain; the result when something is wrong with it."""
        connection, chain = self._connection, self.chain
        with connection.begin():
            self._start = read_anchor(connection, self.attempted)
        chain.seq, chain.hash = self._start.seq, self._start.hash
        if self._wanted == chain.hash:
            self._head_seq = chain.seq
        versions = dict(self._start.versions)
        while True:
            for row in _rows_after(connection, chain):
                found = chain.follow(row) or _wrong_version(row, versions)
                if found is not None:
                    bad = min(row.seq, chain.seq + 1)
                    chain.seq = bad - 1
                    return self.wrong(bad, found)
                if row.hash == self._wanted:
                    self._head_seq = row.seq
                if self._seen is not None and row.seq == self._seen.seq:
                    self._hash_there = row.hash
            with connection.begin():
                seq, last_hash = read_head(connection, self.attempted)
                last_seq = connection.execute(select(func.max(records.c.seq))).scalar() or self._start.seq
            if last_seq == chain.seq:
                break
        found = _wrong_end(chain, seq, last_hash)
        return None if found is None else self.wrong(min(chain.seq, seq) + 1, found)

    def beyond_the_end(self) -> Verification | None:
        """Whether records are missing that were there once; the result when they are."""
        seen, chain, cut = self._seen, self.chain, self._start
        found = None if seen is None else _wrong_seen(seen, cut, chain.seq, self._hash_there)
        if seen is not None and found is not None:
            return self.wrong(min(seen.seq, chain.seq + 1), found)
        if self._wanted is None or self._head_seq is not None:
            return None
        earlier = "" if cut.file is None else f"; records up to {cut.seq} are in the archive {cut.file}: look there"
        return self.wrong(
            None,
            f"no record has the hash {self._wanted}: records were cut off the end since it was noted, or this is "
            f"another journal{earlier}",
        )

    def whole(self) -> Verification:
        """The result when the chain is: no event stands twice in its stream, and the file is sound."""
        seq = _second_of_two(self._connection)
        if seq is not None:
            return self.wrong(seq, f"record {seq} has an event id that its stream has before")
        damage = _structure(self._connection)
        if damage is not None:
            return self.wrong(None, f"the file is damaged: {damage}")
        return self._result(ok=True)

    def wrong(self, first_bad_seq: int | None, reason: str) -> Verification:
        """The result so far, and what is wrong."""
        return self._result(ok=False, first_bad_seq=first_bad_seq, reason=reason)

    def _result(self, *, ok: bool, first_bad_seq: int | None = None, reason: str | None = None) -> Verification:
        start, read = self._start, self.chain.seq - self._start.seq
        return Verification(ok, read, first_bad_seq, reason, self._head_seq, start.seq, start.file)


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


def _second_of_two(connection: Connection) -> int | None:
    """The first record that has an event id which its stream has before."""
    second = (
        select(func.max(records.c.seq).label("seq"))
        .group_by(records.c.stream, records.c.event_id)
        .having(func.count() > 1)
        .subquery()
    )
    with connection.begin():
        seq: int | None = connection.execute(select(func.min(second.c.seq))).scalar()
    return seq


def _structure(connection: Connection) -> str | None:
    if connection.dialect.name != "sqlite":
        return None
    with connection.begin():
        found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
    return None if found == "ok" else str(found)
