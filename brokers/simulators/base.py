"""What every simulator shares: the script by which a test or the demonstration moves it, and the ways it lies.

A simulator speaks its broker's own wire protocol on loopback. Its script is broker-neutral, so that one scenario can
run against all of them. A simulator runs in threads of its own, and every method here may be called from any thread.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, runtime_checkable

from brokers.model import Side

REQUESTS_KEPT = 10_000


class Fault(StrEnum):
    """A way to misbehave. The comments describe what the client sees."""

    TIMEOUT = "timeout"  # no answer at all
    RESET = "reset"  # the connection is cut without an answer
    SERVER_ERROR = "server_error"  # 500, or the gateway's ERROR
    UNAVAILABLE = "unavailable"  # 503
    RATE_LIMITED = "rate_limited"  # 429
    UNAUTHORIZED = "unauthorized"  # 401
    HTML = "html"  # 200 with a web page
    HALF_BODY = "half_body"  # a reply that ends in the middle
    MALFORMED_ROW = "malformed_row"  # one row without its key fields, or with a number that cannot be read
    EMPTY = "empty"  # a well-formed answer without any rows, as after an error inside the broker
    LATE = "late"  # the answer arrives after the client gave up, and may meet its next request


@dataclass(frozen=True, slots=True)
class ScriptedFault:
    """One fault for ``times`` requests whose action or path contains ``match``."""

    fault: Fault
    match: str
    times: int


class Faults:
    """The faults still to be played; of those that match a request the first comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[ScriptedFault] = deque()

    def add(self, fault: Fault, *, times: int = 1, match: str = "") -> None:
        """Play this fault for the next ``times`` requests whose action or path contains ``match`` (any, when empty)."""
        with self._lock:
            self._waiting.append(ScriptedFault(fault, match, times))

    def clear(self) -> None:
        """Play no more faults."""
        with self._lock:
            self._waiting.clear()

    def take(self, request: str) -> Fault | None:
        """The fault to play for this request; it counts as played."""
        with self._lock:
            for place, waiting in enumerate(self._waiting):
                if waiting.match in request:
                    if waiting.times > 1:
                        self._waiting[place] = ScriptedFault(waiting.fault, waiting.match, waiting.times - 1)
                    else:
                        del self._waiting[place]
                    return waiting.fault
        return None


@runtime_checkable
class DayEnding(Protocol):
    """A broker that drops orders and fills overnight."""

    def end_day(self) -> frozenset[str]:
        """The night: what ended is no longer listed. Returns the ids of orders that worked until now."""


class Simulator(Protocol):
    """A broker on loopback, and the script that moves it."""

    faults: Faults

    @property
    def requests(self) -> tuple[str, ...]:
        """The requests received so far, the last ``REQUESTS_KEPT`` of them, in order, by action or method and path."""

    def start(self, port: int = 0) -> str:
        """Serve on 127.0.0.1 (any free port for 0); returns the address for a client's configuration."""

    def close(self) -> None:
        """Stop serving and leave no thread and no socket. May be called twice."""

    def price(self, instrument: str) -> Decimal:
        """The present price of an instrument; deterministic for one never seen."""

    def set_price(self, instrument: str, price: Decimal) -> None:
        """Set the price; market orders fill at it."""

    def positions(self) -> dict[tuple[str, str], Decimal]:
        """The true holdings: (instrument, leg) → signed quantity, without zeros."""

    def trade(self, instrument: str, side: Side, quantity: Decimal, client_order_id: str | None = None) -> str:
        """Place a market order that is filled at once, with its order and fill; returns its order id."""

    def place_limit(
        self, instrument: str, side: Side, quantity: Decimal, price: Decimal, client_order_id: str | None = None
    ) -> str:
        """Place a resting order; returns its order id."""

    def fill_order(self, order_id: str, quantity: Decimal | None = None, price: Decimal | None = None) -> str:
        """Fill a resting order, in part where ``quantity`` is less than what remains; returns the fill id."""

    def end_order(self, order_id: str, how: str = "CANCELLED") -> None:
        """End a resting order: ``CANCELLED``, ``EXPIRED`` or ``REJECTED``."""

    def forget_order(self, order_id: str) -> None:
        """Remove every trace of an order, as if it had never existed."""

    def set_position(self, instrument: str, leg: str, quantity: Decimal, price: Decimal) -> str:
        """Hold exactly this from now on, without an order or a fill that explains it; a quantity of 0 removes the leg.
        Returns the leg's name (a broker that issues tickets may choose its own where ``leg`` is empty)."""

    def close_by_hand(self, instrument: str) -> None:
        """Close everything held in the instrument by hand, with orders and fills of its own."""

    def dump(self) -> str:
        """The whole state as JSON text, to be kept over a crash."""

    def load(self, text: str) -> None:
        """Take over a state from :meth:`dump`."""
