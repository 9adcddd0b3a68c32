"""A commission that is reported after its fill is written once, and changes nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from actors.book import book as books
from actors.book.book import Book
from actors.book.checkpoint import checkpoint, checkpoint_event, replay, restore
from actors.book.policy import Correct, Policy
from actors.book.self_check import fold
from actors.events import Event, EventType, Severity
from brokers.model import Corrected, Fill, OrderAnswer, OrderQuery, OrderStatus, Unsupported
from tests.unit.builders import (
    ACCOUNT,
    INSTRUMENT,
    Desk,
    at,
    dec,
    fill,
    fill_report,
    kinds,
    order,
    order_report,
    pos,
    records,
    slice_at,
)

REPORTED = EventType.COMMISSION_REPORTED


def charged(one: Fill, amount: str = "1.05", currency: str | None = "USD") -> Fill:
    return replace(one, commission=dec(amount), commission_currency=currency)


def reported(events: tuple[Event, ...] | list[Event]) -> list[dict[str, Any]]:
    return [dict(event.payload) for event in events if event.type is REPORTED]


def desk_with_order() -> Desk:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=OrderStatus.OPEN, strategy="carry"), at_s=1)
    return desk


OWN = fill("f1", 40, at_s=5, order_id="B1", client_id="c1")


def by_the_broker(desk: Desk) -> Fill:
    desk.look(slice_at(10, [pos(40)], fills=[OWN]))
    return OWN


def by_our_side(desk: Desk) -> Fill:
    desk.report(fill_report("f1", 40, at_s=5, order_id="B1"), at_s=6)
    return OWN


def by_another_trader(desk: Desk) -> Fill:
    other = fill("x1", 40, at_s=5, order_id="X9")
    desk.look(slice_at(10, [pos(40)], fills=[other]))
    return other


def as_history(desk: Desk) -> Fill:
    early = fill("h1", 40, at_s=-5, order_id="X9")
    desk.look(slice_at(10, fills=[early]))
    return early


def as_a_correction(desk: Desk) -> Fill:
    desk.look(slice_at(10, [pos(40)], fills=[OWN]))
    later = replace(OWN, fill_id="f2", quantity=dec(30), corrects=Corrected("f1", OWN.quantity, OWN.price))
    desk.look(slice_at(12, [pos(30)], fills=[OWN, later]))
    return later


def of_what_was_corrected(desk: Desk) -> Fill:
    as_a_correction(desk)
    return OWN


WAYS: list[tuple[Callable[[Desk], Fill], str | None]] = [
    (by_the_broker, "carry"),
    (by_our_side, "carry"),
    (by_another_trader, None),
    (as_history, None),
    (as_a_correction, "carry"),
    (of_what_was_corrected, "carry"),
]


@pytest.mark.parametrize(("came", "strategy"), WAYS, ids=[way.__name__ for way, _ in WAYS])
def test_a_commission_reported_after_its_fill_is_written_once_and_changes_nothing_else(
    came: Callable[[Desk], Fill], strategy: str | None
) -> None:
    """PEERS 5, PEERS 15"""
    desk = desk_with_order()
    bought = came(desk)
    rows = [pos(quantity, price) for quantity, price in desk.held().values()]
    working = [order("B1", 100, of.filled_quantity, of.status) for of in desk.book.orders.values()]
    desk.look(slice_at(20, rows, working))
    before = checkpoint(desk.book)
    decision = desk.look(slice_at(30, rows, working, [bought, charged(bought)]))
    assert reported(decision.events) == [
        {
            "fill_id": bought.fill_id,
            "broker_order_id": bought.broker_order_id,
            "strategy": strategy,
            "commission": "1.05",
            "commission_currency": "USD",
        }
    ]
    assert [(event.type, event.severity) for event in decision.events] == [(REPORTED, Severity.INFO)]
    assert (decision.status, decision.discrepancies) == ("SUCCESS", ())
    after = checkpoint(desk.book)
    assert {key for key in after if after[key] != before[key]} == {"without_commission"}
    desk.restart()
    assert desk.look(slice_at(40, rows, working, [charged(bought)])).events == ()
    assert desk.look(slice_at(50, rows, working, [charged(bought, "2")])).events == (), "the first word on it stands"


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (OWN, OWN),
        (charged(OWN), charged(OWN)),
        (charged(OWN, "0"), charged(OWN)),
        (OWN, charged(fill("f0", 1, at_s=-5, order_id="B1"))),
        (charged(OWN), OWN),
    ],
    ids=["never reported", "reported with the fill", "a fill that cost nothing", "of another fill", "left out later"],
)
def test_no_commission_is_written_twice_or_of_a_fill_that_is_not_in_the_book(first: Fill, later: Fill) -> None:
    desk = desk_with_order()
    desk.look(slice_at(10, [pos(40)], fills=[first]))
    for moment in (20, 30):
        assert reported(desk.look(slice_at(moment, [pos(40)], fills=[later])).events) == []


def test_a_commission_that_one_of_two_rows_of_a_new_fill_has_is_the_fills_own() -> None:
    desk = desk_with_order()
    row = order("B1", 100, 40, OrderStatus.PARTIALLY_FILLED, client_id="c1")
    decision = desk.look(slice_at(10, [pos(40)], [row], [charged(OWN), OWN]))
    (event,) = [event for event in decision.events if event.type is EventType.ORDER_FILLED]
    assert (event.payload["commission"], reported(decision.events)) == ("1.05", [])


def test_a_commission_that_comes_with_the_answer_to_a_question_is_written() -> None:
    desk = desk_with_order()
    by_the_broker(desk)
    row = order("B1", 100, 100, OrderStatus.FILLED, client_id="c1", average="1.1")
    rest = fill("f2", 60, at_s=15, order_id="B1")
    answer = OrderAnswer(OrderQuery(INSTRUMENT, "B1", "c1"), row, (charged(OWN), rest))
    decision = desk.look(slice_at(20, [pos(100)]), answers={"B1": answer})
    assert [one["fill_id"] for one in reported(decision.events)] == ["f1"]
    assert EventType.ORDER_FILLED in kinds(decision.events)


def test_an_inferred_fill_waits_for_no_commission() -> None:
    desk = desk_with_order()
    row = order("B1", 100, 40, OrderStatus.PARTIALLY_FILLED, client_id="c1", average="1.1")
    desk.look(slice_at(10, [pos(40)], [row], Unsupported()))
    assert kinds(desk.events).count(EventType.ORDER_FILLED) == 1
    assert desk.book.without_commission == {}


def test_a_commission_is_written_though_nothing_is_to_be_corrected() -> None:
    """PEERS 10: it corrects nothing. Of a fill that was not taken into the book nothing is written."""
    desk = desk_with_order()
    by_our_side(desk)
    desk.policy = Policy(correct=Correct.ALERT)
    unseen = fill("f2", 10, at_s=8, order_id="B1")
    decision = desk.look(slice_at(20, [pos(50)], fills=[charged(OWN), charged(unseen)]))
    assert [one["fill_id"] for one in reported(decision.events)] == ["f1"]
    assert EventType.ORDER_FILLED not in kinds(decision.events)


def test_nothing_is_written_from_a_slice_that_is_too_old() -> None:
    desk = desk_with_order()
    by_the_broker(desk)
    old = slice_at(20, [pos(40)], fills=[charged(OWN)])
    assert reported(desk.look(old, now=at(20) + desk.policy.max_age * 2).events) == []
    assert len(reported(desk.look(slice_at(9_000, [pos(40)], fills=[charged(OWN)])).events)) == 1


def test_the_oldest_are_given_up_where_a_broker_never_reports_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "WITHOUT_COMMISSION_KEPT", 2)
    desk = desk_with_order()
    bought = [fill(f"f{number}", 1, at_s=number, order_id="B1") for number in range(1, 5)]
    desk.look(slice_at(10, [pos(4)], fills=bought))
    desk.look(slice_at(400, [pos(4)]))
    assert list(desk.book.without_commission) == ["f3", "f4"]
    decision = desk.look(slice_at(410, [pos(4)], fills=[charged(one) for one in bought]))
    assert [one["fill_id"] for one in reported(decision.events)] == ["f3", "f4"]


# Journals of earlier versions


def _in_old_words(event: Event) -> Event:
    """An event as it was written when no commission was known of."""
    hidden = ("commission", "commission_currency", "without_commission")
    payload = orjson.loads(orjson.dumps(dict(event.payload)))
    return replace(event, payload={key: value for key, value in payload.items() if key not in hidden})


def test_the_fills_of_an_old_journal_are_waited_for() -> None:
    desk = desk_with_order()
    by_the_broker(desk)
    desk.events = [_in_old_words(event) for event in desk.events]
    desk.book = replay(ACCOUNT, INSTRUMENT, records(desk.events))
    assert len(reported(desk.look(slice_at(20, [pos(40)], fills=[charged(OWN)])).events)) == 1


def test_an_old_checkpoint_is_read_and_gives_the_same_book_from_wherever_one_begins() -> None:
    """PEERS 15"""
    desk = desk_with_order()
    by_the_broker(desk)
    old = _in_old_words(checkpoint_event(desk.book, at(11)))
    later = fill("f2", 5, at_s=12, order_id="B1")
    events = [*desk.events, old]
    begun_there = Book(ACCOUNT, INSTRUMENT)
    restore(begun_there, old.payload, len(events))
    come_by_it = fold(ACCOUNT, INSTRUMENT, records(events))
    assert come_by_it is not None
    assert come_by_it.wrong == ()
    assert checkpoint(begun_there) == checkpoint(come_by_it.book)
    desk.book, desk.events = come_by_it.book, events
    assert reported(desk.look(slice_at(20, [pos(40)], fills=[charged(OWN)])).events) == []
    desk.look(slice_at(30, [pos(45)], fills=[later]))
    assert len(reported(desk.look(slice_at(40, [pos(45)], fills=[charged(later)])).events)) == 1
