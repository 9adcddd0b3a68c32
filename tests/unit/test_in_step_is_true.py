"""A book that a pass finds in step is the broker's of a moment between the request and the verdict, even where things
happen while the parts of a snapshot are read one after another."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.book.policy import Policy
from actors.reconciliation.reconciliation_pass import Decision
from brokers.model import CostBasis, Fill, LegScheme, Side
from tests.unit.model_broker import ModelBroker
from tests.unit.world import CAMPAIGN, GAP_MS, SETTLE_MS, World, runs

pytestmark = pytest.mark.timeout(120 * CAMPAIGN)

Legs = dict[str, Decimal]


class OfOneLot(ModelBroker):
    """Every trade is of one lot, so that what one brings may hide what another one lacks."""

    def execute(self, broker_id: str, quantity: int, price: int, delay_ms: int) -> Fill | None:
        return super().execute(broker_id, 1, price, delay_ms)

    def external(self, leg: str, side: Side, quantity: int, price: int, delay_ms: int) -> Fill | None:
        return super().external(leg, side, 1, price, delay_ms)


@dataclass
class Watched(World):
    """A world that remembers what was held when, and checks each verdict."""

    moments: list[tuple[int, Legs]] = field(default_factory=lambda: [(0, {})])

    def step(self, name: str, a: int, b: int) -> None:
        super().step(name, a, b)
        self._note()

    def _note(self) -> None:
        self.moments.append((self.broker.now_ms, {name: leg.quantity for name, leg in self.broker.legs.items()}))

    def look(self, a: int = 0, b: int = 0) -> Decision:
        began_ms = self.broker.now_ms
        return self._checked(super().look(a, b), began_ms)

    def look_while(self, a: int, b: int) -> None:
        """Between two of the three readings, in whatever order, something happens, or the stream reports."""
        own = Random(a * 31 + b)  # noqa: S311 - a test's own
        began_ms, whole = self.broker.now_ms, self.broker.say(("C", "C", "C"), self.cursor, self.random)
        parts = own.sample(("positions", "orders", "fills"), 3)
        for part in parts:
            now = self.broker.say(("C", "C", "C"), self.cursor, self.random)
            match part:
                case "positions":
                    whole = replace(whole, positions=now.positions)
                case "orders":
                    whole = replace(whole, orders=now.orders)
                case _:
                    whole = replace(whole, fills=now.fills, fills_cursor=now.fills_cursor)
            self.broker.now_ms += own.randint(1, 1400)
            self.step(own.choice(MEANWHILE), own.randint(0, 30), own.randint(0, 30))
        self._checked(self.reconcile(whole), began_ms)

    def _checked(self, decision: Decision, since_ms: int) -> Decision:
        if decision.status == "SUCCESS":
            held = {name: leg.quantity for name, leg in self.book.legs.items()}
            before = [legs for at_ms, legs in self.moments if at_ms <= since_ms][-1]
            true = [before, *(legs for at_ms, legs in self.moments if at_ms > since_ms)]
            assert held in true, f"in step with {held}, and the broker held {true}"
        return decision


MEANWHILE = ("fill", "trade_outside", "fill_and_stream", "fill_and_report", "end", "place", "stream", "wait", "wait")
REPORTED = (
    "place", "place", "lose_confirmation", "adopt_elsewhere", "fill", "fill", "fill_and_report", "report_barely",
    "trade_outside", "trade_outside", "end", "amend", "supersede", "correct_an_execution", "fill_and_stream",
    "trade_and_stream", "stream", "wait", "wait", "wait_long", "restart", "look", "look",
)  # fmt: skip
TORN = (*REPORTED, "look_while", "look_while", "look_while")
UNREPORTED = (*REPORTED, "change_silently", "believe")


def watched(steps: tuple[str, ...]) -> st.SearchStrategy[tuple[Watched, list[tuple[str, int, int]]]]:
    policy = Policy(settle=timedelta(milliseconds=SETTLE_MS), confirm_gap=timedelta(milliseconds=GAP_MS))
    worlds = st.builds(
        lambda kind, scheme, shows_ended, reports_fills, resolution_ms, seed: Watched(
            kind(scheme, CostBasis.WEIGHTED, shows_ended, reports_fills, False, resolution_ms),
            policy,
            Random(seed),  # noqa: S311 - a test's own
        ),
        st.sampled_from([ModelBroker, OfOneLot]),
        st.sampled_from(LegScheme),
        st.booleans(),
        st.sampled_from([True, True, False]),
        st.sampled_from([1, 1000]),
        st.integers(0, 99),
    )
    step = st.tuples(st.sampled_from(steps), st.integers(0, 30), st.integers(0, 30))
    return st.tuples(worlds, st.lists(step, min_size=3, max_size=30))


@runs(150)
@given(watched(TORN))
def test_in_step_is_true_while_things_happen(made: tuple[Watched, list[tuple[str, int, int]]]) -> None:
    world, program = made
    for step in program:
        world.step(*step)
    world.settle()
    world.check_truth()


@runs(150)
@given(watched(UNREPORTED))
def test_in_step_is_true_whatever_is_not_reported(made: tuple[Watched, list[tuple[str, int, int]]]) -> None:
    world, program = made
    for step in program:
        world.step(*step)
    world.settle()
    world.check_truth()
