"""Kind: a wall clock taken for the order of events, or for freshness. Which came first is what an actor saw first; how
old something is, is what its monotonic clock says; a wall clock that jumps is reported, and what was before is verified
anew."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.book.discrepancies import Correction, DiscrepancyType
from actors.book.payloads import position_to
from actors.book.policy import Policy
from actors.events import Event, EventType, Severity, from_iso
from actors.instrument import book_keeper
from actors.instrument.actor import Instrument
from actors.instrument.book_keeper import clock_stepped
from actors.journal import client
from actors.messages import Ago, NoSlice, SliceRequest
from actors.names import AUDIT
from actors.reconciliation.own_reports import FillReport, OrderReport
from actors.runtime.ports import LocalRuntime
from actors.runtime.steady_clock import SteadyClock
from brokers.clocks import broker_time, shown
from brokers.model import NET, Fill, OrderStatus, Position, Side, Slice
from tests.unit.builders import (
    TICKET,
    Desk,
    at,
    dec,
    fill,
    fill_report,
    order,
    order_report,
    pos,
    position_report,
    slice_at,
)
from tests.unit.fakes import EURUSD, FX, House, a_house, found, passes, quantities, until
from tests.unit.virtual_time import virtual_time

T = datetime(2024, 1, 2, 9, 0, tzinfo=UTC)


class Clocks:
    """A wall clock and a monotonic one, each set by hand."""

    def __init__(self) -> None:
        self.wall, self.monotonic_s = T, 100.0

    def pass_(self, seconds: float, wall_s: float | None = None) -> None:
        self.monotonic_s += seconds
        self.wall += timedelta(seconds=seconds if wall_s is None else wall_s)


def steady() -> tuple[Clocks, SteadyClock]:
    clocks = Clocks()
    return clocks, SteadyClock(lambda: clocks.wall, lambda: clocks.monotonic_s)


@pytest.mark.parametrize("wall_s", [10.0, 9.5, 10.9, -3000.0, 40.0])
def test_of_two_readings_the_later_one_is_greater_whatever_the_wall_clock_does(wall_s: float) -> None:
    clocks, clock = steady()
    first = clock.now()
    clocks.pass_(10, wall_s)
    second = clock.now()
    assert first < second < clock.now()
    assert abs(second - first - timedelta(seconds=10)) <= timedelta(seconds=1)


@pytest.mark.parametrize(("wall_s", "step_s"), [(9.5, 0), (11.0, 0), (-20.0, -30), (40.0, 30), (8.5, -1.5)])
def test_a_jump_of_more_than_a_second_is_reported_with_its_size(wall_s: float, step_s: float) -> None:
    clocks, clock = steady()
    clocks.pass_(10, wall_s)
    assert clock.step == timedelta(seconds=step_s)


def test_a_clock_that_runs_a_little_fast_for_long_is_followed_and_is_no_jump() -> None:
    clocks, clock = steady()
    for _ in range(1_000):
        clocks.pass_(10, 10.01)
        clock.now()
    assert clock.step == timedelta()
    assert abs(clock.now() - clocks.wall) < timedelta(milliseconds=1)


def test_many_small_jumps_back_are_one_large_one() -> None:
    clocks, clock = steady()
    for _ in range(5):
        clocks.pass_(0, -0.9)
        clock.now()
    assert clock.step < timedelta(seconds=-1)


def test_a_clock_that_is_followed_goes_on_from_the_walls_time() -> None:
    clocks, clock = steady()
    clocks.pass_(10, -20)
    clock.follow(clock.step)
    assert clock.step == timedelta()
    assert abs(clock.now() - clocks.wall) < timedelta(milliseconds=1)


async def in_step(house: House, held: int = 10) -> None:
    house.broker.hold(held)
    await house.instrument().set_halts(())
    await house.instrument().reconcile_now()
    await passes(0.7)
    assert (await house.instrument().reconcile_now()).status == "SUCCESS"


def set_clock(house: House, seconds: float) -> None:
    """The machine's clock jumps; the broker's own does not."""
    house.clock.wrong_by += timedelta(seconds=seconds)
    house.broker.clock_off -= timedelta(seconds=seconds)


@pytest.mark.parametrize("by_s", [-30, -600, 30, 600])
@virtual_time
async def test_a_slice_from_before_our_fill_never_undoes_it_however_the_clock_is_set(
    tmp_path: Path, by_s: float
) -> None:
    async with a_house(tmp_path) as house:
        await in_step(house)
        set_clock(house, by_s)
        await passes(3)
        house.broker.order("B1", 5, client_id="c1")
        sent = OrderReport(EURUSD, "c1", "B1", Side.BUY, dec(5), "LIMIT", dec("1.1"), OrderStatus.OPEN)
        await house.instrument().record([sent])
        fill = house.broker.trade(5, order_id="B1")
        by_broker = fill.time - timedelta(seconds=by_s)
        house.broker.fills[-1] = replace(fill, time=by_broker)
        ours = FillReport(EURUSD, fill.fill_id, "B1", Side.BUY, dec(5), fill.price, shown(by_broker))
        await house.instrument().record([ours])
        fetches = house.broker.snapshots
        for _ in range(2):
            report = await house.instrument().post_trade("buy")
            assert (report.status, found(report), quantities(report)) == ("SUCCESS", [], {"net": "15"})
            assert house.broker.snapshots > fetches
            fetches = house.broker.snapshots
        assert await house.instrument().trading_allowed()


@virtual_time
async def test_a_clock_set_back_keeps_no_change_at_the_broker_from_being_seen(tmp_path: Path) -> None:
    async with a_house(tmp_path, interval_s=15.0) as house:
        await in_step(house)
        await house.start()
        await passes(20)
        set_clock(house, -800)
        house.broker.hold(-500)
        await passes(60)
        assert quantities(await house.instrument().check()) == {"net": "-500"}


@virtual_time
async def test_a_clock_an_hour_away_from_the_brokers_is_no_success(tmp_path: Path) -> None:
    async with a_house(tmp_path, interval_s=15.0) as house:
        await in_step(house)
        await house.start()
        await passes(20)
        set_clock(house, -3000)
        fetches = house.broker.snapshots
        await passes(60)
        assert house.broker.snapshots > fetches
        assert (await house.instrument().check()).status == "DEGRADED"
        assert not await house.instrument().trading_allowed()


@pytest.mark.parametrize("by_s", [-30, 30, -4000, 4000])
@virtual_time
async def test_a_jump_is_journaled_by_account_and_instrument_and_nothing_is_allowed_until_verified_anew(
    tmp_path: Path, by_s: float
) -> None:
    async with a_house(tmp_path) as house:
        await in_step(house)
        assert await house.instrument().trading_allowed()
        set_clock(house, by_s)
        permission = await house.instrument().trading_allowed()
        assert not permission
        assert f"{by_s:+d}" in str(permission.reasons[0])
        fetches = house.broker.snapshots
        house.broker.clock_off = timedelta()
        assert (await house.instrument().reconcile_now()).status == "SUCCESS"
        assert house.broker.snapshots > fetches
        assert await house.instrument().trading_allowed()
        for stream in (FX, f"{FX}/{EURUSD}"):
            stepped = [event for event in await house.events(stream) if event.type is EventType.CLOCK_STEPPED]
            assert [round(float(str(event.payload["by_s"]))) for event in stepped] == [by_s]


@virtual_time
async def test_a_book_made_anew_is_not_verified_by_what_was_said_of_the_one_before(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        await in_step(house)
        house.broker.failing = OSError("away")
        book = house.instrument().keeper.book
        assert book is not None
        book.legs["net"].hold(dec(99), dec("1.1"), broker_time(T))
        assert (await house.instrument().self_check()).differences
        assert not await house.instrument().trading_allowed()


@virtual_time
async def test_an_actor_that_starts_behind_its_book_says_so_and_waits_for_no_future(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        await in_step(house)
        sent = OrderReport(EURUSD, "c1", None, Side.BUY, dec(5), "LIMIT", dec("1.1"), OrderStatus.PENDING_SUBMIT)
        await house.instrument().record([sent])
        set_clock(house, -1200)
        house.broker.clock_off = timedelta()
        await house.replace_account()
        await house.replace_instrument()
        house.broker.order("B1", 5, client_id="c1")
        assert (await house.instrument().reconcile_now()).status == "SUCCESS"
        kinds = await house.kinds()
        assert kinds.count(EventType.CLOCK_STEPPED) == 1


@pytest.mark.parametrize("stepped", ["before it began", "while it lived"])
@virtual_time
async def test_a_book_written_by_a_clock_ahead_of_ours_sets_no_clock_of_ours(tmp_path: Path, stepped: str) -> None:
    """Kind: a wall clock taken for an order of events. Else the actor's time is twice as far back as the clock's, and
    a report of now is one of the future."""
    async with a_house(tmp_path) as house:
        await in_step(house)
        sent = OrderReport(EURUSD, "c1", None, Side.BUY, dec(5), "LIMIT", dec("1.1"), OrderStatus.PENDING_SUBMIT)
        await house.instrument().record([sent])
        if stepped == "before it began":
            set_clock(house, -1200)
            await house.replace_instrument()
        else:
            house.instrument().keeper.book = None  # somebody else continued its stream
            set_clock(house, -1200)
        house.broker.clock_off = timedelta()
        now = replace(sent, client_order_id="c2", submitted_at=house.clock())
        assert await house.instrument().record([now])
        steps = [event for event in await house.events(f"{FX}/{EURUSD}") if event.type is EventType.CLOCK_STEPPED]
        assert [round(float(str(event.payload["by_s"]))) for event in steps] == [-1200]
        assert abs((await house.events(f"{FX}/{EURUSD}"))[-1].time - house.clock()) < timedelta(seconds=1)


@pytest.mark.parametrize("and_back", [False, True], ids=["stays", "and back"])
@pytest.mark.parametrize("lost", ["the answer", "the checkpoint that follows"])
@pytest.mark.parametrize("by_s", [-30, 30, -4000, 4000])
def test_a_step_that_is_durable_is_taken_once_though_its_writer_does_not_come_to_the_end(
    tmp_path: Path, by_s: float, lost: str, and_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is followed as the book is: else all its times are moved again, or the clock's return is none."""

    @virtual_time
    async def story() -> None:
        async with a_house(tmp_path) as house:
            await in_step(house)
            keeper = house.instrument().keeper
            if lost == "the checkpoint that follows":
                monkeypatch.setattr(book_keeper, "CHECKPOINT_EVERY", 1)
            append, wait = client.append, asyncio.Event()

            async def no_answer(runtime: Any, stream: str, version: int, events: tuple[Event, ...]) -> Any:
                answer = await append(runtime, stream, version, events)
                if stream != FX and not wait.is_set():
                    kind = EventType.CLOCK_STEPPED if lost == "the answer" else EventType.CHECKPOINT
                    if events[0].type is kind:
                        await wait.wait()
                return answer

            monkeypatch.setattr(client, "append", no_answer)
            set_clock(house, by_s)
            house.broker.clock_off = timedelta()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await house.instrument().reconcile_now()
            wait.set()
            if and_back:
                set_clock(house, -by_s)
                house.broker.clock_off = timedelta()
            await passes(1)
            house.broker.hold(-7)
            for _ in range(3):
                report = await house.instrument().reconcile_now()
                await passes(3)
            assert (report.status, quantities(report)) == ("SUCCESS", {"net": "-7"})
            events = await house.events(f"{FX}/{EURUSD}")
            steps = [round(float(str(one.payload["by_s"]))) for one in events if one.type is EventType.CLOCK_STEPPED]
            assert steps == ([by_s, -by_s] if and_back else [by_s])
            assert keeper.book is not None
            newest = keeper.book.newest_own_time()
            assert newest is not None
            assert newest < house.clock() + timedelta(seconds=1)

    story()


