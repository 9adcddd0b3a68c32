"""The Interactive Brokers adapter where something goes wrong: lists, connections, and what is reported meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from brokers.clocks import ahead_of_ours
from brokers.errors import Unreachable
from brokers.model import (
    Complete,
    Completeness,
    Corrected,
    Failed,
    OrderQuery,
    OrderStatus,
    Partial,
    Side,
    Snapshot,
    problems_of,
    rows_of,
)
from brokers.simulators import ib_wire
from brokers.simulators.base import Fault
from brokers.simulators.ib import IbSimulator
from brokers.simulators.ib_books import COMMISSION
from tests.brokers.at_ib import (
    EARLIER,
    SHORT_TIMEOUT_S,
    TIMEOUT_S,
    D,
    completeness,
    connected,
    simulated,
)
from tests.brokers.following import PATIENCE_S, eventually
from tests.brokers.reading import fill_ids, held, now


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


# -- what goes wrong while it is read ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "match", "expected"),
    [
        (Fault.TIMEOUT, "reqCompletedOrders", "COMPLETE PARTIAL COMPLETE"),
        (Fault.MALFORMED_ROW, "reqCompletedOrders", "COMPLETE PARTIAL COMPLETE"),
        (Fault.EMPTY, "reqPositions", "COMPLETE COMPLETE COMPLETE"),
        (Fault.EMPTY, "reqExecutions", "COMPLETE COMPLETE FAILED"),
    ],
)
async def test_a_fault_in_one_list_leaves_the_others_and_is_over_with_the_next(
    tws: IbSimulator, fault: Fault, match: str, expected: str
) -> None:
    """PEERS 1: an answer that failed or came back empty after an error is not flat."""
    tws.trade("AAPL", Side.BUY, D(5))
    tws.place_limit("MSFT", Side.BUY, D(5), D(1))
    async with connected(tws, timeout_s=SHORT_TIMEOUT_S if fault is Fault.TIMEOUT else TIMEOUT_S) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        tws.faults.add(fault, match=match)
        spoiled = await broker.snapshot(cursor)
        assert completeness(spoiled) == expected
        if isinstance(spoiled.positions, Complete):
            assert held(spoiled) == tws.positions()
        after = await broker.snapshot(spoiled.fills_cursor)
        assert completeness(after) == "COMPLETE COMPLETE COMPLETE"
        assert held(after) == tws.positions()


async def test_every_list_silent_is_unreachable_within_the_time_of_a_call(tws: IbSimulator) -> None:
    """PEERS 7: every wait is bounded."""
    async with connected(tws, timeout_s=SHORT_TIMEOUT_S) as broker:
        for match in ("reqPositions", "reqAllOpenOrders", "reqCompletedOrders", "reqExecutions"):
            tws.faults.add(Fault.TIMEOUT, match=match)
        async with asyncio.timeout(4 * SHORT_TIMEOUT_S):  # one wait for each list would take longer
            with pytest.raises(Unreachable, match="reqPositions: no answer within"):
                await broker.snapshot(None)


async def test_a_position_row_that_the_sdk_drops_is_noticed(tws: IbSimulator) -> None:
    """ib_async logs it and positionEnd then looks complete."""
    tws.trade("MSFT", Side.BUY, D(1))
    tws.add_row("reqPositions", ["61", "3", "DU1", *tws.contract("AAPL").fields(), "ten", "1"])
    async with connected(tws) as broker:
        positions = (await broker.snapshot(None)).positions
        assert isinstance(positions, Partial)
        assert [(p.instrument, p.key) for p in positions.problems] == [("AAPL", str(tws.contract("AAPL").con_id))]


async def test_a_row_of_no_known_kind_leaves_the_list_it_stands_in_in_doubt(tws: IbSimulator) -> None:
    tws.add_row("reqPositions", ["garbage", "3"])
    async with connected(tws) as broker:
        assert completeness(await broker.snapshot(None)) == "PARTIAL COMPLETE COMPLETE"


async def test_an_unknown_status_keeps_the_order_and_is_reported(tws: IbSimulator) -> None:
    order = tws.place_limit("AAPL", Side.BUY, D(1), D(1))
    tws.set_status(order, "Levitating")
    async with connected(tws) as broker:
        (problem,) = problems_of((await broker.snapshot(None)).orders)
        assert (problem.instrument, problem.key) == ("AAPL", order)
        assert "Levitating" in problem.text


async def test_calls_made_at_once_are_served_one_after_another(tws: IbSimulator) -> None:
    """Two requests of a kind share one future in ib_async, and the first caller would wait for ever."""
    tws.trade("AAPL", Side.BUY, D(1))
    async with connected(tws) as broker, asyncio.timeout(PATIENCE_S):
        query = OrderQuery("AAPL", "1", None)
        work = [broker.snapshot(None), broker.snapshot(None), broker.find_orders([query]), broker.snapshot(None)]
        results = await asyncio.gather(*work)
        assert [completeness(r) for r in results if isinstance(r, Snapshot)] == ["COMPLETE COMPLETE COMPLETE"] * 3


async def test_fills_between_the_lists_are_read_again_until_they_agree() -> None:
    with simulated() as tws:
        async with connected(tws) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            answer = tws.answer
            traded = iter(range(2))

            def answer_and_trade(client: object, name: str, request: list[str]) -> list[list[str]]:
                rows = answer(client, name, request)  # type: ignore[arg-type]  # it is handed on
                if name == "reqPositions" and next(traded, None) is not None:
                    tws.trade("AAPL", Side.BUY, D(1))
                return rows

            tws.answer = answer_and_trade  # type: ignore[method-assign]  # trades in the worst moment
            snapshot = await broker.snapshot(cursor)
            assert completeness(snapshot) == "COMPLETE COMPLETE COMPLETE"
            assert sum(fill.quantity for fill in rows_of(snapshot.fills)) == held(snapshot)["AAPL", "net"] == D(2)


# -- executions --------------------------------------------------------------------------------------------------


async def test_a_correction_of_a_fill_already_handed_out_is_a_fill_that_takes_its_place(tws: IbSimulator) -> None:
    order = tws.place_limit("AAPL", Side.BUY, D(10), D(100))
    async with connected(tws) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        first = tws.fill_order(order)
        found = await broker.snapshot(cursor)
        assert fill_ids(found) == [first]
        tws.correct_fill(first, D(8), D(101))
        later = await broker.snapshot(found.fills_cursor)
        (correction,) = rows_of(later.fills)
        assert correction.corrects == Corrected(first, D(10), D(100))
        assert (correction.quantity, correction.price) == (D(8), D(101))
        assert held(later) == {("AAPL", "net"): D(8)}
        other = await broker.snapshot(cursor)
        assert fill_ids(other) == [first, correction.fill_id]


async def test_fills_come_with_their_commission(tws: IbSimulator) -> None:
    async with connected(tws) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        tws.trade("AAPL", Side.BUY, D(10))
        (fill,) = rows_of((await broker.snapshot(cursor)).fills)
        assert (fill.commission, fill.commission_currency) == (COMMISSION, "USD")


async def test_the_end_of_a_day_is_a_gap_reported_once_and_what_came_after_it_is_not_lost(tws: IbSimulator) -> None:
    tws.trade("AAPL", Side.BUY, D(1))
    async with connected(tws) as broker:
        first = await broker.snapshot(None)
        tws.end_day()
        tws.trade("AAPL", Side.BUY, D(2))
        gap = await broker.snapshot(first.fills_cursor)
        assert isinstance(gap.fills, Failed)
        assert "day" in gap.fills.reason
        assert gap.fills_cursor is not None
        assert first.fills_cursor is not None
        assert gap.fills_cursor > first.fills_cursor
        after = await broker.snapshot(gap.fills_cursor)
        assert [fill.quantity for fill in rows_of(after.fills)] == [D(2)]


async def test_a_cursor_of_another_day_is_a_gap_too(tws: IbSimulator) -> None:
    async with connected(tws) as broker:
        snapshot = await broker.snapshot(EARLIER - 2 * 86_400_000)
        assert isinstance(snapshot.fills, Failed)
        assert completeness(await broker.snapshot(snapshot.fills_cursor)) == "COMPLETE COMPLETE COMPLETE"


@pytest.mark.parametrize(
    ("timezone", "expected"), [("Asia/Tokyo", Completeness.COMPLETE), (None, Completeness.PARTIAL)]
)
async def test_naive_times_are_read_in_the_zone_configured_and_never_guessed(
    timezone: str | None, expected: Completeness
) -> None:
    with simulated(timezone="Asia/Tokyo", naive=True, clock=now) as tws:
        async with connected(tws, timezone=timezone) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            tws.trade("AAPL", Side.BUY, D(1))
            snapshot = await broker.snapshot(cursor)
            assert snapshot.fills.completeness is expected
            for fill in rows_of(snapshot.fills):
                assert abs(ahead_of_ours(fill.time, now())) < timedelta(seconds=5)


async def test_the_brokers_clock_counts_where_ours_is_an_hour_off() -> None:
    with simulated(clock=now) as tws:
        async with connected(tws, clock=lambda: now() + timedelta(hours=1)) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            fill = tws.fill_order(tws.place_limit("AAPL", Side.BUY, D(1), D(1)))
            snapshot = await broker.snapshot(cursor)
            assert fill_ids(snapshot) == [fill]
            assert abs(ahead_of_ours(snapshot.as_of, now())) < timedelta(seconds=5)


# -- TWS's own connection ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_lost", [False, True], ids=["1102", "1101"])
async def test_while_tws_has_lost_ib_nothing_is_known_and_its_fills_are_found_afterwards(
    tws: IbSimulator, data_lost: bool
) -> None:
    """PEERS 13: fills during a lost connection whose socket looks healthy."""
    events: list[str | None] = []
    tws.trade("AAPL", Side.BUY, D(1))
    async with connected(tws, on_event=events.append) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        tws.lose_connectivity()
        await eventually(lambda: events == [None])
        missed = tws.trade("AAPL", Side.BUY, D(2))
        for attempt in (broker.connect, lambda: broker.snapshot(cursor)):
            with pytest.raises(Unreachable, match="connectivity between TWS and IB is lost"):
                await attempt()
        (answer,) = await broker.find_orders([OrderQuery("AAPL", "999", None)])
        assert answer.failure is not None
        tws.restore_connectivity(data_lost=data_lost)
        await eventually(lambda: events == [None, None])
        snapshot = await broker.snapshot(cursor)
        assert held(snapshot) == {("AAPL", "net"): D(3)}
        assert [fill.broker_order_id for fill in rows_of(snapshot.fills)] == [missed]
        assert "reqAccountSummary" not in tws.requests  # which ib_async would send by itself after 1102


async def test_connectivity_lost_in_the_middle_of_a_snapshot_spoils_it(tws: IbSimulator) -> None:
    async with connected(tws) as broker:
        tws.add_row("reqExecutions", ib_wire.notice(-1, 1100, "lost", 178))
        with pytest.raises(Unreachable, match="connectivity between TWS and IB is lost"):
            await broker.snapshot(None)


async def test_when_the_port_moves_it_is_followed(tws: IbSimulator) -> None:
    events: list[str | None] = []
    tws.trade("AAPL", Side.BUY, D(1))
    async with connected(tws, on_event=events.append) as broker:
        await broker.snapshot(None)
        tws.move_port()
        await eventually(lambda: None in events)
        assert held(await broker.snapshot(None)) == {("AAPL", "net"): D(1)}


async def test_after_a_lost_socket_it_reconnects_and_finds_what_was_filled_meanwhile(tws: IbSimulator) -> None:
    """FEATURES 4: recovery after a disconnect. PEERS 13."""
    events: list[str | None] = []
    async with connected(tws, on_event=events.append) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        tws.drop()
        await eventually(lambda: events == [None])
        order = tws.trade("AAPL", Side.BUY, D(2))
        snapshot = await broker.snapshot(cursor)
        assert held(snapshot) == {("AAPL", "net"): D(2)}
        assert [fill.broker_order_id for fill in rows_of(snapshot.fills)] == [order]
        assert events == [None, None]


# -- events ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", [17, None], ids=["an order of this client", "an order placed by hand"])
async def test_what_happens_wakes_the_instrument_concerned_and_no_other(whose: int | None) -> None:
    """FEATURES 24: real-time beside the periodic snapshot. ib_async emits nothing for an order it does not know."""
    events: list[str | None] = []
    with simulated(orders_by=whose) as tws:
        tws.trade("MSFT", Side.BUY, D(1))
        async with connected(tws, on_event=events.append) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            order = tws.trade("AAPL", Side.BUY, D(1))
            await eventually(lambda: "AAPL" in events)
            assert set(events) == {"AAPL"}
            snapshot = await broker.snapshot(cursor)
            assert [fill.broker_order_id for fill in rows_of(snapshot.fills)] == [order]


async def test_a_live_execution_that_no_list_has_is_handed_out_all_the_same(tws: IbSimulator) -> None:
    async with connected(tws) as broker:
        cursor = (await broker.snapshot(None)).fills_cursor
        events: list[str | None] = []
        broker.on_event = events.append
        row = ib_wire.ExecutionRow(
            "DU1",
            tws.contract("AAPL"),
            "e0.f1.01.01",
            "20260105-12:00:01",
            "BOT",
            D(1),
            D(9),
            77,
            0,
            0,
            D(1),
            D(9),
            "",
        )
        tws.send_row(ib_wire.execution(row, -1, 178))
        await eventually(lambda: events == ["AAPL"])
        snapshot = await broker.snapshot(cursor)
        assert fill_ids(snapshot) == ["e0.f1.01.01"]
        assert fill_ids(await broker.snapshot(snapshot.fills_cursor)) == []


async def test_an_unreadable_event_wakes_all_and_a_failing_listener_harms_nothing(tws: IbSimulator) -> None:
    events: list[str | None] = []

    def fail(instrument: str | None) -> None:
        events.append(instrument)
        raise RuntimeError("no")

    async with connected(tws, on_event=fail) as broker:
        tws.send_row(["61", "3", "DU1"])
        tws.send_row(["3", "1", "Submitted", "0", "1", "0", "4711", "0", "0", "5", "", "0"])
        await eventually(lambda: events == [None, None])
        assert completeness(await broker.snapshot(None)) == "COMPLETE COMPLETE COMPLETE"


async def test_an_error_on_an_order_never_ends_it_here() -> None:
    """On any such error ib_async sets the order's status to Cancelled, even on 10148 about a live order."""
    with simulated(orders_by=17) as tws:
        order = tws.place_limit("AAPL", Side.BUY, D(5), D(1))
        async with connected(tws) as broker:
            await broker.snapshot(None)
            tws.say(10148, "OrderId 1 that needs to be cancelled cannot be cancelled, state: PendingSubmit", 1)
            tws.say(399, "Order message: it will be placed at 09:30", 1)
            (shown,) = rows_of((await broker.snapshot(None)).orders)
            assert (shown.broker_order_id, shown.status) == (order, OrderStatus.OPEN)
            tws.set_status(order, "Inactive")
            (shown,) = rows_of((await broker.snapshot(None)).orders)
            assert shown.status is OrderStatus.HELD
            tws.say(201, "Order rejected - reason: margin", 1)
            (shown,) = rows_of((await broker.snapshot(None)).orders)
            assert (shown.status, shown.reason) == (OrderStatus.REJECTED, "201: Order rejected - reason: margin")
