"""What an MT5 gateway's JSON means, and what it does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.clocks import broker_time
from brokers.kit.foreign_row import BadRow
from brokers.model import (
    Complete,
    Failed,
    Fill,
    LegScheme,
    Order,
    OrderStatus,
    Partial,
    Position,
    Section,
    SectionName,
    Side,
    problems_of,
    rows_of,
)
from brokers.mt5 import decode

TICKET, NET = LegScheme.TICKET, LegScheme.NET
SETUP = datetime(2024, 1, 2, 0, 40, tzinfo=UTC)


def position(**changes: object) -> dict[str, object]:
    row = {
        "ticket": 123456,
        "symbol": "EURUSD",
        "type": "buy",
        "volume": 0.01,
        "price_open": 1.0543,
        "profit": 10.5,
        "time": 1704153600,
    }
    return {key: value for key, value in (row | changes).items() if value is not ...}


def order(**changes: object) -> dict[str, object]:
    row = {
        "ticket": 77,
        "symbol": "EURUSD",
        "type": "buy_limit",
        "state": "PLACED",
        "volume_initial": 0.3,
        "volume_current": 0.3,
        "price_open": 1.05,
        "time_setup": 1704156000,
        "time_done": 0,
        "comment": "c1",
        "magic": 0,
        "position_id": 0,
    }
    return {key: value for key, value in (row | changes).items() if value is not ...}


def deal(**changes: object) -> dict[str, object]:
    row = {
        "ticket": 900,
        "order": 77,
        "position_id": 55,
        "symbol": "EURUSD",
        "type": "buy",
        "entry": "in",
        "volume": 0.1,
        "price": 1.05,
        "commission": -0.2,
        "time": 1704156000,
    }
    return {key: value for key, value in (row | changes).items() if value is not ...}


def positions(*rows: object, legs: LegScheme = TICKET) -> Section[Position]:
    return decode.positions(decode.parse(json.dumps({"positions": rows}).encode()), legs)


def orders(*rows: object, legs: LegScheme = TICKET) -> Section[Order]:
    return decode.orders(decode.parse(json.dumps({"orders": rows}).encode()), legs)


def fills(*rows: object, legs: LegScheme = TICKET) -> Section[Fill]:
    return decode.fills(decode.parse(json.dumps({"deals": rows}).encode()), legs)


def test_the_documented_reply_is_a_position_of_its_ticket() -> None:
    """FEATURES 16: the reply of the gateway's documentation, read as it stands."""
    assert positions(position()) == Complete((Position("EURUSD", "123456", Decimal("0.01"), Decimal("1.0543")),))


def test_side_gives_the_sign_and_two_tickets_of_a_symbol_are_two_legs() -> None:
    """PEERS 6: hedged tickets do not collapse into one."""
    found = positions(position(), position(ticket=2, type="sell", volume=0.03))
    assert {row.leg: row.quantity for row in rows_of(found)} == {"123456": Decimal("0.01"), "2": Decimal("-0.03")}


@pytest.mark.parametrize(
    ("stop", "expected"),
    [(1.05, Decimal("1.05")), ("1.05", Decimal("1.05")), (0.0, None), (0, None), (..., None), ("?", None)],
)
def test_a_position_shows_its_own_stop_and_one_that_cannot_be_read_costs_no_position(
    stop: object, expected: Decimal | None
) -> None:
    """MQL5 documentation, POSITION_SL: 0 is none."""
    sent = decode.parse(json.dumps({"positions": [position(sl=stop)]}).encode())
    (row,) = rows_of(decode.positions(sent, TICKET))
    assert (row.quantity, row.stop_price) == (Decimal("0.01"), expected)


def test_a_netting_account_has_one_leg_named_net() -> None:
    assert rows_of(positions(position(), legs=NET))[0].leg == "net"


def test_two_rows_of_a_symbol_on_a_netting_account_are_neither_of_them_believed() -> None:
    found = positions(position(), position(ticket=2), position(ticket=3, symbol="GBPUSD"), legs=NET)
    assert [row.instrument for row in rows_of(found)] == ["GBPUSD"]
    assert [problem.instrument for problem in problems_of(found)] == ["EURUSD", "EURUSD"]


@pytest.mark.parametrize("text", ["0.1", "0.30", "1.00000001", "1e-2", "100", "123456789.12345678"])
def test_a_quantity_is_the_decimal_of_its_text(text: str) -> None:
    body = json.dumps({"positions": [position()]}).replace('"volume": 0.01', f'"volume": {text}').encode()
    assert rows_of(decode.positions(decode.parse(body), TICKET))[0].quantity == Decimal(text)


