"""The Kite adapter, through the real SDK, against the simulator on loopback."""

from __future__ import annotations

import asyncio
import json
import pickle
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from loguru import logger

from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.kite import KiteBroker
from brokers.kite.decode import IST
from brokers.model import (
    Complete,
    Completeness,
    CostBasis,
    Failed,
    LegScheme,
    Order,
    OrderQuery,
    OrderStatus,
    Partial,
    Position,
    Section,
    Side,
    Snapshot,
    problems_of,
    rows_of,
)
from brokers.simulators.base import Fault
from brokers.simulators.http import RawReply
from brokers.simulators.kite import KiteSimulator
from brokers.simulators.kite_http import (
    DATA_NULL,
    GATEWAY_TIMEOUT,
    NO_CONTENT_TYPE,
    NO_ERROR_TYPE,
    NO_ERROR_TYPE_400,
    TOO_MANY,
)

D = Decimal
KEY, TOKEN, USER = "an-api-key-0000", "access-token-of-tests", "AB1234"
INFY, NIFTY = "NSE:INFY", "NFO:NIFTY25NOVFUT"
BUY, SELL = Side.BUY, Side.SELL
TIMEOUT_S = 0.2

# The adapter's own threads end by themselves after a cut; nothing else may be left either.
pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    yield
    calls_have_ended("kite-")


def calls_have_ended(named: str = "kite-eq") -> None:
    """Every thread of that name ends by itself."""
    for thread in threading.enumerate():
        if thread.name.startswith(named):
            thread.join(5)
            assert not thread.is_alive(), thread.name


@pytest.fixture
def sim() -> Iterator[KiteSimulator]:
    simulator = KiteSimulator(KEY, TOKEN, USER, instruments=[INFY, NIFTY])
    simulator.start()
    yield simulator
    simulator.close()


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@asynccontextmanager
async def broker(target: KiteSimulator | str, **kwargs: Any) -> AsyncIterator[KiteBroker]:
    settings: dict[str, Any] = {
        "account": "eq",
        "api_key": KEY,
        "access_token": lambda: TOKEN,
        "user_id": None,
        "rest_url": target if isinstance(target, str) else target.start(),
        "timeout_s": TIMEOUT_S,
        "clock": lambda: datetime.now(UTC),
        "backoff_s": 0.001,
        "requests_per_s": 10_000,
    }
    adapter = KiteBroker(**{**settings, **kwargs})
    try:
        yield adapter
    finally:
        await adapter.close()
        await adapter.close()


async def a_failure(call: Any) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        await call
    return caught.value


def legs(snapshot: Snapshot) -> dict[tuple[str, str], Decimal]:
    assert isinstance(snapshot.positions, Complete), snapshot.positions
    return {(row.instrument, row.leg): row.quantity for row in snapshot.positions.rows}


def orders(snapshot: Snapshot) -> dict[str, Order]:
    assert isinstance(snapshot.orders, Complete), snapshot.orders
    return {row.broker_order_id: row for row in snapshot.orders.rows}


def fills(snapshot: Snapshot) -> list[tuple[str, Side, Decimal, str | None]]:
    assert isinstance(snapshot.fills, Complete), snapshot.fills
    return [(row.instrument, row.side, row.quantity, row.leg) for row in snapshot.fills.rows]


def completeness(*sections: Section[Any]) -> list[Completeness]:
    return [section.completeness for section in sections]


def midnight() -> int:
    """A cursor from before every fill of today."""
    today = datetime.now(UTC).astimezone(IST).replace(hour=0, minute=0, second=0, microsecond=0)
    return int(today.timestamp()) * 1000


def query(broker_order_id: str | None = None, client_order_id: str | None = None) -> OrderQuery:
    return OrderQuery(INFY, broker_order_id, client_order_id)


def held_account(sim: KiteSimulator) -> str:
    """A position, and an order that rests."""
    sim.trade(INFY, BUY, D(100), "first")
    return sim.place_limit(INFY, SELL, D(50), D("191.2"), "rests")


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


async def test_a_snapshot_without_connecting_first_proves_the_user_all_the_same(sim: KiteSimulator) -> None:
    async with broker(sim, user_id="ZZ9999") as adapter:
        assert isinstance(await a_failure(adapter.snapshot(None)), Refused)


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


