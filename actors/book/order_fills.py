"""How fills, their corrections and the fills that were inferred before them change an order. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from actors.book import payloads
from actors.book.lots import ZERO
from actors.book.orders import BookOrder, Inferred
from actors.book.payloads import BookedFill, FillSource
from brokers.model import Corrected, OrderStatus


def after_reported_fill(
    order: BookOrder, fill: BookedFill, at: datetime, source: FillSource | None, *, ours: bool
) -> BookOrder:
    """The order after a fill, reused from the decision on that fill if there is one."""
    if source is not None and source.before is order and source.after is not None:
        return source.after
    after = after_fill(order, fill, at, ours=ours)
    if source is not None:
        source.before, source.after = order, after
    return after


def after_fill(order: BookOrder, fill: payloads.BookedFill, at: datetime, *, ours: bool) -> BookOrder:
    """The order after a fill that our side or the broker reported. The fill replaces adopted or inferred units; the
    rest of it is new."""
    if fill.corrects is not None and fill.corrects.quantity:
        return _corrected(order, fill, fill.corrects, at)
    inferred: list[Inferred] = []
    notional = order.notional
    fresh = fill.quantity - fill.adopted
    if order.inferred or fill.replaces:
        inferred, gone = _guesses_left(order, fill)
        notional += sum(((fill.price - guess.price) * guess.quantity for guess in gone), ZERO)
        fresh -= sum((quantity for _, quantity in fill.replaces), ZERO)
    filled = order.filled_quantity + fresh
    taken_back = max(-fresh, ZERO)  # only a correction of inferred units takes out more than it adds
    if fill.inferred:
        inferred.append(Inferred(fill.fill_id, fill.quantity, fill.price))
    status = order.status
    if filled >= order.quantity and order.quantity:
        status = OrderStatus.FILLED
    elif taken_back and status in _BY_FILLS:
        status = OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.OPEN
    elif filled and (status is OrderStatus.PENDING_SUBMIT or status is OrderStatus.OPEN):
        status = OrderStatus.PARTIALLY_FILLED
    if taken_back:
        order = replace(order, taken_back=order.taken_back + taken_back)
    return order.after_fill(
        filled_quantity=filled,
        notional=notional + fresh * fill.price,
        adopted=order.adopted - fill.adopted,
        inferred=tuple(inferred),
        status=status,
        ended_at=(order.ended_at or at) if status.terminal else None,
        local_at=at if ours else order.local_at,
        filled_at=order.filled_at if ours else at,
    )


def _corrected(order: BookOrder, fill: BookedFill, was: Corrected, at: datetime) -> BookOrder:
    """The order after the broker corrected one of its fills. A quantity that the order's row already took out is taken
    out once only, and a larger fill replaces inferred units."""
    less, lowered_by = order.without(was.quantity - fill.quantity)
    known_before = was.quantity - fill.quantity - less
    inferred, gone = _guesses_left(order, fill)
    guessed = sum((guess.quantity for guess in gone), ZERO)
    paid = was.quantity * was.price - known_before * was.price + sum((g.quantity * g.price for g in gone), ZERO)
    return replace(
        order,
        filled_quantity=order.filled_quantity - less - guessed,
        notional=order.notional + fill.quantity * fill.price - paid,
        filled_at=at,
        inferred=tuple(inferred),
        taken_back=max(order.taken_back + less, ZERO),
        lowered_by=lowered_by,
    )


def _guesses_left(order: BookOrder, fill: BookedFill) -> tuple[list[Inferred], list[Inferred]]:
    """The inferred units of an order that remain, and those that a fill replaces."""
    replaced = dict(fill.replaces)
    left, gone = [], []
    for guess in order.inferred:
        part = replaced.get(guess.fill_id, ZERO)
        if part:
            gone.append(replace(guess, quantity=part))
        if guess.quantity > part:
            left.append(replace(guess, quantity=guess.quantity - part))
    return left, gone


def after_recount(order: BookOrder, filled: Decimal, notional: Decimal, at: datetime) -> BookOrder:
    """The order with a filled quantity other than assumed. Its end was part of the same assumption."""
    status = order.status
    if status in _BY_FILLS and filled < order.quantity:
        status = OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.OPEN
    elif not status.terminal and filled >= order.quantity:
        status = OrderStatus.FILLED
    ended_at = (order.ended_at or at) if status.terminal else None
    return replace(order, filled_quantity=filled, notional=notional, status=status, ended_at=ended_at, filled_at=at)


_BY_FILLS = frozenset({OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED})
