"""Small builders for the unit tests: a book, the rows a broker shows, and cycles over them in made-up time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import orjson

from actors.book.book import Book
from actors.book.checkpoint import checkpoint, replay
from actors.book.discrepancies import Break, DiscrepancyType, Phase
from actors.book.policy import Policy
from actors.events import Event, EventType, Record, Severity
from actors.reconciliation.decide import reconcile
from actors.reconciliation.own_reports import FillReport, OrderReport, PositionReport, Report, events_of
from actors.reconciliation.reconciliation_pass import Decision
from brokers.clocks import broker_time
from brokers.model import (
    NET,
    Complete,
    Conventions,
    Failed,
    Fill,
    LegScheme,
    Order,
    OrderAnswer,
    OrderQuery,
    OrderStatus,
    Position,
    Section,
    Side,
    Slice,
)

ACCOUNT = "acc"
INSTRUMENT = "EURUSD"
T0 = datetime(2024, 1, 2, 9, 0, tzinfo=UTC)
SIDED = Conventions(LegScheme.SIDED)
TICKET = Conventions(LegScheme.TICKET)
FAILED = Failed("timed out")


def at(seconds: float) -> datetime:
    """That many seconds after the tests' beginning of time."""
    return T0 + timedelta(seconds=seconds)


def dec(value: object) -> Decimal:
    """A Decimal from its text."""
    return Decimal(str(value))


def pos(quantity: object, price: object = "1.1", leg: str = NET) -> Position:
    """A row of positions."""
    return Position(INSTRUMENT, leg, dec(quantity), dec(price))


def order(
    broker_id: str,
    quantity: object = 100,
    filled: object = 0,
    status: OrderStatus = OrderStatus.OPEN,
    *,
    client_id: str | None = None,
    side: Side = Side.BUY,
    price: object | None = "1.1",
    average: object | None = None,
    leg: str | None = None,
    submitted_at: datetime | None = None,
    replaced_by: str | None = None,
    reason: str | None = None,
    trigger: object | None = None,
) -> Order:
    """A row of orders."""
    return Order(
        INSTRUMENT,
        broker_id,
        client_id,
        side,
        dec(quantity),
        dec(filled),
        status,
        order_type="LIMIT",
        limit_price=None if price is None else dec(price),
        average_fill_price=None if average is None else dec(average),
        submitted_at=broker_time(submitted_at),
        leg=leg,
        replaced_by=replaced_by,
        reason=reason,
        trigger_price=None if trigger is None else dec(trigger),
    )


def fill(
    fill_id: str,
    quantity: object,
    price: object = "1.1",
    *,
    at_s: float = 0,
    order_id: str | None = None,
    side: Side = Side.BUY,
    leg: str | None = None,
    position_id: str | None = None,
    client_id: str | None = None,
) -> Fill:
    """A row of fills."""
    return Fill(
        INSTRUMENT,
        fill_id,
        order_id,
        side,
        dec(quantity),
        dec(price),
        broker_time(at(at_s)),
        leg,
        position_id,
        client_id,
    )


def slice_at(
    seconds: float,
    positions: Section[Position] | Sequence[Position] = (),
    orders: Section[Order] | Sequence[Order] = (),
    fills: Section[Fill] | Sequence[Fill] = (),
    *,
    answers: Iterable[OrderAnswer] = (),
    conventions: Conventions = Conventions(),  # noqa: B008 - frozen
    revision: str | None = None,
    account: str = ACCOUNT,
    instrument: str = INSTRUMENT,
) -> Slice:
    """A slice requested and answered at one moment; plain rows make a COMPLETE section."""
    return Slice(
        account,
        instrument,
        at(seconds),
        broker_time(at(seconds)),
        Complete(tuple(positions)) if isinstance(positions, Sequence) else positions,
        Complete(tuple(orders)) if isinstance(orders, Sequence) else orders,
        Complete(tuple(fills)) if isinstance(fills, Sequence) else fills,
        int(seconds * 1000),
        conventions,
        revision if revision is not None else f"r{seconds}",
        tuple(answers),
    )


