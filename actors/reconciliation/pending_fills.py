"""Fills that our side reported without their leg, where positions are legs: which leg they changed the broker says.

They are placed before anything is concluded from what differs in a leg: the difference may be just such a fill, which
counts in its order already.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from actors.book.book import Book
from actors.book.lots import ZERO
from actors.reconciliation.reconciliation_pass import ReconciliationPass
from actors.reconciliation.restated_fills import attribute
from brokers.model import Complete, Partial, Unsupported


def pending_fills_are_placed(work: ReconciliationPass) -> bool:
    """Place the fills that wait for their leg, as far as the positions show where they are. False while one waits on:
    the positions may contain it, and then nothing can be said of what differs.

    A fill is where one leg alone differs by just its quantity. Where none shows it, the positions are right about it
    once they are settled and the fills are known without it. A leg that is not shown may be there in the next answer.
    What is placed is written under ``alert`` too: a fill that a correction which was only tried would place elsewhere
    waits until that is approved, or its question is gone.
    """
    pending = work.as_written.pending_fills()
    section = work.slice.positions
    if not pending or not isinstance(section, Complete | Partial):
        return not pending
    shown = {row.leg: row.quantity for row in section.rows}
    waits = False
    for told in pending:
        settled_at = work.settled_at(told.at)
        whole = settled_at is None and isinstance(section, Complete)
        change = told.fill.quantity * told.fill.side.sign
        places = _places(work.book, shown, change, whole=whole)
        agreed = places == _places(work.as_written, shown, change, whole=whole)
        if work.slice.requested_at <= told.at or not agreed or (settled_at is not None and len(places) != 1):
            work.look_again(settled_at or work.now + work.policy.confirm_gap)
            waits = True
        elif len(places) == 1:
            attribute(work, told.fill, places[0])
        elif isinstance(section, Complete) and isinstance(work.slice.fills, Complete | Unsupported):
            attribute(work, told.fill, None)
        else:
            waits = True
    return not waits


def _places(book: Book, shown: Mapping[str, Decimal], change: Decimal, *, whole: bool) -> list[str]:
    """The legs that differ by just this change; of those that are not shown only where that means something."""
    names = shown.keys() | book.legs if whole else shown.keys()
    held = {name: leg.quantity for name, leg in book.legs.items()}
    return sorted(name for name in names if shown.get(name, ZERO) - held.get(name, ZERO) == change)
