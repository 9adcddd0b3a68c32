"""The REST face of a simulated Kite account: its routes, its envelope, and the ways in which both can go wrong."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import unquote

from brokers.model import Side
from brokers.simulators.base import REQUESTS_KEPT, Fault, Faults
from brokers.simulators.http import Body, RawReply, Reply
from brokers.simulators.kite_ledger import RESTING, ZERO, Contract, Ledger, Leg, Order, Trade


def success(data: Any) -> Reply:
    """Data in the envelope."""
    return Reply(200, {"status": "success", "data": data})


def error(status: int, kind: str, message: str) -> Reply:
    """An error in the envelope."""
    return Reply(status, {"status": "error", "message": message, "error_type": kind, "data": None})


NO_SUCH_ORDER = error(404, "OrderException", "Couldn't find that `order_id`.")
TOKEN_EXCEPTION = error(403, "TokenException", "Incorrect `api_key` or `access_token`.")

GATEWAY_TIMEOUT = RawReply(504, b"<html><body>504 Gateway Time-out</body></html>", "text/html")
NO_CONTENT_TYPE = RawReply(200, b'{"status": "success", "data": []}', None)
NO_ERROR_TYPE = RawReply(500, b'{"status": "error", "message": "Something went wrong"}')
NO_ERROR_TYPE_400 = RawReply(400, b'{"status": "error", "message": "Something went wrong"}')
DATA_NULL = RawReply(200, b'{"status": "success", "data": null}')
TOO_MANY = RawReply(
    429, b'{"status": "error", "message": "Too many requests", "error_type": "NetworkException", "data": null}'
)

_REFUSALS = {
    Fault.SERVER_ERROR: error(500, "GeneralException", "Something unexpected went wrong"),
    Fault.UNAVAILABLE: error(503, "NetworkException", "The order management system is not reachable"),
    Fault.RATE_LIMITED: error(429, "NetworkException", "Too many requests"),
    Fault.UNAUTHORIZED: TOKEN_EXCEPTION,
}


# -- what the account looks like in JSON ---------------------------------------------------------------------------


def number(value: Decimal) -> int | float:
    """A number as Kite writes it: whole ones without a point."""
    return int(value) if value == value.to_integral_value() else float(value)


def _symbol(instrument: str) -> Body:
    exchange, _, tradingsymbol = instrument.partition(":")
    return {"exchange": exchange, "tradingsymbol": tradingsymbol, "instrument_token": 408065}


def position_json(leg: Leg, last_price: Decimal) -> Body:
    """A row of ``net``."""
    return {
        **_symbol(leg.instrument),
        "product": leg.product,
        "quantity": number(leg.quantity),
        "overnight_quantity": number(leg.overnight),
        "multiplier": leg.multiplier,
        "average_price": number(leg.price),
        "last_price": number(last_price),
        "day_buy_quantity": number(leg.bought),
        "day_sell_quantity": number(leg.sold),
        "pnl": number((last_price - leg.price) * leg.quantity * leg.multiplier),
    }


def order_json(order: Order, status: str | None = None, filled: Decimal | None = None, at: str | None = None) -> Body:
    """An order, or one state of its history. As at Kite, a cancelled order also shows the cancelled part as pending."""
    filled = order.filled if filled is None else filled
    status = status or order.status
    left = order.quantity - filled
    return {
        "account_id": "AB1234",
        "placed_by": order.placed_by,
        "order_id": order.id,
        "exchange_order_id": f"11{order.id}",
        "parent_order_id": order.parent,
        "status": status,
        "status_message": order.message,
        "order_timestamp": order.placed_at,
        "exchange_update_timestamp": at or order.updated_at,
        "exchange_timestamp": order.opened_at if order.variety == "amo" else order.placed_at,
        "variety": order.variety,
        **_symbol(order.instrument),
        "order_type": order.kind,
        "transaction_type": order.side,
        "validity": order.validity,
        "validity_ttl": order.validity_ttl,
        "product": order.product,
        "quantity": number(order.quantity),
        "price": number(order.price or ZERO),
        "trigger_price": 0,
        "average_price": number(order.notional / order.filled) if filled and order.filled else 0,
        "filled_quantity": number(filled),
        "pending_quantity": number(left),
        "cancelled_quantity": number(left) if status.startswith("CANCELLED") else 0,
        "tag": order.tag,
        "tags": [*([order.tag] if order.tag else []), *order.tags],
        "meta": {"iceberg": order.iceberg} if order.iceberg else {},
    }


TABLE_HEAD = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,"
    "instrument_type,segment,exchange"
)


def table_csv(rows: Mapping[str, Contract | None]) -> str:
    """A table of instruments as Kite writes it: names without a contract are shares."""
    lines = [TABLE_HEAD]
    for place, (instrument, found) in enumerate(rows.items(), 1):
        exchange, _, symbol = instrument.partition(":")
        begin = f'{place * 256},{place},{symbol},"{symbol if found is None else found.name}",0'
        if found is None:
            lines.append(f"{begin},,0,0.05,1,EQ,{exchange},{exchange}")
            continue
        segment = f"{exchange}-{'FUT' if found.kind == 'FUT' else 'OPT'}"
        terms = f"{found.expiry},{number(found.strike)},0.05,{found.lot},{found.kind}"
        lines.append(f"{begin},{terms},{segment},{exchange}")
    return "\n".join(lines) + "\n"


def trade_json(trade: Trade) -> Body:
    """A trade; its order's timestamp is only a time of day."""
    return {
        "trade_id": trade.id,
        "order_id": trade.order_id,
        "exchange_order_id": f"11{trade.order_id}",
        **_symbol(trade.instrument),
        "product": trade.product,
        "average_price": number(trade.price),
        "quantity": number(trade.quantity),
        "transaction_type": trade.side,
        "fill_timestamp": trade.at,
        "exchange_timestamp": trade.at,
        "order_timestamp": trade.at[11:],
    }


