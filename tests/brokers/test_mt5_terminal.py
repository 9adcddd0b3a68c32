"""A terminal as it is: tickets that change, server time, successes that are none, everything gone at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from brokers.clocks import ahead_of_ours
from brokers.errors import Unreachable
from brokers.model import Complete, Failed, Partial, Reason, Side, Snapshot, problems_of, rows_of
from brokers.mt5 import Mt5Broker
from brokers.mt5.client import NAMELESS_S
from brokers.simulators.mt5 import Mt5Simulator

D = Decimal
LOT = D("0.1")


class Time:
    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def sim(clock: Time) -> Iterator[Mt5Simulator]:
    simulator = Mt5Simulator(instruments=["EURUSD", "GBPUSD"], seed=1, clock=clock)
    simulator.start()
    yield simulator
    simulator.close()


@asynccontextmanager
async def broker(sim: Mt5Simulator, clock: Time) -> AsyncIterator[Mt5Broker]:
    adapter = Mt5Broker("cfd", sim.start(), 5001, 0.5, clock, backoff_s=0.005)
    try:
        yield adapter
    finally:
        await adapter.close()


def legs(snapshot: Snapshot) -> dict[str, Decimal]:
    return {row.leg: row.quantity for row in rows_of(snapshot.positions)}


async def test_a_position_that_is_reopened_for_swap_stays_the_same_leg(sim: Mt5Simulator, clock: Time) -> None:
    leg = sim.trade("EURUSD", Side.BUY, LOT)
    async with broker(sim, clock) as adapter:
        first = await adapter.snapshot(None)
        assert sim.reopen_for_swap(leg) != leg
        second = await adapter.snapshot(first.fills_cursor)
        sim.close_position(leg)
        third = await adapter.snapshot(second.fills_cursor)
    assert legs(first) == legs(second) == {leg: LOT}
    assert [(row.leg, row.closing) for row in rows_of(third.fills)] == [(leg, True)]


async def test_a_position_closed_by_an_opposite_one_leaves_every_section_complete(
    sim: Mt5Simulator, clock: Time
) -> None:
    leg, opposite = sim.trade("EURUSD", Side.BUY, LOT), sim.trade("EURUSD", Side.SELL, D("0.06"))
    async with broker(sim, clock) as adapter:
        first = await adapter.snapshot(None)
        order_id = sim.close_by(leg, opposite)
        snapshot = await adapter.snapshot(first.fills_cursor)
    assert isinstance(snapshot.orders, Complete)
    assert isinstance(snapshot.fills, Complete)
    assert legs(snapshot) == {leg: D("0.04")}
    assert {(row.leg, row.broker_order_id) for row in rows_of(snapshot.fills)} == {
        (leg, order_id),
        (opposite, order_id),
    }


async def test_a_stop_out_is_a_liquidation(sim: Mt5Simulator, clock: Time) -> None:
    leg = sim.trade("EURUSD", Side.BUY, LOT)
    async with broker(sim, clock) as adapter:
        first = await adapter.snapshot(None)
        sim.stop_out(leg)
        snapshot = await adapter.snapshot(first.fills_cursor)
    assert [row.reason for row in rows_of(snapshot.fills)] == [Reason.LIQUIDATION]


@pytest.mark.parametrize("kind", ["dividend", 16, "DEAL_TAX", "interest", 99])
async def test_money_without_a_position_holds_no_cursor(sim: Mt5Simulator, clock: Time, kind: str | int) -> None:
    async with broker(sim, clock) as adapter:
        first = await adapter.snapshot(None)
        sim.book_money(kind)
        snapshot = await adapter.snapshot(first.fills_cursor)
    assert snapshot.fills == Complete(())


async def test_an_unreadable_deal_that_names_no_instrument_does_not_hold_all_of_them_for_ever(
    sim: Mt5Simulator, clock: Time
) -> None:
    async with broker(sim, clock) as adapter:
        first = await adapter.snapshot(None)
        sim.book_money("nobody_knows", symbol=" ")
        held = await adapter.snapshot(first.fills_cursor)
        assert (isinstance(held.fills, Partial), held.fills_cursor) == (True, first.fills_cursor)
        clock.ahead += timedelta(seconds=NAMELESS_S)
        left = await adapter.snapshot(held.fills_cursor)
        assert left.fills_cursor is not None
        assert held.fills_cursor is not None
        assert (isinstance(left.fills, Partial), left.fills_cursor > held.fills_cursor) == (True, True)
        clock.ahead += timedelta(seconds=120)
        after = await adapter.snapshot(left.fills_cursor)
    assert after.fills == Complete(())


# -- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [3, 2, -5])
async def test_a_gateway_that_reports_server_time_is_read_in_utc(clock: Time, hours: int) -> None:
    sim = Mt5Simulator(instruments=["EURUSD"], clock=lambda: clock() + timedelta(hours=hours))
    sim.start()
    try:
        async with broker(sim, clock) as adapter:
            first = await adapter.snapshot(None)
            sim.place_limit("EURUSD", Side.BUY, LOT, D(1))
            sim.trade("EURUSD", Side.BUY, LOT)
            second = await adapter.snapshot(first.fills_cursor)
    finally:
        sim.close()
    now = clock()
    times = [row.time for row in rows_of(second.fills)] + [row.submitted_at for row in rows_of(second.orders)]
    assert times
    assert all(at is not None and abs(ahead_of_ours(at, now)) < timedelta(seconds=5) for at in [*times, second.as_of])


async def test_a_deal_later_than_the_gateways_own_clock_is_refused_and_stays_so(sim: Mt5Simulator, clock: Time) -> None:
    sim.date_deals_ahead(3 * 3600)
    sim.trade("EURUSD", Side.BUY, LOT)
    async with broker(sim, clock) as adapter:
        first = await adapter.snapshot(None)
        (problem,) = problems_of(first.fills)
        assert (problem.instrument, "one time zone" in problem.text) == ("EURUSD", True)
        assert len(legs(first)) == 1
        clock.ahead += timedelta(hours=3, minutes=1)  # its hour has come
        later = await adapter.snapshot(first.fills_cursor)
        assert (rows_of(later.fills), problems_of(later.fills)) == ((), (problem,))


# -- answers that are none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beside",
    [
        {"last_error": [-10004, "No IPC connection"]},
        {"last_error": {"code": -10005, "text": "IPC timeout"}},
        {"last_error": -2},
        {"connected": False},
        {"connected": 0},
        {"connected": "false"},
        {"connected": "no"},
        {"connected": ""},
        {"last_error": True},
        {"retcode": 10031},
    ],
)
async def test_a_success_with_an_error_beside_it_is_no_answer(
    sim: Mt5Simulator, clock: Time, beside: dict[str, object]
) -> None:
    sim.trade("EURUSD", Side.BUY, LOT)
    async with broker(sim, clock) as adapter:
        first = await adapter.snapshot(None)
        sim.lose_broker(**beside)
        with pytest.raises(Unreachable):
            await adapter.snapshot(first.fills_cursor)
        sim.lose_broker()
        assert legs(await adapter.snapshot(first.fills_cursor)) == legs(first)


@pytest.mark.parametrize(
    "beside",
    [
        {"last_error": [1, "Success"]},
        {"last_error": 0},
        {"last_error": None},
        {"last_error": False},
        {"connected": True},
        {"connected": 1},
        {"connected": "True"},
        {"connected": None},
        {"retcode": 10009},
    ],
)
async def test_a_success_that_says_so_twice_is_an_answer(
    sim: Mt5Simulator, clock: Time, beside: dict[str, object]
) -> None:
    sim.trade("EURUSD", Side.BUY, LOT)
    sim.add_to_replies(**beside)
    async with broker(sim, clock) as adapter:
        assert isinstance((await adapter.snapshot(None)).positions, Complete)


async def test_a_terminal_without_its_broker_is_not_connected_to(sim: Mt5Simulator, clock: Time) -> None:
    sim.add_to_replies(connected=False)
    async with broker(sim, clock) as adapter:
        with pytest.raises(Unreachable, match="not connected to its broker"):
            await adapter.connect()


async def test_everything_gone_at_once_without_a_deal_is_not_believed(sim: Mt5Simulator, clock: Time) -> None:
    sim.trade("EURUSD", Side.BUY, LOT)
    sim.trade("GBPUSD", Side.SELL, LOT)
    async with broker(sim, clock) as adapter:
        first = await adapter.snapshot(None)
        sim.lose_broker(status="SUCCESS")
        for _ in range(4):
            clock.ahead += timedelta(seconds=5)
            snapshot = await adapter.snapshot(first.fills_cursor)
            assert isinstance(snapshot.positions, Failed)
            assert "gone at once" in snapshot.positions.reason
        sim.lose_broker()
        assert legs(await adapter.snapshot(first.fills_cursor)) == legs(first)


async def test_everything_gone_is_believed_where_the_account_has_no_margin_in_use(
    sim: Mt5Simulator, clock: Time
) -> None:
    sim.trade("EURUSD", Side.BUY, LOT)
    sim.trade("GBPUSD", Side.SELL, LOT)
    async with broker(sim, clock) as adapter:
        first = await adapter.snapshot(None)
        sim.forget_positions()
        assert (await adapter.snapshot(first.fills_cursor)).positions == Complete(())


async def test_everything_closed_by_deals_is_believed_at_once(sim: Mt5Simulator, clock: Time) -> None:
    sim.trade("EURUSD", Side.BUY, LOT)
    sim.trade("GBPUSD", Side.SELL, LOT)
    async with broker(sim, clock) as adapter:
        first = await adapter.snapshot(None)
        sim.close_by_hand("EURUSD")
        sim.close_by_hand("GBPUSD")
        assert (await adapter.snapshot(first.fills_cursor)).positions == Complete(())
