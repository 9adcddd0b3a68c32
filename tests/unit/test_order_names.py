"""One order has several names: what its ids mean does not depend on the order of rows, on a restart, or on when each of
them was heard."""

from __future__ import annotations

import pytest

from actors.book.checkpoint import checkpoint, checkpoint_event, replay
from actors.reconciliation.own_reports import contradiction
from brokers.model import OrderAnswer, OrderQuery, OrderStatus, Side
from tests.unit.builders import (
    ACCOUNT,
    INSTRUMENT,
    Desk,
    at,
    fill,
    fill_report,
    order,
    order_report,
    pos,
    records,
    slice_at,
    types,
)

FILLED, OPEN, CANCELLED = OrderStatus.FILLED, OrderStatus.OPEN, OrderStatus.CANCELLED
PARTIAL = OrderStatus.PARTIALLY_FILLED


def net(desk: Desk) -> dict[str, int]:
    """What is held in each leg, in whole units."""
    return {leg: int(quantity) for leg, quantity in desk.quantities().items()}


def desk_with_a() -> Desk:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "A", status=OPEN, strategy="s1"), at_s=1)
    desk.look(slice_at(2, [], [order("A", client_id="c1")]))
    return desk


def test_a_fill_of_the_order_that_took_the_place_of_ours_is_ours() -> None:
    desk = desk_with_a()
    rows = [
        order("A", 100, 0, CANCELLED, client_id="c1", replaced_by="B"),
        order("B", 100, 100, FILLED, client_id="c1", average="1.1"),
    ]
    desk.look(slice_at(20, [pos(100)], rows, [fill("F1", 100, at_s=15, order_id="B", client_id="c1")]))
    (missed,) = [e for e in desk.events if e.payload.get("type") == "MISSED_FILL"]
    assert (missed.severity, missed.payload["cause"]) == ("INFO", "MISSED_FILL")
    assert [e.payload["strategy"] for e in desk.events if e.type == "ORDER_FILLED"] == ["s1"]
    assert net(desk) == {"net": 100}


CHAIN = [
    order("A", 100, 0, CANCELLED, client_id="c1", replaced_by="B"),
    order("B", 100, 0, CANCELLED, client_id="c1", replaced_by="C"),
    order("C", client_id="c1"),
]


