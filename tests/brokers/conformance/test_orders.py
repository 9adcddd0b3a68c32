"""What is promised of single orders: an answer for each question, and never an absence that is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from brokers.errors import Refused
from brokers.model import OrderStatus
from brokers.simulators.base import Fault, Simulator
from tests.brokers.conformance.adapters import BUY, SELL, Adapter, Clock, D, every_adapter, one_of_each_kind
from tests.brokers.reading import orders, outcome

End = Callable[[Simulator, str], object]
ENDS: dict[str, tuple[End, OrderStatus | None, int]] = {
    "open": (lambda sim, order: None, OrderStatus.OPEN, 0),
    "filled": (lambda sim, order: sim.fill_order(order), OrderStatus.FILLED, 2),
    "filled in part": (lambda sim, order: sim.fill_order(order, sim.lot), None, 1),  # type: ignore[attr-defined]  # set below
    "cancelled": (lambda sim, order: sim.end_order(order), OrderStatus.CANCELLED, 0),
    "expired": (lambda sim, order: sim.end_order(order, "EXPIRED"), OrderStatus.EXPIRED, 0),
    "rejected": (lambda sim, order: sim.end_order(order, "REJECTED"), OrderStatus.REJECTED, 0),
}


@pytest.mark.parametrize("how", ENDS, ids=lambda how: str(how).replace(" ", "-"))
@every_adapter()
async def test_an_order_is_shown_in_every_later_snapshot_and_found_by_either_id_with_its_fills(
    adapter: Adapter, how: str
) -> None:
    """FEATURES 5, FEATURES 18, FEATURES 23"""
    end, status, lots = ENDS[how]
    async with adapter.alone() as (simulator, broker):
        simulator.lot = adapter.lot
        order_id = simulator.place_limit(adapter.symbols[0], SELL, 2 * adapter.lot, D("191.2"), "rests")
        await broker.snapshot(None)
        end(simulator, order_id)
        by_id, by_name = await broker.find_orders([adapter.query(order_id), adapter.query(None, "rests")])
        shown = [orders(await broker.snapshot(None))[order_id] for _ in range(2)]
    assert by_id.failure is by_name.failure is None
    assert [by_id.order, by_name.order] == shown
    assert (shown[0].status, shown[0].filled_quantity) == (status or adapter.part, lots * adapter.lot)
    assert shown[0].quantity == 2 * adapter.lot
    assert shown[0].average_fill_price in (D("191.2") if lots else None, None)  # not every broker reports it
    assert sum(fill.quantity for fill in by_id.fills) == lots * adapter.lot
    assert by_id.fills == by_name.fills


@one_of_each_kind()
async def test_the_brokers_own_word_that_there_is_no_such_order_is_none(adapter: Adapter) -> None:
    """FEATURES 13"""
    async with adapter.alone() as (simulator, broker):
        simulator.trade(adapter.symbols[0], BUY, adapter.lot, "first")
        asked = [adapter.query("99999"), adapter.query(None, "nobody's")]
        answers = await broker.find_orders(asked)
        assert [(answer.query, answer.order, answer.failure) for answer in answers] == [(q, None, None) for q in asked]
        assert await broker.find_orders([]) == ()


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first request", "second request", "third request"])
@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: str(fault.value))
@one_of_each_kind()
async def test_a_failed_question_about_an_order_is_never_its_absence(
    adapter: Adapter, fault: Fault, place: int
) -> None:
    """PEERS 12"""
    if place >= len(adapter.questions):
        pytest.skip("it asks in fewer requests")
    async with adapter.alone(timeout_s=adapter.timeout_s(fault)) as (simulator, broker):
        order_id = simulator.trade(adapter.symbols[0], BUY, adapter.lot, "asked")
        await broker.connect()
        simulator.faults.add(fault, times=1 if fault is Fault.EMPTY else 3, match=adapter.questions[place])
        (answer,) = await broker.find_orders([adapter.query(order_id)])
        if answer.failure is not None:
            assert answer.order is None
        elif fault is not Fault.EMPTY or not adapter.believes_empty:
            assert answer.order is not None
            assert answer.order.broker_order_id == order_id
            assert fault is Fault.EMPTY or sum(fill.quantity for fill in answer.fills) == adapter.lot


@one_of_each_kind()
async def test_a_broker_that_is_away_costs_no_more_for_many_questions_than_for_a_few(adapter: Adapter) -> None:
    async with adapter.alone(timeout_s=adapter.short_timeout_s) as (simulator, broker):
        await broker.connect()
        before = broker.calls
        simulator.faults.add(Fault.TIMEOUT, times=99)
        asked = [adapter.query(str(number)) for number in range(2, 12)]
        answers = await broker.find_orders(asked)
        assert [answer.query for answer in answers] == asked
        assert all(answer.failure is not None and answer.order is None for answer in answers)
        assert broker.calls - before <= 5


@one_of_each_kind()
async def test_a_forgotten_order_is_gone_from_the_snapshot_and_from_the_answers(adapter: Adapter) -> None:
    clock = Clock()
    async with adapter.alone(clock=clock) as (simulator, broker):
        order_id = simulator.place_limit(adapter.symbols[0], BUY, adapter.lot, D("1.0"))
        await broker.snapshot(None)
        simulator.forget_order(order_id)
        await broker.snapshot(None)
        clock.passes(adapter.forgives_after_s)
        assert order_id not in orders(await broker.snapshot(None))
        (answer,) = await broker.find_orders([adapter.query(order_id)])
        assert (answer.order, answer.failure) == (None, None)


# -- cancelling ----------------------------------------------------------------------------------------------------


@one_of_each_kind()
async def test_an_order_is_cancelled_at_the_broker_once_and_no_other(adapter: Adapter) -> None:
    """FEATURES 6"""
    async with adapter.alone() as (simulator, broker):
        order_id = simulator.place_limit(adapter.symbols[0], BUY, adapter.lot, D("1.0"), "rests")
        other = simulator.place_limit(adapter.symbols[0], BUY, adapter.lot, D("1.0"), "stays")
        await broker.snapshot(None)
        if not adapter.cancels:
            with pytest.raises(Refused, match="cancel"):
                await broker.cancel_order(adapter.query(order_id))
            return
        await broker.cancel_order(adapter.query(None, "rests"))
        shown = orders(await broker.snapshot(None))
        assert [shown[key].status for key in (order_id, other)] == [OrderStatus.CANCELLED, OrderStatus.OPEN]
        for asked in (adapter.query(order_id), adapter.query("99999"), adapter.query(None, "nobody's")):
            with pytest.raises(Refused):
                await broker.cancel_order(asked)


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: str(fault.value))
@one_of_each_kind()
async def test_a_cancellation_is_never_repeated(adapter: Adapter, fault: Fault) -> None:
    """The only call that changes anything at a broker."""
    if not adapter.cancels:
        pytest.skip("it cancels nothing")
    match = {"oanda": "OrderCancel", "kite": "cancel_order", "ib": "cancelOrder"}[adapter.id.split()[0]]
    async with adapter.alone(timeout_s=adapter.timeout_s(fault)) as (simulator, broker):
        order_id = simulator.place_limit(adapter.symbols[0], BUY, adapter.lot, D("1.0"))
        await broker.snapshot(None)
        before = len(simulator.requests)
        simulator.faults.add(fault, times=3, match=match)
        error = await outcome(broker.cancel_order(adapter.query(order_id)))
        assert error is None or error.remedy
        sent = [request for request in simulator.requests[before:] if "DELETE" in request or "ancel" in request]
        assert len(sent) == 1
