"""The port: what every adapter of a broker, and every stream of one, promises, whatever its wire looks like.

The laws of a stream, which carries what a broker sends unasked, and how far its silence may be trusted:

* A stream wakes an instrument; its state is then fetched. A late, duplicate or out-of-order event does no harm.
* An execution that it reports itself (:mod:`brokers.executions`) happened, and nothing else follows from the report.
* "Nothing received" is not "nothing happened". A stream that received nothing within its heartbeat budget is SILENT,
  whatever its connection believes of itself, and polling goes on in every state.
* After every reconnect anything may have changed meanwhile: the stream reports an event without an instrument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, runtime_checkable

from brokers.frozen import dataclass
from brokers.model import ContractFacts, Cursor, OrderAnswer, OrderQuery, Side, Snapshot
from brokers.versions import across_versions

Clock = Callable[[], datetime]
"""Returns the present as aware UTC."""


OnEvent = Callable[[str | None], None]
"""Something changed in this instrument, or in any (``None``). Called from any thread; must not wait."""


class StreamState(StrEnum):
    """The state of a stream; each state has its own remedy."""

    CLOSED = "CLOSED"  # not started, closed by us, or given up: start it
    CONNECTING = "CONNECTING"  # on its way, for the first time or again: wait
    LIVE = "LIVE"  # something came within its heartbeat budget
    SILENT = "SILENT"  # connected, and nothing came: it reconnects by itself
    REFUSED = "REFUSED"  # the broker does not accept the session: start it when there is a new one
    SPENT = "SPENT"  # cannot be opened in this process any more: restart the actor


class Stream(Protocol):
    """One broker's events of one account."""

    @property
    def state(self) -> StreamState:
        """The state now. Never waits."""

    @property
    def error(self) -> str | None:
        """Why it is not LIVE, in words, scrubbed of credentials; ``None`` while nothing is known to be wrong."""

    @property
    def last_heard_at(self) -> datetime | None:
        """Our time when anything was last received, a heartbeat included."""

    def start(self, on_event: OnEvent) -> None:
        """Follow the broker from now on, with the present credentials; an earlier connection of this stream is closed.
        Returns at once. Raises ``Refused`` when there are no credentials; every other failure becomes the state."""

    def close(self) -> None:
        """Receive nothing more: no event comes after this returned. Never raises; may be called twice."""


class Broker(Protocol):
    """One connection to one account at one broker.

    Calls may be made from one task at a time; an adapter that shares a socket serialises them itself. Every call is
    bounded by the adapter's time-out per request. A broker's text is scrubbed of our credentials before it is put into
    an error or a row.
    """

    @property
    def calls(self) -> int:
        """How many requests were sent to the broker, repeated ones included."""

    async def connect(self) -> None:
        """Reach the broker and check that the account reached is the configured one.

        Raises ``Unreachable`` when nobody answered, ``Refused`` when the credentials or the account are wrong,
        ``Malformed`` when the answer cannot be read. May be called again after any of them.
        """

    async def snapshot(self, fills_since: Cursor | None, *, whole: bool = False) -> Snapshot:
        """Everything that the broker holds for the account now, and the fills after ``fills_since``.

        What the configuration leaves out is in ``left_out`` and ``unread_legs``, and never silently absent. A ``whole``
        snapshot is read anew in every part: no earlier answer is updated by what changed since. ``None`` requests no
        earlier fills: the section is complete from now on. Raises ``Unreachable``, ``Refused`` or ``Malformed`` when
        nothing at all was learned; where a part was learned, the sections show which.
        """

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        """One answer for each query, in their order. A failure is in its answer and never raised."""

    async def cancel_order(self, query: OrderQuery) -> None:
        """Ask the broker to cancel an order. This is the only call that changes anything at a broker, made only where
        the configuration says ``cancel_stale_orders: true``. Raises like :meth:`connect`; never repeated by itself."""

    def stream(self) -> Stream | None:
        """The broker's events; the caller starts and closes the stream. ``None`` where this broker, or this
        configuration, has none."""

    async def close(self) -> None:
        """Close the connection. Never raises; may be called twice."""


@runtime_checkable
class Watched(Protocol):
    """A broker that pushes every change of what it holds, so that no request is needed at rest."""

    def undisturbed(self) -> datetime | None:
        """Our time up to which it would have pushed any change since the last snapshot, and pushed none; ``None`` where
        it pushed a change, or that is not certain."""


