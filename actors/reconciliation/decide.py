"""``reconcile(book, slice, policy, now) → Decision``: one pass over one instrument, without clock, IO or Ray.

The order is fixed: unreadable rows and age, then fills, then orders, then a book kept elsewhere, then positions
(RECOVERY → GHOST → DRIFT), then breaks that no longer exist are closed, and the pass gets its status.

The laws of this module: the absence of a row counts in a COMPLETE section only; nothing is concluded from a slice older
than the last local activity on its subject; the same book, slice, policy and time give the same decision, and a second
pass on the result of the first one emits nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from actors.book import payloads
from actors.book.book import Book
from actors.book.discrepancies import Break, Correction, DiscrepancyType, Phase, unreadable_keys
from actors.book.flapping import CALM, PROBLEMS_AT_MOST
from actors.book.policy import Policy
from actors.events import Event, Json, Severity, to_iso
from actors.reconciliation.claims import KEY, corrections_wanted, take_claims
from actors.reconciliation.fills import reconcile_fills
from actors.reconciliation.order_matching import with_whole_client_ids
from actors.reconciliation.orders import reconcile_orders
from actors.reconciliation.positions import reconcile_positions
from actors.reconciliation.reconciliation_pass import Decision, Finding, ReconciliationPass, Status, Subject
from actors.reconciliation.slices import join_slices, settle_growing
from actors.reconciliation.streamed_fills import take_streamed
from actors.reconciliation.watched_legs import watch_legs
from brokers.model import (
    AnyRow,
    Complete,
    Completeness,
    Failed,
    Partial,
    Section,
    Slice,
    Unsupported,
    problems_of,
    rows_of,
)

_FILLS_LOST = (DiscrepancyType.STALE_DATA, "fills")
"""The broker no longer has the fills after our cursor. Open until both sides agree again, which is journaled with the
new cursor: later fills are found as fills."""

RECONCILED_AT_MOST_EVERY = timedelta(minutes=5)
"""The shortest time between two records of clean cycles."""

_POSITION_BREAKS = frozenset(
    {
        DiscrepancyType.MISSING_LOCALLY,
        DiscrepancyType.NAKED_POSITION,
        DiscrepancyType.POSITION_MISMATCH,
        DiscrepancyType.PRICE_MISMATCH,
        DiscrepancyType.OPPOSITE_LEGS,
        DiscrepancyType.UNPROTECTED,
    }
)
_ORDER_BREAKS = frozenset(
    {
        DiscrepancyType.ORDER_STATUS_MISMATCH,
        DiscrepancyType.ORDER_MISSING,
        DiscrepancyType.FILLED_MISMATCH,
        DiscrepancyType.EXTERNAL_ORDER,
        DiscrepancyType.STALE_ORDER,
        DiscrepancyType.ORDER_REJECTED,
        DiscrepancyType.DUPLICATE_ORDER,
        DiscrepancyType.OVERFILL,
        DiscrepancyType.OVERSIZED_ORDER,
    }
)


def reconcile(
    book: Book, slice_: Slice, policy: Policy, now: datetime, verified_at: datetime | None = None
) -> Decision:
    """Compare a book with its broker's slice, and decide what to do.

    ``verified_at`` is when this book was last found in step (``None``: not since its RECONCILED, if it has one); a book
    that cannot be verified for too long becomes a discrepancy of its own. Raises ``ValueError`` for a slice of another
    account or instrument. The book is not changed: apply the decision's events once they are journaled.
    """
    if slice_.instrument != book.instrument or slice_.account != book.account:
        raise ValueError(f"the book of {book.stream} cannot be reconciled with {slice_.account}/{slice_.instrument}")
    if slice_.streamed:
        return _streamed(book, slice_, policy, now)
    evidence_due = book.reconciled_at is None or now - book.reconciled_at >= RECONCILED_AT_MOST_EVERY
    if not evidence_due and unchanged(book, slice_, policy, now):
        return Decision(Status.SUCCESS, cursor=slice_.fills_cursor)
    work, fresh = _compared(book, slice_, policy, now, verified_at)
    if not work.lookups and any(trial.approved for trial in work.trials):
        approved = _may_be_made(work)
        if approved:
            work, fresh = _compared(book, slice_, policy, now, verified_at, approved)
    if work.lookups:
        return Decision(Status.PARTIAL, lookups=tuple(dict.fromkeys(work.lookups)))
    if book.breaks:
        _close_what_is_gone(work)
    return _conclude(work, evidence_due, fresh=fresh)


def _streamed(book: Book, slice_: Slice, policy: Policy, now: datetime) -> Decision:
    """Apply the executions of a stream to the book. Nothing else is compared, closed, verified or requested."""
    work = ReconciliationPass(book, slice_, policy, now)
    take_streamed(work)
    return Decision(Status.PARTIAL, tuple(work.events), tuple(work.discrepancies.values()))


def unchanged(book: Book, slice_: Slice, policy: Policy, now: datetime) -> bool:
    """Whether this book was found in step with exactly these rows under this policy, nothing was written since, and
    they are not too old: another comparison would give the same result."""
    same = book.clean == slice_.revision and book.clean_under is policy
    return same and now - slice_.requested_at <= policy.max_age


def _compared(
    book: Book,
    slice_: Slice,
    policy: Policy,
    now: datetime,
    verified_at: datetime | None,
    approved: frozenset[Subject] = frozenset(),
) -> tuple[ReconciliationPass, bool]:
    """The pass with all differences, and whether the slice is fresh enough to act on."""
    work = ReconciliationPass(book, slice_, policy, now, approved)
    _unreadable_rows(work)
    fresh = _is_fresh(work, verified_at)
    if fresh:
        _lost_fills(work)
        with_whole_client_ids(work)
        join_slices(work)
        settle_growing(work)
        reconcile_fills(work)
        reconcile_orders(work)
        take_claims(work)
        reconcile_positions(work)
        watch_legs(work)
    return work, fresh


def _may_be_made(work: ReconciliationPass) -> frozenset[Subject]:
    """Under ``alert``: the approved corrections that do not depend on one that was only tried. Corrections of orders
    and fills are made together or not at all, because each builds on the ones before it; a leg is set to the broker's
    position independently of the others, unless a fill was only tried on it."""
    flow = [trial for trial in work.trials if trial.finding.phase in (Phase.FILLS, Phase.ORDERS)]
    together = not work.tidied and all(trial.approved for trial in flow)
    if len(flow) > 1 and any(trial.finding.needs_proof for trial in flow):
        together = False
    made = {trial.finding.subject for trial in flow} if together else set()
    tried_legs = set() if together else work.tried_legs
    for trial in work.trials:
        moves = trial.finding.correction is Correction.MOVE_POSITION  # which changes another leg, too
        rests_on_a_trial = bool(tried_legs) if moves else trial.finding.key in tried_legs
        if trial.approved and trial not in flow and not rests_on_a_trial:
            made.add(trial.finding.subject)
    return frozenset(made)


def _unreadable_rows(work: ReconciliationPass) -> None:
    """MALFORMED_DATA for each unreadable row of this instrument. The account reports rows that name no instrument."""
    slice_ = work.slice
    sections: tuple[Section[AnyRow], ...] = (slice_.positions, slice_.orders, slice_.fills)
    for section in sections:
        ours = [(place, one) for place, one in enumerate(problems_of(section)) if one.instrument == slice_.instrument]
        if not ours:
            continue
        for key, problem in unreadable_keys(ours[:PROBLEMS_AT_MOST]).items():
            _unreadable(work, key, problem.text)
        if len(ours) > PROBLEMS_AT_MOST:
            name = ours[0][1].section.value
            _unreadable(work, f"{name}:more", f"more than {PROBLEMS_AT_MOST} rows of {name} cannot be read")
        for _, problem in ours:
            if problem.again_at is not None:
                work.look_again(problem.again_at)


def _unreadable(work: ReconciliationPass, key: str, text: str) -> None:
    work.found(
        Finding(
            type=DiscrepancyType.MALFORMED_DATA,
            key=key,
            phase=Phase.SECTIONS,
            severity=Severity.WARNING,
            book_value=None,
            broker_value=text,
            correction=None,
        )
    )


def _is_fresh(work: ReconciliationPass, verified_at: datetime | None) -> bool:
    """Whether the slice is fresh enough to act on. STALE_DATA if it is too old, or if nothing could be verified for too
    long."""
    slice_, policy = work.slice, work.policy
    if isinstance(slice_.positions, Failed) and slice_.positions.disbelieved and policy.positions:
        _disbelieved(work, slice_.positions.reason, verified_at)
    too_old = work.now - slice_.requested_at > policy.max_age
    unknown = isinstance(slice_.positions, Failed) or isinstance(slice_.orders, Failed)
    since = slice_.requested_at if too_old and not unknown else verified_at or work.book.reconciled_at
    if (too_old or unknown) and since is not None and work.now - since > policy.max_age:
        work.found(
            Finding(
                type=DiscrepancyType.STALE_DATA,
                key="verified",
                phase=Phase.SECTIONS,
                severity=Severity.CRITICAL if work.now - since > policy.unverified else Severity.WARNING,
                book_value=to_iso(since),
                broker_value=None,
                correction=None,
            )
        )
    return not too_old


def _disbelieved(work: ReconciliationPass, reason: str, verified_at: datetime | None) -> None:
    """STALE_DATA at once, and CRITICAL, however recently the book was verified: the position is in dispute, so trading
    is not allowed."""
    since = verified_at or work.book.reconciled_at or work.now
    work.found(
        Finding(
            type=DiscrepancyType.STALE_DATA,
            key="positions",
            phase=Phase.SECTIONS,
            severity=Severity.CRITICAL,
            book_value=to_iso(since),
            broker_value=reason,
            correction=None,
        )
    )


def _lost_fills(work: ReconciliationPass) -> None:
    """STALE_DATA if the broker no longer has the fills after our cursor: the positions contain them, and nothing else
    shows them. The next look continues from the start of the broker's list."""
    fills, cursor = work.slice.fills, work.slice.fills_cursor
    if isinstance(fills, Failed) and cursor is not None:
        work.found(
            Finding(
                type=_FILLS_LOST[0],
                key=_FILLS_LOST[1],
                phase=Phase.SECTIONS,
                severity=Severity.WARNING,
                book_value=None if work.book.cursor is None else str(work.book.cursor),
                broker_value=fills.reason,
                correction=None,
            )
        )
        work.look_again(work.now)


