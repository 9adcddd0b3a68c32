"""A verdict waits for what it needs, whatever is configured: adapters doubt a contradiction for some seconds."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from actors.book.policy import Policy
from actors.instrument.actor import Instrument, InstrumentSettings
from actors.reconciliation.own_reports import OrderReport
from brokers.model import OrderStatus
from brokers.registry import CONVENTIONS
from brokers.simulators.kite import KiteSimulator
from tests.brokers.test_end_to_end import BUY, D, World, a_world
from tests.unit.fakes import found, quantities


def at_once(world: World, settle_ms: int, confirm_gap_ms: int) -> None:
    policy = Policy(
        confirm_gap=timedelta(milliseconds=confirm_gap_ms),
        settle=timedelta(milliseconds=settle_ms),
        conventions=CONVENTIONS["kite"],
    )
    world.instrument = Instrument(InstrumentSettings(world.name, world.symbol, 300.0, 10.0, policy), world.runtime)
    world.runtime.register(f"{world.name}/{world.symbol}", world.instrument)


@pytest.mark.parametrize(("settle_ms", "confirm_gap_ms"), [(0, 0), (10, 10), (5000, 500)])
async def test_a_standing_contradiction_of_positions_and_trades_is_believed_in_the_same_verdict(
    tmp_path: Path, settle_ms: int, confirm_gap_ms: int
) -> None:
    async with a_world(tmp_path, "kite") as world:
        at_once(world, settle_ms, confirm_gap_ms)
        assert isinstance(world.simulator, KiteSimulator)
        await world.verdict()
        world.simulator.trade(world.symbol, BUY, D(10), "c1")
        world.simulator.forget_trades()
        report = await world.verdict()
        assert (report.status, quantities(report)) == ("SUCCESS", {"MIS": "10"})


async def test_an_order_of_ours_whose_trades_are_never_listed_ends_in_one_inferred_fill_in_the_same_verdict(
    tmp_path: Path,
) -> None:
    async with a_world(tmp_path, "kite") as world:
        at_once(world, 0, 0)
        assert isinstance(world.simulator, KiteSimulator)
        await world.verdict()
        now = world.runtime.clock()
        order = OrderReport(world.symbol, "c1", None, BUY, D(10), "MARKET", None, OrderStatus.PENDING_SUBMIT, now)
        await world.instrument.record([order])
        order_id = world.simulator.trade(world.symbol, BUY, D(10), "c1")
        world.simulator.forget_trades()
        report = await world.verdict()
        assert report.status == "SUCCESS"
        assert [kind for kind in found(report) if kind != "MALFORMED_DATA"] == ["MISSED_FILL"]
        booked = await world.instrument.order_by_ticket(order_id)
        assert booked is not None
        assert (booked.status, booked.filled_quantity, len(booked.inferred)) == (OrderStatus.FILLED, D(10), 1)
        assert (await world.verdict()).discrepancies == ()