@pytest.mark.parametrize("places", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_who_owns_a_replaced_order_does_not_depend_on_the_order_of_rows(places: tuple[int, ...]) -> None:
    desk = desk_with_a()
    desk.look(slice_at(20, [], [CHAIN[place] for place in places]))
    assert {o.strategy for o in desk.book.orders.values()} == {"s1"}


def test_a_chain_goes_on_when_the_rows_before_are_no_longer_shown() -> None:
    desk = desk_with_a()
    desk.look(slice_at(20, [], [CHAIN[0]]))
    desk.restart()
    desk.look(slice_at(30, [], [order("B", client_id="c1")]))
    found = desk.book.find_order_by_ticket("B")
    assert found is not None
    assert found.strategy == "s1"


@pytest.mark.parametrize("gap", [30, 120, 3600])
def test_an_order_recorded_without_its_time_is_not_held_to_our_last_activity(gap: float) -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", None, strategy="s1"), at_s=1)
    desk.report(fill_report("F1", 40, at_s=gap, client_id="c1"), at_s=gap)
    row = order("B1", 100, 40, PARTIAL, client_id="c1", average="1.1", submitted_at=at(1.5))
    made = fill("F1", 40, at_s=gap, order_id="B1", client_id="c1")
    answers = {"c1": OrderAnswer(OrderQuery(INSTRUMENT, None, "c1"), row)}
    for seconds in (gap + 10, gap + 20):
        desk.look(slice_at(seconds, [pos(40)], [row], [made]), answers=answers)
    (only,) = desk.book.orders.values()
    assert (only.broker_order_id, only.strategy, only.status, int(only.filled_quantity)) == ("B1", "s1", PARTIAL, 40)


def test_a_row_that_shows_its_client_id_late_makes_two_orders_one_and_counts_nothing_twice() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(slice_at(5, [pos(40)], [order("B1", 100, 40, PARTIAL, average="1.1", submitted_at=at(3))]))
    desk.report(order_report("c1", None, submitted_at=at(2), strategy="s1"), at_s=6)
    desk.report(fill_report("F1", 40, at_s=4, client_id="c1"), at_s=6)
    row = order("B1", 100, 40, PARTIAL, client_id="c1", average="1.1", submitted_at=at(3))
    desk.look(slice_at(20, [pos(40)], [row], [fill("F1", 40, at_s=4, order_id="B1")]))
    last = desk.look(slice_at(30, [pos(40)], [row]))
    (only,) = desk.book.orders.values()
    assert (only.client_order_id, only.broker_order_id, only.strategy) == ("c1", "B1", "s1")
    assert (int(only.filled_quantity), int(only.adopted), net(desk)) == (40, 0, {"net": 40})
    assert (last.status.value, sum("merges" in e.payload for e in desk.events)) == ("SUCCESS", 1)
    desk.restart()


def test_a_report_with_both_ids_makes_two_orders_one_before_and_after_a_checkpoint() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(slice_at(1, [], [order("B1", 10, 0, OPEN)]))
    desk.report(order_report("c1", None, quantity=20, status=OPEN, submitted_at=at(2)), at_s=2)
    desk.report(order_report("c1", "B1", quantity=10, status=OPEN, submitted_at=at(2)), at_s=3)
    made = checkpoint_event(desk.book, at(4))
    after = replay(ACCOUNT, INSTRUMENT, records([made], after=desk.book.version))
    for book in (desk.book, after):
        found = book.find_order(None, "c1")
        assert found is not None
        assert (found.key, found.broker_order_id, len(book.orders)) == ("client:c1", "B1", 1)
    assert checkpoint(after) == checkpoint(desk.book)


def test_what_a_client_id_means_is_kept_over_a_checkpoint() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    for number, seconds in (("1", 1), ("2", 3)):
        desk.report(order_report("tag", f"B{number}", status=OPEN, submitted_at=at(seconds)), at_s=seconds)
    desk.look(slice_at(20, [], [order("B1", 100, 0, CANCELLED, client_id="tag"), order("B2", client_id="tag")]))
    desk.look(slice_at(30, [], [order("B1", client_id="tag"), order("B2", client_id="tag")]))  # it works again
    made = checkpoint_event(desk.book, at(31))
    after = replay(ACCOUNT, INSTRUMENT, records([made], after=desk.book.version))
    assert [o.key for o in after.open_orders()] == [o.key for o in desk.book.open_orders()]
    assert after.names() == desk.book.names()
    for book in (desk.book, after):
        assert [o.broker_order_id for o in book.orders_by_client_id("tag")] == ["B1", "B2"]


def test_the_brokers_word_mends_the_side_of_an_order_and_none_stays_unverified() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=OPEN, side=Side.BUY, submitted_at=at(1)), at_s=1)
    row = order("B1", client_id="c1", side=Side.SELL, submitted_at=at(1))
    found = desk.look(slice_at(20, [], [row]))
    assert types(found) == ["ORDER_STATUS_MISMATCH"]
    last = desk.look(slice_at(30, [], [row]))
    (only,) = desk.book.orders.values()
    assert (only.side, last.status.value, last.unverified) == (Side.SELL, "SUCCESS", ())


def test_a_fill_of_the_other_side_than_the_order_with_its_broker_id_is_refused_in_words() -> None:
    desk = desk_with_a()
    said = contradiction(desk.book, fill_report("F1", 5, at_s=3, order_id="A", side=Side.SELL), at(3))
    assert said is not None
    assert "F1" in said
    assert "BUY" in said
    assert contradiction(desk.book, fill_report("F1", 5, at_s=3, order_id="A"), at(3)) is None


