"""The OANDA adapter, through the real SDK, against the simulator on loopback."""

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

from brokers.errors import BrokerError, Malformed, Refused, Unreachable
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
    Section,
    Side,
    Snapshot,
    rows_of,
)
from brokers.oanda import OandaBroker
from brokers.simulators.base import Fault
from brokers.simulators.oanda import OandaSimulator

D = Decimal
ACCOUNT = "101-001-1-001"
TOKEN = "0123456789abcdef-fedcba9876543210"
BUY, SELL = Side.BUY, Side.SELL
TIMEOUT_S = 0.3

# The adapter's own threads end by themselves after a cut; nothing else may be left either.
pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    yield
    calls_have_ended("oanda-")


def calls_have_ended(named: str = "oanda-fx") -> None:
    """Every thread of that name ends by itself."""
    for thread in threading.enumerate():
        if thread.name.startswith(named):
            thread.join(5)
            assert not thread.is_alive(), thread.name


@pytest.fixture
def sim() -> Iterator[OandaSimulator]:
    simulator = OandaSimulator(ACCOUNT, TOKEN, instruments=["EUR_USD", "GBP_JPY"])
    simulator.start()
    yield simulator
    simulator.close()


@pytest.fixture
def hedged() -> Iterator[OandaSimulator]:
    simulator = OandaSimulator(ACCOUNT, TOKEN, hedging=True)
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
async def broker(target: OandaSimulator | str, **kwargs: Any) -> AsyncIterator[OandaBroker]:
    settings: dict[str, Any] = {
        "account": "fx",
        "account_id": ACCOUNT,
        "token": TOKEN,
        "rest_url": target if isinstance(target, str) else target.start(),
        "timeout_s": TIMEOUT_S,
        "clock": lambda: datetime.now(UTC),
        "backoff_s": 0.001,
    }
    adapter = OandaBroker(**{**settings, **kwargs})
    try:
        yield adapter
    finally:
        await adapter.close()
        await adapter.close()


async def a_failure(snapshot: Any) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        await snapshot
    return caught.value


def legs(snapshot: Snapshot) -> dict[tuple[str, str], Decimal]:
    assert isinstance(snapshot.positions, Complete)
    return {(row.instrument, row.leg): row.quantity for row in snapshot.positions.rows}


def orders(snapshot: Snapshot) -> dict[str, Order]:
    assert isinstance(snapshot.orders, Complete)
    return {row.broker_order_id: row for row in snapshot.orders.rows}


def fills(snapshot: Snapshot) -> list[tuple[str, Side, Decimal, str | None]]:
    assert isinstance(snapshot.fills, Complete)
    return [(row.instrument, row.side, row.quantity, row.leg) for row in snapshot.fills.rows]


def working(snapshot: Snapshot) -> set[Order]:
    return {row for row in rows_of(snapshot.orders) if not row.status.terminal}


def completeness(*sections: Section[Any]) -> list[Completeness]:
    return [section.completeness for section in sections]


def query(broker_order_id: str | None = None, client_order_id: str | None = None) -> OrderQuery:
    return OrderQuery("EUR_USD", broker_order_id, client_order_id)


def held_account(sim: OandaSimulator) -> str:
    """A long position, and an order that rests."""
    sim.trade("EUR_USD", BUY, D(100))
    return sim.place_limit("GBP_JPY", SELL, D(50), D("191.2"), "rests")


# -- what a snapshot costs and says --------------------------------------------------------------------------------


async def test_connecting_and_the_first_snapshot_take_one_request_and_the_next_one_each(sim: OandaSimulator) -> None:
    order_id = held_account(sim)
    async with broker(sim) as adapter:
        await adapter.connect()
        first = await adapter.snapshot(None)
        assert adapter.calls == 1
        sim.trade("EUR_USD", SELL, D(30), "mine")
        second = await adapter.snapshot(first.fills_cursor)
        assert adapter.calls == 2
        assert legs(first) == {("EUR_USD", "long"): D(100)}
        assert orders(first)[order_id].status is OrderStatus.OPEN
        assert fills(first) == []
        assert legs(second) == {("EUR_USD", "long"): D(70)} == sim.positions()
        assert fills(second) == [("EUR_USD", SELL, D(30), "long")]
        assert (second.conventions.legs, second.conventions.cost_basis) == (LegScheme.SIDED, CostBasis.FIFO)
        assert len(sim.requests) == adapter.calls


async def test_a_reading_that_proved_the_connection_long_ago_is_carried_on_first(sim: OandaSimulator) -> None:
    """PEERS 11"""
    time = Time()
    async with broker(sim, clock=time) as adapter:
        await adapter.connect()
        time.passes(2)
        sim.trade("EUR_USD", BUY, D(1))
        snapshot = await adapter.snapshot(None)
        assert legs(snapshot) == {("EUR_USD", "long"): D(1)}
        assert snapshot.requested_at == time.now