async def test_every_contained_fill_comes_once_and_as_of_is_before_every_later_one(sim: KiteSimulator) -> None:
    """PEERS 11"""
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        seen: list[str] = []
        for step in range(8):
            sim.trade(INFY, BUY if step % 3 else SELL, D(10))
            snapshot = await adapter.snapshot(cursor)
            sim.trade(INFY, BUY, D(1))
            later = await adapter.snapshot(snapshot.fills_cursor)
            assert all(row.time > snapshot.as_of for row in rows_of(later.fills))
            assert snapshot.as_of < snapshot.requested_at
            assert legs(later) == sim.positions()
            seen += [row.fill_id for row in (*rows_of(snapshot.fills), *rows_of(later.fills))]
            cursor = later.fills_cursor
        assert len(seen) == len(set(seen)) == 16
        assert isinstance(cursor, int)


async def test_times_and_as_of_are_the_brokers_with_our_clock_an_hour_off(sim: KiteSimulator) -> None:
    time = Time()
    time.passes(-3600)
    sim.trade(INFY, BUY, D(1))
    async with broker(sim, clock=time) as adapter:
        snapshot = await adapter.snapshot(midnight())
    real = datetime.now(UTC)
    assert snapshot.requested_at == time.now
    assert abs(real - snapshot.as_of) < timedelta(seconds=30)
    assert abs(real - rows_of(snapshot.fills)[0].time) < timedelta(seconds=30)
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


async def test_a_new_fill_is_told_to_a_caller_whose_cursor_ran_ahead_of_the_clock(sim: KiteSimulator) -> None:
    """PEERS 13: the first cursor of all is ahead, and a new connection begins with it."""
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
    async with broker(sim) as fresh:
        await fresh.snapshot(cursor)
        sim.trade(INFY, BUY, D(3))
        snapshot = await fresh.snapshot(cursor)
        assert fills(snapshot) == [(INFY, BUY, D(3), "MIS")]
        assert (snapshot.fills_cursor or 0) > (cursor or 0)


async def test_a_fill_between_the_requests_makes_them_be_asked_again(sim: KiteSimulator) -> None:
    """PEERS 11: what the trades have and the positions have not would be undone by the positions."""
    held_account(sim)
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        net = sim._rest.operation("GET", "/portfolio/positions")[1]({}).body
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
        net = json.dumps(sim._rest.operation("GET", "/portfolio/positions")[1]({}).body).encode()
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


# -- faults --------------------------------------------------------------------------------------------------------

RAISED: dict[str, tuple[Fault | RawReply, type[BrokerError], int]] = {
    "no answer": (Fault.TIMEOUT, Unreachable, 2),
    "a late answer": (Fault.LATE, Unreachable, 2),
    "a reset": (Fault.RESET, Unreachable, 3),
    "500": (Fault.SERVER_ERROR, Unreachable, 3),
    "503": (Fault.UNAVAILABLE, Unreachable, 3),
    "429": (Fault.RATE_LIMITED, Unreachable, 3),
    "403": (Fault.UNAUTHORIZED, Refused, 1),
    "200 with HTML": (Fault.HTML, Malformed, 3),
    "half a body": (Fault.HALF_BODY, Malformed, 3),
    "504 with HTML": (GATEWAY_TIMEOUT, Unreachable, 3),
    "no Content-Type": (NO_CONTENT_TYPE, Malformed, 3),
    "500 without error_type": (NO_ERROR_TYPE, Unreachable, 3),
    "400 without error_type": (NO_ERROR_TYPE_400, Malformed, 3),
    "data is null": (DATA_NULL, Malformed, 3),
    "429 by name": (TOO_MANY, Unreachable, 3),
}
faults = pytest.mark.parametrize("case", RAISED, ids=lambda case: case.replace(" ", "-"))


def play(sim: KiteSimulator, lie: Fault | RawReply, match: str, times: int = 9) -> None:
    if isinstance(lie, Fault):
        sim.faults.add(lie, times=times, match=match)
    else:
        sim.answer_with(lie, times=times, match=match)


