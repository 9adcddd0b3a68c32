"""The handle's answers about one instrument's book: legs, lots, orders, open breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from actors.book.discrepancies import Break, Discrepancy
from actors.book.orders import BookOrder
from actors.book.view import BookState, LegState
from actors.events import Json, to_iso
from brokers.clocks import shown
from brokers.model import OrderStatus, Side, id_in_scope
from supervisor.client.answers import DISCREPANCY, discrepancy_row
from supervisor.presentation.tables import Answer, Cell, Table, columns, json_value

ZERO = Decimal(0)

_LEG = columns("leg", ">quantity", ">average_price", "opened_at", ">lots")


def _leg_row(leg: LegState) -> dict[str, Cell]:
    return {
        "leg": leg.leg,
        "quantity": leg.quantity,
        "average_price": leg.average_price,
        "opened_at": shown(leg.opened_at),
        "lots": len(leg.lots),
    }


def _leg_json(leg: LegState) -> dict[str, Json]:
    lots: list[dict[str, object]] = [
        {
            "quantity": lot.quantity,
            "price": lot.price,
            "fill_id": lot.fill_id and id_in_scope(lot.fill_id),
            "opened_at": lot.opened_at,
        }
        for lot in leg.lots
    ]
    row = {"leg": leg.leg, "quantity": leg.quantity, "average_price": leg.average_price, "opened_at": leg.opened_at}
    return {str(key): json_value(value) for key, value in {**row, "lots": lots}.items()}


class Positions(Answer, Mapping[str, LegState]):
    """The positions by leg: by ticket where the account is hedging (MT5). One row a leg."""

    def __init__(self, state: BookState) -> None:
        self._state = state
        self._legs = {leg.leg: leg for leg in state.legs}

    def __getitem__(self, leg: str | int) -> LegState:
        return self._legs[str(leg)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._legs)

    def __len__(self) -> int:
        return len(self._legs)

    def to_dict(self) -> dict[str, Any]:
        """Each leg under its name."""
        return {name: _leg_json(leg) for name, leg in self._legs.items()}

    def table(self) -> Table:
        """One row a leg."""
        title = f"{self._state.account}/{self._state.instrument}: {_verified(self._state)}"
        return Table(title, _LEG, [_leg_row(leg) for leg in self._state.legs])


def _verified(state: BookState) -> str:
    if state.verified_at is None:
        return "not verified since its actor started"
    return f"verified {(state.as_of - state.verified_at).total_seconds():.1f} s ago"


class Order(Answer):
    """One order of the book."""

    def __init__(self, order: BookOrder) -> None:
        self.order = order

    @property
    def status(self) -> OrderStatus:
        """The order's status."""
        return self.order.status

    @property
    def side(self) -> Side:
        """Its direction."""
        return self.order.side

    @property
    def quantity(self) -> Decimal:
        """The ordered quantity."""
        return self.order.quantity

    @property
    def filled_quantity(self) -> Decimal:
        """The filled quantity."""
        return self.order.filled_quantity

    def to_dict(self) -> dict[str, Any]:
        """The order in JSON's types."""
        return {key: json_value(value) for key, value in _order_row(self.order).items()}

    def table(self) -> Table:
        """One row."""
        name = self.order.broker_order_id or self.order.client_order_id or self.order.key
        return Table(f"order {name}: {self.status}", _ORDER, [_order_row(self.order)])


_ORDER = columns(
    "broker_order_id", "client_order_id", "side", ">quantity", ">filled_quantity", ">average_fill_price", "order_type",
    ">limit_price", "status", "leg", "submitted_at", "strategy", "reason",
)  # fmt: skip


def _order_row(order: BookOrder) -> dict[str, Cell]:
    filled = order.filled_quantity
    return {
        "broker_order_id": order.broker_order_id,
        "client_order_id": order.client_order_id,
        "side": order.side.value,
        "quantity": order.quantity,
        "filled_quantity": filled,
        "average_fill_price": order.notional / filled if filled else None,
        "order_type": order.order_type,
        "limit_price": order.limit_price,
        "status": order.status.value,
        "leg": order.leg,
        "submitted_at": order.submitted_at,
        "strategy": order.strategy,
        "reason": order.reason,
    }


class Book(Answer):
    """The present book of one instrument: legs, open orders, open breaks, and when it was verified. One row a leg."""

    def __init__(self, state: BookState) -> None:
        self.state = state

    @property
    def quantity(self) -> Decimal:
        """The net of all legs, negative for short."""
        return sum((leg.quantity for leg in self.state.legs), ZERO)

    @property
    def legs(self) -> dict[str, LegState]:
        """The non-zero legs by name."""
        return {leg.leg: leg for leg in self.state.legs}

    @property
    def open_orders(self) -> tuple[BookOrder, ...]:
        """The orders that may still be filled."""
        return self.state.open_orders

    @property
    def breaks(self) -> tuple[Break, ...]:
        """The open breaks."""
        return self.state.breaks

    @property
    def verified_at(self) -> datetime | None:
        """When book and broker were last found in step; ``None`` if not since the actor started."""
        return self.state.verified_at

    def to_dict(self) -> dict[str, Any]:
        """The book in JSON's types; legs with their lots."""
        state = self.state
        return {
            "account": state.account,
            "instrument": state.instrument,
            "version": state.version,
            "as_of": to_iso(state.as_of),
            "verified_at": json_value(state.verified_at),
            "error": state.error,
            "legs": [_leg_json(leg) for leg in state.legs],
            "open_orders": [Order(order).to_dict() for order in state.open_orders],
            "breaks": [Discrepancy(found, resolved=False, correction=None).to_json() for found in state.breaks],
        }

    def table(self) -> Table:
        """One row a leg."""
        state = self.state
        error = (state.error,) if state.error else ()
        title = f"{state.account}/{state.instrument}: {_verified(state)}, version {state.version}"
        rows = [_leg_row(leg) for leg in state.legs]
        # A book that was never verified is not shown as flat.
        nothing = ("no position in the book",) if not rows else ()
        return Table(title, _LEG, rows, (*nothing, *error))

    def tables(self) -> tuple[Table, ...]:
        """Legs, open orders, open breaks."""
        state, found = self.state, [self.table()]
        if state.open_orders:
            found.append(Table("open orders", _ORDER, [_order_row(order) for order in state.open_orders]))
        if state.breaks:
            breaks = [Discrepancy(one, resolved=False, correction=None) for one in state.breaks]
            rows = [discrepancy_row(state.account, state.instrument, one) for one in breaks]
            found.append(Table("open breaks", DISCREPANCY, rows))
        return tuple(found)
