"""The order transition table, row by row, and the ids by which an order is found."""

# mypy: disable-error-code="comparison-overlap"
# A Decimal is meant to equal an int here.

from __future__ import annotations

import pytest

from actors.book.orders import OrderAction, transition
from brokers.model import OrderAnswer, OrderQuery
from brokers.model import OrderStatus as S
from tests.unit.builders import FAILED, Desk, at, dec, fill, fill_report, order, order_report, pos, slice_at

WORKING = [s for s in S if not s.terminal]
ENDED = [s for s in S if s.terminal]


@pytest.mark.parametrize("book", WORKING)
@pytest.mark.parametrize(
    ("broker", "action"),
    [
        (S.FILLED, OrderAction.FILL),
        (S.CANCELLED, OrderAction.CANCEL),
        (S.EXPIRED, OrderAction.EXPIRE),
        (S.REJECTED, OrderAction.REJECT),
        *[(status, OrderAction.UPDATE) for status in WORKING],
    ],
)
def test_a_working_order_follows_its_broker(book: S, broker: S, action: OrderAction) -> None:
    assert transition(book, broker) is (OrderAction.KEEP if book is broker else action)


@pytest.mark.parametrize("book", ENDED)
@pytest.mark.parametrize("broker", WORKING)
def test_an_ended_order_that_works_at_the_broker_is_revived(book: S, broker: S) -> None:
    assert transition(book, broker) is OrderAction.REVIVE


@pytest.mark.parametrize("book", S)
def test_every_pair_of_statuses_is_in_the_table(book: S) -> None:
    assert all(isinstance(transition(book, broker), OrderAction) for broker in S)


def test_a_tag_used_for_two_orders_leaves_both_apart() -> None:
    """Kite's tag and MT5's comment are anything a trader writes."""
    desk = Desk()
    desk.report(order_report("tag", quantity=100, submitted_at=at(0)), at_s=0)
    desk.look(slice_at(10, orders=[order("B1", 100, client_id="tag", submitted_at=at(1))]))
    desk.report(order_report("tag", "B2", quantity=30, submitted_at=at(11)), at_s=11)
    rows = [
        order("B2", 30, client_id="tag", submitted_at=at(11)),
        order("B1", 100, client_id="tag", submitted_at=at(1)),
    ]
    decision = desk.look(slice_at(20, orders=rows))
    assert decision.status == "SUCCESS"
    assert {o.broker_order_id: o.quantity for o in desk.book.open_orders()} == {"B1": 100, "B2": 30}
    assert desk.book.find_order_by_ticket("B2").quantity == 30  # type: ignore[union-attr] # it is there


