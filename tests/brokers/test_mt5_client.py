"""The MT5 adapter over real sockets: against the simulator, and against gateways with less manners."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
import zmq

from brokers.clocks import ahead_of_ours
from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.model import (
    Complete,
    Completeness,
    Failed,
    LegScheme,
    OrderQuery,
    OrderStatus,
    Partial,
    Position,
    Side,
    Unsupported,
    problems_of,
    rows_of,
)
from brokers.mt5 import Mt5Broker
from brokers.port import Vouching
from brokers.simulators.base import Fault
from brokers.simulators.mt5 import Mt5Simulator
from tests.brokers.reading import Time, held, logged, now

D = Decimal
TIMEOUT_S = 5.0
SHORT_TIMEOUT_S = 0.5
"""For silence alone, which only the time-out ends: a busy machine answers late."""


@asynccontextmanager
async def connected(
    endpoint: str,
    login: int | None = 5001,
    clock: Callable[[], datetime] = now,
    connect: bool = True,
    timeout_s: float = TIMEOUT_S,
) -> AsyncIterator[Mt5Broker]:
    broker = Mt5Broker("cfd", endpoint, login, timeout_s, clock, backoff_s=0.005)
    try:
        if connect:
            await broker.connect()
        yield broker
    finally:
        await broker.close()


@contextmanager
def simulated(
    *,
    login: int = 5001,
    margin_mode: str | None = "hedging",
    base_only: bool = False,
    echo: bool = True,
    clock: Callable[[], datetime] = now,
) -> Iterator[tuple[Mt5Simulator, str]]:
    simulator = Mt5Simulator(
        login=login, margin_mode=margin_mode, base_only=base_only, echo_request_id=echo, seed=1, clock=clock
    )
    try:
        yield simulator, simulator.start()
    finally:
        simulator.close()


@pytest.fixture
def gateway() -> Iterator[tuple[Mt5Simulator, str]]:
    with simulated() as pair:
        yield pair


@contextmanager
def plain_gateway(answer: Callable[[dict[str, object]], bytes]) -> Iterator[str]:
    """A REP socket of the most ordinary kind, as somebody else may have written it."""
    context = zmq.Context()
    socket = context.socket(zmq.REP)
    socket.linger = 0
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    stop = context.socket(zmq.PAIR)
    stop.bind("inproc://stop")
    wake = context.socket(zmq.PAIR)
    wake.connect("inproc://stop")

    def serve() -> None:
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(stop, zmq.POLLIN)
        while stop not in dict(poller.poll()):
            socket.send(answer(json.loads(socket.recv())))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        wake.send(b"")
        thread.join()
        context.destroy(linger=0)


# -- the account -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "legs", "leg"),
    [
        ("hedging", LegScheme.TICKET, "1001"),
        ("netting", LegScheme.NET, "net"),
        (None, LegScheme.TICKET, "1001"),
    ],
)
async def test_the_margin_mode_names_the_legs_of_positions_orders_and_fills(
    mode: str | None, legs: LegScheme, leg: str
) -> None:
    with simulated(margin_mode=mode) as (simulator, endpoint):
        async with connected(endpoint) as broker:
            first = await broker.snapshot(None)
            simulator.trade("EURUSD", Side.BUY, D("0.1"), "c1")
            snapshot = await broker.snapshot(first.fills_cursor)
    assert snapshot.conventions.legs is legs
    (position,), (order,), (fill,) = rows_of(snapshot.positions), rows_of(snapshot.orders), rows_of(snapshot.fills)
    assert (position.leg, order.leg, fill.leg) == (leg, leg, leg)
    assert (fill.position_id, fill.client_order_id, fill.broker_order_id) == ("1001", "c1", order.broker_order_id)


async def test_another_login_is_refused_and_both_are_named(gateway: tuple[Mt5Simulator, str]) -> None:
    """PEERS 2: the wrong account's positions never reach a book."""
    with pytest.raises(Refused, match=r"5001.*4711|4711.*5001"):
        async with connected(gateway[1], login=4711):
            pass