async def test_a_snapshot_without_connecting_first_proves_the_account_all_the_same(sim: OandaSimulator) -> None:
    async with broker(sim, account_id="101-001-1-002") as adapter:
        assert isinstance(await a_failure(adapter.snapshot(None)), Refused)


async def test_every_contained_fill_is_not_after_as_of_and_every_later_one_is(sim: OandaSimulator) -> None:
    """PEERS 11"""
    async with broker(sim) as adapter:
        cursor: int | None = 0
        for step in range(8):
            sim.trade("EUR_USD", BUY if step % 3 else SELL, D(10))
            snapshot = await adapter.snapshot(cursor)
            sim.trade("EUR_USD", BUY, D(1))
            later = await adapter.snapshot(snapshot.fills_cursor)
            assert all(row.time <= snapshot.as_of for row in rows_of(snapshot.fills))
            assert [row.time > snapshot.as_of for row in rows_of(later.fills)] == [True]
            assert snapshot.as_of <= later.as_of
            cursor = later.fills_cursor


async def test_the_account_is_read_whole_again_after_a_while(sim: OandaSimulator) -> None:
    time = Time()
    async with broker(sim, clock=time, full_every_s=60) as adapter:
        for seconds in (0, 59, 1, 59):
            time.passes(seconds)
            await adapter.snapshot(None)
    asked = ["changes" in request for request in sim.requests]
    assert asked == [False, True, False, True]


async def test_a_clock_set_back_is_no_reason_to_trust_an_old_reading(sim: OandaSimulator) -> None:
    time = Time()
    async with broker(sim, clock=time) as adapter:
        await adapter.connect()
        time.passes(-3600)
        sim.trade("EUR_USD", BUY, D(1))
        assert legs(await adapter.snapshot(None)) == sim.positions()


@pytest.mark.parametrize("since", [0, 1], ids=["from the beginning", "from the first"])
async def test_older_fills_are_read_page_by_page(sim: OandaSimulator, since: int) -> None:
    for _ in range(1100):
        sim.trade("EUR_USD", BUY, D(1))
    async with broker(sim, timeout_s=5.0) as adapter:
        await adapter.connect()
        snapshot = await adapter.snapshot(since)
        assert len(fills(snapshot)) == 1100
        assert adapter.calls == 1 + 3
        again = await adapter.snapshot(since)
        assert (again.fills, again.fills_cursor) == (snapshot.fills, snapshot.fills_cursor)


async def test_a_fill_after_the_account_was_read_is_left_for_the_next_snapshot(sim: OandaSimulator) -> None:
    """A fill in the list that is not in the positions would be applied twice."""
    time = Time()
    sim.trade("EUR_USD", BUY, D(5))
    async with broker(sim, clock=time) as adapter:
        await adapter.connect()
        sim.trade("EUR_USD", BUY, D(7))
        first = await adapter.snapshot(0)
        assert (legs(first), len(fills(first))) == ({("EUR_USD", "long"): D(5)}, 1)
        second = await adapter.snapshot(first.fills_cursor)
        assert (legs(second), fills(second)) == ({("EUR_USD", "long"): D(12)}, [("EUR_USD", BUY, D(7), "long")])


# -- faults --------------------------------------------------------------------------------------------------------

RAISED = [
    (Fault.TIMEOUT, Unreachable, 2),
    (Fault.LATE, Unreachable, 2),
    (Fault.RESET, Unreachable, 3),
    (Fault.SERVER_ERROR, Unreachable, 3),
    (Fault.UNAVAILABLE, Unreachable, 3),
    (Fault.RATE_LIMITED, Unreachable, 3),
    (Fault.UNAUTHORIZED, Refused, 1),
    (Fault.HTML, Malformed, 3),
    (Fault.HALF_BODY, Malformed, 3),
]


@pytest.mark.parametrize(("fault", "error", "calls"), RAISED, ids=lambda value: getattr(value, "name", None))
async def test_no_readable_account_is_an_error_and_not_an_empty_account(
    sim: OandaSimulator, fault: Fault, error: type[BrokerError], calls: int
) -> None:
    """PEERS 1, PEERS 7"""
    held_account(sim)
    async with broker(sim) as adapter:
        sim.faults.add(fault, times=9)
        raised = await a_failure(adapter.connect())
        assert type(raised) is error
        assert adapter.calls == calls
        assert raised.account == "fx"
        assert raised.remedy
        sim.faults.clear()
        await adapter.connect()
        assert legs(await adapter.snapshot(None)) == sim.positions()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [(Fault.MALFORMED_ROW, Completeness.PARTIAL), (Fault.EMPTY, Completeness.FAILED)],
    ids=lambda value: value.name,
)
async def test_an_account_with_rows_missing_or_broken_is_not_complete(
    sim: OandaSimulator, fault: Fault, expected: Completeness
) -> None:
    """PEERS 1"""
    held_account(sim)
    async with broker(sim) as adapter:
        sim.faults.add(fault)
        await adapter.connect()
        snapshot = await adapter.snapshot(None)
        assert completeness(snapshot.positions, snapshot.orders) == [expected, expected]
        assert legs(await adapter.snapshot(None)) == sim.positions()


