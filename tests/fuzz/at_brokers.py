"""What brokers send, into the adapters' decoders, and what those make of it into a book."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from ib_async import IB

from brokers.clocks import broker_time
from brokers.ib import rows as ib_rows
from brokers.ib import wire as ib_wire
from brokers.ib.contracts import Names as IbNames
from brokers.ib.order_lives import Hours
from brokers.ib.reading import Lists
from brokers.ib.reading import read as ib_read
from brokers.ib.row_decoder import Heard, Listener
from brokers.kit.foreign_row import BadAnswer, BadRow, mapping, read_json
from brokers.kite import decode as kite
from brokers.kite import gtts
from brokers.kite.day_lists import Orderbook
from brokers.kite.portfolio import Names as KiteNames
from brokers.kite.portfolio import portfolio
from brokers.kite.slices import wholes
from brokers.model import (
    Complete,
    Conventions,
    CostBasis,
    Failed,
    LegScheme,
    Order,
    Partial,
    Section,
    Slice,
    problems_of,
    rows_of,
)
from brokers.mt5 import decode as mt5
from brokers.mt5.gateway import error_beside
from brokers.mt5.server_time import ServerTime
from brokers.oanda import decode as oanda
from brokers.oanda.account import Doubt, merge, read_details, with_rejections
from brokers.oanda.stream import execution, wakes
from brokers.simulators import ib_wire as sim_wire
from tests.brokers import kite_rows
from tests.brokers.ib_rows import LATEST, SCOPE
from tests.brokers.test_ib_fuzz import COMPLETED, EXECUTED, HELD, SINGLE, WORKING
from tests.brokers.test_kite_fuzz import HOLDINGS, ORDERS, POSITIONS, TRADES, TRIGGER
from tests.brokers.test_mt5_decode import deal, order, position
from tests.brokers.test_oanda_fuzz import ID, payloads
from tests.fuzz.target import Kind, Target, looks_right
from tests.unit.builders import ACCOUNT, INSTRUMENT, Desk

ZONE = ZoneInfo("America/New_York")
NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)


def _json(value: Any) -> bytes:
    return json.dumps(value, default=str).encode()


def sections_look_right(sections: Iterable[Section[Any]]) -> None:
    """As :func:`looks_right`; each row has a name, and what cannot be read is written out by the journal's JSON."""
    for section in sections:
        looks_right(section)
        assert all(row.instrument for row in rows_of(section))
        orjson.dumps([problem.text for problem in problems_of(section)])


def booked(sections: tuple[Section[Any], Section[Any], Section[Any]], conventions: Conventions) -> None:
    """Two looks of a new book and one after a restart at what was read of the instrument that most rows name: the laws
    of a pass hold, the journal takes its events, and the book is that of its journal."""
    names = [row.instrument for part in sections for row in rows_of(part)]
    if not names:
        return
    name = max(sorted(set(names)), key=names.count)
    desk = Desk()
    positions, orders, fills = (_of(part, name) for part in sections)
    for place in range(3):
        at = NOW + timedelta(seconds=20 * place)
        seen = Slice(
            ACCOUNT, INSTRUMENT, at, broker_time(at), positions, orders, fills, place, conventions, f"r{place}"
        )
        desk.look(seen, at)
        fills = Complete()
        if place == 1:
            desk.restart()


def _of(part: Section[Any], name: str) -> Section[Any]:
    """The rows of one instrument, under the name that the tests' book has."""
    own = tuple(replace(row, instrument=INSTRUMENT) for row in rows_of(part) if row.instrument == name)
    if isinstance(part, Partial):
        theirs = [one for one in part.problems if one.instrument in (None, name)]
        problems = tuple(replace(one, instrument=one.instrument and INSTRUMENT) for one in theirs)
        return Partial(own, problems) if problems else Complete(own)
    return Complete(own) if isinstance(part, Complete) else part


# -- OANDA ---------------------------------------------------------------------------------------------------------


def _oanda_details(body: bytes) -> None:
    payload = mapping(read_json(body), "it")
    reading = read_details(payload, {})
    sections = (reading.position_section(), reading.order_section())
    sections_look_right(sections)
    booked((*sections, Complete()), Conventions(LegScheme.SIDED, CostBasis.FIFO, negative_prices=()))


def _oanda_changes(body: bytes) -> None:
    merged = merge(read_details(payloads()["details"], {}), mapping(read_json(body), "it"), ID)
    sections_look_right((merged.reading.position_section(), merged.reading.order_section()))


def _oanda_transactions(body: bytes) -> None:
    listed = read_json(body)
    listed = listed if isinstance(listed, list) else [listed]
    found = oanda.fills_of(listed, since=1, last=len(listed) + 5)
    looks_right(found)
    reading = with_rejections(read_details(payloads()["details"], {}), listed)
    section = Partial(found.rows, found.problems) if found.problems else Complete(found.rows)
    booked(
        (reading.position_section(), reading.order_section(), section),
        Conventions(LegScheme.SIDED, CostBasis.FIFO, negative_prices=()),
    )


