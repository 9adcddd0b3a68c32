"""The rows of TWS's binary protocol, from their own text. Pure.

ib_async turns an empty number into 0 and every number into a float, and drops a row that it cannot read. An empty
quantity read as 0 would look flat. So the rows that money depends on are read here, from the fields as they came, and
what cannot be read raises :class:`BadRow`. The positions of the fields are those of ib_async 2.1 at server version 178
(the newest that it supports; the fields read here have had the same positions since 157).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, tzinfo
from decimal import Decimal
from typing import NoReturn
from zoneinfo import ZoneInfo

from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.kit.foreign_row import BadRow, cut, in_our_time
from brokers.model import Side

ORDER_STATUS = 3
NOTICE = 4
OPEN_ORDER = 5
ACCOUNT_VALUE = 6
PORTFOLIO = 7
CONTRACT_DETAILS = 10
EXECUTION = 11
TIME = 49
PORTFOLIO_END = 54
COMMISSION = 59
POSITION = 61
SYMBOL_SAMPLES = 79
COMPLETED_ORDER = 101

Fields = Sequence[str]

POSITION_FIELDS = 16

UNSET_INTEGER = 2**31 - 1
"""TWS's value for an id that is not set, such as the order id of an execution placed by hand."""

BAG = "BAG"
_PAIR, _CONVERTED_AT = "CASH", "FXCONV"
_UNSET_DOUBLE = Decimal("1.7976931348623157E308")
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
_MOST_DIGITS = 18
_SIDES = {"BUY": Side.BUY, "SELL": Side.SELL, "SSHORT": Side.SELL, "SLONG": Side.BUY}
_EXECUTED = {"BOT": Side.BUY, "SLD": Side.SELL}
_TIME = re.compile(r"(\d{8})[ -]+(\d{2}:\d{2}:\d{2})(?:[ ]+(\S+))?")
_QUOTE_LENGTH = 160
_COUNT = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True, order=True)
class ComboLeg:
    """One leg of a combination: a contract, and how many of it one unit buys (negative: sells)."""

    con_id: int
    ratio: int


@dataclass(frozen=True, slots=True)
class Contract:
    """What identifies a contract. ``con_id`` is 0 only for a combination of legs (BAG); ``multiplier`` is 1 where the
    contract has none. ``legs`` are those of a combination, which only order rows carry."""

    con_id: int
    symbol: str
    sec_type: str
    multiplier: Decimal
    local_symbol: str
    expiry: date | None = None
    strike: Decimal | None = None
    right: str | None = None
    currency: str | None = None
    legs: tuple[ComboLeg, ...] = ()


@dataclass(frozen=True, slots=True)
class Holding:
    """One row of the positions. ``average_cost`` includes the multiplier."""

    account: str
    contract: Contract
    quantity: Decimal
    average_cost: Decimal


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """What was ordered. ``quantity`` is 0 for many completed orders, and for an order for an amount of cash.
    ``order_id`` is 0 for one placed by hand. ``allocation`` is set for an order that a financial adviser placed for
    several accounts: its group or method. ``aux_price`` is the trigger price of a stop, and something else for other
    types of orders. ``tif`` is the time in force. ``good_till`` is its end where TWS states a
    date (GTD), ``good_after`` when it begins to work where that is later. With ``outside_hours`` it may be filled in
    all hours of its exchange. ``oca_group`` names a group of orders in which one fill cancels the others.
    """

    account: str
    contract: Contract
    side: Side
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None
    order_ref: str | None
    perm_id: int
    client_id: int = 0
    order_id: int = 0
    allocation: str | None = None
    aux_price: Decimal | None = None
    tif: str = ""
    good_till: str = ""
    good_after: str = ""
    outside_hours: bool = False
    oca_group: str | None = None


