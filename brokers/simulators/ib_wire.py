"""TWS's side of its binary protocol: rows as lists of fields, their frames, and a client's requests. Pure.

The order of the fields is the one in ib_async's decoder and encoder; ``version`` is the server version in use.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

UNSET_DOUBLE = "1.7976931348623157E308"
UNSET_INTEGER = "2147483647"
LARGEST_REQUEST_BYTES = 1_000_000

REQUESTS = {
    4: "cancelOrder",
    5: "reqOpenOrders",
    6: "reqAccountUpdates",
    7: "reqExecutions",
    8: "reqIds",
    9: "reqContractDetails",
    15: "reqAutoOpenOrders",
    16: "reqAllOpenOrders",
    17: "reqManagedAccts",
    49: "reqCurrentTime",
    61: "reqPositions",
    62: "reqAccountSummary",
    63: "cancelAccountSummary",
    64: "cancelPositions",
    71: "startApi",
    76: "reqAccountUpdatesMulti",
    81: "reqMatchingSymbols",
    77: "cancelAccountUpdatesMulti",
    99: "reqCompletedOrders",
}

Row = list[str]


@dataclass(frozen=True, slots=True)
class SimContract:
    """A contract as TWS describes it. ``legs`` are those of a combination: ``+1x700000001-2x700000002``."""

    con_id: int
    symbol: str
    sec_type: str = "STK"
    last_trade: str = ""
    strike: str = "0"
    right: str = ""
    multiplier: str = ""
    exchange: str = ""
    currency: str = "USD"
    local_symbol: str = ""
    trading_class: str = ""
    legs: str = ""
    magnifier: str = "1"

    @property
    def combination(self) -> list[tuple[int, int]]:
        """conId and signed ratio of each leg."""
        return [(int(con_id), int(ratio)) for ratio, con_id in re.findall(r"([+-]\d+)x(\d+)", self.legs)]

    def leg_fields(self) -> Row:
        """The number of legs, and eight fields for each."""
        rows = [
            [str(con_id), str(abs(ratio)), "BUY" if ratio > 0 else "SELL", "SMART", "0", "0", "", "-1"]
            for con_id, ratio in self.combination
        ]
        return [str(len(rows)), *(field for row in rows for field in row)]

    def fields(self) -> Row:
        """Its eleven fields."""
        own = (self.con_id, self.symbol, self.sec_type, self.last_trade, self.strike, self.right, self.multiplier)
        return [str(f) for f in (*own, self.exchange, self.currency, self.local_symbol, self.trading_class)]

    @property
    def factor(self) -> Decimal:
        """The value of one unit, in the contract's currency, at a price of 1."""
        return Decimal(self.multiplier or 1) / Decimal(self.magnifier)


_OPTION = re.compile(r"([A-Z]{1,6}) *(\d{6})([CP])(\d{8})")
_FUTURE = re.compile(r"(ES|MES|NQ|MNQ|YM|RTY|CL|NG|GC|SI|ZB|ZN)([FGHJKMNQUVXZ])(\d{1,2})")
_PAIR = re.compile(r"([A-Z]{3})\.([A-Z]{3})")
_MULTIPLIERS = {"ES": 50, "MES": 5, "NQ": 20, "MNQ": 2, "YM": 5, "RTY": 50, "CL": 1000, "NG": 10000, "GC": 100}


def contract_named(name: str) -> SimContract:
    """The contract that a name looks like: an option by its OCC symbol, a future by root and month, a currency pair by
    its localSymbol, a conId, else a stock."""
    con_id = 100_000 + zlib.crc32(name.encode()) % 900_000_000
    if found := _OPTION.fullmatch(name):
        root, day, right, strike = found.groups()
        price = f"{Decimal(strike) / 1000:f}"
        return SimContract(con_id, root, "OPT", f"20{day}", price, right, "100", local_symbol=name, trading_class=root)
    if found := _FUTURE.fullmatch(name):
        root = found.group(1)
        factor = str(_MULTIPLIERS.get(root, 1000))
        return SimContract(con_id, root, "FUT", "20270319", multiplier=factor, local_symbol=name, trading_class=root)
    if found := _PAIR.fullmatch(name):
        base, other = found.groups()
        return SimContract(con_id, base, "CASH", currency=other, local_symbol=name, trading_class=name)
    if name.isdigit():
        return SimContract(int(name), f"C{name}", local_symbol=f"C{name}", trading_class="NMS")
    return SimContract(con_id, name, local_symbol=name, trading_class="NMS")


# -- frames ------------------------------------------------------------------------------------------------------


def frame(row: Row) -> bytes:
    """A row as sent: its length, then its fields, each ended by a NUL."""
    body = "".join(f"{field}\0" for field in row).encode()
    return struct.pack(">I", len(body)) + body


