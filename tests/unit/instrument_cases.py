"""What the tests of the instrument actor share: reports of our side, and what an instrument says of itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from actors.book.checkpoint import checkpoint, replay
from actors.events import EventType
from actors.messages import CycleReport
from actors.names import instrument_name
from actors.reconciliation.own_reports import FillReport, OrderReport, PositionReport
from brokers.model import (
    OrderStatus,
    Side,
)
from tests.unit.fakes import (
    EURUSD,
    FX,
    QUICK,
    House,
)

S = OrderStatus
STREAM = instrument_name(FX, EURUSD)
AT_ONCE = replace(QUICK, settle=timedelta(0))


def a_fill(fill_id: str, quantity: object, house: House, **more: Any) -> FillReport:
    given: dict[str, Any] = {"broker_order_id": None, "side": Side.BUY, "price": Decimal("1.1"), "time": house.clock()}
    return FillReport(EURUSD, fill_id, quantity=Decimal(str(quantity)), **{**given, **more})


def an_order(client_id: str, house: House, quantity: object = 100) -> OrderReport:
    return OrderReport(
        EURUSD,
        client_id,
        None,
        Side.BUY,
        Decimal(str(quantity)),
        "LIMIT",
        Decimal("1.1"),
        S.PENDING_SUBMIT,
        house.clock(),
    )


def a_position(quantity: object) -> PositionReport:
    return PositionReport(EURUSD, "net", Decimal(str(quantity)), Decimal("1.1"))


async def verdict(house: House, name: str = EURUSD) -> CycleReport:
    return await house.instrument(name).reconcile_now()


async def last(house: House, name: str = EURUSD) -> CycleReport:
    report = (await house.instrument(name).health()).report
    assert report is not None
    return report


async def replayed(house: House) -> dict[str, object]:
    """The book that the journal alone makes."""
    records = await house.audit.records(stream=STREAM, limit=100_000)
    return dict(checkpoint(replay(FX, EURUSD, [r for r in records if r.event.type is not EventType.CHECKPOINT])))


def in_memory(house: House) -> dict[str, object]:
    book = house.instrument().keeper.book
    assert book is not None
    return dict(checkpoint(book))


def open_orders(report: CycleReport) -> list[dict[str, Any]]:
    rows: Any = report.book["open_orders"]
    return list(rows)
