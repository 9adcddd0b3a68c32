"""One order in several at Kite: icebergs, and what exceeds the exchange's freeze quantity (autoslice)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from brokers.errors import Refused
from brokers.model import OrderStatus, Partial, rows_of
from brokers.simulators.kite import KiteSimulator
from tests.brokers.at_kite import BUY, INFY, KEY, NIFTY, TOKEN, USER, D, broker, midnight, query
from tests.brokers.conformance.adapters import Clock
from tests.brokers.reading import orders

FIVE = [D(200)] * 5


@pytest.fixture
def sim() -> Iterator[KiteSimulator]:
    simulator = KiteSimulator(KEY, TOKEN, USER, instruments=[INFY, NIFTY])
    simulator.start()
    yield simulator
    simulator.close()


async def test_an_iceberg_is_one_order_from_its_first_leg_to_its_last(sim: KiteSimulator) -> None:
    (first,) = sim.place_sliced(INFY, BUY, FIVE, D(100), "c1", iceberg=True)
    seen = []
    async with broker(sim) as adapter:
        for leg in range(5):
            snapshot = await adapter.snapshot(midnight())
            (row,) = orders(snapshot).values()
            seen.append((row.broker_order_id, row.quantity, row.filled_quantity, row.status, len(row.slices)))
            assert {fill.broker_order_id for fill in rows_of(snapshot.fills)} <= {first}
            sim.fill_order((first, *row.slices)[leg])
        (row,) = orders(await adapter.snapshot(midnight())).values()
        by_id, by_slice, by_tag = await adapter.find_orders([query(first), query(row.slices[2]), query(None, "c1")])
    filled = OrderStatus.PARTIALLY_FILLED
    assert seen == [(first, D(1000), D(200 * leg), filled if leg else OrderStatus.OPEN, leg) for leg in range(5)]
    assert (row.status, row.filled_quantity, row.average_fill_price) == (OrderStatus.FILLED, D(1000), D(100))
    assert by_id.order == by_slice.order == by_tag.order == row
    assert sum(fill.quantity for fill in by_slice.fills) == 1000
    assert {fill.client_order_id for fill in by_id.fills} == {"c1"}


async def test_an_autosliced_order_is_one_and_ends_when_all_of_its_slices_have(sim: KiteSimulator) -> None:
    parts = sim.place_sliced(INFY, BUY, FIVE, D(100), "c1")
    async with broker(sim) as adapter:
        sim.fill_order(parts[0])
        sim.fill_order(parts[1], D(50))
        (row,) = orders(await adapter.snapshot(None)).values()
        assert (row.broker_order_id, row.slices) == (parts[0], parts[1:])
        assert (row.quantity, row.filled_quantity, row.status) == (D(1000), D(250), OrderStatus.PARTIALLY_FILLED)
        sim.end_order(parts[4], "REJECTED")
        for part in parts[1:4]:
            sim.end_order(part)
        (row,) = orders(await adapter.snapshot(None)).values()
        assert (row.quantity, row.filled_quantity, row.status) == (D(1000), D(250), OrderStatus.CANCELLED)


async def test_the_cancellation_of_an_order_in_slices_is_asked_for_each_that_works(sim: KiteSimulator) -> None:
    parts = sim.place_sliced(INFY, BUY, FIVE, D(100), "c1")
    sim.fill_order(parts[0])
    async with broker(sim) as adapter:
        await adapter.cancel_order(query(None, "c1"))
        (row,) = orders(await adapter.snapshot(None)).values()
        assert row.status is OrderStatus.CANCELLED
        assert [request for request in sim.requests if request.startswith("DELETE")] == [
            f"DELETE /orders/regular/{part}" for part in parts[1:]
        ]
        with pytest.raises(Refused):
            await adapter.cancel_order(query(parts[0]))


async def test_of_an_order_in_slices_nothing_is_said_while_one_of_its_rows_may_be_unreadable(
    sim: KiteSimulator,
) -> None:
    parts = sim.place_sliced(INFY, BUY, FIVE, D(100), "c1")
    sim.set_status(parts[3], "GALACTIC")
    async with broker(sim) as adapter:
        snapshot = await adapter.snapshot(None)
    assert isinstance(snapshot.orders, Partial)
    assert snapshot.orders.rows == ()


async def test_orders_that_share_a_tag_alone_are_as_many_orders(sim: KiteSimulator) -> None:
    sim.place_sliced(INFY, BUY, FIVE, D(100), "strategy", linked=False)
    async with broker(sim) as adapter:
        snapshot = await adapter.snapshot(None)
        (answer,) = await adapter.find_orders([query(None, "strategy")])
    assert len(orders(snapshot)) == 5
    assert "5 orders" in str(answer.failure)


async def test_a_lone_first_slice_may_be_followed_by_others_until_the_list_has_not_grown_for_a_while(
    sim: KiteSimulator,
) -> None:
    """Nothing says how many slices there will be, and they are placed one after the other."""
    clock = Clock()
    (first,) = sim.place_sliced(INFY, BUY, [D(200)], D(100), "c1")
    sim.fill_order(first)
    seen = []
    async with broker(sim, clock=clock) as adapter:
        for passes_s in (0, 5, 6):
            clock.passes(passes_s)
            (row,) = orders(await adapter.snapshot(None)).values()
            seen.append((row.status, row.quantity, row.growing))
        second = sim.place_sliced(INFY, BUY, [D(200)], D(100), "c1")[0]
        sim.set_order(second, tags=["autoslice", f"autoslice:{first}"])
        (row,) = orders(await adapter.snapshot(None)).values()
        seen.append((row.status, row.quantity, row.growing))
        (found,) = await adapter.find_orders([query(second)])
        assert found.order is not None
        assert (found.order.broker_order_id, found.order.growing) == (first, True)
        clock.passes(11)
        (row,) = orders(await adapter.snapshot(None)).values()
        seen.append((row.status, row.quantity, row.growing))
    filled, part = OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED
    alone, both = D(200), D(400)
    assert seen == [
        (filled, alone, True),
        (filled, alone, True),
        (filled, alone, False),
        (part, both, True),
        (part, both, False),
    ]


async def test_slices_that_were_placed_long_ago_are_all_there_are_at_the_first_look(sim: KiteSimulator) -> None:
    parts = sim.place_sliced(INFY, BUY, FIVE, D(100), "c1")
    for part in parts:
        sim.fill_order(part)
    clock = Clock()
    clock.passes(600)
    async with broker(sim, clock=clock) as adapter:
        (row,) = orders(await adapter.snapshot(None)).values()
    assert (row.status, row.quantity, row.growing) == (OrderStatus.FILLED, D(1000), False)
