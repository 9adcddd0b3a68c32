"""Step 4 of a cycle: positions in three phases, always in this order.

RECOVERY (the broker has a leg, the book has not), GHOST (the book has a leg, the broker has not), DRIFT (quantity,
then price). One section is enough to add or update a leg; to remove one takes proof. A slice proves nothing about a leg
on which our side, or a fill newer than the slice, was active, nor about one that its adapter does not read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from actors.book import payloads
from actors.book.discrepancies import Cause, Correction, DiscrepancyType, Phase, cause_of, severity_of
from actors.book.lots import ZERO, Leg
from actors.events import EventType, Json, Severity, to_text
from actors.reconciliation.claims import claim_of, is_doubted
from actors.reconciliation.evidence import evidence_of, explained, too_large
from actors.reconciliation.moves import reconcile_moves
from actors.reconciliation.pending_fills import pending_fills_are_placed
from actors.reconciliation.reconciliation_pass import Finding, ReconciliationPass
from brokers.clocks import BrokerTime
from brokers.model import Complete, Position, Reason, rows_of

_OF_QUANTITY = (
    DiscrepancyType.MISSING_LOCALLY,
    DiscrepancyType.NAKED_POSITION,
    DiscrepancyType.POSITION_MISMATCH,
)


def reconcile_positions(work: ReconciliationPass) -> None:
    """Compare every leg of the slice and of the book."""
    if not work.policy.positions:
        return
    shown = rows_of(work.slice.positions)
    rows = {row.leg: row for row in shown if row.quantity}
    clashing = _shown_twice(work, shown) if len(rows) != len(shown) else set()
    if not pending_fills_are_placed(work):
        return
    for name in clashing:
        rows.pop(name, None)
    if work.slice.claims is None:
        reconcile_moves(work, rows)  # a book kept elsewhere names its legs itself
    _compare_aside(work, rows)
    legs = work.book.legs
    if rows.keys() != legs.keys():
        small = work.policy.quantity_tolerance
        for row in rows.values():
            if (
                row.leg not in work.book.legs
                and abs(row.quantity) > small
                and _may_compare(work, row.leg, row.quantity)
            ):
                claim = claim_of(work, row.leg)
                if claim is None or not claim.states_quantity(row.quantity):
                    _recover(work, row)
        _leave_unread(work, rows.keys())
        if isinstance(work.slice.positions, Complete):
            for leg in [leg for name, leg in work.book.legs.items() if name not in rows and name not in clashing]:
                unread = leg.name in work.slice.unread_legs and not _is_reported_gone(work, leg)
                if abs(leg.quantity) > small and not unread and _may_compare(work, leg.name, -leg.quantity):
                    _ghost(work, leg)
    claimed = work.slice.claims is not None
    for name, row in rows.items():
        leg_held = legs.get(name)
        if leg_held is not None and (claimed or not _the_same(leg_held, row)):
            _drift(work, leg_held, row)
    if not claimed:
        _doubt_equal_by_chance(work, {name: row.quantity for name, row in rows.items()})


def _doubt_equal_by_chance(work: ReconciliationPass, shown: Mapping[str, Decimal]) -> None:
    """Defer legs that are equal only with a fill from after these positions, where they were not before.

    A leg that was in step has the fill on both sides: the time of positions is the earliest that they may be of. But a
    book that was never in step, or a leg with an open difference, equals them also if it lacks just as much as the fill
    brought. Only a look at later positions tells the two apart.
    """
    never_in_step = work.book.reconciled_at is None
    for name in work.newer_legs():
        held = work.book.legs.get(name)
        same = shown.get(name, ZERO) == (held.quantity if held is not None else ZERO)
        if same and name not in work.deferred and (never_in_step or _differed(work, name)):
            work.defer(name)


def _differed(work: ReconciliationPass, leg: str) -> bool:
    """Whether an earlier look reported another quantity of a leg, and none has found it in step since."""
    return any((kind, leg) in work.book.breaks for kind in _OF_QUANTITY)


def _the_same(leg: Leg, row: Position) -> bool:
    """Whether nothing differs at all. (This holds for nearly every row of nearly every look.)"""
    return (
        leg.quantity == row.quantity
        and leg.average_price == row.average_price
        and row.open_average is None
        and not leg.cost
    )


def _may_compare(work: ReconciliationPass, leg: str, change: Decimal = ZERO) -> bool:
    """Whether both sides of a leg, which differ by ``change``, are known well enough to compare them."""
    return not is_doubted(work, leg) and work.may_judge(leg, change)


def _compare_aside(work: ReconciliationPass, rows: dict[str, Position]) -> None:
    """Compare legs that are shown but not adopted: the broker must hold at least the book's quantity. Any excess is
    ignored."""
    for row in work.slice.aside:
        held = work.book.legs.get(row.leg)
        if held is not None and row.leg not in rows:
            least = min(held.quantity, row.quantity)
            rows[row.leg] = Position(row.instrument, row.leg, least, ZERO, price_told=False) if least else row


def _is_reported_gone(work: ReconciliationPass, leg: Leg) -> bool:
    """Whether the adapter has evidence that exactly what a leg holds is gone, though it does not read that leg."""
    return evidence_of(work, leg.name, -leg.quantity) is not None


def _leave_unread(work: ReconciliationPass, shown: Collection[str]) -> None:
    """Defer legs of the book that the adapter does not read: their absence proves nothing."""
    for name, why in work.slice.unread_legs.items():
        leg = work.book.legs.get(name)
        if leg is not None and name not in shown and not _is_reported_gone(work, leg):
            work.unverified.append(f"leg {name} not known: {why}")
            work.deferred.add(name)


def _shown_twice(work: ReconciliationPass, shown: tuple[Position, ...]) -> set[str]:
    """The legs with contradictory rows in the slice. Which row is right cannot be decided: MALFORMED_DATA."""
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


def _near(work: ReconciliationPass, one: Decimal, other: Decimal) -> bool:
    return abs(one - other) <= work.policy.price_tolerance * max(abs(one), abs(other))


def _recover(work: ReconciliationPass, row: Position) -> None:
    """MISSING_LOCALLY, a zombie: held at the broker, unknown to the book."""
    # A book kept elsewhere is not new only because this is our first look at it.
    new_book = work.new_book and work.slice.claims is None
    usual = Finding(
        type=DiscrepancyType.MISSING_LOCALLY,
        key=row.leg,
        phase=Phase.RECOVERY,
        severity=Severity.INFO if new_book else Severity.WARNING,
        cause=None if new_book else Cause.UNEXPLAINED,
        book_value=None,
        broker_value=to_text(row.quantity),
        difference=to_text(row.quantity),
        correction=Correction.FORCE_ADD_POSITION,
        for_a_person=too_large(work, row.quantity),
        needs_proof=work.undoes_fills(row.leg, row.quantity),
        activity=work.last_activity(row.leg, row.quantity),
    )
    if work.found(usual if new_book else explained(work, row.leg, row.quantity, usual)):
        price = row.average_price if row.comparable_price is None else row.comparable_price
        payload = force_add_position(row.leg, row.quantity, price, work.slice.as_of)
        work.emit(EventType.POSITION_SYNCED, payload, row.leg)


def _ghost(work: ReconciliationPass, leg: Leg) -> None:
    """NAKED_POSITION, a ghost: in the book, not held at the broker. Closed only when that is proven."""
    expired = _has_expired(work)
    usual = Finding(
        type=DiscrepancyType.NAKED_POSITION,
        key=leg.name,
        phase=Phase.GHOST,
        severity=severity_of(Cause.EXPIRY, Severity.INFO) if expired is not None else Severity.CRITICAL,
        cause=Cause.EXPIRY if expired is not None else Cause.UNEXPLAINED,
        book_value=to_text(leg.quantity),
        broker_value=None,
        difference=to_text(-leg.quantity),
        correction=Correction.FORCE_CLOSE_POSITION,
        for_a_person=too_large(work, leg.quantity),
        needs_proof=True,
        activity=work.last_activity(leg.name, -leg.quantity),
        detail=expired,
    )
    found = explained(work, leg.name, -leg.quantity, usual)
    became = next((one.became for one in work.slice.evidence if one.leg == leg.name and one.became), None)
    if became is not None and found.cause is Cause.REPLACED_BY:
        ratio = Fraction(became) / Fraction(leg.quantity)
        found = replace(
            found, detail=f"{found.detail}: {to_text(became)}, a ratio of {ratio.numerator}:{ratio.denominator}"
        )
    if work.found(found):
        payload = force_close_position(leg.name, work.slice.as_of)
        work.emit(EventType.POSITION_SYNCED, payload, leg.name, found.severity)


def _has_expired(work: ReconciliationPass) -> str | None:
    """The explanation that the contract is past its last day; ``None`` if it is not, or that is unknown."""
    contract = work.contract
    if contract is None or contract.expiry is None or not contract.has_expired(work.slice.as_of):
        return None
    return f"the contract expired on {contract.expiry.isoformat()}"


def _drift(work: ReconciliationPass, leg: Leg, row: Position) -> None:
    """POSITION_MISMATCH, else PRICE_MISMATCH. An unknown price is not compared."""
    change = row.quantity - leg.quantity
    price = row.comparable_price
    claim = claim_of(work, leg.name)
    claimed = claim is not None and claim.states_quantity(row.quantity)
    if abs(change) > work.policy.quantity_tolerance and not claimed:
        _quantity_drift(work, leg, row, change)
        return
    average = leg.average_with_cost if work.slice.conventions.commission_in_average else leg.average_price
    if price is None or abs(price - average) <= work.policy.price_tolerance * abs(price):
        return
    if claim is not None and claim.states_price(price):
        return
    if not _may_compare(work, leg.name) or _commission_missing(work, leg):
        return
    found = Finding(
        type=DiscrepancyType.PRICE_MISMATCH,
        key=leg.name,
        phase=Phase.DRIFT,
        severity=Severity.INFO,
        book_value=to_text(average),
        broker_value=to_text(price),
        difference=to_text(price - average),
        detail=None if price == row.average_price else f"the broker shows {to_text(row.average_price)}",
        correction=Correction.FORCE_UPDATE_POSITION,
    )
    evidence = evidence_of(work, leg.name, ZERO)
    if evidence is not None:
        cause = cause_of(evidence.reason, Cause.UNEXPLAINED)
        found = replace(found, cause=cause, severity=severity_of(cause, found.severity), detail=evidence.text)
    if work.found(found):
        payload = force_update_position(leg.name, row.quantity, price, work.slice.as_of)
        work.emit(EventType.POSITION_SYNCED, payload, leg.name, found.severity)


def _commission_missing(work: ReconciliationPass, leg: Leg) -> bool:
    """Whether the broker's average contains a commission that the broker has not reported yet."""
    lacking = work.book.without_commission
    return work.slice.conventions.commission_in_average and any(lot.fill_id in lacking for lot in leg.lots)


