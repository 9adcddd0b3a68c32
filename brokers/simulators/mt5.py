"""An MT5 terminal with its ZeroMQ gateway, on loopback.

It keeps MetaTrader's books: on a hedging account every opening order has a position of its own, whose ticket is the
order's; on a netting account a symbol has one. Volumes leave it as JSON numbers, as a terminal's do; inside they are
``Decimal``.
"""

from __future__ import annotations

import json
import random
import threading
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from brokers.model import NET, Side
from brokers.simulators.base import REQUESTS_KEPT, Fault, Faults
from brokers.simulators.publisher import Publisher
from brokers.simulators.router import Router, Scripted

_ENDED_ORDERS_KEPT = 200
_DEALS_KEPT = 1000
_STATES = {"CANCELLED": "CANCELED", "EXPIRED": "EXPIRED", "REJECTED": "REJECTED"}
_ERRORS = {
    Fault.SERVER_ERROR: "internal error of the gateway",
    Fault.UNAVAILABLE: "no connection with the trade server",
    Fault.RATE_LIMITED: "too many requests",
    Fault.UNAUTHORIZED: "unauthorized: the terminal is not logged in",
}
_SECTIONS = {"GET_POSITIONS": "positions", "GET_ORDERS": "orders", "GET_DEALS": "deals"}

Json = dict[str, object]


@dataclass(slots=True)
class _Holding:
    ticket: int
    symbol: str
    quantity: Decimal  # signed
    price: Decimal
    time_s: int
    renamed: int = 0  # its present ticket, where that has changed


@dataclass(slots=True)
class _Order:
    ticket: int
    symbol: str
    type: str
    state: str
    initial: Decimal
    remaining: Decimal
    price: Decimal
    time_setup_s: int
    time_done_s: int
    comment: str
    position_id: int
    reason: int = 0

    @property
    def side(self) -> Side:
        return Side.BUY if self.type.startswith("buy") else Side.SELL


@dataclass(slots=True)
class _Deal:
    ticket: int
    order: int
    position_id: int
    symbol: str
    type: str
    entry: str
    volume: Decimal
    price: Decimal
    time_s: int
    reason: int = 0


