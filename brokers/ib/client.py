"""The adapter of an Interactive Brokers account: one connection to TWS or IB Gateway, shared by all instruments.

The laws of this module:

* Positions, orders and executions are asked for in this order, and again while something is executed in between. So
  every fill that the positions contain is in the executions, and none is there that they do not contain.
* A list that did not come to its end is FAILED, and its connection is not used again.
* While TWS has lost its own connection (1100), nothing it says is taken for the account; executions are asked for with
  every snapshot, so what was filled meanwhile, or before a reconnect, is found.
* Nothing is sent that changes anything but a cancellation: with client id 0, too, orders placed by hand stay unbound.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from loguru import logger

from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.ib import rows, wire
from brokers.ib.carry import carried, is_whole
from brokers.ib.contracts import Names
from brokers.ib.link import (
    COMPLETED_ORDERS,
    CONNECTIVITY_BACK,
    CONNECTIVITY_LOST,
    CURRENT_TIME,
    EXECUTIONS,
    OPEN_ORDERS,
    POSITIONS,
    Declined,
    Ended,
    NoAnswer,
)
from brokers.ib.listener import Heard
from brokers.ib.reading import Lists, Reading, answer, in_doubt, read
from brokers.ib.rows import Read, Scope, WorkingOrder, order_key
from brokers.ib.sequence import FillSequence, Listing, began_before_today
from brokers.ib.session import GATEWAY, Session
from brokers.ib.stream import IbStream
from brokers.ib.wire import Execution, Holding, Notice, Unreadable
from brokers.model import (
    Complete,
    Conventions,
    CostBasis,
    Cursor,
    Failed,
    LegScheme,
    OrderAnswer,
    OrderQuery,
    Snapshot,
    rows_of,
)
from brokers.port import Clock
from brokers.stream import OnEvent, Stream

_CONVENTIONS = Conventions(LegScheme.NET, CostBasis.WEIGHTED)
_REREADS = 2
_CLOCKS_APART = timedelta(minutes=5)
_CANCELLED = 202
_NEWS = frozenset({0, wire.POSITION, wire.OPEN_ORDER, wire.ORDER_STATUS, wire.EXECUTION})
_TOLD_BY_CODE = frozenset(str(code) for code in CONNECTIVITY_LOST | CONNECTIVITY_BACK)


@dataclass(frozen=True, slots=True)
class _Kept:
    """The last reading, if it can be carried on: over which connection it was made, and when it was made whole."""

    lists: Lists
    generation: int
    whole_at_s: float


class IbBroker:
    """One account behind TWS or IB Gateway; meets :class:`brokers.port.Broker`.

    ``account`` is our name of it, ``account_id`` IB's. ``client_id`` must be used by nobody else. ``sec_types`` are the
    security types looked after, ``None`` for all. ``instruments`` are those configured, each by symbol, localSymbol or
    conId: they are shown under exactly that name. ``timezone`` (IANA) is that of TWS, needed only where it sends the
    times of executions without one. ``timeout_s`` bounds each request, and three times as long a whole reading.
    ``backoff_s`` is the first wait before another attempt to reconnect; it doubles, with jitter. ``silence_s`` is how
    long its stream may hear nothing: it asks for TWS's clock at half of it.

    IB limits a client to 50 messages a second, over which it disconnects (TWS API documentation, "pacing"):
    ``messages_per_s`` keeps below it. A whole snapshot takes five, two more where something was executed since the last
    one; where TWS pushed all that changed since, two are enough, for at most ``full_every_s`` after a whole one.
    """

    def __init__(
        self,
        account: str,
        host: str,
        port: int,
        client_id: int,
        account_id: str,
        sec_types: tuple[str, ...] | None,
        timeout_s: float,
        clock: Clock,
        *,
        instruments: tuple[str, ...] = (),
        timezone: str | None = None,
        backoff_s: float = 0.25,
        messages_per_s: int = 45,
        silence_s: float = 60.0,
        full_every_s: float = 240.0,
    ) -> None:
        self.on_event: OnEvent | None = None
        self._account = account
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._clock = clock
        self._scope = Scope(account_id, None if sec_types is None else frozenset(sec_types))
        self._names = Names(instruments, sec_types)
        self._zone: tzinfo | None = ZoneInfo(timezone) if timezone is not None else None
        self._zone_seen = self._zone
        self._lock = asyncio.Lock()
        self._session = Session(
            account, host, port, client_id, account_id, timeout_s, backoff_s, messages_per_s, self._on_live
        )
        self._stream = IbStream(self, silence_s, clock)
        self._sequence = FillSequence()
        self._listing = Listing()
        self._day_ended = False
        self._read_generation = 0
        self._held_at: int | None = None
        self._full_every_s = full_every_s
        self._kept: _Kept | None = None
        self._news: list[Heard] = []
        self._last_heard_at: datetime | None = None
        self._live_executions: dict[str, Heard] = {}
        self._instrument_of: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"IbBroker({self._account!r}, {self._scope.account_id!r})"

    @property
    def last_heard_at(self) -> datetime | None:
        """Our time when TWS last said anything, asked or not; ``None`` before it did."""
        return self._last_heard_at

    @property
    def in_touch(self) -> bool:
        """Whether there is a connection, and TWS has not lost its own."""
        return self._session.alive

    @property
    def calls(self) -> int:
        """How many requests have left for TWS, log-ons included."""
        return self._session.calls

    async def connect(self) -> None:
        """Open a new connection and prove that its login has the account configured.

        While TWS has lost its own connection the one to it is kept, as that is where it says when it is back: then, and
        when nobody answers, ``Unreachable``. ``Refused`` when the client id is in use at the first attempt or the login
        has another account, ``Malformed`` when what answers is no TWS.
        """
        async with self._lock:
            self._session.in_touch()
            await self._session.renew()

    async def snapshot(self, fills_since: Cursor | None) -> Snapshot:
        """Positions, the orders of all clients, and the fills after ``fills_since``, an epoch millisecond of TWS.

        ``as_of`` is TWS's clock just before the positions were asked for, less the second to which executions are
        dated. TWS tells executions of its present day only: where that ended since the cursor, the section is FAILED
        once and says so. Without a cursor, the second of an execution made just now is waited out: only then is its
        time not after ``as_of``, as it must be for a fill that the first positions contain. Reconnects by itself.
        Raises ``Unreachable`` when nothing could be learned.
        """
        async with self._lock:
            reading = await self._carry_on(self._session.deadline())
            if reading is not None:
                return self._snapshot(reading, fills_since)
            reading = await self._read(self._session.deadline())
            for _ in range(_REREADS if fills_since is None else 0):
                if not _in_its_own_second(reading):
                    break
                await asyncio.sleep(1.0)
                reading = await self._read(self._session.deadline())
            ends_at = self._session.deadline()
            moved = self._listing.moved(reading.listed)
            emptied = not moved and self._is_emptied(reading)
            for _ in range(_REREADS):
                if not moved and not emptied:
                    break
                reading, emptied = await self._read_again(reading, ends_at), False
                moved = self._listing.moved(reading.listed)
            self._session.in_touch()
            reading = self._believed(in_doubt(reading, moved))
            self._keep(reading, moved)
            return self._snapshot(reading, fills_since)

    async def ping(self) -> None:
        """Ask TWS for its time, over a new connection where the old one has ended. Raises like :meth:`connect`."""
        async with self._lock:
            await self._server_time(self._session.deadline())

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        """Orders by permId, else by orderRef, among all open and today's completed ones, with today's fills. That there
        is none such is said only when every list came to its end and every row of it could be read."""
        if not queries:
            return ()
        try:
            async with self._lock:
                await self._session.linked()
                lists = await self._orders_and_executions(self._session.deadline())
                self._session.in_touch()
        except BrokerError as error:
            return tuple(OrderAnswer(query, failure=str(error)) for query in queries)
        reading = read(lists, self._names, self._errors())
        return tuple(answer(query, reading) for query in queries)

    async def cancel_order(self, query: OrderQuery) -> None:
        """Ask TWS to cancel an open order, once, and wait for its word on it.

        TWS lets a client cancel its own orders only (TWS API documentation, cancelOrder): those of another client or
        placed by hand are ``Refused``. ``Unreachable`` when TWS did not say what became of the request.
        """
        attempted = f"cancel order {query.broker_order_id or query.client_order_id} of {query.instrument}"
        async with self._lock:
            try:
                found = await self._session.ask(OPEN_ORDERS, self._session.deadline())
                order = self._cancellable(query, rows.working_orders(found, self._scope_now()), attempted)
                word = await self._session.cancel(order.terms.order_id)
            except (NoAnswer, Declined) as error:
                remedy = "It may have been cancelled all the same: look it up"
                raise Unreachable(attempted, self._account, str(error), remedy) from None
        if isinstance(word, Notice) and word.code != _CANCELLED:
            raise Refused(attempted, self._account, f"TWS said {word.code}: {word.text}", "Look the order up")

    def stream(self) -> Stream | None:
        """What TWS tells by itself over this connection; see :class:`brokers.ib.stream.IbStream`."""
        return self._stream

    async def close(self) -> None:
        """End the connection, and hear nothing any more. Never raises; may be called twice."""
        self._stream.close()
        await self._session.close()

    # -- reading ---------------------------------------------------------------------------------------------------

    def _scope_now(self) -> Scope:
        return replace(self._scope, others=self._session.others)

    def _errors(self) -> dict[tuple[int, int], Notice]:
        return {(self._client_id, order_id): told for order_id, told in self._session.errors.items()}

    async def _carry_on(self, ends_at: float) -> Reading | None:
        """The last reading with what TWS pushed since, for two messages; ``None`` where all has to be read. TWS's answers
        and pushes come in one order, so what it had pushed before it told its time has been heard."""
        kept, self._kept = self._kept, None
        if kept is None or not self._session.alive or kept.generation != self._session.generation:
            return None
        if time.monotonic() - kept.whole_at_s >= self._full_every_s:
            return None
        requested_at = self._clock()
        server_s = await self._server_time(ends_at)
        found = await self._session.asked(OPEN_ORDERS, ends_at)
        if isinstance(found, str) or kept.generation != self._session.generation or not self._session.alive:
            return None
        latest = datetime.fromtimestamp(server_s, UTC) + _CLOCKS_APART
        scope, news = self._scope_now(), self._news
        if any(row.kind == 0 or row.trouble is not None for row in news):
            return None
        lists = carried(kept.lists, news, rows.working_orders(found, scope), scope, self._zone, latest)
        if lists is None:
            return None
        self._news = []
        lists = replace(lists, requested_at=requested_at, server_s=server_s)
        self._kept = replace(kept, lists=lists)
        reading = self._decoded(lists)
        self._listing.moved(reading.listed)
        return reading

    def _keep(self, reading: Reading, moved: frozenset[str]) -> None:
        if not moved and is_whole(reading.lists) and isinstance(reading.positions, Complete):
            self._kept = _Kept(reading.lists, self._session.generation, time.monotonic())

    def _decoded(self, lists: Lists) -> Reading:
        reading = read(lists, self._names, self._errors())
        self._instrument_of = {order.broker_order_id: order.instrument for order in rows_of(reading.orders)}
        return reading

    async def _read(self, ends_at: float) -> Reading:
        requested_at = self._clock()
        server_s = await self._server_time(ends_at)
        held = await self._positions(ends_at)
        rest = await self._orders_and_executions(ends_at, server_s)
        lists = replace(rest, requested_at=requested_at, positions=held)
        if not lists.tell_anything():
            remedy = "The account counts as unverified; it is asked again by itself"
            raise Unreachable("read the account", self._account, str(lists.positions), remedy)
        return self._decoded(lists)

    async def _read_again(self, reading: Reading, ends_at: float) -> Reading:
        """The same with positions and executions of now. Its times stay: it contains no less than it did then."""
        held = await self._positions(ends_at)
        executed = await self._executions(ends_at, datetime.fromtimestamp(reading.lists.server_s, UTC))
        return read(replace(reading.lists, positions=held, executions=executed), self._names, self._errors())

    async def _positions(self, ends_at: float) -> Read[Holding] | str:
        found = await self._session.asked(POSITIONS, ends_at)
        self._news.clear()  # what was pushed before the list ended is in it
        return found if isinstance(found, str) else rows.holdings(found, self._scope_now())

    def _is_emptied(self, reading: Reading) -> bool:
        """Whether positions were held before and not one row is left."""
        held = reading.lists.positions
        return self._held_at is not None and isinstance(held, Read) and not held.facts and not held.troubles

    def _believed(self, reading: Reading) -> Reading:
        """A TWS that has just started may show no position yet. So after a reconnect a list without any row is not
        believed the first time, where there were positions before; on one connection it is asked for twice."""
        held, emptied = reading.lists.positions, self._is_emptied(reading)
        if isinstance(held, str) or held.troubles:
            return reading
        before, now = self._held_at, self._session.generation
        self._held_at = now if held.facts else None
        if not emptied or before == now:
            return reading
        reason = "no position is left after a reconnect: believed when TWS says it again"
        return replace(reading, positions=Failed(reason))

    async def _server_time(self, ends_at: float) -> int:
        attempted = "read TWS's clock"
        try:
            try:
                answers = await self._session.ask(CURRENT_TIME, ends_at)
            except Ended:  # often it ended long ago, and is only noticed now
                answers = await self._session.ask(CURRENT_TIME, ends_at)
            self._last_heard_at = self._clock()
            return wire.server_time(answers[-1].fields if answers else ())
        except (NoAnswer, Declined) as error:
            raise Unreachable(attempted, self._account, str(error), GATEWAY) from None
        except Unreadable as error:
            raise Malformed(attempted, self._account, str(error), "It is asked again by itself") from None

    async def _orders_and_executions(self, ends_at: float, server_s: int | None = None) -> Lists:
        working = await self._session.asked(OPEN_ORDERS, ends_at)
        completed = await self._session.asked(COMPLETED_ORDERS, ends_at)
        clock = self._clock() if server_s is None else datetime.fromtimestamp(server_s, UTC)
        executed = await self._executions(ends_at, clock)
        scope = self._scope_now()
        return Lists(
            requested_at=clock,
            server_s=int(clock.timestamp()),
            positions="the positions were not asked for",
            working=working if isinstance(working, str) else rows.working_orders(working, scope),
            completed=completed if isinstance(completed, str) else rows.completed_orders(completed, scope),
            executions=executed,
        )

    async def _executions(self, ends_at: float, clock: datetime) -> Read[Execution] | str:
        """Those listed, and those that were told live and are not listed yet, or no longer."""
        found = await self._session.asked(EXECUTIONS, ends_at)
        if isinstance(found, str):
            return found
        scope, latest = self._scope_now(), clock + _CLOCKS_APART
        listed = rows.executions(found, scope, self._zone, latest)
        for one in listed.facts:
            self._live_executions.pop(one.exec_id, None)
            if one.zone is not None and self._zone is None:
                self._zone_seen = ZoneInfo(one.zone)
        if not listed.troubles:
            self._day_ended |= self._listing.cut(one.root for one in listed.facts)
        live = rows.executions(self._live_executions.values(), scope, self._zone, latest)
        return Read((*listed.facts, *live.facts), (*listed.troubles, *live.troubles))

    def _snapshot(self, reading: Reading, fills_since: Cursor | None) -> Snapshot:
        now_ms = reading.lists.server_s * 1000
        gap = self._gap(reading, fills_since, now_ms)
        fills, cursor = self._sequence.hand_out(reading.fills, fills_since, now_ms, gap=gap)
        if isinstance(fills, Complete):
            self._live_executions.clear()
        return Snapshot(
            requested_at=reading.lists.requested_at,
            # An execution is dated to its second: one made later in this second must still count as later.
            as_of=datetime.fromtimestamp(reading.lists.server_s, UTC) - timedelta(microseconds=1),
            positions=reading.positions,
            orders=reading.orders,
            fills=fills,
            fills_cursor=cursor,
            conventions=_CONVENTIONS,
        )

    def _gap(self, reading: Reading, fills_since: Cursor | None, now_ms: int) -> str | None:
        """Why fills after the cursor may be lost. While one connection lasts the lists themselves show that a day has
        ended; what happened before it only the clock can tell."""
        if isinstance(reading.fills, Failed):
            return None
        first = self._read_generation != self._session.generation
        ended, self._day_ended = self._day_ended, False
        self._read_generation = self._session.generation
        if fills_since is None:
            return None
        if ended or (first and began_before_today(fills_since, now_ms, self._zone_seen)):
            return "TWS lists executions of its present day only, and a day has ended since they were last read"
        return None

    # -- cancelling ------------------------------------------------------------------------------------------------

    def _cancellable(self, query: OrderQuery, found: Read[WorkingOrder], attempted: str) -> WorkingOrder:
        meant = [order for order in found.facts if _is_meant(query, order)]
        if len(meant) != 1:
            many = f"{len(meant)} open orders carry the orderRef {query.client_order_id!r}"
            none = "TWS shows no such open order" + (", and a row of the list cannot be read" if found.troubles else "")
            raise Refused(attempted, self._account, many if meant else none, "Look the order up")
        terms = meant[0].terms
        if terms.client_id != self._client_id or not terms.order_id:
            placed = f"by client {terms.client_id}" if terms.order_id else "by hand in TWS"
            told = f"it was placed {placed}, and TWS lets client {self._client_id} cancel its own orders only"
            raise Refused(attempted, self._account, told, "Cancel it where it was placed, or in TWS")
        return meant[0]

    # -- what TWS tells by itself ----------------------------------------------------------------------------------

    def _on_live(self, heard: Heard | None) -> None:
        """Wake whom it concerns. ib_async emits no event for an execution or a status of an order it does not know, so
        the rows themselves are listened to."""
        if heard is None:
            self._tell(None)
            return
        self._last_heard_at = self._clock()
        if heard.kind in _NEWS:
            self._news.append(heard)
        if heard.kind == wire.NOTICE:
            if len(heard.fields) > 3 and heard.fields[3] in _TOLD_BY_CODE:
                self._kept = None
                self._tell(None)
        elif heard.kind in (wire.POSITION, wire.OPEN_ORDER, wire.EXECUTION):
            if heard.kind == wire.EXECUTION and len(heard.fields) > 14:
                self._live_executions[heard.fields[14]] = heard
            self._tell_of(heard)
        elif heard.kind == wire.ORDER_STATUS:
            self._tell(self._instrument_of.get(heard.fields[6]) if len(heard.fields) > 6 else None)
        elif heard.kind == 0:
            self._tell(None)

    def _tell_of(self, heard: Heard) -> None:
        begin = wire.CONTRACT_AT[heard.kind]
        try:
            contract = wire.contract(heard.fields[begin : begin + 11])
        except Unreadable:
            self._tell(None)
            return
        if self._scope.has_type(contract):
            self._names.learn([contract])
            if heard.kind == wire.OPEN_ORDER and len(heard.fields) > 25:
                self._instrument_of[heard.fields[25]] = self._names.name(contract)
            self._tell(self._names.name(contract))

    def _tell(self, instrument: str | None) -> None:
        if self.on_event is None:
            return
        try:
            self.on_event(instrument)
        except Exception as error:  # noqa: BLE001 - a listener's error must not end the connection it listens to
            logger.error("{}: an error of ours while waking {}: {!r}", self._account, instrument or "all", error)


def _in_its_own_second(reading: Reading) -> bool:
    """Whether an execution is dated to the second in which the reading began."""
    found = reading.lists.executions
    began = datetime.fromtimestamp(reading.lists.server_s, UTC)
    return isinstance(found, Read) and any(began <= one.time < began + _CLOCKS_APART for one in found.facts)


def _is_meant(query: OrderQuery, order: WorkingOrder) -> bool:
    terms = order.terms
    if query.broker_order_id is not None:
        return order_key(terms.perm_id, terms.client_id, terms.order_id) == query.broker_order_id
    return terms.order_ref is not None and terms.order_ref == query.client_order_id