def _oanda_line(body: bytes) -> None:
    for line in body.split(b"\n"):
        read = read_json(line)
        wakes(read, 5, ID)
        looks_right(execution(read, {}, ID))


def _oanda_order(body: bytes) -> None:
    facts = oanda.order_facts(read_json(body))
    looks_right(oanda.order_row(facts, oanda.Trade("1", "EUR_USD", Decimal(1), Decimal(1))))


def at_oanda() -> Target:
    """REST answers and lines of the transaction stream."""
    recorded = payloads()
    declared = (BadRow, BadAnswer, ValueError)
    orders = recorded["details"]["account"]["orders"]
    return Target(
        {
            "details": Kind(_oanda_details, declared, (_json(recorded["details"]),)),
            "changes": Kind(_oanda_changes, (*declared, Doubt), (_json(recorded["changes"]),)),
            "transactions": Kind(_oanda_transactions, declared, (_json(recorded["transactions"]),)),
            "a line": Kind(_oanda_line, declared, tuple(_json(one) for one in recorded["transactions"])),
            "an order": Kind(_oanda_order, declared, tuple(_json(one) for one in orders)),
        },
        ("brokers.oanda", "brokers.kit", "actors.reconciliation", "actors.book"),
    )


# -- Kite ----------------------------------------------------------------------------------------------------------


def _kite_lists(body: bytes) -> None:
    lists = mapping(read_json(body), "it")
    held, stock = kite.positions(lists.get("positions")), kite.holdings(lists.get("holdings"))
    orders, trades = kite.orders(lists.get("orders")), kite.trades(lists.get("trades"))
    looks_right((held, stock, orders, trades))
    section: Section[Order] = Orderbook().take(orders, NOW.date(), NOW)
    fills: Section[Any] = Partial(tuple(trades.rows.values()), trades.problems)
    if not trades.problems:
        fills = Complete(tuple(trades.rows.values()))
    made = portfolio(held, stock, KiteNames(), rows_of(fills) if isinstance(fills, Complete) else None)
    wholes(orders.rows.values())
    positions: Section[Any] = Complete(tuple(made.rows))
    sections_look_right((section, positions, fills))
    booked((positions, section, fills), kite.CONVENTIONS)


def _kite_single(body: bytes) -> None:
    row = read_json(body)
    for read in (partial(kite.history, order_id="1"), gtts.trigger_row):
        with suppress(BadRow):
            looks_right(read(row))
    with suppress(BadAnswer):
        looks_right(gtts.placed_by(row))
    if isinstance(row, dict):
        with suppress(BadRow):
            looks_right(kite.instrument_of(row))


def _kite_table(exchange: str, body: bytes) -> None:
    names = kite.instruments(body)
    looks_right(kite.contracts(body, exchange, names | {f"{exchange}:NIFTY26JANFUT"}))


_COLUMNS = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,instrument_type,"
    "segment,exchange"
)
_TABLE = f"""{_COLUMNS}
256265,1001,NIFTY26JANFUT,"NIFTY",0.0,2026-01-29,0,0.05,75,FUT,NFO-FUT,NFO
256266,1002,NIFTY26JAN25000CE,"NIFTY",0.0,2026-01-29,25000,0.05,75,CE,NFO-OPT,NFO
""".encode()
_SHARES = f"""{_COLUMNS}
408065,1594,INFY,"INFOSYS",0.0,,0,0.05,1,EQ,NSE,NSE
""".encode()


def at_kite() -> Target:
    """The day's lists, single orders, triggers, updates and tables of instruments."""
    day = {"positions": {"net": POSITIONS, "day": []}, "holdings": HOLDINGS, "orders": ORDERS, "trades": TRADES}
    single = (ORDERS[:1], TRIGGER, [TRIGGER, TRIGGER], *ORDERS, kite_rows.order(status="REJECTED"))
    return Target(
        {
            "the lists": Kind(_kite_lists, (BadRow, BadAnswer, ValueError), (_json(day),)),
            "one": Kind(_kite_single, (ValueError,), tuple(_json(one) for one in single)),
            "a table": Kind(partial(_kite_table, "NFO"), (BadAnswer,), (_TABLE,)),
            "a table of shares": Kind(partial(_kite_table, "NSE"), (BadAnswer,), (_SHARES,)),
        },
        ("brokers.kite", "brokers.kit", "actors.reconciliation", "actors.book"),
    )


# -- MetaTrader 5 --------------------------------------------------------------------------------------------------


def _mt5(legs: LegScheme, body: bytes) -> None:
    content = mt5.parse(body)
    error_beside(content)
    with suppress(BadRow):
        looks_right(mt5.account(content))
    sections = (mt5.positions(content, legs), mt5.orders(content, legs), mt5.fills(content, legs))
    sections_look_right(sections)
    positions, orders, fills = sections
    with suppress(BadRow):
        looks_right(mt5.close_by(content, "77", rows_of(fills)))
    fills = mt5.name_clients(fills, rows_of(orders))
    time = ServerTime()
    with suppress(BadRow):
        facts = mt5.account(content)
        if facts.time_s is not None:
            time.observe(facts.time_s, NOW)
    orders, fills = time.orders(orders), time.fills(fills, NOW)
    sections_look_right((orders, fills))
    if not isinstance(positions, Failed):
        booked((positions, orders, fills), Conventions(legs, CostBasis.WEIGHTED, client_id_length=31))


