"""The adapter of an Interactive Brokers account: one connection to TWS or IB Gateway, shared by all instruments.

The laws of this module:

* A list that did not come to its end is FAILED, and its connection is not used again (:mod:`brokers.ib.reader`).
* While TWS has lost its own connection (1100), nothing it says is taken for the account; executions are asked for with
  every snapshot, so what was filled meanwhile, or before a reconnect, is found.
* Nothing is sent that changes anything but a cancellation: with client id 0, too, orders placed by hand stay unbound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from loguru import logger

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
"""TWS API documentation, ``avgCost``: the average cost of a position, commissions in it."""
_CANCELLED = 202
_EVENTS_KEPT_S = 900
"""An interval and what may delay it; no longer, as another change of the same size has another reason."""
_TOLD_BY_CODE = frozenset(str(code) for code in CONNECTIVITY_LOST | CONNECTIVITY_BACK)


class IbBroker:
    """One account behind TWS or IB Gateway; meets :class:`brokers.port.Broker`.

    ``account`` is our name of it, ``account_id`` IB's. ``client_id`` must be used by nobody else. ``sec_types`` are the
    security types looked after, ``None`` for all; a name whose row is of another type is unknown, and never flat.
    ``instruments`` are those configured, each by symbol, localSymbol or
    conId: they are shown under exactly that name. ``timezone`` (IANA) is that of TWS, needed only where it sends the
    times of executions without one. ``timeout_s`` bounds each request, and three times as long a whole reading.
    ``backoff_s`` is the first wait before another attempt to reconnect; it doubles, with jitter. ``silence_s`` is how
    long its stream may hear nothing: it asks for TWS's clock at half of it.

    IB limits a client to 50 messages a second, over which it disconnects (TWS API documentation, "pacing"):
    ``messages_per_s`` keeps below it. A whole snapshot takes five, two more where something was executed since the last
    one, and one for each contract in which a day order works that was not seen before, for its hours; where TWS pushed
    all that changed since, two are enough, and where it pushed nothing, none (:meth:`undisturbed`), for at most
    ``full_every_s`` after a whole one.
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
        self._stream = IbStream(self, silence_s, clock)
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
        """Our time when TWS last said anything, asked or not; ``None`` before it did."""
        return self._reader.last_heard_at

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

    async def snapshot(self, fills_since: Cursor | None, *, whole: bool = False) -> Snapshot:
        """Positions, the orders of all clients, and the fills after ``fills_since``, an epoch millisecond of TWS.

        ``as_of`` is TWS's clock just before the positions were asked for, less the second to which executions are
        dated. TWS tells executions of its present day only: where that ended since the cursor, the section is FAILED
        once and says so. Without a cursor, the second of an execution made just now is waited out: only then is its
        time not after ``as_of``, as it must be for a fill that the first positions contain. Reconnects by itself.
        Raises ``Unreachable`` when nothing could be learned.
        """
        async with self._lock:
            reading = await self._reader.now(beginning=fills_since is None, whole=whole)
            mistakes = await self._mistakes(reading)
            return self._snapshot(reading, fills_since, mistakes)

    async def _mistakes(self, reading: Reading) -> Mapping[str, str]:
        """Configured names that TWS does not have. What a row may speak of, or a book is of, is none."""
        seen = {*reading.contracts, *reading.left_out, *self._names.pinned}
        sections = (reading.positions, reading.orders, reading.fills)
        seen |= {one.instrument for part in sections for one in problems_of(part) if one.instrument is not None}
        return await self._known.mistakes(seen, self._clock())

    def identify(self, identities: Mapping[str, str]) -> None:
        """The conIds of the books; meets :class:`brokers.port.Identifying`."""
        self._names.pin(identities)

    def described(self) -> AccountFacts:
        """What TWS told of the account; meets :class:`brokers.port.Describing`. TWS API documentation, account values:
        ``NetLiquidation`` is in the account's base currency."""
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
        """By the values of the account, which TWS pushes every three minutes and at each change of a position; meets
        :class:`brokers.port.Corroborating`. TWS API documentation: ``GrossPositionValue`` is of stocks, options and
        funds, and what is left has a ``MaintMarginReq``."""
        told: list[Decimal] = []
        for key in ("GrossPositionValue", "MaintMarginReq"):
            try:
                told.append(wire.number(self._values.get(key, ("", ""))[0], key))
            except BadRow:
                continue
        if any(told):
            return False
        return True if len(told) == 2 else None

    def remember(self, books: Mapping[str, Remembered]) -> None:
        """What the books held before the first reading; meets :class:`brokers.port.Remembering`."""
        self._books = books

    def undisturbed(self) -> datetime | None:
        """When TWS last said anything, where it has pushed no change of a position, an order or an execution since the
        last snapshot, nor the commission of a fill handed out without it; meets :class:`brokers.port.Watched`. For at
        most ``full_every_s`` after a whole one, as it does not push what becomes of orders of other clients and of
        those placed by hand."""
        followed = self.on_event is not None and self._stream.state is StreamState.LIVE
        return self._reader.undisturbed() if followed and not self._sequence.owes else None

    async def ping(self) -> None:
        """Ask TWS for its time, over a new connection where the old one has ended. Raises like :meth:`connect`."""
        async with self._lock:
            await self._reader.server_time(self._session.deadline())

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        """Orders by permId, else by orderRef, among all open and today's completed ones, with today's fills. That there
        is none such is said only when every list came to its end and every row of it could be read."""
        if not queries:
            return ()
        try:
            async with self._lock:
                reading = await self._reader.orders_and_fills()
        except BrokerError as error:
            return tuple(OrderAnswer(query, failure=error.reason) for query in queries)
        return tuple(answer(query, reading) for query in queries)

    async def cancel_order(self, query: OrderQuery) -> None:
        """Ask TWS to cancel an open order, once, and wait for its word on it.

        TWS lets a client cancel its own orders only (TWS API documentation, cancelOrder): those of another client or
        placed by hand are ``Refused``. ``Unreachable`` when TWS did not say what became of the request.
        """
        attempted = f"cancel order {query.broker_order_id or query.client_order_id} of {query.instrument}"
        async with self._lock:
            try:
                order = self._cancellable(query, await self._reader.open_orders(), attempted)
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

    # -- what it makes of a reading --------------------------------------------------------------------------------

    def _snapshot(self, reading: Reading, fills_since: Cursor | None, mistakes: Mapping[str, str]) -> Snapshot:
        now_ms = reading.lists.server_s * 1000
        ahead = datetime.fromtimestamp(reading.lists.server_s, UTC) - reading.lists.requested_at
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
            as_of=before_second_of(datetime.fromtimestamp(reading.lists.server_s, UTC)),
            positions=reading.positions,
            orders=reading.orders,
            fills=fills,
            fills_cursor=cursor,
            conventions=_CONVENTIONS,
            whole=not self._reader.carried,
            left_out={**mistakes, **reading.left_out},
            contracts=reading.contracts,
            evidence=self._evidence(reading),
        )

    def _note_events(self, reading: Reading) -> None:
        """What this reading shows beside the one before it, kept for as long as somebody may see it for the first
        time."""
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
        for told in settled(before, positions.facts, since, self._names):
            self._seen_events[(told.instrument, reading.lists.server_s)] = told
        oldest = reading.lists.server_s - _EVENTS_KEPT_S
        self._seen_events = {key: told for key, told in self._seen_events.items() if key[1] >= oldest}

    def _note_since_books(self) -> None:
        """What the first reading shows beside the books of before it: they are told one after the other."""
        if self._first_shown is None or len(self._books) == self._books_judged:
            return
        self._books_judged = len(self._books)
        at_s, shown, executed = self._first_shown
        known = [fact for fact in shown if self._is_told(self._names.name(fact.contract))]
        for told in settled(held_by_books(self._books), known, executed, self._names):
            self._seen_events[(told.instrument, at_s)] = told

    def _is_told(self, instrument: str) -> bool:
        """Whether it is known what was held of it before: what nobody looks after was not in any book."""
        return instrument in self._books or not self._names.may_be_looked_after(instrument)

    def _evidence(self, reading: Reading) -> tuple[Evidence, ...]:
        held = () if isinstance(reading.lists.positions, str) else reading.lists.positions.facts
        found = replaced(self._names.pinned, held, self._names) if isinstance(reading.positions, Complete) else []
        return (*self._seen_events.values(), *found)

    def _gap(self, reading: Reading, fills_since: Cursor | None, now_ms: int) -> str | None:
        """Why fills after the cursor may be lost. While one connection lasts the lists themselves show that a day has
        ended; what happened before it only the clock can tell."""
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
            told = f"it was placed {placed}, and TWS lets client {self._client_id} cancel its own orders only"
            raise Refused(attempted, self._account, told, "Cancel it where it was placed, or in TWS")
        return meant[0]

    # -- what TWS tells by itself ----------------------------------------------------------------------------------

    def _on_live(self, heard: Heard | None) -> None:
        """Wake whom it concerns. ib_async emits no event for an execution or a status of an order it does not know, so
        the rows themselves are listened to."""
        if heard is None:
            self._portfolio_began = False
            self._values.clear()
            self._tell(None)
            return
        self._reader.hear(heard)
        if heard.kind == wire.NOTICE:
            if len(heard.fields) > 3 and heard.fields[3] in _TOLD_BY_CODE:
                self._reader.distrust()
                self._tell(None)
        elif heard.kind in (wire.POSITION, wire.OPEN_ORDER, wire.EXECUTION):
            if heard.kind == wire.EXECUTION:
                self._tell_fill(heard)
            self._tell_of(heard)
        elif heard.kind == wire.COMMISSION:
            self._on_commission(heard)
        elif heard.kind == wire.PORTFOLIO:
            self._on_portfolio(heard)
        elif heard.kind == wire.ACCOUNT_VALUE:
            self._on_value(heard)
        elif heard.kind == wire.PORTFOLIO_END:
            self._portfolio_began = True
        elif heard.kind == wire.ORDER_STATUS:
            self._tell(self._reader.instrument_of.get(heard.fields[6]) if len(heard.fields) > 6 else None)
        elif heard.kind == 0:
            self._tell(None)

    def _on_commission(self, heard: Heard) -> None:
        """One of a fill that was handed out without it wakes the fill's instrument, to which it is handed out again."""
        late = self._commissions.hear(heard) if heard.trouble is None else None
        if late is not None:
            self._sequence.hand_out_again(late)
            self._tell(late.instrument)

    def _on_value(self, heard: Heard) -> None:
        try:
            key, value, currency, account = wire.account_value(heard.fields)
        except BadRow:
            return  # what is said of an account besides its rows is not worth more than it tells
        if account == self._scope.account_id:
            self._values[key] = value, currency

    def _on_portfolio(self, heard: Heard) -> None:
        """Its rows come for every move of a price: only a quantity that no position told is news."""
        try:
            contract, held = wire.portfolio(heard.fields)
        except BadRow:
            return  # the positions themselves are what counts, and they are read with every row proven
        if not self._scope.has_type(contract):
            return
        if self._reader.hear_portfolio(contract.con_id, held) and self._portfolio_began:
            self._tell_of(heard)

    def _tell_of(self, heard: Heard) -> None:
        begin = wire.CONTRACT_AT[heard.kind]
        try:
            contract = wire.contract(heard.fields[begin : begin + 11])
        except BadRow:
            self._tell(None)
            return
        if contract.sec_type == wire.BAG:
            self._tell(None)  # which of them it is, and whose legs it moves, only the lists tell
            return
        if self._scope.has_type(contract):
            self._names.learn([contract])
            if heard.kind == wire.OPEN_ORDER and len(heard.fields) > 25:
                self._reader.instrument_of[heard.fields[25]] = self._names.name(contract)
            self._tell(self._names.name(contract))

    def _tell(self, instrument: str | None) -> None:
        if self.on_event is None:
            return
        try:
            self.on_event(instrument)
        except Exception as error:  # noqa: BLE001 - a listener's error must not end the connection it listens to
            logger.error("{}: an internal error while waking {}: {!r}", self._account, instrument or "all", error)

    def _tell_fill(self, heard: Heard) -> None:
        if self.on_fill is None:
            return
        try:
            executed = self._reader.executed(heard)
            if executed is not None:
                self.on_fill(executed)
        except Exception as error:  # noqa: BLE001 - as above; the look that follows finds it
            logger.error("{}: an internal error while taking an execution: {!r}", self._account, error)


def _is_meant(query: OrderQuery, order: WorkingOrder) -> bool:
    terms = order.terms
    provisional = is_provisional(query.broker_order_id) and query.client_order_id is not None
    if query.broker_order_id is not None and not provisional:
        return order_key(terms.perm_id, terms.client_id, terms.order_id) == query.broker_order_id
    return terms.order_ref is not None and terms.order_ref == query.client_order_id
