"""Decodes Kite Connect objects into the model's rows. Pure: parsed JSON goes in, rows and problems come out.

The laws of this module:

* A number is read from an exact JSON number or its text, never through a float; NaN and infinities are refused.
* A row that cannot be read whole is not read at all: no field of it is guessed, least of all an unknown status.
* Kite writes times as naive IST; here they are aware UTC. Quantities stay in the units of ``quantity``: ``multiplier``
  converts them into money and into nothing else.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import field
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Generic, TypeVar

from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.kit import foreign_row
from brokers.kit.foreign_row import BadAnswer, BadRow, Json, mapping, text
from brokers.kite import sessions
from brokers.model import (
    ContractFacts,
    Conventions,
    CostBasis,
    Fill,
    IdScope,
    LegScheme,
    Order,
    OrderStatus,
    Position,
    Reason,
    RowProblem,
    SectionName,
    Side,
)

_ZERO = Decimal(0)

COMMODITIES = ("MCX:", "NCO:")
"""Where a price has been below zero (crude oil on MCX, April 2020); a share, a bond or an option never is."""
CONVENTIONS = Conventions(
    LegScheme.NET,
    CostBasis.ALL_OPENING,
    products=True,
    fill_ids=IdScope.TRADING_DAY_AND_SIDE,  # of an instrument, which names its exchange
    day_ahead_of_utc=timedelta(hours=5, minutes=30),
    client_id_length=20,  # Kite Connect documentation: tag
    negative_prices=COMMODITIES,
)
"""Kite Connect documentation: a position is of one product. A trade_id is the exchange's, and restarts each day; an
order_id begins with its date, and is unique for ever."""

HOLDINGS = "holdings"
"""The leg of delivered shares, beside the products."""

IST = sessions.IST
ROW_REMEDY = "Look it up in Kite; it is read again in every cycle"
_NUMBER = re.compile(r"[+-]?\d{1,20}(\.\d{1,20})?", re.ASCII)
_AHEAD_OF_UTC = timedelta(hours=5, minutes=30)
_BEYOND = 10**20
_MINUTES_OF_A_DAY = 24 * 60
_SIDES = {side.value: side for side in Side}
_NAIVE = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PositionRow:
    """One product of one instrument. ``position`` is ``None`` where it is flat. ``bought`` and ``sold`` are the
    quantities traded today and ``overnight`` the quantity carried overnight, ``None`` where the broker does not say.
    ``isin`` and ``mtf`` (what is also held on margin) are a holding's."""

    instrument: str
    leg: str
    position: Position | None
    bought: Decimal | None
    sold: Decimal | None
    overnight: Decimal | None = None
    isin: str | None = None
    mtf: Position | None = None


@dataclass(frozen=True, slots=True)
class OrderRow:
    """An order, what Kite requires for its cancellation, and when it last changed. ``slice_of`` is the first order of
    the whole of which it is a part, and ``total`` the quantity of the whole, where the row states it; for an
    ``autosliced`` order it never does."""

    order: Order
    variety: str
    parent_order_id: str | None
    changed_at: BrokerTime | None = None
    slice_of: str | None = None
    total: Decimal | None = None
    autosliced: bool = False


RowT = TypeVar("RowT", covariant=True)


@dataclass(frozen=True, slots=True)
class Listing(Generic[RowT]):
    """The content of a list of the broker: its readable rows by key, in its order, and the problems."""

    rows: Mapping[str, RowT] = field(default_factory=dict)
    problems: tuple[RowProblem, ...] = ()


# -- lists ---------------------------------------------------------------------------------------------------------


def positions(data: object) -> Listing[PositionRow]:
    """``positions().net``, flat rows included. Kite Connect documentation: ``net`` is the actual, current net position
    portfolio, ``day`` only the day's activity. Raises :class:`BadAnswer`."""
    net = data.get("net") if isinstance(data, dict) else None
    return _listing(net, "positions without a list `net`", SectionName.POSITIONS, position_row, _leg_key)


def holdings(data: object) -> Listing[PositionRow]:
    """``holdings()``. Raises :class:`BadAnswer`."""
    return _listing(data, "holdings that are no list", SectionName.POSITIONS, holding_row, _leg_key)


def orders(data: object) -> Listing[OrderRow]:
    """``orders()``: those of today, by order_id. Raises :class:`BadAnswer`."""
    return _listing(
        data, "orders that are no list", SectionName.ORDERS, order_row, lambda row: row.order.broker_order_id
    )


