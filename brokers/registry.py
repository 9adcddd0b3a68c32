"""Opens the adapter for the description of an account: the one place that knows every broker by name.

Adapters are imported only when they are needed, so that an account actor loads one SDK and no other.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from brokers.errors import Refused
from brokers.frozen import dataclass
from brokers.model import Conventions, CostBasis, IdScope, LegScheme
from brokers.port import OPTIONAL_PROTOCOLS, Broker, Clock
from brokers.simulators.base import Simulator
from brokers.spec import DEMONSTRATION_VALUE, BrokerSpec

if TYPE_CHECKING:
    from brokers.simulators.demonstration import Demonstration  # made for a simulated account alone


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a broker is reached, and where it publishes events (``None``: it does not)."""

    calls: str
    events: str | None


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a broker by its name.

    ``conventions`` are how its accounts keep positions, as far as the name shows; a snapshot states it for certain.
    ``configured`` returns its endpoints by the configuration; ``adapter`` opens it there. ``simulator`` makes a
    simulated one, and ``serve`` starts that. ``lot`` and ``instruments`` are what a demonstration trades where nothing
    is configured.
    """

    conventions: Conventions
    configured: Callable[[BrokerSpec], Endpoints]
    adapter: Callable[[BrokerSpec, Endpoints, Clock], Broker]
    simulator: Callable[[BrokerSpec, int], Simulator]
    serve: Callable[[Simulator], Endpoints]
    lot: Decimal
    instruments: tuple[str, ...]


def utc_now() -> datetime:
    """The system's clock, which adapters use unless a test passes another."""
    return datetime.now(UTC)


def open_broker(spec: BrokerSpec, *, lively: bool = True, clock: Clock = utc_now) -> Broker:
    """The adapter of an account, not connected yet. With ``simulated`` it comes with its broker, which trades by itself
    where ``lively``.

    Raises ``Refused`` when a secret cannot be resolved or this version has no adapter for the broker.
    """
    if spec.broker == PAPER:
        return _paper(spec, lively=lively, clock=clock)
    kind = KINDS.get(spec.broker)
    if kind is None:
        known = ", ".join(sorted((*KINDS, PAPER)))
        raise Refused(
            "open the account",
            spec.account,
            f"there is no adapter for broker {spec.broker} in this version",
            f"The brokers it can open are {known}. Set enabled: false for this account to go on without it.",
        )
    if spec.simulated:
        return _simulated(spec, kind, lively=lively, clock=clock)
    return kind.adapter(spec, kind.configured(spec), clock)


class SimulatedBroker(Broker):
    """An account together with its broker: a simulator on loopback that the adapter reaches over the wire.

    The simulator's state is kept in ``state_dir``, so that the death of this process changes nothing at the "broker".
    It meets every protocol that the adapter meets: :meth:`around` adds all of their members.
    """

    def __init__(self, adapter: Broker, simulator: Simulator, demonstration: Demonstration) -> None:
        self.adapter = adapter
        self._simulator = simulator
        self._demonstration = demonstration

    @classmethod
    def around(cls, adapter: Broker, simulator: Simulator, demonstration: Demonstration) -> SimulatedBroker:
        """Pass on every member of the port, and of each of ``OPTIONAL_PROTOCOLS`` that the adapter meets."""
        met = [Broker, *(protocol for protocol in OPTIONAL_PROTOCOLS if isinstance(adapter, protocol))]
        members = {name for protocol in met for name in vars(protocol) if not name.startswith("_")} - set(vars(cls))
        made: type[SimulatedBroker] = type(cls.__name__, (cls,), {name: _passed_on(name) for name in members})
        return made(adapter, simulator, demonstration)

    async def close(self) -> None:
        """Close the adapter, then its broker."""
        await self.adapter.close()
        self._demonstration.close()
        self._simulator.close()


def _passed_on(name: str) -> property:
    def of_the_adapter(self: SimulatedBroker) -> object:
        return getattr(self.adapter, name)

    return property(of_the_adapter)


def _simulated(spec: BrokerSpec, kind: Kind, *, lively: bool, clock: Clock) -> Broker:
    from brokers.simulators.demonstration import Demonstration

    simulator = kind.simulator(spec, zlib.crc32(spec.account.encode()))
    demonstration = Demonstration(
        simulator,
        spec.instruments or kind.instruments,
        kind.conventions.legs,
        random.Random(),  # noqa: S311 - what a demonstration does next is no secret
        lot=kind.lot,
        state_file=Path(spec.state_dir) / f"{spec.account}.simulator.json",
    )
    adapter = kind.adapter(spec, kind.serve(simulator), clock)
    if lively:
        demonstration.start()
    else:
        demonstration.restore()
    return SimulatedBroker.around(adapter, simulator, demonstration)