@virtual_time
async def test_an_account_on_a_node_with_another_clock_serves_as_any_other(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        await in_step(house)
        far = timedelta(hours=5)
        asked = SliceRequest(EURUSD, house.clock() + far, within=Ago(timedelta(seconds=2)))
        answer = await house.account.slice(asked)
        assert not isinstance(answer, NoSlice)
        assert answer.asked is not None
        assert answer.asked >= timedelta(seconds=-2)


class AnotherNode:
    """A runtime on a machine whose clock is wrong by so much."""

    def __init__(self, runtime: LocalRuntime, by: timedelta) -> None:
        self._runtime, self._by = runtime, by

    def now(self) -> datetime:
        return self._runtime.now() + self._by

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)


@pytest.mark.parametrize("meanwhile", ["nothing", "the journal restarts", "positions lag"])
@pytest.mark.parametrize("by_s", [-540, -3, 0, 3, 540])
@virtual_time
async def test_a_successor_on_a_node_with_another_clock_undoes_nothing_that_was_reported_just_before(
    tmp_path: Path, by_s: float, meanwhile: str
) -> None:
    """The account has a snapshot of a moment before the fill, which by the successor's clock is long after it."""
    async with a_house(tmp_path) as house:
        await in_step(house)
        fill = house.broker.trade(5)
        assert (await house.instrument().reconcile_now()).status == "SUCCESS"
        fill = house.broker.trade(5)
        ours = FillReport(EURUSD, fill.fill_id, fill.broker_order_id, Side.BUY, dec(5), fill.price, shown(fill.time))
        await house.instrument().record([ours])
        if meanwhile == "positions lag":
            house.broker.hold(15)
        if meanwhile == "the journal restarts":
            await house.runtime.kill(AUDIT)
            await house.open_audit()
        elsewhere: Any = AnotherNode(house.runtime, timedelta(seconds=by_s))
        await house.runtime.kill(f"{FX}/{EURUSD}")
        successor = Instrument(house.instrument_settings(EURUSD), elsewhere)
        house.runtime.register(f"{FX}/{EURUSD}", successor)
        before = len(await house.kinds())
        await successor.start(())
        await passes(1)
        assert EventType.RECONCILIATION_DISCREPANCY not in (await house.kinds())[before:]
        house.broker.hold(20)
        await passes(6)
        report = await successor.check()
        assert (report.status, quantities(report)) == ("SUCCESS", {"net": "20"})


