"""Matches the rows of the broker with the orders of the book.

The law of this module: a broker_order_id decides, except a provisional one, which may belong to another order after a
restart. A client_order_id decides only for an order whose broker_order_id we do not know yet, because it need not be
unique at a broker (Kite's tag and MT5's comment are free text): the likeliest of several rows is taken, each row for
one order only, and none from before the order was sent.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from actors.book.book import ENDED_ORDERS_KEPT_FOR, Book
from actors.book.orders import BookOrder
from actors.reconciliation.reconciliation_pass import ReconciliationPass
from brokers.clocks import BrokerTime, ahead_of_ours, broker_time
from brokers.model import PROVISIONAL, Complete, Fill, Order, Partial, Section, is_provisional, rows_of

CLOCK_SKEW = timedelta(minutes=1)
"""How far a broker's clock and ours may differ, beyond the difference that a snapshot shows."""


def with_whole_client_ids(work: ReconciliationPass) -> None:
    """Restore the full client ids in the slice's rows, where the broker keeps only the beginning of an id and it fits
    one order only."""
    length = work.slice.conventions.client_id_length
    whole = {} if length is None else _cut_ids(work, length)
    if not whole:
        return

    def named(section: Section[Row]) -> Section[Row]:
        if not isinstance(section, Complete | Partial):
            return section
        return replace(section, rows=tuple(_named(row, whole) for row in section.rows))

    answers = tuple(
        replace(
            answer,
            order=None if answer.order is None else _named(answer.order, whole),
            fills=tuple(_named(fill, whole) for fill in answer.fills),
        )
        for answer in work.slice.answers
    )
    work.slice = replace(work.slice, orders=named(work.slice.orders), fills=named(work.slice.fills), answers=answers)


def _cut_ids(work: ReconciliationPass, length: int) -> dict[str, str]:
    """The part of an id that the broker keeps → our full id, for longer ids whose kept part is unambiguous."""
    ids = {order.client_order_id for order in work.book.orders.values() if order.client_order_id is not None}
    found: dict[str, str] = {}
    alike = {one for one in ids if len(one) <= length}
    for one in sorted(ids - alike):
        kept = one[:length]
        if found.setdefault(kept, one) != one:
            alike.add(kept)
    return {kept: one for kept, one in found.items() if kept not in alike}


Row = TypeVar("Row", Order, Fill)


def _named(row: Row, whole: dict[str, str]) -> Row:
    name = whole.get(row.client_order_id) if row.client_order_id is not None else None
    return row if name is None else replace(row, client_order_id=name)


def order_of_row(work: ReconciliationPass, row: Order) -> BookOrder | None:
    """The book's order that a row shows; ``None`` if the book does not have it. With the same broker_order_id it is the
    same order, whatever else the row contains."""
    order = work.book.order_of_id(row.broker_order_id)
    if order is None or PROVISIONAL in row.broker_order_id:  # as is_provisional; each row of each look comes here
        order = by_broker_id(work.book, row)
    if order is not None:
        return None if work.order_ids_recur and _of_another_day(work, order, row.submitted_at) else order
    if row.client_order_id is None:
        return None
    key = _links(work).get(row.broker_order_id)
    return work.book.orders.get(key) if key is not None else None


def order_of_fill(work: ReconciliationPass, fill: Fill, shown: dict[str, Order]) -> BookOrder | None:
    """The book's order that a fill belongs to: by the fill's ids, else by the ids in its order's row. ``shown`` are the
    available rows by broker_order_id."""
    order = by_broker_id(work.book, fill)
    if order is not None and _of_another_day(work, order, fill.time):
        order = None
    row = shown.get(fill.broker_order_id) if fill.broker_order_id is not None else None
    if order is None and row is not None:
        order = order_of_row(work, row)
    elif order is None and fill.client_order_id is not None:
        real = None if is_provisional(fill.broker_order_id) else fill.broker_order_id
        order = work.book.find_order(real, fill.client_order_id)
        if order is not None and not sent_before(work, order, fill.time):
            order = None
    if order is None or order.side is fill.side:
        return order
    return order if row is not None and row.side is fill.side else None  # the side in our book will be corrected