def _text(spec: BrokerSpec, key: str) -> str | None:
    value = spec.settings.get(key)
    return None if value is None else str(value)


def _number(spec: BrokerSpec, key: str) -> int | None:
    value = spec.settings.get(key)
    return value if isinstance(value, int) else None


# OANDA

DEMONSTRATION_ACCOUNT_ID = "101-001-0000001-001"
_OANDA = {
    "practice": Endpoints("https://api-fxpractice.oanda.com", "https://stream-fxpractice.oanda.com"),
    "live": Endpoints("https://api-fxtrade.oanda.com", "https://stream-fxtrade.oanda.com"),
}
"""OANDA v20 documentation, development guide: the two environments."""


def _oanda_configured(spec: BrokerSpec) -> Endpoints:
    rest, stream = _text(spec, "rest_url"), _text(spec, "stream_url")
    usual = _OANDA[str(spec.settings["environment"])]
    # A host of one's own has its own stream or none: the token must not go to another one.
    return Endpoints(rest or usual.calls, stream or (None if rest is not None else usual.events))


def _oanda_adapter(spec: BrokerSpec, at: Endpoints, clock: Clock) -> Broker:
    from brokers.oanda.client import OandaBroker

    account_id = _text(spec, "account_id") or DEMONSTRATION_ACCOUNT_ID
    token = spec.secrets["token"].resolve()
    names = spec.instruments
    return OandaBroker(
        spec.account, account_id, token, at.calls, spec.timeout_s, clock, stream_url=at.events, instruments=names
    )


def _oanda_simulator(spec: BrokerSpec, seed: int) -> Simulator:
    from brokers.simulators.oanda import OandaSimulator

    account_id = _text(spec, "account_id") or DEMONSTRATION_ACCOUNT_ID
    return OandaSimulator(account_id, DEMONSTRATION_VALUE, instruments=spec.instruments, hedging=True, seed=seed)


def _oanda_serve(simulator: Simulator) -> Endpoints:
    from brokers.simulators.oanda import OandaSimulator

    assert isinstance(simulator, OandaSimulator)  # noqa: S101 - made by the function above
    return Endpoints(simulator.start(), simulator.start_stream())


# MT5

_DEMONSTRATION_LOGIN = 5001


def _mt5_configured(spec: BrokerSpec) -> Endpoints:
    return Endpoints(str(spec.settings["endpoint"]), _text(spec, "events_endpoint"))


def _mt5_adapter(spec: BrokerSpec, at: Endpoints, clock: Clock) -> Broker:
    from brokers.mt5.client import Mt5Broker
    from brokers.mt5.curve import ClientKeys

    login = _number(spec, "login")
    own, server = _text(spec, "curve_key"), _text(spec, "curve_server_key")
    keys = None if own is None or server is None else ClientKeys.read(spec.account, own, server)
    return Mt5Broker(
        spec.account,
        at.calls,
        login,
        spec.timeout_s,
        clock,
        events_endpoint=at.events,
        curve=keys,
        instruments=spec.instruments,
    )


def _mt5_simulator(spec: BrokerSpec, seed: int) -> Simulator:
    from brokers.simulators.mt5 import Mt5Simulator

    login = _number(spec, "login") or _DEMONSTRATION_LOGIN
    return Mt5Simulator(login=login, instruments=spec.instruments, seed=seed)


def _mt5_serve(simulator: Simulator) -> Endpoints:
    from brokers.simulators.mt5 import Mt5Simulator

    assert isinstance(simulator, Mt5Simulator)  # noqa: S101 - made by the function above
    return Endpoints(simulator.start(), simulator.events_endpoint)


# Kite

_DEMONSTRATION_USER_ID = "AB1234"
_KITE = Endpoints("https://api.kite.trade", "wss://ws.kite.trade")
"""Kite Connect documentation: the API endpoint, and the WebSocket endpoint."""


def _kite_configured(spec: BrokerSpec) -> Endpoints:
    rest, stream = _text(spec, "rest_url"), _text(spec, "stream_url")
    return Endpoints(rest or _KITE.calls, stream or (None if rest is not None else _KITE.events))


def _kite_adapter(spec: BrokerSpec, at: Endpoints, clock: Clock) -> Broker:
    from brokers.kite.client import KiteBroker

    return KiteBroker(
        spec.account,
        spec.secrets["api_key"].resolve(),
        spec.secrets["access_token"].resolve,  # read again at each connect: it changes every morning
        _text(spec, "user_id"),
        at.calls,
        spec.timeout_s,
        clock,
        include_holdings=bool(spec.settings.get("include_holdings")),
        stream_url=at.events,
        renewal=spec.secrets["access_token"].renewal,
        instruments=spec.instruments,
    )


