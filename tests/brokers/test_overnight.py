"""A night without us, the whole way: what an order of yesterday is in the morning, by each broker that forgets it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from actors.book.discrepancies import DiscrepancyType
from actors.events import EventType, Severity
from actors.messages import CycleReport
from actors.reconciliation.own_reports import OrderReport
from brokers.model import OrderStatus
from brokers.port import Broker
from brokers.simulators.ib import IbSimulator
from brokers.simulators.kite import KiteSimulator
from tests.brokers.test_end_to_end import BUY, Clock, D, Runtime, World, a_world, at_kite, at_tws, opened_with
from tests.unit.fakes import found, quantities

THURSDAY_AT_TEN = datetime(2025, 11, 20, 4, 30, tzinfo=UTC)
"""IST, on a day of trading."""


@dataclass(frozen=True)
class Night:
    """A broker that forgets its orders overnight; ``expires`` where it said that they would not outlive their day."""

    which: str
    again: Callable[[World], Broker]
    expires: bool

    def passes(self, world: World) -> None:
        assert isinstance(world.simulator, KiteSimulator | IbSimulator)
        world.simulator.next_day()
        world.runtime.clock.ahead += timedelta(days=1)


NIGHTS = [
    Night("kite", lambda world: at_kite(world, include_holdings=False), expires=True),
    Night("ib", at_tws, expires=True),
]
each_night = pytest.mark.parametrize("night", NIGHTS, ids=lambda night: night.which)


@asynccontextmanager
async def an_order_of_ours_works(directory: Path, night: Night) -> AsyncIterator[tuple[World, str]]:
    clock = Clock()
    clock.ahead = THURSDAY_AT_TEN - datetime.now(UTC)
    async with a_world(directory, night.which, runtime=Runtime(clock)) as world:
        clock.ahead += timedelta(seconds=1)
        await world.verdict()
        sent = OrderReport(world.symbol, "c1", None, BUY, D(75), "LIMIT", D(101), OrderStatus.PENDING_SUBMIT, clock())
        await world.instrument.record([sent])
        order_id = world.simulator.place_limit(world.symbol, BUY, D(75), D(101), "c1")
        report = await world.verdict()
        assert report.book["open_orders"]
        yield world, order_id


async def in_the_morning(world: World, night: Night) -> CycleReport:
    async with opened_with(world, night.again(world)):
        report = await world.verdict()
        again = await world.verdict()
        assert (again.status, again.discrepancies) == ("SUCCESS", ())
    assert report.status == "SUCCESS"
    assert report.book["open_orders"] == []
    return report


@each_night
async def test_an_order_that_was_filled_while_we_were_away_is_filled_and_explains_the_position(
    tmp_path: Path, night: Night
) -> None:
    async with an_order_of_ours_works(tmp_path, night) as (world, order_id):
        world.simulator.fill_order(order_id)
        night.passes(world)
        report = await in_the_morning(world, night)
        assert [kind for kind in found(report) if kind != "STALE_DATA"] == ["MISSED_FILL"]
        assert list(quantities(report).values()) == ["75"]
        order = await world.instrument.order_by_ticket(order_id)
        assert order is not None
        assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, D(75))
        assert EventType.POSITION_SYNCED not in await world.kinds()


@each_night
async def test_an_order_that_was_not_filled_has_ended_with_its_day_where_its_terms_said_so(
    tmp_path: Path, night: Night
) -> None:
    async with an_order_of_ours_works(tmp_path, night) as (world, order_id):
        night.passes(world)
        report = await in_the_morning(world, night)
        order = await world.instrument.order_by_ticket(order_id)
        assert order is not None
        assert order.status is (OrderStatus.EXPIRED if night.expires else OrderStatus.CANCELLED)
        ended = [d.found for d in report.discrepancies if d.found.type is not DiscrepancyType.STALE_DATA]
        assert [one.severity for one in ended] == [Severity.INFO if night.expires else Severity.WARNING]


async def test_the_running_adapter_presumes_the_end_of_an_order_and_the_position_has_the_last_word(
    tmp_path: Path,
) -> None:
    """Filled in the last minutes, when the process was cut off from its broker."""
    night = NIGHTS[0]
    async with an_order_of_ours_works(tmp_path, night) as (world, order_id):
        world.simulator.fill_order(order_id)
        night.passes(world)
        report = await world.verdict()
        assert (report.status, found(report)) == ("SUCCESS", ["MISSED_FILL"])
        order = await world.instrument.order_by_ticket(order_id)
        assert order is not None
        assert order.status is OrderStatus.FILLED