def trades(data: object) -> Listing[Fill]:
    """``trades()``: those of today, by fill_id.

    Kite Connect documentation: trade_id is the exchange's. It restarts each day, and the two sides of one match share
    it, so it is unique only within an instrument's day and side; that is each fill's ``id_scope``. Keys are the
    fill_id, or ``trade_id:order_id`` where one list has the same id twice. Raises :class:`BadAnswer`.
    """
    read = _listing(
        data, "trades that are no list", SectionName.FILLS, fill_row, lambda row: f"{row.fill_id}:{row.broker_order_id}"
    )
    named: dict[str, Fill] = {}
    for qualified, fill in sorted(read.rows.items(), key=lambda item: (item[1].time, item[0])):
        named[qualified if fill.fill_id in named else fill.fill_id] = fill
    return Listing(named, read.problems)


def history(data: object, order_id: str) -> OrderRow:
    """The last state in an ``order_history()``: the one that is furthest on. Raises :class:`BadRow` for another order's
    history, or an unreadable one."""
    if not isinstance(data, list) or not data:
        raise BadRow("an order history without a state")
    states = [order_row(state) for state in data]
    if any(state.order.broker_order_id != order_id for state in states):
        raise BadRow(f"requested order {order_id}, got {states[-1].order.broker_order_id}")
    return max(enumerate(states), key=lambda pair: (pair[1].order.filled_quantity, pair[0]))[1]


def _listing(
    found: object,
    complaint: str,
    section: SectionName,
    read: Callable[[object], RowT],
    key_of: Callable[[RowT], str],
) -> Listing[RowT]:
    """Every row by its key. Two rows of one key that differ are both unreadable: one of them is wrong."""
    if not isinstance(found, list):
        raise BadAnswer(complaint)
    rows: dict[str, RowT] = {}
    problems: list[RowProblem] = []
    twice: set[str] = set()
    for item in found:
        try:
            row = read(item)
            key = key_of(row)
            known = rows.setdefault(key, row)
            if known is not row and known != row:
                twice.add(key)
                raise BadRow("listed twice, and differently")
        except BadRow as why:
            problems.append(problem(section, item, why))
    return Listing({key: row for key, row in rows.items() if key not in twice}, tuple(problems))


def _leg_key(row: PositionRow) -> str:
    return f"{row.instrument}/{row.leg}"


@dataclass(frozen=True, slots=True)
class Contracts:
    """The requested contracts in a table of instruments, by their names; ``earliest`` is the first expiry of any row of
    the table."""

    rows: Mapping[str, ContractFacts]
    earliest: date | None


_TABLE_COLUMNS = ("exchange", "tradingsymbol", "expiry", "strike", "instrument_type", "name")
_KINDS = {"FUT": ("FUT", None), "CE": ("OPT", "C"), "PE": ("OPT", "P")}


def instruments(table: bytes) -> frozenset[str]:
    """The names in a table of instruments. Raises :class:`BadAnswer`."""
    return frozenset(f"{row[0]}:{row[1]}" for row in _table_rows(table, strict=False))


def contracts(table: bytes, exchange: str, names: Collection[str]) -> Contracts:
    """The contracts of these names in the table of one exchange. Kite Connect documentation: ``expiry`` is a date,
    ``instrument_type`` FUT, CE or PE; ``name`` is the symbol of the underlying. A contract without a readable expiry,
    or with two, is left out. Raises :class:`BadAnswer`, for a table that ends in the middle of a row as well."""
    found: dict[str, ContractFacts] = {}
    twice: set[str] = set()
    earliest: str | None = None
    last = ""
    for last, symbol, expiry, strike, kind, underlying in _table_rows(table, strict=True):
        if earliest is None or expiry < earliest:
            earliest = expiry if _DATE.fullmatch(expiry) else earliest
        name = f"{last}:{symbol}"
        if name not in names:
            continue
        facts = _contract(name, expiry, strike, kind, underlying)
        if facts is not None and found.setdefault(name, facts) != facts:
            twice.add(name)
    if last != exchange:
        raise BadAnswer(f"a table of instruments of {exchange} that ends in the middle, or is another's")
    rows = {name: facts for name, facts in found.items() if name not in twice}
    return Contracts(rows, None if earliest is None else _date(earliest))


