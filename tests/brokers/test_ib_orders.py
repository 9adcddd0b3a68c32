"""Single orders of an Interactive Brokers account."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from brokers.errors import Refused
from brokers.model import (
    OrderQuery,
    OrderStatus,
    Side,
)
from brokers.simulators.base import Fault
from brokers.simulators.ib import IbSimulator
from tests.brokers.at_ib import (
    SHORT_TIMEOUT_S,
    TIMEOUT_S,
    D,
    connected,
    simulated,
)


@pytest.fixture
def tws() -> Iterator[IbSimulator]:
    with simulated() as simulator:
        yield simulator


@pytest.fixture(autouse=True)
async def _nothing_is_left_behind() -> AsyncIterator[None]:
    threads = set(threading.enumerate())
    yield
    assert {task for task in asyncio.all_tasks() if not task.done()} == {asyncio.current_task()}
    assert {thread.name for thread in set(threading.enumerate()) - threads if thread.name != "ib-simulator"} == set()


# -- single orders -----------------------------------------------------------------------------------------------


async def test_orders_are_found_by_either_id_open_or_completed_with_their_fills(tws: IbSimulator) -> None:
    """FEATURES 23."""
    resting = tws.place_limit("AAPL", Side.BUY, D(5), D(10), "c1")
    tws.fill_order(resting, D(2))
    filled = tws.trade("AAPL", Side.SELL, D(1), "c2")
    rejected = tws.place_limit("AAPL", Side.SELL, D(1), D(99), "c3")
    tws.end_order(rejected, "REJECTED")
    async with connected(tws) as broker:
        before = broker.calls
        queries = [
            OrderQuery("AAPL", resting, None),
            OrderQuery("AAPL", None, "c2"),
            OrderQuery("AAPL", rejected, "c3"),
            OrderQuery("AAPL", "4711", None),
            OrderQuery("MSFT", resting, None),
            OrderQuery("MSFT", None, "c1"),
        ]
        answers = await broker.find_orders(queries)
        assert broker.calls - before == 3
        found = [(a.order.broker_order_id, a.order.status) for a in answers if a.order is not None]
        assert found == [
            (resting, OrderStatus.PARTIALLY_FILLED),
            (filled, OrderStatus.FILLED),
            (rejected, OrderStatus.REJECTED),
        ]
        assert [sum(f.quantity for f in a.fills) for a in answers] == [D(2), D(1), 0, 0, 0, 0]
        elsewhere = f"order {resting} is one of AAPL. Look the order up in TWS"
        assert [a.failure for a in answers] == [None, None, None, None, elsewhere, None]
        assert [a.query for a in answers] == queries


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        (Fault.TIMEOUT, "reqAllOpenOrders"),
        (Fault.TIMEOUT, "reqCompletedOrders"),
        (Fault.TIMEOUT, "reqExecutions"),
        (Fault.MALFORMED_ROW, "reqAllOpenOrders"),
        (Fault.MALFORMED_ROW, "reqCompletedOrders"),
        (Fault.MALFORMED_ROW, "reqExecutions"),
        (Fault.RESET, "reqAllOpenOrders"),
    ],
)
async def test_not_found_is_never_said_of_lists_that_were_not_read_whole(
    tws: IbSimulator, fault: Fault, match: str
) -> None:
    """PEERS 12: an error is not an absence."""
    tws.trade("AAPL", Side.BUY, D(1))
    async with connected(tws, timeout_s=SHORT_TIMEOUT_S if fault is Fault.TIMEOUT else TIMEOUT_S) as broker:
        tws.faults.add(fault, match=match)
        (answer,) = await broker.find_orders([OrderQuery("AAPL", "4711", None)])
        assert answer.order is None
        assert answer.failure


async def test_an_order_known_only_by_its_executions_is_not_said_to_be_unknown(tws: IbSimulator) -> None:
    order = tws.trade("AAPL", Side.BUY, D(1))
    tws.forget_order(order)
    async with connected(tws) as broker:
        (answer,) = await broker.find_orders([OrderQuery("AAPL", order, None)])
        assert answer.failure == "TWS lists 1 executions of it, and the order in no list. Look the order up in TWS"


@pytest.mark.parametrize(
    ("orders_by", "words"), [(None, "by hand in TWS"), (5, "by client 5")], ids=["by hand", "another client"]
)
async def test_an_order_of_somebody_else_cannot_be_cancelled_from_here(orders_by: int | None, words: str) -> None:
    with simulated(orders_by=orders_by) as tws:
        order = tws.place_limit("AAPL", Side.BUY, D(5), D(1))
        async with connected(tws) as broker:
            with pytest.raises(Refused, match=words):
                await broker.cancel_order(OrderQuery("AAPL", order, None))
        assert "cancelOrder" not in tws.requests
