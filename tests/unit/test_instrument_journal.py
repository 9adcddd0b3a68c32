"""The instrument actor and the journal: nothing is applied that is not durable, and nothing twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from actors.events import Event, EventType, Severity
from actors.journal.client import JournalAway
from actors.journal.types import JournalUnavailable
from brokers.model import (
    Side,
)
from tests.unit.fakes import (
    EURUSD,
    FX,
    a_house,
    for_ever,
    passes,
    quantities,
    until,
)
from tests.unit.instrument_cases import (
    AT_ONCE,
    STREAM,
    a_fill,
    a_position,
    in_memory,
    last,
    replayed,
    verdict,
)
from tests.unit.virtual_time import virtual_time


@virtual_time
async def test_while_the_journal_is_away_nothing_is_applied_and_then_it_goes_on(tmp_path: Path) -> None:
    """Law 2. A journal that cannot be written stops corrections and is reported as such."""
    async with a_house(tmp_path, interval_s=10.0) as house:
        house.broker.hold(5)
        await house.start()
        await passes(1)
        await house.lose_audit()
        house.broker.hold(9)
        await passes(30)
        report = await last(house)
        assert (report.status, quantities(report)) == ("DEGRADED", {"net": "5"})
        assert "journal" in (report.error or "")
        with pytest.raises(JournalAway):
            await house.instrument().record([a_fill("f", 1, house)])
        assert quantities(await last(house)) == {"net": "5"}
        await house.open_audit()
        await passes(20)
        assert quantities(await last(house)) == {"net": "9"}


@virtual_time
async def test_a_disk_that_is_full_is_said_in_words(tmp_path: Path) -> None:
    """Law 2"""
    async with a_house(tmp_path) as house:
        await verdict(house)

        async def full() -> None:
            raise JournalUnavailable("append 3 events", "the disk is full", "Make room")

        house.post.before[("audit", "append")] = full
        house.broker.hold(9)
        report = await verdict(house)
        assert (report.status, quantities(report)) == ("DEGRADED", {})
        assert "the disk is full" in (report.error or "")
        house.post.before.clear()
        assert quantities(await verdict(house)) == {"net": "9"}


@virtual_time
async def test_an_append_whose_answer_was_lost_is_not_applied_twice(tmp_path: Path) -> None:
    """Law 8: it timed out and was durable all the same."""
    async with a_house(tmp_path, cycle_timeout_s=60.0) as house:
        house.broker.hold(10)
        await verdict(house)
        house.broker.trade(5)
        house.post.after[("audit", "append")] = for_ever
        report = await verdict(house)
        assert (report.status, quantities(report)) == ("DEGRADED", {"net": "10"})
        house.post.after.clear()
        report = await verdict(house)
        assert (report.status, quantities(report)) == ("SUCCESS", {"net": "15"})
        fills = [event for event in await house.events() if event.type is EventType.ORDER_FILLED]
        assert len(fills) == 1
        assert in_memory(house) == await replayed(house)


@virtual_time
async def test_what_was_recorded_with_a_lost_answer_and_then_otherwise_is_what_was_said_last(tmp_path: Path) -> None:
    """Law 2: both reports have the same place in the stream; the second must not pass for the first."""
    async with a_house(tmp_path) as house:
        await verdict(house)
        house.post.after[("audit", "append")] = for_ever
        with pytest.raises(JournalAway):
            await house.instrument().record([a_position(5)])
        house.post.after.clear()
        assert await house.instrument().record([a_position(7)]) == 1
        assert in_memory(house) == await replayed(house)
        book = house.instrument().keeper.book
        assert book is not None
        assert {name: leg.quantity for name, leg in book.legs.items()} == {"net": 7}


@virtual_time
async def test_a_fill_reported_again_after_a_lost_answer_counts_once(tmp_path: Path) -> None:
    """Law 5"""
    async with a_house(tmp_path) as house:
        await verdict(house)
        house.post.after[("audit", "append")] = for_ever
        with pytest.raises(JournalAway):
            await house.instrument().record([a_fill("f", 5, house)])
        house.post.after.clear()
        await house.instrument().record([a_fill("f", 5, house)])
        assert in_memory(house) == await replayed(house)
        book = house.instrument().keeper.book
        assert book is not None
        assert {name: leg.quantity for name, leg in book.legs.items()} == {"net": 5}


@virtual_time
async def test_a_second_incarnation_is_fenced_reloads_and_goes_on(tmp_path: Path) -> None:
    """Law 8"""
    async with a_house(tmp_path) as house:
        house.broker.hold(10)
        await verdict(house)
        zombie, living = house.instrument(), house.second()
        await living.record([a_fill("f1", 5, house)])
        await zombie.record([a_fill("f2", 3, house)])
        await living.record([a_fill("f1", 5, house), a_fill("f2", 3, house)])
        house.broker.hold(18)
        await passes(10)
        for actor in (zombie, living, zombie):
            report = await actor.reconcile_now()
            assert (report.status, quantities(report)) == ("SUCCESS", {"net": "18"})
        assert in_memory(house) == await replayed(house)


@virtual_time
async def test_two_incarnations_that_record_at_the_same_place_both_have_what_the_journal_has(tmp_path: Path) -> None:
    """Law 8: what they said is of one kind, of one leg, at one version, and not the same."""
    async with a_house(tmp_path) as house:
        await verdict(house)
        first, second = house.instrument(), house.second()
        await second.record([])
        await first.record([a_position(5)])
        await second.record([a_position(7)])
        records = await house.audit.records(stream=STREAM)
        assert [r.event.payload.get("quantity") for r in records if r.event.type is EventType.POSITION_RECORDED] == [
            "5",
            "7",
        ]
        await passes(10)
        house.broker.hold(7)
        assert quantities(await first.reconcile_now()) == {"net": "7"}
        assert in_memory(house) == await replayed(house)


@virtual_time
async def test_a_slice_that_comes_after_the_actor_was_fenced_meets_the_book_as_it_then_is(tmp_path: Path) -> None:
    """Law 8, PEERS 11"""
    async with a_house(tmp_path, policy=AT_ONCE) as house:
        house.broker.hold(10)
        await verdict(house)
        house.broker.trade(3)
        house.broker.gate.clear()
        cycle = asyncio.create_task(verdict(house))
        await until(lambda: house.broker.snapshots == 2)
        await passes(0.1)
        trade = house.broker.trade(5)
        await house.second().record([a_fill(trade.fill_id, 5, house)])
        house.broker.gate.set()
        report = await cycle
        assert (report.status, quantities(report)) == ("SUCCESS", {"net": "18"})
        assert (await verdict(house)).status == "SUCCESS"
        assert in_memory(house) == await replayed(house)


@virtual_time
async def test_a_record_that_is_fenced_while_a_cycle_waits_does_not_break_that_cycle(tmp_path: Path) -> None:
    """Law 8: the unchanged slice it gets is of a revision that was known when it asked."""
    async with a_house(tmp_path, policy=AT_ONCE) as house:
        house.broker.hold(10)
        await verdict(house)
        await house.second().record([a_position(10)])
        house.broker.gate.clear()
        await passes(1)
        cycle = asyncio.create_task(verdict(house))
        await until(lambda: house.broker.snapshots >= 2)
        await passes(0.1)
        await house.instrument().record([a_position(10)])
        house.broker.gate.set()
        report = await cycle
        assert (report.status, quantities(report), report.error) == ("SUCCESS", {"net": "10"}, None)


@virtual_time
async def test_a_cycle_cut_off_between_the_journal_and_the_book_loses_nothing(tmp_path: Path) -> None:
    """Law 2: the cycle's time is over after the events became durable and before it heard so."""
    async with a_house(tmp_path, cycle_timeout_s=5.0) as house:
        house.broker.hold(10)
        await verdict(house)
        house.broker.trade(5)
        house.post.after[("audit", "append")] = for_ever
        report = await verdict(house)
        assert report.status == "DEGRADED"
        assert "did not end within 5 s" in (report.error or "")
        house.post.after.clear()
        report = await verdict(house)
        assert (report.status, quantities(report)) == ("SUCCESS", {"net": "15"})
        assert in_memory(house) == await replayed(house)