@dataclass(frozen=True, slots=True)
class OrderState:
    """The state of an order so far, in TWS's words. ``parent_order_id`` is the id of the order, of the same client, to
    which it is attached; 0 for none."""

    order_id: int
    client_id: int
    perm_id: int
    status: str
    filled: Decimal
    average_price: Decimal | None
    parent_order_id: int = 0


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution in one of its revisions. ``root`` is the execId without the digits after its last dot: IB numbers a
    correction after the execution that it corrects, in those digits. A ``conversion`` of currencies changes cash alone:
    TWS User's Guide, FX Portfolio (virtual FX position): those sent to FXCONV are kept out of the positions of pairs.
    """

    exec_id: str
    root: str
    revision: int
    account: str
    contract: Contract
    side: Side
    quantity: Decimal
    price: Decimal
    time: BrokerTime
    zone: str | None
    perm_id: int
    client_id: int
    order_id: int
    order_ref: str | None
    liquidation: bool = False
    conversion: bool = False

    @property
    def moves_position(self) -> bool:
        """Whether it changes the position of its contract."""
        return self.contract.sec_type != BAG and not self.conversion


@dataclass(frozen=True, slots=True)
class Notice:
    """An error or a message: ``request_id`` is -1, a request's id, or an order's."""

    request_id: int
    code: int
    text: str


# -- whole rows --------------------------------------------------------------------------------------------------


def holding(fields: Fields) -> Holding:
    """A row of message 61."""
    _check_length(fields, POSITION_FIELDS)
    found = contract(fields[3:14])
    return Holding(
        account=_text(fields[2], "account"),
        contract=found,
        quantity=number(fields[14], "position"),
        average_cost=number(fields[15], "avgCost"),
    )


def open_order(fields: Fields) -> OrderTerms:
    """The beginning of a row of message 5."""
    _check_length(fields, 27, exactly=False)
    return _terms(
        fields[2:26],
        client_id=_whole(fields[24], "clientId"),
        order_id=_order_id(fields[1]),
        perm_id=_whole(fields[25], "permId"),
        allocation=_allocation(fields, fields[20], 31),
        outside_hours=fields[26] not in {"", "0"},
        good_after=fields[29] if len(fields) > 29 else "",
    )


def completed_order(fields: Fields) -> OrderTerms:
    """The beginning of a row of message 101, which carries no order id and no client id."""
    _check_length(fields, 25, exactly=False)
    return _terms(
        fields[1:24],
        client_id=0,
        order_id=0,
        perm_id=_whole(fields[23], "permId"),
        allocation=_allocation(fields, fields[19], 28),
    )


def _allocation(fields: Fields, account: str, group_at: int) -> str | None:
    """How an adviser's order is allocated: its faGroup, else its faMethod. The row names no account, or the group (TWS
    API documentation, "Allocation methods and groups")."""
    stated = [field for field in fields[group_at : group_at + 2] if field]
    if stated:
        return stated[0]
    return None if account else "several accounts"


def _terms(
    shared: Fields,
    *,
    client_id: int,
    order_id: int,
    perm_id: int,
    allocation: str | None,
    outside_hours: bool = False,
    good_after: str = "",
) -> OrderTerms:
    kind = _text(shared[13], "orderType")
    side = _SIDES.get(shared[11])
    if side is None:
        _reject("action", shared[11], "BUY or SELL")
    return OrderTerms(
        account=shared[18],
        contract=contract(shared[:11]),
        side=side,
        quantity=_unsigned(shared[12], "totalQuantity"),
        order_type=kind,
        limit_price=_optional(shared[14], "lmtPrice"),
        order_ref=shared[21] or None,
        perm_id=perm_id,
        client_id=client_id,
        order_id=order_id,
        allocation=allocation,
        aux_price=_optional(shared[15], "auxPrice"),
        tif=shared[16],
        outside_hours=outside_hours,
        good_after=good_after,
        oca_group=shared[17] or None,
    )


def order_state(fields: Fields) -> OrderState:
    """A row of message 3. The average price is ``None`` while nothing is filled."""
    _check_length(fields, 12)
    filled = _unsigned(fields[3], "filled")
    return OrderState(
        order_id=_order_id(fields[1]),
        client_id=_whole(fields[9], "clientId"),
        perm_id=_whole(fields[6], "permId"),
        status=_text(fields[2], "status"),
        filled=filled,
        average_price=_optional(fields[5], "avgFillPrice") if filled else None,
        parent_order_id=_whole(fields[7], "parentId"),
    )


def execution(fields: Fields, zone: tzinfo | None) -> Execution:
    """A row of message 11. A time without a zone is read in ``zone``. Where that is ``None`` the row cannot be read: a
    guess might put a fill hours before or after the position that contains it."""
    _check_length(fields, 31, exactly=False)
    exec_id = _text(fields[14], "execId")
    root, _, digits = exec_id.rpartition(".")
    if not root or not re.fullmatch(r"[0-9]{1,9}", digits):
        _reject("execId", exec_id, "an id that ends in a dot and the number of its revision")
    side = _EXECUTED.get(fields[18])
    if side is None:
        _reject("side", fields[18], "BOT or SLD")
    time, stated_zone = moment(fields[15], zone)
    return Execution(
        exec_id=exec_id,
        root=root,
        revision=int(digits),
        account=_text(fields[16], "acctNumber"),
        contract=contract(fields[3:14]),
        side=side,
        quantity=_unsigned(fields[19], "shares"),
        price=number(fields[20], "price"),
        time=time,
        zone=stated_zone,
        perm_id=_whole(fields[21], "permId"),
        client_id=_whole(fields[22], "clientId"),
        order_id=_order_id(fields[2]),
        order_ref=fields[26] or None,
        # TWS API documentation, Execution.Liquidation: whether IB initiated it; the wire carries a count.
        liquidation=fields[23] not in {"", "0"},
        conversion=fields[5] == _PAIR and _CONVERTED_AT in (fields[10], fields[17]),
    )


def commission(fields: Fields) -> tuple[str, Decimal | None, str | None]:
    """execId, commission and currency of a row of message 59; ``None`` where TWS does not have it yet."""
    _check_length(fields, 8)
    return _text(fields[2], "execId"), _optional(fields[3], "commission"), fields[4] or None


def price_magnifier(fields: Fields) -> tuple[int, Decimal]:
    """The conId and the priceMagnifier of a row of message 10: how many units of its price make one of its currency,
    100 where it is quoted in cents (TWS API documentation, ``ContractDetails``). Before server version 164 the row had
    two more fields."""
    _check_length(fields, 30, exactly=False)
    at = 12 if fields[3].isupper() and not fields[2].isdecimal() else 13
    magnifier = number(fields[at + (5 if at == 12 else 6)], "priceMagnifier")
    if magnifier <= 0:
        _reject("priceMagnifier", str(magnifier), "a number above zero")
    return _whole(fields[at], "conId"), magnifier


def contract_hours(fields: Fields) -> tuple[int, str, str, str]:
    """The conId of a row of message 10, and its timeZoneId, tradingHours and liquidHours."""
    _check_length(fields, 30, exactly=False)
    at = 12 if fields[3].isupper() and not fields[2].isdecimal() else 13
    first = at + (13 if at == 12 else 14)
    _check_length(fields, first + 3, exactly=False)
    zone, trading, liquid = fields[first : first + 3]
    return _whole(fields[at], "conId"), zone, trading, liquid


def symbol_samples(fields: Fields) -> tuple[tuple[int, str, str], ...]:
    """conId, symbol and security type of each contract of a row of message 79. From server version 176 on each also has
    a description and an issuer."""
    _check_length(fields, 3, exactly=False)
    for extra in (2, 0):
        rest = list(fields[3:])
        found: list[tuple[int, str, str]] = []
        for _ in range(_whole(fields[2], "count")):
            if len(rest) < 6 or not _COUNT.fullmatch(rest[5]):
                break
            found.append((_whole(rest[0], "conId"), rest[1], rest[2]))
            rest = rest[6 + int(rest[5]) + extra :]
        else:
            if not rest:
                return tuple(found)
    raise BadRow("its contracts do not add up to its fields")


def portfolio(fields: Fields) -> tuple[Contract, Decimal]:
    """The contract of a row of message 7, and how much of it is held."""
    _check_length(fields, 20)
    begin = CONTRACT_AT[PORTFOLIO]
    return contract(fields[begin : begin + 11]), number(fields[13], "position")


def account_value(fields: Fields) -> tuple[str, str, str, str]:
    """Name, value, currency and account of a row of message 6."""
    _check_length(fields, 6)
    return _text(fields[2], "key"), fields[3], fields[4], fields[5]


def notice(fields: Fields) -> Notice:
    """A row of message 4."""
    _check_length(fields, 5, exactly=False)
    return Notice(_whole(fields[2], "id", negative=True), _whole(fields[3], "errorCode"), " ".join(fields[4].split()))


def server_time(fields: Fields) -> int:
    """The epoch second of a row of message 49."""
    _check_length(fields, 3)
    seconds = _whole(fields[2], "time")
    # The bound is the year 10000, so that milliseconds are refused and not taken for seconds.
    if not 0 < seconds < 253_402_300_800:
        _reject("time", fields[2], "epoch seconds")
    return seconds


CONTRACT_AT = {POSITION: 3, OPEN_ORDER: 2, PORTFOLIO: 2, EXECUTION: 3, COMPLETED_ORDER: 1}
"""Where the eleven fields of the contract begin in a row."""


def contract(fields: Fields) -> Contract:
    """The eleven fields of a contract. A derivative without its multiplier cannot be priced, so its row is rejected."""
    _check_length(fields, 11)
    sec_type = _text(fields[2], "secType")
    con_id = _whole(fields[0], "conId", empty=sec_type == BAG)
    if con_id <= 0 and sec_type != BAG:
        _reject("conId", fields[0], "a number above zero")
    for name, text in (("symbol", fields[1]), ("localSymbol", fields[9])):
        if not text.isprintable() or text != text.strip():
            _reject(name, text, "a name")
    if not fields[1] and not fields[9]:
        _reject("symbol", "", "a name")
    multiplier = Decimal(1)
    if fields[6]:
        multiplier = number(fields[6], "multiplier")
        if multiplier <= 0:
            _reject("multiplier", fields[6], "a number above zero")
    elif sec_type in {"OPT", "FUT", "FOP", "WAR"}:
        _reject("multiplier", fields[6], f"the multiplier of a {sec_type}")
    return Contract(
        con_id,
        fields[1],
        sec_type,
        multiplier,
        fields[9],
        expiry=_day(fields[3]),
        strike=_strike(fields[4]),
        right=fields[5][:1] if fields[5][:1] in {"C", "P"} else None,
        currency=fields[8] or None,
    )


def _day(text: str) -> date | None:
    """The last trading day of a contract; ``None`` for a month alone, and where there is none."""
    try:
        return date.fromisoformat(text[:8]) if text[:8].isdecimal() and len(text) >= 8 else None
    except ValueError:
        return None


def _strike(text: str) -> Decimal | None:
    """The strike; a text that is not a number counts as none, and the rest of the row stays readable."""
    try:
        return _optional(text, "strike") or None
    except BadRow:
        return None


# -- one field ---------------------------------------------------------------------------------------------------


def number(text: str, name: str) -> Decimal:
    """A finite number, which must be there. NaN, infinities and IB's "unset" are rejected."""
    value = _optional(text, name)
    if value is None:
        _reject(name, text, "a number")
    return value


