"""Step 3 of a cycle: orders, by the transition table of :mod:`actors.orders`.

The laws of this module: filled quantity goes up, never down; fills come before the end of an order; an order that the
broker does not show is asked for by id, and only the broker's own word, repeated, is taken for its absence.
"""

from __future__ import annotations

from dataclasses import replace

from actors import codec
from actors.breaks import Cause, Correction, DiscrepancyType, Phase
from actors.events import EventType, Severity, to_text
from actors.orders import BookOrder, OrderAction, order_key, same_terms, transition
from actors.reconcile_fills import infer_fill
from actors.working import Difference, Working
from brokers.model import Complete, Order, OrderQuery, OrderStatus, Side, Unsupported, rows_of

_ENDINGS = {
    OrderAction.CANCEL: EventType.ORDER_CANCELLED,
    OrderAction.EXPIRE: EventType.ORDER_EXPIRED,
    OrderAction.REJECT: EventType.ORDER_REJECTED,
}


def reconcile_orders(work: Working) -> None:
    """Bring every order of the book and of the slice in step."""
    seen: set[str] = set()
    for row in rows_of(work.slice.orders):
        order = _book_order(work, row)
        if order is None:
            seen.add(_adopt(work, row))
            continue
        seen.add(order.key)
        if not _in_step(order, row) or work.policy.stale_order is not None:
            _compare(work, order, row)
    if isinstance(work.slice.orders, Complete):
        for order in [order for order in work.book.open_orders() if order.key not in seen]:
            _absent(work, order)


def order_discrepancy_key(broker_order_id: str | None, client_order_id: str | None) -> str:
    """What an order's discrepancies are keyed by: the broker's id, else ours."""
    return broker_order_id or client_order_id or "unknown"


def _book_order(work: Working, row: Order) -> BookOrder | None:
    order = work.book.find_order(row.broker_order_id, row.client_order_id)
    return order if order is not None and order.side is row.side else None


def _in_step(order: BookOrder, row: Order) -> bool:
    return (
        order.status is row.status
        and order.filled_quantity == row.filled_quantity
        and order.broker_order_id == row.broker_order_id
        and same_terms(order, row)
    )


def _describe(side: Side, quantity: object, filled: object, status: OrderStatus, price: object) -> str:
    at = f" @ {price}" if price is not None else ""
    return f"{side.value} {quantity}{at} {status.value} filled {filled}"


def _ours(order: BookOrder) -> str:
    return _describe(
        order.side, to_text(order.quantity), to_text(order.filled_quantity), order.status, to_text(order.limit_price)
    )


def _theirs(row: Order) -> str:
    return _describe(
        row.side, to_text(row.quantity), to_text(row.filled_quantity), row.status, to_text(row.limit_price)
    )


def _adopt(work: Working, row: Order) -> str:
    """EXTERNAL_ORDER: somebody else's order, or one of ours that was never recorded. Followed from now on."""
    adopt = work.found(
        Difference(
            type=DiscrepancyType.EXTERNAL_ORDER,
            key=row.broker_order_id,
            phase=Phase.ORDERS,
            severity=Severity.INFO if work.new_book else Severity.WARNING,
            cause=None if work.new_book else Cause.EXTERNAL_TRADE,
            book_value=None,
            broker_value=_theirs(row),
            correction=Correction.ADOPT_ORDER,
        )
    )
    key = order_key(row.broker_order_id, row.client_order_id)
    if not adopt:
        return key
    known = work.book.orphans.get(row.broker_order_id, row.filled_quantity * 0)
    price = row.average_fill_price or row.limit_price or row.filled_quantity * 0
    order = BookOrder(
        key=key,
        broker_order_id=row.broker_order_id,
        client_order_id=row.client_order_id,
        side=row.side,
        quantity=row.quantity,
        status=row.status,
        filled_quantity=row.filled_quantity,
        notional=price * row.filled_quantity,
        order_type=row.order_type,
        limit_price=row.limit_price,
        submitted_at=row.submitted_at,
        leg=row.leg,
        reason=row.reason,
        adopted=max(row.filled_quantity - known, row.filled_quantity * 0),
    )
    work.emit(EventType.ORDER_UPDATED, {"order": codec.order_to(order)}, key)
    return key


def _compare(work: Working, order: BookOrder, row: Order) -> None:
    """One order that both sides know, in the order: what is filled, then its terms and status, then its age."""
    if row.filled_quantity < order.filled_quantity or (order.status.terminal and not row.status.terminal):
        settled_at = work.settled_at(order.local_at)
        if settled_at is not None:
            # We were told more than the broker shows yet: this slice is older than what we know.
            work.defer(order.key, settled_at)
            return
    if row.filled_quantity > order.filled_quantity:
        if not _catch_up(work, order, row):
            return
        order = work.book.orders[order.key]
    _take_over(work, order, row)
    _check_age(work, work.book.orders[order.key], row)


