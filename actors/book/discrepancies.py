"""Discrepancies: a difference between book and slice, called a *break* while it is open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from actors.events import Json, Severity
from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.model import Reason, RowProblem
from brokers.versions import across_versions


class DiscrepancyType(StrEnum):
    """The kind of difference; the comments give the names that other systems use."""

    MISSING_LOCALLY = "MISSING_LOCALLY"  # zombie, MISSING_FROM_DELTA
    NAKED_POSITION = "NAKED_POSITION"  # ghost
    POSITION_MISMATCH = "POSITION_MISMATCH"  # volume drift
    PRICE_MISMATCH = "PRICE_MISMATCH"  # price drift
    STALE_DATA = "STALE_DATA"
    ORDER_STATUS_MISMATCH = "ORDER_STATUS_MISMATCH"
    MISSED_FILL = "MISSED_FILL"
    ORDER_MISSING = "ORDER_MISSING"
    FILLED_MISMATCH = "FILLED_MISMATCH"  # for one order, and no fill shows which side is right
    EXTERNAL_ORDER = "EXTERNAL_ORDER"
    STALE_ORDER = "STALE_ORDER"
    ORDER_REJECTED = "ORDER_REJECTED"
    UNMANAGED_INSTRUMENT = "UNMANAGED_INSTRUMENT"
    MALFORMED_DATA = "MALFORMED_DATA"
    BOOK_MISMATCH = "BOOK_MISMATCH"  # the book in memory differs from a replay of its journal
    DUPLICATE_ORDER = "DUPLICATE_ORDER"  # two working orders at the broker for one of ours
    OVERFILL = "OVERFILL"  # more was executed than was ordered
    OPPOSITE_LEGS = "OPPOSITE_LEGS"  # an order meant to close a position opened an opposite one
    UNPROTECTED = "UNPROTECTED"  # a leg with less in protective orders than it holds
    OVERSIZED_ORDER = "OVERSIZED_ORDER"  # a protective order for more than its leg holds


OF_A_POSITION_OR_AN_ORDER = frozenset(
    {
        DiscrepancyType.MISSING_LOCALLY,
        DiscrepancyType.NAKED_POSITION,
        DiscrepancyType.POSITION_MISMATCH,
        DiscrepancyType.ORDER_STATUS_MISMATCH,
        DiscrepancyType.MISSED_FILL,
        DiscrepancyType.ORDER_MISSING,
        DiscrepancyType.FILLED_MISMATCH,
        DiscrepancyType.EXTERNAL_ORDER,
        DiscrepancyType.ORDER_REJECTED,
        DiscrepancyType.DUPLICATE_ORDER,
        DiscrepancyType.OVERFILL,
        DiscrepancyType.OPPOSITE_LEGS,
    }
)
"""While one of these is open, the two sides disagree on a position or on an order: trading is not allowed."""


IN_A_TABLE: Mapping[DiscrepancyType, str] = MappingProxyType(
    {
        DiscrepancyType.MISSING_LOCALLY: "MISSING_FROM_DELTA",
        DiscrepancyType.NAKED_POSITION: "NAKED_POSITION",
        DiscrepancyType.POSITION_MISMATCH: "POSITION_MISMATCH",
        DiscrepancyType.STALE_DATA: "STALE_DATA",
    }
)
"""The names used by systems that keep their book in a Delta Lake table."""


_T = DiscrepancyType
_LEG = "its leg is shown as the book has it, or gone from COMPLETE positions; or positions are no longer compared"
_ORDER = "a row shows its order as the book has it, or COMPLETE orders no longer show it and it has ended in the book"
_QUESTION = "; or the broker has had no such section for longer than max_age_s: the question no longer exists"
HOW_IT_ENDS: Mapping[DiscrepancyType, str] = MappingProxyType(
    {
        _T.MISSING_LOCALLY: _LEG + _QUESTION,
        _T.NAKED_POSITION: _LEG + _QUESTION,
        _T.POSITION_MISMATCH: _LEG + _QUESTION,
        _T.PRICE_MISMATCH: _LEG + _QUESTION,
        _T.ORDER_STATUS_MISMATCH: _ORDER + _QUESTION,
        _T.ORDER_MISSING: "its order is shown or found again, or has ended in the book" + _QUESTION,
        _T.FILLED_MISMATCH: _ORDER + ", or a person approves what its row counts" + _QUESTION,
        _T.EXTERNAL_ORDER: "it is adopted, or COMPLETE orders no longer show it" + _QUESTION,
        _T.STALE_ORDER: "its order ended, was filled or is younger than a changed stale_order_s" + _QUESTION,
        _T.ORDER_REJECTED: _ORDER + _QUESTION,
        _T.DUPLICATE_ORDER: "one of the two no longer works" + _QUESTION,
        _T.OVERFILL: "COMPLETE orders show it without an excess, or no longer show it" + _QUESTION,
        _T.MISSED_FILL: "the fill is applied, or the order it was missed of is in step or gone" + _QUESTION,
        _T.STALE_DATA: "positions and orders were read again; lost fills: everything else is in step",
        _T.MALFORMED_DATA: "its row is no longer among the unreadable ones, whatever happens to others" + _QUESTION,
        _T.UNMANAGED_INSTRUMENT: "it is configured, ignored, or COMPLETE sections show nothing of it",
        _T.OPPOSITE_LEGS: "one of the two legs is gone, or the broker names its legs otherwise",
        _T.UNPROTECTED: "its leg is covered, is gone, or is no longer watched",
        _T.OVERSIZED_ORDER: "the orders that close its leg are for no more than it holds, or it is no longer watched",
        _T.BOOK_MISMATCH: "at once: the book is rebuilt from its journal",
    }
)
"""What closes an open break of each type, besides its correction: no break waits for something that never comes."""


NEEDS_PROOF = frozenset(
    {
        DiscrepancyType.NAKED_POSITION,
        DiscrepancyType.ORDER_MISSING,
        DiscrepancyType.FILLED_MISMATCH,
        DiscrepancyType.MISSED_FILL,  # of an order that the broker no longer knows
        DiscrepancyType.ORDER_STATUS_MISMATCH,
        DiscrepancyType.POSITION_MISMATCH,  # one that takes back quantity that fills explain
        DiscrepancyType.MISSING_LOCALLY,
    }
)
"""Their corrections destroy, or may destroy, part of a book (law 4)."""


class Phase(StrEnum):
    """The part of a cycle that found a discrepancy, in the order they run."""

    SECTIONS = "SECTIONS"
    FILLS = "FILLS"
    ORDERS = "ORDERS"
    RECOVERY = "RECOVERY"
    GHOST = "GHOST"
    DRIFT = "DRIFT"
    SELF_CHECK = "SELF_CHECK"  # outside a cycle: book against journal


class Cause(StrEnum):
    """Why the two sides differ, if that is known."""

    MISSED_FILL = "MISSED_FILL"  # an order of ours was filled and nobody reported the fill
    EXTERNAL_TRADE = "EXTERNAL_TRADE"  # somebody else traded in this account
    UNEXPLAINED = "UNEXPLAINED"  # no order and no fill accounts for it
    DUPLICATE_ORDER = "DUPLICATE_ORDER"
    EXPIRY = "EXPIRY"
    EXERCISE = "EXERCISE"
    ASSIGNMENT = "ASSIGNMENT"
    SPLIT = "SPLIT"
    MERGER = "MERGER"
    REPLACED_BY = "REPLACED_BY"
    SETTLEMENT = "SETTLEMENT"
    CONVERSION = "CONVERSION"
    TRANSFER = "TRANSFER"
    LIQUIDATION = "LIQUIDATION"
    SQUARE_OFF = "SQUARE_OFF"
    ROLLOVER = "ROLLOVER"
    FINANCING = "FINANCING"
    DIVIDEND = "DIVIDEND"
    FORCED_BUY_IN = "FORCED_BUY_IN"
    STOP_LOSS = "STOP_LOSS"
    TAKE_PROFIT = "TAKE_PROFIT"


@dataclass(frozen=True, slots=True)
class CauseRule:
    """How severe a cause is, and the evidence it takes to claim it. A cause that needs ``a_person`` is never corrected
    automatically."""

    severity: Severity
    evidence: str
    a_person: bool = False


CAUSES: Mapping[Cause, CauseRule] = MappingProxyType(
    {
        Cause.EXPIRY: CauseRule(
            Severity.INFO,
            "the whole leg is gone after the last trading moment of the expiry date that the broker gave",
        ),
        Cause.EXERCISE: CauseRule(
            Severity.INFO, "the broker says so; or a long option is gone and its underlying came or went at the strike"
        ),
        Cause.ASSIGNMENT: CauseRule(
            Severity.WARNING,
            "the broker says so; or a short option is gone and its underlying came or went at the strike",
        ),
        Cause.SPLIT: CauseRule(
            Severity.INFO, "the broker says so; or one contract, its quantity times an exact ratio, its cost the same"
        ),
        Cause.MERGER: CauseRule(Severity.WARNING, "the broker says so", a_person=True),
        Cause.REPLACED_BY: CauseRule(
            Severity.WARNING,
            "one contract is gone and another of the same name has come, its quantity by an exact ratio",
            a_person=True,
        ),
        Cause.SETTLEMENT: CauseRule(
            Severity.INFO,
            "what left one place of an instrument, or one of its names, is in the place it settles into, unit for unit",
        ),
        Cause.CONVERSION: CauseRule(
            Severity.INFO, "what left one leg of an instrument is in another one, unit for unit"
        ),
        Cause.TRANSFER: CauseRule(Severity.WARNING, "the broker says so"),
        Cause.LIQUIDATION: CauseRule(Severity.CRITICAL, "the broker marks the fill or the order as its own closing"),
        Cause.SQUARE_OFF: CauseRule(
            Severity.WARNING, "the broker says that its risk management, and no user, placed the order"
        ),
        Cause.ROLLOVER: CauseRule(Severity.INFO, "the broker says so: one position under another ticket or price"),
        Cause.FINANCING: CauseRule(Severity.INFO, "the broker says so: cash or price, and no quantity"),
        Cause.DIVIDEND: CauseRule(Severity.INFO, "the broker says so: cash, price, or units of the same instrument"),
        Cause.FORCED_BUY_IN: CauseRule(Severity.CRITICAL, "the broker says so"),
        Cause.STOP_LOSS: CauseRule(Severity.WARNING, "the broker says that the stop of a position or order made it"),
        Cause.TAKE_PROFIT: CauseRule(Severity.INFO, "the broker says that the target of a position or order made it"),
        Cause.DUPLICATE_ORDER: CauseRule(
            Severity.CRITICAL,
            "two working orders of different broker_order_id carry the id of one order of ours, or one order id of one "
            "client (TWS)",
        ),
    }
)
"""The causes that need evidence of their own; without it a difference stays UNEXPLAINED. ARCHITECTURE.md has the same
table."""


def cause_of(reason: Reason | None, otherwise: Cause) -> Cause:
    """The cause that a broker's reason stands for."""
    return otherwise if reason is None else Cause(reason.value)


