"""A share that is bought on one exchange and sold on the other is one instrument, under its configured name.

Zerodha support, "Interoperability of exchanges": shares bought on one exchange can be sold on the other, and an exit
order goes to NSE by itself. Under two names the first one would be held for ever, by all that the book can see.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
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
from brokers.clocks import BrokerTime, broker_time
from brokers.kite import KiteBroker, joined
from brokers.kite.decode import holdings, orders, positions, trades
from brokers.kite.netted import Netted
from brokers.kite.portfolio import Names, portfolio
from brokers.model import OrderStatus, Position, Side, Slice, rows_of
from brokers.port import Remembered
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
    """Books of a Kite account, brought in step with one snapshot at a time, over several days."""

    def __init__(self, sim: KiteSimulator, adapter: KiteBroker, clock: Time, *others: str) -> None:
        self.sim, self.adapter, self.clock = sim, adapter, clock
        self.book = Book("acc", INFY)
        self.books = [self.book, *(Book("acc", name) for name in others)]
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
            for book in self.books:
                slice_ = self._cache.slice(SliceRequest(book.instrument, snapshot.requested_at, book.cursor))
                assert isinstance(slice_, Slice)
                decision = reconcile(book, slice_, policy, snapshot.requested_at)
                if decision.lookups:
                    slice_ = slice_.with_answers(await self.adapter.find_orders(decision.lookups))
                    decision = reconcile(book, slice_, policy, snapshot.requested_at)
                for event in decision.events:
                    book.apply(event)
                found += decision.discrepancies
            self.pass_by(timedelta(seconds=20))
        return found

    def held(self) -> dict[tuple[str, str], Decimal]:
        return {(book.instrument, leg.name): leg.quantity for book in self.books for leg in book.legs.values()}


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


# -- where both names have a book ----------------------------------------------------------------------------------


@pytest.mark.parametrize("configured", [(), (INFY, INFY_BSE)], ids=["all", "both"])
@pytest.mark.parametrize("include", [True, False], ids=["holdings taken up", "not taken up"])
@pytest.mark.parametrize(
    ("days_before", "sold", "left"),
    [(1, 10, {}), (1, 4, {(INFY, "holdings"): D(6)}), (0, 10, {})],
    ids=["all of the holdings", "a part of them", "bought today"],
)
async def test_shares_sold_under_the_other_name_settle_overnight_without_an_alarm(
    sim: KiteSimulator,
    configured: tuple[str, ...],
    include: bool,
    days_before: int,
    sold: int,
    left: dict[Any, Decimal],
) -> None:
    """Both books were closed as CRITICAL ghosts."""
    clock = Time()
    async with broker(sim, clock=clock, instruments=configured, include_holdings=include) as adapter:
        days = Days(sim, adapter, clock, INFY_BSE)
        sim.trade(INFY, BUY, D(10), product="CNC")
        await days.look()
        for _ in range(days_before):
            days.night()
            await days.look()
        sim.trade(INFY_BSE, SELL, D(sold), product="CNC")
        await days.look()
        days.night()
        found = await days.look(40)
        causes = {(d.found.cause, d.found.severity) for d in found if d.found.type != "MALFORMED_DATA"}
        assert causes == {(Cause.SETTLEMENT, Severity.INFO)}, "and the doubt of the first minutes of the day"
        assert days.held() == left
        assert not any(book.breaks for book in days.books)


def test_what_the_books_of_an_earlier_process_held_is_the_evening(netted: Netted) -> None:
    books = {INFY: remembered(holdings=10), INFY_BSE: remembered(CNC=-10)}
    assert settled_by(netted, books=books) == {(INFY, "holdings", D(-10)), (INFY_BSE, "CNC", D(10))}
    assert settled_by(netted, books=books), "every consumer sees it"
    assert not settled_by(netted, books=books, at=MORNING + timedelta(minutes=11))
    delivered = [Position(INFY, "holdings", D(10), D(100))]
    assert not settled_by(Netted(), delivered, books={INFY: remembered(CNC=10), INFY_BSE: remembered()}), "its own"


@pytest.mark.parametrize(
    ("evening", "morning", "more"),
    [
        ({INFY_BSE: -10}, {}, {}),
        ({INFY: 10, INFY_BSE: -10}, {INFY: 10}, {}),
        ({INFY: 10, INFY_BSE: -10}, {INFY: 4}, {}),
        ({INFY: 10, INFY_BSE: -10}, {INFY_BSE: -10}, {}),
        ({INFY: 4, INFY_BSE: -10}, {INFY: -6}, {}),
        ({INFY: 10, "BSE:TCS": -10}, {}, {}),
        ({INFY: 10, INFY_BSE: 5}, {INFY: 10}, {}),
        ({INFY: 10, INFY_BSE: -10}, {}, {"traded": {INFY}}),
        ({INFY: 10, INFY_BSE: -10}, {}, {"unknown": {INFY_BSE}}),
    ],
    ids=[
        "sold short", "the purchase is still there", "more is left than should be", "the other one is gone",
        "more was sold than bought", "another share", "one is simply gone", "one was traded today", "one is in doubt",
    ],
)  # fmt: skip
def test_what_does_not_add_up_is_no_settlement(
    netted: Netted, evening: dict[str, int], morning: dict[str, int], more: dict[str, Any]
) -> None:
    held_then = [Position(name, "CNC", D(quantity), D(100)) for name, quantity in evening.items()]
    assert not settled_by(netted, held_then, at=MORNING - timedelta(hours=12))
    assert not settled_by(netted, [Position(n, "CNC", D(q), D(100)) for n, q in morning.items()], **more)


def test_a_rest_that_goes_where_nobody_compares_it_is_left_to_a_person(netted: Netted) -> None:
    """Explained, the book would be flat without a word, and six shares are held."""
    evening = [Position(INFY, "CNC", D(10), D(100)), Position(INFY_BSE, "CNC", D(-4), D(100))]
    rest = Position(INFY, "holdings", D(6), D(100))
    assert not settled_by(netted, evening, at=MORNING - timedelta(hours=12))
    assert not settled_by(netted, aside=[rest])
    bought = [Position(INFY_BSE, "CNC", D(6), D(100))]
    another = Netted()
    assert not settled_by(another, bought, at=MORNING - timedelta(hours=12))
    assert not settled_by(another, aside=[rest])


async def test_what_is_bought_under_both_names_becomes_one_holding_without_an_alarm(sim: KiteSimulator) -> None:
    """The book of the second name was closed as a CRITICAL ghost, and the first one's grew with nothing to say why."""
    clock = Time()
    async with broker(sim, clock=clock, include_holdings=True) as adapter:
        days = Days(sim, adapter, clock, INFY_BSE)
        sim.trade(INFY, BUY, D(10), product="CNC")
        await days.look()
        days.night()
        await days.look()
        sim.trade(INFY_BSE, BUY, D(5), product="CNC")
        await days.look()
        days.night()
        found = await days.look(40)
        causes = {(d.found.cause, d.found.severity) for d in found if d.found.type != "MALFORMED_DATA"}
        assert causes == {(Cause.SETTLEMENT, Severity.INFO)}
        assert days.held() == {(INFY, "holdings"): D(15)}


