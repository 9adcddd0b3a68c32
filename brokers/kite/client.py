"""The Kite adapter: one Zerodha account through the kiteconnect SDK.

The laws of this module:

* At rest a snapshot costs four requests, for however many instruments. The holdings are one of them whatever is
  configured: a purchase that is no longer in ``net`` is looked for there before anything is concluded.
* Positions are requested first and trades last, so every fill that the positions contain is among the trades. A row of
  ``net`` carries the quantity traded today. Where that is not the sum of its trades, something was filled in between,
  and everything is requested again. What still does not agree is in doubt, and corrects no position.
* An answer that lost rows against an earlier one of the same day is not believed at once; see
  :mod:`brokers.kite.day_lists`.
* The end of a contract is read from its exchange's table outside the cycles; see :mod:`brokers.kite.contract_tables`.
* A refused token is not sent again for a while. A new one from its source is, at the next connect.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from math import floor
from typing import TypeVar
from urllib.parse import quote as url_quote

from loguru import logger

from brokers.clocks import BrokerTime, ahead_of_ours, broker_time
from brokers.errors import BrokerError, Malformed, Refused, Unreachable, with_remedy
from brokers.frozen import dataclass
from brokers.kit.clock_words import clock_words
from brokers.kit.doubt import settled
from brokers.kit.fill_cursor import before_second_of
from brokers.kit.foreign_row import BadAnswer, BadRow
from brokers.kit.known_names import LookedUpNames
from brokers.kit.order_lookup import answer_each, is_meant
from brokers.kit.sdk_call import Answer
from brokers.kite import decode, gtts, joined, sessions
from brokers.kite.contract_tables import ContractTables, Table, has_expiry
from brokers.kite.day_lists import Lasting, Morning, Orderbook, without_a_row
from brokers.kite.decode import IST, Listing, OrderRow, PositionRow
from brokers.kite.deliveries import Deliveries
from brokers.kite.netted import Netted
from brokers.kite.portfolio import DELIVERED, Names, Portfolio, misnamed, portfolio, siblings
from brokers.kite.positions_against_trades import Agreement, Clash, clashes, in_doubt
from brokers.kite.slices import of_whole
from brokers.kite.ticker import KiteStream
from brokers.kite.tradebook import Tradebook
from brokers.kite.wire import AGAIN, HOST, NO_SUCH_ORDER, RENEWAL, REQUESTS_PER_S, TABLE, Wire
from brokers.model import (
    Complete,
    ContractFacts,
    Cursor,
    Evidence,
    Failed,
    Fill,
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
from brokers.port import AccountFacts, Clock, Remembered, Stream

REFUSED_FOR_S = 30.0
"""How long a refused token is not sent again."""

_HOLDINGS_UNREAD = with_remedy(
    "the holdings are not taken up, as `include_holdings` is false",
    "Set `include_holdings: true` in the configuration",
)
TRADES_LATE_S = 10.0
"""How late the trades of a filled order may be listed. After that the adapter no longer waits for them."""

_TRIGGER_ID = re.compile(r"\d{1,12}", re.ASCII)
"""A trigger's id. An order's id is longer: it begins with its date."""

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class _Reading:
    """One round of requests. ``clashes`` are the places where positions and trades do not agree."""

    requested_at: datetime
    as_of: BrokerTime
    now_ms: int
    positions: Section[Position]
    orders: Section[Order]
    fills: Section[Fill]
    clashes: frozenset[Clash]
    aside: tuple[Position, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    unread_legs: Mapping[str, str] = field(default_factory=dict)
    isins: Mapping[str, str] = field(default_factory=dict)


class KiteBroker:
    """One Zerodha account; meets :class:`brokers.port.Broker`.

    ``access_token`` returns the day's token and is called at every :meth:`connect`, so that a new one is picked up
    where the old one was; it may raise ``Refused``. ``renewal`` says where a person puts a new one. ``user_id`` is the
    expected account, ``None`` for any; then the first one seen stays the only one. ``rest_url`` is the host part,
    ``None`` for Zerodha's. ``timeout_s`` bounds one request from its start to its last byte; a read is tried up to
    three times with exponential backoff and jitter from ``backoff_s``. At most ``requests_per_s`` requests are sent in
    a second (Kite Connect documentation: 10). ``stream_url`` is the ticker's host part. Where both URLs are ``None`` it
    is Zerodha's; where only ``rest_url`` is set there is no stream, so that the token goes to nobody else.

    A position has a leg for each product (CNC, MIS, NRML, MTF, CO), and with ``include_holdings`` the leg ``holdings``
    for delivered shares. Without it that leg is not read, and never flat; shares bought through the account go there
    all the same. A fill names its leg, and an order the leg it works on. Overnight, CNC becomes holdings.
    ``instruments`` are the configured ones, empty where the account has all: a holding that the broker shows on another
    exchange goes by its configured name.

    ``as_of`` is the second before the positions were read, by the Date header: Kite sends no other time and dates fills
    to the second. A fill of that second is contained all the same, and is in the snapshot's fills or in earlier ones.
    ``fills_cursor`` is an epoch millisecond; see :mod:`brokers.kite.tradebook`.
    """

    def __init__(
        self,
        account: str,
        api_key: str,
        access_token: Callable[[], str],
        user_id: str | None,
        rest_url: str | None,
        timeout_s: float,
        clock: Clock,
        *,
        include_holdings: bool = False,
        stream_url: str | None = None,
        backoff_s: float = 0.2,
        requests_per_s: float = REQUESTS_PER_S,
        renewal: str = RENEWAL,
        instruments: Iterable[str] = (),
    ) -> None:
        self._account = account
        self._access_token = access_token
        self._user_id = user_id
        self._clock = clock
        self._include_holdings = include_holdings
        self._wire = Wire(account, api_key, rest_url, timeout_s, backoff_s, requests_per_s, renewal)
        self._names = Names(instruments)
        self._stream: KiteStream | None = None
        if stream_url is not None or rest_url is None:
            named = self._names.shared
            self._stream = KiteStream(account, api_key, access_token, stream_url, clock, renewal=renewal, named=named)
        self._proven = False
        self._profile: Mapping[str, object] = {}
        self._clock_words: str | None = None
        self._token = ""
        self._refusal: tuple[str, Refused, datetime] | None = None
        self._orders = Orderbook()
        self._trades = Tradebook()
        self._lasting_legs = Lasting("positions", never_empties=True)
        self._books: Mapping[str, Remembered] = {}
        self._listed_names: dict[str, frozenset[str]] = {}
        self._contracts = ContractTables(account, self._table_of)
        self._deliveries = Deliveries(self._has_expired)
        self._netted = Netted()
        self._lasting_trades = Lasting("trades")
        self._agreement = Agreement()
        self._triggers: dict[str, str] = {}
        self._triggers_asked: set[str] = set()
        self._misnamed = misnamed(instruments)
        well_formed = [name for name in instruments if name not in self._misnamed]
        self._with_expiry = frozenset(filter(has_expiry, well_formed))
        self._known = LookedUpNames(well_formed, self._listed_like)
        self._morning = Morning()
        self._last_listed_at = broker_time(clock())  # by the broker's clock, when it last listed its orders

    @property
    def calls(self) -> int:
        """How many requests were sent to the broker, repeated ones included."""
        return self._wire.calls

    # -- whose account it is ---------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Take the present token from its source and check that it is the configured user's.

        Raises ``Unreachable`` when nobody answered; ``Refused`` with the words "log in again" for a session that is
        over, and for another user's; ``Malformed`` when the answer cannot be read.
        """
        attempted = "read the user's profile"
        self._proven = False
        if self._wire.misdirected:
            found = f"`rest_url` {self._wire.url} is not a host alone, and the SDK would leave the rest out"
            raise Refused(attempted, self._account, self._wire.scrub(found), HOST)
        token = self._access_token()
        if self._refusal is not None:
            refused_token, refusal, at = self._refusal
            if token == refused_token and abs(self._clock() - at) < timedelta(seconds=REFUSED_FOR_S):
                raise refusal
        self._token = token
        self._wire.use(token)
        await asyncio.to_thread(sessions.load)
        answer = await self._read(attempted, lambda kite: kite.profile())
        self._check_user(attempted, answer.payload)
        self._profile = answer.payload
        ahead = None if answer.date is None else ahead_of_ours(answer.date, self._clock())
        self._clock_words = clock_words(ahead, "IST")
        self._proven, self._refusal = True, None
        self._contracts.seek(self._with_expiry, _time_of(answer, self._clock()))

    def _check_user(self, attempted: str, profile: object) -> None:
        found = profile.get("user_id") if isinstance(profile, dict) else None
        if not isinstance(found, str) or not found:
            raise Malformed(attempted, self._account, "a profile without a user_id", AGAIN)
        if self._user_id is not None and found != self._user_id:
            words = f"the access token is of user {found}, and {self._user_id} is expected"
            refusal = Refused(attempted, self._account, words, "Check `user_id`, and log in again as that user")
            self._refusal = (self._token, refusal, self._clock())
            raise refusal
        # With any user allowed, the first one seen stays the only one: another user's rows must not join its books.
        self._user_id = found

    def described(self) -> AccountFacts:
        """What the user's profile states; meets :class:`brokers.port.Describing`. Kite Connect documentation, user
        profile: ``exchanges``, ``products`` and ``order_types`` are those enabled for the user."""
        kept = "in and out of the books" if self._include_holdings else "taken up where they were bought in the books"
        return AccountFacts(
            login=self._user_id,
            place=self._wire.url,
            keeps=f"a leg for each product, holdings {kept}; averages of all buys of a row",
            currency="INR",
            clock=self._clock_words,
            products=_listed_words(self._profile, "products", "exchanges"),
            permissions=_listed_words(self._profile, "order_types"),
        )

    def remember(self, books: Mapping[str, Remembered]) -> None:
        """Take what the books held; meets :class:`brokers.port.Remembering`. The day's first answers are checked
        against it."""
        totals = {
            name: sum((quantity for quantity, _ in book.legs.values()), Decimal(0)) for name, book in books.items()
        }
        self._morning.begin_with({name: total for name, total in totals.items() if total})
        self._books = books

    def identify(self, identities: Mapping[str, str]) -> None:
        """Take the ISINs of the books; meets :class:`brokers.port.Identifying`."""
        self._names.pin(identities)

    async def _read(self, attempted: str, call: Callable[..., object], expected: Collection[object] = ()) -> Answer:
        try:
            return await self._wire.read(attempted, call, expected)
        except Refused as error:
            self._note_refusal(error)
            raise

    def _note_refusal(self, error: Refused) -> None:
        if error.remedy == self._wire.log_in:
            self._proven = False
            self._refusal = (self._token, error, self._clock())

    # -- the snapshot ----------------------------------------------------------------------------------------------

    async def snapshot(self, fills_since: Cursor | None, *, whole: bool = False) -> Snapshot:  # noqa: ARG002 - always
        """Positions, orders and today's fills after ``fills_since``; always ``whole``. Kite lists no fill of an earlier
        day: fills after a cursor from such a day show only in the positions, and a warning is logged.

        Raises ``Refused`` as soon as the session has ended, whatever was learned before; else ``Unreachable``,
        ``Refused`` or ``Malformed`` when none of the three lists could be read.
        """
        if not self._proven:
            await self.connect()
        reading = await self._settled()
        gap = self._trades.gap(reading.fills, fills_since, reading.now_ms)
        if gap is not None:
            logger.warning("{}: {}; the positions contain them", self._account, gap)
        fills, cursor = self._trades.hand_out(reading.fills, fills_since, reading.now_ms)
        mistakes = await self._known.mistakes(self._seen(reading), self._clock())
        contracts = self._contract_facts(reading)
        return Snapshot(
            requested_at=reading.requested_at,
            as_of=reading.as_of,
            positions=reading.positions,
            orders=reading.orders,
            fills=fills,
            fills_cursor=cursor,
            conventions=decode.CONVENTIONS,
            left_out={**mistakes, **reading.left_out, **self._misnamed},
            unread_legs=reading.unread_legs,
            contracts=contracts,
            evidence=(*self._delivered(reading, contracts), *self._netted_of(reading)),
            aside=reading.aside,
        )

    def _seen(self, reading: _Reading) -> set[str]:
        """Every instrument that a row names or a book holds: the exchange has those."""
        parts = (reading.positions, reading.orders, reading.fills)
        seen = {row.instrument for part in parts for row in rows_of(part)} | {row.instrument for row in reading.aside}
        seen |= {one.instrument for part in parts for one in problems_of(part) if one.instrument is not None}
        return seen | reading.left_out.keys() | {name for name, book in self._books.items() if book.legs}

    async def _listed_like(self, name: str) -> Collection[str] | None:
        """The names of the exchange, from its table of the day; read once, as it is long, and for no other exchange."""
        exchange = name.partition(":")[0]
        if exchange not in self._listed_names:
            now = broker_time(self._clock())
            table = await (self._contracts.table(exchange, now) if has_expiry(name) else self._table_of(exchange))
            self._listed_names[exchange] = decode.instruments(table.content)
        return self._listed_names[exchange] or None

    async def _table_of(self, exchange: str) -> Table:
        attempted, requested_at = f"read the instruments of {exchange}", self._clock()
        answer = await self._read(attempted, lambda kite: kite.instruments(exchange), {TABLE})
        if not isinstance(answer.payload, bytes):
            raise BadAnswer("what is no table of instruments")
        return Table(answer.payload, _time_of(answer, requested_at))

    def _contract_facts(self, reading: _Reading) -> dict[str, ContractFacts]:
        """When each contract ends that is configured, shown or held in a book, and the ISIN of each holding. Starts
        reading the tables it lacks."""
        trades_known = isinstance(reading.fills, Complete)
        if trades_known:
            self._contracts.note_trades(reading.as_of)
        shown = {row.instrument for row in rows_of(reading.positions) if has_expiry(row.instrument)}
        held = {name for name, book in self._books.items() if book.legs and has_expiry(name)}
        self._contracts.seek(self._with_expiry | shown | held, reading.as_of)
        facts = self._contracts.facts(reading.as_of, trades_known=trades_known)
        return {name: ContractFacts(isin, "EQ", currency="INR") for name, isin in reading.isins.items()} | facts

    def _delivered(self, reading: _Reading, contracts: Mapping[str, ContractFacts]) -> tuple[Evidence, ...]:
        """Evidence of delivered options; none where holdings are not included."""
        if not self._include_holdings or not isinstance(reading.positions, Complete):
            return ()
        traded = {fill.instrument for fill in rows_of(reading.fills)}
        return self._deliveries.look(reading.positions.rows, contracts, traded, reading.as_of)

    def _netted_of(self, reading: _Reading) -> tuple[Evidence, ...]:
        """Evidence of sales that were delivered out of what was bought on the other exchange."""
        unknown = {one.instrument for one in problems_of(reading.positions)}
        known = isinstance(reading.positions, Complete | Partial) and isinstance(reading.fills, Complete)
        if not known or None in unknown or DELIVERED[0] in reading.unread_legs:
            return ()
        day = reading.as_of.astimezone(IST).date()
        traded = {one.instrument for one in rows_of(reading.fills) if one.time.astimezone(IST).date() == day}
        rows = rows_of(reading.positions)
        return self._netted.look(rows, reading.aside, self._books, _named(unknown), traded, reading.as_of)

    async def _settled(self) -> _Reading:
        """A reading whose parts agree, or the last of a few."""
        reading = await settled(self._round, lambda r: self._agreement.fresh(r.clashes, self._clock()))
        now = self._clock()
        fresh = self._agreement.fresh(reading.clashes, now)
        self._agreement.note(reading.clashes, now)
        believed_at = self._agreement.each_believed_at(fresh, now)
        return replace(reading, positions=in_doubt(reading.positions, fresh, believed_at))

    async def _round(self) -> _Reading:
        requested_at = self._clock()
        errors: list[BrokerError] = []
        net = await self._list("read the positions", lambda kite: kite.positions(), decode.positions, errors)
        held = await self._list("read the holdings", lambda kite: kite.holdings(), decode.holdings, errors)
        listed = await self._list("read the orders", lambda kite: kite.orders(), decode.orders, errors)
        traded = await self._list("read the trades", lambda kite: kite.trades(), decode.trades, errors)
        if all(isinstance(found, BrokerError) for found in (net, listed, traded)):
            raise errors[0]
        if not isinstance(held, BrokerError):
            self._names.learn_shares(held[0].rows.values())
        orders = await self._joined_to_triggers(self._orders_of(listed, requested_at))
        fills = self._fills_of(traded, orders, requested_at)
        looked_at = _looked_at((net, listed, traded), requested_at)
        positions, found = self._positions_of(net, held, fills, requested_at)
        unread = {} if self._include_holdings else {decode.HOLDINGS: _HOLDINGS_UNREAD}
        if isinstance(held, BrokerError) and not self._include_holdings:
            why = f"what is not in the day's positions may be in the holdings, and {held.reason}"
            unread = dict.fromkeys((decode.HOLDINGS, *DELIVERED), why)
        return _Reading(
            requested_at=requested_at,
            as_of=before_second_of(looked_at),
            now_ms=floor(looked_at.timestamp()) * 1000,
            positions=positions,
            orders=orders,
            fills=fills,
            clashes=frozenset()
            if isinstance(net, BrokerError)
            else clashes(joined.positions(net[0], self._names), fills),
            aside=() if self._include_holdings else found.holdings,
            left_out=found.left_out,
            unread_legs=unread,
            isins=found.isins,
        )

    async def _list(
        self,
        attempted: str,
        call: Callable[..., object],
        read: Callable[[object], Listing[RowT]],
        errors: list[BrokerError],
    ) -> tuple[Listing[RowT], Answer] | BrokerError:
        """One list of the broker, or why there is none. Raises ``Refused`` where the session has ended."""
        try:
            answer = await self._read(attempted, call)
            return read(answer.payload), answer
        except BadAnswer as why:
            error: BrokerError = Malformed(attempted, self._account, str(why), AGAIN)
        except BrokerError as failed:
            if isinstance(failed, Refused) and failed.remedy == self._wire.log_in:
                raise
            error = failed
        errors.append(error)
        return error

    def _positions_of(
        self,
        net: tuple[Listing[PositionRow], Answer] | BrokerError,
        held: tuple[Listing[PositionRow], Answer] | BrokerError,
        fills: Section[Fill],
        asked_at: datetime,
    ) -> tuple[Section[Position], Portfolio]:
        if isinstance(net, BrokerError):
            return Failed(net.reason), Portfolio(())
        day = _day(net[1], asked_at)
        doubt = self._lasting_legs.doubt(net[0], day, asked_at)
        if doubt is not None:
            return Failed(doubt), Portfolio(())
        trades = fills.rows if isinstance(fills, Complete) else None
        rows_of_net = joined.positions(net[0], self._names)
        found = portfolio(rows_of_net, None if isinstance(held, BrokerError) else held[0], self._names, trades)
        problems = rows_of_net.problems
        if not isinstance(held, BrokerError):
            problems = (*problems, *self._of_ours(held[0].problems))
            self._morning.begin_with(_totals(self._books))
            doubts = self._morning.doubts((*found.rows, *found.holdings), trades, day, asked_at)
            now = _time_of(net[1], asked_at)
            doubts = tuple(one for one in doubts if not self._has_expired(one.instrument or "", now))
            doubts = _with_other_names(doubts, (*found.rows, *found.holdings))
            problems = (*problems, *doubts)
            found = found.without(_named(one.instrument for one in doubts))
            unreadable = {one.instrument for one in problems}
            shown = {row.instrument for row in rows_of_net.rows.values()}
            shown |= {row.instrument for row in (*found.rows, *found.holdings)}
            problems = (*problems, *without_a_row(self._books, {*shown, *_named(unreadable)}, day, asked_at))
        elif self._include_holdings:
            problems = (*problems, RowProblem(SectionName.POSITIONS, None, decode.HOLDINGS, held.reason))
        rows = (*found.rows, *found.holdings) if self._include_holdings else found.rows
        return section(rows, problems), found

    def _has_expired(self, instrument: str, now: BrokerTime) -> bool:
        book = self._books.get(instrument)
        by_book = book is not None and book.contract is not None and book.contract.has_expired(now)
        return by_book or self._contracts.has_expired(instrument, now)

    def _of_ours(self, problems: tuple[RowProblem, ...]) -> tuple[RowProblem, ...]:
        """Unreadable holdings. Where they are not included, only those of an instrument traded through this account."""
        if self._include_holdings:
            return problems
        return tuple(one for one in problems if one.instrument is None or self._names.traded(one.instrument))

    def _orders_of(self, listed: tuple[Listing[OrderRow], Answer] | BrokerError, asked_at: datetime) -> Section[Order]:
        if isinstance(listed, BrokerError):
            return Failed(listed.reason)
        return self._orders.take(joined.orders(listed[0], self._names), _day(listed[1], asked_at), asked_at)

    async def _joined_to_triggers(self, orders: Section[Order]) -> Section[Order]:
        """The orders, each with its trigger as its parent where a trigger placed it. Triggers are requested when an
        order without a tag appears for the first time; a failure costs no order, and is retried at the next look."""
        if not isinstance(orders, Complete | Partial):
            return orders
        unexplained = {row.broker_order_id for row in orders.rows if _may_be_triggered(row)}
        if unexplained - self._triggers_asked:
            try:
                answer = await self._read("read the triggers", lambda kite: kite.get_gtts())
                self._triggers = gtts.placed_by(answer.payload)
                self._triggers_asked = unexplained
            except (BadAnswer, Malformed, Unreachable) as failed:
                logger.info("{}: {}", self._account, self._wire.scrub(str(failed)))
            except Refused as refused:
                if refused.remedy == self._wire.log_in:
                    raise
                self._triggers_asked = unexplained  # an app without this permission
        if not self._triggers:
            return orders
        named = (replace(row, parent=self._triggers.get(row.broker_order_id, row.parent)) for row in orders.rows)
        return replace(orders, rows=tuple(named))

    def _fills_of(
        self, traded: tuple[Listing[Fill], Answer] | BrokerError, orders: Section[Order], asked_at: datetime
    ) -> Section[Fill]:
        if isinstance(traded, BrokerError):
            return Failed(traded.reason)
        doubt = self._lasting_trades.doubt(traded[0], _day(traded[1], asked_at), asked_at)
        if doubt is not None:
            return Failed(doubt)
        known = {name: order for order in rows_of(orders) for name in (order.broker_order_id, *order.slices)}
        trades = joined.trades(traded[0], self._names)
        rows = [_of_order(fill, known.get(fill.broker_order_id or "")) for fill in trades.rows.values()]
        return section(rows, trades.problems)

    # -- single orders ---------------------------------------------------------------------------------------------

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        """One answer for each query, from today's list where the order is in it, else by its id.

        "No such order" is the broker's statement, for the id, or for the tag in a whole list of today's orders; an
        order of an earlier day that was seen working is answered with its end. After a query that nobody answered the
        rest is not sent, so that a broker that is away costs one time-out and not one for each order.
        """
        listed: Section[Order] | None = None

        async def find(query: OrderQuery) -> OrderAnswer:
            nonlocal listed
            listed = await self._todays_orders() if listed is None else listed
            return replace(await self._find(_as_kept(query), listed), query=query)

        return await answer_each(queries, find, _name, self._wire.scrub, decode.ROW_REMEDY)

    async def _todays_orders(self) -> Section[Order]:
        if not self._proven:
            await self.connect()
        requested_at = self._clock()
        answer = await self._read("read the orders", lambda kite: kite.orders())
        self._last_listed_at = _time_of(answer, requested_at)
        return self._orders.take(joined.orders(decode.orders(answer.payload), self._names), self._today, requested_at)

    @property
    def _today(self) -> date:
        return self._last_listed_at.astimezone(IST).date()

    async def _find(self, query: OrderQuery, listed: Section[Order]) -> OrderAnswer:
        order = _listed(query, listed)
        if order is None and query.broker_order_id is not None:
            order = await self._by_id(query.broker_order_id, query.instrument)
        elif order is None and not isinstance(listed, Complete):
            unread = with_remedy("some of today's orders cannot be read", decode.ROW_REMEDY)
            doubt = listed.reason if isinstance(listed, Failed) else unread
            return OrderAnswer(query, failure=f"order {_name(query)}: {doubt}")
        if order is None:
            named = query.broker_order_id, query.client_order_id
            awaited = self._orders.awaited(*named, self._last_listed_at)
            if awaited is not None:
                raise BadRow(awaited)
            gone = self._orders.ended_overnight(*named, self._today, self._last_listed_at)
            return OrderAnswer(query, gone)
        if order.instrument != query.instrument:
            raise BadRow(f"it is an order in {order.instrument}")
        return OrderAnswer(query, order, await self._fills_of_order(order) if order.filled_quantity else ())

    async def _by_id(self, order_id: str, instrument: str) -> Order | None:
        specifier = url_quote(order_id, safe="")
        attempted = f"read order {order_id} of {instrument}"
        answer = await self._read(attempted, lambda kite: kite.order_history(specifier), {NO_SUCH_ORDER})
        if answer.payload is NO_SUCH_ORDER:
            return await self._trigger(order_id, instrument) if _TRIGGER_ID.fullmatch(order_id) else None
        row = decode.history(answer.payload, order_id)
        row = replace(row, order=joined.order(row.order, self._names))
        return self._orders.whole_of(self._orders.later(row, self._today))

    async def _trigger(self, trigger_id: str, instrument: str) -> Order | None:
        """A trigger under its own id, which is how the strategy that recorded it knows it."""
        attempted = f"read trigger {trigger_id} of {instrument}"
        answer = await self._read(attempted, lambda kite: kite.get_gtt(trigger_id), {NO_SUCH_ORDER})
        return None if answer.payload is NO_SUCH_ORDER else joined.order(gtts.trigger_row(answer.payload), self._names)

    async def _fills_of_order(self, order: Order) -> tuple[Fill, ...]:
        fills: list[Fill] = []
        for order_id in (order.broker_order_id, *order.slices):
            now, own = await self._fills_of_part(order_id, order)
            fills += own
        total = sum((fill.quantity for fill in fills), Decimal(0))
        listed_at = self._listed_at(order)
        if total < order.filled_quantity and (listed_at is None or now <= listed_at):
            lacking = BadRow(f"{order.filled_quantity} are filled, and its trades do not add up to that")
            if listed_at is not None:
                lacking.again_at = self._clock() + (listed_at - now) + timedelta(seconds=1)
            raise lacking
        return tuple(fills)

    async def _fills_of_part(self, order_id: str, order: Order) -> tuple[BrokerTime, list[Fill]]:
        """The trades of an order, or of one slice of it, and the time of that answer."""
        specifier = url_quote(order_id, safe="")
        attempted = f"read the trades of order {order_id} of {order.instrument}"
        answer = await self._read(attempted, lambda kite: kite.order_trades(specifier))
        listing = joined.trades(decode.trades(answer.payload), self._names)
        if listing.problems:
            raise BadRow(f"a trade of it: {listing.problems[0].text}")
        if any(fill.broker_order_id != order_id for fill in listing.rows.values()):
            raise BadRow("trades of another order")
        return _time_of(answer, self._clock()), [_of_order(fill, order) for fill in listing.rows.values()]

    def _listed_at(self, order: Order) -> BrokerTime | None:
        """By when the trades of an order that has ended are listed, if ever; ``None`` where its last change is not
        known."""
        changed = [row.changed_at for row in self._orders.parts(order.broker_order_id, None)]
        known = [at for at in changed if at is not None]
        if not known or len(known) != len(changed) or not order.status.terminal:
            return None
        return max(known) + timedelta(seconds=TRADES_LATE_S)

    async def cancel_order(self, query: OrderQuery) -> None:
        """Request the cancellation of an order, once, under the variety in its row; of an order in several parts, that
        of each working part. ``Refused`` when there is no such order."""
        attempted = f"cancel order {_name(query)} of {query.instrument}"
        if not self._proven:
            await self.connect()
        query = _as_kept(query)
        parts = self._orders.parts(query.broker_order_id, query.client_order_id)
        if not parts:
            try:
                await self._todays_orders()
            except BadAnswer as why:
                raise Malformed(attempted, self._account, str(why), AGAIN) from None
            parts = self._orders.parts(query.broker_order_id, query.client_order_id)
        if not parts and query.broker_order_id is None:
            raise Refused(attempted, self._account, "no one order of today has this tag", "Look it up in Kite")
        if not parts:
            await self._cancel(attempted, query.broker_order_id or "", "regular", None)
        for row in [part for part in parts if not part.order.status.terminal] or parts[:1]:
            parent = row.parent_order_id if row.variety == "co" else None
            await self._cancel(attempted, row.order.broker_order_id, row.variety, parent)

    async def _cancel(self, attempted: str, order_id: str, variety: str, parent: str | None) -> None:
        specifier = url_quote(order_id, safe="")
        try:
            answer = await self._wire.write(
                attempted, lambda kite: kite.cancel_order(variety, specifier, parent), {NO_SUCH_ORDER}
            )
        except Refused as error:
            self._note_refusal(error)
            raise
        if answer.payload is NO_SUCH_ORDER:
            raise Refused(attempted, self._account, "the broker has no such order", "It has ended: look it up")
        cancelled = answer.payload.get("order_id") if isinstance(answer.payload, dict) else None
        if str(cancelled) != order_id:
            found = f"an answer about order {cancelled}"
            raise Malformed(attempted, self._account, found, "It may have been cancelled: look it up")

    def stream(self) -> Stream | None:
        """The user's order updates."""
        return self._stream

    async def close(self) -> None:
        """Abort what is under way and close the connections. Never raises; may be called twice."""
        if self._stream is not None:
            await asyncio.to_thread(self._stream.close)
        await self._contracts.close()
        self._wire.close()