_PROFILE: Body = {
    "user_name": "A",
    "broker": "ZERODHA",
    "exchanges": ["NSE", "BSE", "NFO", "MCX"],
    "products": ["CNC", "NRML", "MIS", "MTF"],
    "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
}

# -- the routes ----------------------------------------------------------------------------------------------------


class Rest:
    """The routes, over one ledger. Not locked: the simulator serialises its calls."""

    def __init__(self, ledger: Ledger, user_id: str) -> None:
        self.ledger = ledger
        self.user_id = user_id
        self.listed: tuple[str, ...] | None = None

    def operation(self, method: str, path: str) -> tuple[str, Callable[[Body], Reply | RawReply]]:
        """The SDK's name of a request, and the function that answers its parameters."""
        match method, [unquote(part) for part in path.strip("/").split("/")]:
            case "GET", ["user", "profile"]:
                return "profile", lambda _: success({"user_id": self.user_id, **_PROFILE})
            case "GET", ["portfolio", "positions"]:
                return "positions", lambda _: success(self._positions())
            case "GET", ["portfolio", "holdings"]:
                return "holdings", lambda _: success(self._holdings())
            case "GET", ["instruments"]:
                return "instruments", lambda _: self._instruments(None)
            case "GET", ["instruments", exchange]:
                return "instruments", lambda _: self._instruments(exchange)
            case "GET", ["orders"]:
                return "orders", lambda _: success([order_json(order) for order in self.ledger.orders.values()])
            case "GET", ["trades"]:
                return "trades", lambda _: success([trade_json(trade) for trade in self.ledger.trades])
            case "GET", ["gtt", "triggers"]:
                return "get_gtts", lambda _: success(list(self.ledger.triggers.values()))
            case "GET", ["gtt", "triggers", trigger_id]:
                return "get_gtt", lambda _: self._trigger(trigger_id)
            case "GET", ["orders", order_id]:
                return "order_history", lambda _: self._history(order_id)
            case "GET", ["orders", order_id, "trades"]:
                return "order_trades", lambda _: self._trades_of(order_id)
            case "POST", ["orders", variety]:
                return "place_order", lambda params: self._place(variety, params)
            case "DELETE", ["orders", variety, order_id]:
                return "cancel_order", lambda _: self._cancel(variety, order_id)
        return "unknown", lambda _: error(404, "GeneralException", "Route not found")

    def _instruments(self, exchange: str | None) -> RawReply:
        """The table of an exchange's instruments, or of all: the listed names, and the contracts."""
        listed = dict.fromkeys(self.listed or ()) | self.ledger.contracts
        rows = {name: row for name, row in listed.items() if exchange in (None, name.partition(":")[0])}
        return RawReply(200, table_csv(rows).encode(), "text/csv")

    def _positions(self) -> Body:
        legs = [] if self.ledger.loading else self.ledger.legs.values()
        rows = [position_json(leg, self.ledger.price(leg.instrument)) for leg in legs]
        return {"net": rows, "day": [row for row in rows if row["day_buy_quantity"] or row["day_sell_quantity"]]}

    def _holdings(self) -> list[Body]:
        return [
            {
                **_symbol(held.shown_as or instrument),
                "isin": held.isin,
                "product": "CNC",
                "quantity": number(held.quantity),
                "t1_quantity": number(held.t1),
                "used_quantity": number(held.used),
                "realised_quantity": number(held.quantity),
                "opening_quantity": number(held.quantity + held.t1),
                "collateral_quantity": number(held.pledged),
                "average_price": number(held.price),
                "mtf": {
                    "quantity": number(held.margin),
                    "used_quantity": 0,
                    "average_price": number(held.margin_price),
                },
            }
            for instrument, held in self.ledger.holdings.items()
            if not self.ledger.loading
        ]

    def _trigger(self, trigger_id: str) -> Reply:
        found = self.ledger.triggers.get(trigger_id)
        return error(404, "GeneralException", "Trigger not found") if found is None else success(found)

    def _history(self, order_id: str) -> Reply:
        order = self.ledger.orders.get(order_id)
        if order is None:
            return NO_SUCH_ORDER
        return success([order_json(order, status, Decimal(filled), at) for status, filled, at in order.states])

    def _trades_of(self, order_id: str) -> Reply:
        if order_id not in self.ledger.orders:
            return NO_SUCH_ORDER
        return success([trade_json(trade) for trade in self.ledger.trades if trade.order_id == order_id])

    def _place(self, variety: str, params: Body) -> Reply:
        try:
            instrument = f"{params['exchange']}:{params['tradingsymbol']}"
            side, quantity = Side(params["transaction_type"]), Decimal(params["quantity"])
            price = Decimal(params["price"]) if params.get("order_type") == "LIMIT" else None
        except (KeyError, ValueError, InvalidOperation):
            return error(400, "InputException", "Missing or bad parameters")
        tag, product = params.get("tag"), params.get("product")
        order = self.ledger.place(instrument, side, quantity, price, tag, product, variety)
        if price is None:
            self.ledger.fill(order, quantity, self.ledger.price(instrument))
        return success({"order_id": order.id})

    def _cancel(self, variety: str, order_id: str) -> Reply:
        order = self.ledger.orders.get(order_id)
        if order is None:
            return NO_SUCH_ORDER
        if order.variety != variety:
            return error(400, "InputException", "Invalid `variety`")
        if order.status not in RESTING:
            return error(400, "OrderException", "Order cannot be cancelled as it is not open")
        order.updated_at = self.ledger.stamp()
        self.ledger.changed(order, "CANCELLED")
        return success({"order_id": order_id})


