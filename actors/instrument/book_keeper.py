"""The keeper of one instrument's book: loads it from the journal, writes to both, and checks one against the other.

The laws of this module:

* The book changes only by events that the audit actor has made durable first.
* Loading and writing the book require its ``turn``; a decision is made on the book as it is in that turn.
* A stream that another writer continued is loaded again before anything else is written to it. So is one of which it is
  unknown whether our last events are in it (no answer came, or a cycle was cancelled): before the next cycle. What the
  broker reported is dropped with the book.
* Where the clock has stepped since anything in the book was written, that is written (CLOCK_STEPPED) before anything
  else, and the book counts as never verified.
* The journal is right: a book that differs from a replay of its journal is rebuilt from it, and that is reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from loguru import logger

from actors.book import payloads
from actors.book.book import Book
from actors.book.checkpoint import checkpoint, checkpoint_event, replay
from actors.book.in_step import still_proven
from actors.book.self_check import Folded, SelfCheck, differences, event_of, fold
from actors.book.unreadable import UnreadableRecord
from actors.events import Event, EventType, Json, Record, Severity, StreamTail, event_id
from actors.instrument.account_client import AccountClient
from actors.instrument.recent_events import Recent
from actors.instrument.settings import InstrumentSettings
from actors.journal import client
from actors.journal.client import Fenced, JournalAway
from actors.names import instrument_name
from actors.runtime.steady_clock import STEP, SteadyRuntime

CHECKPOINT_EVERY = 250
"""Events of a stream between two checkpoints: the most that a restart has to read."""
CHECKPOINT_AT_LEAST_EVERY = timedelta(days=7)


class BookKeeper:
    """One book, and the writer's end of its stream.

    ``turn`` is the lock under which the book is loaded and written; ``book`` is ``None`` while it is not in memory.
    ``stepped`` counts how often the clock has.
    """

    def __init__(self, settings: InstrumentSettings, runtime: SteadyRuntime, broker: AccountClient) -> None:
        self._settings = settings
        self._name = instrument_name(settings.account, settings.instrument)
        self._runtime = runtime
        self._broker = broker
        self.turn = asyncio.Lock()
        self.book: Book | None = None
        self._checkpointed = 0
        self._checkpointed_at: datetime | None = None
        self._named_at: datetime | None = None
        self._proven = 0
        self._recent = Recent()
        self._recent_version = 0
        self._timed: Book | None = None
        self._wrong_by: timedelta | None = None
        self._doubtful = False
        self.stepped = 0
        self.began_version: int | None = None

    # Reading

    async def readable(self) -> Book:
        """The book for a reader: the one in memory at once, else loaded in its turn. Raises :class:`JournalAway`."""
        if self.book is not None:
            return self.book
        async with self.turn:
            return await self.loaded()

    async def loaded(self) -> Book:
        """The book, replayed from the journal where it is not in memory. Called with the turn held. Raises
        :class:`JournalAway`."""
        if self.book is not None and self._doubtful:
            found = await client.version(self._runtime, self._name)
            if found != self.book.version:
                logger.warning("{}: its journal is at version {}; loading it again", self._name, found)
                self.book = None
            self._doubtful = False
        if self.book is None:
            tail = await client.load(self._runtime, self._name)
            self.book = self._replayed(tail)
            self._take_age(tail)
            self.began_version = self.book.version if self.began_version is None else self.began_version
            self._checkpointed = tail.records[0].version if tail.records else 0
            self._checkpointed_at = tail.records[0].event.time if tail.records else None
            named = [] if tail.named is None else [tail.named]
            proven = still_proven(self.book, tail.records, named, datetime.max.replace(tzinfo=UTC))
            self._named_at = proven[0].at if proven else None
            self._broker.forget()
            for record in tail.records:
                if record.version > self._recent_version:
                    self._keep(record.version, record.event)
        return self.book

    def _take_age(self, tail: StreamTail) -> None:
        """Learn how old the newest record is, by no clock that can be set. Whoever wrote it may have lived on a machine
        whose clock disagrees with ours: a report of this moment would look old, and an older answer of the account as
        one from after it."""
        self._wrong_by = None
        if tail.age is None or not tail.records:
            return
        came_at = self._runtime.now() - tail.age
        known = self._broker.believed_from
        self._broker.believed_from = came_at if known is None else max(known, came_at)
        if not tail.older:
            self._wrong_by = came_at - tail.records[-1].event.time

    def _replayed(self, tail: StreamTail) -> Book:
        try:
            return replay(self._settings.account, self._settings.instrument, tail.records)
        except UnreadableRecord as error:
            raise JournalAway(str(error)) from None

    @property
    def doubtful(self) -> bool:
        """Whether the journal may have more of this stream than the book in memory."""
        return self._doubtful

    def doubt(self) -> None:
        """Have the stream's version checked before the book is next relied on."""
        self._doubtful = True

    def named(self, book: Book, at: datetime) -> None:
        """The account has accepted that this book was in step then, and will name it."""
        if book is self.book:
            self._named_at = at

    def in_step_at(self, book: Book) -> datetime | None:
        """When a book was last proven to be in step, by its own stream or by a report to its account; ``None`` where it
        was not, or the clock was set since. A time in the future proves nothing."""
        own, named = book.reconciled_at, self._named_at
        if own is None or named is None or book is not self.book or named > self._runtime.now():
            return own
        return max(own, named)

    async def in_time(self) -> Book:
        """As :meth:`loaded`, with every time in it converted to the present clock. Also raises as :meth:`write`."""
        book = await self.loaded()
        jump = self._runtime.clock.step
        by = self._step_since(book, jump)
        if by:
            what = "the clock was set by" if jump else "the clock was set, or differs from its book's, by"
            logger.warning("{}: {} {:+.3f} s", self._name, what, by.total_seconds())
            stepped = (clock_stepped(book, by, self._runtime.now() + jump),)
            self._broker.forget()
            await self._write(book, stepped)
            # Nothing is awaited from the book's new times to the clock's: whoever waits here may give up.
            self._follow(jump)
            self._timed = book
            await self._checkpoint_if_due(book, stepped)
        elif jump:  # the book has the new times already: it was journaled, and nobody heard that
            self._broker.forget()
            self._follow(jump)
        self._timed = book
        return book

    def _follow(self, jump: timedelta) -> None:
        self._runtime.clock.follow(jump)
        self._broker.believed_from = self._runtime.now()
        self.stepped += 1

    def _step_since(self, book: Book, jump: timedelta) -> timedelta:
        """By how much the clock has jumped since the newest time in a book: while this actor lived (``jump``, the only
        jump that our own clock should follow), or, where another actor wrote it, before. A book that is only a little
        ahead is waited for."""
        clock = self._runtime.clock
        newest = book.newest_own_time() if book is not self._timed else None
        if newest is not None and self._named_at is not None and book is self.book:
            newest = max(newest, self._named_at)
        if newest is not None:
            behind = clock.now() + jump - newest
            wrong_by = self._wrong_by if book is self.book else None
            if wrong_by is not None and abs(wrong_by + jump) > STEP:
                return min(behind, wrong_by + jump)
            if wrong_by is not None and jump:
                return min(behind, timedelta()) if behind < -STEP else timedelta()
            if behind < -STEP:
                return min(behind, jump)
            if not jump:
                clock.be_after(newest)
        return jump

    def shadow_of(self, book: Book) -> Book:
        """A copy for a dry run, in which nothing is written: its times are converted to the present clock."""
        shadow = book.fork()
        by = self._step_since(book, self._runtime.clock.step)
        if by:
            shadow.apply(clock_stepped(shadow, by, self._runtime.now()))
        return shadow

    def recent(self, newest: int | None = None) -> list[dict[str, object]]:
        """The newest entries of the stream that are in memory, oldest first."""
        return self._recent.entries(newest)

    # Writing

    async def write(self, book: Book, events: tuple[Event, ...]) -> None:
        """Journal, then apply. Called with the turn held. Raises :class:`JournalAway` or :class:`Fenced`.

        A stream that another writer continued is loaded again before anything else. So is one to which our own events
        were written although no answer came: its version shows it.
        """
        if events:
            await self._write(book, events)
            await self._checkpoint_if_due(book, events)

    async def _write(self, book: Book, events: tuple[Event, ...]) -> None:
        """Journal, then apply: once it is durable nothing is awaited."""
        try:
            await self._append(book, events)
        except Fenced as fenced:
            logger.warning("{}: {}; loading it again", self._name, fenced)
            self.book = None
            raise
        for version, event in enumerate(events, book.version + 1):
            self._keep(version, event)
        apply(book, events)
        self._checkpointed_at = self._checkpointed_at or events[0].time
        if book.reconciled_at is None:
            self._named_at = None  # the clock was set

    async def _checkpoint_if_due(self, book: Book, events: tuple[Event, ...]) -> None:
        if book.version - self._checkpointed >= CHECKPOINT_EVERY or self._checkpoint_is_old(events[-1].time):
            await self._checkpoint(book)

    def _checkpoint_is_old(self, now: datetime) -> bool:
        """What lies before a checkpoint can be archived: a quiet stream must not hold back all others."""
        return self._checkpointed_at is not None and now - self._checkpointed_at >= CHECKPOINT_AT_LEAST_EVERY

    async def _append(self, book: Book, events: tuple[Event, ...]) -> None:
        """Append. Until there is an answer, or if the wait was cancelled, it is unknown whether the events are in."""
        self._doubtful = True
        try:
            await client.append(self._runtime, self._name, book.version, events)
        except Fenced:
            self._doubtful = False  # the book in memory is dropped
            raise
        self._doubtful = False

    def _keep(self, version: int, event: Event) -> None:
        self._recent.add(event)
        self._recent_version = version

    async def _checkpoint(self, book: Book) -> None:
        event = checkpoint_event(book, self._runtime.now())
        try:
            await self._append(book, (event,))
        except Fenced:
            self.book = None
        except JournalAway as away:
            logger.warning("{}: no checkpoint: {}", self._name, away)
        else:
            book.apply(event)
            self._checkpointed, self._checkpointed_at = book.version, event.time

    # Checking the book against its journal

    async def self_check(self) -> SelfCheck:
        """Compare the book in memory with a replay of its journal, at one version; rebuild it where they differ. The
        turn is held while the book is read and while it is rebuilt, and not while the journal is read."""
        try:
            async with self.turn:
                book = await self.loaded()
                version, held = book.version, checkpoint(book)
            found = await self._compared(version, held)
            return await self._made_anew(found) if found.differences else found
        except (JournalAway, Fenced) as away:
            return SelfCheck(self._name, 0, skipped=str(away))

    async def _compared(self, version: int, held: Mapping[str, Json]) -> SelfCheck:
        folded = self._folded(await self._records_to_check(), version)
        if folded is None:
            return SelfCheck(self._name, version, skipped=f"the journal does not reach from a beginning to {version}")
        found = folded.wrong or differences(held, checkpoint(folded.book))
        if not found:
            self._proven = max(self._proven, folded.proven)
        return SelfCheck(self._name, version, found)

    async def _made_anew(self, found: SelfCheck) -> SelfCheck:
        async with self.turn:
            folded = self._folded(await self._records_to_check(), None)
            if folded is None:
                return replace(found, skipped="the journal does not reach from a beginning to its end")
            self.book, self._named_at = folded.book, None
            book = self.book
            self._broker.forget()
            try:
                await self.write(book, (event_of(book, found, self._runtime.now()),))
                if folded.wrong:
                    await self._checkpoint(book)  # else the next load would begin with the wrong one
            except (JournalAway, Fenced) as away:
                logger.critical("{}: that its book was wrong could not be journaled: {}", self._name, away)
        return found

    async def _records_to_check(self) -> list[Record]:
        """The records from the last checkpoint that was found right, or else from as far back as possible: the later
        checkpoints are checked themselves."""
        return await client.load_before(self._runtime, self._name, self._proven + 1 if self._proven else 0)

    def _folded(self, records: Sequence[Record], version: int | None) -> Folded | None:
        try:
            return fold(self._settings.account, self._settings.instrument, records, version)
        except UnreadableRecord as error:
            raise JournalAway(str(error)) from None


def clock_stepped(book: Book, by: timedelta, at: datetime) -> Event:
    """CLOCK_STEPPED: ``at`` is by the present clock."""
    kind, payload = EventType.CLOCK_STEPPED, payloads.book_clock_step_to(by)
    return Event(event_id(book.stream, str(book.version + 1), kind), kind, Severity.WARNING, at, payload)


def apply(book: Book, events: Sequence[Event]) -> None:
    """Apply these events to a book: durable ones, or those of a dry run to a copy."""
    for event in events:
        book.apply(event)
