"""The reports that cycles end in. Pure: what was found in, :class:`CycleReport` out.

The laws of this module: a report without a verdict says so (``unverified``), shows every break that is open, and shows
the book as it stands, never as empty because the broker was not heard.
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
"""Of an account in which positions are not compared: what the broker says of them agrees with nothing."""


def verified(
    settings: InstrumentSettings,
    book: Book,
    slice_: Slice,
    decision: Decision,
    verified_at: datetime | None,
    now: datetime,
) -> CycleReport:
    """The broker was heard and the decision is in the book. A section that was needed and failed is told."""
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
    """No verdict was reached, for this reason. ``book`` is ``None`` while it could not be loaded."""
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
    """The journal, or another of our actors, did not answer: looked at again soon. What the broker said since the
    cycle began is told."""
    report = replace(report, recheck_at=again_at)
    heard = last is not None and last.requested_at >= began
    return replace(report, broker=broker_view(last)) if last is not None and heard else report
