"""The books of a simulated Kite account: positions by product, holdings, and the day's orders and trades. No IO.

It follows the Kite Connect documentation: a row of ``net`` is the quantity carried overnight plus what was bought less
what was sold today, and stays when it is flat; orders and trades are those of today; times are naive IST.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from brokers.model import Side

ZERO = Decimal(0)
IST = timezone(timedelta(hours=5, minutes=30), "IST")
RESTING = frozenset({"OPEN", "TRIGGER PENDING", "OPEN PENDING", "AMO REQ RECEIVED", "UPDATE", "MODIFIED"})
_EQUITY = frozenset({"NSE", "BSE"})
_STEP = Decimal("0.05")


@dataclass(slots=True)
class Leg:
    """One product of one instrument. ``price`` is the average of what is held."""

    instrument: str
    product: str
    overnight: Decimal = ZERO
    bought: Decimal = ZERO
    sold: Decimal = ZERO
    price: Decimal = ZERO
    multiplier: int = 1

    @property
    def quantity(self) -> Decimal:
        """What is held, signed."""
        return self.overnight + self.bought - self.sold


@dataclass(slots=True)
class Order:
    """One order; ``states`` are the statuses it went through, with their filled quantity and time."""

    id: str
    instrument: str
    product: str
    side: str
    quantity: Decimal
    price: Decimal | None
    tag: str | None
    placed_at: str
    updated_at: str
    opened_at: str | None = None
    kind: str = "LIMIT"
    status: str = "OPEN"
    filled: Decimal = ZERO
    notional: Decimal = ZERO
    message: str | None = None
    validity: str = "DAY"
    validity_ttl: int = 0
    variety: str = "regular"
    parent: str | None = None
    placed_by: str = "AB1234"
    tags: list[str] = field(default_factory=list)
    iceberg: dict[str, int] = field(default_factory=dict)
    states: list[list[str]] = field(default_factory=list)


@dataclass(slots=True)
class Trade:
    """One execution."""

    id: str
    order_id: str
    instrument: str
    product: str
    side: str
    quantity: Decimal
    price: Decimal
    at: str


@dataclass(slots=True)
class Holding:
    """Delivered shares; ``t1`` is bought and not delivered yet, ``used`` was sold of it today, ``pledged`` is
    collateral, ``margin`` is held on margin. ``shown_as`` is the name under which the broker shows it."""

    quantity: Decimal = ZERO
    t1: Decimal = ZERO
    used: Decimal = ZERO
    price: Decimal = ZERO
    pledged: Decimal = ZERO
    margin: Decimal = ZERO
    margin_price: Decimal = ZERO
    isin: str = ""
    shown_as: str = ""


@dataclass(slots=True)
class Contract:
    """A contract's row in the table of instruments: ``expiry`` as written there, ``kind`` FUT, CE or PE. ``name`` is
    its underlying."""

    expiry: str
    kind: str = "FUT"
    strike: Decimal = ZERO
    lot: int = 1
    name: str = ""


class Ledger:
    """The state of one account and everything that can happen to it. ``on_order`` is called for each changed order."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.offset_s = 0.0
        self.count = 0
        self.loading = False
        self.prices: dict[str, Decimal] = {}
        self.legs: dict[str, Leg] = {}
        self.holdings: dict[str, Holding] = {}
        self.orders: dict[str, Order] = {}
        self.trades: list[Trade] = []
        self.triggers: dict[str, dict[str, Any]] = {}
        self.contracts: dict[str, Contract] = {}
        self.on_order: Callable[[Order], None] = lambda _: None

    # -- time and prices -------------------------------------------------------------------------------------------

    def now(self) -> float:
        """The broker's clock, epoch seconds."""
        return time.time() + self.offset_s

    def stamp(self) -> str:
        """The present as Kite writes it."""
        return datetime.fromtimestamp(self.now(), UTC).astimezone(IST).strftime("%Y-%m-%d %H:%M:%S")

    def price(self, instrument: str) -> Decimal:
        """The present price; one never seen is made up from the seed and the name."""
        if instrument not in self.prices:
            digest = hashlib.sha256(f"{self.seed}:{instrument}".encode()).digest()
            self.prices[instrument] = 100 + _STEP * (int.from_bytes(digest[:4]) % 40_000)
        return self.prices[instrument]

    # -- orders and trades -----------------------------------------------------------------------------------------

    def place(
        self,
        instrument: str,
        side: Side,
        quantity: Decimal,
        price: Decimal | None,
        tag: str | None,
        product: str | None = None,
        variety: str = "regular",
    ) -> Order:
        """Place a resting order. Without a price it is a market order, which the caller fills."""
        self.count += 1
        at = self.stamp()
        tag = tag and tag[:20]
        order_id = f"{at[2:10].replace('-', '')}{self.count:09d}"
        kind = "MARKET" if price is None else "LIMIT"
        used = product or usual_product(instrument)
        order = Order(order_id, instrument, used, side.value, quantity, price, tag, at, at, kind=kind, variety=variety)
        order.states.append(["OPEN PENDING", "0", at])
        self.orders[order_id] = order
        self.changed(order)
        return order

    def changed(self, order: Order, status: str | None = None, message: str | None = None) -> None:
        """Set an order's status, and report the order to ``on_order``."""
        order.status = status or order.status
        order.message = message or order.message
        order.states.append([order.status, plain(order.filled), order.updated_at])
        self.on_order(order)

    def fill(self, order: Order, quantity: Decimal, price: Decimal) -> Trade:
        """Fill a part of an order, or all that is left."""
        self.count += 1
        order.updated_at = self.stamp()
        trade = Trade(
            str(10_000_000 + self.count),
            order.id,
            order.instrument,
            order.product,
            order.side,
            quantity,
            price,
            order.updated_at,
        )
        self.trades.append(trade)
        order.filled += quantity
        order.notional += quantity * price
        self._join(self.leg(order.instrument, order.product), quantity * Side(order.side).sign, price)
        self.changed(order, "COMPLETE" if order.filled == order.quantity else "OPEN")
        if order.status == "COMPLETE" and order.iceberg:
            self._next_leg(order)
        return trade

    def sliced(self, order: Order, quantities: list[Decimal], *, iceberg: bool) -> list[Order]:
        """Make an order the first part of a whole of these quantities. The others are placed at once, or, of an
        iceberg, each when the one before it is filled. Returns the parts."""
        order.quantity = quantities[0]
        if iceberg:
            order.variety = "iceberg"
            legs, total = len(quantities), int(sum(quantities))
            rest = total - int(quantities[0])
            leg = int(quantities[0])
            order.iceberg = {
                "leg": 1,
                "legs": legs,
                "leg_quantity": leg,
                "total_quantity": total,
                "remaining_quantity": rest,
            }
            return [order]
        order.tags = ["autoslice"]
        parts = [order]
        for quantity in quantities[1:]:
            part = self.place(order.instrument, Side(order.side), quantity, order.price, order.tag, order.product)
            part.tags = ["autoslice", f"autoslice:{order.id}"]
            parts.append(part)
        return parts

    def _next_leg(self, order: Order) -> None:
        rest = order.iceberg["remaining_quantity"]
        if not rest:
            return
        quantity = min(rest, order.iceberg["leg_quantity"])
        part = self.place(
            order.instrument, Side(order.side), Decimal(quantity), order.price, order.tag, order.product, "iceberg"
        )
        part.parent = order.parent or order.id
        left = {"leg": order.iceberg["leg"] + 1, "remaining_quantity": rest - quantity}
        part.iceberg = order.iceberg | left

    def leg(self, instrument: str, product: str) -> Leg:
        """The leg of that name; made where there was none."""
        return self.legs.setdefault(f"{instrument}/{product}", Leg(instrument, product))

    @staticmethod
    def _join(leg: Leg, signed: Decimal, price: Decimal) -> None:
        held = leg.quantity
        if held * signed >= 0:
            leg.price = (abs(held) * leg.price + abs(signed) * price) / abs(held + signed)
        elif abs(signed) > abs(held):
            leg.price = price
        if signed > 0:
            leg.bought += signed
        else:
            leg.sold -= signed
        if not leg.quantity:
            leg.price = ZERO

    def hold(self, instrument: str, product: str, quantity: Decimal, price: Decimal) -> None:
        """Make a leg exactly this, as if it had been carried overnight."""
        leg = self.leg(instrument, product)
        leg.overnight = quantity - leg.bought + leg.sold
        leg.price = price if quantity else ZERO

    def next_day(self) -> None:
        """The night, and a clock that has passed it."""
        self.offset_s += 86_400
        self.end_day()

    def end_day(self) -> None:
        """The night: orders and trades are dropped, contracts whose last day is over are gone, CNC goes into the
        holdings, the rest is carried over."""
        self.orders.clear()
        self.trades.clear()
        today = self.stamp()[:10]
        for name in [name for name, contract in self.contracts.items() if contract.expiry < today]:
            self.expire(name)
        for holding in self.holdings.values():
            holding.quantity, holding.t1, holding.used = holding.quantity + holding.t1, ZERO, ZERO
        for key, leg in list(self.legs.items()):
            if leg.product == "CNC" and leg.quantity:
                self._deliver(leg)
            if leg.product == "MTF" and leg.quantity:
                self._finance(leg)
            if leg.product in {"CNC", "MTF"} or not leg.quantity:
                del self.legs[key]
            else:
                leg.overnight, leg.bought, leg.sold = leg.quantity, ZERO, ZERO

    def expire(self, instrument: str) -> None:
        """End a contract: its legs are gone, without a trade, and so is its row in the table."""
        self.contracts.pop(instrument, None)
        self.legs = {key: leg for key, leg in self.legs.items() if leg.instrument != instrument}

    def _deliver(self, leg: Leg) -> None:
        holding = self._holding(leg)
        if leg.quantity < 0:
            holding.quantity += leg.quantity
            return
        before = holding.quantity + holding.t1
        holding.price = (before * holding.price + leg.quantity * leg.price) / (before + leg.quantity)
        holding.t1 += leg.quantity

    def _holding(self, leg: Leg) -> Holding:
        """The holding that a leg is delivered to, or from: shares belong to no exchange."""
        symbol = leg.instrument.partition(":")[2]
        alike = [name for name in self.holdings if name.partition(":")[2] == symbol]
        known = alike[0] if alike and leg.instrument not in self.holdings else leg.instrument
        return self.holdings.setdefault(known, Holding())

    def _finance(self, leg: Leg) -> None:
        holding = self._holding(leg)
        total = holding.margin + leg.quantity
        if leg.quantity > 0:
            holding.margin_price = (holding.margin * holding.margin_price + leg.quantity * leg.price) / total
        holding.margin = total

    def convert(self, instrument: str, source: str, target: str, quantity: Decimal) -> None:
        """Move a signed quantity from one product to another, as if it had been traded in both."""
        giver, taker = self.leg(instrument, source), self.leg(instrument, target)
        price = giver.price
        self._join(giver, -quantity, price)
        self._join(taker, quantity, price)

    def held(self) -> dict[tuple[str, str], Decimal]:
        """(instrument, leg) → signed quantity, without zeros and without holdings."""
        return {(leg.instrument, leg.product): leg.quantity for leg in self.legs.values() if leg.quantity}

    # -- over a crash ----------------------------------------------------------------------------------------------

    def dump(self) -> str:
        """The whole state, as JSON text."""
        state = {
            "seed": self.seed,
            "offset_s": self.offset_s,
            "count": self.count,
            "prices": self.prices,
            "legs": [asdict(leg) for leg in self.legs.values()],
            "holdings": {name: asdict(holding) for name, holding in self.holdings.items()},
            "orders": [asdict(order) for order in self.orders.values()],
            "trades": [asdict(trade) for trade in self.trades],
            "contracts": {name: asdict(contract) for name, contract in self.contracts.items()},
        }
        return json.dumps(state, default=plain)

    def load(self, text: str) -> None:
        """Take over what :meth:`dump` wrote."""
        state = json.loads(text)
        orders = [Order(**_decimals(row, "quantity", "price", "filled", "notional")) for row in state["orders"]]
        legs = [Leg(**_decimals(row, "overnight", "bought", "sold", "price")) for row in state["legs"]]
        trades = [Trade(**_decimals(row, "quantity", "price")) for row in state["trades"]]
        numbers = ("quantity", "t1", "used", "price", "pledged", "margin", "margin_price")
        holdings = {name: Holding(**_decimals(row, *numbers)) for name, row in state["holdings"].items()}
        self.seed, self.offset_s, self.count = state["seed"], state["offset_s"], state["count"]
        self.prices = {key: Decimal(value) for key, value in state["prices"].items()}
        self.orders = {order.id: order for order in orders}
        self.legs = {f"{leg.instrument}/{leg.product}": leg for leg in legs}
        self.trades, self.holdings = trades, holdings
        contracts = state.get("contracts", {})
        self.contracts = {name: Contract(**_decimals(row, "strike")) for name, row in contracts.items()}


def usual_product(instrument: str) -> str:
    """The product of an order that names none: intraday for shares, the carry-over product for the rest."""
    return "MIS" if instrument.partition(":")[0] in _EQUITY else "NRML"


def plain(value: Decimal) -> str:
    """A number as digits."""
    return format(value, "f")


def _decimals(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: Decimal(value) if key in keys and value is not None else value for key, value in row.items()}