def _mt5_event(body: bytes) -> None:
    event = mt5.parse(body)
    event_read = mt5.streamed(event, LegScheme.TICKET)
    looks_right(event_read)
    if event_read is not None:
        looks_right(ServerTime().streamed(event_read, NOW))


def at_mt5() -> Target:
    """A gateway's replies and events."""
    reply = {
        "status": "SUCCESS",
        "login": 5001,
        "margin_mode": "hedging",
        "margin": 12.5,
        "time": 1704156000,
        "positions": [position(), position(ticket=5, identifier=4, type=1)],
        "orders": [
            order(),
            order(ticket=78, type="close_by", position_id=55, position_by_id=56),
            order(ticket=79, state=3),
        ],
        "deals": [deal(), deal(ticket=901, entry="out", type=1), deal(ticket=902, type="balance", symbol="", volume=0)],
    }
    event = {"event": "deal", "symbol": "EURUSD", "login": 5001, "deal": deal(), "order": order()}
    return Target(
        {
            "hedging": Kind(partial(_mt5, LegScheme.TICKET), (BadRow,), (_json(reply),)),
            "netting": Kind(partial(_mt5, LegScheme.NET), (BadRow,), (_json(reply),)),
            "an event": Kind(_mt5_event, (BadRow,), (_json(event),)),
        },
        ("brokers.mt5", "brokers.kit", "actors.reconciliation", "actors.book"),
    )


# -- Interactive Brokers -------------------------------------------------------------------------------------------


def _fields(row: Sequence[str]) -> bytes:
    return "\0".join(row).encode()


class _Tws:
    """ib_async's decoder with our ear on it, without a connection."""

    def __init__(self) -> None:
        self._ib = IB()
        self._heard: list[Heard] = []
        self._listener = Listener(self._ib.wrapper, self._heard.append)
        self._listener.serverVersion = 178

    def hear(self, body: bytes) -> list[Heard]:
        """One row for each line; its fields end as on the wire."""
        self._heard.clear()
        for line in body.split(b"\n"):
            self._listener.interpret(line.decode(errors="backslashreplace").split("\0"))
        self._ib.wrapper.reset()  # type: ignore[no-untyped-call]  # ib_async leaves it untyped
        return list(self._heard)


def _ib_lists(tws: _Tws, body: bytes) -> None:
    heard = tws.hear(body)
    lists = Lists(
        NOW,
        round(NOW.timestamp()),
        ib_rows.holdings([one for one in heard if one.kind in (0, ib_wire.POSITION)], SCOPE),
        ib_rows.working_orders([one for one in heard if one.kind in (ib_wire.OPEN_ORDER, ib_wire.ORDER_STATUS)], SCOPE),
        ib_rows.completed_orders([one for one in heard if one.kind == ib_wire.COMPLETED_ORDER], SCOPE),
        ib_rows.executions([one for one in heard if one.kind == ib_wire.EXECUTION], SCOPE, ZONE, LATEST),
    )
    reading = ib_read(lists, IbNames(), {}, {})
    sections = (reading.positions, reading.orders, reading.fills)
    sections_look_right(sections)
    looks_right((reading.left_out, reading.contracts))
    booked(sections, Conventions(LegScheme.NET, CostBasis.WEIGHTED, commission_in_average=True, unique_client_ids=True))


def _ib_row(read: Callable[[Sequence[str]], object], body: bytes) -> None:
    looks_right(read(body.decode(errors="backslashreplace").split("\0")))


def _ib_hours(body: bytes) -> None:
    zone, trading, liquid = [*body.decode(errors="backslashreplace").split("\0"), "", "", ""][:3]
    hours = Hours.parse(zone, trading, liquid)
    if hours is not None:
        looks_right(hours.end_after(broker_time(NOW), regular=True))


def at_ib() -> Target:
    """TWS's rows, through ib_async's decoder, and each by itself."""
    tws = _Tws()
    rows: Iterable[Sequence[str]] = [*HELD, *WORKING, *COMPLETED, *EXECUTED]
    whole = b"\n".join(map(_fields, rows))
    hours = b"US/Eastern\x0020260106:0400-20260106:2000;20260107:CLOSED\x0020260106:0930-20260106:1600"
    account = _fields(sim_wire.portfolio("DU1", sim_wire.contract_named("AAPL"), Decimal(1), Decimal(2), Decimal(3)))
    kinds = {
        name: Kind(partial(_ib_row, read), (BadRow,), tuple(map(_fields, known)))
        for name, (read, known) in SINGLE.items()
    }
    return Target(
        {
            "the lists": Kind(partial(_ib_lists, tws), (), (whole, account, *map(_fields, rows))),
            "hours": Kind(_ib_hours, (), (hours,)),
            **kinds,
        },
        ("brokers.ib", "brokers.kit", "actors.reconciliation", "actors.book"),
    )
