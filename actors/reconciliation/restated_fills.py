"""The broker's word on a fill takes the place of what was assumed of it, and a correction that of an execution. Pure.

Each is one event, which says what was and what is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from actors.book import payloads
from actors.book.book import Book
from actors.book.discrepancies import Cause, Correction, DiscrepancyType, Phase
from actors.book.lots import ZERO, Closed, Leg, Lot
from actors.book.orders import BookOrder
from actors.events import EventType, Severity, to_text
from actors.reconciliation.booked_fills import allocate, book_fill, named_leg, with_closed
from actors.reconciliation.order_matching import order_of_fill
from actors.reconciliation.reconciliation_pass import Finding, ReconciliationPass
from brokers.clocks import BrokerTime
from brokers.model import (
    NET,
    Conventions,
    Corrected,
    Fill,
    Order,
    Position,
    is_provisional,
    rows_of,
)

CORRECTION = "correction"


def taken_out_of(work: ReconciliationPass, was: payloads.BookedFill, leg: str) -> None:
    """Let a fill move a leg no more, whose position our side reported with the fill in it."""
    legs = tuple(part for part in was.legs if part[0] != leg)
    booked = replace(was, legs=legs, commission=None, commission_currency=None)
    work.note(EventType.FILL_RESTATED, payloads.restated_to(booked, was, assumed=True), was.key)


def restate_all(work: ReconciliationPass, rows: Iterable[Fill], linked: dict[str, Order]) -> None:
    """By the broker's own row of each, or by its correction, which names the execution that it corrects, too: else
    that would be taken back where our side did not say that it is."""
    for fill in rows:
        told = fill if fill.corrects is None else _as_it_was(fill, fill.corrects)
        name = work.book.known_as(told)
        assumed = work.book.reported.get(name) if name is not None else None
        if assumed is not None and assumed.fill.counted:
            _restate(work, told, assumed, linked)


def _as_it_was(fill: Fill, was: Corrected) -> Fill:
    said = replace(fill, fill_id=was.fill_id, id_scope=was.id_scope, quantity=was.quantity, price=was.price)
    return replace(said, corrects=None, commission=None)


def _restate(work: ReconciliationPass, fill: Fill, assumed: payloads.ReportedFill, linked: dict[str, Order]) -> None:
    """Let the broker's word on a fill take the place of what was assumed of it."""
    was = assumed.fill
    order = order_of_fill(work, fill, linked)
    named_before = was.order_key is None and was.broker_order_id is not None
    if order is not None and named_before and was.broker_order_id == order.broker_order_id:
        was = replace(was, order_key=order.key)  # it came before its order, and was counted in it with that
    twice = {leg for leg, _ in was.legs if _is_counted_twice(work.book, leg, fill, assumed)}
    its_own = tuple(
        (leg, quantity)
        for leg, quantity in was.legs
        if leg in twice or not (work.book.covered(leg, was.time) or work.book.covered(leg, fill.time))
    )
    was = replace(was, legs=its_own)
    ours = work.book.orders.get(was.order_key) if was.order_key is not None else None
    row = linked.get(fill.broker_order_id or "")
    if order is None and ours is not None and ours.side is fill.side:
        differs = fill.broker_order_id not in (None, ours.broker_order_id)
        another = differs and (ours.broker_order_id is not None or row is not None)
        order = None if another else ours
    named = named_leg(work.book, fill, order, work.slice.conventions) or (row.leg if row is not None else None)
    same_terms = (fill.side, fill.quantity, fill.price) == (was.side, was.quantity, was.price)
    if order is not None:
        same_order = order.key == was.order_key
    else:
        forgotten = was.order_key is not None  # its order was; which one the broker means cannot be compared any more
        same_order = ours is None and (forgotten or fill.broker_order_id in (None, was.broker_order_id))
    same_legs = not was.pending and (not was.legs or named is None or all(leg == named for leg, _ in was.legs))
    if same_terms and same_order and same_legs and not twice and not _names_its_order(fill, order, row):
        return
    told = replace(fill, leg=named)
    without = work.book
    if was.legs:
        without = work.book.fork()
        without.undo_legs(was)
    booked = book_fill(without, told, order, work.slice.conventions, contract=work.contract)
    contained = named in was.within if was.pending else not was.legs
    booked = replace(
        booked,
        legs=() if contained else allocate(without, told, fill.quantity, order, work.slice.conventions),
        adopted=min(was.adopted, fill.quantity) if same_order else booked.adopted,
        replaces=was.replaces if same_order else booked.replaces,
        strategy=was.strategy or booked.strategy,
        commission=None,
        commission_currency=None,
        cause=was.cause,
    )
    names = fill.broker_order_id if row is None else row.broker_order_id
    payload = payloads.restated_to(booked, was, assumed=False, names_order=names)
    work.note(EventType.FILL_RESTATED, payload, fill.key)
    work.links = None  # an order that only its client id named may be known now, and is no other row's