def _kite_simulator(spec: BrokerSpec, seed: int) -> Simulator:
    from brokers.simulators.kite import KiteSimulator

    user_id = _text(spec, "user_id") or _DEMONSTRATION_USER_ID
    return KiteSimulator(DEMONSTRATION_VALUE, DEMONSTRATION_VALUE, user_id, instruments=spec.instruments, seed=seed)


def _kite_serve(simulator: Simulator) -> Endpoints:
    from brokers.simulators.kite import KiteSimulator

    assert isinstance(simulator, KiteSimulator)  # noqa: S101 - made by the function above
    return Endpoints(simulator.start(), simulator.start_ticker())


# Interactive Brokers


def _ib_configured(spec: BrokerSpec) -> Endpoints:
    return Endpoints(f"{spec.settings['host']}:{spec.settings['port']}", None)


def _ib_adapter(spec: BrokerSpec, at: Endpoints, clock: Clock) -> Broker:
    from brokers.ib.client import IbBroker

    host, _, port = at.calls.rpartition(":")
    sec_types = spec.settings.get("sec_types")
    return IbBroker(
        spec.account,
        host,
        int(port),
        _number(spec, "client_id") or 0,
        _text(spec, "account_id") or _DEMONSTRATION_IB_ACCOUNT,
        sec_types if isinstance(sec_types, tuple) else None,
        spec.timeout_s,
        clock,
        instruments=spec.instruments,
        timezone=_text(spec, "timezone"),
    )


def _ib_simulator(spec: BrokerSpec, seed: int) -> Simulator:
    from brokers.simulators.ib import IbSimulator

    account_id = _text(spec, "account_id") or _DEMONSTRATION_IB_ACCOUNT
    return IbSimulator(account_id, instruments=spec.instruments, seed=seed)


def _ib_serve(simulator: Simulator) -> Endpoints:
    return Endpoints(simulator.start(), None)


_DEMONSTRATION_IB_ACCOUNT = "DU1"

KINDS: dict[str, Kind] = {
    "oanda": Kind(
        conventions=Conventions(LegScheme.SIDED, CostBasis.FIFO, negative_prices=()),
        configured=_oanda_configured,
        adapter=_oanda_adapter,
        simulator=_oanda_simulator,
        serve=_oanda_serve,
        lot=Decimal(100),
        instruments=("EUR_USD", "GBP_JPY"),
    ),
    "mt5": Kind(
        conventions=Conventions(LegScheme.TICKET, CostBasis.WEIGHTED, client_id_length=31),
        configured=_mt5_configured,
        adapter=_mt5_adapter,
        simulator=_mt5_simulator,
        serve=_mt5_serve,
        lot=Decimal("0.1"),
        instruments=("EURUSD", "GBPUSD"),
    ),
    "kite": Kind(
        conventions=Conventions(
            LegScheme.NET,
            CostBasis.ALL_OPENING,
            products=True,
            fill_ids=IdScope.TRADING_DAY_AND_SIDE,
            day_ahead_of_utc=timedelta(hours=5, minutes=30),
            client_id_length=20,
            negative_prices=("MCX:", "NCO:"),
        ),
        configured=_kite_configured,
        adapter=_kite_adapter,
        simulator=_kite_simulator,
        serve=_kite_serve,
        lot=Decimal(1),
        instruments=("NSE:INFY", "NSE:TCS"),
    ),
    "ib": Kind(
        conventions=Conventions(LegScheme.NET, CostBasis.WEIGHTED),
        configured=_ib_configured,
        adapter=_ib_adapter,
        simulator=_ib_simulator,
        serve=_ib_serve,
        lot=Decimal(10),
        instruments=("AAPL", "MSFT"),
    ),
}
"""Every broker with a wire that this version can open, by its name in the configuration."""

# Paper: a venue of our own, with no wire and no simulator beside it

PAPER = "paper"


def _paper(spec: BrokerSpec, *, lively: bool, clock: Clock) -> Broker:
    from brokers.paper.client import PaperBroker

    stale_s = spec.settings.get("stale_price_s")
    return PaperBroker(
        spec.account,
        Path(spec.state_dir) / f"{spec.journal}.{spec.account}.paper.json",
        clock,
        symbols=spec.instruments,
        markets=spec.markets,
        stale_after=timedelta(seconds=stale_s) if isinstance(stale_s, int | float) else None,
        lively=lively,
    )


CONVENTIONS = {
    **{name: kind.conventions for name, kind in KINDS.items()},
    PAPER: Conventions(LegScheme.NET, CostBasis.WEIGHTED, negative_prices=()),
}
"""How the accounts of each broker keep positions, as far as its name shows."""
