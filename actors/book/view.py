"""A book at one moment, in the form that leaves its actor: exact, frozen, and sufficient to judge features by."""

from __future__ import annotations

from dataclasses import field
from datetime import datetime
from decimal import Decimal

from actors.book.book import Book
from actors.book.discrepancies import Break
from actors.book.lots import Leg, Lot
from actors.book.orders import BookOrder
from actors.book.payloads import ReportedFill
from actors.book.policy import Policy
from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.model import Conventions
from brokers.versions import across_versions


@across_versions
@dataclass(frozen=True, slots=True)
class LegState:
    """What one leg holds (negative if short); ``lots`` are oldest first, in the order they would be closed."""

    leg: str
    quantity: Decimal
    average_price: Decimal
    lots: tuple[Lot, ...]

    @property
    def opened_at(self) -> BrokerTime | None:
        """When the oldest lot that is still open was opened."""
        return self.lots[0].opened_at if self.lots else None


@across_versions
@dataclass(frozen=True, slots=True)
class BookState:
    """The book of one instrument. ``as_of`` is the time of this answer, ``verified_at`` when the book was last found in
    step with the broker, and ``version`` that of its last event. ``error`` is what went wrong in the last cycle.
    ``pending_fills`` were reported and are in no leg, because the broker has not named the leg they changed.
    ``conventions`` are how the account names its legs; ``mode_known`` is false while they are only assumed."""

    account: str
    instrument: str
    version: int
    as_of: datetime
    verified_at: datetime | None
    legs: tuple[LegState, ...]
    open_orders: tuple[BookOrder, ...]
    breaks: tuple[Break, ...]
    policy: Policy
    error: str | None = None
    pending_fills: tuple[ReportedFill, ...] = ()
    conventions: Conventions = field(default=Conventions())
    mode_known: bool = False

    @property
    def unverified_s(self) -> float:
        """How long after it was last found in step the book stops being reliable, in seconds."""
        return self.policy.unverified.total_seconds()


def book_state(
    book: Book,
    policy: Policy,
    as_of: datetime,
    verified_at: datetime | None,
    error: str | None,
    conventions: Conventions | None = None,
) -> BookState:
    """What a book holds now. ``conventions`` are the ones that the broker stated, ``None`` if it has not yet."""
    return BookState(
        account=book.account,
        instrument=book.instrument,
        version=book.version,
        as_of=as_of,
        verified_at=verified_at,
        legs=tuple(_leg(book.legs[name]) for name in sorted(book.legs)),
        open_orders=tuple(book.open_orders()),
        breaks=tuple(book.breaks.values()),
        policy=policy,
        error=error,
        pending_fills=tuple(book.pending_fills()),
        conventions=policy.conventions if conventions is None else conventions,
        mode_known=conventions is not None,
    )


def _leg(leg: Leg) -> LegState:
    return LegState(leg.name, leg.quantity, leg.average_price, tuple(leg.lots))
