"""The broker's side of one instrument: its requests to the account actor, and what is kept of the answers.

The laws of this module:

* An account that does not answer is an answer, with the reason: nothing here raises for it.
* Rows that are not sent again are those of the slice we hold; a slice belongs to one book, and is dropped with it.
* Our own clock dates the moment when the broker was asked: the account answers how long before or after the arrival of
  the request that was, and the request cannot have arrived before it was sent. No time of another actor is read.
* Fills are requested from the point up to which the book has handled everything, and never from a later one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from loguru import logger

from actors.book.book import Book
from actors.book.discrepancies import NEEDS_PROOF
from actors.instrument.settings import CycleTrigger, InstrumentSettings
from actors.messages import Ago, Connection, NoSlice, SliceRequest, Unchanged
from actors.names import instrument_name
from actors.reconciliation.reconciliation_pass import ClaimCorrection, Decision
from actors.runtime.ports import CallError, Runtime
from brokers.clocks import ahead_of_ours, broker_time
from brokers.model import (
    NET,
    Conventions,
    Failed,
    LegScheme,
    OrderAnswer,
    OrderQuery,
    Partial,
    Slice,
    StreamedFill,
)
from brokers.port import Remembered

LOOK_AGAIN_AFTER = timedelta(seconds=2)
"""The retry after one of our own actors did not answer: it is restarting, and a long interval would be too late."""

SHARED_WITHIN = timedelta(milliseconds=250)
"""How much older than its tick a scheduled fetch may be: the instruments of an account tick together, and their
requests need not arrive at once."""

CALM_SHARE = 2 / 3
"""The part of ``max_age`` that the proof that nothing has changed may be old, for a scheduled request."""

SLICE_SHARE = 0.8
"""The part of a cycle's time that the account may take to answer: the rest is for reporting that it did not."""