def _close_what_is_gone(work: ReconciliationPass) -> None:
    """Close the open breaks whose difference this slice would have shown, and did not."""
    for place, found in list(work.book.breaks.items()):
        if place not in {*work.touched, _FILLS_LOST} and _would_have_been_seen(work, found):
            if work.book.recent_reports.flaps(place, work.now):
                work.look_again(work.now + CALM)  # it would reopen at once: it stays open until it is calm
            else:
                work.gone(found)


def _would_have_been_seen(work: ReconciliationPass, found: Break) -> bool:
    """Whether a break that this slice does not show is over. :data:`HOW_IT_ENDS` describes the rules."""
    slice_ = work.slice
    if work.now - slice_.requested_at > work.policy.max_age:
        return False
    if found.type in _POSITION_BREAKS:
        if not work.policy.positions or _no_longer_reported(work, found, slice_.positions):
            return True
        shown = any(row.leg == found.key for row in rows_of(slice_.positions))
        if shown and found.type is DiscrepancyType.NAKED_POSITION:
            return True  # whatever else is unknown, the leg is there: no sighting of its absence counts any more
        return found.key not in work.deferred and (shown or isinstance(slice_.positions, Complete))
    if found.type in _ORDER_BREAKS:
        return _no_longer_reported(work, found, slice_.orders) or _order_was_looked_at(work, found.key)
    if found.type is DiscrepancyType.MISSED_FILL:
        # If the broker has no fills section at all, the question ends with its order.
        looked_at = _no_longer_reported(work, found, slice_.orders) or _order_was_looked_at(work, found.key)
        return isinstance(slice_.fills, Complete | Unsupported) and looked_at
    if found.key.startswith(KEY):
        return True  # each look reports what is unknown about the book kept elsewhere
    if found.type is DiscrepancyType.STALE_DATA:
        return not isinstance(slice_.positions, Failed) and not isinstance(slice_.orders, Failed)
    sections: dict[str, Section[AnyRow]] = {
        "positions": slice_.positions,
        "orders": slice_.orders,
        "fills": slice_.fills,
    }
    section = sections.get(found.key.split(":")[0])
    # A PARTIAL section names each row that it cannot read, unless rows are missing for another reason.
    return isinstance(section, Complete | Unsupported) or (isinstance(section, Partial) and bool(section.problems))