def _table_rows(table: bytes, *, strict: bool) -> Iterator[list[str]]:
    """The used columns of each row. Kite Connect documentation: CSV with a head. A row of another length is left out;
    if ``strict``, the last row has to be whole, and the quotes have to match."""
    try:
        rows = csv.reader(io.StringIO(table.decode("utf-8")), strict=strict)
        head = [column.strip() for column in next(rows, [])]
        places = [head.index(column) for column in _TABLE_COLUMNS]
        whole = True
        for row in rows:
            whole = len(row) == len(head) or not row
            if row and whole:
                yield [row[at] for at in places]
    except (UnicodeDecodeError, ValueError, csv.Error) as why:
        raise BadAnswer(f"a table of instruments that cannot be read ({type(why).__name__})") from None
    if strict and not whole:
        raise BadAnswer("a table of instruments that ends in the middle of a row")


def _contract(name: str, expiry: str, strike: str, kind: str, underlying: str) -> ContractFacts | None:
    known, day = _KINDS.get(kind), _date(expiry)
    if known is None or day is None:
        return None
    sort, right = known
    price = Decimal(strike) if right is not None and _NUMBER.fullmatch(strike) else None
    return ContractFacts(
        kind=sort,
        expiry=day,
        right=right,
        strike=price or None,
        underlying=underlying or None,
        currency="INR",
        ends_at=sessions.last_moment(name, day),
    )


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None


# -- rows ----------------------------------------------------------------------------------------------------------


def instrument_of(row: Json) -> str:
    """The name of an instrument: EXCHANGE:TRADINGSYMBOL, as in Kite's own quotes."""
    return f"{_word(row, 'exchange')}:{_word(row, 'tradingsymbol')}"


def position_row(item: object) -> PositionRow:
    """A row of ``net``; its leg is the product. Kite Connect documentation: ``quantity`` is signed."""
    row = mapping(item, "the position")
    instrument, leg = instrument_of(row), _word(row, "product")
    quantity = number(row, "quantity")
    held = _held(row, instrument, leg, quantity)
    bought, sold = _optional(row, "day_buy_quantity"), _optional(row, "day_sell_quantity")
    return PositionRow(instrument, leg, held, bought, sold, _optional(row, "overnight_quantity"))


def holding_row(item: object) -> PositionRow:
    """A holding: the quantity at the beginning of the day. A sale of it is a negative CNC row of ``net`` until the
    night.

    In Kite's own examples ``quantity`` leaves out shares bought yesterday and not delivered yet (``t1_quantity``), and
    users report that it leaves out pledged shares (``collateral_quantity``): all three are added. Of
    ``used_quantity``, the quantity sold today, public sources differ on whether ``quantity`` shrinks by it at once.
    ``opening_quantity``, carried overnight, decides: it equals ``quantity`` where that stays, and the sum of both where
    it shrinks. Where it is missing, or equals neither, the holding is unknown. The same holds for ``mtf``, shares held
    on margin.
    """
    row = mapping(item, "the holding")
    instrument = instrument_of(row)
    free = number(row, "quantity") + (_optional(row, "t1_quantity") or _ZERO)
    pledged = _optional(row, "collateral_quantity") or _ZERO
    used = _optional(row, "used_quantity") or _ZERO
    quantity = _at_begin(free, used, _optional(row, "opening_quantity"), pledged) + pledged
    mtf = row.get("mtf")
    margin = mapping(mtf, "mtf of the holding") if mtf is not None else {}
    financed = _optional(margin, "quantity") or _ZERO
    financed = _at_begin(financed, _optional(margin, "used_quantity") or _ZERO, None, _ZERO)
    return PositionRow(
        instrument,
        HOLDINGS,
        _held(row, instrument, HOLDINGS, quantity),
        None,
        None,
        isin=_text_or_none(row, "isin"),
        mtf=_held(margin, instrument, "MTF", financed),
    )


def _at_begin(free: Decimal, used: Decimal, opening: Decimal | None, pledged: Decimal) -> Decimal:
    """The quantity at the beginning of the day, under either reading of what was sold of it."""
    if not used:
        return free
    for began in (opening, None if opening is None else opening - pledged):
        if began is not None and began in (free, free + used):
            return began
    raise BadRow(f"{used} of it were sold today, and nothing shows whether the quantity {free} is before or after that")


