"""Four simulated brokers that trade at random, and what each of them really holds."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from brokers.model import Side
from brokers.simulators.ib import IbSimulator
from brokers.simulators.kite import KiteSimulator
from brokers.simulators.mt5 import Mt5Simulator
from brokers.simulators.oanda import OandaSimulator
from tests.faults.proxy import Proxy

OANDA_ID, OANDA_TOKEN = "101-001-0000009-001", "0123456789abcdef-fedcba9876543210"
KITE_KEY, KITE_TOKEN, KITE_USER = "an-api-key-0000", "access-token-of-tests", "AB1234"
INSTRUMENTS: Mapping[str, tuple[str, ...]] = {
    "fx": ("EUR_USD", "GBP_JPY"),
    "cfd": ("EURUSD", "GBPUSD"),
    "eq": ("NSE:INFY", "NSE:TCS"),
    "opt": ("AAPL", "MSFT"),
}
LOTS = {"fx": Decimal(100), "cfd": Decimal("0.1"), "eq": Decimal(10), "opt": Decimal(5)}
PLACES = tuple((account, symbol) for account, symbols in INSTRUMENTS.items() for symbol in symbols)
Legs = dict[str, Decimal]


@dataclass(frozen=True, slots=True)
class Traded:
    """A fill of an order that a strategy sent."""

    account: str
    instrument: str
    client_order_id: str
    broker_order_id: str
    fill_id: str
    side: Side
    quantity: Decimal
    price: Decimal


class Market:
    """The brokers, each behind a wire of its own. Whatever happens at one goes through here, one thing at a time."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - the same market for the same seed
        self._lock = threading.RLock()
        self._changed_s: dict[tuple[str, str], float] = {}
        self._number = 0
        self.steps = 0
        self.brokers: dict[str, Any] = {
            "fx": OandaSimulator(OANDA_ID, OANDA_TOKEN, instruments=INSTRUMENTS["fx"]),
            "cfd": Mt5Simulator(instruments=INSTRUMENTS["cfd"]),
            "eq": KiteSimulator(KITE_KEY, KITE_TOKEN, KITE_USER, instruments=INSTRUMENTS["eq"]),
            "opt": IbSimulator("DU1", instruments=INSTRUMENTS["opt"]),
        }
        ports = {name: int(broker.start().rpartition(":")[2]) for name, broker in self.brokers.items()}
        self.wires = {name: Proxy(port) for name, port in ports.items()}

    def close(self) -> None:
        """End wires and brokers."""
        for wire in self.wires.values():
            wire.close()
        for broker in self.brokers.values():
            broker.close()

    def accounts(self) -> str:
        """The accounts of a configuration that reaches them."""
        at = {name: wire.port for name, wire in self.wires.items()}
        keys = {
            "fx": f"broker: oanda, account_id: {OANDA_ID}, token: {OANDA_TOKEN}, rest_url: 'http://127.0.0.1:{at['fx']}'",
            "cfd": f"broker: mt5, endpoint: 'tcp://127.0.0.1:{at['cfd']}', login: 5001",
            "eq": f"broker: kite, api_key: {KITE_KEY}, access_token: {KITE_TOKEN}, user_id: {KITE_USER}, "
            f"rest_url: 'http://127.0.0.1:{at['eq']}'",
            "opt": f"broker: ib, host: 127.0.0.1, port: {at['opt']}, client_id: 17, account_id: DU1, timezone: UTC",
        }
        names = {account: ", ".join(f"'{symbol}'" for symbol in symbols) for account, symbols in INSTRUMENTS.items()}
        return "".join(f"  - {{name: {one}, {keys[one]}, instruments: [{names[one]}]}}\n" for one in INSTRUMENTS)

    # What is so

    def held(self, account: str, instrument: str) -> tuple[Legs, float]:
        """What the broker holds in an instrument, and how many seconds ago that last changed."""
        with self._lock:
            found = self.brokers[account].positions()
            legs = {leg: quantity for (symbol, leg), quantity in found.items() if symbol == instrument}
            return legs, time.monotonic() - self._changed_s.get((account, instrument), 0.0)

    # What happens

    def step(self) -> None:
        """Something happens somewhere that nobody reported to our side."""
        account, instrument = self._random.choice(PLACES)
        broker, lot = self.brokers[account], LOTS[account]
        quantity = lot * self._random.randint(1, 5)
        side = self._random.choice([Side.BUY, Side.SELL])
        what = self._random.choice(["trade", "trade", "close", "limit", "cancelled"])
        with self._lock:
            if what == "trade":
                broker.trade(instrument, side, quantity)
            elif what == "close":
                broker.close_by_hand(instrument)
            else:
                order = broker.place_limit(instrument, side, quantity, broker.price(instrument))
                if what == "limit":
                    broker.fill_order(order)
                else:
                    broker.end_order(order)
            self._changed_s[account, instrument] = time.monotonic()
            self.steps += 1

    def send(self, strategy: str) -> Traded:
        """A strategy's order is filled; nobody has reported it yet."""
        account, instrument = self._random.choice(PLACES)
        side = self._random.choice([Side.BUY, Side.SELL])
        with self._lock:
            if self._is_against(account, instrument, side):
                account, instrument = PLACES[0]
            self._number += 1
            client_id = f"{strategy}{self._number}"
            broker, quantity = self.brokers[account], LOTS[account] * self._random.randint(1, 3)
            price = broker.price(instrument)
            order = broker.place_limit(instrument, side, quantity, price, client_id)
            fill = broker.fill_order(order)
            self._changed_s[account, instrument] = time.monotonic()
        return Traded(account, instrument, client_id, order, fill, side, quantity, price)

    def _is_against(self, account: str, instrument: str, side: Side) -> bool:
        """Whether a ticket would be opened against one that is held, which is a break for a person to end."""
        signed = -1 if side is Side.BUY else 1
        return account == "cfd" and any(signed * held > 0 for held in self.held(account, instrument)[0].values())