async def test_any_login_will_do_where_none_is_configured(gateway: tuple[Mt5Simulator, str]) -> None:
    async with connected(gateway[1], login=None) as broker:
        assert (await broker.snapshot(None)).positions == Complete(())


@pytest.mark.parametrize("configured", [5001, None])
async def test_a_terminal_that_comes_back_with_another_login_is_refused(configured: int | None) -> None:
    """PEERS 2, 13: a connection lost and found again between two snapshots is proven anew."""
    with simulated() as (simulator, endpoint):
        async with connected(endpoint, login=configured) as broker:
            await broker.snapshot(None)
            simulator.close()
            simulator.login = 6002
            simulator.start(int(endpoint.rpartition(":")[2]))
            with pytest.raises(Refused, match="6002"):
                await broker.snapshot(None)


async def test_the_login_is_proven_again_after_a_while(gateway: tuple[Mt5Simulator, str]) -> None:
    simulator, endpoint = gateway
    time = [now()]
    async with connected(endpoint, clock=lambda: time[0]) as broker:
        await broker.snapshot(None)
        simulator.login = 6002
        await broker.snapshot(None)
        time[0] += timedelta(minutes=6)
        with pytest.raises(Refused, match="6002"):
            await broker.snapshot(None)


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [("127.0.0.1:5555", "127.0.0.1:5555"), ("tcp://", "tcp://"), ("carrier-pigeon://x", "carrier-pigeon")],
)
async def test_an_endpoint_that_is_none_is_refused_by_name(endpoint: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        async with connected(endpoint):
            pass


# -- faults ------------------------------------------------------------------------------------------------------

C = Completeness.COMPLETE


async def test_positions_that_never_answer_are_unreachable_within_the_time_allowed(
    gateway: tuple[Mt5Simulator, str],
) -> None:
    """PEERS 7: three attempts, each with the time-out configured, and no more."""
    simulator, endpoint = gateway
    async with connected(endpoint, timeout_s=SHORT_TIMEOUT_S) as broker:
        simulator.faults.add(Fault.TIMEOUT, times=99, match="GET_POSITIONS")
        before = broker.calls
        with pytest.raises(Unreachable, match=r"no reply within 0\.5 s"):
            await broker.snapshot(None)
        assert broker.calls - before == 3


async def test_failed_positions_are_not_flat_and_the_gateway_is_quoted(gateway: tuple[Mt5Simulator, str]) -> None:
    """PEERS 1: an error is not an absence."""
    simulator, endpoint = gateway
    simulator.set_position("EURUSD", "7", D("0.1"), D("1.1"))
    async with connected(endpoint) as broker:
        simulator.faults.add(Fault.UNAVAILABLE, match="GET_POSITIONS")
        snapshot = await broker.snapshot(None)
    said = "GET_POSITIONS: the gateway said: no connection with the trade server"
    assert snapshot.positions == Failed(f"{said}. Check the terminal's connection to its broker")


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault.SERVER_ERROR, Unreachable), (Fault.UNAUTHORIZED, Refused), (Fault.HTML, Malformed)],
)
async def test_nothing_learned_at_all_is_raised_with_its_remedy(fault: Fault, error: type[BrokerError]) -> None:
    with simulated(base_only=True) as (simulator, endpoint):
        async with connected(endpoint) as broker:
            simulator.faults.add(fault, match="GET_POSITIONS")
            with pytest.raises(error):
                await broker.snapshot(None)


@pytest.mark.parametrize(
    ("login", "base_only", "proven"),
    [(5001, True, False), (None, True, True), (5001, False, True)],
    ids=["a login nobody states", "no login expected", "a login that is stated"],
)
async def test_a_login_that_the_gateway_does_not_state_is_said_to_be_unproven_once(
    login: int | None, base_only: bool, proven: bool
) -> None:
    with simulated(login=5001, base_only=base_only) as (_, endpoint), logged() as lines:
        async with connected(endpoint, login=login) as broker:
            await broker.snapshot(None)
            await broker.connect()
            await broker.snapshot(None)
            assert isinstance(broker, Vouching)
            found = broker.unproven
    assert (found is None) is proven
    assert [line for line in lines if "proven" in line] == ([] if found is None else [f"cfd: {found}\n"])
    if found is not None:
        assert "login 5001 cannot be proven" in found
        assert "does not report which login it serves. Check in the terminal" in found