def _held(row: Json, instrument: str, leg: str, quantity: Decimal) -> Position | None:
    """A position. Kite shows an average of 0 where it does not know the average (carried rows, ``discrepancy``)."""
    if not quantity:
        return None
    price = number(row, "average_price")
    return Position(instrument, leg, quantity, price, price_told=price != 0)


def order_row(item: object) -> OrderRow:
    """An order. ``pending_quantity`` and ``cancelled_quantity`` are not added up: a cancelled order may show both for
    the same units. ``limit_price`` is the working price; for a stop-loss market order that is its trigger. Kite Connect
    documentation, orders: an SL order has a ``trigger_price`` beside its ``price``, and either may be modified."""
    row = mapping(item, "the order")
    quantity, filled = number(row, "quantity"), number(row, "filled_quantity")
    if quantity <= 0:
        raise BadRow("quantity is not above 0")
    if not 0 <= filled <= quantity:
        raise BadRow(f"filled_quantity {filled} of {quantity}")
    average = _optional(row, "average_price")
    instrument, status = instrument_of(row), _status(row, quantity, filled)
    placed = _moment_or_none(row, "order_timestamp")
    opened = _moment_or_none(row, "exchange_timestamp") if row.get("variety") == _AFTER_MARKET else None
    until = _good_until(row, instrument, placed, opened)
    order = Order(
        instrument=instrument,
        broker_order_id=_id(row, "order_id"),
        client_order_id=_text_or_none(row, "tag"),
        side=_side(row),
        quantity=quantity,
        filled_quantity=filled,
        status=status,
        order_type=_text_or_none(row, "order_type") or "UNKNOWN",
        limit_price=_working_price(row),
        trigger_price=_optional(row, "trigger_price") or None if row.get("order_type") == "SL" else None,
        average_fill_price=average if average and filled else None,
        submitted_at=placed,
        leg=_word(row, "product"),
        reason=_text_or_none(row, "status_message"),
        origin=_origin(row),
        parent=_text_or_none(row, "parent_order_id"),
        waits_for_open=status is OrderStatus.PENDING_SUBMIT and _waits_for_open(row),
        expires_at=until,
        working_since=opened,
    )
    changed_at = row.get("exchange_update_timestamp") or row.get("exchange_timestamp") or row.get("order_timestamp")
    slice_of, autosliced = _slice_of(row, order)
    return OrderRow(
        order,
        _text_or_none(row, "variety") or "regular",
        order.parent,
        moment(changed_at, "exchange_update_timestamp") if changed_at else None,
        slice_of,
        _total(row),
        autosliced,
    )


_AUTOSLICED = "autoslice"
_AUTOSLICE = re.compile(r"autoslice:\s*(\w+)", re.ASCII)
"""Kite Connect forum (staff): each slice has ``autoslice`` among its ``tags``, and every slice but the first also the
id of the first."""


def _slice_of(row: Json, order: Order) -> tuple[str | None, bool]:
    """The first order of the whole of which it is a slice, and whether that was autosliced."""
    if order.parent is not None and row.get("variety") == "iceberg":
        return order.parent, False
    tags = row.get("tags")
    first, autosliced = None, False
    for tag in tags if isinstance(tags, list) else ():
        if not isinstance(tag, str) or not tag.startswith(_AUTOSLICED):
            continue
        autosliced |= tag == _AUTOSLICED
        match = _AUTOSLICE.fullmatch(tag)
        if first is None and match is not None and match[1] != order.broker_order_id:
            first = match[1]
    return first, autosliced


def _total(row: Json) -> Decimal | None:
    """The quantity of a whole iceberg, from its ``meta``."""
    meta = row.get("meta")
    if not meta:
        return None
    iceberg = meta.get("iceberg") if isinstance(meta, dict) else None
    return _optional(iceberg, "total_quantity") if isinstance(iceberg, dict) else None


_RISK_MANAGEMENT = re.compile(r"ADMIN\w*|RMS\w*", re.ASCII)
"""Zerodha's values of ``placed_by`` for risk management: ADMINSQF, or RMS and a number. Else it is a user's id."""


def _origin(row: Json) -> Reason | None:
    placed_by = row.get("placed_by")
    return Reason.SQUARE_OFF if isinstance(placed_by, str) and _is_risk_management(placed_by) else None


@lru_cache(maxsize=256)
def _is_risk_management(placed_by: str) -> bool:
    return _RISK_MANAGEMENT.fullmatch(placed_by.strip().upper()) is not None


