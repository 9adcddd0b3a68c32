"""One order of ours in several at the broker: quantities summed, one fate, and no external orders beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.book.orders import BookOrder
from brokers.model import Order, OrderAnswer, OrderQuery, OrderStatus
from tests.unit.builders import (
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
    slice_at,
    types,
)

PARTS = ("b1", "b2", "b3", "b4", "b5")


def parts(filled: tuple[int, ...] = (0, 0, 0, 0, 0), each: int = 200) -> list[Order]:
    """Five orders of one tag, of which so much is filled."""
    rows = []
    for number, (name, done) in enumerate(zip(PARTS, filled, strict=True)):
        status = OrderStatus.FILLED if done == each else OrderStatus.PARTIALLY_FILLED if done else OrderStatus.OPEN
        rows.append(
            order(name, each, done, status, client_id="c1", average="1.1" if done else None, submitted_at=at(number))
        )
    return rows


def one(desk: Desk) -> BookOrder:
    (found,) = desk.book.orders.values()
    return found


def recorded() -> Desk:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", quantity=1000, submitted_at=at(0)), at_s=1)
    return desk


@pytest.mark.parametrize("named_by_broker", [True, False], ids=["named by the broker", "by its quantity alone"])
def test_five_orders_of_one_tag_are_one_order_of_ours_to_its_end(named_by_broker: bool) -> None:
    desk = recorded()

    def shown(rows: list[Order]) -> list[Order]:
        if not named_by_broker:
            return rows
        filled = sum((row.filled_quantity for row in rows), dec(0))
        status = (
            OrderStatus.OPEN if not filled else OrderStatus.FILLED if filled == 1000 else OrderStatus.PARTIALLY_FILLED
        )
        average = dec("1.1") if filled else None
        first = replace(rows[0], quantity=dec(1000), filled_quantity=filled, status=status, average_fill_price=average)
        return [replace(first, slices=PARTS[1:])]

    opened = desk.look(slice_at(10, orders=shown(parts())))
    assert types(opened) == ["ORDER_STATUS_MISMATCH"]
    assert (one(desk).status, one(desk).quantity, one(desk).broker_order_id) == (OrderStatus.OPEN, dec(1000), "b1")
    first = [fill("f1", 200, at_s=11, order_id="b1"), fill("f2", 50, at_s=12, order_id="b3")]
    found = desk.look(slice_at(20, [pos(250)], shown(parts((200, 0, 50, 0, 0))), first))
    assert types(found) == ["MISSED_FILL"]
    assert (one(desk).status, one(desk).filled_quantity) == (OrderStatus.PARTIALLY_FILLED, dec(250))
    rest = [
        fill(f"r{n}", quantity, at_s=21 + n, order_id=name)
        for n, (name, quantity) in enumerate(zip(PARTS[1:], (200, 150, 200, 200), strict=True))
    ]
    desk.look(slice_at(30, [pos(1000)], shown(parts((200,) * 5)), [*first, *rest]))
    assert (one(desk).status, one(desk).filled_quantity) == (OrderStatus.FILLED, dec(1000))
    desk.restart()
    assert desk.look(slice_at(40, [pos(1000)], shown(parts((200,) * 5)), [*first, *rest])).discrepancies == ()
    assert desk.quantities() == {"net": dec(1000)}


NO_SLICES = {
    "their quantities are another's": [order("b1", 300, client_id="c1"), order("b2", 300, client_id="c1")],
    "they are of two days": [
        order("b1", 400, client_id="c1", submitted_at=at(0)),
        order("b2", 600, client_id="c1", submitted_at=at(86_400)),
    ],
    "one took the place of another order": [
        order("b1", 400, client_id="c1"),
        order("b2", 600, client_id="c1"),
        order("b0", 100, status=OrderStatus.CANCELLED, client_id="c1", replaced_by="b2"),
    ],
    "they are of two prices": [
        replace(order("b1", 400, client_id="c1"), limit_price=dec("1.1")),
        replace(order("b2", 600, client_id="c1"), limit_price=dec("1.2")),
    ],
    "one is a limit order and the other is none": [
        replace(order("b1", 400, client_id="c1"), order_type="LIMIT"),
        replace(order("b2", 600, client_id="c1"), order_type="MARKET"),
    ],
}


@pytest.mark.parametrize("rows", NO_SLICES.values(), ids=NO_SLICES)
def test_orders_that_merely_share_a_tag_are_not_joined(rows: list[Order]) -> None:
    """A tag is often a strategy's name."""
    desk = recorded()
    desk.look(slice_at(86_410, orders=rows))
    assert sorted(held.quantity for held in desk.book.open_orders()) == sorted(row.quantity for row in rows[:2])
    assert not any(held.slices for held in desk.book.orders.values())


