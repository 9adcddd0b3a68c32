"""Every adapter as the conformance suite knows it: how it is opened, and how its broker is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.ib import IbBroker
from brokers.kite import KiteBroker
from brokers.model import OrderQuery, OrderStatus, SectionName, Side
from brokers.mt5 import Mt5Broker
from brokers.oanda import OandaBroker
from brokers.port import Broker
from brokers.simulators.base import Fault, Simulator
from brokers.simulators.ib import IbSimulator
from brokers.simulators.kite import KiteSimulator
from brokers.simulators.mt5 import Mt5Simulator
from brokers.simulators.oanda import OandaSimulator
from tests.brokers.reading import Ticking, calls_have_ended, now

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
POSITIONS, ORDERS, FILLS = SectionName.POSITIONS, SectionName.ORDERS, SectionName.FILLS
OANDA_ID, OANDA_TOKEN = "101-001-1-001", "0123456789abcdef-fedcba9876543210"
KITE_KEY, KITE_TOKEN, KITE_USER = "an-api-key-0000", "access-token-of-kite", "AB1234"
TIMEOUT_S = 10.0
"""A machine that is busy with other tests answers late, and that is no fault of the broker's: nobody waits so long."""
SHORT_TIMEOUT_S = 0.4
IB_SHORT_TIMEOUT_S = 1.6
"""A connection to TWS is a socket, a greeting and a thread: on a busy machine that takes longer than a request. What is
read after the fault has no longer either."""
SILENT = frozenset({Fault.TIMEOUT, Fault.LATE})
"""Faults that only the time-out ends."""

Open = Callable[..., Broker]