@pytest.mark.parametrize("fault", list(Fault), ids=lambda value: value.name)
async def test_a_fault_while_changes_are_read_loses_nothing(sim: OandaSimulator, fault: Fault) -> None:
    """PEERS 1, FEATURES 4"""
    held_account(sim)
    async with broker(sim) as adapter:
        first = await adapter.snapshot(None)
        sim.trade("EUR_USD", BUY, D(20))
        sim.faults.add(fault, times=3, match="AccountChanges")
        try:
            during = await adapter.snapshot(first.fills_cursor)
        except (Unreachable, Refused):
            sim.faults.clear()
            during = await adapter.snapshot(first.fills_cursor)
        assert legs(during) == {("EUR_USD", "long"): D(120)} == sim.positions()
        assert fills(during) == [("EUR_USD", BUY, D(20), "long")]


@pytest.mark.parametrize("fault", [row[0] for row in RAISED if row[1] is not Refused], ids=lambda value: value.name)
async def test_one_passing_fault_is_ridden_out(sim: OandaSimulator, fault: Fault) -> None:
    """FEATURES 4"""
    held_account(sim)
    async with broker(sim) as adapter:
        sim.faults.add(fault)
        await adapter.connect()
        assert adapter.calls == 2


@pytest.mark.parametrize("fault", list(Fault), ids=lambda value: value.name)
async def test_fills_that_cannot_be_read_leave_positions_and_orders_standing(sim: OandaSimulator, fault: Fault) -> None:
    held_account(sim)
    async with broker(sim) as adapter:
        sim.faults.add(fault, times=3, match="TransactionsSinceID")
        snapshot = await adapter.snapshot(1)
        assert isinstance(snapshot.fills, Partial if fault is Fault.MALFORMED_ROW else Failed)
        assert legs(snapshot) == sim.positions()
        # An unreadable fill is 3; the order before it was read.
        assert snapshot.fills_cursor == (2 if fault is Fault.MALFORMED_ROW else 1)
        sim.faults.clear()
        assert fills(await adapter.snapshot(1)) == [("EUR_USD", BUY, D(100), "long")]


async def test_changes_out_of_range_are_answered_by_reading_the_account_whole(sim: OandaSimulator) -> None:
    held_account(sim)
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        sim.trade("EUR_USD", BUY, D(1))
        sim.forget_transactions()
        snapshot = await adapter.snapshot(cursor)
        assert legs(snapshot) == sim.positions()
        assert isinstance(snapshot.fills, Failed)
        assert "no longer lists" in snapshot.fills.reason
        sim.trade("EUR_USD", BUY, D(2))
        healed = await adapter.snapshot(snapshot.fills_cursor)
        assert fills(healed) == [("EUR_USD", BUY, D(2), "long")]


async def test_an_account_that_lost_its_rows_without_a_transaction_is_not_believed(sim: OandaSimulator) -> None:
    """PEERS 1: even where every count in the answer agrees that there is nothing."""
    held_account(sim)
    async with broker(sim, full_every_s=0) as adapter:
        await adapter.snapshot(None)
        state = json.loads(sim.dump())
        sim.load(json.dumps({**state, "trades": [], "orders": []}))
        snapshot = await adapter.snapshot(None)
        assert completeness(snapshot.positions, snapshot.orders) == [Completeness.FAILED] * 2


@pytest.mark.parametrize("asks_for_fills", [True, False], ids=["with fills", "without fills"])
async def test_an_answer_older_than_one_already_read_is_not_believed_once(
    sim: OandaSimulator, asks_for_fills: bool
) -> None:
    """PEERS 11"""
    held_account(sim)
    before = sim.dump()
    sim.trade("EUR_USD", BUY, D(11))
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        sim.load(before)
        stale = await adapter.snapshot(cursor if asks_for_fills else None)
        assert completeness(stale.positions, stale.orders, stale.fills) == [Completeness.FAILED] * 3
        assert legs(await adapter.snapshot(stale.fills_cursor)) == sim.positions()


async def test_an_account_behind_what_the_caller_has_read_is_not_believed_once(sim: OandaSimulator) -> None:
    """PEERS 11, PEERS 15: after a restart only the caller's cursor knows how far the account had come."""
    held_account(sim)
    async with broker(sim) as adapter:
        stale = await adapter.snapshot(99)
        assert completeness(stale.positions, stale.orders, stale.fills) == [Completeness.FAILED] * 3
        assert legs(await adapter.snapshot(stale.fills_cursor)) == sim.positions()


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"token": "wrong-token-0000"}, ["401", "`token`"]), ({"account_id": "101-9"}, ["403", "`token`"])],
    ids=["token", "account"],
)
async def test_wrong_credentials_are_refused_at_once(
    sim: OandaSimulator, settings: dict[str, Any], words: list[str]
) -> None:
    async with broker(sim, **settings) as adapter:
        raised = await a_failure(adapter.connect())
        assert isinstance(raised, Refused)
        assert all(word in str(raised) for word in words)
        assert adapter.calls == 1