ANSWERS = {"the broker says so": True, "the broker does not answer": False}


@pytest.mark.parametrize("answers", ANSWERS.values(), ids=ANSWERS)
def test_what_may_have_taken_the_place_of_an_order_that_is_not_shown_any_more_is_no_slice(answers: bool) -> None:
    desk = Desk()
    desk.report(order_report("c1", quantity=300, submitted_at=at(0)), at_s=0)
    desk.look(slice_at(5, orders=[order("b0", 300, client_id="c1", submitted_at=at(1))]))
    desk.report(order_report("c1", quantity=1000, submitted_at=at(6)), at_s=6)
    rows = [order(name, each, client_id="c1", submitted_at=at(8)) for name, each in (("b1", 400), ("b2", 600))]
    ended = order("b0", 300, status=OrderStatus.CANCELLED, client_id="c1", replaced_by="b1", submitted_at=at(1))
    answer = OrderAnswer(OrderQuery(INSTRUMENT, "b0", "c1"), ended)
    desk.look(slice_at(20, orders=rows), answers={"b0": answer} if answers else {})
    assert not any(held.slices for held in desk.book.orders.values())
    assert {held.quantity for held in desk.book.open_orders()} >= ({dec(400), dec(600)} if answers else {dec(300)})


def test_an_order_that_is_shown_after_the_one_whose_place_it_took_is_no_slice() -> None:
    desk = Desk()
    desk.report(order_report("c1", quantity=300, submitted_at=at(0)), at_s=0)
    ended = order("b0", 300, status=OrderStatus.CANCELLED, client_id="c1", replaced_by="b1", submitted_at=at(1))
    desk.look(slice_at(5, orders=[ended]))
    desk.report(order_report("c1", quantity=1000, submitted_at=at(6)), at_s=6)
    rows = [order(name, each, client_id="c1", submitted_at=at(8)) for name, each in (("b1", 400), ("b2", 600))]
    desk.look(slice_at(20, orders=rows))
    assert not any(held.slices for held in desk.book.orders.values())


def test_slices_that_were_adopted_before_are_made_one_with_the_order_they_are_of() -> None:
    desk = recorded()
    rows = parts((200, 100, 0, 0, 0))
    desk.look(
        slice_at(
            10, [pos(300)], rows[:2], [fill("f1", 200, at_s=5, order_id="b1"), fill("f2", 100, at_s=6, order_id="b2")]
        )
    )
    assert len(desk.book.orders) == 2
    whole = replace(
        rows[0], quantity=dec(1000), filled_quantity=dec(300), status=OrderStatus.PARTIALLY_FILLED, slices=PARTS[1:]
    )
    desk.look(slice_at(20, [pos(300)], [whole]))
    assert (one(desk).client_order_id, one(desk).quantity, one(desk).filled_quantity) == ("c1", dec(1000), dec(300))
    assert desk.quantities() == {"net": dec(300)}
    assert desk.look(slice_at(30, [pos(300)], [whole])).discrepancies == ()