@pytest.mark.parametrize("printed", ["0.30000000000000004", "0.29999999999999999", "0.300000000000000"])
def test_digits_beyond_the_eighth_are_a_printed_double_and_not_lots(printed: str) -> None:
    body = json.dumps({"positions": [position()]}).replace('"volume": 0.01', f'"volume": {printed}').encode()
    assert rows_of(decode.positions(decode.parse(body), TICKET))[0].quantity == Decimal("0.3")


@given(st.decimals(min_value=Decimal("0.00000001"), max_value=Decimal(10**9), places=8))
def test_any_volume_survives_to_the_last_digit(volume: Decimal) -> None:
    body = json.dumps({"positions": [position(volume="V")]}).replace('"V"', format(volume, "f")).encode()
    assert rows_of(decode.positions(decode.parse(body), TICKET))[0].quantity == volume


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "is missing"),
        ({"positions": None}, "is null"),
        ({"positions": {}}, "is {}"),
        ({"positions": "None"}, "is None"),
        ({"positions": 0}, "is 0"),
    ],
    ids=["missing", "null for 18 and more trades", "an object", "a word", "a number"],
)
def test_anything_but_a_list_is_failed_and_not_flat(content: decode.Content, words: str) -> None:
    """PEERS 1: an answer after an error inside the gateway is unknown."""
    found = decode.positions(content, TICKET)
    assert isinstance(found, Failed)
    assert words in found.reason


def test_an_empty_list_alone_is_empty() -> None:
    assert positions() == Complete(())


@pytest.mark.parametrize(
    ("row", "instrument", "words"),
    [
        (position(ticket=...), "EURUSD", "ticket is missing"),
        (position(ticket=0), "EURUSD", "ticket is 0"),
        (position(ticket=-1204), "EURUSD", "ticket is -1204"),
        (position(ticket=True), "EURUSD", "ticket is true"),
        (position(ticket=1.5), "EURUSD", "ticket is"),
        (position(ticket=2**64), "EURUSD", "64 bits"),
        (position(symbol=...), None, "symbol is missing"),
        (position(symbol=""), None, "symbol is"),
        (position(symbol=7), None, "symbol is 7"),
        (position(symbol="EUR\x1b[2J"), None, "symbol is"),
        (position(type="long"), "EURUSD", "expected one of buy, sell"),
        (position(type=9), "EURUSD", "type is 9"),
        (position(volume="abc"), "EURUSD", "volume is abc"),
        (position(volume=None), "EURUSD", "volume is null"),
        (position(volume=False), "EURUSD", "volume is false"),
        (position(volume=0), "EURUSD", "volume is 0"),
        (position(volume=-0.01), "EURUSD", "volume is -0.01"),
        (position(volume=float("nan")), "EURUSD", "volume is NaN"),
        (position(volume=float("inf")), "EURUSD", "volume is Infinity"),
        (position(volume=1e300), "EURUSD", "volume is"),
        (position(volume=1e-12), "EURUSD", "volume is"),
        (position(price_open=0), "EURUSD", "price_open is 0"),
        (position(price_open=[1]), "EURUSD", "price_open is [1]"),
        ({}, None, "ticket is missing"),
        ("", None, "it is no object"),
        (None, None, "it is no object"),
        ([], None, "it is no object"),
    ],
)
def test_a_row_that_cannot_be_read_makes_the_section_partial_and_the_others_go_on(
    row: object, instrument: str | None, words: str
) -> None:
    """PEERS 1: a placeholder or a broken row is not an absence."""
    good = position(ticket=1, symbol="GBPUSD")
    found = positions(row, good)
    assert isinstance(found, Partial)
    assert [kept.instrument for kept in found.rows] == ["GBPUSD"]
    (problem,) = found.problems
    assert problem.section is SectionName.POSITIONS
    assert problem.instrument == instrument
    assert words in problem.text
    assert problem.text.isprintable()
    assert len(problem.text) < 400


def test_copies_of_the_first_row_put_every_instrument_in_doubt() -> None:
    """A gateway that answers with the first ticket for each position hides the others, whatever their symbol."""
    found = positions(position(), position(profit=3), position())
    assert [row.leg for row in rows_of(found)] == ["123456"]
    assert [(p.instrument, p.key) for p in problems_of(found)] == [("EURUSD", "123456"), (None, "123456")] * 2


def test_rows_that_contradict_each_other_under_one_ticket_are_not_believed() -> None:
    found = positions(position(), position(volume=0.02))
    assert rows_of(found) == ()
    assert [p.instrument for p in problems_of(found)] == ["EURUSD", None] * 2


