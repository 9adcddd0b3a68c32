"""Decodes an MT5 gateway's JSON into the model's rows. Pure.

The laws of this module:

* A number becomes a ``Decimal`` from its text and never passes through a float.
* A row that cannot be read becomes a :class:`RowProblem`; the other rows go on and the section is PARTIAL.
* A list that is missing, null or not a list is FAILED. Only an empty list is empty.
* A repeated ticket may hide another row (some gateways repeat the first one), so it makes every instrument's view of
  that section PARTIAL, not only its own.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import field, replace
from datetime import UTC, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import NoReturn, TypeVar

from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.kit import foreign_row
from brokers.kit.exact_number import exact
from brokers.kit.foreign_row import BadRow, Json, in_our_time, whole_text
from brokers.model import (
    NET,
    Complete,
    Failed,
    Fill,
    LegScheme,
    Order,
    OrderStatus,
    Partial,
    Position,
    Reason,
    RowProblem,
    Section,
    SectionName,
    StreamedFill,
    section,
)
from brokers.mt5 import enumerations as enum

Content = dict[str, object]

_LARGEST_TICKET = 2**64 - 1
_VOLUME_STEP = Decimal("0.00000001")
_QUOTE_LENGTH = 160
_EPOCH = BrokerTime.fromtimestamp(0, UTC)
_YEAR_10000_S = 253_402_300_800
_CHARGE = re.compile(r"[-+]?[0-9]{0,18}\.?[0-9]{0,18}([eE][-+]?[0-9]{1,2})?", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")

ROW_REMEDY = "Compare it with the terminal; it is read again in every cycle"


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What a gateway reports of its account; each is ``None`` where it is not reported. ``time_s`` is epoch seconds;
    ``margin`` is the margin in use, 0 where nothing is held; ``may_trade`` is whether the account may trade at all."""

    login: int | None
    legs: LegScheme | None
    time_s: int | None
    margin: Decimal | None = None
    server: str | None = field(default=None, compare=False)  # for people
    currency: str | None = field(default=None, compare=False)
    may_trade: bool | None = field(default=None, compare=False)


# -- the answer as a whole ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _NotANumber:
    """NaN or an infinity, which JSON does not have and some gateways write all the same, or a number that is too large
    to be one."""

    text: str

    def __str__(self) -> str:
        return self.text


def parse(body: bytes) -> Content:
    """One reply, with every fractional number a ``Decimal``. Raises :class:`BadRow` for anything but an object."""
    try:
        content: object = json.loads(body, parse_float=_exactly, parse_constant=_NotANumber)
        if not _has_each_key_once(body, content):
            content = json.loads(
                body, parse_float=_exactly, parse_constant=_NotANumber, object_pairs_hook=_object_without_repeats
            )
    except BadRow:
        raise
    except (ValueError, RecursionError) as error:
        raise BadRow(f"it is not JSON ({type(error).__name__}): {quote(body)}") from None
    if not isinstance(content, dict):
        raise BadRow(f"it is not a JSON object: {quote(body)}")
    whole: Content = whole_text(content, body)
    return whole


@lru_cache(maxsize=4096)  # a reply repeats the same numbers many times: 0.0, a lot
def _exactly(text: str) -> Decimal | _NotANumber:
    try:
        return Decimal(text)
    except ArithmeticError:  # an exponent of twenty digits: it spoils its own row, and not the others
        return _NotANumber(text)


def _has_each_key_once(body: bytes, content: object) -> bool:
    """Whether no object of a reply can have a key twice: the reply has no more colons than keys were read. ``False`` is
    only a doubt, as a text may contain a colon; a slower parse that checks every pair settles it."""
    if not isinstance(content, dict):
        return False
    lists = [value for value in content.values() if isinstance(value, list)]
    rows = [row for rows in lists for row in rows if isinstance(row, dict)]
    return len(content) + sum(map(len, rows)) == body.count(b":")


def _object_without_repeats(pairs: list[tuple[str, object]]) -> Content:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise BadRow("it has an object with the same key twice")
    return content


