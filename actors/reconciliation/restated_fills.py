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
    Complete,
    Conventions,
    Corrected,
    Fill,
    Order,
    Position,
    is_provisional,
    rows_of,
)

CORRECTION, GUESS = "correction", "correction of what was inferred"
"""What a new fill may be instead of one of an order's."""


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
    closed = _had_back(book, leg, more * fill.side.sign, (was.key,), fill.time, shown) if more < 0 else None
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


def may_be_inferred(fill: Fill, order: BookOrder | None) -> bool:
    """Whether more may have been inferred of an execution that the broker never reported than its correction leaves."""
    if fill.corrects is None or not fill.quantity:
        return fill.corrects is not None
    inferred = sum((guess.quantity for guess in order.inferred), ZERO) if order is not None else ZERO
    return min(inferred, fill.corrects.quantity) > fill.quantity


def correct_guess(work: ReconciliationPass, fill: Fill, was: Corrected, order: BookOrder | None) -> bool:
    """The broker corrects an execution that it never reported: what was inferred of it, from its order's row or from
    positions, gives way in one event. That is no difference, as our side alone had assumed it. Returns whether there
    was anything to change."""
    counts = was.quantity
    guesses: list[tuple[str, Decimal]] = []
    for guess in order.inferred if order is not None else ():
        part = min(guess.quantity, counts)
        counts -= part
        if part:
            guesses.append((guess.fill_id, part))
    less = sum((part for _, part in guesses), ZERO) - fill.quantity
    booked = book_fill(work.book, fill, order, work.slice.conventions, cause=Cause.MISSED_FILL, contract=work.contract)
    if less > 0:
        legs, closed = _out_of_legs(work, fill, order, tuple(guess for guess, _ in guesses), less)
        back = () if closed is None else (closed,)
        booked = replace(booked, legs=legs, closed=back, replaces=tuple(guesses), adopted=ZERO, counted=True)
    elif not fill.quantity:
        leg, change = named_leg(work.book, fill, order, work.slice.conventions), -was.quantity * fill.side.sign
        if leg is None or not _is_unexplained(work.book, leg, -change) or not _positions_follow(work, leg, change):
            return False
        booked = replace(booked, legs=((leg, change),))
    work.note(EventType.ORDER_FILLED, payloads.booked_fill_to(booked), fill.fill_id)
    return True


def _out_of_legs(
    work: ReconciliationPass, fill: Fill, order: BookOrder | None, guesses: tuple[str, ...], less: Decimal
) -> tuple[tuple[tuple[str, Decimal], ...], Closed | None]:
    """What the legs lose of inferred fills, and what a leg has back that these had closed. Where the leg was set since,
    the broker's positions show whether they are still in it."""
    book, change = work.book, -less * fill.side.sign
    opened = [name for name, leg in book.legs.items() if any(lot.fill_id in guesses for lot in leg.lots)]
    leg = named_leg(book, fill, order, work.slice.conventions) or (opened[0] if len(opened) == 1 else None)
    if leg is None:
        return (), None
    lots = book.legs[leg].lots if leg in book.legs else ()
    still_open = min(sum((abs(lot.quantity) for lot in lots if lot.fill_id in guesses), ZERO), less)
    untouched = order is not None and book.known_at.get(leg) == order.filled_at and leg not in book.believed
    if still_open < less and not untouched and not _positions_follow(work, leg, change):
        change = -still_open * fill.side.sign
        return (((leg, change),) if change else ()), None
    return ((leg, change),), _had_back(book, leg, change, guesses, fill.time, rows_of(work.slice.positions))


def _is_unexplained(book: Book, leg: str, quantity: Decimal) -> bool:
    """Whether so much of a leg, signed, is of positions that were taken over, and of no fill."""
    lots = book.legs[leg].lots if leg in book.legs else ()
    return sum((lot.quantity for lot in lots if lot.fill_id is None), ZERO) / quantity >= 1


def _positions_follow(work: ReconciliationPass, leg: str, change: Decimal) -> bool:
    """Whether the broker's positions are the book's after a change of this leg, and not before it."""
    section = work.slice.positions
    if not work.policy.positions or not isinstance(section, Complete) or not change:
        return False
    if work.settled_at(work.book.activity.get(leg)) is not None:
        return False
    known_at = work.leg_changed_at(leg)
    if known_at is not None and work.slice.requested_at <= known_at:
        return False
    held = work.book.legs[leg].quantity if leg in work.book.legs else ZERO
    return held + change == sum((row.quantity for row in section.rows if row.leg == leg), ZERO)


def _left_of(book: Book, name: str, key: str, change: Decimal) -> Decimal:
    """How much of what a fill opened in a leg is still open once the fill changes by this much: the rest was closed."""
    lots = book.legs[name].lots if name in book.legs else ()
    return max(sum((abs(lot.quantity) for lot in lots if lot.fill_id == key), ZERO) + min(change, ZERO), ZERO)


def _had_back(
    book: Book, name: str, change: Decimal, keys: Iterable[str], at: BrokerTime, shown: Iterable[Position]
) -> Closed | None:
    """What a leg has back where the broker takes back fills (``keys``) that had closed some of it: at the average of
    the leg, as closing does not change that, or of the position that is shown where the leg was closed whole."""
    leg = Leg(name, at) if name not in book.legs else book.legs[name].copy()
    rest = change
    for key in keys:
        rest = leg.take_back(key, rest)
    if not rest:
        return None
    price, cost = leg.average_price, leg.cost
    if not leg.quantity:
        row = next((row for row in shown if row.leg == name and row.quantity == rest), None)
        if row is None or row.comparable_price is None:
            return None
        price, cost = row.comparable_price, ZERO
    return Closed(name, price, cost, (Lot(rest, price, None, at),))
