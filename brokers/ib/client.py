"""The adapter of an Interactive Brokers account: one connection to TWS or IB Gateway, shared by all instruments.

The laws of this module:

* A list that did not come to its end is FAILED, and its connection is not used again (:mod:`brokers.ib.reader`).
* While TWS has lost its own connection (1100), nothing that it sends is taken for the state of the account. Every
  snapshot requests the executions, so fills of that time, or from before a reconnect, are found.
* The only request that changes anything is a cancellation. Orders placed by hand stay unbound, with client id 0 too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from loguru import logger

from brokers.clocks import ahead_of_ours
from brokers.errors import BrokerError, Refused, Unreachable, with_remedy
from brokers.executions import OnFill
from brokers.ib import wire
from brokers.ib.commissions import Commissions
from brokers.ib.contracts import Names
from brokers.ib.events import held_by_books, replaced, settled
from brokers.ib.executions import began_before_today
from brokers.ib.link import (
    CONNECTIVITY_BACK,
    CONNECTIVITY_LOST,
    Declined,
    NoAnswer,
)
from brokers.ib.lookup import ContractLookup
from brokers.ib.reader import Reader
from brokers.ib.reading import Reading, answer, without_commission
from brokers.ib.row_decoder import Heard
from brokers.ib.rows import Read, Scope, WorkingOrder, order_key
from brokers.ib.session import Session
from brokers.ib.stream import IbStream
from brokers.ib.wire import Notice
from brokers.kit.clock_words import clock_words
from brokers.kit.fill_cursor import FillCursor, before_second_of
from brokers.kit.foreign_row import BadRow
from brokers.kit.known_names import LookedUpNames
from brokers.model import (
    Complete,
    ContractFacts,
    Conventions,
    CostBasis,
    Cursor,
    Evidence,
    Failed,
    LegScheme,
    OrderAnswer,
    OrderQuery,
    Snapshot,
    is_provisional,
    problems_of,
)
from brokers.port import AccountFacts, Clock, OnEvent, Remembered, Stream, StreamState

_CONVENTIONS = Conventions(LegScheme.NET, CostBasis.WEIGHTED, commission_in_average=True, unique_client_ids=True)
"""TWS API documentation, ``avgCost``: the average cost of a position includes commissions."""
_CANCELLED = 202
_EVENTS_KEPT_S = 900
"""One interval and its possible delay. Not longer: another change of the same size would have another reason."""
_CONNECTIVITY_CODES = frozenset(str(code) for code in CONNECTIVITY_LOST | CONNECTIVITY_BACK)


class IbBroker:
    """One account behind TWS or IB Gateway; meets :class:`brokers.port.Broker`.

    ``account`` is our name for the account, ``account_id`` is IB's. No other program may use ``client_id``.
    ``sec_types`` are the security types in scope, ``None`` for all; a name whose row is of another type is unknown,
    never flat. ``instruments`` are the configured ones, each by symbol, localSymbol or conId; reports use exactly that
    name. ``timezone`` (IANA) is TWS's, needed only where TWS sends execution times without a zone. ``timeout_s`` bounds
    each request; a whole reading may take three times as long. ``backoff_s`` is the first wait before a reconnect; it
    doubles, with jitter. ``silence_s`` is how long the stream may receive nothing; at half of it the adapter requests
    TWS's clock.

    IB disconnects a client that sends more than 50 messages a second (TWS API documentation, "pacing");
    ``messages_per_s`` keeps below that. A whole snapshot takes five messages, two more where something was executed
    since the last one, and one for each contract with a day order whose trading hours are not known yet. Where TWS
    pushed every change since, two are enough. Where it pushed none, no message is needed (:meth:`undisturbed`), for at
    most ``full_every_s`` after a whole snapshot.
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
        silence_s: float = 12.0,
        full_every_s: float = 240.0,
    ) -> None:
        self.on_event: OnEvent | None = None
        self.on_fill: OnFill | None = None
        self._account = account
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._clock = clock
        self._scope = Scope(account_id, None if sec_types is None else frozenset(sec_types))
        self._names = Names(instruments, sec_types)
        self._lock = asyncio.Lock()
        self._session = Session(
            account, host, port, client_id, account_id, timeout_s, backoff_s, messages_per_s, self._on_live
        )
        zone = ZoneInfo(timezone) if timezone is not None else None
        self._commissions = Commissions(account)
        self._reader = Reader(
            account, self._session, client_id, self._scope, self._names, self._commissions, zone, full_every_s, clock
        )
        self._known = LookedUpNames(instruments, ContractLookup(self._session, sec_types))
        self._stream = IbStream(self, silence_s)
        self._sequence = FillCursor()
        self._read_generation = 0
        self._portfolio_began = False
        self._values: dict[str, tuple[str, str]] = {}
        self._place = f"{host}:{port}"
        self._sec_types = sec_types
        self._clock_words: str | None = None
        self._held_before: tuple[wire.Holding, ...] | None = None
        self._executed_before: frozenset[str] = frozenset()
        self._seen_events: dict[tuple[str, int], Evidence] = {}
        self._first_shown: tuple[int, tuple[wire.Holding, ...], tuple[wire.Execution, ...]] | None = None
        self._books: Mapping[str, Remembered] = {}
        self._books_judged = 0

    def __repr__(self) -> str:
        return f"IbBroker({self._account!r}, {self._scope.account_id!r})"

    @property
    def last_heard_at(self) -> datetime | None:
        """Our time when TWS last sent anything, requested or not; ``None`` before the first row."""
        return self._reader.last_heard_at

    @property
    def silent_s(self) -> float | None:
        """For how long TWS has sent nothing, by the monotonic clock; ``None`` before the first row."""
        return self._reader.silent_s()

    @property
    def in_touch(self) -> bool:
        """Whether the connection is up, and TWS has not lost its own connection to IB."""
        return self._session.alive

    @property
    def calls(self) -> int:
        """How many requests were sent to TWS, log-ons included."""
        return self._session.calls

    async def connect(self) -> None:
        """Open a new connection and check that its login has the configured account.

        While TWS has lost its own connection, ours is kept, because TWS reports its return over it. Raises
        ``Unreachable`` then, and when nobody answers; ``Refused`` when the client id is in use at the first attempt or
        the login has another account; ``Malformed`` when what answers is not a TWS.
        """
        async with self._lock:
            self._session.in_touch()
            await self._session.renew()

    async def snapshot(self, fills_since: Cursor | None, *, whole: bool = False) -> Snapshot:
        """Positions, the orders of all clients, and the fills after ``fills_since``, an epoch millisecond of TWS.

        ``as_of`` is the last moment before the second that TWS's clock showed just before the positions were requested,
        as executions are dated to whole seconds. TWS lists executions of its present day only: where that day ended
        since the cursor, the fills are FAILED once and say so. Without a cursor, the adapter waits until the second of
        the newest execution is over; otherwise the first positions could contain a fill that is dated after ``as_of``.
        Reconnects by itself. Raises ``Unreachable`` when nothing was learned.
        """
        async with self._lock:
            reading = await self._reader.now(beginning=fills_since is None, whole=whole)
            mistakes = await self._mistakes(reading)
            return self._snapshot(reading, fills_since, mistakes)

    async def _mistakes(self, reading: Reading) -> Mapping[str, str]:
        """Configured names for which TWS has no contract. A name that a row may mean, or that has a book, is none."""
        seen = {*reading.contracts, *reading.left_out, *self._names.pinned}
        sections = (reading.positions, reading.orders, reading.fills)
        seen |= {one.instrument for part in sections for one in problems_of(part) if one.instrument is not None}
        return await self._known.mistakes(seen, self._clock())

    def identify(self, identities: Mapping[str, str]) -> None:
        """Take the conIds of the books; meets :class:`brokers.port.Identifying`."""
        self._names.pin(identities)

    def described(self) -> AccountFacts:
        """What TWS reported of the account; meets :class:`brokers.port.Describing`. TWS API documentation, account
        values: ``NetLiquidation`` is in the account's base currency."""
        others = ", ".join(sorted(self._session.others))
        kind = self._values.get("AccountType", ("", ""))[0]
        words = [kind and f"account type {kind}", others and f"the login has {others} too"]
        return AccountFacts(
            login=self._scope.account_id,
            place=self._place,
            keeps="netting: one leg a contract; averages contain commissions",
            currency=self._values.get("NetLiquidation", ("", ""))[1] or None,
            clock=self._clock_words,
            products=f"sec_types {', '.join(self._sec_types)}" if self._sec_types else "all security types",
            permissions="; ".join(filter(None, words)) or None,
        )

    async def holds_nothing(self) -> bool | None:
        """Whether the account's values show no holding; ``None`` where they are not known; meets
        :class:`brokers.port.Corroborating`. TWS pushes them every three minutes and at each change of a position. TWS
        API documentation: ``GrossPositionValue`` covers stocks, options and funds; every other holding has a
        ``MaintMarginReq``."""
        reported: list[Decimal] = []
        for key in ("GrossPositionValue", "MaintMarginReq"):
            try:
                reported.append(wire.number(self._values.get(key, ("", ""))[0], key))
            except BadRow:
                continue
        if any(reported):
            return False
        return True if len(reported) == 2 else None

    def remember(self, books: Mapping[str, Remembered]) -> None:
        """Take what the books held before the first reading; meets :class:`brokers.port.Remembering`."""
        self._books = books

    def undisturbed(self) -> datetime | None:
        """When TWS last sent anything, where it has pushed no change of a position, an order or an execution since the
        last snapshot, and no late commission is due; else ``None``; meets :class:`brokers.port.Watched`. Holds for at
        most ``full_every_s`` after a whole snapshot: TWS does not push changes of orders of other clients, nor of those
        placed by hand."""
        followed = self.on_event is not None and self._stream.state is StreamState.LIVE
        return self._reader.undisturbed() if followed and not self._sequence.owes else None

    async def ping(self) -> None:
        """Request TWS's time, over a new connection where the old one has ended. Raises like :meth:`connect`."""
        async with self._lock:
            await self._reader.server_time(self._session.deadline())

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        """Find orders by permId, else by orderRef, among all open orders and today's completed ones, with today's
        fills. The answer is "no such order" only when every list came to its end and every row of it could be read."""
        if not queries:
            return ()
        try:
            async with self._lock:
                reading = await self._reader.orders_and_fills()
        except BrokerError as error:
            return tuple(OrderAnswer(query, failure=error.reason) for query in queries)
        return tuple(answer(query, reading) for query in queries)

    async def cancel_order(self, query: OrderQuery) -> None:
        """Ask TWS to cancel an open order, once, and wait for its response.

        TWS lets a client cancel its own orders only (TWS API documentation, cancelOrder): orders of another client and
        those placed by hand are ``Refused``. ``Unreachable`` when TWS did not report what became of the request.
        """
        attempted = f"cancel order {query.broker_order_id or query.client_order_id} of {query.instrument}"
        async with self._lock:
            try:
                order = self._cancellable(query, await self._reader.open_orders(), attempted)
                response = await self._session.cancel(order.terms.order_id)
            except (NoAnswer, Declined) as error:
                remedy = "It may have been cancelled all the same: look it up"
                raise Unreachable(attempted, self._account, str(error), remedy) from None
        if isinstance(response, Notice) and response.code != _CANCELLED:
            raise Refused(attempted, self._account, f"TWS said {response.code}: {response.text}", "Look the order up")

    def stream(self) -> Stream | None:
        """What TWS pushes over this connection; see :class:`brokers.ib.stream.IbStream`."""
        return self._stream

    async def close(self) -> None:
        """End the connection and receive nothing more. Never raises; may be called twice."""
        self._stream.close()
        await self._session.close()

    def _with_known_end(self, name: str, facts: ContractFacts) -> ContractFacts:
        """What TWS reports of a contract, with the last moment of trading that a book of an earlier process knows."""
        book = self._books.get(name)
        known = None if book is None else book.contract
        if facts.ends_at is not None or known is None or known.ends_at is None:
            return facts
        same = (known.identity, known.expiry) == (facts.identity, facts.expiry)
        return replace(facts, ends_at=known.ends_at) if same else facts

    # -- from a reading to a snapshot ------------------------------------------------------------------------------

    def _snapshot(self, reading: Reading, fills_since: Cursor | None, mistakes: Mapping[str, str]) -> Snapshot:
        now_ms = reading.lists.server_s * 1000
        ahead = ahead_of_ours(reading.lists.began_at, reading.lists.requested_at)
        zone = self._reader.zone_seen
        self._clock_words = clock_words(ahead, "UTC" if zone is None else str(zone))
        gap = self._gap(reading, fills_since, now_ms)
        fills, cursor = self._sequence.hand_out(reading.fills, fills_since, now_ms, gap=gap)
        if isinstance(fills, Complete):
            self._reader.handed_out()
        self._commissions.handed_out(without_commission(fills, reading.listed))
        self._note_events(reading)
        return Snapshot(
            requested_at=reading.lists.requested_at,
            as_of=before_second_of(reading.lists.began_at),
            positions=reading.positions,
            orders=reading.orders,
            fills=fills,
            fills_cursor=cursor,
            conventions=_CONVENTIONS,
            whole=not self._reader.carried,
            left_out={**mistakes, **reading.left_out},
            contracts={name: self._with_known_end(name, facts) for name, facts in reading.contracts.items()},
            evidence=self._evidence(reading),
        )

    def _note_events(self, reading: Reading) -> None:
        """Keep the evidence that this reading shows beside the one before it, until every consumer may have seen it."""
        positions, executions = reading.lists.positions, reading.lists.executions
        if isinstance(positions, str) or isinstance(executions, str) or not isinstance(reading.positions, Complete):
            return
        before = self._held_before
        self._held_before = positions.facts
        known, self._executed_before = self._executed_before, frozenset(one.exec_id for one in executions.facts)
        if self._first_shown is None:
            self._first_shown = reading.lists.server_s, positions.facts, executions.facts
        self._note_since_books()
        if before is None:
            return
        since = [one for one in executions.facts if one.exec_id not in known]
        for evidence in settled(before, positions.facts, since, self._names):
            self._seen_events[(evidence.instrument, reading.lists.server_s)] = evidence
        oldest = reading.lists.server_s - _EVENTS_KEPT_S
        self._seen_events = {key: one for key, one in self._seen_events.items() if key[1] >= oldest}

    def _note_since_books(self) -> None:
        """Compare the first reading with the books of an earlier process. They are handed over one by one."""
        if self._first_shown is None or len(self._books) == self._books_judged:
            return
        self._books_judged = len(self._books)
        at_s, shown, executed = self._first_shown
        known = [fact for fact in shown if self._is_holding_known(self._names.name(fact.contract))]
        for evidence in settled(held_by_books(self._books), known, executed, self._names):
            self._seen_events[(evidence.instrument, at_s)] = evidence

    def _is_holding_known(self, instrument: str) -> bool:
        """Whether its earlier holding is known. An instrument out of scope was in no book."""
        return instrument in self._books or not self._names.may_be_looked_after(instrument)

    def _evidence(self, reading: Reading) -> tuple[Evidence, ...]:
        held = () if isinstance(reading.lists.positions, str) else reading.lists.positions.facts
        found = replaced(self._names.pinned, held, self._names) if isinstance(reading.positions, Complete) else []
        return (*self._seen_events.values(), *found)

    def _gap(self, reading: Reading, fills_since: Cursor | None, now_ms: int) -> str | None:
        """Why fills after the cursor may be missing. During one connection the lists themselves show that a day has
        ended; for the time before it only the clock shows that."""
        if isinstance(reading.fills, Failed):
            return None
        first = self._read_generation != self._session.generation
        ended, self._reader.day_ended = self._reader.day_ended, False
        self._read_generation = self._session.generation
        if fills_since is None:
            return None
        if ended or (first and began_before_today(fills_since, now_ms, self._reader.zone_seen)):
            found = "TWS lists executions of its present day only, and a day has ended since they were last read"
            return with_remedy(found, "The positions contain them: look them up in the account's statement")
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
            placement = f"it was placed {placed}, and TWS lets client {self._client_id} cancel its own orders only"
            raise Refused(attempted, self._account, placement, "Cancel it where it was placed, or in TWS")
        return meant[0]

    # -- what TWS pushes -------------------------------------------------------------------------------------------

    def _on_live(self, row: Heard | None) -> None:
        """Wake the instruments that a pushed row concerns. ib_async emits no event for an execution or a status of an
        order that it does not know, so the adapter reads the rows themselves."""
        if row is None:
            self._portfolio_began = False
            self._values.clear()
            self._wake(None)
            return
        self._reader.hear(row)
        if row.kind == wire.NOTICE:
            if len(row.fields) > 3 and row.fields[3] in _CONNECTIVITY_CODES:
                self._reader.distrust()
                self._wake(None)
        elif row.kind in (wire.POSITION, wire.OPEN_ORDER, wire.EXECUTION):
            if row.kind == wire.EXECUTION:
                self._report_fill(row)
            self._wake_named_in(row)
        elif row.kind == wire.COMMISSION:
            self._on_commission(row)
        elif row.kind == wire.PORTFOLIO:
            self._on_portfolio(row)
        elif row.kind == wire.ACCOUNT_VALUE:
            self._on_value(row)
        elif row.kind == wire.PORTFOLIO_END:
            self._portfolio_began = True
        elif row.kind == wire.ORDER_STATUS:
            self._wake(self._reader.instrument_of.get(row.fields[6]) if len(row.fields) > 6 else None)
        elif row.kind == 0:
            self._wake(None)

    def _on_commission(self, row: Heard) -> None:
        """A late commission hands its fill out again and wakes the fill's instrument."""
        late = self._commissions.hear(row) if row.trouble is None else None
        if late is not None:
            self._sequence.hand_out_again(late)
            self._wake(late.instrument)

    def _on_value(self, row: Heard) -> None:
        try:
            key, value, currency, account = wire.account_value(row.fields)
        except BadRow:
            return  # an account value is only supporting evidence
        if account == self._scope.account_id:
            self._values[key] = value, currency

    def _on_portfolio(self, row: Heard) -> None:
        """Portfolio rows come with every move of a price: only a quantity that no position row showed is a change."""
        try:
            contract, held = wire.portfolio(row.fields)
        except BadRow:
            return  # the positions themselves decide, and each of their rows is checked
        if not self._scope.has_type(contract):
            return
        if self._reader.hear_portfolio(contract.con_id, held) and self._portfolio_began:
            self._wake_named_in(row)

    def _wake_named_in(self, row: Heard) -> None:
        begin = wire.CONTRACT_AT[row.kind]
        try:
            contract = wire.contract(row.fields[begin : begin + 11])
        except BadRow:
            self._wake(None)
            return
        if contract.sec_type == wire.BAG:
            self._wake(None)  # only the lists show which combination it is and whose legs it moves
            return
        if self._scope.has_type(contract):
            self._names.learn([contract])
            if row.kind == wire.OPEN_ORDER and len(row.fields) > 25:
                self._reader.instrument_of[row.fields[25]] = self._names.name(contract)
            self._wake(self._names.name(contract))

    def _wake(self, instrument: str | None) -> None:
        if self.on_event is None:
            return
        try:
            self.on_event(instrument)
        except Exception as error:  # noqa: BLE001 - a callback's error must not end the connection
            logger.error("{}: an internal error while waking {}: {!r}", self._account, instrument or "all", error)

    def _report_fill(self, row: Heard) -> None:
        if self.on_fill is None:
            return
        try:
            executed = self._reader.executed(row)
            if executed is not None:
                self.on_fill(executed)
        except Exception as error:  # noqa: BLE001 - as above; the look that follows finds it
            logger.error("{}: an internal error while passing on an execution: {!r}", self._account, error)


def _is_meant(query: OrderQuery, order: WorkingOrder) -> bool:
    terms = order.terms
    provisional = is_provisional(query.broker_order_id) and query.client_order_id is not None
    if query.broker_order_id is not None and not provisional:
        return order_key(terms.perm_id, terms.client_id, terms.order_id) == query.broker_order_id
    return terms.order_ref is not None and terms.order_ref == query.client_order_id