def _quantity_drift(work: ReconciliationPass, leg: Leg, row: Position, change: Decimal) -> None:
    if not _may_compare(work, leg.name, change):
        return
    opposite = (row.quantity > 0) != (leg.quantity > 0)
    # A position from before the first look is adopted, unless our side reported one.
    reported = work.slice.claims is not None or leg.name in {*work.book.believed, *work.book.watermarks}
    adopted = not reported and (work.new_book or _waits_since_the_first_look(work, leg))
    usual = Finding(
        type=DiscrepancyType.POSITION_MISMATCH,
        key=leg.name,
        phase=Phase.DRIFT,
        severity=Severity.INFO if adopted else Severity.CRITICAL if opposite else Severity.WARNING,
        cause=None if adopted else Cause.UNEXPLAINED,
        book_value=to_text(leg.quantity),
        broker_value=to_text(row.quantity),
        difference=to_text(change),
        correction=Correction.FORCE_UPDATE_POSITION,
        for_a_person=too_large(work, change),
        needs_proof=work.undoes_fills(leg.name, change),
        activity=work.last_activity(leg.name, change),
    )
    found = explained(work, leg.name, change, usual)
    ratio = None if opposite else _split(work, leg, row)
    if ratio is not None and not _may_be_of(work, leg, ratio):
        ratio = None  # more than the split happened: the lots must not be scaled by the combined ratio
    if ratio is not None and found.cause in (Cause.UNEXPLAINED, Cause.SPLIT):
        detail = found.detail or f"a split {to_text(Decimal(ratio.numerator))}:{to_text(Decimal(ratio.denominator))}"
        found = replace(found, cause=Cause.SPLIT, severity=severity_of(Cause.SPLIT, Severity.INFO), detail=detail)
    if not work.found(found):
        return
    price = leg.average_price if row.comparable_price is None else row.comparable_price
    factor = None
    if found.cause is Cause.SPLIT and ratio is not None:
        factor = Decimal(ratio.numerator) / Decimal(ratio.denominator)
        if _near(work, price, leg.average_with_cost / factor):
            price = leg.average_price / factor  # the cost beside it is scaled too
    payload = payloads.position_to(
        leg.name, row.quantity, price, work.slice.as_of, Correction.FORCE_UPDATE_POSITION, factor
    )
    work.emit(EventType.POSITION_SYNCED, payload, leg.name, found.severity)


