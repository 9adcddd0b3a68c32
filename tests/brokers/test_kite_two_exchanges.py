"""A share that is bought on one exchange and sold on the other is one instrument, under its configured name.

Zerodha support, "Interoperability of exchanges": shares bought on one exchange can be sold on the other, and an exit
order goes to NSE by itself. Under two names the first one would be held for ever, by all that the book can see.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from actors.account.snapshot_cache import SnapshotCache
from actors.book.book import Book
from actors.book.discrepancies import Cause, Discrepancy
from actors.book.policy import Policy
from actors.events import Severity
from actors.messages import SliceRequest
from actors.reconciliation.decide import reconcile
from brokers.kite import KiteBroker, joined
from brokers.kite.decode import holdings, orders, positions, trades
from brokers.kite.portfolio import Names, portfolio
from brokers.model import OrderStatus, Position, Side, Slice, rows_of
from brokers.registry import CONVENTIONS
from brokers.simulators.kite import KiteSimulator
from tests.brokers import kite_rows as rows
from tests.brokers.at_kite import KEY, TOKEN, USER, broker, midnight, query
from tests.brokers.reading import Time, held

D = Decimal
INFY, INFY_BSE = "NSE:INFY", "BSE:INFY"
BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def sim() -> Iterator[KiteSimulator]:
    simulator = KiteSimulator(KEY, TOKEN, USER, instruments=[INFY])
    simulator.start()
    yield simulator
    simulator.close()


async def test_shares_sold_on_the_other_exchange_are_not_held_any_more(sim: KiteSimulator) -> None:
    sim.trade(INFY, BUY, D(10), "mine", product="CNC")
    async with broker(sim, instruments=(INFY,)) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        order_id = sim.trade(INFY_BSE, SELL, D(10), product="CNC")
        snapshot = await adapter.snapshot(cursor)
        (answer,) = await adapter.find_orders([query(order_id)])
    assert held(snapshot) == {}
    (fill,) = rows_of(snapshot.fills)
    assert (fill.instrument, fill.side, fill.leg, fill.fill_id.partition("@")[2]) == (INFY, SELL, "CNC", "BSE")
    assert {row.instrument for row in rows_of(snapshot.orders)} == {INFY}
    assert answer.order is not None
    assert (answer.order.instrument, answer.order.status, answer.fills) == (INFY, OrderStatus.FILLED, (fill,))


async def test_a_holding_sold_on_the_other_exchange_is_so_today_and_tomorrow(sim: KiteSimulator) -> None:
    sim.set_holding(INFY, D(10), D(1500))
    async with broker(sim, instruments=(INFY,), include_holdings=True) as adapter:
        await adapter.snapshot(None)
        sim.trade(INFY_BSE, SELL, D(4), product="CNC")
        assert held(await adapter.snapshot(midnight())) == {(INFY, "holdings"): D(10), (INFY, "CNC"): D(-4)}
        sim.next_day()
    async with broker(sim, instruments=(INFY,), include_holdings=True) as adapter:
        assert held(await adapter.snapshot(midnight())) == {(INFY, "holdings"): D(6)}


def test_what_cannot_be_read_of_the_other_exchange_is_unknown_under_the_configured_name() -> None:
    names = Names([INFY])
    read = joined.positions(positions({"net": [net("BSE", 10, 10, 0, "?")]}), names)
    of_orders = joined.orders(orders([rows.order(exchange="BSE", status="?")]), names)
    of_trades = joined.trades(trades([rows.trade(exchange="BSE", quantity=0)]), names)
    assert {one.instrument for part in (read, of_orders, of_trades) for one in part.problems} == {INFY}


@pytest.mark.parametrize("configured", [(INFY, INFY_BSE), (), ("NSE:TCS",)], ids=["both", "all", "neither"])
def test_names_are_kept_apart_where_none_of_the_two_alone_is_configured(configured: tuple[str, ...]) -> None:
    names = Names(configured)
    assert [names.shared(name) for name in (INFY, INFY_BSE)] == [INFY, INFY_BSE]


def test_one_symbol_of_two_companies_is_two_instruments() -> None:
    names = Names([INFY])
    both = [share("NSE", "INE009A01021", 10), share("BSE", "INE999Z01011", 7)]
    read = holdings(both)
    names.learn_shares(read.rows.values())
    assert names.shared(INFY_BSE) == INFY_BSE
    found = portfolio(positions({"net": []}), read, names, ())
    assert {(row.instrument, row.quantity) for row in found.holdings} == {(INFY, D(10)), (INFY_BSE, D(7))}


def share(exchange: str, isin: str, quantity: int) -> dict[str, Any]:
    row = {"tradingsymbol": "INFY", "exchange": exchange, "isin": isin, "product": "CNC", "quantity": quantity}
    return {**row, "average_price": D(100)}


def net(exchange: str, quantity: int, bought: int, sold: int, price: object) -> dict[str, Any]:
    return rows.position(
        exchange=exchange,
        product="CNC",
        quantity=quantity,
        overnight_quantity=0,
        day_buy_quantity=bought,
        day_sell_quantity=sold,
        average_price=price,
    )


@pytest.mark.parametrize(
    ("nse", "bse", "expected"),
    [
        ((10, 10, 0, 100), (5, 5, 0, D(130)), Position(INFY, "CNC", D(15), D(110))),
        ((10, 10, 0, 100), (-4, 0, 4, D(130)), Position(INFY, "CNC", D(6), D(100))),
        ((-4, 0, 4, 130), (3, 3, 0, D(100)), Position(INFY, "CNC", D(-1), D(130))),
        ((10, 10, 0, 0), (5, 5, 0, D(130)), Position(INFY, "CNC", D(15), D(0), price_told=False)),
        ((10, 10, 0, 100), (-10, 0, 10, D(130)), None),
    ],
    ids=[
        "bought on both",
        "sold on the other",
        "sold more than bought",
        "an average that is not known",
        "nothing left",
    ],
)
def test_the_rows_of_one_leg_are_added_up(
    nse: tuple[int, int, int, object], bse: tuple[int, int, int, object], expected: Position | None
) -> None:
    listing = joined.positions(positions({"net": [net("NSE", *nse), net("BSE", *bse)]}), Names([INFY]))
    (row,) = listing.rows.values()
    assert row.position == expected
    assert (row.bought, row.sold, row.overnight) == (D(nse[1] + bse[1]), D(nse[2] + bse[2]), D(0))


def test_trades_of_one_number_on_two_exchanges_are_two_fills() -> None:
    read = trades([rows.trade(order_id="1"), rows.trade(order_id="2", exchange="BSE")])
    found = joined.trades(read, Names([INFY]))
    assert {(fill.instrument, fill.key) for fill in found.rows.values()} == {
        (INFY, "10000000|2025-11-20 BUY"),
        (INFY, "10000000@BSE|2025-11-20 BUY"),
    }
    assert [
        row.order.instrument for row in joined.orders(orders([rows.order(exchange="BSE")]), Names([INFY])).rows.values()
    ] == [INFY]


# -- from the purchase to the morning after the sale ---------------------------------------------------------------

AT_NOON = datetime(2025, 11, 20, 6, 30, tzinfo=UTC)
"""IST, on a Thursday."""


class Days:
    """One book of a Kite account, brought in step with one snapshot at a time, over several days."""

    def __init__(self, sim: KiteSimulator, adapter: KiteBroker, clock: Time) -> None:
        self.sim, self.adapter, self.clock = sim, adapter, clock
        self.book = Book("acc", INFY)
        self._cache = SnapshotCache("acc", "1")
        self._cursor: int | None = None
        self.pass_by(AT_NOON - clock.now)

    def pass_by(self, time: timedelta) -> None:
        self.clock.now += time
        self.sim.set_clock((self.clock.now - datetime.now(UTC)).total_seconds())

    def night(self) -> None:
        self.pass_by(timedelta(days=1))
        self.sim.end_day()

    async def look(self, times: int = 3) -> list[Discrepancy]:
        found: list[Discrepancy] = []
        policy = Policy(settle=timedelta(0), confirm_gap=timedelta(0), conventions=CONVENTIONS["kite"])
        for _ in range(times):
            snapshot = await self.adapter.snapshot(self._cursor, whole=True)
            self._cache.take(snapshot, self._cursor)
            self._cursor = snapshot.fills_cursor or self._cursor
            slice_ = self._cache.slice(SliceRequest(INFY, snapshot.requested_at, self.book.cursor))
            assert isinstance(slice_, Slice)
            decision = reconcile(self.book, slice_, policy, snapshot.requested_at)
            if decision.lookups:
                slice_ = slice_.with_answers(await self.adapter.find_orders(decision.lookups))
                decision = reconcile(self.book, slice_, policy, snapshot.requested_at)
            for event in decision.events:
                self.book.apply(event)
            found += decision.discrepancies
            self.pass_by(timedelta(seconds=20))
        return found


@pytest.mark.parametrize("include", [True, False], ids=["holdings taken up", "not taken up"])
@pytest.mark.parametrize("exchange", ["NSE", "BSE"])
async def test_shares_that_were_bought_and_delivered_and_sold_leave_a_flat_book_and_no_alarm(
    sim: KiteSimulator, exchange: str, include: bool
) -> None:
    clock = Time()
    async with broker(sim, clock=clock, instruments=(INFY,), include_holdings=include) as adapter:
        days = Days(sim, adapter, clock)
        sim.trade(INFY, BUY, D(10), product="CNC")
        await days.look()
        days.night()
        await days.look()
        assert {name: leg.quantity for name, leg in days.book.legs.items()} == {"holdings": D(10)}
        sim.trade(f"{exchange}:INFY", SELL, D(10), product="CNC")
        await days.look()
        assert sum(leg.quantity for leg in days.book.legs.values()) == 0
        days.night()
        found = await days.look()
        assert {(d.found.cause, d.found.severity) for d in found} == {(Cause.SETTLEMENT, Severity.INFO)}
        assert (days.book.legs, days.book.breaks) == ({}, {})