@pytest.mark.parametrize(
    ("state", "remaining", "done", "status"),
    [
        ("STARTED", 0.3, 0, OrderStatus.PENDING_SUBMIT),
        ("REQUEST_ADD", 0.3, 0, OrderStatus.PENDING_SUBMIT),
        ("PLACED", 0.3, 0, OrderStatus.OPEN),
        ("PLACED", 0.1, 0, OrderStatus.PARTIALLY_FILLED),
        ("ORDER_STATE_PLACED", 0.3, 0, OrderStatus.OPEN),
        ("REQUEST_MODIFY", 0.3, 0, OrderStatus.OPEN),
        ("PARTIAL", 0.1, 0, OrderStatus.PARTIALLY_FILLED),
        ("PARTIAL", 0.1, 1704156001, OrderStatus.CANCELLED),
        ("FILLED", 0, 1704156001, OrderStatus.FILLED),
        ("CANCELED", 0.3, 1704156001, OrderStatus.CANCELLED),
        ("CANCELED", 0.1, 1704156001, OrderStatus.CANCELLED),
        ("REJECTED", 0.3, 1704156001, OrderStatus.REJECTED),
        ("EXPIRED", 0.3, 1704156001, OrderStatus.EXPIRED),
        ("REQUEST_CANCEL", 0.3, 0, OrderStatus.PENDING_CANCEL),
    ],
)
def test_every_order_state_has_its_status_and_what_was_filled_is_the_difference(
    state: str, remaining: float, done: int, status: OrderStatus
) -> None:
    (row,) = rows_of(orders(order(state=state, volume_current=remaining, time_done=done)))
    assert row.status is status
    assert row.filled_quantity == Decimal("0.3") - Decimal(str(remaining))


@pytest.mark.parametrize(
    ("kind", "side", "order_type", "limit"),
    [
        ("buy", Side.BUY, "MARKET", None),
        ("sell", Side.SELL, "MARKET", None),
        ("buy_limit", Side.BUY, "LIMIT", Decimal("1.05")),
        ("sell_limit", Side.SELL, "LIMIT", Decimal("1.05")),
        ("buy_stop", Side.BUY, "STOP", Decimal("1.05")),
        ("SELL_STOP_LIMIT", Side.SELL, "STOP_LIMIT", Decimal("1.05")),
    ],
)
def test_every_order_type_has_its_side(kind: str, side: Side, order_type: str, limit: Decimal | None) -> None:
    (row,) = rows_of(orders(order(type=kind)))
    assert (row.side, row.order_type, row.limit_price) == (side, order_type, limit)


@pytest.mark.parametrize(
    ("fields", "prices"),
    [
        ({"type": "buy_stop_limit", "price_stoplimit": 1.04}, (Decimal("1.04"), Decimal("1.05"))),
        ({"type": "buy_stop_limit", "price_stoplimit": 0.0}, (Decimal("1.05"), None)),
        ({"type": "buy_stop_limit"}, (Decimal("1.05"), None)),
        ({"type": "buy_limit", "price_stoplimit": 1.04}, (Decimal("1.05"), None)),
        ({"type": "buy_stop", "price_stoplimit": 0.0}, (Decimal("1.05"), None)),
    ],
)
def test_a_stop_limit_order_has_a_limit_and_a_trigger(
    fields: dict[str, object], prices: tuple[Decimal, Decimal | None]
) -> None:
    """MQL5 documentation, ORDER_PRICE_STOPLIMIT: the price of the limit order that a stop-limit order places when its
    own price (ORDER_PRICE_OPEN) is reached. The limit was not read, and the trigger stood in its place."""
    (row,) = rows_of(orders(order(**fields)))
    assert (row.limit_price, row.trigger_price) == prices


def test_an_order_is_known_by_its_comment_and_works_on_its_position() -> None:
    (row,) = rows_of(orders(order(position_id=55)))
    assert (row.client_order_id, row.leg, row.submitted_at) == ("c1", "55", broker_time(SETUP))
    (row,) = rows_of(orders(order(comment="")))
    assert (row.client_order_id, row.leg) == (None, None)
    assert rows_of(orders(order(), legs=NET))[0].leg == "net"


@pytest.mark.parametrize(
    "row",
    [
        order(state="SLEEPING"),
        order(state=99),
        order(type="close_with"),
        order(volume_current=0.4),
        order(volume_current=-0.1),
        order(state="FILLED", volume_current=0.1),
        order(volume_initial=...),
        order(price_open=0),
        order(time_setup="yesterday"),
        order(time_setup=1704156000000),
        order(comment=5),
        order(position_id=-3),
    ],
)
def test_an_order_that_contradicts_itself_or_the_documentation_is_unreadable(row: object) -> None:
    found = orders(row)
    assert isinstance(found, Partial)
    assert found.problems[0].instrument == "EURUSD"


