"""Executions that TWS pushes: reported at once where it is clear what they are, and else found by the look."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from brokers.model import Side, StreamedFill, rows_of
from tests.brokers.at_ib import connected, simulated
from tests.brokers.following import eventually

D = Decimal


async def test_a_pushed_execution_is_reported_before_its_event_as_the_snapshot_has_it_and_nobody_is_asked() -> None:
    heard: list[str | StreamedFill | None] = []
    with simulated(orders_by=17) as tws:
        tws.trade("AAPL", Side.BUY, D(1), "c0")
        async with connected(tws, on_event=heard.append) as broker:
            broker.on_fill = heard.append
            cursor = (await broker.snapshot(None)).fills_cursor
            calls = broker.calls
            order = tws.trade("AAPL", Side.BUY, D(2), "c1")
            await eventually(lambda: any(isinstance(one, StreamedFill) for one in heard))
            assert broker.calls == calls
            [streamed] = [one for one in heard if isinstance(one, StreamedFill)]
            await eventually(lambda: heard[-1] == "AAPL")
            assert (streamed.fill.broker_order_id, streamed.fill.client_order_id, streamed.fill.quantity) == (
                order,
                "c1",
                D(2),
            )
            snapshot = await broker.snapshot(cursor)
            [row] = rows_of(snapshot.fills)
            assert replace(row, commission=None, commission_currency=None) == streamed.fill
            facts = snapshot.contracts["AAPL"]
            assert streamed.identity == facts.identity, "whatever the contract is called"


async def test_before_the_account_was_looked_at_nothing_is_reported() -> None:
    """Until then it is not known what its names mean."""
    reported: list[StreamedFill] = []
    events: list[str | None] = []
    with simulated(orders_by=17) as tws:
        async with connected(tws, on_event=events.append) as broker:
            broker.on_fill = reported.append
            tws.trade("AAPL", Side.BUY, D(2), "c1")
            await eventually(lambda: "AAPL" in events)
            assert reported == []


async def test_a_correction_is_left_to_the_look() -> None:
    reported: list[StreamedFill] = []
    events: list[str | None] = []
    with simulated(orders_by=17) as tws:
        async with connected(tws, on_event=events.append) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            tws.trade("AAPL", Side.BUY, D(5), "c1")
            [first] = rows_of((await broker.snapshot(cursor)).fills)
            broker.on_fill = reported.append
            events.clear()
            tws.correct_fill(first.fill_id, D(3), first.price)
            await eventually(lambda: "AAPL" in events)
            assert any(row.corrects is not None for row in rows_of((await broker.snapshot(cursor)).fills))
            assert reported == []
