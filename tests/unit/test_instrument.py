"""The instrument actor: cycles, verdicts and reports on a real journal, with a broker that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from actors.book.checkpoint import checkpoint, replay
from actors.book.policy import Correct
from actors.events import EventType
from actors.instrument.actor import CHECKPOINT_EVERY, STOP_WITHIN_S, CycleTrigger
from actors.journal.client import JournalAway
from actors.journal.types import JournalUnavailable
from actors.messages import CycleReport
from actors.names import instrument_name
from actors.reconciliation.own_reports import FillReport, OrderReport, PositionReport, Report
from brokers.model import (
    Conventions,
    Failed,
    LegScheme,
    OrderStatus,
    Partial,
    SectionName,
    Side,
    Unsupported,
)
from supervisor.presentation.json_contract import summary
from tests.unit.builders import order_report
from tests.unit.fakes import (
    EURUSD,
    FX,
    QUICK,
    House,
    a_house,
    for_ever,
    found,
    legs,
    malformed,
    passes,
    problem,
    quantities,
    refused,
    unreachable,
    until,
)
from tests.unit.virtual_time import virtual_time

S = OrderStatus
STREAM = instrument_name(FX, EURUSD)
AT_ONCE = replace(QUICK, settle=timedelta(0))


def a_fill(fill_id: str, quantity: object, house: House, **more: Any) -> FillReport:
    given: dict[str, Any] = {"broker_order_id": None, "side": Side.BUY, "price": Decimal("1.1"), "time": house.clock()}
    return FillReport(EURUSD, fill_id, quantity=Decimal(str(quantity)), **{**given, **more})


def an_order(client_id: str, house: House, quantity: object = 100) -> OrderReport:
    return OrderReport(
        EURUSD,
        client_id,
        None,
        Side.BUY,
        Decimal(str(quantity)),
        "LIMIT",
        Decimal("1.1"),
        S.PENDING_SUBMIT,
        house.clock(),
    )


def a_position(quantity: object) -> PositionReport:
    return PositionReport(EURUSD, "net", Decimal(str(quantity)), Decimal("1.1"))


async def verdict(house: House, name: str = EURUSD) -> CycleReport:
    return await house.instrument(name).reconcile_now()


async def last(house: House, name: str = EURUSD) -> CycleReport:
    report = (await house.instrument(name).health()).report
    assert report is not None
    return report


async def replayed(house: House) -> dict[str, object]:
    """The book that the journal alone makes."""
    records = await house.audit.records(stream=STREAM, limit=100_000)
    return dict(checkpoint(replay(FX, EURUSD, [r for r in records if r.event.type is not EventType.CHECKPOINT])))


def in_memory(house: House) -> dict[str, object]:
    book = house.instrument()._keeper.book
    assert book is not None
    return dict(checkpoint(book))


def open_orders(report: CycleReport) -> list[dict[str, Any]]:
    rows: Any = report.book["open_orders"]
    return list(rows)


# Start, periods, requests


@virtual_time
async def test_at_the_start_what_the_broker_holds_is_taken_into_the_book(tmp_path: Path) -> None:
    """FEATURES 1"""
    async with a_house(tmp_path) as house:
        house.broker.hold(5, "1.25")
        await house.start()
        await passes(1)
        report = await last(house)
        assert (report.status, legs(report), found(report)) == ("SUCCESS", {"net": ("5", "1.25")}, ["MISSING_LOCALLY"])
        assert await house.kinds() == [
            EventType.RECONCILIATION_DISCREPANCY,
            EventType.POSITION_SYNCED,
            EventType.RECONCILED,
        ]


@pytest.mark.parametrize("trade", ["buy", "sell", "close"])
@virtual_time
async def test_right_after_a_trade_it_looks_and_the_events_name_the_trade(tmp_path: Path, trade: str) -> None:
    """FEATURES 2"""
    async with a_house(tmp_path) as house:
        house.broker.hold(10)
        await verdict(house)
        before = len(await house.events())
        house.broker.trade(3, side=Side.BUY if trade == "buy" else Side.SELL)
        report = await house.instrument().reconcile_now(trade=trade)
        assert report.trade == trade
        assert quantities(report) == {"net": "13" if trade == "buy" else "7"}
        new = (await house.events())[before:]
        assert new
        assert {event.payload["trade"] for event in new} == {trade}


@virtual_time
async def test_each_instrument_is_checked_at_an_interval_of_its_own(tmp_path: Path) -> None:
    """FEATURES 3"""
    async with a_house(tmp_path, ["A"], interval_s=300.0) as house:
        house.interval_s = 15.0
        house.names = ("A", "B")
        house._make_instrument("B")
        await house.start()
        await passes(3001)
        cycles = [(await house.instrument(name).health()).statistics.cycles for name in ("A", "B")]
        assert cycles == [11, 201]


@virtual_time
async def test_after_a_lost_connection_it_recovers_by_itself(tmp_path: Path) -> None:
    """FEATURES 4, FEATURES 12"""
    async with a_house(tmp_path) as house:
        house.broker.hold(5)
        house.broker.failing = unreachable()
        await house.start()
        await passes(20)
        report = await last(house)
        assert report.status == "DEGRADED"
        assert "connection refused" in (report.error or "")
        house.broker.failing = None
        await passes(31)
        assert quantities(await last(house)) == {"net": "5"}


@virtual_time
async def test_an_early_check_does_nothing(tmp_path: Path) -> None:
    """FEATURES 15"""
    async with a_house(tmp_path, interval_s=15.0) as house:
        first = await house.instrument().check()
        await passes(14)
        assert await house.instrument().check() == replace(first, throttled=True)
        assert house.broker.snapshots == 1
        await passes(1.1)
        again = await house.instrument().check()
        assert (again.throttled, again.finished_at > first.finished_at) == (False, True)
        assert house.broker.snapshots == 2


@virtual_time
async def test_with_an_interval_of_0_a_check_is_always_due(tmp_path: Path) -> None:
    """FEATURES 15"""
    async with a_house(tmp_path, interval_s=0.0) as house:
        for number in range(1, 4):
            await house.instrument().check()
            assert house.broker.snapshots == number


@virtual_time
async def test_reconcile_now_and_a_summary_in_one_line(tmp_path: Path) -> None:
    """FEATURES 28"""
    async with a_house(tmp_path, ["A", "B"]) as house:
        house.broker.hold(5, instrument="A")
        reports = [await verdict(house, name) for name in house.names]
        assert summary(FX, reports) == "fx: 2 in step of 2, discrepancies: 1 (0 critical)"


@virtual_time
async def test_it_may_be_stopped_and_started_again_without_loss(tmp_path: Path) -> None:
    """FEATURES 28"""
    async with a_house(tmp_path, interval_s=10.0) as house:
        house.broker.hold(5)
        await house.start()
        await passes(25)
        await house.instrument().stop()
        cycles = (await house.instrument().health()).statistics.cycles
        house.broker.hold(6)
        await passes(100)
        assert (await house.instrument().health()).statistics.cycles == cycles
        await house.instrument().start()
        await passes(1)
        assert quantities(await last(house)) == {"net": "6"}
        assert not (await house.instrument().health()).paused


@virtual_time
async def test_stop_does_not_wait_for_a_cycle_that_hangs(tmp_path: Path) -> None:
    """PEERS 7: the supervisor gives a stop 8 s."""
    async with a_house(tmp_path, patience_s=None, cycle_timeout_s=60.0) as house:
        house.broker.gate.clear()
        await house.start()
        await passes(1)
        began = asyncio.get_running_loop().time()
        await house.instrument().stop()
        assert asyncio.get_running_loop().time() - began == pytest.approx(STOP_WITHIN_S, abs=0.1)
        house.broker.gate.set()
        await passes(400)
        assert (await house.instrument().health()).statistics.cycles == 0


@virtual_time
async def test_a_paused_instrument_runs_no_cycle_by_itself_and_one_that_is_asked_for(tmp_path: Path) -> None:
    async with a_house(tmp_path, interval_s=10.0) as house:
        await house.start()
        await passes(1)
        await house.instrument().pause()
        before = (await house.instrument().health()).statistics.cycles
        await house.instrument().wake()
        await passes(100)
        assert (await house.instrument().health()).statistics.cycles == before
        assert (await verdict(house)).status == "SUCCESS"
        house.broker.hold(1)
        await house.instrument().resume()
        await passes(1)
        assert quantities(await last(house)) == {"net": "1"}


@virtual_time
async def test_many_symbols_tick_together_and_one_that_is_broken_holds_up_none(tmp_path: Path) -> None:
    """FEATURES 29, FEATURES 21"""
    names = [f"I{number:02}" for number in range(50)]
    async with a_house(tmp_path, names, interval_s=30.0) as house:
        for name in names:
            house.broker.hold(1, instrument=name)
        stuck = house.instrument("I07")
        await stuck._keeper.turn.acquire()
        await house.start()
        await passes(95)
        for name in names:
            if name != "I07":
                assert (await last(house, name)).status == "SUCCESS"
        assert (await last(house, "I07")).status == "DEGRADED"
        stuck._keeper.turn.release()
        assert house.broker.snapshots <= 5


# What the broker says, and what it does not


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
        report = await house.instrument()._cycle(CycleTrigger(house.clock()))
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
        house.runtime.register("fx2", Account(settings, other._open_broker, house.runtime))
        second = Instrument(replace(house._instrument_settings(EURUSD), account="fx2"), house.runtime)
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
        cycle = asyncio.create_task(house.instrument()._cycle(CycleTrigger(house.clock())))
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


# Statistics and history


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
        house.instrument()._keeper.book = None
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
        assert house.instrument()._keeper._recent._size < 1_000_000
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


# Nothing is changed


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


# The journal


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
        book = house.instrument()._keeper.book
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
        book = house.instrument()._keeper.book
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


# Races


@virtual_time
async def test_two_verdicts_at_once_both_tell_the_truth(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.broker.hold(10)
        await verdict(house)
        house.broker.hold(0)
        both = await asyncio.gather(verdict(house), verdict(house))
        for report in both:
            assert (report.status, quantities(report), found(report)) == ("SUCCESS", {}, ["NAKED_POSITION"])


@virtual_time
async def test_what_the_loop_resolves_between_the_passes_of_a_verdict_is_resolved_in_it(tmp_path: Path) -> None:
    async with a_house(tmp_path, interval_s=10.0) as house:
        house.broker.hold(10)
        await house.start()
        await passes(1)
        house.broker.hold(0)
        asking = asyncio.create_task(verdict(house))
        await passes(0.3)
        await house.instrument().wake()
        report = await asking
        assert (report.status, found(report)) == ("SUCCESS", ["NAKED_POSITION"])


@virtual_time
async def test_an_account_that_restarts_between_the_slice_and_the_lookup_proves_nothing(tmp_path: Path) -> None:
    """PEERS 12"""
    async with a_house(tmp_path, policy=AT_ONCE) as house:
        house.broker.order("7", client_id="c1")
        await verdict(house)
        house.broker.forgotten.add("7")
        house.broker.find_gate.clear()
        cycle = asyncio.create_task(house.instrument()._cycle(CycleTrigger(house.clock())))
        await until(lambda: house.broker.finds == 1)
        await house.replace_account()
        house.broker.find_gate.set()
        report = await cycle
        assert report.unverified
        assert len(open_orders(report)) == 1
        house.broker.forgotten.clear()
        assert (await verdict(house)).status == "SUCCESS"


@virtual_time
async def test_an_account_that_answers_lookups_with_nothing_leaves_the_orders_open(tmp_path: Path) -> None:
    """Law 7: a half answer is no answer, and is told."""
    async with a_house(tmp_path, policy=AT_ONCE) as house:
        house.broker.order("7", client_id="c1")
        await verdict(house)
        house.broker.forgotten.add("7")

        async def nothing(queries: object) -> tuple[()]:
            return ()

        house.account.find_orders = nothing  # type: ignore[method-assign]  # a broken one
        report = await verdict(house)
        assert report.status == "PARTIAL"
        assert "7" in (report.error or "")
        assert len(open_orders(report)) == 1


@virtual_time
async def test_no_answer_in_time_and_then_one(tmp_path: Path) -> None:
    """PEERS 7"""
    async with a_house(tmp_path, patience_s=2.0) as house:
        house.broker.hold(5)
        house.broker.gate.clear()
        report = await verdict(house)
        assert report.status == "DEGRADED"
        assert "has not answered" in (report.error or "")
        house.broker.gate.set()
        await passes(0.1)
        report = await verdict(house)
        assert (report.status, quantities(report)) == ("SUCCESS", {"net": "5"})


@virtual_time
async def test_a_dead_account_degrades_and_its_next_incarnation_is_used(tmp_path: Path) -> None:
    """FEATURES 12, PEERS 8"""
    async with a_house(tmp_path) as house:
        house.broker.hold(5)
        await verdict(house)
        await house.runtime.kill(FX)
        report = await verdict(house)
        assert (report.status, quantities(report)) == ("DEGRADED", {"net": "5"})
        assert "fx did not answer slice" in (report.error or "")
        await house.replace_account()
        house.broker.hold(6)
        assert quantities(await verdict(house)) == {"net": "6"}


@virtual_time
async def test_an_error_of_ours_fails_one_cycle_and_the_next_tries_again(tmp_path: Path) -> None:
    """FEATURES 21"""
    async with a_house(tmp_path, interval_s=10.0) as house:
        await house.start()
        await passes(1)

        async def wrong(request: object) -> object:
            return "an answer of another kind"

        right = house.account.slice
        house.account.slice = wrong  # type: ignore[method-assign, assignment]  # a broken one
        await passes(20)
        report = await last(house)
        assert report.status == "FAILED"
        assert (await house.instrument().health()).statistics.failures > 0
        house.account.slice = right  # type: ignore[method-assign]  # as it was
        await passes(20)
        assert (await last(house)).status == "SUCCESS"


@virtual_time
async def test_an_unreadable_row_is_a_discrepancy_and_the_others_go_on(tmp_path: Path) -> None:
    """FEATURES 21, law 7"""
    async with a_house(tmp_path, ["EURUSD", "GBPUSD"]) as house:
        bad = problem(SectionName.POSITIONS, "EURUSD", "5")
        house.broker.hold(5, instrument="GBPUSD")
        house.broker.sections[SectionName.POSITIONS] = Partial(tuple(house.broker.held.values()), (bad,))
        mine, other = await verdict(house), await verdict(house, "GBPUSD")
        assert (mine.status, found(mine)) == ("PARTIAL", ["MALFORMED_DATA!"])
        assert (other.status, quantities(other)) == ("SUCCESS", {"net": "5"})


@virtual_time
async def test_a_fill_read_beside_an_unreadable_one_is_applied_at_once(tmp_path: Path) -> None:
    """PEERS 4, FEATURES 5"""
    async with a_house(tmp_path, ["EURUSD", "GBPUSD"]) as house:
        await verdict(house)
        await verdict(house, "GBPUSD")
        trade = house.broker.trade(5)
        bad = problem(SectionName.FILLS, "GBPUSD", "9")
        house.broker.sections[SectionName.FILLS] = Partial((trade,), (bad,))
        report = await verdict(house)
        assert quantities(report) == {"net": "5"}
        assert EventType.ORDER_FILLED in await house.kinds()
        house.broker.sections.clear()
        assert (await verdict(house)).status == "SUCCESS"
        fills = [kind for kind in await house.kinds() if kind is EventType.ORDER_FILLED]
        assert len(fills) == 1


@virtual_time
async def test_a_fill_recorded_after_a_restart_joins_the_leg_that_the_account_keeps(tmp_path: Path) -> None:
    """FEATURES 13: before the broker has said how it keeps positions, the book's own legs tell."""
    policy = replace(QUICK, conventions=Conventions(LegScheme.TICKET))
    async with a_house(tmp_path, policy=policy, conventions=Conventions(LegScheme.NET)) as house:
        house.broker.hold(10)
        await verdict(house)
        again = await house.replace_instrument()
        await again.record([a_fill("f", 5, house)])
        book = again._keeper.book
        assert book is not None
        assert {name: leg.quantity for name, leg in book.legs.items()} == {"net": 15}


