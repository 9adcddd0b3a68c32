"""What the instrument actor counts and keeps, and what it changes only where it may."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from actors.book.policy import Correct
from actors.events import EventType
from actors.instrument.actor import CHECKPOINT_EVERY
from tests.unit.fakes import (
    QUICK,
    a_house,
    found,
    passes,
    quantities,
    unreachable,
)
from tests.unit.instrument_cases import (
    AT_ONCE,
    STREAM,
    a_fill,
    an_order,
    in_memory,
    last,
    verdict,
)
from tests.unit.virtual_time import virtual_time


@virtual_time
async def test_statistics_count_cycles_and_each_discrepancy_once(tmp_path: Path) -> None:
    """FEATURES 9, FEATURES 20"""
    async with a_house(tmp_path, interval_s=10.0) as house:
        house.broker.hold(5)
        await house.start()
        await passes(1)
        house.broker.hold(-5)
        await passes(10)
        house.broker.failing = unreachable()
        await passes(40)
        house.broker.failing = None
        await passes(20)
        seen = (await house.instrument().health()).statistics
        assert seen.by_type == {"MISSING_LOCALLY": 1, "POSITION_MISMATCH": 1}
        assert (seen.discrepancies, seen.critical, seen.corrections) == (2, 1, 2)
        assert seen.success_rate == seen.successes / seen.cycles
        assert 0 < seen.success_rate < 1
        assert seen.longest_cycle_ms >= seen.mean_cycle_ms >= 0


@virtual_time
async def test_a_break_that_stays_open_over_an_outage_counts_once(tmp_path: Path) -> None:
    """FEATURES 9"""
    async with a_house(tmp_path, policy=replace(QUICK, correct=Correct.ALERT), interval_s=10.0) as house:
        house.broker.hold(5)
        await house.start()
        await passes(5)
        await house.lose_audit()
        house.instrument().keeper.book = None
        await passes(30)
        await house.open_audit()
        await passes(30)
        assert (await house.instrument().health()).statistics.discrepancies == 1


@virtual_time
async def test_the_last_thousand_entries_are_at_hand_in_less_than_a_megabyte(tmp_path: Path) -> None:
    """FEATURES 14"""
    async with a_house(tmp_path) as house:
        await verdict(house)
        for number in range(60):
            await house.instrument().record([a_fill(f"f{number}-{n}", 1, house) for n in range(20)])
        entries = await house.instrument().recent()
        assert len(entries) == 1_000
        assert [e["payload"]["fill_id"] for e in entries[-2:]] == ["f59-18", "f59-19"]  # type: ignore[index]  # JSON
        assert await house.instrument().recent(2) == entries[-2:]
        assert await house.instrument().recent(0) == []
        assert sum(len(json.dumps(entry, separators=(",", ":"))) for entry in entries) < 1_000_000
        whole = await house.kinds()
        assert len(whole) > 1_200


@virtual_time
async def test_after_a_restart_recent_entries_come_from_the_journal(tmp_path: Path) -> None:
    """FEATURES 14, FEATURES 7"""
    async with a_house(tmp_path) as house:
        await verdict(house)
        await house.instrument().record([a_fill("f1", 1, house)])
        before = await house.instrument().recent()
        again = await house.replace_instrument()
        await again.record([a_fill("f1", 1, house)])
        assert await again.recent() == before


@virtual_time
async def test_checkpoints_bound_what_a_restart_reads_and_give_the_same_book(tmp_path: Path) -> None:
    """FEATURES 20, FEATURES 7"""
    async with a_house(tmp_path) as house:
        await verdict(house)
        for number in range(CHECKPOINT_EVERY + 20):
            await house.instrument().record([a_fill(f"f{number}", 1, house)])
        kinds = await house.kinds()
        assert kinds.count(EventType.CHECKPOINT) == 1
        tail = await house.audit.load(STREAM)
        assert len(tail.records) < CHECKPOINT_EVERY
        before = in_memory(house)
        await (await house.replace_instrument()).record([])
        assert in_memory(house) == before


@virtual_time
async def test_restored_after_a_restart_from_the_journal(tmp_path: Path) -> None:
    """FEATURES 7, PEERS 15: an entry still open, and fills before and after."""
    async with a_house(tmp_path) as house:
        house.broker.order("7", client_id="c1")
        house.broker.trade(40, order_id="7")
        await verdict(house)
        await house.instrument().record([an_order("c2", house)])
        events = len(await house.events())
        house.broker.trade(20, order_id="7")
        await house.replace_instrument()
        await house.replace_account()
        report = await verdict(house)
        assert quantities(report) == {"net": "60"}
        new = (await house.events())[events:]
        assert [event.payload.get("fill_id") for event in new if event.type is EventType.ORDER_FILLED] == ["F2"]
        await house.replace_instrument()
        again = len(await house.events())
        assert (await verdict(house)).status in ("SUCCESS", "PARTIAL")
        assert [e.type for e in (await house.events())[again:] if e.type is EventType.ORDER_FILLED] == []


@virtual_time
async def test_detect_drift_shows_every_difference_and_changes_nothing(tmp_path: Path) -> None:
    """FEATURES 11"""
    async with a_house(tmp_path) as house:
        house.broker.hold(5)
        house.broker.order("1")
        await verdict(house)
        before, events = in_memory(house), await house.events()
        health = await house.instrument().health()
        house.broker.hold(8)
        house.broker.order("1", 200)
        house.broker.order("2")
        report = await house.instrument().detect_drift()
        assert report.status == "PARTIAL"
        assert found(report) == ["ORDER_STATUS_MISMATCH!", "EXTERNAL_ORDER!", "POSITION_MISMATCH!"]
        assert quantities(report) == {"net": "5"}
        assert in_memory(house) == before
        assert await house.events() == events
        assert await house.instrument().health() == replace(
            health, cycle_age_s=(await house.instrument().health()).cycle_age_s
        )


@virtual_time
async def test_detect_drift_needs_no_journal_once_the_book_is_there(tmp_path: Path) -> None:
    """FEATURES 11, FEATURES 21"""
    async with a_house(tmp_path) as house:
        await verdict(house)
        await house.lose_audit()
        house.broker.hold(5)
        assert found(await house.instrument().detect_drift()) == ["MISSING_LOCALLY!"]
        await house.open_audit()


@pytest.mark.parametrize("cancel", [False, True])
@virtual_time
async def test_a_stale_order_is_cancelled_only_where_the_configuration_asks_for_it(
    tmp_path: Path, cancel: bool
) -> None:
    """FEATURES 22, FEATURES 6: nothing else is ever sent that changes anything at a broker."""
    policy = replace(QUICK, stale_order=timedelta(seconds=60), cancel_stale_orders=cancel)
    async with a_house(tmp_path, policy=policy, interval_s=10.0) as house:
        house.broker.order("1")
        await house.start()
        await passes(50)
        assert house.broker.cancelled == []
        assert (await house.instrument().detect_drift()).status == "SUCCESS"
        await passes(200)
        assert [query.broker_order_id for query in house.broker.cancelled] == (["1"] if cancel else [])
        assert found(await last(house)) == ["STALE_ORDER!"]
        await house.instrument().detect_drift()
        await house.replace_instrument()
        await verdict(house)
        assert len(house.broker.cancelled) == cancel, "asked for once, over a restart as well"


@virtual_time
async def test_the_trading_process_is_never_interfered_with(tmp_path: Path) -> None:
    """FEATURES 22: whatever is wrong, nothing is sent that changes anything."""
    async with a_house(tmp_path, interval_s=10.0, policy=AT_ONCE) as house:
        await house.start()
        for step in range(30):
            house.broker.hold((step % 5) - 2)
            house.broker.order(str(step % 4), 10 + step)
            house.broker.failing = unreachable() if step % 7 == 0 else None
            await passes(11)
        assert house.broker.cancelled == []
