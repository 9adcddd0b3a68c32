"""The adapter of an MT5 gateway: four reads over one REQ socket, as one consistent snapshot.

The laws of this module:

* A section whose action the gateway does not know is UNSUPPORTED; one that it declined or garbled is FAILED; neither is
  empty.
* Positions, orders and deals are requested in this order, and again while something is filled in between. So every fill
  that the positions contain is among the deals, and the deals contain no other.
* The login is checked at the start, after every lost connection or reply, and every few minutes: a terminal may be
  logged in elsewhere at any time.
* At rest a snapshot costs one request for each action that the gateway knows, for however many instruments.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from math import floor
from typing import TypeVar

from loguru import logger

from brokers.clocks import BrokerTime, broker_time
from brokers.errors import BrokerError, Malformed, Refused, Unreachable, with_remedy
from brokers.frozen import dataclass
from brokers.kit.clock_words import clock_words
from brokers.kit.doubt import FILLS_KEPT_COMING, Doubts, doubted, settled
from brokers.kit.fill_cursor import FillCursor, before_second_of
from brokers.kit.foreign_row import BadRow
from brokers.kit.known_names import KnownNames, mistaken, same_but_for_suffix
from brokers.kit.order_lookup import is_meant, with_its_fills
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
    Section,
    Snapshot,
    StreamedFill,
    Unsupported,
    problems_of,
    rows_of,
)
from brokers.mt5 import decode
from brokers.mt5.curve import ClientKeys
from brokers.mt5.deals import GUARD_S, OVERLAP_S, REMEMBERED, Movement, since
from brokers.mt5.gateway import ATTEMPTS, Answered, Deadline, Declined, Garbled, Gateway, Outcome, UnknownAction
from brokers.mt5.server_time import ServerTime
from brokers.mt5.stream import Mt5Stream
from brokers.mt5.vanished import Vanished
from brokers.port import AccountFacts, Clock, Stream

_PATIENCE = ATTEMPTS + 2
"""The time of a whole call, in time-outs: one action may use all of its attempts, and two more be answered slowly."""
_KEPT_COMING = with_remedy(FILLS_KEPT_COMING, "They are read again in the next cycle")
_IDENTITY_AGE = timedelta(minutes=5)
NAMELESS_S = 300.0
"""How long a deal that cannot be read, and names no instrument, is requested again."""
_REFUSALS = re.compile(
    r"unauthori[sz]ed|forbidden|permission|invalid (account|login|password|credential)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Reading:
    requested_at: datetime
    now_s: int
    positions: Section[Position]
    orders: Section[Order]
    fills: Section[Fill]
    moved: frozenset[str]
    error: BrokerError | None

    def knows_anything(self) -> bool:
        return any(isinstance(s, Complete | Partial) for s in (self.positions, self.orders, self.fills))


Row = TypeVar("Row", Position, Order, Fill)
_Read = Callable[[decode.Content, LegScheme], Section[Row]]


class Mt5Broker:
    """One MT5 account behind a gateway; meets :class:`brokers.port.Broker`.

    ``timeout_s`` bounds each attempt of a request. The attempts of a whole call share five times as long, and three
    times as long is added where the login has to be checked again. ``login`` is the expected account, ``None`` for any.
    ``backoff_s`` is the first wait before a repetition; it doubles, with jitter.

    A gateway without GET_ACCOUNT does not report its login. A configured ``login`` is then :attr:`unproven`: the log
    says so once, and only the endpoint identifies the account. An account whose margin mode is not reported has a leg
    for each ticket. The gateway's times may be the server's (see :mod:`brokers.mt5.server_time`); everything returned
    here is in UTC, except the cursor, which stays in the gateway's seconds. ``events_endpoint`` is the address of its
    PUB socket, ``None`` for a gateway without one. ``curve`` are the keys for both sockets, ``None`` where the gateway
    requires none. ``instruments`` are the configured symbols; one that the broker does not have is left out, with the
    most similar ones.
    """

    def __init__(
        self,
        account: str,
        endpoint: str,
        login: int | None,
        timeout_s: float,
        clock: Clock,
        *,
        backoff_s: float = 0.1,
        events_endpoint: str | None = None,
        curve: ClientKeys | None = None,
        instruments: Iterable[str] = (),
    ) -> None:
        self._account = account
        self._configured = tuple(instruments)
        self._names = KnownNames(self._configured, self._symbols)
        self._stream = (
            None
            if events_endpoint is None
            else Mt5Stream(account, events_endpoint, clock, curve=curve, read=self._executed)
        )
        self._endpoint = endpoint
        self._login = login
        self._timeout_s = timeout_s
        self._clock = clock
        self._gateway = Gateway(account, endpoint, timeout_s, clock, backoff_s, curve)
        self._legs = LegScheme.TICKET
        self._first_login: int | None = None
        self._zone_logged_s = 0
        self._unproven: str | None = None
        self._account_facts: decode.AccountFacts | None = None
        self._unsupported: set[str] = set()
        self._identified_at: datetime | None = None
        self._identified_generation = -1
        self._time = ServerTime()
        self._vanished = Vanished()
        self._nameless = Doubts[str](NAMELESS_S)
        self._sequence = FillCursor(remembered=REMEMBERED)
        self._movement = Movement()
        self._listed_from_s: int | None = None

    @property
    def calls(self) -> int:
        """How many requests were sent to the gateway, repeated ones included."""
        return self._gateway.calls

    @property
    def unproven(self) -> str | None:
        """Why the configured login could not be checked: the gateway does not report its own. ``None`` otherwise."""
        return self._unproven

    async def connect(self) -> None:
        """Open a new socket and check, as far as the gateway allows, that it serves the configured login.

        Raises ``Unreachable`` when nobody answered or the gateway is not ready, ``Refused`` for another login or an
        invalid endpoint, ``Malformed`` when the answer cannot be read.
        """
        self._gateway.forget()
        self._identified_at = None
        await self._identify(self._deadline())

    async def snapshot(self, fills_since: Cursor | None, *, whole: bool = False) -> Snapshot:  # noqa: ARG002 - always
        """Positions, orders and the deals after ``fills_since``, an epoch second of the gateway; always ``whole``.

        ``as_of`` is the last moment before the second that the gateway's clock showed just before the positions were
        requested, as deals are dated to whole seconds; it is never later than the true time. Where the gateway sends no
        time it is our clock. Raises ``Unreachable`` when the positions were not answered in time, and their error when
        no section is known at all.
        """
        deadline = self._deadline()
        if self._identity_is_due():
            await self._identify(deadline)
        legs = self._legs
        reading = await settled(partial(self._read, fills_since, deadline), lambda one: one.moved)
        if self._identity_is_due() and "GET_ACCOUNT" not in self._unsupported:
            # A reply was lost on the way: what came after it may be another account's.
            await self._identify(Deadline(ATTEMPTS * self._timeout_s))
        if self._legs is not legs:
            raise self._malformed("read the account", "its margin mode changed while it was read")
        if reading.error and not reading.knows_anything():
            raise reading.error
        mistakes = await self._names.mistakes(self._clock())
        return replace(self._snapshot(reading, fills_since), left_out=mistakes or self._unlike(reading))

    def described(self) -> AccountFacts:
        """What GET_ACCOUNT and PING reported; meets :class:`brokers.port.Describing`."""
        facts, may = (
            self._account_facts,
            {True: "it may trade", False: "it may not trade (investor password, or closed)"},
        )
        mode = "netting: one leg a symbol" if self._legs is LegScheme.NET else "hedging: a leg for each position"
        assumed = "" if facts is not None and facts.legs is not None else " (the gateway reports no margin mode)"
        skew = None if self._time.offset_s is None else self._time.skew
        return AccountFacts(
            login=None if self._first_login is None else f"{self._first_login}",
            place=None if facts is None else facts.server,
            keeps=f"{mode}{assumed}; averages by volume",
            currency=None if facts is None else facts.currency,
            clock=clock_words(skew, self._time.words),
            products=None if self._names.known is None else f"{self._names.known} symbols",
            permissions=None if facts is None or facts.may_trade is None else may[facts.may_trade],
        )

    async def holds_nothing(self) -> bool | None:
        """Whether no margin is in use; ``None`` where it is not known; meets :class:`brokers.port.Corroborating`."""
        try:
            facts = await self._facts("GET_ACCOUNT", Deadline(ATTEMPTS * self._timeout_s))
        except BrokerError:
            return None
        return None if facts is None or facts.margin is None else not facts.margin

    async def _symbols(self) -> frozenset[str] | None:
        """Every symbol of the broker; ``None`` where the gateway does not list them."""
        outcome = await self._ask("GET_SYMBOLS", Deadline(ATTEMPTS * self._timeout_s))
        symbols = outcome.content.get("symbols") if isinstance(outcome, Answered) else None
        return frozenset(map(str, symbols)) if isinstance(symbols, list) else None

    def _unlike(self, reading: _Reading) -> dict[str, str]:
        """Configured symbols of which nothing is held, while one that differs only in a suffix or in case is held and
        not configured. Where the gateway lists no symbols, that is the mistake."""
        held = {row.instrument for row in rows_of(reading.positions)}
        others = held - set(self._configured)
        absent = [name for name in self._configured if name not in held and others]
        return mistaken([name for name in absent if any(same_but_for_suffix(name, one) for one in others)], others)

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        """Find orders by their ticket, else by their comment among the instrument's orders; filled ones with their
        deals. The gateway's "no such order" covers today's orders only."""
        deadline = self._deadline()
        return tuple([replace(await self._find(query, deadline), query=query) for query in queries])

    async def cancel_order(self, query: OrderQuery) -> None:
        """Always ``Refused``: the gateway's protocol has no action that changes anything."""
        raise Refused(
            f"cancel order {query.broker_order_id or query.client_order_id} of {query.instrument}",
            self._account,
            "the protocol of the MT5 gateway has no action that cancels an order",
            "Cancel it in the terminal, and set cancel_stale_orders to false for this account",
        )

    def stream(self) -> Stream | None:
        """The gateway's events; ``None`` where no ``events_endpoint`` is configured."""
        return self._stream

    def _executed(self, event: decode.Content) -> StreamedFill | None:
        """The execution in an event, where it is of the checked login and its time is known. Runs in the stream's
        thread. The next snapshot finds what is not certain here."""
        login = self._first_login
        proven = login is not None and self._identified_at is not None
        if not proven or event.get("event") != "deal" or str(event.get("login")) != str(login):
            return None
        try:
            fill = decode.streamed(event, self._legs)
        except BadRow:
            return None
        return None if fill is None else self._time.streamed(fill, self._clock())

    async def close(self) -> None:
        """Release the socket, without waiting for anything still in transit."""
        if self._stream is not None:
            await asyncio.to_thread(self._stream.close)
        self._gateway.close()

    # -- whose account it is, and the server's time ----------------------------------------------------------------

    def _deadline(self) -> Deadline:
        return Deadline(_PATIENCE * self._timeout_s)

    def _identity_is_due(self) -> bool:
        if self._identified_at is None or self._identified_generation != self._gateway.generation:
            return True
        reported = not {"GET_ACCOUNT", "PING"} <= self._unsupported
        return reported and abs(self._clock() - self._identified_at) > _IDENTITY_AGE

    async def _identify(self, deadline: Deadline) -> None:
        if self._identified_at is None or self._identified_generation != self._gateway.generation:
            self._unsupported.clear()
        self._identified_at = None
        facts = await self._facts("GET_ACCOUNT", deadline)
        if facts is None:
            if self._first_login is not None:
                raise self._malformed(f"prove login {self._first_login}", "the gateway no longer knows GET_ACCOUNT")
            self._legs = LegScheme.TICKET
            self._doubt_login()
        else:
            self._check_login(facts.login)
            self._unproven = None
            self._legs = facts.legs or LegScheme.TICKET
            self._account_facts = facts
        if facts is None or facts.time_s is None:
            await self._facts("PING", deadline)  # for its time
        self._identified_at = self._clock()
        self._identified_generation = self._gateway.generation

    def _doubt_login(self) -> None:
        if self._login is None or self._unproven is not None:
            return
        found = (
            f"login {self._login} cannot be proven: the gateway at {self._endpoint} does not know GET_ACCOUNT, and so "
            "does not report which login it serves"
        )
        self._unproven = with_remedy(found, "Check in the terminal which account it is logged in to, and `endpoint`")
        logger.warning("{}: {}", self._account, self._unproven)

    async def _facts(self, action: str, deadline: Deadline) -> decode.AccountFacts | None:
        """The reply to GET_ACCOUNT or PING; ``None`` where the gateway has no such action."""
        if action == "GET_ACCOUNT":
            self._time.forget()
        outcome = await self._ask(action, deadline)
        if isinstance(outcome, UnknownAction):
            return None
        if not isinstance(outcome, Answered):
            if action == "PING":
                return None  # only its time is wanted, which is not essential
            words = f"the gateway said: {outcome.words}" if isinstance(outcome, Declined) else outcome.found
            raise self._error(action, outcome, words)
        try:
            facts = decode.account(outcome.content)
        except BadRow as error:
            raise self._malformed(f"read {action}", str(error)) from None
        if facts.time_s is not None:
            self._time.observe(facts.time_s, outcome.received_at)
            if self._time.zone_s != self._zone_logged_s:
                self._zone_logged_s = self._time.zone_s
                logger.info("{}: the gateway sends the server's time, {}", self._account, self._time.words)
        return facts

    def _check_login(self, found: int | None) -> None:
        if found is None and self._login is not None:
            raise self._malformed(f"prove login {self._login}", "the reply to GET_ACCOUNT carries no login")
        # With any login allowed, the first one seen stays the only one: another login's rows must not join its books.
        expected = self._login if self._login is not None else self._first_login
        if expected is not None and found != expected:
            raise Refused(
                f"connect to login {expected} at {self._endpoint}",
                self._account,
                f"the gateway serves login {found}, expected {expected}",
                "Log the terminal in to the account expected, or correct login or endpoint in the configuration",
            )
        self._first_login = found

    def _now_s(self, ours: datetime) -> int:
        return floor(ours.timestamp() + (self._time.offset_s or 0.0))

    def _as_of(self, requested_at: datetime) -> BrokerTime:
        if self._time.offset_s is None:
            return broker_time(requested_at)
        return before_second_of(broker_time(requested_at + self._time.skew))

    # -- the sections ----------------------------------------------------------------------------------------------

    async def _read(self, fills_since: Cursor | None, deadline: Deadline) -> _Reading:
        requested_at = self._clock()
        now_s = self._now_s(requested_at)
        requested_since = since(fills_since, now_s, clockless=self._time.offset_s is None)
        if self._listed_from_s is not None:
            # Several looks a second move a cursor ahead of the clock: nothing after the last whole list is left out.
            requested_since = max(0, min(requested_since, self._listed_from_s - GUARD_S))
        outcome = await self._ask("GET_POSITIONS", deadline, symbol="*")
        positions = self._decoded("GET_POSITIONS", outcome, decode.positions)
        if isinstance(positions, Unsupported):
            positions = Failed("the gateway does not know GET_POSITIONS, without which nothing can be verified")
        orders = await self._section("GET_ORDERS", self._orders, deadline, symbol="*")
        fills = await self._section("GET_DEALS", self._fills, deadline, symbol="*", since=requested_since)
        error = None
        if isinstance(positions, Failed):
            error = self._error("GET_POSITIONS", outcome, positions.reason)
            positions = Failed(with_remedy(positions.reason, error.remedy))
        moved = self._movement.since_last(fills, orders)
        if self._vanished.doubted(positions, fills, moved):
            positions = await self._second_source(positions, deadline)
        return _Reading(requested_at, now_s, positions, orders, fills, moved, error)

    def _orders(self, content: decode.Content, legs: LegScheme) -> Section[Order]:
        return self._time.orders(decode.orders(content, legs))

    def _fills(self, content: decode.Content, legs: LegScheme) -> Section[Fill]:
        return self._time.fills(decode.fills(content, legs), self._clock())

    async def _second_source(self, positions: Section[Position], deadline: Deadline) -> Section[Position]:
        """Believe that all positions are gone where the account has no margin in use."""
        facts = await self._facts("GET_ACCOUNT", deadline)
        margin = None if facts is None else facts.margin
        if margin is not None and not margin and isinstance(positions, Complete):
            self._vanished.believe(positions)
            return positions
        return self._vanished.failed(margin)

    def _handed_out(
        self, fills: Section[Fill], cursor: Cursor | None, now_s: int, overlap_s: int
    ) -> tuple[Section[Fill], Cursor]:
        """The fills after the cursor. An unreadable deal that names no instrument holds back the cursor of all; after
        :data:`NAMELESS_S` it is left behind, and stays reported as a problem while it is listed."""
        now = self._clock()
        nameless = [problem.text for problem in problems_of(fills) if problem.instrument is None]
        waited = bool(nameless) and len(nameless) == len(problems_of(fills)) and not self._nameless.fresh(nameless, now)
        self._nameless.note(nameless, now)
        if not waited or not isinstance(fills, Partial):
            return self._sequence.hand_out(fills, cursor, now_s, overlap=overlap_s)
        handed, last = self._sequence.hand_out(Complete(fills.rows), cursor, now_s, overlap=overlap_s)
        return Partial(rows_of(handed), fills.problems), last

    def _snapshot(self, reading: _Reading, fills_since: Cursor | None) -> Snapshot:
        fills = decode.name_clients(reading.fills, rows_of(reading.orders))
        cursor: Cursor | None = None
        if not isinstance(fills, Unsupported):
            # Without a clock the overlap is a day, and the first cursor is not set ahead by that.
            overlap_s = 0 if self._time.offset_s is None else OVERLAP_S
            fills, cursor = self._handed_out(fills, fills_since, reading.now_s, overlap_s)
            if isinstance(fills, Complete) or cursor != fills_since:
                self._listed_from_s = reading.now_s
        return Snapshot(
            requested_at=reading.requested_at,
            as_of=self._as_of(reading.requested_at),
            positions=doubted(reading.positions, reading.moved, _KEPT_COMING),
            orders=reading.orders,
            fills=fills,
            fills_cursor=cursor,
            conventions=self._conventions,
        )

    @property
    def _conventions(self) -> Conventions:
        """MQL5 documentation, MqlTradeRequest and the limits of MetaTrader 5: a comment has at most 31 characters."""
        return Conventions(self._legs, CostBasis.WEIGHTED, client_id_length=31)

    async def _section(
        self, action: str, read: _Read[Row], deadline: Deadline, **parameters: str | int
    ) -> Section[Row]:
        """A section other than the positions: whatever becomes of it, the positions stand."""
        try:
            outcome = await self._ask(action, deadline, **parameters)
        except (Unreachable, Malformed) as error:
            return Failed(f"{action}: {with_remedy(error.found, error.remedy)}")
        found = self._decoded(action, outcome, read)
        if isinstance(found, Failed):
            return Failed(with_remedy(found.reason, self._error(action, outcome, found.reason).remedy))
        return found

    def _decoded(self, action: str, outcome: Outcome, read: _Read[Row]) -> Section[Row]:
        if isinstance(outcome, UnknownAction):
            return Unsupported()
        if isinstance(outcome, Declined):
            return Failed(f"{action}: the gateway said: {outcome.words}")
        if isinstance(outcome, Garbled):
            return Failed(f"{action}: the reply cannot be read: {outcome.found}")
        section = read(outcome.content, self._legs)
        return Failed(f"{action}: {section.reason}") if isinstance(section, Failed) else section

    # -- single orders ---------------------------------------------------------------------------------------------

    async def _find(self, query: OrderQuery, deadline: Deadline) -> OrderAnswer:
        if query.client_order_id is not None:
            query = replace(query, client_order_id=self._conventions.kept_of(query.client_order_id))
        ticket, name = query.broker_order_id, query.client_order_id
        if ticket is not None and not (ticket.isascii() and ticket.isdigit()):
            return _unknown(query, f"{ticket!r} is no MT5 order ticket")
        symbol: dict[str, str | int] = {"symbol": query.instrument}
        with_ticket = symbol if ticket is None else {**symbol, "ticket": int(ticket)}
        try:
            orders = await self._section("GET_ORDERS", self._orders, deadline, **with_ticket)
        except BrokerError as error:
            return OrderAnswer(query, failure=error.reason)
        if isinstance(orders, Unsupported):
            return _unknown(query, "the gateway does not support GET_ORDERS")
        if isinstance(orders, Failed):
            return OrderAnswer(query, failure=orders.reason)
        found = [order for order in orders.rows if is_meant(query, order, in_any_instrument=True)]
        if len(found) > 1:
            return _unknown(query, f"{len(found)} orders of {query.instrument} carry the comment {name!r}")
        if not found and problems_of(orders):
            return OrderAnswer(query, failure=f"a row that could be it cannot be read: {problems_of(orders)[0].text}")
        if not found and ticket is not None:
            return await self._closed_by(query, ticket, with_ticket, deadline)
        if not found:
            return OrderAnswer(query)
        if found[0].instrument != query.instrument:
            return _unknown(query, f"ticket {ticket} belongs to an order of {found[0].instrument}")
        return await self._with_fills(query, found[0], deadline)

    async def _closed_by(
        self, query: OrderQuery, ticket: str, with_ticket: dict[str, str | int], deadline: Deadline
    ) -> OrderAnswer:
        """A close-by order. No list of orders has it, as it has no side of its own; its deals have one."""
        deals = await self._section("GET_DEALS", self._fills, deadline, symbol=query.instrument, since=0)
        if not any(fill.broker_order_id == ticket for fill in rows_of(deals)):
            return OrderAnswer(query)
        outcome = await self._ask("GET_ORDERS", deadline, **with_ticket)
        if not isinstance(outcome, Answered):
            return _unknown(query, f"it has deals, and order {ticket} was not shown")
        try:
            order = decode.close_by(outcome.content, ticket, rows_of(deals))
        except BadRow as error:
            return OrderAnswer(query, failure=str(error))
        if order is None:
            return _unknown(query, f"it has deals, and order {ticket} was not shown")
        return with_its_fills(query, order, decode.name_clients(deals, [order]), "deal")

    async def _with_fills(self, query: OrderQuery, order: Order, deadline: Deadline) -> OrderAnswer:
        if not order.filled_quantity:
            return OrderAnswer(query, order)
        placed_s = 0 if order.submitted_at is None else floor(order.submitted_at.timestamp()) + self._time.zone_s
        deals = await self._section("GET_DEALS", self._fills, deadline, symbol=query.instrument, since=placed_s)
        return with_its_fills(query, order, decode.name_clients(deals, [order]), "deal")

    # -- requests and errors ---------------------------------------------------------------------------------------

    async def _ask(self, action: str, deadline: Deadline, **parameters: str | int) -> Outcome:
        if action in self._unsupported:
            return UnknownAction()
        outcome = await self._gateway.ask(action, deadline, **parameters)
        if isinstance(outcome, UnknownAction) and action != "GET_POSITIONS":
            self._unsupported.add(action)
        return outcome

    def _error(self, action: str, outcome: Outcome, found: str) -> BrokerError:
        """The error for an outcome without which nothing is known."""
        attempted = f"read {action} from the MT5 gateway at {self._endpoint}"
        if isinstance(outcome, UnknownAction) or (isinstance(outcome, Declined) and _REFUSALS.search(outcome.words)):
            remedy = "Check that the terminal is logged in and that this is a gateway of our protocol"
            return Refused(attempted, self._account, found, remedy)
        if isinstance(outcome, Declined):
            return Unreachable(attempted, self._account, found, "Check the terminal's connection to its broker")
        return self._malformed(attempted, found)

    def _malformed(self, attempted: str, found: str) -> Malformed:
        remedy = f"Check what answers at {self._endpoint}; the account counts as unverified until it can be read"
        return Malformed(attempted, self._account, found, remedy)


def _unknown(query: OrderQuery, found: str) -> OrderAnswer:
    return OrderAnswer(query, failure=with_remedy(found, "Look the order up in the terminal"))
