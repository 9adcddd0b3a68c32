"""The adapter of an Interactive Brokers account: one connection to TWS or IB Gateway, shared by all instruments.

The laws of this module:

* Positions, orders and executions are asked for in this order, and again while something is executed in between. So
  every fill that the positions contain is in the executions, and none is there that they do not contain.
* A list that did not come to its end is FAILED, and its connection is not used again.
* While TWS has lost its own connection (1100), nothing it says is taken for the account; executions are asked for with
  every snapshot, so what was filled meanwhile is found.
* Whose account it is is proven with every connection.
* Nothing is sent that changes anything but a cancellation: with client id 0, too, orders placed by hand stay unbound.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import stamina
from loguru import logger

from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.ib import decode, wire
from brokers.ib.contracts import Names
from brokers.ib.decode import CompletedOrder, Read, Scope, WorkingOrder
from brokers.ib.link import (
    COMPLETED_ORDERS,
    CONNECTIVITY_BACK,
    CURRENT_TIME,
    EXECUTIONS,
    OPEN_ORDERS,
    POSITIONS,
    Declined,
    Link,
    NoAnswer,
    NotOpened,
    Request,
)
from brokers.ib.listener import Heard
from brokers.ib.sequence import FillSequence, Listing, began_before_today
from brokers.ib.wire import Execution, Holding, Notice, Unreadable
from brokers.model import (
    Complete,
    Conventions,
    CostBasis,
    Cursor,
    Failed,
    Fill,
    LegScheme,
    Order,
    OrderAnswer,
    OrderQuery,
    Partial,
    Position,
    RowProblem,
    Section,
    SectionName,
    Snapshot,
    problems_of,
    rows_of,
    section,
)
from brokers.port import Clock

OnEvent = Callable[[str | None], None]
"""Called with the instrument of which something has happened, with ``None`` when it may be any."""

_CONVENTIONS = Conventions(LegScheme.NET, CostBasis.WEIGHTED)
_PATIENCE = 3
"""A call's whole time, in time-outs."""
_REREADS = 2
_ATTEMPTS = 3
_CLOCKS_APART = timedelta(minutes=5)
_CANCELLED = 202
_GATEWAY = "Check that TWS or IB Gateway runs there, is logged in and lets API clients in (Settings, API)"


class _Busy(Exception):
    """The client id is still in use, or nobody answered yet; asked again when it is a reconnect."""

    def __init__(self, why: NotOpened) -> None:
        super().__init__(why.found)
        self.why = why


@dataclass(frozen=True, slots=True)
class _Raw:
    """The rows of one reading, or why there are none."""

    requested_at: datetime
    server_s: int
    positions: Read[Holding] | str
    working: Read[WorkingOrder] | str
    completed: Read[CompletedOrder] | str
    executions: Read[Execution] | str

    def tells_anything(self) -> bool:
        return any(isinstance(read, Read) for read in (self.positions, self.working, self.executions))


@dataclass(frozen=True, slots=True)
class _Reading:
    raw: _Raw
    positions: Section[Position]
    orders: Section[Order]
    fills: Section[Fill]
    moved: frozenset[str]
    day_ended: bool


