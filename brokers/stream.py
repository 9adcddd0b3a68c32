"""The port of the streams: what a broker says by itself, and how far its silence may be trusted.

The laws of this module:

* A stream wakes, and nothing else: the truth is fetched. One that is late, doubled or out of order does no harm.
* Nothing heard is not "nothing happened". A stream that was not heard of within its heartbeat budget is SILENT,
  whatever its connection says of itself, and polling carries on in every state.
* After every reconnect anything may have changed meanwhile: it says so by an event without an instrument.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Protocol

OnEvent = Callable[[str | None], None]
"""Something changed in this instrument, or in any (``None``). Called from any thread; must not wait."""


class StreamState(StrEnum):
    """How a stream stands, split by what its owner does about it."""

    CLOSED = "CLOSED"  # not started, closed by us, or given up: start it
    CONNECTING = "CONNECTING"  # on its way, for the first time or again: wait
    LIVE = "LIVE"  # heard of within its heartbeat budget
    SILENT = "SILENT"  # connected, and not heard of: it is being connected anew by itself
    REFUSED = "REFUSED"  # the broker does not accept the session: start it when there is another one
    SPENT = "SPENT"  # cannot be opened in this process any more: restart the actor


class Stream(Protocol):
    """One broker's events of one account."""

    @property
    def state(self) -> StreamState:
        """How it stands now. Never waits."""

    @property
    def error(self) -> str | None:
        """Why it is not LIVE, in words, scrubbed of credentials; ``None`` while nothing is known to be wrong."""

    @property
    def last_heard_at(self) -> datetime | None:
        """Our time when anything was last heard, a heartbeat included."""

    def start(self, on_event: OnEvent) -> None:
        """Follow the broker from now on, with the credentials of now; an earlier connection of this stream is closed.
        Returns at once. Raises ``Refused`` when the credentials cannot be had; all else becomes the state."""

    def close(self) -> None:
        """Hear nothing any more: no event comes after it returned. Never raises; may be called twice."""
