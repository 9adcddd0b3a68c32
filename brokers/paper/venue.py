"""The venue of a paper account: orders against prices. Pure: times and prices are arguments, ids are counted.

The laws of this module:

* The same commands at the same times lead to the same orders, fills and ids.
* A client id names one order for ever: the same order sent again is still one order.
* No order fills beyond its quantity, none that has ended changes again, and a position is the sum of its fills.
* Every fill is at the price of its moment: never worse than a limit; MARKET and STOP orders pay slippage.
* Its clock never stands still: no two reported events have the same time, so that "not after" is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from brokers.kit.exact_number import is_sane
from brokers.model import NET, Fill, Order, OrderStatus, Position, Side
from brokers.paper.prices import MOST_DIGITS, ZERO, Market, Quote, is_amount, problem_with
from brokers.paper.state import Holding, Kind, State, VenueFill, VenueOrder, kind_of
from brokers.port import NewOrder

ENDED_KEPT = 1_000
FILLS_KEPT = 2_000
"""How much of the past is kept: enough for a caller that looks every few seconds, little enough to write each time."""

SHOWN_FOR = timedelta(days=1)
"""How long an ended order stays among the rows of a snapshot, as brokers show the orders of the day."""

_INSTANT = timedelta(microseconds=1)


class Venue:
    """One account's orders, fills and positions, and the prices they meet.

    ``symbols`` can be traded; ``None`` means every symbol that has had a price. A fed price that is older than
    ``stale_after`` executes nothing.
    """

    def __init__(
        self,
        state: State,
        markets: Iterable[Market] = (),
        symbols: frozenset[str] | None = None,
        stale_after: timedelta | None = None,
    ) -> None:
        self._account = state.account
        self._clock = state.clock
        self._last_order, self._last_fill = state.last_order, state.last_fill
        self._working = {order.number: order for order in state.working}
        self._ended = {order.number: order for order in state.ended}
        self._numbers = {order.client_order_id: order.number for order in (*state.ended, *state.working)}
        self._fills = list(state.fills)
        self._holdings = dict(state.holdings)
        self._quotes = dict(state.quotes)
        self._markets = {market.symbol: market for market in markets}
        self._symbols = symbols
        self._stale_after = stale_after
        self._news: set[str] = set()

    # Commands

    def open(self, now: datetime) -> None:
        """Set the first price of each market that is not fed, where it has none or was configured anew."""
        self.expire(now)
        for symbol, market in self._markets.items():
            known, first = self._quotes.get(symbol), market.quote(now)
            if first is None or (known is not None and (known.fed or market.walks)):
                continue
            if known is None or (known.bid, known.ask) != (first.bid, first.ask):
                self._quotes[symbol] = first
                self._match(symbol, now)

    def submit(self, order: NewOrder, now: datetime) -> str:
        """Accept an order; returns its id. One that cannot be executed is REJECTED, with the reason. Raises
        ``ValueError`` for a client id that belongs to an order with other terms, and for an invalid quantity or
        price."""
        for value in (order.quantity, order.limit_price, order.stop_price):
            if value is not None and not is_sane(value):
                raise ValueError(f"{value} is not a number that could be one of an order")
        self.expire(now)
        known = self._by_client(order.client_order_id)
        if known is not None:
            return _same(known, order).order_id
        reason = self._reason_against(order, now)
        self._last_order += 1
        new = VenueOrder(
            number=self._last_order,
            instrument=order.instrument,
            client_order_id=order.client_order_id,
            side=order.side,
            quantity=order.quantity,
            order_type=order.order_type,
            price=_price_of(order),
            expires_at=order.expires_at,
            submitted_at=self._tick(now),
        )
        self._numbers[new.client_order_id] = new.number
        self._put(new)
        if reason is not None:
            self._end(new, OrderStatus.REJECTED, reason)
        else:
            self._match(new.instrument, now)
        return new.order_id

    def cancel(self, order_id: str, now: datetime) -> bool:
        """Cancel an order. Returns whether it is cancelled now: false where it is unknown or ended otherwise before."""
        self.expire(now)
        order = self._by_id(order_id)
        if order is None or order.status.terminal:
            return order is not None and order.status is OrderStatus.CANCELLED
        self._tick(now)
        self._end(order, OrderStatus.CANCELLED, "cancelled")
        return True

    def feed(self, symbol: str, bid: Decimal, ask: Decimal, now: datetime) -> None:
        """Set the price from now on, from outside. Raises ``ValueError`` for an invalid price or an unknown symbol."""
        problem = problem_with(bid, ask)
        if problem is None and self._symbols is not None and symbol not in self._symbols:
            problem = f"it is not among the instruments of the account, which are {', '.join(sorted(self._symbols))}"
        if problem is not None:
            raise ValueError(problem)
        self.expire(now)
        last = self._quotes.get(symbol)
        steps = last.steps if last is not None else 0
        self._quotes[symbol] = self._market(symbol).quoted(bid, ask, now, fed=True, steps=steps)
        self._match(symbol, now)

    def step(self, symbol: str, now: datetime) -> None:
        """Move a walking symbol to its next price."""
        self.expire(now)
        market, last = self._markets[symbol], self._quotes[symbol]
        self._quotes[symbol] = market.step(last, now)
        self._match(symbol, now)

    def expire(self, now: datetime) -> None:
        """End every order whose time is over."""
        for order in [o for o in self._working.values() if o.expires_at is not None and o.expires_at <= now]:
            self._tick(now)
            self._end(order, OrderStatus.EXPIRED, f"good till {order.expires_at}")

    # Reads

    @property
    def last_fill(self) -> int:
        """The number of the newest fill; 0 before the first."""
        return self._last_fill

    def take_news(self) -> frozenset[str]:
        """The instruments whose orders or fills have changed since the last call."""
        changed, self._news = frozenset(self._news), set()
        return changed

    def read_at(self, now: datetime) -> datetime:
        """The time of the present read: every later change has a later time."""
        return self._tick(now)

    def orders(self, now: datetime) -> tuple[Order, ...]:
        """Every working order, and those that ended within a day."""
        ended = [o for o in self._ended.values() if o.ended_at is not None and now - o.ended_at < SHOWN_FOR]
        return tuple(order.row() for order in sorted((*ended, *self._working.values()), key=lambda o: o.number))

    def positions(self) -> tuple[Position, ...]:
        """Every position that is not flat."""
        held = sorted(self._holdings.items())
        return tuple(Position(symbol, NET, at.quantity, at.average_price) for symbol, at in held)

    def fills_after(self, number: int) -> tuple[Fill, ...] | None:
        """Every fill after that number; ``None`` where some of them are no longer kept."""
        if number < self._last_fill - len(self._fills):
            return None
        return tuple(fill.row() for fill in self._fills if fill.number > number)

    def find(self, order_id: str | None, client_order_id: str | None) -> VenueOrder | None:
        """An order by its id where that is known, else by its client id."""
        if order_id is not None:
            return self._by_id(order_id)
        return self._by_client(client_order_id) if client_order_id is not None else None

    def has_forgotten(self, order_id: str) -> bool:
        """Whether there was such an order, and it ended too long ago to be kept."""
        number = order_id.removeprefix("P")
        exists = number.isascii() and number.isdigit() and 0 < int(number) <= self._last_order
        return exists and f"P{int(number)}" == order_id and self._by_id(order_id) is None

    def fills_of(self, order: VenueOrder) -> tuple[Fill, ...]:
        """The fills of an order, oldest first."""
        return tuple(fill.row() for fill in self._fills if fill.order == order.number)

    def quotes(self) -> Mapping[str, Quote]:
        """The last price of each symbol that has had one."""
        return self._quotes

    def state(self) -> State:
        """The whole state, to be kept."""
        return State(
            account=self._account,
            clock=self._clock,
            last_order=self._last_order,
            last_fill=self._last_fill,
            working=tuple(self._working.values()),
            ended=tuple(self._ended.values()),
            fills=tuple(self._fills),
            holdings=tuple(sorted(self._holdings.items())),
            quotes=tuple(sorted(self._quotes.items())),
        )

    # Checking an order

    def _reason_against(self, order: NewOrder, now: datetime) -> str | None:
        quote = self._quotes.get(order.instrument)
        known = quote is not None if self._symbols is None else order.instrument in self._symbols
        if not known:
            return f"unknown symbol {order.instrument}: it is not among the account's instruments or has had no price"
        kind = kind_of(order.order_type)
        if kind is None:
            traded = "MARKET, LIMIT or STOP"
            if order.order_type in ("", "UNKNOWN"):
                return f"it names no order type: give order_type {traded}"
            return f"order type {order.order_type} is not traded here: give {traded}"
        if not is_amount(order.quantity):
            return f"bad quantity {order.quantity}: a number above 0 of at most {MOST_DIGITS} digits either side"
        if order.expires_at is not None and order.expires_at <= now:
            return f"it was good till {order.expires_at.isoformat()}, which is over"
        return self._against_price(order, kind, quote, now)

    def _against_price(self, order: NewOrder, kind: Kind, quote: Quote | None, now: datetime) -> str | None:
        if kind is Kind.MARKET:
            if quote is None:
                return f"no price of {order.instrument} yet: feed one"
            if self._is_stale(quote, now):
                age_s = (now - quote.at).total_seconds()
                return f"stale price: that of {order.instrument} is {age_s:.0f} s old. Feed a new one"
            return None
        name = "stop" if kind is Kind.STOP else "limit"
        price = _price_of(order)
        if price is None:
            return f"it names no {name}_price, which a {order.order_type} order needs"
        if not is_amount(price):
            return f"bad {name} price {price}: a number above 0 is needed"
        tick = self._market(order.instrument).tick
        return f"bad {name} price {price}: not a multiple of tick {tick}" if tick and price % tick else None

    # Executing

    def _match(self, symbol: str, now: datetime) -> None:
        """Execute what the price of a symbol allows: market orders first, then the best limits, then the oldest."""
        quote = self._quotes.get(symbol)
        if quote is None or self._is_stale(quote, now):
            return
        for order in sorted((o for o in self._working.values() if o.instrument == symbol), key=_priority):
            ready = self._triggered(order, quote, now)
            if ready.at_market or (not ready.is_stop and _crosses(ready, quote)):
                self._fill(ready, now)

    def _triggered(self, order: VenueOrder, quote: Quote, now: datetime) -> VenueOrder:
        if not order.is_stop or order.price is None:
            return order
        reached = quote.ask >= order.price if order.side is Side.BUY else quote.bid <= order.price
        if reached:
            self._tick(now)
            order = self._put(replace(order, triggered=True))
        return order

    def _fill(self, order: VenueOrder, now: datetime) -> None:
        quote = self._quotes[order.instrument]
        there = quote.ask_left if order.side is Side.BUY else quote.bid_left
        quantity = order.left if there is None else min(order.left, there)
        if not quantity:
            return
        if there is not None:
            left = there - quantity
            buys = order.side is Side.BUY
            self._quotes[order.instrument] = replace(quote, ask_left=left) if buys else replace(quote, bid_left=left)
        price = self._price(order, quote)
        self._last_fill += 1
        fill = VenueFill(
            number=self._last_fill,
            order=order.number,
            instrument=order.instrument,
            client_order_id=order.client_order_id,
            side=order.side,
            quantity=quantity,
            price=price,
            time=self._tick(now),
        )
        self._fills.append(fill)
        del self._fills[:-FILLS_KEPT]
        self._hold(fill)
        order = replace(
            order,
            filled=order.filled + quantity,
            notional=order.notional + quantity * price,
            status=OrderStatus.PARTIALLY_FILLED,
        )
        self._put(order)
        if not order.left:
            self._end(order, OrderStatus.FILLED, None)

    def _price(self, order: VenueOrder, quote: Quote) -> Decimal:
        slippage = self._market(order.instrument).slippage if order.at_market else ZERO
        if order.side is Side.BUY:
            return quote.ask + slippage
        return quote.bid - slippage if slippage < quote.bid else quote.bid

    def _hold(self, fill: VenueFill) -> None:
        held = self._holdings.get(fill.instrument, Holding(ZERO, ZERO))
        after = held.after(fill.quantity * fill.side.sign, fill.price)
        if after.quantity:
            self._holdings[fill.instrument] = after
        else:
            self._holdings.pop(fill.instrument, None)

    # Keeping

    def _put(self, order: VenueOrder) -> VenueOrder:
        self._working[order.number] = order
        self._news.add(order.instrument)
        return order

    def _end(self, order: VenueOrder, status: OrderStatus, reason: str | None) -> None:
        del self._working[order.number]
        self._ended[order.number] = replace(order, status=status, reason=reason, ended_at=self._clock)
        self._news.add(order.instrument)
        while len(self._ended) > ENDED_KEPT:
            oldest = self._ended.pop(next(iter(self._ended)))
            self._numbers.pop(oldest.client_order_id, None)

    def _by_id(self, order_id: str) -> VenueOrder | None:
        number = order_id.removeprefix("P")
        if not (number.isascii() and number.isdigit()) or order_id != f"P{int(number)}":
            return None
        return self._working.get(int(number)) or self._ended.get(int(number))

    def _by_client(self, client_order_id: str) -> VenueOrder | None:
        number = self._numbers.get(client_order_id)
        return None if number is None else self._by_id(f"P{number}")

    def _market(self, symbol: str) -> Market:
        return self._markets.get(symbol) or Market(symbol)

    def _is_stale(self, quote: Quote, now: datetime) -> bool:
        return quote.fed and self._stale_after is not None and now - quote.at > self._stale_after

    def _tick(self, now: datetime) -> datetime:
        self._clock = max(now, self._clock + _INSTANT)
        return self._clock


def _price_of(order: NewOrder) -> Decimal | None:
    """The price that an order's kind uses. A stop's may be in either field: reports have one field for every price."""
    kind = kind_of(order.order_type)
    if kind is Kind.MARKET:
        return None
    return order.limit_price if kind is not Kind.STOP or order.stop_price is None else order.stop_price


def _same(known: VenueOrder, order: NewOrder) -> VenueOrder:
    terms = (order.instrument, order.side, order.quantity, kind_of(order.order_type), _price_of(order))
    if terms != (known.instrument, known.side, known.quantity, kind_of(known.order_type), known.price):
        raise ValueError(f"client order id {order.client_order_id} is that of {known.order_id}, which is another order")
    return known


def _crosses(order: VenueOrder, quote: Quote) -> bool:
    if order.price is None:
        return False
    return quote.ask <= order.price if order.side is Side.BUY else quote.bid >= order.price


def _priority(order: VenueOrder) -> tuple[bool, Decimal, int]:
    """Price, then time. A stop sorts with the orders that take any price, as it becomes one when it is reached."""
    limit = order.price if order.price is not None and not (order.at_market or order.is_stop) else None
    return limit is not None, ZERO if limit is None else -limit * order.side.sign, order.number
