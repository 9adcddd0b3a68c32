"""A commission that TWS reports after its execution was handed out: over the wire, and all the way to the journal."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from actors.account.actor import Account, AccountSettings
from actors.book.policy import Policy
from actors.events import EventType
from actors.instrument.actor import Instrument, InstrumentSettings
from actors.journal.actor import Audit
from actors.names import AUDIT
from actors.runtime.ports import LocalRuntime
from brokers.ib import IbBroker
from brokers.model import Fill, Side, Snapshot, rows_of
from brokers.registry import CONVENTIONS
from brokers.simulators import ib_wire
from brokers.simulators.ib import IbSimulator
from brokers.simulators.ib_books import COMMISSION
from tests.brokers.at_ib import (
    D,
    connected,
    simulated,
    streamed,
)
from tests.brokers.following import PATIENCE_S, eventually
from tests.brokers.reading import fill_ids, now

CLIENT = 17
UNSET = "1.7976931348623157E308"


def charges(snapshot: Snapshot) -> list[tuple[str, Decimal | None]]:
    return [(fill.fill_id, fill.commission) for fill in rows_of(snapshot.fills)]


async def uncharged(tws: IbSimulator, broker: IbBroker) -> tuple[Fill, int]:
    """A fill that was handed out without its commission, and the cursor that came with it."""
    tws.charges_late = True
    cursor = (await broker.snapshot(None)).fills_cursor
    tws.trade("AAPL", Side.BUY, D(10))
    found = await broker.snapshot(cursor)
    (fill,) = rows_of(found.fills)
    assert fill.commission is None
    assert found.fills_cursor is not None
    return fill, found.fills_cursor


# -- handed out again --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full_every_s", [240, 0], ids=["carried", "whole"])
async def test_a_commission_reported_later_wakes_its_instrument_and_is_given_with_its_fill_once(
    full_every_s: int,
) -> None:
    """FEATURES 24"""
    events: list[str | None] = []
    with simulated(orders_by=CLIENT) as tws:
        async with connected(tws, on_event=events.append, full_every_s=full_every_s) as broker:
            fill, cursor = await uncharged(tws, broker)
            assert charges(await broker.snapshot(cursor)) == []
            events.clear()
            tws.charge(fill.fill_id)
            await eventually(lambda: events == ["AAPL"])
            before = broker.calls
            found = await broker.snapshot(cursor)
            assert charges(found) == [(fill.fill_id, COMMISSION)]
            assert (found.whole, broker.calls - before) == ((False, 2) if full_every_s else (True, 5))
            assert found.fills_cursor is not None
            assert found.fills_cursor > cursor
            assert charges(await broker.snapshot(found.fills_cursor)) == []
            assert charges(await broker.snapshot(cursor)) == [(fill.fill_id, COMMISSION)]


async def test_of_an_order_placed_by_hand_it_is_found_in_the_list() -> None:
    """PEERS 14: TWS pushes it to nobody here."""
    with simulated() as tws:
        async with connected(tws) as broker:
            fill, cursor = await uncharged(tws, broker)
            tws.charge(fill.fill_id)
            assert charges(await broker.snapshot(cursor)) == [(fill.fill_id, COMMISSION)]


@pytest.mark.parametrize("read_since", [False, True], ids=["the list was not read since", "the list is empty"])
async def test_it_is_given_though_the_execution_is_of_a_day_that_has_ended(read_since: bool) -> None:
    events: list[str | None] = []
    with simulated(orders_by=CLIENT) as tws:
        async with connected(tws, on_event=events.append) as broker:
            fill, cursor = await uncharged(tws, broker)
            tws.end_day()
            if read_since:
                cursor = (await broker.snapshot(cursor)).fills_cursor or 0
                cursor = (await broker.snapshot(cursor)).fills_cursor or 0
            events.clear()
            tws.send_row(ib_wire.commission(fill.fill_id, COMMISSION))
            await eventually(lambda: events == ["AAPL"])
            found = await broker.snapshot(cursor)
            if not read_since:  # first that a day has ended
                found = await broker.snapshot(found.fills_cursor)
            assert charges(found) == [(fill.fill_id, COMMISSION)]
            assert charges(await broker.snapshot(found.fills_cursor)) == []


async def test_one_reported_while_the_connection_was_lost_is_given_after_the_reconnect() -> None:
    """PEERS 13"""
    with simulated(orders_by=CLIENT) as tws:
        async with connected(tws, full_every_s=240) as broker:
            fill, cursor = await uncharged(tws, broker)
            tws.drop()
            await eventually(lambda: not broker.in_touch)
            tws.charge(fill.fill_id)
            assert charges(await broker.snapshot(cursor)) == [(fill.fill_id, COMMISSION)]


async def test_another_process_is_given_it_with_the_fills_of_the_day() -> None:
    with simulated(orders_by=CLIENT) as tws:
        async with connected(tws) as broker:
            fill, cursor = await uncharged(tws, broker)
        tws.charge(fill.fill_id)
        async with connected(tws) as broker:
            assert charges(await broker.snapshot(cursor)) == [(fill.fill_id, COMMISSION)]


async def test_of_an_execution_and_its_correction_each_has_its_own() -> None:
    with simulated(orders_by=CLIENT) as tws:
        async with connected(tws, full_every_s=240) as broker:
            fill, cursor = await uncharged(tws, broker)
            correction = tws.correct_fill(fill.fill_id, D(8), D(101))
            tws.charge(correction)
            found = await broker.snapshot(cursor)
            assert charges(found) == [(correction, COMMISSION)], "reported before it was handed out, and nobody else's"
            tws.charge(fill.fill_id)
            found = await broker.snapshot(found.fills_cursor)
            assert charges(found) == [(fill.fill_id, COMMISSION)]


def executions(tws: IbSimulator) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(tws.dump())["books"]["executions"]
    return found


def forget_execution(tws: IbSimulator, exec_id: str) -> None:
    state = json.loads(tws.dump())
    state["books"]["executions"] = [one for one in executions(tws) if one["exec_id"] != exec_id]
    tws.load(json.dumps(state))


async def test_of_a_correction_that_is_listed_alone_it_comes_with_the_fill_it_is_shown_as() -> None:
    events: list[str | None] = []
    with simulated(orders_by=CLIENT) as tws:
        tws.charges_late = True
        tws.trade("AAPL", Side.BUY, D(10))
        first = executions(tws)[0]["exec_id"]
        correction = tws.correct_fill(first, D(8), D(101))
        forget_execution(tws, first)
        async with connected(tws, on_event=events.append) as broker:
            found = await broker.snapshot(1)
            found = await broker.snapshot(found.fills_cursor)  # behind the gap since that cursor
            assert charges(found) == [(first, None)]
            events.clear()
            tws.charge(correction)
            await eventually(lambda: events == ["AAPL"])
            assert charges(await broker.snapshot(found.fills_cursor)) == [(first, COMMISSION)]


# -- what does nothing -------------------------------------------------------------------------------------------


def row(exec_id: str, amount: str) -> list[str]:
    return ["59", "1", exec_id, amount, "USD", UNSET, UNSET, ""]


NOTHING: dict[str, Callable[[str], list[str]]] = {
    "of an unknown execution": lambda _: row("0000e0d5.99.01.01", "1.0"),
    "of another revision": lambda fill_id: row(fill_id.removesuffix("01") + "02", "1.0"),
    "not known yet": lambda fill_id: row(fill_id, UNSET),
    "empty": lambda fill_id: row(fill_id, ""),
    "NaN": lambda fill_id: row(fill_id, "NaN"),
    "not quite the number for unset": lambda fill_id: row(fill_id, "1.797e308"),
    "cut": lambda fill_id: row(fill_id, "1.0")[:5],
}


@pytest.mark.parametrize("what", NOTHING)
async def test_a_row_that_has_no_commission_of_a_fill_wakes_nobody_and_gives_nothing(what: str) -> None:
    events: list[str | None] = []
    with simulated(orders_by=CLIENT) as tws:
        async with connected(tws, on_event=events.append, full_every_s=240) as broker:
            fill, cursor = await uncharged(tws, broker)
            events.clear()
            tws.send_row(NOTHING[what](fill.fill_id))
            assert charges(await broker.snapshot(cursor)) == []
            assert events == []
            tws.charge(fill.fill_id)
            await eventually(lambda: events == ["AAPL"])
            assert charges(await broker.snapshot(cursor)) == [(fill.fill_id, COMMISSION)]


async def test_one_of_another_account_of_the_login_does_nothing() -> None:
    """PEERS 2"""
    events: list[str | None] = []
    other = ib_wire.ExecutionRow(
        "DU2", ib_wire.contract_named("AAPL"), "e0.f1.01.01", "20260105-12:00:01", "BOT", D(1), D(9), 77, 17, 5, D(1),
        D(9), "",
    )  # fmt: skip
    with simulated(orders_by=CLIENT, accounts=("DU1", "DU2")) as tws:
        tws.add_row("reqExecutions", ib_wire.execution(other, 1, 178))
        async with connected(tws, on_event=events.append) as broker:
            cursor = (await broker.snapshot(None)).fills_cursor
            assert fill_ids(await broker.snapshot(cursor)) == []
            tws.send_row(ib_wire.commission("e0.f1.01.01", COMMISSION))
            assert (charges(await broker.snapshot(cursor)), events) == ([], [])


async def test_one_reported_twice_wakes_once_and_is_given_once() -> None:
    events: list[str | None] = []
    with simulated(orders_by=CLIENT) as tws:
        async with connected(tws, on_event=events.append, full_every_s=240) as broker:
            fill, cursor = await uncharged(tws, broker)
            events.clear()
            tws.charge(fill.fill_id)
            tws.charge(fill.fill_id)
            found = await broker.snapshot(cursor)
            assert charges(found) == [(fill.fill_id, COMMISSION)]
            tws.send_row(ib_wire.commission(fill.fill_id, D(2)))
            assert charges(await broker.snapshot(found.fills_cursor)) == []
            assert events == ["AAPL"]


async def test_nothing_is_vouched_for_while_a_commission_is_to_be_given() -> None:
    """FEATURES 24"""
    events: list[str | None] = []
    async with streamed(events) as (tws, broker, _):
        tws.orders_by = CLIENT
        fill, cursor = await uncharged(tws, broker)
        await broker.snapshot(cursor)  # what was pushed of the trade after its fill was read
        tws.send_row(row("0000e0d5.99.01.01", "1.0"))
        await broker.ping()
        assert broker.undisturbed() is not None
        events.clear()
        tws.charge(fill.fill_id)
        await eventually(lambda: events == ["AAPL"])
        assert broker.undisturbed() is None
        assert charges(await broker.snapshot(cursor)) == [(fill.fill_id, COMMISSION)]
        assert broker.undisturbed() is not None


# -- into the journal --------------------------------------------------------------------------------------------


@dataclass
class World:
    """A simulated TWS and the actors that follow it by its stream, the interval being far away."""

    tws: IbSimulator
    broker: IbBroker
    audit: Audit
    instrument: Instrument

    async def events(self, kind: EventType) -> list[dict[str, Any]]:
        records = await self.audit.records(stream="options/AAPL", limit=10_000)
        return [dict(record.event.payload) for record in records if record.event.type is kind]

    async def journaled(self, kind: EventType, count: int = 1) -> list[dict[str, Any]]:
        async with asyncio.timeout(PATIENCE_S):
            while len(found := await self.events(kind)) < count:
                await asyncio.sleep(0.01)
        return found


@asynccontextmanager
async def a_world(directory: Path) -> AsyncIterator[World]:
    runtime = LocalRuntime(now, time.monotonic, random.Random(5).random)  # noqa: S311 - the same each time
    audit = Audit(f"sqlite:///{directory}/journal.db")
    await audit.open()
    runtime.register(AUDIT, audit)
    with simulated(orders_by=CLIENT, clock=now, instruments=["AAPL"]) as tws:
        async with connected(tws, connect=False, full_every_s=240, instruments=("AAPL",)) as broker:
            account = Account(
                AccountSettings("options", "ib", frozenset({"AAPL"}), patience_s=5.0), lambda: broker, runtime
            )
            policy = Policy(settle=timedelta(0), confirm_gap=timedelta(milliseconds=50), conventions=CONVENTIONS["ib"])
            instrument = Instrument(InstrumentSettings("options", "AAPL", 300.0, 10.0, policy), runtime)
            runtime.register("options", account)
            runtime.register("options/AAPL", instrument)
            await account.start()
            await instrument.start()
            world = World(tws, broker, audit, instrument)
            try:
                await world.journaled(EventType.RECONCILED)
                await eventually(lambda: broker.on_event is not None and broker.in_touch)
                yield world
                assert (await audit.verify()).ok
            finally:
                await instrument.stop()
                await account.close()
    await audit.close()


async def charge_twice(world: World, fill_id: str) -> None:
    world.tws.charge(fill_id)
    world.tws.charge(fill_id)


async def charge_once(world: World, fill_id: str) -> None:
    world.tws.charge(fill_id)


async def charge_while_away(world: World, fill_id: str) -> None:
    world.tws.drop()
    world.tws.charge(fill_id)


async def charge_after_a_reconnect(world: World, fill_id: str) -> None:
    connects = world.tws.requests.count("connect")
    world.tws.drop()
    await eventually(lambda: world.tws.requests.count("connect") > connects and world.broker.in_touch)
    await world.instrument.reconcile_now()
    world.tws.charge(fill_id)


async def charge_after_a_mistake(world: World, fill_id: str) -> None:
    world.tws.send_row(row(fill_id, UNSET))
    world.tws.send_row(row(fill_id, "NaN"))
    world.tws.charge(fill_id)


async def never(_: World, __: str) -> None:
    pass


SCENARIOS: list[tuple[Callable[[World, str], Awaitable[None]], int]] = [
    (charge_once, 1),
    (charge_twice, 1),
    (charge_while_away, 1),
    (charge_after_a_reconnect, 1),
    (charge_after_a_mistake, 1),
    (never, 0),
]


@pytest.mark.parametrize(("charge", "times"), SCENARIOS, ids=[scenario.__name__ for scenario, _ in SCENARIOS])
async def test_a_commission_reported_after_its_fill_was_journaled_is_journaled_once(
    tmp_path: Path, charge: Callable[[World, str], Awaitable[None]], times: int
) -> None:
    """PEERS 13, FEATURES 24"""
    async with a_world(tmp_path) as world:
        world.tws.charges_late = True
        order = world.tws.trade("AAPL", Side.BUY, D(10))
        (filled,) = await world.journaled(EventType.ORDER_FILLED)
        assert filled["commission"] is None
        await charge(world, filled["fill_id"])
        found = await world.journaled(EventType.COMMISSION_REPORTED, times)
        for _ in range(2):
            assert (await world.instrument.reconcile_now()).status == "SUCCESS"
        assert found == await world.events(EventType.COMMISSION_REPORTED)
        charges_by_fill = (
            {key: found[0][key] for key in ("fill_id", "broker_order_id", "commission", "commission_currency")}
            if found
            else {}
        )
        expected = {
            "fill_id": filled["fill_id"],
            "broker_order_id": order,
            "commission": "1",
            "commission_currency": "USD",
        }
        assert charges_by_fill == (expected if times else {})
        assert len(await world.events(EventType.ORDER_FILLED)) == 1
