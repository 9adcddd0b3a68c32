"""Looks up single orders by their known ids."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from brokers.errors import BrokerError, Malformed, with_remedy
from brokers.kit.foreign_row import Unusable
from brokers.model import (
    Failed,
    Fill,
    Order,
    OrderAnswer,
    OrderQuery,
    Section,
    Unsupported,
    is_provisional,
    problems_of,
    rows_of,
)


def is_meant(query: OrderQuery, row: Order | Fill, *, in_any_instrument: bool = False) -> bool:
    """Whether a row is of the queried order: by the broker's id (or that of a part) where it is known, else by the
    client's, which an order in another instrument may carry too. A provisional id may belong to another order by now,
    so the client's id counts more."""
    if query.broker_order_id is not None and (
        query.client_order_id is None or not is_provisional(query.broker_order_id) or row.client_order_id is None
    ):
        part = isinstance(row, Order) and query.broker_order_id in row.slices
        return part or row.broker_order_id == query.broker_order_id
    return row.client_order_id == query.client_order_id and (in_any_instrument or row.instrument == query.instrument)


async def answer_each(
    queries: Sequence[OrderQuery],
    find: Callable[[OrderQuery], Awaitable[OrderAnswer]],
    name: Callable[[OrderQuery], str],
    scrub: Callable[[str], str],
    remedy: str,
) -> tuple[OrderAnswer, ...]:
    """One answer for each query. After a query that nobody answered the rest is not sent, so that a broker that is away
    costs one time-out and not one for each order. ``find`` raises broker errors, and :class:`Unusable` for an answer
    that cannot be used; ``name`` names an order for a person, and ``remedy`` is what that person can do then."""
    answers: list[OrderAnswer] = []
    away: str | None = None
    for query in queries:
        if away is not None:
            answers.append(OrderAnswer(query, failure=f"not sent, as the query before failed: {away}"))
            continue
        try:
            answers.append(await find(query))
        except Unusable as why:
            found = scrub(f"the answer about order {name(query)} cannot be used: {why}")
            answers.append(OrderAnswer(query, failure=with_remedy(found, remedy), again_at=why.again_at))
        except BrokerError as error:
            away = None if isinstance(error, Malformed) else error.reason
            answers.append(OrderAnswer(query, failure=error.reason))
    return tuple(answers)


def with_its_fills(query: OrderQuery, order: Order, fills: Section[Fill], called: str) -> OrderAnswer:
    """An order with its own among these fills; ``called`` is the broker's word for a fill."""
    if not order.filled_quantity or isinstance(fills, Unsupported):
        return OrderAnswer(query, order)
    if isinstance(fills, Failed):
        return OrderAnswer(query, failure=f"the order is there, but not its {called}s: {fills.reason}")
    own = tuple(  # an order for a combination also has fills in its legs' instruments
        fill
        for fill in rows_of(fills)
        if fill.broker_order_id == order.broker_order_id and fill.instrument == query.instrument
    )
    unread = problems_of(fills)
    if unread and sum(fill.quantity for fill in own) != order.filled_quantity:
        return OrderAnswer(query, failure=f"a {called} of it cannot be read: {unread[0].text}")
    return OrderAnswer(query, order, own)
