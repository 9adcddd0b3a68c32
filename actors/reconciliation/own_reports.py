"""Reports of our own side: orders sent, fills received, positions believed. Reports → events, pure.

The laws of this module: a report without news gives no event (an order by its ids, a fill by its id); a repeated report
counts once; no report lowers an order's filled quantity; a report with both ids of what were two orders merges them; if
only the broker can name the leg that a fill changed, the fill waits for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from actors.book import payloads
from actors.book.book import Book
from actors.book.orders import BookOrder, merged, order_key
from actors.events import Event, EventType, Json, Severity, event_id, to_iso, to_text
from actors.reconciliation.booked_fills import book_fill, with_closed
from actors.reconciliation.order_matching import CLOCK_SKEW
from brokers.clocks import broker_time
from brokers.frozen import dataclass
from brokers.model import Conventions, Fill, OrderStatus, Side
from brokers.versions import across_versions


@across_versions
@dataclass(frozen=True, slots=True)
class OrderReport:
    """An order we sent, or its later state. At least one of the two ids is set."""

    instrument: str
    client_order_id: str | None
    broker_order_id: str | None
    side: Side
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None
    status: OrderStatus
    submitted_at: datetime | None = None
    leg: str | None = None
    strategy: str | None = None


@across_versions
@dataclass(frozen=True, slots=True)
class FillReport:
    """An execution that was reported to us."""

    instrument: str
    fill_id: str
    broker_order_id: str | None
    side: Side
    quantity: Decimal
    price: Decimal
    time: datetime
    client_order_id: str | None = None
    leg: str | None = None
    strategy: str | None = None


@across_versions
@dataclass(frozen=True, slots=True)
class PositionReport:
    """The position that we believe a leg to have from now on; a quantity of 0 means none."""

    instrument: str
    leg: str
    quantity: Decimal
    average_price: Decimal
    strategy: str | None = None


Report = OrderReport | FillReport | PositionReport

AHEAD_AT_MOST = timedelta(minutes=15)
"""How far the reporter's clock may be ahead of ours. A fill dated in the future would count in addition to every
position that the broker shows until then."""


class UnfitReports(ValueError):
    """Some of several reports cannot be accepted, so none was. Each of ``problems`` is the book, the index of the
    report (from 0), and the reason."""

    def __init__(self, problems: tuple[tuple[str, int, str], ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(words for _, _, words in self.problems)


Look = Callable[[Book, Sequence[Event], Report], None]
"""Checks a report before it is accepted, with the book and the events that result from the reports before it."""


def events_of(
    book: Book, reports: Sequence[Report], conventions: Conventions, now: datetime, look: Look | None = None
) -> tuple[Event, ...]:
    """The events for these reports, in their order; the book is not changed. Raises ``ValueError`` for a report of an
    instrument other than the book's, and anything that ``look`` raises."""
    strangers = sorted({report.instrument for report in reports} - {book.instrument})
    if strangers:
        raise ValueError(f"the book of {book.stream} got a report of {', '.join(strangers)}: report it to its own book")
    working = book.fork()
    events: list[Event] = []
    for report in reports:
        if look is not None:
            look(working, events, report)
        event = _event_of(working, report, conventions, now)
        if event is not None:
            working.apply(event)
            events.append(event)
    return tuple(events)


def _event_of(book: Book, report: Report, conventions: Conventions, now: datetime) -> Event | None:
    if isinstance(report, OrderReport):
        return _order_event(book, report, conventions, now)
    if isinstance(report, FillReport):
        return _fill_event(book, report, conventions, now)
    held = book.leg(report.leg)
    if (held.quantity, held.average_price) == (report.quantity, report.average_price) if held else not report.quantity:
        return None
    payload = payloads.position_to(report.leg, report.quantity, report.average_price, None, None)
    payload["strategy"] = report.strategy
    waiting: list[Json] = [reported.fill.key for reported in book.pending_fills()]
    if waiting:
        payload[payloads.WAITING] = waiting
    return _event(book, EventType.POSITION_RECORDED, payload, report.leg, now)


def _order_event(book: Book, report: OrderReport, conventions: Conventions, now: datetime) -> Event | None:
    if _is_known_to_be_sent(book, report):
        return None
    known = _known(book, report)
    if known is None or _is_another(known, report, conventions):
        order = _new_order(book, report)
    else:
        same = _same_order(book, known, report)
        if same is not None:
            order = _brought_up_to_date(merged(same, known, None, None), report)
            both: dict[str, Json] = {"order": payloads.order_to(order), "merges": known.key}
            return _event(book, EventType.ORDER_RECORDED, both, order.key, now)
        order = _brought_up_to_date(known, report)
        if order == known:
            return None
    return _event(book, EventType.ORDER_RECORDED, {"order": payloads.order_to(order)}, order.key, now)


