"""The books of a simulated OANDA v20 account: trades, orders, positions and the transaction log. No threads, no IO.

It follows the v20 documentation: every change is a transaction with the next id, an order's id is that of the
transaction that created it, a position is the sum of its open trades, opposite orders close the oldest trades first
unless the account hedges, and a filling transaction ends its order even when it fills only a part.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

LONG = "long"
SHORT = "short"
DEPENDENT = ("TAKE_PROFIT", "STOP_LOSS", "TRAILING_STOP_LOSS")
ZERO = Decimal(0)
LOG_KEPT = 2_000
"""The least number of transactions kept: hours of a demonstration."""


@dataclass(slots=True)
class Trade:
    """One lot. ``reduced`` are the transactions that reduced it."""

    id: int
    instrument: str
    initial: Decimal
    units: Decimal
    price: Decimal
    opened_at: str
    reduced: list[int] = field(default_factory=list)
    closed: int | None = None


@dataclass(slots=True)
class Order:
    """One order. Dependent ones name a trade and have neither instrument nor units."""

    id: int
    type: str
    instrument: str | None
    units: Decimal | None
    trade_id: int | None
    price: Decimal | None
    client_id: str | None
    created_at: str
    state: str = "PENDING"
    filling: int | None = None
    cancelling: int | None = None
    replaced_by: int | None = None
    position_fill: str = "DEFAULT"


def plain(value: Decimal) -> str:
    """A number as v20 writes it: digits in a string."""
    return format(value, "f")


class Ledger:
    """The state of one account and everything that can happen to it."""

    def __init__(self, account_id: str, *, hedging: bool, seed: int) -> None:
        self.account_id = account_id
        self.hedging = hedging
        self.seed = seed
        self.last = 0
        self.changes_floor = 1  # changes are reported from this id on
        self.list_floor = 1  # and transactions are listed
        self.prices: dict[str, Decimal] = {}
        self.trades: dict[int, Trade] = {}
        self.orders: dict[int, Order] = {}
        self.touched: dict[str, int] = {}  # instrument → the last transaction that changed its position
        self.log: list[dict[str, Any]] = []
        self.gone = 0  # how many transactions have left the log
        self._now = datetime.fromtimestamp(0, UTC)
        self._record("CREATE")

    # -- prices --------------------------------------------------------------------------------------------------

    def price(self, instrument: str) -> Decimal:
        """The present price; one never seen is made up from the seed and the name."""
        if instrument not in self.prices:
            digest = hashlib.sha256(f"{self.seed}:{instrument}".encode()).digest()
            share = Decimal(int.from_bytes(digest[:4]) % 10_000) / 10_000
            base = 100 + 90 * share if self.step(instrument) == Decimal("0.001") else Decimal("0.6") + share
            self.prices[instrument] = base.quantize(self.step(instrument))
        return self.prices[instrument]

    @staticmethod
    def step(instrument: str) -> Decimal:
        """The precision of an instrument's prices."""
        return Decimal("0.001") if instrument.endswith("_JPY") else Decimal("0.00001")

    # -- events --------------------------------------------------------------------------------------------------

    def _record(self, kind: str, **fields: object) -> dict[str, Any]:
        """The next transaction; all of one batch share a time, and time never goes back."""
        self.last += 1
        batch = fields.pop("batch", None)
        if batch is None:
            self._now = max(datetime.now(UTC), self._now + timedelta(microseconds=1))
        row: dict[str, Any] = {
            "id": str(self.last),
            "type": kind,
            "accountID": self.account_id,
            "batchID": str(batch or self.last),
            "userID": 1,
            "time": self._now.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z",
        }
        for key, value in fields.items():
            if value is not None:
                row[key] = plain(value) if isinstance(value, Decimal) else value
        self.log.append(row)
        if len(self.log) >= 2 * LOG_KEPT:
            self._forget_old()
        return row

    def _forget_old(self) -> None:
        """Drop what ended before the transactions that are kept, as a real account with a history does."""
        self.gone += len(self.log) - LOG_KEPT
        del self.log[:-LOG_KEPT]
        self.list_floor = max(self.list_floor, self.gone + 1)
        self.changes_floor = max(self.changes_floor, self.gone)
        self.trades = {key: lot for key, lot in self.trades.items() if lot.closed is None or lot.closed > self.gone}
        for key, order in list(self.orders.items()):
            if order.state != "PENDING" and max(key, order.filling or 0, order.cancelling or 0) <= self.gone:
                del self.orders[key]

    def after(self, number: int) -> list[dict[str, Any]]:
        """The transactions after this one that are in the log."""
        return self.log[max(0, number - self.gone) :]

    def transaction(self, number: int) -> dict[str, Any] | None:
        """The transaction of that id."""
        place = number - self.gone
        return self.log[place - 1] if 1 <= place <= len(self.log) else None

    def create(
        self,
        kind: str,
        instrument: str | None,
        units: Decimal | None,
        *,
        price: Decimal | None = None,
        client_id: str | None = None,
        trade_id: int | None = None,
        batch: int | None = None,
        replaces: int | None = None,
    ) -> Order:
        """Create a pending order."""
        row = self._record(
            f"{kind}_ORDER",
            batch=batch,
            instrument=instrument,
            units=units,
            price=price,
            tradeID=str(trade_id) if trade_id is not None else None,
            clientExtensions={"id": client_id} if client_id is not None else None,
            replacesOrderID=str(replaces) if replaces is not None else None,
            timeInForce="FOK" if kind == "MARKET" else "GTC",
            reason="REPLACEMENT" if replaces is not None else "CLIENT_ORDER",
        )
        order = Order(self.last, kind, instrument, units, trade_id, price, client_id, row["time"])
        self.orders[order.id] = order
        return order

    def reject(self, instrument: str, units: Decimal, price: Decimal, client_id: str | None, reason: str) -> int:
        """Refuse a limit order at creation: a transaction, and no order."""
        extensions = {"id": client_id} if client_id is not None else None
        self._record(
            "LIMIT_ORDER_REJECT",
            instrument=instrument,
            units=units,
            price=price,
            clientExtensions=extensions,
            rejectReason=reason,
        )
        return self.last

    def cancel(self, order: Order, reason: str, *, batch: int | None = None, replaced_by: int | None = None) -> int:
        """End a pending order."""
        self._record(
            "ORDER_CANCEL",
            batch=batch,
            orderID=str(order.id),
            clientOrderID=order.client_id,
            reason=reason,
            replacedByOrderID=str(replaced_by) if replaced_by is not None else None,
        )
        order.state, order.cancelling, order.replaced_by = "CANCELLED", self.last, replaced_by
        return self.last

    def replace(self, order: Order, price: Decimal) -> Order:
        """Cancel an order and create another in its place, at another price."""
        cancelling = self.cancel(order, "CLIENT_REQUEST_REPLACED", replaced_by=self.last + 2)
        return self.create(
            order.type,
            order.instrument,
            order.units,
            price=price,
            client_id=order.client_id,
            trade_id=order.trade_id,
            batch=cancelling,
            replaces=order.id,
        )

    def fill(
        self, order: Order, units: Decimal, price: Decimal, *, mode: str = "DEFAULT", batch: int | None = None
    ) -> int:
        """Fill an order with signed ``units``; the rest of it is gone. Modes: DEFAULT, REDUCE_ONLY."""
        order.position_fill = mode
        only = self.trades[order.trade_id] if order.trade_id is not None else None
        instrument = only.instrument if only is not None else str(order.instrument)
        open_only = self.hedging and mode == "DEFAULT" and only is None
        against = [] if open_only else self._against(instrument, units, only)
        row = self._record("ORDER_FILL", batch=batch, orderID=str(order.id), clientOrderID=order.client_id)
        number = self.last
        rest, closed, reduced = units, [], None
        for lot in against:
            part = min(abs(rest), abs(lot.units)) * (1 if rest > 0 else -1)
            if not part:
                break
            rest -= part
            lot.units += part
            lot.reduced.append(number)
            piece = {"tradeID": str(lot.id), "units": plain(part), "price": plain(price), "realizedPL": "0.0000"}
            if lot.units:
                reduced = piece
            else:
                lot.closed = number
                closed.append(piece)
        if rest and mode == "DEFAULT" and only is None:
            self.trades[number] = Trade(number, instrument, rest, rest, price, row["time"])
            row["tradeOpened"] = {"tradeID": str(number), "units": plain(rest), "price": plain(price)}
            rest = ZERO
        row |= {"instrument": instrument, "units": plain(units - rest), "price": plain(price), "pl": "0.0000"}
        row |= {"fullVWAP": plain(price), "reason": f"{order.type}_ORDER", "tradesClosed": closed}
        if reduced is not None:
            row["tradeReduced"] = reduced
        order.state, order.filling = "FILLED", number
        self.touched[instrument] = number
        self._cancel_orphans(number, batch or int(row["batchID"]))
        return number

    def _against(self, instrument: str, units: Decimal, only: Trade | None) -> list[Trade]:
        if only is not None:
            return [only]
        return [lot for lot in self.open_trades(instrument) if (lot.units > 0) != (units > 0)]

    def _cancel_orphans(self, touched: int, batch: int) -> None:
        """End the orders that depend on a closed trade."""
        gone = {lot.id for lot in self.trades.values() if lot.closed == touched}
        for order in [o for o in self.orders.values() if o.state == "PENDING" and o.trade_id in gone]:
            self.cancel(order, "LINKED_TRADE_CLOSED", batch=batch)

    def hold(self, instrument: str, leg: str, quantity: Decimal, price: Decimal) -> None:
        """Make a leg exactly this, by a transaction that is no fill. An account that does not hedge has one leg."""
        self._record("TRANSFER_FUNDS", amount="0.0000", fundingReason="ADJUSTMENT", comment="position set")
        number, at = self.last, self.log[-1]["time"]
        for lot in self.open_trades(instrument):
            same = (lot.units > 0) == (leg == LONG)
            if same or (quantity and not self.hedging):
                lot.units, lot.closed = ZERO, number
        if quantity:
            self.trades[number] = Trade(number, instrument, quantity, quantity, price, at)
        self.touched[instrument] = number
        self._cancel_orphans(number, number)

    def forget(self, order: Order) -> None:
        """Remove an order. Changes cannot report that, so changes since before it are out of range from now on."""
        del self.orders[order.id]
        self._record("TRANSFER_FUNDS", amount="0.0000", fundingReason="ADJUSTMENT", comment="order forgotten")
        self.changes_floor = self.last

    # -- the state -----------------------------------------------------------------------------------------------

    def open_trades(self, instrument: str | None = None) -> list[Trade]:
        """The open trades, oldest first."""
        return [
            lot for lot in self.trades.values() if lot.units and (instrument is None or lot.instrument == instrument)
        ]

    def legs(self) -> dict[tuple[str, str], Decimal]:
        """(instrument, leg) → signed units, without zeros."""
        held: dict[tuple[str, str], Decimal] = {}
        for lot in self.open_trades():
            key = (lot.instrument, LONG if lot.units > 0 else SHORT)
            held[key] = held.get(key, ZERO) + lot.units
        return held

    def find(self, specifier: str) -> Order | None:
        """The order of an id, or of a client id after an ``@``: the pending one, else the last."""
        if specifier.startswith("@"):
            named = [order for order in self.orders.values() if order.client_id == specifier[1:]]
            named.sort(key=lambda order: (order.state == "PENDING", order.id))
            return named[-1] if named else None
        return self.orders.get(int(specifier)) if specifier.isdigit() else None

    # -- over a crash --------------------------------------------------------------------------------------------

    def dump(self) -> str:
        """The whole state, as JSON text."""
        state = {key: value for key, value in vars(self).items() if key not in {"trades", "orders", "_now"}}
        state["trades"] = [asdict(lot) for lot in self.trades.values()]
        state["orders"] = [asdict(order) for order in self.orders.values()]
        state["now"] = self._now.isoformat()
        return json.dumps(state, default=plain)

    def load(self, text: str) -> None:
        """Take over what :meth:`dump` wrote."""
        state = json.loads(text)
        trades = [_decimals(row, "initial", "units", "price") for row in state.pop("trades")]
        orders = [_decimals(row, "units", "price") for row in state.pop("orders")]
        self.trades = {row["id"]: Trade(**row) for row in trades}
        self.orders = {row["id"]: Order(**row) for row in orders}
        self.prices = {key: Decimal(value) for key, value in state.pop("prices").items()}
        self._now = datetime.fromisoformat(state.pop("now"))
        for key, value in state.items():
            setattr(self, key, value)


def _decimals(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: Decimal(value) if key in keys and value is not None else value for key, value in row.items()}
