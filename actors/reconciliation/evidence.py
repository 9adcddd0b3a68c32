"""The broker's evidence for a change of a position that no fill explains, for the findings of every phase."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from actors.book.discrepancies import CAUSES, Cause, cause_of, severity_of
from actors.reconciliation.reconciliation_pass import Finding, ReconciliationPass
from brokers.model import Evidence


def too_large(work: ReconciliationPass, change: Decimal) -> bool:
    """Whether a correction is too large to make without a person."""
    limit = work.policy.max_correction
    return limit is not None and abs(change) > limit


def evidence_of(work: ReconciliationPass, leg: str, change: Decimal) -> Evidence | None:
    """The broker's evidence for exactly this change, if there is any."""
    fitting = (one for one in work.slice.evidence if one.leg == leg and one.change in (None, change))
    return next(fitting, None)


def explained(work: ReconciliationPass, leg: str, change: Decimal, usual: Finding) -> Finding:
    """The finding with the cause that there is evidence for."""
    evidence = evidence_of(work, leg, change)
    if evidence is None:
        return usual
    cause = cause_of(evidence.reason, Cause.UNEXPLAINED)
    return replace(
        usual,
        cause=cause,
        severity=severity_of(cause, usual.severity),
        linked=evidence.linked,
        detail=evidence.text,
        for_a_person=usual.for_a_person or (cause in CAUSES and CAUSES[cause].a_person),
    )