@virtual_time
async def test_health_answers_while_a_cycle_hangs_and_shows_how_long(tmp_path: Path) -> None:
    """FEATURES 29: never blocking. Health is the age of the last finished cycle."""
    async with a_house(tmp_path, interval_s=10.0, patience_s=None, cycle_timeout_s=1e6) as house:
        await house.start()
        await passes(1)
        house.broker.gate.clear()
        await passes(500)
        health = await asyncio.wait_for(house.instrument().health(), 0.1)
        assert health.cycle_age_s is not None
        assert health.cycle_age_s > 400
        house.broker.gate.set()


@virtual_time
async def test_health_waits_for_the_first_cycle_as_long_as_it_is_asked_to(tmp_path: Path) -> None:
    """Whoever starts a fleet is told of each book as soon as it is verified."""
    async with a_house(tmp_path, interval_s=10.0, patience_s=None, cycle_timeout_s=1e6) as house:
        now_s = asyncio.get_running_loop().time
        house.broker.gate.clear()
        await house.start()
        began_s = now_s()
        assert (await house.instrument().health(2.0)).cycle_age_s is None
        assert now_s() - began_s == pytest.approx(2.0)
        asked = asyncio.create_task(house.instrument().health(60.0))
        await asyncio.sleep(0.01)
        house.broker.gate.set()
        assert (await asked).statistics.cycles == 1
        house.broker.gate.clear()
        began_s = now_s()
        await house.instrument().wake()
        assert (await house.instrument().health(60.0)).statistics.cycles == 1  # later ones are not waited for
        assert now_s() == began_s
        house.broker.gate.set()


