"""Fills that our side reported without their leg, where positions are legs: which leg they changed the broker says.

They are placed before anything is concluded from what differs in a leg: the difference may be just such a fill, which
counts in its order already.
"""

from __future__ import annotations

from decimal import Decimal

from actors.book.lots import ZERO
from actors.reconciliation.fills import attribute
from actors.reconciliation.reconciliation_pass import ReconciliationPass
from brokers.model import Complete, Partial, Unsupported


def pending_fills_are_placed(work: ReconciliationPass) -> bool:
    """Place the fills that wait for their leg, as far as the positions tell where they are. False while one waits on:
    the positions may contain it, and then nothing can be said of what differs.

    A fill is where one leg alone differs by just its quantity. Where none tells, the positions are right about it once
    they are settled and the fills are known without it. A leg that is not shown may be there in the next answer.
    What is placed is written under ``alert`` too, so that it rests on no correction that was only tried.
    """
    pending = work.as_written.pending_fills()
    section = work.slice.positions
    if not pending or not isinstance(section, Complete | Partial):
        return not pending
    shown = {row.leg: row.quantity for row in section.rows}
    waits = False
    for told in pending:
        settled_at = work.settled_at(told.at)
        legs = (
            set(shown)
            if settled_at is not None or isinstance(section, Partial)
            else shown.keys() | work.as_written.legs
        )
        change = told.fill.quantity * told.fill.side.sign
        places = [leg for leg in legs if shown.get(leg, ZERO) - _held(work, leg) == change]
        if work.slice.requested_at <= told.at or (settled_at is not None and len(places) != 1):
            work.look_again(settled_at or work.now + work.policy.confirm_gap)
            waits = True
        elif len(places) == 1:
            attribute(work, told.fill, places[0])
        elif isinstance(section, Complete) and isinstance(work.slice.fills, Complete | Unsupported):
            attribute(work, told.fill, None)
        else:
            waits = True
    return not waits


def _held(work: ReconciliationPass, leg: str) -> Decimal:
    held = work.as_written.legs.get(leg)
    return held.quantity if held is not None else ZERO
