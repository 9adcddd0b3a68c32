"""From the description of an account to its adapter: the one place that knows every broker by name.

Adapters are imported here when they are needed, so that an account actor carries one SDK and no other.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from brokers.errors import Refused
from brokers.model import Conventions, CostBasis, Cursor, LegScheme, OrderAnswer, OrderQuery, Snapshot
from brokers.port import Broker, Clock
from brokers.simulators.base import Simulator
from brokers.spec import DEMONSTRATION_VALUE, BrokerSpec
from brokers.stream import Stream

DEMONSTRATION_ACCOUNT_ID = "101-001-0000001-001"
_DEMONSTRATION_LOGIN = 5001
_OANDA_REST = {"practice": "https://api-fxpractice.oanda.com", "live": "https://api-fxtrade.oanda.com"}
"""OANDA v20 documentation, development guide: the two environments."""

CONVENTIONS = {
    "oanda": Conventions(LegScheme.SIDED, CostBasis.FIFO),
    "mt5": Conventions(LegScheme.TICKET, CostBasis.WEIGHTED),
}
"""How accounts of a broker keep positions, as far as its name tells; a snapshot tells for sure."""


def utc_now() -> datetime:
    """The system's clock, which adapters are given unless a test gives them another."""
    return datetime.now(UTC)


def open_broker(spec: BrokerSpec, *, lively: bool = True, clock: Clock = utc_now) -> Broker:
    """The adapter of an account, not connected yet. With ``simulated`` it comes with its broker, which trades by itself
    where ``lively``.

    Raises ``Refused`` when a secret cannot be resolved or this version has no adapter for the broker.
    """
    if spec.broker not in CONVENTIONS:
        known = ", ".join(sorted(CONVENTIONS))
        raise Refused(
            "open the account",
            spec.account,
            f"there is no adapter for broker {spec.broker} in this version",
            f"The brokers it can open are {known}. Set enabled: false for this account to go on without it.",
        )
    if spec.simulated:
        return SimulatedBroker(spec, lively=lively, clock=clock)
    return _adapter(spec, None, clock)


def _adapter(spec: BrokerSpec, endpoint: str | None, clock: Clock) -> Broker:
    if spec.broker == "oanda":
        from brokers.oanda.client import OandaBroker

        rest_url = endpoint or spec.settings.get("rest_url") or _OANDA_REST[str(spec.settings["environment"])]
        token = spec.secrets["token"].resolve()
        account_id = str(spec.settings["account_id"])
        return OandaBroker(spec.account, account_id, token, str(rest_url), spec.timeout_s, clock)
    from brokers.mt5.client import Mt5Broker

    login = spec.settings.get("login")
    address = endpoint or str(spec.settings["endpoint"])
    return Mt5Broker(spec.account, address, login if isinstance(login, int) else None, spec.timeout_s, clock)


def _simulator(spec: BrokerSpec) -> Simulator:
    seed = zlib.crc32(spec.account.encode())
    if spec.broker == "oanda":
        from brokers.simulators.oanda import OandaSimulator

        account_id = str(spec.settings.get("account_id") or DEMONSTRATION_ACCOUNT_ID)
        return OandaSimulator(account_id, DEMONSTRATION_VALUE, instruments=spec.instruments, hedging=True, seed=seed)
    from brokers.simulators.mt5 import Mt5Simulator

    login = spec.settings.get("login")
    return Mt5Simulator(
        login=login if isinstance(login, int) else _DEMONSTRATION_LOGIN, instruments=spec.instruments, seed=seed
    )


class SimulatedBroker:
    """An account together with its broker: a simulator on loopback that the adapter reaches over the wire.

    The simulator's state is kept in ``state_dir``, so that the death of this process changes nothing at the "broker".
    """

    def __init__(self, spec: BrokerSpec, *, lively: bool, clock: Clock) -> None:
        from brokers.simulators.demonstration import Demonstration

        self.simulator = _simulator(spec)
        self._demonstration = Demonstration(
            self.simulator,
            spec.instruments or _DEFAULT_INSTRUMENTS[spec.broker],
            CONVENTIONS[spec.broker].legs,
            random.Random(),  # noqa: S311 - what a demonstration does next is no secret
            lot=_LOTS[spec.broker],
            state_file=Path(spec.state_dir) / f"{spec.account}.simulator.json",
        )
        self._lively = lively
        self._adapter = _adapter(spec, self.simulator.start(), clock)
        if lively:
            self._demonstration.start()
        else:
            self._demonstration.restore()

    @property
    def calls(self) -> int:
        """Requests that left for the simulator."""
        return self._adapter.calls

    async def connect(self) -> None:
        """As the adapter."""
        await self._adapter.connect()

    async def snapshot(self, fills_since: Cursor | None) -> Snapshot:
        """As the adapter."""
        return await self._adapter.snapshot(fills_since)

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        """As the adapter."""
        return await self._adapter.find_orders(queries)

    async def cancel_order(self, query: OrderQuery) -> None:
        """As the adapter."""
        await self._adapter.cancel_order(query)

    def stream(self) -> Stream | None:
        """As the adapter."""
        return self._adapter.stream()

    async def close(self) -> None:
        """Close the adapter, then its broker."""
        await self._adapter.close()
        self._demonstration.close()
        self.simulator.close()


_LOTS = {"oanda": Decimal(100), "mt5": Decimal("0.1")}
_DEFAULT_INSTRUMENTS = {"oanda": ("EUR_USD", "GBP_JPY"), "mt5": ("EURUSD", "GBPUSD")}
