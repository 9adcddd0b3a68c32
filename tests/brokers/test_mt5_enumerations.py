"""MetaTrader's enumerations as gateways write them: numbers, whole names, short names; and what has no counterpart."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from brokers.model import (
    Complete,
    Fill,
    LegScheme,
    Order,
    OrderStatus,
    Partial,
    Position,
    Reason,
    Section,
    Side,
    rows_of,
)
from brokers.mt5 import decode

TICKET = LegScheme.TICKET


def read(key: str, row: dict[str, object]) -> Section[Position] | Section[Order] | Section[Fill]:
    content = decode.parse(json.dumps({key: [row]}).encode())
    reader = {"positions": decode.positions, "orders": decode.orders, "deals": decode.fills}[key]
    return reader(content, TICKET)


def position(**changes: object) -> dict[str, object]:
    return {"ticket": 7, "symbol": "EURUSD", "type": "buy", "volume": 0.1, "price_open": 1.1, **changes}


def order(**changes: object) -> dict[str, object]:
    row = {"ticket": 77, "symbol": "EURUSD", "type": "buy", "state": "FILLED", "volume_initial": 0.1}
    return {**row, "volume_current": 0, "price_open": 1.1, "time_setup": 1704156000, "position_id": 7, **changes}


def deal(**changes: object) -> dict[str, object]:
    row = {"ticket": 900, "order": 77, "position_id": 7, "symbol": "EURUSD", "type": "buy", "entry": "in"}
    return {**row, "volume": 0.1, "price": 1.1, "time": 1704156000, **changes}


@pytest.mark.parametrize("kind", ["sell", 1, "1", "POSITION_TYPE_SELL", "position_type_sell"])
def test_a_position_type_is_read_as_number_whole_name_or_short_name(kind: object) -> None:
    (row,) = rows_of(read("positions", position(type=kind)))
    assert isinstance(row, Position)
    assert row.quantity == Decimal("-0.1")


@pytest.mark.parametrize(
    ("kind", "side", "name"), [(3, Side.SELL, "LIMIT"), ("ORDER_TYPE_BUY_STOP_LIMIT", Side.BUY, "STOP_LIMIT")]
)
def test_an_order_type_is_read_as_number_or_whole_name(kind: object, side: Side, name: str) -> None:
    (row,) = rows_of(read("orders", order(type=kind, state=1, volume_current=0.1)))
    assert isinstance(row, Order)
    assert (row.side, row.order_type, row.status) == (side, name, OrderStatus.OPEN)


@pytest.mark.parametrize("state", range(10))
def test_every_documented_state_of_an_order_has_a_meaning(state: int) -> None:
    assert isinstance(read("orders", order(state=state, volume_current=0 if state == 4 else 0.1)), Complete)


@pytest.mark.parametrize("kind", ["close_by", 8, "ORDER_TYPE_CLOSE_BY"])
def test_an_ordinary_close_by_order_is_left_out_knowingly_and_leaves_the_orders_complete(kind: object) -> None:
    assert read("orders", order(type=kind, position_by_id=8)) == Complete(())


@pytest.mark.parametrize("kind", [2, 12, 15, 16, 17, "DEAL_DIVIDEND", "DEAL_DIVIDEND_FRANKED", "DEAL_TAX", "dividend"])
def test_a_dividend_or_a_tax_on_an_instrument_is_no_fill_and_leaves_the_fills_complete(kind: object) -> None:
    assert read("deals", deal(type=kind)) == Complete(())


@pytest.mark.parametrize("kind", [13, 14, "DEAL_TYPE_BUY_CANCELED", 18, "DEAL_OF_TOMORROW", True])
def test_a_cancelled_deal_or_one_of_an_unknown_type_is_reported_and_not_guessed(kind: object) -> None:
    assert isinstance(read("deals", deal(type=kind)), Partial)


def test_a_deal_of_an_unknown_type_without_symbol_and_volume_changes_no_position_and_holds_nothing_up() -> None:
    assert read("deals", deal(type=99, symbol="", volume=0)) == Complete(())


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        (0, None),
        ("DEAL_REASON_SL", Reason.STOP_LOSS),
        (5, Reason.TAKE_PROFIT),
        ("DEAL_REASON_SO", Reason.LIQUIDATION),
        ("SPLIT", Reason.SPLIT),
        (7, Reason.ROLLOVER),
        (99, None),
    ],
)
def test_a_deal_says_that_a_stop_a_target_or_a_stop_out_made_it(reason: object, meaning: Reason | None) -> None:
    (row,) = rows_of(read("deals", deal(entry=1, type=1, reason=reason)))
    assert isinstance(row, Fill)
    assert row.reason is meaning


def test_an_order_of_the_servers_stop_out_is_a_liquidation() -> None:
    (row,) = rows_of(read("orders", order(reason="ORDER_REASON_SO")))
    assert isinstance(row, Order)
    assert row.origin is Reason.LIQUIDATION


@pytest.mark.parametrize(("identifier", "leg"), [(5, "5"), (0, "7"), (None, "7")])
def test_a_leg_is_the_identifier_that_never_changes_and_the_ticket_where_none_is_given(
    identifier: object, leg: str
) -> None:
    (row,) = rows_of(read("positions", position(identifier=identifier)))
    assert isinstance(row, Position)
    assert row.leg == leg


def test_two_positions_of_one_identifier_are_both_unreadable() -> None:
    content = decode.parse(
        json.dumps({"positions": [position(identifier=5), position(ticket=8, identifier=5)]}).encode()
    )
    assert rows_of(decode.positions(content, TICKET)) == ()


@pytest.mark.parametrize(
    ("mode", "legs"), [(0, LegScheme.NET), (2, TICKET), ("ACCOUNT_MARGIN_MODE_RETAIL_HEDGING", TICKET)]
)
def test_the_margin_mode_is_read_as_number_or_whole_name(mode: object, legs: LegScheme) -> None:
    assert decode.account({"login": 5, "margin_mode": mode}).legs is legs