def fill_row(item: object) -> Fill:
    """A trade; its leg is the product. A trade's ``order_timestamp`` is only HH:MM:SS and is ignored."""
    row = mapping(item, "the trade")
    quantity = number(row, "quantity")
    if quantity <= 0:
        raise BadRow("quantity is not above 0")
    time_key = "fill_timestamp" if row.get("fill_timestamp") is not None else "exchange_timestamp"
    side, made_at = _side(row), moment(row.get(time_key), time_key)
    return Fill(
        instrument=instrument_of(row),
        fill_id=_id(row, "trade_id"),
        broker_order_id=_id(row, "order_id"),
        side=side,
        quantity=quantity,
        price=number(row, "average_price"),
        time=made_at,
        leg=_word(row, "product"),
        id_scope=CONVENTIONS.fill_scope(side, made_at),
    )


# -- the status of an order ----------------------------------------------------------------------------------------

_S = OrderStatus
_STATUSES: tuple[tuple[str, OrderStatus], ...] = (
    ("PUT ORDER REQ", _S.PENDING_SUBMIT),
    ("PUT ORDER REQUEST", _S.PENDING_SUBMIT),
    ("AMO REQ", _S.PENDING_SUBMIT),
    ("AMO REQUEST", _S.PENDING_SUBMIT),
    ("VALIDATION PENDING", _S.PENDING_SUBMIT),
    ("OPEN PENDING", _S.PENDING_SUBMIT),
    ("OPEN", _S.OPEN),
    ("TRIGGER PENDING", _S.OPEN),
    ("MODIFIED", _S.OPEN),
    ("MODIFY AMO REQ", _S.PENDING_SUBMIT),
    ("MODIFY", _S.OPEN),
    ("UPDATE", _S.OPEN),
    ("CANCEL PENDING", _S.PENDING_CANCEL),
    ("COMPLETE", _S.FILLED),
    ("REJECTED", _S.REJECTED),
    ("CANCELLED", _S.CANCELLED),
    ("CANCEL", _S.CANCELLED),
)
"""By whole leading words; the first match counts. The documentation writes both "REQ" and "REQUEST RECEIVED". It lists
neither "MODIFY AMO REQ RECEIVED" nor "CANCEL AMO REQ RECEIVED", which public programs that use the API know."""
_REQUESTED = re.compile(r"CANCEL\b.*\b(REQ|REQUEST|PENDING)\b")


def _status(row: Json, quantity: Decimal, filled: Decimal) -> OrderStatus:
    word, status = _meaning(_word(row, "status"))
    if status is None:
        raise BadRow(f"unknown order status {word[:40]!r}")
    if status is _S.FILLED and filled < quantity:
        if _optional(row, "cancelled_quantity") != quantity - filled:
            raise BadRow(f"COMPLETE with {filled} of {quantity} filled")
        return _S.CANCELLED
    if status is _S.CANCELLED and _REQUESTED.match(word) and _optional(row, "cancelled_quantity") != quantity - filled:
        return _S.PENDING_CANCEL
    if status is _S.CANCELLED:
        return _S.EXPIRED if _ran_out(row) else status
    if status in {_S.PENDING_SUBMIT, _S.OPEN} and filled:
        return _S.FILLED if word.startswith("UPDATE") and filled == quantity else _S.PARTIALLY_FILLED
    return status


@lru_cache(maxsize=256)
def _meaning(raw: str) -> tuple[str, OrderStatus | None]:
    """A status in capitals with single blanks, and its meaning; ``None`` for an unknown one."""
    word = " ".join(raw.upper().split())
    return word, next((s for prefix, s in _STATUSES if word == prefix or word.startswith(prefix + " ")), None)


def _ran_out(row: Json) -> bool:
    """Whether a cancelled order ended by its own validity, for which Kite has no status.

    Kite Connect documentation: IOC is matched at once or cancelled, TTL lasts for ``validity_ttl`` minutes, DAY until
    the close. After the close nobody cancels an order that was placed before it.
    """
    validity = row.get("validity")
    if validity == "IOC":
        return True
    placed = _moment_or_none(row, "order_timestamp")
    ended = _moment_or_none(row, "exchange_update_timestamp") or _moment_or_none(row, "exchange_timestamp")
    if placed is None or ended is None:
        return False
    if validity == "TTL":
        lives = _time_to_live(row)
        return lives is not None and ended - placed >= lives
    close = sessions.close_of(instrument_of(row), placed.astimezone(IST).date())
    return validity == "DAY" and close is not None and placed < close <= ended


