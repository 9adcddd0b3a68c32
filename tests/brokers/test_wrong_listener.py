"""What listens where a broker was expected is named, with account, address and remedy: the real adapters over loopback,
against servers of other protocols."""

from __future__ import annotations

import asyncio
import pickle
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

import pytest
import zmq

from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.ib import IbBroker
from brokers.kit.port_probe import PortAnswer, probe, protocol_of, unreached
from brokers.kite import KiteBroker
from brokers.mt5 import Mt5Broker
from brokers.oanda import OandaBroker
from brokers.simulators.base import Fault
from brokers.simulators.ib import IbSimulator
from brokers.simulators.oanda import OandaSimulator
from tests.brokers.listeners import (
    BAD_REQUEST,
    MAIL,
    SSH,
    TLS_ALERT,
    Listening,
    closing,
    resetting,
    saying,
    silent,
    taking,
    tls_server,
    web_server,
    zeromq,
)
from tests.ports import nobody_at, own_port

TIMEOUTS_S = (0.3, 1.0, 4.0)
"""What listens somewhere is named where the time-out leaves time to look: a busy machine takes most of a short one."""
PATIENT_S = 10.0
"""For what ends by itself."""
TOKEN = "a-token-that-nobody-may-see"

Scenario = tuple[Callable[[], Listening], type[BrokerError], str, str]
"""What listens, the kind of error, what it says was found, and the remedy."""


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(autouse=True)
async def _nothing_is_left_behind() -> AsyncIterator[None]:
    before = set(threading.enumerate())
    yield
    assert {task for task in asyncio.all_tasks() if not task.done()} == {asyncio.current_task()}
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith("asyncio_"):  # the loop's own, in which it looks up names
            thread.join(PATIENT_S)
            assert not thread.is_alive()


Broker = IbBroker | Mt5Broker | OandaBroker | KiteBroker


async def failure(broker: Broker) -> BrokerError:
    """The error with which connecting ends, which reads well and crosses from one actor to another."""
    try:
        with pytest.raises(BrokerError) as caught:
            await broker.connect()
    finally:
        await broker.close()
    error, text = caught.value, str(caught.value)
    assert str(pickle.loads(pickle.dumps(error))) == text  # noqa: S301 - our own
    assert text.startswith(f"{error.account}: could not {error.attempted}: ")
    assert error.remedy[0].isupper()
    assert ".." not in text
    assert TOKEN not in text
    return error


async def named(open_broker: Callable[[float], Broker], kind: type[BrokerError], found: str) -> BrokerError:
    """The error of this kind in which ``found`` stands, or that of the longest time-out."""
    for timeout_s in TIMEOUTS_S:
        error = await failure(open_broker(timeout_s))
        if type(error) is kind and found in error.found:
            break
    return error


def ib(port: int, timeout_s: float = PATIENT_S) -> IbBroker:
    return IbBroker("options", "127.0.0.1", port, 17, "DU1", None, timeout_s, now)


def mt5(address: str, timeout_s: float) -> Mt5Broker:
    return Mt5Broker("cfd", address, 5001, timeout_s, now, backoff_s=0.005)


def oanda(url: str, timeout_s: float) -> OandaBroker:
    return OandaBroker("fx", "101-1", TOKEN, url, timeout_s, now, backoff_s=0.005)


def kite(url: str, timeout_s: float) -> KiteBroker:
    return KiteBroker("eq", "a-key-of-nobody", lambda: TOKEN, "AB1", url, timeout_s, now, backoff_s=0.005)


# -- IB ----------------------------------------------------------------------------------------------------------

PORTS = "Check `host` and `port`: TWS listens on 7496"

