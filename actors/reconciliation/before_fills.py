"""Quantity that entered a leg without a fill, before fills of the same slice took it out again.

60 are held, 40 are transferred in, 100 are sold, and nothing is held: the fills alone would take the book to -40, which
was never held. So the unexplained change is applied first.

The laws of this module: only fills that the positions contain by the broker's time count, and only if they would take a
netting leg through zero to a side that the broker does not show; positions that merely lag behind the fills, at the
held quantity or at the quantity after some of the fills, are a different case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal

from actors.book import payloads
from actors.book.discrepancies import Cause, Correction, DiscrepancyType, Phase
from actors.book.lots import ZERO
from actors.book.orders import BookOrder
from actors.events import EventType, Severity, to_text
from actors.reconciliation.evidence import explained, too_large
from actors.reconciliation.reconciliation_pass import Finding, ReconciliationPass
from brokers.model import Complete, Fill, LegScheme

JUST_BEFORE = timedelta(microseconds=1)


def unexplained_first(work: ReconciliationPass, fills: Iterable[tuple[Fill, BookOrder | None, str | None]]) -> None:
    """Apply the change that came before these new fills, each given with its order and leg, in broker time order."""
    section = work.slice.positions
    if not work.policy.positions or not isinstance(section, Complete) or work.new_book:
        return
    if work.slice.claims is not None or work.slice.conventions.legs is not LegScheme.NET:
        return
    by_leg: dict[str, list[Fill]] = {}
    reported: set[str] = set()
    baseline = work.book.baseline
    for fill, order, leg in fills:
        if baseline is not None and fill.time <= baseline:
            return  # the first look took the positions as they were, with these fills; later looks do the same
        given_way = order is not None and (order.adopted or order.inferred)
        if leg is None or given_way or fill.corrects is not None or fill.time > work.slice.as_of:
            return
        if fill.combination != work.book.instrument:
            by_leg.setdefault(leg, []).append(fill)
            subject = order.subject if order is not None else (fill.broker_order_id or fill.fill_id)
            if (DiscrepancyType.MISSED_FILL, subject) in work.book.breaks:
                reported.add(leg)
    for leg, of_leg in by_leg.items():
        if work.book.covered(leg, of_leg[0].time) or work.settled_at(work.book.activity.get(leg)) is not None:
            continue
        shown = sum((row.quantity for row in section.rows if row.leg == leg), ZERO)
        change = _came_before(work, leg, shown, of_leg)
        if change and not _reported_differently(work, leg, change, fills_are_reported=leg in reported):
            _take_over(work, leg, change, of_leg[0])


def _reported_differently(work: ReconciliationPass, leg: str, change: Decimal, *, fills_are_reported: bool) -> bool:
    """Whether an earlier look reported these fills without this change, or the difference in the leg with another
    value. That report stands: if it did not, two looks at the same rows would take turns."""
    held = work.book.legs.get(leg)
    came = to_text((held.quantity if held is not None else ZERO) + change)
    kinds = (DiscrepancyType.POSITION_MISMATCH, DiscrepancyType.MISSING_LOCALLY)
    open_ones = [found for kind in kinds if (found := work.book.breaks.get((kind, leg))) is not None]
    if any(found.broker_value != came for found in open_ones):
        return True
    return fills_are_reported and not open_ones


def _came_before(work: ReconciliationPass, leg: str, shown: Decimal, fills: Sequence[Fill]) -> Decimal:
    """The signed quantity that came before the fills; 0 if the fills are consistent without it."""
    held = work.book.legs.get(leg)
    after = before = held.quantity if held is not None else ZERO
    passed = {before}
    for fill in fills:
        after += fill.quantity * fill.side.sign
        passed.add(after)
    through_zero = after * before < 0 or (not before and after)
    if not through_zero or shown in passed or shown * after > 0:
        return ZERO
    return shown - after


def _take_over(work: ReconciliationPass, leg: str, change: Decimal, first: Fill) -> None:
    held = work.book.legs.get(leg)
    before = held.quantity if held is not None else ZERO
    kind = Correction.FORCE_UPDATE_POSITION if held is not None else Correction.FORCE_ADD_POSITION
    usual = Finding(
        type=DiscrepancyType.POSITION_MISMATCH if held is not None else DiscrepancyType.MISSING_LOCALLY,
        key=leg,
        phase=Phase.RECOVERY,
        severity=Severity.WARNING,
        cause=Cause.UNEXPLAINED,
        book_value=None if held is None else to_text(before),
        broker_value=to_text(before + change),
        difference=to_text(change),
        correction=kind,
        for_a_person=too_large(work, change),
        detail="it came before what was filled since, as the position is what both make together",
    )
    found = explained(work, leg, change, usual)
    if work.found(found):
        at = first.time - JUST_BEFORE
        price = held.average_price if held is not None else first.price
        payload = payloads.position_to(leg, before + change, price, at, kind)
        work.emit(EventType.POSITION_SYNCED, payload, f"{leg}:before", found.severity)
