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
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from loguru import logger

from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.ib import rows, wire
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
    NoAnswer,
)
from brokers.ib.listener import Heard
from brokers.ib.reading import Lists, Reading, answer, in_doubt, read
from brokers.ib.rows import Read, Scope, WorkingOrder, order_key
from brokers.ib.sequence import FillSequence, Listing, began_before_today
from brokers.ib.session import GATEWAY, Session
from brokers.ib.wire import Execution, Notice, Unreadable
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
)
from brokers.port import Clock

OnEvent = Callable[[str | None], None]
"""Called with the instrument of which something has happened, with ``None`` when it may be any."""

_CONVENTIONS = Conventions(LegScheme.NET, CostBasis.WEIGHTED)
_REREADS = 2
_CLOCKS_APART = timedelta(minutes=5)
_CANCELLED = 202
_TOLD_BY_CODE = frozenset(str(code) for code in CONNECTIVITY_LOST | CONNECTIVITY_BACK)


class IbBroker:
    """One account behind TWS or IB Gateway; meets :class:`brokers.port.Broker`.

    ``account`` is our name of it, ``account_id`` IB's. ``client_id`` must be used by nobody else. ``sec_types`` are the
    security types looked after, ``None`` for all. ``instruments`` are those configured, each by symbol, localSymbol or
    conId: they are shown under exactly that name. ``timezone`` (IANA) is that of TWS, needed only where it sends the
    times of executions without one. ``timeout_s`` bounds each request, and three times as long a whole reading.
    ``backoff_s`` is the first wait before another attempt to reconnect; it doubles, with jitter. ``on_event`` is called
    in the loop when TWS tells of something by itself: with the instrument, or with ``None`` after a reconnect, a lost
    connection, and whatever may concern any of them.

    IB limits a client to 50 messages a second, over which it disconnects (TWS API documentation, "pacing"); ib_async
    holds them back at 45. A snapshot takes five, five more where something was executed since the last one, and none
    are sent between snapshots.
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
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._clock = clock
        self._scope = Scope(account_id, None if sec_types is None else frozenset(sec_types))
        self._names = Names(instruments, sec_types)
        self._zone: tzinfo | None = ZoneInfo(timezone) if timezone is not None else None
        self._zone_seen = self._zone
        self._lock = asyncio.Lock()
        self._session = Session(account, host, port, client_id, account_id, timeout_s, backoff_s, self._on_live)
        self._sequence = FillSequence()
        self._listing = Listing()
        self._day_ended = False
        self._read_generation = 0
        self._live_executions: dict[str, Heard] = {}

    def __repr__(self) -> str:
        return f"IbBroker({self._account!r}, {self._scope.account_id!r})"

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
        once and says so. Reconnects by itself. Raises ``Unreachable`` when nothing could be learned.
        """
        async with self._lock:
            ends_at = self._session.deadline()
            reading, moved = await self._read(ends_at)
            for _ in range(_REREADS):
                if not moved:
                    break
                reading, moved = await self._read(ends_at)
            self._session.in_touch()
            return self._snapshot(in_doubt(reading, moved), fills_since)

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

    async def close(self) -> None:
        """End the connection. Never raises; may be called twice."""
        await self._session.close()

    # -- reading ---------------------------------------------------------------------------------------------------

    def _scope_now(self) -> Scope:
        return replace(self._scope, others=self._session.others)

    def _errors(self) -> dict[tuple[int, int], Notice]:
        return {(self._client_id, order_id): told for order_id, told in self._session.errors.items()}

    async def _read(self, ends_at: float) -> tuple[Reading, frozenset[str]]:
        """One reading, and the instruments with executions that no reading before it had."""
        requested_at = self._clock()
        server_s = await self._server_time(ends_at)
        positions = await self._session.asked(POSITIONS, ends_at)
        held = positions if isinstance(positions, str) else rows.holdings(positions, self._scope_now())
        rest = await self._orders_and_executions(ends_at, server_s)
        lists = replace(rest, requested_at=requested_at, positions=held)
        if not lists.tell_anything():
            remedy = "The account counts as unverified; it is asked again by itself"
            raise Unreachable("read the account", self._account, str(lists.positions), remedy)
        reading = read(lists, self._names, self._errors())
        return reading, self._listing.moved(reading.listed)

    async def _server_time(self, ends_at: float) -> int:
        attempted = "read TWS's clock"
        try:
            answers = await self._session.ask(CURRENT_TIME, ends_at)
            return wire.server_time(answers[-1].fields if answers else ())
        except (NoAnswer, Declined) as error:
            raise Unreachable(attempted, self._account, str(error), GATEWAY) from None
        except Unreadable as error:
            raise Malformed(attempted, self._account, str(error), "It is asked again by itself") from None

    async def _orders_and_executions(self, ends_at: float, server_s: int | None = None) -> Lists:
        working = await self._session.asked(OPEN_ORDERS, ends_at)
        completed = await self._session.asked(COMPLETED_ORDERS, ends_at)
        executed = await self._session.asked(EXECUTIONS, ends_at)
        scope = self._scope_now()
        clock = self._clock() if server_s is None else datetime.fromtimestamp(server_s, UTC)
        return Lists(
            requested_at=clock,
            server_s=int(clock.timestamp()),
            positions="the positions were not asked for",
            working=working if isinstance(working, str) else rows.working_orders(working, scope),
            completed=completed if isinstance(completed, str) else rows.completed_orders(completed, scope),
            executions=executed if isinstance(executed, str) else self._executions(executed, scope, clock),
        )

    def _executions(self, found: list[Heard], scope: Scope, clock: datetime) -> Read[Execution]:
        """Those listed, and those that were told live and are not listed yet, or no longer."""
        latest = clock + _CLOCKS_APART
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
        elif heard.kind == wire.NOTICE:
            if len(heard.fields) > 3 and heard.fields[3] in _TOLD_BY_CODE:
                self._tell(None)
        elif heard.kind in (wire.POSITION, wire.OPEN_ORDER, wire.EXECUTION):
            if heard.kind == wire.EXECUTION and len(heard.fields) > 14:
                self._live_executions[heard.fields[14]] = heard
            self._tell_of(heard)
        elif heard.kind in (wire.ORDER_STATUS, 0):
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
        return order_key(terms.perm_id, terms.client_id, terms.order_id) == query.broker_order_id
    return terms.order_ref is not None and terms.order_ref == query.client_order_id
