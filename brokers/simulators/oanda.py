"""A simulated OANDA account on loopback: v20's REST paths and its transaction stream over its own books. Scriptable,
and able to misbehave."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from brokers.model import Side
from brokers.simulators.base import Faults
from brokers.simulators.http import Reply, Serving
from brokers.simulators.oanda_http import OandaFace, Rest
from brokers.simulators.oanda_ledger import DEPENDENT, LONG, SHORT, Ledger, Order
from brokers.simulators.oanda_stream import HEARTBEAT_S, Books, TransactionServer

_ENDS = {"CANCELLED": "CLIENT_REQUEST", "EXPIRED": "TIME_IN_FORCE_EXPIRED", "REJECTED": "INSUFFICIENT_MARGIN"}


class OandaSimulator:
    """One account; meets :class:`brokers.simulators.base.Simulator`.

    ``hedging`` lets a long and a short leg stand side by side: an opposite order opens the other leg. ``seed``
    determines the prices. Faults match against the SDK's name of a request, its method and its path with the query, as
    in ``AccountDetails GET /v3/accounts/101-001-1-001``. ``heartbeat_s`` is how often the transaction stream sends a
    heartbeat.
    """

    def __init__(
        self,
        account_id: str,
        token: str,
        *,
        instruments: Sequence[str] = (),
        hedging: bool = False,
        seed: int = 0,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self.faults = Faults()
        self._lock = Books()
        self._ledger = Ledger(account_id, hedging=hedging, seed=seed)
        self._rest = Rest(self._ledger)
        self._rest.instruments = tuple(instruments)
        self._face = OandaFace(token, self.faults, self._answer)
        self._face.name_of = lambda method, path: self._rest.operation(method, path)[0]
        self._serving = Serving(self._face, "oanda-simulator")
        self.stream = TransactionServer(self._face, self._ledger, self._lock, heartbeat_s)
        for instrument in instruments:
            self._ledger.price(instrument)

    def __repr__(self) -> str:
        return f"OandaSimulator({self._ledger.account_id!r})"

    # -- serving -------------------------------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[str, ...]:
        """Every request received so far, by method and path with its query."""
        return tuple(self._face.requests)

    def start(self, port: int = 0) -> str:
        """Serve; returns the ``rest_url``."""
        return f"http://127.0.0.1:{self._serving.start(port)}"

    def start_stream(self, port: int = 0) -> str:
        """Serve the transaction stream as well; returns the ``stream_url``."""
        return f"http://127.0.0.1:{self.stream.start(port)}"

    def close(self) -> None:
        """Stop serving; no thread and no socket is left. May be called twice."""
        self.stream.close()
        self._serving.close()

    def _answer(self, method: str, path: str, params: dict[str, Any]) -> Reply:
        with self._lock:
            return self._rest.operation(method, path)[1](params)

    # -- the script ----------------------------------------------------------------------------------------------

    def price(self, instrument: str) -> Decimal:
        """The present price of an instrument."""
        with self._lock:
            return self._ledger.price(instrument)

    def set_price(self, instrument: str, price: Decimal) -> None:
        """Set the price; market orders fill at it."""
        with self._lock:
            self._ledger.prices[instrument] = price

    def positions(self) -> dict[tuple[str, str], Decimal]:
        """The true holdings."""
        with self._lock:
            return self._ledger.legs()

    def trade(self, instrument: str, side: Side, quantity: Decimal, client_order_id: str | None = None) -> str:
        """A market order, filled at once at the present price."""
        return self._market(instrument, quantity * side.sign, client_order_id, "DEFAULT")

    def _market(self, instrument: str, units: Decimal, client_order_id: str | None, mode: str) -> str:
        with self._lock:
            order = self._ledger.create("MARKET", instrument, units, client_id=client_order_id)
            self._ledger.fill(order, units, self._ledger.price(instrument), mode=mode, batch=order.id)
            return str(order.id)

    def place_limit(
        self, instrument: str, side: Side, quantity: Decimal, price: Decimal, client_order_id: str | None = None
    ) -> str:
        """A limit order that rests."""
        with self._lock:
            units = quantity * side.sign
            return str(self._ledger.create("LIMIT", instrument, units, price=price, client_id=client_order_id).id)

    def place_dependent(self, instrument: str, leg: str, kind: str, price: Decimal) -> str:
        """A TAKE_PROFIT, STOP_LOSS or TRAILING_STOP_LOSS on the oldest open trade of a leg."""
        if kind not in DEPENDENT:
            raise ValueError(f"{kind} depends on no trade; expected one of {', '.join(DEPENDENT)}")
        with self._lock:
            lots = [lot for lot in self._ledger.open_trades(instrument) if (lot.units > 0) == (leg == LONG)]
            if not lots:
                raise ValueError(f"no open trade in {instrument} {leg}")
            worked_at = None if kind == "TRAILING_STOP_LOSS" else price
            return str(self._ledger.create(kind, None, None, price=worked_at, trade_id=lots[0].id).id)

    def reject(self, instrument: str, side: Side, quantity: Decimal, client_order_id: str | None = None) -> str:
        """Place a limit order that the broker refuses at once; returns the id of the refusing transaction."""
        with self._lock:
            price = self._ledger.price(instrument)
            number = self._ledger.reject(
                instrument, quantity * side.sign, price, client_order_id, "PRICE_PRECISION_EXCEEDED"
            )
            return str(number)

    def replace_order(self, order_id: str, price: Decimal) -> str:
        """Amend a resting order's price, which at OANDA replaces the order by another one; returns that one's id."""
        with self._lock:
            return str(self._ledger.replace(self._resting(order_id), price).id)

    def fill_order(self, order_id: str, quantity: Decimal | None = None, price: Decimal | None = None) -> str:
        """Fill a resting order. As at OANDA, a partly filled order ends: the rest is gone."""
        with self._lock:
            order = self._resting(order_id)
            lot = self._ledger.trades[order.trade_id] if order.trade_id is not None else None
            whole = -lot.units if lot is not None else order.units or Decimal(0)
            instrument = lot.instrument if lot is not None else str(order.instrument)
            units = whole if quantity is None else min(quantity, abs(whole)) * (1 if whole > 0 else -1)
            at = price or order.price or self._ledger.price(instrument)
            return str(self._ledger.fill(order, units, at))

    def end_order(self, order_id: str, how: str = "CANCELLED") -> None:
        """End a resting order: ``CANCELLED``, ``EXPIRED`` or ``REJECTED``."""
        if how not in _ENDS:
            raise ValueError(f"an order ends as one of {', '.join(_ENDS)}, not as {how}")
        with self._lock:
            self._ledger.cancel(self._resting(order_id), _ENDS[how])

    def forget_order(self, order_id: str) -> None:
        """Remove every trace of an order."""
        with self._lock:
            order = self._ledger.find(order_id)
            if order is None:
                raise ValueError(f"there is no order {order_id}")
            self._ledger.forget(order)

    def set_position(self, instrument: str, leg: str, quantity: Decimal, price: Decimal) -> str:
        """Hold exactly this, without an order or a fill that explains it. ``leg`` is ``long`` or ``short``; for any
        other word the sign decides. Without hedging the other leg goes."""
        own = LONG if quantity > 0 else SHORT
        side = leg if leg in {LONG, SHORT} else own
        if quantity and side != own:
            raise ValueError(f"a {leg} leg cannot hold {quantity}")
        with self._lock:
            self._ledger.hold(instrument, side, quantity, price)
            if not quantity and leg not in {LONG, SHORT}:
                self._ledger.hold(instrument, LONG, quantity, price)
        return side

    def close_by_hand(self, instrument: str) -> None:
        """Close every leg by hand with a market order."""
        with self._lock:
            for (held, _), units in self._ledger.legs().items():
                if held == instrument:
                    self._market(instrument, -units, None, "REDUCE_ONLY")

    def close_out(self, instrument: str, reason: str = "MARKET_ORDER_MARGIN_CLOSEOUT") -> None:
        """The broker closes every leg for lack of margin, or for another reason, by market orders of its own."""
        with self._lock:
            for (held, _), units in self._ledger.legs().items():
                if held != instrument:
                    continue
                order = self._ledger.create("MARKET", instrument, -units)
                price = self._ledger.price(instrument)
                number = self._ledger.fill(order, -units, price, mode="REDUCE_ONLY", batch=order.id)
                row = self._ledger.transaction(number)
                assert row is not None  # noqa: S101 - it was recorded just now
                row["reason"] = reason

    def forget_transactions(self) -> None:
        """Stop listing the present transactions: a request for what came after an older one is out of range."""
        with self._lock:
            self._ledger.list_floor, self._ledger.changes_floor = self._ledger.last + 1, self._ledger.last

    def dump(self) -> str:
        """The whole state as JSON text."""
        with self._lock:
            return self._ledger.dump()

    def load(self, text: str) -> None:
        """Take over a state."""
        with self._lock:
            self._ledger.load(text)

    def _resting(self, order_id: str) -> Order:
        order = self._ledger.find(order_id)
        if order is None or order.state != "PENDING":
            raise ValueError(f"order {order_id} does not rest")
        return order
