"""The broker's report of a fill replaces what was assumed about it, and a correction replaces an execution. Pure.

Each replacement is one event, which states the old and the new fill.
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
"""The kinds of new fills that are not counted among the fills of an order."""


def taken_out_of(work: ReconciliationPass, was: payloads.BookedFill, leg: str) -> None:
    """Remove a fill's effect on a leg: the position that our side reported for the leg already contains the fill."""
    legs = tuple(part for part in was.legs if part[0] != leg)
    booked = replace(was, legs=legs, commission=None, commission_currency=None)
    work.note(EventType.FILL_RESTATED, payloads.restated_to(booked, was, assumed=True), was.key)


def restate_all(work: ReconciliationPass, rows: Iterable[Fill], linked: dict[str, Order]) -> None:
    """Restate each fill by the broker's own row of it, or by a correction, which also describes the execution that it
    corrects: otherwise the correction would be applied to legs other than the assumed ones."""
    for fill in rows:
        execution = fill if fill.corrects is None else _as_it_was(fill, fill.corrects)
        name = work.book.known_as(execution)
        assumed = work.book.reported.get(name) if name is not None else None
        if assumed is not None and assumed.fill.counted:
            _restate(work, execution, assumed, linked)


def _as_it_was(fill: Fill, was: Corrected) -> Fill:
    corrected = replace(fill, fill_id=was.fill_id, id_scope=was.id_scope, quantity=was.quantity, price=was.price)
    return replace(corrected, corrects=None, commission=None)


