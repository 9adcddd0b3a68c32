"""Decodes OANDA v20 objects. Pure: a parsed JSON object goes in, a row or :class:`BadRow` comes out.

The laws of this module:

* A number is read from its text or from an exact JSON number, never through a float; NaN and infinities are refused.
* A row that cannot be read whole is not read at all: no field of it is guessed.
* A missing leg is not a flat leg.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.kit import foreign_row
from brokers.kit.exact_number import from_text
from brokers.kit.foreign_row import BadRow, Json, mapping, text
from brokers.model import (
    LONG,
    SHORT,
    Fill,
    Order,
    OrderStatus,
    Position,
    Reason,
    RowProblem,
    SectionName,
    Side,
    StreamedFill,
)

ROW_REMEDY = "Look it up on OANDA's platform; it is read again in every cycle"
_EPOCH = BrokerTime.fromtimestamp(0, UTC)
_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_IN_UTC = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6,9}Z", re.ASCII)
"""OANDA's own way of writing times, which Python reads as it is."""
_UNIX = re.compile(r"\d{1,12}(\.\d+)?", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?\s*", re.ASCII)

# A trailing stop's price moves with the market: showing it would be an amendment at every tick.
_PRICELESS = frozenset({"MARKET", "TRAILING_STOP_LOSS"})


OF_THE_ACCOUNT = frozenset(
    {
        "TRANSFER_FUNDS",
        "TRANSFER_FUNDS_REJECT",
        "DAILY_FINANCING",
        "CLIENT_CONFIGURE",
        "CLIENT_CONFIGURE_REJECT",
        "MARGIN_CALL_ENTER",
        "MARGIN_CALL_EXTEND",
        "MARGIN_CALL_EXIT",
        "RESET_RESETTABLE_PL",
    }
)
"""The types of transactions that change the account's money or limits, and neither a position nor an order."""


class Trade(NamedTuple):  # a tuple is made in a third of the time, and every look makes all of them
    """One open lot: ``units`` is the signed remainder, ``initial_units`` what it began with."""

    trade_id: str
    instrument: str
    units: Decimal
    initial_units: Decimal

    @property
    def leg(self) -> str:
        """The leg it is part of."""
        return LONG if (self.units or self.initial_units) > 0 else SHORT


class OrderFacts(NamedTuple):  # a tuple for the same reason
    """The content of an order object.

    Take-profits, stop-losses and the like name a trade (``trade_id``) instead of ``instrument`` and ``units``, and how
    an order ended is in transactions: :func:`order_row` joins the three.
    """

    order_id: str
    state: str
    order_type: str
    instrument: str | None
    units: Decimal | None
    trade_id: str | None
    client_order_id: str | None
    price: Decimal | None
    position_fill: str | None
    created_at: BrokerTime | None
    filling_id: str | None
    cancelling_id: str | None
    replaced_by: str | None
    origin: Reason | None = None


def problem(section: SectionName, row: object, why: BadRow) -> RowProblem:
    """A row that could not be read, with whatever identifies it."""
    return foreign_row.problem(
        section, row, why, ROW_REMEDY, instrument=lambda fields: text(fields, "instrument"), key=lambda f: f.get("id")
    )


def _text_or_none(row: Json, key: str) -> str | None:
    value = row.get(key)
    return None if value is None else text(row, key)


def number(row: Json, key: str) -> Decimal:
    """A finite number, from a string (OANDA v20 documentation: a DecimalNumber is encoded as a string) or an exact
    JSON number."""
    value = row.get(key)
    found = from_text(value, _NUMBER) if type(value) is str else None
    return foreign_row.number(row, key, _NUMBER) if found is None else foreign_row.in_range(found, key)


def transaction_id(row: Json, key: str) -> int:
    """A transaction id: a positive integer in a string."""
    value = row.get(key)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= foreign_row.MOST_DIGITS:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise BadRow(f"no {key}" if value is None else f"{key} is not a transaction id")


def is_in_utc(value: str) -> bool:
    """Whether a time is written as OANDA writes it, so that of two texts the greater is the later."""
    return _IN_UTC.fullmatch(value) is not None


def moment(value: object) -> BrokerTime:
    """An aware UTC time from RFC 3339 with up to nanoseconds, or from UNIX seconds; cut to microseconds."""
    found = _from_text(value) if isinstance(value, str) else None
    if found is None:
        raise BadRow("time is neither RFC 3339 nor UNIX seconds")
    return foreign_row.in_our_time(found, "time")


@lru_cache(maxsize=8192)
def _from_text(written: str) -> BrokerTime | None:
    """Cached: every look repeats the times of the same trades and orders."""
    try:
        if _IN_UTC.fullmatch(written):
            return BrokerTime.fromisoformat(written)
        if match := _RFC3339.fullmatch(written):
            day, clock, fraction, zone = match.groups()
            offset = "+00:00" if zone in "Zz" else zone
            return BrokerTime.fromisoformat(f"{day}T{clock}.{(fraction or '0')[:6]:0<6}{offset}").astimezone(UTC)
        if _UNIX.fullmatch(written):
            return _EPOCH + timedelta(microseconds=int(Decimal(written) * 1_000_000))
    except (ValueError, OverflowError):
        pass
    return None


def position_rows(row: object) -> tuple[str, tuple[Position, ...]]:
    """An instrument and its legs that are not flat.

    OANDA v20 documentation: ``long`` has units of 0 or more, ``short`` of 0 or less, and the average price is present
    unless the side is flat.
    """
    fields = mapping(row, "the position")
    instrument = text(fields, "instrument")
    legs = []
    for leg, sign, whole in ((LONG, 1, "long of the position"), (SHORT, -1, "short of the position")):
        side = mapping(fields.get(leg), whole)
        units = number(side, "units")
        if units * sign < 0:
            raise BadRow(f"{leg} units have the wrong sign")
        if units:
            legs.append(Position(instrument, leg, units, number(side, "averagePrice")))
    return instrument, tuple(legs)


def trade(row: object) -> Trade:
    """A trade (or trade summary)."""
    fields = mapping(row, "the trade")
    units = number(fields, "currentUnits")
    initial = number(fields, "initialUnits") if fields.get("initialUnits") is not None else units
    return Trade(text(fields, "id"), text(fields, "instrument"), units, initial)


def order_facts(row: object, *, hedging: bool = False) -> OrderFacts:
    """The content of an order object of any type; an unknown state is not guessed. OANDA v20 documentation,
    OrderPositionFill: DEFAULT is OPEN_ONLY in a ``hedging`` account, else REDUCE_FIRST."""
    fields = mapping(row, "the order")
    state = text(fields, "state")
    if state not in _STATES:
        raise BadRow(f"unknown order state {state[:40]!r}")
    order_type = text(fields, "type")
    trade_id = _text_or_none(fields, "tradeID")
    dependent = trade_id is not None and fields.get("units") is None
    units = None if dependent else number(fields, "units")
    if units is not None and not units:
        raise BadRow("units are 0")
    has_price = order_type not in _PRICELESS and fields.get("price") is not None
    named = fields.get("clientExtensions")
    extensions = mapping(named, "clientExtensions") if named else {}
    position_fill = _text_or_none(fields, "positionFill")
    if hedging and position_fill == "DEFAULT":
        position_fill = "OPEN_ONLY"
    return OrderFacts(
        order_id=text(fields, "id"),
        state=state,
        order_type=order_type,
        instrument=None if dependent else text(fields, "instrument"),
        units=units,
        trade_id=trade_id,
        client_order_id=_text_or_none(extensions, "id"),
        price=number(fields, "price") if has_price else None,
        position_fill=position_fill,
        created_at=moment(fields["createTime"]) if fields.get("createTime") is not None else None,
        filling_id=_text_or_none(fields, "fillingTransactionID"),
        cancelling_id=_text_or_none(fields, "cancellingTransactionID"),
        replaced_by=_text_or_none(fields, "replacedByOrderID"),
        origin=Reason.LIQUIDATION if _is_brokers_own(fields) else None,
    )


def _is_brokers_own(fields: Json) -> bool:
    """OANDA v20 documentation, MarketOrder: details of a market order that OANDA itself placed."""
    return fields.get("marginCloseout") is not None or fields.get("delayedTradeClose") is not None


_STATES = {
    "PENDING": OrderStatus.OPEN,
    "TRIGGERED": OrderStatus.PENDING_SUBMIT,
    "FILLED": OrderStatus.FILLED,
    "CANCELLED": OrderStatus.CANCELLED,
}


def cancelled_status(reason: str | None) -> OrderStatus:
    """The status that a cancelling transaction's reason means. An undocumented reason counts as a cancellation: nothing
    works any more, and ``reason`` shows the rest."""
    return CANCEL_REASONS.get(reason or "", OrderStatus.CANCELLED)


_REQUESTED = (
    "CLIENT_REQUEST",
    "CLIENT_REQUEST_REPLACED",
    "DIVIDEND_ADJUSTMENT_REPLACED",
    "LINKED_TRADE_CLOSED",
    "MIGRATION",
)
_REFUSED = (
    "INTERNAL_SERVER_ERROR",
    "ACCOUNT_LOCKED",
    "ACCOUNT_NEW_POSITIONS_LOCKED",
    "ACCOUNT_ORDER_CREATION_LOCKED",
    "ACCOUNT_ORDER_FILL_LOCKED",
    "ACCOUNT_POSITION_VALUE_LIMIT_EXCEEDED",
    "MARKET_HALTED",
    "INSTRUMENT_BID_HALTED",
    "INSTRUMENT_ASK_HALTED",
    "INSTRUMENT_BID_REDUCE_ONLY",
    "INSTRUMENT_ASK_REDUCE_ONLY",
    "INSUFFICIENT_MARGIN",
    "INSUFFICIENT_LIQUIDITY",
    "FIFO_VIOLATION",
    "BOUNDS_VIOLATION",
    "HEDGING_GSLO_VIOLATION",
    "LOSING_TAKE_PROFIT",
    "CLIENT_TRADE_ID_ALREADY_EXISTS",
    "POSITION_CLOSEOUT_FAILED",
    "POSITION_SIZE_EXCEEDED",
    "OPEN_TRADES_ALLOWED_EXCEEDED",
    "PENDING_ORDERS_ALLOWED_EXCEEDED",
    "TAKE_PROFIT_ON_FILL_GTD_TIMESTAMP_IN_PAST",
    "TAKE_PROFIT_ON_FILL_LOSS",
    "TAKE_PROFIT_ON_FILL_PRICE_DISTANCE_MAXIMUM_EXCEEDED",
    "TAKE_PROFIT_ON_FILL_CLIENT_ORDER_ID_ALREADY_EXISTS",
    "STOP_LOSS_ON_FILL_GTD_TIMESTAMP_IN_PAST",
    "STOP_LOSS_ON_FILL_LOSS",
    "STOP_LOSS_ON_FILL_PRICE_DISTANCE_MAXIMUM_EXCEEDED",
    "STOP_LOSS_ON_FILL_REQUIRED",
    "STOP_LOSS_ON_FILL_GUARANTEED_REQUIRED",
    "STOP_LOSS_ON_FILL_GUARANTEED_NOT_ALLOWED",
    "STOP_LOSS_ON_FILL_GUARANTEED_MINIMUM_DISTANCE_NOT_MET",
    "STOP_LOSS_ON_FILL_GUARANTEED_LEVEL_RESTRICTION_EXCEEDED",
    "STOP_LOSS_ON_FILL_GUARANTEED_HEDGING_NOT_ALLOWED",
    "STOP_LOSS_ON_FILL_GUARANTEED_BID_HALTED",
    "STOP_LOSS_ON_FILL_GUARANTEED_ASK_HALTED",
    "STOP_LOSS_ON_FILL_TIME_IN_FORCE_INVALID",
    "STOP_LOSS_ON_FILL_TRIGGER_CONDITION_INVALID",
    "STOP_LOSS_ON_FILL_CLIENT_ORDER_ID_ALREADY_EXISTS",
    "GUARANTEED_STOP_LOSS_ON_FILL_BID_HALTED",
    "GUARANTEED_STOP_LOSS_ON_FILL_ASK_HALTED",
    "GUARANTEED_STOP_LOSS_ON_FILL_CLIENT_ORDER_ID_ALREADY_EXISTS",
    "GUARANTEED_STOP_LOSS_ON_FILL_GTD_TIMESTAMP_IN_PAST",
    "GUARANTEED_STOP_LOSS_ON_FILL_HEDGING_NOT_ALLOWED",
    "GUARANTEED_STOP_LOSS_ON_FILL_LEVEL_RESTRICTION_EXCEEDED",
    "GUARANTEED_STOP_LOSS_ON_FILL_LOSS",
    "GUARANTEED_STOP_LOSS_ON_FILL_MINIMUM_DISTANCE_NOT_MET",
    "GUARANTEED_STOP_LOSS_ON_FILL_NOT_ALLOWED",
    "GUARANTEED_STOP_LOSS_ON_FILL_PRICE_DISTANCE_MAXIMUM_EXCEEDED",
    "GUARANTEED_STOP_LOSS_ON_FILL_REQUIRED",
    "GUARANTEED_STOP_LOSS_ON_FILL_TIME_IN_FORCE_INVALID",
    "GUARANTEED_STOP_LOSS_ON_FILL_TRIGGER_CONDITION_INVALID",
    "TRAILING_STOP_LOSS_ON_FILL_GTD_TIMESTAMP_IN_PAST",
    "TRAILING_STOP_LOSS_ON_FILL_CLIENT_ORDER_ID_ALREADY_EXISTS",
    "TRAILING_STOP_LOSS_ON_FILL_LOSS",
    "TRAILING_STOP_LOSS_ON_FILL_PRICE_DISTANCE_MAXIMUM_EXCEEDED",
    "TRAILING_STOP_LOSS_ON_FILL_TIME_IN_FORCE_INVALID",
    "TRAILING_STOP_LOSS_ON_FILL_TRIGGER_CONDITION_INVALID",
)
CANCEL_REASONS = {
    "TIME_IN_FORCE_EXPIRED": OrderStatus.EXPIRED,
    **dict.fromkeys(_REQUESTED, OrderStatus.CANCELLED),
    **dict.fromkeys(_REFUSED, OrderStatus.REJECTED),
}
"""OANDA v20 documentation, OrderCancelReason: every reason and the status it means. An order that would have broken a
rule when it was to be filled was refused, whatever the reason's name."""

FILL_REASONS = {
    "MARKET_ORDER_MARGIN_CLOSEOUT": Reason.LIQUIDATION,
    "MARKET_ORDER_DELAYED_TRADE_CLOSE": Reason.LIQUIDATION,
    "STOP_LOSS_ORDER": Reason.STOP_LOSS,
    "GUARANTEED_STOP_LOSS_ORDER": Reason.STOP_LOSS,
    "TRAILING_STOP_LOSS_ORDER": Reason.STOP_LOSS,
    "TAKE_PROFIT_ORDER": Reason.TAKE_PROFIT,
    "FIXED_PRICE_ORDER_PLATFORM_ACCOUNT_MIGRATION": Reason.TRANSFER,
    "FIXED_PRICE_ORDER_DIVISION_ACCOUNT_MIGRATION": Reason.TRANSFER,
}
"""OANDA v20 documentation, OrderFillReason: the reasons of orders that nobody placed in order to trade."""


def order_row(facts: OrderFacts, of: Trade | None, fill: Fill | None = None, cancel: Json | None = None) -> Order:
    """An order from its own object, the trade it depends on, and the transactions that ended it.

    A dependent order works on the whole of its trade. A filling transaction with fewer units than the order leaves
    nothing working: such an order is CANCELLED with its filled quantity. ``limit_price`` is the working price; for a
    stop that is its trigger. Raises :class:`BadRow` when the trade is needed and not known.
    """
    instrument, units, leg = _what_it_works_on(facts, of, fill)
    quantity = abs(units)
    filled = fill.quantity if fill is not None else Decimal(0)
    status = _STATES[facts.state]
    reason = None
    if status is OrderStatus.FILLED:
        filled = quantity if fill is None else filled
        status = OrderStatus.CANCELLED if filled < quantity else OrderStatus.FILLED
    elif status is OrderStatus.CANCELLED and cancel is not None:
        reason = _text_or_none(cancel, "reason")
        status = cancelled_status(reason)
    return Order(
        instrument=instrument,
        broker_order_id=facts.order_id,
        client_order_id=facts.client_order_id,
        side=Side.BUY if units > 0 else Side.SELL,
        quantity=quantity,
        filled_quantity=filled,
        status=status,
        order_type=facts.order_type,
        limit_price=facts.price,
        average_fill_price=fill.price if fill is not None else None,
        submitted_at=facts.created_at,
        leg=leg,
        reason=reason,
        replaced_by=facts.replaced_by or (_text_or_none(cancel, "replacedByOrderID") if cancel is not None else None),
        origin=facts.origin,
        parent=facts.trade_id,  # OANDA v20 documentation: a trade has the id of the fill that opened it
    )


def _what_it_works_on(facts: OrderFacts, of: Trade | None, fill: Fill | None) -> tuple[str, Decimal, str | None]:
    """Instrument, signed units and leg of an order."""
    if facts.units is not None and facts.instrument is not None:
        own, other = (LONG, SHORT) if facts.units > 0 else (SHORT, LONG)
        leg = own if facts.position_fill == "OPEN_ONLY" else other if facts.position_fill == "REDUCE_ONLY" else None
        return facts.instrument, facts.units, leg
    if fill is not None:
        return fill.instrument, fill.quantity * fill.side.sign, fill.leg
    if of is None:
        raise BadRow(f"depends on trade {facts.trade_id}, which is not known")
    return of.instrument, -(of.units or of.initial_units), of.leg


def named_by_client(transaction: Json) -> str | None:
    """The client id of the order that a transaction created or refused to create."""
    extensions = mapping(transaction.get("clientExtensions") or {}, "clientExtensions")
    return _text_or_none(extensions, "id") or _text_or_none(transaction, "clientOrderID")


def rejected_row(transaction: Json) -> Order:
    """The order that a ``*_ORDER_REJECT`` transaction refused to create, under the transaction's id.

    It carries no client id where that belongs to an order that goes on: one that had it already (OANDA v20
    documentation: TransactionRejectReason), or one that was to be replaced.
    """
    units = number(transaction, "units")
    lives_on = (
        transaction.get("rejectReason") == "CLIENT_ORDER_ID_ALREADY_EXISTS"
        or transaction.get("intendedReplacesOrderID") is not None
    )
    return Order(
        instrument=text(transaction, "instrument"),
        broker_order_id=str(transaction_id(transaction, "id")),
        client_order_id=None if lives_on else named_by_client(transaction),
        side=Side.BUY if units > 0 else Side.SELL,
        quantity=abs(units),
        filled_quantity=Decimal(0),
        status=OrderStatus.REJECTED,
        order_type=text(transaction, "type").removesuffix("_ORDER_REJECT"),
        limit_price=number(transaction, "price") if transaction.get("price") is not None else None,
        submitted_at=moment(transaction.get("time")),
        reason=_text_or_none(transaction, "rejectReason"),
    )


def fill_row(transaction: Json) -> Fill:
    """The execution that an ORDER_FILL transaction reports.

    The price is the average, weighted by units, of the fill prices of the trades that it opened, reduced and closed.
    OANDA v20 documentation: those are the official prices, ``price`` of the transaction is deprecated. Where they do
    not account for all the units: ``fullVWAP``, else ``price``. ``leg`` is set where only one leg was touched.
    """
    units = number(transaction, "units")
    if not units:
        raise BadRow("units are 0")
    side = Side.BUY if units > 0 else Side.SELL
    opened, closed = _parts(transaction)
    own, other = (LONG, SHORT) if side is Side.BUY else (SHORT, LONG)
    return Fill(
        instrument=text(transaction, "instrument"),
        fill_id=str(transaction_id(transaction, "id")),
        broker_order_id=_text_or_none(transaction, "orderID"),
        side=side,
        quantity=abs(units),
        price=_price(transaction, abs(units), (*opened, *closed)),
        time=moment(transaction.get("time")),
        leg=None if bool(opened) == bool(closed) else own if opened else other,
        client_order_id=_text_or_none(transaction, "clientOrderID"),
        # OANDA v20 documentation: in the account's home currency, always positive, and it reduces the balance.
        commission=_charged(transaction),
        reason=FILL_REASONS.get(str(transaction.get("reason"))),
    )


def streamed_fill(transaction: Json, created: Json | None) -> StreamedFill:
    """An ORDER_FILL from the stream; ``created`` is the transaction that created its order, where the stream sent that
    too. OANDA v20 documentation: an order is filled once, and the rest of it is gone. An order that replaced another
    gets no row here, as only the other's row shows what it replaced."""
    fill = fill_row(transaction)
    if created is None or created.get("replacesOrderID") is not None:
        return StreamedFill(fill)
    kind = text(created, "type").removesuffix("_ORDER")
    facts = order_facts({**created, "type": kind, "state": "FILLED", "createTime": created.get("time")})
    return StreamedFill(fill, order_row(facts, None, fill))


def _charged(transaction: Json) -> Decimal | None:
    """The commission; one that cannot be read must not cost the fill."""
    try:
        return number(transaction, "commission")
    except BadRow:
        return None


def _parts(transaction: Json) -> tuple[tuple[Json, ...], tuple[Json, ...]]:
    """The trade that a fill opened, and the trades that it reduced or closed."""
    opened = transaction.get("tradeOpened")
    reduced = transaction.get("tradeReduced")
    closed = transaction.get("tradesClosed")
    if closed is not None and not isinstance(closed, list):
        raise BadRow("tradesClosed is not a list")
    return (
        (mapping(opened, "tradeOpened"),) if opened is not None else (),
        tuple(
            mapping(part, "a closed trade") for part in (*([reduced] if reduced is not None else []), *(closed or ()))
        ),
    )


def _price(transaction: Json, quantity: Decimal, parts: Iterable[Json]) -> Decimal:
    priced = [(abs(number(p, "units")), number(p, "price")) for p in parts if p.get("price") is not None]
    if priced and sum(units for units, _ in priced) == quantity:
        prices = {price for _, price in priced}
        if len(prices) == 1:
            return prices.pop()
        return sum((units * price for units, price in priced), Decimal(0)) / quantity
    return number(transaction, "fullVWAP" if transaction.get("fullVWAP") is not None else "price")


@dataclass(frozen=True, slots=True)
class Fills:
    """The fills in a run of transactions. ``cursor`` is the last transaction before the first unreadable one."""

    rows: tuple[Fill, ...]
    problems: tuple[RowProblem, ...]
    cursor: int


def fills_of(transactions: Iterable[object], *, since: int, last: int) -> Fills:
    """The fills after ``since`` up to and including ``last``, in the broker's order.

    A transaction that cannot be read might be a fill: it is a problem, and the cursor stays before it, so that it is
    requested again.
    """
    rows: dict[str, Fill] = {}
    problems: list[RowProblem] = []
    cursor, seen = last, since
    for row in transactions:
        try:
            fields = mapping(row, "the transaction")
            number_ = transaction_id(fields, "id")
            if not since < number_ <= last:
                continue
            if text(fields, "type") == "ORDER_FILL":
                fill = fill_row(fields)
                rows[fill.fill_id] = fill
            seen = max(seen, number_)
        except BadRow as why:
            problems.append(problem(SectionName.FILLS, row, why))
            cursor = min(cursor, seen)
    return Fills(tuple(rows[key] for key in sorted(rows, key=int)), tuple(problems), cursor)