# -- how it can lie ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scripted:
    reply: RawReply
    match: str


class KiteFace:
    """The server's answers; see :class:`brokers.simulators.http.Face`."""

    refusals = _REFUSALS

    def __init__(self, rest: Rest, faults: Faults, authorization: Callable[[], str], lock: threading.RLock) -> None:
        self.rest = rest
        self.faults = faults
        self.requests: deque[str] = deque(maxlen=REQUESTS_KEPT)
        self._authorization = authorization
        self._lock = lock
        self._scripted: deque[_Scripted] = deque()

    def script(self, reply: RawReply, times: int, match: str) -> None:
        """Answer exactly this to the next ``times`` requests whose name, method and target contain ``match``."""
        with self._lock:
            self._scripted.extend([_Scripted(reply, match)] * times)

    def received(self, method: str, target: str) -> None:
        """Note the request."""
        self.requests.append(f"{method} {target}")

    def name_of(self, method: str, path: str) -> str:
        """The SDK's method."""
        return self.rest.operation(method, path)[0]

    def unauthorized(self, authorization: str | None) -> Reply | None:
        """TokenException for any other session than the present one."""
        return None if authorization == self._authorization() else TOKEN_EXCEPTION

    def answer(self, method: str, path: str, params: Body) -> Reply | RawReply:
        """A scripted reply, else the honest one."""
        with self._lock:
            name, operation = self.rest.operation(method, path)
            for scripted in self._scripted:
                if scripted.match in f"{name} {method} {path}":
                    self._scripted.remove(scripted)
                    return scripted.reply
            return operation(params)

    def emptied(self, body: Body) -> Body:
        """The same envelope without a row."""
        data = body.get("data")
        if isinstance(data, list):
            return {**body, "data": []}
        if isinstance(data, dict):
            return {**body, "data": {key: [] if isinstance(rows, list) else rows for key, rows in data.items()}}
        return body

    def spoiled(self, body: Body) -> Body:
        """The same envelope with the first row of each list unreadable, or such a row added where there was none."""
        data = body.get("data")
        if isinstance(data, list):
            return {**body, "data": _spoil(data)}
        if isinstance(data, dict):
            return {
                **body,
                "data": {key: _spoil(rows) if _is_listing(rows) else [rows] for key, rows in data.items()},
            }
        return body

    def now(self) -> float:
        """The broker's clock."""
        return self.rest.ledger.now()


def _is_listing(rows: object) -> bool:
    return isinstance(rows, list) and not any(isinstance(row, str) for row in rows)


def _spoil(rows: list[Any]) -> list[Any]:
    first = {key: value for key, value in (rows[0] if rows else {}).items() if key != "tradingsymbol"}
    return [{**first, "quantity": "abc"}, *rows[1:]]