def _as_kept(query: OrderQuery) -> OrderQuery:
    """The query with as much of its tag as Kite keeps."""
    if query.client_order_id is None:
        return query
    return replace(query, client_order_id=decode.CONVENTIONS.kept_of(query.client_order_id))


def _may_be_triggered(row: Order) -> bool:
    """Kite Connect documentation, GTT: a trigger places a limit order."""
    return row.order_type == "LIMIT" and row.client_order_id is None and row.parent is None and row.origin is None


def _of_order(fill: Fill, order: Order | None) -> Fill:
    """A trade with the fields that only its order carries."""
    if order is None:
        return fill
    return replace(of_whole(fill, order), client_order_id=order.client_order_id, reason=order.origin)


def _with_other_names(doubts: tuple[RowProblem, ...], rows: Iterable[Position]) -> tuple[RowProblem, ...]:
    """The doubts, and the same of what is held under the name of the other exchange: what is lacking may be in it."""
    shown, doubted = {row.instrument for row in rows}, {one.instrument for one in doubts}
    others = [
        replace(one, instrument=name)
        for one in doubts
        for name in siblings(one.instrument or "")
        if name in shown and name not in doubted
    ]
    return (*doubts, *others)


def _named(instruments: Iterable[str | None]) -> set[str]:
    return {name for name in instruments if name is not None}


