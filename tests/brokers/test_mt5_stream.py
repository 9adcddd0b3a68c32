"""The events of an MT5 gateway, through a real SUB socket, against a PUB on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from decimal import Decimal
from typing import Any

import pytest
import zmq

from brokers.model import Side
from brokers.mt5.stream import Mt5Stream
from brokers.port import StreamState
from brokers.simulators.mt5 import Mt5Simulator
from tests.brokers.following import PATIENCE_S, Events, heard, listening, until
from tests.brokers.reading import now
from tests.ports import nobody_at, own_port

D = Decimal


@pytest.fixture
def sim() -> Iterator[Mt5Simulator]:
    simulator = Mt5Simulator()
    simulator.start()
    yield simulator
    simulator.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mt5-")]


def opened(endpoint: str, **kwargs: Any) -> Mt5Stream:
    return Mt5Stream("cfd", endpoint, now, **{"retry_s": 0.01, "reopen_s": 0.3, **kwargs})


def following(endpoint: str, **kwargs: Any) -> AbstractContextManager[tuple[Mt5Stream, Events]]:
    return listening(opened(endpoint, **kwargs))


def heard_before(events: Events, last: str | None) -> set[str | None]:
    """Every event until ``last`` comes."""
    found: set[str | None] = set()
    while (event := heard(events)) != last:
        found.add(event)
    return found


def joined(sim: Mt5Simulator, events: Events, connections: int = 1) -> None:
    """Wait until what is published from now on arrives, by this many connections since the simulator was made."""
    assert heard(events) is None
    until(lambda: sim.events.subscriptions == connections)


# -- what wakes ----------------------------------------------------------------------------------------------------


def traded(sim: Mt5Simulator) -> None:
    sim.trade("EURUSD", Side.BUY, D("0.1"))


def placed(sim: Mt5Simulator) -> None:
    sim.place_limit("EURUSD", Side.BUY, D("0.1"), D(1))


def filled_in_part(sim: Mt5Simulator) -> None:
    sim.fill_order("1001", D("0.01"))


def cancelled(sim: Mt5Simulator) -> None:
    sim.end_order("1001")


def forgotten(sim: Mt5Simulator) -> None:
    sim.forget_order("1001")


def drifted(sim: Mt5Simulator) -> None:
    sim.set_position("EURUSD", "900", D(1), D(1))


def vanished(sim: Mt5Simulator) -> None:
    sim.set_position("EURUSD", "800", D(0), D(0))


def closed_by_hand(sim: Mt5Simulator) -> None:
    sim.close_by_hand("EURUSD")


CHANGES = [traded, placed, filled_in_part, cancelled, forgotten, drifted, vanished, closed_by_hand]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: str(change.__name__))
def test_a_change_made_by_anybody_wakes_its_symbol_and_no_other(
    sim: Mt5Simulator, change: Callable[[Mt5Simulator], None]
) -> None:
    """FEATURES 24, PEERS 14"""
    assert sim.place_limit("EURUSD", Side.BUY, D("0.1"), D(1)) == "1001"
    sim.set_position("EURUSD", "800", D(1), D(1))
    with following(sim.events_endpoint) as (stream, events):
        joined(sim, events)
        change(sim)
        assert heard(events) == "EURUSD"
        sim.place_limit("GBPUSD", Side.BUY, D(1), D(1))
        assert heard_before(events, "GBPUSD") <= {"EURUSD"}
        assert stream.state is StreamState.LIVE
        assert stream.last_heard_at is not None


@pytest.mark.parametrize("change", [forgotten, drifted, vanished], ids=lambda change: str(change.__name__))
def test_silent_drift_is_left_to_polling(change: Callable[[Mt5Simulator], None]) -> None:
    sim = Mt5Simulator(silent_drift=True)
    sim.start()
    try:
        assert sim.place_limit("EURUSD", Side.BUY, D("0.1"), D(1)) == "1001"
        sim.set_position("EURUSD", "800", D(1), D(1))
        with following(sim.events_endpoint) as (_, events):
            joined(sim, events)
            change(sim)
            sim.place_limit("GBPUSD", Side.BUY, D(1), D(1))
            assert heard(events) == "GBPUSD"
    finally:
        sim.close()


MESSAGES: list[tuple[str, list[bytes], str | None, bool]] = [
    ("as documented", [b'{"event": "order", "symbol": "EURUSD", "ticket": 1}'], "EURUSD", False),
    ("a symbol nobody configured", [b'{"event": "deal", "symbol": "XAUUSD.r", "ticket": 1}'], "XAUUSD.r", False),
    ("an event nobody documented", [b'{"event": "swap", "symbol": "EURUSD"}'], "EURUSD", False),
    ("in two frames", [b'{"event": "order", ', b'"symbol": "EURUSD"}'], "EURUSD", False),
    ("no symbol", [b'{"event": "order", "ticket": 1}'], None, False),
    ("an empty symbol", [b'{"event": "order", "symbol": ""}'], None, False),
    ("a symbol that is null", [b'{"event": "order", "symbol": null}'], None, False),
    ("a symbol that is no text", [b'{"event": "order", "symbol": ["EURUSD"]}'], None, False),
    ("every symbol", [b'{"event": "position", "symbol": "*"}'], None, False),
    ("an empty message", [b""], None, True),
    ("half a message", [b'{"event": "order", "symbol": "EURU'], None, True),
    ("a list", [b'[{"symbol": "EURUSD"}]'], None, True),
    ("two symbols", [b'{"symbol": "EURUSD", "symbol": "GBPUSD"}'], None, True),
    ("bytes that are no text", [b"\xff\xfe\x00"], None, True),
    ("a topic before it", [b"EURUSD", b'{"event": "order", "symbol": "EURUSD"}'], None, True),
]


@pytest.mark.parametrize(("parts", "wakes", "unreadable"), [m[1:] for m in MESSAGES], ids=[m[0] for m in MESSAGES])
def test_a_message_wakes_the_symbol_it_names_and_all_where_it_names_none(
    sim: Mt5Simulator, parts: list[bytes], wakes: str | None, unreadable: bool
) -> None:
    """Law 1: something happened, and of what is not known. The stream goes on, and says what it could not read until
    it can read again."""
    with following(sim.events_endpoint) as (stream, events):
        joined(sim, events)
        sim.events.say(*parts)
        assert heard(events) == wakes
        assert (stream.error is not None) is unreadable
        assert stream.state is StreamState.LIVE
        sim.place_limit("GBPUSD", Side.BUY, D(1), D(1))
        assert heard(events) == "GBPUSD"
        assert stream.error is None


def test_a_burst_wakes_every_symbol_of_it(sim: Mt5Simulator) -> None:
    with following(sim.events_endpoint) as (stream, events):
        joined(sim, events)
        symbols = {f"S{number}" for number in range(1000)}
        for symbol in symbols:
            sim.events.publish("deal", symbol, 1)
        found: set[str | None] = set()
        while found != symbols and None not in found:  # a wake of all wakes them too
            found.add(heard(events))
        assert stream.state is StreamState.LIVE


def test_a_burst_of_one_symbol_that_waits_to_be_read_wakes_it_once_after_its_last_event(
    sim: Mt5Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FEATURES 24: a wake is a fetch, and a thousand of them would be none."""
    read: list[bytes] = []
    receive = zmq.Socket.recv_multipart

    def receive_to_the_last(events: Any, *args: Any) -> list[bytes]:
        """Once anything of the burst is read, the rest has arrived, too, however long that takes."""
        if read and b"LAST" not in read[-1]:
            assert events.poll(1000 * PATIENCE_S)
        found = receive(events, *args)
        read.extend(found)
        return found

    with following(sim.events_endpoint, heartbeat_s=0) as (_, events):
        joined(sim, events)
        monkeypatch.setattr(zmq.Socket, "recv_multipart", receive_to_the_last)
        for ticket in range(900):
            sim.events.publish("deal", "EURUSD", ticket)
        sim.events.publish("deal", "LAST", 1)
        assert [heard(events), heard(events)] == ["EURUSD", "LAST"]
        assert len(read) == 901
        assert events.empty()


