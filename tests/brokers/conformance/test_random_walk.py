"""Whatever happens at a broker, in any order: what a snapshot claims is what the account holds."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from brokers.errors import BrokerError
from brokers.model import Complete, rows_of
from brokers.simulators.base import Fault
from tests.brokers.conformance.adapters import BUY, SELL, Adapter, Clock, D, every_adapter
from tests.brokers.reading import fill_ids, held, legs, orders, outcome

LIES = [Fault.SERVER_ERROR, Fault.HTML, Fault.HALF_BODY, Fault.MALFORMED_ROW, Fault.RESET]


class Walk:
    """Anybody trades, places, fills, ends, closes and moves positions; ``made`` counts the fills."""

    def __init__(self, adapter: Adapter, simulator: Any, rng: random.Random) -> None:
        self.made = 0
        self.resting: dict[str, Decimal] = {}
        self._adapter = adapter
        self._simulator = simulator
        self._rng = rng

    def step(self) -> None:
        """One thing that can happen to an account."""
        simulator, rng = self._simulator, self._rng
        symbol, side = rng.choice(self._adapter.symbols), rng.choice([BUY, SELL])
        quantity = rng.randint(1, 9) * self._adapter.lot
        match rng.randint(0, 8):
            case 0 | 1 | 2:
                simulator.set_price(symbol, simulator.price(symbol) + D(rng.randint(-9, 9)) / 1000)
                simulator.trade(symbol, side, quantity, f"c{rng.randint(0, 9)}")
                self.made += 1
            case 3 | 4:
                self.resting[simulator.place_limit(symbol, side, quantity, simulator.price(symbol))] = quantity
            case 5 | 6 if self.resting:
                self._fill(rng.choice(sorted(self.resting)))
            case 7 if self.resting:
                order = rng.choice(sorted(self.resting))
                del self.resting[order]
                simulator.end_order(order, rng.choice(["CANCELLED", "EXPIRED", "REJECTED"]))
            case 8:
                self.made += sum(name == symbol for name, _ in simulator.positions())
                simulator.close_by_hand(symbol)
            case _:
                leg = next((leg for name, leg in sorted(simulator.positions()) if name == symbol), "long")
                signed = -quantity if leg == "short" else quantity
                simulator.set_position(symbol, leg, signed * rng.randint(0, 1), simulator.price(symbol))

    def _fill(self, order: str) -> None:
        whole = self.resting[order]
        part = self._adapter.lot if self._rng.random() < 0.5 and whole > self._adapter.lot else whole
        self._simulator.fill_order(order, part)
        self.made += 1
        self.resting[order] -= part
        if not self.resting[order] or self._adapter.part.terminal:
            del self.resting[order]


@pytest.mark.parametrize("seed", range(3))
@every_adapter()
async def test_whatever_happens_the_snapshot_is_the_account_and_each_fill_comes_once(
    adapter: Adapter, seed: int
) -> None:
    """FEATURES 5, FEATURES 24, PEERS 6, PEERS 14: partial fills, closes by hand, drift and faults in any order."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible walk
    clock = Clock()
    within_s = 1.0 if adapter.silent & set(LIES) else adapter.timeout_s(LIES[0])
    async with adapter.alone(clock=clock, timeout_s=within_s) as (simulator, broker):
        walk = Walk(adapter, simulator, rng)
        cursor = (await broker.snapshot(None)).fills_cursor
        seen: list[str] = []
        for _ in range(25):
            for _ in range(rng.randint(0, 4)):
                walk.step()
            if rng.random() < 0.3:
                simulator.faults.add(rng.choice(LIES), match=rng.choice(list(adapter.lists.values())))
            snapshot = await outcome(broker.snapshot(cursor))
            if isinstance(snapshot, BrokerError):
                continue
            cursor = snapshot.fills_cursor
            seen += fill_ids(snapshot)
            assert held(snapshot).items() <= simulator.positions().items()
            if isinstance(snapshot.positions, Complete):
                assert held(snapshot) == simulator.positions()
        simulator.faults.clear()
        last = await broker.snapshot(cursor)
        assert legs(last) == simulator.positions()
        assert {key for key, order in orders(last).items() if not order.status.terminal} == set(walk.resting)
        assert len(set(seen) | set(fill_ids(last))) == walk.made
        ended = [order for order in orders(last).values() if order.status.terminal]
        asked = [order for order in ended if order.instrument == adapter.symbols[0]]
        answers = await broker.find_orders([adapter.query(order.broker_order_id) for order in asked])
        found = [answer.order for answer in answers if answer.order is not None]
        assert [(o.broker_order_id, o.filled_quantity, o.status.terminal) for o in found] == [
            (o.broker_order_id, o.filled_quantity, True) for o in asked
        ]
        assert len({fill.fill_id for fill in rows_of(last.fills)}) == len(rows_of(last.fills))
