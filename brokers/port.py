"""The port: what every adapter of a broker, and every stream of one, promises, whatever its wire looks like.

The laws of a stream, which is what a broker says by itself, and how far its silence may be trusted:

* A stream wakes: the truth is fetched. One that is late, doubled or out of order does no harm.
* What it tells of an execution itself (:mod:`brokers.executions`) happened, and says nothing of anything else.
* Nothing heard is not "nothing happened". A stream that was not heard of within its heartbeat budget is SILENT,
  whatever its connection says of itself, and polling carries on in every state.
* After every reconnect anything may have changed meanwhile: it says so by an event without an instrument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, runtime_checkable

from brokers.model import ContractFacts, Cursor, OrderAnswer, OrderQuery, Side, Snapshot

Clock = Callable[[], datetime]
"""Gives the present as aware UTC."""


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

        What the adapter is told not to look at is in ``left_out`` and ``unread_legs``, and never silently absent.
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


@runtime_checkable
class Watched(Protocol):
    """A broker that tells by itself of every change of what it holds, so that at rest it need not be asked."""

    def undisturbed(self) -> datetime | None:
        """Our time up to which it would have told of any change since the last snapshot, and told of none; ``None``
        where a change was told, or that cannot be vouched for."""


@runtime_checkable
class Identifying(Protocol):
    """A broker whose names of instruments can come to mean others, while ids of its own last."""

    def identify(self, identities: Mapping[str, str]) -> None:
        """These instruments' books are of these lasting ids (:attr:`brokers.model.ContractFacts.identity`): from the
        next snapshot on each name means that one, and no other."""


@runtime_checkable
class Vouching(Protocol):
    """A broker that may be unable to tell whose account it is, so that the configuration alone vouches for it."""

    @property
    def unproven(self) -> str | None:
        """What of the account configured could not be proven, and what the reader can do; ``None`` where all was."""


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What an adapter found out about the account it reached; ``None`` and nothing where its broker does not tell.

    ``login`` is the broker's own id of the account: two accounts of the configuration that reach one are a mistake.
    ``place`` is where it is (an environment, a trade server), ``keeps`` how it keeps positions and averages, ``clock``
    how far the broker's clock is from ours and in what zone it tells times. ``products`` is what may be traded, and
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
    """A broker that can say what it found out about its account."""

    def described(self) -> AccountFacts:
        """What is known since the last :meth:`Broker.connect` or snapshot. Asks nobody."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a book holds by the broker's own earlier word: by leg its signed quantity and its average price. ``seen_at``
    is when the two were last in step."""

    legs: Mapping[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    contract: ContractFacts | None = None
    seen_at: datetime | None = None


@runtime_checkable
class Remembering(Protocol):
    """A broker whose first answers are judged by what was held before them, also where that was before this process."""

    def remember(self, books: Mapping[str, Remembered]) -> None:
        """What the books of these instruments held when each of them was first heard of here: told before a snapshot is
        asked for, and the mapping grows by itself while that is under way."""


@runtime_checkable
class Corroborating(Protocol):
    """A broker that says in another word than its list of positions whether anything is held."""

    async def holds_nothing(self) -> bool | None:
        """Whether nothing is held, by that other word, asked for now; ``None`` where it does not say. Never raises."""


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order for a venue of our own. ``order_type`` is MARKET, LIMIT or STOP; ``expires_at`` of ``None`` is good till
    cancelled. ``client_order_id`` names the order once and for all."""

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
    """Orders and prices for a venue of our own. The paper adapter alone has it: nothing else is ever sent an order.

    What becomes of an order is durable when the call returns; of prices alone the last few may be lost in a crash.
    Raises ``Refused`` for what the venue does not take at all, ``Unreachable`` when its state cannot be written,
    ``Malformed`` when it cannot be read.
    """

    async def submit(self, order: NewOrder) -> str:
        """Hand an order over; gives its broker_order_id. The same order again is still one order. One that the venue
        does not execute is REJECTED in its rows, with the reason."""

    async def cancel(self, broker_order_id: str) -> bool:
        """Cancel an order. Whether it is cancelled now; not so where it is unknown, or ended otherwise before."""

    async def feed(self, symbol: str, bid: Decimal, ask: Decimal) -> None:
        """The price from now on. What it makes executable is executed before this returns."""

    async def prices(self) -> dict[str, tuple[Decimal, Decimal]]:
        """The last (bid, ask) of each symbol that has had a price."""


OPTIONAL_PROTOCOLS: tuple[type, ...] = tuple(
    # What is checkable at run time is what somebody asks an adapter for. Python keeps the mark under this name alone.
    found
    for found in tuple(vars().values())
    if isinstance(found, type) and getattr(found, "_is_runtime_protocol", False)
)
"""What an adapter may promise beside :class:`Broker`: every protocol above that is ``runtime_checkable``. Who stands in
front of an adapter passes all of them on."""
