"""The venue of a paper account: what becomes of orders against prices."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from brokers.model import NET, Fill, Order, OrderStatus, Position, Side
from brokers.paper import venue as venue_module
from brokers.paper.prices import Market
from brokers.paper.state import State
from brokers.paper.venue import SHOWN_FOR, Venue
from brokers.port import NewOrder

D = Decimal
S = OrderStatus
BUY, SELL = Side.BUY, Side.SELL
T0 = datetime(2024, 1, 2, 9, 0, tzinfo=UTC)
EURUSD = "EURUSD"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def venue(*markets: Market, symbols: tuple[str, ...] = (EURUSD,), stale_after_s: float | None = None) -> Venue:
    stale_after = None if stale_after_s is None else timedelta(seconds=stale_after_s)
    made = Venue(State("rehearsal", T0), markets, frozenset(symbols) or None, stale_after)
    made.open(T0)
    return made


def fed(bid: str = "1.10", ask: str = "1.11", *markets: Market) -> Venue:
    made = venue(*markets)
    made.feed(EURUSD, D(bid), D(ask), T0)
    return made


def new(
    client: str = "c1", side: Side = BUY, quantity: str = "100", kind: str = "MARKET", price: str | None = None
) -> NewOrder:
    exact = None if price is None else D(price)
    stop = exact if kind == "STOP" else None
    return NewOrder(EURUSD, client, side, D(quantity), kind, None if stop is not None else exact, stop)


def only(made: Venue) -> Order:
    (order,) = made.orders(at(60))
    return order


def fills(made: Venue) -> list[tuple[str, str, str]]:
    return [(f.fill_id, str(f.quantity), str(f.price)) for f in made.fills_after(0) or ()]


def restarted(made: Venue, *markets: Market, symbols: tuple[str, ...] = (EURUSD,)) -> Venue:
    """The venue as it is after its state went through its file."""
    adapter = TypeAdapter(State)
    kept = adapter.validate_json(adapter.dump_json(made.state()))
    assert kept == made.state()
    assert kept.problem() is None
    return Venue(kept, markets, frozenset(symbols) or None)


ON_ARRIVAL = {
    # side, type, price -> status, fill price; the price is 1.10 to 1.11
    "a market buy pays the ask": (BUY, "MARKET", None, S.FILLED, "1.11"),
    "a market sell gets the bid": (SELL, "MARKET", None, S.FILLED, "1.10"),
    "a limit buy below the ask rests": (BUY, "LIMIT", "1.105", S.OPEN, None),
    "a limit sell above the bid rests": (SELL, "LIMIT", "1.105", S.OPEN, None),
    "a limit buy at the ask fills": (BUY, "LIMIT", "1.11", S.FILLED, "1.11"),
    "a limit buy above the ask fills at the ask": (BUY, "LIMIT", "1.20", S.FILLED, "1.11"),
    "a limit sell below the bid fills at the bid": (SELL, "LIMIT", "1.00", S.FILLED, "1.10"),
    "a stop buy above the ask rests": (BUY, "STOP", "1.12", S.OPEN, None),
    "a stop sell below the bid rests": (SELL, "STOP", "1.09", S.OPEN, None),
    "a stop buy that is reached fills at the ask": (BUY, "STOP", "1.10", S.FILLED, "1.11"),
    "a stop sell that is reached fills at the bid": (SELL, "STOP", "1.10", S.FILLED, "1.10"),
    "order types as IB writes them": (BUY, "LMT", "1.105", S.OPEN, None),
    "order types in small letters": (BUY, "market", None, S.FILLED, "1.11"),
}


@pytest.mark.parametrize(("side", "kind", "price", "status", "filled_at"), ON_ARRIVAL.values(), ids=ON_ARRIVAL.keys())
def test_what_becomes_of_an_order_when_it_arrives(
    side: Side, kind: str, price: str | None, status: OrderStatus, filled_at: str | None
) -> None:
    made = fed()
    assert made.submit(new(side=side, kind=kind, price=price), at(1)) == "P1"
    order = only(made)
    assert (order.status, order.client_order_id, order.order_type) == (status, "c1", kind)
    assert fills(made) == ([] if filled_at is None else [("F1", "100", filled_at)])
    assert order.filled_quantity == (0 if filled_at is None else 100)


LATER = {
    # side, type, price, next bid and ask -> fill price
    "a limit buy when the ask comes down to it": (BUY, "LIMIT", "1.09", "1.08", "1.09", "1.09"),
    "a limit buy when the ask falls below it": (BUY, "LIMIT", "1.09", "1.05", "1.06", "1.06"),
    "a limit buy not before": (BUY, "LIMIT", "1.09", "1.09", "1.0901", None),
    "a limit sell when the bid comes up to it": (SELL, "LIMIT", "1.12", "1.12", "1.13", "1.12"),
    "a stop buy when the ask reaches it": (BUY, "STOP", "1.12", "1.12", "1.13", "1.13"),
    "a stop sell when the bid falls through it": (SELL, "STOP", "1.09", "1.05", "1.06", "1.05"),
    "a stop buy not before": (BUY, "STOP", "1.12", "1.10", "1.115", None),
}


@pytest.mark.parametrize(("side", "kind", "price", "bid", "ask", "filled_at"), LATER.values(), ids=LATER.keys())
def test_a_resting_order_fills_at_the_price_that_reaches_it(
    side: Side, kind: str, price: str, bid: str, ask: str, filled_at: str | None
) -> None:
    made = fed()
    made.submit(new(side=side, kind=kind, price=price), at(1))
    made.feed(EURUSD, D(bid), D(ask), at(2))
    assert fills(made) == ([] if filled_at is None else [("F1", "100", filled_at)])


def test_only_so_much_fills_at_one_price_and_the_rest_at_the_next_ones() -> None:
    """FEATURES 5"""
    made = fed("1.10", "1.11", Market(EURUSD, liquidity=D(40)))
    made.submit(new(kind="LIMIT", price="1.15"), at(1))
    assert (only(made).status, only(made).filled_quantity) == (S.PARTIALLY_FILLED, D(40))
    made.submit(new("c2", SELL, "40"), at(2))
    assert made.orders(at(2))[1].status is S.FILLED, "what is bid is not what is asked"
    made.feed(EURUSD, D("1.11"), D("1.12"), at(3))
    made.feed(EURUSD, D("1.12"), D("1.13"), at(4))
    order = made.orders(at(5))[0]
    assert (order.status, order.filled_quantity) == (S.FILLED, D(100))
    assert order.average_fill_price == (40 * D("1.11") + 40 * D("1.12") + 20 * D("1.13")) / 100
    assert [row.quantity for row in made.fills_after(0) or ()] == [40, 40, 40, 20]


def test_what_there_is_goes_to_market_orders_then_the_best_limit_then_the_oldest() -> None:
    made = venue(Market(EURUSD, liquidity=D(250)))
    for name, price in (("low", "1.12"), ("high", "1.14"), ("high, later", "1.14")):
        made.submit(new(name, kind="LIMIT", price=price), at(1))
    made.submit(new("stop", kind="STOP", price="1.11"), at(2))
    made.feed(EURUSD, D("1.10"), D("1.11"), at(3))
    by_name = {row.client_order_id: row.filled_quantity for row in made.orders(at(4))}
    assert by_name == {"stop": 100, "high": 100, "high, later": 50, "low": 0}


@pytest.mark.parametrize(
    ("kind", "price", "expected"),
    [("MARKET", None, "1.13"), ("STOP", "1.10", "1.13"), ("LIMIT", "1.12", "1.11")],
    ids=["a market order", "a stop", "never a limit"],
)
def test_slippage_makes_what_takes_any_price_worse(kind: str, price: str | None, expected: str) -> None:
    made = fed("1.10", "1.11", Market(EURUSD, slippage=D("0.02")))
    made.submit(new(kind=kind, price=price), at(1))
    assert fills(made) == [("F1", "100", expected)]


REJECTED = {
    "no quantity": (new(quantity="0"), "bad quantity 0"),
    "less than no quantity": (new(quantity="-5"), "bad quantity -5"),
    "too exact a quantity": (new(quantity="0.1234567890123"), "bad quantity"),
    "an unknown symbol": (NewOrder("XAUUSD", "c1", BUY, D(1), "MARKET"), "unknown symbol XAUUSD"),
    "no price yet": (NewOrder("GBPUSD", "c1", BUY, D(1), "MARKET"), "no price of GBPUSD yet"),
    "an unknown type": (new(kind="STOP_LIMIT", price="1.1"), "order type STOP_LIMIT"),
    "a limit order without its limit": (new(kind="LIMIT"), "it names no limit_price"),
    "a stop below zero": (new(kind="STOP", price="-1"), "bad stop price -1"),
    "a price between two ticks": (new(kind="LIMIT", price="1.105"), "not a multiple of tick 0.01"),
    "good till the past": (NewOrder(EURUSD, "c1", BUY, D(1), "MARKET", expires_at=T0), "which is over"),
}


@pytest.mark.parametrize(("order", "reason"), REJECTED.values(), ids=REJECTED.keys())
def test_what_cannot_be_executed_is_rejected_with_the_reason(order: NewOrder, reason: str) -> None:
    """FEATURES 18"""
    made = venue(Market(EURUSD, tick=D("0.01")), symbols=(EURUSD, "GBPUSD"))
    made.feed(EURUSD, D("1.10"), D("1.11"), T0)
    made.submit(order, at(1))
    row = only(made)
    assert row.status is S.REJECTED
    assert reason in (row.reason or "")
    assert fills(made) == []


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1E+400000"])
def test_what_is_no_number_is_no_order(text: str) -> None:
    made = fed()
    with pytest.raises(ValueError, match="not a number"):
        made.submit(new(quantity=text), at(1))
    assert made.orders(at(1)) == ()


def test_a_stale_price_executes_nothing_until_the_next_one() -> None:
    made = venue(stale_after_s=60)
    made.feed(EURUSD, D("1.10"), D("1.11"), T0)
    made.submit(new("market"), at(61))
    made.submit(new("limit", kind="LIMIT", price="1.2"), at(61))
    market, limit = made.orders(at(62))
    assert (market.status, limit.status) == (S.REJECTED, S.OPEN)
    assert "stale price" in (market.reason or "")
    made.feed(EURUSD, D("1.10"), D("1.11"), at(70))
    assert made.orders(at(71))[1].status is S.FILLED


def test_a_price_that_stands_by_configuration_is_never_stale() -> None:
    made = Venue(State("r", T0), [Market(EURUSD, start=D("1.1"))], frozenset({EURUSD}), timedelta(seconds=1))
    made.open(T0)
    made.submit(new(), at(3600))
    assert fills(made) == [("F1", "100", "1.1")]


@pytest.mark.parametrize(
    ("symbol", "bid", "ask", "found"),
    [
        (EURUSD, "0", "1", "bid 0"),
        (EURUSD, "NaN", "1", "bid NaN"),
        (EURUSD, "1.2", "1.1", "above ask"),
        (EURUSD, "1", "-1", "ask -1"),
        ("XAUUSD", "1", "2", "EURUSD"),
    ],
)
def test_what_is_no_price_is_not_taken(symbol: str, bid: str, ask: str, found: str) -> None:
    made = fed()
    with pytest.raises(ValueError, match=found):
        made.feed(symbol, D(bid), D(ask), at(1))
    assert made.quotes()[EURUSD].bid == D("1.10")


def test_the_same_order_again_is_one_order() -> None:
    """FEATURES 23"""
    made = fed()
    for seconds in range(3):
        assert made.submit(new(), at(seconds)) == "P1"
        made = restarted(made)
    assert fills(made) == [("F1", "100", "1.11")]
    with pytest.raises(ValueError, match="P1, which is another order"):
        made.submit(new(quantity="101"), at(4))


def test_a_cancelled_order_is_cancelled_and_one_that_has_ended_is_not() -> None:
    made = fed()
    resting = made.submit(new(kind="LIMIT", price="1.0"), at(1))
    filled = made.submit(new("c2"), at(2))
    assert made.cancel(resting, at(3))
    assert made.cancel(resting, at(4)), "asked again it still is"
    assert not made.cancel(filled, at(5))
    assert not made.cancel("P99", at(6))
    assert not made.cancel("anything", at(7))
    assert [row.status for row in made.orders(at(8))] == [S.CANCELLED, S.FILLED]
    made.feed(EURUSD, D("0.9"), D("0.9"), at(9))
    assert len(fills(made)) == 1


def test_an_order_ends_when_its_time_is_over_before_any_later_price() -> None:
    made = fed()
    made.submit(NewOrder(EURUSD, "c1", BUY, D(1), "LIMIT", D("1.0"), expires_at=at(10)), at(1))
    made.feed(EURUSD, D("0.9"), D("0.9"), at(10))
    assert (only(made).status, fills(made)) == (S.EXPIRED, [])


HOLDINGS = {
    # trades -> quantity, average price
    "added to": ([(BUY, "100", "1.0"), (BUY, "300", "2.0")], ("400", "1.75")),
    "closed in part": ([(BUY, "100", "1.0"), (SELL, "40", "2.0")], ("60", "1.0")),
    "closed": ([(BUY, "100", "1.0"), (SELL, "100", "2.0")], None),
    "turned": ([(BUY, "100", "1.0"), (SELL, "150", "2.0")], ("-50", "2.0")),
    "short": ([(SELL, "10", "3"), (SELL, "30", "1")], ("-40", "1.5")),
}


@pytest.mark.parametrize(("trades", "held"), HOLDINGS.values(), ids=HOLDINGS.keys())
def test_a_position_is_the_net_of_its_fills_at_their_average(
    trades: list[tuple[Side, str, str]], held: tuple[str, str] | None
) -> None:
    made = venue()
    for number, (side, quantity, price) in enumerate(trades):
        made.feed(EURUSD, D(price), D(price), at(number))
        made.submit(new(f"c{number}", side, quantity), at(number))
    expected = () if held is None else (Position(EURUSD, NET, D(held[0]), D(held[1])),)
    assert made.positions() == expected


WALK = Market(EURUSD, start=D("1.1000"), tick=D("0.0001"), spread=D("0.0002"), seed=7, liquidity=D(30))


def walked(market: Market, steps: int, *, restart_at: int = -1) -> Venue:
    made = venue(market)
    made.submit(new(quantity="1000", kind="LIMIT", price="1.1001"), T0)
    for step in range(1, steps + 1):
        made.step(EURUSD, at(step))
        if step == restart_at:
            made = restarted(made, market)
            made.open(at(step))
    return made


def test_the_same_seed_gives_the_same_prices_and_fills_over_a_restart_too() -> None:
    first = walked(WALK, 200)
    assert len(fills(first)) > 1
    assert walked(WALK, 200).state() == first.state()
    assert walked(WALK, 200, restart_at=77).state() == first.state()
    other = Market(EURUSD, start=D("1.1000"), tick=D("0.0001"), spread=D("0.0002"), seed=8, liquidity=D(30))
    assert fills(walked(other, 200)) != fills(first)


def test_a_walk_keeps_to_its_ticks_and_above_zero() -> None:
    made = venue(Market(EURUSD, start=D("0.03"), tick=D("0.01"), spread=D("0.02"), seed=1))
    seen = set()
    for step in range(300):
        made.step(EURUSD, at(step))
        quote = made.quotes()[EURUSD]
        assert quote.bid > 0
        assert quote.bid % D("0.01") == 0
        assert quote.ask - quote.bid == D("0.02")
        seen.add(quote.bid)
    assert D("0.01") in seen
    assert len(seen) > 3


def test_a_price_that_was_configured_anew_counts_and_one_that_was_fed_stays() -> None:
    made = venue(Market(EURUSD, start=D("1.2")))
    made.submit(new(kind="LIMIT", price="1.1"), at(1))
    again = restarted(made, Market(EURUSD, start=D("1.05")))
    again.open(at(2))
    assert fills(again) == [("F1", "100", "1.05")]
    again.feed(EURUSD, D("3"), D("3"), at(3))
    once_more = restarted(again, Market(EURUSD, start=D("1.05")))
    once_more.open(at(4))
    assert once_more.quotes()[EURUSD].bid == 3


def test_a_restart_does_not_bring_liquidity_back() -> None:
    market = Market(EURUSD, start=D("1.1"), liquidity=D(40))
    made = venue(market)
    made.submit(new(), at(1))
    again = restarted(made, market)
    again.open(at(2))
    again.submit(new("c2"), at(3))
    assert [row.filled_quantity for row in again.orders(at(4))] == [40, 0]


def test_without_a_list_of_instruments_whatever_has_had_a_price_can_be_traded() -> None:
    made = venue(symbols=())
    made.submit(new("early", kind="LIMIT", price="1"), at(1))
    made.feed(EURUSD, D("1.1"), D("1.1"), at(2))
    made.submit(new("later"), at(3))
    assert [row.status for row in made.orders(at(4))] == [S.REJECTED, S.FILLED]


def test_an_order_that_ended_is_shown_for_a_day_and_found_for_longer() -> None:
    made = fed()
    made.submit(new(), at(1))
    later = at(2) + SHOWN_FOR
    assert made.orders(later) == ()
    found = made.find("P1", None)
    assert found is not None
    assert [row.quantity for row in made.fills_of(found)] == [100]


def test_what_is_no_longer_kept_is_not_taken_for_what_never_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEERS 12"""
    monkeypatch.setattr(venue_module, "FILLS_KEPT", 3)
    monkeypatch.setattr(venue_module, "ENDED_KEPT", 2)
    made = fed()
    for number in range(1, 6):
        made.submit(new(f"c{number}", quantity="1"), at(number))
    assert made.fills_after(1) is None
    assert [row.fill_id for row in made.fills_after(2) or ()] == ["F3", "F4", "F5"]
    assert made.find("P1", None) is None
    assert made.has_forgotten("P1")
    assert not made.has_forgotten("P6")
    assert not made.has_forgotten("P01")
    assert made.positions()[0].quantity == 5


