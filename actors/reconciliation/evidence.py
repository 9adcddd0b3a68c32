"""What the broker says of a change of a position that no fill explains, as findings of every phase show it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from actors.book.discrepancies import CAUSES, Cause, cause_of, severity_of
from actors.reconciliation.reconciliation_pass import Finding, ReconciliationPass
from brokers.model import Evidence


def too_large(work: ReconciliationPass, change: Decimal) -> bool:
    """Whether a correction is too large to be made without a person."""
    limit = work.policy.max_correction
    return limit is not None and abs(change) > limit


def evidence_of(work: ReconciliationPass, leg: str, change: Decimal) -> Evidence | None:
    """What the broker says of exactly this change."""
    told = (one for one in work.slice.evidence if one.leg == leg and one.change in (None, change))
    return next(told, None)


def explained(work: ReconciliationPass, leg: str, change: Decimal, usual: Finding) -> Finding:
    """The finding with the cause that there is evidence of."""
    told = evidence_of(work, leg, change)
    if told is None:
        return usual
    cause = cause_of(told.reason, Cause.UNEXPLAINED)
    return replace(
        usual,
        cause=cause,
        severity=severity_of(cause, usual.severity),
        linked=told.linked,
        detail=told.text,
        for_a_person=usual.for_a_person or (cause in CAUSES and CAUSES[cause].a_person),
    )