def _restate(work: ReconciliationPass, fill: Fill, assumed: payloads.ReportedFill, linked: dict[str, Order]) -> None:
    """Replace what was assumed about a fill by the broker's report of it."""
    was = assumed.fill
    order = order_of_fill(work, fill, linked)
    named_before = was.order_key is None and was.broker_order_id is not None
    if order is not None and named_before and was.broker_order_id == order.broker_order_id:
        was = replace(was, order_key=order.key)  # it arrived before its order, and was counted when that arrived
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
        # What a row took out of our order stays as it was reported: it counts nowhere; its order may never be seen.
        known = ours.broker_order_id is not None and not ours.lowered_by
        another = differs and (known or row is not None)
        order = None if another else ours
    named = named_leg(work.book, fill, order, work.slice.conventions) or (row.leg if row is not None else None)
    same_terms = (fill.side, fill.quantity, fill.price) == (was.side, was.quantity, was.price)
    if order is not None:
        same_order = order.key == was.order_key
    else:
        forgotten = was.order_key is not None  # its order was dropped, and can no longer be compared
        same_order = ours is None and (forgotten or fill.broker_order_id in (None, was.broker_order_id))
    same_legs = not was.pending and (not was.legs or named is None or all(leg == named for leg, _ in was.legs))
    if same_terms and same_order and same_legs and not twice and not _names_its_order(fill, order, row):
        return
    placed = replace(fill, leg=named)
    without = work.book
    if was.legs:
        without = work.book.fork()
        without.undo_legs(was)
    booked = book_fill(without, placed, order, work.slice.conventions, contract=work.contract)
    contained = named in was.within if was.pending else not was.legs
    booked = replace(
        booked,
        legs=() if contained else allocate(without, placed, fill.quantity, order, work.slice.conventions),
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
    work.links = None  # an order known only by its client id may have its broker id now, and matches no other row


def _is_counted_twice(book: Book, leg: str, fill: Fill, assumed: payloads.ReportedFill) -> bool:
    """Whether a leg counts a fill in addition to the position that contains it: our side's time of the fill is later
    than that position, the broker's time is not, and the leg was set to that position before our report. If the leg was
    set or found in step since, it equals the broker's position."""
    if book.covered(leg, assumed.fill.time) or not book.covered(leg, fill.time):
        return False
    set_at, agreed_at = book.known_at.get(leg), book.reconciled_at
    return not any(at is not None and at >= assumed.at for at in (set_at, agreed_at))


def _names_its_order(fill: Fill, order: BookOrder | None, row: Order | None) -> bool:
    """Whether the fill alone shows which of the broker's orders ours is: the order's row is not shown, and another row
    with the same client id may be (that of its replacement)."""
    if order is None or order.broker_order_id is not None or row is not None:
        return False
    if order.lowered_by:
        return False  # a row of the broker took the fill out: the fill is of another order with that client id
    return fill.broker_order_id is not None and not is_provisional(fill.broker_order_id)


def attribute(work: ReconciliationPass, was: payloads.BookedFill, leg: str | None) -> None:
    """Place a fill that waited for its leg in this leg, as the broker's positions show; in none (``None``) if they
    contain it without showing where. The broker may still report the fill itself."""
    legs = () if leg is None else ((leg, was.quantity * was.side.sign),)
    booked = replace(was, legs=legs, pending=False, commission=None, commission_currency=None)
    booked = with_closed(work.book, booked)
    work.note(EventType.FILL_RESTATED, payloads.restated_to(booked, was, assumed=True), was.key)


def correct(work: ReconciliationPass, fill: Fill, was: Corrected, order: BookOrder | None, *, contained: bool) -> None:
    """Apply the broker's correction of an execution: the book changes by the difference. Positions that were taken over
    since then contain it."""
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
    """The effect of a correction on a book: the difference to the corrected fill; nothing if positions contain it.
    ``shown`` are the slice's positions, which may give the average price of a leg that is held again."""
    leg = fill.leg or (order.leg if order is not None else None) or NET
    contained = contained or book.covered(leg, fill.time)
    more = fill.quantity - was.quantity
    closed = _had_back(book, leg, more * fill.side.sign, (was.key,), fill.time, shown) if more < 0 else None
    guessed: list[tuple[str, Decimal]] = []
    for guess in order.inferred if order is not None else ():  # the order's row counted it before
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
    """Whether the inferred quantity of an execution that the broker never reported may exceed what its correction
    leaves."""
    if fill.corrects is None or not fill.quantity:
        return fill.corrects is not None
    inferred = sum((guess.quantity for guess in order.inferred), ZERO) if order is not None else ZERO
    return min(inferred, fill.corrects.quantity) > fill.quantity


def correct_guess(work: ReconciliationPass, fill: Fill, was: Corrected, order: BookOrder | None) -> bool:
    """Apply the correction of an execution that the broker never reported: one event replaces what was inferred of it,
    from its order's row or from positions. That is no difference, because only our side had assumed it. Returns whether
    anything changed."""
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
        if leg is None or not change or not _is_unexplained(work.book, leg, -change):
            return False
        if not _positions_follow(work, leg, change):
            return _waits_for_positions(work, fill, was, leg, change)
        booked = replace(booked, legs=((leg, change),))
    work.note(EventType.ORDER_FILLED, payloads.booked_fill_to(booked), fill.fill_id)
    return True


def _waits_for_positions(work: ReconciliationPass, fill: Fill, was: Corrected, leg: str, change: Decimal) -> bool:
    """Whether a bust waits, because a leg may still be shown with what it takes back. Recorded now, it could not
    explain why that goes. Positions that are proven to stay were never the busted execution's."""
    if not work.auto or not work.policy.positions:
        return False
    if not isinstance(work.slice.positions, Complete):
        work.fills_wait = True
        return True
    stay = work.found(
        Finding(
            type=DiscrepancyType.MISSED_FILL,
            key=fill.fill_id,
            phase=Phase.FILLS,
            severity=Severity.INFO,
            cause=Cause.MISSED_FILL,
            book_value=f"{to_text(was.quantity)} @ {to_text(was.price)}",
            broker_value=f"{to_text(fill.quantity)} @ {to_text(fill.price)}",
            difference=to_text(-was.quantity),
            correction=Correction.APPLY_FILL,
            needs_proof=True,
            activity=work.last_activity(leg, change),
        )
    )
    return not stay


def _out_of_legs(
    work: ReconciliationPass, fill: Fill, order: BookOrder | None, guesses: tuple[str, ...], less: Decimal
) -> tuple[tuple[tuple[str, Decimal], ...], Closed | None]:
    """The quantity of inferred fills that the legs lose, and the lots that those had closed and a leg gets back. If the
    leg was set since, the broker's positions show whether it still contains the fills."""
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
    """Whether at least this signed quantity of a leg comes from positions that were taken over, and from no fill."""
    lots = book.legs[leg].lots if leg in book.legs else ()
    return sum((lot.quantity for lot in lots if lot.fill_id is None), ZERO) / quantity >= 1


def _positions_follow(work: ReconciliationPass, leg: str, change: Decimal) -> bool:
    """Whether the broker's settled position in this leg equals the book's after this change."""
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
    """How many of the units that a fill opened in a leg are still open once the fill changes by this quantity."""
    lots = book.legs[name].lots if name in book.legs else ()
    return max(sum((abs(lot.quantity) for lot in lots if lot.fill_id == key), ZERO) + min(change, ZERO), ZERO)


def _had_back(
    book: Book, name: str, change: Decimal, keys: Iterable[str], at: BrokerTime, shown: Iterable[Position]
) -> Closed | None:
    """The lots that a leg gets back when the broker takes back fills (``keys``) that closed some of it: at the leg's
    average, which closing does not change, or at that of the shown position if the leg was closed completely."""
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
