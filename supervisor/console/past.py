"""The journal for the pages: read beside its writer, in a thread, each answer bounded.

The law of this module: nothing here writes; a journal that cannot be read is reported, and never shown as empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from actors.book.book import Book
from actors.book.checkpoint import replay
from actors.book.history import Change, changes, explained
from actors.events import EventType, Record, from_iso, to_iso
from actors.instrument.book_keeper import CHECKPOINT_EVERY
from actors.journal.record_filter import RecordFilter
from actors.journal.store import Journal
from actors.journal.types import JournalError
from actors.names import instrument_name
from brokers.frozen import dataclass
from supervisor.cli.audit_replay import Past, document
from supervisor.cli.audit_selection import Source, check_known
from supervisor.cli.audit_verify import verified
from supervisor.cli.break_history import history_of, open_breaks
from supervisor.cli.console import Failure
from supervisor.config.models import Configuration
from supervisor.presentation.breaks import urgency
from supervisor.presentation.timeline import Line, drawing, lines

T = TypeVar("T")
_CLOCK_SET_BACK = timedelta(days=1)
"""How far a clock may have been set back while a break was open without any record of it being missed."""
SHOWN_RECORDS = 25
SHOWN_FOUND = 200
_TIMELINE_RECORDS = CHECKPOINT_EVERY + 100
"""A book can be rebuilt from a checkpoint on: among so many records there is one, or the first record."""
_MOST_STEPS = 200


class NotFound(Exception):
    """The journal has no such thing; the message is for a person."""


@dataclass(frozen=True, slots=True)
class Story:
    """An instrument's past: its lots and working orders, by its journal, its latest records, newest first, and a
    drawing of each leg."""

    book: dict[str, Any] | None
    records: tuple[Record, ...]
    drawings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Then:
    """A book at a past time, and what changed since and why (newest last; ``left_out`` steps are not shown)."""

    found: dict[str, Any]
    until: dict[str, Any]
    changes: tuple[Change, ...]
    steps: tuple[Any, ...]
    left_out: int


class JournalReader:
    """Answers questions from a configuration's journal."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._standing: tuple[int, Sequence[Mapping[str, Any]], float] | None = None

    @contextlib.contextmanager
    def _open(self) -> Iterator[Journal]:
        journal = Journal.open(
            self._configuration.journal_url, read_only=True, beside=self._configuration.beside_journal
        )
        try:
            yield journal
        finally:
            journal.close()

    async def _asked(self, question: Callable[[Journal], T]) -> T:
        def ask() -> T:
            with self._open() as journal:
                return question(journal)

        return await asyncio.to_thread(ask)

    async def of_break(self, break_id: str, row: Mapping[str, Any] | None) -> list[Record]:
        """Every record that names a break, oldest first; ``row`` names its account and instrument while it is open.
        Raises ``JournalError``."""
        stream, since = None, None
        if row is not None:
            stream = instrument_name(row["account"], row["instrument"]) if row["instrument"] else row["account"]
            since = from_iso(row["opened_at"]) - _CLOCK_SET_BACK
        return await asyncio.to_thread(history_of, self._configuration, break_id, stream, since)

    async def open_breaks(self, now_s: float) -> tuple[Sequence[Mapping[str, Any]], float]:
        """The open breaks by the journal, and when they were read: it is read again when it has grown. Raises
        ``JournalError``."""

        def ask(journal: Journal) -> tuple[int, Sequence[Mapping[str, Any]], float]:
            head = journal.head()
            seq = 0 if head is None else head[0]
            if self._standing is not None and self._standing[0] == seq:
                return self._standing
            return seq, sorted(open_breaks(journal), key=urgency), now_s

        self._standing = await self._asked(ask)
        return self._standing[1:]

    async def record(self, seq: int) -> Record:
        """One record by its number. Raises :class:`NotFound` and ``JournalError``."""

        def ask(journal: Journal) -> Record:
            found = next(journal.records(after_seq=seq - 1, limit=1), None)
            if found is None or found.seq != seq:
                raise NotFound(f"There is no record {seq} in this journal. An older one may be in an archive.")
            return found

        return await self._asked(ask)

    async def search(self, text: str) -> list[Record]:
        """The newest records that name an order or a fill by this id, newest first. Raises ``JournalError``."""

        def ask(journal: Journal) -> list[Record]:
            found: dict[int, Record] = {}
            named: list[RecordFilter] = [{"order_id": text}, {"fill_id": text}, {"discrepancy_id": text}]
            for asked in named:
                for record in journal.records(**asked, order="newest", limit=SHOWN_FOUND):
                    found[record.seq] = record
            return [found[seq] for seq in sorted(found, reverse=True)][:SHOWN_FOUND]

        return await self._asked(ask)

    async def story(self, account: str, symbol: str) -> Story:
        """An instrument's past up to now. Raises :class:`NotFound` and ``JournalError``."""

        def ask(journal: Journal) -> Story:
            now = datetime.now(UTC)
            stream = instrument_name(account, symbol)
            newest = list(journal.records(stream=stream, order="newest", limit=_TIMELINE_RECORDS))
            if not newest:
                return Story(None, (), ())
            at_end = Past([journal], account, symbol).at(max(now, newest[0].event.time))
            named = Past([journal], account, symbol).named(now)
            drawings = tuple((line.leg, drawing(line, now)) for line in _lines(account, symbol, newest, named))
            shown = sorted([*newest[:SHOWN_RECORDS], *named[-1:]], key=lambda one: one.seq, reverse=True)
            return Story(document(at_end)["book"], tuple(shown[:SHOWN_RECORDS]), drawings)

        return await self._asked_past(ask)

    async def then(self, account: str, symbol: str, at: datetime) -> Then:
        """The book at a past time, and what changed since. Raises :class:`NotFound` and ``JournalError``."""

        def ask(journal: Journal) -> Then:
            check_known(journal, Source(self._configuration.journal_url), account, symbol)
            past = Past([journal], account, symbol)
            now = max(datetime.now(UTC), at)
            begin, end = past.at(at), past.at(now)
            first, last = (0 if one.last is None else one.last.seq for one in (begin, end))
            every = explained(past.between(first, last))
            steps = [one for one in every if one.record.event.type is not EventType.CHECKPOINT]
            changed = changes(begin.book, end.book)
            left_out = max(0, len(steps) - _MOST_STEPS)
            return Then(document(begin), document(end), changed, tuple(steps[left_out:]), left_out)

        return await self._asked_past(ask)

    async def _asked_past(self, question: Callable[[Journal], T]) -> T:
        try:
            return await self._asked(question)
        except Failure as error:
            raise NotFound(f"{error.message[:1].upper()}{error.message[1:]}.") from None

    async def knows(self, account: str, symbol: str) -> bool:
        """Whether the journal has anything on an instrument. Raises ``JournalError``."""
        stream = instrument_name(account, symbol)
        return await self._asked(lambda journal: next(journal.records(stream=stream, limit=1), None) is not None)


