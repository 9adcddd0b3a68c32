"""Updates a reading by what TWS pushed since, so that an event need not cost a whole reading. Pure.

TWS pushes every change of a position, and the orders and executions of this client; it does not push those of other
clients and of orders placed by hand. So a reading is updated only where the pushes explain each other: each position
changed by what was executed in it, and an order that no longer works was reported as ended. In any doubt the result is
``None``: read everything. The open orders of all clients are requested every time, as no push covers them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import tzinfo
from decimal import Decimal

from brokers.clocks import BrokerTime
from brokers.ib import rows, wire
from brokers.ib.decode import ORDER_STATUSES, newest
from brokers.ib.reading import Lists
from brokers.ib.row_decoder import Heard
from brokers.ib.rows import CompletedOrder, Read, Scope, WorkingOrder, order_key
from brokers.ib.wire import Execution, Holding


def is_whole(lists: Lists) -> bool:
    """Whether every list came to its end with every row readable."""
    reads = (lists.positions, lists.working, lists.completed, lists.executions)
    return all(isinstance(read, Read) and not read.troubles for read in reads)


def carried(
    before: Lists,
    news: Sequence[Heard],
    working: Read[WorkingOrder],
    scope: Scope,
    zone: tzinfo | None,
    latest: BrokerTime,
) -> Lists | None:
    """``before``, which :func:`is_whole`, with the rows pushed since and the open orders of now."""
    if isinstance(before.positions, str) or isinstance(before.executions, str):
        return None
    if isinstance(before.working, str) or isinstance(before.completed, str):
        return None
    pushed = rows.holdings((row for row in news if row.kind == wire.POSITION), scope)
    executed = rows.executions((row for row in news if row.kind == wire.EXECUTION), scope, zone, latest)
    pushed_orders = rows.working_orders(
        [row for row in news if row.kind in (wire.OPEN_ORDER, wire.ORDER_STATUS)], scope
    )
    if pushed.troubles or executed.troubles or pushed_orders.troubles or working.troubles:
        return None
    if pushed.left_out or executed.left_out or pushed_orders.left_out or working.left_out != before.working.left_out:
        return None
    held = {fact.contract.con_id: fact for fact in before.positions.facts}
    held |= {fact.contract.con_id: fact for fact in pushed.facts}
    ones = {one.exec_id: one for one in (*before.executions.facts, *executed.facts)}
    if not _explained(before.positions.facts, held.values(), before.executions.facts, ones.values()):
        return None
    orders = _orders(before.working.facts, pushed_orders.facts, working.facts, before.completed.facts)
    if orders is None or not _have_orders(executed.facts, orders, before.completed.facts):
        return None
    return replace(
        before,
        positions=replace(before.positions, facts=tuple(held.values())),
        working=replace(working, facts=orders),
        executions=replace(before.executions, facts=tuple(ones.values())),
    )


def _explained(
    held_before: Iterable[Holding],
    held_now: Iterable[Holding],
    executed_before: Iterable[Execution],
    executed_now: Iterable[Execution],
) -> bool:
    """Whether each position changed by just what was executed in it."""
    change: dict[int, Decimal] = {}
    for sign, holdings, executions in ((-1, held_before, executed_before), (1, held_now, executed_now)):
        for fact in holdings:
            change[fact.contract.con_id] = change.get(fact.contract.con_id, Decimal(0)) + sign * fact.quantity
        for one in newest(executions):
            if one.moves_position:
                con_id = one.contract.con_id
                change[con_id] = change.get(con_id, Decimal(0)) - sign * one.side.sign * one.quantity
    return not any(change.values())


def _orders(
    before: Iterable[WorkingOrder],
    pushed: Iterable[WorkingOrder],
    working: Iterable[WorkingOrder],
    completed: Iterable[CompletedOrder],
) -> tuple[WorkingOrder, ...] | None:
    """Those that work now and those reported as ended; ``None`` where one is gone without a report."""
    now = {_key(order): order for order in working}
    known = {_key(order): order for order in before} | {_key(order): order for order in pushed}
    over = {_key(order) for order in completed}
    for key, order in known.items():
        if key in now or key in over:
            continue
        status = ORDER_STATUSES.get(order.state.status) if order.state is not None else None
        if status is None or not status.terminal:
            return None
        now[key] = order
    return tuple(now.values())


def _have_orders(
    executed: Iterable[Execution], orders: Iterable[WorkingOrder], completed: Iterable[CompletedOrder]
) -> bool:
    known = {_key(order) for order in orders} | {_key(order) for order in completed}
    return all(order_key(one.perm_id, one.client_id, one.order_id) in known for one in executed)


def _key(order: WorkingOrder | CompletedOrder) -> str:
    return order_key(order.terms.perm_id, order.terms.client_id, order.terms.order_id)
