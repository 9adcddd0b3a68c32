"""Storage under the audit actor: the durable, ordered, hash-chained record of everything that happened.

* An append is answered after its commit, and a commit is on disk when it returns.
* An append names the version of the stream it continues. A stale one is refused whole; the other appends of the same
  commit go on. One that is already in, event id for event id, is answered as it was the first time.
* ``seq`` over the journal and ``version`` within a stream are gapless and start at 1; every record carries the hash of
  the one before it.
* After a failed commit nothing is repeated blindly: the connection and everything remembered are given up, and the
  next call opens the file again, settles its log, and checks its last records before it believes them.

Synchronous; one connection, used by one thread at a time whichever threads call. SQLite, or PostgreSQL with what is
peculiar to it in :mod:`postgresql`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from functools import partial
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TypeVar, Unpack

from sqlalchemy import ColumnElement, Connection, bindparam, func, literal_column, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from actors.book.in_step import concerns, proofs
from actors.book.unreadable import UnreadableRecord
from actors.events import EventType, NamedInStep, Record, StreamTail, from_iso
from actors.journal.archive import Seal, archive
from actors.journal.archive_anchor import archived_version
from actors.journal.commit_plan import Heads, Plan, version_of
from actors.journal.evidence_tables import has_tables, newest_head
from actors.journal.filters import conditions, names_instrument
from actors.journal.hash_chain import GENESIS
from actors.journal.high_water_mark import Seen
from actors.journal.location import Place
from actors.journal.record_filter import Ids, RecordQuery, check_keys, may_name, of_stream
from actors.journal.schema import (
    IS_CHECKPOINT,
    OnConnect,
    corrupt,
    empty_the_log,
    in_our_words,
    insert_records,
    read_head,
    records,
    write_nothing,
    writing,
)
from actors.journal.types import (
    Append,
    Appended,
    AppendRefused,
    Archived,
    ArchiveRefused,
    JournalCorrupt,
    JournalError,
    JournalUnavailable,
    Stale,
    Verification,
)
from actors.journal.verification import check_seen, check_tail, record_of, verify, verify_in_parallel
from actors.names import split_name

T = TypeVar("T")

Outcome = Appended | Stale | AppendRefused
"""What became of one append; an :class:`AppendRefused` is given back in its place, not raised."""


_PAGE: Final = 1000
_NAMED_IN: Final = 12
"""Records of an account that name its books as being in step, within which one that is loaded is looked for."""


_OF_STREAM: Final = records.c.stream == bindparam("stream")
_LAST_CHECKPOINT: Final = select(func.max(records.c.version)).where(_OF_STREAM, IS_CHECKPOINT)
_NEXT_STREAM: Final = select(func.min(records.c.stream)).where(records.c.stream > bindparam("after"))


def _place_of(record: Record) -> int:
    return record.seq


def _concerns(instrument: str, record: Record) -> bool:
    return concerns(record, instrument)


class LightRow(NamedTuple):
    """A record as far as it is read where nothing is checked; ``payload`` is its text."""

    seq: int
    type: str
    severity: str
    time: str
    payload: str


class Journal:
    """An open journal; :meth:`open` makes one. Its methods may be called from any thread, one at a time is served.

    Every method raises :class:`JournalUnavailable` when the database cannot be used now (the next call tries again by
    itself), and :class:`JournalCorrupt` when what it holds is not what was written.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._name = place.name
        self._read_only = place.read_only
        self._mutex = threading.RLock()
        self._connection: Connection | None = None
        self._heads = Heads(0, GENESIS)
        self._acknowledged = (0, GENESIS)
        self._doubtful = False
        self._closed = False
        self._named_by: dict[str, tuple[int, dict[str, NamedInStep]]] = {}

    @classmethod
    def open(
        cls,
        url: str,
        *,
        exclusive: bool = False,
        read_only: bool = False,
        busy_timeout_s: float = 5.0,
        on_connect: OnConnect | None = None,
        beside: Path | None = None,
        answer_within_s: float | None = None,
    ) -> Journal:
        """The journal at ``url`` (``sqlite:///path``), created with its directory where there is none.

        ``exclusive`` makes this process its one writer, until :meth:`close` or its end, or raises
        :class:`JournalInUse`. ``read_only`` opens it beside a living writer, or after a dead one, changes nothing and
        creates nothing: :class:`JournalMissing` where there is no journal. Raises :class:`JournalTooNew` for one that
        a newer program wrote.

        Of a journal on a server, ``beside`` is the common name of the files that are kept for it on this machine: its
        mark is one of them, without which a server that lacks the last records is not found out by a new process.
        ``answer_within_s`` bounds each answer of the server (10 s for a writer, 60 s for a reader).
        """
        if exclusive and read_only:
            raise ValueError("who only reads a journal needs no lock on it")
        place = Place(
            url,
            exclusive=exclusive,
            read_only=read_only,
            busy_timeout_s=busy_timeout_s,
            on_connect=on_connect,
            beside=beside,
            answer_within_s=answer_within_s,
        )
        journal = cls(place)
        try:
            journal._place.take()
            with journal._using(f"open the journal {journal._name}"):
                pass
        except BaseException:
            journal.close()
            raise
        return journal

    def close(self) -> None:
        """Give up the connection and the lock. May be called twice."""
        with self._mutex:
            self._closed = True
            if self._connection is not None and not self._read_only:
                # A copy of the file alone is then whole: a reader that closes after us could not see to it.
                with contextlib.suppress(DBAPIError, sqlite3.Error):
                    empty_the_log(self._connection)
                self._place.leave_mark(*self._acknowledged, sync=True)
            self._drop()
            self._place.give_back()

    def append(self, batch: Sequence[Append]) -> list[Outcome]:
        """Make these durable in one commit, and say of each in its order what became of it.

        Raises :class:`JournalUnavailable` when the commit did not succeed: then it is not known whether the events
        are in, and none may be acted upon; offering the same appends again finds out.
        """
        events = sum(len(append.events) for append in batch)
        attempted = f"append {events} events to the journal {self._name}"
        if self._read_only:
            raise JournalUnavailable(attempted, "it was opened for reading only", "Send them to the audit actor")
        if not batch:
            return []
        with self._using(attempted) as connection:
            self._place.check(attempted)
            return self._commit(connection, batch, attempted)

    def probe(self) -> None:
        """Prove that the journal can be written now, by a commit that changes nothing."""
        with self._using(f"write to the journal {self._name}") as connection:
            write_nothing(connection)

    def load(self, stream: str) -> StreamTail:
        """The records of a stream from its last checkpoint (that one included) or its beginning to its end.

        Each is checked against its hash; raises :class:`JournalCorrupt` where one is altered or missing.
        """
        attempted = f"load the stream {stream} from the journal {self._name}"
        of_stream = records.c.stream == stream
        with self._using(attempted) as connection, connection.begin():
            first = connection.execute(select(func.max(records.c.version)).where(of_stream, IS_CHECKPOINT)).scalar()
            if first is None:
                first = archived_version(connection, stream) + 1
            found = connection.execute(
                select(records).where(of_stream, records.c.version >= first).order_by(records.c.version)
            ).all()
            tail = tuple(record_of(row, attempted, check_hash=True) for row in found)
            named = self._named(connection, stream, attempted)
        for version, record in enumerate(tail, first):
            if record.version != version:
                raise corrupt(attempted, f"version {version} of {stream} is missing")
        return StreamTail(first - 1 + len(tail), tail, named)

    def _named(self, connection: Connection, stream: str, attempted: str) -> NamedInStep | None:
        """The version at which an instrument's account last named its book as being in step, and when. Only the newest
        records are searched: older ones do not matter to an actor that continues from here."""
        account, symbol = split_name(stream)
        if not symbol:
            return None
        newest = (
            select(records)
            .where(records.c.stream == account, records.c.type == EventType.RECONCILED.value)
            .order_by(records.c.version.desc())
            .limit(_NAMED_IN)
        )
        head = version_of(connection, account)
        known = self._named_by.get(account)
        if known is None or known[0] != head:
            found: dict[str, NamedInStep] = {}
            for row in connection.execute(newest).all():
                record = record_of(row, attempted, check_hash=True)
                with contextlib.suppress(UnreadableRecord):  # it proves nothing
                    for proof in proofs(record):
                        found.setdefault(proof.stream, NamedInStep(proof.version, proof.at))
            known = self._named_by[account] = (head, found)
        return known[1].get(stream)

    def versions(self, streams: Sequence[str]) -> dict[str, int]:
        """The version of the last record of each of these streams, 0 where there is none."""
        with self._using(f"look at the streams of the journal {self._name}") as connection, connection.begin():
            return {stream: version_of(connection, stream) for stream in streams}

    def records(self, **asked: Unpack[RecordQuery]) -> Iterator[Record]:
        """The records that meet every condition of a :class:`RecordQuery`, in the order of ``seq``, read in pages as
        they are asked for. ``account`` and ``instrument`` mean the streams there are at the call. An archived record is
        in its archive, not here. Raises ``TypeError`` for another condition, ``ValueError`` for a time without a zone.
        """
        check_keys(asked)
        chosen = conditions(asked, self._place.dialect)
        pages = partial(self._pages, asked)
        stream = asked.get("stream")
        if stream is None and asked.get("account") is None and asked.get("instrument") is None:
            return pages(chosen, single=False)
        every = [stream] if stream is not None else self.streams()
        names = [name for name in every if of_stream(asked, name)]
        naming, instrument = [name for name in every if may_name(asked, name)], asked.get("instrument")
        if naming and instrument is not None:
            of_accounts = [*chosen, *names_instrument(instrument, self._place.dialect)]
            parts = [pages([*chosen, records.c.stream == name], single=True) for name in names]
            parts += [
                filter(partial(_concerns, instrument), pages([*of_accounts, records.c.stream == name], single=True))
                for name in naming
            ]
            newest = asked.get("order") == "newest"
            return islice(merge(*parts, key=_place_of, reverse=newest), asked.get("limit"))
        if len(names) == 1:
            return pages([*chosen, records.c.stream == names[0]], single=True)
        # As an expression, so that the rows are read in the order of seq and never sorted page by page.
        return pages([*chosen, records.c.stream.concat("").in_(names)], single=False) if names else iter(())

    def since_checkpoints(self, types: Collection[EventType]) -> Iterator[tuple[str, list[LightRow]]]:
        """Each stream with its last checkpoint and what came after it of these types, oldest first, as it lies there:
        no hash is checked, which is for what may be read ten times as fast and is acted on by nobody."""
        # Made once and without a parameter for each type: there may be thousands of streams.
        wanted: list[ColumnElement[str]] = [
            literal_column(f"'{kind.value}'") for kind in (EventType.CHECKPOINT, *types)
        ]
        light = (records.c.seq, records.c.type, records.c.severity, records.c.time, records.c.payload)
        since = (records.c.version >= bindparam("first"), records.c.type.in_(wanted))
        found = select(*light).where(_OF_STREAM, *since).order_by(records.c.version)
        streams = self.streams()
        with self._using(f"read the ends of the streams of the journal {self._name}") as connection, connection.begin():
            for stream in streams:
                first = connection.execute(_LAST_CHECKPOINT, {"stream": stream}).scalar()
                rows = connection.execute(found, {"stream": stream, "first": first or 0}).all()
                yield stream, [LightRow._make(row) for row in rows]

    def streams(self) -> list[str]:
        """The names of all streams, sorted; costs one look into an index for each."""
        found: list[str] = []
        with self._using(f"read the streams of the journal {self._name}") as connection, connection.begin():
            name = connection.execute(select(func.min(records.c.stream))).scalar()
            while name is not None:
                found.append(name)
                name = connection.execute(_NEXT_STREAM, {"after": name}).scalar()
        return found

    def head(self) -> tuple[int, str, datetime] | None:
        """``seq``, ``hash`` and time of the last record; ``None`` for an empty journal."""
        last = select(records.c.seq, records.c.hash, records.c.time).order_by(records.c.seq.desc()).limit(1)
        with self._using(f"read the head of the journal {self._name}") as connection, connection.begin():
            row = connection.execute(last).one_or_none()
        return None if row is None else (row.seq, row.hash, from_iso(row.time))

    def doubt(self) -> str | None:
        """Why what is read here is not all that was written, in words: its end is not what the last commit left, or it
        holds less than was durable. ``None`` where neither shows; only :meth:`verify` reads all of it."""
        attempted = f"read the end of the journal {self._name}"
        seen = self._place.seen()  # before the head: a writer may go on
        try:
            with self._using(attempted) as connection:
                check_tail(connection, attempted)
                if seen is not None:
                    check_seen(connection, seen, attempted, self._place.remedy)
                kept = has_tables(connection)
                with connection.begin():
                    signed = newest_head(connection) if kept else None
                    last = connection.execute(select(func.max(records.c.seq))).scalar()
        except JournalCorrupt as error:
            return error.found
        if signed is not None and last is not None and signed.size > last:
            return f"its newest signed head covers {signed.size} records, and {last} is the last there is"
        return None

    @property
    def cautions(self) -> tuple[str, ...]:
        """What the server that it is on does not promise, in sentences; empty for a file."""
        return self._place.cautions

    @property
    def file(self) -> Path | None:
        """Its file; ``None`` where it is in a database that is a server."""
        return self._place.file

    def with_connection(self, work: Callable[[Connection], T]) -> T:
        """The result of ``work`` on the connection, outside a transaction: for the evidence beside the records. Raises
        as every method does."""
        with self._using(f"keep the evidence of the journal {self._name}") as connection:
            return work(connection)

    def verify(self, *, head: str | None = None, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Read everything again: hashes, links, gaps in ``seq``, gaps in the versions of each stream, event ids that
        stand twice in one stream, records cut off the end, and the soundness of the file itself.

        ``head`` is a hash noted earlier (:meth:`head`): unless it is found in the chain, records were cut off the end
        since, or this is another journal. Where records were archived, reading begins after them.

        With ``progress``, which receives how many of how many records were read, a large SQLite file is read on every
        core. Has a connection of its own, so that appends go on meanwhile. A journal that is wrong is a result, not an
        error; one that cannot be read now raises.
        """
        attempted = f"verify the journal {self._name}"
        self._check_open(attempted)
        seen = self._place.seen()
        try:
            with contextlib.closing(self._place.connect(attempted, read_only=True)) as connection:
                wanted = None if head is None else head.strip().lower()
                if progress is not None and self._place.file is not None:
                    quick = verify_in_parallel(connection, self._place.file, wanted, seen, progress)
                    if quick is not None:
                        return quick
                return verify(connection, wanted=wanted, seen=seen)
        except JournalCorrupt as error:
            return Verification(False, 0, None, error.found)
        except DBAPIError as error:
            found = in_our_words(error, attempted)
            if isinstance(found, JournalCorrupt):
                return Verification(False, 0, None, found.found)
            raise found from None

    def archive(
        self, before: datetime, file: Path, *, step: Callable[[str], None] = lambda _: None, seal: Seal | None = None
    ) -> Archived:
        """Move the oldest records, up to the first that is not before ``before``, into ``file``, a new journal.

        Every instrument keeps its records from its last checkpoint on (all, where it has none), and nothing after the
        first of those goes either; :attr:`Archived.held_by` names the stream. :meth:`load` returns the same as before.
        The space in the old file is reused and not released. A process that is killed meanwhile loses nothing; ``step``
        is called with each step that is done; ``seal`` signs a head over so many records, at the cut.

        Raises :class:`ArchiveRefused` for a file that exists, and where this journal is not opened as exclusive.
        """
        attempted = f"archive records of the journal {self._name}"
        if not self._place.held:
            raise ArchiveRefused(
                attempted,
                "it is not held by its one writer",
                "Stop the supervisor and open the journal as exclusive",
            )
        with self._using(attempted) as connection:
            self._place.check(attempted)
            self._place.be_patient(connection)
            done = archive(connection, self._name, before, file.absolute(), step, seal)
            if done.records:
                empty_the_log(connection)
            self._place.be_patient(connection, much=False)
        return done

    def _commit(self, connection: Connection, batch: Sequence[Append], attempted: str) -> list[Outcome]:
        with writing(connection) as transaction:
            seq, last_hash = read_head(connection, attempted)
            if seq < self._acknowledged[0]:
                raise corrupt(attempted, f"it ends at record {seq}, and {self._acknowledged[0]} was durable")
            if (seq, last_hash) != (self._heads.seq, self._heads.hash):
                self._heads = Heads(seq, last_hash)
            plan = Plan(connection, self._heads)
            outcomes = [plan.decide(append) for append in batch]
            if not plan.rows:
                transaction.rollback()
                return outcomes
            insert_records(connection, plan.rows)
            self._doubtful = True
            transaction.commit()
            self._doubtful = False
        self._heads = plan.heads()
        self._acknowledged = (plan.seq, plan.hash)
        self._place.leave_mark(plan.seq, plan.hash)
        return outcomes

    def _pages(
        self,
        asked: RecordQuery,
        chosen: Sequence[ColumnElement[bool]],
        *,
        single: bool,
    ) -> Iterator[Record]:
        ids, after_seq = Ids.of(asked), asked.get("after_seq", 0)
        # Within one stream the version grows with seq, and the index of the two serves it without sorting.
        key = records.c.version if single else records.c.seq
        attempted = f"read records of the journal {self._name}"
        newest = asked.get("order") == "newest"
        if after_seq:
            chosen = [*chosen, records.c.seq > after_seq]
        query = select(records).where(*chosen).order_by(key.desc() if newest else key)
        further, left = query, asked.get("limit")
        while left is None or left > 0:
            size = _PAGE if left is None or ids.given() else min(_PAGE, left)
            with self._using(attempted) as connection, connection.begin():
                page = connection.execute(further.limit(size)).all()
            for row in page:
                record = record_of(row, attempted)
                if not ids.named_in(record.event.payload):
                    continue
                if left == 0:
                    return
                yield record
                left = None if left is None else left - 1
            if len(page) < size:
                return
            end = page[-1]._mapping[key]  # noqa: SLF001 - SQLAlchemy's public name, which no column can take
            further = query.where(key < end if newest else key > end)

    @contextlib.contextmanager
    def _using(self, attempted: str) -> Iterator[Connection]:
        """The connection, and after any failure none: the next call opens a new one."""
        with self._mutex:
            self._check_open(attempted)
            if self._connection is not None and self._place.lost(self._connection):
                self._drop()
            try:
                yield self._connection or self._reconnect(attempted)
            except IntegrityError as error:
                self._drop()
                # The versions were read under the writer's turn, so an index and its table must disagree.
                raise corrupt(attempted, str(error.orig)) from None
            except DBAPIError as error:
                self._drop()
                raise in_our_words(error, attempted) from None
            except UnicodeDecodeError:
                self._drop()
                # Of SQLite's own message, which quotes what stands in the file.
                raise corrupt(attempted, "a name in it is not text") from None
            except BaseException:
                self._drop()
                raise

    def _reconnect(self, attempted: str) -> Connection:
        self._place.begin(attempted)
        believe = partial(self._believe, attempted, self._place.seen())
        self._connection = self._place.connect(
            attempted, read_only=self._read_only, doubtful=self._doubtful, believe=believe
        )
        self._doubtful = False
        if not self._read_only:
            self._acknowledged = (self._heads.seq, self._heads.hash)
            self._place.leave_mark(*self._acknowledged, sync=True)
        return self._connection

    def _believe(self, attempted: str, seen: Seen | None, connection: Connection) -> None:
        """Raises :class:`JournalCorrupt` where it does not hold what was written."""
        self._place.remember()
        if self._read_only:
            return
        self._heads = Heads(*check_tail(connection, attempted))
        self._check_acknowledged(connection, attempted)
        if seen is not None:
            check_seen(connection, seen, attempted, self._place.remedy)

    def _check_open(self, attempted: str) -> None:
        if self._closed:
            raise JournalUnavailable(attempted, "it is closed", "Open it again")

    def _check_acknowledged(self, connection: Connection, attempted: str) -> None:
        """What was answered as durable is still there, now that the file was opened again."""
        seq, last_hash = self._acknowledged
        with connection.begin():
            found = connection.execute(select(records.c.hash).where(records.c.seq == seq)).scalar()
        if seq and found != last_hash:
            found_there = f"record {seq}, which was durable, is not there any more"
            raise JournalCorrupt(attempted, found_there, self._place.remedy)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._heads = Heads(0, GENESIS)
        if connection is not None:
            with contextlib.suppress(DBAPIError):
                self._place.give_up(connection)


__all__ = [
    "Append",
    "AppendRefused",
    "Appended",
    "Journal",
    "JournalError",
    "JournalUnavailable",
    "Outcome",
    "Stale",
    "Verification",
]