class Inbox:
    """Splits a client's bytes into messages."""

    def __init__(self) -> None:
        self._data = b""
        self._greeted = False

    def feed(self, data: bytes) -> list[Row]:
        """The messages that are complete now. Raises ``ValueError`` where the sender is not an API client."""
        self._data += data
        if not self._greeted and len(self._data) >= 4:
            if self._data[:4] != b"API\0":
                raise ValueError("it did not begin with API")
            self._data, self._greeted = self._data[4:], True
        found: list[Row] = []
        while self._greeted and len(self._data) >= 4:
            (length,) = struct.unpack(">I", self._data[:4])
            if length > LARGEST_REQUEST_BYTES:
                raise ValueError(f"a request of {length} bytes")
            if len(self._data) < 4 + length:
                break
            found.append(self._data[4 : 4 + length].decode().removesuffix("\0").split("\0"))
            self._data = self._data[4 + length :]
        return found


def newest_version(greeting: str) -> int:
    """The newest server version that a client supports, from its greeting ``v157..178``."""
    found = re.match(r"v(\d+)(?:\.\.(\d+))?", greeting)
    if found is None:
        raise ValueError(f"{greeting!r} is no greeting")
    return int(found.group(2) or found.group(1))


# -- rows --------------------------------------------------------------------------------------------------------


def text(value: Decimal | int | None, unset: str = UNSET_DOUBLE) -> str:
    """A number as TWS writes it."""
    if value is None:
        return unset
    return str(value) if isinstance(value, int) else f"{value:f}"


def notice(request_id: int, code: int, words: str, version: int) -> Row:
    """An error or a message."""
    return ["4", "2", str(request_id), str(code), words, *([""] if version >= 166 else [])]


def position(account: str, contract: SimContract, quantity: Decimal, average_cost: Decimal) -> Row:
    """Sixteen fields. The exchange is empty, as TWS sends it for futures."""
    return ["61", "3", account, *contract.fields(), text(quantity), text(average_cost)]


@dataclass(frozen=True, slots=True)
class SimHours:
    """A contract's trading hours, in the words of its details."""

    zone: str = ""
    trading: str = ""
    liquid: str = ""


def hours_from(day: date, zone: str = "US/Eastern") -> SimHours:
    """A week of American shares from a day on, weekends closed."""
    days = [day + timedelta(days=n) for n in range(7)]

    def spans_of(opens: str, closes: str) -> str:
        spans = (f"{d:%Y%m%d}:{opens}-{d:%Y%m%d}:{closes}" if d.weekday() < 5 else f"{d:%Y%m%d}:CLOSED" for d in days)
        return ";".join(spans)

    return SimHours(zone, spans_of("0400", "2000"), spans_of("0930", "1600"))


def contract_details(contract: SimContract, request_id: int, version: int, hours: SimHours | None = None) -> Row:
    """40 fields at 178."""
    hours = hours or SimHours("US/Eastern")
    old = [] if version >= 164 else ["8"]
    c = contract
    head = [c.symbol, c.sec_type, c.last_trade, c.strike, c.right, "SMART", c.currency, c.local_symbol, c.symbol]
    ids = [
        c.trading_class,
        str(c.con_id),
        "0.01",
        *([] if version >= 164 else ["100"]),
        c.multiplier,
        "LMT,MKT",
        "SMART",
    ]
    names = [c.magnifier, "0", c.symbol, "", "", "", "", "", hours.zone, hours.trading, hours.liquid, "", "0", "0"]
    rest = ["1", c.symbol, c.sec_type, "26", c.last_trade, "COMMON"]
    sizes = ["0.0001", "0.0001", "100"] if version >= 164 else ["100"] if version == 163 else []
    return ["10", *old, str(request_id), *head, *ids, *names, *rest, *sizes]


def symbol_samples(contracts: list[SimContract], request_id: int, version: int) -> Row:
    """All contracts in one row."""
    row = ["79", str(request_id), str(len(contracts))]
    for one in contracts:
        row += [str(one.con_id), one.symbol, one.sec_type, "NASDAQ", one.currency, "2", "CFD", "OPT"]
        row += [f"{one.symbol} INC", ""] if version >= 176 else []
    return row


def portfolio(account: str, contract: SimContract, quantity: Decimal, price: Decimal, average_cost: Decimal) -> Row:
    """Twenty fields."""
    value = quantity * price * contract.factor
    gain = value - quantity * average_cost
    numbers = [quantity, price, value, average_cost, gain, Decimal(0)]
    return ["7", "8", *contract.fields(), *(text(n) for n in numbers), account]


@dataclass(frozen=True, slots=True)
class OrderRow:
    """The fields of an order's rows."""

    account: str
    contract: SimContract
    action: str
    quantity: Decimal
    order_type: str
    limit: Decimal | None
    ref: str
    perm_id: int
    order_id: int
    client_id: int
    status: str
    filled: Decimal
    average: Decimal
    completed_time: str = ""
    completed_status: str = ""
    group: str = ""
    parent_order_id: int = 0
    parent_perm_id: int = 0
    tif: str = "DAY"
    good_till: str = ""
    oca_group: str = ""
    outside_hours: bool = False
    aux: Decimal | None = None


def order_status(order: OrderRow) -> Row:
    """Twelve fields."""
    numbers = [order.filled, order.quantity - order.filled, order.average]
    ids = [str(order.perm_id), str(order.parent_order_id), text(order.average), str(order.client_id)]
    return ["3", str(order.order_id), order.status, *(text(n) for n in numbers), *ids, "", "0"]