@pytest.mark.parametrize(
    ("stated", "commission"),
    [
        (-1.5, Decimal("1.5")),
        ("-1.5", Decimal("1.5")),
        (0, Decimal(0)),
        (None, None),
        ("much", None),
        ("NaN", None),
    ],
)
def test_a_commission_is_a_cost_and_one_that_cannot_be_read_loses_no_fill(
    stated: object, commission: Decimal | None
) -> None:
    (fill,) = rows_of(fills(deal(commission=stated)))
    assert fill.commission == commission


@pytest.mark.parametrize("entry", ["in", "out", "inout", "out_by", "DEAL_ENTRY_IN"])
def test_a_deal_is_a_fill_of_its_position(entry: str) -> None:
    expected = Fill(
        "EURUSD",
        "900",
        "77",
        Side.SELL,
        Decimal("0.1"),
        Decimal("1.05"),
        broker_time(SETUP),
        "55",
        "55",
        commission=Decimal("0.2"),
        closing=entry in ("out", "out_by"),
    )
    assert fills(deal(type="sell", entry=entry)) == Complete((expected,))


def test_deals_come_in_the_order_of_broker_time() -> None:
    found = fills(deal(ticket=12, time=1704156002), deal(ticket=11), deal(ticket=9))
    assert [fill.fill_id for fill in rows_of(found)] == ["9", "11", "12"]


def test_a_deal_that_moves_only_money_is_no_fill() -> None:
    assert fills(deal(type="balance", symbol="", volume=0, price=0, order=0)) == Complete(())


@pytest.mark.parametrize(
    "row",
    [
        deal(type="buy_canceled"),
        deal(entry="sideways"),
        deal(entry=...),
        deal(volume=0),
        deal(price=None),
        deal(time=0),
        deal(time=1704156000000),
        deal(order="x"),
    ],
)
def test_a_deal_that_cannot_be_read_is_reported(row: object) -> None:
    found = fills(row)
    assert isinstance(found, Partial)
    assert found.problems[0].section is SectionName.FILLS


def test_a_fill_is_joined_to_the_comment_of_its_order() -> None:
    known = rows_of(orders(order()))
    named = decode.name_clients(fills(deal(), deal(ticket=901, order=5)), known)
    assert [fill.client_order_id for fill in rows_of(named)] == ["c1", None]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"OK",
        b"<html><body>502</body></html>",
        b'{"status": "SUCCESS", "positions": [{"ticket"',
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b'{"a": 1, "a": 2}',
        b'{"orders": [{"a": 1}, {"a": 1, "a": 2}]}',
        b'{"orders": [{"a": "x:y", "a" : 2}]}',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=[
        "nothing",
        "a word",
        "a page",
        "half",
        "a list",
        "null",
        "bytes",
        "a key twice",
        "a key twice in a row",
        "a key twice, and a text with a colon",
        "too deep",
        "too long a number",
    ],
)
def test_a_body_that_is_no_object_is_unreadable_and_said_to_be(body: bytes) -> None:
    with pytest.raises(BadRow) as caught:
        decode.parse(body)
    assert len(str(caught.value)) < 300


@given(st.binary(max_size=200))
def test_no_body_whatever_raises_anything_else(body: bytes) -> None:
    try:
        content = decode.parse(body)
    except BadRow:
        return
    assert isinstance(content, dict)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2),
)
some_row = st.dictionaries(
    st.sampled_from([*position(), *order(), *deal()]),
    json_values | st.sampled_from(["buy", "PLACED", "in"]),
    max_size=8,
).filter(lambda row: row.get("type") not in range(2, 18))
"""Deals of these types move money alone, and are left out."""


@given(st.lists(some_row | json_values, min_size=1, max_size=5))
def test_whatever_the_rows_are_none_is_lost_silently(rows: list[object]) -> None:
    """Every row is either read or reported, in each of the sections; money deals apart."""
    for found in (positions(*rows), orders(*rows), fills(*rows)):
        assert len(rows_of(found)) + len(problems_of(found)) >= 1
        if not isinstance(found, Partial):
            assert problems_of(found) == ()


@pytest.mark.parametrize(
    ("mode", "legs"),
    [
        ("netting", NET),
        ("hedging", TICKET),
        ("ACCOUNT_MARGIN_MODE_RETAIL_HEDGING", TICKET),
        ("exchange", NET),
        (None, None),
        ("", None),
    ],
)
def test_the_margin_mode_decides_the_legs(mode: object, legs: LegScheme | None) -> None:
    facts = decode.account({"login": 5001, "server": "s", "margin_mode": mode, "time": 1704156000})
    assert (facts.login, facts.legs, facts.time_s) == (5001, legs, 1704156000)


def test_a_margin_mode_nobody_knows_is_not_guessed_at() -> None:
    with pytest.raises(BadRow, match="margin_mode"):
        decode.account({"margin_mode": "barter"})