# -- replies that belong to other requests -----------------------------------------------------------------------


@pytest.mark.parametrize("echo", [True, False], ids=["echoes the id", "echoes nothing"])
async def test_a_late_reply_is_never_taken_for_the_next_one(echo: bool) -> None:
    """PEERS 7, PEERS 11: the stale answer arrives just before the fresh one, and shows a position since closed."""
    with simulated(echo=echo) as (simulator, endpoint):
        simulator.set_position("EURUSD", "7", D("0.1"), D("1.1"))
        async with connected(endpoint, timeout_s=SHORT_TIMEOUT_S) as broker:
            for quantity in (D("0.2"), D("0.3"), D("0")):
                simulator.faults.add(Fault.TIMEOUT, times=2, match="GET_POSITIONS")
                simulator.faults.add(Fault.LATE, match="GET_POSITIONS")
                with pytest.raises(Unreachable):
                    await broker.snapshot(None)
                simulator.set_position("EURUSD", "7", quantity, D("1.1"))
                assert held(await broker.snapshot(None)) == simulator.positions()


async def test_a_gateway_that_crosses_replies_is_caught_by_the_request_id(gateway: tuple[Mt5Simulator, str]) -> None:
    """A gateway with one response slot for all answers with the reply before this one."""
    simulator, endpoint = gateway
    async with connected(endpoint) as broker:
        await broker.snapshot(None)
        simulator.set_position("EURUSD", "7", D("0.1"), D("1.1"))
        simulator.cross_replies(1)
        assert held(await broker.snapshot(None)) == simulator.positions()
        simulator.cross_replies(3)
        snapshot = await broker.snapshot(None)
    assert isinstance(snapshot.positions, Failed)
    assert "another request" in snapshot.positions.reason


async def test_copies_of_the_first_position_leave_no_instrument_certain() -> None:
    """PEERS 6: seen in public gateways: each hedged position a copy of the first."""
    row = {"ticket": 1, "symbol": "EURUSD", "type": "buy", "volume": 0.1, "price_open": 1.1, "profit": 0, "time": 1}
    reply = json.dumps({"status": "SUCCESS", "positions": [row, row, row]}).encode()
    with plain_gateway(lambda asked: reply if asked["action"] == "GET_POSITIONS" else unknown(asked)) as endpoint:
        async with connected(endpoint) as broker:
            snapshot = await broker.snapshot(None)
    assert isinstance(snapshot.positions, Partial)
    assert [problem.instrument for problem in snapshot.positions.problems] == ["EURUSD", None] * 2


# -- the base protocol -------------------------------------------------------------------------------------------


def unknown(asked: dict[str, object]) -> bytes:
    return json.dumps({"status": "ERROR", "error": f"Unknown action: {asked['action']}"}).encode()


async def test_the_base_protocol_is_enough_and_costs_one_request_a_snapshot() -> None:
    """FEATURES 16: a plain REP gateway with the documented request and reply only, and no request_id."""
    asked: list[dict[str, object]] = []
    documented = (
        b'{"status": "SUCCESS", "positions": [{"ticket": 123456, "symbol": "EURUSD", "type": "buy", "volume": 0.01,'
        b' "price_open": 1.0543, "profit": 10.5, "time": 1704153600}]}'
    )

    def answer(request: dict[str, object]) -> bytes:
        asked.append(request)
        return documented if request["action"] == "GET_POSITIONS" else unknown(request)

    with plain_gateway(answer) as endpoint:
        async with connected(endpoint) as broker:
            first = await broker.snapshot(None)
            calls = broker.calls
            second = await broker.snapshot(first.fills_cursor)
            assert broker.calls == calls + 1
    assert first.positions == Complete((Position("EURUSD", "123456", D("0.01"), D("1.0543")),))
    assert (second.positions, second.orders, second.fills) == (first.positions, Unsupported(), Unsupported())
    assert second.fills_cursor is None
    assert second.as_of == second.requested_at
    requests = [request for request in asked if request["action"] == "GET_POSITIONS"]
    assert [set(request) for request in requests] == [{"action", "symbol", "request_id"}] * 2
    assert {request["symbol"] for request in requests} == {"*"}