def _order_was_looked_at(work: ReconciliationPass, key: str) -> bool:
    """Whether this pass saw both sides of an order."""
    deferred = {order.subject for order in work.book.orders.values() if order.key in work.deferred}
    shown = any(row.broker_order_id == key for row in rows_of(work.slice.orders))
    return key not in deferred and (shown or isinstance(work.slice.orders, Complete))


def _no_longer_reported(work: ReconciliationPass, found: Break, section: Section[AnyRow]) -> bool:
    """Whether this broker has no such section (any more), and the last sighting of the break is so old that the
    question no longer exists."""
    last_seen_at = max((found.opened_at, *found.seen_at))
    return isinstance(section, Unsupported) and work.now - last_seen_at > work.policy.max_age


def _conclude(work: ReconciliationPass, evidence_due: bool, *, fresh: bool) -> Decision:
    slice_ = work.slice
    needed: list[Section[AnyRow]] = [slice_.orders, slice_.fills]
    if work.policy.positions:
        needed.append(slice_.positions)
    known = not any(isinstance(section, Failed | Partial) for section in needed)
    nothing_else = known and not work.deferred and not work.unverified and not work.book.pending_fills()
    if nothing_else and fresh and work.book.breaks.keys() == {_FILLS_LOST}:
        work.gone(work.book.breaks[_FILLS_LOST])
        evidence_due = True
    in_step = nothing_else and not work.book.breaks
    evidence_due = evidence_due or _contract_changed(work)
    clean = not work.touched and not work.events
    missed = any(kind is DiscrepancyType.MISSED_FILL for kind, _ in work.book.breaks)
    dealt_with = fresh and isinstance(slice_.fills, Complete) and not missed and not work.fills_wait
    cursor = slice_.fills_cursor if dealt_with else None
    if in_step and evidence_due:
        _evidence(work)
    if in_step and clean and not (work.policy.stale_order is not None and rows_of(slice_.orders)):
        work.book.remember_clean(slice_.revision, work.policy)
    for found in list(work.book.breaks.values()):
        stands = work.stands(found)
        if found.id not in work.discrepancies:
            work.still_open(stands)
    return Decision(
        status=Status.SUCCESS if in_step else Status.PARTIAL,
        events=tuple(work.events),
        discrepancies=tuple(work.discrepancies.values()),
        cancels=tuple(work.cancels),
        recheck_at=work.recheck_at,
        unverified=tuple(work.unverified),
        cursor=cursor,
        claim_corrections=corrections_wanted(work),
    )


