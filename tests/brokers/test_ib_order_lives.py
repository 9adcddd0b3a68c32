"""When an order at Interactive Brokers is over by its terms, and whose it is by its group."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from actors.book.discrepancies import DiscrepancyType
from actors.events import Severity
from actors.reconciliation.own_reports import OrderReport
from brokers.clocks import broker_time
from brokers.ib.order_lives import Hours, Lives
from brokers.ib.wire import Contract
from brokers.model import OrderStatus, Side, rows_of
from brokers.simulators.ib import IbSimulator
from brokers.simulators.ib_wire import SimContract, SimHours, hours_from
from tests.brokers.at_ib import connected, simulated
from tests.brokers.reading import orders
from tests.brokers.test_end_to_end import BUY, D, a_world

MONDAY = date(2026, 1, 5)
AT_NOON = datetime(2026, 1, 5, 17, tzinfo=UTC)  # in New York
NEW_YORK = hours_from(MONDAY - timedelta(days=1))
CHICAGO = SimHours(
    "US/Central",
    "20260104:1700-20260105:1600;20260105:1700-20260106:1600",
    "20260105:0830-20260105:1600;20260106:0830-20260106:1600",
)
CLOSED_ON_TUESDAY = SimHours("US/Eastern", "20260105:0930-20260105:1600;20260106:CLOSED;20260107:0930-20260107:1600")
HONG_KONG = SimHours("Hongkong", *["20260105:0930-1200,1300-1600;20260106:0930-1200,1300-1600"] * 2)
CLOSES = {"regular": datetime(2026, 1, 5, 21, tzinfo=UTC), "late": datetime(2026, 1, 6, 1, tzinfo=UTC)}


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "regular", "now", "ends"),
    [
        pytest.param(NEW_YORK, True, at(5, 17), at(5, 21), id="before the close"),
        pytest.param(NEW_YORK, True, at(5, 21), at(6, 21), id="after the close it is the next day's"),
        pytest.param(NEW_YORK, False, at(5, 21, 30), at(6, 1), id="outside regular hours"),
        pytest.param(NEW_YORK, True, at(4, 12), at(5, 21), id="over a weekend"),
        pytest.param(NEW_YORK, True, at(10, 12), None, id="a day that was not listed"),
        pytest.param(CHICAGO, False, at(5, 17), at(5, 22), id="a session that began the evening before"),
        pytest.param(CHICAGO, False, at(5, 23), at(6, 22), id="the evening's session is the next day's"),
        pytest.param(HONG_KONG, True, at(5, 2), at(5, 8), id="lunch ends no day"),
    ],
)
def test_a_day_order_is_over_at_the_end_of_the_first_session_that_ends(
    hours: SimHours, regular: bool, now: datetime, ends: datetime | None
) -> None:
    parsed = Hours.parse(hours.zone, hours.trading, hours.liquid)
    assert parsed is not None
    assert parsed.end_after(broker_time(now), regular=regular) == ends


@pytest.mark.parametrize("zone", ["", "EST", "GMT", "Mars/Olympus", "../etc/passwd"])
def test_hours_in_a_zone_that_leaves_summer_time_open_say_nothing(zone: str) -> None:
    assert Hours.parse(zone, NEW_YORK.trading, NEW_YORK.liquid) is None


@pytest.mark.parametrize(
    ("hours", "day", "ends"),
    [
        pytest.param(NEW_YORK, 5, at(6, 1), id="the last of all hours, by the exchange's day"),
        pytest.param(CHICAGO, 6, at(6, 22), id="of a session that began the evening before"),
        pytest.param(HONG_KONG, 5, at(5, 8), id="east of us"),
        pytest.param(NEW_YORK, 30, None, id="a day that was not listed"),
        pytest.param(CLOSED_ON_TUESDAY, 6, None, id="a holiday"),
        pytest.param(SimHours("US/Eastern", "20260105:0930-20260105:1300"), 5, at(5, 18), id="a short day"),
    ],
)
def test_a_contract_is_traded_for_the_last_time_at_the_end_of_the_last_session_of_its_last_day(
    hours: SimHours, day: int, ends: datetime | None
) -> None:
    parsed = Hours.parse(hours.zone, hours.trading, hours.liquid)
    assert parsed is not None
    assert parsed.last_of(date(2026, 1, day)) == ends


def test_hours_are_wanted_of_contracts_whose_last_day_is_near_and_kept_once_the_day_is_over() -> None:
    lives, now = Lives(), broker_time(at(5, 17))
    near, far = (
        Contract(number, "XYZ", "OPT", D(100), "XYZ", expiry=date(2026, 1, day)) for number, day in ((1, 6), (2, 30))
    )
    assert lives.expiring([near, far], now) == [1]
    lives.learn(1, Hours.parse(NEW_YORK.zone, NEW_YORK.trading, NEW_YORK.liquid))
    assert lives.expiring([near, far], now) == []
    assert lives.last_moment(1, date(2026, 1, 6)) == at(7, 1)
    lives.learn(1, Hours.parse("US/Eastern", "20260108:0930-20260108:1600", ""))
    assert lives.last_moment(1, date(2026, 1, 6)) == at(7, 1)
    assert Lives().expiring([near], broker_time(at(9, 17))) == []


@pytest.mark.parametrize("words", ["", "20260105:CLOSED", "soon", "99999999:0900-99999999:9900"])
def test_hours_that_name_no_close_say_nothing(words: str) -> None:
    assert Hours.parse("US/Eastern", words, words) is None


@pytest.mark.parametrize(
    ("terms", "ends"),
    [
        pytest.param({"tif": "DAY"}, CLOSES["regular"], id="day"),
        pytest.param({"tif": "DAY", "outside_hours": True}, CLOSES["late"], id="day, outside regular hours"),
        pytest.param({"tif": "IOC"}, CLOSES["regular"], id="at once"),
        pytest.param({"tif": "OPG"}, CLOSES["regular"], id="at the open"),
        pytest.param({"tif": "GTC"}, None, id="until cancelled"),
        pytest.param({"tif": "DTC"}, None, id="deactivated, and not ended, by the day"),
        pytest.param(
            {"tif": "GTD", "good_till": "20260107 11:30:00 US/Eastern"}, at(7, 16, 30), id="until a time of a date"
        ),
        pytest.param({"tif": "GTD", "good_till": "20260107"}, at(7, 21), id="until the close of a date"),
        pytest.param(
            {"tif": "GTD", "good_till": "20260107", "outside_hours": True},
            at(8, 1),
            id="until the close of a date, late",
        ),
        pytest.param({"tif": "GTD", "good_till": "20260199"}, None, id="until a date that there is not"),
        pytest.param({"tif": "GTD", "good_till": "20260107 11:30:00"}, None, id="until a time of an unknown zone"),
        pytest.param({"tif": "GTD", "good_till": "20270107"}, None, id="until a date that is not listed yet"),
    ],
)
async def test_an_order_says_when_it_is_over_by_its_time_in_force(
    terms: dict[str, object], ends: datetime | None
) -> None:
    with simulated(clock=lambda: AT_NOON) as tws:
        tws.trade_in(NEW_YORK)
        order = tws.place_limit("AAPL", Side.BUY, D(5), D(9))
        tws.set_terms(order, **terms)  # type: ignore[arg-type]  # as the table has them
        async with connected(tws) as broker:
            assert orders(await broker.snapshot(None))[order].expires_at == ends


async def test_the_end_of_an_order_is_that_of_the_session_in_which_it_was_first_seen_while_its_terms_stay() -> None:
    now = [AT_NOON]
    with simulated(clock=lambda: now[0]) as tws:
        tws.trade_in(NEW_YORK)
        order = tws.place_limit("AAPL", Side.BUY, D(5), D(9))
        async with connected(tws) as broker:
            await broker.snapshot(None)
            now[0] = CLOSES["regular"] + timedelta(minutes=1)  # it is still listed, as its end is on its way
            assert orders(await broker.snapshot(None))[order].expires_at == CLOSES["regular"]
            now[0] = CLOSES["regular"] + timedelta(hours=2)  # it is still listed: those were not its hours
            assert orders(await broker.snapshot(None))[order].expires_at == at(6, 21)
            tws.set_terms(order, tif="GTC")
            assert orders(await broker.snapshot(None))[order].expires_at is None
        assert tws.requests.count("reqContractDetails") == 1


async def test_hours_are_asked_for_once_a_contract_and_a_combination_goes_by_its_first_leg() -> None:
    with simulated(clock=lambda: AT_NOON) as tws:
        tws.trade_in(NEW_YORK)
        legs = sorted(tws.contract(name).con_id for name in ("XYZ", "ABC"))
        tws.describe(
            "pair", SimContract(28812380, "XYZ", "BAG", local_symbol="28812380", legs=f"+1x{legs[0]}-1x{legs[1]}")
        )
        for name in ("AAPL", "AAPL", "pair"):
            tws.place_limit(name, Side.BUY, D(1), D(1))
        async with connected(tws) as broker:
            for _ in range(3):
                rows = rows_of((await broker.snapshot(None)).orders)
            assert {row.expires_at for row in rows} == {CLOSES["late"], CLOSES["regular"]}
        assert tws.requests.count("reqContractDetails") == 2


# -- groups ------------------------------------------------------------------------------------------------------


async def test_orders_of_one_oca_group_show_it_and_what_is_placed_beside_one_of_ours_is_its_strategys(
    tmp_path: Path,
) -> None:
    async with a_world(tmp_path, "ib") as world:
        assert isinstance(world.simulator, IbSimulator)
        await world.verdict()
        now = world.runtime.clock()
        ours = world.simulator.place_limit(world.symbol, BUY, world.lot, D(1), "c1")
        world.simulator.set_terms(ours, oca_group="exit-7")
        sent = OrderReport(world.symbol, "c1", ours, BUY, world.lot, "LIMIT", D(1), OrderStatus.OPEN, now, strategy="t")
        await world.instrument.record([sent])
        assert (await world.verdict()).status == "SUCCESS"
        other = world.simulator.place_limit(world.symbol, BUY, world.lot, D(2))
        stranger = world.simulator.place_limit(world.symbol, BUY, world.lot, D(3))
        world.simulator.set_terms(other, oca_group="exit-7")
        world.simulator.set_terms(stranger, oca_group="another")
        report = await world.verdict()
        found = {one.found.key: one.found for one in report.discrepancies}
        assert (found[other].type, found[other].strategy) == (DiscrepancyType.EXTERNAL_ORDER, "t")
        assert (found[other].severity, found[other].linked) == (Severity.INFO, (ours,))
        assert (found[stranger].severity, found[stranger].strategy) == (Severity.WARNING, None)
        for order_id in (ours, other):
            order = await world.instrument.order_by_ticket(order_id)
            assert order is not None
            assert (order.group, order.strategy) == ("exit-7", "t")
        assert (await world.verdict()).discrepancies == ()


async def test_a_brackets_child_names_its_parent_by_its_group_when_the_parent_is_filled_and_gone() -> None:
    with simulated(orders_by=17) as tws:
        entry = tws.place_limit("AAPL", Side.BUY, D(5), D(9), "c1")
        stop = tws.attach(entry, Side.SELL, D(5), D(8))
        tws.fill_order(entry)
        async with connected(tws) as broker:  # that has never seen it work
            shown = orders(await broker.snapshot(None))
            assert (shown[stop].parent, shown[entry].parent) == (entry, None)
            tws.fill_order(stop)
            assert orders(await broker.snapshot(None))[stop].parent == entry