async def test_what_a_gateway_does_not_know_is_asked_again_after_a_reconnect() -> None:
    with simulated(base_only=True) as (simulator, endpoint):
        async with connected(endpoint) as broker:
            assert (await broker.snapshot(None)).orders == Unsupported()
            simulator.close()
        with_all = Mt5Simulator()
        try:
            with_all.start(int(endpoint.rpartition(":")[2]))
            await broker.connect()
            assert (await broker.snapshot(None)).orders == Complete(())
        finally:
            await broker.close()
            with_all.close()


async def test_a_gateway_that_no_longer_states_its_login_is_another_one() -> None:
    """PEERS 2: what was proven once is not taken on trust later."""
    with simulated() as (simulator, endpoint), simulated(base_only=True) as (lesser, _):
        async with connected(endpoint) as broker:
            simulator.close()
            lesser.close()
            lesser.start(int(endpoint.rpartition(":")[2]))
            with pytest.raises(Malformed, match="no longer"):
                await broker.snapshot(None)


# -- consistency and the cursor ----------------------------------------------------------------------------------


class Meddler(Mt5Simulator):
    """Trades just after it answered GET_POSITIONS, so that the deals know more than the positions did."""

    meddling = 0

    def _answer(self, action: str, asked: dict[str, object]) -> dict[str, object]:
        reply = super()._answer(action, asked)
        if action == "GET_POSITIONS" and self.meddling:
            self.meddling -= 1
            self.trade("EURUSD", Side.BUY, D("0.1"))
        return reply


@pytest.mark.parametrize("mode", ["hedging", "netting"])
async def test_a_fill_between_the_requests_is_in_both_sections_or_in_none(mode: str) -> None:
    """PEERS 11: positions older than a fill that comes with them would undo it."""
    simulator = Meddler(margin_mode=mode)
    try:
        async with connected(simulator.start()) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            for _ in range(5):
                simulator.meddling = 1
                snapshot = await broker.snapshot(cursor)
                cursor = snapshot.fills_cursor
                assert len(rows_of(snapshot.fills)) == 1
                assert held(snapshot) == simulator.positions()
    finally:
        simulator.close()


async def test_a_deal_is_found_by_a_later_look_though_many_looks_a_second_moved_the_cursor_ahead_of_the_clock() -> None:
    """PEERS 6: a cursor grows with each fill that is handed out, and time does not. Found where a reply was lost."""
    clock = Time()
    with simulated(clock=clock) as (simulator, endpoint):
        async with connected(endpoint, clock=clock) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            for _ in range(12):
                simulator.trade("EURUSD", Side.BUY, D("0.1"))
                cursor = (await broker.snapshot(cursor)).fills_cursor
            order = simulator.trade("EURUSD", Side.BUY, D("0.3"))
            clock.passes(8)
            (fill,) = rows_of((await broker.snapshot(cursor)).fills)
            assert (fill.broker_order_id, fill.quantity) == (order, D("0.3"))


async def test_an_account_that_never_stands_still_is_in_doubt_where_it_trades_and_only_there() -> None:
    """PEERS 11: what cannot be read in one piece is not called complete."""
    simulator = Meddler()
    try:
        async with connected(simulator.start()) as broker:
            simulator.set_position("GBPUSD", "7", D("0.1"), D("1.2"))
            cursor = (await broker.snapshot(None)).fills_cursor
            simulator.meddling = 99
            snapshot = await broker.snapshot(cursor)
            assert [problem.instrument for problem in problems_of(snapshot.positions)] == ["EURUSD"]
            simulator.meddling = 0
            assert (await broker.snapshot(snapshot.fills_cursor)).positions.completeness is C
    finally:
        simulator.close()