@runtime_checkable
class Identifying(Protocol):
    """A broker whose names of instruments can come to mean others, while ids of its own last."""

    def identify(self, identities: Mapping[str, str]) -> None:
        """Take the lasting ids (:attr:`brokers.model.ContractFacts.identity`) of these instruments' books: from the
        next snapshot on each name means that contract, and no other."""


@runtime_checkable
class Vouching(Protocol):
    """A broker that may not report whose account it is, so that the configuration alone vouches for it."""

    @property
    def unproven(self) -> str | None:
        """What of the configured account could not be checked, and what the reader can do; ``None`` where all was."""


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What an adapter found out about the account it reached; a field is ``None`` where its broker does not report it.

    ``login`` is the broker's own id of the account: two configured accounts that reach the same one are a mistake.
    ``place`` is where it is (an environment, a trade server), ``keeps`` how it keeps positions and averages, ``clock``
    how far the broker's clock is from ours and in what zone it shows times. ``products`` is what may be traded, and
    ``permissions`` what the login may do, both in the broker's words.
    """

    login: str | None = None
    place: str | None = None
    keeps: str | None = None
    currency: str | None = None
    clock: str | None = None
    products: str | None = None
    permissions: str | None = None


@runtime_checkable
class Describing(Protocol):
    """A broker that can report what it found out about its account."""

    def described(self) -> AccountFacts:
        """What is known since the last :meth:`Broker.connect` or snapshot. Sends no request."""


@across_versions
@dataclass(frozen=True, slots=True)
class Remembered:
    """What a book holds, as the broker itself reported it earlier: its signed quantity and average price for each leg.
    ``seen_at`` is when the two last agreed."""

    legs: Mapping[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    contract: ContractFacts | None = None
    seen_at: datetime | None = None


@runtime_checkable
class Remembering(Protocol):
    """A broker whose first answers are checked against earlier holdings, including those of an earlier process."""

    def remember(self, books: Mapping[str, Remembered]) -> None:
        """Take what the books of these instruments held when each was first reported here. Called before a snapshot;
        the mapping may grow while that is under way."""


@runtime_checkable
class Corroborating(Protocol):
    """A broker that also reports apart from its list of positions whether anything is held."""

    async def holds_nothing(self) -> bool | None:
        """Whether nothing is held, from that second source, read now; ``None`` where it is silent. Never raises."""


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order for a venue of our own. ``order_type`` is MARKET, LIMIT or STOP; ``expires_at`` of ``None`` is good till
    cancelled. ``client_order_id`` names one order for ever."""

    instrument: str
    client_order_id: str
    side: Side
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    expires_at: datetime | None = None


@runtime_checkable
class OrderEntry(Protocol):
    """Orders and prices for a venue of our own. Only the paper adapter has it: no order is ever sent anywhere else.

    The effect on an order is durable when the call returns; of prices alone the last few may be lost in a crash.
    Raises ``Refused`` for what the venue does not accept at all, ``Unreachable`` when its state cannot be written,
    ``Malformed`` when it cannot be read.
    """

    async def submit(self, order: NewOrder) -> str:
        """Submit an order; returns its broker_order_id. The same order sent again is still one order. One that the
        venue does not execute is REJECTED in its rows, with the reason."""

    async def cancel(self, broker_order_id: str) -> bool:
        """Cancel an order. Returns whether it is cancelled now: false where it is unknown or ended otherwise before."""

    async def feed(self, symbol: str, bid: Decimal, ask: Decimal) -> None:
        """Set the price from now on. What it makes executable is executed before this returns."""

    async def prices(self) -> dict[str, tuple[Decimal, Decimal]]:
        """The last (bid, ask) of each symbol that has had a price."""


OPTIONAL_PROTOCOLS: tuple[type, ...] = tuple(
    # Callers test adapters for the protocols that are checkable at run time. Python marks those under this name alone.
    found
    for found in tuple(vars().values())
    if isinstance(found, type) and getattr(found, "_is_runtime_protocol", False)
)
"""What an adapter may promise beside :class:`Broker`: every protocol above that is ``runtime_checkable``. A wrapper of
an adapter passes all of them on."""
