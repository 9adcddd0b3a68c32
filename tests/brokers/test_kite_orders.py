"""Single orders of a Kite account."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from loguru import logger

from brokers.errors import Refused
from brokers.model import (
    OrderStatus,
    problems_of,
    rows_of,
)
from brokers.simulators.base import Fault
from brokers.simulators.http import RawReply
from brokers.simulators.kite import KiteSimulator
from tests.brokers.at_kite import (
    BUY,
    INFY,
    KEY,
    NIFTY,
    RAISED,
    SELL,
    TOKEN,
    USER,
    D,
    answer_of,
    broker,
    faults,
    held_account,
    query,
)
from tests.brokers.reading import a_failure, calls_have_ended, fills, legs, orders

THURSDAY_AT_TEN = datetime(2025, 11, 20, 4, 30, tzinfo=UTC).timestamp()
"""IST, on a day of trading."""

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    yield
    calls_have_ended("kite-")


@pytest.fixture
def sim() -> Iterator[KiteSimulator]:
    simulator = KiteSimulator(KEY, TOKEN, USER, instruments=[INFY, NIFTY])
    simulator.start()
    yield simulator
    simulator.close()


# -- orders --------------------------------------------------------------------------------------------------------


def fill_and_cancel(sim: KiteSimulator, order_id: str) -> None:
    sim.fill_order(order_id, D(20))
    sim.end_order(order_id)


ENDS: dict[str, tuple[Callable[[KiteSimulator, str], object], OrderStatus, int]] = {
    "filled in part, then cancelled": (lambda sim, order: fill_and_cancel(sim, order), OrderStatus.CANCELLED, 20),
    "pending": (lambda sim, order: sim.set_status(order, "OPEN PENDING"), OrderStatus.PENDING_SUBMIT, 0),
    "being cancelled": (lambda sim, order: sim.set_status(order, "CANCEL PENDING"), OrderStatus.PENDING_CANCEL, 0),
}


@pytest.mark.parametrize("how", ENDS, ids=lambda how: how.replace(" ", "-"))
async def test_an_order_is_shown_in_every_later_snapshot_and_found_by_id_and_by_tag(
    sim: KiteSimulator, how: str
) -> None:
    """FEATURES 5, FEATURES 18: also where pending and cancelled are both reported for the same units."""
    end, status, filled = ENDS[how]
    order_id = held_account(sim)
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        end(sim, order_id)
        by_id, by_tag = await adapter.find_orders([query(order_id), query(None, "rests")])
        shown = [orders(await adapter.snapshot(None))[order_id] for _ in range(2)]
    assert by_id.failure is by_tag.failure is None
    assert [by_id.order, by_tag.order] == shown
    assert (shown[0].status, shown[0].filled_quantity, shown[0].quantity) == (status, D(filled), D(50))
    assert (shown[0].average_fill_price is None) is (filled == 0)
    assert [row.quantity for row in by_id.fills] == ([D(filled)] if filled else [])
    assert shown[0].leg == "MIS"


async def test_an_order_stuck_in_open_pending_that_fills_an_hour_later_is_followed(sim: KiteSimulator) -> None:
    """FEATURES 18"""
    order_id = held_account(sim)
    async with broker(sim) as adapter:
        sim.set_status(order_id, "OPEN PENDING")
        first = await adapter.snapshot(None)
        sim.set_clock(3600)
        sim.fill_order(order_id)
        second = await adapter.snapshot(first.fills_cursor)
    assert orders(first)[order_id].status is OrderStatus.PENDING_SUBMIT
    assert orders(second)[order_id].status is OrderStatus.FILLED
    assert fills(second) == [(INFY, SELL, D(50), "MIS")]


async def test_an_update_that_comes_out_of_order_takes_nothing_back(sim: KiteSimulator) -> None:
    """FEATURES 18"""
    order_id = held_account(sim)
    async with broker(sim) as adapter:
        sim.fill_order(order_id, D(30))
        first = orders(await adapter.snapshot(None))[order_id]
        sim.set_order(order_id, filled=D(10), notional=D(1912))
        second = orders(await adapter.snapshot(None))[order_id]
        sim.set_order(order_id, status="CANCELLED")
        third = orders(await adapter.snapshot(None))[order_id]
    assert (first.filled_quantity, first.status) == (D(30), OrderStatus.PARTIALLY_FILLED)
    assert second == first
    assert (third.filled_quantity, third.status) == (D(30), OrderStatus.CANCELLED)


async def test_a_status_nobody_has_heard_of_is_a_problem_that_names_the_order(sim: KiteSimulator) -> None:
    """FEATURES 18: the book keeps the order as it was."""
    order_id = held_account(sim)
    sim.set_status(order_id, "GALACTIC")
    async with broker(sim) as adapter:
        snapshot = await adapter.snapshot(None)
    (problem,) = problems_of(snapshot.orders)
    assert (problem.instrument, problem.key) == (INFY, order_id)
    assert "GALACTIC" in problem.text
    assert len(rows_of(snapshot.orders)) == 1


async def test_an_order_whose_confirmation_was_lost_is_found_by_its_tag(sim: KiteSimulator) -> None:
    """FEATURES 23, PEERS 12: the outcome of a place_order that timed out is unknown until it is looked up."""
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        sim.faults.add(Fault.LATE, match="place_order")
        with socket.create_connection(("127.0.0.1", int(sim.start().rsplit(":", 1)[1]))) as lost:
            form = b"exchange=NSE&tradingsymbol=INFY&transaction_type=BUY&quantity=5&order_type=MARKET&tag=lost"
            head = f"POST /orders/regular HTTP/1.1\r\nAuthorization: token {KEY}:{TOKEN}\r\n"
            lost.sendall(f"{head}Content-Length: {len(form)}\r\n\r\n".encode() + form)
            while not sim.positions():
                await asyncio.sleep(0.005)
        (answer,) = await adapter.find_orders([query(None, "lost")])
    assert answer.order is not None
    assert (answer.order.status, answer.order.quantity) == (OrderStatus.FILLED, D(5))
    assert [(fill.quantity, fill.client_order_id) for fill in answer.fills] == [(D(5), "lost")]


async def test_an_id_that_is_none_is_the_id_of_no_order(sim: KiteSimulator) -> None:
    """The server may know no such route, and that is no word about an order."""
    async with broker(sim) as adapter:
        (answer,) = await adapter.find_orders([query("a/b")])
    assert answer.order is None


@faults
@pytest.mark.parametrize("operation", ["orders GET", "order_history", "order_trades"])
async def test_a_failed_question_about_an_order_is_never_its_absence(
    sim: KiteSimulator, case: str, operation: str
) -> None:
    """PEERS 12"""
    lie = RAISED[case][0]
    order_id = sim.trade(INFY, BUY, D(5), "asked")
    row = answer_of(sim, "/orders")["data"]
    async with broker(sim) as adapter:
        if operation != "orders GET":  # today's list does not have it
            sim.answer_with(RawReply(200, b'{"status": "success", "data": []}'), match="orders GET")
        sim.answer_with(lie, times=3, match=operation)
        (answer,) = await adapter.find_orders([query(order_id)])
    assert row
    assert answer.failure is not None
    assert answer.order is None


@pytest.mark.parametrize("fault", [Fault.EMPTY, Fault.MALFORMED_ROW], ids=lambda value: value.name)
@pytest.mark.parametrize("operation", ["orders GET", "order_history", "order_trades"])
async def test_an_answer_without_its_rows_is_no_absence_either(
    sim: KiteSimulator, fault: Fault, operation: str
) -> None:
    """PEERS 12"""
    order_id = sim.trade(INFY, BUY, D(5), "asked")
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        if operation == "order_history":
            sim.faults.add(Fault.EMPTY, match="orders GET")
        sim.faults.add(fault, times=3, match=operation)
        asked = query(None, "asked") if operation == "orders GET" else query(order_id)
        (answer,) = await adapter.find_orders([asked])
    assert (answer.order, answer.failure is None) == (None, False)


async def test_a_tag_that_several_orders_have_is_no_answer(sim: KiteSimulator) -> None:
    """Iceberg and autosliced orders yield several order ids."""
    for _ in range(2):
        sim.place_limit(INFY, BUY, D(1), D(1), "sliced")
    async with broker(sim) as adapter:
        (answer,) = await adapter.find_orders([query(None, "sliced")])
    assert "2 orders" in str(answer.failure)


@pytest.mark.parametrize(
    ("variety", "expected"), [("regular", OrderStatus.EXPIRED), ("amo", None)], ids=["day", "after market"]
)
async def test_an_order_that_worked_yesterday_has_expired_and_is_not_unknown(
    sim: KiteSimulator, variety: str, expected: OrderStatus | None
) -> None:
    """FEATURES 18: a new trading day empties the lists; no order but one placed for it outlives its day. One for the
    next session is neither gone nor ended while that is not over."""
    sim.set_clock(THURSDAY_AT_TEN - time.time())
    order_id = sim.place_limit(INFY, BUY, D(5), D(1), "day", variety=variety)
    sim.fill_order(order_id, D(2))
    async with broker(sim) as adapter:
        first = await adapter.snapshot(None)
        sim.next_day()
        second = await adapter.snapshot(first.fills_cursor)
        answers = await adapter.find_orders([query(order_id), query(None, "day")])
    assert (orders(second), fills(second)) == ({}, [])
    assert legs(second) == {(INFY, "MIS"): D(2)} == sim.positions()
    assert [answer.failure is None for answer in answers] == [expected is not None] * 2
    assert [answer.order and answer.order.status for answer in answers] == [expected] * 2
    assert [answer.order and answer.order.filled_quantity for answer in answers] == [expected and D(2)] * 2


async def test_of_an_earlier_day_the_positions_alone_show_it(sim: KiteSimulator) -> None:
    """PEERS 15: down over night. Trades of yesterday cannot be listed any more."""
    said: list[str] = []
    sink = logger.add(lambda message: said.append(str(message)), level="WARNING")
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
    sim.trade(INFY, BUY, D(1))
    sim.next_day()
    sim.trade(INFY, BUY, D(2))
    async with broker(sim) as fresh:
        first = await fresh.snapshot(cursor)
        assert legs(first) == {(INFY, "MIS"): D(3)}
        assert fills(first) == [(INFY, BUY, D(2), "MIS")]
        assert fills(await fresh.snapshot(first.fills_cursor)) == []
    logger.remove(sink)
    assert len(said) == 1
    assert "today's trades alone" in said[0]


async def test_the_same_account_seen_anew_by_another_process_has_no_news(sim: KiteSimulator) -> None:
    """PEERS 5: what the first snapshot contained is not handed out later, however lately it was traded."""
    for _ in range(3):
        held_account(sim)
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
    async with broker(sim) as fresh:
        assert fills(await fresh.snapshot(cursor)) == []
        sim.set_clock(2)
        sim.trade(INFY, BUY, D(1))
        assert [f[2] for f in fills(await fresh.snapshot(cursor))] == [D(1)]


async def test_delivery_moves_from_its_product_into_the_holdings_over_night(sim: KiteSimulator) -> None:
    sim.trade(INFY, BUY, D(3), product="CNC")
    async with broker(sim, include_holdings=True) as adapter:
        first = legs(await adapter.snapshot(None))
        sim.next_day()
        second = legs(await adapter.snapshot(None))
    assert first == {(INFY, "CNC"): D(3)}
    assert second == {(INFY, "holdings"): D(3)}


@pytest.mark.parametrize("known", [True, False], ids=["seen before", "never seen"])
@pytest.mark.parametrize("variety", ["regular", "amo", "iceberg"])
async def test_an_order_is_cancelled_at_the_broker_under_its_variety(
    sim: KiteSimulator, variety: str, known: bool
) -> None:
    """FEATURES 6"""
    order_id = sim.place_limit(INFY, BUY, D(5), D(1), "rests", variety=variety)
    async with broker(sim) as adapter:
        if known:
            await adapter.snapshot(None)
        await adapter.cancel_order(query(order_id))
        assert orders(await adapter.snapshot(None))[order_id].status is OrderStatus.CANCELLED
        assert f"DELETE /orders/{variety}/{order_id}" in sim.requests
        with pytest.raises(Refused):
            await adapter.cancel_order(query(order_id))
        with pytest.raises(Refused, match="no one order"):
            await adapter.cancel_order(query(None, "nobody's"))
        with pytest.raises(Refused, match="no such order"):
            await adapter.cancel_order(query("99"))


@faults
async def test_a_cancellation_is_never_repeated(sim: KiteSimulator, case: str) -> None:
    order_id = held_account(sim)
    async with broker(sim) as adapter:
        await adapter.snapshot(None)
        before = adapter.calls
        sim.answer_with(RAISED[case][0], times=3, match="cancel_order")
        await a_failure(adapter.cancel_order(query(order_id)))
        assert adapter.calls == before + 1