MORNING = broker_time(datetime(2025, 11, 20, 4, 0, tzinfo=UTC))


@pytest.fixture
def netted() -> Netted:
    return Netted()


def remembered(**legs: int) -> Remembered:
    seen_at = datetime(2025, 11, 19, 12, 0, tzinfo=UTC)
    return Remembered({leg: (D(quantity), D(100)) for leg, quantity in legs.items()}, seen_at=seen_at)


def settled_by(
    netted: Netted,
    rows: Iterable[Position] = (),
    *,
    aside: Iterable[Position] = (),
    books: Mapping[str, Remembered] | None = None,
    unknown: Collection[str] = (),
    traded: Collection[str] = (),
    at: BrokerTime = MORNING,
) -> set[tuple[str, str, Decimal | None]]:
    found = netted.look(rows, aside, books or {}, unknown, traded, at)
    return {(one.instrument, one.leg, one.change) for one in found}


# -- the ISIN, over a restart --------------------------------------------------------------------------------------

OLD, NEW, ISIN = "NSE:ZOMATO", "NSE:ETERNAL", "INE758T01015"


@pytest.mark.parametrize("configured", [(), (OLD,)], ids=["all", "the old one"])
async def test_a_share_whose_symbol_is_changed_stays_in_its_book_over_a_restart(
    sim: KiteSimulator, configured: tuple[str, ...]
) -> None:
    """The book was closed as a CRITICAL ghost, and the shares were another instrument's, or nobody's."""
    sim.set_holding(OLD, D(10), D(200), isin=ISIN)
    async with broker(sim, instruments=configured, include_holdings=True) as adapter:
        before = await adapter.snapshot(None)
        assert before.contracts[OLD].identity == ISIN
    sim.show_holding_as(OLD, NEW, ISIN)
    async with broker(sim, instruments=configured, include_holdings=True) as adapter:
        adapter.identify({OLD: ISIN})
        cursor = (await adapter.snapshot(None)).fills_cursor
        sim.trade(NEW, SELL, D(4), product="CNC")
        after = await adapter.snapshot(cursor)
    assert held(after) == {(OLD, "holdings"): D(10), (OLD, "CNC"): D(-4)}
    assert {row.instrument for row in rows_of(after.fills)} | {row.instrument for row in rows_of(after.orders)} == {OLD}
    assert (after.contracts[OLD].identity, dict(after.left_out)) == (ISIN, {})