class Mt5Simulator:
    """Meets :class:`brokers.simulators.base.Simulator`.

    ``margin_mode`` is ``"hedging"``, ``"netting"`` or ``None`` (hedging, and not reported). ``base_only`` knows
    GET_POSITIONS and nothing else. Legs are tickets, on an account known to be netting ``"net"``. ``instruments`` have
    a price from the start.

    Every change of an order, a deal or a position is published from ``events`` at once, at :attr:`events_endpoint`.
    Unexplained changes (``set_position``, ``forget_order``) are published too, unless ``silent_drift``. ``load`` and
    prices are not. With ``publishes_rows`` a deal is published with its row and its order's row. ``events_port`` is any
    free one for 0, and the same after a restart.
    """

    def __init__(
        self,
        *,
        login: int = 5001,
        margin_mode: str | None = "hedging",
        instruments: Sequence[str] = (),
        base_only: bool = False,
        echo_request_id: bool = True,
        silent_drift: bool = False,
        events_port: int = 0,
        seed: int = 0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.faults = Faults()
        self.events = Publisher(events_port)
        self.login = login
        self._margin_mode = margin_mode
        self._base_only = base_only
        self._echo = echo_request_id
        self._silent_drift = silent_drift
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - it chooses which row to spoil
        self._clock = clock
        self._lock = threading.RLock()
        self._requests: deque[str] = deque(maxlen=REQUESTS_KEPT)
        self._prices: dict[str, Decimal] = {}
        self._holdings: dict[int, _Holding] = {}
        self._orders: dict[int, _Order] = {}
        self._deals: list[_Deal] = []
        self._last_ticket = 1000
        self._crossed = 0
        self._beside: Json = {}
        self._deals_ahead_s = 0
        self._terse: dict[str, object] | None = None
        self._server: Router | None = None
        self.publishes_rows = not base_only
        for instrument in instruments:
            self.price(instrument)

    # -- the server ------------------------------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[str, ...]:
        """Every request received so far, by its action."""
        with self._lock:
            return tuple(self._requests)

    def start(self, port: int = 0) -> str:
        """Serve on 127.0.0.1 (any free port for 0); returns the endpoint. May be called again after :meth:`close`."""
        if self._server is None:
            self.events.start()
            try:
                self._server = Router(self._reply, port)
            except BaseException:
                self.events.close()
                raise
        return self._server.endpoint

    @property
    def events_endpoint(self) -> str:
        """Where the events are published. Raises ``RuntimeError`` before the first :meth:`start`."""
        return self.events.endpoint

    def close(self) -> None:
        """Stop serving and leave no thread and no socket. May be called twice."""
        server, self._server = self._server, None
        self.events.close()
        if server is not None:
            server.close()

    def cross_replies(self, times: int) -> None:
        """Answer the next requests with the reply to the one before: a gateway with one response slot for all."""
        with self._lock:
            self._crossed += times

    # -- the script ------------------------------------------------------------------------------------------------

    def price(self, instrument: str) -> Decimal:
        """The present price, made up from the name where none was set."""
        with self._lock:
            if instrument not in self._prices:
                spread = zlib.crc32(f"{self._seed}:{instrument}".encode()) % 100_000
                base = Decimal(spread) / 100_000 + Decimal("0.6")
                self._prices[instrument] = base * 100 if instrument.endswith("JPY") else base
            return self._prices[instrument]

    def set_price(self, instrument: str, price: Decimal) -> None:
        """Set the price; market orders fill at it."""
        with self._lock:
            self._prices[instrument] = price

    def positions(self) -> dict[tuple[str, str], Decimal]:
        """(instrument, leg) → signed lots."""
        with self._lock:
            return {(held.symbol, self._leg(held.ticket)): held.quantity for held in self._holdings.values()}

    def trade(self, instrument: str, side: Side, quantity: Decimal, client_order_id: str | None = None) -> str:
        """A market order filled at once. On a hedging account it opens a position of its own."""
        with self._lock:
            order = self._add_order(instrument, side.lower(), quantity, Decimal(0), client_order_id)
            self._fill(order, quantity, self.price(instrument))
            return str(order.ticket)

    def place_limit(
        self, instrument: str, side: Side, quantity: Decimal, price: Decimal, client_order_id: str | None = None
    ) -> str:
        """An order that rests."""
        with self._lock:
            return str(self._add_order(instrument, f"{side.lower()}_limit", quantity, price, client_order_id).ticket)

    def fill_order(self, order_id: str, quantity: Decimal | None = None, price: Decimal | None = None) -> str:
        """Fill a resting order, wholly without ``quantity``, at its own price without ``price``."""
        with self._lock:
            order = self._resting(order_id)
            return self._fill(order, order.remaining if quantity is None else quantity, price or order.price)

    def end_order(self, order_id: str, how: str = "CANCELLED") -> None:
        """End a resting order: ``CANCELLED``, ``EXPIRED`` or ``REJECTED``."""
        with self._lock:
            order = self._resting(order_id)
            order.state, order.time_done_s = _STATES[how], self._now_s()
            self.events.publish("order", order.symbol, order.ticket)
            self._trim()

    def forget_order(self, order_id: str) -> None:
        """Remove every trace of the order."""
        with self._lock:
            order = self._orders.pop(int(order_id), None)
            if order is not None:
                self._publish_drift("order", order.symbol, order.ticket)

    def set_position(self, instrument: str, leg: str, quantity: Decimal, price: Decimal) -> str:
        """Hold exactly this, unexplained. An empty ``leg`` is a new ticket (or the one of a netting account)."""
        with self._lock:
            held = self._held(instrument, leg)
            if not quantity:
                if held:
                    del self._holdings[held.ticket]
                    self._publish_drift("position", instrument, held.ticket)
                return leg
            if held is None:
                ticket = int(leg) if leg.isdigit() else self._ticket()
                self._last_ticket = max(self._last_ticket, ticket)
                held = self._holdings[ticket] = _Holding(ticket, instrument, quantity, price, self._now_s())
            held.quantity, held.price = quantity, price
            self._publish_drift("position", instrument, held.ticket)
            return self._leg(held.ticket)

    def close_position(self, leg: str, quantity: Decimal | None = None) -> str:
        """Close one ticket by hand, in part where ``quantity`` is passed; returns the closing order's id."""
        with self._lock:
            held = self._holdings[int(leg)]
            return self._close(held, abs(held.quantity) if quantity is None else quantity)

    def close_by_hand(self, instrument: str) -> None:
        """Close everything held in the instrument by hand."""
        with self._lock:
            for held in [held for held in self._holdings.values() if held.symbol == instrument]:
                self._close(held, abs(held.quantity))

    def reopen_for_swap(self, leg: str) -> str:
        """The server re-opens a position: its ticket changes, and its identifier stays. Returns the ticket."""
        with self._lock:
            held = self._holdings[int(leg)]
            held.renamed = self._ticket()
            self.events.publish("position", held.symbol, held.renamed)
            return str(held.renamed)

    def close_by(self, leg: str, opposite: str) -> str:
        """Close a position by an opposite one, as far as the smaller goes: one order, two deals."""
        with self._lock:
            first, second = self._holdings[int(leg)], self._holdings[int(opposite)]
            volume = min(abs(first.quantity), abs(second.quantity))
            price = second.price
            order = self._add_order(first.symbol, "close_by", volume, price, f"close #{leg} by #{opposite}"[:31])
            order.remaining, order.state, order.time_done_s = Decimal(0), "FILLED", self._now_s()
            order.position_id = first.ticket
            for held in (first, second):
                side = "sell" if held.quantity > 0 else "buy"
                self._deal(order.ticket, held.ticket, held.symbol, side, "out_by", volume, price)
                held.quantity -= volume if held.quantity > 0 else -volume
                if not held.quantity:
                    del self._holdings[held.ticket]
            return str(order.ticket)

    def hit(self, leg: str, why: str) -> str:
        """The stop (``sl``) or the target (``tp``) of a position closes it: an order and a deal of the server's own,
        with their reason. Returns the order."""
        reason = {"sl": 4, "tp": 5}[why]
        with self._lock:
            held = self._holdings.pop(int(leg))
            side = "sell" if held.quantity > 0 else "buy"
            order = self._add_order(held.symbol, side, abs(held.quantity), held.price, f"[{why} {held.price}]"[:31])
            order.remaining, order.state, order.time_done_s = Decimal(0), "FILLED", self._now_s()
            order.position_id, order.reason = held.ticket, reason
            volume = abs(held.quantity)
            self._deal(order.ticket, held.ticket, held.symbol, side, "out", volume, held.price, reason=reason)
            return str(order.ticket)

    def stop_out(self, leg: str, reason: int = 6) -> str:
        """The server closes a position for lack of margin, or for another of its reasons (DEAL_REASON); returns the
        deal."""
        with self._lock:
            held = self._holdings.pop(int(leg))
            side = "sell" if held.quantity > 0 else "buy"
            ticket = self._ticket()
            return self._deal(
                ticket, held.ticket, held.symbol, side, "out", abs(held.quantity), held.price, reason=reason
            )

    def book_money(self, kind: str | int, symbol: str = "", ticket: int | None = None) -> None:
        """Add a deal that moves only money: a dividend, a tax, interest, or one of an unknown type."""
        with self._lock:
            at = self._now_s()
            made = _Deal(ticket or self._ticket(), 0, 0, symbol, str(kind), "in", Decimal(0), Decimal(0), at)
            self._deals.append(made)

    def add_to_replies(self, **fields: object) -> None:
        """Add these fields to every reply (``last_error``, ``connected``, ``retcode``); called without any, stop."""
        with self._lock:
            self._beside = dict(fields)

    def lose_broker(self, **fields: object) -> None:
        """The terminal loses its broker: every list is empty, beside these fields. Called without any, it is back."""
        with self._lock:
            self._terse = dict(fields) if fields else None

    def date_deals_ahead(self, seconds: int) -> None:
        """Send the times of deals in another zone than the clock's."""
        with self._lock:
            self._deals_ahead_s = seconds

    def forget_positions(self) -> None:
        """Remove every position, without any deal."""
        with self._lock:
            self._holdings.clear()

    def _deal(
        self,
        order: int,
        position: int,
        symbol: str,
        side: str,
        entry: str,
        volume: Decimal,
        price: Decimal,
        *,
        reason: int = 0,
    ) -> str:
        made = _Deal(self._ticket(), order, position, symbol, side, entry, volume, price, self._now_s(), reason)
        self._deals.append(made)
        self._publish_deal(made)
        return str(made.ticket)

    def dump(self) -> str:
        """The whole state as JSON text."""
        with self._lock:
            state = {
                "last_ticket": self._last_ticket,
                "prices": self._prices,
                "holdings": [asdict(held) for held in self._holdings.values()],
                "orders": [asdict(order) for order in self._orders.values()],
                "deals": [asdict(deal) for deal in self._deals],
            }
            return json.dumps(state, default=str)

    def load(self, text: str) -> None:
        """Take over a state from :meth:`dump`, or raise ``ValueError`` and keep the present one."""
        try:
            state = json.loads(text)
            prices = {symbol: Decimal(price) for symbol, price in state["prices"].items()}
            holdings = [_Holding(**_decimals(row, "quantity", "price")) for row in state["holdings"]]
            orders = [_Order(**_decimals(row, "initial", "remaining", "price")) for row in state["orders"]]
            deals = [_Deal(**_decimals(row, "volume", "price")) for row in state["deals"]]
            last_ticket = int(state["last_ticket"])
        except (KeyError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
            raise ValueError(f"this is no state of an MT5 simulator: {error!r}") from error
        with self._lock:
            self._prices = prices
            self._holdings = {held.ticket: held for held in holdings}
            self._orders = {order.ticket: order for order in orders}
            self._deals = deals
            self._last_ticket = last_ticket

    # -- MetaTrader's books ----------------------------------------------------------------------------------------

    def _now_s(self) -> int:
        return int(self._clock().timestamp())

    def _ticket(self) -> int:
        self._last_ticket += 1
        return self._last_ticket

    def _leg(self, ticket: int) -> str:
        return NET if self._margin_mode == "netting" and not self._base_only else str(ticket)

    def _held(self, symbol: str, leg: str) -> _Holding | None:
        if self._margin_mode == "netting":
            return next((held for held in self._holdings.values() if held.symbol == symbol), None)
        return self._holdings.get(int(leg)) if leg.isdigit() else None

    def _resting(self, order_id: str) -> _Order:
        order = self._orders.get(int(order_id))
        if order is None or order.time_done_s:
            raise KeyError(f"no order {order_id} rests here")
        return order

    def _add_order(self, symbol: str, kind: str, quantity: Decimal, price: Decimal, comment: str | None) -> _Order:
        order = _Order(
            self._ticket(), symbol, kind, "PLACED", quantity, quantity, price, self._now_s(), 0, (comment or "")[:31], 0
        )
        self._orders[order.ticket] = order
        self.events.publish("order", symbol, order.ticket)
        self._trim()
        return order

    def _fill(self, order: _Order, quantity: Decimal, price: Decimal) -> str:
        if not 0 < quantity <= order.remaining:
            raise ValueError(f"cannot fill {quantity} of order {order.ticket}, of which {order.remaining} remains")
        order.remaining -= quantity
        order.state = "PARTIAL" if order.remaining else "FILLED"
        order.time_done_s = 0 if order.remaining else self._now_s()
        signed = order.side.sign * quantity
        held = self._held(order.symbol, str(order.position_id or order.ticket))
        if held is None:
            held = _Holding(order.ticket, order.symbol, signed, price, self._now_s())
            self._holdings[held.ticket] = held
            entry = "in"
        else:
            entry = _add(held, signed, price)
        order.position_id = held.ticket
        if not held.quantity:
            del self._holdings[held.ticket]
        deal = _Deal(
            self._ticket(),
            order.ticket,
            held.ticket,
            order.symbol,
            order.side.lower(),
            entry,
            quantity,
            price,
            self._now_s(),
        )
        self._deals.append(deal)
        self.events.publish("order", order.symbol, order.ticket)
        self._publish_deal(deal)
        self.events.publish("position", order.symbol, held.ticket)
        self._trim()
        return str(deal.ticket)

    def _close(self, held: _Holding, quantity: Decimal) -> str:
        side = "sell" if held.quantity > 0 else "buy"
        order = self._add_order(held.symbol, side, quantity, Decimal(0), None)
        order.position_id = held.ticket
        self._fill(order, quantity, self.price(held.symbol))
        return str(order.ticket)

    def _publish_deal(self, deal: _Deal) -> None:
        more: Json = {}
        if self.publishes_rows:
            more = {"login": self.login, "deal": _deal_row(deal) | {"time": deal.time_s + self._deals_ahead_s}}
            order = self._orders.get(deal.order)
            if order is not None:
                more["order"] = _order_row(order)
        self.events.publish("deal", deal.symbol, deal.ticket, **more)

    def _publish_drift(self, event: str, symbol: str, ticket: int) -> None:
        if not self._silent_drift:
            self.events.publish(event, symbol, ticket)

    def _trim(self) -> None:
        ended = [order.ticket for order in self._orders.values() if order.time_done_s]
        for ticket in ended[:-_ENDED_ORDERS_KEPT]:
            del self._orders[ticket]
        del self._deals[:-_DEALS_KEPT]

    # -- the gateway -----------------------------------------------------------------------------------------------

    def _reply(self, request: bytes) -> Scripted:
        try:
            content = json.loads(request)
            action = str(content["action"])
        except (ValueError, KeyError, TypeError):
            return Scripted(
                _encode({"status": "ERROR", "error": "the request is not JSON with an action"}), None, False
            )
        with self._lock:
            self._requests.append(action)
            fault = self.faults.take(action)
            reply = self._answer(action, content)
            if self._terse is not None and action in _SECTIONS:
                reply = {"status": "SUCCESS", _SECTIONS[action]: []} | self._terse
            if reply["status"] == "SUCCESS":
                reply |= self._beside
            if fault in _ERRORS:
                reply = {"status": "ERROR", "error": _ERRORS[fault]}
            elif fault is Fault.EMPTY:
                reply |= {_SECTIONS[action]: []} if action in _SECTIONS else {}
            elif fault is Fault.MALFORMED_ROW and action in _SECTIONS:
                self._spoil(reply, _SECTIONS[action])
            if self._echo and "request_id" in content:
                reply["request_id"] = content["request_id"]
            crossed = self._crossed > 0
            self._crossed -= crossed
        body = _encode(reply)
        if fault is Fault.HTML:
            body = b"<html><body>502 Bad Gateway</body></html>"
        elif fault is Fault.HALF_BODY:
            body = body[: len(body) // 2]
        return Scripted(body, fault, crossed)

    def _answer(self, action: str, content: Json) -> Json:
        if self._base_only and action != "GET_POSITIONS":
            return {"status": "ERROR", "error": f"unknown action {action}"}
        symbol = content.get("symbol", "*")
        if action == "GET_POSITIONS":
            rows = [_position_row(held) for held in self._holdings.values()]
        elif action == "GET_ORDERS":
            wanted = content.get("ticket")
            rows = [_order_row(order) for order in self._orders.values() if wanted in (None, order.ticket)]
        elif action == "GET_DEALS":
            since = content.get("since", 0)
            ahead_s = self._deals_ahead_s
            rows = [
                _deal_row(deal) | {"time": deal.time_s + ahead_s}
                for deal in self._deals
                if isinstance(since, int) and deal.time_s + ahead_s >= since
            ]
        elif action == "GET_ACCOUNT":
            facts: Json = {} if self._margin_mode is None else {"margin_mode": self._margin_mode}
            facts["margin"] = sum((abs(held.quantity) for held in self._holdings.values()), Decimal(0)) * 100
            facts |= {"server": "Loopback-Demo", "currency": "USD", "trade_allowed": True}
            return {"status": "SUCCESS", "login": self.login, "time": self._now_s(), **facts}
        elif action == "GET_SYMBOLS":
            named = {held.symbol for held in self._holdings.values()} | {o.symbol for o in self._orders.values()}
            return {"status": "SUCCESS", "symbols": sorted(named | self._prices.keys())}
        elif action == "PING":
            return {"status": "SUCCESS", "time": self._now_s()}
        else:
            return {"status": "ERROR", "error": f"unknown action {action}"}
        return {
            "status": "SUCCESS",
            _SECTIONS[action]: [row for row in rows if symbol in ("*", row["symbol"]) or not row["symbol"]],
        }

    def _spoil(self, reply: Json, section: str) -> None:
        """Make one row unreadable, an additional one where there is none."""
        rows = reply[section]
        if not isinstance(rows, list):
            return
        if not rows:
            rows.append({"symbol": next(iter(self._prices), "EURUSD")})
            return
        row = self._random.choice(rows)
        if self._random.random() < 0.5:
            del row["ticket"]
        else:
            row["volume_initial" if section == "orders" else "volume"] = "n/a"


def _add(held: _Holding, signed: Decimal, price: Decimal) -> str:
    """Add a deal to a position, as MetaTrader does: an increase averages, a reduction keeps the price."""
    total = held.quantity + signed
    if (held.quantity > 0) == (signed > 0):
        held.price = (held.quantity * held.price + signed * price) / total
        entry = "in"
    elif total and (total > 0) == (signed > 0):
        held.price = price
        entry = "inout"
    else:
        entry = "out"
    held.quantity = total
    return entry


def _decimals(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {**row, **{key: Decimal(str(row[key])) for key in keys}}


def _encode(reply: Json) -> bytes:
    return json.dumps(reply, default=float).encode()


def _position_row(held: _Holding) -> Json:
    return {
        "ticket": held.renamed or held.ticket,
        "identifier": held.ticket,
        "symbol": held.symbol,
        "type": "buy" if held.quantity > 0 else "sell",
        "volume": abs(held.quantity),
        "price_open": held.price,
        "profit": 0.0,
        "time": held.time_s,
    }


def _order_row(order: _Order) -> Json:
    return {
        "ticket": order.ticket,
        "symbol": order.symbol,
        "type": order.type,
        "state": order.state,
        "volume_initial": order.initial,
        "volume_current": order.remaining,
        "price_open": order.price,
        "time_setup": order.time_setup_s,
        "time_done": order.time_done_s,
        "comment": order.comment,
        "magic": 0,
        "position_id": order.position_id,
        "reason": order.reason,
    }


def _deal_row(deal: _Deal) -> Json:
    return {
        "ticket": deal.ticket,
        "order": deal.order,
        "position_id": deal.position_id,
        "symbol": deal.symbol,
        "type": deal.type,
        "entry": deal.entry,
        "volume": deal.volume,
        "price": deal.price,
        "commission": 0.0,
        "reason": deal.reason,
        "time": deal.time_s,
    }
