"""The instrument actor: its start, its periods and what it is asked for, on a real journal."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from actors.events import EventType
from actors.instrument.actor import STOP_WITHIN_S
from brokers.model import (
    Side,
)
from supervisor.presentation.json_contract import summary
from tests.unit.fakes import (
    FX,
    QUICK,
    a_house,
    found,
    legs,
    passes,
    quantities,
    unreachable,
)
from tests.unit.instrument_cases import (
    a_position,
    last,
    verdict,
)
from tests.unit.virtual_time import virtual_time


@virtual_time
async def test_at_the_start_what_the_broker_holds_is_taken_into_the_book(tmp_path: Path) -> None:
    """FEATURES 1"""
    async with a_house(tmp_path) as house:
        house.broker.hold(5, "1.25")
        await house.start()
        await passes(1)
        report = await last(house)
        assert (report.status, legs(report), found(report)) == ("SUCCESS", {"net": ("5", "1.25")}, ["MISSING_LOCALLY"])
        assert await house.kinds() == [
            EventType.RECONCILIATION_DISCREPANCY,
            EventType.POSITION_SYNCED,
            EventType.RECONCILED,
        ]


@pytest.mark.parametrize("trade", ["buy", "sell", "close"])
@virtual_time
async def test_right_after_a_trade_it_looks_and_the_events_name_the_trade(tmp_path: Path, trade: str) -> None:
    """FEATURES 2"""
    async with a_house(tmp_path) as house:
        house.broker.hold(10)
        await verdict(house)
        before = len(await house.events())
        house.broker.trade(3, side=Side.BUY if trade == "buy" else Side.SELL)
        report = await house.instrument().reconcile_now(trade=trade)
        assert report.trade == trade
        assert quantities(report) == {"net": "13" if trade == "buy" else "7"}
        new = (await house.events())[before:]
        assert new
        assert {event.payload["trade"] for event in new} == {trade}


@virtual_time
async def test_each_instrument_is_checked_at_an_interval_of_its_own(tmp_path: Path) -> None:
    """FEATURES 3"""
    async with a_house(tmp_path, ["A"], interval_s=300.0) as house:
        house.interval_s = 15.0
        house.names = ("A", "B")
        house.make_instrument("B")
        await house.start()
        await passes(3001)
        cycles = [(await house.instrument(name).health()).statistics.cycles for name in ("A", "B")]
        assert cycles == [11, 201]


@virtual_time
async def test_after_a_lost_connection_it_recovers_by_itself(tmp_path: Path) -> None:
    """FEATURES 4, FEATURES 12"""
    async with a_house(tmp_path) as house:
        house.broker.hold(5)
        house.broker.failing = unreachable()
        await house.start()
        await passes(20)
        report = await last(house)
        assert report.status == "DEGRADED"
        assert "connection refused" in (report.error or "")
        house.broker.failing = None
        await passes(31)
        assert quantities(await last(house)) == {"net": "5"}


@virtual_time
async def test_an_early_check_does_nothing(tmp_path: Path) -> None:
    """FEATURES 15"""
    async with a_house(tmp_path, interval_s=15.0) as house:
        first = await house.instrument().check()
        await passes(14)
        assert await house.instrument().check() == replace(first, throttled=True)
        assert house.broker.snapshots == 1
        await passes(1.1)
        again = await house.instrument().check()
        assert (again.throttled, again.finished_at > first.finished_at) == (False, True)
        assert house.broker.snapshots == 2


@virtual_time
async def test_with_an_interval_of_0_a_check_is_always_due(tmp_path: Path) -> None:
    """FEATURES 15"""
    async with a_house(tmp_path, interval_s=0.0) as house:
        for number in range(1, 4):
            await house.instrument().check()
            assert house.broker.snapshots == number


@virtual_time
async def test_reconcile_now_and_a_summary_in_one_line(tmp_path: Path) -> None:
    """FEATURES 28"""
    async with a_house(tmp_path, ["A", "B"]) as house:
        house.broker.hold(5, instrument="A")
        reports = [await verdict(house, name) for name in house.names]
        assert summary(FX, reports) == "fx: 2 of 2 in step, discrepancies: 1 (0 critical)"


@virtual_time
async def test_it_may_be_stopped_and_started_again_without_loss(tmp_path: Path) -> None:
    """FEATURES 28"""
    async with a_house(tmp_path, interval_s=10.0) as house:
        house.broker.hold(5)
        await house.start()
        await passes(25)
        await house.instrument().stop()
        cycles = (await house.instrument().health()).statistics.cycles
        house.broker.hold(6)
        await passes(100)
        assert (await house.instrument().health()).statistics.cycles == cycles
        await house.instrument().start()
        await passes(1)
        assert quantities(await last(house)) == {"net": "6"}
        assert not (await house.instrument().health()).paused


@virtual_time
async def test_a_start_during_a_stop_takes_it_back(tmp_path: Path) -> None:
    """A supervisor dies between the stop of an actor and its end: the next one finds the actor, and starts it."""
    async with a_house(tmp_path, interval_s=10.0, patience_s=None, cycle_timeout_s=60.0) as house:
        house.broker.gate.clear()
        await house.start()
        await passes(1)
        stop = asyncio.ensure_future(house.instrument().stop())
        await passes(1)
        await house.instrument().start()
        house.broker.gate.set()
        await stop
        await passes(25)
        health = await house.instrument().health()
        assert (health.paused, health.statistics.cycles >= 2) == (False, True)


@virtual_time
async def test_stop_does_not_wait_for_a_cycle_that_hangs(tmp_path: Path) -> None:
    """PEERS 7: the supervisor gives a stop 8 s."""
    async with a_house(tmp_path, patience_s=None, cycle_timeout_s=60.0) as house:
        house.broker.gate.clear()
        await house.start()
        await passes(1)
        began = asyncio.get_running_loop().time()
        await house.instrument().stop()
        assert asyncio.get_running_loop().time() - began == pytest.approx(STOP_WITHIN_S, abs=0.1)
        house.broker.gate.set()
        await passes(400)
        assert (await house.instrument().health()).statistics.cycles == 0


@virtual_time
async def test_a_paused_instrument_runs_no_cycle_by_itself_and_one_that_is_asked_for(tmp_path: Path) -> None:
    async with a_house(tmp_path, interval_s=10.0) as house:
        await house.start()
        await passes(1)
        await house.instrument().pause()
        before = (await house.instrument().health()).statistics.cycles
        await house.instrument().wake()
        await passes(100)
        assert (await house.instrument().health()).statistics.cycles == before
        assert (await verdict(house)).status == "SUCCESS"
        house.broker.hold(1)
        await house.instrument().resume()
        await passes(1)
        assert quantities(await last(house)) == {"net": "1"}


@virtual_time
async def test_many_symbols_tick_together_and_one_that_is_broken_holds_up_none(tmp_path: Path) -> None:
    """FEATURES 29, FEATURES 21"""
    names = [f"I{number:02}" for number in range(50)]
    async with a_house(tmp_path, names, interval_s=30.0) as house:
        for name in names:
            house.broker.hold(1, instrument=name)
        stuck = house.instrument("I07")
        await stuck.keeper.turn.acquire()
        await house.start()
        await passes(95)
        for name in names:
            if name != "I07":
                assert (await last(house, name)).status == "SUCCESS"
        assert (await last(house, "I07")).status == "DEGRADED"
        stuck.keeper.turn.release()
        assert house.broker.snapshots <= 5


@virtual_time
async def test_positions_that_are_not_compared_are_not_said_to_be_known(tmp_path: Path) -> None:
    """Else whoever looks at both sides reads that the broker has the same, of which nobody knows."""
    async with a_house(tmp_path, policy=replace(QUICK, positions=False)) as house:
        await house.instrument().record([a_position(100)])
        report = await verdict(house)
        assert (report.status, report.broker["positions"]) == ("SUCCESS", "UNSUPPORTED")
        assert quantities(report) == {"net": "100"}