@virtual_time
@pytest.mark.parametrize(("ahead", "taken"), [(timedelta(minutes=14), True), (timedelta(hours=1), False)])
async def test_a_report_of_a_time_to_come_is_refused_and_nothing_recorded(
    ahead: timedelta, taken: bool, tmp_path: Path
) -> None:
    """A local time reported as UTC would count beside every position that the broker shows until then."""
    async with a_house(tmp_path) as house:
        reports: list[Report] = [
            a_fill("f1", 1, house, time=house.clock() + ahead),
            replace(an_order("c1", house), submitted_at=house.clock() + ahead),
        ]
        for report in reports:
            if taken:
                assert await house.instrument().record((report,)) == 1
            else:
                with pytest.raises(ValueError, match=r"this machine's clock says .*: report times in UTC"):
                    await house.instrument().record((report,))
        assert bool(in_memory(house)["legs"]) is taken


@virtual_time
@pytest.mark.parametrize("other", [{"side": Side.SELL}, {"price": Decimal("1.2")}, {"quantity": Decimal(4)}], ids=str)
async def test_another_fill_under_a_known_id_is_refused_and_not_taken_for_the_first(
    other: dict[str, Any], tmp_path: Path
) -> None:
    """One that is passed over as known is a fill that is lost."""
    async with a_house(tmp_path) as house:
        first = a_fill("f1", 3, house)
        assert await house.instrument().record([first]) == 1
        assert await house.instrument().record([replace(first, quantity=Decimal("3.0"))]) == 0
        with pytest.raises(ValueError, match=r"fill f1 was reported as a BUY of 3 @ 1.1, .* an id of its own"):
            await house.instrument().record([a_fill("f2", 1, house), replace(first, **other)])
        assert in_memory(house)["legs"] != {}
        assert await house.instrument().record([a_fill("f2", 1, house)]) == 1  # nothing of the refused ones was taken


@virtual_time
async def test_an_order_reported_under_the_id_of_one_of_the_other_side_is_refused_and_nothing_recorded(
    tmp_path: Path,
) -> None:
    async with a_house(tmp_path) as house:
        await house.instrument().record([order_report("c1")])
        with pytest.raises(ValueError, match=r"fx/EURUSD: order c1 is a BUY of 100 .* an id of its own"):
            await house.instrument().record([order_report("c2"), order_report("c1", side=Side.SELL)])
        book = (await house.instrument().health()).version
        assert await house.instrument().record([order_report("c1")]) == 0
        assert (await house.instrument().health()).version == book
