"""The adapter of a paper account: an embedded venue of our own. No socket, no credentials; nothing leaves this process.

The laws of this module:

* A change is on disk before it is reported; one that could not be written has not happened.
* Reading changes nothing: any other process may read a venue beside the one that runs it.
* Where a book knows more than the venue, the venue's state was lost; it is never an empty account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from loguru import logger

from brokers.clocks import broker_time
from brokers.errors import BrokerError, Malformed, Refused
from brokers.model import (
    Complete,
    Conventions,
    CostBasis,
    Cursor,
    Failed,
    Fill,
    LegScheme,
    OrderAnswer,
    OrderQuery,
    Section,
    Snapshot,
)
from brokers.paper.prices import Market
from brokers.paper.state import State
from brokers.paper.store import Store
from brokers.paper.stream import PaperStream
from brokers.paper.venue import Venue
from brokers.port import Clock, NewOrder, Stream

CONVENTIONS = Conventions(LegScheme.NET, CostBasis.WEIGHTED)
PRICES_KEPT_EVERY = timedelta(seconds=10)
"""Prices that caused no event are written this often; the last few of them may be lost in a crash."""

T = TypeVar("T")


class PaperBroker:
    """One paper account; meets :class:`brokers.port.Broker` and :class:`brokers.port.OrderEntry`.

    ``symbols`` can be traded; where there are none, every symbol that has had a price can be. ``markets`` say how they
    trade. The venue is kept in ``state_file``. A ``lively`` account runs its venue: only it may change the venue from
    connect to close, and prices move. Otherwise the venue stands still until an order or a price comes in. A fed price
    older than ``stale_after`` executes nothing (``None``: prices never become stale).
    """

    def __init__(
        self,
        account: str,
        state_file: Path,
        clock: Clock,
        *,
        symbols: Iterable[str] = (),
        markets: Sequence[Market] = (),
        stale_after: timedelta | None = None,
        lively: bool = True,
    ) -> None:
        self._account = account
        self._clock = clock
        self._symbols = frozenset(symbols) or None
        self._markets = tuple(markets)
        self._stale_after = stale_after
        self._lively = lively
        self._store = Store(account, state_file)
        self._kept = State(account, clock())
        self._kept_at = self._kept.clock
        self._venue = self._made(self._kept)
        walking = [market for market in markets if market.walks and lively]
        self._stream = PaperStream(account, walking, self._step, clock)
        self._calls = 0

    @property
    def calls(self) -> int:
        """How many times the venue was called."""
        return self._calls

    async def connect(self) -> None:
        """Take over the kept state. Raises ``Unreachable`` while another process runs the venue, ``Malformed`` for a
        state that cannot be read, ``Refused`` for another account's."""
        self._calls += 1
        self._store.release()  # a file that was put back since is read anew
        if self._lively:
            self._hold()
        else:
            self._read()

    async def snapshot(self, fills_since: Cursor | None, *, whole: bool = False) -> Snapshot:  # noqa: ARG002 - always
        """The whole venue, and the fills numbered above ``fills_since``. Raises ``Malformed`` when there never were
        that many fills: then the cursor came from another venue."""
        self._calls += 1
        requested_at = self._clock()
        if self._store.held:
            self._change(lambda venue, now: venue.expire(now))
        else:
            self._read()
        last = self._venue.last_fill
        if fills_since is not None and fills_since > last:
            self._store.release()  # so that nothing overwrites a file that may be put back
            raise self._set_back(fills_since, last)
        return Snapshot(
            requested_at=requested_at,
            as_of=broker_time(self._venue.read_at(self._clock())),
            positions=Complete(self._venue.positions()),
            orders=Complete(self._venue.orders(requested_at)),
            fills=self._fills(last if fills_since is None else fills_since),
            fills_cursor=last,
            conventions=CONVENTIONS,
        )

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        """Find orders by their id, else by their client id, with their fills."""
        self._calls += 1
        if not self._store.held:
            try:
                self._read()
            except BrokerError as error:
                return tuple(OrderAnswer(query, failure=str(error)) for query in queries)
        return tuple(self._found(query) for query in queries)

    async def cancel_order(self, query: OrderQuery) -> None:
        """Cancel an order. ``Refused`` when there is no such working order."""
        self._hold()
        order = self._venue.find(query.broker_order_id, query.client_order_id)
        if order is None or not await self.cancel(order.order_id):
            named = query.broker_order_id or query.client_order_id
            found = "the venue has no such working order"
            raise Refused(f"cancel order {named}", self._account, found, "It has ended: look it up.")

    def stream(self) -> Stream | None:
        """Events of changes, as they happen."""
        return self._stream

    async def close(self) -> None:
        """Write the last prices, and release the venue."""
        self._stream.close()
        if self._store.held:
            try:
                self._keep(always=False)
            except BrokerError as error:
                logger.warning("{}", error)
            self._store.release()

    # Order entry

    async def submit(self, order: NewOrder) -> str:
        """See :class:`brokers.port.OrderEntry`."""
        self._calls += 1
        attempted = f"submit order {order.client_order_id}"
        if not (order.client_order_id.strip() and order.client_order_id.isprintable()):
            raise self._refused(attempted, f"client order id {order.client_order_id!r}: text is needed")
        for value in (order.quantity, order.limit_price, order.stop_price):
            if value is not None and not isinstance(value, Decimal):
                raise self._refused(attempted, f"{value!r} is a {type(value).__name__}: a Decimal is needed")
        return self._requested(attempted, lambda venue, now: venue.submit(order, now))

    async def cancel(self, broker_order_id: str) -> bool:
        """See :class:`brokers.port.OrderEntry`."""
        self._calls += 1
        return self._requested(f"cancel order {broker_order_id}", lambda venue, now: venue.cancel(broker_order_id, now))

    async def feed(self, symbol: str, bid: Decimal, ask: Decimal) -> None:
        """See :class:`brokers.port.OrderEntry`."""
        self._calls += 1
        attempted = f"feed a price of {symbol}"
        for value in (bid, ask):
            if not isinstance(value, Decimal):
                raise self._refused(attempted, f"{value!r} is a {type(value).__name__}: a Decimal is needed")
        self._requested(attempted, lambda venue, now: venue.feed(symbol, bid, ask, now))

    async def prices(self) -> dict[str, tuple[Decimal, Decimal]]:
        """See :class:`brokers.port.OrderEntry`."""
        if not self._store.held:
            self._read()
        return {symbol: (quote.bid, quote.ask) for symbol, quote in self._venue.quotes().items()}

    def _requested(self, attempted: str, work: Callable[[Venue, datetime], T]) -> T:
        self._hold()
        try:
            return self._change(work)
        except ValueError as error:
            raise self._refused(attempted, str(error)) from None

    def _step(self, symbol: str) -> None:
        if self._store.held:
            self._change(lambda venue, now: venue.step(symbol, now))

    # What is kept

    def _hold(self) -> None:
        """Become the process that changes the venue, and go on from its last state."""
        if self._store.held:
            return
        self._store.hold()
        try:
            self._read()
            self._change(lambda venue, now: venue.open(now))
        except BaseException:
            self._store.release()
            raise

    def _read(self) -> None:
        self._kept = self._store.read() or State(self._account, self._clock())
        self._venue = self._made(self._kept)

    def _made(self, state: State) -> Venue:
        return Venue(state, self._markets, self._symbols, self._stale_after)

    def _change(self, work: Callable[[Venue, datetime], T]) -> T:
        """Change the venue, on disk first where orders are concerned, and report it."""
        now = self._clock()
        try:
            result = work(self._venue, now)
        except ValueError:
            self._settle(now)  # the request was not executed; an order whose time was over has expired all the same
            raise
        except BaseException:
            self._undo()
            raise
        self._settle(now)
        return result

    def _settle(self, now: datetime) -> None:
        changed = self._venue.take_news()
        if changed or not now - self._kept_at < PRICES_KEPT_EVERY:
            try:
                self._keep(always=bool(changed))
            except BaseException:
                self._undo()
                raise
        for instrument in sorted(changed):
            self._stream.report(instrument)

    def _undo(self) -> None:
        """Undo what is not on disk: it has not happened. Only the venue's clock stays, as its time was reported."""
        self._venue = self._made(replace(self._kept, clock=self._venue.state().clock))

    def _keep(self, *, always: bool) -> None:
        state = self._venue.state()
        if always or state.quotes != self._kept.quotes:
            self._store.write(state)
            self._kept = state
        self._kept_at = self._clock()

    # Answers

    def _fills(self, since: Cursor) -> Section[Fill]:
        rows = self._venue.fills_after(since)
        if rows is not None:
            return Complete(rows)
        return Failed(f"fills since F{since} are no longer kept by the venue, which had F{self._venue.last_fill} last")

    def _found(self, query: OrderQuery) -> OrderAnswer:
        order = self._venue.find(query.broker_order_id, query.client_order_id)
        if order is not None and order.instrument == query.instrument:
            return OrderAnswer(query, order.row(), self._venue.fills_of(order))
        if query.broker_order_id is not None and self._venue.has_forgotten(query.broker_order_id):
            return OrderAnswer(query, failure=f"order {query.broker_order_id} ended too long ago to be kept")
        return OrderAnswer(query)

    def _refused(self, attempted: str, found: str) -> Refused:
        return Refused(attempted, self._account, found, "Nothing was done. Correct it and try again.")

    def _set_back(self, since: Cursor, last: int) -> Malformed:
        return Malformed(
            "read its paper venue",
            self._account,
            f"the books know of fill F{since}, and the newest of the venue is F{last}: its state was lost or set back",
            "Put the state file back. To begin a new rehearsal give the account a new name.",
        )