@virtual_time
async def test_a_repeated_append_writes_once(tmp_path: Path) -> None:
    """Law 5"""
    async with a_house(tmp_path) as house:
        house.post.twice.add(("audit", "append"))
        house.broker.hold(10)
        assert quantities(await verdict(house)) == {"net": "10"}
        assert len(await house.events()) == 3
        assert in_memory(house) == await replayed(house)


@pytest.mark.parametrize("victim", [STREAM, FX])
@virtual_time
async def test_killed_at_any_await_it_comes_back_to_the_same_book(tmp_path: Path, victim: str) -> None:
    """PEERS 15, FEATURES 7, law 2"""
    chance = Random(3)  # noqa: S311 - the same campaign each time
    async with a_house(tmp_path, interval_s=5.0, policy=AT_ONCE) as house:
        await house.start()
        for step in range(40):
            house.broker.trade(1 + step % 3, side=Side.BUY if step % 4 else Side.SELL)
            await house.instrument().wake()
            for _ in range(chance.randrange(25)):
                await asyncio.sleep(0)
            if victim == FX:
                await (await house.replace_account()).start()
            else:
                await (await house.replace_instrument()).start()
            await passes(chance.random())
        await passes(20)
        report = await verdict(house)
        held = house.broker.held[(EURUSD, "net")]
        assert (report.status, quantities(report)) == ("SUCCESS", {"net": str(held.quantity)})
        fills = [e.payload["fill_id"] for e in await house.events() if e.type is EventType.ORDER_FILLED]
        assert len(fills) == len(set(fills))
        assert in_memory(house) == await replayed(house)


@virtual_time
async def test_a_record_that_cannot_be_read_is_reported_with_its_number_and_gives_no_book(tmp_path: Path) -> None:
    """PEERS 1: unknown is never flat, and nothing is written after what is not known."""
    async with a_house(tmp_path, interval_s=10.0) as house:
        foreign = Event("c", EventType.CHECKPOINT, Severity.INFO, house.runtime.now(), {"orders": []})
        named = Event("r", EventType.RECONCILED, Severity.INFO, house.runtime.now(), {"instruments": {EURUSD: 1}})
        await house.audit.append(STREAM, 0, (foreign,))
        await house.audit.append(FX, 0, (named,))
        house.broker.hold(5)
        await house.start()
        await passes(30)
        report = await last(house)
        assert (report.status, report.unverified) == ("DEGRADED", True)
        assert "could not read record 1, a CHECKPOINT (version 1 of fx/EURUSD): it has no 'legs'" in str(report.error)
        assert await house.kinds(STREAM) == [EventType.CHECKPOINT]