def quote(value: object) -> str:
    """What a gateway sent, on one line and cut to a readable length."""
    if isinstance(value, bytes):
        text = value.decode("utf-8", errors="replace")
    elif isinstance(value, str | Decimal | _NotANumber):
        text = str(value)
    else:
        text = json.dumps(value, default=str, ensure_ascii=False)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _QUOTE_LENGTH else line[: _QUOTE_LENGTH - 1] + "…"


def account(content: Content) -> AccountFacts:
    """The reply to GET_ACCOUNT or PING. Raises :class:`BadRow` for a value that is present and not understood."""
    mode = content.get("margin_mode")
    legs = None if mode in (None, "") else _one_of(content, "margin_mode", enum.MARGIN_MODES)
    login = content.get("login")
    return AccountFacts(
        login=None if login is None else _ticket(content, "login"),
        legs=legs,
        time_s=None if content.get("time") is None else int(_moment(content, "time").timestamp()),
        margin=exact(content.get("margin"), _NUMBER),
        server=_text_for_people(content, "server"),
        currency=_text_for_people(content, "currency"),
        may_trade=allowed if isinstance(allowed := content.get("trade_allowed"), bool) else None,
    )


def _text_for_people(content: Content, key: str) -> str | None:
    """A text for people; anything else is ignored, as it must not cost the account."""
    value = content.get(key)
    return quote(value) if isinstance(value, str) and value else None


# -- the three sections ------------------------------------------------------------------------------------------


def positions(content: Content, legs: LegScheme) -> Section[Position]:
    """The reply to GET_POSITIONS. ``volume`` is unsigned lots; the sign comes from ``type``.

    A hedging account's leg is the position's ``identifier``, or its ticket where the gateway sends none. MQL5
    documentation, POSITION_IDENTIFIER: it never changes, and orders and deals carry it as their position; the ticket
    changes when the server re-opens the position for swap.
    """

    def read(row: Content) -> Position:
        ticket = _ticket(row, "ticket")
        side = _one_of(row, "type", enum.POSITION_TYPES)
        return Position(
            instrument=_symbol(row),
            leg=NET if legs is LegScheme.NET else _reference(row, "identifier") or str(ticket),
            quantity=side.sign * _volume(row, "volume"),
            average_price=_price(row, "price_open"),
            stop_price=exact(row.get("sl"), _NUMBER) or None,  # MQL5 documentation, POSITION_SL; 0 is none
        )

    return _section(content, "positions", SectionName.POSITIONS, read, _one_leg_each)


def orders(content: Content, legs: LegScheme) -> Section[Order]:
    """The reply to GET_ORDERS: ``volume_current`` is what remains, so the filled quantity is the difference."""
    return _section(content, "orders", SectionName.ORDERS, lambda row: _order(row, legs))


def fills(content: Content, legs: LegScheme) -> Section[Fill]:
    """The reply to GET_DEALS in the order of broker time. Deals that move only money (balance, interest) are left out;
    a cancelled deal counts as unreadable, as its row does not name the deal that it undoes.

    A deal without symbol and volume changes no position, whatever its type."""
    whole = _section(content, "deals", SectionName.FILLS, lambda row: _fill(row, legs))
    if not isinstance(whole, Complete | Partial):
        return whole
    return replace(whole, rows=tuple(sorted(whole.rows, key=lambda fill: (fill.time, int(fill.fill_id)))))


def streamed(event: Content, legs: LegScheme) -> StreamedFill | None:
    """The execution in a gateway's event of a deal: the deal's row under ``deal``, as in GET_DEALS, and its order's row
    under ``order``, as in GET_ORDERS. ``None`` where the event carries no deal, or one that moves only money. Raises
    :class:`BadRow`."""
    row, of = event.get("deal"), event.get("order")
    fill = _fill(row, legs) if isinstance(row, dict) else None
    if fill is None:
        return None
    order = _order(of, legs) if isinstance(of, dict) else None
    if order is None:
        return StreamedFill(fill)
    if order.broker_order_id != fill.broker_order_id:
        raise BadRow(f"deal {fill.fill_id} was reported together with the row of order {order.broker_order_id}")
    return StreamedFill(replace(fill, client_order_id=order.client_order_id), order)