def test_a_fill_that_our_side_reports_of_a_slice_counts_in_the_whole_once() -> None:
    desk = recorded()
    desk.report(fill_report("f2", 50, at_s=9, order_id="b3"), at_s=9)
    desk.look(slice_at(20, [pos(50)], parts((0, 0, 50, 0, 0)), [fill("f2", 50, at_s=9, order_id="b3")]))
    assert (one(desk).filled_quantity, desk.quantities()) == (dec(50), {"net": dec(50)})
    desk.report(fill_report("f3", 20, at_s=21, order_id="b4"), at_s=21)
    assert one(desk).filled_quantity == 70


def test_of_a_whole_whose_slices_are_not_all_shown_nothing_is_said() -> None:
    desk = recorded()
    desk.look(slice_at(10, orders=parts()))
    before = one(desk)
    rows = parts((200, 0, 0, 0, 0))
    answer = OrderAnswer(OrderQuery(INSTRUMENT, "b1", "c1"), rows[0])
    found = desk.look(slice_at(20, orders=rows[:3]), answers={"b1": answer})
    assert kinds(found.events) == []
    assert found.unverified
    assert one(desk) == before


def growing(filled: int, status: OrderStatus = OrderStatus.FILLED, slices: tuple[str, ...] = ()) -> Order:
    """What is shown of a whole whose other parts may be still to come: 200 for each part."""
    shown = order("b1", 200 * (1 + len(slices)), filled, status, client_id="c1", average="1.1", submitted_at=at(2))
    return replace(shown, slices=slices, growing=True)


def test_the_first_slice_of_an_order_is_not_the_whole_of_it_while_others_may_come() -> None:
    desk = recorded()
    desk.look(slice_at(10, [pos(200)], [growing(200)], [fill("f1", 200, at_s=5, order_id="b1")]))
    assert (one(desk).quantity, one(desk).filled_quantity) == (dec(1000), dec(200))
    assert one(desk).status is OrderStatus.PARTIALLY_FILLED
    two = growing(400, slices=("b2",))
    desk.look(slice_at(20, [pos(400)], [two], [fill("f2", 200, at_s=15, order_id="b2")]))
    assert (one(desk).quantity, one(desk).filled_quantity) == (dec(1000), dec(400))
    assert one(desk).status is OrderStatus.PARTIALLY_FILLED
    assert desk.look(slice_at(25, [pos(400)], [two])).discrepancies == ()


@pytest.mark.parametrize("ended", [OrderStatus.REJECTED, OrderStatus.CANCELLED])
def test_the_end_of_one_slice_is_not_the_end_of_an_order_that_is_growing(ended: OrderStatus) -> None:
    desk = recorded()
    desk.look(slice_at(10, orders=[growing(0, ended)]))
    assert (one(desk).status, one(desk).quantity) == (OrderStatus.OPEN, dec(1000))
    over = replace(growing(0, ended), growing=False)
    desk.look(slice_at(30, orders=[over]))
    assert one(desk).status is ended


def test_a_whole_that_has_all_that_we_ordered_is_filled_at_once_though_it_may_be_growing() -> None:
    desk = recorded()
    fills = [fill(f"f{n}", 200, at_s=5, order_id=name) for n, name in enumerate(PARTS)]
    desk.look(slice_at(10, [pos(1000)], [growing(1000, slices=PARTS[1:])], fills))
    assert (one(desk).status, one(desk).filled_quantity) == (OrderStatus.FILLED, dec(1000))


def test_a_growing_order_that_nobody_recorded_is_adopted_as_one_that_works() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(slice_at(10, [pos(200)], [growing(200)], [fill("f1", 200, at_s=5, order_id="b1")]))
    assert one(desk).status is OrderStatus.PARTIALLY_FILLED
    settled = replace(growing(200), growing=False)
    desk.look(slice_at(20, [pos(200)], [settled]))
    assert (one(desk).status, one(desk).quantity) == (OrderStatus.FILLED, dec(200))