def replaced_by(work: ReconciliationPass, broker_order_id: str | None) -> BookOrder | None:
    """The order of the book that the order with this id replaced, directly or through others, in whatever sequence the
    broker shows them."""
    if broker_order_id is None:
        return None
    answered = (answer.order for answer in work.slice.answers if answer.order is not None)
    rows = {row.replaced_by: row for row in (*rows_of(work.slice.orders), *answered) if row.replaced_by is not None}
    passed: set[str] = set()
    while broker_order_id not in passed:
        passed.add(broker_order_id)
        order = work.book.replaced_order(broker_order_id)
        row = rows.get(broker_order_id)
        if order is None and row is not None:
            order = order_of_row(work, row)
        if order is not None or row is None:
            return order
        broker_order_id = row.broker_order_id
    return None


def long_over(work: ReconciliationPass, row: Order) -> bool:
    """Whether an ended order is so old, by its broker's clock, that the book would only drop it again. The book drops
    by our clock: the limit here is a little shorter, as the broker's times may be whole seconds or minutes."""
    if row.submitted_at is None or not row.status.terminal:
        return False
    return work.slice.as_of - row.submitted_at > ENDED_ORDERS_KEPT_FOR - CLOCK_SKEW


def parent_of(work: ReconciliationPass, row: Order) -> BookOrder | None:
    """The order of the book that a stop, a target or the like belongs to, if its broker names it."""
    if row.parent is None:
        return None
    found = work.book.find_order(row.parent, None) or work.book.order_of_held(row.parent)
    return None if found is None or found.broker_order_id == row.broker_order_id else found


def group_members(work: ReconciliationPass, row: Order) -> tuple[str, ...]:
    """The broker_order_ids of the other orders that the slice shows of a row's group."""
    if row.group is None:
        return ()
    rows = (one for one in rows_of(work.slice.orders) if one.group == row.group)
    return tuple(one.broker_order_id for one in rows if one.broker_order_id != row.broker_order_id)


def strategy_mate(work: ReconciliationPass, row: Order) -> BookOrder | None:
    """The order of the book that gives a row its strategy, because both are of one group; ``None`` if the group gives
    none. A trader chooses a group's name and may use it again another day: only orders in the same slice count."""
    known = [work.book.find_order(name, None) for name in group_members(work, row)]
    found = [order for order in known if order is not None and order.strategy is not None]
    return found[0] if found and len({order.strategy for order in found}) == 1 else None


def parent_of_fill(work: ReconciliationPass, fill: Fill, row: Order | None) -> BookOrder | None:
    """The order of the book that led to a fill whose own order is not in the book: the parent of that order; the order
    that closed a position by an opposite one, whose other side the fill is; or the order that opened the position which
    a stop, a target or the broker closed."""
    found = None if row is None else parent_of(work, row)
    if found is None and fill.closing:
        found = work.book.find_order(fill.broker_order_id, None)
        if found is None and fill.reason is not None:
            found = work.book.find_order(fill.position_id, None)
    return found


def same_order(work: ReconciliationPass, order: BookOrder, row: Order) -> BookOrder | None:
    """An order of ours without a broker_order_id that turns out to be this one, which was adopted before the broker
    reported the client id of both."""
    if order.client_order_id is not None or row.client_order_id is None or order.adopted_at is None:
        return None
    ours = [
        other
        for other in work.book.orders_by_client_id(row.client_order_id)
        if other.broker_order_id is None
        and not other.status.terminal
        and other.side is row.side
        and sent_before(work, other, row.submitted_at)
    ]
    return min(ours, key=lambda other: _unlikeness(other, row)) if ours else None


def _of_another_day(work: ReconciliationPass, order: BookOrder, time: BrokerTime | None) -> bool:
    """Whether an order of the book is of another day than that time, where the broker reuses its ids each day."""
    if not work.order_ids_recur or time is None or order.submitted_at is None:
        return False
    conventions = work.slice.conventions
    return conventions.day_of(time) != conventions.day_of(broker_time(order.submitted_at))  # the only day we know


