"""Kinds: an id that is unique only for a while, and ``filled`` that can go down. One client id on several orders at
once, and corrections beside it: each order keeps what is its own."""

from __future__ import annotations

from dataclasses import replace

from actors.reconciliation.own_reports import contradiction
from brokers.model import Conventions, Corrected, Fill, OrderStatus, Side, Unsupported
from tests.unit.builders import Desk, at, dec, fill, fill_report, order, order_report, pos, slice_at, types

OPEN, FILLED, PARTIAL = OrderStatus.OPEN, OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED
UNIQUE = Conventions(unique_client_ids=True)


def busted(done: Fill, fill_id: str = "C1", left: int = 0) -> Fill:
    return replace(
        done, fill_id=fill_id, quantity=dec(left), corrects=Corrected(done.fill_id, done.quantity, done.price)
    )


def filled(desk: Desk) -> dict[str, int]:
    """What each order is filled, by the broker's id or ours."""
    return {one.subject: int(one.filled_quantity) for one in desk.book.orders.values()}


def two_at_once(conventions: Conventions = Conventions()) -> Desk:  # noqa: B008 - frozen
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("ema", quantity=2, submitted_at=at(1)), at_s=1, conventions=conventions)
    desk.report(order_report("ema", quantity=1, submitted_at=at(2)), at_s=2, conventions=conventions)
    return desk


def test_a_client_id_sent_again_while_its_order_works_is_another_order_where_it_need_not_be_unique() -> None:
    desk = two_at_once()
    assert [int(one.quantity) for one in desk.book.open_orders()] == [2, 1]
    desk.report(order_report("ema", quantity=2, submitted_at=at(1)), at_s=3)
    assert len(desk.book.orders) == 2, "the first report once more"
    other_side = order_report("ema", side=Side.SELL, submitted_at=at(4))
    assert contradiction(desk.book, other_side, at(4)) is None
    assert contradiction(desk.book, other_side, at(4), UNIQUE) is not None
    assert len(two_at_once(UNIQUE).book.orders) == 1
    rows = [order("B2", 1, client_id="ema", submitted_at=at(2)), order("B1", 2, client_id="ema", submitted_at=at(1))]
    last = desk.look(slice_at(20, [], rows))
    assert (last.status, {one.subject: int(one.quantity) for one in desk.book.open_orders()}) == (
        "SUCCESS",
        {"B1": 2, "B2": 1},
    )
    desk.restart()


def test_rows_of_three_orders_of_one_client_id_are_no_slices_of_the_largest() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    sent = [(1, 1), (1, 2), (2, 3)]
    for quantity, seconds in sent:
        desk.report(order_report("ema", quantity=quantity, submitted_at=at(seconds)), at_s=seconds)
    rows = [order(f"B{s}", q, client_id="ema", submitted_at=at(s)) for q, s in sent]
    for seconds in (20, 30):
        last = desk.look(slice_at(seconds, [], rows))
    assert (last.status, {one.subject: int(one.quantity) for one in desk.book.open_orders()}) == (
        "SUCCESS",
        {"B1": 1, "B2": 1, "B3": 2},
    )


def test_two_lost_orders_of_one_client_id_are_two_breaks() -> None:
    desk = two_at_once()
    assert types(desk.look(slice_at(20))) == ["ORDER_MISSING!", "ORDER_MISSING!"]
    last = desk.look(slice_at(21))
    assert (last.status, list(desk.book.open_orders())) == ("SUCCESS", [])


def test_a_bust_takes_from_the_order_that_had_the_execution_and_from_no_other() -> None:
    desk = two_at_once()
    done = fill("F1", 2, at_s=3, order_id="B1")
    rows = [
        order("B1", 2, 0, FILLED, client_id="ema", submitted_at=at(1)),
        order("B2", 1, client_id="ema", submitted_at=at(2)),
    ]
    for seconds in (20, 21, 30):
        last = desk.look(slice_at(seconds, [], rows, [done, busted(done)]))
    assert (last.status, filled(desk), desk.quantities()) == ("SUCCESS", {"B1": 0, "B2": 0}, {})
    desk.restart()


