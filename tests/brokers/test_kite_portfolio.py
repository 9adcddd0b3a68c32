"""Where Zerodha keeps what is held: products, holdings, margin, pledge; and what moves between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from brokers.clocks import broker_time
from brokers.kit.foreign_row import BadRow
from brokers.kite import KiteBroker
from brokers.kite.client import TRADES_LATE_S
from brokers.kite.day_lists import MORNING_S
from brokers.kite.decode import Listing, PositionRow, holding_row, holdings, order_row, positions
from brokers.kite.portfolio import Names, portfolio
from brokers.kite.positions_against_trades import clashes, in_doubt
from brokers.model import (
    Complete,
    Fill,
    OrderQuery,
    Partial,
    Position,
    Reason,
    Side,
    Snapshot,
    problems_of,
    rows_of,
)
from brokers.simulators.base import Fault
from brokers.simulators.kite import KiteSimulator

D = Decimal
KEY, TOKEN, USER = "an-api-key-0000", "access-token-of-tests", "AB1234"
INFY, INFY_BSE = "NSE:INFY", "BSE:INFY"
ISIN = "INE009A01021"
NOW = datetime(2025, 11, 20, 5, 0, tzinfo=UTC)


@pytest.fixture
def sim() -> Iterator[KiteSimulator]:
    simulator = KiteSimulator(KEY, TOKEN, USER, instruments=[INFY])
    simulator.start()
    yield simulator
    simulator.close()


class Time:
    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@asynccontextmanager
async def broker(sim: KiteSimulator, clock: Time | None = None, **kwargs: Any) -> AsyncIterator[KiteBroker]:
    adapter = KiteBroker(
        "eq",
        KEY,
        lambda: TOKEN,
        None,
        sim.start(),
        0.5,
        clock or Time(),
        backoff_s=0.001,
        requests_per_s=10_000,
        **kwargs,
    )
    try:
        yield adapter
    finally:
        await adapter.close()


def legs(snapshot: Snapshot) -> dict[tuple[str, str], Decimal]:
    return {(row.instrument, row.leg): row.quantity for row in rows_of(snapshot.positions)}


def aside(snapshot: Snapshot) -> dict[tuple[str, str], Decimal]:
    return {(row.instrument, row.leg): row.quantity for row in snapshot.aside}


def holding(**fields: Any) -> dict[str, Any]:
    row = {"tradingsymbol": "INFY", "exchange": "NSE", "isin": ISIN, "product": "CNC", "quantity": 10}
    return {**row, "average_price": D("100"), **fields}


def net(**fields: Any) -> dict[str, Any]:
    row = {"tradingsymbol": "INFY", "exchange": "NSE", "product": "CNC", "quantity": 10, "average_price": D(100)}
    return {**row, "overnight_quantity": 0, "day_buy_quantity": 10, "day_sell_quantity": 0, **fields}


def fill(number: int, quantity: int, price: object, side: Side = Side.BUY, leg: str = "CNC") -> Fill:
    at = NOW + timedelta(seconds=number)
    return Fill(INFY, str(number), str(number), side, D(quantity), D(str(price)), broker_time(at), leg)


def listed(*rows: dict[str, Any]) -> Listing[PositionRow]:
    return positions({"net": list(rows)})


# -- holdings ------------------------------------------------------------------------------------------------------


async def test_a_purchase_that_left_net_is_known_from_the_holdings_whatever_is_configured(sim: KiteSimulator) -> None:
    sim.trade(INFY, Side.BUY, D(10), product="CNC")
    async with broker(sim) as adapter:
        assert legs(await adapter.snapshot(None)) == {(INFY, "CNC"): D(10)}
        sim.next_day()
        snapshot = await adapter.snapshot(None)
    assert (legs(snapshot), aside(snapshot)) == ({}, {(INFY, "holdings"): D(10)})


async def test_without_an_answer_about_holdings_nothing_is_known_of_delivered_legs(sim: KiteSimulator) -> None:
    sim.trade(INFY, Side.BUY, D(3), product="MIS")
    sim.faults.add(Fault.SERVER_ERROR, times=9, match="holdings")
    async with broker(sim) as adapter:
        snapshot = await adapter.snapshot(None)
    assert isinstance(snapshot.positions, Complete)
    assert legs(snapshot) == {(INFY, "MIS"): D(3)}
    assert set(snapshot.unread_legs) == {"holdings", "CNC", "MTF"}


@pytest.mark.parametrize("include", [False, True])
async def test_stock_on_margin_is_the_leg_mtf_on_its_day_and_after_it(sim: KiteSimulator, include: bool) -> None:
    sim.trade(INFY, Side.BUY, D(1000), product="MTF")
    async with broker(sim, include_holdings=include) as adapter:
        assert legs(await adapter.snapshot(None)) == {(INFY, "MTF"): D(1000)}
        sim.next_day()
        assert legs(await adapter.snapshot(None)) == {(INFY, "MTF"): D(1000)}
        sim.trade(INFY, Side.SELL, D(400), product="MTF")
        assert legs(await adapter.snapshot(None)) == {(INFY, "MTF"): D(600)}


async def test_pledged_shares_are_held(sim: KiteSimulator) -> None:
    sim.set_holding(INFY, D(0), D(100), pledged=D(40))
    async with broker(sim, include_holdings=True) as adapter:
        assert legs(await adapter.snapshot(None)) == {(INFY, "holdings"): D(40)}


@pytest.mark.parametrize(
    "fields",
    [{"quantity": 92}, {"quantity": 92, "opening_quantity": 0}, {"quantity": 92, "opening_quantity": 120}],
    ids=["nothing is known of the opening", "an opening of nothing", "an opening that is neither"],
)
def test_of_92_held_and_57_sold_today_nothing_is_guessed_where_the_readings_differ(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRow, match="57"):
        holding_row(holding(used_quantity=57, **fields))
    read = holdings([holding(used_quantity=57, **fields)])
    assert [(problem.instrument, read.rows) for problem in read.problems] == [(INFY, {})]


@pytest.mark.parametrize(("quantity", "opening", "began"), [(92, 92, 92), (35, 92, 92), (92, 149, 149)])
def test_where_the_opening_shows_a_holding_is_what_the_day_began_with(quantity: int, opening: int, began: int) -> None:
    row = holding_row(holding(quantity=quantity, used_quantity=57, opening_quantity=opening))
    assert row.position is not None
    assert row.position.quantity == began


def test_an_average_of_nothing_is_not_reported() -> None:
    row = holding_row(holding(average_price=0, discrepancy=True))
    assert row.position is not None
    assert row.position.comparable_price is None


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", ["NSE", "BSE"])
def test_a_holding_of_the_other_exchange_goes_by_the_configured_name(shown: str) -> None:
    found = portfolio(listed(), holdings([holding(exchange=shown)]), Names([INFY]), ())
    assert [row.instrument for row in found.holdings] == [INFY]


def test_a_holding_goes_by_the_name_it_was_bought_under_where_all_is_reconciled() -> None:
    names = Names()
    portfolio(listed(net()), holdings([]), names, ())
    found = portfolio(listed(), holdings([holding(exchange="BSE")]), names, ())
    assert ([row.instrument for row in found.holdings], dict(found.left_out)) == ([INFY], {})


def test_a_holding_that_may_have_been_bought_under_another_name_leaves_that_one_unknown() -> None:
    found = portfolio(listed(), holdings([holding(exchange="BSE")]), Names(), ())
    assert [row.instrument for row in found.holdings] == [INFY_BSE]
    assert ISIN in found.left_out[INFY]


def test_two_rows_of_one_isin_are_one_holding() -> None:
    rows = [holding(), holding(exchange="BSE", quantity=30, average_price=D(120))]
    found = portfolio(listed(), holdings(rows), Names([INFY]), ())
    assert [(row.instrument, row.quantity, row.average_price) for row in found.holdings] == [(INFY, D(40), D(115))]


# -- averages ------------------------------------------------------------------------------------------------------


def test_after_a_round_trip_the_average_of_what_is_left_is_worked_out_from_the_trades() -> None:
    row = net(quantity=1, average_price=D("2.635"), day_buy_quantity=2, day_sell_quantity=1)
    trades = [fill(1, 1, "2.64"), fill(2, 1, "2.62", Side.SELL), fill(3, 1, "2.63")]
    (held,) = portfolio(listed(row), None, Names(), trades).rows
    assert (held.average_price, held.comparable_price) == (D("2.635"), D("2.63"))


def test_an_average_over_what_came_over_night_is_worked_out_too() -> None:
    row = net(quantity=5, overnight_quantity=10, average_price=D(101), day_buy_quantity=10, day_sell_quantity=15)
    trades = [fill(1, 10, 102), fill(2, 15, 110, Side.SELL)]
    (held,) = portfolio(listed(row), None, Names(), trades).rows
    assert held.comparable_price == D(101)


@pytest.mark.parametrize("trades", [None, [fill(1, 1, "2.64")]], ids=["trades not known", "trades that do not make it"])
def test_an_average_of_all_buys_is_not_reported_where_the_trades_do_not_make_the_row(trades: list[Fill] | None) -> None:
    row = net(quantity=1, average_price=D("2.635"), day_buy_quantity=2, day_sell_quantity=1)
    (held,) = portfolio(listed(row), None, Names(), trades).rows
    assert held.comparable_price is None


# -- conversions ---------------------------------------------------------------------------------------------------


async def test_a_conversion_is_no_contradiction_of_positions_and_trades(sim: KiteSimulator) -> None:
    sim.trade(INFY, Side.BUY, D(10), product="MIS")
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        sim.convert(INFY, "MIS", "CNC", D(10))
        snapshot = await adapter.snapshot(None)
    assert isinstance(snapshot.positions, Complete)
    assert legs(snapshot) == {(INFY, "CNC"): D(10)}


def test_an_arrival_without_its_departure_is_not_counted_at_once() -> None:
    """A slow broker shows 20 for a moment: no leg of it is believed."""
    rows = listed(net(product="MIS"), net(product="CNC"))
    found = clashes(rows, Complete((fill(1, 10, 100, leg="MIS"),)))
    shown: Complete[Position] = Complete(tuple(row.position for row in rows.rows.values() if row.position))
    doubted = in_doubt(shown, found)
    assert isinstance(doubted, Partial)
    assert (doubted.rows, [problem.instrument for problem in doubted.problems]) == ((), [INFY])


# -- the morning ---------------------------------------------------------------------------------------------------


async def test_the_first_answers_of_a_day_close_nothing(sim: KiteSimulator) -> None:
    clock = Time()
    sim.trade(INFY, Side.BUY, D(10), product="NRML")
    sim.set_holding("NSE:TCS", D(5), D(100))
    async with broker(sim, clock, include_holdings=True) as adapter:
        await adapter.snapshot(None)
        sim.next_day()
        sim.load_day(done=False)
        for _ in range(3):
            snapshot = await adapter.snapshot(None)
            assert {p.instrument for p in problems_of(snapshot.positions)} == {INFY, "NSE:TCS"}
            clock.ahead += timedelta(seconds=20)
        sim.load_day()
        snapshot = await adapter.snapshot(None)
        assert isinstance(snapshot.positions, Complete)
        assert legs(snapshot) == {(INFY, "NRML"): D(10), ("NSE:TCS", "holdings"): D(5)}


@pytest.mark.parametrize("include", [True, False], ids=["holdings taken up", "not taken up"])
async def test_a_part_that_is_loaded_first_changes_no_book(sim: KiteSimulator, include: bool) -> None:
    """A leg of which a part was there was a drift, and the book was set to that part at once."""
    clock = Time()
    sim.trade(INFY, Side.BUY, D(10), product="NRML")
    sim.set_holding("NSE:TCS", D(5), D(100))
    async with broker(sim, clock, include_holdings=include) as adapter:
        await adapter.snapshot(None)
        sim.next_day()
        sim.set_position(INFY, "NRML", D(6), D(100))
        sim.set_holding("NSE:TCS", D(2), D(100))
        snapshot = await adapter.snapshot(None)
        assert {p.instrument for p in problems_of(snapshot.positions)} == {INFY, "NSE:TCS"}
        assert (rows_of(snapshot.positions), snapshot.aside) == ((), ())
        clock.ahead += timedelta(seconds=MORNING_S)
        snapshot = await adapter.snapshot(None)
        assert {(p.instrument, p.quantity) for p in (*rows_of(snapshot.positions), *snapshot.aside)} == {
            (INFY, D(6)),
            ("NSE:TCS", D(2)),
        }


async def test_what_is_still_gone_after_the_morning_is_believed(sim: KiteSimulator) -> None:
    clock = Time()
    sim.trade(INFY, Side.BUY, D(10), product="NRML")
    async with broker(sim, clock) as adapter:
        await adapter.snapshot(None)
        sim.next_day()
        sim.set_position(INFY, "NRML", D(0), D(0))
        (problem,) = problems_of((await adapter.snapshot(None)).positions)
        assert problem.again_at is not None
        clock.ahead += timedelta(seconds=MORNING_S)
        assert (await adapter.snapshot(None)).positions == Complete(())


# -- orders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("placed_by", "origin"),
    [("ADMINSQF", Reason.SQUARE_OFF), ("RMS1", Reason.SQUARE_OFF), ("AB1234", None), ("DR0001", None), (None, None)],
)
def test_an_order_of_the_risk_management_is_a_square_off(placed_by: str | None, origin: Reason | None) -> None:
    row = {"order_id": "1", "status": "OPEN", "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "SELL"}
    read = order_row({**row, "product": "MIS", "quantity": 5, "filled_quantity": 0, "placed_by": placed_by})
    assert read.order.origin is origin


async def test_a_fill_of_a_square_off_says_so(sim: KiteSimulator) -> None:
    sim.trade(INFY, Side.BUY, D(10), product="MIS")
    async with broker(sim) as adapter:
        first = await adapter.snapshot(None)
        sim.square_off(INFY)
        snapshot = await adapter.snapshot(first.fills_cursor)
    assert [row.reason for row in rows_of(snapshot.fills)] == [Reason.SQUARE_OFF]


async def test_an_order_whose_trades_are_never_listed_is_answered_without_them_in_the_end(sim: KiteSimulator) -> None:
    order_id = sim.trade(INFY, Side.BUY, D(10), "c1", product="MIS")
    sim.forget_trades()
    query = OrderQuery(INFY, order_id, None)
    async with broker(sim) as adapter:
        (answer,) = await adapter.find_orders([query])
        assert answer.failure is not None
    sim.set_clock(TRADES_LATE_S + 2)
    async with broker(sim) as adapter:
        (answer,) = await adapter.find_orders([query])
    assert (answer.failure, answer.fills) == (None, ())
    assert answer.order is not None
    assert answer.order.filled_quantity == D(10)


@pytest.mark.parametrize(("status", "waits"), [("AMO REQ RECEIVED", True), ("OPEN", False), ("COMPLETE", False)])
def test_an_order_for_the_next_day_waits_for_its_market_to_open(status: str, waits: bool) -> None:
    row = {"order_id": "1", "status": status, "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY"}
    filled = 5 if status == "COMPLETE" else 0
    read = order_row({**row, "variety": "amo", "product": "CNC", "quantity": 5, "filled_quantity": filled})
    assert read.order.waits_for_open is waits
