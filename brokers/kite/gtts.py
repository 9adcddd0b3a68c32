"""Triggers that wait at Kite (GTT), and the orders that they placed.

Kite Connect documentation, GTT: a trigger has an id of its own, and places one order (``single``) or one of two
(``two-leg``, one cancels the other) when it fires; ``orders[].result.order_result.order_id`` is the order it placed.
Such an order has no tag, so only its trigger shows whose it is. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from brokers.kit.foreign_row import BadAnswer, BadRow, Json, mapping, text
from brokers.kite.decode import instrument_of, number
from brokers.model import Order, OrderStatus, Side

_STATUSES: Mapping[str, OrderStatus] = {
    "active": OrderStatus.HELD,
    "triggered": OrderStatus.CANCELLED,  # its order took its place
    "disabled": OrderStatus.CANCELLED,
    "expired": OrderStatus.EXPIRED,
    "cancelled": OrderStatus.CANCELLED,
    "rejected": OrderStatus.REJECTED,
    "deleted": OrderStatus.CANCELLED,
}
"""Kite Connect documentation, GTT: the status of a trigger."""


def placed_by(data: object) -> dict[str, str]:
    """Maps the ids of orders to the ids of the triggers that placed them. A trigger that cannot be read is skipped, and
    costs no order. Raises :class:`BadAnswer` for what is not a list."""
    if not isinstance(data, list):
        raise BadAnswer("triggers that are no list")
    found: dict[str, str] = {}
    for row in data:
        try:
            trigger = mapping(row, "the trigger")
            found |= {order_id: _id(trigger) for order_id in _orders_of(trigger)}
        except BadRow:
            continue
    return found


def trigger_row(data: object) -> Order:
    """A trigger as an order that is held until it fires, under its own id. Raises :class:`BadRow`."""
    trigger = mapping(data, "the trigger")
    word = text(trigger, "status")
    if word not in _STATUSES:
        raise BadRow(f"unknown status of a trigger {word[:40]!r}")
    rows = trigger.get("orders")
    if not isinstance(rows, list) or not rows:
        raise BadRow("a trigger without orders")
    first = mapping(rows[0], "the trigger's order")
    side = first.get("transaction_type")
    if side not in (Side.BUY.value, Side.SELL.value):
        raise BadRow("transaction_type is neither BUY nor SELL")
    price = first.get("price")
    return Order(
        instrument=instrument_of(first),
        broker_order_id=_id(trigger),
        client_order_id=None,
        side=Side(side),
        quantity=number(first, "quantity"),
        filled_quantity=Decimal(0),
        status=_STATUSES[word],
        order_type=text(first, "order_type"),
        limit_price=(number(first, "price") or None) if price is not None else None,
        leg=text(first, "product"),
        reason=None if word == "active" else word,
        replaced_by=next(iter(_orders_of(trigger)), None),
    )


def _id(trigger: Json) -> str:
    found = trigger.get("id")
    if isinstance(found, bool) or not isinstance(found, int | str) or not str(found).isdigit():
        raise BadRow("a trigger without an id")
    return str(found)


def _orders_of(trigger: Json) -> list[str]:
    placed = []
    rows = trigger.get("orders")
    for row in rows if isinstance(rows, list) else []:
        result = row.get("result") if isinstance(row, dict) else None
        order_result = result.get("order_result") if isinstance(result, dict) else None
        order_id = order_result.get("order_id") if isinstance(order_result, dict) else None
        if isinstance(order_id, str) and order_id:
            placed.append(order_id)
    return placed