def test_a_backlog_as_long_as_the_publishers_mark_may_have_lost_anything(sim: Mt5Simulator) -> None:
    with following(sim.events_endpoint, backlog=1) as (_, events):
        joined(sim, events)
        sim.place_limit("EURUSD", Side.BUY, D(1), D(1))
        assert heard(events) is None


# -- the connection ------------------------------------------------------------------------------------------------


def test_a_connection_that_zeromq_gave_up_is_opened_anew() -> None:
    """After a protocol error ZeroMQ never tries again by itself."""
    port = own_port()
    with socket.create_server(("127.0.0.1", port)) as web, following(f"tcp://127.0.0.1:{port}") as (stream, events):
        for _ in range(2):
            caller, _ = web.accept()
            caller.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" * 4)
            with suppress(ConnectionError):
                while caller.recv(1000):
                    pass
            caller.close()
        assert events.empty()
        assert str(stream.error).count("cfd:") == 1
        web.close()
        sim = Mt5Simulator(events_port=port)
        sim.start()
        try:
            joined(sim, events)
            assert stream.state is StreamState.LIVE
        finally:
            sim.close()


def test_the_address_of_the_requests_in_place_of_the_events_is_said(sim: Mt5Simulator) -> None:
    with following(sim.start()) as (stream, events):
        until(lambda: "not of its requests" in str(stream.error))
        assert stream.state is StreamState.CONNECTING
        assert events.empty()


