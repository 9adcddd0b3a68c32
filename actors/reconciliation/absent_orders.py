"""Orders that the broker should show but no longer knows, and what the positions reveal about them.

A broker forgets its orders, and their fills, when its day is over. Only the position then shows what happened to an
order in the meantime: if an order is gone, and its leg changed in a way that the order could have caused, the order was
filled by exactly that change, which needs no other explanation.

The laws of this module: nothing is concluded without proof (law 4), and until then nothing else explains the change; if
a change could come from several orders, none is chosen; nothing is read from a position that is older than the newest
fill of its leg; an order that has reached the end of its own terms has EXPIRED, which is expected, and one whose terms
are unknown is given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from actors.book import payloads
from actors.book.discrepancies import Cause, Correction, DiscrepancyType, Phase
from actors.book.legs import HOLDINGS
from actors.book.lots import ZERO
from actors.book.orders import BookOrder
from actors.events import EventType, Severity, to_iso, to_text
from actors.reconciliation.booked_fills import inferred_fill
from actors.reconciliation.evidence import too_large
from actors.reconciliation.pending_fills import pending_fills_are_placed
from actors.reconciliation.reconciliation_pass import Finding, ReconciliationPass
from brokers.frozen import dataclass
from brokers.model import NET, Complete, LegScheme, OrderStatus, Position, Unsupported, rows_of

_DELIVERED = "CNC"
_NOT_FOUND = "not found at the broker"


@dataclass(frozen=True, slots=True)
class _PositionEvidence:
    """What the positions show about an order that is gone: how much was filled, in which leg and at what price.
    ``unclear`` if a leg changed in its direction and the cause is not known."""

    leg: str | None = None
    quantity: Decimal = ZERO
    price: Decimal = ZERO
    unclear: bool = False


def hold_back_legs_of(work: ReconciliationPass, order: BookOrder) -> None:
    """Hold back the legs whose change may be a fill of this order, until it is known what happened to the order."""
    for leg in _changes(work, order):
        work.held_back.add(leg)


def end_absent_orders(work: ReconciliationPass, gone: Sequence[tuple[BookOrder, bool]]) -> None:
    """Conclude what happened to orders that the broker reports as unknown, each with whether it is known to be over."""
    over = {order.key: known or _is_over(work, order) for order, known in gone}
    placed = not gone or not work.policy.positions or pending_fills_are_placed(work)
    evidence = _evidence_of_positions(work, [order for order, _ in gone])
    legs = {order.key: _changes(work, order) for order, _ in evidence}
    of_before = {
        order.key  # found out before the first of them is concluded, which changes the leg
        for order, _ in evidence
        if not all(_is_of_now(work, leg, legs[order.key].get(leg, ZERO)) for leg in _legs(work, order))
    }
    for order, what in evidence:
        settled_at = work.settled_at(order.local_at)
        unplaced = not placed and bool(legs[order.key])  # the change may be a fill that counts in its order already
        if settled_at is not None or unplaced or not isinstance(work.slice.fills, Complete | Unsupported):
            work.defer(order.key, settled_at)  # a failed fills section means that it may yet have been filled
            concluded = False
        elif order.key in of_before:
            work.defer(order.key)
            concluded = False
        elif what.leg is not None:
            concluded = _filled(work, order, what, what.leg, over=over[order.key])
        elif over[order.key]:
            concluded = _expired(work, order, what)
        else:
            concluded = _given_up(work, order)
        if not concluded:
            work.held_back.update(legs[order.key])


def _evidence_of_positions(
    work: ReconciliationPass, gone: list[BookOrder]
) -> list[tuple[BookOrder, _PositionEvidence]]:
    given_up = {order.key: _given_up_meanwhile(work, order) for order in gone}
    changes = {o.key: _changes(work, o) for o in (*gone, *(one for some in given_up.values() for one in some))}
    found: list[tuple[BookOrder, _PositionEvidence]] = []
    for order in gone:
        own = changes[order.key]
        rivals = [other for other in (*gone, *given_up[order.key]) if own.keys() & changes[other.key].keys()]
        left = sum((_remaining(other) for other in rivals), ZERO)
        if len(own) != 1:
            found.append((order, _PositionEvidence(unclear=bool(own) or _may_be_delivered(work, order))))
            continue
        ((leg, change),) = own.items()
        alone = len(rivals) == 1 and abs(change) <= left
        price = _price(work, order, leg, change)
        if price is None or not (alone or abs(change) == left):
            found.append((order, _PositionEvidence(unclear=True)))
        else:
            found.append((order, _PositionEvidence(leg, abs(change) if alone else _remaining(order), price)))
    return found


def _given_up_meanwhile(work: ReconciliationPass, order: BookOrder) -> list[BookOrder]:
    """The orders that were given up while this one may have been missing: a change could also be theirs. It may have
    been missing without a break of its own, since the later of our last report of it and the last look in step."""
    kinds = (DiscrepancyType.ORDER_MISSING, DiscrepancyType.ORDER_STATUS_MISMATCH, DiscrepancyType.MISSED_FILL)
    open_ones = (work.book.breaks.get((kind, order.subject)) for kind in kinds)
    known_at = [at for at in (order.local_at, work.book.reconciled_at) if at is not None]
    times = [found.opened_at for found in open_ones if found is not None] + ([max(known_at)] if known_at else [])
    since = min(times, default=None)
    ended = ((other, other.ended_at) for other in work.book.orders.values() if other.reason == _NOT_FOUND)
    return [other for other, at in ended if at is not None and (since is None or at >= since)]


def _remaining(order: BookOrder) -> Decimal:
    return order.quantity - order.filled_quantity


def _legs(work: ReconciliationPass, order: BookOrder) -> set[str]:
    """The legs that this order may have changed: also one that neither side has, if something is known of it."""
    section = work.slice.positions
    if not work.policy.positions or not isinstance(section, Complete):
        return set()
    if order.leg is not None:
        return {order.leg, HOLDINGS} if order.leg == _DELIVERED else {order.leg}
    conventions = work.slice.conventions
    if conventions.legs is LegScheme.NET and not conventions.products:
        return {NET}
    return {*(row.leg for row in section.rows), *work.book.legs, *work.book.known_at, *work.book.activity}


def _changes(work: ReconciliationPass, order: BookOrder) -> dict[str, Decimal]:
    """The legs that this order may have changed and that differ in its direction, each with the difference."""
    shown = {row.leg: row.quantity for row in rows_of(work.slice.positions)}
    held = {name: leg.quantity for name, leg in work.book.legs.items()}
    changes = {name: shown.get(name, ZERO) - held.get(name, ZERO) for name in _legs(work, order)}
    return {name: change for name, change in changes.items() if change * order.side.sign > 0}


def _may_be_delivered(work: ReconciliationPass, order: BookOrder) -> bool:
    """Whether a purchase by this order would be among holdings that the adapter does not read."""
    return order.leg == _DELIVERED and HOLDINGS in work.slice.unread_legs


def _price(work: ReconciliationPass, order: BookOrder, leg: str, change: Decimal) -> Decimal | None:
    """The fill price: from the average price of a leg that grew, else the limit price or the best known average."""
    row = next((row for row in rows_of(work.slice.positions) if row.leg == leg), None)
    held = work.book.legs.get(leg)
    price = _added_at(row, held.quantity if held else ZERO, held.average_price if held else ZERO, change)
    if price is not None:
        return price
    if order.limit_price is not None:
        return order.limit_price
    return held.average_price if held is not None else None if row is None else row.comparable_price


def _added_at(row: Position | None, held: Decimal, average: Decimal, change: Decimal) -> Decimal | None:
    if row is None or row.comparable_price is None or held * change < 0:
        return None
    price = (row.quantity * row.comparable_price - held * average) / change
    return price if price > 0 else None


def _is_of_now(work: ReconciliationPass, leg: str, change: Decimal) -> bool:
    """Whether the position of a leg contains all that the book has of it: one from before the newest fill differs by
    that fill, or equals the book because an order that is gone was filled by as much."""
    return leg not in work.newer_legs() and (not change or work.is_settled(leg, change))


def _is_over(work: ReconciliationPass, order: BookOrder) -> bool:
    return order.expires_at is not None and work.slice.as_of >= order.expires_at


def _described(order: BookOrder) -> str:
    filled, price = to_text(order.filled_quantity), to_text(order.limit_price)
    at = f" @ {price}" if price is not None else ""
    return f"{order.side.value} {to_text(order.quantity)}{at} {order.status.value} filled {filled}"


def _filled(work: ReconciliationPass, order: BookOrder, what: _PositionEvidence, leg: str, *, over: bool) -> bool:
    """MISSED_FILL: the order is gone, and its leg changed by a quantity that the order can have filled."""
    change = what.quantity * order.side.sign
    filled = order.filled_quantity + what.quantity
    infer = work.found(
        Finding(
            type=DiscrepancyType.MISSED_FILL,
            key=order.subject,
            phase=Phase.ORDERS,
            severity=Severity.WARNING,
            cause=Cause.MISSED_FILL,
            book_value=to_text(order.filled_quantity),
            broker_value=to_text(filled),
            difference=to_text(what.quantity),
            correction=Correction.INFER_FILL,
            for_a_person=too_large(work, what.quantity),
            needs_proof=True,
            activity=order.local_at,
            strategy=order.strategy,
            detail=f"the broker no longer knows the order, and {to_text(abs(change))} came or went in {leg}",
        )
    )
    if not infer:
        return False
    booked = inferred_fill(work, order, what.quantity, what.price, filled, ((leg, change),))
    work.emit(EventType.ORDER_FILLED, payloads.booked_fill_to(booked), booked.fill_id, Severity.WARNING)
    after = work.book.orders[order.key]
    if not after.status.terminal:
        _end(work, after, Severity.INFO, over=over)
    return True


def _expired(work: ReconciliationPass, order: BookOrder, what: _PositionEvidence) -> bool:
    """ORDER_STATUS_MISMATCH: the order has reached the end of its terms, and the broker has forgotten it."""
    detail = f"it was good until {to_iso(order.expires_at)}" if order.expires_at is not None else ""
    unclear = ", and whether it was filled before is not clear from the positions" if what.unclear else ""
    severity = Severity.WARNING if what.unclear else Severity.INFO
    expire = work.found(
        Finding(
            type=DiscrepancyType.ORDER_STATUS_MISMATCH,
            key=order.subject,
            phase=Phase.ORDERS,
            severity=severity,
            book_value=_described(order),
            broker_value=None,
            correction=Correction.UPDATE_ORDER,
            needs_proof=True,
            activity=order.local_at,
            strategy=order.strategy,
            detail=detail + unclear,
        )
    )
    if expire:
        _end(work, order, severity, over=True)
    return expire


def _end(work: ReconciliationPass, order: BookOrder, severity: Severity, *, over: bool) -> None:
    """End an order that is not completely filled: as expired by its terms, or else as not found."""
    if over:
        ended = replace(order, status=OrderStatus.EXPIRED, reason=order.reason or "its day is over")
        work.emit(EventType.ORDER_EXPIRED, {"order": payloads.order_to(ended)}, order.key, severity)
        return
    ended = replace(order, status=OrderStatus.CANCELLED, reason=_NOT_FOUND)
    work.emit(EventType.ORDER_CANCELLED, {"order": payloads.order_to(ended)}, order.key, severity)


def _given_up(work: ReconciliationPass, order: BookOrder) -> bool:
    """ORDER_MISSING: the broker reports that it knows no such order, and there is no explanation."""
    give_up = work.found(
        Finding(
            type=DiscrepancyType.ORDER_MISSING,
            key=order.subject,
            phase=Phase.ORDERS,
            severity=Severity.WARNING,
            cause=Cause.UNEXPLAINED,
            book_value=_described(order),
            broker_value=None,
            correction=Correction.GIVE_UP_ORDER,
            needs_proof=True,
            activity=order.local_at,
            strategy=order.strategy,
        )
    )
    if give_up:
        _end(work, order, Severity.WARNING, over=False)
    return give_up