def test_an_older_order_with_the_same_tag_does_not_settle_the_one_just_sent() -> None:
    """The list of today's orders still shows the one from an hour ago, filled, under the tag we use again now."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("tag", quantity=100, submitted_at=at(3600)), at_s=3600)
    old = order("B1", 100, 100, S.FILLED, client_id="tag", average="1.1", submitted_at=at(60))
    desk.look(slice_at(3601, orders=[old]))
    sent = desk.book.find_order(None, "tag")
    assert sent is not None
    assert (sent.status, sent.filled_quantity, sent.broker_order_id) == (S.PENDING_SUBMIT, 0, None)
    desk.look(slice_at(3610, orders=[old, order("B2", 100, client_id="tag", submitted_at=at(3600))]))
    assert [(o.broker_order_id, o.status) for o in desk.book.open_orders()] == [("B2", S.OPEN)]


def test_of_two_rows_with_one_tag_the_likelier_is_ours() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("tag", quantity=30, price="1.2", submitted_at=at(100)), at_s=100)
    rows = [
        order("B1", 100, client_id="tag", price="1.1", submitted_at=at(100)),
        order("B2", 30, client_id="tag", price="1.2", submitted_at=at(101)),
    ]
    desk.look(slice_at(110, orders=rows))
    ours = desk.book.orders["client:tag"]
    assert (ours.broker_order_id, ours.quantity) == ("B2", 30)
    assert desk.book.orders["broker:B1"].quantity == 100


def test_a_client_id_used_again_after_its_order_ended_is_a_new_order() -> None:
    desk = Desk()
    desk.report(order_report("c1", "B1"), at_s=0)
    desk.look(slice_at(10, orders=[order("B1", status=S.CANCELLED, client_id="c1")]))
    desk.report(order_report("c1", quantity=7, submitted_at=at(20)), at_s=20)
    desk.look(slice_at(30, orders=[order("B2", 7, client_id="c1"), order("B1", status=S.CANCELLED, client_id="c1")]))
    assert [(o.broker_order_id, o.quantity) for o in desk.book.open_orders()] == [("B2", 7)]
    assert desk.book.orders["broker:B1"].status is S.CANCELLED


def test_an_answer_by_tag_about_another_order_of_ours_says_nothing_of_the_one_asked_for() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("tag", "B1", submitted_at=at(1), status=S.OPEN), at_s=1)
    desk.report(order_report("tag2", quantity=30, submitted_at=at(2)), at_s=2)
    row = order("B1", 100, client_id="tag", submitted_at=at(1))
    answer = OrderAnswer(OrderQuery("EURUSD", None, "tag2"), row)
    first = desk.look(slice_at(10, orders=[row]), answers={"tag2": answer})
    assert "ORDER_MISSING!" in [f"{d.found.type.value}!" for d in first.discrepancies if not d.resolved]
    desk.look(slice_at(11, orders=[row]), answers={"tag2": answer})
    assert desk.book.orders["client:tag2"].broker_order_id is None
    assert [(o.broker_order_id, o.quantity) for o in desk.book.open_orders()] == [("B1", 100)]


def test_a_fill_with_a_tag_from_before_the_order_was_sent_is_not_its_fill() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("tag", submitted_at=at(3600)), at_s=3600)
    old = fill("f1", 100, at_s=60, order_id="B1", client_id="tag")
    desk.look(slice_at(3601, positions=[], fills=[old]))
    assert desk.book.orders["client:tag"].filled_quantity == 0


def test_the_book_finds_an_order_by_ticket_as_number_or_text() -> None:
    """FEATURES 13"""
    desk = Desk()
    desk.report(order_report("c1", "123456"), at_s=0)
    assert desk.book.find_order_by_ticket(123456) is desk.book.find_order_by_ticket("123456") is not None
    assert desk.book.find_order_by_ticket(1) is None


def test_a_fill_reported_before_its_order_counts_in_it() -> None:
    desk = Desk()
    desk.report(fill_report("f1", 40, at_s=0, order_id="B1"), order_report("c1", "B1"), at_s=0)
    found = desk.book.find_order_by_ticket("B1")
    assert found is not None
    assert (found.filled_quantity, found.average_fill_price) == (40, dec("1.1"))
    row = order("B1", 100, 40, S.PARTIALLY_FILLED, client_id="c1", average="1.1")
    desk.look(slice_at(10, [], [row], [fill("f1", 40, order_id="B1")]), now=at(10))
    assert desk.book.find_order_by_ticket("B1").filled_quantity == 40  # type: ignore[union-attr] # it is there


def test_a_fill_booked_under_the_brokers_id_counts_once_that_id_is_known_to_be_ours() -> None:
    """The answer about orders was lost when the fill came, so nobody could say whose it was."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", submitted_at=at(1)), at_s=1)
    desk.look(slice_at(10, [pos(40)], FAILED, [fill("f1", 40, at_s=2, order_id="B1")]))
    row = order("B1", 100, 40, S.PARTIALLY_FILLED, client_id="c1", average="1.1")
    decision = desk.look(slice_at(20, [pos(40)], [row]))
    assert decision.status == "SUCCESS"
    assert desk.quantities() == {"net": 40}
    ours = desk.book.orders["client:c1"]
    assert (ours.filled_quantity, ours.average_fill_price, ours.inferred) == (40, dec("1.1"), ())