def test_of_two_orders_that_are_one_each_fill_was_counted_in_one_and_all_of_them_count() -> None:
    """Else what is known of it fill by fill is taken for what it was adopted with, and gives way to the next fill."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", quantity=100, submitted_at=at(1)), at_s=1)
    row = order("B1", 100, 10, OrderStatus.PARTIALLY_FILLED, average="1.1")
    second = fill("F2", 6, at_s=3, order_id="B1")
    unanswered = {"c1": OrderAnswer(OrderQuery(INSTRUMENT, None, "c1"), failure="timed out")}
    desk.look(slice_at(2, [], [order("B1", 100)]), answers=unanswered)
    desk.report(fill_report("F1", 4, at_s=3, client_id="c1"), at_s=4)
    desk.look(
        slice_at(12, [pos(10)], [order("B1", 100, 6, OrderStatus.PARTIALLY_FILLED)], [second]), answers=unanswered
    )
    desk.report(order_report("c1", "B1", 100, OrderStatus.OPEN, submitted_at=at(1)), at_s=13)
    last = desk.look(slice_at(20, [pos(10)], [row]))
    (one,) = desk.book.orders.values()
    assert (last.status.value, int(one.filled_quantity), int(one.quantity_in_fills)) == ("SUCCESS", 10, 10)
    more = order("B1", 100, 13, OrderStatus.PARTIALLY_FILLED, client_id="c1", average="1.1")
    desk.look(slice_at(30, [pos(13)], [more], [fill("F3", 3, at_s=25, order_id="B1")]))
    last = desk.look(slice_at(31, [pos(13)], [more]))
    assert (last.status.value, {leg: int(held) for leg, held in desk.quantities().items()}) == ("SUCCESS", {"net": 13})
    desk.restart()


def test_a_fill_reported_of_an_order_that_was_made_one_with_another_is_restated_in_that() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", quantity=100, submitted_at=at(1)), at_s=1)
    unanswered = {"c1": OrderAnswer(OrderQuery(INSTRUMENT, None, "c1"), failure="timed out")}
    desk.look(slice_at(2, [], [order("B1", 100)]), answers=unanswered)
    desk.report(fill_report("F2", 6, at_s=3, order_id="B1"), at_s=4)
    desk.report(order_report("c1", "B1", 100, OrderStatus.OPEN, submitted_at=at(1)), at_s=5)
    row = order("B1", 100, 5, OrderStatus.PARTIALLY_FILLED, client_id="c1", average="1.1")
    desk.look(slice_at(20, [pos(5)], [row], [fill("F2", 5, at_s=3, order_id="B1")]))
    last = desk.look(slice_at(21, [pos(5)], [row]))
    (one,) = desk.book.orders.values()
    assert (last.status.value, int(one.filled_quantity), int(one.quantity_in_fills)) == ("SUCCESS", 5, 5)
    assert not [event for event in desk.events if event.payload.get("type") == "FILLED_MISMATCH"]
    desk.restart()


def test_the_order_that_was_sent_is_the_first_of_those_that_took_its_place_however_like_it_they_are() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", quantity=9, submitted_at=at(1), strategy="s1"), at_s=1)
    amended = order(
        "B1", 12, 2, OrderStatus.CANCELLED, client_id="c1", average="1.1", submitted_at=at(1), replaced_by="B2"
    )
    follows = order("B2", 9, client_id="c1", submitted_at=at(1))
    last = desk.look(slice_at(10, [pos(2)], [follows, amended]))
    assert "EXTERNAL_ORDER" not in types(last)
    owners = {one.broker_order_id: (one.key, one.strategy) for one in desk.book.orders.values()}
    assert owners == {"B1": ("client:c1", "s1"), "B2": ("broker:B2", "s1")}
    desk.restart()