def severity_of(cause: Cause | None, otherwise: Severity) -> Severity:
    """The severity of a difference with that cause."""
    rule = CAUSES.get(cause) if cause is not None else None
    return otherwise if rule is None else rule.severity


class Correction(StrEnum):
    """A change to the book that resolves a discrepancy."""

    FORCE_ADD_POSITION = "force_add_position"
    FORCE_UPDATE_POSITION = "force_update_position"
    FORCE_CLOSE_POSITION = "force_close_position"
    MOVE_POSITION = "move_position"  # from one leg to another, nothing added or lost
    APPLY_FILL = "apply_fill"
    INFER_FILL = "infer_fill"
    UPDATE_ORDER = "update_order"
    ADOPT_ORDER = "adopt_order"
    GIVE_UP_ORDER = "give_up_order"
    RELOAD_BOOK = "reload_book"


@across_versions
@dataclass(frozen=True, slots=True)
class Break:
    """One discrepancy.

    ``book_value`` and ``broker_value`` are the values of both sides as text (``None``: that side has none), and
    ``difference`` is broker minus book if both are numbers. ``seen_at`` are the request times of the COMPLETE sections
    that count as its confirmations. ``cancel_asked`` marks a stale order whose cancellation was requested. ``linked``
    are the other instruments or orders involved, and ``detail`` is an explanation, usually the broker's. ``alias`` is
    its name where the book is a table. ``offers`` is the correction that waits for a person's approval, if any. A break
    that ``halts`` stops trading in its instrument, by the configuration. ``first_look`` is the broker's time of the
    book's first look, if that look found it: it stays expected as long as neither side changes.
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
    linked: tuple[str, ...] = ()
    detail: str | None = None
    alias: str | None = None
    offers: Correction | None = None
    halts: bool = False
    first_look: BrokerTime | None = None


@across_versions
@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A break as one cycle reports it: still open, or resolved, and by which correction (``None`` if the difference
    disappeared without one)."""

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
        if self.found.linked:
            row["linked"] = list(self.found.linked)
        if self.found.detail is not None:
            row["told"] = self.found.detail
        if self.found.alias is not None:
            row["alias"] = self.found.alias
        return row


def unreadable_keys(problems: Iterable[tuple[int, RowProblem]]) -> dict[str, RowProblem]:
    """Each unreadable row by the key of its break: its section with its id, or else with the given place. Of two rows
    with one id, the one whose text sorts first is kept, in whatever order they arrive."""
    listed = list(problems)
    named = {f"{one.section.value}:{one.key}" for _, one in listed if one.key}
    found: dict[str, RowProblem] = {}
    for place, one in listed:
        key = f"{one.section.value}:{one.key or place}"
        if not one.key and key in named:
            key += ", without an id"
        found[key] = min(found.get(key, one), one, key=lambda problem: problem.text)
    return found
