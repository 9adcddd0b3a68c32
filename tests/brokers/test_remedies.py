"""Whatever reaches an operator says what can be done: errors, the reasons of failed sections, unreadable rows.

The reasons and rows are shown beside account and instrument, so they do not name the account again.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from brokers.errors import BrokerError, Refused, with_remedy
from brokers.ib import IbBroker
from brokers.kite import KiteBroker
from brokers.model import Failed, Side, Snapshot
from brokers.mt5 import Mt5Broker
from brokers.oanda import OandaBroker
from brokers.oanda.account import SECTION_REMEDY, read_details
from brokers.port import Broker
from brokers.simulators.base import Fault, Simulator
from brokers.simulators.ib import IbSimulator
from brokers.simulators.kite import KiteSimulator
from brokers.simulators.mt5 import Mt5Simulator
from brokers.simulators.oanda import OandaSimulator

TIMEOUT_S = 10.0
SHORT_TIMEOUT_S = 0.3
SILENT = {Fault.TIMEOUT, Fault.RESET, Fault.SERVER_ERROR, Fault.UNAUTHORIZED}
"""What only the time-out ends, at one of the brokers or another."""
BEGAN = datetime(2026, 1, 5, 12, tzinfo=UTC)
TOKEN = "a-token-that-nobody-may-see"
A_REMEDY = re.compile(
    r"([^.]\.|…) (Check|Compare|It is|Log in|Look|Set|Start|The (account|list|positions|terminal|token)|They are) [^.]"
)
"""A sentence of its own, after one that has ended once."""


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Venue:
    """A broker with its adapter, something to trade there, and the requests of its three sections."""

    account: str
    simulator: Simulator
    adapter: Broker
    instrument: str


@contextmanager
def _ib(timeout_s: float = TIMEOUT_S) -> Iterator[Venue]:
    seconds = itertools.count()  # no two things happen in one second, so that nothing waits for one to end
    simulator = IbSimulator(seed=1, clock=lambda: BEGAN + timedelta(seconds=next(seconds)))
    simulator.start()
    adapter = IbBroker("options", "127.0.0.1", simulator.port, 17, "DU1", None, timeout_s, now, full_every_s=0)
    yield from _venue("options", simulator, adapter, "AAPL")


@contextmanager
def _mt5(timeout_s: float = TIMEOUT_S) -> Iterator[Venue]:
    simulator = Mt5Simulator(login=5001, margin_mode="hedging", seed=1, clock=now)
    adapter = Mt5Broker("cfd", simulator.start(), 5001, timeout_s, now, backoff_s=0.005)
    yield from _venue("cfd", simulator, adapter, "EURUSD")


@contextmanager
def _oanda(timeout_s: float = TIMEOUT_S) -> Iterator[Venue]:
    simulator = OandaSimulator("101-1", TOKEN, instruments=["EUR_USD"])
    url = simulator.start()
    adapter = OandaBroker("fx", "101-1", TOKEN, url, timeout_s, now, backoff_s=0.005, full_every_s=0)
    yield from _venue("fx", simulator, adapter, "EUR_USD")


@contextmanager
def _kite(timeout_s: float = TIMEOUT_S) -> Iterator[Venue]:
    simulator = KiteSimulator("a-key-of-nobody", TOKEN, "AB1", instruments=["NSE:INFY"])
    url = simulator.start()
    adapter = KiteBroker(
        "eq", "a-key-of-nobody", lambda: TOKEN, "AB1", url, timeout_s, now, backoff_s=0.005, requests_per_s=1000
    )
    yield from _venue("eq", simulator, adapter, "NSE:INFY")


def _venue(account: str, simulator: Simulator, adapter: Broker, instrument: str) -> Iterator[Venue]:
    try:
        yield Venue(account, simulator, adapter, instrument)
    finally:
        simulator.close()


CASES = [
    *(pytest.param(_ib, match, id=f"ib {match}") for match in ("reqPositions", "reqAllOpenOrders", "reqExecutions")),
    *(pytest.param(_mt5, match, id=f"mt5 {match}") for match in ("GET_POSITIONS", "GET_ORDERS", "GET_DEALS")),
    *(pytest.param(_oanda, match, id=f"oanda {match}") for match in ("AccountDetails", "TransactionsSinceID")),
    *(pytest.param(_kite, match, id=f"kite {match}") for match in ("positions GET", "orders GET", "trades GET")),
]
FAULTS = [
    Fault.TIMEOUT,
    Fault.RESET,
    Fault.SERVER_ERROR,
    Fault.UNAUTHORIZED,
    Fault.HTML,
    Fault.HALF_BODY,
    Fault.EMPTY,
    Fault.MALFORMED_ROW,
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("venue", "match"), CASES)
async def test_each_fault_of_each_section_is_named_with_a_remedy(
    venue: Callable[[float], AbstractContextManager[Venue]], match: str, fault: Fault
) -> None:
    """FEATURES 9, FEATURES 21: what cannot be known is named, and what a person can do about it."""
    with venue(SHORT_TIMEOUT_S if fault in SILENT else TIMEOUT_S) as at:
        try:
            await at.adapter.connect()
            at.simulator.trade(at.instrument, Side.BUY, Decimal(1))
            cursor = (await at.adapter.snapshot(None)).fills_cursor
            at.simulator.trade(at.instrument, Side.BUY, Decimal(1))
            at.simulator.faults.add(fault, times=9, match=match)
            said = await _said(at, cursor)
        finally:
            await at.adapter.close()
    for text in said:
        assert TOKEN not in text
        assert ".." not in text
        assert A_REMEDY.search(text), text


async def _said(at: Venue, cursor: int | None) -> list[str]:
    """All that a snapshot says is amiss, as it is shown: an error by itself, the rest beside the account's name."""
    try:
        snapshot = await at.adapter.snapshot(cursor)
    except BrokerError as error:
        return [str(error)]
    said = [*_reasons(snapshot), *(problem.text for problem in snapshot.problems())]
    assert not any(text.startswith(f"{at.account}:") for text in said)
    return said


