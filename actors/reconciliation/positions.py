"""Step 4 of a cycle: positions in three phases, always in this order.

RECOVERY (the broker has a leg, the book has not), GHOST (the book has a leg, the broker has not), DRIFT (quantity,
then price). What adds or updates takes one section; what removes takes proof. A slice says nothing about a leg on
which our side, or a fill newer than the slice, was active, nor about one that its adapter does not read.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal

from actors.book import payloads
from actors.book.discrepancies import Cause, Correction, DiscrepancyType, Phase
from actors.book.lots import ZERO, Leg
from actors.events import EventType, Json, Severity, to_text
from actors.reconciliation.moves import reconcile_moves
from actors.reconciliation.reconciliation_pass import Finding, ReconciliationPass
from brokers.model import Complete, Position, rows_of


def reconcile_positions(work: ReconciliationPass) -> None:
    """Compare every leg of the slice and of the book."""
    if not work.policy.positions:
        return
    shown = rows_of(work.slice.positions)
    rows = {row.leg: row for row in shown if row.quantity}
    clashing = _shown_twice(work, shown) if len(rows) != len(shown) else set()
    for name in clashing:
        rows.pop(name, None)
    reconcile_moves(work, rows)
    _compare_aside(work, rows)
    legs = work.book.legs
    if rows.keys() != legs.keys():
        small = work.policy.quantity_tolerance
        for row in rows.values():
            if row.leg not in work.book.legs and abs(row.quantity) > small and work.may_speak_of(row.leg):
                _recover(work, row)
        _leave_unread(work, rows.keys())
        if isinstance(work.slice.positions, Complete):
            for leg in [leg for name, leg in work.book.legs.items() if name not in rows and name not in clashing]:
                unread = leg.name in work.slice.unread_legs
                if abs(leg.quantity) > small and not unread and work.may_speak_of(leg.name):
                    _ghost(work, leg)
    for row in rows.values():
        leg_held = work.book.legs.get(row.leg)
        if leg_held is not None:
            _drift(work, leg_held, row)


def _compare_aside(work: ReconciliationPass, rows: dict[str, Position]) -> None:
    """A leg that is looked at and not taken up: of what the book has of it there must be enough. What is there beyond
    that is nobody's business here."""
    for row in work.slice.aside:
        held = work.book.legs.get(row.leg)
        if held is not None and row.leg not in rows:
            least = min(held.quantity, row.quantity)
            rows[row.leg] = Position(row.instrument, row.leg, least, ZERO, price_told=False) if least else row


def _leave_unread(work: ReconciliationPass, shown: Collection[str]) -> None:
    """Legs of the book that the adapter does not read: that they are not shown says nothing about them."""
    for name, why in work.slice.unread_legs.items():
        if name in work.book.legs and name not in shown:
            work.unverified.append(f"leg {name} not known: {why}")
            work.deferred.add(name)


def _shown_twice(work: ReconciliationPass, shown: tuple[Position, ...]) -> set[str]:
    """Legs that the slice contradicts itself about. Which row is right is not ours to guess: MALFORMED_DATA."""
    first: dict[str, Position] = {}
    clashing = {row.leg for row in shown if first.setdefault(row.leg, row) != row}
    for name in sorted(clashing):
        work.deferred.add(name)
        rows = [f"{to_text(row.quantity)} @ {to_text(row.average_price)}" for row in shown if row.leg == name]
        work.found(
            Finding(
                type=DiscrepancyType.MALFORMED_DATA,
                key=f"positions:{name}",
                phase=Phase.SECTIONS,
                severity=Severity.WARNING,
                book_value=None,
                broker_value=f"leg {name} was shown more than once: {', '.join(rows)}",
                correction=None,
            )
        )
    return clashing


def _correction(work: ReconciliationPass, kind: Correction, change: Decimal) -> Correction | None:
    """The correction, unless it is too large to be made without a person."""
    limit = work.policy.max_correction
    return kind if limit is None or abs(change) <= limit else None