async def test_a_host_where_nobody_listens_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with broker(f"http://127.0.0.1:{port}") as adapter:
        raised = await a_failure(adapter.connect())
        assert isinstance(raised, Unreachable)
        assert "no connection" in raised.found


# -- servers that are not OANDA ------------------------------------------------------------------------------------


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


def http(body: bytes, status: str = "200 OK", head: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{head}\r\n".encode() + body


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"], ids=["head", "body"])
async def test_a_server_that_trickles_is_cut_off(start: bytes) -> None:
    """PEERS 7: each byte comes well within the read time-out, and the answer never does."""
    pause = threading.Event()

    def trickle(_request: bytes) -> Iterator[bytes]:
        yield start
        while not pause.wait(0.02):
            yield b"H"

    with server(trickle) as url:
        async with broker(url, timeout_s=0.2) as adapter:
            raised = await a_failure(adapter.connect())
            await asyncio.to_thread(calls_have_ended)
        assert isinstance(raised, Unreachable)
        assert "within 0.2 s" in raised.found


async def test_a_call_whose_caller_is_gone_is_cut_off(sim: OandaSimulator) -> None:
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
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"account": 5}',
        b'{"account": {"id": 5}}',
        b"\xff\xfe",
        b'{"account": {"id": "%s"}}',
    ],
)
async def test_json_of_another_shape_is_malformed(body: bytes) -> None:
    body = body.replace(b"%s", ACCOUNT.encode())
    with server(lambda _: iter([http(body)])) as url:
        async with broker(url) as adapter:
            assert isinstance(await a_failure(adapter.connect()), Malformed)


async def test_a_redirect_is_not_followed(sim: OandaSimulator) -> None:
    answer = http(b"", "302 Found", f"Location: {sim.start()}/v3/accounts/{ACCOUNT}\r\n")
    with server(lambda _: iter([answer])) as url:
        async with broker(url) as adapter:
            assert isinstance(await a_failure(adapter.connect()), Malformed)
    assert sim.requests == ()


