"""The connection to the broker of one account: connected or not, why not, and when it is tried again.

The laws of this module: after a failure the circuit is open, and no request reaches the broker before
:attr:`Circuit.retry_at`. The pauses grow; the pause after a refusal is long from the beginning, since it takes a
person. A lost connection and its restoration are journaled once each, and one that flaps is reported as restored only
after it has been calm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from loguru import logger

from actors.book.flapping import CALM, RecentReports
from actors.events import EventType, Json, Severity
from actors.messages import Connection
from brokers.errors import BrokerError, Malformed, Refused
from brokers.kit.backoff import backoff_s, spread_s

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
REFUSED_PAUSE_S = 60.0
"""A refusal needs a person. Trying once a minute finds out when that person has acted, without loading the broker."""


class Say(Protocol):
    """Journals an account's event, beside its work; ``identity`` distinguishes two events of a kind."""

    def __call__(
        self, kind: EventType, payload: dict[str, Json], identity: str, severity: Severity = Severity.INFO
    ) -> None:
        """Write it, now or when the journal accepts it; returns at once."""


_CONNECTION = "connection"
"""The key of the connection in the record of recent reports."""


class OurError(BrokerError):
    """An error in this program, on the way to the broker or back."""


_STATES: dict[type[BrokerError], Connection] = {
    OurError: Connection.FAILED,
    Refused: Connection.REFUSED,
    Malformed: Connection.MALFORMED,
    BrokerError: Connection.UNREACHABLE,
}


class Circuit:
    """The circuit of one account. ``now`` is a steady clock; ``shown`` converts its times to wall clock times."""

    def __init__(
        self,
        account: str,
        now: Callable[[], datetime],
        uniform: Callable[[], float],
        shown: Callable[[datetime], datetime],
        say: Say,
    ) -> None:
        self.connection = Connection.CONNECTING
        self.error: str | None = None
        self.retry_at: datetime | None = None
        self.call_errors = 0
        self.failing = asyncio.Event()
        self._account = account
        self._now = now
        self._uniform = uniform
        self._shown = shown
        self._say = say
        self._failures = 0
        self._lately: RecentReports[str] = RecentReports()
        self._said_lost = False
        self._losses = 0  # since the last reported restoration
        self._well_since: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether the broker must not be called yet."""
        return self.retry_at is not None and self._now() < self.retry_at

    def answered(self) -> None:
        """The broker answered, and the answer was usable."""
        back = self.connection is not Connection.CONNECTED
        lost = self.error is not None
        now = self._now()
        self.connection, self.error, self.retry_at, self._failures = Connection.CONNECTED, None, None, 0
        if back and lost:
            logger.info("{}: connected again", self._account)
            self._well_since = now
        if self._said_lost and self._well_since is not None:
            flaps = self._lately.flaps(_CONNECTION, now)
            if not flaps or now - self._well_since >= CALM:
                payload: dict[str, Json] = {"account": self._account}
                if self._losses > 1:
                    payload["losses"] = self._losses  # including those that were not reported
                self._said_lost, self._losses = False, 0
                self._say(EventType.CONNECTION_RESTORED, payload, "")

    def was_lost(self) -> None:
        """The journal has a loss without a restoration: the next answer restores it, or the last one did."""
        if not self._said_lost:
            self._said_lost, self._losses, self._well_since = True, 1, self._now()
            if self.connection is Connection.CONNECTED:
                self.answered()

    def failed(self, error: BrokerError, *, again: bool) -> None:
        """The broker did not answer, or the answer was unusable. ``again``: this actor retries on its own."""
        self.call_errors += 1
        first, before = self.error is None, self.connection
        refused = isinstance(error, Refused)
        self._failures += 1
        self.connection = next(state for kind, state in _STATES.items() if isinstance(error, kind))
        self.error = str(error)
        pause_s = REFUSED_PAUSE_S if refused else backoff_s(self._failures, FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self.retry_at = self._now() + timedelta(seconds=spread_s(pause_s, self._uniform()))
        self.failing.set()
        if first or self.connection is not before:
            then = (
                f" It is asked again at {self._shown(self.retry_at):%H:%M:%S} UTC, and then until it answers."
                if again
                else ""
            )
            logger.warning("{}.{}", str(error).rstrip("."), then)
        if first:
            self._losses += 1
            self._well_since = None
        if first and not self._said_lost:
            self._said_lost = True
            self._lately.add(_CONNECTION, self._now())
            payload: dict[str, Json] = {
                "account": self._account,
                "connection": self.connection.value,
                "reason": self.error,
            }
            self._say(EventType.CONNECTION_LOST, payload, self.connection.value, Severity.WARNING)
