"""A book at any past moment, what the broker had said by then, and who changed what and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.book.book import Book
from actors.book.checkpoint import checkpoint, checkpoint_event, replay
from actors.book.history import BookAt, Incomplete, book_at, changes, explained, statements_of, up_to
from actors.events import EventType, Record
from brokers.model import OrderStatus
from tests.unit.builders import ACCOUNT, INSTRUMENT, T0, Desk, at, dec, fill, order_report, pos, records, slice_at
from tests.unit.test_checkpoint import a_day
from tests.unit.world import World, programs, runs, worlds

TICK = timedelta(microseconds=1)


def held_at(stream: list[Record], seconds: float) -> BookAt:
    return book_at(ACCOUNT, INSTRUMENT, stream, at(seconds))


def test_replay_at_the_time_of_each_event_is_the_fold_of_its_prefix() -> None:
    stream = records(a_day().events)
    for record in stream:
        end = max(other.version for other in stream if other.event.time <= record.event.time)
        found = book_at(ACCOUNT, INSTRUMENT, stream, record.event.time)
        assert checkpoint(found.book) == checkpoint(replay(ACCOUNT, INSTRUMENT, stream[:end]))
        assert found.last == stream[end - 1]
        assert book_at(ACCOUNT, INSTRUMENT, stream, record.event.time - TICK).book.version < record.version


def test_from_a_checkpoint_it_is_the_same_as_from_the_beginning() -> None:
    events = a_day().events
    half = len(events) // 2
    early = replay(ACCOUNT, INSTRUMENT, records(events[:half]))
    kept = checkpoint_event(early, events[half - 1].time)
    after = records([kept, *events[half:]], after=half)
    for second in (20, 30, 35, 40, 99):
        whole = held_at(records(events), second)
        assert checkpoint(held_at(after, second).book) == checkpoint(whole.book)


def test_before_the_first_event_there_is_no_book() -> None:
    """PEERS 1: unknown is not flat."""
    found = held_at(records(a_day().events), -1)
    assert found.last is None
    assert found.book.version == 0
    assert found.statements == ()


@pytest.mark.parametrize(
    ("gap", "words"), [(slice(0, 1), "begin at version 2"), (slice(3, 4), "version 4 is missing")], ids=["start", "gap"]
)
def test_records_that_are_missing_give_no_book(gap: slice, words: str) -> None:
    """PEERS 1: what was archived or lost is never read as nothing."""
    stream = records(a_day().events)
    del stream[gap]
    with pytest.raises(Incomplete, match=words):
        held_at(stream, 99)


def test_a_clock_that_went_back_is_named_and_loses_no_event() -> None:
    events = a_day().events
    ahead = replace(events[2], time=at(3600))
    found = held_at(records([*events[:2], ahead, *events[3:]]), 50)
    assert found.clock_went_back
    assert found.book.version == len(events)
    assert not held_at(records(events), 50).clock_went_back


def test_what_the_broker_said_last_is_shown_with_its_time() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos("80", "191.2")]))
    desk.look(slice_at(400, [pos("100", "191.5")]))
    said = {one.subject: one for one in statements_of(records(desk.events))}
    assert said["position net"].words == "100 @ 191.5"
    assert said["position net"].at == at(400)
    assert said["everything"].words.startswith("the same as the book (positions COMPLETE")


def test_an_open_break_shows_the_brokers_side() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(5)]))
    desk.look(slice_at(10, []))
    found = held_at(records(desk.events), 10)
    assert [one.words for one in found.statements if one.subject == "position net"] == ["nothing"]
    assert found.book.breaks


def test_an_order_that_was_given_up_is_nothing_the_broker_said() -> None:
    """PEERS 12"""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", submitted_at=at(1)), at_s=1)
    for second in (20, 30, 40):
        desk.look(slice_at(second))
    found = held_at(records(desk.events), 60)
    assert found.book.orders["client:c1"].status is OrderStatus.CANCELLED
    assert [one.words for one in found.statements if one.subject == "order c1"] == ["nothing of it"]


def test_every_change_between_two_books_is_named() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos("80", "191.2")]))
    before = held_at(records(desk.events), 0).book
    desk.look(slice_at(400, [pos("100", "191.5")]))
    after = held_at(records(desk.events), 400).book
    found = {(one.subject, one.field): (one.before, one.after) for one in changes(before, after)}
    assert found == {
        ("leg net", "quantity"): ("80", "100"),
        ("leg net", "average_price"): ("191.2", "191.5"),
    }
    assert changes(after, after) == ()
    gone = {(one.subject, one.field): one.after for one in changes(after, Book(ACCOUNT, INSTRUMENT))}
    assert gone[("leg net", "quantity")] is None


def test_a_commission_that_came_after_its_fill_was_reported_by_the_broker() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    filled = fill("f1", 5, at_s=1, order_id="X1")
    desk.look(slice_at(10, [pos(5)], fills=[filled]))
    charged = replace(filled, commission=dec("1.05"), commission_currency="USD")
    desk.look(slice_at(20, [pos(5)], fills=[charged]))
    found = held_at(records(desk.events), 20)
    assert [(one.words, one.at) for one in found.statements if one.subject == "last commission"] == [
        ("1.05 USD, f1", at(20))
    ]
    (step,) = [s for s in explained(records(desk.events)) if s.record.event.type is EventType.COMMISSION_REPORTED]
    assert (step.who, step.why) == ("reconciliation", "the broker reported it after the fill")


def test_each_event_says_who_and_why() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos("80", "191.2")]))
    desk.look(slice_at(400, [pos("100", "191.2")]))
    steps = list(explained(records(desk.events)))
    synced = [step for step in steps if step.record.event.type is EventType.POSITION_SYNCED]
    assert [step.who for step in synced] == ["reconciliation", "reconciliation"]
    assert synced[1].why == "POSITION_MISMATCH net: book 80, broker 100, UNEXPLAINED"
    reported = [step for step in explained(records(a_day().events)) if step.who == "our side"]
    assert {step.record.event.type for step in reported} == {
        EventType.ORDER_RECORDED,
        EventType.FILL_RECORDED,
        EventType.POSITION_RECORDED,
    }


@runs(60)
@given(worlds, programs, st.integers(0, 100))
def test_whatever_happened_a_past_book_is_the_fold_of_what_was_known_then(
    world: World, program: list[tuple[str, int, int]], share: int
) -> None:
    for step in program:
        world.step(*step)
    stream = records(world.events)
    for record in stream[share % 7 :: 7]:
        moment = record.event.time
        found = book_at(ACCOUNT, INSTRUMENT, stream, moment)
        assert found.book.version == max(other.version for other in stream if other.event.time <= moment)
        assert checkpoint(found.book) == checkpoint(replay(ACCOUNT, INSTRUMENT, up_to(stream, moment)))
        list(explained(stream))


def test_the_beginning_of_time_is_a_moment_too() -> None:
    assert book_at(ACCOUNT, INSTRUMENT, [], T0).book.version == 0