def _is_known_to_be_sent(book: Book, report: OrderReport) -> bool:
    """Whether a report repeats a known submission, or comes late: it has the same client id and time. It undoes neither
    later changes of the order nor its replacement."""
    if report.status is not OrderStatus.PENDING_SUBMIT or report.client_order_id is None:
        return False
    if report.submitted_at is None or report.broker_order_id is not None:
        return False
    return any(
        order.submitted_at == report.submitted_at
        and order.side is report.side
        and order.status is not OrderStatus.PENDING_SUBMIT
        for order in book.orders_by_client_id(report.client_order_id)
    )


def _same_order(book: Book, known: BookOrder, report: OrderReport) -> BookOrder | None:
    """The order with the report's client id, if it was not yet known to be the one with the report's broker id."""
    both = report.client_order_id is not None and report.broker_order_id is not None
    if (
        not both
        or report.broker_order_id != known.broker_order_id
        or known.client_order_id not in (None, report.client_order_id)
    ):
        return None
    for other in book.orders_by_client_id(report.client_order_id or ""):
        if other.key != known.key and other.broker_order_id is None and not other.status.terminal:
            return other if other.side is known.side else None
    return None


def _brought_up_to_date(known: BookOrder, report: OrderReport) -> BookOrder:
    """The order with the additions of a report. A repeated or late report of the submission does not change an order
    that has progressed since, and no report changes an order that has ended."""
    order = replace(
        payloads.with_ids(known, report.broker_order_id, report.client_order_id),
        leg=report.leg or known.leg,
        strategy=report.strategy or known.strategy,
    )
    same_terms = report.quantity == known.quantity and report.limit_price in (None, known.limit_price)
    further = known.status is not OrderStatus.PENDING_SUBMIT
    repeated = report.status is OrderStatus.PENDING_SUBMIT and further and same_terms
    if repeated or known.status.terminal:
        return replace(order, submitted_at=known.submitted_at or report.submitted_at)
    return replace(
        order,
        quantity=report.quantity,
        limit_price=report.limit_price if report.limit_price is not None else known.limit_price,
        order_type=report.order_type,
        status=report.status,
        submitted_at=report.submitted_at or known.submitted_at,
    )


def cut_id(report: Report, conventions: Conventions) -> str | None:
    """A warning that a report's client id is longer than its broker keeps; ``None`` if it is not."""
    name = None if isinstance(report, PositionReport) else report.client_order_id
    if name is None or conventions.kept_of(name) == name:
        return None
    return (
        f"client_order_id {name!r} has {len(name)} characters, and the broker keeps {conventions.client_id_length}: it "
        f"is {conventions.kept_of(name)!r} there, and only that part identifies it"
    )


def of_no_order(book: Book, report: Report) -> str | None:
    """A warning that a fill names an order that the book does not have; ``None`` if the book has it, or the fill names
    none. The fill counts in any case."""
    if not isinstance(report, FillReport):
        return None
    if report.broker_order_id is None and report.client_order_id is None:
        return None
    if book.find_order(report.broker_order_id, report.client_order_id) is not None:
        return None
    return (
        f"{book.stream}: the book has no order {report.broker_order_id or report.client_order_id}: the fill "
        f"{report.fill_id} is recorded, and joins that order once the order is recorded or the broker shows it. "
        "Is the id right?"
    )


def contradiction(
    book: Book,
    report: Report,
    now: datetime,
    conventions: Conventions = Conventions(),  # noqa: B008 - frozen
) -> str | None:
    """Why a report contradicts the order whose id it carries, our clock or the possible prices; ``None`` if it does
    not."""
    below = _below_zero(report, conventions)
    if below is not None or isinstance(report, PositionReport):
        return below
    if isinstance(report, FillReport):
        return _of_the_future(f"fill {report.fill_id}", report.time, now) or _of_the_other_side(book, report)
    ahead = _of_the_future(f"order {report.client_order_id or report.broker_order_id}", report.submitted_at, now)
    if ahead is not None:
        return ahead
    known = _known(book, report)
    if known is None or known.side is report.side or _is_another(known, report, conventions):
        return None
    name = report.client_order_id or report.broker_order_id
    return (
        f"order {name} is a {known.side} of {known.quantity} in the book, and was reported as a {report.side} of "
        f"{report.quantity}: give each order an id of its own"
    )


def _below_zero(report: Report, conventions: Conventions) -> str | None:
    match report:
        case FillReport():
            what, price = f"fill {report.fill_id}", report.price
        case OrderReport():
            what, price = f"order {report.client_order_id or report.broker_order_id}", report.limit_price or Decimal(0)
        case PositionReport():
            what, price = f"the average price of leg {report.leg}", report.average_price
    if price >= 0 or conventions.may_be_below_zero(report.instrument):
        return None
    return (
        f"{what} is at {to_text(price)}, and no price of {report.instrument} is below zero: report it as the broker "
        "does"
    )


def _of_the_other_side(book: Book, report: FillReport) -> str | None:
    order = book.find_order(report.broker_order_id, None)
    if order is None or order.side is report.side:
        return None
    return (
        f"fill {report.fill_id} was reported as a {report.side} of order {report.broker_order_id}, which is a "
        f"{order.side} of {order.quantity} in the book: report side and broker_order_id as the broker does"
    )


