"""The effect of one fill on a book, whether the broker reports the fill or an order shows that there was one. Pure.

A fill changes the leg that it names, else its order's leg, else the legs in FIFO order. It may replace fills that were
inferred before it.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from actors.book import payloads
from actors.book.book import Book
from actors.book.discrepancies import Cause
from actors.book.lots import ZERO
from actors.book.orders import BookOrder
from actors.events import event_id, to_text
from actors.reconciliation.reconciliation_pass import ReconciliationPass
from brokers.model import (
    LONG,
    NET,
    SHORT,
    Complete,
    ContractFacts,
    Conventions,
    Fill,
    LegScheme,
    Order,
    Side,
    rows_of,
)


def _was_adopted(order: BookOrder, fill: Fill) -> bool:
    return order.adopted_at is None or fill.time <= order.adopted_at


def book_fill(
    book: Book,
    fill: Fill,
    order: BookOrder | None,
    conventions: Conventions,
    cap: Decimal | None = None,
    cause: Cause | None = None,
    strategy: str | None = None,
    contract: ContractFacts | None = None,
    filled: Decimal | None = None,
    contained: frozenset[str] = frozenset(),
) -> payloads.BookedFill:
    """The effect of a fill on a book: the parts of inferred fills it replaces, and the quantity it adds to each leg.

    ``cap`` is the most that can be filled of its order: anything above it was counted before, under another id.
    ``filled`` is the order's filled quantity as the broker reports it, this fill included: anything above it is among
    the adopted units. ``contained`` are the legs that already contain the fill.
    """
    adopted = ZERO
    if order is not None and order.adopted:
        adopted = fill.quantity if _was_adopted(order, fill) else ZERO
        if filled is not None:
            adopted = max(adopted, order.filled_quantity + fill.quantity - filled)
        adopted = min(adopted, fill.quantity, order.adopted)
    replaces: list[tuple[str, Decimal]] = []
    fresh = fill.quantity - adopted
    for guess in order.inferred if order is not None else ():
        part = min(fresh, guess.quantity)
        if part:
            replaces.append((guess.fill_id, part))
            fresh -= part
    counted = order is None or cap is None or order.filled_quantity + fresh <= cap or bool(replaces)
    legs = allocate(book, fill, adopted + fresh, order, conventions) if counted else ()
    if contained and all(leg in contained for leg, _ in legs):
        legs = ()
    return payloads.BookedFill(
        fill_id=fill.fill_id,
        order_key=order.key if order is not None else None,
        side=fill.side,
        quantity=fill.quantity,
        price=fill.price,
        time=fill.time,
        legs=legs,
        cost_basis=conventions.cost_basis,
        replaces=tuple(replaces),
        adopted=adopted,
        counted=counted,
        broker_order_id=fill.broker_order_id,
        cause=cause,
        strategy=strategy if strategy is not None or order is None else order.strategy,
        commission=fill.commission,
        commission_currency=fill.commission_currency,
        corrects=None if fill.corrects is None else replace(fill.corrects, quantity=ZERO),
        cost=cost_of(fill, conventions, contract),
        id_scope=fill.id_scope,
    )


def with_closed(book: Book, booked: payloads.BookedFill) -> payloads.BookedFill:
    """An assumed fill with the lots that it takes out of the legs: they are given back if the broker restates it."""
    legs = [(book.legs[name], quantity) for name, quantity in booked.legs if name in book.legs]
    closed = [leg.would_close(quantity) for leg, quantity in legs]
    return replace(booked, closed=tuple(one for one in closed if one is not None))


def cost_of(fill: Fill, conventions: Conventions, contract: ContractFacts | None) -> Decimal | None:
    """What a fill's commission adds to the broker's average price, per unit and in terms of the price; ``None`` if that
    average contains no commission, or if the inputs are not known."""
    if not conventions.commission_in_average or fill.commission is None or contract is None or not fill.quantity:
        return None
    if fill.commission_currency not in (None, contract.currency):
        return None
    return fill.commission / fill.quantity / contract.multiplier


def allocate(
    book: Book, fill: Fill, quantity: Decimal, order: BookOrder | None, conventions: Conventions
) -> tuple[tuple[str, Decimal], ...]:
    """The signed quantities by which ``quantity`` units of a fill change each leg.

    A fill joins the leg its ``leg`` names, else the one its order or position id names, else it closes legs of the
    other side in FIFO order and opens the account's usual leg with the rest. It changes no leg if the book was
    corrected to a position that contains it.
    """
    if not quantity or fill.combination == book.instrument:
        return ()
    named = named_leg(book, fill, order, conventions)
    signed = quantity * fill.side.sign
    if named is not None and fill.closing:
        return () if book.covered(named, fill.time) else _out_of(book, named, signed)
    if named is not None:
        return () if book.covered(named, fill.time) else _into(book, named, signed, conventions)
    if book.covered(None, fill.time):
        return ()
    return _first_in_first_out(book, fill, signed, conventions)


def _out_of(book: Book, leg: str, signed: Decimal) -> tuple[tuple[str, Decimal], ...]:
    """Close a leg at most, and never open one."""
    held = book.legs.get(leg)
    if held is None or (held.quantity > 0) == (signed > 0):
        return ()
    return ((leg, min(abs(signed), abs(held.quantity)) * (1 if signed > 0 else -1)),)


def named_leg(book: Book, fill: Fill, order: BookOrder | None, conventions: Conventions) -> str | None:
    """The leg that a fill or its order names; ``None`` if neither does."""
    named = fill.leg or (order.leg if order is not None else None)
    if named is None and (conventions.legs is LegScheme.TICKET or fill.position_id in book.legs):
        named = fill.position_id
    one_leg = conventions.legs is LegScheme.NET and not conventions.products
    return NET if named is None and one_leg else named


def _into(book: Book, leg: str, signed: Decimal, conventions: Conventions) -> tuple[tuple[str, Decimal], ...]:
    """Change a leg; one that has only one side is closed at most, because any excess was never in our book."""
    held = book.legs.get(leg)
    one_sided = conventions.legs in (LegScheme.SIDED, LegScheme.TICKET)
    if one_sided and leg in (LONG, SHORT):
        closing = (leg == LONG) == (signed < 0)
        if closing:
            most = abs(held.quantity) if held is not None else ZERO
            signed = min(abs(signed), most) * (1 if signed > 0 else -1)
    elif one_sided and held is not None and (held.quantity > 0) != (signed > 0):
        signed = min(abs(signed), abs(held.quantity)) * (1 if signed > 0 else -1)
    return ((leg, signed),) if signed else ()


def _first_in_first_out(
    book: Book, fill: Fill, signed: Decimal, conventions: Conventions
) -> tuple[tuple[str, Decimal], ...]:
    parts: list[tuple[str, Decimal]] = []
    for leg in sorted(book.legs.values(), key=lambda leg: (leg.opened_at, leg.name)):
        if signed and (leg.quantity > 0) != (signed > 0):
            part = min(abs(signed), abs(leg.quantity)) * (1 if signed > 0 else -1)
            parts.append((leg.name, part))
            signed -= part
    if signed:
        parts.append((_usual_leg(fill, conventions), signed))
    return tuple(parts)


def _usual_leg(fill: Fill, conventions: Conventions) -> str:
    if conventions.products:
        return NET  # neither the fill nor its order names a product, and it does not wait: before the first look
    if conventions.legs is LegScheme.SIDED:
        return LONG if fill.side is Side.BUY else SHORT
    return fill.position_id or fill.broker_order_id or fill.fill_id


def infer_fill(work: ReconciliationPass, order: BookOrder, row: Order) -> payloads.BookedFill | None:
    """The fill that must have happened for an order to be filled as far as the broker reports, at the incremental
    price; ``None`` if no price is known at all.

    It changes legs only if that brings them closer to the broker's positions: a correction may already contain it.
    """
    quantity = row.filled_quantity - order.filled_quantity
    price = _incremental_price(work, order, row, quantity)
    if price is None:
        return None
    contract = work.slice.contract
    fill = Fill(
        instrument=work.book.instrument,
        fill_id="inferred",
        broker_order_id=row.broker_order_id,
        side=order.side,
        quantity=quantity,
        price=price,
        time=work.slice.as_of,
        leg=row.leg,
        combination=work.book.instrument if contract is not None and not contract.held else None,
    )
    legs = allocate(work.book, fill, quantity, order, work.slice.conventions)
    legs = legs if _brings_nearer(work, legs) else ()
    named = payloads.with_ids(order, row.broker_order_id, None)
    return inferred_fill(work, named, quantity, price, row.filled_quantity, legs)


def inferred_fill(
    work: ReconciliationPass,
    order: BookOrder,
    quantity: Decimal,
    price: Decimal,
    filled: Decimal,
    legs: tuple[tuple[str, Decimal], ...],
) -> payloads.BookedFill:
    """A fill that nobody reported, of an order whose filled quantity is then ``filled``, under an id used only once."""
    return payloads.BookedFill(
        fill_id="inferred:" + event_id(work.book.stream, order.key, str(to_text(filled)), work.place),
        order_key=order.key,
        side=order.side,
        quantity=quantity,
        price=price,
        time=work.slice.as_of,
        legs=legs,
        cost_basis=work.slice.conventions.cost_basis,
        inferred=True,
        broker_order_id=order.broker_order_id,
        cause=Cause.MISSED_FILL,
        strategy=order.strategy,
    )


def _incremental_price(work: ReconciliationPass, order: BookOrder, row: Order, quantity: Decimal) -> Decimal | None:
    average = row.average_fill_price
    if average is not None:
        price = (average * row.filled_quantity - order.notional) / quantity
        if price > 0 or average <= 0 or order.notional < 0:
            return price  # zero or less only if the order is known to have traded there
    held = [position.average_price for position in rows_of(work.slice.positions)]
    return row.limit_price or order.limit_price or average or (held[0] if held else None)


def _brings_nearer(work: ReconciliationPass, legs: tuple[tuple[str, Decimal], ...]) -> bool:
    section = work.slice.positions
    if not work.policy.positions or not isinstance(section, Complete):
        return True
    broker = {position.leg: position.quantity for position in rows_of(section)}
    before = after = ZERO
    for name, change in legs:
        held = work.book.legs.get(name)
        ours = held.quantity if held is not None else ZERO
        before += abs(ours - broker.get(name, ZERO))
        after += abs(ours + change - broker.get(name, ZERO))
    return after < before