class IbBroker:
    """One account behind TWS or IB Gateway; meets :class:`brokers.port.Broker`.

    ``account`` is our name of it, ``account_id`` IB's. ``client_id`` must be used by nobody else. ``sec_types`` are the
    security types looked after, ``None`` for all. ``instruments`` are those configured, each by symbol, localSymbol or
    conId: they are shown under exactly that name. ``timezone`` (IANA) is that of TWS, needed only where it sends the
    times of executions without one. ``timeout_s`` bounds each request, and three times as long a whole call.
    ``backoff_s`` is the first wait before another attempt to reconnect; it doubles, with jitter. ``on_event`` is called
    in the loop when TWS tells of something by itself: with the instrument, or with ``None`` after a reconnect, a lost
    connection, and whatever may concern any of them.

    IB limits a client to 50 messages a second, over which it disconnects (TWS API documentation, "pacing"); ib_async
    holds them back at 45. A snapshot takes five, and none are sent between snapshots.
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
        on_event: OnEvent | None = None,
    ) -> None:
        self.on_event = on_event
        self._account = account
        self._host = host
        self._port = port
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._clock = clock
        self._backoff_s = backoff_s
        self._scope = Scope(account_id, None if sec_types is None else frozenset(sec_types))
        self._names = Names(instruments, sec_types)
        self._zone: tzinfo | None = ZoneInfo(timezone) if timezone is not None else None
        self._zone_seen: tzinfo | None = self._zone
        self._lock = asyncio.Lock()
        self._link: Link | None = None
        self._moved_to: int | None = None
        self._was_connected = False
        self._calls = 0
        self._sequence = FillSequence()
        self._listing = Listing()
        self._first_reading = True
        self._live_executions: dict[str, Heard] = {}
        self._instrument_of: dict[int, str] = {}
        self._errors: dict[tuple[int, int], Notice] = {}

    def __repr__(self) -> str:
        return f"IbBroker({self._account!r}, {self._scope.account_id!r})"

    @property
    def calls(self) -> int:
        """How many requests have left for TWS, log-ons included."""
        return self._calls

    async def connect(self) -> None:
        """Open a new connection and prove that its login has the account configured.

        While TWS has lost its own connection the one to it is kept, as that is where it says when it is back: then, and
        when nobody answers, ``Unreachable``. ``Refused`` when the client id is in use at the first attempt or the login
        has another account, ``Malformed`` when what answers is no TWS.
        """
        async with self._lock:
            if self._link is not None and self._link.alive and self._link.lost is not None:
                raise self._out_of_touch(self._link.lost)
            await self._renew()

    async def snapshot(self, fills_since: Cursor | None) -> Snapshot:
        """Positions, the orders of all clients, and the fills after ``fills_since``, an epoch millisecond of TWS.

        ``as_of`` is TWS's clock just before the positions were asked for, less the second to which executions are
        dated. TWS tells executions of its present day only: where that ended since the cursor, the section is FAILED
        once and says so. Reconnects by itself. Raises ``Unreachable`` when nothing could be learned.
        """
        async with self._lock:
            ends_at = time.monotonic() + _PATIENCE * self._timeout_s
            link = await self._linked()
            reading = await self._read(link, ends_at)
            for _ in range(_REREADS):
                if not reading.moved:
                    break
                again = await self._read(link, ends_at)
                reading = replace(again, day_ended=again.day_ended or reading.day_ended)
            if link.lost is not None:
                raise self._out_of_touch(link.lost)
            return self._snapshot(reading, fills_since)

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        """Orders by permId, else by orderRef, among all open and today's completed ones, with today's fills. That there
        is none such is said only when both lists came to their end and every row of them could be read."""
        if not queries:
            return ()
        try:
            async with self._lock:
                link = await self._linked()
                raw = await self._orders_and_executions(link, time.monotonic() + _PATIENCE * self._timeout_s)
                if link.lost is not None:
                    raise self._out_of_touch(link.lost)
        except BrokerError as error:
            return tuple(OrderAnswer(query, failure=str(error)) for query in queries)
        reading = self._decode(raw)
        return tuple(_answer(query, reading) for query in queries)

    async def cancel_order(self, query: OrderQuery) -> None:
        """Ask TWS to cancel an open order, once, and wait for its word on it.

        TWS lets a client cancel its own orders only (TWS API documentation, cancelOrder): those of another client or
        placed by hand are ``Refused``. ``Unreachable`` when TWS did not say what became of the request.
        """
        attempted = f"cancel order {query.broker_order_id or query.client_order_id} of {query.instrument}"
        async with self._lock:
            link = await self._linked()
            try:
                rows = await self._ask(link, OPEN_ORDERS, time.monotonic() + self._timeout_s)
                order = self._cancellable(query, decode.working_orders(rows, self._scope_of(link)), attempted)
                self._calls += 1
                word = await link.cancel(order.terms.order_id, self._timeout_s)
            except (NoAnswer, Declined) as error:
                remedy = "It may have been cancelled all the same: look it up"
                raise Unreachable(attempted, self._account, str(error), remedy) from None
        if isinstance(word, Notice) and word.code != _CANCELLED:
            raise Refused(attempted, self._account, f"TWS said {word.code}: {word.text}", "Look the order up")

    async def close(self) -> None:
        """End the connection. Never raises; may be called twice."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    # -- the connection --------------------------------------------------------------------------------------------

    async def _linked(self) -> Link:
        """The connection, a new one where the old one has ended or is spent."""
        if self._link is None or not self._link.alive:
            await self._renew()
        link = self._link
        assert link is not None  # noqa: S101 - _renew has just set it or raised
        if link.lost is not None:
            raise self._out_of_touch(link.lost)
        return link

    async def _renew(self) -> None:
        old, self._link = self._link, None
        if old is not None:
            self._moved_to = old.moved_to or self._moved_to
            await old.close()
        try:
            async for attempt in stamina.retry_context(
                on=_Busy,
                attempts=_ATTEMPTS if self._was_connected else 1,
                timeout=_PATIENCE * self._timeout_s,
                wait_initial=self._backoff_s,
                wait_max=self._timeout_s,
                wait_jitter=self._backoff_s,
            ):
                with attempt:
                    self._link = await self._open()
        except _Busy as error:
            raise self._not_opened(error.why) from None
        again, self._was_connected, self._first_reading = self._was_connected, True, True
        if again:
            self._tell(None)

    async def _open(self) -> Link:
        link = Link(self._host, self._moved_to or self._port, self._client_id, self._on_live)
        self._calls += 1
        opened = False
        try:
            why_not = await link.open(self._timeout_s)
            if why_not is not None:
                if why_not.busy:
                    raise _Busy(why_not)
                raise self._not_opened(why_not)
            self._prove(link)
            opened = True
        finally:
            if not opened:
                self._moved_to = None  # the next attempt goes where the configuration says
                await link.close()
        return link

    def _prove(self, link: Link) -> None:
        if self._scope.account_id not in link.accounts:
            found = f"the login at {self._address} has {', '.join(link.accounts)}, and {self._scope.account_id} is"
            raise Refused(
                f"connect to account {self._scope.account_id}",
                self._account,
                f"{found} configured",
                "Log TWS in to the account configured, or correct account_id or port",
            )

    def _not_opened(self, why: NotOpened) -> BrokerError:
        attempted = f"connect to TWS at {self._address} as client {self._client_id}"
        if why.busy and not self._was_connected:
            remedy = (
                f"Another program is connected as client {self._client_id}: give this account a client_id of its own"
            )
            return Refused(attempted, self._account, why.found, remedy)
        if why.busy:
            remedy = "TWS may not have noticed yet that our last connection ended; it is tried again by itself"
            return Unreachable(attempted, self._account, why.found, remedy)
        if why.foreign:
            return Malformed(attempted, self._account, why.found, "Check host and port: something else answers there")
        if why.old:
            return Refused(attempted, self._account, why.found, "Update TWS or IB Gateway")
        return Unreachable(attempted, self._account, why.found, _GATEWAY)

    @property
    def _address(self) -> str:
        return f"{self._host}:{self._moved_to or self._port}"

    def _out_of_touch(self, words: str) -> Unreachable:
        return Unreachable(
            "read the account",
            self._account,
            f"the connectivity between TWS and IB is lost ({words})",
            "What TWS shows meanwhile may be old, so the account counts as unverified until TWS says that it is back",
        )

    def _scope_of(self, link: Link) -> Scope:
        return replace(self._scope, others=frozenset(link.accounts) - {self._scope.account_id})

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _ask(self, link: Link, request: Request, ends_at: float) -> list[Heard]:
        """Raises ``NoAnswer`` or ``Declined``."""
        left_s = min(self._timeout_s, ends_at - time.monotonic())
        if left_s <= 0:
            raise NoAnswer(f"{request.name}: not asked, as the time for it was used up")
        self._calls += 1
        return await link.ask(request, left_s)

    async def _asked(self, request: Request, ends_at: float) -> list[Heard] | str:
        """As above with a reason for an error; on a new connection where the last request has spent the old one."""
        try:
            link = await self._linked()
            return await self._ask(link, request, ends_at)
        except (NoAnswer, Declined) as error:
            return str(error)
        except BrokerError as error:
            return f"{request.name}: {error.found}"

    async def _read(self, link: Link, ends_at: float) -> _Reading:
        requested_at = self._clock()
        try:
            rows = await self._ask(link, CURRENT_TIME, ends_at)
            server_s = max(wire.server_time(row.fields) for row in rows)
        except (NoAnswer, Declined) as error:
            raise Unreachable("read TWS's clock", self._account, str(error), _GATEWAY) from None
        except ValueError as error:
            raise Malformed("read TWS's clock", self._account, str(error), "It is asked again by itself") from None
        positions = await self._asked(POSITIONS, ends_at)
        scope = self._scope_of(link)
        raw = replace(
            await self._orders_and_executions(link, ends_at, server_s),
            requested_at=requested_at,
            positions=positions if isinstance(positions, str) else decode.holdings(positions, scope),
        )
        if not raw.tells_anything():
            remedy = "The account counts as unverified; it is asked again by itself"
            raise Unreachable("read the account", self._account, str(raw.positions), remedy)
        return self._decode(raw)

    async def _orders_and_executions(self, link: Link, ends_at: float, server_s: int | None = None) -> _Raw:
        scope = self._scope_of(link)
        open_rows = await self._asked(OPEN_ORDERS, ends_at)
        completed = await self._asked(COMPLETED_ORDERS, ends_at)
        executed = await self._asked(EXECUTIONS, ends_at)
        for order_id, told in (self._link or link).errors.items():
            self._errors[(self._client_id, order_id)] = told
        clock = self._clock() if server_s is None else datetime.fromtimestamp(server_s, UTC)
        return _Raw(
            requested_at=clock,
            server_s=int(clock.timestamp()),
            positions="not asked",
            working=open_rows if isinstance(open_rows, str) else decode.working_orders(open_rows, scope),
            completed=completed if isinstance(completed, str) else decode.completed_orders(completed, scope),
            executions=executed if isinstance(executed, str) else self._executions(executed, scope, clock),
        )

    def _executions(self, rows: list[Heard], scope: Scope, clock: datetime) -> Read[Execution]:
        """Those listed, and those that were told live and are not listed (any more)."""
        latest = clock + _CLOCKS_APART
        listed = decode.executions(rows, scope, self._zone, latest)
        for one in listed.facts:
            self._live_executions.pop(one.exec_id, None)
            if one.zone is not None and self._zone is None:
                self._zone_seen = ZoneInfo(one.zone)
        live = decode.executions(self._live_executions.values(), scope, self._zone, latest)
        return Read((*listed.facts, *live.facts), (*listed.troubles, *live.troubles))

    def _decode(self, raw: _Raw) -> _Reading:
        reads = [read for read in (raw.positions, raw.working, raw.completed, raw.executions) if isinstance(read, Read)]
        contracts = decode.contracts(*reads)
        self._names.learn(contracts)
        self._instrument_of.update((c.con_id, self._names.name(c)) for c in contracts)
        executed = decode.executed(raw.executions) if isinstance(raw.executions, Read) else {}
        fills = Failed(raw.executions) if isinstance(raw.executions, str) else decode.fills(raw.executions, self._names)
        listed = [(f.instrument, f"{f.fill_id}:{f.quantity}:{f.price}") for f in rows_of(fills)]
        counted = isinstance(fills, Complete | Partial)
        day_ended = counted and self._listing.cut(listed)
        return _Reading(
            raw=raw,
            positions=(
                Failed(raw.positions)
                if isinstance(raw.positions, str)
                else decode.positions(raw.positions, self._names)
            ),
            orders=self._orders(raw, executed),
            fills=fills,
            moved=self._listing.moved(listed) if counted else frozenset(),
            day_ended=day_ended,
        )

    def _orders(self, raw: _Raw, executed: dict[str, decode.Executed]) -> Section[Order]:
        if isinstance(raw.working, str):
            return Failed(raw.working)
        if isinstance(raw.completed, Read):
            return decode.orders(raw.working, raw.completed, executed, self._names, self._errors)
        half = decode.orders(raw.working, Read(), executed, self._names, self._errors)
        lacking = RowProblem(SectionName.ORDERS, None, "completed orders", raw.completed)
        return section(rows_of(half), (*problems_of(half), lacking))

    def _snapshot(self, reading: _Reading, fills_since: Cursor | None) -> Snapshot:
        now_ms = reading.raw.server_s * 1000
        gap = None
        first, self._first_reading = self._first_reading, isinstance(reading.fills, Failed)
        if fills_since is not None and (
            reading.day_ended or (first and began_before_today(fills_since, now_ms, self._zone_seen))
        ):
            gap = "TWS lists executions of its present day only, and the day before ended since they were last read"
        fills, cursor = self._sequence.hand_out(reading.fills, fills_since, now_ms, gap=gap)
        if isinstance(fills, Complete | Partial):
            self._live_executions.clear()
        return Snapshot(
            requested_at=reading.raw.requested_at,
            # An execution is dated to its second: one made later in this second must still count as later.
            as_of=datetime.fromtimestamp(reading.raw.server_s, UTC) - timedelta(microseconds=1),
            positions=_in_doubt(reading.positions, reading.moved),
            orders=reading.orders,
            fills=fills,
            fills_cursor=cursor,
            conventions=_CONVENTIONS,
        )

    def _cancellable(self, query: OrderQuery, read: Read[WorkingOrder], attempted: str) -> WorkingOrder:
        found = [order for order in read.facts if _is_meant(query, order)]
        if len(found) != 1:
            many = f"{len(found)} open orders carry the orderRef {query.client_order_id!r}"
            none = "TWS shows no such open order" + (" among those that can be read" if read.troubles else "")
            raise Refused(attempted, self._account, many if found else none, "Look the order up")
        terms = found[0].terms
        if terms.client_id != self._client_id or not terms.order_id:
            placed = f"by client {terms.client_id}" if terms.order_id else "by hand in TWS"
            found_text = f"it was placed {placed}, and TWS lets client {self._client_id} cancel its own orders only"
            raise Refused(attempted, self._account, found_text, "Cancel it where it was placed, or in TWS")
        return found[0]

    # -- what TWS tells by itself ----------------------------------------------------------------------------------

    def _on_live(self, heard: Heard | None) -> None:
        """Wake whom it concerns. ib_async emits no event for an execution or a status of an order it does not know, so
        the rows themselves are listened to."""
        if heard is None:
            self._tell(None)
        elif heard.kind == wire.NOTICE:
            code = heard.fields[3] if len(heard.fields) > 3 else ""
            if code in {str(known) for known in CONNECTIVITY_BACK}:
                self._tell(None)
        elif heard.kind in wire.CONTRACT_AT and heard.kind != wire.COMPLETED_ORDER:
            if heard.kind == wire.EXECUTION and len(heard.fields) > 14:
                self._live_executions[heard.fields[14]] = heard
            self._tell_of(heard)
        elif heard.kind == wire.ORDER_STATUS or heard.kind == 0:
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
            self._tell(self._names.name(contract))

    def _tell(self, instrument: str | None) -> None:
        if self.on_event is None:
            return
        try:
            self.on_event(instrument)
        except Exception as error:  # noqa: BLE001 - a listener's error must not end the connection it listens to
            logger.error("{}: an error of ours while waking {}: {!r}", self._account, instrument or "all", error)


