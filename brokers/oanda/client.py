"""The OANDA adapter: one v20 account through the oandapyV20 SDK.

The laws of this module:

* A snapshot costs one request: AccountChanges since the last transaction read, merged into what is known. The account
  is read whole (AccountDetails) at first, after any doubt, and every ``full_every_s`` as a guard.
* What is known changes only by a reading that was decoded to the end; a failure leaves it as it was.
* An answer older than one already read, or one that lost rows without a transaction to explain it, is not believed: its
  sections are failed, and the next reading starts from it.
* ``as_of`` is never later than what the snapshot contains; see :func:`_as_of`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote as url_quote

from oandapyV20.endpoints import accounts, orders, trades, transactions

from brokers.clocks import BrokerTime, ahead_of_ours, broker_time
from brokers.errors import BrokerError, Malformed, Refused, with_remedy
from brokers.frozen import dataclass
from brokers.kit.clock_words import clock_words
from brokers.kit.foreign_row import BadAnswer, BadRow, Json, mapping, text
from brokers.kit.known_names import KnownNames
from brokers.kit.order_lookup import answer_each, is_meant
from brokers.kit.sdk_call import Answer
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
    OrderStatus,
    Partial,
    Section,
    Snapshot,
    section,
)
from brokers.oanda.account import (
    SECTION_REMEDY,
    Doubt,
    Merged,
    Reading,
    is_hedging,
    last_transaction,
    merge,
    read_details,
    with_rejections,
)
from brokers.oanda.decode import (
    ROW_REMEDY,
    Fills,
    OrderFacts,
    Trade,
    fill_row,
    fills_of,
    number,
    order_facts,
    order_row,
    rejected_row,
    trade,
    transaction_id,
)
from brokers.oanda.stream import OandaStream
from brokers.oanda.wire import AGAIN, PATH, Wire
from brokers.port import AccountFacts, Clock, Stream

REUSE_S = 1.0
"""The snapshot right after a connect reuses the connect's reading, if that is no older than this."""

PAGES = 20
"""How many pages of 1,000 transactions one snapshot reads. The next snapshots read the rest."""

_LOOK_BACK = 500
"""How many transactions before the first reading are searched for an order that was refused: one page of them."""

_NOT_FROM_THERE = frozenset({400, 404, 416})
"""OANDA answers 416 for an id out of range; 400 and 404 for one that it no longer recognises."""

_DISBELIEVED = "The account is read again in the next cycle, and believed when it shows the same"
_LOST = "The positions contain them: look them up in OANDA's transaction history"

_CONVENTIONS = Conventions(LegScheme.SIDED, CostBasis.FIFO, negative_prices=())


