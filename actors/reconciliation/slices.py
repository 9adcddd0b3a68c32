"""One order of ours that is several at its broker: an order above the exchange's largest size is sliced on the way.

The laws of this module: the whole is compared, with quantities summed; parts are joined if the broker's rows name them
(``slices``), if the book knows them as one, or if rows with our client id and equal terms add up to exactly the ordered
quantity and none of them could be another order of ours or its replacement; a whole whose parts are not all shown is
not compared; while a whole is growing, the missing quantity is still to come, and the end of the shown parts is not
its own end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from actors.book.lots import ZERO
from actors.book.orders import BookOrder
from actors.reconciliation.order_matching import by_broker_id, order_of_row, sent_before
from actors.reconciliation.reconciliation_pass import ReconciliationPass
from brokers.model import Complete, Order, OrderStatus, Partial, rows_of

_LATEST = datetime.max.replace(tzinfo=UTC)


def join_slices(work: ReconciliationPass) -> None:
    """Replace the parts of each sliced order of the book by one row in the slice's orders."""
    section = work.slice.orders
    if not isinstance(section, Complete | Partial) or len(section.rows) < 2:
        return
    wholes = [whole for whole in (_whole(work, order) for order in _sliced(work)) if whole is not None]
    if not wholes:
        return
    parts = {name for whole in wholes for name in (whole.broker_order_id, *whole.slices)}
    shown = [whole for whole in wholes if whole.quantity]
    rows = (*shown, *(row for row in section.rows if row.broker_order_id not in parts))
    work.slice = replace(work.slice, orders=replace(section, rows=rows))


def settle_growing(work: ReconciliationPass) -> None:
    """Give rows of orders that are still growing the ordered quantity, and a working status."""
    section = work.slice.orders
    answered = [answer.order for answer in work.slice.answers if answer.order is not None]
    if not [row for rows in (rows_of(section), answered) for row in rows if row.growing]:
        return
    if isinstance(section, Complete | Partial):
        section = replace(section, rows=tuple(_as_ordered(work, row) for row in section.rows))
    answers = tuple(
        answer if answer.order is None else replace(answer, order=_as_ordered(work, answer.order))
        for answer in work.slice.answers
    )
    work.slice = replace(work.slice, orders=section, answers=answers)
    work.links = None


def _as_ordered(work: ReconciliationPass, row: Order) -> Order:
    if not row.growing:
        return row
    order = order_of_row(work, row)
    quantity = row.quantity if order is None else max(row.quantity, order.quantity)
    whole = order is not None and row.filled_quantity >= quantity == order.quantity
    if not row.status.terminal or whole:
        return replace(row, quantity=quantity)
    status = OrderStatus.PARTIALLY_FILLED if row.filled_quantity else OrderStatus.OPEN
    return replace(row, quantity=quantity, status=status)


def _sliced(work: ReconciliationPass) -> list[BookOrder]:
    """The orders of the book that may be sliced here: those that were before, and our orders with several rows under
    their client id."""
    rows = rows_of(work.slice.orders)
    found = {order.key: order for order in work.book.orders.values() if order.slices}
    if not work.slice.conventions.unique_client_ids:
        named = [row.client_order_id for row in rows if row.client_order_id is not None]
        for name in {name for name in named if named.count(name) > 1} if len(set(named)) != len(named) else ():
            found |= {o.key: o for o in work.book.orders_by_client_id(name) if o.adopted_at is None}
    return list(found.values())


def _whole(work: ReconciliationPass, order: BookOrder) -> Order | None:
    """The row of an order, joined from those of its parts; ``None`` if it is one row, and a row without quantity if
    parts are missing."""
    rows = rows_of(work.slice.orders)
    if order.slices:
        names = {order.broker_order_id, *order.slices}
        parts = [row for row in rows if row.broker_order_id in names]
        if not parts or any(row.slices for row in parts):
            return None
        return _joined(parts) if len(parts) == len(names) else replace(_joined(parts), quantity=ZERO)
    successors = {row.replaced_by for row in rows if row.replaced_by is not None}
    parts = [row for row in rows if row.broker_order_id not in successors and _may_be_part(work, order, row)]
    if len({(row.order_type, row.limit_price, row.trigger_price) for row in parts}) > 1:
        return None  # slicing splits the quantity, and changes nothing else
    day_of = work.slice.conventions.day_of
    if len({day_of(row.submitted_at) for row in parts if row.submitted_at is not None}) > 1:
        return None  # an order is sliced when it is sent, or as its slices fill, always within one day
    ids = {row.broker_order_id for row in parts}
    if len(parts) < 2 or order.broker_order_id not in (None, *ids) or _has_rival(work, order):
        return None
    return _joined(parts) if sum((row.quantity for row in parts), ZERO) == order.quantity else None


def _has_rival(work: ReconciliationPass, order: BookOrder) -> bool:
    """Whether one of the parts may be the row of another order of ours with this client id: its own row, or, if it
    works by the book and is no longer shown, the row of its replacement."""
    shown = {row.broker_order_id for row in rows_of(work.slice.orders)}
    return any(
        other.key != order.key
        and other.side is order.side
        and (
            (other.filled_quantity or not other.status.terminal)
            if other.broker_order_id is None
            else not other.status.terminal and other.broker_order_id not in shown
        )
        for other in work.book.orders_by_client_id(order.client_order_id or "")
    )


def _may_be_part(work: ReconciliationPass, order: BookOrder, row: Order) -> bool:
    if row.client_order_id is None or row.client_order_id != order.client_order_id or row.side is not order.side:
        return False
    if row.parent is not None or row.slices or not 0 < row.quantity < order.quantity:
        return False
    if row.replaced_by is not None or work.book.replaced_order(row.broker_order_id) is not None:
        return False  # the replacement of an order is another order, not a part of it
    owner = by_broker_id(work.book, row)
    return (owner is None or owner.key == order.key) and sent_before(work, order, row.submitted_at)


def _joined(parts: Sequence[Order]) -> Order:
    parts = sorted(parts, key=lambda row: (row.submitted_at or _LATEST, len(row.broker_order_id), row.broker_order_id))
    first = parts[0]
    quantity = sum((row.quantity for row in parts), ZERO)
    filled = sum((row.filled_quantity for row in parts), ZERO)
    return replace(
        first,
        quantity=quantity,
        filled_quantity=filled,
        average_fill_price=_average(parts, filled),
        status=_status(parts, filled, quantity),
        reason=next((row.reason for row in reversed(parts) if row.reason is not None), None),
        slices=tuple(row.broker_order_id for row in parts[1:]),
    )


def _average(parts: Sequence[Order], filled: Decimal) -> Decimal | None:
    if not filled or any(row.filled_quantity and row.average_fill_price is None for row in parts):
        return None
    return sum((row.filled_quantity * (row.average_fill_price or ZERO) for row in parts), ZERO) / filled


def _status(parts: Sequence[Order], filled: Decimal, quantity: Decimal) -> OrderStatus:
    if filled >= quantity:
        return OrderStatus.FILLED
    working = [row.status for row in parts if not row.status.terminal]
    if working and all(status is OrderStatus.PENDING_CANCEL for status in working):
        return OrderStatus.PENDING_CANCEL
    if working and filled:
        return OrderStatus.PARTIALLY_FILLED
    if working:
        return OrderStatus.OPEN if OrderStatus.OPEN in working else working[0]
    ended = {row.status for row in parts if row.status is not OrderStatus.FILLED}
    return ended.pop() if len(ended) == 1 and not (filled and OrderStatus.REJECTED in ended) else OrderStatus.CANCELLED
