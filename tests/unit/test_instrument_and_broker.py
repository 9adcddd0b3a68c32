"""The instrument actor and its broker: what an answer says, what it does not, and what is said while it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.book.policy import Correct
from actors.events import EventType
from actors.instrument.actor import CycleTrigger
from brokers.model import (
    Failed,
    Partial,
    SectionName,
    Unsupported,
)
from tests.unit.fakes import (
    EURUSD,
    FX,
    QUICK,
    House,
    a_house,
    found,
    malformed,
    passes,
    quantities,
    refused,
    unreachable,
    until,
)
from tests.unit.instrument_cases import (
    AT_ONCE,
    a_fill,
    an_order,
    in_memory,
    last,
    open_orders,
    verdict,
)
from tests.unit.virtual_time import virtual_time


@pytest.mark.parametrize(
    "answer",
    [
        lambda b: setattr(b, "failing", unreachable()),
        lambda b: setattr(b, "failing", refused()),
        lambda b: setattr(b, "failing", malformed()),
        lambda b: setattr(b, "failing", KeyError("a bug")),
        lambda b: b.gate.clear(),
        lambda b: b.sections.update({SectionName.POSITIONS: Failed("timed out")}),
        lambda b: b.sections.update({SectionName.POSITIONS: Partial(())}),
        lambda b: b.sections.update({name: Failed("timed out") for name in SectionName}),
        lambda b: b.sections.update({SectionName.POSITIONS: Unsupported()}),
    ],
    ids=["unreachable", "refused", "malformed", "bug", "hangs", "failed", "partial", "all failed", "unsupported"],
)
@virtual_time
async def test_no_answer_ever_shrinks_a_book(tmp_path: Path, answer: Callable[[Any], None]) -> None:
    """PEERS 1, FEATURES 12: a broker that is off degrades and never crashes."""
    async with a_house(tmp_path, interval_s=30.0, policy=AT_ONCE) as house:
        house.broker.hold(100)
        house.broker.order("1", client_id="c1")
        await house.start()
        await passes(1)
        before = in_memory(house)
        answer(house.broker)
        house.broker.held.clear()
        house.broker.rows.clear()
        await passes(95)
        report = await verdict(house)
        assert report.status in ("DEGRADED", "PARTIAL", "SUCCESS")
        assert quantities(report) == {"net": "100"}
        after = in_memory(house)
        assert (after["legs"]) == (before["legs"])
        house.broker.gate.set()


@virtual_time
async def test_an_empty_answer_closes_nothing_at_first_sight(tmp_path: Path) -> None:
    """PEERS 1, law 4: a ghost is closed after two looks, half a second apart."""
    async with a_house(tmp_path) as house:
        house.broker.hold(100)
        await verdict(house)
        house.broker.hold(0)
        first = await house.instrument().check()
        assert first.status == "SUCCESS", "not due yet: nothing was looked at"
        report = await house.instrument().cycle(CycleTrigger(house.clock()))
        assert quantities(report) == {"net": "100"}
        assert found(report) == ["NAKED_POSITION!"]
        house.broker.hold(100)
        assert (await verdict(house)).status == "SUCCESS"
        house.broker.hold(0)
        report = await verdict(house)
        assert (report.status, quantities(report), report.passes) == ("SUCCESS", {}, 2)
        assert found(report) == ["NAKED_POSITION"]


@virtual_time
async def test_the_same_instrument_in_two_accounts_is_two_books(tmp_path: Path) -> None:
    """PEERS 2"""
    async with a_house(tmp_path) as house:
        house.broker.hold(5)
        await verdict(house)
        other = House(tmp_path)
        other.runtime, other.audit, other.clock = house.runtime, house.audit, house.clock
        settings = replace(house.account_settings, account="fx2")
        from actors.account.actor import Account
        from actors.instrument.actor import Instrument

        other.broker.clock = house.clock
        other.broker.hold(-7)
        house.runtime.register("fx2", Account(settings, other.open_broker, house.runtime))
        second = Instrument(replace(house.instrument_settings(EURUSD), account="fx2"), house.runtime)
        house.runtime.register("fx2/EURUSD", second)
        assert quantities(await second.reconcile_now()) == {"net": "-7"}
        assert quantities(await verdict(house)) == {"net": "5"}
        assert (await house.kinds("fx2/EURUSD"))[-1] is EventType.RECONCILED


@virtual_time
async def test_a_fill_recorded_while_a_cycle_waits_for_its_slice_is_not_undone(tmp_path: Path) -> None:
    """PEERS 11: the slice is from before, and the book is ahead of it."""
    async with a_house(tmp_path, policy=AT_ONCE) as house:
        house.broker.hold(100)
        await verdict(house)
        house.broker.gate.clear()
        cycle = asyncio.create_task(verdict(house))
        await until(lambda: house.broker.snapshots == 2)
        await passes(0.1)
        trade = house.broker.trade(50)
        assert await house.instrument().record([a_fill(trade.fill_id, 50, house)]) == 1
        house.broker.gate.set()
        report = await cycle
        assert quantities(report) == {"net": "150"}
        assert not report.discrepancies
        synced = [event for event in await house.events() if event.type is EventType.POSITION_SYNCED]
        assert len(synced) == 1, "the one at the start"


@virtual_time
async def test_an_order_recorded_while_a_cycle_waits_is_not_given_up(tmp_path: Path) -> None:
    """PEERS 11, PEERS 12"""
    async with a_house(tmp_path) as house:
        await verdict(house)
        house.broker.gate.clear()
        cycle = asyncio.create_task(house.instrument().cycle(CycleTrigger(house.clock())))
        await until(lambda: house.broker.snapshots == 2)
        await passes(0.1)
        await house.instrument().record([an_order("c1", house)])
        house.broker.gate.set()
        report = await cycle
        assert [order["status"] for order in open_orders(report)] == ["PENDING_SUBMIT"]
        house.broker.order("7", client_id="c1")
        report = await verdict(house)
        assert (report.status, [o["status"] for o in open_orders(report)]) == ("SUCCESS", ["OPEN"])


@virtual_time
async def test_fills_during_a_lost_connection_are_explained_and_not_drift(tmp_path: Path) -> None:
    """PEERS 13, PEERS 14"""
    async with a_house(tmp_path) as house:
        house.broker.hold(10)
        await house.start()
        await passes(1)
        house.broker.failing = unreachable()
        await house.instrument().wake()
        await passes(1)
        house.broker.trade(5)
        house.broker.failing = None
        await passes(31)
        events = await house.events()
        assert EventType.ORDER_FILLED in [event.type for event in events]
        assert [e.payload["cause"] for e in events if e.payload.get("type") == "MISSED_FILL"] == ["EXTERNAL_TRADE"]
        assert quantities(await last(house)) == {"net": "15"}
        assert not [event for event in events if event.payload.get("type") == "POSITION_MISMATCH"]


@virtual_time
async def test_orders_and_closes_by_others_are_seen_while_running(tmp_path: Path) -> None:
    """PEERS 14"""
    async with a_house(tmp_path, interval_s=10.0) as house:
        house.broker.hold(10)
        await house.start()
        await passes(1)
        house.broker.order("77", 40)
        house.broker.hold(0)
        await passes(30)
        types = {event.payload.get("type") for event in await house.events()}
        assert {"EXTERNAL_ORDER", "NAKED_POSITION"} <= types
        report = await last(house)
        assert (report.status, quantities(report)) == ("SUCCESS", {})
        assert [order["broker_order_id"] for order in open_orders(report)] == ["77"]


@virtual_time
async def test_an_order_whose_confirmation_was_lost_is_settled_later(tmp_path: Path) -> None:
    """FEATURES 23, PEERS 12"""
    async with a_house(tmp_path, interval_s=10.0) as house:
        await house.start()
        await passes(1)
        await house.instrument().record([an_order("c1", house)])
        house.broker.order("7", client_id="c1")
        house.broker.trade(100, order_id="7")
        await passes(30)
        report = await last(house)
        assert (report.status, quantities(report), open_orders(report)) == ("SUCCESS", {"net": "100"}, [])


@virtual_time
async def test_an_order_is_not_given_up_while_the_lookup_fails(tmp_path: Path) -> None:
    """PEERS 12: an error is not an absence."""
    async with a_house(tmp_path, interval_s=10.0) as house:
        house.broker.order("7", client_id="c1")
        await house.start()
        await passes(1)
        house.broker.forgotten.add("7")
        house.broker.find_failure = "timed out"
        await passes(100)
        report = await last(house)
        assert report.unverified
        assert "could not be looked up" in (report.error or "")
        assert len(open_orders(report)) == 1
        house.broker.find_failure = None
        await passes(30)
        assert open_orders(await last(house)) == []
        assert EventType.ORDER_CANCELLED in await house.kinds()


@virtual_time
async def test_a_mismatch_that_keeps_coming_back_stays_open_and_is_shown_each_time(tmp_path: Path) -> None:
    """PEERS 16, PEERS 10"""
    async with a_house(tmp_path, policy=replace(QUICK, correct=Correct.ALERT), interval_s=10.0) as house:
        house.broker.hold(5)
        await house.start()
        await passes(1000)
        report = await last(house)
        assert (report.status, found(report), quantities(report)) == ("PARTIAL", ["MISSING_LOCALLY!"], {})
        health = await house.instrument().health()
        assert health.statistics.discrepancies == 1
        assert len([k for k in await house.kinds() if k is EventType.RECONCILIATION_DISCREPANCY]) == 1


@virtual_time
async def test_a_book_unverified_for_too_long_is_a_discrepancy_and_then_a_critical_one(tmp_path: Path) -> None:
    """PEERS 16, FEATURES 9: whatever the reason, the account actor's own death among them."""
    policy = replace(QUICK, max_age=timedelta(seconds=60), unverified=timedelta(seconds=180))
    async with a_house(tmp_path, interval_s=10.0, policy=policy) as house:
        await house.start()
        await passes(1)
        await house.runtime.kill(FX)
        await passes(120)
        assert [(d.found.type, d.found.severity) for d in (await last(house)).discrepancies] == [
            ("STALE_DATA", "WARNING")
        ]
        await passes(120)
        assert [d.found.severity for d in (await last(house)).discrepancies] == ["CRITICAL"]
        await house.replace_account()
        await passes(20)
        assert (await last(house)).status == "SUCCESS"


@virtual_time
async def test_being_restarted_does_not_make_a_book_look_verified(tmp_path: Path) -> None:
    """PEERS 16: an actor that dies every minute must not put the alert off for ever."""
    policy = replace(QUICK, max_age=timedelta(seconds=60), unverified=timedelta(seconds=180))
    async with a_house(tmp_path, interval_s=10.0, policy=policy) as house:
        await verdict(house)
        house.broker.failing = unreachable()
        for _ in range(6):
            await passes(50)
            await house.replace_instrument()
        report = await verdict(house)
        assert [(d.found.type, d.found.severity) for d in report.discrepancies] == [("STALE_DATA", "CRITICAL")]