def is_about(book: Book, order: BookOrder, row: Order) -> bool:
    """Whether a row that was found by one of this order's ids is its own, and not another order's."""
    owner = by_broker_id(book, row)
    if order.slices and not row.slices:
        return False  # a part of it
    if owner is not None and owner.key != order.key and owner.client_order_id is None:
        return owner.adopted_at is not None and owner.side is order.side and order.broker_order_id is None
    if owner is not None:
        return owner.key == order.key
    return _not_known_yet(order) and order.side is row.side


def by_broker_id(book: Book, row: Order | Fill) -> BookOrder | None:
    """The order with the row's broker_order_id, or with that of one of its parts; if that id is provisional, only if
    the client_order_id is the same too."""
    order = book.find_order(row.broker_order_id, None)
    if order is None and isinstance(row, Order):
        order = next(filter(None, (book.find_order(part, None) for part in row.slices)), None)
    if order is None or not is_provisional(row.broker_order_id):
        return order
    return order if order.client_order_id == row.client_order_id else None


def _not_known_yet(order: BookOrder) -> bool:
    return order.broker_order_id is None or is_provisional(order.broker_order_id)


def _links(work: ReconciliationPass) -> dict[str, str]:
    """Rows whose broker_order_id the book does not know → keys of the orders matched by client_order_id."""
    if work.links is not None:
        return work.links
    work.links = {}
    pairs: list[tuple[tuple[bool, bool, bool, float], str, str]] = []
    answered = [answer.order for answer in work.slice.answers if answer.order is not None]
    rows = [*rows_of(work.slice.orders), *answered]
    successors = {row.replaced_by for row in rows if row.replaced_by is not None}
    for row in rows:
        if row.broker_order_id in successors or work.book.replaced_order(row.broker_order_id) is not None:
            continue  # the order that it replaced is the one that was sent
        if row.client_order_id is None or by_broker_id(work.book, row) is not None:
            continue
        pairs.extend(
            (_unlikeness(order, row), row.broker_order_id, order.key)
            for order in work.book.orders_by_client_id(row.client_order_id)
            if _not_known_yet(order)
            and order.side is row.side
            and sent_before(work, order, row.submitted_at)
            and not (order.status.terminal and long_over(work, row))  # the row's own order was already dropped
        )
    taken: set[str] = set()
    for _, broker_order_id, key in sorted(pairs):
        if broker_order_id not in work.links and key not in taken:
            work.links[broker_order_id] = key
            taken.add(key)
    return work.links


def shows_another(work: ReconciliationPass, order: BookOrder, row: Order) -> bool:
    """Whether a row with this order's client id is matched with another order of ours in this pass. One row is one
    order: it is not compared with two."""
    linked = _links(work).get(row.broker_order_id)
    return linked is not None and linked != order.key and row.client_order_id == order.client_order_id


def sent_before(work: ReconciliationPass, order: BookOrder, time: BrokerTime | None) -> bool:
    """Whether the broker can have had this order at a time of its own clock."""
    sent_at = _sent_at(order)
    if sent_at is None or time is None:
        return True
    behind = min(ahead_of_ours(work.slice.as_of, work.slice.requested_at), timedelta(0))
    return time >= broker_time(sent_at + behind) - CLOCK_SKEW


def _sent_at(order: BookOrder) -> datetime | None:
    """The latest time at which our side can have sent an order: not after it reported the order, whatever the sender's
    clock shows."""
    return min(filter(None, (order.submitted_at, order.recorded_at)), default=None)


def _unlikeness(order: BookOrder, row: Order) -> tuple[bool, bool, bool, float]:
    sent_at = _sent_at(order)
    apart = abs(ahead_of_ours(row.submitted_at, sent_at).total_seconds()) if row.submitted_at and sent_at else 0.0
    return order.status.terminal, order.quantity != row.quantity, order.limit_price != row.limit_price, apart
