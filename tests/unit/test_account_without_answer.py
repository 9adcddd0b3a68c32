"""The account actor when its broker does not answer: what it says, how it tries again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from actors.account.actor import LONGEST_PAUSE_S, REFUSED_PAUSE_S
from actors.events import EventType
from actors.instrument.ticks import tick
from actors.messages import Connection, NoSlice
from brokers.errors import BrokerError
from brokers.model import (
    Complete,
    Cursor,
    SectionName,
    Slice,
    Snapshot,
)
from tests.unit.account_cases import QUERY, none, request, said, sliced
from tests.unit.fakes import (
    FX,
    a_house,
    legs,
    malformed,
    passes,
    refused,
    unreachable,
    until,
)
from tests.unit.virtual_time import virtual_time

# No answer


@pytest.mark.parametrize(
    ("error", "connection"),
    [
        (unreachable, Connection.UNREACHABLE),
        (refused, Connection.REFUSED),
        (malformed, Connection.MALFORMED),
    ],
)
@virtual_time
async def test_no_slice_says_why_in_words(
    tmp_path: Path, error: Callable[[], BrokerError], connection: Connection
) -> None:
    async with a_house(tmp_path) as house:
        house.broker.failing = error()
        answer = await none(house)
        assert answer.connection is connection
        assert answer.reason == str(error())
        assert answer.retry_at is not None
        assert answer.retry_at > house.clock()
        health = await house.account.health()
        assert (health.connection, health.error) == (connection, str(error()))


@virtual_time
async def test_a_broker_that_refused_us_is_not_hammered(tmp_path: Path) -> None:
    """A wrong token says so and is not retried in a tight loop."""
    async with a_house(tmp_path, ["A", "B", "C"], interval_s=1.0) as house:
        house.broker.failing = refused()
        await house.start()
        await passes(10 * REFUSED_PAUSE_S)
        assert house.broker.calls <= 21
        house.broker.failing = None
        await passes(REFUSED_PAUSE_S + 1)
        report = (await house.instrument("A").health()).report
        assert report is not None
        assert report.status == "SUCCESS"


@virtual_time
async def test_looking_up_orders_does_not_hammer_a_broker_that_refused_us_either(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.broker.failing = refused()
        await none(house)
        connects = house.broker.connects
        for _ in range(5):
            answers = await house.account.find_orders([QUERY])
            assert answers[0].failure is not None
            assert "401" in answers[0].failure
        assert house.broker.connects == connects


@virtual_time
async def test_an_unreachable_broker_is_asked_after_growing_pauses_and_recovers(tmp_path: Path) -> None:
    """FEATURES 4"""
    async with a_house(tmp_path) as house:
        house.broker.failing = unreachable()
        await house.start()
        counts = []
        for _ in range(4):
            before = house.broker.connects
            await passes(60)
            counts.append(house.broker.connects - before)
        assert counts[0] > counts[-1]
        assert counts[-1] <= 60 / (LONGEST_PAUSE_S / 2) + 1
        house.broker.failing = None
        await passes(LONGEST_PAUSE_S + 1)
        assert (await house.account.health()).connection is Connection.CONNECTED
        report = (await house.instrument().health()).report
        assert report is not None
        assert report.status == "SUCCESS", "nobody waited for its interval of 300 s"


@virtual_time
async def test_after_a_reconnect_every_instrument_looks(tmp_path: Path) -> None:
    """PEERS 13: fills during a lost connection are seen at once, however healthy everything looks. FEATURES 4"""
    names = ["A", "B", "C"]
    async with a_house(tmp_path, names, interval_s=300.0) as house:
        await house.start()
        await passes(1)
        house.broker.failing = unreachable()
        await house.instrument("A").wake()
        await passes(0.1)
        for name in names:
            house.broker.trade(3, instrument=name)
        house.broker.failing = None
        await passes(LONGEST_PAUSE_S)
        for name in names:
            report = (await house.instrument(name).health()).report
            assert report is not None
            assert report.book["legs"], name


@virtual_time
async def test_a_lost_and_a_restored_connection_are_journaled_once(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        await sliced(house)
        assert await said(house) == []
        house.broker.failing = unreachable()
        for _ in range(5):
            await none(house)
            await passes(40)
        assert await said(house) == [EventType.CONNECTION_LOST]
        house.broker.failing = None
        await sliced(house)
        await sliced(house)
        assert await said(house) == [EventType.CONNECTION_LOST, EventType.CONNECTION_RESTORED]
        lost = (await house.events(FX))[0]
        assert lost.payload["reason"] == str(unreachable())


@virtual_time
async def test_one_wait_is_bounded_by_patience_and_the_fetch_goes_on(tmp_path: Path) -> None:
    """PEERS 7: every wait is bounded, and a slow answer is not thrown away."""
    async with a_house(tmp_path, patience_s=10.0) as house:
        loop = asyncio.get_running_loop()
        house.broker.gate.clear()
        first = asyncio.create_task(house.account.slice(request()))
        await passes(9)
        began = loop.time()
        answer = await none(house)
        assert loop.time() - began == pytest.approx(10, abs=0.1)
        assert "has not answered for 19" in answer.reason
        assert isinstance(await first, NoSlice)
        house.broker.gate.set()
        await passes(0.1)
        assert isinstance(await house.account.slice(request()), Slice)
        assert house.broker.snapshots == 1


@virtual_time
async def test_a_wait_is_bounded_though_it_takes_two_fetches(tmp_path: Path) -> None:
    """PEERS 7: a fetch that began too early is waited for, and then another: both within one patience."""
    async with a_house(tmp_path, patience_s=10.0) as house:
        loop = asyncio.get_running_loop()
        house.broker.gate.clear()
        first = asyncio.create_task(house.account.slice(request()))
        await passes(4)
        began = loop.time()
        second = asyncio.create_task(house.account.slice(request(house.clock())))
        await passes(5)
        house.broker.gate.set()
        await first
        house.broker.gate.clear()
        assert isinstance(await second, NoSlice)
        assert loop.time() - began == pytest.approx(10, abs=0.1)
        house.broker.gate.set()


@virtual_time
async def test_instruments_that_could_not_wait_are_woken_when_the_answer_is_there(tmp_path: Path) -> None:
    """A slow answer is no lost connection, and still nobody stays unverified until his next interval."""
    async with a_house(tmp_path, patience_s=10.0, interval_s=300.0) as house:
        house.broker.hold(5)
        house.broker.gate.clear()
        await house.start()
        await passes(25)
        report = (await house.instrument().health()).report
        assert report is not None
        assert report.status == "DEGRADED"
        house.broker.gate.set()
        await passes(1)
        report = (await house.instrument().health()).report
        assert report is not None
        assert report.status == "SUCCESS"
        assert house.broker.snapshots <= 2


@virtual_time
async def test_an_unexpected_error_while_fetching_ends_neither_the_actor_nor_the_connection(tmp_path: Path) -> None:
    """FEATURES 21: an error in any part is logged, the others go on, the next cycle retries."""
    async with a_house(tmp_path) as house:
        house.broker.failing = ValueError("a bug of an adapter's")
        answer = await none(house)
        assert "ValueError" in answer.reason
        house.broker.failing = None
        await passes(1)
        await sliced(house)


@virtual_time
async def test_an_answer_that_cannot_be_digested_is_no_answer(tmp_path: Path) -> None:
    """FEATURES 21. Law 1: an internal error after the answer came must not pass for an empty account."""
    async with a_house(tmp_path) as house:
        await sliced(house)
        await passes(1)
        house.broker.sections[SectionName.POSITIONS] = Complete((object(),))
        answer = await none(house)
        assert "AttributeError" in answer.reason
        assert answer.connection is Connection.FAILED
        house.broker.sections.clear()
        await passes(1)
        await sliced(house)


@virtual_time
async def test_a_failure_to_look_up_orders_is_in_its_answer(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.broker.failing = unreachable()
        answers = await house.account.find_orders([QUERY])
        assert [answer.failure for answer in answers] == [unreachable().reason]
        house.broker.failing = ValueError("a bug of an adapter's")
        await passes(60)
        answers = await house.account.find_orders([QUERY])
        assert "ValueError" in (answers[0].failure or "")


@virtual_time
async def test_fetching_and_looking_up_take_turns(tmp_path: Path) -> None:
    """The port: calls are made from one task at a time."""
    async with a_house(tmp_path) as house:
        house.broker.gate.clear()
        fetching = asyncio.create_task(house.account.slice(request()))
        await until(lambda: house.broker.snapshots == 1)
        finding = asyncio.create_task(house.account.find_orders([QUERY]))
        await passes(1)
        assert house.broker.finds == 0
        house.broker.gate.set()
        await fetching
        await finding
        assert house.broker.finds == 1


@pytest.mark.parametrize("interval_s", [1.0, 15.0, 300.0])
@pytest.mark.parametrize("takes_s", [2.5, 7.0, 12.0])
@virtual_time
async def test_a_broker_whose_every_answer_takes_longer_than_anybody_waits_is_verified_all_the_same(
    tmp_path: Path, takes_s: float, interval_s: float
) -> None:
    """Each of its requests is answered in time, and a snapshot is several of them. What was waited for in vain is there
    a moment later, and is as new as it was asked for: also where a correction needs more than one look."""
    async with a_house(tmp_path, ["A", "B"], patience_s=2.0, interval_s=interval_s) as house:
        for name in house.names:
            house.broker.hold(5, instrument=name)
        await house.start()
        await passes(5)
        snapshot = house.broker.snapshot

        async def slow(fills_since: Cursor | None, *, whole: bool = False) -> Snapshot:
            answer = await snapshot(fills_since, whole=whole)
            await asyncio.sleep(takes_s)
            return answer

        house.broker.snapshot = slow  # type: ignore[method-assign]  # from here on
        held = {"A": 0, "B": 7}  # closed, which takes two looks to believe, and grown
        for name, quantity in held.items():
            house.broker.hold(quantity, instrument=name)
            await house.instrument(name).wake()
        await passes(12 * takes_s)
        for name in house.names:
            report = (await house.instrument(name).health()).report
            assert report is not None
            assert legs(report) == ({"net": (str(held[name]), "1.1")} if held[name] else {})
            assert report.verified_at is not None
            assert house.clock() - report.verified_at < timedelta(seconds=3 * takes_s + interval_s + 5)


@virtual_time
async def test_an_answer_that_came_long_after_it_was_waited_for_is_no_look_of_now(tmp_path: Path) -> None:
    """One request was not answered, and then the book was busy: what the account has is of the interval before."""
    async with a_house(tmp_path, ["A", "B"], patience_s=2.0, interval_s=15.0, cycle_timeout_s=9.0) as house:
        await house.start()
        await passes(5)
        house.broker.gate.clear()
        await house.instrument("A").wake()
        await passes(3)
        async with house.instrument("A").keeper.turn:
            house.broker.gate.set()
            await passes(40)
            due = tick("fx", 15.0, house.clock(), after=True)
            await passes((due - house.clock()).total_seconds() - 1)
        await passes(2)
        report = (await house.instrument("A").health()).report
        assert report is not None
        assert report.verified_at is not None
        assert report.verified_at >= due - timedelta(seconds=1.5), "those that tick together share a fetch"


@virtual_time
async def test_an_event_that_came_while_an_answer_was_waited_for_is_looked_at_anew(tmp_path: Path) -> None:
    """What was asked for before does not show it, and the next look by the interval is minutes away."""
    async with a_house(tmp_path, ["A"], patience_s=2.0, interval_s=300.0) as house:
        house.broker.hold(5, instrument="A")
        await house.start()
        await passes(5)
        house.broker.gate.clear()
        await house.instrument("A").wake()
        await passes(1)
        house.broker.hold(7, instrument="A")
        await house.instrument("A").wake()
        await passes(2)
        house.broker.gate.set()
        await passes(20)
        report = (await house.instrument("A").health()).report
        assert report is not None
        assert (report.status, legs(report)) == ("SUCCESS", {"net": ("7", "1.1")})


@virtual_time
async def test_a_person_never_gets_what_the_broker_said_before_he_asked(tmp_path: Path) -> None:
    """Though an answer to an earlier request is at hand by then."""
    async with a_house(tmp_path, ["A"], patience_s=2.0, interval_s=300.0) as house:
        house.broker.hold(5, instrument="A")
        await house.start()
        await passes(5)
        house.broker.gate.clear()
        await house.instrument("A").wake()
        await passes(3)
        house.broker.hold(7, instrument="A")
        verdict = asyncio.create_task(house.instrument("A").reconcile_now())
        await passes(0.1)
        house.broker.gate.set()
        assert legs(await verdict) == {"net": ("7", "1.1")}
