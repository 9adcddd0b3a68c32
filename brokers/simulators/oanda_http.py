"""The v20 REST face of a simulated OANDA account: its JSON, its HTTP, and the ways in which both can go wrong."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from brokers.simulators.base import REQUESTS_KEPT, Fault, Faults
from brokers.simulators.http import Body, Reply
from brokers.simulators.oanda_ledger import LONG, SHORT, ZERO, Ledger, Order, Trade, plain

PAGE = 1000


def error(status: int, message: str) -> Reply:
    """An error as v20 words it."""
    return Reply(status, {"errorMessage": message})


# -- what the account looks like in JSON ---------------------------------------------------------------------------


def trade_json(lot: Trade) -> Body:
    """A trade."""
    row = {
        "id": str(lot.id),
        "instrument": lot.instrument,
        "price": plain(lot.price),
        "openTime": lot.opened_at,
        "initialUnits": plain(lot.initial),
        "currentUnits": plain(lot.units),
        "state": "OPEN" if lot.units else "CLOSED",
        "realizedPL": "0.0000",
        "financing": "0.0000",
    }
    return row if lot.closed is None else {**row, "closingTransactionIDs": [str(lot.closed)]}


def order_json(order: Order) -> Body:
    """An order of any type, without the fields it does not have."""
    row = {
        "id": str(order.id),
        "createTime": order.created_at,
        "type": order.type,
        "state": order.state,
        "instrument": order.instrument,
        "units": plain(order.units) if order.units is not None else None,
        "tradeID": _id(order.trade_id),
        "price": plain(order.price) if order.price is not None else None,
        "clientExtensions": {"id": order.client_id} if order.client_id is not None else None,
        "fillingTransactionID": _id(order.filling),
        "cancellingTransactionID": _id(order.cancelling),
        "replacedByOrderID": _id(order.replaced_by),
        "timeInForce": "FOK" if order.type == "MARKET" else "GTC",
        "positionFill": order.position_fill if order.trade_id is None else None,
    }
    return {key: value for key, value in row.items() if value is not None}


def _id(number: int | None) -> str | None:
    return None if number is None else str(number)


def position_json(ledger: Ledger, instrument: str) -> Body:
    """A position with both sides; the average price is that of the open trades, shown to the instrument's step."""
    row: Body = {"instrument": instrument, "pl": "0.0000", "unrealizedPL": "0.0000"}
    for leg, sign in ((LONG, 1), (SHORT, -1)):
        lots = [lot for lot in ledger.open_trades(instrument) if lot.units * sign > 0]
        units = sum((lot.units for lot in lots), ZERO)
        side: Body = {"units": plain(units), "pl": "0.0000", "unrealizedPL": "0.0000"}
        if lots:
            cost = sum((lot.units * lot.price for lot in lots), ZERO)
            side["averagePrice"] = plain(_shown(cost / units, ledger.step(instrument), lots))
            side["tradeIDs"] = [str(lot.id) for lot in lots]
        row[leg] = side
    return row


def _shown(average: Decimal, step: Decimal, lots: list[Trade]) -> Decimal:
    """An average as it is shown; where all lots have one price, that price."""
    return lots[0].price if len({lot.price for lot in lots}) == 1 else average.quantize(step)