@virtual_time
async def test_what_a_broker_said_in_the_future_vouches_for_nothing(tmp_path: Path) -> None:
    async with a_house(tmp_path, interval_s=15.0) as house:
        house.broker.vouches_until = lambda: house.clock() + timedelta(hours=1)
        await in_step(house)
        await house.start()
        fetches = house.broker.snapshots
        await passes(60)
        assert house.broker.snapshots >= fetches + 3


def test_after_a_step_the_book_of_the_journal_is_the_one_in_memory_and_every_time_of_ours_is_the_new_one() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(5)]))
    desk.report(order_report(), at_s=100)
    stepped = Event("s", EventType.CLOCK_STEPPED, Severity.WARNING, at(-50), {"by_s": "-150"})
    desk.write([stepped])
    desk.restart()
    assert desk.book.newest_own_time() == at(-50)
    assert desk.book.reconciled_at is None


def test_a_sighting_by_a_clock_ahead_of_ours_is_a_time_ahead_of_ours() -> None:
    """Else no look of ours comes after it for as long, and what is to be proven is not."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(slice_at(100, [pos(5)]))
    desk.look(slice_at(200, []))
    assert desk.book.newest_own_time() == at(200)
    desk.write([clock_stepped(desk.book, timedelta(seconds=-150), at(50))])
    assert desk.book.newest_own_time() == at(50)


def test_a_clock_that_is_set_again_while_it_is_followed_is_still_to_be_followed() -> None:
    clocks, clock = steady()
    clocks.pass_(0, -20)
    first = clock.step
    clocks.pass_(0, -300)
    assert clock.step == timedelta(seconds=-320)
    clock.follow(first)
    assert clock.step == timedelta(seconds=-300)


@pytest.mark.parametrize(
    ("submitted_s", "by_s"), [(700, 0), (100, -600), (700, -600), (100, 600)],
    ids=["of a strategy ahead of us", "before our clock was set back", "both", "before our clock was set on"],
)  # fmt: skip
def test_an_order_is_known_at_its_broker_whatever_the_clocks_of_those_who_sent_it(
    submitted_s: float, by_s: float
) -> None:
    """Kind: a wall clock taken for an order of events. Our side had the order when it reported it, at the latest;
    else it is adopted once more, and the first one given up or filled by a guess."""
    desk = Desk()
    desk.look(slice_at(0))
    sent = order_report("c1", None, 5, submitted_at=at(submitted_s))
    desk.report(sent, at_s=100)
    if by_s:
        desk.write([clock_stepped(desk.book, timedelta(seconds=by_s), at(105 + by_s))])
    desk.restart()
    right_s = 100 + by_s if by_s < 0 else 100
    row = order("B1", 5, client_id="c1", submitted_at=at(right_s))
    desk.look(slice_at(110 + by_s, [], [row]))
    assert [(one.client_order_id, one.broker_order_id) for one in desk.book.orders.values()] == [("c1", "B1")]


@pytest.mark.parametrize("by_s", [-600, -300, 30, 600])
@virtual_time
async def test_a_slice_that_was_asked_for_before_the_clock_was_set_proves_nothing_after(
    tmp_path: Path, by_s: float
) -> None:
    """Kind: a wall clock taken for an order of events. Else its sighting of minutes ahead is followed by no other
    for as long, and an order that never arrived stays open."""
    async with a_house(tmp_path, interval_s=15.0) as house:
        await in_step(house)
        await house.start()
        lost = OrderReport(EURUSD, "c1", None, Side.BUY, dec(5), "LIMIT", dec("1.1"), OrderStatus.PENDING_SUBMIT)
        await house.instrument().record([lost])
        await passes(6)
        house.broker.gate.clear()
        asking = asyncio.ensure_future(house.instrument().reconcile_now())
        await until(lambda: house.broker.snapshots > 0)
        await passes(0.1)
        set_clock(house, by_s)
        await house.instrument().record([replace(lost, client_order_id="c2")])
        house.broker.gate.set()
        await asking
        await passes(40)
        assert not list((await house.instrument().book()).open_orders)
        assert await house.instrument().trading_allowed()


@pytest.mark.parametrize("by_s", [-3600, 3600])
def test_a_fill_that_waits_for_its_leg_waits_no_longer_for_the_clock_that_was_set(by_s: float) -> None:
    """Its report is as old as the step; else the legs are judged by nobody until the old time has come again."""
    desk = Desk()
    desk.look(slice_at(0, conventions=TICKET))
    desk.report(fill_report("F1", 3, at_s=0), at_s=5000, conventions=TICKET)
    assert list(desk.book.pending_fills())
    desk.write([clock_stepped(desk.book, timedelta(seconds=by_s), at(5000 + by_s))])
    decision = desk.look(slice_at(5010 + by_s, [pos(4, leg="7"), pos(2, leg="8")], conventions=TICKET))
    assert (decision.status.value, desk.quantities()) == ("SUCCESS", {"7": dec(4), "8": dec(2)})


@pytest.mark.parametrize("who", ["we did", "the broker did"])
def test_what_changed_a_leg_before_the_clock_was_set_back_keeps_nobody_from_speaking_of_it(who: str) -> None:
    """Else a position that is another one is looked at when the old time has come again."""
    desk = Desk()
    desk.look(slice_at(0, [pos(5)]))
    if who == "we did":
        desk.report(position_report(7), at_s=5000)
    else:
        desk.look(slice_at(5000, [pos(7)], [], [fill("F1", 2, at_s=4999)]))
        desk.look(slice_at(5001, [pos(7)], [], [fill("F2", 2, at_s=5000)]))
    desk.write([clock_stepped(desk.book, timedelta(seconds=-600), at(4405))])
    for seconds in (4415, 4416, 4417):
        last = desk.look(slice_at(seconds, [pos(5 if who == "we did" else 7)]))
    assert (last.status.value, desk.quantities()) == ("SUCCESS", {"net": dec(5 if who == "we did" else 7)})


@pytest.mark.parametrize("what", ["it was cancelled", "it is filled less far"])
def test_what_was_reported_of_an_order_before_the_clock_was_set_back_keeps_no_row_from_being_believed(
    what: str,
) -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(5)]))
    partial, cancelled = OrderStatus.PARTIALLY_FILLED, OrderStatus.CANCELLED
    if what == "it was cancelled":
        desk.look(slice_at(5000, [pos(5)], [order("B1", 9)]))
        row = order("B1", 9, 0, cancelled)
    else:
        desk.look(slice_at(10, [pos(5)], [order("B1", 9)]))
        desk.look(slice_at(5000, [pos(10)], [order("B1", 9, 5, partial)], [fill("F1", 5, at_s=4999, order_id="B1")]))
        row = order("B1", 9, 3, partial, average="1.1")
    held = [pos(10 if row.filled_quantity else 5)]
    desk.write([clock_stepped(desk.book, timedelta(seconds=-600), at(4405))])
    for seconds in (4415, 4416, 4417):
        last = desk.look(slice_at(seconds, held, [row]))
    found = desk.book.find_order_by_ticket("B1")
    assert found is not None
    assert (last.status.value, found.status, found.filled_quantity) == ("SUCCESS", row.status, row.filled_quantity)


@pytest.mark.parametrize(("ahead_s", "age_s", "stale"), [(1800.0, 30, False), (-1800.0, 90, True), (0.0, 90, True)])
def test_how_old_an_order_is_is_taken_by_the_clock_that_said_when_it_began(
    ahead_s: float, age_s: float, stale: bool
) -> None:
    desk = Desk(Policy(stale_order=timedelta(seconds=60)))
    row = order("B1", submitted_at=at(0))
    for seconds in (1, age_s):
        desk.look(replace(slice_at(ahead_s + seconds, orders=[row]), as_of=broker_time(at(seconds))))
    assert (DiscrepancyType.STALE_ORDER in {kind for kind, _ in desk.book.breaks}) is stale


HOURS_ABROAD = timedelta(hours=-2)
"""Where the broker's clock is, as seen from ours."""