def name_clients(whole: Section[Fill], known: Iterable[Order]) -> Section[Fill]:
    """The same fills, each with the client_order_id of its order. MT5 carries it on the order only, and a book that has
    not seen the order's ticket yet can match the fill in no other way."""
    if not isinstance(whole, Complete | Partial):
        return whole
    names = {order.broker_order_id: order.client_order_id for order in known}
    return replace(
        whole, rows=tuple(replace(fill, client_order_id=names.get(fill.broker_order_id or "")) for fill in whole.rows)
    )


def close_by(content: Content, ticket: str, deals: Iterable[Fill]) -> Order | None:
    """The close-by order of that ticket in the reply to GET_ORDERS. Its side is that of the deal that closed its
    position; ``None`` where there is no such order or deal. Raises :class:`BadRow`."""
    rows = content.get("orders")
    own = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    for row in own:
        if str(row.get("ticket")) != ticket or _one_of(row, "type", enum.ORDER_TYPES)[0] is not None:
            continue
        position_id = _reference(row, "position_id")
        side = next(
            (one.side for one in deals if (one.broker_order_id, one.position_id) == (ticket, position_id)), None
        )
        if side is not None:
            return _order({**row, "type": side.value.lower()}, LegScheme.TICKET)
    return None


def _order(row: Content, legs: LegScheme) -> Order | None:
    """A close-by order is left out: it has no side of its own, and its two deals show everything that it did."""
    side, order_type = _one_of(row, "type", enum.ORDER_TYPES)
    if side is None:
        return None
    quantity = _volume(row, "volume_initial")
    remaining = _volume(row, "volume_current", zero=True)
    if remaining > quantity:
        raise BadRow(f"volume_current {remaining} is more than volume_initial {quantity}")
    filled = quantity - remaining
    position_id, ticket = _reference(row, "position_id"), str(_ticket(row, "ticket"))
    origin = _reason(row, enum.ORDER_REASONS)
    price, trigger = _prices(row, order_type)
    return Order(
        instrument=_symbol(row),
        broker_order_id=ticket,
        client_order_id=_text(row, "comment"),
        side=side,
        quantity=quantity,
        filled_quantity=filled,
        status=_status(row, quantity, filled),
        order_type=order_type,
        limit_price=price,
        trigger_price=trigger,
        submitted_at=None if row.get("time_setup") in (None, 0) else _moment(row, "time_setup"),
        leg=NET if legs is LegScheme.NET else position_id,
        origin=origin,
        # MQL5 documentation: a position's identifier is the ticket of the order that opened it.
        parent=position_id if origin is not None and position_id != ticket else None,
    )


def _prices(row: Content, order_type: str) -> tuple[Decimal | None, Decimal | None]:
    """The working price and the trigger. MQL5 documentation, MqlTradeRequest: when the price of a stop-limit order is
    reached, a limit order is placed at its ``stoplimit`` (ORDER_PRICE_STOPLIMIT), which a gateway may lack."""
    if order_type == "MARKET":
        return None, None
    price = _price(row, "price_open")
    limit = exact(row.get("price_stoplimit"), _NUMBER) if order_type == "STOP_LIMIT" else None
    return (limit, price) if limit else (price, None)


def _reason(row: Content, meanings: enum.Table[Reason | None]) -> Reason | None:
    """The reason, where it is sent and documented; an unknown one must not cost the row."""
    value = row.get("reason")
    return None if value is None or isinstance(value, bool) else meanings.get(value)


def _status(row: Content, quantity: Decimal, filled: Decimal) -> OrderStatus:
    status = _one_of(row, "state", enum.ORDER_STATES)
    if status is OrderStatus.FILLED and filled != quantity:
        raise BadRow(f"state FILLED with only {filled} of {quantity} filled")
    if status is OrderStatus.OPEN and filled:
        return OrderStatus.PARTIALLY_FILLED
    if status is OrderStatus.PARTIALLY_FILLED and row.get("time_done") not in (None, 0):
        return OrderStatus.CANCELLED  # it has ended, so the rest is cancelled
    return status