class Desk:
    """A book with its journal: cycles and reports are applied as the actor does, and every law of a pass is checked."""

    def __init__(self, policy: Policy | None = None, account: str = ACCOUNT) -> None:
        self.policy = policy if policy is not None else Policy()
        self.book = Book(account, INSTRUMENT)
        self.events: list[Event] = []

    def look(
        self, slice_: Slice, now: datetime | None = None, answers: dict[str, OrderAnswer] | None = None
    ) -> Decision:
        """One cycle at the moment of the slice (or at ``now``). Questions are answered from ``answers``, by broker id
        or client id; what is not there is unknown to the broker."""
        now = now if now is not None else slice_.requested_at
        decision = reconcile(self.book, slice_, self.policy, now)
        for _ in range(3):
            if not decision.lookups:
                break
            known = answers or {}
            slice_ = slice_.with_answers(
                _answer(query, known.get(query.broker_order_id or "") or known.get(query.client_order_id or ""))
                for query in decision.lookups
            )
            decision = reconcile(self.book, slice_, self.policy, now)
        assert not decision.lookups
        assert reconcile(self.book, slice_, self.policy, now).events == decision.events
        self.write(decision.events)
        again = reconcile(self.book, slice_, self.policy, now)
        assert again.events == (), again.events
        return decision

    def report(self, *reports: Report, at_s: float, conventions: Conventions = Conventions()) -> None:  # noqa: B008
        """What our side did, journaled."""
        self.write(events_of(self.book, reports, conventions, at(at_s)))

    def write(self, events: Iterable[Event]) -> None:
        """Journal and apply."""
        for event in events:
            orjson.dumps(dict(event.payload))
            self.events.append(event)
            self.book.apply(event)
            check_lots(self.book)

    def restart(self) -> None:
        """Forget everything but the journal."""
        before = checkpoint(self.book)
        self.book = replay(self.book.account, INSTRUMENT, records(self.events, self.book.stream))
        assert checkpoint(self.book) == before

    def held(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Quantity and average price by leg."""
        return {name: (leg.quantity, leg.average_price) for name, leg in self.book.legs.items()}

    def quantities(self) -> dict[str, Decimal]:
        """Quantity by leg."""
        return {name: leg.quantity for name, leg in self.book.legs.items()}


def _answer(query: OrderQuery, found: OrderAnswer | None) -> OrderAnswer:
    return OrderAnswer(query) if found is None else replace(found, query=query)


def records(events: Iterable[Event], stream: str = "acc/EURUSD", after: int = 0) -> list[Record]:
    """Events as the journal gives them back."""
    return [Record(n, stream, n, event, "", "") for n, event in enumerate(events, after + 1)]


def check_lots(book: Book) -> None:
    """The law of lots: they add up to their leg, each of the leg's sign, and no leg is empty."""
    for leg in book.legs.values():
        assert leg.quantity != 0
        assert sum((lot.quantity for lot in leg.lots), Decimal(0)) == leg.quantity
        assert all((lot.quantity > 0) == (leg.quantity > 0) for lot in leg.lots)


def order_report(
    client_id: str | None = "c1",
    broker_id: str | None = None,
    quantity: object = 100,
    status: OrderStatus = OrderStatus.PENDING_SUBMIT,
    *,
    side: Side = Side.BUY,
    price: object | None = "1.1",
    submitted_at: datetime | None = None,
    strategy: str | None = None,
    leg: str | None = None,
) -> OrderReport:
    """Our side sent an order."""
    limit = None if price is None else dec(price)
    return OrderReport(
        INSTRUMENT, client_id, broker_id, side, dec(quantity), "LIMIT", limit, status, submitted_at, leg, strategy
    )


def fill_report(
    fill_id: str,
    quantity: object,
    price: object = "1.1",
    *,
    at_s: float,
    order_id: str | None = None,
    client_id: str | None = None,
    side: Side = Side.BUY,
    leg: str | None = None,
) -> FillReport:
    """A fill report of our side."""
    return FillReport(INSTRUMENT, fill_id, order_id, side, dec(quantity), dec(price), at(at_s), client_id, leg)


def position_report(quantity: object, price: object = "1.1", leg: str = NET) -> PositionReport:
    """Our side believes to hold this."""
    return PositionReport(INSTRUMENT, leg, dec(quantity), dec(price))


def kinds(events: Iterable[Event]) -> list[EventType]:
    """The types of the events, in their order."""
    return [event.type for event in events]


def types(decision: Decision) -> list[str]:
    """The types of the discrepancies of a pass, each with whether it was resolved."""
    return [f"{d.found.type.value}{'' if d.resolved else '!'}" for d in decision.discrepancies]


def unmanaged(opened_at: datetime) -> Break:
    """An open break of an account: a position that nobody manages."""
    return Break(
        id="b1",
        type=DiscrepancyType.UNMANAGED_INSTRUMENT,
        key="AUD_USD",
        severity=Severity.WARNING,
        phase=Phase.SECTIONS,
        cause=None,
        book_value=None,
        broker_value="5",
        difference=None,
        opened_at=opened_at,
    )
