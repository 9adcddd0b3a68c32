"""How it stands with the broker of one account: connected or not, why not, and when it is asked again.

The laws of this module: after a failure the circuit is open, and nobody's request reaches the broker before
:attr:`Circuit.retry_at`. The pauses grow; one after a refusal is long from the beginning, as it takes a person. A
connection that is lost and restored is journaled once each, and one that flaps is not said to be restored before it has
been calm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from loguru import logger

from actors.book.flapping import CALM, Told
from actors.events import EventType, Json, Severity
from actors.messages import Connection
from brokers.errors import BrokerError, Malformed, Refused
from brokers.kit.backoff import backoff_s, spread_s

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
REFUSED_PAUSE_S = 60.0
"""A refusal needs a person. Asking once a minute finds out that he has acted, and hammers nobody."""


class Say(Protocol):
    """Journals what an account has to say, beside its work; ``identity`` tells two events of a kind apart."""

    def __call__(
        self, kind: EventType, payload: dict[str, Json], identity: str, severity: Severity = Severity.INFO
    ) -> None:
        """Write it, now or when the journal can; returns at once."""


_CONNECTION = "connection"
"""Under which the connection is known among what was reported lately."""


class OurError(BrokerError):
    """An error in this program, on the way to the broker or back."""


_STATES: dict[type[BrokerError], Connection] = {
    OurError: Connection.FAILED,
    Refused: Connection.REFUSED,
    Malformed: Connection.MALFORMED,
    BrokerError: Connection.UNREACHABLE,
}


class Circuit:
    """The circuit of one account. ``now`` is a steady clock, ``shown`` a time of it as the wall clock says it."""

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
        self._lately: Told[str] = Told()
        self._said_lost = False
        self._losses = 0  # since it was last said to be restored
        self._well_since: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether the broker is not to be asked yet."""
        return self.retry_at is not None and self._now() < self.retry_at

    def answered(self) -> None:
        """The broker answered, and it could be used."""
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
                    payload["losses"] = self._losses  # those that were not said
                self._said_lost, self._losses = False, 0
                self._say(EventType.CONNECTION_RESTORED, payload, "")

    def was_lost(self) -> None:
        """The journal says that it was lost, and not that it is back: the next answer restores it, or the last did."""
        if not self._said_lost:
            self._said_lost, self._losses, self._well_since = True, 1, self._now()
            if self.connection is Connection.CONNECTED:
                self.answered()

    def failed(self, error: BrokerError, *, again: bool) -> None:
        """It did not, or it could not be. ``again`` is whether this actor asks again by itself."""
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
            self._lately.tell(_CONNECTION, self._now())
            payload: dict[str, Json] = {
                "account": self._account,
                "connection": self.connection.value,
                "reason": self.error,
            }
            self._say(EventType.CONNECTION_LOST, payload, self.connection.value, Severity.WARNING)