def _is_counted_twice(book: Book, leg: str, fill: Fill, assumed: payloads.ReportedFill) -> bool:
    """Whether a leg has a fill of ours in it beside the position that contains it: our side's time of it was later than
    that position's, the broker's is not, and the leg was set to that position before the report. Where the leg was set
    or agreed on since, what it has in it is what the broker holds."""
    if book.covered(leg, assumed.fill.time) or not book.covered(leg, fill.time):
        return False
    set_at, agreed_at = book.known_at.get(leg), book.reconciled_at
    return not any(at is not None and at >= assumed.at for at in (set_at, agreed_at))


def _names_its_order(fill: Fill, order: BookOrder | None, row: Order | None) -> bool:
    """Whether the fill alone shows which of the broker's orders ours is: its row is not shown, and another's with the
    same client id may be (of the order that took its place)."""
    if order is None or order.broker_order_id is not None or row is not None:
        return False
    if order.lowered_by:
        return False  # a row of the broker's took the fill out of it: it is of another order with that client id
    return fill.broker_order_id is not None and not is_provisional(fill.broker_order_id)


def attribute(work: ReconciliationPass, was: payloads.BookedFill, leg: str | None) -> None:
    """Let a fill that waited for its leg be in this one, by the positions that the broker shows; in none (``None``)
    where they contain it in a way that only they show. The broker's own word on it may still come."""
    legs = () if leg is None else ((leg, was.quantity * was.side.sign),)
    booked = replace(was, legs=legs, pending=False, commission=None, commission_currency=None)
    booked = with_closed(work.book, booked)
    work.note(EventType.FILL_RESTATED, payloads.restated_to(booked, was, assumed=True), was.key)


def correct(work: ReconciliationPass, fill: Fill, was: Corrected, order: BookOrder | None, *, contained: bool) -> None:
    """The broker took back what it said of an execution: the book is changed by the difference. Where positions were
    taken over since then, they contain it."""
    apply_it = work.found(
        Finding(
            type=DiscrepancyType.MISSED_FILL,
            key=fill.fill_id,
            phase=Phase.FILLS,
            severity=Severity.WARNING,
            cause=Cause.MISSED_FILL,
            book_value=f"{to_text(was.quantity)} @ {to_text(was.price)}",
            broker_value=f"{to_text(fill.quantity)} @ {to_text(fill.price)}",
            difference=to_text(fill.quantity - was.quantity),
            correction=Correction.APPLY_FILL,
            strategy=order.strategy if order is not None else None,
        )
    )
    if apply_it:
        conventions, shown = work.slice.conventions, rows_of(work.slice.positions)
        booked = booked_correction(work.book, fill, was, order, conventions, contained=contained, shown=shown)
        work.emit(EventType.ORDER_FILLED, payloads.booked_fill_to(booked), fill.fill_id)


def booked_correction(
    book: Book,
    fill: Fill,
    was: Corrected,
    order: BookOrder | None,
    conventions: Conventions,
    *,
    contained: bool = False,
    shown: Iterable[Position] = (),
) -> payloads.BookedFill:
    """What a correction does to a book: the difference to what it corrects; nothing where positions contain it.
    ``shown`` are those of the slice, which may tell at what average a leg is held again."""
    leg = fill.leg or (order.leg if order is not None else None) or NET
    contained = contained or book.covered(leg, fill.time)
    more = fill.quantity - was.quantity
    closed = _had_back(book, leg, more * fill.side.sign, was, fill.time, shown) if more < 0 else None
    guessed: list[tuple[str, Decimal]] = []
    for guess in order.inferred if order is not None else ():  # its row has counted it before
        part = min(max(more, ZERO), guess.quantity)
        if part:
            guessed.append((guess.fill_id, part))
            more -= part
    kept = min(was.quantity, fill.quantity, _left_of(book, leg, was.key, fill.quantity - was.quantity))
    return replace(
        book_fill(book, fill, order, conventions, cause=Cause.MISSED_FILL),
        legs=() if contained else ((leg, more * fill.side.sign),),
        closed=() if closed is None else (closed,),
        replaces=(*guessed, *(((was.key, kept),) if kept and not contained else ())),
        adopted=ZERO,
        counted=True,
        corrects=was,
    )


def _left_of(book: Book, name: str, key: str, change: Decimal) -> Decimal:
    """How much of what a fill opened in a leg is still open once the fill changes by this much: the rest was closed."""
    lots = book.legs[name].lots if name in book.legs else ()
    return max(sum((abs(lot.quantity) for lot in lots if lot.fill_id == key), ZERO) + min(change, ZERO), ZERO)


def _had_back(
    book: Book, name: str, change: Decimal, was: Corrected, at: BrokerTime, shown: Iterable[Position]
) -> Closed | None:
    """What a leg has back where the broker takes back a fill that had closed some of it: at the average of the leg, as
    closing does not change that, or of the position that is shown where the leg was closed whole."""
    leg = Leg(name, at) if name not in book.legs else book.legs[name].copy()
    rest = leg.take_back(was.key, change)
    if not rest:
        return None
    price, cost = leg.average_price, leg.cost
    if not leg.quantity:
        row = next((row for row in shown if row.leg == name and row.quantity == rest), None)
        if row is None or row.comparable_price is None:
            return None
        price, cost = row.comparable_price, ZERO
    return Closed(name, price, cost, (Lot(rest, price, None, at),))