def _fill(row: Content, legs: LegScheme) -> Fill | None:
    if row.get("symbol") == "" and row.get("volume") in (0, "0"):
        return None
    side = _one_of(row, "type", enum.DEAL_TYPES)
    if side is None:
        return None
    entry = _one_of(row, "entry", enum.DEAL_ENTRIES)
    position_id = _reference(row, "position_id")
    return Fill(
        instrument=_symbol(row),
        fill_id=str(_ticket(row, "ticket")),
        broker_order_id=_reference(row, "order"),
        side=side,
        quantity=_volume(row, "volume"),
        price=_price(row, "price"),
        time=_moment(row, "time"),
        leg=NET if legs is LegScheme.NET else position_id,
        position_id=position_id,
        commission=_charged(row),
        reason=_reason(row, enum.DEAL_REASONS),
        closing=entry is enum.Entry.OUT,
    )


def _charged(row: Content) -> Decimal | None:
    """MetaTrader shows a cost as a negative commission. One that cannot be read must not cost the fill."""
    amount = exact(row.get("commission"), _CHARGE)
    return None if amount is None else -amount + 0


# -- rows into sections ------------------------------------------------------------------------------------------

Row = TypeVar("Row", Position, Order, Fill)
Read = tuple[Content, Row]


def _section(
    content: Content,
    key: str,
    name: SectionName,
    read: Callable[[Content], Row | None],
    check: Callable[[list[Read[Row]]], tuple[list[Read[Row]], list[RowProblem]]] | None = None,
) -> Section[Row]:
    items = content.get(key)
    if not isinstance(items, list):
        found = "is missing" if key not in content else f"is {quote(items)}"
        return Failed(f'"{key}" {found} in the reply, where a list was expected')
    readable: list[Read[Row]] = []
    problems: list[RowProblem] = []
    for item in items:
        try:
            if not isinstance(item, dict):
                raise BadRow("it is no object")
            row = read(item)
        except BadRow as error:
            problems.append(_problem(name, item, str(error)))
        else:
            if row is not None:
                readable.append((item, row))
    readable, repeated = _one_row_a_ticket(name, readable)
    if check:
        readable, clashing = check(readable)
        repeated += clashing
    return section((row for _, row in readable), problems + repeated)


def _one_row_a_ticket(name: SectionName, found: list[Read[Row]]) -> tuple[list[Read[Row]], list[RowProblem]]:
    """Of equal copies the first is kept; of rows that contradict each other none is."""
    by_ticket: dict[int, list[Read[Row]]] = {}
    for read in found:
        by_ticket.setdefault(_ticket(read[0], "ticket"), []).append(read)
    if len(by_ticket) == len(found):
        return found, []
    kept: list[Read[Row]] = []
    problems: list[RowProblem] = []
    for ticket, rows in by_ticket.items():
        if len(rows) == 1:
            kept += rows
            continue
        copies = all(row == rows[0][1] for _, row in rows)
        kept += rows[:1] if copies else []
        again = "sent before: the gateway may have copied it over another row" if copies else "sent with other values"
        for item, _ in rows[1:] if copies else rows:
            named = _problem(name, item, f"ticket {ticket} was {again}")
            # A problem of its symbol, and of every one: the overwritten row may have been of any symbol.
            problems += [named] if named.instrument is None else [named, replace(named, instrument=None)]
    return kept, problems


def _one_leg_each(found: list[Read[Position]]) -> tuple[list[Read[Position]], list[RowProblem]]:
    """On a netting account a symbol has one position (MQL5 documentation), and an identifier belongs to one position:
    of two rows at most one is right."""
    legs = Counter((row.instrument, row.leg) for _, row in found)
    clashing = [(item, row) for item, row in found if legs[row.instrument, row.leg] > 1]
    text = "it is one of several positions of one identifier, or of its symbol on a netting account"
    return [pair for pair in found if pair not in clashing], [
        _problem(SectionName.POSITIONS, item, text) for item, _ in clashing
    ]


