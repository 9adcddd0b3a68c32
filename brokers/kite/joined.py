"""One share on two exchanges is one instrument: the day's rows of the other exchange under the configured name. Pure.

Zerodha support, "Interoperability of exchanges": what was bought on one exchange may be sold on the other, and an exit
order goes to NSE by itself, wherever the shares were bought. So the row of a purchase alone shows a position that has
been sold. Who configures both names keeps them apart.

The trades of two exchanges are numbered apart from each other: a trade of the other exchange bears that in its id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from brokers.kite.decode import Listing, OrderRow, PositionRow
from brokers.kite.portfolio import Names
from brokers.model import Fill, Order, Position, RowProblem

_ZERO = Decimal(0)


def positions(net: Listing[PositionRow], names: Names) -> Listing[PositionRow]:
    """``net`` with one row for each leg of a share."""
    by_leg: dict[str, list[PositionRow]] = {}
    for row in net.rows.values():
        name = names.shared(row.instrument)
        by_leg.setdefault(f"{name}/{row.leg}", []).append(_position(row, name))
    rows = {key: rows[0] if len(rows) == 1 else _sum(rows) for key, rows in by_leg.items()}
    return Listing(rows, _problems(net.problems, names))


def orders(listed: Listing[OrderRow], names: Names) -> Listing[OrderRow]:
    """The day's orders."""
    rows = {key: replace(row, order=order(row.order, names)) for key, row in listed.rows.items()}
    return Listing(rows, _problems(listed.problems, names))


def trades(listed: Listing[Fill], names: Names) -> Listing[Fill]:
    """The day's trades."""
    return Listing({key: _trade(fill, names) for key, fill in listed.rows.items()}, _problems(listed.problems, names))


def order(one: Order, names: Names) -> Order:
    """An order under the name of its share."""
    name = names.shared(one.instrument)
    return one if name == one.instrument else replace(one, instrument=name)


def _trade(fill: Fill, names: Names) -> Fill:
    name = names.shared(fill.instrument)
    if name == fill.instrument:
        return fill
    exchange = fill.instrument.partition(":")[0]
    return replace(fill, instrument=name, fill_id=f"{fill.fill_id}@{exchange}")


def _position(row: PositionRow, name: str) -> PositionRow:
    if name == row.instrument:
        return row
    held = None if row.position is None else replace(row.position, instrument=name)
    return replace(row, instrument=name, position=held)


def _problems(problems: tuple[RowProblem, ...], names: Names) -> tuple[RowProblem, ...]:
    return tuple(
        one if one.instrument is None else replace(one, instrument=names.shared(one.instrument)) for one in problems
    )


def _sum(rows: list[PositionRow]) -> PositionRow:
    """Several rows of one leg. What was bought on one exchange and sold on the other is not held any more."""
    first = rows[0]
    held = [row.position for row in rows if row.position is not None]
    quantity = sum((one.quantity for one in held), _ZERO)
    same = [one for one in held if one.quantity * quantity > 0]
    position = None
    if quantity:
        told = all(one.price_told for one in same)
        price = sum((one.quantity * one.average_price for one in same), _ZERO) / sum(one.quantity for one in same)
        position = Position(first.instrument, first.leg, quantity, price if told else _ZERO, price_told=told)
    bought, sold = _added(row.bought for row in rows), _added(row.sold for row in rows)
    return replace(first, position=position, bought=bought, sold=sold, overnight=_added(row.overnight for row in rows))


def _added(quantities: Iterable[Decimal | None]) -> Decimal | None:
    known = [one for one in quantities if one is not None]
    return sum(known, _ZERO) if known else None