def _optional(text: str, name: str) -> Decimal | None:
    """A finite number, ``None`` where it is empty or IB's "unset"."""
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        _reject(name, text, "a number")
    value = Decimal(text)
    if -_MOST_DIGITS <= value.adjusted() <= _MOST_DIGITS or not value:
        return value
    if abs(value) != _UNSET_DOUBLE:
        _reject(name, text, "a number of a plausible size")
    return None


def _unsigned(text: str, name: str) -> Decimal:
    value = number(text, name)
    if value < 0:
        _reject(name, text, "a number not below zero")
    return value


def _whole(text: str, name: str, *, negative: bool = False, empty: bool = False) -> int:
    if text.isdigit() and text.isascii() and len(text) < 20:
        return int(text)
    if empty and not text:
        return 0
    if not re.fullmatch(r"-?[0-9]{1,19}" if negative else r"[0-9]{1,19}", text):
        _reject(name, text, "a whole number")
    return int(text)


def _order_id(text: str) -> int:
    value = _whole(text, "orderId", negative=True)
    return 0 if value == UNSET_INTEGER else max(0, value)


def _text(text: str, name: str) -> str:
    if not text or not text.isprintable():
        _reject(name, text, "a text")
    return text


def moment(text: str, zone: tzinfo | None) -> tuple[BrokerTime, str | None]:
    """A time such as ``20260105 09:30:01 US/Eastern`` in UTC, and the zone it names.

    IBKR API documentation: ``yyyymmdd-hh:mm:ss`` with a dash is UTC; with a space and no zone it is the time of TWS.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        _reject("time", text, "a date and a time")
    day, clock, name = found.groups()
    try:
        naive = BrokerTime.fromisoformat(f"{day}T{clock}")  # its zone is settled below
    except ValueError:
        _reject("time", text, "a date and a time")
    in_our_time(naive, "time")
    if name is not None:
        try:
            return naive.replace(tzinfo=ZoneInfo(name)).astimezone(UTC), name
        except (KeyError, ValueError, OSError):
            _reject("time", text, "a time in a known zone")
    if text[8] == "-":
        return naive.replace(tzinfo=UTC), None
    if zone is None:
        expected = "a time with its zone (let TWS send it: Global Configuration, API, Settings, time zone)"
        _reject("time", text, expected)
    return naive.replace(tzinfo=zone).astimezone(UTC), None


def _check_length(fields: Fields, expected: int, *, exactly: bool = True) -> None:
    if len(fields) < expected or (exactly and len(fields) != expected):
        raise BadRow(f"it has {len(fields)} fields, expected {expected}{'' if exactly else ' or more'}")


def _reject(name: str, found: str, expected: str) -> NoReturn:
    raise BadRow(f"{name} is {found[:40]!r}, expected {expected}" if found else f"{name} is empty")


def quote(fields: Fields) -> str:
    """A row for people, cut to a readable length."""
    return repr(cut(",".join(fields), _QUOTE_LENGTH))
