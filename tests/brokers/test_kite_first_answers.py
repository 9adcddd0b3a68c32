"""The first answers of a Kite day, for a process that was not there the evening before: they are judged by what the
books held."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from brokers.kite.day_lists import LOADING, MORNING_S, Lasting
from brokers.kite.decode import IST, Listing
from brokers.model import Complete, Failed, Partial, Side, Snapshot, problems_of
from brokers.port import Remembered
from brokers.simulators.base import Fault
from brokers.simulators.kite import KiteSimulator
from tests.brokers.at_kite import INFY, KEY, TOKEN, USER, broker

D = Decimal
MIDNIGHT = datetime(2026, 1, 6, tzinfo=IST)


class Clock:
    """The broker's clock and ours, set to a time of day in India."""

    def __init__(self, simulator: KiteSimulator) -> None:
        self._simulator = simulator
        self.at(10, 0)

    def at(self, hour: int, minute: int, days: int = 0) -> None:
        self.now = (MIDNIGHT + timedelta(days=days, hours=hour, minutes=minute)).astimezone(UTC)
        self._simulator.set_clock((self.now - datetime.now(UTC)).total_seconds())

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def sim() -> Iterator[KiteSimulator]:
    simulator = KiteSimulator(KEY, TOKEN, USER, instruments=[INFY])
    yield simulator
    simulator.close()


@asynccontextmanager
async def new_process(sim: KiteSimulator, clock: Clock, infy: Remembered) -> AsyncIterator[Snapshot]:
    async with broker(sim, clock=clock) as adapter:
        adapter.remember({INFY: infy})
        yield await adapter.snapshot(None)


def book(quantity: int, seen_at: datetime | None = None, leg: str = "NRML") -> Remembered:
    return Remembered({leg: (D(quantity), D(100))}, None, seen_at)


@pytest.mark.parametrize(("hour", "minute", "believed"), [(7, 15, False), (8, 59, False), (9, 1, True), (14, 0, True)])
async def test_a_single_look_in_the_morning_believes_no_absence_of_what_the_books_held_last_evening(
    sim: KiteSimulator, hour: int, minute: int, believed: bool
) -> None:
    """A one-shot ``reconcile`` has seen no evening: its first answer may be the first of the day."""
    clock = Clock(sim)
    clock.at(hour, minute)
    async with new_process(sim, clock, infy=book(10, clock.now - timedelta(days=1))) as snapshot:
        assert (snapshot.positions == Complete(())) is believed
        if not believed:
            (problem,) = problems_of(snapshot.positions)
            assert problem.instrument == INFY
            assert problem.again_at == clock.now + timedelta(seconds=MORNING_S)


async def test_a_morning_that_still_says_so_is_believed_by_the_process_that_waited(sim: KiteSimulator) -> None:
    clock = Clock(sim)
    clock.at(7, 15)
    async with broker(sim, clock=clock) as adapter:
        adapter.remember({INFY: book(10)})
        assert isinstance((await adapter.snapshot(None)).positions, Partial)
        clock.at(7, 21)
        assert (await adapter.snapshot(None)).positions == Complete(())


async def test_what_is_shown_in_the_morning_is_not_doubted(sim: KiteSimulator) -> None:
    clock = Clock(sim)
    clock.at(7, 15)
    sim.set_position(INFY, "NRML", D(10), D(100))
    async with new_process(sim, clock, infy=book(10)) as snapshot:
        assert isinstance(snapshot.positions, Complete)


async def test_one_instrument_that_was_held_today_and_has_no_row_is_unknown_to_a_single_look(
    sim: KiteSimulator,
) -> None:
    """No row leaves ``net`` within a day: an account of one row that is emptied by an error shows none."""
    clock = Clock(sim)
    clock.at(14, 0)
    sim.set_position(INFY, "NRML", D(10), D(100))
    sim.faults.add(Fault.EMPTY, times=9, match="positions GET")
    async with new_process(sim, clock, infy=book(10, clock.now - timedelta(hours=2))) as snapshot:
        (problem,) = problems_of(snapshot.positions)
        assert problem.instrument == INFY
        assert problem.again_at is None
        assert "record a position of 0" in problem.text


@pytest.mark.parametrize("seen", [timedelta(hours=20), timedelta(hours=6)], ids=["yesterday", "before the opening"])
async def test_one_that_was_last_seen_before_the_market_opened_may_be_gone(sim: KiteSimulator, seen: timedelta) -> None:
    clock = Clock(sim)
    clock.at(14, 0)
    async with new_process(sim, clock, infy=book(10, clock.now - seen)) as snapshot:
        assert snapshot.positions == Complete(())


async def test_a_list_of_positions_that_is_emptied_while_markets_trade_is_not_believed_for_the_rest_of_the_day(
    sim: KiteSimulator,
) -> None:
    clock = Clock(sim)
    sim.trade(INFY, Side.BUY, D(10), product="NRML")
    async with broker(sim, clock=clock) as adapter:
        assert isinstance((await adapter.snapshot(None)).positions, Complete)
        sim.faults.add(Fault.EMPTY, times=9, match="positions GET")
        for minute in (1, 2, 59):
            clock.at(10, minute)
            assert isinstance((await adapter.snapshot(None)).positions, Failed)


def test_a_list_that_is_emptied_in_the_morning_is_believed_after_a_while() -> None:
    """Delivered stock leaves ``net`` when the day is loaded, and nothing may be left in it."""
    lasting = Lasting("positions", never_empties=True)
    early = MIDNIGHT.replace(hour=6, minute=30)
    assert lasting.doubt(Listing({"a": 1}), early.date(), early) is None
    loaded = MIDNIGHT.replace(hour=LOADING[1].hour, minute=15)
    assert lasting.doubt(Listing(), early.date(), loaded) is not None
    assert lasting.doubt(Listing(), early.date(), loaded + timedelta(seconds=11)) is None
