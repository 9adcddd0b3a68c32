"""The account actor: one connection, one fetch for all, and what it says when there is no answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from actors.account.break_work import AccountWork
from actors.book.payloads import break_to
from actors.events import Event, EventType, Json, Severity
from actors.messages import Connection, NoSlice, SliceRequest, Unchanged
from actors.runtime.ports import ActorUnavailable
from brokers.model import (
    Failed,
    Partial,
    SectionName,
    Slice,
    Unsupported,
    rows_of,
)
from tests.unit.account_cases import QUERY, none, request, said, sliced
from tests.unit.builders import fill_report, unmanaged
from tests.unit.fakes import (
    EURUSD,
    FX,
    QUICK,
    T0,
    a_house,
    passes,
    problem,
    refused,
    unreachable,
    until,
)
from tests.unit.virtual_time import virtual_time

# One fetch for all


@pytest.mark.parametrize("instruments", [1, 50])
@virtual_time
async def test_broker_requests_do_not_grow_with_the_number_of_instruments(tmp_path: Path, instruments: int) -> None:
    """Broker requests per interval are the same for 1 and for 50 instruments of an account. FEATURES 29"""
    names = [f"I{number:02}" for number in range(instruments)]
    async with a_house(tmp_path, names, interval_s=10.0) as house:
        for name in names:
            house.broker.hold(5, instrument=name)
        await house.start()
        await passes(100.5)
        for name in names:
            report = (await house.instrument(name).health()).report
            assert report is not None
            assert report.status == "SUCCESS"
        assert house.broker.connects == 1
        assert house.broker.snapshots == 11, "one at the start and one at each of ten ticks"


@virtual_time
async def test_a_broker_that_reports_every_change_is_not_asked_while_it_reports_none(tmp_path: Path) -> None:
    """FEATURES 24"""
    async with a_house(tmp_path, interval_s=10.0) as house:
        house.broker.hold(5)
        house.broker.vouches_until = house.clock
        await house.start()
        await passes(100.5)
        assert house.broker.snapshots == 2, "one that is taken over, one that is found in step"
        report = (await house.instrument().health()).report
        assert report is not None
        assert report.status == "SUCCESS"
        assert report.verified_at is not None
        assert house.clock() - report.verified_at < timedelta(seconds=10)


@pytest.mark.parametrize("happens", ["wake", "record", "verdict", "change", "nothing is heard", "failure"])
@virtual_time
async def test_it_is_asked_as_soon_as_anything_happens_or_its_word_is_too_old(tmp_path: Path, happens: str) -> None:
    """PEERS 11, PEERS 13"""
    policy = replace(QUICK, max_age=timedelta(seconds=30))
    async with a_house(tmp_path, interval_s=10.0, policy=policy) as house:
        house.broker.hold(5)
        house.broker.vouches_until = house.clock
        await house.start()
        await passes(25)
        assert house.broker.snapshots == 2
        instrument, vouched = house.instrument(), house.clock()
        match happens:
            case "wake":
                await instrument.wake()
            case "record":
                await instrument.record([fill_report("f1", 1, at_s=25)])
            case "verdict":
                await instrument.reconcile_now()
            case "change":
                house.broker.vouches_until = lambda: None
            case "nothing is heard":
                house.broker.vouches_until = lambda: vouched
            case "failure":
                house.broker.vouches_until = lambda: None
                house.broker.failing = unreachable()
        await passes(30)
        assert house.broker.snapshots > 2


@virtual_time
async def test_everybody_who_waits_gets_the_same_fetch(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.broker.gate.clear()
        asked = [asyncio.create_task(house.account.slice(request(instrument=f"I{n}"))) for n in range(50)]
        await until(lambda: house.broker.snapshots == 1)
        house.broker.gate.set()
        assert all(isinstance(answer, Slice) for answer in await asyncio.gather(*asked))
        assert house.broker.snapshots == 1


@virtual_time
async def test_a_slice_is_never_older_than_asked_for(tmp_path: Path) -> None:
    """PEERS 11"""
    async with a_house(tmp_path) as house:
        first = await sliced(house)
        await passes(1)
        assert (await sliced(house, T0)).requested_at == first.requested_at
        assert house.broker.snapshots == 1
        assert (await sliced(house)).requested_at >= T0 + timedelta(seconds=1)
        assert house.broker.snapshots == 2


@virtual_time
async def test_a_fetch_that_began_too_early_is_not_what_a_later_caller_gets(tmp_path: Path) -> None:
    """PEERS 11: the answer is late, and from before my last change."""
    async with a_house(tmp_path) as house:
        house.broker.gate.clear()
        early = asyncio.create_task(house.account.slice(request()))
        await until(lambda: house.broker.snapshots == 1)
        await passes(1)
        house.broker.hold(7)
        late = asyncio.create_task(house.account.slice(request(house.clock())))
        await passes(0.1)
        house.broker.gate.set()
        old, new = await asyncio.gather(early, late)
        assert isinstance(old, Slice)
        assert isinstance(new, Slice)
        assert rows_of(old.positions) == ()
        assert [row.quantity for row in rows_of(new.positions)] == [7]


@virtual_time
async def test_a_time_a_little_ahead_of_our_clock_is_waited_for_and_costs_one_fetch(tmp_path: Path) -> None:
    """A timer that fires early, or another machine's clock, must not make a tight loop of requests."""
    async with a_house(tmp_path) as house:
        ahead = house.clock() + timedelta(seconds=1)
        assert (await sliced(house, ahead)).requested_at >= ahead
        assert house.broker.snapshots == 1


