"""What it costs to read a snapshot of 1,000 positions and 1,000 orders, from its bytes, beside the plain parse of the
same bytes in the same run: ``python -m tests.benchmarks.decode``. For Interactive Brokers the parse is ib_async's own.
Not a test: figures depend on the machine, so nothing here fails.

The rows are of the shapes that the brokers' documentation shows, with all their fields.
"""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable, Iterator
from decimal import Decimal
from time import process_time
from typing import Any

from ib_async import IB
from ib_async.decoder import Decoder

from brokers.ib import rows as ib_rows
from brokers.ib.contracts import Names
from brokers.ib.decode import orders as ib_orders
from brokers.ib.decode import positions as ib_positions
from brokers.ib.row_decoder import Heard, Listener
from brokers.ib.rows import Read, Scope
from brokers.kite import decode as kite
from brokers.kite import sessions
from brokers.model import LegScheme, rows_of
from brokers.mt5 import decode as mt5
from brokers.oanda.account import read_details
from brokers.simulators import ib_wire
from tests.benchmarks.form import Figure, show

ROWS = 1000
ROUNDS = 15
TARGET = 3.0
Json = dict[str, Any]


def figures(*, quick: bool = False) -> Iterator[Figure]:
    """Each broker's snapshot, read from its bytes."""
    cases = {"oanda": oanda, "kite": kite_lists, "mt5": mt5_replies, "ib": tws}
    for name, made in cases.items():
        parse, decode, size = made()
        parsed_s, decoded_s = together(parse, decode, 3 if quick else ROUNDS)
        what = f"a snapshot of {name}, {size / 1000:,.0f} kB, decoded"
        yield Figure(what, decoded_s * 1e3, "ms", parsed_s * 1e3, "the plain parse", f"at most {TARGET:g} x")


def main() -> None:
    """Measure and print."""
    show(figures())