def test_an_address_that_is_none_is_said() -> None:
    with following("127.0.0.1:5556") as (stream, _):
        assert stream.state is StreamState.CLOSED
        assert str(stream.error).startswith("cfd: 127.0.0.1:5556 cannot be followed")
        assert "events_endpoint" in str(stream.error)


def test_a_message_too_large_for_an_event_ends_the_connection_and_a_new_one_verifies_all(sim: Mt5Simulator) -> None:
    with following(sim.events_endpoint) as (_, events):
        joined(sim, events)
        sim.events.say(b" " * (1024 * 1024 + 1))
        joined(sim, events, 2)
        sim.trade("EURUSD", Side.BUY, D(1))
        assert heard(events) == "EURUSD"


PUBLISHER = """
import sys
from brokers.simulators.publisher import Publisher
publisher = Publisher()
print(publisher.start(), flush=True)
sys.stdin.read()
"""


def test_a_gateway_that_hangs_is_noticed_with_its_connection_still_open() -> None:
    """PEERS 13: its kernel accepts connections all the same, and only the handshake shows it."""
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as gateway:
        assert gateway.stdout is not None
        with following(gateway.stdout.readline().strip(), heartbeat_s=1.0) as (stream, events):
            try:
                assert heard(events) is None
                os.kill(gateway.pid, signal.SIGSTOP)
                until(lambda: stream.state is StreamState.CONNECTING)
                assert events.empty()
                os.kill(gateway.pid, signal.SIGCONT)
                assert heard(events) is None
                assert stream.state is StreamState.LIVE
            finally:
                gateway.kill()


# -- start and close -----------------------------------------------------------------------------------------------


def test_it_may_be_closed_while_it_connects() -> None:
    with nobody_at() as port, following(f"tcp://127.0.0.1:{port}", reopen_s=0.01) as (stream, _):
        until(lambda: stream.error is not None)
    assert stream.state is StreamState.CLOSED


# -- the broker ----------------------------------------------------------------------------------------------------


def test_a_simulator_that_never_started_has_no_address_of_its_events() -> None:
    with pytest.raises(RuntimeError, match="start"):
        _ = Mt5Simulator().events_endpoint