def _may_be_of(work: ReconciliationPass, leg: Leg, ratio: Fraction) -> bool:
    """Whether the broker reports no split of a leg, or one by this ratio."""
    reported = [one.ratio for one in work.slice.evidence if one.reason is Reason.SPLIT and one.leg == leg.name]
    return all(one is None or Fraction(one) == ratio for one in reported)


def _waits_since_the_first_look(work: ReconciliationPass, leg: Leg) -> bool:
    """Whether a leg existed at the first look but could not be compared there, because that look found a fill of one of
    our orders. No look has compared it since, and the book has never been in step."""
    baseline = work.book.baseline
    if baseline is None or work.book.reconciled_at is not None:
        return False
    return bool(leg.lots) and all(lot.opened_at <= baseline for lot in leg.lots)


_SAME_COST = Decimal("0.002")
"""A fraction: a larger price tolerance in the configuration is no evidence that nothing was traded."""
_LARGEST_RATIO = 1000


def _split(work: ReconciliationPass, leg: Leg, row: Position) -> Fraction | None:
    """New units per old one, if the quantity changed by a ratio of small whole numbers and its total cost is the same.
    A trade at a price above 0 would have changed the cost."""
    ratio = Fraction(row.quantity) / Fraction(leg.quantity)
    price = row.comparable_price
    if max(ratio.numerator, ratio.denominator) > _LARGEST_RATIO or price is None:
        return None
    average = leg.average_with_cost if work.slice.conventions.commission_in_average else leg.average_price
    before, now = average * leg.quantity, price * row.quantity
    allowed = min(work.policy.price_tolerance, _SAME_COST) * max(abs(before), abs(now))
    return ratio if average > 0 and abs(now - before) <= allowed else None


def force_add_position(leg: str, quantity: Decimal, average_price: Decimal, as_of: BrokerTime) -> dict[str, Json]:
    """Payload of a POSITION_SYNCED: hold a leg that the book did not have. It contains the fills up to ``as_of``
    (broker time)."""
    return payloads.position_to(leg, quantity, average_price, as_of, Correction.FORCE_ADD_POSITION)


def force_update_position(leg: str, quantity: Decimal, average_price: Decimal, as_of: BrokerTime) -> dict[str, Json]:
    """Payload of a POSITION_SYNCED: hold this quantity at this price in a leg that the book has differently."""
    return payloads.position_to(leg, quantity, average_price, as_of, Correction.FORCE_UPDATE_POSITION)


def force_close_position(leg: str, as_of: BrokerTime) -> dict[str, Json]:
    """Payload of a POSITION_SYNCED: hold nothing in a leg."""
    return payloads.position_to(leg, ZERO, ZERO, as_of, Correction.FORCE_CLOSE_POSITION)
