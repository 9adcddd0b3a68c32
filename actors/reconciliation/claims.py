"""A book kept elsewhere (in a table) as our side of every comparison of positions.

The laws of this module:

* A leg has the quantity of its newest row, set by a POSITION_RECORDED with that row's time. A later fill is in the row,
  or else is a difference: we wait ``settle`` for it, because a writer needs a moment, and no longer.
* Unknown is not flat. A row that is gone, or is replaced by an older one, proves nothing: a table that was restored, or
  lost rows, closes no leg. A leg that never had a row is not held by that book.
* Our book is not corrected: the next look would undo that, because the row is unchanged. The other book's owner is
  asked for the correction, once for each break, and the break stays open until a row agrees with the broker.
"""

from __future__ import annotations

from decimal import Decimal

from actors.book import payloads
from actors.book.discrepancies import Correction, DiscrepancyType, Phase
from actors.book.legs import impossible
from actors.book.lots import ZERO
from actors.events import EventType, Severity, to_iso
from actors.reconciliation.reconciliation_pass import ClaimCorrection, Finding, ReconciliationPass
from brokers.clocks import broker_time
from brokers.model import Claim, ClaimDoubt, Position, rows_of

KEY = "book:"
"""The prefix of a discrepancy's key if it concerns the book kept elsewhere, and no section of the broker."""


def take_claims(work: ReconciliationPass) -> None:
    """Set the legs to what the other book states, as far as that is known."""
    claims = work.slice.claims
    if claims is None or not work.policy.positions:
        return
    doubted = {doubt.leg for doubt in claims.doubts}
    strange = [doubt for row in claims.rows if (doubt := _strange_leg(work, row)) is not None]
    doubted |= {doubt.leg for doubt in strange}
    for doubt in (*claims.doubts, *strange):
        _doubt(work, doubt)
    rows = {row.leg: row for row in claims.rows}
    for name in sorted({*rows, *work.book.legs, *work.book.claimed} - doubted):
        row = rows.get(name)
        found = None if None in doubted else _went_back(work, name, row)
        if found is not None:
            _doubt(work, found)
        elif None not in doubted:
            _take(work, name, row)
    if None in doubted:
        work.deferred.update(work.book.legs)


def is_doubted(work: ReconciliationPass, leg: str) -> bool:
    """Whether the other book's statement about a leg is unknown."""
    claims = work.slice.claims
    if claims is None:
        return False
    return leg in work.deferred or any(doubt.leg in (None, leg) for doubt in claims.doubts)


def claim_of(work: ReconciliationPass, leg: str) -> Claim | None:
    """The other book's row of a leg."""
    if work.slice.claims is None:
        return None
    return next((row for row in work.slice.claims.rows if row.leg == leg), None)


def corrections_wanted(work: ReconciliationPass) -> tuple[ClaimCorrection, ...]:
    """The rows that would end the breaks that may be corrected."""
    if not work.wanted:
        return ()
    shown: dict[str, Position] = {row.leg: row for row in rows_of(work.slice.positions)}
    wanted = []
    for leg, found in work.wanted.items():
        row = shown.get(leg)
        price = None if row is None else row.average_price if row.comparable_price is None else row.comparable_price
        wanted.append(ClaimCorrection(found.id, leg, ZERO if row is None else row.quantity, price))
    return tuple(wanted)


def _strange_leg(work: ReconciliationPass, row: Claim) -> ClaimDoubt | None:
    """A doubt about a row whose leg cannot exist at this broker: it matches no position, and the real leg no row."""
    instead = impossible(work.slice.conventions.legs, row.leg, row.quantity)
    if instead is None or not row.quantity:
        return None
    found = f"its row of {to_iso(row.at)} is of leg {row.leg!r}, and there is {instead} at this broker"
    return ClaimDoubt(None, stale=False, text=f"{found}: write the leg so, or name the column under book.columns.leg")


def _went_back(work: ReconciliationPass, leg: str, row: Claim | None) -> ClaimDoubt | None:
    """A doubt about a leg whose row disappeared or became older: a book in normal use does neither."""
    claimed_at = work.book.claimed.get(leg)
    if claimed_at is None:
        return None
    if row is None and leg in work.book.legs:
        found = f"its row of {to_iso(claimed_at)} is gone, and there is no other of leg {leg}"
    elif row is not None and row.at < claimed_at:
        found = f"its newest row of leg {leg} is of {to_iso(row.at)}, and it had one of {to_iso(claimed_at)}"
    else:
        return None
    remedy = "the table was restored to an older version, or lost rows. Bring them back, or write a newer row"
    return ClaimDoubt(leg, stale=True, text=f"{found}: {remedy}")


def _doubt(work: ReconciliationPass, doubt: ClaimDoubt) -> None:
    if doubt.leg is not None:
        work.deferred.add(doubt.leg)
    work.unverified.append(f"book not known: {doubt.text}")
    work.found(
        Finding(
            type=DiscrepancyType.STALE_DATA if doubt.stale else DiscrepancyType.MALFORMED_DATA,
            key=f"{KEY}{doubt.leg or ''}",
            phase=Phase.SECTIONS,
            severity=Severity.WARNING,
            book_value=doubt.text,
            broker_value=None,
            correction=None,
        )
    )


def _take(work: ReconciliationPass, leg: str, row: Claim | None) -> None:
    book = work.book
    held = book.legs.get(leg)
    quantity = ZERO if row is None else row.quantity
    price = None if row is None else row.average_price
    had = ZERO if held is None else held.quantity
    same_price = price is None or held is None or not quantity or held.average_price == price
    known = row is None or not quantity or leg in book.claimed
    if had == quantity and same_price and known:
        return
    claimed_at = book.claimed.get(leg)
    news = row is not None and (claimed_at is None or row.at > claimed_at)
    leg_changed_at = work.leg_changed_at(leg)
    settled_at = None if news or not known else work.settled_at(leg_changed_at)
    if settled_at is not None:
        work.defer(leg, settled_at)
        return
    _end_corrected(work, leg, row)
    if price is None:
        price = held.average_price if held is not None and quantity else _shown_price(work, leg)
    watermark = work.slice.as_of if row is None else broker_time(min(row.at, work.now))
    at = None if row is None else row.at
    work.note(EventType.POSITION_RECORDED, payloads.claim_to(leg, quantity, price, watermark, at), leg)


def _shown_price(work: ReconciliationPass, leg: str) -> Decimal:
    """The broker's price, for a row without one."""
    row = next((row for row in rows_of(work.slice.positions) if row.leg == leg), None)
    return ZERO if row is None else row.average_price


_CORRECTIONS = {
    DiscrepancyType.MISSING_LOCALLY: Correction.FORCE_ADD_POSITION,
    DiscrepancyType.NAKED_POSITION: Correction.FORCE_CLOSE_POSITION,
    DiscrepancyType.POSITION_MISMATCH: Correction.FORCE_UPDATE_POSITION,
    DiscrepancyType.PRICE_MISMATCH: Correction.FORCE_UPDATE_POSITION,
}


def _end_corrected(work: ReconciliationPass, leg: str, row: Claim | None) -> None:
    """End the break that a row was written to correct: any later difference is another break."""
    if row is None or row.discrepancy is None:
        return
    for kind, correction in _CORRECTIONS.items():
        found = work.book.breaks.get((kind, leg))
        if found is not None and found.id == row.discrepancy:
            work.gone(found, correction)