def open_order(order: OrderRow, version: int) -> Row:
    """127 fields at 178, and the eight more that TWS sends because it writes "None" for no delta-neutral order."""
    unset = UNSET_DOUBLE
    head = _terms(order, str(order.order_id))
    ids = [order.ref, str(order.client_id), str(order.perm_id)]
    outside = "1" if order.outside_hours else "0"
    times = [outside, "0", "0", "", f"{order.perm_id}.0/{order.account}/100", order.group, "", ""]
    profile = [""] if version < 177 else []
    model = ["", order.good_till, "", unset, "", "0", "", "-1", "0", unset, unset, unset, unset, unset, "0"]
    flags = ["0", "0", "0", UNSET_INTEGER, "3", "0", "0", unset, "0", "0", unset, "0", "None", unset]
    neutral = ["0", "", "", "", "?", "0", "0", ""]
    legs = order.contract.leg_fields()
    after = ["0", "0", unset, unset, unset, UNSET_INTEGER, "", *legs, "0", "0", UNSET_INTEGER, UNSET_INTEGER, unset, ""]
    clearing = ["0", "", "IB", "0", "0", "", "0", "0", order.status, *[unset] * 9, unset, unset, unset, "", ""]
    adjusted = ["0", "0", "0", "None", *[unset] * 6, "0", "", "", "", "0", "0", "0", "0", "2147483647"]
    newer = [field for since, field in ((159, UNSET_INTEGER), (160, UNSET_INTEGER), (162, "0")) if version >= since]
    pegs = [UNSET_INTEGER, UNSET_INTEGER, unset, unset, unset] if version >= 170 else []
    return ["5", *head, *ids, *times, *profile, *model, *flags, *neutral, *after, *clearing, *adjusted, *newer, *pegs]


def completed_order(order: OrderRow, version: int) -> Row:
    """A completed order; a filled one without its quantity, as public captures show it, and without average price."""
    unset = UNSET_DOUBLE
    head = _terms(order, None)
    if order.status == "Filled":
        head[12] = "0"
    ids = [order.ref, str(order.perm_id)]
    times = ["0", "0", "0", "", order.group, "", ""]
    profile = [""] if version < 177 else []
    model = ["", order.good_till, "", unset, "", "0", "", "-1", unset, unset, unset, unset, unset, "0"]
    flags = ["0", "0", UNSET_INTEGER, "3", "0", unset, "0", "None", unset]
    neutral = ["0", "0", "0", ""]
    legs = order.contract.leg_fields()
    after = ["0", "0", unset, unset, "", *legs, "0", "0", UNSET_INTEGER, UNSET_INTEGER, unset, ""]
    clearing = ["", "IB", "0", "0", "", "0", order.status, "0", "0", "0"]
    ending = [unset, unset, unset, "1", "0", "", text(order.filled), "0", "0", "", "0", "0", str(order.parent_perm_id)]
    ended = [order.completed_time, order.completed_status]
    pegs = [UNSET_INTEGER, UNSET_INTEGER, unset, unset, unset] if version >= 170 else []
    row = [*head, *ids, *times, *profile, *model, *flags, *neutral, *after, *clearing, *ending, *ended, *pegs]
    return ["101", *row]


def _terms(order: OrderRow, order_id: str | None) -> Row:
    """From the order id (left out for ``None``) to the field before the orderRef."""
    limit = text(order.limit) if order.limit is not None else "0.0"
    terms = [
        order.action,
        text(order.quantity),
        order.order_type,
        limit,
        text(order.aux) if order.aux is not None else "0.0",
        order.tif,
        order.oca_group,
        order.account,
        "",
        "0",
    ]
    head = [] if order_id is None else [order_id]
    return [*head, *order.contract.fields(), *terms]


@dataclass(frozen=True, slots=True)
class ExecutionRow:
    """The fields of an execution's rows."""

    account: str
    contract: SimContract
    exec_id: str
    time: str
    side: str
    shares: Decimal
    price: Decimal
    perm_id: int
    client_id: int
    order_id: int
    cumulative: Decimal
    average: Decimal
    ref: str
    liquidation: bool = False
    exchange: str = "SMART"


def execution(one: ExecutionRow, request_id: int, version: int) -> Row:
    """32 fields at 178. TWS writes "unset" for the order id of an order placed by hand."""
    order_id = str(one.order_id) if one.order_id else UNSET_INTEGER
    fields = [one.exec_id, one.time, one.account, one.exchange, one.side, text(one.shares), text(one.price)]
    forced = "1" if one.liquidation else "0"
    ids = [str(one.perm_id), str(one.client_id), forced, text(one.cumulative), text(one.average), one.ref]
    newer = ["0"] if version >= 178 else []
    return ["11", str(request_id), order_id, *one.contract.fields(), *fields, *ids, "", "", "", "1", *newer]


def commission(exec_id: str, amount: Decimal, currency: str = "USD") -> Row:
    """Eight fields."""
    return ["59", "1", exec_id, text(amount), currency, UNSET_DOUBLE, UNSET_DOUBLE, ""]
