"""A book that is not what its journal makes is found, reported, and right again; one that is, is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from actors.book.book import Book
from actors.book.checkpoint import checkpoint, checkpoint_event
from actors.book.self_check import FIELDS_AT_MOST, SelfCheck, differences, fold
from actors.events import EventType, Record, Severity
from actors.instrument import book_keeper
from actors.journal.types import JournalUnavailable
from actors.names import AUDIT
from actors.runtime.ports import LocalRuntime
from brokers.clocks import broker_time
from brokers.model import NET
from supervisor.supervision.self_checks import EVERY_S, SelfChecks
from tests.unit.builders import ACCOUNT, INSTRUMENT, at, records
from tests.unit.fakes import Clock, House, a_house
from tests.unit.hall import a_hall
from tests.unit.test_checkpoint import a_day
from tests.unit.virtual_time import virtual_time

NAME = "fx/EURUSD"


# What differs, pure


def bend_quantity(book: Book) -> None:
    next(iter(book.legs.values())).quantity += 1


def bend_lot(book: Book) -> None:
    leg = next(iter(book.legs.values()))
    leg.hold(leg.quantity, leg.average_price + 1, broker_time(at(77)))


def forget_fill(book: Book) -> None:
    book.applied.pop("f1")


def lose_order(book: Book) -> None:
    book.orders.pop(next(iter(book.orders)))


def move_watermark(book: Book) -> None:
    book.watermarks[NET] = broker_time(at(1_000_000))


BENDS: list[tuple[Callable[[Book], None], str]] = [
    (bend_quantity, "legs.net.quantity"),
    (bend_lot, "legs.net.average_price"),
    (forget_fill, "applied"),
    (lose_order, "orders."),
    (move_watermark, "watermarks.net"),
]


@pytest.mark.parametrize(("bend", "field"), BENDS, ids=[bend.__name__ for bend, _ in BENDS])
def test_whatever_is_bent_is_named(bend: Callable[[Book], None], field: str) -> None:
    desk = a_day()
    whole = fold(ACCOUNT, INSTRUMENT, records(desk.events))
    assert whole is not None
    assert differences(checkpoint(desk.book), checkpoint(whole.book)) == ()
    bend(desk.book)
    found = differences(checkpoint(desk.book), checkpoint(whole.book))
    assert any(one.field.startswith(field) for one in found), found
    assert all(one.book != one.journal for one in found)


def test_a_book_that_is_wholly_other_is_reported_within_bounds() -> None:
    held = {"orders": [{"key": str(n), "quantity": str(n)} for n in range(1000)], "applied": ["x" * 9_000]}
    found = differences(held, {"orders": [], "applied": []})
    assert len(found) == FIELDS_AT_MOST
    assert all(len(one.book) < 300 for one in found)


def _with_checkpoint(bent: Callable[[Book], None] | None, keys: tuple[str, ...] = ()) -> list[Record]:
    """A journal of a day with a checkpoint in the middle, perhaps a wrong one."""
    events = a_day().events
    half = fold(ACCOUNT, INSTRUMENT, records(events[:-3]))
    assert half is not None
    if bent is not None:
        bent(half.book)
    event = checkpoint_event(half.book, events[-3].time)
    document = orjson.loads(orjson.dumps(dict(event.payload)))
    for key in keys:
        del document[key]
    return records([*events[:-3], replace(event, payload=document), *events[-3:]])


def test_a_checkpoint_is_checked_as_a_claim_about_the_events_before_it() -> None:
    right = fold(ACCOUNT, INSTRUMENT, _with_checkpoint(None))
    wrong = fold(ACCOUNT, INSTRUMENT, _with_checkpoint(move_watermark))
    assert right is not None
    assert wrong is not None
    assert (right.wrong, right.proven) == ((), len(a_day().events) - 2)
    assert [one.field for one in wrong.wrong] == ["watermarks.net"]
    assert wrong.proven == 0
    assert checkpoint(wrong.book) == checkpoint(right.book), "the events decide, not the claim"


def test_a_checkpoint_written_before_a_key_existed_is_not_wrong() -> None:
    found = fold(ACCOUNT, INSTRUMENT, _with_checkpoint(None, ("known_at",)))
    assert found is not None
    assert found.wrong == ()


def test_what_cannot_be_reached_from_a_beginning_is_not_folded() -> None:
    stream = records(a_day().events)
    assert fold(ACCOUNT, INSTRUMENT, stream[1:]) is None
    assert fold(ACCOUNT, INSTRUMENT, [*stream[:3], *stream[4:]]) is None
    assert fold(ACCOUNT, INSTRUMENT, stream, up_to=len(stream) + 1) is None
    assert fold(ACCOUNT, INSTRUMENT, stream, up_to=3) is not None


# By the actor


async def checked(house: House) -> SelfCheck:
    found: SelfCheck = await house.runtime.call(NAME, "self_check", timeout_s=60)
    return found


def book_of(house: House) -> Book:
    book: Any = house.instrument().keeper.book
    assert isinstance(book, Book)
    return book


@virtual_time
async def test_a_book_bent_in_memory_is_found_reported_and_right_again(tmp_path: Path) -> None:
    """PEERS 15"""
    async with a_house(tmp_path) as house:
        house.broker.hold(100)
        await house.instrument().reconcile_now()
        right = checkpoint(book_of(house))
        assert await checked(house) == SelfCheck(NAME, book_of(house).version)

        book_of(house).legs[NET].quantity = Decimal(70)
        found = await checked(house)

        assert {one.field: (one.book, one.journal) for one in found.differences} == {"legs.net.quantity": ("70", "100")}
        event = (await house.events())[-1]
        assert (event.type, event.severity) == (EventType.RECONCILIATION_DISCREPANCY, Severity.CRITICAL)
        assert event.payload["type"] == "BOOK_MISMATCH"
        assert event.payload["fields"] == [{"field": "legs.net.quantity", "book": "70", "journal": "100"}]
        assert checkpoint(book_of(house)) == right
        assert (await checked(house)).differences == ()
        again = await house.replace_instrument()
        report = await again.reconcile_now()
        assert report.status == "SUCCESS"


@virtual_time
async def test_a_checkpoint_of_a_bent_book_does_not_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PEERS 15: what was wrong in memory had written itself into the journal, and restarts would have begun with it."""
    monkeypatch.setattr(book_keeper, "CHECKPOINT_EVERY", 3)
    async with a_house(tmp_path) as house:
        house.broker.hold(100)
        await house.instrument().reconcile_now()
        assert EventType.CHECKPOINT in await house.kinds()
        book_of(house).watermarks[NET] = broker_time(at(9_000_000))
        for quantity in (110, 120, 130, 140):
            house.broker.hold(quantity)
            await house.instrument().reconcile_now()
        bent = [e for e in await house.events() if e.type is EventType.CHECKPOINT and "2024-04" in str(e.payload)]
        assert bent, "the bent book wrote itself into a checkpoint"

        found = await checked(house)

        assert [one.field for one in found.differences] == ["watermarks.net"]
        last = [event for event in await house.events() if event.type is EventType.CHECKPOINT][-1]
        assert "2024-04" not in str(last.payload)
        assert (await checked(house)).differences == ()
        await house.replace_instrument()
        await house.instrument().reconcile_now()
        assert book_of(house).watermarks[NET] < broker_time(at(9_000_000))