AT_TWS: dict[str, Scenario] = {
    "nothing": (nobody_at, Unreachable, "nothing listens there (connection refused)", "Check that TWS or IB Gateway"),
    "silence": (silent, Unreachable, "something takes connections there, and no answer within", "look at its window"),
    "one that closes": (closing, Unreachable, "closed the connection before logging us on", "trusted IPs"),
    "one that resets": (resetting, Unreachable, "closed the connection before logging us on", "trusted IPs"),
    "a web server": (web_server, Malformed, "no TWS answers there: it speaks HTTP", PORTS),
    "a web server that complains": (lambda: saying(BAD_REQUEST), Malformed, "it speaks HTTP", PORTS),
    "a TLS server": (tls_server, Malformed, "no TWS answers there: it speaks TLS", PORTS),
    "a TLS server that complains": (lambda: saying(TLS_ALERT), Malformed, "it speaks TLS", PORTS),
    "ssh": (lambda: saying(SSH), Malformed, "it speaks SSH", PORTS),
    "mail": (lambda: saying(MAIL), Malformed, "it began with b'220 mail.example ESMTP", PORTS),
    "a gateway of MT5": (lambda: zeromq(zmq.REP), Malformed, "it speaks ZeroMQ", PORTS),
    "half a greeting": (lambda: saying(b"\0\0"), Unreachable, "no answer within", "look at its window"),
}


@pytest.mark.parametrize("scenario", AT_TWS.values(), ids=AT_TWS.keys())
async def test_what_listens_on_the_port_of_tws_is_named(scenario: Scenario) -> None:
    """FEATURES 12: a broker that is off, or something else in its place, is named and crashes nothing."""
    listening, kind, found, remedy = scenario
    with listening() as port:
        error = await named(lambda timeout_s: ib(port, timeout_s), kind, found)
    assert type(error) is kind
    assert error.attempted == f"connect to TWS at 127.0.0.1:{port} as client 17"
    assert found in error.found
    assert remedy in error.remedy


