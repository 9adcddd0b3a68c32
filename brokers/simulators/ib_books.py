"""The books of a simulated account at Interactive Brokers: contracts, positions, orders, executions.

One net position a contract, its average cost including the multiplier and the commissions; an increase averages, a
reduction keeps the average, a reversal begins anew. Orders are kept by permId. Executions and completed orders are
those of the day.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any

from brokers.model import Side
from brokers.simulators.ib_wire import SimContract, contract_named

COMMISSION = Decimal("1.00")
"""What each execution costs."""
_FIRST_PERM_ID = 700_000_001
_ENDINGS = {
    "CANCELLED": ("Cancelled", "Cancelled by Trader"),
    "EXPIRED": ("Cancelled", "Expired"),
    "REJECTED": ("Cancelled", "Rejected by System"),
}
"""Status and completedStatus."""


@dataclass(slots=True)
class SimOrder:
    """An order by anybody; ``order_id`` is 0 for one placed by hand. One of a ``group`` is an adviser's for several
    accounts; the rows of one ``by_cash`` carry no quantity. One sent to ``FXCONV`` changes cash and no position."""

    perm_id: int
    order_id: int
    client_id: int
    name: str
    side: str
    type: str
    quantity: Decimal
    limit: Decimal | None
    ref: str
    status: str = "Submitted"
    filled: Decimal = Decimal(0)
    notional: Decimal = Decimal(0)
    ended_s: int = 0
    completed_status: str = ""
    group: str = ""
    parent_order_id: int = 0
    by_cash: bool = False
    parent_perm_id: int = 0
    tif: str = "DAY"
    good_till: str = ""
    oca_group: str = ""
    outside_hours: bool = False
    exchange: str = "SMART"

    @property
    def average(self) -> Decimal:
        """The average price of what is filled, 0 while nothing is."""
        return self.notional / self.filled if self.filled else Decimal(0)


@dataclass(slots=True)
class SimExecution:
    """One revision of one execution; one that is not ``charged`` has no commission yet."""

    exec_id: str
    perm_id: int
    name: str
    side: str
    quantity: Decimal
    price: Decimal
    time_s: int
    cumulative: Decimal
    average: Decimal
    charged: bool = True
    liquidation: bool = False
    currency: str = "USD"


@dataclass(slots=True)
class SimHolding:
    """A position; ``price`` is the average without the multiplier."""

    quantity: Decimal
    price: Decimal


class IbBooks:
    """All of the account's books, by the name of a contract in the script."""

    def __init__(self) -> None:
        self.contracts: dict[str, SimContract] = {}
        self.holdings: dict[str, SimHolding] = {}
        self.orders: dict[int, SimOrder] = {}
        self.executions: list[SimExecution] = []
        self.next_perm_id = _FIRST_PERM_ID
        self.next_order_id = 1

    def contract(self, name: str) -> SimContract:
        """The contract of a name; where none was set, the one that the name looks like."""
        if name not in self.contracts:
            self.contracts[name] = contract_named(name)
        return self.contracts[name]

    def add_order(
        self, name: str, side: Side, quantity: Decimal, limit: Decimal | None, ref: str | None, client_id: int | None
    ) -> SimOrder:
        """Add an order, placed by hand where no client is passed."""
        if quantity <= 0:
            raise ValueError(f"an order for {quantity}")
        order_id = 0
        if client_id is not None:
            order_id, self.next_order_id = self.next_order_id, self.next_order_id + 1
        kind = "MKT" if limit is None else "LMT"
        order = SimOrder(
            self.next_perm_id, order_id, client_id or 0, name, side.value, kind, quantity, limit, ref or ""
        )
        self.next_perm_id += 1
        self.contract(name)
        self.orders[order.perm_id] = order
        return order

    def resting(self, order_id: str) -> SimOrder:
        """An order that works, by its permId."""
        order = self.orders.get(int(order_id))
        if order is None or order.ended_s:
            raise KeyError(f"no order {order_id} rests here")
        return order

    def fill(self, order: SimOrder, quantity: Decimal, price: Decimal, now_s: int) -> SimExecution:
        """Execute a part of an order, or the rest."""
        if not 0 < quantity <= order.quantity - order.filled:
            raise ValueError(f"cannot fill {quantity} of order {order.perm_id}, filled {order.filled}")
        order.filled += quantity
        order.notional += quantity * price
        if order.filled == order.quantity:
            order.status, order.ended_s = "Filled", now_s
            order.completed_status = f"Filled Size: {order.quantity:f}"
        if self.contract(order.name).sec_type != "BAG" and order.exchange != "FXCONV":
            self._join(order.name, Side(order.side).sign * quantity, price)
        number = sum(1 for one in self.executions if one.perm_id == order.perm_id) + 1
        one = SimExecution(
            f"0000e0d5.{order.perm_id:08x}.{number:02d}.01",
            order.perm_id,
            order.name,
            order.side,
            quantity,
            price,
            now_s,
            order.filled,
            order.average,
            currency=self.contract(order.name).currency,
        )
        self.executions.append(one)
        return one

    def fill_legs(self, bag: SimExecution, price: Callable[[str], Decimal]) -> list[SimExecution]:
        """The executions of a combination's legs, beside its own: they have its order, and move positions."""
        legs: list[SimExecution] = []
        names = {contract.con_id: name for name, contract in self.contracts.items()}
        for con_id, ratio in self.contract(bag.name).combination:
            name = names[con_id]
            signed = Side(bag.side).sign * ratio * bag.quantity
            side = Side.BUY if signed > 0 else Side.SELL
            root, _, _ = bag.exec_id.rpartition(".")
            exec_id = f"{root}{len(legs) + 1:02d}.01"
            at = price(name)
            self._join(name, signed, at)
            one = replace(bag, exec_id=exec_id, name=name, side=side.value, quantity=abs(signed), price=at)
            legs.append(one)
        self.executions += legs
        return legs

    def correct(self, exec_id: str, quantity: Decimal, price: Decimal) -> SimExecution:
        """Correct an execution: another row whose id differs in the digits after its last dot."""
        root = exec_id.rpartition(".")[0]
        earlier = [one for one in self.executions if one.exec_id.rpartition(".")[0] == root]
        old, order = earlier[-1], self.orders[earlier[-1].perm_id]
        order.filled += quantity - old.quantity
        order.notional += quantity * price - old.quantity * old.price
        sign = Side(old.side).sign
        held = self.holdings.get(old.name) or SimHolding(Decimal(0), Decimal(0))
        total = held.quantity + sign * (quantity - old.quantity)
        cost = held.quantity * held.price + sign * (quantity * price - old.quantity * old.price)
        self.hold(old.name, total, cost / total if total else Decimal(0))
        exec_id, filled = f"{root}.{len(earlier) + 1:02d}", order.filled
        one = replace(
            old, exec_id=exec_id, quantity=quantity, price=price, cumulative=filled, average=order.average, charged=True
        )
        self.executions.append(one)
        return one

    def end(self, order: SimOrder, how: str, now_s: int) -> None:
        """End a working order."""
        order.status, order.completed_status = _ENDINGS[how]
        order.ended_s = now_s

    def hold(self, name: str, quantity: Decimal, price: Decimal) -> None:
        """Hold exactly this."""
        self.contract(name)
        if quantity:
            self.holdings[name] = SimHolding(quantity, price)
        else:
            self.holdings.pop(name, None)

    def end_day(self) -> None:
        """Midnight: executions and completed orders are no longer listed."""
        self.executions.clear()
        self.orders = {perm_id: order for perm_id, order in self.orders.items() if not order.ended_s}

    def _join(self, name: str, signed: Decimal, price: Decimal) -> None:
        held = self.holdings.get(name) or SimHolding(Decimal(0), price)
        total = held.quantity + signed
        opened = total if held.quantity and (held.quantity > 0) != (signed > 0) else signed
        if opened and (opened > 0) == (signed > 0):
            fee = COMMISSION / self.contract(name).factor / abs(signed)
            price += fee if signed > 0 else -fee
        if not held.quantity or (held.quantity > 0) == (signed > 0):
            price = (held.quantity * held.price + signed * price) / total
        elif not total or (total > 0) != (signed > 0):
            price = held.price
        self.hold(name, total, price)

    def dump(self) -> dict[str, Any]:
        """Its state in a form that JSON can hold."""
        state = {
            "contracts": {name: asdict(contract) for name, contract in self.contracts.items()},
            "holdings": {name: asdict(held) for name, held in self.holdings.items()},
            "orders": [asdict(order) for order in self.orders.values()],
            "executions": [asdict(one) for one in self.executions],
            "next_perm_id": self.next_perm_id,
            "next_order_id": self.next_order_id,
        }
        copied: dict[str, Any] = json.loads(json.dumps(state, default=str))
        return copied

    @classmethod
    def load(cls, state: dict[str, Any]) -> IbBooks:
        """Read a state from :meth:`dump`; a broken one raises whatever Python raises for it."""
        books = cls()
        books.contracts = {name: SimContract(**row) for name, row in state["contracts"].items()}
        books.holdings = {name: SimHolding(**_decimals(row)) for name, row in state["holdings"].items()}
        orders = [SimOrder(**_decimals(row)) for row in state["orders"]]
        books.orders = {order.perm_id: order for order in orders}
        books.executions = [SimExecution(**_decimals(row)) for row in state["executions"]]
        books.next_perm_id, books.next_order_id = int(state["next_perm_id"]), int(state["next_order_id"])
        return books


_NUMBERS = frozenset({"quantity", "price", "limit", "filled", "notional", "cumulative", "average"})


def _decimals(row: dict[str, Any]) -> dict[str, Any]:
    return {key: Decimal(value) if key in _NUMBERS and value is not None else value for key, value in row.items()}