def test_the_correction_of_an_execution_that_never_counted_changes_nothing() -> None:
    """Its order was filled as far as it can be, under other ids."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", quantity=5, status=OPEN), at_s=1)
    row = order("B1", 5, 5, FILLED, client_id="c1", average="1.1")
    first, again = fill("F1", 5, at_s=2, order_id="B1"), fill("F2", 5, at_s=2, order_id="B1")
    desk.look(slice_at(3, [pos(5)], [row], [first]))
    desk.look(slice_at(10, [pos(5)], [row], [first, again]))
    desk.restart()
    last = desk.look(slice_at(20, [pos(5)], [row], [first, again, busted(again)]))
    assert (last.status, filled(desk), desk.quantities()) == ("SUCCESS", {"B1": 5}, {"net": dec(5)})
    desk.restart()


def test_a_fill_and_its_bust_reported_at_once_take_nothing_from_what_an_order_was_adopted_with() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(1)], [order("B1", 3, 1, PARTIAL, average="1.1")]))
    done = fill("F2", 1, at_s=5, order_id="B1")
    for seconds in (20, 26, 27):
        last = desk.look(slice_at(seconds, [pos(1)], [order("B1", 3, 1, PARTIAL, average="1.1")], [done, busted(done)]))
    assert (last.status, filled(desk), desk.quantities()) == ("SUCCESS", {"B1": 1}, {"net": dec(1)})


def test_an_order_that_was_given_up_is_not_taken_for_an_older_one_that_is_forgotten() -> None:
    day = 86_400
    desk = two_at_once()
    row = order("B1", 2, 2, FILLED, client_id="ema", average="1.1", submitted_at=at(1))
    for seconds in (20, 21, day, 3 * day, 3 * day + 1):
        last = desk.look(slice_at(seconds, [pos(2)], [row]))
        assert last.status in ("SUCCESS", "PARTIAL")
    assert (last.status, desk.quantities()) == ("SUCCESS", {"net": dec(2)})


def test_a_fill_of_an_order_that_took_anothers_place_is_that_ones_whatever_our_report_assumed() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c2", quantity=1, submitted_at=at(1)), at_s=1)
    desk.report(fill_report("F5", 1, at_s=3, client_id="c2"), at_s=3)
    rows = [
        order("B2", 1, 0, OrderStatus.CANCELLED, client_id="c2", submitted_at=at(1), replaced_by="B4"),
        order("B4", 1, 1, FILLED, client_id="c2", average="1.1", submitted_at=at(2)),
    ]
    for seconds in (20, 21):
        last = desk.look(slice_at(seconds, [pos(1)], rows, [fill("F5", 1, at_s=3, order_id="B4")]))
    assert (last.status, filled(desk)) == ("SUCCESS", {"B2": 0, "B4": 1})
    desk.restart()


def test_an_order_that_works_again_with_less_filled_is_lowered_on_proof_and_is_no_break_for_ever() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", quantity=6, status=OPEN), at_s=1)
    desk.report(fill_report("F1", 5, at_s=2, order_id="B1"), fill_report("F2", 1, at_s=3, order_id="B1"), at_s=3)
    row = order("B1", 6, 1, PARTIAL, client_id="c1", average="1.1")
    assert types(desk.look(slice_at(10, [pos(1)], [row], Unsupported())))[0] == "ORDER_STATUS_MISMATCH!"
    assert filled(desk) == {"B1": 6}
    desk.look(slice_at(11, [pos(1)], [row], Unsupported()))
    last = desk.look(slice_at(12, [pos(1)], [row], Unsupported()))
    assert (last.status, filled(desk)) == ("SUCCESS", {"B1": 1})
    assert [one.status for one in desk.book.open_orders()] == [PARTIAL]