def _totals(books: Mapping[str, Remembered]) -> dict[str, Decimal]:
    """The quantity of each instrument over all its legs."""
    totals = {name: sum((held for held, _ in book.legs.values()), Decimal(0)) for name, book in books.items()}
    return {name: total for name, total in totals.items() if total}


def _listed_words(profile: Mapping[str, object], *keys: str) -> str | None:
    """Lists of the profile in words; ``None`` where it has none of them."""
    lists = [(key, profile.get(key)) for key in keys]
    words = [f"{key.replace('_', ' ')} {', '.join(map(str, rows))}" for key, rows in lists if isinstance(rows, list)]
    return "; ".join(words) or None


def _looked_at(found: Iterable[tuple[object, Answer] | BrokerError], asked_at: datetime) -> BrokerTime:
    """The broker's time when it read the first list that came, or earlier: the Date header less the time the answer
    took. Our time where no answer carries one."""
    times = (one[1].looked_at for one in found if not isinstance(one, BrokerError))
    return next((at for at in times if at is not None), broker_time(asked_at))


def _day(answer: Answer, asked_at: datetime) -> date:
    """The trading day, by the broker's clock."""
    return _time_of(answer, asked_at).astimezone(IST).date()


def _time_of(answer: Answer, asked_at: datetime) -> BrokerTime:
    """The broker's time of an answer; ours if it states none."""
    return answer.date or broker_time(asked_at)


def _listed(query: OrderQuery, listed: Section[Order]) -> Order | None:
    """The queried order among today's. Raises :class:`BadRow` where several have its tag."""
    found = [row for row in rows_of(listed) if is_meant(query, row)]
    if len(found) > 1:
        raise BadRow(f"{len(found)} orders of today have this tag")
    return found[0] if found else None


def _name(query: OrderQuery) -> str:
    return query.broker_order_id or f"with tag {query.client_order_id}"