@contextmanager
def counted(handle: Callable[[socket.socket], None], port: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """A listener that notes what each connection sent first, and closes it when it was handled."""
    heard: list[bytes] = []

    def take(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(PATIENT_S)
            heard.append(connection.recv(65_536))
            handle(connection)

    with taking(take, port) as taken:
        yield taken, heard


async def test_a_failed_connect_is_followed_by_one_probe_without_a_client_id() -> None:
    with counted(lambda _: None) as (port, heard):
        await failure(ib(port))
        assert [start[:4] for start in heard] == [b"API\0", b"\x16\x03\x01\x02"]


async def test_a_port_at_which_a_tws_was_met_is_never_probed() -> None:
    """One that hangs may be in use by others."""
    simulator = IbSimulator(seed=1)
    port = own_port()
    simulator.start(port)
    broker = ib(port)
    try:
        await broker.connect()
    finally:
        simulator.close()
    with counted(lambda _: None, port) as (_, heard):
        error = await failure(broker)
        assert [start[:4] for start in heard] == [b"API\0"]
    assert isinstance(error, Unreachable)


async def test_a_tws_that_greets_and_does_not_log_on_is_not_probed_and_keeps_its_own_sentence() -> None:
    simulator = IbSimulator(seed=1)
    simulator.start()
    simulator.faults.add(Fault.TIMEOUT, match="startApi")
    try:
        error = await failure(ib(simulator.port, 1.5))
        assert simulator.requests == ("connect", "startApi")
        assert "TWS greeted us and did not log us on: no answer within" in error.found
        assert "Check that TWS is logged in" in error.remedy
    finally:
        simulator.close()


async def test_a_full_stop_of_the_brokers_own_is_not_doubled() -> None:
    simulator = IbSimulator(seed=1)
    simulator.start()
    first = ib(simulator.port)
    try:
        await first.connect()
        error = await failure(ib(simulator.port))  # which looks for two full stops
        assert isinstance(error, Refused)
        assert "TWS said 326" in str(error)
    finally:
        await first.close()
        simulator.close()


# -- MT5 ---------------------------------------------------------------------------------------------------------

CHECK = "Check host and port of `endpoint`"

AT_THE_GATEWAY: dict[str, Scenario] = {
    "nothing": (nobody_at, Unreachable, "nothing listens there (connection refused)", "Start the terminal and its"),
    "silence": (silent, Unreachable, "it takes connections and says nothing", "Restart the gateway"),
    "one that closes": (closing, Unreachable, "closes them without a word", "Restart the gateway"),
    "one that resets": (resetting, Unreachable, "closes them without a word", "Restart the gateway"),
    "a web server": (web_server, Malformed, "no MT5 gateway answers there: it speaks HTTP", CHECK),
    "a web server that complains": (lambda: saying(BAD_REQUEST), Malformed, "it speaks HTTP", CHECK),
    "a TLS server": (tls_server, Malformed, "no MT5 gateway answers there: it speaks TLS", CHECK),
    "ssh": (lambda: saying(SSH), Malformed, "it speaks SSH", CHECK),
    "mail": (lambda: saying(MAIL), Malformed, "it began with b'220 mail.example ESMTP", CHECK),
    "its events": (lambda: zeromq(zmq.PUB), Malformed, "takes no requests", "PUB socket is `events_endpoint`"),
    "a gateway that hangs": (lambda: zeromq(zmq.REP), Unreachable, "a ZeroMQ socket takes requests", "`timeout_ms`"),
}


@pytest.mark.parametrize("scenario", AT_THE_GATEWAY.values(), ids=AT_THE_GATEWAY.keys())
async def test_what_listens_on_the_port_of_the_mt5_gateway_is_named(scenario: Scenario) -> None:
    """FEATURES 12, FEATURES 16: a gateway that is off, or something else in its place, is named and crashes nothing."""
    listening, kind, found, remedy = scenario
    with listening() as port:
        error = await named(lambda timeout_s: mt5(f"tcp://127.0.0.1:{port}", timeout_s), kind, found)
    assert type(error) is kind
    assert error.attempted == f"read GET_ACCOUNT from the MT5 gateway at tcp://127.0.0.1:{port}"
    assert "no reply within" in error.found
    assert found in error.found
    assert remedy in error.remedy


async def test_an_endpoint_that_is_no_tcp_is_not_probed() -> None:
    error = await failure(mt5("inproc://nobody", TIMEOUTS_S[0]))
    assert isinstance(error, Unreachable)
    assert "Check that the terminal and its gateway are running" in error.remedy


# -- OANDA and Kite ----------------------------------------------------------------------------------------------

AGAIN = "It is requested again"


@contextmanager
def counted_answer(answer: bytes) -> Iterator[int]:
    with counted(lambda connection: connection.sendall(answer)) as (port, _):
        yield port


AT_A_REST_URL: dict[str, tuple[str, Callable[[], Listening], type[BrokerError], str, str]] = {
    "http to nothing": ("http", nobody_at, Unreachable, "{at}: nothing listens there (connection refused)", AGAIN),
    "http to silence": ("http", silent, Unreachable, "listens at {at}, it takes connections and says nothing", AGAIN),
    "http to one that closes": ("http", closing, Unreachable, "{at}: the connection was closed", AGAIN),
    "http to a TLS server": ("http", tls_server, Malformed, "a TLS server answers at {at}", "Set `rest_url` to https:"),
    "http to a TLS alert": (
        "http",
        lambda: saying(TLS_ALERT),
        Malformed,
        "a TLS server answers at {at}",
        "Set `rest_url` to https:",
    ),
    "http to a TLS server that complains": (
        "http",
        lambda: counted_answer(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"),
        Malformed,
        "a TLS server answers at {at}",
        "Set `rest_url` to https://{at}",
    ),
    "http to ssh": ("http", lambda: saying(SSH), Malformed, "at {at}: it speaks SSH", "host and port of `rest_url`"),
    "http to MT5": ("http", lambda: zeromq(zmq.REP), Malformed, "at {at}: it speaks ZeroMQ", "of `rest_url`"),
    "https to nothing": ("https", nobody_at, Unreachable, "{at}: nothing listens there (connection refused)", AGAIN),
    "https to silence": ("https", silent, Unreachable, "listens at {at}, it takes connections and says no", AGAIN),
    "https to a web server": ("https", web_server, Malformed, "without TLS answers at {at}", "http://{at}"),
    "https to a web server that complains": (
        "https",
        lambda: saying(BAD_REQUEST),
        Malformed,
        "without TLS answers at {at}",
        "http://{at}",
    ),
    "https to a certificate nobody vouches for": (
        "https",
        tls_server,
        Refused,
        "{at}: the certificate is not trusted here (self-signed certificate)",
        "REQUESTS_CA_BUNDLE",
    ),
    "https to ssh": ("https", lambda: saying(SSH), Malformed, "at {at}: it speaks SSH", "host and port of `rest_url`"),
    "https to mail": ("https", lambda: saying(MAIL), Unreachable, "it began with b'220 mail.example ESMTP", AGAIN),
}


@pytest.mark.parametrize("open_broker", [oanda, kite])
@pytest.mark.parametrize("scenario", AT_A_REST_URL.values(), ids=AT_A_REST_URL.keys())
async def test_what_listens_at_a_rest_url_is_named(
    open_broker: Callable[[str, float], OandaBroker | KiteBroker],
    scenario: tuple[str, Callable[[], Listening], type[BrokerError], str, str],
) -> None:
    """FEATURES 4: what may pass is tried again, and a wrong scheme or port is named."""
    scheme, listening, kind, found, remedy = scenario
    with listening() as port:
        at = f"127.0.0.1:{port}"
        error = await named(partial(open_broker, f"{scheme}://{at}"), kind, found.format(at=at))
    assert type(error) is kind
    assert found.format(at=at) in error.found
    assert remedy.format(at=at) in error.remedy


async def test_a_rest_url_that_was_heard_from_is_never_probed() -> None:
    simulator = OandaSimulator(account_id="101-1", token=TOKEN)
    url = simulator.start()
    broker = oanda(url, 1.0)
    try:
        await broker.connect()
        simulator.faults.add(Fault.TIMEOUT, times=9)
        error = await failure(broker)
        assert error.found == "no whole answer within 1 s"
    finally:
        simulator.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), "nothing listens there (connection refused)"),
        (socket.gaierror(-2, "Name or service not known"), "cannot be resolved (Name or service not known)"),
        (TimeoutError(), "nothing there takes the connection"),
        (OSError(113, "Connect call failed"), "it cannot be reached (No route to host)"),
        (OSError("Multiple exceptions"), "it cannot be reached (Multiple exceptions)"),
    ],
    ids=["refused", "no such host", "nobody there", "no route", "several addresses"],
)
def test_why_no_connection_came_about_is_said_in_words(error: OSError, words: str) -> None:
    assert words in unreached(error)