@virtual_time
async def test_a_check_beside_cycles_and_reports_finds_nothing_and_holds_nothing_up(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.broker.hold(100)
        await house.instrument().reconcile_now()
        slow = asyncio.Event()

        async def wait() -> None:
            await slow.wait()

        house.post.before[(AUDIT, "load_before")] = wait
        checking = asyncio.ensure_future(checked(house))
        await asyncio.sleep(0.1)
        house.broker.hold(130)
        report = await house.instrument().reconcile_now()
        assert report.status == "SUCCESS", "the cycle did not wait for the check"
        slow.set()
        assert (await checking).differences == ()


@virtual_time
async def test_a_journal_that_is_away_is_a_check_that_was_not_made(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        await house.instrument().reconcile_now()
        await house.lose_audit()
        found = await checked(house)
        assert found.skipped is not None
        assert found.differences == ()
        await house.open_audit()
        assert (await checked(house)).skipped is None


@virtual_time
async def test_a_difference_that_cannot_be_journaled_is_repaired_and_reported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_house(tmp_path) as house:
        house.broker.hold(100)
        await house.instrument().reconcile_now()
        book_of(house).legs[NET].quantity = Decimal(70)

        async def full() -> None:
            raise JournalUnavailable("append", "disk full", "Make room")

        house.post.before[(AUDIT, "append")] = full
        found = await checked(house)
        del house.post.before[(AUDIT, "append")]
        assert found.differences
        assert book_of(house).legs[NET].quantity == 100


# By the supervisor


@virtual_time
async def test_the_supervisor_checks_each_instrument_in_turn_and_shows_it(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        await hall.up()
        status = await hall.until(lambda s: s["supervisor"]["self_check"]["checked"] == 1, "the first is checked")
        assert status["supervisor"]["self_check"]["last"] == "cfd/EURUSD"
        await hall.until(lambda s: s["supervisor"]["self_check"]["checked"] == 2, "the second is checked")
        status = await hall.until(lambda s: s["supervisor"]["self_check"]["checked"] == 3, "each is checked")
        shown = status["supervisor"]["self_check"]
        assert shown.keys() == {"checked", "failed", "skipped", "last", "last_at", "last_failed", "last_failed_at"}
        assert (shown["failed"], shown["skipped"], shown["last"]) == (0, 0, "fx/GBP_JPY")

        hall.actor("cfd/EURUSD").keeper.book.cursor = 424242
        status = await hall.until(lambda s: s["supervisor"]["self_check"]["failed"] == 1, "the bent one is found")

        shown = status["supervisor"]["self_check"]
        assert (shown["last_failed"], shown["checked"]) == ("cfd/EURUSD", 4)
        assert hall.actor("cfd/EURUSD").keeper.book.cursor != 424242


@virtual_time
async def test_an_actor_that_does_not_answer_is_counted_as_skipped() -> None:
    runtime = LocalRuntime(Clock(), asyncio.get_running_loop().time, lambda: 0.5)
    checks = SelfChecks(runtime, lambda: ["fx/A"])
    stopped = asyncio.Event()
    running = asyncio.ensure_future(checks.run(stopped))
    await asyncio.sleep(2 * EVERY_S + 1)
    stopped.set()
    await running
    shown = checks.to_json()
    assert (shown["checked"], shown["skipped"], shown["last_at"]) == (0, 2, None)
