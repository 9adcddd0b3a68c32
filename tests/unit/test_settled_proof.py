"""What takes something out of a book is seen after everything done or reported of it, and after it has settled."""

from __future__ import annotations

import pytest

from actors.book.policy import Policy
from brokers.model import OrderStatus, Side
from tests.unit.builders import (
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
    types,
)

PARTLY, OPEN = OrderStatus.PARTIALLY_FILLED, OrderStatus.OPEN


@pytest.mark.parametrize("confirmations", [1, 2])
def test_a_row_that_lags_behind_a_fill_lowers_its_order_only_once_the_fill_has_settled(confirmations: int) -> None:
    """Law 4: looks from sooner than settle after the broker's own fill prove nothing against it, however many."""
    desk = Desk(Policy(confirmations=confirmations))
    desk.report(order_report("c1", "B1", 100, OPEN, submitted_at=at(0)), at_s=0)
    desk.look(slice_at(1, [], [order("B1", client_id="c1", submitted_at=at(0))]))
    row = order("B1", 100, 40, PARTLY, client_id="c1", average="1.1", submitted_at=at(0))
    desk.look(slice_at(10, [pos(40)], [row], [fill("F1", 40, at_s=9.5, order_id="B1")]))
    lagging = order("B1", client_id="c1", submitted_at=at(0))
    for seconds in (11, 12, 13, 14.9, 15.1)[: 3 + confirmations]:
        assert types(desk.look(slice_at(seconds, [pos(40)], [lagging]))) == ["FILLED_MISMATCH!"]
        assert desk.book.orders["broker:B1"].filled_quantity == 40
    desk.look(slice_at(15.7, [pos(40)], [lagging]))
    assert desk.book.orders["broker:B1"].filled_quantity == 0


def test_an_order_that_our_side_speaks_of_again_needs_its_whole_proof_again() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", None, 100, submitted_at=at(1)), at_s=1)
    assert types(desk.look(slice_at(10))) == ["ORDER_MISSING!"]
    desk.report(order_report("c1", None, 100, submitted_at=at(1), strategy="carry"), at_s=10.2)
    for seconds in (12, 15.3):
        desk.look(slice_at(seconds))
        assert not desk.book.orders["client:c1"].status.terminal
    desk.look(slice_at(15.9))
    assert desk.book.orders["client:c1"].status is OrderStatus.CANCELLED


def test_a_position_that_may_lag_behind_what_our_side_did_has_no_new_fill_in_it() -> None:
    """It is the book's without the fill, as a position would be that has the fill in it from within its own second."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(slice_at(16, [pos(10)]))
    desk.report(fill_report("F1", 3, at_s=17, order_id="B1"), at_s=17.2)
    made = [fill("F1", 3, at_s=17, order_id="B1"), fill("F2", 5, at_s=17.5, order_id="X")]
    desk.look(slice_at(18, [pos(13)], [], made))
    assert desk.quantities() == {"net": dec(18)}


def test_a_position_that_may_lag_takes_no_fill_out_of_the_book_that_our_side_reported_after_its_report() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(position_report(10), at_s=100)
    desk.report(fill_report("F1", 5, at_s=101), at_s=101)
    for seconds, shown in ((102, 10), (103, 15)):
        desk.look(slice_at(seconds, [pos(shown)]))
        assert desk.quantities() == {"net": dec(15)}


def test_a_position_from_before_the_newest_fill_says_nothing_of_what_our_report_has_in_it() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(position_report(10), at_s=100)
    desk.look(slice_at(101, [pos(15)], [], [fill("F1", 5, at_s=100.8, order_id="X")]))
    late = slice_at(100.9, [pos(15)], [], [fill("F2", 3, at_s=100.85, order_id="Y")])
    desk.look(late, now=at(101.5))
    assert desk.quantities() == {"net": dec(18)}


def test_nothing_came_before_the_fills_where_the_position_may_lag_behind_what_our_side_did() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(60)]))
    desk.report(fill_report("F1", 40, at_s=10, order_id="B1"), at_s=10)
    made = [fill("F1", 40, at_s=10, order_id="B1"), fill("F2", 130, at_s=10.5, order_id="X", side=Side.SELL)]
    desk.look(slice_at(11, [pos(60)], [], made))
    assert desk.quantities() == {"net": dec(-30)}