def _lines(account: str, symbol: str, newest: Sequence[Record], named: Sequence[Record]) -> list[Line]:
    """The history of each leg, as far back as these records (newest first) allow a book to be built, with those in
    which its account named it; empty where they do not."""
    recent = list(reversed(newest))
    if recent[0].version == 1:
        return lines(Book(account, symbol), _by_seq(recent, named))
    start = next((at for at, one in enumerate(recent) if one.event.type is EventType.CHECKPOINT), None)
    if start is None:
        return []
    return lines(replay(account, symbol, recent[start : start + 1]), _by_seq(recent[start + 1 :], named))


def _by_seq(records: Sequence[Record], named: Sequence[Record]) -> list[Record]:
    return sorted([*records, *named], key=lambda one: one.seq)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a verification; once it is over, ``result`` is its result as text and ``ok`` whether the journal
    is whole (``None``: unknown)."""

    began_at: str
    by: str
    read: int = 0
    of: int = 0
    ended_at: str | None = None
    ok: bool | None = None
    result: str | None = None

    @property
    def runs(self) -> bool:
        """Whether it is still running."""
        return self.ended_at is None

    @property
    def percent(self) -> int:
        """How much of it is done, in percent."""
        return 100 * self.read // self.of if self.of else 0


class Verifier:
    """One verification of the whole chain at a time, in a thread; the last result is kept."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._lock = threading.Lock()
        self.progress: Progress | None = None

    def begin(self, by: str) -> bool:
        """Begin one; returns False while one runs."""
        with self._lock:
            if self.progress is not None and self.progress.runs:
                return False
            self.progress = Progress(to_iso(datetime.now(UTC)), by)
        threading.Thread(target=self._run, name="verification", daemon=True).start()
        return True

    def _run(self) -> None:
        try:
            ok, words = self._verify()
        except (JournalError, Failure, OSError) as error:
            ok, words = None, f"it could not be read: {error}"
        except Exception as error:  # noqa: BLE001 - a verification that fails must not look as if it ran for ever
            ok, words = None, f"it could not be finished ({type(error).__name__})"
        self._show(ended_at=to_iso(datetime.now(UTC)), ok=ok, result=words)

    def _show(self, **changed: Any) -> None:
        with self._lock:
            assert self.progress is not None  # noqa: S101 - set by begin
            self.progress = replace(self.progress, **changed)

    def _verify(self) -> tuple[bool, str]:
        configuration = self._configuration
        of = Source(configuration.journal_url, public=configuration.public_keys)
        found = verified(of, lambda read, total: self._show(read=read, of=total))
        return found.result.ok, found.words()