def evidence_of(book: Book, slice_: Slice, policy: Policy, now: datetime) -> tuple[Event, ...]:
    """The RECONCILED of a pass that found everything in step, for a pass that the journal must show (after a trade),
    however recent the last one is. The book is not changed."""
    work = ReconciliationPass(book, slice_, policy, now)
    _evidence(work)
    return tuple(work.events)


def _contract_changed(work: ReconciliationPass) -> bool:
    """Whether the broker's description of the instrument differs from the journaled one."""
    return work.slice.contract is not None and work.slice.contract != work.book.contract


def _evidence(work: ReconciliationPass) -> None:
    """RECONCILED: at that broker time both sides agreed."""
    slice_ = work.slice
    payload: dict[str, Json] = {
        "as_of": to_iso(slice_.as_of),
        "requested_at": to_iso(slice_.requested_at),
        "positions": slice_.positions.completeness.value if work.policy.positions else Completeness.UNSUPPORTED.value,
        "orders": slice_.orders.completeness.value,
        "fills": slice_.fills.completeness.value,
        "fills_cursor": slice_.fills_cursor if isinstance(slice_.fills, Complete) else None,
        "legs": len(work.book.legs),
    }
    if work.slice.contract is not None and _contract_changed(work):
        payload["contract"] = payloads.contract_to(work.slice.contract)
    work.evidence(payload)
