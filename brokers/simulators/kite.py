"""A simulated Zerodha account on loopback: Kite Connect's REST routes and its ticker. Scriptable, can misbehave."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from brokers.model import NET, Side
from brokers.simulators.base import Faults
from brokers.simulators.http import RawReply, Serving
from brokers.simulators.kite_http import KiteFace, Rest, order_json
from brokers.simulators.kite_ledger import RESTING, Contract, Holding, Ledger, Order, usual_product
from brokers.simulators.kite_ticker import TickerServer


class KiteSimulator:
    """One user; meets :class:`brokers.simulators.base.Simulator`.

    A position's leg is the product; without one an order uses the usual one (MIS for shares, else NRML). ``seed``
    determines the prices. Faults match against the SDK's name of a request, its method and its target, as in
    ``order_history GET /orders/251120000000001``. ``heartbeat_s`` is how often the ticker sends its byte.
    """

    def __init__(
        self,
        api_key: str,
        access_token: str,
        user_id: str,
        *,
        instruments: Sequence[str] = (),
        seed: int = 0,
        heartbeat_s: float = 1.0,
    ) -> None:
        self.faults = Faults()
        self._api_key = api_key
        self._token = access_token
        self._lock = threading.RLock()
        self._ledger = Ledger(seed)
        self._ledger.on_order = self._publish
        self._rest = Rest(self._ledger, user_id)
        self._face = KiteFace(self._rest, self.faults, lambda: f"token {self._api_key}:{self._token}", self._lock)
        self._serving = Serving(self._face, "kite-simulator")
        self.ticker = TickerServer(lambda key, token: (key, token) == (self._api_key, self._token), heartbeat_s)
        for instrument in instruments:
            self._ledger.price(instrument)

    def __repr__(self) -> str:
        return f"KiteSimulator({self._rest.user_id!r})"

    # -- serving ---------------------------------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[str, ...]:
        """Every request received so far, by method and target."""
        return tuple(self._face.requests)

    def start(self, port: int = 0) -> str:
        """Serve the REST routes; returns the ``rest_url``."""
        return f"http://127.0.0.1:{self._serving.start(port)}"

    def start_ticker(self, port: int = 0) -> str:
        """Serve the ticker as well; returns the ``stream_url``."""
        return f"ws://127.0.0.1:{self.ticker.start(port)}"

    def close(self) -> None:
        """Stop serving; no thread and no socket is left. May be called twice."""
        self._serving.close()
        self.ticker.close()

    def _publish(self, order: Order) -> None:
        self.ticker.send({"type": "order", "data": {"user_id": self._rest.user_id, **order_json(order)}})

    # -- the session -----------------------------------------------------------------------------------------------

    def answer_with(self, reply: RawReply, *, times: int = 1, match: str = "") -> None:
        """Answer exactly this to the next ``times`` requests that match; see :mod:`brokers.simulators.kite_http` for
        answers that Kite is known to send."""
        self._face.script(reply, times, match)

    def renew_token(self, access_token: str) -> None:
        """Accept this access token from now on, and no older one: 6 AM, or a login elsewhere."""
        self._token = access_token

    def log_in_as(self, user_id: str) -> None:
        """Make the session another user's."""
        self._rest.user_id = user_id

    def list_instruments(self, *names: str) -> None:
        """List these in the tables of instruments, besides the contracts that were described; by default none are
        listed."""
        self._rest.listed = names

    def describe(
        self, instrument: str, expiry: date, kind: str = "FUT", strike: Decimal = Decimal(0), *, lot: int = 1, name: str
    ) -> None:
        """List a contract: a FUT, CE or PE on ``name``. In the night after its last day it is gone."""
        with self._lock:
            self._ledger.contracts[instrument] = Contract(expiry.isoformat(), kind, strike, lot, name)

    def expire(self, instrument: str) -> None:
        """End a contract now: its position is gone, without a trade, and its row in the table."""
        with self._lock:
            self._ledger.expire(instrument)

    def next_day(self) -> None:
        """The night passes, by the broker's clock: orders and trades are gone, CNC is in the holdings."""
        with self._lock:
            self._ledger.next_day()

    def end_day(self) -> frozenset[str]:
        """The night, by a clock that goes on by itself: orders and trades are gone, CNC is in the holdings."""
        with self._lock:
            gone = frozenset(key for key, order in self._ledger.orders.items() if order.status in RESTING)
            self._ledger.end_day()
            return gone

    def set_clock(self, offset_s: float) -> None:
        """How far the broker's clock is ahead of the system's."""
        self._ledger.offset_s = offset_s

    # -- the script ------------------------------------------------------------------------------------------------

    def price(self, instrument: str) -> Decimal:
        """The present price of an instrument."""
        with self._lock:
            return self._ledger.price(instrument)

    def set_price(self, instrument: str, price: Decimal) -> None:
        """Set the price; market orders fill at it."""
        with self._lock:
            self._ledger.prices[instrument] = price

    def positions(self) -> dict[tuple[str, str], Decimal]:
        """The positions of ``net``, without the holdings."""
        with self._lock:
            return self._ledger.held()

    def trade(
        self,
        instrument: str,
        side: Side,
        quantity: Decimal,
        client_order_id: str | None = None,
        *,
        product: str | None = None,
    ) -> str:
        """A market order, filled at once at the present price."""
        with self._lock:
            order = self._ledger.place(instrument, side, quantity, None, client_order_id, product)
            self._ledger.fill(order, quantity, self._ledger.price(instrument))
            return order.id

    def place_limit(
        self,
        instrument: str,
        side: Side,
        quantity: Decimal,
        price: Decimal,
        client_order_id: str | None = None,
        *,
        product: str | None = None,
        variety: str = "regular",
    ) -> str:
        """An order that rests."""
        with self._lock:
            return self._ledger.place(instrument, side, quantity, price, client_order_id, product, variety).id

    def place_sliced(
        self,
        instrument: str,
        side: Side,
        quantities: Sequence[Decimal],
        price: Decimal,
        client_order_id: str | None = None,
        *,
        iceberg: bool = False,
        product: str | None = None,
        linked: bool = True,
    ) -> tuple[str, ...]:
        """Place one order in several, of these quantities; returns the ids of those that are placed. The next leg of an
        iceberg is placed when the one before it is filled. Unless ``linked``, only the tag shows that they belong
        together."""
        with self._lock:
            first = self._ledger.place(instrument, side, quantities[0], price, client_order_id, product)
            parts = self._ledger.sliced(first, list(quantities), iceberg=iceberg)
            for part in parts if not linked else ():
                part.tags = []
            return tuple(part.id for part in parts)

    def place_trigger(
        self, instrument: str, side: Side, quantity: Decimal, price: Decimal, product: str = "CNC"
    ) -> str:
        """Place a GTT; returns its id."""
        with self._lock:
            self._ledger.count += 1
            exchange, _, symbol = instrument.partition(":")
            order = {
                "exchange": exchange,
                "tradingsymbol": symbol,
                "product": product,
                "order_type": "LIMIT",
                "transaction_type": side.value,
                "quantity": int(quantity),
                "price": float(price),
                "result": None,
            }
            trigger_id = 100_000_000 + self._ledger.count
            condition = {"exchange": exchange, "tradingsymbol": symbol, "trigger_values": [float(price)]}
            self._ledger.triggers[str(trigger_id)] = {
                "id": trigger_id,
                "type": "single",
                "status": "active",
                "condition": condition,
                "orders": [order],
            }
            return str(trigger_id)

    def fire_trigger(self, trigger_id: str) -> str:
        """Fire a GTT: it places its order, which has no tag. Returns the order's id."""
        with self._lock:
            trigger = self._ledger.triggers[trigger_id]
            (row,) = trigger["orders"]
            name, side = f"{row['exchange']}:{row['tradingsymbol']}", Side(row["transaction_type"])
            price, quantity = Decimal(str(row["price"])), Decimal(row["quantity"])
            order = self._ledger.place(name, side, quantity, price, None, row["product"])
            row["result"] = {"order_result": {"status": "success", "order_id": order.id, "rejection_reason": ""}}
            trigger["status"] = "triggered"
            return order.id

    def fill_order(self, order_id: str, quantity: Decimal | None = None, price: Decimal | None = None) -> str:
        """Fill a resting order; the rest of one filled in part goes on resting."""
        with self._lock:
            order = self._resting(order_id)
            left = order.quantity - order.filled
            at = price or order.price or self._ledger.price(order.instrument)
            return self._ledger.fill(order, left if quantity is None else min(quantity, left), at).id

    def end_order(self, order_id: str, how: str = "CANCELLED") -> None:
        """End a resting order: ``CANCELLED``, ``REJECTED``, or ``EXPIRED``, for which Kite has no status: the order
        shows as cancelled, and as one with immediate-or-cancel validity."""
        if how not in {"CANCELLED", "EXPIRED", "REJECTED"}:
            raise ValueError(f"an order ends as one of CANCELLED, EXPIRED, REJECTED, not as {how}")
        with self._lock:
            order = self._resting(order_id)
            order.updated_at = self._ledger.stamp()
            if how == "EXPIRED":
                order.validity = "IOC"
            message = "Insufficient funds" if how == "REJECTED" else None
            self._ledger.changed(order, "REJECTED" if how == "REJECTED" else "CANCELLED", message)

    def set_status(self, order_id: str, status: str) -> None:
        """Show an order with this status."""
        with self._lock:
            self._ledger.changed(self._ledger.orders[order_id], status)

    def set_order(self, order_id: str, **fields: object) -> None:
        """Set fields of an order as they are, without a ticker message."""
        with self._lock:
            for name, value in fields.items():
                setattr(self._ledger.orders[order_id], name, value)

    def forget_order(self, order_id: str) -> None:
        """Remove every trace of an order."""
        with self._lock:
            if self._ledger.orders.pop(order_id, None) is None:
                raise ValueError(f"there is no order {order_id}")

    def set_position(self, instrument: str, leg: str, quantity: Decimal, price: Decimal) -> str:
        """Hold exactly this, without an order or a fill that explains it. ``leg`` is a product; for ``net`` or nothing
        the usual one."""
        product = usual_product(instrument) if leg in {"", NET} else leg
        with self._lock:
            self._ledger.hold(instrument, product, quantity, price)
        return product

    def set_holding(
        self,
        instrument: str,
        quantity: Decimal,
        price: Decimal,
        t1: Decimal = Decimal(0),
        *,
        pledged: Decimal = Decimal(0),
        used: Decimal = Decimal(0),
        isin: str = "",
        shown_as: str = "",
    ) -> None:
        """Hold this as delivered, ``t1`` more bought yesterday, and ``pledged`` more as collateral."""
        with self._lock:
            held = Holding(quantity, t1, used, price, pledged, isin=isin, shown_as=shown_as)
            self._ledger.holdings[instrument] = held

    def show_holding_as(self, instrument: str, shown_as: str, isin: str) -> None:
        """Show a holding under the name of another exchange."""
        with self._lock:
            held = self._ledger.holdings[instrument]
            held.shown_as, held.isin = shown_as, isin

    def convert(self, instrument: str, source: str, target: str, quantity: Decimal) -> None:
        """Convert a position into another product. The rows change as if both had been traded; no trade is listed."""
        with self._lock:
            self._ledger.convert(instrument, source, target, quantity)

    def open_market(self, order_id: str) -> None:
        """The session opens: an after-market order goes to the exchange."""
        with self._lock:
            order = self._ledger.orders[order_id]
            order.opened_at = order.updated_at = self._ledger.stamp()
            self._ledger.changed(order, "OPEN")

    def load_day(self, done: bool = True) -> None:
        """The morning: ``net`` and the holdings show nothing until they are loaded."""
        self._ledger.loading = not done

    def square_off(self, instrument: str, placed_by: str = "RMS1") -> None:
        """Zerodha's risk management closes every leg of an instrument."""
        with self._lock:
            for (held, product), quantity in self._ledger.held().items():
                if held == instrument:
                    side = Side.SELL if quantity > 0 else Side.BUY
                    order_id = self.trade(instrument, side, abs(quantity), product=product)
                    self._ledger.orders[order_id].placed_by = placed_by

    def forget_trades(self) -> None:
        """Stop listing the trades up to now."""
        with self._lock:
            self._ledger.trades.clear()

    def close_by_hand(self, instrument: str) -> None:
        """Close every leg by hand with a market order."""
        with self._lock:
            for (held, product), quantity in self._ledger.held().items():
                if held == instrument:
                    side = Side.SELL if quantity > 0 else Side.BUY
                    self.trade(instrument, side, abs(quantity), product=product)

    def dump(self) -> str:
        """The whole state as JSON text."""
        with self._lock:
            return self._ledger.dump()

    def load(self, text: str) -> None:
        """Take over a state."""
        with self._lock:
            self._ledger.load(text)

    def _resting(self, order_id: str) -> Order:
        order = self._ledger.orders.get(order_id)
        if order is None or order.status not in RESTING:
            raise ValueError(f"order {order_id} does not rest")
        return order
