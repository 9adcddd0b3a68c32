"""What a snapshot promises, whoever the broker is."""

from __future__ import annotations

import asyncio

from brokers.errors import Refused, Unreachable
from brokers.model import Complete, OrderStatus, rows_of
from brokers.simulators.base import Fault
from tests.brokers.conformance.adapters import BUY, SELL, Adapter, D, every_adapter, one_of_each_kind
from tests.brokers.reading import a_failure, fill_ids, fills, legs, orders
from tests.ports import nobody_at


@one_of_each_kind()
async def test_an_account_that_holds_nothing_is_completely_known_to(adapter: Adapter) -> None:
    async with adapter.alone() as (_, broker):
        assert broker.calls == 0
        snapshot = await broker.snapshot(None)
        assert (snapshot.positions, snapshot.orders, snapshot.fills) == (Complete(), Complete(), Complete())
        assert broker.calls > 0


@every_adapter()
async def test_what_anybody_trades_is_in_the_next_snapshot_and_its_fill_comes_once(adapter: Adapter) -> None:
    """PEERS 5, PEERS 11: a fill is contained in the positions it comes with, and later than those before it."""
    async with adapter.alone() as (simulator, broker):
        simulator.trade(adapter.symbols[0], BUY, adapter.lot)  # in the first positions, and never handed out
        before = await broker.snapshot(None)
        assert (legs(before), fills(before)) == (simulator.positions(), [])
        seen: list[str] = []
        for count in (1, 0, 2, 1, 0, 3):
            for number in range(count):
                simulator.trade(adapter.symbols[number % 2], SELL if number else BUY, adapter.lot)
            snapshot = await broker.snapshot(before.fills_cursor)
            assert legs(snapshot) == simulator.positions()
            assert len(fills(snapshot)) == count
            assert all(fill.time > before.as_of for fill in rows_of(snapshot.fills))
            assert snapshot.as_of >= before.as_of
            assert snapshot.fills_cursor is not None
            assert snapshot.fills_cursor >= (before.fills_cursor or 0)
            seen += fill_ids(snapshot)
            before = snapshot
        assert len(seen) == len(set(seen)) == 7


@every_adapter()
async def test_no_fill_is_lost_however_fast_the_snapshots_come(adapter: Adapter) -> None:
    async with adapter.alone(timeout_s=5.0) as (simulator, broker):
        cursor = (await broker.snapshot(None)).fills_cursor
        seen: list[str] = []
        for _ in range(60):
            simulator.trade(adapter.symbols[0], BUY, adapter.lot)
            snapshot = await broker.snapshot(cursor)
            cursor = snapshot.fills_cursor
            seen += fill_ids(snapshot)
        assert len(seen) == len(set(seen)) == 60


@every_adapter()
async def test_who_asks_with_an_older_cursor_is_given_the_fills_again_and_nobody_else(adapter: Adapter) -> None:
    """PEERS 15: also over a new connection, after a restart."""
    async with adapter.alone() as (simulator, broker):
        first = await broker.snapshot(None)
        simulator.trade(adapter.symbols[0], BUY, adapter.lot)
        second = await broker.snapshot(first.fills_cursor)
        simulator.trade(adapter.symbols[0], BUY, 2 * adapter.lot)
        third = await broker.snapshot(second.fills_cursor)
        both = [*fill_ids(second), *fill_ids(third)]
        assert len(set(both)) == 2
        assert sorted(fill_ids(await broker.snapshot(first.fills_cursor))) == sorted(both)
        assert fill_ids(await broker.snapshot(third.fills_cursor)) == []
        async with adapter.opened(simulator.start(), **({"client_id": 18} if "ib" in adapter.id else {})) as fresh:
            assert sorted(fill_ids(await fresh.snapshot(first.fills_cursor))) == sorted(both)


@every_adapter()
async def test_a_new_fill_is_reported_to_whoever_comes_with_the_first_cursor_of_all(adapter: Adapter) -> None:
    """PEERS 13: that cursor may be ahead of the clock, and a new connection begins with it."""
    async with adapter.alone() as (simulator, broker):
        cursor = (await broker.snapshot(None)).fills_cursor
        await broker.close()
        async with adapter.opened(simulator.start()) as fresh:
            await fresh.snapshot(cursor)
            simulator.trade(adapter.symbols[0], BUY, adapter.lot)
            snapshot = await fresh.snapshot(cursor)
            assert [(row.side, row.quantity) for row in rows_of(snapshot.fills)] == [(BUY, adapter.lot)]
            assert (snapshot.fills_cursor or 0) > (cursor or 0)


@every_adapter()
async def test_at_rest_the_requests_do_not_grow_with_the_instruments(adapter: Adapter) -> None:
    async with adapter.alone(timeout_s=5.0) as (simulator, broker):
        for number in range(20):
            name = adapter.symbols[0].partition(":")
            simulator.trade(f"{name[0]}:S{number}" if name[1] else f"S{number}", BUY, adapter.lot)
        cursor = (await broker.snapshot(None)).fills_cursor
        cursor = (await broker.snapshot(cursor)).fills_cursor
        before = broker.calls
        snapshot = await broker.snapshot(cursor)
        assert broker.calls - before == adapter.calls_at_rest
        assert len(legs(snapshot)) == 20