def named(names: Names, exchange: str, symbol: str = "INFY", isin: str = ISIN) -> str:
    read = holdings([{**share(exchange, isin, 10), "tradingsymbol": symbol}])
    names.learn_shares(tuple(read.rows.values()))
    found = portfolio(positions({"net": []}), read, names, ())
    (row,) = found.holdings
    return f"{row.instrument} but for {', '.join(found.left_out)}" if found.left_out else row.instrument


@pytest.mark.parametrize(
    ("configured", "books", "shown", "expected"),
    [
        ((), {}, "NSE", f"{INFY} but for {INFY_BSE}"),
        ((), {INFY: ISIN}, "NSE", INFY),
        ((), {INFY_BSE: ISIN}, "NSE", INFY_BSE),
        ((), {INFY: ISIN, INFY_BSE: ISIN}, "NSE", f"{INFY} but for {INFY_BSE}"),
        ((), {INFY: ISIN, INFY_BSE: "INE000000000"}, "NSE", f"{INFY} but for {INFY_BSE}"),
        ((OLD, INFY), {OLD: ISIN}, "NSE", INFY),
        ((OLD,), {OLD: ISIN}, "NSE", OLD),
    ],
    ids=[
        "no book", "its own", "that of the other exchange", "two of one ISIN", "another share's on the other exchange",
        "its new symbol is configured", "it has a new symbol",
    ],
)  # fmt: skip
def test_a_holding_is_that_of_the_book_with_its_isin(
    configured: tuple[str, ...], books: dict[str, str], shown: str, expected: str
) -> None:
    names = Names(configured)
    names.pin(books)
    assert named(names, shown) == expected
    if configured:
        assert {names.shared(name) for name in (INFY, INFY_BSE)} == {expected}, "what is traded is the same share"


def test_a_symbol_with_a_new_isin_is_the_same_instrument() -> None:
    """NSDL: a share whose face value is changed (a split) gets another ISIN."""
    names = Names((INFY,))
    names.pin({INFY: ISIN})
    assert named(names, "NSE", isin="INE009A01099") == INFY
    assert names.shared(INFY_BSE) == INFY
