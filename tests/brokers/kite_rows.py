"""Rows as Kite Connect's documentation shows them, with whatever a test changes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from brokers.model import OrderStatus

D = Decimal


INFY = "NSE:INFY"


S = OrderStatus


NOW = datetime(2025, 11, 20, 5, 0, tzinfo=UTC)


TODAY = date(2025, 11, 20)


def position(**fields: Any) -> dict[str, Any]:
    row = {
        "tradingsymbol": "INFY",
        "exchange": "NSE",
        "product": "MIS",
        "quantity": 10,
        "overnight_quantity": 4,
        "multiplier": 1,
        "average_price": D("1500.25"),
        "day_buy_quantity": 9,
        "day_sell_quantity": 3,
    }
    return {key: value for key, value in {**row, **fields}.items() if value is not None}


def order(**fields: Any) -> dict[str, Any]:
    row = {
        "order_id": "2042130686722629633",
        "parent_order_id": None,
        "exchange_order_id": None,
        "status": "OPEN",
        "status_message": None,
        "order_timestamp": "2025-11-20 10:00:00",
        "exchange_update_timestamp": "2025-11-20 10:00:01",
        "variety": "regular",
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "order_type": "LIMIT",
        "transaction_type": "BUY",
        "validity": "DAY",
        "validity_ttl": 0,
        "product": "CNC",
        "quantity": 10,
        "price": D("1500.5"),
        "trigger_price": 0,
        "average_price": 0,
        "filled_quantity": 0,
        "pending_quantity": 10,
        "cancelled_quantity": 0,
        "tag": "mine",
    }
    return {**row, **fields}


def trade(**fields: Any) -> dict[str, Any]:
    row = {
        "trade_id": "10000000",
        "order_id": "200000000017717",
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "product": "CNC",
        "average_price": D("310.7"),
        "quantity": 1,
        "transaction_type": "BUY",
        "fill_timestamp": "2025-11-20 09:16:39",
        "order_timestamp": "09:16:39",
        "exchange_timestamp": "2025-11-20 09:16:40",
    }
    return {key: value for key, value in {**row, **fields}.items() if value is not None}
