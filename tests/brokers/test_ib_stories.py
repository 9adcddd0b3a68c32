"""Situations at Interactive Brokers as people met them, over the wire and into the book: whose fill it is, whose order,
what an instrument is, and what ends a position without an order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from actors.account.snapshot_cache import SnapshotCache
from actors.book.book import Book
from actors.book.checkpoint import checkpoint, replay
from actors.book.discrepancies import Cause, Discrepancy, DiscrepancyType
from actors.book.policy import Policy
from actors.events import Event, EventType, Severity
from actors.messages import SliceRequest
from actors.reconciliation.decide import reconcile
from brokers.clocks import broker_time
from brokers.ib import IbBroker
from brokers.model import Cursor, OrderQuery, OrderStatus, Reason, Side, Slice, rows_of
from brokers.port import Remembered
from brokers.registry import CONVENTIONS
from brokers.simulators.ib import IbSimulator
from brokers.simulators.ib_wire import SimContract, SimHours, hours_from
from tests.brokers.at_ib import completeness, connected, simulated
from tests.brokers.reading import Ticking
from tests.unit.builders import records

D = Decimal
LONG_CALL, SHORT_CALL = "XSP   270115C00770000", "XSP   270115C00780000"
POLICY = Policy(settle=timedelta(0), confirm_gap=timedelta(0), conventions=CONVENTIONS["ib"])


class Desk:
    """The books of an account, each brought in step with one snapshot at a time, as the actors do."""

    def __init__(self, tws: IbSimulator, broker: IbBroker) -> None:
        self.tws, self.broker = tws, broker
        self.books: dict[str, Book] = {}
        self.events: dict[str, list[Event]] = {}
        self._cache = SnapshotCache("acc", "1")
        self._cursor: Cursor | None = None

    async def look(self, *instruments: str, times: int = 3) -> list[Discrepancy]:
        """Every discrepancy that the cycles after ``times`` snapshots report of these instruments."""
        found: list[Discrepancy] = []
        for _ in range(times):
            snapshot = await self.broker.snapshot(self._cursor, whole=True)
            self._cache.take(snapshot, self._cursor)
            self._cursor = snapshot.fills_cursor or self._cursor
            for name in instruments:
                found += await self._one(name, snapshot.requested_at)
        return found

    async def _one(self, name: str, now: datetime) -> tuple[Discrepancy, ...]:
        book = self.books.setdefault(name, Book("acc", name))
        slice_ = self._cache.slice(SliceRequest(name, now, book.cursor))
        assert isinstance(slice_, Slice)
        decision = reconcile(book, slice_, POLICY, now)
        for _ in range(3):
            if decision.lookups:
                slice_ = slice_.with_answers(await self.broker.find_orders(decision.lookups))
                decision = reconcile(book, slice_, POLICY, now)
        for event in decision.events:
            book.apply(event)
            self.events.setdefault(name, []).append(event)
        return decision.discrepancies

    def quantities(self) -> dict[str, Decimal]:
        return {name: leg.quantity for name, book in self.books.items() for leg in book.legs.values()}

    def check_replay(self) -> None:
        for name, book in self.books.items():
            again = replay("acc", name, records(self.events.get(name, ()), book.stream))
            assert checkpoint(again) == checkpoint(book)


@asynccontextmanager
async def a_desk(**settings: object) -> AsyncIterator[Desk]:
    with simulated(**settings) as tws:
        async with connected(tws) as broker:
            desk = Desk(tws, broker)
            yield desk
            desk.check_replay()


def combination(tws: IbSimulator) -> str:
    """A vertical spread, described to the simulator; gives the name that it goes by."""
    one, other = tws.contract(LONG_CALL).con_id, tws.contract(SHORT_CALL).con_id
    legs = f"+1x{one}-1x{other}"
    tws.describe("spread", SimContract(28812380, "XSP", "BAG", exchange="SMART", local_symbol="28812380", legs=legs))
    tws.set_price(LONG_CALL, D("11.98"))
    tws.set_price(SHORT_CALL, D("8.90"))
    return "XSP BAG " + "".join(f"{ratio}x{con_id}" for con_id, ratio in sorted([(one, "+1"), (other, "-1")]))


# -- currencies --------------------------------------------------------------------------------------------------


async def test_a_currency_that_is_converted_is_cash_and_moves_no_position() -> None:
    """TWS User's Guide, FX Portfolio: a position of a currency pair is virtual, and conversions are kept out of it by
    the destination FXCONV. Booked, each would be a position that nobody holds, and a CRITICAL ghost next."""
    clock = Ticking()
    async with a_desk(clock=clock) as desk:
        desk.tws.trade("EUR.USD", Side.BUY, D(25_000))
        await desk.look("EUR.USD", "GBP.USD")
        clock.pass_by(60)
        desk.tws.convert("EUR.USD", Side.SELL, D(4_000))
        found = await desk.look("EUR.USD")
        assert DiscrepancyType.POSITION_MISMATCH not in {d.found.type for d in found}
        assert desk.quantities() == {"EUR.USD": D(25_000)}
        (order,) = (one for one in desk.books["EUR.USD"].orders.values() if one.side is Side.SELL)
        assert (order.filled_quantity, order.status) == (D(4_000), OrderStatus.FILLED)
        desk.tws.convert("GBP.USD", Side.BUY, D(900))
        found = await desk.look("GBP.USD")
        assert DiscrepancyType.NAKED_POSITION not in {d.found.type for d in found}
        assert not desk.books["GBP.USD"].legs


# -- one order that became two -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", ["stop1", ""], ids=["with an orderRef", "without one"])
async def test_an_order_that_works_twice_at_ib_is_a_duplicate_though_it_is_attached_to_another(ref: str) -> None:
    """NautilusTrader, issue 4564: an order changed while TWS had lost IB went on working under its permId, and worked
    under a new one as well, both with one order id of their client. One was cancelled, and the other one, a protective
    stop, filled hours later and turned the position around."""
    async with a_desk(orders_by=17) as desk:
        entry = desk.tws.place_limit("AAPL", Side.BUY, D(4), D(20), "c1")
        stop = desk.tws.attach(entry, Side.SELL, D(4), D(18), ref)
        desk.tws.fill_order(entry)
        await desk.look("AAPL")
        twin = desk.tws.double(stop)
        found = await desk.look("AAPL")
        (duplicate,) = {d.found.id: d for d in found if d.found.type is DiscrepancyType.DUPLICATE_ORDER}.values()
        assert (duplicate.found.severity, set(duplicate.found.linked)) == (Severity.CRITICAL, {stop, twin})
        desk.tws.end_order(twin)
        await desk.look("AAPL")
        assert desk.books["AAPL"].breaks == {}


# -- combinations ------------------------------------------------------------------------------------------------


async def test_a_combination_has_its_own_fill_at_its_own_price_and_each_leg_has_its_own_in_its_own_book() -> None:
    async with a_desk() as desk:
        name = combination(desk.tws)
        order = desk.tws.place_limit("spread", Side.BUY, D(2), D("3.08"), "c1")
        await desk.look(name, LONG_CALL, SHORT_CALL)
        desk.tws.fill_order(order)
        found = await desk.look(name, LONG_CALL, SHORT_CALL)
        assert {d.found.type for d in found} == {DiscrepancyType.MISSED_FILL}
        assert desk.quantities() == {LONG_CALL: D(2), SHORT_CALL: D(-2)}
        (filled,) = [e.payload for e in desk.events[name] if e.type is EventType.ORDER_FILLED]
        assert (filled["price"], filled["quantity"], filled["legs"]) == ("3.08", "2", [])
        linked = {d.found.linked for d in found if d.found.broker_value == "2"}
        assert (name,) in linked
        booked = desk.books[name].find_order(order, None)
        assert booked is not None
        assert (booked.status, booked.average_fill_price) == (OrderStatus.FILLED, D("3.08"))


async def test_two_combinations_of_one_day_share_localsymbol_and_conid_and_are_two_instruments() -> None:
    with simulated() as tws:
        one, other = tws.contract(LONG_CALL).con_id, tws.contract(SHORT_CALL).con_id
        for name, legs in (("bull", f"+1x{one}-1x{other}"), ("bear", f"-1x{one}+1x{other}")):
            tws.describe(name, SimContract(28812380, "XSP", "BAG", local_symbol="28812380", legs=legs))
            tws.place_limit(name, Side.BUY, D(1), D(1), name)
        async with connected(tws) as broker:
            orders = rows_of((await broker.snapshot(None)).orders)
            assert {order.client_order_id for order in orders} == {"bull", "bear"}
            assert len({order.instrument for order in orders}) == 2


async def test_what_is_said_of_a_combinations_order_has_no_fill_of_its_legs() -> None:
    with simulated() as tws:
        name = combination(tws)
        order = tws.trade("spread", Side.BUY, D(1), "c1")
        async with connected(tws) as broker:
            (answer,) = await broker.find_orders([OrderQuery(name, order, "c1")])
            assert answer.failure is None
            assert [fill.instrument for fill in answer.fills] == [name]


# -- orders ------------------------------------------------------------------------------------------------------


async def test_an_advisers_order_of_no_account_leaves_every_section_complete_and_its_fills_are_this_accounts_part() -> (
    None
):
    with simulated() as tws:
        order = tws.place_limit("AAPL", Side.BUY, D(100), D(20), "c1")
        tws.share_out(order, "All")
        tws.fill_order(order, D(40))
        async with connected(tws) as broker:
            snapshot = await broker.snapshot(None)
            assert completeness(snapshot) == "COMPLETE COMPLETE COMPLETE"
            (row,) = rows_of(snapshot.orders)
            assert (row.quantity, row.filled_quantity, row.status) == (D(100), D(40), OrderStatus.PARTIALLY_FILLED)
            assert row.reason is not None
            assert "All" in row.reason


async def test_an_order_for_an_amount_of_cash_states_no_quantity_and_is_filled_when_tws_says_so() -> None:
    async with a_desk() as desk:
        order = desk.tws.place_limit("AAPL", Side.BUY, D(10), D(20), "c1")
        desk.tws.order_by_cash(order)
        await desk.look("AAPL")
        booked = desk.books["AAPL"].find_order(order, None)
        assert booked is not None
        assert (booked.status, booked.quantity) == (OrderStatus.OPEN, D(0))
        desk.tws.fill_order(order, D(4))
        await desk.look("AAPL")
        booked = desk.books["AAPL"].find_order(order, None)
        assert booked is not None
        assert (booked.status, booked.filled_quantity) == (OrderStatus.PARTIALLY_FILLED, D(4))
        assert desk.quantities() == {"AAPL": D(4)}


@pytest.mark.parametrize("code", [103, 105, 110, 161, 202, 399, 2109, 10147, 10148, 10349])
async def test_an_order_in_the_open_list_is_alive_after_any_code_that_is_no_rejection(code: int) -> None:
    with simulated(orders_by=17) as tws:
        order = tws.place_limit("AAPL", Side.BUY, D(5), D(1))
        async with connected(tws) as broker:
            await broker.snapshot(None)
            tws.set_status(order, "Inactive")
            tws.say(code, "a word on an order", 1)
            (shown,) = rows_of((await broker.snapshot(None)).orders)
            assert shown.status is OrderStatus.HELD


# -- what ends or changes a position without an order ------------------------------------------------------------


async def test_a_position_that_ib_liquidated_is_a_critical_liquidation() -> None:
    async with a_desk() as desk:
        desk.tws.trade("AAPL", Side.BUY, D(10))
        await desk.look("AAPL")
        desk.tws.liquidate("AAPL")
        found = await desk.look("AAPL")
        causes = {(d.found.cause, d.found.severity) for d in found if d.found.type is DiscrepancyType.MISSED_FILL}
        assert causes == {(Cause.LIQUIDATION, Severity.CRITICAL)}
        assert desk.quantities() == {}
        snapshot = await desk.broker.snapshot(0)
        assert Reason.LIQUIDATION in {fill.reason for fill in rows_of(snapshot.fills)}


@pytest.mark.parametrize(
    ("expiry", "cause", "severity"),
    [("20260102", Cause.EXPIRY, Severity.INFO), ("20260619", Cause.UNEXPLAINED, Severity.CRITICAL)],
    ids=["after its last day", "months before it"],
)
async def test_an_option_that_is_gone_expired_only_where_its_contract_says_so(
    expiry: str, cause: Cause, severity: Severity
) -> None:
    option = f"XYZ   {expiry[2:]}C00050000"
    async with a_desk() as desk:
        desk.tws.set_position(option, "net", D(3), D("0.5"))
        await desk.look(option)
        facts = desk.books[option].contract
        assert facts is not None
        assert facts.expiry == datetime.strptime(expiry, "%Y%m%d").replace(tzinfo=UTC).date()
        desk.tws.expire(option)
        found = await desk.look(option)
        assert {(d.found.cause, d.found.severity) for d in found} == {(cause, severity)}
        assert desk.quantities() == {}


EXPIRES = "XYZ   260105C00050000"
LISTED_HOURS = hours_from(date(2026, 1, 5))
NO_HOURS = SimHours()


def utc(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "gone_at", "expired"),
    [
        pytest.param(LISTED_HOURS, utc(5, 17), False, id="before its last close: somebody may have sold it"),
        pytest.param(LISTED_HOURS, utc(6, 0, 59), False, id="before the end of all hours"),
        pytest.param(LISTED_HOURS, utc(6, 1, 1), True, id="at its last moment of trading"),
        pytest.param(NO_HOURS, utc(6, 11, 59), False, id="hours not listed, before the day is over everywhere"),
        pytest.param(NO_HOURS, utc(6, 12, 1), True, id="hours not listed, after that"),
    ],
)
async def test_an_option_that_is_gone_on_its_last_day_expired_once_it_can_be_traded_no_more(
    hours: SimHours, gone_at: datetime, expired: bool
) -> None:
    clock = [utc(5, 15)]
    async with a_desk(clock=lambda: clock[0]) as desk:
        desk.tws.trade_in(hours)
        desk.tws.set_position(EXPIRES, "net", D(3), D("0.5"))
        await desk.look(EXPIRES)
        clock[0] = gone_at
        desk.tws.expire(EXPIRES)
        found = await desk.look(EXPIRES)
        cause = (Cause.EXPIRY, Severity.INFO) if expired else (Cause.UNEXPLAINED, Severity.CRITICAL)
        assert {(d.found.cause, d.found.severity) for d in found} == {cause}
        assert desk.quantities() == {}


async def test_the_last_moment_of_a_contract_is_asked_for_once_and_a_later_process_has_it_from_the_book() -> None:
    with simulated(clock=lambda: utc(5, 15)) as tws:
        tws.trade_in(LISTED_HOURS)
        for name in (EXPIRES, LONG_CALL, "AAPL"):
            tws.set_position(name, "net", D(3), D("0.5"))
        async with connected(tws) as broker:
            for _ in range(2):
                facts = (await broker.snapshot(None, whole=True)).contracts
            assert facts[EXPIRES].ends_at == broker_time(utc(6, 1))
            assert (facts[LONG_CALL].ends_at, facts["AAPL"].ends_at) == (None, None)
        assert tws.requests.count("reqContractDetails") == 1
        tws.trade_in(NO_HOURS)
        async with connected(tws) as broker:
            assert (await broker.snapshot(None)).contracts[EXPIRES].ends_at is None
            broker.remember({EXPIRES: Remembered(contract=facts[EXPIRES])})
            assert (await broker.snapshot(None)).contracts[EXPIRES].ends_at == broker_time(utc(6, 1))
            another = replace(facts[EXPIRES], identity="7")
            broker.remember({EXPIRES: Remembered(contract=another)})
            assert (await broker.snapshot(None)).contracts[EXPIRES].ends_at is None


@pytest.mark.parametrize("ratio", ["4", "1.5", "0.1"])
async def test_a_split_scales_every_lot_and_keeps_its_fill(ratio: str) -> None:
    async with a_desk() as desk:
        await desk.look("AAPL")
        for price in ("100", "130"):
            desk.tws.set_price("AAPL", D(price))
            desk.tws.trade("AAPL", Side.BUY, D(100))
            await desk.look("AAPL")
        before = list(desk.books["AAPL"].legs["net"].lots)
        assert all(lot.fill_id is not None for lot in before)
        desk.tws.split("AAPL", D(ratio))
        (found,) = await desk.look("AAPL", times=1)
        assert (found.found.cause, found.found.severity, found.resolved) == (Cause.SPLIT, Severity.INFO, True)
        after = list(desk.books["AAPL"].legs["net"].lots)
        assert [lot.fill_id for lot in after] == [lot.fill_id for lot in before]
        assert [lot.quantity for lot in after] == [lot.quantity * D(ratio) for lot in before]
        assert await desk.look("AAPL", times=1) == []


async def test_shares_that_came_without_a_trade_are_no_split_though_they_are_twice_as_many() -> None:
    async with a_desk() as desk:
        desk.tws.set_position("AAPL", "net", D(100), D(50))
        await desk.look("AAPL")
        desk.tws.set_position("AAPL", "net", D(200), D(50))
        (found,) = await desk.look("AAPL", times=1)
        assert found.found.cause is Cause.UNEXPLAINED


async def test_an_average_cost_of_0_is_not_known_and_changes_no_price_of_the_book() -> None:
    async with a_desk() as desk:
        desk.tws.set_position("AAPL", "net", D(100), D(50))
        await desk.look("AAPL")
        desk.tws.set_position("AAPL", "net", D(100), D(0))
        assert await desk.look("AAPL") == []
        assert desk.books["AAPL"].legs["net"].average_price == D(50)
