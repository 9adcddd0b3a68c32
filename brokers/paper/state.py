"""The state of a paper account's venue: orders, fills, holdings, prices. Values alone, and their invariants.

:mod:`brokers.paper.venue` changes them, :mod:`brokers.paper.store` keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from brokers.clocks import broker_time
from brokers.frozen import dataclass
from brokers.kit.exact_number import is_sane
from brokers.kit.foreign_row import OUR_TIME
from brokers.model import NET, Fill, Order, OrderStatus, Side
from brokers.paper.prices import ZERO, Quote


class Kind(StrEnum):
    """How an order meets the price."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"


KINDS = {
    **{kind.value: kind for kind in Kind},
    # Interactive Brokers, TWS API documentation: order types. Kite Connect documentation: order types.
    "MKT": Kind.MARKET, "LMT": Kind.LIMIT, "STP": Kind.STOP, "SL-M": Kind.STOP,
}  # fmt: skip
"""The kind of each order type, as strategies for several brokers write it."""


def kind_of(order_type: str) -> Kind | None:
    """The kind of an order type; ``None`` for one that is not traded."""
    return KINDS.get(order_type.upper())


@dataclass(frozen=True, slots=True)
class VenueOrder:
    """An order as the venue has it. ``price`` is its limit or its stop; ``triggered`` marks a stop that has become a
    market order. ``notional`` is price times quantity over what is filled. ``order_type`` is as submitted."""

    number: int
    instrument: str
    client_order_id: str
    side: Side
    quantity: Decimal
    order_type: str
    price: Decimal | None
    expires_at: datetime | None
    submitted_at: datetime
    status: OrderStatus = OrderStatus.OPEN
    filled: Decimal = ZERO
    notional: Decimal = ZERO
    triggered: bool = False
    reason: str | None = None
    ended_at: datetime | None = None

    @property
    def order_id(self) -> str:
        """Its broker_order_id."""
        return f"P{self.number}"

    @property
    def left(self) -> Decimal:
        """The quantity not filled yet."""
        return self.quantity - self.filled

    @property
    def at_market(self) -> bool:
        """Whether it takes any price."""
        return self.triggered or kind_of(self.order_type) is Kind.MARKET

    @property
    def is_stop(self) -> bool:
        """Whether it is a stop whose price was not reached yet."""
        return not self.triggered and kind_of(self.order_type) is Kind.STOP

    def row(self) -> Order:
        """The order as a broker shows it."""
        return Order(
            instrument=self.instrument,
            broker_order_id=self.order_id,
            client_order_id=self.client_order_id,
            side=self.side,
            quantity=self.quantity,
            filled_quantity=self.filled,
            status=self.status,
            order_type=self.order_type,
            limit_price=self.price,
            average_fill_price=self.notional / self.filled if self.filled else None,
            submitted_at=broker_time(self.submitted_at),
            leg=NET,
            reason=self.reason,
        )


@dataclass(frozen=True, slots=True)
class VenueFill:
    """An execution."""

    number: int
    order: int
    instrument: str
    client_order_id: str
    side: Side
    quantity: Decimal
    price: Decimal
    time: datetime

    def row(self) -> Fill:
        """The fill as a broker shows it."""
        return Fill(
            instrument=self.instrument,
            fill_id=f"F{self.number}",
            broker_order_id=f"P{self.order}",
            side=self.side,
            quantity=self.quantity,
            price=self.price,
            time=broker_time(self.time),
            leg=NET,
            client_order_id=self.client_order_id,
        )


@dataclass(frozen=True, slots=True)
class Holding:
    """The net position in one instrument; closing a part leaves its average price."""

    quantity: Decimal
    average_price: Decimal

    def after(self, signed: Decimal, price: Decimal) -> Holding:
        """The holding after a signed quantity more, at that price."""
        total = self.quantity + signed
        if not self.quantity or (self.quantity > 0) == (signed > 0):
            cost = self.quantity * self.average_price + signed * price
            return Holding(total, cost / total)
        turned = total != 0 and (total > 0) != (self.quantity > 0)
        return Holding(total, price if turned else self.average_price)


@dataclass(frozen=True, slots=True)
class State:
    """Everything that a venue knows, as it is kept. ``clock`` is the time of the last event."""

    account: str
    clock: datetime
    last_order: int = 0
    last_fill: int = 0
    working: tuple[VenueOrder, ...] = ()
    ended: tuple[VenueOrder, ...] = ()
    fills: tuple[VenueFill, ...] = ()
    holdings: tuple[tuple[str, Holding], ...] = ()
    quotes: tuple[tuple[str, Quote], ...] = ()
    format: int = 1

    def problem(self) -> str | None:
        """What is impossible in this state; ``None`` for a state that a venue may have been in."""
        for order in (*self.working, *self.ended):
            if not 0 <= order.filled <= order.quantity and order.status is not OrderStatus.REJECTED:
                return f"order {order.order_id} is filled {order.filled} of {order.quantity}"
            if not 0 < order.number <= self.last_order:
                return f"order {order.order_id} is beyond the last one, {self.last_order}"
        if any(order.status.terminal for order in self.working) or not all(o.status.terminal for o in self.ended):
            return "an order is not where its status belongs"
        numbers = [fill.number for fill in self.fills]
        if numbers != list(range(self.last_fill - len(numbers) + 1, self.last_fill + 1)):
            return f"its fills are not those up to the last one, {self.last_fill}"
        for name, value in self._values():
            if isinstance(value, Decimal) and value and not is_sane(value):
                return f"its {name} {value} cannot be calculated with"
            if isinstance(value, datetime) and (value.tzinfo is None or value.year not in OUR_TIME):
                return f"its {name} {value} is no time at which anybody trades"
        return None

    def _values(self) -> Iterator[tuple[str, object]]:
        yield "clock", self.clock
        holdings, quotes = (one for _, one in self.holdings), (one for _, one in self.quotes)
        rows: tuple[VenueOrder | VenueFill | Holding | Quote, ...]
        rows = (*self.working, *self.ended, *self.fills, *holdings, *quotes)
        for row in rows:
            for field in fields(row):
                yield field.name, getattr(row, field.name)