@faults
@pytest.mark.parametrize("match", ["", "positions"], ids=["from the start", "once connected"])
async def test_no_readable_answer_is_an_error_or_a_failed_section_and_never_an_empty_one(
    sim: KiteSimulator, case: str, match: str
) -> None:
    """PEERS 1, PEERS 7, FEATURES 4"""
    lie, error, calls = RAISED[case]
    held_account(sim)
    time = Time()
    async with broker(sim, clock=time) as adapter:
        if match:
            play(sim, lie, match)
            await adapter.connect()
            if error is Refused:
                assert isinstance(await a_failure(adapter.snapshot(None)), Refused)
                return
            snapshot = await adapter.snapshot(None)
            assert completeness(snapshot.positions, snapshot.orders, snapshot.fills) == [
                Completeness.FAILED,
                Completeness.COMPLETE,
                Completeness.COMPLETE,
            ]
            return
        play(sim, lie, "", 3)
        raised = await a_failure(adapter.connect())
        assert type(raised) is error
        assert adapter.calls == calls
        assert raised.account == "eq"
        assert raised.remedy
        sim.faults.clear()
        sim._face._scripted.clear()
        time.passes(31)
        await adapter.connect()
        assert legs(await adapter.snapshot(None)) == sim.positions()


@faults
async def test_one_passing_fault_is_ridden_out(sim: KiteSimulator, case: str) -> None:
    """FEATURES 4"""
    lie, error, _ = RAISED[case]
    if error is Refused:
        return
    async with broker(sim) as adapter:
        play(sim, lie, "", 1)
        await adapter.connect()
        assert adapter.calls == 2


async def test_when_no_list_at_all_can_be_had_that_is_an_error(sim: KiteSimulator) -> None:
    async with broker(sim) as adapter:
        await adapter.connect()
        sim.faults.add(Fault.UNAVAILABLE, times=99)
        assert isinstance(await a_failure(adapter.snapshot(None)), Unreachable)


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


@pytest.mark.parametrize("name", ["positions", "orders", "trades"])
async def test_an_unreadable_row_makes_its_section_partial(sim: KiteSimulator, name: str) -> None:
    held_account(sim)
    async with broker(sim) as adapter:
        sim.faults.add(Fault.MALFORMED_ROW, match=f"{name} GET")
        during = await adapter.snapshot(midnight())
        lists: dict[str, Section[Any]] = {
            "positions": during.positions,
            "orders": during.orders,
            "trades": during.fills,
        }
        assert isinstance(lists.pop(name), Partial)
        assert all(isinstance(section, Complete) for section in lists.values())
        if name == "trades":
            assert during.fills_cursor == midnight()
            assert fills(await adapter.snapshot(during.fills_cursor)) == [(INFY, BUY, D(100), "MIS")]


async def test_a_host_where_nobody_listens_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with broker(f"http://127.0.0.1:{port}") as adapter:
        raised = await a_failure(adapter.connect())
        assert isinstance(raised, Unreachable)
        assert "no connection" in raised.found


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


# -- servers that are not Kite -------------------------------------------------------------------------------------


