"""Fills that a broker's stream delivered: evidence at once, before any request is made.

The laws of this module:

* A streamed fill happened. Nothing is concluded from what the stream did not deliver: nothing is closed, ended,
  verified or requested here, and the look that follows verifies everything.
* A streamed fill has the same effect as in a look, by the same rules. If those need more than the stream delivered (the
  broker's positions for a position that our side reported, the row of an order that the book does not have, the
  execution that is corrected), the fill is left to the look, which finds it as usual.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from actors.book.orders import BookOrder
from actors.reconciliation.fills import SET_WITHIN, reconcile_fills
from actors.reconciliation.order_matching import CLOCK_SKEW, by_broker_id, order_of_fill, with_whole_client_ids
from actors.reconciliation.reconciliation_pass import ReconciliationPass
from brokers.clocks import broker_time
from brokers.model import Fill, Order, Partial, is_provisional, rows_of

REPORTED_WITHIN = timedelta(minutes=10)
"""A fill that a stream delivers later than this is left to the look: its id may have been dropped since."""


def take_streamed(work: ReconciliationPass) -> None:
    """Apply the fills of a streamed slice about which enough is known. Under ``alert`` a fill is a difference like any
    other, and the look finds it."""
    if work.new_book or not work.auto:
        return
    with_whole_client_ids(work)
    rows = {row.broker_order_id: row for row in rows_of(work.slice.orders)}
    taken = tuple(fill for fill in rows_of(work.slice.fills) if _is_known_enough(work, fill, rows))
    if not taken:
        return
    work.slice = replace(work.slice, fills=Partial(taken))
    reconcile_fills(work)


def _is_known_enough(work: ReconciliationPass, fill: Fill, rows: dict[str, Order]) -> bool:
    """Whether a fill is new, and has the same effect as in a look at positions and orders."""
    if work.book.known_as(fill) is not None:
        return False
    if fill.corrects is not None or fill.combination is not None or not fill.quantity:
        return False
    return _is_of_now(work, fill) and _leg_is_known(work, fill) and _order_is_known(work, fill, rows)


def _is_of_now(work: ReconciliationPass, fill: Fill) -> bool:
    """Whether a fill is recent, and no position that the book was set to can contain it, by the broker's time."""
    book = work.book
    set_at = max(filter(None, (book.baseline, book.floor, *book.watermarks.values())), default=None)
    if set_at is not None and fill.time <= set_at + SET_WITHIN:
        return False
    ours = broker_time(work.now)  # either clock may be ahead: a fill close to one of them is accepted
    latest = max(work.slice.as_of, ours)
    earliest = min(work.slice.as_of, ours)
    return earliest - REPORTED_WITHIN <= fill.time <= latest + CLOCK_SKEW


def _leg_is_known(work: ReconciliationPass, fill: Fill) -> bool:
    """Whether the broker names the leg where only it can, and no position that our side reported may contain the
    fill."""
    if work.book.believed:
        return False
    return fill.leg is not None or fill.position_id is not None or not work.slice.conventions.legs_known_to_broker


def _order_is_known(work: ReconciliationPass, fill: Fill, rows: dict[str, Order]) -> bool:
    """Whether its order is in the book, or the order's row came with it, which shows whose order it is and which one it
    replaced."""
    order = order_of_fill(work, fill, rows)
    row = rows.get(fill.broker_order_id or "")
    if order is None:
        return row is not None
    if order.adopted or order.slices or order.side is not fill.side:
        return False
    if by_broker_id(work.book, fill) is order:
        return not work.order_ids_recur or not order.status.terminal
    return row is not None or _is_the_only_one(work, fill, order)


def _is_the_only_one(work: ReconciliationPass, fill: Fill, order: BookOrder) -> bool:
    """Whether an order that is known only by its client_order_id is the order of the fill."""
    if fill.broker_order_id is None or is_provisional(fill.broker_order_id) or order.status.terminal:
        return False
    same = work.book.orders_by_client_id(fill.client_order_id or "")
    return len(same) == 1 and fill.quantity <= order.quantity - order.filled_quantity
