"""A book survives its own JSON, at every place of its journal."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from actors.book.book import Book
from actors.book.checkpoint import checkpoint, checkpoint_event, replay, restore
from brokers.model import OrderStatus, Side
from tests.unit.builders import (
    FAILED,
    Desk,
    at,
    fill,
    fill_report,
    order,
    order_report,
    pos,
    position_report,
    records,
    slice_at,
)


def a_day() -> Desk:
    """A journal with something of everything in it."""
    desk = Desk()
    desk.look(slice_at(0, [pos("10.50", "1.3333333")], [order("B0", "7.0", 2, OrderStatus.PARTIALLY_FILLED)]))
    desk.report(order_report("c1", submitted_at=at(10)), order_report("c2", "B2", "1E+2"), at_s=10)
    desk.report(fill_report("f1", "33.30", "1.10", at_s=11, order_id="B2"), at_s=11)
    rows = [order("B2", 100, 50, OrderStatus.PARTIALLY_FILLED, client_id="c2", average="1.17"), order("B9", 5)]
    desk.look(slice_at(20, [pos("60.5")], rows, [fill("x1", 3, "0.333", at_s=15, order_id="X")]))
    desk.look(slice_at(22, FAILED, rows))
    desk.look(slice_at(30, [], rows, [fill("f2", "16.70", "1.3", at_s=16, order_id="B2")]))
    desk.report(position_report(4, leg="other"), at_s=31)
    desk.look(slice_at(40, [pos("-3", "0.7")], rows))
    desk.look(slice_at(41, [pos("-3", "0.7")], [*rows, order("B7", side=Side.SELL)]))
    return desk


@pytest.mark.parametrize("through_json", [False, True], ids=["as made", "through JSON"])
def test_a_checkpoint_at_any_place_gives_the_same_book(through_json: bool) -> None:
    """PEERS 15, FEATURES 7, FEATURES 20"""
    desk = a_day()
    whole = checkpoint(desk.book)
    for place in range(len(desk.events) + 1):
        early = replay("acc", "EURUSD", records(desk.events[:place]))
        event = checkpoint_event(early, at(99))
        if through_json:
            event = replace(event, payload=orjson.loads(orjson.dumps(dict(event.payload))))
        book = replay("acc", "EURUSD", records([event, *desk.events[place:]], after=place))
        assert checkpoint(book) == whole
        assert book.version == len(desk.events) + 1


def test_a_restored_book_decides_as_the_one_it_was() -> None:
    desk = a_day()
    book = Book("acc", "EURUSD")
    restore(book, orjson.loads(orjson.dumps(checkpoint(desk.book))), desk.book.version)
    twin = Desk()
    twin.book = book
    for moment in (50, 51, 60):
        slice_ = slice_at(moment, [pos(-3, "0.7")], [order("B9", 5, 5, OrderStatus.FILLED)])
        assert twin.look(slice_) == desk.look(slice_)


def test_a_checkpoint_written_before_a_key_existed_is_read() -> None:
    desk = a_day()
    document = orjson.loads(orjson.dumps(checkpoint(desk.book)))
    del document["known_at"]
    for row in document["orders"]:
        for key in ("told_at", "filled_at", "adopted_at"):
            del row[key]
    book = Book("acc", "EURUSD")
    restore(book, document, desk.book.version)
    assert {n: leg.quantity for n, leg in book.legs.items()} == desk.quantities()


def test_ids_in_a_journal_are_unique_and_the_same_each_time() -> None:
    """PEERS 5"""
    ids = [event.event_id for event in a_day().events]
    assert len(set(ids)) == len(ids)
    assert [event.event_id for event in a_day().events] == ids
