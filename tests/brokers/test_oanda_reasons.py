"""OANDA's documented reasons: how an order ended, and what made a fill."""

from __future__ import annotations

import pytest

from brokers.model import OrderStatus, Reason
from brokers.oanda.decode import CANCEL_REASONS, cancelled_status, fill_row, order_facts

REFUSALS = [
    "ACCOUNT_LOCKED",
    "ACCOUNT_NEW_POSITIONS_LOCKED",
    "ACCOUNT_ORDER_CREATION_LOCKED",
    "ACCOUNT_ORDER_FILL_LOCKED",
    "LOSING_TAKE_PROFIT",
    "CLIENT_TRADE_ID_ALREADY_EXISTS",
    "POSITION_CLOSEOUT_FAILED",
    "OPEN_TRADES_ALLOWED_EXCEEDED",
    "PENDING_ORDERS_ALLOWED_EXCEEDED",
    "POSITION_SIZE_EXCEEDED",
    "ACCOUNT_POSITION_VALUE_LIMIT_EXCEEDED",
    "INSTRUMENT_BID_REDUCE_ONLY",
    "INSTRUMENT_ASK_REDUCE_ONLY",
    "INTERNAL_SERVER_ERROR",
    "INSUFFICIENT_MARGIN",
    "BOUNDS_VIOLATION",
    "MARKET_HALTED",
    "STOP_LOSS_ON_FILL_LOSS",
]


@pytest.mark.parametrize("reason", REFUSALS)
def test_an_order_that_would_have_broken_a_rule_was_rejected_by_whatever_name(reason: str) -> None:
    assert cancelled_status(reason) is OrderStatus.REJECTED


@pytest.mark.parametrize("reason", ["CLIENT_REQUEST", "CLIENT_REQUEST_REPLACED", "LINKED_TRADE_CLOSED", "MIGRATION"])
def test_an_order_that_somebody_took_back_was_cancelled(reason: str) -> None:
    assert cancelled_status(reason) is OrderStatus.CANCELLED


def test_every_documented_reason_is_in_the_table_once_and_an_unknown_one_is_a_cancellation() -> None:
    assert len(CANCEL_REASONS) >= 47
    assert cancelled_status("REASON_OF_TOMORROW") is OrderStatus.CANCELLED


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("MARKET_ORDER_MARGIN_CLOSEOUT", Reason.LIQUIDATION),
        ("MARKET_ORDER_DELAYED_TRADE_CLOSE", Reason.LIQUIDATION),
        ("STOP_LOSS_ORDER", Reason.STOP_LOSS),
        ("TAKE_PROFIT_ORDER", Reason.TAKE_PROFIT),
        ("MARKET_ORDER", None),
        (None, None),
    ],
)
def test_a_fill_says_that_oanda_itself_closed(reason: str | None, meaning: Reason | None) -> None:
    row = {"id": "12", "type": "ORDER_FILL", "orderID": "11", "instrument": "EUR_USD", "units": "-100"}
    fill = fill_row({**row, "price": "1.1", "time": "2024-01-02T09:00:00Z", "reason": reason})
    assert fill.reason is meaning


def test_an_order_that_oanda_placed_for_want_of_margin_says_so() -> None:
    row = {"id": "11", "state": "FILLED", "type": "MARKET", "instrument": "EUR_USD", "units": "-100"}
    assert order_facts({**row, "marginCloseout": {"reason": "MARGIN_CHECK_VIOLATION"}}).origin is Reason.LIQUIDATION
    assert order_facts(row).origin is None