class AccountClient:
    """Sends one account the requests about one instrument. ``last`` is the last full slice, ``None`` before the book in
    memory has had one. No answer to a request from before ``believed_from`` counts."""

    def __init__(self, settings: InstrumentSettings, runtime: Runtime) -> None:
        self._settings = settings
        self._name = instrument_name(settings.account, settings.instrument)
        self._runtime = runtime
        self._policy = settings.policy
        self._cursor: int | None = None
        self._conventions = settings.policy.conventions
        self.last: Slice | None = None
        self.believed_from: datetime | None = None
        self._unanswered_from: datetime | None = None
        self._unanswered_at: datetime | None = None

    # Requests

    async def slice(
        self, book: Book, occasion: CycleTrigger, seen_at: datetime | None = None, *, urgent: bool
    ) -> Slice | NoSlice:
        """The full slice, in which rows that have not changed are those we already had. A slice that should prove
        something relies on no earlier answer. ``seen_at`` is when the book was last proven to be in step."""
        sent = self._runtime.now()
        request = self._request(book, occasion, sent, seen_at, urgent=urgent)
        last = self.last
        timeout_s = self._settings.cycle_timeout_s * SLICE_SHARE
        try:
            answer = await self._runtime.call(self._settings.account, "slice", request, timeout_s=timeout_s)
        except CallError as error:
            return NoSlice(Connection.UNREACHABLE, str(error), self._runtime.now() + LOOK_AGAIN_AFTER)
        if not _answers(request, self._settings.account, answer):
            reason = f"{self._settings.account} answered with what {self._name} did not ask for"
            return NoSlice(Connection.UNREACHABLE, reason, self._runtime.now() + LOOK_AGAIN_AFTER)
        if isinstance(answer, NoSlice):
            asked_for = request.not_before
            self._unanswered_from = min(self._unanswered_from or asked_for, asked_for)
            self._unanswered_at = self._runtime.now()
        else:
            self._unanswered_from = None
        if isinstance(answer, NoSlice) and answer.retry_in is not None:
            answer = replace(answer, retry_at=self._runtime.now() + answer.retry_in)
        if isinstance(answer, Slice | Unchanged) and answer.asked is not None:
            answer = replace(answer, requested_at=sent + answer.asked, asked=None)
        if isinstance(answer, Unchanged):
            assert last is not None  # noqa: S101 - its revision was offered
            answer = replace(
                last,
                requested_at=answer.requested_at,
                as_of=answer.as_of,
                fills_cursor=answer.fills_cursor,
                whole=answer.whole,
            )
        assert isinstance(answer, Slice | NoSlice)  # noqa: S101 - nothing else is an answer
        return answer

    def _asks_again(self, sent: datetime) -> bool:
        """Whether the request before went without an answer, and this one follows it as soon as requests do. After a
        longer pause (the turn at the book was taken, the instrument was paused) whatever has come is of before it."""
        soon_s = self._settings.interval_s + self._settings.cycle_timeout_s
        return self._unanswered_at is not None and (sent - self._unanswered_at).total_seconds() <= soon_s

    def _request(
        self, book: Book, occasion: CycleTrigger, sent: datetime, seen_at: datetime | None, *, urgent: bool
    ) -> SliceRequest:
        shared = min(SHARED_WITHIN, timedelta(seconds=self._settings.interval_s / 10)) if occasion.calm else timedelta()
        wanted = occasion.not_before - shared
        if self._unanswered_from is not None and not urgent and self._asks_again(sent):
            # The answer to the request before may be there by now. A broker that always takes longer than its account
            # lets anybody wait would be asked anew for ever; the account wakes everybody behind such an answer.
            wanted = min(wanted, self._unanswered_from)
        since = [wanted, book.last_local_at, self.believed_from]
        not_before = min(sent, max(at for at in since if at is not None))
        cursor = self._cursor if self._cursor is not None else book.cursor
        known = self.last.revision if self.last is not None else None
        whole = any(kind in NEEDS_PROOF for kind, _ in book.breaks)
        calm = occasion.calm and not urgent and known is not None and book.clean == known
        calm_within = Ago(self._policy.max_age * CALM_SHARE) if calm else None
        identity = None if book.contract is None else book.contract.identity
        return SliceRequest(
            instrument=self._settings.instrument,
            not_before=not_before,
            fills_since=cursor,
            known_revision=known,
            whole=whole,
            urgent=urgent,
            calm_within=calm_within,
            within=Ago(sent - not_before),
            identity=identity,
            held=_held(book, seen_at) if self._policy.positions else None,
            owners=_owners(book),
        )

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        """The broker's answers about these orders, by their ids; a missing answer is reported for each."""
        try:
            answers = await self._runtime.call(
                self._settings.account, "find_orders", queries, timeout_s=self._settings.cycle_timeout_s
            )
        except CallError as error:
            return tuple(OrderAnswer(query, failure=str(error)) for query in queries)
        return tuple(answers)

    async def cancel(self, query: OrderQuery) -> None:
        """Request the cancellation of a stale order. Later cycles show whether it was cancelled."""
        try:
            refused = await self._runtime.call(
                self._settings.account, "cancel_order", query, timeout_s=self._settings.cycle_timeout_s
            )
        except CallError as error:
            refused = str(error)
        outcome = "asked for" if refused is None else f"refused: {refused}"
        logger.warning("{}: cancellation of stale order {}: {}", self._name, query.broker_order_id, outcome)

    async def correct_table(self, corrections: Sequence[ClaimCorrection]) -> None:
        """Request the rows that a book kept elsewhere lacks. Later cycles show whether they are there."""
        arguments = self._settings.instrument, tuple(corrections)
        try:
            await self._runtime.call(
                self._settings.account, "correct_table", *arguments, timeout_s=self._settings.cycle_timeout_s
            )
        except CallError as error:
            logger.warning("{}: its table was not corrected: {}", self._name, error)

    # Kept from the answers

    def remember(self, slice_: Slice) -> None:
        """Keep the slice, and how the broker names legs if the slice says so."""
        self.last = slice_
        if not isinstance(slice_.positions, Failed):
            self._conventions = slice_.conventions

    def dealt_with(self, decision: Decision, slice_: Slice) -> None:
        """The decision is in the book: its fills need not be requested again."""
        if decision.cursor is not None:
            self._cursor = decision.cursor
        elif isinstance(slice_.fills, Failed) and slice_.fills_cursor is not None:
            # The broker no longer has those fills. This cycle reports that; requesting them again would find nothing.
            self._cursor = slice_.fills_cursor

    def forget(self) -> None:
        """The book in memory is a new one: nothing that was kept for the former one counts."""
        self._cursor = self.last = None

    # Known without a request

    def conventions_of(self, book: Book) -> Conventions:
        """The conventions that the broker last reported; before that, those that its name and the book's legs imply."""
        if self.last is None and (NET in book.legs or NET in book.watermarks or NET in book.believed):
            return replace(self._conventions, legs=LegScheme.NET)
        return self._conventions

    def nothing_known(self, reason: str, at: datetime) -> Slice:
        """A slice of this time without any information: each section failed, for this reason."""
        failed = Failed(reason)
        return Slice(
            account=self._settings.account,
            instrument=self._settings.instrument,
            requested_at=at,
            as_of=broker_time(at),
            positions=failed,
            orders=failed,
            fills=failed,
            fills_cursor=None,
            conventions=self._conventions,
            revision="",
        )

    def streamed(self, book: Book, executed: Sequence[StreamedFill], now: datetime) -> Slice | None:
        """A slice of this time with nothing but the executions of this book's instrument that a stream reported.
        ``None`` before this book has had a slice from the broker, which is needed for its names of legs and for the
        difference of the clocks."""
        last = self.last
        if last is None:
            return None
        identity = None if book.contract is None else book.contract.identity
        executed = [one for one in executed if one.identity is None or one.identity == identity]
        orders = {one.order.broker_order_id: one.order for one in executed if one.order is not None}
        return replace(
            self.nothing_known("a stream reports executions alone", now),
            as_of=broker_time(now + ahead_of_ours(last.as_of, last.requested_at)),
            orders=Partial(tuple(orders.values())),
            fills=Partial(tuple(one.fill for one in executed)),
            contract=last.contract,
            streamed=True,
        )


def _answers(request: SliceRequest, account: str, answer: object) -> bool:
    """Whether an answer is one to this request, and not to another instrument's or to an earlier one."""
    if isinstance(answer, Slice):
        return (answer.account, answer.instrument) == (account, request.instrument)
    return not isinstance(answer, Unchanged) or answer.revision == request.known_revision


def _owners(book: Book) -> dict[str, str]:
    """The strategies of combination orders, by each of their ids. Fills of other orders are in their own book."""
    if book.contract is None or book.contract.held:
        return {}
    return {
        name: order.strategy
        for order in book.orders.values()
        for name in (order.broker_order_id, order.client_order_id)
        if name is not None and order.strategy is not None
    }


def _held(book: Book, seen_at: datetime | None) -> Remembered:
    """What the book holds by the broker's reports: without legs that only our side has reported."""
    legs: dict[str, tuple[Decimal, Decimal]] = {}
    for name, leg in book.legs.items():
        ours = book.activity.get(name)
        known_at, in_step = book.known_at.get(name), book.reconciled_at
        by_broker = known_at is not None and (ours is None or ours <= known_at)
        if by_broker or (in_step is not None and (ours is None or ours < in_step)):
            legs[name] = leg.quantity, leg.average_with_cost
    return Remembered(legs, book.contract, seen_at or book.reconciled_at)
