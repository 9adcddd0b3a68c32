"""Discrepancies: one difference between book and slice, and a *break* while it stays open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from actors.events import Json, Severity


class DiscrepancyType(StrEnum):
    """What kind of difference it is; the names other systems use for the same are in the comments."""

    MISSING_LOCALLY = "MISSING_LOCALLY"  # zombie, MISSING_FROM_DELTA
    NAKED_POSITION = "NAKED_POSITION"  # ghost
    POSITION_MISMATCH = "POSITION_MISMATCH"  # volume drift
    PRICE_MISMATCH = "PRICE_MISMATCH"  # price drift
    STALE_DATA = "STALE_DATA"
    ORDER_STATUS_MISMATCH = "ORDER_STATUS_MISMATCH"
    MISSED_FILL = "MISSED_FILL"
    ORDER_MISSING = "ORDER_MISSING"
    EXTERNAL_ORDER = "EXTERNAL_ORDER"
    STALE_ORDER = "STALE_ORDER"
    ORDER_REJECTED = "ORDER_REJECTED"
    UNMANAGED_INSTRUMENT = "UNMANAGED_INSTRUMENT"
    MALFORMED_DATA = "MALFORMED_DATA"
    BOOK_MISMATCH = "BOOK_MISMATCH"  # the book in memory is not what its journal makes


NEEDS_PROOF = frozenset({DiscrepancyType.NAKED_POSITION, DiscrepancyType.ORDER_MISSING})
"""Their corrections destroy (law 4)."""


class Phase(StrEnum):
    """The part of a cycle that found it, in the order they run."""

    SECTIONS = "SECTIONS"
    FILLS = "FILLS"
    ORDERS = "ORDERS"
    RECOVERY = "RECOVERY"
    GHOST = "GHOST"
    DRIFT = "DRIFT"
    SELF_CHECK = "SELF_CHECK"  # outside a cycle: book against journal


class Cause(StrEnum):
    """Why the two sides differ, where that is known."""

    MISSED_FILL = "MISSED_FILL"  # an order of ours was filled and we were not told
    EXTERNAL_TRADE = "EXTERNAL_TRADE"  # somebody else traded in this account
    UNEXPLAINED = "UNEXPLAINED"  # no order and no fill accounts for it


class Correction(StrEnum):
    """A change to the book that resolves a discrepancy."""

    FORCE_ADD_POSITION = "force_add_position"
    FORCE_UPDATE_POSITION = "force_update_position"
    FORCE_CLOSE_POSITION = "force_close_position"
    APPLY_FILL = "apply_fill"
    INFER_FILL = "infer_fill"
    UPDATE_ORDER = "update_order"
    ADOPT_ORDER = "adopt_order"
    GIVE_UP_ORDER = "give_up_order"
    RELOAD_BOOK = "reload_book"


@dataclass(frozen=True, slots=True)
class Break:
    """One discrepancy.

    ``book_value`` and ``broker_value`` are both sides' values as text (``None``: that side has no such thing), and
    ``difference`` is broker minus book where both are numbers. ``seen_at`` are the request times of the COMPLETE
    sections that count as its confirmations. ``cancel_asked`` is for a stale order whose cancellation was requested.
    """

    id: str
    type: DiscrepancyType
    key: str
    severity: Severity
    phase: Phase
    cause: Cause | None
    book_value: str | None
    broker_value: str | None
    difference: str | None
    opened_at: datetime
    seen_at: tuple[datetime, ...] = ()
    cancel_asked: bool = False
    strategy: str | None = None


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A break as one cycle reports it: still open, or resolved, and by which correction (``None`` when the difference
    went away by itself)."""

    found: Break
    resolved: bool
    correction: Correction | None

    def to_json(self) -> dict[str, Json]:
        """The object of the JSON contract."""
        row: dict[str, Json] = {
            "id": self.found.id,
            "type": self.found.type.value,
            "severity": self.found.severity.value,
            "phase": self.found.phase.value,
            "cause": None if self.found.cause is None else self.found.cause.value,
            "key": self.found.key,
            "book_value": self.found.book_value,
            "broker_value": self.found.broker_value,
            "resolved": self.resolved,
            "correction": None if self.correction is None else self.correction.value,
        }
        if self.found.strategy is not None:
            row["strategy"] = self.found.strategy
        return row