# Properties

KINDS = ("MARKET", "LIMIT", "STOP")
PRICES = st.integers(90, 110).map(lambda n: D(n) / 100)
QUANTITIES = st.integers(-1, 60).map(D)
STEPS = st.one_of(
    st.tuples(
        st.just("submit"), st.integers(0, 12), st.sampled_from(list(Side)), QUANTITIES, st.sampled_from(KINDS), PRICES
    ),
    st.tuples(st.just("cancel"), st.integers(1, 12)),
    st.tuples(st.just("feed"), PRICES, st.integers(0, 3)),
    st.tuples(st.just("step")),
    st.tuples(st.just("restart")),
)
MARKET = Market(EURUSD, start=D(1), tick=D("0.01"), spread=D("0.01"), seed=3, slippage=D("0.01"), liquidity=D(25))


def play(made: Venue, steps: list[tuple[object, ...]], seen: dict[str, Order]) -> Venue:
    """Play the steps, and hold what has ended against what is shown of it later."""
    for second, step in enumerate(steps):
        now = at(second)
        match step:
            case ("submit", int(name), Side() as side, Decimal() as quantity, str(kind), Decimal() as price):
                order = new(f"c{name}", side, str(quantity), kind, str(price))
                try:
                    made.submit(order, now)
                except ValueError as error:
                    assert "another order" in str(error)  # noqa: PT017 - one of two ways that are right
            case ("cancel", int(number)):
                made.cancel(f"P{number}", now)
            case ("feed", Decimal() as bid, int(wide)):
                made.feed(EURUSD, bid, bid + D(wide) / 100, now)
            case ("step",):
                made.step(EURUSD, now)
            case _:
                made = restarted(made, MARKET)
                made.open(now)
        check(made, now, seen)
    return made