class _Gone(BadRow):
    """The broker says that it has no such thing."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """The last reading, and when it was requested."""

    reading: Reading
    requested_at: datetime
    full_at: datetime
    as_of: BrokerTime

    def learning(self, transactions: Sequence[object]) -> _Kept:
        """The same reading with the rejections in these older transactions."""
        return replace(self, reading=with_rejections(self.reading, transactions))


@dataclass(frozen=True, slots=True)
class _Taken:
    """A fresh reading: ``transactions`` are those after ``since`` where the answer had them, and ``stale`` is why it
    cannot be believed."""

    kept: _Kept
    transactions: tuple[Json, ...] = ()
    since: int | None = None
    stale: str | None = None


class OandaBroker:
    """One OANDA v20 account; meets :class:`brokers.port.Broker`.

    ``account`` is our name for the account, ``account_id`` is OANDA's. ``rest_url`` is the host part without ``/v3``.
    ``timeout_s`` bounds one request from its start to its last byte; a read is tried up to three times with
    exponential backoff and jitter from ``backoff_s``, and no attempt starts later than twice the time-out, so a call
    ends within about three of them. ``full_every_s`` is the age at which the account is read whole again.
    ``stream_url`` is the host part of the transaction stream. ``instruments`` are the configured names; one that the
    account does not have is left out, with the most similar ones.

    A position has the legs ``long`` and ``short``. OANDA's average price of a leg is the volume-weighted average of
    the open prices of its *open* trades, and an opposite order closes the oldest trades first. So a partial close moves
    the average to that of the remaining lots: ``CostBasis.FIFO``, with hedging or without. (Where a person closes a
    chosen trade out of turn, the broker's average is that of the other lots: a price drift, and a true one.)
    """

    def __init__(
        self,
        account: str,
        account_id: str,
        token: str,
        rest_url: str,
        timeout_s: float,
        clock: Clock,
        *,
        backoff_s: float = 0.25,
        full_every_s: float = 900.0,
        stream_url: str | None = None,
        instruments: Iterable[str] = (),
    ) -> None:
        self._account = account
        self._account_id = account_id
        self._clock = clock
        self._full_every = timedelta(seconds=full_every_s)
        self._wire = Wire(account, token, rest_url, timeout_s, backoff_s)
        self._stream = OandaStream(account, account_id, token, stream_url, clock) if stream_url is not None else None
        self._names = KnownNames(instruments, self._tradeable)
        self._reading_lock = asyncio.Lock()
        self._kept: _Kept | None = None
        self._looked_back = False
        self._unused = False
        self._place = rest_url
        self._details: Json = {}
        self._clock_words: str | None = None

    def __repr__(self) -> str:
        return f"OandaBroker({self._account!r}, {self._account_id!r})"

    @property
    def calls(self) -> int:
        """How many requests were sent to the broker, repeated ones included."""
        return self._wire.calls

    async def connect(self) -> None:
        """Read the account whole and check that it is ours; the snapshot right after it uses that reading.

        Starts afresh: what was known before proves nothing about what is read now. Raises as
        :meth:`brokers.port.Broker.connect` does.
        """
        async with self._reading_lock:
            taken = await self._read_whole(None)
            self._kept, self._unused = taken.kept, True

    async def snapshot(self, fills_since: Cursor | None, *, whole: bool = False) -> Snapshot:
        """The account now: one request, or as many more as older fills or a whole reading need.

        ``fills_cursor`` is always the cursor for the next request: after fills that could not be fetched it stays where
        it was; where the broker no longer has them it moves on, so that the gap is reported once and not for ever.
        """
        async with self._reading_lock:
            taken = await self._take(fills_since, whole=whole)
            fills, cursor, listed = await self._fills(taken, fills_since)
            taken = replace(taken, kept=taken.kept.learning(listed))
            self._kept, self._unused = taken.kept, False
        reading = taken.kept.reading
        mistakes = await self._names.mistakes(self._clock())
        failed = Failed(with_remedy(taken.stale, _DISBELIEVED)) if taken.stale is not None else None
        return Snapshot(
            requested_at=taken.kept.requested_at,
            as_of=taken.kept.as_of,
            positions=failed or reading.position_section(),
            orders=failed or reading.order_section(),
            fills=failed or fills,
            fills_cursor=cursor,
            conventions=_CONVENTIONS,
            whole=taken.kept.full_at == taken.kept.requested_at,
            left_out=mistakes,
        )

    def described(self) -> AccountFacts:
        """What AccountDetails states of the account; meets :class:`brokers.port.Describing`. OANDA v20 documentation,
        Account: ``hedgingEnabled``, ``currency``, ``guaranteedStopLossOrderMode``."""
        details, mode = self._details, self._details.get("hedgingEnabled")
        words = {True: "hedging: long and short side by side", False: "no hedging: an opposite order closes first"}
        kept = words[mode] if isinstance(mode, bool) else "hedging not stated"
        stops = details.get("guaranteedStopLossOrderMode")
        return AccountFacts(
            login=self._account_id,
            place=self._place,
            keeps=f"{kept}; legs long and short, averages of the open trades" if details else None,
            currency=str(details["currency"]) if details.get("currency") else None,
            clock=self._clock_words,
            products=None if self._names.known is None else f"{self._names.known} instruments",
            permissions=None if stops is None else f"guaranteed stops {str(stops).lower()}",
        )

    async def holds_nothing(self) -> bool | None:
        """Whether AccountSummary shows no margin in use; meets :class:`brokers.port.Corroborating`. OANDA v20
        documentation: ``positionValue`` and ``marginUsed`` are of the open positions."""
        attempted = "read the account's summary"
        try:
            answer = await self._wire.read(attempted, partial(accounts.AccountSummary, self._account_id))
            account = mapping(answer.payload.get("account"), "the account")
            values = [number(account, key) for key in ("positionValue", "marginUsed") if account.get(key) is not None]
        except (BrokerError, BadRow):
            return None
        return not any(values) if values else None

    async def _tradeable(self) -> frozenset[str] | None:
        """The names of everything that this account may trade; ``None`` where the broker has no such list."""
        try:
            endpoint = partial(accounts.AccountInstruments, self._account_id)
            payload = await self._get("read the instruments", endpoint)
        except _Gone:
            return None
        rows = payload.get("instruments")
        if not isinstance(rows, list):
            raise BadAnswer("the answer has no list of instruments")
        return frozenset(text(mapping(row, "the instrument"), "name") for row in rows)

    def stream(self) -> Stream | None:
        """The account's transaction stream, always the same object; the caller starts and closes it. ``None`` without a
        ``stream_url``."""
        return self._stream

    async def close(self) -> None:
        """Abort what is under way and close the connections. Never raises; may be called twice."""
        self._wire.close()

    # -- the account ---------------------------------------------------------------------------------------------

    async def _take(self, fills_since: Cursor | None, *, whole: bool) -> _Taken:
        kept, now = self._kept, self._clock()
        if kept is None:
            return await self._read_whole(fills_since)
        age = now - kept.requested_at
        if self._unused and timedelta(0) <= age <= timedelta(seconds=REUSE_S):
            return self._believed(_Taken(kept), fills_since)
        if not whole and kept.reading.whole and timedelta(0) <= now - kept.full_at < self._full_every:
            carried = await self._carry_on(kept)
            if carried is not None:
                return self._believed(carried, fills_since)
        return await self._read_whole(fills_since, kept)

    async def _carry_on(self, kept: _Kept) -> _Taken | None:
        """The kept reading with what changed since; ``None`` in any doubt."""
        requested_at, since = self._clock(), kept.reading.last
        try:
            answer = await self._wire.read(
                "read the account's changes",
                partial(accounts.AccountChanges, self._account_id, params={"sinceTransactionID": since}),
                _NOT_FROM_THERE,
            )
            if answer.status != 200:
                return None
            merged: Merged = merge(kept.reading, answer.payload, self._account_id)
        except (Doubt, Malformed):
            return None
        as_of = _as_of(merged.reading, answer, requested_at, floor=kept.as_of)
        fresh = _Kept(merged.reading, requested_at, kept.full_at, as_of)
        return _Taken(fresh, merged.transactions, since)

    async def _read_whole(self, fills_since: Cursor | None, kept: _Kept | None = None) -> _Taken:
        attempted = "read the account details"
        requested_at = self._clock()
        answer = await self._wire.read(attempted, partial(accounts.AccountDetails, self._account_id))
        self._check_account(attempted, answer.payload)
        ahead = None if answer.date is None else ahead_of_ours(answer.date, self._clock())
        self._clock_words = clock_words(ahead, "UTC")
        try:
            reading = read_details(answer.payload, kept.reading.ended if kept is not None else {})
        except BadAnswer as why:
            raise Malformed(attempted, self._account, str(why), AGAIN) from None
        stale = _not_after(reading, kept.reading) if kept is not None else None
        floor = kept.as_of if kept is not None and stale is None else None
        taken = _Taken(_Kept(reading, requested_at, requested_at, _as_of(reading, answer, requested_at, floor)))
        return self._believed(taken, fills_since) if stale is None else replace(taken, stale=stale)

    def _believed(self, taken: _Taken, fills_since: Cursor | None) -> _Taken:
        """The same, unless the caller has already seen a later transaction."""
        last = taken.kept.reading.last
        if fills_since is not None and fills_since > last:
            return replace(taken, stale=_older(last, fills_since))
        return taken

    def _check_account(self, attempted: str, payload: Json) -> None:
        account = payload.get("account")
        named = account.get("id") if isinstance(account, dict) else None
        if isinstance(named, str) and named and named != self._account_id:
            found = f"the broker answered for account {named}, and {self._account_id} is configured"
            raise Refused(attempted, self._account, found, "Check `account_id` and `token`")
        if not isinstance(named, str) or not named:
            raise Malformed(attempted, self._account, "an answer that does not say whose account it is", PATH)
        self._details = account if isinstance(account, dict) else {}

    # -- fills ---------------------------------------------------------------------------------------------------

    async def _fills(self, taken: _Taken, since: Cursor | None) -> tuple[Section[Fill], Cursor, list[Any]]:
        """The fills after ``since`` that the reading contains (and none after it), the next cursor, and the
        transactions that were listed for it."""
        last = taken.kept.reading.last
        if since is None or since >= last or taken.stale is not None:
            return Complete(), last, []
        if taken.since is not None and taken.since <= since:
            return *_filled(fills_of(taken.transactions, since=since, last=last)), []
        found: list[Any] = []
        reached = since
        for _ in range(PAGES):
            try:
                page = await self._page(reached)
            except _Gone:
                gap = f"the fills from there to {last} are not known"
                reason = f"the broker no longer lists the transactions after {since}: {gap}"
                return Failed(with_remedy(reason, _LOST)), last, found
            except BrokerError as error:
                return Failed(error.reason), since, found
            try:
                top = max((transaction_id(mapping(row, "a transaction"), "id") for row in page), default=reached)
            except BadRow as why:
                reason = f"the transactions after {reached} cannot be read: {why}"
                return Failed(with_remedy(reason, SECTION_REMEDY)), since, found
            if top <= reached:
                reason = f"the broker lists no transaction after {reached}, and its last one is {last}"
                return Failed(with_remedy(reason, SECTION_REMEDY)), since, found
            found += page
            reached = top
            if reached >= last:
                return *_filled(fills_of(found, since=since, last=last)), found
        read = fills_of(found, since=since, last=reached)
        return Partial(read.rows, read.problems), read.cursor, found

    async def _page(self, since: int) -> list[Any]:
        attempted = f"read the transactions after {since}"
        answer = await self._wire.read(
            attempted,
            partial(transactions.TransactionsSinceID, self._account_id, params={"id": since}),
            _NOT_FROM_THERE,
        )
        if answer.status != 200:
            raise _Gone
        rows = answer.payload.get("transactions")
        if not isinstance(rows, list):
            raise Malformed(attempted, self._account, "an answer without transactions", AGAIN)
        for row in rows:
            owner = row.get("accountID", self._account_id) if isinstance(row, dict) else self._account_id
            if owner != self._account_id:
                raise Malformed(attempted, self._account, "transactions of another account", "Check `account_id`")
        return rows

    # -- single orders -------------------------------------------------------------------------------------------

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        """One answer for each query. After a query that nobody answered the rest is not sent, so that a broker that is
        away costs one time-out and not one for each order."""
        return await answer_each(queries, self._find, _name, self._wire.scrub, ROW_REMEDY)

    async def _find(self, query: OrderQuery) -> OrderAnswer:
        attempted = f"read order {_name(query)} of {query.instrument}"
        try:
            payload = await self._get(attempted, partial(orders.OrderDetails, self._account_id, _specifier(query)))
        except _Gone:
            return OrderAnswer(query, order=await self._rejected(query))
        facts = order_facts(payload.get("order"), hedging=is_hedging(self._details))
        if query.broker_order_id is not None and facts.order_id != query.broker_order_id:
            raise BadRow(f"it is of order {facts.order_id}")
        if query.broker_order_id is None and facts.client_order_id != query.client_order_id:
            raise BadRow(f"it is of client order {facts.client_order_id}")
        filling, cancel = await self._ending(facts.filling_id), await self._ending(facts.cancelling_id)
        fill = fill_row(filling) if filling is not None else None
        if facts.state == "FILLED" and fill is None and facts.units is None:
            raise BadRow("it is FILLED, and no transaction shows how much of its trade it closed")
        order = order_row(facts, await self._trade(facts, fill), fill, cancel)
        return OrderAnswer(query, order, (fill,) if fill is not None else ())

    async def _ending(self, transaction: str | None) -> Json | None:
        """The transaction that ended an order; ``None`` where the broker names none or no longer has it. The order's
        own state has to do then."""
        try:
            return await self._transaction(transaction) if transaction is not None else None
        except _Gone:
            return None

    async def _rejected(self, query: OrderQuery) -> Order | None:
        """An order that was refused at creation: it exists only as the transaction that refused it.

        It is found by the id of that transaction, or by client id among the last ones; of several the latest counts.
        """
        if query.broker_order_id is None:
            await self._look_back()
        for order in reversed(self._kept.reading.ended_rows() if self._kept is not None else ()):
            if order.status is OrderStatus.REJECTED and is_meant(query, order, in_any_instrument=True):
                return order
        if query.broker_order_id is None:
            return None
        try:
            transaction = await self._transaction(query.broker_order_id)
        except _Gone:
            return None
        kind = text(transaction, "type")
        return rejected_row(transaction) if kind.endswith("_ORDER_REJECT") else None

    async def _look_back(self) -> None:
        """Read once which orders were refused before our first reading; changes carry the later refusals."""
        if self._looked_back or self._kept is None:
            return
        with contextlib.suppress(_Gone):
            listed = await self._page(max(0, self._kept.reading.last - _LOOK_BACK))
            self._kept = self._kept.learning(listed)
        self._looked_back = True

    async def _trade(self, facts: OrderFacts, fill: Fill | None) -> Trade | None:
        """The trade that an order depends on, where nothing else shows what the order works on."""
        if facts.trade_id is None or facts.units is not None or fill is not None:
            return None
        known = self._kept.reading.trades.get(facts.trade_id) if self._kept is not None else None
        if known is not None:
            return known
        attempted = f"read trade {facts.trade_id}"
        payload = await self._get(attempted, partial(trades.TradeDetails, self._account_id, url_quote(facts.trade_id)))
        return trade(payload.get("trade"))

    async def _transaction(self, transaction: str) -> Json:
        attempted = f"read transaction {transaction}"
        specifier = url_quote(transaction, safe="")
        payload = await self._get(attempted, partial(transactions.TransactionDetails, self._account_id, specifier))
        fields = mapping(payload.get("transaction"), "the transaction")
        if str(transaction_id(fields, "id")) != transaction:
            raise BadRow(f"requested transaction {transaction}, got {fields['id']}")
        if fields.get("accountID", self._account_id) != self._account_id:
            raise BadRow("the transaction is of another account")
        return fields

    async def _get(self, attempted: str, endpoint: Any) -> Json:
        """One object; raises :class:`_Gone` at OANDA's own 404, which means that there is no such thing."""
        answer = await self._wire.read(attempted, endpoint, {400, 404})
        if answer.status == 400:
            raise BadRow("the broker does not accept the id")
        if answer.status == 404:
            raise _Gone(f"the broker has none: {attempted}")
        return mapping(answer.payload, "the answer")

    async def cancel_order(self, query: OrderQuery) -> None:
        """Request the cancellation of a pending order, once. ``Refused`` when there is no such pending order."""
        attempted = f"cancel order {_name(query)} of {query.instrument}"
        endpoint = partial(orders.OrderCancel, self._account_id, _specifier(query))
        answer = await self._wire.write(attempted, endpoint, {404})
        if answer.status == 404:
            raise Refused(attempted, self._account, "the broker has no such pending order", "It has ended: look it up")
        try:
            last_transaction(answer.payload)
        except BadAnswer as why:
            raise Malformed(attempted, self._account, str(why), "It may have been cancelled: look it up") from None


def _specifier(query: OrderQuery) -> str:
    """OANDA v20 documentation: an OrderSpecifier is the order id, or the client order id after an ``@``."""
    if query.broker_order_id is not None:
        return url_quote(query.broker_order_id, safe="")
    return "@" + url_quote(query.client_order_id or "", safe="")


def _name(query: OrderQuery) -> str:
    return query.broker_order_id or f"@{query.client_order_id}"


def _older(last: int, known: int) -> str:
    return (
        f"the broker's last transaction is {last}, and {known} was already read: this answer is older than what is "
        f"known, or the account was set back"
    )


def _not_after(reading: Reading, known: Reading) -> str | None:
    """Why a whole reading cannot be of a later moment than the known one; ``None`` where it can."""
    if reading.last < known.last:
        return _older(reading.last, known.last)
    if reading.last == known.last and known.whole and reading.lost_from(known):
        return f"positions or orders changed with no transaction after {known.last}: one of two answers was wrong"
    return None


def _filled(read: Fills) -> tuple[Section[Fill], Cursor]:
    return section(read.rows, read.problems), read.cursor


def _as_of(reading: Reading, answer: Answer, requested_at: datetime, floor: BrokerTime | None) -> BrokerTime:
    """The broker's time of a reading: fills not after it are contained in the positions.

    Too late, and a fill that is not contained would count as contained; too early, and one that is contained would be
    applied again. Two times are certainly not too late: that of the newest transaction, trade or order in the reading;
    and the Date header (whole seconds, cut) less the time the answer took, as the broker read the account after our
    request. The later of the two is used, so in a quiet account it is near the present, and with transactions at hand
    it is exact. Only a full reading can be too early, by a second and a round trip, for a fill that closed a trade just
    before it; its cursor keeps such a fill from being handed out again. Our own clock is used where the broker sends no
    time at all. ``floor`` is the time of the earlier reading into which changes were merged.
    """
    known = [at for at in (reading.newest, floor, answer.looked_at) if at is not None]
    return max(known, default=broker_time(requested_at))
