"""Which order of the book a row of the broker's is.

The law of this module: a broker_order_id decides, but for a provisional one, which may be another order's after a
restart. A client_order_id does so only for an order whose broker_order_id we have not heard yet, because it need not be
unique at a broker (Kite's tag and MT5's comment are anything a trader writes): of several rows the likeliest is taken,
each once, and none that was there before the order was sent.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from actors.book.book import Book
from actors.book.orders import BookOrder
from actors.reconciliation.reconciliation_pass import ReconciliationPass
from brokers.model import Fill, Order, is_provisional, rows_of

CLOCK_SKEW = timedelta(minutes=1)
"""How far a broker's clock and ours may be apart, beyond what a snapshot shows of it."""


def order_of_row(work: ReconciliationPass, row: Order) -> BookOrder | None:
    """The book's order that a row shows; ``None`` for one the book does not have."""
    order = _by_broker_id(work.book, row)
    if order is None and row.client_order_id is not None:
        key = _links(work).get(row.broker_order_id)
        order = work.book.orders.get(key) if key is not None else None
    return order if order is not None and order.side is row.side else None


def order_of_fill(work: ReconciliationPass, fill: Fill, shown: dict[str, Order]) -> BookOrder | None:
    """The book's order that a fill belongs to: by the ids it carries, else by those that its order's row carries.
    ``shown`` are the rows at hand by broker_order_id."""
    order = _by_broker_id(work.book, fill)
    row = shown.get(fill.broker_order_id) if fill.broker_order_id is not None else None
    if order is None and row is not None:
        order = order_of_row(work, row)
    elif order is None and fill.client_order_id is not None:
        real = None if is_provisional(fill.broker_order_id) else fill.broker_order_id
        order = work.book.find_order(real, fill.client_order_id)
        if order is not None and not _sent_before(work, order, fill.time):
            order = None
    return order if order is not None and order.side is fill.side else None


def is_about(book: Book, order: BookOrder, row: Order) -> bool:
    """Whether a row that was found for this order by either of its ids can be its own, and not another order's."""
    owner = _by_broker_id(book, row)
    if owner is not None:
        return owner.key == order.key
    return _not_known_yet(order) and order.side is row.side


def _by_broker_id(book: Book, row: Order | Fill) -> BookOrder | None:
    """The order that bears the row's broker_order_id; where that is provisional, only if it bears the client's too."""
    order = book.find_order(row.broker_order_id, None)
    if order is None or not is_provisional(row.broker_order_id):
        return order
    return order if order.client_order_id == row.client_order_id else None


def _not_known_yet(order: BookOrder) -> bool:
    return order.broker_order_id is None or is_provisional(order.broker_order_id)


def _links(work: ReconciliationPass) -> dict[str, str]:
    """Rows of orders not known by their broker_order_id → keys of orders with the same client_order_id."""
    if work.links is not None:
        return work.links
    work.links = {}
    pairs: list[tuple[tuple[bool, bool, bool, float], str, str]] = []
    answered = [answer.order for answer in work.slice.answers if answer.order is not None]
    for row in (*rows_of(work.slice.orders), *answered):
        if row.client_order_id is None or _by_broker_id(work.book, row) is not None:
            continue
        pairs.extend(
            (_unlikeness(order, row), row.broker_order_id, order.key)
            for order in work.book.orders_by_client_id(row.client_order_id)
            if _not_known_yet(order) and order.side is row.side and _sent_before(work, order, row.submitted_at)
        )
    taken: set[str] = set()
    for _, broker_order_id, key in sorted(pairs):
        if broker_order_id not in work.links and key not in taken:
            work.links[broker_order_id] = key
            taken.add(key)
    return work.links


def _sent_before(work: ReconciliationPass, order: BookOrder, time: datetime | None) -> bool:
    """Whether the broker can have had this order at a time of its own clock."""
    sent_at = order.submitted_at or order.local_at
    if sent_at is None or time is None:
        return True
    offset = work.slice.as_of - work.slice.requested_at
    return time >= sent_at + min(offset, timedelta(0)) - CLOCK_SKEW


def _unlikeness(order: BookOrder, row: Order) -> tuple[bool, bool, bool, float]:
    sent_at = order.submitted_at or order.local_at
    apart = abs((row.submitted_at - sent_at).total_seconds()) if row.submitted_at and sent_at else 0.0
    return order.status.terminal, order.quantity != row.quantity, order.limit_price != row.limit_price, apart