@pytest.mark.parametrize("ahead", [timedelta(hours=-5), timedelta(seconds=-3), timedelta(0), timedelta(hours=3)])
async def test_a_gateway_in_another_time_zone_loses_no_fill_and_dates_none_too_late(ahead: timedelta) -> None:
    """Server time is broker-zone, reported in UTC: fills not after ``as_of`` are contained, whatever the clocks say."""
    with simulated(clock=lambda: now() + ahead) as (simulator, endpoint):
        async with connected(endpoint) as broker:
            snapshot = await broker.snapshot(None)
            for _ in range(5):
                as_of = snapshot.as_of
                simulator.trade("EURUSD", Side.BUY, D("0.1"))
                snapshot = await broker.snapshot(snapshot.fills_cursor)
                (fill,) = rows_of(snapshot.fills)
                assert fill.time > as_of
            assert abs(ahead_of_ours(snapshot.as_of, now())) < timedelta(seconds=5)


# -- single orders -----------------------------------------------------------------------------------------------


async def test_an_order_is_found_by_its_ticket_and_by_its_comment_with_its_fills(
    gateway: tuple[Mt5Simulator, str],
) -> None:
    """FEATURES 13, FEATURES 23: an order whose confirmation was lost is found by either name."""
    simulator, endpoint = gateway
    ticket = simulator.place_limit("EURUSD", Side.BUY, D("0.3"), D("1.0"), "mine")
    simulator.fill_order(ticket, D("0.1"))
    simulator.end_order(ticket)
    simulator.trade("EURUSD", Side.SELL, D("0.5"), "another")
    queries = (
        OrderQuery("EURUSD", ticket, None),
        OrderQuery("EURUSD", None, "mine"),
        OrderQuery("EURUSD", "99999", None),
        OrderQuery("EURUSD", None, "nobody's"),
    )
    async with connected(endpoint) as broker:
        by_ticket, by_name, *absent = await broker.find_orders(queries)
    for answer in (by_ticket, by_name):
        assert answer.failure is None
        assert answer.order is not None
        assert (answer.order.status, answer.order.filled_quantity) == (OrderStatus.CANCELLED, D("0.1"))
        assert [(fill.quantity, fill.client_order_id) for fill in answer.fills] == [(D("0.1"), "mine")]
    assert [(answer.order, answer.failure) for answer in absent] == [(None, None), (None, None)]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (OrderQuery("EURUSD", "not-a-ticket", "twice"), "no MT5 order ticket"),
        (OrderQuery("EURUSD", None, "twice"), "2 orders"),
    ],
)
async def test_a_question_without_one_answer_is_a_failure(
    gateway: tuple[Mt5Simulator, str], query: OrderQuery, words: str
) -> None:
    simulator, endpoint = gateway
    simulator.place_limit("EURUSD", Side.BUY, D("0.3"), D("1.0"), "twice")
    simulator.place_limit("EURUSD", Side.BUY, D("0.3"), D("1.0"), "twice")
    async with connected(endpoint) as broker:
        (answer,) = await broker.find_orders([query])
    assert answer.failure is not None
    assert words in answer.failure


async def test_a_gateway_without_orders_says_so() -> None:
    with simulated(base_only=True) as (_, endpoint):
        async with connected(endpoint) as broker:
            (answer,) = await broker.find_orders([OrderQuery("EURUSD", "1", None)])
            assert answer.failure == "the gateway does not support GET_ORDERS. Look the order up in the terminal"
            with pytest.raises(Refused, match="no action that cancels"):
                await broker.cancel_order(OrderQuery("EURUSD", "1", None))


# -- a random walk -----------------------------------------------------------------------------------------------