@every_adapter()
async def test_an_order_that_rests_is_shown_with_what_of_it_was_filled(adapter: Adapter) -> None:
    """PEERS 14: whoever placed it."""
    async with adapter.alone() as (simulator, broker):
        first = await broker.snapshot(None)
        rests = simulator.place_limit(adapter.symbols[0], SELL, 2 * adapter.lot, D("191.2"), "rests")
        second = await broker.snapshot(first.fills_cursor)
        simulator.fill_order(rests, adapter.lot)
        third = await broker.snapshot(second.fills_cursor)
        row = orders(second)[rests]
        assert (row.status, row.filled_quantity, row.quantity) == (OrderStatus.OPEN, D(0), 2 * adapter.lot)
        assert (row.side, row.client_order_id, row.limit_price) == (SELL, "rests", D("191.2"))
        row = orders(third)[rests]
        assert (row.status, row.filled_quantity) == (adapter.part, adapter.lot)
        assert [fill.broker_order_id for fill in rows_of(third.fills)] == [rests]


@every_adapter()
async def test_what_changed_without_a_fill_is_seen_all_the_same(adapter: Adapter) -> None:
    """FEATURES 10"""
    async with adapter.alone() as (simulator, broker):
        before = await broker.snapshot(None)
        leg = simulator.set_position(adapter.symbols[0], "long", adapter.lot, D("1.5"))
        set_ = await broker.snapshot(before.fills_cursor)
        assert (legs(set_), fills(set_)) == (simulator.positions(), [])
        simulator.set_position(adapter.symbols[0], leg, D(0), D(0))
        gone = await broker.snapshot(set_.fills_cursor)
        assert (legs(gone), fills(gone)) == ({}, [])


# -- whose account it is, and whether anybody is there -------------------------------------------------------------


@every_adapter()
async def test_somebody_elses_account_is_refused_connected_or_not(adapter: Adapter) -> None:
    """PEERS 2: another account's rows never reach a book."""
    async with adapter.alone(**adapter.others) as (simulator, broker):
        simulator.trade(adapter.symbols[0], BUY, adapter.lot)
        for attempt in (broker.connect, lambda: broker.snapshot(None)):
            error = await a_failure(attempt())
            assert isinstance(error, Refused)
            assert error.account == adapter.account
            assert error.remedy


@one_of_each_kind()
async def test_accounts_of_one_process_never_mix(adapter: Adapter) -> None:
    """PEERS 2: the same instrument, and the same names, at several brokers."""
    async with adapter.alone() as one, adapter.alone() as two, adapter.alone() as three:
        pairs = (one, two, three)
        for lots, (simulator, _) in enumerate(pairs, start=1):
            simulator.trade(adapter.symbols[0], BUY, lots * adapter.lot)
        for _ in range(3):
            snapshots = await asyncio.gather(*(broker.snapshot(None) for _, broker in pairs))
            assert [legs(snapshot) for snapshot in snapshots] == [simulator.positions() for simulator, _ in pairs]


@every_adapter()
async def test_a_broker_that_is_off_is_unreachable_and_found_again_when_it_is_back(adapter: Adapter) -> None:
    """FEATURES 4, FEATURES 12: it degrades, never crashes, and recovers."""
    async with adapter.alone(timeout_s=adapter.timeout_s(Fault.RESET)) as (simulator, broker):
        before = await broker.snapshot(None)
        port = int(simulator.start().rpartition(":")[2])
        simulator.close()
        for attempt in (broker.connect, lambda: broker.snapshot(before.fills_cursor)):
            error = await a_failure(attempt())
            assert isinstance(error, Unreachable)
            assert str(port) in str(error)
            assert error.remedy
        (answer,) = await broker.find_orders([adapter.query("1")])
        assert (answer.order, answer.failure is None) == (None, False)
        simulator.trade(adapter.symbols[0], BUY, adapter.lot)
        simulator.start(port)
        await broker.connect()
        after = await broker.snapshot(before.fills_cursor)
        assert legs(after) == simulator.positions()
        assert len(fills(after)) == 1


@one_of_each_kind()
async def test_where_nobody_listens_it_is_unreachable(adapter: Adapter) -> None:
    with nobody_at() as port:
        address = {"oanda": "http://", "kite": "http://", "mt5": "tcp://", "ib": ""}[adapter.id.split()[0]]
        within_s = adapter.timeout_s(Fault.RESET)
        async with adapter.opened(f"{address}127.0.0.1:{port}", timeout_s=within_s) as broker:
            error = await a_failure(broker.connect())
            assert isinstance(error, Unreachable)
            assert str(port) in error.reason


@every_adapter()
async def test_closing_never_raises_before_connecting_or_twice_or_while_nobody_answers(adapter: Adapter) -> None:
    async with adapter.alone(timeout_s=adapter.timeout_s(Fault.RESET)) as (simulator, broker):
        await broker.close()
        await broker.snapshot(None)
        simulator.close()
        await a_failure(broker.connect())
        await broker.close()
        await broker.close()