def another_fill(recent: Iterable[Mapping[str, object]], report: FillReport, id_scope: str = "") -> str | None:
    """Why a fill that was reported under a known id is a different one, by the newest entries of its journal; ``None``
    if it is the same. ``id_scope`` is the scope in which its id is unique. Only our own reports are compared: the
    broker's report of a fill may differ."""
    for entry in recent:
        payload = entry["payload"]
        if entry["type"] != EventType.FILL_RECORDED or not isinstance(payload, Mapping):
            continue
        if payload.get("fill_id") != report.fill_id or payload.get("id_scope", "") != id_scope:
            continue
        first = (payload["side"], payload["quantity"], payload["price"])
        again = (report.side.value, to_text(report.quantity), to_text(report.price))
        if first != again:
            return (
                f"fill {report.fill_id} was reported as a {first[0]} of {first[1]} @ {first[2]}, and now as a "
                f"{again[0]} of {again[1]} @ {again[2]}: give each fill an id of its own"
            )
    return None


def _of_the_future(what: str, reported: datetime | None, now: datetime) -> str | None:
    if reported is None or reported - now <= AHEAD_AT_MOST:
        return None
    return (
        f"{what} is dated {to_iso(reported)}, and this machine's clock says {to_iso(now)}: report times in UTC, and "
        "check that the clocks of both machines are right"
    )


def _known(book: Book, report: OrderReport) -> BookOrder | None:
    """The order of a report, by its ids; if several share the client id, the one that was sent at the same time."""
    if report.broker_order_id is None and report.submitted_at is not None:
        for order in book.orders_by_client_id(report.client_order_id or ""):
            if order.submitted_at == report.submitted_at and order.side is report.side:
                return order
    return book.find_order(report.broker_order_id, report.client_order_id)


def _is_another(known: BookOrder, report: OrderReport, conventions: Conventions) -> bool:
    """Whether a report with the client id of an order is about a new order, and not a repeated or late report of the
    old one. Client ids may be reused, even while the first order works if the broker does not keep them unique."""
    same_broker_id = report.broker_order_id is not None and report.broker_order_id == known.broker_order_id
    if same_broker_id or report.submitted_at is None:
        return False
    if not known.status.terminal:
        sent_again = report.status is OrderStatus.PENDING_SUBMIT and report.broker_order_id is None
        ours = known.local_at is not None and known.submitted_at is not None
        return sent_again and ours and not conventions.unique_client_ids and known.submitted_at != report.submitted_at
    if known.local_at is not None or known.submitted_at is None:
        return known.submitted_at != report.submitted_at
    # Adopted from the broker, whose time is not ours: if the times are close and the terms equal, it is the same order.
    apart = abs(known.submitted_at - report.submitted_at)
    return apart > CLOCK_SKEW or (known.side, known.quantity) != (report.side, report.quantity)


def _new_order(book: Book, report: OrderReport) -> BookOrder:
    """An order not seen before; one that reuses the id of an ended order gets a key of its own."""
    key = order_key(report.broker_order_id, report.client_order_id)
    while key in book.orders:
        key += "'"
    return BookOrder(
        key=key,
        broker_order_id=report.broker_order_id,
        client_order_id=report.client_order_id,
        side=report.side,
        quantity=report.quantity,
        status=report.status,
        order_type=report.order_type,
        limit_price=report.limit_price,
        submitted_at=report.submitted_at,
        leg=report.leg,
        strategy=report.strategy,
    )


def _fill_event(book: Book, report: FillReport, conventions: Conventions, now: datetime) -> Event | None:
    fill = fill_of(report, conventions)
    if book.known_as(fill) is not None:
        return None
    order = book.find_order(report.broker_order_id, report.client_order_id)
    if order is not None and order.side is not report.side:
        order = None
    booked = book_fill(book, fill, order, conventions, strategy=report.strategy)
    leg = report.leg or (order.leg if order is not None else None)
    opens = any(name not in book.legs for name, _ in booked.legs)
    if leg is None and conventions.legs_known_to_broker and booked.counted and (book.baseline is not None or opens):
        booked = replace(booked, legs=(), pending=True)
    booked = with_closed(book, booked)
    return _event(book, EventType.FILL_RECORDED, payloads.booked_fill_to(booked), fill.key, now)


def fill_of(report: FillReport, conventions: Conventions) -> Fill:
    """The fill of a report, with the scope of its id."""
    time = broker_time(report.time)  # assumed, like all of it, until the broker reports the fill
    return Fill(
        instrument=report.instrument,
        fill_id=report.fill_id,
        broker_order_id=report.broker_order_id,
        side=report.side,
        quantity=report.quantity,
        price=report.price,
        time=time,
        leg=report.leg,
        client_order_id=report.client_order_id,
        id_scope=conventions.fill_scope(report.side, time),
    )


def _event(book: Book, kind: EventType, payload: dict[str, Json], identity: str, now: datetime) -> Event:
    return Event(event_id(book.stream, str(book.version + 1), kind, identity), kind, Severity.INFO, now, payload)