def _is_meant(query: OrderQuery, order: WorkingOrder) -> bool:
    terms = order.terms
    if query.broker_order_id is not None:
        return decode.order_key(terms.perm_id, terms.client_id, terms.order_id) == query.broker_order_id
    return terms.order_ref is not None and terms.order_ref == query.client_order_id


def _answer(query: OrderQuery, reading: _Reading) -> OrderAnswer:
    key, ref = query.broker_order_id, query.client_order_id
    orders = reading.orders
    if not isinstance(orders, Complete | Partial):
        return OrderAnswer(query, failure=orders.reason if isinstance(orders, Failed) else "TWS lists no orders")
    found = [
        order
        for order in orders.rows
        if (order.broker_order_id == key if key is not None else order.client_order_id == ref)
        and (key is not None or order.instrument == query.instrument)
    ]
    if len(found) > 1:
        return OrderAnswer(query, failure=f"{len(found)} orders of {query.instrument} carry the orderRef {ref!r}")
    if found and found[0].instrument != query.instrument:
        return OrderAnswer(query, failure=f"order {key} is one of {found[0].instrument}")
    if isinstance(reading.fills, Failed):
        if found and not found[0].filled_quantity:
            return OrderAnswer(query, found[0])
        return OrderAnswer(query, failure=f"its fills are not known: {reading.fills.reason}")
    whose = found[0].broker_order_id if found else key
    fills = tuple(
        fill
        for fill in rows_of(reading.fills)
        if (fill.broker_order_id == whose if whose is not None else fill.client_order_id == ref)
    )
    if found:
        return OrderAnswer(query, found[0], fills)
    problems = problems_of(orders)
    if problems:
        return OrderAnswer(query, failure=f"a row that could be it cannot be read: {problems[0].text}")
    if fills:
        return OrderAnswer(query, failure=f"TWS lists {len(fills)} executions of it, and the order in no list")
    return OrderAnswer(query)


def _in_doubt(positions: Section[Position], moved: frozenset[str]) -> Section[Position]:
    """The positions, less their word on instruments that were traded while they were read time and again."""
    if not moved or not isinstance(positions, Complete | Partial):
        return positions
    text = "its fills kept coming while the positions were read, so the two may not belong together"
    doubts = [RowProblem(SectionName.POSITIONS, instrument, None, text) for instrument in sorted(moved)]
    return Partial(positions.rows, (*problems_of(positions), *doubts))