@contextmanager
def server(answer: Callable[[bytes], Iterator[bytes]]) -> Iterator[str]:
    """A server that sends what ``answer`` yields for a request's head, and then hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    for piece in answer(connection.recv(65536)):
                        connection.sendall(piece)
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def http(body: bytes, status: str = "200 OK", head: str = "Content-Type: application/json\r\n") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{head}\r\n".encode() + body


async def test_a_server_that_trickles_is_cut_off() -> None:
    """PEERS 7: each byte comes well within the read time-out, and the answer never does."""
    pause = threading.Event()

    def trickle(_request: bytes) -> Iterator[bytes]:
        while not pause.wait(0.02):
            yield b"H"

    with server(trickle) as url:
        async with broker(url, timeout_s=0.2) as adapter:
            raised = await a_failure(adapter.connect())
            await asyncio.to_thread(calls_have_ended)
        assert isinstance(raised, Unreachable)
        assert "within 0.2 s" in raised.found


async def test_a_call_whose_caller_is_gone_is_cut_off(sim: KiteSimulator) -> None:
    """PEERS 7"""
    sim.faults.add(Fault.TIMEOUT, times=3)
    async with broker(sim, timeout_s=60.0) as adapter:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(adapter.connect(), 0.1)
        await asyncio.to_thread(calls_have_ended)
        sim.faults.clear()
        await adapter.connect()


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}", b"\xff\xfe", b'{"status": "success"}', b'{"data": {"user_id": "AB1234"}}', b"5"],
)
async def test_json_of_another_shape_is_malformed(body: bytes) -> None:
    with server(lambda _: iter([http(body)])) as url:
        async with broker(url) as adapter:
            assert isinstance(await a_failure(adapter.connect()), Malformed)


async def test_a_redirect_is_not_followed(sim: KiteSimulator) -> None:
    answer = http(b"", "302 Found", f"Content-Type: text/html\r\nLocation: {sim.start()}/user/profile\r\n")
    with server(lambda _: iter([answer])) as url:
        async with broker(url) as adapter:
            assert isinstance(await a_failure(adapter.connect()), Malformed)
    assert sim.requests == ()


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "403 Forbidden", "500 Oops"])
async def test_credentials_that_the_server_echoes_appear_nowhere(status: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with server(lambda request: iter([http(request, status)])) as url:
        async with broker(url) as adapter:
            raised = await a_failure(adapter.connect())
    shown = f"{raised!r} {raised} {pickle.loads(pickle.dumps(raised))} {adapter!r} {caplog.text}"  # noqa: S301 - ours
    assert "***" in str(raised)
    assert TOKEN not in shown
    assert KEY not in shown
    assert raised.__cause__ is None
    assert raised.__context__ is None


async def test_a_token_in_a_row_appears_in_no_row(sim: KiteSimulator) -> None:
    sim.place_limit(INFY, BUY, D(1), D(1), TOKEN)
    async with broker(sim) as adapter:
        snapshot = await adapter.snapshot(None)
    assert rows_of(snapshot.orders)[0].client_order_id == "***"
    assert TOKEN not in repr(snapshot)


# -- accounts side by side -----------------------------------------------------------------------------------------


async def test_accounts_of_one_process_never_mix() -> None:
    """PEERS 2: the same instrument in several accounts."""
    sims = [KiteSimulator(KEY, f"token-number-{n}", f"U{n}") for n in range(3)]
    try:
        for units, sim in enumerate(sims, start=1):
            sim.trade(INFY, BUY, D(units))
        adapters = [
            KiteBroker(f"eq{n}", KEY, lambda n=n: f"token-number-{n}", f"U{n}", sim.start(), 5.0, Time())  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            for n, sim in enumerate(sims)
        ]
        snapshots = await asyncio.gather(*(adapter.snapshot(midnight()) for adapter in adapters))
        assert [legs(s) for s in snapshots] == [sim.positions() for sim in sims]
        for adapter in adapters:
            await adapter.close()
    finally:
        for sim in sims:
            sim.close()


# -- orders --------------------------------------------------------------------------------------------------------


def fill_and_cancel(sim: KiteSimulator, order_id: str) -> None:
    sim.fill_order(order_id, D(20))
    sim.end_order(order_id)


ENDS: dict[str, tuple[Callable[[KiteSimulator, str], object], OrderStatus, int]] = {
    "filled": (lambda sim, order: sim.fill_order(order), OrderStatus.FILLED, 50),
    "filled in part": (lambda sim, order: sim.fill_order(order, D(20)), OrderStatus.PARTIALLY_FILLED, 20),
    "filled in part, then cancelled": (lambda sim, order: fill_and_cancel(sim, order), OrderStatus.CANCELLED, 20),
    "cancelled": (lambda sim, order: sim.end_order(order), OrderStatus.CANCELLED, 0),
    "expired": (lambda sim, order: sim.end_order(order, "EXPIRED"), OrderStatus.EXPIRED, 0),
    "rejected": (lambda sim, order: sim.end_order(order, "REJECTED"), OrderStatus.REJECTED, 0),
    "pending": (lambda sim, order: sim.set_status(order, "OPEN PENDING"), OrderStatus.PENDING_SUBMIT, 0),
    "being cancelled": (lambda sim, order: sim.set_status(order, "CANCEL PENDING"), OrderStatus.PENDING_CANCEL, 0),
}


@pytest.mark.parametrize("how", ENDS, ids=lambda how: how.replace(" ", "-"))
async def test_an_order_is_shown_in_every_later_snapshot_and_found_by_id_and_by_tag(
    sim: KiteSimulator, how: str
) -> None:
    """FEATURES 5, FEATURES 18: also where pending and cancelled are both told for the same units."""
    end, status, filled = ENDS[how]
    order_id = held_account(sim)
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        end(sim, order_id)
        by_id, by_tag = await adapter.find_orders([query(order_id), query(None, "rests")])
        shown = [orders(await adapter.snapshot(None))[order_id] for _ in range(2)]
    assert by_id.failure is by_tag.failure is None
    assert [by_id.order, by_tag.order] == shown
    assert (shown[0].status, shown[0].filled_quantity, shown[0].quantity) == (status, D(filled), D(50))
    assert (shown[0].average_fill_price is None) is (filled == 0)
    assert [row.quantity for row in by_id.fills] == ([D(filled)] if filled else [])
    assert shown[0].leg == "MIS"


async def test_an_order_stuck_in_open_pending_that_fills_an_hour_later_is_followed(sim: KiteSimulator) -> None:
    """FEATURES 18"""
    order_id = held_account(sim)
    async with broker(sim) as adapter:
        sim.set_status(order_id, "OPEN PENDING")
        first = await adapter.snapshot(None)
        sim.set_clock(3600)
        sim.fill_order(order_id)
        second = await adapter.snapshot(first.fills_cursor)
    assert orders(first)[order_id].status is OrderStatus.PENDING_SUBMIT
    assert orders(second)[order_id].status is OrderStatus.FILLED
    assert fills(second) == [(INFY, SELL, D(50), "MIS")]


async def test_an_update_that_comes_out_of_order_takes_nothing_back(sim: KiteSimulator) -> None:
    """FEATURES 18"""
    order_id = held_account(sim)
    async with broker(sim) as adapter:
        sim.fill_order(order_id, D(30))
        first = orders(await adapter.snapshot(None))[order_id]
        sim.set_order(order_id, filled=D(10), notional=D(1912))
        second = orders(await adapter.snapshot(None))[order_id]
        sim.set_order(order_id, status="CANCELLED")
        third = orders(await adapter.snapshot(None))[order_id]
    assert (first.filled_quantity, first.status) == (D(30), OrderStatus.PARTIALLY_FILLED)
    assert second == first
    assert (third.filled_quantity, third.status) == (D(30), OrderStatus.CANCELLED)


async def test_a_status_nobody_has_heard_of_is_a_problem_that_names_the_order(sim: KiteSimulator) -> None:
    """FEATURES 18: the book keeps the order as it was."""
    order_id = held_account(sim)
    sim.set_status(order_id, "GALACTIC")
    async with broker(sim) as adapter:
        snapshot = await adapter.snapshot(None)
    (problem,) = problems_of(snapshot.orders)
    assert (problem.instrument, problem.key) == (INFY, order_id)
    assert "GALACTIC" in problem.text
    assert len(rows_of(snapshot.orders)) == 1


async def test_an_order_whose_confirmation_was_lost_is_found_by_its_tag(sim: KiteSimulator) -> None:
    """FEATURES 23, PEERS 12: the outcome of a place_order that timed out is unknown until it is looked up."""
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        sim.faults.add(Fault.LATE, match="place_order")
        with socket.create_connection(("127.0.0.1", int(sim.start().rsplit(":", 1)[1]))) as lost:
            form = b"exchange=NSE&tradingsymbol=INFY&transaction_type=BUY&quantity=5&order_type=MARKET&tag=lost"
            head = f"POST /orders/regular HTTP/1.1\r\nAuthorization: token {KEY}:{TOKEN}\r\n"
            lost.sendall(f"{head}Content-Length: {len(form)}\r\n\r\n".encode() + form)
            while not sim.positions():
                await asyncio.sleep(0.005)
        (answer,) = await adapter.find_orders([query(None, "lost")])
    assert answer.order is not None
    assert (answer.order.status, answer.order.quantity) == (OrderStatus.FILLED, D(5))
    assert [(fill.quantity, fill.client_order_id) for fill in answer.fills] == [(D(5), "lost")]


@pytest.mark.parametrize("asked", [query("99"), query(None, "nobody's"), query("a/b")], ids=["id", "tag", "word"])
async def test_the_brokers_own_word_that_there_is_no_such_order_is_none(sim: KiteSimulator, asked: OrderQuery) -> None:
    held_account(sim)
    async with broker(sim) as adapter:
        (answer,) = await adapter.find_orders([asked])
    if asked.broker_order_id == "a/b":  # the server may know no such route, and that is no word about an order
        assert answer.order is None
        return
    assert (answer.order, answer.failure) == (None, None)


async def test_a_forgotten_order_is_gone_after_a_while(sim: KiteSimulator) -> None:
    order_id = held_account(sim)
    time = Time()
    async with broker(sim, clock=time) as adapter:
        await adapter.snapshot(None)
        sim.forget_order(order_id)
        assert isinstance((await adapter.snapshot(None)).orders, Failed)
        time.passes(11)
        assert order_id not in orders(await adapter.snapshot(None))
        (answer,) = await adapter.find_orders([query(order_id)])
        assert (answer.order, answer.failure) == (None, None)


@faults
@pytest.mark.parametrize("operation", ["orders GET", "order_history", "order_trades"])
async def test_a_failed_question_about_an_order_is_never_its_absence(
    sim: KiteSimulator, case: str, operation: str
) -> None:
    """PEERS 12"""
    lie = RAISED[case][0]
    order_id = sim.trade(INFY, BUY, D(5), "asked")
    row = sim._rest.operation("GET", "/orders")[1]({}).body["data"]
    async with broker(sim) as adapter:
        if operation != "orders GET":  # today's list does not have it
            sim.answer_with(RawReply(200, b'{"status": "success", "data": []}'), match="orders GET")
        play(sim, lie, operation, 3)
        (answer,) = await adapter.find_orders([query(order_id)])
    assert row
    assert answer.failure is not None
    assert answer.order is None


@pytest.mark.parametrize("fault", [Fault.EMPTY, Fault.MALFORMED_ROW], ids=lambda value: value.name)
@pytest.mark.parametrize("operation", ["orders GET", "order_history", "order_trades"])
async def test_an_answer_without_its_rows_is_no_absence_either(
    sim: KiteSimulator, fault: Fault, operation: str
) -> None:
    """PEERS 12"""
    order_id = sim.trade(INFY, BUY, D(5), "asked")
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        if operation == "order_history":
            sim.faults.add(Fault.EMPTY, match="orders GET")
        sim.faults.add(fault, times=3, match=operation)
        asked = query(None, "asked") if operation == "orders GET" else query(order_id)
        (answer,) = await adapter.find_orders([asked])
    assert (answer.order, answer.failure is None) == (None, False)


async def test_a_tag_that_several_orders_have_is_no_answer(sim: KiteSimulator) -> None:
    """Iceberg and autosliced orders yield several order ids."""
    for _ in range(2):
        sim.place_limit(INFY, BUY, D(1), D(1), "sliced")
    async with broker(sim) as adapter:
        (answer,) = await adapter.find_orders([query(None, "sliced")])
    assert "2 orders" in str(answer.failure)


async def test_after_a_question_that_nobody_answered_the_rest_is_not_asked(sim: KiteSimulator) -> None:
    async with broker(sim) as adapter:
        await adapter.connect()
        sim.faults.add(Fault.UNAVAILABLE, times=99)
        answers = await adapter.find_orders([query(str(number)) for number in range(2, 12)])
        assert adapter.calls == 1 + 3
    assert all(answer.failure is not None for answer in answers)
    assert len(answers) == 10


@pytest.mark.parametrize(
    ("variety", "expected"), [("regular", OrderStatus.EXPIRED), ("amo", None)], ids=["day", "after market"]
)
async def test_an_order_that_worked_yesterday_has_expired_and_is_not_unknown(
    sim: KiteSimulator, variety: str, expected: OrderStatus | None
) -> None:
    """FEATURES 18: a new trading day empties the lists; no order but one placed for it outlives its day."""
    order_id = sim.place_limit(INFY, BUY, D(5), D(1), "day", variety=variety)
    sim.fill_order(order_id, D(2))
    async with broker(sim) as adapter:
        first = await adapter.snapshot(None)
        sim.next_day()
        second = await adapter.snapshot(first.fills_cursor)
        answers = await adapter.find_orders([query(order_id), query(None, "day")])
    assert (orders(second), fills(second)) == ({}, [])
    assert legs(second) == {(INFY, "MIS"): D(2)} == sim.positions()
    assert [answer.failure for answer in answers] == [None, None]
    assert [answer.order and answer.order.status for answer in answers] == [expected] * 2
    assert [answer.order and answer.order.filled_quantity for answer in answers] == [expected and D(2)] * 2


async def test_of_an_earlier_day_the_positions_alone_tell(sim: KiteSimulator) -> None:
    """PEERS 15: down over night. Trades of yesterday cannot be listed any more."""
    said: list[str] = []
    sink = logger.add(lambda message: said.append(str(message)), level="WARNING")
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
    sim.trade(INFY, BUY, D(1))
    sim.next_day()
    sim.trade(INFY, BUY, D(2))
    async with broker(sim) as fresh:
        first = await fresh.snapshot(cursor)
        assert legs(first) == {(INFY, "MIS"): D(3)}
        assert fills(first) == [(INFY, BUY, D(2), "MIS")]
        assert fills(await fresh.snapshot(first.fills_cursor)) == []
    logger.remove(sink)
    assert len(said) == 1
    assert "today's trades alone" in said[0]


async def test_the_same_account_seen_anew_by_another_process_has_no_news(sim: KiteSimulator) -> None:
    """PEERS 5: what the first snapshot contained is not handed out later, however lately it was traded."""
    for _ in range(3):
        held_account(sim)
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
    async with broker(sim) as fresh:
        assert fills(await fresh.snapshot(cursor)) == []
        sim.set_clock(2)
        sim.trade(INFY, BUY, D(1))
        assert [f[2] for f in fills(await fresh.snapshot(cursor))] == [D(1)]


async def test_delivery_moves_from_its_product_into_the_holdings_over_night(sim: KiteSimulator) -> None:
    sim.trade(INFY, BUY, D(3), product="CNC")
    async with broker(sim, include_holdings=True) as adapter:
        first = legs(await adapter.snapshot(None))
        sim.next_day()
        second = legs(await adapter.snapshot(None))
    assert first == {(INFY, "CNC"): D(3)}
    assert second == {(INFY, "holdings"): D(3)}


@pytest.mark.parametrize("known", [True, False], ids=["seen before", "never seen"])
@pytest.mark.parametrize("variety", ["regular", "amo", "iceberg"])
async def test_an_order_is_cancelled_at_the_broker_under_its_variety(
    sim: KiteSimulator, variety: str, known: bool
) -> None:
    """FEATURES 6"""
    order_id = sim.place_limit(INFY, BUY, D(5), D(1), "rests", variety=variety)
    async with broker(sim) as adapter:
        if known:
            await adapter.snapshot(None)
        await adapter.cancel_order(query(order_id))
        assert orders(await adapter.snapshot(None))[order_id].status is OrderStatus.CANCELLED
        assert f"DELETE /orders/{variety}/{order_id}" in sim.requests
        with pytest.raises(Refused):
            await adapter.cancel_order(query(order_id))
        with pytest.raises(Refused, match="no one order"):
            await adapter.cancel_order(query(None, "nobody's"))
        with pytest.raises(Refused, match="no such order"):
            await adapter.cancel_order(query("99"))


@faults
async def test_a_cancellation_is_never_repeated(sim: KiteSimulator, case: str) -> None:
    order_id = held_account(sim)
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        before = adapter.calls
        play(sim, RAISED[case][0], "cancel_order", 3)
        await a_failure(adapter.cancel_order(query(order_id)))
        assert adapter.calls == before + 1


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


async def test_an_event_of_the_stream_is_followed_by_a_snapshot_that_has_it(sim: KiteSimulator) -> None:
    """FEATURES 24"""
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(instrument: str | None) -> None:
        loop.call_soon_threadsafe(heard.put_nowait, instrument)

    async with broker(sim, stream_url=sim.start_ticker()) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        stream = adapter.stream()
        assert stream is not None
        stream.start(tell)
        assert await asyncio.wait_for(heard.get(), 10) is None
        await asyncio.to_thread(sim.trade, INFY, BUY, D(5))
        while await asyncio.wait_for(heard.get(), 10) != INFY:
            pass
        assert fills(await adapter.snapshot(cursor)) == [(INFY, BUY, D(5), "MIS")]


# -- the rate limit ------------------------------------------------------------------------------------------------


async def test_no_more_requests_leave_in_a_second_than_the_vendor_allows(sim: KiteSimulator) -> None:
    """Kite Connect documentation: 10 requests a second; counted at the receiving end, over any second."""
    arrived: list[float] = []
    loop = asyncio.get_running_loop()
    note = sim._face.received

    def received(method: str, target: str) -> None:
        arrived.append(loop.time())
        note(method, target)

    sim._face.received = received  # type: ignore[method-assign]  # the simulator's own ear
    async with broker(sim, requests_per_s=10, timeout_s=5.0) as adapter:
        await adapter.connect()
        while len(arrived) < 16:
            await adapter.snapshot(None)
    assert max(sum(start <= at < start + 1 for at in arrived) for start in arrived) <= 10


# -- whatever happens ----------------------------------------------------------------------------------------------


def one_step(sim: KiteSimulator, rng: random.Random) -> None:
    """One thing that can happen to an account."""
    instrument = rng.choice([INFY, NIFTY, "BSE:SBIN"])
    side = rng.choice([BUY, SELL])
    quantity = D(rng.randint(1, 200))
    product = rng.choice([None, "CNC", "NRML"])
    resting = [row["id"] for row in json.loads(sim.dump())["orders"] if row["status"] == "OPEN"]
    order_id = str(rng.choice(resting)) if resting else None
    match rng.randint(0, 9):
        case 0 | 1 | 2:
            sim.set_price(instrument, sim.price(instrument) + D(rng.randint(-50, 50)) / 100)
            sim.trade(instrument, side, quantity, f"c{rng.randint(0, 9)}", product=product)
        case 3 | 4:
            sim.place_limit(instrument, side, quantity, sim.price(instrument), product=product)
        case 5 if order_id:
            sim.fill_order(order_id)
        case 6 if order_id:
            sim.fill_order(order_id, quantity)
        case 7 if order_id:
            sim.end_order(order_id, rng.choice(["CANCELLED", "EXPIRED", "REJECTED"]))
        case 8:
            sim.close_by_hand(instrument)
        case _:
            sim.set_position(instrument, "net", rng.choice([quantity, -quantity, D(0)]), sim.price(instrument))


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_the_snapshot_is_what_the_account_holds(seed: int) -> None:
    """FEATURES 24: and every fill is handed out once, also to one who connects anew every time."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible walk
    sim = KiteSimulator(KEY, TOKEN, USER, seed=seed)
    sim.start()
    try:
        async with broker(sim, timeout_s=5.0) as adapter:
            cursor = (await adapter.snapshot(None)).fills_cursor
            seen: list[str] = []
            for _ in range(20):
                for _ in range(rng.randint(0, 5)):
                    one_step(sim, rng)
                before = adapter.calls
                snapshot = await adapter.snapshot(cursor)
                assert adapter.calls == before + 4
                assert legs(snapshot) == sim.positions()
                async with broker(sim, timeout_s=5.0) as fresh:
                    whole = await fresh.snapshot(cursor)
                assert set(rows_of(whole.positions)) == set(rows_of(snapshot.positions))
                assert set(rows_of(whole.orders)) == set(rows_of(snapshot.orders))
                assert set(rows_of(snapshot.fills)) <= set(rows_of(whole.fills))
                cursor = snapshot.fills_cursor
                seen += [row.fill_id for row in rows_of(snapshot.fills)]
            state = json.loads(sim.dump())
            assert sorted(seen) == sorted(row["id"] for row in state["trades"])
            ended = [row for row in orders(snapshot).values() if row.status.terminal]
            answers = await adapter.find_orders([query(row.broker_order_id) for row in ended if row.instrument == INFY])
            assert [answer.order for answer in answers] == [row for row in ended if row.instrument == INFY]
    finally:
        sim.close()