def _catch_up(work: Working, order: BookOrder, row: Order) -> bool:
    """Fills the broker counts and has not reported: ask for the order, then infer one. False when it stays open."""
    section = work.slice.fills
    if not isinstance(section, Complete | Unsupported):
        work.deferred.add(order.key)
        return False
    query = OrderQuery(work.book.instrument, row.broker_order_id, order.client_order_id)
    answer = work.answer(query)
    if answer is None and isinstance(section, Complete):
        work.lookups.append(query)
        work.deferred.add(order.key)
        return False
    if answer is not None and answer.failure is not None:
        _unanswered(work, order, answer.failure)
        return False
    booked = infer_fill(work, order, row)
    missed = row.filled_quantity - order.filled_quantity
    correct = work.found(
        Difference(
            type=DiscrepancyType.MISSED_FILL,
            key=row.broker_order_id,
            phase=Phase.ORDERS,
            severity=Severity.WARNING,
            cause=Cause.MISSED_FILL,
            book_value=to_text(order.filled_quantity),
            broker_value=to_text(row.filled_quantity),
            difference=to_text(missed),
            correction=Correction.INFER_FILL if booked is not None else None,
            strategy=order.strategy,
        )
    )
    if not correct or booked is None:
        return False
    work.emit(EventType.ORDER_FILLED, codec.booked_fill_to(booked), booked.fill_id, Severity.WARNING)
    return True


def _take_over(work: Working, order: BookOrder, row: Order) -> None:
    """The broker is right about an order's terms and its status."""
    action = transition(order.status, row.status)
    if action is OrderAction.UPDATE and row.filled_quantity < order.filled_quantity:
        action = OrderAction.KEEP
    if action is OrderAction.KEEP and same_terms(order, row) and order.broker_order_id == row.broker_order_id:
        return
    rejected = action is OrderAction.REJECT
    surprising = order.status.terminal and action is not OrderAction.KEEP
    correct = work.found(
        Difference(
            type=DiscrepancyType.ORDER_REJECTED if rejected else DiscrepancyType.ORDER_STATUS_MISMATCH,
            key=order_discrepancy_key(row.broker_order_id, order.client_order_id),
            phase=Phase.ORDERS,
            severity=Severity.WARNING if rejected or surprising else Severity.INFO,
            book_value=_ours(order),
            broker_value=_theirs(row),
            correction=Correction.UPDATE_ORDER,
            strategy=order.strategy,
        )
    )
    if not correct:
        return
    status = order.status if action is OrderAction.KEEP else row.status
    after = replace(
        codec.with_ids(order, row.broker_order_id, row.client_order_id),
        quantity=row.quantity,
        limit_price=row.limit_price if row.limit_price is not None else order.limit_price,
        submitted_at=order.submitted_at or row.submitted_at,
        leg=order.leg or row.leg,
        status=status,
        reason=row.reason or order.reason,
        ended_at=order.ended_at if status.terminal else None,
    )
    kind = _ENDINGS.get(action, EventType.ORDER_UPDATED)
    severity = Severity.WARNING if rejected or surprising else Severity.INFO
    work.emit(kind, {"order": codec.order_to(after)}, order.key, severity)


def _check_age(work: Working, order: BookOrder, row: Order) -> None:
    """STALE_ORDER: cancelled at the broker, once, and only where the configuration asks for it."""
    limit = work.policy.stale_order
    submitted_at = order.submitted_at
    if limit is None or submitted_at is None or row.status.terminal or work.now - submitted_at <= limit:
        return
    key = order_discrepancy_key(row.broker_order_id, order.client_order_id)
    old = work.book.breaks.get((DiscrepancyType.STALE_ORDER, key))
    cancel = work.auto and work.policy.cancel_stale_orders and not (old is not None and old.cancel_asked)
    work.found(
        Difference(
            type=DiscrepancyType.STALE_ORDER,
            key=key,
            phase=Phase.ORDERS,
            severity=Severity.WARNING,
            book_value=_ours(order),
            broker_value=f"working since {submitted_at.isoformat()}",
            correction=None,
            cancel_asked=cancel,
            strategy=order.strategy,
        )
    )
    if cancel:
        work.cancels.append(OrderQuery(work.book.instrument, row.broker_order_id, order.client_order_id))


def _absent(work: Working, order: BookOrder) -> None:
    """An order the broker should show and does not."""
    query = OrderQuery(work.book.instrument, order.broker_order_id, order.client_order_id)
    answer = work.answer(query)
    if answer is None:
        work.lookups.append(query)
    elif answer.failure is not None:
        _unanswered(work, order, answer.failure)
    elif answer.order is not None:
        _compare(work, order, answer.order)
    else:
        _missing(work, order)


def _unanswered(work: Working, order: BookOrder, failure: str) -> None:
    key = order_discrepancy_key(order.broker_order_id, order.client_order_id)
    work.unverified.append(f"order {key} could not be looked up: {failure}")
    work.deferred.add(order.key)


def _missing(work: Working, order: BookOrder) -> None:
    """The broker says that it knows no such order. A failed fills section means it may yet have been filled."""
    settled_at = work.settled_at(order.local_at)
    if settled_at is not None or not isinstance(work.slice.fills, Complete | Unsupported):
        work.defer(order.key, settled_at)
        return
    give_up = work.found(
        Difference(
            type=DiscrepancyType.ORDER_MISSING,
            key=order_discrepancy_key(order.broker_order_id, order.client_order_id),
            phase=Phase.ORDERS,
            severity=Severity.WARNING,
            cause=Cause.UNEXPLAINED,
            book_value=_ours(order),
            broker_value=None,
            correction=Correction.GIVE_UP_ORDER,
            needs_proof=True,
            activity=order.local_at,
            strategy=order.strategy,
        )
    )
    if give_up:
        gone = replace(order, status=OrderStatus.CANCELLED, reason="not found at the broker")
        work.emit(EventType.ORDER_CANCELLED, {"order": codec.order_to(gone)}, order.key, Severity.WARNING)
