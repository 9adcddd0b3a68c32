"""For any order of conversions, deliveries, splits and sales: at every step the book holds what the broker shows, and
what is no sale changes neither the units over all legs nor what was paid for them, nor which fills they came from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.book.policy import Policy
from brokers.model import Conventions, Fill, Position, Side, Slice
from tests.unit.builders import Desk, dec, fill, pos, slice_at

LEGS = ("CNC", "MIS", "NRML", "holdings")
RATIOS = ((2, 1), (3, 1), (1, 2), (5, 2))
POLICY = Policy(settle=timedelta(0), confirm_gap=timedelta(0), conventions=Conventions(products=True))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("move"), st.sampled_from(LEGS), st.sampled_from(LEGS), st.integers(1, 4)),
        st.tuples(st.just("split"), st.sampled_from(RATIOS)),
        st.tuples(st.just("sell"), st.sampled_from(LEGS), st.integers(1, 5)),
    ),
    max_size=8,
)


class World:
    """What is really held, leg by leg, and a book that looks at it."""

    def __init__(self) -> None:
        self.desk = Desk(POLICY)
        self.time_s = 10.0
        self.sales = 0
        self.prices: dict[str, Decimal] = {}
        self.desk.look(slice_at(0))
        self.held: dict[str, int] = {"CNC": 120, "NRML": 60}
        bought = [replace(fill("b1", 120, 100, at_s=5), leg="CNC"), replace(fill("b2", 60, 50, at_s=6), leg="NRML")]
        self.desk.look(self._slice(bought))

    def _slice(self, fills: list[Fill] | None = None) -> Slice:
        rows = [self._row(leg, quantity) for leg, quantity in self.held.items() if quantity]
        return slice_at(self.time_s, rows, fills=fills or [])

    def _row(self, leg: str, quantity: int) -> Position:
        """A row has its average where the step is about that: what was paid is the book's own, and is to stay."""
        price = self.prices.get(leg)
        return replace(pos(quantity, price or 0, leg), price_told=price is not None)

    def look(self, fills: list[Fill] | None = None) -> None:
        """Twice, as what takes proof takes two looks."""
        for shown in (fills, None):
            self.time_s += 20
            self.desk.look(self._slice(shown))

    def cost(self) -> Decimal:
        return sum((lot.quantity * lot.price for leg in self.desk.book.legs.values() for lot in leg.lots), Decimal(0))

    def sources(self) -> set[str]:
        return {str(lot.fill_id) for leg in self.desk.book.legs.values() for lot in leg.lots}

    def step(self, step: tuple[object, ...]) -> None:
        match step:
            case "move", str(source), str(target), int(part) if source != target and self.held.get(source):
                quantity = max(1, self.held[source] // part)
                self.held[source] -= quantity
                self.held[target] = self.held.get(target, 0) + quantity
                self._conserving()
            case "split", (int(new), int(old)) if all(quantity * new % old == 0 for quantity in self.held.values()):
                self.held = {leg: quantity * new // old for leg, quantity in self.held.items()}
                legs = self.desk.book.legs
                self.prices = {name: leg.average_price * old / new for name, leg in legs.items()}
                self._conserving()
                self.prices = {}
            case "sell", str(leg), int(part) if self.held.get(leg):
                quantity = max(1, self.held[leg] // part)
                self.held[leg] -= quantity
                self.sales += 1
                sold = fill(f"s{self.sales}", quantity, 70, side=Side.SELL, at_s=self.time_s + 10)
                self.look([replace(sold, leg=leg)])

    def _conserving(self) -> None:
        cost, sources = self.cost(), self.sources()
        self.look()
        assert abs(self.cost() - cost) <= Decimal("1E-15") * max(cost, Decimal(1))
        assert self.sources() == sources


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_quantity_cost_and_lots_are_conserved_by_whatever_is_no_trade(steps: list[tuple[object, ...]]) -> None:
    world = World()
    for step in steps:
        world.step(step)
        shown = {leg: dec(quantity) for leg, quantity in world.held.items() if quantity}
        assert world.desk.quantities() == shown
        assert not world.desk.book.breaks
    world.desk.restart()