def _recover(work: ReconciliationPass, row: Position) -> None:
    """MISSING_LOCALLY, a zombie: held at the broker, unknown to the book."""
    correct = work.found(
        Finding(
            type=DiscrepancyType.MISSING_LOCALLY,
            key=row.leg,
            phase=Phase.RECOVERY,
            severity=Severity.INFO if work.new_book else Severity.WARNING,
            cause=None if work.new_book else Cause.UNEXPLAINED,
            book_value=None,
            broker_value=to_text(row.quantity),
            difference=to_text(row.quantity),
            correction=_correction(work, Correction.FORCE_ADD_POSITION, row.quantity),
        )
    )
    if correct:
        price = row.average_price if row.comparable_price is None else row.comparable_price
        payload = force_add_position(row.leg, row.quantity, price, work.slice.as_of)
        work.emit(EventType.POSITION_SYNCED, payload, row.leg)


def _ghost(work: ReconciliationPass, leg: Leg) -> None:
    """NAKED_POSITION, a ghost: in the book, not held at the broker. Closed only when that is proven."""
    correct = work.found(
        Finding(
            type=DiscrepancyType.NAKED_POSITION,
            key=leg.name,
            phase=Phase.GHOST,
            severity=Severity.CRITICAL,
            cause=Cause.UNEXPLAINED,
            book_value=to_text(leg.quantity),
            broker_value=None,
            difference=to_text(-leg.quantity),
            correction=_correction(work, Correction.FORCE_CLOSE_POSITION, leg.quantity),
            needs_proof=True,
            activity=work.book.activity.get(leg.name),
        )
    )
    if correct:
        payload = force_close_position(leg.name, work.slice.as_of)
        work.emit(EventType.POSITION_SYNCED, payload, leg.name, Severity.CRITICAL)


def _drift(work: ReconciliationPass, leg: Leg, row: Position) -> None:
    """POSITION_MISMATCH, else PRICE_MISMATCH. A price that is not told is compared with nothing."""
    change = row.quantity - leg.quantity
    price = row.comparable_price
    if abs(change) > work.policy.quantity_tolerance:
        if not work.may_speak_of(leg.name):
            return
        opposite = (row.quantity > 0) != (leg.quantity > 0)
        found = Finding(
            type=DiscrepancyType.POSITION_MISMATCH,
            key=leg.name,
            phase=Phase.DRIFT,
            severity=Severity.CRITICAL if opposite else Severity.WARNING,
            cause=Cause.UNEXPLAINED,
            book_value=to_text(leg.quantity),
            broker_value=to_text(row.quantity),
            difference=to_text(change),
            correction=_correction(work, Correction.FORCE_UPDATE_POSITION, change),
        )
    elif price is not None and abs(price - leg.average_price) > work.policy.price_tolerance * abs(price):
        if not work.may_speak_of(leg.name):
            return
        found = Finding(
            type=DiscrepancyType.PRICE_MISMATCH,
            key=leg.name,
            phase=Phase.DRIFT,
            severity=Severity.INFO,
            book_value=to_text(leg.average_price),
            broker_value=to_text(price),
            difference=to_text(price - leg.average_price),
            told=None if price == row.average_price else f"the broker shows {to_text(row.average_price)}",
            correction=Correction.FORCE_UPDATE_POSITION,
        )
    else:
        return
    if work.found(found):
        payload = force_update_position(
            leg.name, row.quantity, leg.average_price if price is None else price, work.slice.as_of
        )
        work.emit(EventType.POSITION_SYNCED, payload, leg.name, found.severity)


def force_add_position(leg: str, quantity: Decimal, average_price: Decimal, as_of: datetime) -> dict[str, Json]:
    """Payload of a POSITION_SYNCED: hold a leg that the book did not have. Fills up to ``as_of`` (broker time) are in
    it."""
    return payloads.position_to(leg, quantity, average_price, as_of, Correction.FORCE_ADD_POSITION)


def force_update_position(leg: str, quantity: Decimal, average_price: Decimal, as_of: datetime) -> dict[str, Json]:
    """Payload of a POSITION_SYNCED: hold this quantity at this price in a leg the book has otherwise."""
    return payloads.position_to(leg, quantity, average_price, as_of, Correction.FORCE_UPDATE_POSITION)


def force_close_position(leg: str, as_of: datetime) -> dict[str, Json]:
    """Payload of a POSITION_SYNCED: hold nothing in a leg."""
    return payloads.position_to(leg, ZERO, ZERO, as_of, Correction.FORCE_CLOSE_POSITION)