def check(made: Venue, now: datetime, seen: dict[str, Order]) -> None:
    rows = made.orders(now)
    executed = made.fills_after(0)
    assert executed is not None
    by_order: dict[str | None, list[Fill]] = defaultdict(list)
    for fill in executed:
        by_order[fill.broker_order_id].append(fill)
    for row in rows:
        own = by_order[row.broker_order_id]
        assert row.filled_quantity == sum(fill.quantity for fill in own)
        if row.status is not S.REJECTED:
            assert row.filled_quantity <= row.quantity
            assert (row.status is S.FILLED) == (row.filled_quantity == row.quantity)
        if row.order_type == "LIMIT":
            assert row.limit_price is not None
            assert all((fill.price - row.limit_price) * row.side.sign <= 0 for fill in own)
        earlier = seen.get(row.broker_order_id)
        if earlier is not None and earlier.status.terminal:
            assert row == earlier
        seen[row.broker_order_id] = row
    assert len({row.client_order_id for row in rows}) == len(rows) == len(seen)
    times = [fill.time for fill in executed]
    assert times == sorted(set(times))
    net = sum((fill.quantity * fill.side.sign for fill in executed), D(0))
    assert net == sum((position.quantity for position in made.positions()), D(0))
    assert made.state().problem() is None


@given(st.lists(STEPS, max_size=40))
@settings(max_examples=200, deadline=None)
def test_whatever_happens_quantities_add_up_and_what_has_ended_stays_ended(steps: list[tuple[object, ...]]) -> None:
    """The laws of the venue, and: the same steps with other restarts give the same state."""
    played = play(venue(MARKET), steps, {})
    without = play(venue(MARKET), [step if step != ("restart",) else ("cancel", 99) for step in steps], {})
    assert played.state() == without.state()