class Rest:
    """The paths, over one ledger. Not locked: the simulator serialises its calls."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.instruments: tuple[str, ...] = ()

    def operation(self, method: str, path: str) -> tuple[str, Callable[[Body], Reply]]:
        """The SDK's name of a request, and the function that answers its parameters."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[:2] != ["v3", "accounts"]:
            return "Unknown", lambda _: error(404, "Resource not found")
        if len(parts) == 2:
            return "AccountList", lambda _: Reply(200, {"accounts": [{"id": self.ledger.account_id, "tags": []}]})
        if parts[2] != self.ledger.account_id:
            return "Unknown", lambda _: error(403, "The provided request was forbidden.")
        return self._route(method, parts[3:])

    def _route(self, method: str, rest: list[str]) -> tuple[str, Callable[[Body], Reply]]:
        match method, rest:
            case "GET", []:
                return "AccountDetails", lambda _: self._reply({"account": self._account(whole=True)})
            case "GET", ["summary"]:
                return "AccountSummary", lambda _: self._reply({"account": self._account(whole=False)})
            case "GET", ["changes"]:
                return "AccountChanges", self._changes
            case "GET", ["instruments"]:
                return "AccountInstruments", lambda _: self._reply({"instruments": self._instruments()})
            case "GET", ["orders"]:
                return "OrderList", self._order_list
            case "GET", ["pendingOrders"]:
                return "OrdersPending", lambda _: self._reply({"orders": self._pending()})
            case "GET", ["orders", specifier]:
                return "OrderDetails", lambda _: self._order(specifier)
            case "PUT", ["orders", specifier, "cancel"]:
                return "OrderCancel", lambda _: self._cancel(specifier)
            case "GET", ["openPositions"]:
                return "OpenPositions", lambda _: self._reply({"positions": self._positions(flat=False)})
            case "GET", ["positions"]:
                return "PositionList", lambda _: self._reply({"positions": self._positions(flat=True)})
            case "GET", ["openTrades"]:
                return "OpenTrades", lambda _: self._reply({"trades": self._trades()})
            case "GET", ["trades", number]:
                return "TradeDetails", lambda _: self._trade(number)
            case "GET", ["transactions", "sinceid"]:
                return "TransactionsSinceID", self._since
            case "GET", ["transactions", "idrange"]:
                return "TransactionIDRange", self._range
            case "GET", ["transactions", number]:
                return "TransactionDetails", lambda _: self._transaction(number)
        return "Unknown", lambda _: error(404, "Resource not found")

    def _reply(self, body: Body) -> Reply:
        return Reply(200, {**body, "lastTransactionID": str(self.ledger.last)})

    def _account(self, *, whole: bool) -> Body:
        held = {instrument for instrument, _ in self.ledger.legs()}
        row: Body = {
            "id": self.ledger.account_id,
            "currency": "EUR",
            "balance": "100000.0000",
            "hedgingEnabled": self.ledger.hedging,
            "guaranteedStopLossOrderMode": "DISABLED",
            "marginUsed": f"{sum(abs(units) for units in self._held_units()) / 30:.4f}",
            "positionValue": f"{sum(abs(units) for units in self._held_units()):.4f}",
            "openPositionCount": len(held),
            "openTradeCount": len(self.ledger.open_trades()),
            "pendingOrderCount": len(self._pending()),
            "lastTransactionID": str(self.ledger.last),
        }
        if whole:
            row |= {"positions": self._positions(flat=True), "orders": self._pending(), "trades": self._trades()}
        return row

    def _held_units(self) -> list[Decimal]:
        return list(self.ledger.legs().values())

    def _positions(self, *, flat: bool) -> list[Body]:
        held = {instrument for instrument, _ in self.ledger.legs()}
        return [position_json(self.ledger, name) for name in self.ledger.touched if flat or name in held]

    def _pending(self) -> list[Body]:
        return [order_json(order) for order in self.ledger.orders.values() if order.state == "PENDING"]

    def _trades(self) -> list[Body]:
        return [trade_json(lot) for lot in self.ledger.open_trades()]

    def _instruments(self) -> list[Body]:
        names = dict.fromkeys([*self.instruments, *self.ledger.prices, *self.ledger.touched])
        return [{"name": name, "displayName": name.replace("_", "/"), "type": "CURRENCY"} for name in names]

    def _order_list(self, params: Body) -> Reply:
        state = params.get("state", "PENDING")
        rows = [order_json(order) for order in self.ledger.orders.values() if state in {"ALL", order.state}]
        return self._reply({"orders": rows})

    def _order(self, specifier: str) -> Reply:
        order = self.ledger.find(specifier)
        return (
            error(404, "The order ID specified does not exist")
            if order is None
            else self._reply({"order": order_json(order)})
        )

    def _trade(self, number: str) -> Reply:
        lot = self.ledger.trades.get(int(number)) if number.isdigit() else None
        return (
            error(404, "The trade ID specified does not exist")
            if lot is None
            else self._reply({"trade": trade_json(lot)})
        )

    def _transaction(self, number: str) -> Reply:
        row = self.ledger.transaction(int(number)) if number.isdigit() else None
        return (
            error(404, "The transaction ID specified does not exist")
            if row is None
            else self._reply({"transaction": row})
        )

    def _cancel(self, specifier: str) -> Reply:
        order = self.ledger.find(specifier)
        if order is None or order.state != "PENDING":
            return error(404, "The order ID specified does not exist")
        number = self.ledger.cancel(order, "CLIENT_REQUEST")
        return self._reply(
            {"orderCancelTransaction": self.ledger.transaction(number), "relatedTransactionIDs": [str(number)]}
        )

    def _since(self, params: Body) -> Reply:
        since = _number(params.get("id"))
        if since is None:
            return error(400, "Invalid value specified for 'id'")
        if not self.ledger.list_floor - 1 <= since <= self.ledger.last:
            return error(416, "The transaction ID is out of range")
        return self._reply({"transactions": self.ledger.after(since)[:PAGE]})

    def _range(self, params: Body) -> Reply:
        first, to = _number(params.get("from")), _number(params.get("to"))
        if first is None or to is None:
            return error(400, "Invalid value specified for 'from' or 'to'")
        if not self.ledger.list_floor <= first <= to <= self.ledger.last or to - first >= PAGE:
            return error(416, "The transaction ID range is out of range")
        return self._reply({"transactions": self.ledger.after(first - 1)[: to - first + 1]})

    def _changes(self, params: Body) -> Reply:
        since = _number(params.get("sinceTransactionID"))
        if since is None:
            return error(400, "Invalid value specified for 'sinceTransactionID'")
        if not self.ledger.changes_floor <= since <= self.ledger.last:
            return error(416, "The sinceTransactionID is out of range")
        orders, trades = self.ledger.orders.values(), self.ledger.trades.values()

        def after(number: int | None) -> bool:
            return number is not None and number > since

        changes = {
            "ordersCreated": [order_json(o) for o in orders if after(o.id)],
            "ordersCancelled": [order_json(o) for o in orders if after(o.cancelling)],
            "ordersFilled": [order_json(o) for o in orders if after(o.filling)],
            "ordersTriggered": [],
            "tradesOpened": [trade_json(t) for t in trades if after(t.id)],
            "tradesReduced": [trade_json(t) for t in trades if t.closed is None and any(map(after, t.reduced))],
            "tradesClosed": [trade_json(t) for t in trades if after(t.closed)],
            "positions": [position_json(self.ledger, name) for name, at in self.ledger.touched.items() if after(at)],
            "transactions": self.ledger.after(since),
        }
        return self._reply({"changes": changes, "state": {"orders": [], "trades": [], "positions": []}})


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else None


