"""The Kite adapter, through the real SDK, against the simulator on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from brokers.clocks import ahead_of_ours
from brokers.errors import Refused
from brokers.model import (
    Complete,
    Completeness,
    CostBasis,
    Failed,
    LegScheme,
    OrderStatus,
    Partial,
    Position,
    rows_of,
)
from brokers.simulators.base import Fault
from brokers.simulators.http import RawReply
from brokers.simulators.kite import KiteSimulator
from tests.brokers.at_kite import (
    BUY,
    INFY,
    KEY,
    NIFTY,
    RAISED,
    SELL,
    TOKEN,
    USER,
    D,
    answer_of,
    broker,
    faults,
    held_account,
    midnight,
)
from tests.brokers.reading import Time, a_failure, calls_have_ended, completeness, fills, legs, orders

# The adapter's own threads end by themselves after a cut; nothing else may be left either.
pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    yield
    calls_have_ended("kite-")


@pytest.fixture
def sim() -> Iterator[KiteSimulator]:
    simulator = KiteSimulator(KEY, TOKEN, USER, instruments=[INFY, NIFTY])
    simulator.start()
    yield simulator
    simulator.close()


# -- what a snapshot costs and says --------------------------------------------------------------------------------


async def test_at_rest_a_snapshot_takes_four_requests_for_however_many_instruments(sim: KiteSimulator) -> None:
    order_id = held_account(sim)
    for number in range(20):
        sim.trade(f"NSE:SYMBOL{number}", BUY, D(1))
    async with broker(sim) as adapter:
        await adapter.connect()
        first = await adapter.snapshot(None)
        assert adapter.calls == 1 + 4
        sim.trade(INFY, SELL, D(30), "mine")
        second = await adapter.snapshot(first.fills_cursor)
        assert adapter.calls == 1 + 4 + 4
        assert legs(first)[(INFY, "MIS")] == D(100)
        assert orders(first)[order_id].status is OrderStatus.OPEN
        assert fills(first) == []
        assert legs(second) == sim.positions()
        assert fills(second) == [(INFY, SELL, D(30), "MIS")]
        assert rows_of(second.fills)[0].client_order_id == "mine"
        assert (second.conventions.legs, second.conventions.cost_basis) == (LegScheme.NET, CostBasis.ALL_OPENING)
        assert len(sim.requests) == adapter.calls


async def test_products_are_legs_and_flat_rows_are_left_out(sim: KiteSimulator) -> None:
    """FEATURES 25, PEERS 6"""
    sim.trade(INFY, BUY, D(10), product="CNC")
    sim.trade(INFY, SELL, D(4), product="MIS")
    sim.trade(NIFTY, BUY, D(75))
    sim.close_by_hand(NIFTY)
    async with broker(sim) as adapter:
        snapshot = await adapter.snapshot(None)
    assert legs(snapshot) == {(INFY, "CNC"): D(10), (INFY, "MIS"): D(-4)} == sim.positions()


@pytest.mark.parametrize("include", [False, True])
async def test_what_is_delivered_is_a_leg_of_its_own_where_it_is_wanted(sim: KiteSimulator, include: bool) -> None:
    sim.set_holding(INFY, D(11), D("56.35"), t1=D(1))
    sim.trade(INFY, SELL, D(2), product="CNC")
    async with broker(sim, include_holdings=include) as adapter:
        snapshot = await adapter.snapshot(None)
        assert adapter.calls == 5
    expected = {(INFY, "CNC"): D(-2)}
    assert legs(snapshot) == ({**expected, (INFY, "holdings"): D(12)} if include else expected)
    assert set(snapshot.unread_legs) == (set() if include else {"holdings"})
    assert all("include_holdings" in why for why in snapshot.unread_legs.values())


async def test_holdings_that_cannot_be_read_leave_the_positions_partial(sim: KiteSimulator) -> None:
    """PEERS 1"""
    sim.trade(INFY, BUY, D(2), product="CNC")
    sim.faults.add(Fault.SERVER_ERROR, times=9, match="holdings")
    async with broker(sim, include_holdings=True) as adapter:
        snapshot = await adapter.snapshot(None)
    assert isinstance(snapshot.positions, Partial)
    assert snapshot.positions.rows == (Position(INFY, "CNC", D(2), sim.price(INFY)),)
    assert "read the holdings" in snapshot.positions.problems[0].text


async def test_times_and_as_of_are_the_brokers_with_our_clock_an_hour_off(sim: KiteSimulator) -> None:
    time = Time()
    time.passes(-3600)
    sim.trade(INFY, BUY, D(1))
    async with broker(sim, clock=time) as adapter:
        snapshot = await adapter.snapshot(midnight())
    real = datetime.now(UTC)
    assert snapshot.requested_at == time.now
    assert abs(ahead_of_ours(snapshot.as_of, real)) < timedelta(seconds=30)
    assert abs(ahead_of_ours(rows_of(snapshot.fills)[0].time, real)) < timedelta(seconds=30)
    assert abs(real.timestamp() - (snapshot.fills_cursor or 0) / 1000) < 30


@pytest.mark.parametrize("again", ["same connection", "new connection"])
async def test_a_caller_with_an_older_cursor_is_given_the_fills_again_and_nobody_else(
    sim: KiteSimulator, again: str
) -> None:
    """PEERS 15"""
    sim.trade(INFY, BUY, D(7))  # contained in the first snapshot, and never handed out
    sim.set_clock(100)
    async with broker(sim) as adapter:
        first = await adapter.snapshot(None)
        sim.set_clock(200)
        sim.trade(INFY, BUY, D(1))
        second = await adapter.snapshot(first.fills_cursor)
        sim.set_clock(300)
        sim.trade(INFY, BUY, D(2))
        third = await adapter.snapshot(second.fills_cursor)
        sim.set_clock(400)
        assert [f[2] for f in fills(second)] == [D(1)]
        assert [f[2] for f in fills(third)] == [D(2)]
        if again == "same connection":
            assert [f[2] for f in fills(await adapter.snapshot(first.fills_cursor))] == [D(1), D(2)]
            assert fills(await adapter.snapshot(third.fills_cursor)) == []
            return
    async with broker(sim) as fresh:
        assert [f[2] for f in fills(await fresh.snapshot(first.fills_cursor))] == [D(1), D(2)]


async def test_a_fill_between_the_requests_makes_them_be_asked_again(sim: KiteSimulator) -> None:
    """PEERS 11: what the trades have and the positions have not would be undone by the positions."""
    held_account(sim)
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        net = answer_of(sim, "/portfolio/positions")
        sim.trade(INFY, BUY, D(5))
        sim.answer_with(RawReply(200, json.dumps(net).encode()), match="positions")
        snapshot = await adapter.snapshot(cursor)
    assert legs(snapshot) == sim.positions() == {(INFY, "MIS"): D(105)}
    assert fills(snapshot) == [(INFY, BUY, D(5), "MIS")]


async def test_positions_that_go_on_lagging_behind_their_trades_are_in_doubt_for_a_while(sim: KiteSimulator) -> None:
    """PEERS 11"""
    held_account(sim)
    sim.trade(NIFTY, BUY, D(75))
    time = Time()
    async with broker(sim, clock=time) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        net = json.dumps(answer_of(sim, "/portfolio/positions")).encode()
        sim.trade(INFY, BUY, D(5))
        sim.answer_with(RawReply(200, net), match="positions", times=5)
        doubted = await adapter.snapshot(cursor)
        assert isinstance(doubted.positions, Partial)
        assert [problem.instrument for problem in doubted.positions.problems] == [INFY]
        assert [problem.again_at for problem in doubted.positions.problems] == [time() + timedelta(seconds=10)]
        assert rows_of(doubted.fills)[0].quantity == D(5)
        time.passes(11)
        # What stands for long is no lag: a product was converted, and its trades say otherwise for the day.
        assert isinstance((await adapter.snapshot(doubted.fills_cursor)).positions, Complete)


@pytest.mark.parametrize(
    ("list_of", "field"),
    [("orders", "order_timestamp"), ("orders", "created"), ("trades", "fill_timestamp"), ("trades", "timestamp")],
)
async def test_a_time_that_cannot_be_read_costs_its_row_at_most(sim: KiteSimulator, list_of: str, field: str) -> None:
    """The SDK reads seven fields of each row as times, wanted or not, and fails the whole list at one of them."""
    held_account(sim)
    sim.trade(INFY, BUY, D(5))
    sim.trade(NIFTY, BUY, D(75))
    answer = answer_of(sim, f"/{list_of}")
    next(row for row in answer["data"] if row["tradingsymbol"] == "INFY")[field] = "2024-13-45 99:99:99"
    async with broker(sim) as adapter:
        sim.answer_with(RawReply(200, json.dumps(answer).encode()), match=list_of, times=9)
        snapshot = await adapter.snapshot(midnight())
    section = snapshot.orders if list_of == "orders" else snapshot.fills
    assert not isinstance(section, Failed), section
    assert NIFTY in {row.instrument for row in rows_of(section)}


# -- faults --------------------------------------------------------------------------------------------------------


@faults
@pytest.mark.parametrize("match", ["", "positions"], ids=["from the start", "once connected"])
async def test_no_readable_answer_is_an_error_or_a_failed_section_and_never_an_empty_one(
    sim: KiteSimulator, case: str, match: str
) -> None:
    """PEERS 1, PEERS 7, FEATURES 4"""
    lie, error, calls = RAISED[case]
    held_account(sim)
    async with broker(sim) as adapter:
        sim.answer_with(lie, times=calls, match=match)
        if match:
            await adapter.connect()
            snapshot = await adapter.snapshot(None)
            assert completeness(snapshot) == (Completeness.FAILED, Completeness.COMPLETE, Completeness.COMPLETE)
        else:
            raised = await a_failure(adapter.connect())
            assert type(raised) is error
            assert adapter.calls == calls
            assert raised.remedy
            await adapter.connect()
        assert legs(await adapter.snapshot(None)) == sim.positions()


@faults
async def test_one_passing_fault_is_ridden_out(sim: KiteSimulator, case: str) -> None:
    """FEATURES 4"""
    async with broker(sim) as adapter:
        sim.answer_with(RAISED[case][0])
        await adapter.connect()
        assert adapter.calls == 2


@pytest.mark.parametrize("name", ["positions", "orders", "trades"])
async def test_rows_that_are_all_gone_of_a_sudden_are_not_believed_at_once(sim: KiteSimulator, name: str) -> None:
    """PEERS 1: a well-formed answer without rows, as after an error inside the broker."""
    held_account(sim)
    time = Time()
    async with broker(sim, clock=time) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        sim.faults.add(Fault.EMPTY, times=99, match=f"{name} GET")
        for _ in range(3):
            time.passes(3)
            during = await adapter.snapshot(cursor)
            lists = {"positions": during.positions, "orders": during.orders, "trades": during.fills}
            failed = lists.pop(name)
            assert isinstance(failed, Failed)
            assert "gone from the list" in failed.reason
            assert all(isinstance(section, Complete) for section in lists.values())
        sim.faults.clear()
        after = await adapter.snapshot(cursor)
        assert legs(after) == sim.positions()
        assert (len(orders(after)), fills(after)) == (2, [])


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v3", "127.0.0.1:1", "ftp://127.0.0.1:1"])
async def test_a_url_that_is_no_host_is_refused_before_anything_leaves(url: str) -> None:
    async with broker(url) as adapter:
        raised = await a_failure(adapter.connect())
        assert isinstance(raised, Refused)
        assert "`rest_url`" in str(raised)
        assert adapter.calls == 0


# -- the session ---------------------------------------------------------------------------------------------------


async def test_a_session_that_is_over_says_log_in_again_and_is_not_hammered(sim: KiteSimulator) -> None:
    time = Time()
    sim.renew_token("another")
    async with broker(sim, clock=time) as adapter:
        for _ in range(10):
            raised = await a_failure(adapter.snapshot(None))
            assert isinstance(raised, Refused)
            assert "Log in again" in str(raised)
            time.passes(1)
        assert adapter.calls == 1
        time.passes(30)
        await a_failure(adapter.connect())
        assert adapter.calls == 2


async def test_a_new_token_is_taken_from_its_source_without_a_restart(sim: KiteSimulator) -> None:
    """FEATURES 19"""
    held_account(sim)
    source = [TOKEN]
    async with broker(sim, access_token=lambda: source[0]) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        sim.renew_token("the-token-of-tomorrow")
        sim.trade(INFY, BUY, D(1))
        assert "Log in again" in str(await a_failure(adapter.snapshot(cursor)))
        source[0] = "the-token-of-tomorrow"
        await adapter.connect()
        snapshot = await adapter.snapshot(cursor)
        assert legs(snapshot) == sim.positions()
        assert fills(snapshot) == [(INFY, BUY, D(1), "MIS")]


async def test_a_session_that_is_over_says_where_the_new_token_goes(sim: KiteSimulator) -> None:
    sim.renew_token("another")
    renewal = "Write the new value as access_token of eq into accounts.yaml"
    async with broker(sim, renewal=renewal) as adapter:
        assert str(await a_failure(adapter.connect())).endswith(
            f"Log in again: a Kite session ends at 6 AM IST, and with a logout. {renewal}"
        )


@pytest.mark.parametrize("name", ["positions", "orders", "trades", "holdings"])
async def test_a_session_that_ends_in_the_middle_of_a_snapshot_refuses_all_of_it(sim: KiteSimulator, name: str) -> None:
    held_account(sim)
    async with broker(sim, include_holdings=True) as adapter:
        await adapter.connect()
        sim.faults.add(Fault.UNAUTHORIZED, times=99, match=name)
        assert "Log in again" in str(await a_failure(adapter.snapshot(None)))


async def test_a_token_that_cannot_be_had_is_its_own_refusal(sim: KiteSimulator) -> None:
    def unset() -> str:
        raise Refused("read its access_token", "eq", "environment variable KITE_TOKEN is not set", "Set it")

    async with broker(sim, access_token=unset) as adapter:
        assert "KITE_TOKEN" in str(await a_failure(adapter.connect()))
        assert adapter.calls == 0


@pytest.mark.parametrize("expected", [USER, None], ids=["configured", "the first met"])
async def test_another_users_session_is_refused(sim: KiteSimulator, expected: str | None) -> None:
    """PEERS 2"""
    async with broker(sim, user_id=expected) as adapter:
        await adapter.connect()
        sim.log_in_as("ZZ9999")
        raised = await a_failure(adapter.connect())
        assert isinstance(raised, Refused)
        assert "ZZ9999" in str(raised)
        assert USER in str(raised)


@pytest.mark.parametrize("kind", ["PermissionException", "InputException", "OrderException", "GeneralException"])
async def test_what_the_broker_will_not_do_is_refused_once(sim: KiteSimulator, kind: str) -> None:
    body = {"status": "error", "message": "Not allowed", "error_type": kind}
    async with broker(sim) as adapter:
        sim.answer_with(RawReply(400, json.dumps(body).encode()), times=9)
        raised = await a_failure(adapter.connect())
        assert isinstance(raised, Refused)
        assert "log in" not in str(raised)
        assert adapter.calls == 1


# -- the stream ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest_url", "stream_url", "there"),
    [(None, None, True), ("http://127.0.0.1:1", None, False), ("http://127.0.0.1:1", "ws://127.0.0.1:1", True)],
    ids=["Zerodha's", "another host without one", "another host with one"],
)
async def test_the_token_goes_to_no_stream_of_a_host_that_is_not_configured(
    rest_url: str | None, stream_url: str | None, there: bool
) -> None:
    async with broker("", rest_url=rest_url, stream_url=stream_url) as adapter:
        assert (adapter.stream() is not None) is there
        assert adapter.stream() is adapter.stream()


# -- the rate limit ------------------------------------------------------------------------------------------------


async def test_no_more_requests_leave_in_a_second_than_the_vendor_allows(
    sim: KiteSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kite Connect documentation: 10 requests a second; counted at the receiving end, over any second."""
    arrived: list[float] = []
    loop = asyncio.get_running_loop()
    take = sim.faults.take

    def received(request: str) -> Fault | None:  # it asks of each request whether to play a fault
        arrived.append(loop.time())
        return take(request)

    monkeypatch.setattr(sim.faults, "take", received)
    async with broker(sim, requests_per_s=10, timeout_s=5.0) as adapter:
        await adapter.connect()
        while len(arrived) < 16:
            await adapter.snapshot(None)
    assert max(sum(start <= at < start + 1 for at in arrived) for start in arrived) <= 10
