"""The OANDA adapter at a simulated broker, or at any other URL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from brokers.model import (
    Order,
    OrderQuery,
    Side,
    Snapshot,
    rows_of,
)
from brokers.oanda import OandaBroker
from brokers.simulators.base import Fault
from brokers.simulators.oanda import OandaSimulator

D = Decimal


ACCOUNT = "101-001-1-001"


TOKEN = "0123456789abcdef-fedcba9876543210"


BUY, SELL = Side.BUY, Side.SELL


TIMEOUT_S = 10.0


def within_s(fault: Fault) -> float:
    """A time-out that a test waits for where only that ends a fault; else longer than a busy machine takes."""
    return 0.3 if fault in {Fault.TIMEOUT, Fault.LATE} else TIMEOUT_S


@asynccontextmanager
async def broker(target: OandaSimulator | str, **kwargs: Any) -> AsyncIterator[OandaBroker]:
    settings: dict[str, Any] = {
        "account": "fx",
        "account_id": ACCOUNT,
        "token": TOKEN,
        "rest_url": target if isinstance(target, str) else target.start(),
        "timeout_s": TIMEOUT_S,
        "clock": lambda: datetime.now(UTC),
        "backoff_s": 0.001,
    }
    adapter = OandaBroker(**{**settings, **kwargs})
    try:
        yield adapter
    finally:
        await adapter.close()
        await adapter.close()


def working(snapshot: Snapshot) -> set[Order]:
    return {row for row in rows_of(snapshot.orders) if not row.status.terminal}


def query(broker_order_id: str | None = None, client_order_id: str | None = None) -> OrderQuery:
    return OrderQuery("EUR_USD", broker_order_id, client_order_id)


def held_account(sim: OandaSimulator) -> str:
    """A long position, and an order that rests."""
    sim.trade("EUR_USD", BUY, D(100))
    return sim.place_limit("GBP_JPY", SELL, D(50), D("191.2"), "rests")