def _reasons(snapshot: Snapshot) -> list[str]:
    sections = (snapshot.positions, snapshot.orders, snapshot.fills)
    return [section.reason for section in sections if isinstance(section, Failed)]


async def test_a_reply_of_the_mt5_gateway_without_its_list_is_named_with_a_remedy() -> None:
    """PEERS 1: what lacks the list is unknown, and never flat."""
    with _mt5() as at:
        try:
            await at.adapter.connect()
            at.simulator.faults.add(Fault.SERVER_ERROR, match="GET_ORDERS")
            (reason,) = _reasons(await at.adapter.snapshot(None))
        finally:
            await at.adapter.close()
    assert reason.startswith("GET_ORDERS: the gateway said: ")
    assert reason.endswith(". Check the terminal's connection to its broker")


@pytest.mark.parametrize(
    ("account", "found"),
    [
        ({"positions": None, "orders": []}, "the account details came without their list of positions"),
        ({"positions": [], "orders": []}, "the account says that it has 2 open positions and lists 0"),
    ],
    ids=["no list", "fewer than counted"],
)
def test_account_details_of_oanda_that_prove_nothing_say_what_can_be_done(
    account: dict[str, object], found: str
) -> None:
    """PEERS 1: an answer that counts more than it lists is no knowledge."""
    payload = {"account": {"openPositionCount": 2, **account}, "lastTransactionID": "7"}
    section = read_details(payload, {}).position_section()
    assert isinstance(section, Failed)
    assert section.reason == f"{found}. {SECTION_REMEDY}"


@pytest.mark.parametrize(
    ("found", "ending"),
    [
        ("TWS said 326: the client id is in use. Retry with a unique client id.", "…unique client id. Look"),
        ("it said no", "…it said no. Look"),
        ("it said no..", "…it said no. Look"),
        ("it said a lot and was cut…", "…was cut… Look"),
        ("it said: why?", "…why? Look"),
    ],
)
def test_two_sentences_are_parted_by_one_stop(found: str, ending: str) -> None:
    assert with_remedy(found, "Look").endswith(ending.removeprefix("…"))


def test_an_error_is_worded_with_its_account_and_without() -> None:
    error = Refused("read the account", "fx", "HTTP 401.", "Check `token`")
    assert str(error) == "fx: could not read the account: HTTP 401. Check `token`"
    assert error.reason == "could not read the account: HTTP 401. Check `token`"