def _problem(name: SectionName, item: object, text: str) -> RowProblem:
    return foreign_row.problem(name, item, text, ROW_REMEDY, instrument=_symbol, key=_ticket_as_sent, quoted=quote)


def _ticket_as_sent(row: Json) -> str | None:
    """A row's ticket as it was sent, right or wrong."""
    ticket = row.get("ticket")
    is_present = isinstance(ticket, int | str) and not isinstance(ticket, bool) and ticket != ""
    return quote(str(ticket)) if is_present else None


# -- one value of a row ------------------------------------------------------------------------------------------


def _reject(row: Json, key: str, expected: str) -> NoReturn:
    found = "is missing" if key not in row else f"is {quote(row[key])}"
    raise BadRow(f"{key} {found}, expected {expected}")


def _symbol(row: Json) -> str:
    value = row.get("symbol")
    if not isinstance(value, str) or not _is_name(value):
        _reject(row, "symbol", "a symbol")
    return value


@lru_cache(maxsize=4096)
def _is_name(value: str) -> bool:
    return bool(value) and value == value.strip() and value.isprintable()


def _text(row: Content, key: str) -> str | None:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        _reject(row, key, "a text")
    return value or None


def _ticket(row: Content, key: str) -> int:
    value = row.get(key)
    if type(value) is int and 0 < value <= _LARGEST_TICKET:
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,20}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _LARGEST_TICKET:
        _reject(row, key, "a positive whole number of at most 64 bits")
    return value


def _reference(row: Content, key: str) -> str | None:
    """Another row's ticket as text; ``None`` where there is none, which a gateway writes as 0."""
    value = row.get(key)
    if type(value) is int and not value:
        return None
    if value is None or value in ("", "0") or (value == 0 and not isinstance(value, bool)):
        return None
    return str(_ticket(row, key))


def _decimal(row: Content, key: str, expected: str) -> Decimal:
    found = row.get(key)
    value = found if type(found) is Decimal and found.is_finite() else exact(found, _NUMBER)
    if value is None or not -18 <= value.adjusted() <= 18:
        _reject(row, key, expected)
    return value


def _volume(row: Content, key: str, *, zero: bool = False) -> Decimal:
    """Lots. MetaTrader keeps eight decimals of a volume; digits beyond them come from a gateway's printed double."""
    expected = "unsigned lots" if zero else "lots above zero"
    value = _decimal(row, key, expected)
    if value % _VOLUME_STEP:
        value = value.quantize(_VOLUME_STEP, rounding=ROUND_HALF_EVEN).normalize()
    if value < 0 or (value == 0 and not zero):
        _reject(row, key, expected)
    return value


def _price(row: Content, key: str) -> Decimal:
    value = _decimal(row, key, "a price above zero")
    if value <= 0:
        _reject(row, key, "a price above zero")
    return value


def _moment(row: Content, key: str) -> BrokerTime:
    value = row.get(key)
    if type(value) is int and 0 < value < _YEAR_10000_S:
        return in_our_time(_second(value), key)
    if isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    # The bound is the year 10000, so that milliseconds are refused and not taken for seconds.
    if not isinstance(value, Decimal) or not 0 < value < _YEAR_10000_S:
        _reject(row, key, "epoch seconds")
    return in_our_time(_EPOCH + timedelta(microseconds=int(value * 1_000_000)), key)


@lru_cache(maxsize=8192)
def _second(value: int) -> BrokerTime:
    """Cached: every look repeats the times of the same orders."""
    return _EPOCH + timedelta(seconds=value)


Meaning = TypeVar("Meaning")


def _one_of(row: Content, key: str, meanings: enum.Table[Meaning]) -> Meaning:
    """The meaning of one of MetaTrader's documented values."""
    value = row.get(key)
    if type(value) is int and value in meanings.by_value:
        return meanings.by_value[value]
    if isinstance(value, bool) or value not in meanings:
        _reject(row, key, f"one of {meanings.words}")
    return meanings[value]
