"""The port: what every adapter of a broker promises, whatever its wire looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from brokers.model import Cursor, OrderAnswer, OrderQuery, Snapshot
from brokers.stream import Stream

Clock = Callable[[], datetime]
"""Gives the present as aware UTC."""


class Broker(Protocol):
    """One connection to one account at one broker.

    Calls may be made from one task at a time; an adapter that shares a socket serialises them itself. Every call is
    bounded by the adapter's time-out per request. What a broker says is scrubbed of our credentials before it is
    put into an error or a row.
    """

    @property
    def calls(self) -> int:
        """How many requests have left for the broker, repeated ones included."""

    async def connect(self) -> None:
        """Reach the broker and prove that the account reached is the account configured.

        Raises ``Unreachable`` when nobody answered, ``Refused`` when the credentials or the account are wrong,
        ``Malformed`` when the answer cannot be read. May be called again after any of them.
        """

    async def snapshot(self, fills_since: Cursor | None, *, whole: bool = False) -> Snapshot:
        """Everything the broker holds for the account now, and the fills after ``fills_since``.

        A ``whole`` one rests on nothing that was told before: no earlier answer is carried on with what changed since.
        ``None`` asks for no earlier fills: the section is complete from now on. Raises ``Unreachable``, ``Refused``
        or ``Malformed`` when nothing at all could be learned; where a part was learned, the sections say which.
        """

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        """One answer for each query, in their order. A failure is in its answer and never raised."""

    async def cancel_order(self, query: OrderQuery) -> None:
        """Ask the broker to cancel an order. The only call that changes anything at a broker, made only where the
        configuration says ``cancel_stale_orders: true``. Raises like :meth:`connect`; never repeated by itself."""

    def stream(self) -> Stream | None:
        """What the broker says by itself, where it does; to be started, and closed, by whoever asks. ``None`` where
        this broker, or this configuration, has no stream."""

    async def close(self) -> None:
        """Give the connection back. Never raises; may be called twice."""