# -- how it can lie ------------------------------------------------------------------------------------------------


def emptied(value: Any) -> Any:
    """The same answer without a row in any of its lists; its other fields stay."""
    if isinstance(value, dict):
        return {key: emptied(item) for key, item in value.items()}
    return [] if isinstance(value, list) else value


def spoiled(value: Any) -> Any:
    """The same answer with one row of each list unreadable (the first; of transactions the first fill): without its
    instrument, and with units that are not a number. Where no position can be spoiled, a broken row is added."""
    if isinstance(value, dict):
        spoilt = {key: _spoil_list(key, item) if isinstance(item, list) else item for key, item in value.items()}
        for key in ("account", "changes", "order", "transaction"):
            if isinstance(value.get(key), dict):
                spoilt[key] = _break(value[key]) if key in {"order", "transaction"} else spoiled(value[key])
        return spoilt
    return value


def _spoil_list(key: str, rows: list[Any]) -> list[Any]:
    if rows and isinstance(rows[0], dict):
        fills = (place for place, row in enumerate(rows) if row.get("type") == "ORDER_FILL")
        spoilt = next(fills, 0)
        return [*rows[:spoilt], _break(rows[spoilt]), *rows[spoilt + 1 :]]
    return [{"long": {"units": "abc"}, "short": {"units": "0"}}] if key == "positions" else rows


def _break(row: Body) -> Body:
    broken = {key: value for key, value in row.items() if key != "instrument"}
    return {**broken, "units": "abc"}


# -- HTTP ----------------------------------------------------------------------------------------------------------

_STATUS = {
    Fault.SERVER_ERROR: error(500, "Internal Server Error"),
    Fault.UNAVAILABLE: error(503, "Service Unavailable"),
    Fault.RATE_LIMITED: error(429, "Too Many Requests"),
    Fault.UNAUTHORIZED: error(401, "Insufficient authorization to perform request."),
}


class OandaFace:
    """The server's answers; see :class:`brokers.simulators.http.Face`."""

    refusals = _STATUS

    def __init__(self, token: str, faults: Faults, answer: Callable[[str, str, Body], Reply]) -> None:
        self.faults = faults
        self.answer = answer
        self.requests: deque[str] = deque(maxlen=REQUESTS_KEPT)
        self.name_of: Callable[[str, str], str] = lambda _method, path: path
        self._token = token

    def received(self, method: str, target: str) -> None:
        """Note the request."""
        self.requests.append(f"{method} {target}")

    def unauthorized(self, authorization: str | None) -> Reply | None:
        """Check the token alone."""
        return None if authorization == f"Bearer {self._token}" else _STATUS[Fault.UNAUTHORIZED]

    def emptied(self, body: Body) -> Body:
        """See :func:`emptied`."""
        return {key: emptied(item) for key, item in body.items()}

    def spoiled(self, body: Body) -> Body:
        """See :func:`spoiled`."""
        answer: Body = spoiled(body)
        return answer

    def now(self) -> float:
        """The system's clock."""
        return time.time()