def _time_to_live(row: Json) -> timedelta | None:
    """``validity_ttl``, in minutes of the order's day; ``None`` where it is missing."""
    minutes = _optional(row, "validity_ttl")
    if minutes is not None and not 0 <= minutes <= _MINUTES_OF_A_DAY:
        raise BadRow("validity_ttl is out of range")
    return timedelta(minutes=int(minutes)) if minutes else None


_AFTER_MARKET = "amo"


def _waits_for_open(row: Json) -> bool:
    """Whether a pending order waits for the open: an after-market order stays with the broker until the exchange has
    it, whatever its status is called."""
    if _word(row, "status").upper().startswith("AMO REQ"):
        return True
    return row.get("exchange_timestamp") in (None, "") and row.get("variety") == _AFTER_MARKET


def _good_until(row: Json, instrument: str, placed: BrokerTime | None, opened: BrokerTime | None) -> BrokerTime | None:
    """When the order ends by its validity. Kite Connect documentation: DAY, IOC, or TTL with ``validity_ttl`` minutes;
    none lasts longer. ``order_timestamp`` moves with every change of the order within its day."""
    began = opened or placed
    if began is None:
        return None
    if row.get("validity") == "TTL":
        lives = _time_to_live(row)
        return None if lives is None else began + lives
    ahead = row.get("variety") == _AFTER_MARKET and opened is None
    return sessions.good_until(instrument, began, for_next_session=ahead)


def _working_price(row: Json) -> Decimal | None:
    kind = row.get("order_type")
    if kind == "MARKET":
        return None
    price = _optional(row, "trigger_price" if kind == "SL-M" else "price")
    return price or None


# -- one value of a row --------------------------------------------------------------------------------------------


def moment(value: object, key: str = "time") -> BrokerTime:
    """An aware UTC time from naive IST, to the second."""
    found = _from_naive(value) if isinstance(value, str) else None
    if found is None:
        raise BadRow(f"{key} is no date and time")
    return foreign_row.in_our_time(found, key)


@lru_cache(maxsize=8192)
def _from_naive(value: str) -> BrokerTime | None:
    """Cached: a row repeats the same time, and every look repeats the same rows."""
    if not _NAIVE.fullmatch(value):
        return None
    try:
        return BrokerTime.fromisoformat(f"{value}+00:00") - _AHEAD_OF_UTC
    except (ValueError, OverflowError):
        return None


_KEYS = {SectionName.POSITIONS: "product", SectionName.ORDERS: "order_id", SectionName.FILLS: "trade_id"}


def problem(section: SectionName, item: object, why: BadRow) -> RowProblem:
    """A row that could not be read, with whatever identifies it."""
    return foreign_row.problem(
        section, item, why, ROW_REMEDY, instrument=instrument_of, key=lambda row: row.get(_KEYS[section])
    )


def _word(row: Json, key: str) -> str:
    value = row.get(key)
    word = value.strip() if type(value) is str else ""  # called eight times a row
    return word or text(row, key).strip()


def _text_or_none(row: Json, key: str) -> str | None:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise BadRow(f"{key} is not a text")
    return value or None


def _id(row: Json, key: str) -> str:
    """An id, in a string or as a whole number."""
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return str(value)
    return _word(row, key)


def _side(row: Json) -> Side:
    value = row.get("transaction_type")
    side = _SIDES.get(value) if isinstance(value, str) else None
    if side is None:
        raise BadRow("transaction_type is neither BUY nor SELL")
    return side


def number(row: Json, key: str) -> Decimal:
    """An exact number."""
    value = row.get(key)
    if type(value) is int and -_BEYOND < value < _BEYOND:  # most are
        return Decimal(value)
    return foreign_row.number(row, key, _NUMBER)


def _optional(row: Json, key: str) -> Decimal | None:
    value = row.get(key)
    if type(value) is int and -_BEYOND < value < _BEYOND:
        return Decimal(value)
    return None if value is None else foreign_row.number(row, key, _NUMBER)


def _moment_or_none(row: Json, key: str) -> BrokerTime | None:
    return None if row.get(key) in (None, "") else moment(row[key], key)