# -- the probe ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "protocol"),
    [
        (b"HTTP/1.1 400 Bad Request", "HTTP"),
        (b"\r\n<!DOCTYPE HTML>", "HTTP"),
        (b"<HTML>", "HTTP"),
        (b"\x16\x03\x03\0z\x02", "TLS"),
        (TLS_ALERT, "TLS"),
        (b"\xff\0\0\0\0\0\0\0\x01\x7f", "ZeroMQ"),
        (b"\xff", "ZeroMQ"),
        (b"\xff\0\0\0\0\0\0\0\x01\x01", None),
        (SSH, "SSH"),
        (MAIL, None),
        (b"\0\0\0\x19178\x0020260105", None),
        (b"", None),
    ],
)
def test_a_protocol_is_recognized_by_its_first_bytes(said: bytes, protocol: str | None) -> None:
    assert protocol_of(said) == protocol


@pytest.mark.parametrize(
    ("listening", "expected"),
    [
        (silent, PortAnswer()),
        (closing, PortAnswer(closed=True)),
        (resetting, PortAnswer(closed=True)),
        (nobody_at, PortAnswer(unreached="nothing listens there (connection refused)")),
        (lambda: saying(SSH), PortAnswer(said=SSH)),
    ],
    ids=["silence", "closes", "resets", "nothing", "greets"],
)
async def test_a_probe_says_what_a_port_does(listening: Callable[[], Listening], expected: PortAnswer) -> None:
    with listening() as port:
        assert await probe("127.0.0.1", port, 0.1 if listening is silent else PATIENT_S) == expected


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("a..b", 80)], ids=["no port", "no name"])
async def test_an_address_that_is_none_is_named_and_not_raised(host: str, port: int) -> None:
    assert (await probe(host, port, 0.1)).unreached is not None