def together(one: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The best of a few runs of both, taken in turns, so that what slows the machine slows both."""
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for place, action in enumerate((one, other)):
            gc.collect()
            began = process_time()
            action()
            best[place] = min(best[place], process_time() - began)
    return best[0], best[1]


Case = tuple[Callable[[], object], Callable[[], object], int]


def oanda() -> Case:
    """AccountDetails: positions with their trades, and pending orders."""
    names = [f"{a}{b}{c}_USD" for a in "ABCDEFGHIJ" for b in "ABCDEFGHIJ" for c in "ABCDEFGHIJ"]
    positions, trades, orders = [], [], []
    for n, name in enumerate(names[:ROWS]):
        price, number = f"{1 + n / 1000:.5f}", str(6000 + n)
        time = f"2025-11-20T10:{n // 60 % 60:02}:{n % 60:02}.{n:06}789Z"
        sums = {"pl": "-54344.1", "resettablePL": "-54344.1", "unrealizedPL": "-12.5", "financing": "0.0"}
        sums |= {"dividendAdjustment": "0.0000", "guaranteedExecutionFees": "0.0000"}
        long = {"units": "100", "averagePrice": price, "tradeIDs": [number], **sums}
        positions.append(
            {"instrument": name, **sums, "commission": "0.0", "long": long, "short": {"units": "0", **sums}}
        )
        trades.append(
            {
                "id": number,
                "instrument": name,
                "price": price,
                "openTime": time,
                "initialUnits": "100",
                "initialMarginRequired": "33.3333",
                "state": "OPEN",
                "currentUnits": "100",
                "realizedPL": "0.0000",
                "financing": "0.0000",
                "dividendAdjustment": "0.0000",
                "unrealizedPL": "-12.5",
                "marginUsed": "33.3333",
            }
        )
        orders.append(
            {
                "id": str(9000 + n),
                "createTime": time,
                "type": "LIMIT",
                "instrument": name,
                "units": "100",
                "timeInForce": "GTC",
                "price": price,
                "state": "PENDING",
                "positionFill": "DEFAULT",
                "partialFill": "DEFAULT_FILL",
                "triggerCondition": "DEFAULT",
                "clientExtensions": {"id": f"c{n}", "tag": "strategy"},
            }
        )
    account: Json = {"id": "101-001-1-001", "positions": positions, "trades": trades, "orders": orders}
    account |= {
        "openPositionCount": ROWS,
        "openTradeCount": ROWS,
        "pendingOrderCount": ROWS,
        "lastTransactionID": "9999",
    }
    body = json.dumps({"account": account, "lastTransactionID": "9999"}).encode()

    def decode() -> None:
        reading = read_details(json.loads(body, parse_float=Decimal, parse_constant=str), {})
        assert len(rows_of(reading.position_section())) == len(rows_of(reading.order_section())) == ROWS

    return lambda: json.loads(body), decode, len(body)


def kite_lists() -> Case:
    """The positions and the orders of a day."""
    sessions.load()  # once in a process
    net = [
        {
            "tradingsymbol": f"STOCK{n}",
            "exchange": "NSE",
            "instrument_token": 53496327 + n,
            "product": "NRML",
            "quantity": 10,
            "overnight_quantity": 0,
            "multiplier": 1,
            "average_price": 100 + n / 20,
            "close_price": 0,
            "last_price": 161.35,
            "value": -1610.5,
            "pnl": 3,
            "m2m": 3,
            "unrealised": 3,
            "realised": 0,
            "buy_quantity": 10,
            "buy_price": 161.05,
            "buy_value": 1610.5,
            "buy_m2m": 1610.5,
            "sell_quantity": 0,
            "sell_price": 0,
            "sell_value": 0,
            "sell_m2m": 0,
            "day_buy_quantity": 10,
            "day_buy_price": 161.05,
            "day_buy_value": 1610.5,
            "day_sell_quantity": 0,
            "day_sell_price": 0,
            "day_sell_value": 0,
        }
        for n in range(ROWS)
    ]
    times = [f"2025-11-20 10:{n // 60 % 60:02}:{n % 60:02}" for n in range(ROWS)]
    orders: list[Json] = [
        {
            "placed_by": "AB1234",
            "account_id": "AB1234",
            "order_id": f"25112000{n:07}",
            "exchange_order_id": f"13000000{n:08}",
            "parent_order_id": None,
            "status": "OPEN",
            "status_message": None,
            "status_message_raw": None,
            "order_timestamp": times[n],
            "exchange_update_timestamp": times[n],
            "exchange_timestamp": times[n],
            "variety": "regular",
            "modified": False,
            "exchange": "NSE",
            "tradingsymbol": f"STOCK{n}",
            "instrument_token": 779521 + n,
            "order_type": "LIMIT",
            "transaction_type": "BUY",
            "validity": "DAY",
            "validity_ttl": 0,
            "product": "NRML",
            "quantity": 10,
            "disclosed_quantity": 0,
            "price": 100 + n / 20,
            "trigger_price": 0,
            "average_price": 0,
            "filled_quantity": 0,
            "pending_quantity": 10,
            "cancelled_quantity": 0,
            "market_protection": 0,
            "meta": {},
            "tag": f"c{n}",
            "tags": [f"c{n}"],
            "guid": f"{n:05}XK5V4Vo",
        }
        for n in range(ROWS)
    ]
    bodies = [json.dumps({"status": "success", "data": data}).encode() for data in ({"net": net, "day": net}, orders)]

    def decode() -> None:
        positions, listed = (json.loads(body, parse_float=Decimal, parse_constant=str)["data"] for body in bodies)
        assert len(kite.positions(positions).rows) == len(kite.orders(listed).rows) == ROWS

    return lambda: [json.loads(body) for body in bodies], decode, sum(map(len, bodies))


def mt5_replies() -> Case:
    """The replies to GET_POSITIONS and GET_ORDERS, with every field of the package's own tuples."""
    time_s = 1763632272
    positions = [
        {
            "ticket": 548297723 + n,
            "time": time_s,
            "time_msc": time_s * 1000,
            "time_update": time_s,
            "time_update_msc": time_s * 1000,
            "type": 0,
            "magic": 0,
            "identifier": 548297723 + n,
            "reason": 3,
            "volume": 0.1,
            "price_open": 1.10543 + n / 100_000,
            "sl": 0.0,
            "tp": 0.0,
            "price_current": 1.10553,
            "swap": 0.0,
            "profit": 1.0,
            "symbol": f"PAIR{n}",
            "comment": f"c{n}",
            "external_id": "",
        }
        for n in range(ROWS)
    ]
    orders = [
        {
            "ticket": 648297723 + n,
            "time_setup": time_s,
            "time_setup_msc": time_s * 1000,
            "time_done": 0,
            "time_done_msc": 0,
            "time_expiration": 0,
            "type": 2,
            "type_time": 0,
            "type_filling": 2,
            "state": 1,
            "magic": 0,
            "position_id": 0,
            "position_by_id": 0,
            "reason": 3,
            "volume_initial": 0.1,
            "volume_current": 0.1,
            "price_open": 1.10043 + n / 100_000,
            "sl": 0.0,
            "tp": 0.0,
            "price_current": 1.10553,
            "price_stoplimit": 0.0,
            "symbol": f"PAIR{n}",
            "comment": f"c{n}",
            "external_id": "",
        }
        for n in range(ROWS)
    ]
    status = {"status": "SUCCESS", "connected": True}
    bodies = [json.dumps(status | {key: rows}).encode() for key, rows in (("positions", positions), ("orders", orders))]

    def decode() -> None:
        held, listed = (mt5.parse(body) for body in bodies)
        legs = LegScheme.TICKET
        assert len(rows_of(mt5.positions(held, legs))) == len(rows_of(mt5.orders(listed, legs))) == ROWS

    return lambda: [json.loads(body) for body in bodies], decode, sum(map(len, bodies))


def tws() -> Case:
    """Rows of positions and open orders. What is measured beside ib_async's decoder contains that."""
    rows: list[list[str]] = []
    for n in range(ROWS):
        contract = ib_wire.contract_named(f"S{n}")
        rows.append(ib_wire.position("DU1", contract, Decimal(10), Decimal("161.05")))
        terms: Json = {"account": "DU1", "contract": contract, "action": "BUY", "quantity": Decimal(10)}
        terms |= {"order_type": "LMT", "limit": Decimal("161.05"), "ref": f"c{n}", "perm_id": 1000 + n}
        terms |= {
            "order_id": n + 1,
            "client_id": 17,
            "status": "Submitted",
            "filled": Decimal(0),
            "average": Decimal(0),
        }
        order = ib_wire.OrderRow(**terms)
        rows += [ib_wire.open_order(order, 178), ib_wire.order_status(order)]
    logging.disable(logging.CRITICAL)
    wrapper = IB().wrapper
    wrapper.clientId = 17

    def parse() -> None:
        decoder = Decoder(wrapper, 178)
        for row in rows:
            decoder.interpret(list(row))  # type: ignore[no-untyped-call]  # ib_async leaves it untyped

    def decode() -> None:
        heard: list[Heard] = []
        listener = Listener(wrapper, heard.append)
        listener.serverVersion = 178
        for row in rows:
            listener.interpret(list(row))
        scope, names = Scope("DU1"), Names()
        held = ib_rows.holdings([one for one in heard if one.kind == 61], scope)
        working = ib_rows.working_orders([one for one in heard if one.kind in (3, 5)], scope)
        names.learn([fact.contract for fact in held.facts] + [order.terms.contract for order in working.facts])
        orders = ib_orders(working, Read(), {}, names, {})
        assert len(rows_of(ib_positions(held, names))) == len(rows_of(orders)) == ROWS

    return parse, decode, sum(len(field) + 1 for row in rows for field in row)


if __name__ == "__main__":
    main()