class Clock:
    """The system's clock, and ahead of it by what was let pass."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def __call__(self) -> Any:
        return now() + self._ahead

    def passes(self, seconds: float) -> None:
        """Be ahead by so much more."""
        self._ahead += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Adapter:
    """One adapter and a broker to go with it.

    ``open`` takes the broker's address and changes of the usual settings. ``lists`` are what a fault has to match to
    spoil a section, ``questions`` what to spoil a question about an order, ``knocks`` what to meet it while it
    connects. ``failures`` is what a fault that lasts makes of connecting (without a row: nothing), ``rides_out`` what
    it gets over that happens once. ``others`` are the settings of somebody else. ``believes_empty`` are the lists
    whose rows may all be gone at once, ``forgives_after_s`` is how long a refusal is remembered, ``part`` what becomes
    of an order of which a part was filled. ``silent`` are the faults that only a time-out ends, after
    ``short_timeout_s``.
    """

    id: str
    account: str
    simulator: Callable[[], Simulator]
    open: Open
    symbols: tuple[str, str]
    lot: Decimal
    lists: Mapping[SectionName, str]
    questions: tuple[str, ...]
    calls_at_rest: int
    failures: Mapping[Fault, type[BrokerError]]
    rides_out: frozenset[Fault]
    others: Mapping[str, object]
    knocks: Mapping[Fault, str] = field(default_factory=dict)
    believes_empty: frozenset[SectionName] = frozenset()
    forgives_after_s: float = 0.0
    part: OrderStatus = OrderStatus.PARTIALLY_FILLED
    cancels: bool = True
    threads: tuple[str, ...] = field(default=())
    silent: frozenset[Fault] = SILENT
    short_timeout_s: float = SHORT_TIMEOUT_S

    def timeout_s(self, fault: Fault) -> float:
        """Short where the fault is silence, which a test has to wait for; else longer than any answer takes."""
        return self.short_timeout_s if fault in self.silent else TIMEOUT_S

    def query(self, broker_order_id: str | None = None, client_order_id: str | None = None) -> OrderQuery:
        """A question about an order in the first symbol."""
        return OrderQuery(self.symbols[0], broker_order_id, client_order_id)

    @asynccontextmanager
    async def opened(self, address: str, **changes: object) -> AsyncIterator[Broker]:
        """The adapter at this address; closed twice at the end."""
        broker = self.open(address, **changes)
        try:
            yield broker
        finally:
            await broker.close()
            await broker.close()
            calls_have_ended(*self.threads)

    @asynccontextmanager
    async def alone(self, **changes: object) -> AsyncIterator[tuple[Any, Broker]]:
        """A broker of its own, and the adapter at it."""
        simulator = self.simulator()
        try:
            async with self.opened(simulator.start(), **changes) as broker:
                yield simulator, broker
        finally:
            simulator.close()


def _oanda(address: str, **changes: Any) -> Broker:
    given = {"account_id": OANDA_ID, "token": OANDA_TOKEN, "timeout_s": TIMEOUT_S, "clock": now, "backoff_s": 0.001}
    return OandaBroker(account="fx", rest_url=address, **{**given, **changes})


def _kite(address: str, **changes: Any) -> Broker:
    given = {"api_key": KITE_KEY, "access_token": lambda: KITE_TOKEN, "user_id": KITE_USER, "timeout_s": TIMEOUT_S}
    usual = {"clock": now, "backoff_s": 0.001, "requests_per_s": 10_000}
    return KiteBroker(account="eq", rest_url=address, **{**given, **usual, **changes})


def _mt5(address: str, **changes: Any) -> Broker:
    given = {"login": 5001, "timeout_s": TIMEOUT_S, "clock": now, "backoff_s": 0.005}
    return Mt5Broker(account="cfd", endpoint=address, **{**given, **changes})


def _ib(full_every_s: float) -> Open:
    def opened(address: str, **changes: Any) -> Broker:
        host, _, port = address.rpartition(":")
        given = {"client_id": 17, "account_id": "DU1", "sec_types": None, "timeout_s": TIMEOUT_S, "clock": now}
        usual = {"backoff_s": 0.01, "messages_per_s": 9000, "full_every_s": full_every_s}
        return IbBroker(account="options", host=host, port=int(port), **{**given, **usual, **changes})

    return opened


_FAILURES: dict[Fault, type[BrokerError]] = {
    Fault.TIMEOUT: Unreachable,
    Fault.LATE: Unreachable,
    Fault.RESET: Unreachable,
    Fault.SERVER_ERROR: Unreachable,
    Fault.UNAVAILABLE: Unreachable,
    Fault.RATE_LIMITED: Unreachable,
    Fault.UNAUTHORIZED: Refused,
    Fault.HTML: Malformed,
    Fault.HALF_BODY: Malformed,
}


def oanda(*, hedging: bool) -> Adapter:
    """A v20 account."""
    return Adapter(
        id=f"oanda {'hedging' if hedging else 'netting'}",
        account="fx",
        simulator=lambda: OandaSimulator(OANDA_ID, OANDA_TOKEN, instruments=["EUR_USD", "GBP_JPY"], hedging=hedging),
        open=_oanda,
        symbols=("EUR_USD", "GBP_JPY"),
        lot=D(100),
        lists={POSITIONS: "Account", ORDERS: "Account", FILLS: "TransactionsSinceID"},
        questions=("OrderDetails", "TransactionDetails"),
        calls_at_rest=1,
        failures=_FAILURES,
        rides_out=frozenset(_FAILURES) - {Fault.UNAUTHORIZED},
        others={"account_id": "101-001-1-002"},
        part=OrderStatus.CANCELLED,
        threads=("oanda-fx",),
    )


def mt5(margin_mode: str) -> Adapter:
    """An MT5 gateway with every action."""
    return Adapter(
        id=f"mt5 {margin_mode}",
        account="cfd",
        simulator=lambda: Mt5Simulator(margin_mode=margin_mode, instruments=["EURUSD", "GBPUSD"]),
        open=_mt5,
        symbols=("EURUSD", "GBPUSD"),
        lot=D("0.1"),
        lists={POSITIONS: "GET_POSITIONS", ORDERS: "GET_ORDERS", FILLS: "GET_DEALS"},
        questions=("GET_ORDERS", "GET_DEALS"),
        calls_at_rest=3,
        failures=_FAILURES,
        rides_out=frozenset({Fault.TIMEOUT, Fault.RESET, Fault.LATE}),
        silent=SILENT | {Fault.RESET},  # a ZeroMQ socket does not report that the other end is gone
        others={"login": 4711},
        believes_empty=frozenset({POSITIONS, ORDERS, FILLS}),
        cancels=False,
    )


def kite() -> Adapter:
    """A Kite user."""
    return Adapter(
        id="kite",
        account="eq",
        simulator=lambda: KiteSimulator(KITE_KEY, KITE_TOKEN, KITE_USER, instruments=["NSE:INFY", "NSE:TCS"]),
        open=_kite,
        symbols=("NSE:INFY", "NSE:TCS"),
        lot=D(10),
        lists={POSITIONS: "positions GET", ORDERS: "orders GET", FILLS: "trades GET"},
        questions=("orders GET", "order_trades"),
        calls_at_rest=4,
        failures=_FAILURES | {Fault.MALFORMED_ROW: Malformed},
        rides_out=frozenset(_FAILURES) - {Fault.UNAUTHORIZED},
        others={"user_id": "ZZ9999"},
        forgives_after_s=31.0,
        threads=("kite-eq",),
    )


def ib(*, carried: bool) -> Adapter:
    """An account behind TWS, read whole or carried on by what is pushed."""
    return Adapter(
        id=f"ib {'carried on' if carried else 'read whole'}",
        account="options",
        simulator=lambda: IbSimulator("DU1", instruments=["AAPL", "MSFT"], orders_by=17, clock=Ticking()),
        open=_ib(60.0 if carried else 0.0),
        symbols=("AAPL", "MSFT"),
        lot=D(10),
        lists={POSITIONS: "reqPositions", ORDERS: "reqAllOpenOrders", FILLS: "reqExecutions"},
        questions=("reqAllOpenOrders", "reqCompletedOrders", "reqExecutions"),
        calls_at_rest=2 if carried else 5,
        # Half an answer to startApi may be enough to be logged on, and half a greeting never is.
        knocks={**dict.fromkeys(Fault, "startApi"), Fault.HALF_BODY: "connect"},
        failures=_FAILURES | {Fault.HTML: Unreachable, Fault.HALF_BODY: Unreachable},
        rides_out=frozenset(),
        silent=frozenset(Fault),  # TWS reports many errors beside the list that it then does not end
        short_timeout_s=IB_SHORT_TIMEOUT_S,
        others={"account_id": "DU9"},
        believes_empty=frozenset() if carried else frozenset({ORDERS}),
    )


ADAPTERS = [
    oanda(hedging=False),
    oanda(hedging=True),
    mt5("hedging"),
    mt5("netting"),
    kite(),
    ib(carried=False),
    ib(carried=True),
]


def every_adapter(*leave_out: str) -> pytest.MarkDecorator:
    """Runs a test over each of them, save those with these ids."""
    kept = [adapter for adapter in ADAPTERS if adapter.id not in leave_out]
    return pytest.mark.parametrize("adapter", kept, ids=lambda adapter: str(adapter.id).replace(" ", "-"))


def one_of_each_kind() -> pytest.MarkDecorator:
    """Runs a test over each adapter once, whatever the account's mode."""
    first = {adapter.id.split()[0]: adapter for adapter in reversed(ADAPTERS)}
    return pytest.mark.parametrize("adapter", first.values(), ids=list(first))