def abroad(seconds: float, positions: Sequence[Position], fills: Iterable[Fill] = ()) -> Slice:
    """A slice that the broker dates by a clock of its own."""
    rows = [replace(one, time=one.time + HOURS_ABROAD) for one in fills]
    return replace(slice_at(seconds, positions, (), rows), as_of=broker_time(at(seconds)) + HOURS_ABROAD)


@pytest.mark.parametrize(
    ("looks", "opened_s"),
    [
        pytest.param([[pos(5)]], [10], id="adopted"),
        pytest.param([[], [pos(5)]], [20], id="missing here"),
        pytest.param([[pos(5)], [pos(8)]], [10, 20], id="more of it"),
        pytest.param([[pos(5)], [pos(-3)]], [20], id="of the other side"),
    ],
)
def test_what_a_position_opens_is_dated_by_the_brokers_clock(
    looks: list[list[Position]], opened_s: list[float]
) -> None:
    desk = Desk()
    for place, held in enumerate(looks):
        desk.look(abroad(10 * (place + 1), held))
    desk.restart()
    assert [lot.opened_at for lot in desk.book.legs[NET].lots] == [broker_time(at(s)) + HOURS_ABROAD for s in opened_s]


def test_what_came_before_the_fills_of_a_slice_is_dated_before_the_first_of_them() -> None:
    desk = Desk()
    desk.look(abroad(0, []))
    desk.look(abroad(10, [pos(60)]))
    sold = fill("F1", 100, "1.1", at_s=18, order_id="B9", side=Side.SELL)
    desk.look(abroad(20, [], [sold]))
    (synced,) = [e for e in desk.events if e.type is EventType.POSITION_SYNCED and e.payload["quantity"] == "100"]
    assert from_iso(str(synced.payload["opened_at"])) < at(18) + HOURS_ABROAD


def test_a_correction_of_an_earlier_version_opens_lots_at_the_time_of_its_record() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    now = position_to(NET, dec(5), dec("1.1"), broker_time(at(50)), Correction.FORCE_ADD_POSITION)
    old = {key: value for key, value in now.items() if key != "opened_at"}
    for name, payload, opened_at in (("new", now, at(50)), ("old", old, at(100))):
        desk.write([Event(name, EventType.POSITION_SYNCED, Severity.INFO, at(100), payload)])
        assert [lot.opened_at for lot in desk.book.legs[NET].lots] == [opened_at]
        flat = position_to(NET, dec(0), dec(0), broker_time(at(50)), Correction.FORCE_CLOSE_POSITION)
        desk.write([Event(f"{name} flat", EventType.POSITION_SYNCED, Severity.INFO, at(101), flat)])
