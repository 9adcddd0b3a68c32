"""Step 3 of a cycle: orders, by the transition table of :mod:`actors.book.orders`.

The laws of this module: one answer of the broker raises a filled quantity, but only a correction of an execution or
proof (law 4) lowers it; rows and reports of one order are one order; fills come before the end of an order; an order
that the broker does not show is looked up by id, and only the broker's repeated answer proves that it is absent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from actors.book import payloads
from actors.book.discrepancies import Cause, Correction, DiscrepancyType, Phase, cause_of, severity_of
from actors.book.lots import ZERO
from actors.book.orders import BookOrder, OrderAction, merged, order_key, same_terms, transition, with_slice
from actors.events import EventType, Severity, to_iso, to_text
from actors.reconciliation.absent_orders import end_absent_orders, hold_back_legs_of
from actors.reconciliation.booked_fills import infer_fill
from actors.reconciliation.order_matching import (
    by_broker_id,
    group_members,
    is_about,
    long_over,
    order_of_row,
    parent_of,
    replaced_by,
    same_order,
    shows_another,
    strategy_mate,
)
from actors.reconciliation.reconciliation_pass import Finding, ReconciliationPass
from brokers.clocks import BrokerTime, broker_time, shown
from brokers.model import (
    Complete,
    Failed,
    Fill,
    Order,
    OrderQuery,
    OrderStatus,
    Partial,
    Unsupported,
    is_provisional,
    rows_of,
)

_ENDINGS = {
    OrderAction.CANCEL: EventType.ORDER_CANCELLED,
    OrderAction.EXPIRE: EventType.ORDER_EXPIRED,
    OrderAction.REJECT: EventType.ORDER_REJECTED,
}


def reconcile_orders(work: ReconciliationPass) -> None:
    """Bring all orders of the book and of the slice in step."""
    seen: set[str] = set()
    work.links = None  # fills have shown which of the broker's orders some of ours are
    may_be_stale = work.policy.stale_order is not None
    for row in _one_row_each(rows_of(work.slice.orders)):
        order = order_of_row(work, row)
        if order is None:
            if not long_over(work, row):
                seen.add(_adopt(work, row))
            continue
        seen.add(order.key)
        if may_be_stale or not _in_step(order, row):
            _compare(work, order, row)
    _overfilled(work)
    _duplicated(work)
    if isinstance(work.slice.orders, Complete):
        unseen = list(work.book.open_orders(but=seen))
        end_absent_orders(work, [(order, _presumed(work, order)) for order in unseen if _is_absent(work, order)])


def _overfilled(work: ReconciliationPass) -> None:
    """OVERFILL: more was executed than was ordered. The order keeps its quantity, because that was the intention."""
    for row in rows_of(work.slice.orders):
        if row.filled_quantity <= row.quantity or not row.quantity:
            continue
        order = order_of_row(work, row)
        work.found(
            Finding(
                type=DiscrepancyType.OVERFILL,
                key=row.broker_order_id,
                phase=Phase.ORDERS,
                severity=Severity.CRITICAL,
                book_value=to_text(row.quantity if order is None else order.quantity),
                broker_value=to_text(row.filled_quantity),
                difference=to_text(row.filled_quantity - row.quantity),
                correction=None,
                strategy=None if order is None else order.strategy,
            )
        )


def _duplicated(work: ReconciliationPass) -> None:
    """DUPLICATE_ORDER: an order of ours was sent twice, and another one with its id is working. Both are followed; a
    person decides which one to cancel."""
    if not work.slice.conventions.unique_client_ids:
        return
    working: dict[str, list[Order]] = {}
    twins: dict[str, list[Order]] = {}
    for row in _one_row_each(rows_of(work.slice.orders)):
        if row.status.terminal:
            continue
        if row.twins:
            twins.setdefault(min(row.broker_order_id, *row.twins), []).append(row)
        elif row.client_order_id is not None and row.parent is None:
            working.setdefault(row.client_order_id, []).append(row)
    for key, rows in twins.items():
        known = [order for order in (order_of_row(work, row) for row in rows) if order is not None]
        _duplicate(work, key, rows, sorted(known, key=lambda order: order.adopted_at is not None))
    for client_order_id, rows in working.items():
        orders = [order_of_row(work, row) for row in rows] if len(rows) > 1 else []
        ours = [order for order in orders if order is not None and order.adopted_at is None]
        if ours and len(ours) != len(rows):
            _duplicate(work, client_order_id, rows, ours)


def _duplicate(work: ReconciliationPass, key: str, rows: list[Order], ours: list[BookOrder]) -> None:
    """Report rows that are one order too many; ``ours`` are those of the book, the one that our side reported first."""
    work.found(
        Finding(
            type=DiscrepancyType.DUPLICATE_ORDER,
            key=key,
            phase=Phase.ORDERS,
            severity=severity_of(Cause.DUPLICATE_ORDER, Severity.CRITICAL),
            cause=Cause.DUPLICATE_ORDER,
            book_value=_ours(ours[0]) if ours else None,
            broker_value="; ".join(f"{row.broker_order_id}: {_theirs(row)}" for row in rows),
            correction=None,
            strategy=next((order.strategy for order in ours if order.strategy is not None), None),
            linked=tuple(row.broker_order_id for row in rows),
        )
    )


def _one_row_each(rows: tuple[Order, ...]) -> Iterable[Order]:
    """One row for each order: if it is shown more than once, the row that has progressed furthest."""
    if len({row.broker_order_id for row in rows}) == len(rows):
        return rows
    furthest: dict[str, Order] = {}
    for row in rows:
        other = furthest.setdefault(row.broker_order_id, row)
        if other is not row and _progress(row) > _progress(other):
            furthest[row.broker_order_id] = row
    return furthest.values()


def _progress(row: Order) -> tuple[object, bool]:
    return row.filled_quantity, row.status.terminal


def _in_step(order: BookOrder, row: Order) -> bool:
    return (
        order.status is row.status
        and order.filled_quantity == row.filled_quantity
        and order.broker_order_id == row.broker_order_id
        and (not row.quantity or order.quantity == row.quantity)
        and (row.limit_price is None or row.limit_price == order.limit_price)
        and (row.trigger_price is None or row.trigger_price == order.trigger_price)
        and order.side is row.side
        and (row.client_order_id is None or order.client_order_id is not None)
        and (row.replaced_by is None or row.replaced_by == order.replaced_by)
        and (not row.slices or row.slices == order.slices)
        and (row.expires_at is None or row.expires_at == order.expires_at or row.status.terminal)
        and (row.parent is None or row.parent == order.parent)
        and (row.group is None or row.group == order.group)
        and not order.taken_back
    )


def _facts_known(order: BookOrder, row: Order) -> bool:
    """Whether the book has the facts about an order that only the broker states, and that are never a discrepancy. One
    is the price of an order that our side gave none: a broker limits a market order (Kite, ``market_protection``).
    Another is a trigger, as our side reports none."""
    known = row.expires_at in (None, order.expires_at) or row.status.terminal
    known = known and (order.limit_price is not None or row.limit_price is None)
    known = known and (order.trigger_price is not None or row.trigger_price is None)
    return known and row.parent in (None, order.parent) and row.group in (None, order.group)


def _describe(order: BookOrder | Order) -> str:
    price, trigger = to_text(order.limit_price), to_text(order.trigger_price)
    at = f" @ {price}" if price is not None else ""
    at += f" from {trigger}" if trigger is not None else ""
    filled = to_text(order.filled_quantity)
    return f"{order.side.value} {to_text(order.quantity)}{at} {order.status.value} filled {filled}"


def _ours(order: BookOrder) -> str:
    return _describe(order)


def _theirs(row: Order) -> str:
    return _describe(row)


def _adopt(work: ReconciliationPass, row: Order) -> str:
    """EXTERNAL_ORDER: somebody else's order, or one of ours that was never recorded; the book follows it from now on.
    An order that replaced one of ours is ours, and a stop or target belongs to the strategy of its parent."""
    replaced = replaced_by(work, row.broker_order_id)
    whose = replaced or parent_of(work, row) or strategy_mate(work, row)
    expected = work.new_book or whose is not None
    cause = None if expected and row.origin is None else cause_of(row.origin, Cause.EXTERNAL_TRADE)
    adopt = work.found(
        Finding(
            type=DiscrepancyType.EXTERNAL_ORDER if replaced is None else DiscrepancyType.ORDER_STATUS_MISMATCH,
            key=row.broker_order_id,
            phase=Phase.ORDERS,
            severity=severity_of(cause, Severity.INFO if expected else Severity.WARNING),
            cause=cause,
            book_value=None if replaced is None else _ours(replaced),
            broker_value=_theirs(row),
            correction=Correction.ADOPT_ORDER,
            strategy=None if whose is None else whose.strategy,
            linked=tuple(dict.fromkeys((*filter(None, (row.parent,)), *group_members(work, row)))),
        )
    )
    key = order_key(row.broker_order_id, row.client_order_id)
    if key in work.book.orders:  # taken by an order that had a provisional id
        key = f"{key}@{to_iso(work.slice.as_of)}"
    if not adopt:
        return key
    known = sum((work.book.orphans.get(name, (ZERO, ZERO))[0] for name in (row.broker_order_id, *row.slices)), ZERO)
    price = row.average_fill_price if row.average_fill_price is not None else row.limit_price or ZERO
    order = BookOrder(
        key=key,
        broker_order_id=row.broker_order_id,
        client_order_id=row.client_order_id,
        side=row.side,
        quantity=row.quantity,
        status=row.status,
        filled_quantity=max(row.filled_quantity, known),
        notional=price * max(row.filled_quantity, known),
        order_type=row.order_type,
        limit_price=row.limit_price,
        trigger_price=row.trigger_price,
        submitted_at=shown(row.submitted_at),
        leg=row.leg,
        strategy=None if whose is None else whose.strategy,
        reason=row.reason,
        adopted=max(row.filled_quantity - known, ZERO),
        adopted_at=work.slice.as_of,
        replaced_by=row.replaced_by,
        slices=row.slices,
        parent=row.parent,
        expires_at=row.expires_at,
        group=row.group,
    )
    work.emit(EventType.ORDER_UPDATED, {"order": payloads.order_to(order)}, key)
    return key


def _compare(work: ReconciliationPass, order: BookOrder, row: Order) -> None:
    """Compare an order that both sides know: first its filled quantity, then its terms and status, then its age."""
    again_at = _too_early(work, order, row)
    if again_at is not None:
        work.defer(order.key, again_at)
        return
    order = _merge_slices(work, _merge(work, order, row), row)
    orphans = [name for name in (row.broker_order_id, *row.slices) if name in work.book.orphans]
    if orphans:
        if not _claim_fills(work, order, row, orphans):
            return
        order = work.book.orders[order.key]
    if order.filled_quantity < row.filled_quantity <= order.filled_quantity + order.taken_back:
        if not _counts_more_than_a_correction_left(work, order, row):
            return
        order = work.book.orders[order.key]
    if row.filled_quantity < order.filled_quantity:
        _filled_further(work, order, row)
        return
    if row.filled_quantity > order.filled_quantity:
        if not _catch_up(work, order, row):
            return
        order = work.book.orders[order.key]
    _take_over(work, order, row)
    _check_age(work, work.book.orders[order.key], row)


def _too_early(work: ReconciliationPass, order: BookOrder, row: Order) -> datetime | None:
    """When to look again, if this slice is older than the newest thing we know about the order, from either side."""
    soon = work.now + work.policy.confirm_gap
    if _older(work, order.updated_at) and not _in_step(order, row):
        return soon
    behind = row.filled_quantity < order.filled_quantity or (order.status.terminal and not row.status.terminal)
    if (behind or order.taken_back) and _older(work, order.filled_at):
        return soon
    cancel_unseen = order.status is OrderStatus.PENDING_CANCEL and not row.status.terminal
    if behind or cancel_unseen or _amended(order, row):
        return work.settled_at(order.local_at)
    return None


def _older(work: ReconciliationPass, known_at: datetime | None) -> bool:
    """Whether the slice was requested before the broker last reported a change."""
    return known_at is not None and work.slice.requested_at <= known_at


def _amended(order: BookOrder, row: Order) -> bool:
    amended = bool(row.quantity) and order.quantity != row.quantity
    moved = order.trigger_price is not None and row.trigger_price not in (None, order.trigger_price)
    return amended or moved or (order.limit_price is not None and not same_terms(order, row))


def _merge(work: ReconciliationPass, order: BookOrder, row: Order) -> BookOrder:
    """The order of a row: if two orders of the book turn out to be it, one event merges them."""
    owner = by_broker_id(work.book, row)
    if owner is None:
        return order
    ours = order if owner.key != order.key else same_order(work, owner, row)
    if ours is None:
        return order
    one = payloads.with_ids(
        merged(ours, owner, row.filled_quantity, row.average_fill_price), row.broker_order_id, row.client_order_id
    )
    work.tidy(EventType.ORDER_UPDATED, {"order": payloads.order_to(one), "merges": owner.key}, one.key + ":merged")
    return work.book.orders[one.key]


def _merge_slices(work: ReconciliationPass, order: BookOrder, row: Order) -> BookOrder:
    """The order, merged with every other order of the book that the row shows to be a part of it, by one event each."""
    if row.slices and row.slices != order.slices:
        known = None if is_provisional(order.broker_order_id) else order.broker_order_id
        for name in (row.broker_order_id, *row.slices):
            part = work.book.find_order(name, None)
            if part is None or part.key == order.key:
                continue
            one = with_slice(order, part, row.filled_quantity, row.average_fill_price)
            one = replace(one, broker_order_id=known or row.broker_order_id)
            work.emit(
                EventType.ORDER_UPDATED,
                {"order": payloads.order_to(one), "merges": part.key},
                f"{one.key}:{part.key}",
            )
            order = work.book.orders[one.key]
    return order


def _counts_more_than_a_correction_left(work: ReconciliationPass, order: BookOrder, row: Order) -> bool:
    """Whether a row that counts more than a correction left is applied. It lags behind the correction, or counts a fill
    that nobody reported, or one beyond what was ordered, which counted nothing until the correction made room for it.
    The broker is asked for the order's fills. If it reports no further ones, a row that counts exactly the quantity
    taken back lags, unless a person decides otherwise; any other quantity counts with proof."""
    if not isinstance(work.slice.fills, Complete):
        work.found(_filled_mismatch(order, row, correction=None, needs_proof=False))
        return False
    query = OrderQuery(work.book.instrument, row.broker_order_id, order.client_order_id)
    answer = work.answer(query)
    if answer is None:
        work.lookups.append(query)
        work.deferred.add(order.key)
        return False
    if answer.failure is not None:
        _unanswered(work, order, answer.failure, answer.again_at)
        return False
    booked = infer_fill(work, order, row)
    infer = Correction.INFER_FILL if booked is not None else None
    lags = row.filled_quantity == order.filled_quantity + order.taken_back
    lags = lags and row.filled_quantity != order.filled_quantity + _beyond(work, order, answer.fills)
    found = replace(_filled_mismatch(order, row, infer, needs_proof=not lags), severity=Severity.WARNING)
    if not work.found(replace(found, for_a_person=lags)) or booked is None:
        return False
    work.emit(EventType.ORDER_FILLED, payloads.booked_fill_to(booked), booked.fill_id, Severity.WARNING)
    return True


def _beyond(work: ReconciliationPass, order: BookOrder, answered: Iterable[Fill]) -> Decimal:
    """The quantity of those fills of an order, as the broker lists them now, that the book knows and does not count.
    (It counts those from before it adopted the order with the order's row.) What is inferred of the order stands for
    their first units."""
    listed = {fill.key: fill for fill in (*rows_of(work.slice.fills), *answered)}
    corrected = {fill.corrects.key for fill in listed.values() if fill.corrects is not None}
    of_order = (order.broker_order_id, *order.slices)
    beyond = sum(
        (
            fill.quantity
            for key, fill in listed.items()
            if key in work.book.uncounted
            and key not in corrected
            and fill.broker_order_id in of_order
            and (order.adopted_at is None or fill.time > order.adopted_at)
        ),
        ZERO,
    )
    return max(ZERO, beyond - sum((guess.quantity for guess in order.inferred), ZERO))


def _filled_further(work: ReconciliationPass, order: BookOrder, row: Order) -> None:
    """The book counts more than the broker. With proof the broker is right, even if an ended order works again."""
    found = _filled_mismatch(order, row, Correction.UPDATE_ORDER, needs_proof=True)
    if order.status.terminal and not row.status.terminal:
        found = replace(
            found,
            type=DiscrepancyType.ORDER_STATUS_MISMATCH,
            severity=Severity.WARNING,
            book_value=_ours(order),
            broker_value=_theirs(row),
            difference=None,
        )
    if not work.found(found):
        return
    left = row.filled_quantity - min(order.quantity_in_fills, row.filled_quantity)
    inferred = []
    for guess in order.inferred:
        part = min(guess.quantity, left)
        left -= part
        if part:
            inferred.append(replace(guess, quantity=part))
    average = row.average_fill_price if row.average_fill_price is not None else order.average_fill_price
    lowered = replace(
        order,
        filled_quantity=row.filled_quantity,
        notional=(average or ZERO) * row.filled_quantity,
        adopted=left,
        inferred=tuple(inferred),
        status=row.status,
        quantity=row.quantity or order.quantity,
        limit_price=row.limit_price if row.limit_price is not None else order.limit_price,
        trigger_price=row.trigger_price if row.trigger_price is not None else order.trigger_price,
        ended_at=order.ended_at if row.status.terminal else None,
        taken_back=ZERO,
        lowered_by=order.lowered_by + max(order.quantity_in_fills - row.filled_quantity, ZERO),
    )
    work.emit(EventType.ORDER_UPDATED, {"order": payloads.order_to(lowered)}, order.key + ":lowered", Severity.WARNING)


def _filled_mismatch(order: BookOrder, row: Order, correction: Correction | None, *, needs_proof: bool) -> Finding:
    return Finding(
        type=DiscrepancyType.FILLED_MISMATCH,
        key=row.broker_order_id,
        phase=Phase.ORDERS,
        severity=Severity.INFO if needs_proof else Severity.WARNING,  # a single sighting may be a row that lags
        book_value=to_text(order.filled_quantity),
        broker_value=to_text(row.filled_quantity),
        difference=to_text(row.filled_quantity - order.filled_quantity),
        correction=correction,
        needs_proof=needs_proof,
        activity=max(filter(None, [order.local_at, order.filled_at]), default=None),
        strategy=order.strategy,
    )


def _claim_fills(work: ReconciliationPass, order: BookOrder, row: Order, orphans: list[str]) -> bool:
    """Count fills in this order that were booked under its broker ids before we knew that it has them."""
    correct = _mismatch(work, order, row, Severity.INFO, DiscrepancyType.ORDER_STATUS_MISMATCH)
    if correct:
        counted = [work.book.orphans[name] for name in orphans]
        after = replace(
            payloads.with_ids(order, row.broker_order_id, row.client_order_id),
            filled_quantity=order.filled_quantity + sum((quantity for quantity, _ in counted), ZERO),
            notional=order.notional + sum((notional for _, notional in counted), ZERO),
            slices=row.slices or order.slices,
        )
        work.emit(EventType.ORDER_UPDATED, {"order": payloads.order_to(after)}, order.key + ":fills")
    return correct


def _mismatch(
    work: ReconciliationPass,
    order: BookOrder,
    row: Order,
    severity: Severity,
    kind: DiscrepancyType,
    correction: Correction | None = Correction.UPDATE_ORDER,
) -> bool:
    return work.found(
        Finding(
            type=kind,
            key=row.broker_order_id,
            phase=Phase.ORDERS,
            severity=severity,
            book_value=_ours(order),
            broker_value=_theirs(row),
            correction=correction,
            strategy=order.strategy,
        )
    )


def _catch_up(work: ReconciliationPass, order: BookOrder, row: Order) -> bool:
    """Fills that the broker counts but has not reported: look up the order, then infer a fill. False if the difference
    stays open."""
    section = work.slice.fills
    unknown = work.policy.positions and isinstance(work.slice.positions, Failed | Partial)
    if unknown or not isinstance(section, Complete | Unsupported):
        # The missing quantity may be among unknown fills, or already in unknown positions.
        work.deferred.add(order.key)
        return False
    query = OrderQuery(work.book.instrument, row.broker_order_id, order.client_order_id)
    answer = work.answer(query)
    if answer is None and isinstance(section, Complete):
        work.lookups.append(query)
        work.deferred.add(order.key)
        return False
    if answer is not None and answer.failure is not None:
        _unanswered(work, order, answer.failure, answer.again_at)
        return False
    booked = infer_fill(work, order, row)
    missed = row.filled_quantity - order.filled_quantity
    correct = work.found(
        Finding(
            type=DiscrepancyType.MISSED_FILL,
            key=row.broker_order_id,
            phase=Phase.ORDERS,
            severity=Severity.INFO if work.new_book else Severity.WARNING,  # from before the first look: adopted
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
    work.emit(EventType.ORDER_FILLED, payloads.booked_fill_to(booked), booked.fill_id, Severity.WARNING)
    return True


def _take_over(work: ReconciliationPass, order: BookOrder, row: Order) -> None:
    """Take over an order's terms and status from the broker."""
    action = transition(order.status, row.status)
    if not _facts_known(order, row):
        completed = replace(
            order,
            expires_at=row.expires_at or order.expires_at,
            parent=row.parent or order.parent,
            group=row.group or order.group,
            limit_price=row.limit_price if order.limit_price is None else order.limit_price,
            trigger_price=row.trigger_price if order.trigger_price is None else order.trigger_price,
        )
        if action is OrderAction.KEEP and _in_step(replace(completed, status=row.status, taken_back=ZERO), row):
            work.note(EventType.ORDER_UPDATED, {"order": payloads.order_to(completed)}, order.key + ":facts")
        order = completed
    if action is OrderAction.KEEP and _in_step(replace(order, status=row.status, taken_back=ZERO), row):
        if order.taken_back:
            after = replace(order, taken_back=ZERO)  # the broker's row now shows the correction
            work.tidy(EventType.ORDER_UPDATED, {"order": payloads.order_to(after)}, order.key + ":followed")
        return
    rejected = action is OrderAction.REJECT
    surprising = order.status.terminal and action is not OrderAction.KEEP
    severity = Severity.WARNING if rejected or surprising else Severity.INFO
    kind = DiscrepancyType.ORDER_REJECTED if rejected else DiscrepancyType.ORDER_STATUS_MISMATCH
    if not _mismatch(work, order, row, severity, kind):
        return
    status = order.status if action is OrderAction.KEEP else row.status
    after = replace(
        payloads.with_ids(order, row.broker_order_id, row.client_order_id),
        side=row.side,
        quantity=row.quantity or order.quantity,
        limit_price=row.limit_price if row.limit_price is not None else order.limit_price,
        trigger_price=row.trigger_price if row.trigger_price is not None else order.trigger_price,
        replaced_by=row.replaced_by or order.replaced_by,
        slices=row.slices or order.slices,
        taken_back=ZERO,
        submitted_at=order.submitted_at or shown(row.submitted_at),
        leg=order.leg or row.leg,
        status=status,
        reason=row.reason or order.reason,
        ended_at=order.ended_at if status.terminal else None,
    )
    event = _ENDINGS.get(action, EventType.ORDER_UPDATED)
    work.emit(event, {"order": payloads.order_to(after)}, order.key, severity)


def _check_age(work: ReconciliationPass, order: BookOrder, row: Order) -> None:
    """STALE_ORDER: cancelled at the broker, once, and only if the configuration requests it."""
    limit = work.policy.stale_order
    if limit is None or row.status.terminal or row.waits_for_open:
        return
    since, age = _since(work, order, row)
    if since is None or age <= limit:
        return
    key = row.broker_order_id
    old = work.book.breaks.get((DiscrepancyType.STALE_ORDER, key))
    cancel = work.auto and work.policy.cancel_stale_orders and not (old is not None and old.cancel_asked)
    work.found(
        Finding(
            type=DiscrepancyType.STALE_ORDER,
            key=key,
            phase=Phase.ORDERS,
            severity=Severity.WARNING,
            book_value=_ours(order),
            broker_value=f"working since {since.isoformat()}",
            correction=None,
            cancel_asked=cancel,
            strategy=order.strategy,
        )
    )
    if cancel:
        work.cancels.append(OrderQuery(work.book.instrument, row.broker_order_id, order.client_order_id))


def _since(work: ReconciliationPass, order: BookOrder, row: Order) -> tuple[datetime | BrokerTime | None, timedelta]:
    """When an order started to work, and for how long, by the clock of that time: ours if our side reported the order
    and the broker does not state when its market opened for it, else the broker's."""
    since = row.working_since
    if since is None and order.submitted_at is not None:
        if order.recorded_at is not None:
            return order.submitted_at, work.now - order.submitted_at
        since = broker_time(order.submitted_at)  # the order was adopted
    since = since or row.submitted_at
    return since, timedelta() if since is None else work.slice.as_of - since


def _is_absent(work: ReconciliationPass, order: BookOrder) -> bool:
    """Whether the broker answers that it does not know an order that it should show."""
    if _older(work, order.updated_at):
        work.defer(order.key)
        return False
    query = OrderQuery(work.book.instrument, order.broker_order_id, order.client_order_id)
    answer = work.answer(query)
    if answer is None:
        work.lookups.append(query)
    elif answer.failure is not None:
        _unanswered(work, order, answer.failure, answer.again_at)
    elif answer.order is not None and answer.order.presumed:
        return True
    elif answer.order is not None and shows_another(work, order, answer.order):
        return True  # the broker's only order with this client id is in the slice, and is not this one
    elif answer.order is not None and is_about(work.book, order, answer.order):
        _compare(work, order, answer.order)
    elif answer.order is not None and order.broker_order_id is not None:
        _unanswered(work, order, f"the answer was about order {answer.order.broker_order_id}")
    else:
        return True
    return False


def _presumed(work: ReconciliationPass, order: BookOrder) -> bool:
    """Whether the adapter knows that the order is over."""
    answer = work.answer(OrderQuery(work.book.instrument, order.broker_order_id, order.client_order_id))
    return answer is not None and answer.order is not None and answer.order.presumed


def _unanswered(work: ReconciliationPass, order: BookOrder, failure: str, again_at: datetime | None = None) -> None:
    key = order.subject
    work.unverified.append(f"order {key} could not be looked up: {failure}")
    work.deferred.add(order.key)
    if again_at is not None:
        work.look_again(again_at)
    hold_back_legs_of(work, order)