@virtual_time
async def test_a_time_far_ahead_of_our_clock_is_named_as_such(tmp_path: Path) -> None:
    """Our clock was set back: a snapshot from the future cannot be had, and an old one proves nothing."""
    async with a_house(tmp_path) as house:
        await sliced(house)
        answer = await none(house, house.clock() + timedelta(hours=1))
        assert "clock" in answer.reason
        assert house.broker.snapshots <= 2


@virtual_time
async def test_an_unchanged_slice_is_not_sent_again(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        known = (await sliced(house)).revision
        await passes(1)
        again = await house.account.slice(SliceRequest(EURUSD, house.clock(), 0, known))
        assert isinstance(again, Unchanged)
        assert again.requested_at >= T0 + timedelta(seconds=1)


@virtual_time
async def test_two_incarnations_share_no_revision_whatever_chance_says(tmp_path: Path) -> None:
    """An account actor that was killed counts its revisions anew: an equal name must not mean equal content."""
    async with a_house(tmp_path, uniform=lambda: 0.5) as house:
        house.broker.hold(5)
        known = (await sliced(house)).revision
        await house.replace_account()
        house.broker.hold(6)
        answer = await house.account.slice(SliceRequest(EURUSD, T0, None, known))
        assert isinstance(answer, Slice)


# Fills


@virtual_time
async def test_fills_are_asked_for_from_an_older_cursor_where_somebody_needs_them(tmp_path: Path) -> None:
    """An instrument that was away, or a new account actor, goes on from where its book stands."""
    async with a_house(tmp_path) as house:
        for _ in range(5):
            house.broker.trade(1)
        assert rows_of((await sliced(house)).fills) == ()
        got = await sliced(house, T0, since=2)
        assert [fill.fill_id for fill in rows_of(got.fills)] == ["F3", "F4", "F5"]
        assert house.broker.asked_since == [None, 2]
        await sliced(house, house.clock() + timedelta(milliseconds=1), since=5)
        assert house.broker.asked_since[-1] == 5


@virtual_time
async def test_an_older_cursor_joins_a_fetch_under_way_and_then_has_its_own(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.broker.trade(1)
        house.broker.gate.clear()
        first = asyncio.create_task(house.account.slice(request()))
        await until(lambda: house.broker.snapshots == 1)
        second = asyncio.create_task(house.account.slice(request(since=0)))
        await passes(0.1)
        house.broker.gate.set()
        await first
        answer = await second
        assert isinstance(answer, Slice)
        assert [fill.fill_id for fill in rows_of(answer.fills)] == ["F1"]


@pytest.mark.parametrize(
    "fills",
    [Failed("no"), Partial((), (problem(SectionName.FILLS, "GBPUSD"),)), Partial(())],
    ids=["failed", "unreadable", "partial"],
)
@virtual_time
async def test_fills_that_cannot_be_had_are_not_asked_for_twice_at_once(tmp_path: Path, fills: object) -> None:
    """One fetch an account, whatever its fills say."""
    async with a_house(tmp_path) as house:
        house.broker.sections[SectionName.FILLS] = fills  # type: ignore[assignment]  # one of the sections
        for number in range(1, 4):
            await sliced(house, since=3)
            await sliced(house, T0, since=4)
            assert house.broker.snapshots == number
            await passes(1)


@virtual_time
async def test_a_broker_without_fills_is_asked_once(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.broker.sections[SectionName.FILLS] = Unsupported()
        assert (await sliced(house, since=3)).fills == Unsupported()
        assert house.broker.snapshots == 1


# What belongs to no instrument


@virtual_time
async def test_an_unmanaged_instrument_is_said_once_and_once_more_when_it_is_over(tmp_path: Path) -> None:
    async with a_house(tmp_path, ignored=frozenset({"IGNORED"})) as house:
        house.broker.hold(5, instrument="OTHER")
        house.broker.hold(5, instrument="IGNORED")
        for _ in range(3):
            await sliced(house)
            await passes(1)
        assert await said(house) == [EventType.RECONCILIATION_DISCREPANCY]
        health = await house.account.health()
        assert [found.found.key for found in health.discrepancies] == ["OTHER"]
        assert health.unowned == ("OTHER",)
        house.broker.hold(0, instrument="OTHER")
        await sliced(house)
        assert await said(house) == [EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED]
        assert (await house.account.health()).discrepancies == ()


@pytest.mark.parametrize("section", [Failed("no"), Partial(())], ids=["failed", "partial"])
@virtual_time
async def test_an_unmanaged_instrument_is_not_over_because_nothing_is_known(tmp_path: Path, section: object) -> None:
    """Law 1"""
    async with a_house(tmp_path) as house:
        house.broker.hold(5, instrument="OTHER")
        await sliced(house)
        house.broker.sections[SectionName.POSITIONS] = section  # type: ignore[assignment]  # one of the sections
        await passes(1)
        await sliced(house)
        assert await said(house) == [EventType.RECONCILIATION_DISCREPANCY]


@virtual_time
async def test_an_unmanaged_instrument_that_was_closed_is_over_though_its_fills_are_remembered(
    tmp_path: Path,
) -> None:
    async with a_house(tmp_path) as house:
        await sliced(house)
        house.broker.trade(5, instrument="OTHER")
        await passes(1)
        await sliced(house)
        house.broker.hold(0, instrument="OTHER")
        await passes(1)
        await sliced(house)
        assert (await house.account.health()).discrepancies == ()


@virtual_time
async def test_a_row_that_names_no_instrument_is_the_account_s(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.broker.sections[SectionName.ORDERS] = Partial((), (problem(SectionName.ORDERS, None, "9"),))
        await sliced(house)
        found = (await house.account.health()).discrepancies
        assert [(one.found.type, one.found.key) for one in found] == [("MALFORMED_DATA", "orders:9")]
        house.broker.sections[SectionName.ORDERS] = Failed("no")
        await passes(1)
        await sliced(house)
        assert len((await house.account.health()).discrepancies) == 1
        house.broker.sections.clear()
        await passes(1)
        await sliced(house)
        assert (await house.account.health()).discrepancies == ()


@virtual_time
async def test_what_is_said_while_the_journal_is_away_is_written_when_it_is_back(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        await house.lose_audit()
        house.broker.failing = unreachable()
        await none(house)
        house.broker.failing = None
        await passes(40)
        await sliced(house)
        await house.open_audit()
        await passes(60)
        assert await house.kinds(FX) == [EventType.CONNECTION_LOST, EventType.CONNECTION_RESTORED]


@virtual_time
async def test_a_journal_that_hangs_does_not_keep_slices_back(tmp_path: Path) -> None:
    """PEERS 7: detect_drift and the other accounts need no journal."""
    async with a_house(tmp_path) as house:
        stuck = asyncio.Event()

        async def hang() -> None:
            await stuck.wait()

        house.post.before[("audit", "append")] = hang
        house.broker.hold(5, instrument="OTHER")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await sliced(house)
        assert loop.time() - began < 1
        stuck.set()


@virtual_time
async def test_with_all_instruments_the_account_looks_by_itself(tmp_path: Path) -> None:
    """With ``instruments: all`` nobody asks until somebody is there; what turns up later is found too."""
    async with a_house(tmp_path, [], discover=True) as house:
        house.broker.hold(5, instrument="A")
        await house.account.start()
        await passes(1)
        assert (await house.account.health()).unowned == ("A",)
        house.broker.hold(5, instrument="B")
        await passes(120)
        assert (await house.account.health()).unowned == ("A", "B")
        assert (await house.account.health()).discrepancies == ()
        assert await house.account.instruments(T0) == ("A", "B")


@virtual_time
async def test_a_closed_account_opens_no_connection_any_more(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        await house.account.start()
        house.broker.gate.clear()
        waiting = asyncio.create_task(house.account.slice(request()))
        await until(lambda: house.broker.snapshots == 1)
        await house.account.close()
        await house.account.close()
        house.broker.gate.set()
        assert isinstance(await waiting, NoSlice)
        assert isinstance(await house.account.slice(request(house.clock())), NoSlice)
        assert (await house.account.find_orders([QUERY]))[0].failure is not None
        await passes(100)
        assert house.broker.closed == 1
        assert house.opened == 1
        with pytest.raises(ActorUnavailable, match="closed by a supervisor that has died"):
            await house.account.health()


@virtual_time
async def test_a_row_nobody_can_read_of_an_instrument_nobody_manages_is_reported_by_the_account(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        unreadable = problem(SectionName.POSITIONS, "GBPUSD", "77")
        house.broker.sections[SectionName.POSITIONS] = Partial((), (unreadable,))
        await house.start()
        await passes(2)
        found = (await house.account.health()).discrepancies
        assert [(one.found.type, one.found.key) for one in found] == [("MALFORMED_DATA", "positions:77")]


@virtual_time
async def test_what_is_to_prove_something_rests_on_nothing_the_broker_said_before(tmp_path: Path) -> None:
    """Law 4, PEERS 1: an answer that carries an earlier mistake on does not confirm it."""
    async with a_house(tmp_path, interval_s=1.0) as house:
        house.broker.hold(100)
        await house.start()
        await passes(2)
        assert not any(house.broker.asked_whole)
        house.broker.hold(0)
        await passes(5)
        assert house.broker.asked_whole.count(True) >= 1
        report = (await house.instrument().health()).report
        assert report is not None
        assert report.book["legs"] == []


@virtual_time
async def test_a_persons_request_does_not_wait_out_the_pause_after_a_refusal(tmp_path: Path) -> None:
    async with a_house(tmp_path, interval_s=300.0) as house:
        house.broker.failing = refused()
        await house.start()
        await passes(5)
        house.broker.failing = None
        report = await house.instrument().reconcile_now()
        assert (report.status, report.error) == ("SUCCESS", None)


@pytest.mark.parametrize(("hours", "words"), [(1, "60 minutes ahead of"), (-1, "60 minutes behind")])
@virtual_time
async def test_a_clock_that_is_an_hour_off_is_reported_and_nothing_is_believed(
    tmp_path: Path, hours: int, words: str
) -> None:
    async with a_house(tmp_path) as house:
        house.broker.hold(5)
        house.broker.clock_off = timedelta(hours=hours)
        answer = await none(house)
        assert answer.connection is Connection.MALFORMED
        assert f"fx: could not take over what the broker says: its clock is {words}" in answer.reason
        assert "Set the clock" in answer.reason
        house.broker.clock_off = timedelta(seconds=20)
        await passes(1)
        await sliced(house)


@virtual_time
async def test_a_record_of_its_own_that_cannot_be_read_hides_no_other_break(tmp_path: Path) -> None:
    """PEERS 1"""
    async with a_house(tmp_path) as house:
        now = house.runtime.now()
        found = unmanaged(now)
        kind, whole = EventType.RECONCILIATION_DISCREPANCY, break_to(found, resolved=False, correction=None)
        payloads: tuple[dict[str, Json], ...] = ({}, whole, {"id": "b1"})
        named = [Event(str(place), kind, Severity.WARNING, now, one) for place, one in enumerate(payloads)]
        await house.audit.append(FX, 0, named)
        before = await AccountWork(FX, house.runtime).recall()
        assert before is not None
        assert before.breaks == (found,)