@pytest.mark.parametrize(("wait", "calls"), [("0", 3), ("3600", 1)], ids=["short", "long"])
async def test_a_wait_that_the_broker_asks_for_is_kept_or_left_to_the_caller(wait: str, calls: int) -> None:
    answer = http(b"{}", "429 Too Many Requests", f"Retry-After: {wait}\r\n")
    with server(lambda _: iter([answer])) as url:
        async with broker(url) as adapter:
            assert isinstance(await a_failure(adapter.connect()), Unreachable)
            assert adapter.calls == calls


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "401 Unauthorized", "500 Oops"])
async def test_a_token_that_the_server_echoes_appears_nowhere(status: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with server(lambda request: iter([http(request, status)])) as url:
        async with broker(url) as adapter:
            raised = await a_failure(adapter.connect())
            texts = [str(raised), repr(raised), repr(pickle.loads(pickle.dumps(raised))), repr(adapter)]  # noqa: S301 - our own
            assert raised.__context__ is None
            assert "Bearer ***" in raised.found
    assert not [text for text in [*texts, caplog.text] if TOKEN in text]


@pytest.mark.parametrize("escaped", [TOKEN, TOKEN[:-1] + "\\u0030"], ids=["plain", "escaped"])
async def test_a_token_in_a_row_appears_in_no_row(escaped: str) -> None:
    row = {"instrument": "TOKEN", "long": {"units": "TOKEN"}, "short": {"units": "0"}}
    order = {
        "id": "3",
        "type": "LIMIT",
        "state": "PENDING",
        "instrument": "TOKEN",
        "units": "1",
        "clientExtensions": {"id": "TOKEN"},
    }
    account = {"id": ACCOUNT, "positions": [row], "orders": [order], "trades": []}
    body = json.dumps({"account": account, "lastTransactionID": "5"}).replace("TOKEN", escaped).encode()
    with server(lambda _: iter([http(body)])) as url:
        async with broker(url) as adapter:
            snapshot = await adapter.snapshot(None)
    assert snapshot.problems()
    assert rows_of(snapshot.orders)[0].client_order_id == "***"
    assert TOKEN not in repr(snapshot)


# -- accounts side by side -----------------------------------------------------------------------------------------


async def test_accounts_of_one_process_never_mix() -> None:
    """PEERS 2: the same instrument, and even the same account id, at two hosts."""
    sims = [OandaSimulator(ACCOUNT if n < 2 else f"101-{n}", f"token-number-{n}") for n in range(4)]
    try:
        for units, sim in enumerate(sims, start=1):
            sim.trade("EUR_USD", BUY, D(units))
        adapters = [
            OandaBroker(f"fx{n}", ACCOUNT if n < 2 else f"101-{n}", f"token-number-{n}", sim.start(), 5.0, Time())
            for n, sim in enumerate(sims)
        ]
        for _ in range(5):
            snapshots = await asyncio.gather(*(adapter.snapshot(0) for adapter in adapters))
            assert [legs(s) for s in snapshots] == [sim.positions() for sim in sims]
        for adapter in adapters:
            await adapter.close()
    finally:
        for sim in sims:
            sim.close()


async def test_an_answer_for_another_account_is_refused() -> None:
    body = json.dumps({"account": {"id": "101-7", "positions": [], "orders": []}, "lastTransactionID": "5"}).encode()
    with server(lambda _: iter([http(body)])) as url:
        async with broker(url) as adapter:
            raised = await a_failure(adapter.connect())
    assert isinstance(raised, Refused)
    assert "101-7" in str(raised)
    assert ACCOUNT in str(raised)


# -- positions and fills -------------------------------------------------------------------------------------------


async def test_hedged_legs_stand_side_by_side(hedged: OandaSimulator) -> None:
    async with broker(hedged) as adapter:
        await adapter.snapshot(None)
        hedged.trade("EUR_USD", BUY, D(100))
        hedged.trade("EUR_USD", SELL, D(40))
        snapshot = await adapter.snapshot(1)
        assert legs(snapshot) == {("EUR_USD", "long"): D(100), ("EUR_USD", "short"): D(-40)}
        assert fills(snapshot) == [("EUR_USD", BUY, D(100), "long"), ("EUR_USD", SELL, D(40), "short")]
        hedged.close_by_hand("EUR_USD")
        closed = await adapter.snapshot(snapshot.fills_cursor)
        assert legs(closed) == {}
        assert fills(closed) == [("EUR_USD", SELL, D(100), "long"), ("EUR_USD", BUY, D(40), "short")]


async def test_a_fill_that_nets_over_zero_names_no_leg(sim: OandaSimulator) -> None:
    sim.trade("EUR_USD", BUY, D(100))
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        sim.trade("EUR_USD", SELL, D(150))
        snapshot = await adapter.snapshot(cursor)
        assert legs(snapshot) == {("EUR_USD", "short"): D(-50)}
        assert fills(snapshot) == [("EUR_USD", SELL, D(150), None)]
        assert adapter.calls == 2


async def test_a_partial_close_leaves_the_average_of_the_lots_that_are_left(sim: OandaSimulator) -> None:
    for price in ("1.1", "1.3"):
        sim.set_price("EUR_USD", D(price))
        sim.trade("EUR_USD", BUY, D(10))
    sim.trade("EUR_USD", SELL, D(10))
    async with broker(sim) as adapter:
        (leg,) = rows_of((await adapter.snapshot(None)).positions)
        assert (leg.quantity, leg.average_price) == (D(10), D("1.3"))


async def test_a_position_set_without_a_fill_is_seen_by_the_cheap_snapshot(sim: OandaSimulator) -> None:
    held_account(sim)
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        sim.set_position("EUR_USD", "short", D(-7), D("1.5"))
        snapshot = await adapter.snapshot(cursor)
        assert legs(snapshot) == {("EUR_USD", "short"): D(-7)}
        assert (fills(snapshot), adapter.calls) == ([], 2)


# -- orders --------------------------------------------------------------------------------------------------------

ENDS: dict[str, tuple[Callable[[OandaSimulator, str], object], OrderStatus, int]] = {
    "filled": (lambda sim, order: sim.fill_order(order), OrderStatus.FILLED, 50),
    "filled in part": (lambda sim, order: sim.fill_order(order, D(20)), OrderStatus.CANCELLED, 20),
    "cancelled": (lambda sim, order: sim.end_order(order), OrderStatus.CANCELLED, 0),
    "expired": (lambda sim, order: sim.end_order(order, "EXPIRED"), OrderStatus.EXPIRED, 0),
    "rejected": (lambda sim, order: sim.end_order(order, "REJECTED"), OrderStatus.REJECTED, 0),
    "replaced": (lambda sim, order: sim.replace_order(order, D("191.5")), OrderStatus.CANCELLED, 0),
}


@pytest.mark.parametrize("how", ENDS, ids=lambda how: how.replace(" ", "-"))
async def test_an_order_that_ended_is_shown_in_every_later_snapshot_and_found_by_id(
    sim: OandaSimulator, how: str
) -> None:
    """FEATURES 5, FEATURES 18"""
    end, status, filled = ENDS[how]
    order_id = held_account(sim)
    time = Time()
    async with broker(sim, clock=time) as adapter:
        await adapter.snapshot(None)
        end(sim, order_id)
        (answer,) = await adapter.find_orders([query(order_id)])
        shown = [orders(await adapter.snapshot(None))[order_id] for _ in range(2)]
        time.passes(1000)
        shown.append(orders(await adapter.snapshot(None))[order_id])
    assert answer.failure is None
    assert [answer.order] * 3 == shown
    assert (shown[0].status, shown[0].filled_quantity, shown[0].quantity) == (status, D(filled), D(50))
    assert (shown[0].average_fill_price is None) is (filled == 0)
    assert (shown[0].replaced_by is not None) is (how == "replaced")
    assert [row.quantity for row in answer.fills] == ([D(filled)] if filled else [])


async def test_an_order_is_found_by_client_id_however_it_is_written(sim: OandaSimulator) -> None:
    names = ["plain", "a/b?c=#1 %41 é", "@at"]
    ids = [sim.place_limit("EUR_USD", BUY, D(1), D("1.1"), name) for name in names]
    async with broker(sim) as adapter:
        answers = await adapter.find_orders([query(None, name) for name in names])
    assert [answer.order and answer.order.broker_order_id for answer in answers] == ids


@pytest.mark.parametrize(
    "asked", [query("99"), query(None, "nobody's"), query("no number")], ids=["id", "name", "word"]
)
async def test_the_brokers_own_word_that_there_is_no_such_order_is_none(sim: OandaSimulator, asked: OrderQuery) -> None:
    async with broker(sim) as adapter:
        (answer,) = await adapter.find_orders([asked])
    assert (answer.order, answer.failure) == (None, None)


async def test_a_forgotten_order_is_gone_from_the_snapshot_and_from_the_answers(sim: OandaSimulator) -> None:
    order_id = held_account(sim)
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        sim.forget_order(order_id)
        assert order_id not in orders(await adapter.snapshot(None))
        (answer,) = await adapter.find_orders([query(order_id)])
        assert (answer.order, answer.failure) == (None, None)


@pytest.mark.parametrize("fault", list(Fault), ids=lambda value: value.name)
@pytest.mark.parametrize("operation", ["OrderDetails", "TransactionDetails"])
async def test_a_failed_question_about_an_order_is_never_its_absence(
    sim: OandaSimulator, fault: Fault, operation: str
) -> None:
    """PEERS 12"""
    order_id = sim.trade("EUR_USD", BUY, D(5))
    async with broker(sim) as adapter:
        sim.faults.add(fault, times=3, match=operation)
        (answer,) = await adapter.find_orders([query(order_id)])
        if fault is Fault.EMPTY:  # an order and a transaction have no rows to lose
            assert answer.order is not None
        else:
            assert answer.failure is not None
            assert answer.order is None


async def test_after_a_question_that_nobody_answered_the_rest_is_not_asked(sim: OandaSimulator) -> None:
    async with broker(sim) as adapter:
        sim.faults.add(Fault.UNAVAILABLE, times=99)
        answers = await adapter.find_orders([query(str(number)) for number in range(2, 12)])
        assert adapter.calls == 3
    assert all(answer.failure is not None for answer in answers)
    assert len(answers) == 10


async def test_an_order_refused_at_creation_is_found_and_shown_as_rejected(sim: OandaSimulator) -> None:
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        number = sim.reject("EUR_USD", BUY, D(5), "refused")
        (by_id,) = await adapter.find_orders([query(number)])
        shown = orders(await adapter.snapshot(None))[number]
        (by_name,) = await adapter.find_orders([query(None, "refused")])
        assert shown.status is OrderStatus.REJECTED
        assert shown == by_id.order == by_name.order


async def test_an_order_refused_while_nobody_looked_is_found_and_shown_as_rejected(sim: OandaSimulator) -> None:
    """FEATURES 5: after a restart the transactions since the cursor are all that tells of it."""
    held_account(sim)
    async with broker(sim) as before:
        cursor = (await before.snapshot(None)).fills_cursor
    number = sim.reject("EUR_USD", BUY, D(5), "refused")
    async with broker(sim) as adapter:
        shown = orders(await adapter.snapshot(cursor))[number]
        (answer,) = await adapter.find_orders([query(None, "refused")])
    assert (shown.status, shown.client_order_id) == (OrderStatus.REJECTED, "refused")
    assert shown.reason
    assert answer.order == shown


async def test_an_order_refused_before_anybody_ever_looked_is_found_by_its_client_id(sim: OandaSimulator) -> None:
    """FEATURES 23"""
    sim.reject("EUR_USD", BUY, D(5), "refused")
    held_account(sim)
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        (answer,) = await adapter.find_orders([query(None, "refused")])
        assert answer.order is not None
        assert answer.order.status is OrderStatus.REJECTED
        before = adapter.calls
        (unknown,) = await adapter.find_orders([query(None, "another")])
        assert (unknown.order, unknown.failure) == (None, None)
        assert adapter.calls - before == 1, "what was before is read once"


async def test_where_the_transactions_before_cannot_be_read_nothing_is_said_of_an_unknown_order(
    sim: OandaSimulator,
) -> None:
    """PEERS 12"""
    held_account(sim)
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        sim.faults.add(Fault.SERVER_ERROR, times=9, match="sinceid")
        (answer,) = await adapter.find_orders([query(None, "another")])
        assert answer.failure is not None


NO_SUCH = json.dumps({"errorMessage": "The transaction ID specified does not exist"}).encode()


@contextmanager
def ended_order(transaction: bytes, **fields: object) -> Iterator[str]:
    """A broker with one order that has ended, and this answer to the question how."""
    row = {"id": "20", "type": "LIMIT", "instrument": "EUR_USD", "units": "100", "price": "1.1", **fields}
    found = http(json.dumps({"order": row, "lastTransactionID": "30"}).encode())
    with server(lambda request: iter([transaction if b"/transactions/" in request else found])) as url:
        yield url


ENDED = {
    "filled, transaction gone": ({"state": "FILLED", "fillingTransactionID": "21"}, OrderStatus.FILLED, 100),
    "filled, no transaction": ({"state": "FILLED"}, OrderStatus.FILLED, 100),
    "cancelled, transaction gone": ({"state": "CANCELLED", "cancellingTransactionID": "21"}, OrderStatus.CANCELLED, 0),
    "cancelled, no transaction": ({"state": "CANCELLED"}, OrderStatus.CANCELLED, 0),
}


@pytest.mark.parametrize("how", ENDED, ids=lambda how: how.replace(" ", "-"))
async def test_an_order_that_ended_without_a_transaction_is_answered_by_its_own_word(how: str) -> None:
    """FEATURES 5"""
    fields, status, filled = ENDED[how]
    with ended_order(http(NO_SUCH, "404 Not Found"), **fields) as url:
        async with broker(url) as adapter:
            (answer,) = await adapter.find_orders([query("20")])
    assert (answer.failure, answer.fills) == (None, ())
    assert answer.order is not None
    assert (answer.order.status, answer.order.filled_quantity) == (status, D(filled))
    assert (answer.order.average_fill_price, answer.order.reason) == (None, None)


@pytest.mark.parametrize("end", [{"fillingTransactionID": "21"}, {"cancellingTransactionID": "21"}], ids=str)
@pytest.mark.parametrize(
    ("status", "body"), [("500 Oops", NO_SUCH), ("404 Not Found", b"<html>")], ids=["server error", "no word of it"]
)
async def test_how_an_order_ended_is_not_known_while_the_transaction_cannot_be_read(
    end: dict[str, str], status: str, body: bytes
) -> None:
    """PEERS 12"""
    state = "FILLED" if "fillingTransactionID" in end else "CANCELLED"
    with ended_order(http(body, status), state=state, **end) as url:
        async with broker(url) as adapter:
            (answer,) = await adapter.find_orders([query("20")])
    assert answer.failure is not None
    assert answer.order is None


async def test_how_much_of_its_trade_an_order_closed_is_not_guessed() -> None:
    trade = {"id": "5", "instrument": "EUR_USD", "initialUnits": "100", "currentUnits": "0"}
    row = {"id": "20", "type": "TAKE_PROFIT", "tradeID": "5", "state": "FILLED", "price": "1.1"}

    def answer(request: bytes) -> Iterator[bytes]:
        yield http(json.dumps({"trade": trade} if b"/trades/" in request else {"order": row}).encode())

    with server(answer) as url:
        async with broker(url) as adapter:
            (found,) = await adapter.find_orders([query("20")])
    assert found.failure is not None
    assert found.order is None


@pytest.mark.parametrize(
    ("body", "proves"),
    [
        (b'{"errorCode": "NO_SUCH_ORDER", "errorMessage": "The order specified does not exist"}', True),
        (b'{"errorCode": "ORDER_DOESNT_EXIST"}', True),
        (b'{"errorMessage": "The order ID specified does not exist"}', True),
        (b"", False),
        (b"<html>nginx</html>", False),
        (b"[]", False),
        (b'"errorMessage"', False),
        (b"{}", False),
        (b'{"message": "no route"}', False),
        (b'{"errorMessage": ""}', False),
        (b'{"errorMessage": 5}', False),
    ],
)
@pytest.mark.parametrize("asked", [query("20"), query(None, "mine")], ids=["id", "name"])
async def test_only_the_brokers_own_words_prove_that_it_has_no_such_order(
    asked: OrderQuery, body: bytes, proves: bool
) -> None:
    """PEERS 12: a proxy says 404, too."""
    with server(lambda _: iter([http(body, "404 Not Found")])) as url:
        async with broker(url) as adapter:
            (answer,) = await adapter.find_orders([asked])
            with pytest.raises(Refused if proves else Malformed):
                await adapter.cancel_order(asked)
    assert answer.order is None
    assert (answer.failure is None) is proves


async def test_orders_that_depend_on_a_trade_follow_it_to_its_end(sim: OandaSimulator) -> None:
    sim.trade("EUR_USD", BUY, D(100))
    stop = sim.place_dependent("EUR_USD", "long", "STOP_LOSS", D("0.5"))
    take = sim.place_dependent("EUR_USD", "long", "TAKE_PROFIT", D("2.5"))
    async with broker(sim) as adapter:
        first = orders(await adapter.snapshot(None))
        sim.trade("EUR_USD", SELL, D(40))
        second = orders(await adapter.snapshot(None))
        sim.fill_order(take)
        third = orders(await adapter.snapshot(None))
        answers = await adapter.find_orders([query(stop), query(take)])
        assert adapter.calls <= 3 + 2 + 3
    assert [(row[stop].instrument, row[stop].side, row[stop].quantity) for row in (first, second)] == [
        ("EUR_USD", SELL, D(100)),
        ("EUR_USD", SELL, D(60)),
    ]
    assert (third[stop].status, third[stop].reason) == (OrderStatus.CANCELLED, "LINKED_TRADE_CLOSED")
    assert (third[take].status, third[take].filled_quantity) == (OrderStatus.FILLED, D(60))
    assert [answer.order and answer.order.status for answer in answers] == [OrderStatus.CANCELLED, OrderStatus.FILLED]


async def test_an_order_is_cancelled_at_the_broker(sim: OandaSimulator) -> None:
    """FEATURES 6"""
    order_id = held_account(sim)
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        await adapter.cancel_order(query(None, "rests"))
        assert orders(await adapter.snapshot(None))[order_id].status is OrderStatus.CANCELLED
        with pytest.raises(Refused, match="no such pending order"):
            await adapter.cancel_order(query(order_id))


@pytest.mark.parametrize("fault", [row[0] for row in RAISED], ids=lambda value: value.name)
async def test_a_cancellation_is_never_repeated(sim: OandaSimulator, fault: Fault) -> None:
    order_id = held_account(sim)
    async with broker(sim) as adapter:
        sim.faults.add(fault, times=3)
        await a_failure(adapter.cancel_order(query(order_id)))
        assert adapter.calls == 1


# -- cheap equals whole --------------------------------------------------------------------------------------------


def one_step(sim: OandaSimulator, rng: random.Random) -> None:
    """One thing that can happen to an account."""
    instrument = rng.choice(["EUR_USD", "GBP_JPY", "USD_CHF"])
    side = rng.choice([BUY, SELL])
    quantity = D(rng.randint(1, 200)) / rng.choice([1, 10])
    resting = [row["id"] for row in json.loads(sim.dump())["orders"] if row["state"] == "PENDING"]
    order_id = str(rng.choice(resting)) if resting else None
    match rng.randint(0, 11):
        case 0 | 1 | 2:
            sim.set_price(instrument, sim.price(instrument) + D(rng.randint(-50, 50)) / 1000)
            sim.trade(instrument, side, quantity, f"c{rng.randint(0, 9)}")
        case 3 | 4:
            sim.place_limit(instrument, side, quantity, sim.price(instrument))
        case 5 if order_id:
            sim.fill_order(order_id)
        case 6 if order_id:
            sim.fill_order(order_id, quantity)
        case 7 if order_id:
            sim.end_order(order_id, rng.choice(["CANCELLED", "EXPIRED", "REJECTED"]))
        case 8 if order_id:
            sim.replace_order(order_id, D(1))
        case 9:
            held = sorted(sim.positions())
            if held:
                sim.place_dependent(*rng.choice(held), rng.choice(["STOP_LOSS", "TAKE_PROFIT"]), D(1))
        case 10:
            sim.close_by_hand(instrument)
        case 11:
            leg, sign = rng.choice([("long", 1), ("short", -1)])
            sim.set_position(instrument, leg, quantity * sign * rng.randint(0, 1), sim.price(instrument))
        case _:
            sim.reject(instrument, side, quantity)


@pytest.mark.parametrize("hedging", [False, True], ids=["netting", "hedging"])
@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_the_cheap_snapshot_equals_a_whole_one(seed: int, hedging: bool) -> None:
    """FEATURES 24"""
    rng = random.Random(seed)  # noqa: S311 - a reproducible walk
    sim = OandaSimulator(ACCOUNT, TOKEN, hedging=hedging, seed=seed)
    sim.start()
    try:
        async with broker(sim, timeout_s=5.0) as cheap:
            cursor = (await cheap.snapshot(None)).fills_cursor
            seen: list[Any] = []
            for _ in range(25):
                for _ in range(rng.randint(0, 5)):
                    one_step(sim, rng)
                before = cheap.calls
                carried = await cheap.snapshot(cursor)
                assert cheap.calls == before + 1
                async with broker(sim, timeout_s=5.0) as fresh:
                    whole = await fresh.snapshot(cursor)
                assert legs(carried) == legs(whole) == sim.positions()
                assert set(rows_of(carried.positions)) == set(rows_of(whole.positions))
                assert carried.fills == whole.fills
                assert carried.fills_cursor == whole.fills_cursor
                assert working(carried) == working(whole)
                cursor = carried.fills_cursor
                seen += rows_of(carried.fills)
            ended = [row for row in orders(carried).values() if row.status.terminal]
            answers = await cheap.find_orders([query(row.broker_order_id) for row in ended])
            assert [answer.order for answer in answers] == ended
            assert len({row.fill_id for row in seen}) == len(seen)
    finally:
        sim.close()
