"""One order in several at the broker: the legs of an iceberg order, and the slices of an order above the exchange's
freeze quantity (autoslice).

The broker's rows show which belong together: a slice names the first order of its whole, an iceberg in
``parent_order_id`` and an autosliced order in a tag of the broker's; an iceberg's ``meta`` has the quantity of the
whole. A tag of the trader's own shows nothing, as many orders may have it. The whole goes by the id of its first order,
which is the one that ``place_order`` returned.

Nothing shows how many slices an autosliced order has, and they are placed one after the other. For :data:`GROWS_S`
after the newest of them was listed there may be more, and the whole is ``growing``.

Kite Connect forum (staff): the next leg of an iceberg is placed once the one before it is filled, so all listed legs
may be complete while the order works on.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from brokers.clocks import BrokerTime, broker_time
from brokers.kite.decode import OrderRow
from brokers.model import Fill, Order, OrderStatus

GROWS_S = 10.0
PLACED_WITHIN_S = 300.0
"""Once all parts were placed longer ago, no more are expected. The broker's clock may differ from ours by this much."""
_ZERO = Decimal(0)
_MOST_ALIVE = (
    OrderStatus.OPEN,
    OrderStatus.PARTIALLY_FILLED,
    OrderStatus.PENDING_SUBMIT,
    OrderStatus.HELD,
    OrderStatus.PENDING_CANCEL,
)


def root_of(row: OrderRow) -> str:
    """The id of the whole that an order is, or of which it is a part."""
    return row.slice_of or row.order.broker_order_id


def parts_of(root: str, rows: Iterable[OrderRow]) -> tuple[OrderRow, ...]:
    """The orders of one whole, the first one first."""
    own = [row for row in rows if root_of(row) == root]
    return tuple(sorted(own, key=lambda row: (row.slice_of is not None, row.order.broker_order_id)))


def wholes(rows: Iterable[OrderRow], growing: Container[str] = ()) -> list[Order]:
    """Every order once, its parts as one. ``growing`` are the ids of the orders that may get more parts."""
    by_root: dict[str, list[OrderRow]] = {}
    for row in rows:
        by_root.setdefault(root_of(row), []).append(row)
    return [whole(root, parts_of(root, parts), growing) for root, parts in by_root.items()]


class Growth:
    """Notices which autosliced orders may still get parts."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[frozenset[str], datetime]] = {}

    def of(self, rows: Iterable[OrderRow], now: datetime) -> frozenset[str]:
        """The ids of the orders whose newest part was first listed less than :data:`GROWS_S` ago."""
        parts: dict[str, list[OrderRow]] = {}
        for row in rows:
            if row.autosliced:
                parts.setdefault(root_of(row), []).append(row)
        seen, self._seen = self._seen, {}
        for root, ones in parts.items():
            ids = frozenset(one.order.broker_order_id for one in ones)
            known, since = seen.get(root, (frozenset[str](), now))
            self._seen[root] = (ids, since if known == ids else now)
        soon = timedelta(seconds=GROWS_S)
        found = {root for root, (_, since) in self._seen.items() if abs(now - since) < soon}
        return frozenset(root for root in found if not _placed_long_ago(parts[root], broker_time(now)))


def _placed_long_ago(parts: Iterable[OrderRow], now: BrokerTime) -> bool:
    placed = [one.order.submitted_at for one in parts]
    return all(at is not None and now - at > timedelta(seconds=PLACED_WITHIN_S) for at in placed)


def whole(root: str, parts: Sequence[OrderRow], growing: Container[str] = ()) -> Order:
    """One order from its parts: the quantities summed, and one status for all."""
    one = _whole(root, parts)
    return replace(one, growing=True) if root in growing else one


def _whole(root: str, parts: Sequence[OrderRow]) -> Order:
    first = parts[0].order
    total = max((row.total for row in parts if row.total is not None), default=_ZERO)
    if len(parts) == 1 and first.broker_order_id == root and total <= first.quantity:
        return first
    orders = [row.order for row in parts]
    quantity = max(sum((one.quantity for one in orders), _ZERO), total)
    filled = sum((one.filled_quantity for one in orders), _ZERO)
    return replace(
        first,
        broker_order_id=root,
        client_order_id=next((one.client_order_id for one in orders if one.client_order_id is not None), None),
        quantity=quantity,
        filled_quantity=filled,
        average_fill_price=_average(orders, filled),
        status=_status(orders, filled, quantity),
        submitted_at=min((one.submitted_at for one in orders if one.submitted_at is not None), default=None),
        reason=next((one.reason for one in reversed(orders) if one.reason is not None), None),
        parent=None,
        slices=tuple(one.broker_order_id for one in orders if one.broker_order_id != root),
    )


def of_whole(fill: Fill, order: Order) -> Fill:
    """A slice's fill as a fill of the whole."""
    return replace(fill, broker_order_id=order.broker_order_id)


def _average(orders: Sequence[Order], filled: Decimal) -> Decimal | None:
    """The average price, where every part has its own."""
    paid = _ZERO
    for one in orders:
        if one.filled_quantity and one.average_fill_price is None:
            return None
        paid += one.filled_quantity * (one.average_fill_price or _ZERO)
    return paid / filled if filled else None


def _status(orders: Sequence[Order], filled: Decimal, quantity: Decimal) -> OrderStatus:
    if filled >= quantity:
        return OrderStatus.FILLED
    working = {one.status for one in orders if not one.status.terminal}
    ended = [one.status for one in orders if one.status.terminal and one.status is not OrderStatus.FILLED]
    if not working and ended:  # what is still to come of a whole ends with the part that ended early
        return ended[-1] if not filled else _short(ended)
    if working == {OrderStatus.PENDING_CANCEL}:
        return OrderStatus.PENDING_CANCEL
    if filled:
        return OrderStatus.PARTIALLY_FILLED
    return next((status for status in _MOST_ALIVE if status in working), OrderStatus.OPEN)


def _short(ended: Sequence[OrderStatus]) -> OrderStatus:
    """How a partly filled whole ended: a part of it may have been refused, and the whole was not."""
    return OrderStatus.EXPIRED if set(ended) == {OrderStatus.EXPIRED} else OrderStatus.CANCELLED
