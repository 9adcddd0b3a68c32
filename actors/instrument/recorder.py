"""Records our own reports, from the strategy, in one instrument's book, and sends them on to the venue.

The laws of this module:

* An accepted report is durable, and a repeated report counts once.
* It takes turns at the book with the cycles: no older slice undoes it.
* An impossible leg is refused before any of the reports is in the book.
* Nothing is recorded in a book that was found empty in order to end its actor: nobody would look after it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from loguru import logger

from actors.book.book import Book
from actors.book.legs import impossible
from actors.book.orders import BookOrder
from actors.events import Event, Json
from actors.instrument.account_client import AccountClient
from actors.instrument.book_keeper import BookKeeper
from actors.instrument.order_entry import hand_over, to_hand_over
from actors.instrument.settings import InstrumentSettings
from actors.journal.client import Fenced, JournalAway
from actors.names import instrument_name
from actors.reconciliation.own_reports import (
    FillReport,
    PositionReport,
    Report,
    another_fill,
    contradiction,
    cut_id,
    events_of,
    fill_of,
)
from actors.runtime.ports import ActorUnavailable, Runtime
from brokers.model import Conventions

LEAVES_WITHIN_S = 20.0
"""How long reports are refused where an actor is about to end: for longer than its supervisor takes to end it."""

TRIES = 3
"""How often the book is loaded again for one report, if another writer continues its stream each time."""


class Recorder:
    """Records reports for one book."""

    def __init__(
        self, settings: InstrumentSettings, runtime: Runtime, keeper: BookKeeper, broker: AccountClient
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._keeper = keeper
        self._broker = broker
        self._leaves_until_s: float | None = None

    async def record(self, reports: Sequence[Report], by: Mapping[str, Json]) -> int:
        """Record reports in the book, with the keys ``by`` in each record, then send its venue what it must receive.
        Returns the number of newly recorded reports. Raises :class:`JournalAway`, and ``ValueError`` for a report of
        another instrument, of an impossible leg, under the id of an order of the other side or of another fill, or
        dated in the future."""
        newly_recorded, orders = await self._durable(reports, by)
        await hand_over(self._runtime, self._settings.account, self._settings.instrument, orders)
        return newly_recorded

    async def unfit(self, reports: Sequence[Report]) -> tuple[tuple[int, str], ...]:
        """The reports that :meth:`record` would refuse, by their places, with the reasons; nothing is recorded. Raises
        :class:`JournalAway`."""
        async with self._keeper.turn:
            book = await self._keeper.in_time()
            conventions = self._broker.conventions_of(book)
            found: dict[int, str] = {}
            places = {id(report): place for place, report in reversed(list(enumerate(reports)))}

            def look(working: Book, events: Sequence[Event], report: Report) -> None:
                try:
                    self._check(conventions, working, events, report)
                except ValueError as error:
                    found.setdefault(places[id(report)], str(error))

            events_of(book, reports, conventions, self._runtime.now(), look)
            return tuple(sorted(found.items()))

    async def is_empty(self, *, leaving: bool = False) -> bool:
        """Whether the book has nothing, and nothing may be on its way into it. If so, and the actor is ``leaving``,
        reports are refused from then on. It leaves only what the journal has nothing of either: another process of its
        name, whose death was not noticed, may have gone on with the stream."""
        async with self._keeper.turn:
            if leaving:
                self._keeper.doubt()
                with contextlib.suppress(JournalAway):
                    await self._keeper.loaded()
            empty = self._keeper.book is not None and not self._keeper.doubtful and self._keeper.book.has_nothing
            if empty and leaving:
                self._leaves_until_s = self._runtime.monotonic_s() + LEAVES_WITHIN_S
            return empty

    def stay(self) -> None:
        """Refuse no report any more."""
        self._leaves_until_s = None

    def _check_stays(self) -> None:
        if self._leaves_until_s is not None and self._runtime.monotonic_s() < self._leaves_until_s:
            name = instrument_name(self._settings.account, self._settings.instrument)
            raise ActorUnavailable(name, "record", "it ends, since its book was empty for long enough")

    async def _durable(self, reports: Sequence[Report], by: Mapping[str, Json]) -> tuple[int, tuple[BookOrder, ...]]:
        """If another writer came in between, the book is loaded again and the reports are decided on anew. If that
        happens every time, the reports are not known to be recorded."""
        for _ in range(TRIES - 1):
            try:
                return await self._into_the_book(reports, by)
            except Fenced:
                continue
        try:
            return await self._into_the_book(reports, by)
        except Fenced as fenced:
            raise JournalAway(f"somebody else writes this stream too: {fenced}") from None

    async def _into_the_book(
        self, reports: Sequence[Report], by: Mapping[str, Json]
    ) -> tuple[int, tuple[BookOrder, ...]]:
        async with self._keeper.turn:
            self._check_stays()
            book = await self._keeper.in_time()
            conventions = self._broker.conventions_of(book)
            for report in reports:
                cut = cut_id(report, conventions)
                if cut is not None:
                    logger.warning("{}/{}: {}", self._settings.account, self._settings.instrument, cut)
            look = partial(self._check, conventions)
            events = events_of(book, reports, conventions, self._runtime.now(), look)
            if by:
                events = tuple(replace(event, payload={**event.payload, **by}) for event in events)
            await self._keeper.write(book, events)
            return len(events), to_hand_over(book, reports) if self._settings.venue else ()

    def _check(self, conventions: Conventions, book: Book, events: Sequence[Event], report: Report) -> None:
        """Check a report, after those before it; ``events`` are theirs. Raises ``ValueError``."""
        self._check_leg(book, report, conventions)
        found = contradiction(book, report, self._runtime.now(), conventions)
        if found is None and isinstance(report, FillReport):
            fill = fill_of(report, conventions)
            if book.known_as(fill) is not None:
                with_it = ({"type": event.type, "payload": event.payload} for event in events)
                found = another_fill(chain(self._keeper.recent(), with_it), report, fill.id_scope)
        if found is not None:
            raise ValueError(f"{instrument_name(self._settings.account, self._settings.instrument)}: {found}")

    def _check_leg(self, book: Book, report: Report, conventions: Conventions) -> None:
        if report.leg is None or report.leg in book.legs:
            return  # whatever the book has, rightly or not, can be reported as flat
        quantity = report.quantity if isinstance(report, PositionReport) else None
        reported = self._broker.last is not None
        instead = impossible(
            conventions.legs, report.leg, quantity, mode_known=reported, products=True if conventions.products else None
        )
        if instead is not None:
            name = instrument_name(self._settings.account, self._settings.instrument)
            raise ValueError(f"{name}: there can be no leg {report.leg!r} as reported, expected {instead}")
