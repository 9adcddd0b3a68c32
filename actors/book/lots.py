"""FIFO lots under a leg: the arithmetic of opening, closing and correcting a position.

The laws of this module: the quantities of a leg's lots always add up to exactly the leg's quantity; lots are closed
first in, first out; a lot has the sign of its leg. The average price of a leg is the one that the broker would report,
which equals the average of its lots only if the account's cost basis is FIFO. If the broker's average also contains the
commissions of the fills that opened the leg, they are kept separately as ``cost``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from decimal import Context, Decimal

from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.model import CostBasis
from brokers.versions import across_versions

ZERO = Decimal(0)
SPLIT_STEP = Decimal("1e-12")
"""The step that quantities are rounded to after a split: a third of a lot has no finite decimal form."""


@across_versions
@dataclass(frozen=True, slots=True)
class Lot:
    """The open units of one fill (or of one correction, if ``fill_id`` is ``None``). ``quantity`` is signed.
    ``opened_at`` is the broker's time of the fill, or of the position that was taken over; for a position that our side
    reported it is the time of the report instead."""

    quantity: Decimal
    price: Decimal
    fill_id: str | None
    opened_at: BrokerTime


@across_versions
@dataclass(frozen=True, slots=True)
class Closed:
    """What a fill took out of a leg, so that it can be restored exactly: the lots, and the average price and cost at
    which the leg held them."""

    leg: str
    average_price: Decimal
    cost: Decimal
    lots: tuple[Lot, ...]


class Leg:
    """One leg of a position: a signed quantity, its average price and its lots. ``cost`` is unsigned, per unit, in
    terms of the price."""

    __slots__ = ("average_price", "cost", "lots", "name", "opened_at", "quantity")

    def __init__(
        self,
        name: str,
        opened_at: BrokerTime,
        quantity: Decimal = ZERO,
        average_price: Decimal = ZERO,
        lots: Iterable[Lot] = (),
        cost: Decimal = ZERO,
    ) -> None:
        self.name = name
        self.opened_at = opened_at
        self.quantity = quantity
        self.average_price = average_price
        self.lots: deque[Lot] = deque(lots)
        self.cost = cost

    def __repr__(self) -> str:
        return f"Leg({self.name!r}, {self.quantity} @ {self.average_price}, {len(self.lots)} lots)"

    def copy(self) -> Leg:
        """An independent leg of the same state."""
        return Leg(self.name, self.opened_at, self.quantity, self.average_price, self.lots, self.cost)

    @property
    def average_with_cost(self) -> Decimal:
        """The average price shown by a broker whose averages contain commissions: they raise a long leg's average, and
        lower a short leg's."""
        return self.average_price + (self.cost if self.quantity > 0 else -self.cost)

    def trade(
        self,
        quantity: Decimal,
        price: Decimal,
        fill_id: str | None,
        at: BrokerTime,
        basis: CostBasis,
        cost: Decimal = ZERO,
    ) -> None:
        """Add a signed quantity traded at a price, with a cost per unit. Against the leg's sign it closes lots first
        in, first out; the excess opens a new lot on the other side."""
        if self.quantity and (quantity > 0) != (self.quantity > 0):
            quantity = self._close(quantity, basis)
        if quantity:
            total = self.quantity + quantity
            self.average_price = (self.average_price * self.quantity + price * quantity) / total
            if cost or self.cost:
                self.cost = (self.cost * self.quantity + cost * quantity) / total
            self.lots.append(Lot(quantity, price, fill_id, at))
            self.quantity = total

    def hold(self, quantity: Decimal, average_price: Decimal, at: BrokerTime) -> None:
        """Set quantity and average price (a correction).

        An excess is taken from the oldest lots; a missing quantity becomes a lot at the price that gives the average;
        with an unchanged quantity, every lot's price moves by the same amount. A change of sign, or a price that no lot
        can have had, leaves one lot at the average. (A price of zero or less is possible if the market has traded
        there.)
        """
        one_lot = deque([Lot(quantity, average_price, None, at)])
        if not self.quantity or (quantity > 0) != (self.quantity > 0):
            self.lots = one_lot
        elif abs(quantity) < abs(self.quantity):
            self._close(quantity - self.quantity, CostBasis.WEIGHTED)
        elif quantity == self.quantity:
            shift = average_price - self._lots_cost() / quantity
            moved = deque(replace(lot, price=lot.price + shift) for lot in self.lots)
            self.lots = moved if all(self._possible(lot.price, average_price) for lot in moved) else one_lot
        else:
            missing = quantity - self.quantity
            price = (average_price * quantity - self._lots_cost()) / missing
            if self._possible(price, average_price):
                self.lots.append(Lot(missing, price, None, at))
            else:
                self.lots = one_lot
        self.quantity = quantity
        self.average_price = average_price
        self.cost = ZERO  # the broker's average contains it

    def charge(self, fill_id: str, cost: Decimal) -> None:
        """Add a fill's cost per unit that is reported later: the share of its open units is spread over the leg."""
        opened = sum((lot.quantity for lot in self.lots if lot.fill_id == fill_id), ZERO)
        if opened:
            self.cost += cost * opened / self.quantity

    def scale(self, ratio: Decimal) -> None:
        """A split: each unit becomes ``ratio`` units, at a price divided by it. Each lot keeps its fill and its value,
        to :data:`SPLIT_STEP` of a unit; the largest lot takes the rounding difference."""
        quantity = _to_split_step(self.quantity * ratio)
        lots = [
            replace(lot, quantity=_to_split_step(lot.quantity * ratio), price=lot.price / ratio) for lot in self.lots
        ]
        lots = [lot for lot in lots if lot.quantity]
        if not lots and quantity:
            lots = [Lot(ZERO, self.average_price / ratio, None, self.opened_at)]
        if lots:
            rest = quantity - sum((lot.quantity for lot in lots), ZERO)
            largest = max(range(len(lots)), key=lambda place: abs(lots[place].quantity))
            lots[largest] = replace(lots[largest], quantity=lots[largest].quantity + rest)
        self.lots = deque(lots)
        self.quantity, self.average_price, self.cost = quantity, self.average_price / ratio, self.cost / ratio

    def reprice(self, inferred_id: str, quantity: Decimal, price: Decimal, fill_id: str) -> None:
        """Assign ``quantity`` (unsigned) units that an inferred fill opened to the real fill, at its price. Units that
        were closed in the meantime do not change."""
        kept: deque[Lot] = deque()
        for lot in self.lots:
            if lot.fill_id != inferred_id or not quantity:
                kept.append(lot)
                continue
            part = min(abs(lot.quantity), quantity)
            signed = part if lot.quantity > 0 else -part
            quantity -= part
            self.average_price += (price - lot.price) * signed / self.quantity
            kept.append(Lot(signed, price, fill_id, lot.opened_at))
            if part < abs(lot.quantity):
                kept.append(replace(lot, quantity=lot.quantity - signed))
        self.lots = kept

    def take_back(self, fill_id: str, quantity: Decimal) -> Decimal:
        """Take units out of the lots that a fill opened, as far as ``quantity`` is against their sign and they are
        still open. Returns the rest of the quantity."""
        kept: deque[Lot] = deque()
        for lot in self.lots:
            part = min(abs(lot.quantity), abs(quantity)) if lot.fill_id == fill_id else ZERO
            if not part or (lot.quantity > 0) == (quantity > 0):
                kept.append(lot)
                continue
            signed = part if lot.quantity > 0 else -part
            left = self.quantity - signed
            self.average_price = (self.average_price * self.quantity - lot.price * signed) / left if left else ZERO
            self.quantity = left
            quantity += signed
            if part < abs(lot.quantity):
                kept.append(replace(lot, quantity=lot.quantity - signed))
        self.lots = kept
        return quantity

    def would_close(self, quantity: Decimal) -> Closed | None:
        """What a trade of this signed quantity would take out of the leg; ``None`` if nothing."""
        taken: list[Lot] = []
        for lot in self.lots if (quantity > 0) != (self.quantity > 0) else ():
            if not quantity:
                break
            part = lot.quantity if abs(lot.quantity) <= abs(quantity) else -quantity
            taken.append(replace(lot, quantity=part))
            quantity += part
        return Closed(self.name, self.average_price, self.cost, tuple(taken)) if taken else None

    def reopen(self, closed: Closed, at: BrokerTime, basis: CostBasis) -> Decimal:
        """Restore what a fill had taken out of the leg. Returns the signed quantity. If the leg is on the other side by
        now, the restored lots close it."""
        lots = closed.lots
        back = sum((lot.quantity for lot in lots), ZERO)
        if self.quantity and (back > 0) != (self.quantity > 0):
            for lot in lots:
                self.trade(lot.quantity, lot.price, lot.fill_id, at, basis)
            return back
        total = self.quantity + back
        if basis is CostBasis.FIFO and self.quantity:
            worth = sum((lot.quantity * lot.price for lot in lots), ZERO)
        else:
            worth = closed.average_price * back
        self.average_price = (self.average_price * self.quantity + worth) / total
        self.cost = (self.cost * self.quantity + closed.cost * back) / total if self.cost or closed.cost else ZERO
        for lot in reversed(lots):
            first = self.lots[0] if self.lots else None
            if first is not None and replace(first, quantity=lot.quantity) == lot:
                self.lots[0] = replace(lot, quantity=lot.quantity + first.quantity)  # the rest of the same lot
            else:
                self.lots.appendleft(lot)
        self.quantity = total
        return back

    def give(self, quantity: Decimal, price: Decimal, at: BrokerTime) -> tuple[Lot, ...]:
        """Hand over a signed quantity, oldest lots first. The excess is opened on the other side, at the price, and
        handed over as one lot."""
        given: list[Lot] = []
        left = quantity
        while left and self.lots and (self.lots[0].quantity > 0) == (left > 0):
            oldest = self.lots[0]
            part = oldest.quantity if abs(oldest.quantity) <= abs(left) else left
            given.append(replace(oldest, quantity=part))
            if part == oldest.quantity:
                self.lots.popleft()
            else:
                self.lots[0] = replace(oldest, quantity=oldest.quantity - part)
            self.quantity -= part
            left -= part
        if not self.quantity:
            self.average_price = ZERO
        if left:
            given.append(Lot(left, price, None, at))
            self.trade(-left, price, None, at, CostBasis.WEIGHTED)
        return tuple(given)

    def receive(self, lots: Iterable[Lot], price: Decimal, at: BrokerTime) -> None:
        """Take over lots that another leg held at this average price."""
        for lot in lots:
            if self.quantity and (lot.quantity > 0) != (self.quantity > 0):
                self.trade(lot.quantity, price, lot.fill_id, at, CostBasis.WEIGHTED)
                continue
            total = self.quantity + lot.quantity
            self.average_price = (self.average_price * self.quantity + price * lot.quantity) / total
            self.lots.append(lot)
            self.quantity = total

    def _close(self, quantity: Decimal, basis: CostBasis) -> Decimal:
        """Take an opposite quantity out of the oldest lots. Returns the excess."""
        while quantity and self.lots:
            oldest = self.lots[0]
            if abs(quantity) >= abs(oldest.quantity):
                self.lots.popleft()
                taken = oldest.quantity
            else:
                taken = -quantity
                self.lots[0] = replace(oldest, quantity=oldest.quantity - taken)
            if basis is CostBasis.FIFO and self.quantity != taken:
                cost = self.average_price * self.quantity - oldest.price * taken
                self.average_price = cost / (self.quantity - taken)
            self.quantity -= taken
            quantity += taken
        if not self.quantity:
            self.average_price = self.cost = ZERO
        return quantity

    def _possible(self, price: Decimal, average_price: Decimal) -> bool:
        return price > 0 or average_price <= 0 or any(lot.price <= 0 for lot in self.lots)

    def _lots_cost(self) -> Decimal:
        return sum((lot.quantity * lot.price for lot in self.lots), ZERO)


def _to_split_step(quantity: Decimal) -> Decimal:
    return quantity.quantize(SPLIT_STEP, context=Context(prec=60)) if quantity % SPLIT_STEP else quantity
