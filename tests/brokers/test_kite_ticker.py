"""Kite's order updates, through the real KiteTicker, against a WebSocket on loopback."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokers.errors import Refused
from brokers.kite.ticker import KiteStream
from brokers.model import Side
from brokers.port import StreamState
from brokers.simulators.kite import KiteSimulator
from tests.brokers.following import Events, heard, listening, until
from tests.brokers.listeners import self_signed, taking

D = Decimal
KEY, TOKEN = "an-api-key-0000", "access-token-of-tests"
INFY = "NSE:INFY"


@pytest.fixture
def sim() -> Iterator[KiteSimulator]:
    simulator = KiteSimulator(KEY, TOKEN, "AB1234", heartbeat_s=0.05)
    simulator.start_ticker()
    yield simulator
    simulator.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kite-")]


def opened(sim: KiteSimulator | str, **kwargs: Any) -> KiteStream:
    settings: dict[str, Any] = {
        "account": "eq",
        "api_key": KEY,
        "access_token": lambda: TOKEN,
        "stream_url": sim if isinstance(sim, str) else sim.start_ticker(),
        "clock": lambda: datetime.now(UTC),
        "silence_s": 0.4,
        "first_retry_s": 0.02,
    }
    return KiteStream(**{**settings, **kwargs})


def following(sim: KiteSimulator | str, **kwargs: Any) -> AbstractContextManager[tuple[KiteStream, Events]]:
    return listening(opened(sim, **kwargs))


def test_an_order_placed_anywhere_wakes_its_instrument_and_no_other(sim: KiteSimulator) -> None:
    """FEATURES 24"""
    with following(sim) as (stream, events):
        assert heard(events) is None  # connected: what happened before is not reported
        assert stream.state is StreamState.LIVE
        order_id = sim.place_limit(INFY, Side.BUY, D(5), D(1))
        assert heard(events) == INFY
        sim.fill_order(order_id, D(2))
        assert heard(events) == INFY
        sim.place_limit("NFO:NIFTY25NOVFUT", Side.SELL, D(75), D(1))
        assert heard(events) == "NFO:NIFTY25NOVFUT"
        assert events.empty()
        assert stream.last_heard_at is not None


def test_an_order_wakes_its_instrument_under_the_name_that_the_adapter_gives_it(sim: KiteSimulator) -> None:
    with following(sim, named=lambda name: name.replace("BSE:", "NSE:")) as (_, events):
        heard(events)
        sim.place_limit("BSE:INFY", Side.BUY, D(5), D(1))
        assert heard(events) == INFY


def test_a_server_that_nobody_vouches_for_is_sent_no_token(tmp_path: Path) -> None:
    """The SDK's own connect checks no certificate, and the token is in the first line it sends."""
    context, heard = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), list[bytes]()
    context.load_cert_chain(self_signed(tmp_path / "server.pem"))
    tried = threading.Event()

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            heard.append(context.wrap_socket(connection, server_side=True).recv(10_000))
        tried.set()

    with taking(serve) as port, following(f"wss://localhost:{port}") as (stream, _):
        assert tried.wait(20)
        assert stream.state is not StreamState.LIVE
    assert b"".join(heard) == b""


@pytest.mark.parametrize(
    "frame",
    ['{"type": "order", "data": {"order_id": "1"}}', '{"type": "order", "data": [1]}'],
    ids=["no instrument", "no object"],
)
def test_an_update_that_names_no_instrument_may_be_of_any(sim: KiteSimulator, frame: str) -> None:
    with following(sim) as (_, events):
        heard(events)
        sim.ticker.say(frame)
        assert heard(events) is None


def test_frames_that_are_no_order_updates_wake_nobody(sim: KiteSimulator) -> None:
    with following(sim) as (stream, events):
        heard(events)
        for frame in ("{", '"text"'[1:-1], '{"type": "message", "data": "hello"}', '{"type": "order", "data": null}'):
            sim.ticker.say(frame)
        sim.ticker.say(f'{{"type": "error", "data": "Too many of {TOKEN}"}}')
        sim.place_limit(INFY, Side.BUY, D(5), D(1))
        assert heard(events) == INFY
        assert stream.state is StreamState.LIVE
        assert stream.error == "eq: the ticker said: Too many of ***. It stays connected; polling goes on"


@pytest.mark.parametrize("how", ["drop", "hang_up"])
def test_after_every_reconnect_all_instruments_are_to_be_verified(sim: KiteSimulator, how: str) -> None:
    """PEERS 13"""
    with following(sim) as (stream, events):
        heard(events)
        getattr(sim.ticker, how)()
        assert heard(events) is None
        assert (stream.state, sim.ticker.handshakes) == (StreamState.LIVE, 2)


@pytest.mark.parametrize("when", ["at the start", "at a reconnect"])
def test_a_session_that_is_over_ends_the_retries_and_a_new_token_is_taken_at_the_next_start(
    sim: KiteSimulator, when: str
) -> None:
    """PEERS 12: the SDK knows it as close code 1006 alone, and would try for ever."""
    source = [TOKEN]
    with following(sim, access_token=lambda: source[0]) as (stream, events):
        heard(events)
        sim.renew_token("the-token-of-tomorrow")
        if when == "at the start":
            stream.start(events.put)
        else:
            sim.ticker.drop()
        until(lambda: stream.state is StreamState.REFUSED)
        assert "Log in again" in str(stream.error)
        assert "Give the new access token as `access_token`" in str(stream.error)
        assert TOKEN not in str(stream.error)
        tries = sim.ticker.handshakes
        threading.Event().wait(0.2)  # many times the wait before a retry
        assert sim.ticker.handshakes == tries
        source[0] = "the-token-of-tomorrow"
        stream.start(events.put)
        assert heard(events) is None
        assert stream.state is StreamState.LIVE


def test_a_token_that_cannot_be_had_is_raised(sim: KiteSimulator) -> None:
    def unset() -> str:
        raise Refused("read its access_token", "eq", "environment variable KITE_TOKEN is not set", "Set it")

    with pytest.raises(Refused, match="KITE_TOKEN"):
        opened(sim, access_token=unset).start(lambda _: None)


def test_streams_of_several_accounts_share_the_reactor_and_nothing_else(sim: KiteSimulator) -> None:
    """PEERS 2"""
    other = KiteSimulator(KEY, "another-token-0000", "ZZ9999", heartbeat_s=0.05)
    other.start_ticker()
    try:
        with (
            following(sim) as (_, first),
            following(other, access_token=lambda: "another-token-0000") as (_, second),
        ):
            assert heard(first) is heard(second) is None
            other.place_limit("NSE:SBIN", Side.BUY, D(5), D(1))
            assert heard(second) == "NSE:SBIN"
            sim.place_limit(INFY, Side.BUY, D(5), D(1))
            assert heard(first) == INFY
            assert first.empty()
            assert second.empty()
    finally:
        other.close()
    assert [thread.name for thread in threading.enumerate()].count("twisted-reactor") == 1


def test_a_reactor_that_was_stopped_needs_a_new_process() -> None:
    """ReactorNotRestartable, in a process of its own, as it is for the rest of one."""
    program = """
from datetime import UTC, datetime
from twisted.internet import reactor
from brokers.kite.ticker import KiteStream
reactor.callWhenRunning(reactor.stop)
reactor.run(installSignalHandlers=False)
stream = KiteStream("eq", "an-api-key", lambda: "a-token", "ws://127.0.0.1:1", lambda: datetime.now(UTC))
stream.start(print)
print(stream.state.value, stream.error)
stream.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("SPENT eq: ")
    assert "cannot be started again" in done.stdout
