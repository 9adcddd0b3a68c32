"""Bodies that are JSON and cannot be looked at: nested without end, or with numbers that fill the memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest
from oandapyV20.endpoints.accounts import AccountSummary

from brokers.errors import Malformed
from brokers.kit.foreign_row import DEEPEST, read_json
from brokers.kit.sdk_call import Heard
from brokers.kite.decode import orders as kite_orders
from brokers.kite.wire import Wire as KiteWire
from brokers.model import LegScheme, problems_of, rows_of
from brokers.mt5.decode import parse as mt5_parse
from brokers.mt5.decode import positions as mt5_positions
from brokers.oanda.wire import Wire as OandaWire
from tests.brokers.kite_rows import order
from tests.brokers.test_mt5_decode import position

DEEP = b"[" * 100_000 + b"]" * 100_000
ONE_TOO_MANY = b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1)


@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1),
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b"9" * 5_000,
        b"",
        None,
    ],
    ids=["a hundred thousand lists", "one too many", "objects", "a number of 5000 digits", "nothing", "none"],
)
def test_what_cannot_be_looked_at_is_no_json(body: bytes | None) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own error is one, and ours
        read_json(body)


def test_numbers_are_exact_and_what_is_no_number_is_text() -> None:
    assert read_json(b'{"a": [0.10, 1e3, NaN, -Infinity, 7]}') == {
        "a": [Decimal("0.10"), Decimal("1E+3"), "NaN", "-Infinity", 7]
    }
    assert read_json(b"[" * DEEPEST + b"]" * DEEPEST) is not None


@pytest.mark.parametrize("number", ["1e99999999999999999999", "-0.5E-99999999999999999999"])
def test_a_number_that_no_decimal_can_hold_spoils_its_own_row_alone(number: str) -> None:
    said = (
        json.dumps([order(order_id="1"), order(order_id="2", price="N")], default=str).replace('"N"', number).encode()
    )
    orders = kite_orders(read_json(said))
    assert ([*orders.rows], [problem.key for problem in orders.problems]) == (["1"], ["2"])
    beside = json.dumps({"positions": [position(), position(ticket=2, price_open="N")]}).replace('"N"', number)
    positions = mt5_positions(mt5_parse(beside.encode()), LegScheme.TICKET)
    assert len(rows_of(positions)) == len(problems_of(positions)) == 1
    assert number in problems_of(positions)[0].text


@pytest.mark.parametrize("text", ["[" * 100, "]", "{}[]{", "[}"])
def test_brackets_in_a_text_are_no_depth(text: str) -> None:
    assert read_json(json.dumps({"a": [{"b": text}]}).encode()) == {"a": [{"b": text}]}


@pytest.mark.parametrize("read", [read_json, mt5_parse], ids=["OANDA and Kite", "MT5"])
def test_half_a_character_is_reported_as_unreadable_and_whole_ones_are_kept(read: Callable[[bytes], Any]) -> None:
    """A text with one can be written to no journal: one order's comment would stop its instrument for ever."""
    said = read(rb'{"a\ud800": ["x\udfff", "\ud83d\ude00", "\\ud800"]}')
    assert said == {"a\ufffd": ["x\ufffd", "\U0001f600", r"\ud800"]}
    orjson.dumps(said)


@pytest.mark.parametrize(
    ("header", "year"),
    [
        ("Mon, 05 Jan 2026 09:30:00 GMT", 2026),
        ("Fri, 31 Dec 9999 23:59:59 -2300", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("soon", None),
        ("", None),
    ],
)
def test_a_date_that_cannot_be_is_none(header: str, year: int | None) -> None:
    read_date = Heard(headers={"date": header}).date
    assert (read_date and read_date.year) == year


@contextmanager
def a_server(body: bytes) -> Iterator[str]:
    """One that says the same to everybody."""

    class Says(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Says)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "body", [DEEP, b'{"status": "success", "data": ' + DEEP + b"}"], ids=["bare", "in its envelope"]
)
async def test_an_answer_that_cannot_be_looked_at_is_malformed_at_once(body: bytes) -> None:
    """And not an answer that never came."""
    with a_server(body) as url:
        oanda = OandaWire("fx", "token", url, 60.0, 0.001)
        kite = KiteWire("eq", "key", url, 60.0, 0.001)
        try:
            for wire, call in ((oanda, partial(AccountSummary, "1")), (kite, lambda sdk: sdk.orders())):
                with pytest.raises(Malformed):
                    await wire.read("Ask", call)
        finally:
            oanda.close()
            kite.close()
