"""How to reconcile one instrument: the part of the configuration that the pure modules read."""

from __future__ import annotations

from dataclasses import field
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

from actors.book.discrepancies import DiscrepancyType
from actors.events import Severity
from brokers.frozen import dataclass
from brokers.model import Conventions
from brokers.versions import across_versions


class Correct(StrEnum):
    """What to do about a difference."""

    AUTO = "auto"  # correct the book
    ALERT = "alert"  # report it and leave the book alone


@across_versions
@dataclass(frozen=True, slots=True)
class Policy:
    """The rules for one instrument.

    ``confirmations`` COMPLETE sections, at least ``confirm_gap`` apart and each requested ``settle`` after the last
    local activity, are needed before anything is taken out of a book. ``quantity_tolerance`` is absolute,
    ``price_tolerance`` a fraction of the price. A position correction of more than ``max_correction`` (units of the
    leg) is left to a person. ``max_age`` is how long a book may go unverified before that is a discrepancy of its
    own, ``unverified`` how long before that is critical. ``positions`` is False in paper mode: only orders are
    reconciled. ``conventions`` apply until a slice states others. Open breaks of the types in ``may_stand`` do not
    forbid trading. A break of a type in ``halt_on`` halts trading, and so does one that has been open for as long as
    ``halt_after`` allows for its severity. With ``four_eyes`` a correction needs two persons. ``approvals`` is False
    where approvals must change nothing (a dry run). ``protection`` is the severity of a leg with less in stop orders
    than it holds, and of a stop order for more than its leg; ``None`` turns that check off.
    """

    correct: Correct = Correct.AUTO
    confirmations: int = 2
    confirm_gap: timedelta = timedelta(milliseconds=500)
    settle: timedelta = timedelta(seconds=5)
    quantity_tolerance: Decimal = Decimal(0)
    price_tolerance: Decimal = Decimal("0.00001")
    max_correction: Decimal | None = None
    stale_order: timedelta | None = None
    cancel_stale_orders: bool = False
    max_age: timedelta = timedelta(seconds=900)
    unverified: timedelta = timedelta(seconds=900)
    positions: bool = True
    conventions: Conventions = field(default=Conventions())
    may_stand: frozenset[DiscrepancyType] = frozenset()
    halt_on: tuple[DiscrepancyType, ...] = ()
    halt_after: tuple[tuple[Severity, timedelta], ...] = ()
    four_eyes: bool = False
    approvals: bool = True
    protection: Severity | None = None
