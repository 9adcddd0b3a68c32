"""Problems of legs that both sides agree on: two opposite legs that should have closed each other, and protection.

The laws of this module: nothing is corrected, because only trading can; nothing is concluded from a section that is not
COMPLETE, nor about a leg that this pass has deferred.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from actors.book.discrepancies import DiscrepancyType, Phase
from actors.book.lots import ZERO, Leg
from actors.book.orders import BookOrder
from actors.events import Severity, to_text
from actors.reconciliation.order_matching import order_of_row
from actors.reconciliation.reconciliation_pass import Finding, ReconciliationPass
from brokers.model import NET, Complete, LegScheme, Order, Reason, Side, rows_of

_STOPS = ("STOP", "SL", "TRAIL", "GUARANTEED_STOP")
_PROTECTIVE = frozenset({Reason.STOP_LOSS})


def watch_legs(work: ReconciliationPass) -> None:
    """Check every leg of the book, after its orders and positions were compared."""
    if not work.policy.positions or not isinstance(work.slice.positions, Complete):
        return
    if work.slice.conventions.legs is LegScheme.TICKET:
        _opposite_legs(work)
    if work.policy.protection is not None and isinstance(work.slice.orders, Complete):
        _protection(work, work.policy.protection)


def _opposite_legs(work: ReconciliationPass) -> None:
    """OPPOSITE_LEGS: an order of ours that named no position, and was no larger than an opposite one, opened a position
    of its own (MetaTrader's hedging accounts do that). Both cost margin and swap, and the strategy believes it is flat.
    """
    if len({leg.quantity > 0 for leg in work.book.legs.values()}) < 2:
        return  # all are on one side
    legs = {leg.name: leg for leg in work.book.legs.values() if leg.name not in work.deferred}
    for leg in legs.values():
        order = work.book.find_order(leg.name, None)
        if order is None or order.recorded_at is None or order.broker_order_id != leg.name:
            continue
        against = [one for one in legs.values() if _was_meant(work, order, leg, one)]
        if not against:
            continue
        work.found(
            Finding(
                type=DiscrepancyType.OPPOSITE_LEGS,
                key=leg.name,
                phase=Phase.DRIFT,
                severity=Severity.CRITICAL,
                book_value="; ".join(f"{one.name}: {to_text(one.quantity)}" for one in (*against, leg)),
                broker_value=f"order {order.broker_order_id} named no position, and opened one of its own",
                correction=None,
                strategy=order.strategy,
                linked=tuple(one.name for one in against),
                detail="close one by the other, or say by `may_stand` that both are meant",
            )
        )


def _was_meant(work: ReconciliationPass, order: BookOrder, opened: Leg, one: Leg) -> bool:
    """Whether the order may have been meant to close that leg: an earlier opposite one of the same strategy that is not
    smaller."""
    if one.quantity * opened.quantity >= 0 or one.opened_at > opened.opened_at or abs(one.quantity) < order.quantity:
        return False
    other = work.book.find_order(one.name, None)
    return other is None or other.strategy == order.strategy


def _protection(work: ReconciliationPass, severity: Severity) -> None:
    """UNPROTECTED and OVERSIZED_ORDER, from the working stop orders of each leg, and the position's own stop."""
    stopped = {row.leg for row in rows_of(work.slice.positions) if row.stop_price is not None}
    stops = [row for row in rows_of(work.slice.orders) if not row.status.terminal and _protects(row)]
    for leg in work.book.legs.values():
        if leg.name in work.deferred:
            continue
        side = Side.SELL if leg.quantity > 0 else Side.BUY
        own = [row for row in stops if row.side is side and _works_on(work, row, leg)]
        covered = sum((row.quantity - row.filled_quantity for row in own), ZERO)
        if covered < abs(leg.quantity) and leg.name not in stopped:
            _unprotected(work, leg, covered, severity)
        for row in own:
            if row.quantity - row.filled_quantity > abs(leg.quantity):
                _oversized(work, row, leg, severity)
    held = {Side.SELL if leg.quantity > 0 else Side.BUY for leg in work.book.legs.values()}
    for row in stops:
        if row.side not in held and row.parent is not None:
            _oversized(work, row, None, severity)


def _protects(row: Order) -> bool:
    return row.origin in _PROTECTIVE or row.order_type.upper().startswith(_STOPS)


def _works_on(work: ReconciliationPass, row: Order, leg: Leg) -> bool:
    if row.leg is not None:
        return row.leg == leg.name
    return work.slice.conventions.legs is not LegScheme.TICKET or leg.name == NET


def _unprotected(work: ReconciliationPass, leg: Leg, covered: Decimal, severity: Severity) -> None:
    opened = _strategies(work, leg)
    work.found(
        Finding(
            type=DiscrepancyType.UNPROTECTED,
            key=leg.name,
            phase=Phase.DRIFT,
            severity=severity,
            book_value=to_text(leg.quantity),
            broker_value=f"{to_text(covered)} in stop orders",
            difference=to_text(abs(leg.quantity) - covered),
            correction=None,
            strategy=next(iter(opened), None),
        )
    )


def _strategies(work: ReconciliationPass, leg: Leg) -> Iterable[str]:
    orders = (work.book.order_of_held(lot.fill_id) for lot in leg.lots if lot.fill_id is not None)
    return [order.strategy for order in orders if order is not None and order.strategy is not None]


def _oversized(work: ReconciliationPass, row: Order, leg: Leg | None, severity: Severity) -> None:
    order = order_of_row(work, row)
    rest, held = row.quantity - row.filled_quantity, ZERO if leg is None else leg.quantity
    work.found(
        Finding(
            type=DiscrepancyType.OVERSIZED_ORDER,
            key=row.broker_order_id,
            phase=Phase.DRIFT,
            severity=severity,
            book_value=to_text(held),
            broker_value=f"{row.side.value} {to_text(rest)}",
            difference=to_text(rest - abs(held)),
            correction=None,
            strategy=None if order is None else order.strategy,
        )
    )
