"""The Kite adapter at a simulated broker, or at any other URL, and lies of that broker that no other has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import requests

from brokers.errors import BrokerError, Malformed, Unreachable
from brokers.kite import KiteBroker
from brokers.kite.decode import IST
from brokers.model import (
    OrderQuery,
    Side,
)
from brokers.simulators.http import RawReply
from brokers.simulators.kite import KiteSimulator
from brokers.simulators.kite_http import (
    DATA_NULL,
    GATEWAY_TIMEOUT,
    NO_CONTENT_TYPE,
    NO_ERROR_TYPE,
    NO_ERROR_TYPE_400,
    TOO_MANY,
)

D = Decimal


KEY, TOKEN, USER = "an-api-key-0000", "access-token-of-tests", "AB1234"


INFY, NIFTY = "NSE:INFY", "NFO:NIFTY25NOVFUT"


BUY, SELL = Side.BUY, Side.SELL


TIMEOUT_S = 10.0


@asynccontextmanager
async def broker(target: KiteSimulator | str, **kwargs: Any) -> AsyncIterator[KiteBroker]:
    settings: dict[str, Any] = {
        "account": "eq",
        "api_key": KEY,
        "access_token": lambda: TOKEN,
        "user_id": None,
        "rest_url": target if isinstance(target, str) else target.start(),
        "timeout_s": TIMEOUT_S,
        "clock": lambda: datetime.now(UTC),
        "backoff_s": 0.001,
        "requests_per_s": 10_000,
    }
    adapter = KiteBroker(**{**settings, **kwargs})
    try:
        yield adapter
    finally:
        await adapter.close()
        await adapter.close()


def midnight() -> int:
    """A cursor from before every fill of today."""
    today = datetime.now(UTC).astimezone(IST).replace(hour=0, minute=0, second=0, microsecond=0)
    return int(today.timestamp()) * 1000


def query(broker_order_id: str | None = None, client_order_id: str | None = None) -> OrderQuery:
    return OrderQuery(INFY, broker_order_id, client_order_id)


def answer_of(sim: KiteSimulator, path: str) -> dict[str, Any]:
    """What it answers to a plain request now."""
    answer = requests.get(f"{sim.start()}{path}", headers={"Authorization": f"token {KEY}:{TOKEN}"}, timeout=5)
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


def held_account(sim: KiteSimulator) -> str:
    """A position, and an order that rests."""
    sim.trade(INFY, BUY, D(100), "first")
    return sim.place_limit(INFY, SELL, D(50), D("191.2"), "rests")


RAISED: dict[str, tuple[RawReply, type[BrokerError], int]] = {
    "504 with HTML": (GATEWAY_TIMEOUT, Unreachable, 3),
    "no Content-Type": (NO_CONTENT_TYPE, Malformed, 3),
    "500 without error_type": (NO_ERROR_TYPE, Unreachable, 3),
    "400 without error_type": (NO_ERROR_TYPE_400, Malformed, 3),
    "data is null": (DATA_NULL, Malformed, 3),
    "429 by name": (TOO_MANY, Unreachable, 3),
}


faults = pytest.mark.parametrize("case", RAISED, ids=lambda case: case.replace(" ", "-"))
