"""The reports of cycles. Pure: the findings in, :class:`CycleReport` out.

The laws of this module: a report without a verdict is marked (``unverified``), shows every open break, and shows the
book as it is, never as empty because the broker did not answer.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from actors.book.book import Book
from actors.book.discrepancies import Discrepancy
from actors.instrument.settings import InstrumentSettings
from actors.instrument.views import NOTHING_KNOWN, book_view, broker_view, table_view
from actors.messages import CycleReport
from actors.reconciliation.reconciliation_pass import Decision, Status
from brokers.model import Completeness, Failed, Slice

_POSITIONS_LEFT_ALONE: Final = {"positions": Completeness.UNSUPPORTED.value}
"""For an account in which positions are not compared: the broker's positions agree with nothing."""


def verified(
    settings: InstrumentSettings,
    book: Book,
    slice_: Slice,
    decision: Decision,
    verified_at: datetime | None,
    now: datetime,
) -> CycleReport:
    """The broker answered and the decision is in the book. A needed section that failed is reported."""
    needed = {"positions": slice_.positions, "orders": slice_.orders, "fills": slice_.fills}
    if not settings.policy.positions:
        del needed["positions"]
    failed = {name: section for name, section in needed.items() if isinstance(section, Failed)}
    unknown = [f"{name} not known: {section.reason}" for name, section in failed.items()]
    return CycleReport(
        account=settings.account,
        instrument=settings.instrument,
        status=decision.status,
        error="; ".join([*unknown, *decision.unverified]) or None,
        finished_at=now,
        duration_ms=0.0,
        passes=1,
        book=book_view(book) | table_view(book, slice_),
        broker=broker_view(slice_) | ({} if settings.policy.positions else _POSITIONS_LEFT_ALONE),
        discrepancies=decision.discrepancies,
        unverified=bool(decision.unverified or unknown),
        verified_at=verified_at,
        recheck_at=decision.recheck_at,
    )


def unverified(
    settings: InstrumentSettings,
    status: Status,
    error: str,
    book: Book | None,
    verified_at: datetime | None,
    now: datetime,
) -> CycleReport:
    """There is no verdict, for this reason. ``book`` is ``None`` while it could not be loaded."""
    open_breaks = tuple(Discrepancy(found, False, None) for found in book.breaks.values()) if book else ()
    return CycleReport(
        account=settings.account,
        instrument=settings.instrument,
        status=status,
        error=error,
        finished_at=now,
        duration_ms=0.0,
        passes=1,
        book=book_view(book) if book is not None else {"legs": [], "open_orders": []},
        broker=dict(NOTHING_KNOWN),
        discrepancies=open_breaks,
        unverified=True,
        verified_at=verified_at,
    )


def away(report: CycleReport, again_at: datetime, last: Slice | None, began: datetime) -> CycleReport:
    """The journal, or another of our actors, did not answer: the next look is soon. The report includes the broker's
    answer since the cycle began, if any."""
    report = replace(report, recheck_at=again_at)
    answered = last is not None and last.requested_at >= began
    return replace(report, broker=broker_view(last)) if last is not None and answered else report
