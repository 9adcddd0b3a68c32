"""Quantity that moved from one leg of an instrument to another: a product converted, a purchase delivered.

The laws of this module: the quantity over all legs is the same before and after, to the unit; nothing is moved on a
guess (one COMPLETE section shows both ends, at least one of them as a row: two legs that are both absent show no move);
a move is one difference and one event, so that the quantity is never counted twice or not at all.

One move has no row: what was sold out of the holdings is a negative row of CNC until the night, and in the morning
neither is shown. It takes proof, as a ghost does, and leaves the quantity over all legs as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from actors.book import payloads
from actors.book.discrepancies import CAUSES, Cause, Correction, DiscrepancyType, Phase
from actors.book.legs import HOLDINGS, PRODUCT_LEGS
from actors.book.lots import ZERO
from actors.events import EventType, to_text
from actors.reconciliation.reconciliation_pass import Finding, ReconciliationPass
from brokers.frozen import dataclass
from brokers.model import Complete, Position, rows_of

SOLD = "CNC"
"""The leg that is negative from a sale out of the holdings until the night."""


@dataclass(frozen=True, slots=True)
class Move:
    """A signed quantity that left one leg for another."""

    source: str
    target: str
    quantity: Decimal


def reconcile_moves(work: ReconciliationPass, shown: Mapping[str, Position]) -> None:
    """Move quantity that is conserved over the legs of an instrument whose account has products. ``shown`` are the rows
    by leg, without those that contradict each other."""
    legs = work.book.legs
    if not legs or not isinstance(work.slice.positions, Complete) or len(shown) != len(rows_of(work.slice.positions)):
        return
    if not legs.keys() <= PRODUCT_LEGS or not shown.keys() <= PRODUCT_LEGS:
        return
    aside = {row.leg: row for row in work.slice.aside}
    changes = _changes(work, shown, aside)
    seen = shown.keys() | aside.keys()
    all_moves = moves_of(changes)
    moves = tuple(move for move in all_moves if move.source in seen or move.target in seen)
    unseen = [move for move in all_moves if move not in moves]
    if all(_is_settled_sale(work, move, shown) for move in unseen):
        moves = all_moves
    if not moves:
        return
    if any(not work.may_judge(name) for name in changes):
        work.held_back.update(changes)  # corrected one by one, the quantity would be counted twice or not at all
        return
    for move in moves:
        less = move.source in aside and aside[move.source].quantity < legs[move.source].quantity
        needs_proof = move.source not in shown and not less and _is_settled_sale(work, move, shown)
        _move(work, move, shown.get(move.target, aside.get(move.target)), needs_proof=needs_proof)


def _changes(
    work: ReconciliationPass, shown: Mapping[str, Position], aside: Mapping[str, Position]
) -> dict[str, Decimal]:
    """By how much each leg differs. A leg aside takes up quantity that left the others, as far as its row has room for
    it, and does not differ otherwise."""
    held = {name: leg.quantity for name, leg in work.book.legs.items()}
    names = (held.keys() | shown.keys()) - aside.keys()
    changes = {name: (shown[name].quantity if name in shown else ZERO) - held.get(name, ZERO) for name in names}
    left = -sum(changes.values(), ZERO)
    sold = min(held.get(HOLDINGS, ZERO), _sold(held, shown))
    for name, row in aside.items():
        had = held.get(name, ZERO)
        room = row.quantity - had
        taken = max(min(left, max(room, ZERO)), min(room, ZERO, -sold if name == HOLDINGS else ZERO))
        changes[name] = taken
        left -= taken
    unread = [name for name in work.slice.unread_legs if name not in shown and name not in aside and name in changes]
    # Nothing is known about them except what the other legs lost or gained.
    changes |= dict.fromkeys(unread, ZERO)
    if HOLDINGS in unread and sum(changes.values(), ZERO) == sold:
        changes[HOLDINGS] = -sold
    return {name: change for name, change in changes.items() if change}


def _sold(held: Mapping[str, Decimal], shown: Mapping[str, Position]) -> Decimal:
    """How much was sold for delivery, and is not shown as sold any more."""
    return ZERO if SOLD in shown else max(-held.get(SOLD, ZERO), ZERO)


def _is_settled_sale(work: ReconciliationPass, move: Move, shown: Mapping[str, Position]) -> bool:
    """Whether a move is the settlement of all that was sold for delivery out of the holdings."""
    target = work.book.legs.get(move.target)
    sale = move.source == HOLDINGS and move.target == SOLD and SOLD not in shown
    return sale and target is not None and target.quantity == -move.quantity


def moves_of(changes: Mapping[str, Decimal]) -> tuple[Move, ...]:
    """The moves that make up these changes; none, unless the changes add up to zero."""
    if sum(changes.values(), ZERO):
        return ()
    lost = {name: -change for name, change in sorted(changes.items()) if change < 0}
    gained = {name: change for name, change in sorted(changes.items()) if change > 0}
    moves: list[Move] = []
    for target, wanted in gained.items():
        for source in [name for name, left in lost.items() if left]:
            part = min(lost[source], wanted)
            if part:
                moves.append(Move(source, target, part))
                lost[source] -= part
                wanted -= part
    return tuple(moves)


def _move(work: ReconciliationPass, move: Move, row: Position | None, *, needs_proof: bool) -> None:
    cause = Cause.SETTLEMENT if HOLDINGS in (move.source, move.target) else Cause.CONVERSION
    source, target = work.book.legs.get(move.source), work.book.legs.get(move.target)
    had = source.quantity if source is not None else ZERO
    limit = work.policy.max_correction
    apply_it = work.found(
        Finding(
            type=DiscrepancyType.POSITION_MISMATCH,
            key=move.source,
            phase=Phase.RECOVERY,
            severity=CAUSES[cause].severity,
            cause=cause,
            book_value=to_text(had),
            broker_value=to_text(had - move.quantity),
            difference=to_text(-move.quantity),
            correction=Correction.MOVE_POSITION,
            for_a_person=limit is not None and abs(move.quantity) > limit,
            needs_proof=needs_proof,
            activity=work.last_activity(move.source, -move.quantity) if needs_proof else None,
            detail=f"{to_text(move.quantity)} went from {move.source} to {move.target}",
        )
    )
    if not apply_it:
        if needs_proof:
            work.held_back.update((move.source, move.target))  # one by one they would be ghosts
        return
    quantity = (target.quantity if target is not None else ZERO) + move.quantity
    shown_price = row.comparable_price if row is not None else None
    price = source.average_price if source is not None else shown_price or ZERO
    payload = payloads.move_to(move.source, move.target, move.quantity, quantity, price, work.slice.as_of, cause)
    work.emit(EventType.POSITION_SYNCED, payload, f"{move.source} to {move.target}", CAUSES[cause].severity)
