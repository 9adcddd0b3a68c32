"""Fills that our side reported without a leg, for accounts where only the broker knows which leg they changed.

They are placed before anything is concluded from a difference in a leg: the difference may be such a fill, which
already counts in its order.
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
    """Place the fills that wait for their leg, as far as the positions show where they are. False while one still
    waits: the positions may contain it, so a difference proves nothing yet.

    A fill belongs to the only leg that differs by exactly its quantity. If no leg does, the positions are right once
    they are settled and the fills section is complete without it. A leg that is not shown may appear in the next
    answer. A placement is written under ``alert`` too: if a correction that was only tried would place the fill
    elsewhere, the fill waits until that correction is approved or no longer needed.
    """
    pending = work.as_written.pending_fills()
    section = work.slice.positions
    if not pending or not isinstance(section, Complete | Partial):
        return not pending
    shown = {row.leg: row.quantity for row in section.rows}
    waits = False
    for reported in pending:
        settled_at = work.settled_at(reported.at)
        whole = settled_at is None and isinstance(section, Complete)
        change = reported.fill.quantity * reported.fill.side.sign
        places = _places(work.book, shown, change, whole=whole)
        agreed = places == _places(work.as_written, shown, change, whole=whole)
        if work.slice.requested_at <= reported.at or not agreed or (settled_at is not None and len(places) != 1):
            work.look_again(settled_at or work.now + work.policy.confirm_gap)
            waits = True
        elif len(places) == 1:
            attribute(work, reported.fill, places[0])
        elif isinstance(section, Complete) and isinstance(work.slice.fills, Complete | Unsupported):
            attribute(work, reported.fill, None)
        else:
            waits = True
    return not waits


def _places(book: Book, shown: Mapping[str, Decimal], change: Decimal, *, whole: bool) -> list[str]:
    """The legs that differ by exactly this change; with ``whole``, legs that are not shown are compared too."""
    names = shown.keys() | book.legs if whole else shown.keys()
    held = {name: leg.quantity for name, leg in book.legs.items()}
    return sorted(name for name in names if shown.get(name, ZERO) - held.get(name, ZERO) == change)
