"""The gateway before a terminal, against a stand-in of the terminal's package, spoken to by our own adapter."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.auth

from brokers.clocks import ahead_of_ours
from brokers.errors import BrokerError, Unreachable
from brokers.model import Complete, LegScheme, OrderQuery, OrderStatus, Snapshot, rows_of
from brokers.mt5 import Mt5Broker
from brokers.mt5.curve import ClientKeys
from brokers.mt5.serve import Options, Server, Watch, answer_to, options_of, reply_to
from brokers.mt5.terminal import Terminal
from tests.brokers.metatrader import StandIn, deal, order, position

D = Decimal
ZONE_S = 3 * 3600


def now() -> datetime:
    return datetime.now(UTC)


def server_s(ago_s: int = 0) -> int:
    return int(time.time()) + ZONE_S - ago_s


def made(stand_in: StandIn) -> Terminal:
    return Terminal(stand_in, {}, time.time)


def ask(stand_in: StandIn, action: str, **parameters: Any) -> dict[str, Any]:
    return reply_to(made(stand_in), {"action": action, **parameters})


def with_time(terminal: Terminal, stand_in: StandIn) -> Terminal:
    """Two ticks went by."""
    for ago_s in (1, 0):
        stand_in.ticks["EURUSD.m"] = server_s(ago_s)
        terminal.watch_ticks(["EURUSD.m"])
    return terminal


@contextmanager
def served(terminal: Terminal, **options: Any) -> Iterator[Server]:
    given = {"endpoint": "tcp://127.0.0.1:*", "events": "tcp://127.0.0.1:*", "poll_s": 0.01, **options}
    server = Server(terminal, Options(**given))
    ended = threading.Event()
    thread = threading.Thread(target=server.run, args=(lambda: not ended.is_set(),))
    thread.start()
    try:
        yield server
    finally:
        ended.set()
        thread.join(5)
        server.close()


@asynccontextmanager
async def broker(server: Server, keys: ClientKeys | None = None) -> AsyncIterator[Mt5Broker]:
    adapter = Mt5Broker("cfd", server.endpoints[0], 5001, 1.0, now, backoff_s=0.005, curve=keys)
    try:
        yield adapter
    finally:
        await adapter.close()


async def test_our_adapter_reads_a_terminal_through_the_gateway() -> None:
    stand_in = StandIn()
    stand_in.positions = [position(99, 0.1, identifier=7)]
    stand_in.working = [order(77, time_setup=server_s(60))]
    terminal = with_time(made(stand_in), stand_in)
    with served(terminal) as server:
        async with broker(server) as adapter:
            first = await adapter.snapshot(None)
            stand_in.deals = [deal(900, server_s(), order=78)]
            stand_in.ended = [order(78, state=4, type=0, volume_current=0.0, time_setup=server_s())]
            second: Snapshot = await adapter.snapshot(first.fills_cursor)
    assert [(row.instrument, row.leg, row.quantity) for row in rows_of(first.positions)] == [
        ("EURUSD.m", "7", D("0.1"))
    ]
    assert first.conventions.legs is LegScheme.TICKET
    assert [row.status for row in rows_of(second.orders)] == [OrderStatus.OPEN, OrderStatus.FILLED]
    (fill,) = rows_of(second.fills)
    assert (fill.leg, fill.client_order_id, fill.commission) == ("7", "c1", D("0.4"))
    assert abs(ahead_of_ours(fill.time, now())) < timedelta(seconds=5)  # server time, reported in UTC


async def test_an_order_that_ended_while_nobody_looked_is_answered_with_its_end() -> None:
    """A pending order of Friday that was cancelled in the evening, asked for on Monday: it was given up as missing."""
    stand_in = StandIn()
    stand_in.ended = [
        order(78, state=2, time_setup=server_s(3 * 86_400), time_done=server_s(3 * 86_400 - 60)),
        order(79, state=2, time_setup=server_s(60), time_done=server_s()),
    ]
    with served(with_time(made(stand_in), stand_in)) as server:
        async with broker(server) as adapter:
            queries = [OrderQuery("EURUSD.m", ticket, None) for ticket in ("78", "79", "80")]
            answers = await adapter.find_orders(queries)
            listed = (await adapter.snapshot(None)).orders
    assert [answer.order and answer.order.status for answer in answers] == [
        OrderStatus.CANCELLED,
        OrderStatus.CANCELLED,
        None,
    ]
    assert [answer.failure for answer in answers] == [None] * 3
    assert [row.broker_order_id for row in rows_of(listed)] == ["79"], "the list is that of a day"


@pytest.mark.parametrize("failing", [None, ()], ids=["None", "an empty tuple"])
def test_an_empty_answer_with_an_error_set_is_an_error(failing: tuple[()] | None) -> None:
    stand_in = StandIn()
    stand_in.error, stand_in.failing = (-10005, "IPC timeout"), failing
    for action in ("GET_POSITIONS", "GET_ORDERS", "GET_DEALS"):
        reply = ask(stand_in, action, symbol="*")
        assert (reply["status"], "-10005 IPC timeout" in reply["error"]) == ("ERROR", True)


def test_an_empty_answer_without_an_error_is_empty() -> None:
    assert ask(StandIn(), "GET_POSITIONS", symbol="*") == {"status": "SUCCESS", "positions": [], "connected": True}


def test_a_terminal_without_its_broker_says_so_in_ping_and_gives_no_list() -> None:
    stand_in = StandIn()
    stand_in.online = False
    assert ask(stand_in, "PING") == {"status": "SUCCESS", "connected": False}
    assert ask(stand_in, "GET_POSITIONS", symbol="*")["status"] == "ERROR"


async def test_a_terminal_that_lost_its_broker_empties_no_book() -> None:
    stand_in = StandIn()
    stand_in.positions = [position(7, 0.1)]
    with served(made(stand_in)) as server:
        async with broker(server) as adapter:
            first = await adapter.snapshot(None)
            stand_in.online, stand_in.positions = False, []
            with pytest.raises(Unreachable, match="not connected"):
                await adapter.snapshot(first.fills_cursor)


def test_a_terminal_that_went_away_is_reached_again() -> None:
    stand_in = StandIn()
    terminal = made(stand_in)
    assert reply_to(terminal, {"action": "PING"})["status"] == "SUCCESS"
    stand_in.runs = False
    assert "terminal_info" in reply_to(terminal, {"action": "PING"})["error"]
    assert "initialize" in reply_to(terminal, {"action": "PING"})["error"]
    stand_in.runs = True
    assert reply_to(terminal, {"action": "PING"})["status"] == "SUCCESS"


def test_an_unknown_action_and_a_symbol_are_taken_as_the_contract_says() -> None:
    stand_in = StandIn()
    stand_in.positions = [position(7, 0.1), position(8, 0.1, symbol="GBPUSD.m")]
    assert ask(stand_in, "CLOSE_ALL")["error"] == "unknown action CLOSE_ALL"
    assert [row["ticket"] for row in ask(stand_in, "GET_POSITIONS", symbol="GBPUSD.m")["positions"]] == [8]
    assert ask(stand_in, "GET_SYMBOLS")["symbols"] == ["EURUSD.m", "GBPUSD.m"]
    assert ask(stand_in, "GET_DEALS", since="yesterday")["status"] == "ERROR"


@pytest.mark.parametrize(
    "request_",
    [b"[" * 100_000, b'{"action": ' * 50_000, b"\xff", b"null",
     b'{"action": "GET_DEALS", "since": 1' + b"0" * 30 + b"}", b'{"action": "GET_DEALS", "since": -1}'],
    ids=["deep", "deep objects", "no text", "null", "a second beyond all time", "a second before it"],
)  # fmt: skip
def test_no_request_ends_the_gateway(request_: bytes) -> None:
    stand_in = StandIn()

    def deals(since: int, until: int) -> tuple[()]:
        assert 0 <= since < until < 2**63, "the package would raise OverflowError"
        return ()

    stand_in.history_deals_get = deals  # type: ignore[method-assign, assignment]  # as the package is
    assert json.loads(answer_to(made(stand_in), request_))["status"] == "ERROR"


def test_a_tick_of_last_friday_shows_no_time_and_a_fresh_one_does() -> None:
    stand_in = StandIn()
    terminal = made(stand_in)
    stand_in.ticks["EURUSD.m"] = server_s(2 * 86_400)
    for _ in range(2):
        terminal.watch_ticks(["EURUSD.m"])
    assert terminal.time() == {}
    stand_in.ticks["EURUSD.m"] = server_s()
    terminal.watch_ticks(["EURUSD.m"])
    assert abs(terminal.time()["time"] - server_s()) <= 1


def test_what_changes_between_two_looks_is_an_event_and_a_return_is_one_without_a_symbol() -> None:
    stand_in = StandIn()
    watch = Watch(made(stand_in))
    assert watch.events() == [{"event": "connection"}]
    stand_in.positions = [position(7, 0.1)]
    assert watch.events() == [{"event": "position", "symbol": "EURUSD.m", "ticket": 7}]
    assert watch.events() == []
    stand_in.positions = [position(7, 0.2)]
    assert [event["event"] for event in watch.events()] == ["position"]
    stand_in.runs = False
    assert watch.events() == []
    stand_in.runs, stand_in.positions = True, []
    assert watch.events() == [{"event": "connection"}]


def test_events_are_published() -> None:
    stand_in = StandIn()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        with served(made(stand_in)) as server, context.socket(zmq.SUB) as socket:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
            socket.connect(str(server.endpoints[1]))
            heard = b""
            for ticket in range(1, 500):  # until the subscription has arrived
                stand_in.positions = [position(ticket, 0.1)]
                if socket.poll(20):
                    heard = socket.recv()
                    if b"EURUSD.m" in heard:
                        break
        assert b"EURUSD.m" in heard
    finally:
        context.destroy(linger=0)


async def test_with_curve_keys_only_a_known_client_is_answered(tmp_path: Path) -> None:
    clients = tmp_path / "clients"
    clients.mkdir()
    public, secret = zmq.auth.create_certificates(tmp_path, "gateway")
    _, known = zmq.auth.create_certificates(clients, "known")
    _, stranger = zmq.auth.create_certificates(tmp_path, "stranger")
    stand_in = StandIn()
    with served(made(stand_in), curve_key=Path(secret), curve_clients=clients) as server:
        async with broker(server, ClientKeys.read("cfd", known, public)) as adapter:
            assert isinstance((await adapter.snapshot(None)).positions, Complete)
        for keys in (ClientKeys.read("cfd", stranger, public), None):
            async with broker(server, keys) as adapter:
                with pytest.raises(BrokerError):
                    await adapter.connect()


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="create_certificates"):
        ClientKeys.read("cfd", str(tmp_path / "missing"), str(tmp_path / "missing"))


def test_the_command_line_says_where_and_how() -> None:
    options, login = options_of(["--endpoint", "tcp://*:1", "--events", "", "--login", "5001", "--server", "Demo"])
    assert (options.endpoint, options.events) == ("tcp://*:1", None)
    assert login == {"login": 5001, "server": "Demo"}
    assert options_of([])[0] == Options()
    with pytest.raises(SystemExit):
        options_of(["--curve-key", "x"])
