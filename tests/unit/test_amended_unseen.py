"""Kind: a guess that never gives way. The quantity we recorded of an order is our own word; the broker may have amended
it since. A fill beyond it is asked about, and is neither dropped nor found again as an unexplained position."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.reconciliation.decide import reconcile
from brokers.model import Corrected, Order, OrderAnswer, OrderQuery, OrderStatus
from tests.unit.builders import INSTRUMENT, Desk, at, dec, fill, order, order_report, pos, slice_at, types


def recorded() -> Desk:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", quantity=1, status=OrderStatus.OPEN, submitted_at=at(1)), at_s=1)
    return desk


def amended(filled: object, status: OrderStatus) -> Order:
    return order("B1", 3, filled, status, client_id="c1", average="1.1" if filled else None)


def test_a_fill_beyond_what_was_recorded_is_asked_about_where_the_order_is_not_shown() -> None:
    desk = recorded()
    query = OrderQuery(INSTRUMENT, "B1", "c1")
    done = amended(3, OrderStatus.FILLED)
    decision = desk.look(
        slice_at(20, [pos(3)], fills=[fill("F1", 3, at_s=15, order_id="B1")]), answers={"B1": OrderAnswer(query, done)}
    )
    assert desk.quantities() == {"net": dec(3)}
    assert "POSITION_MISMATCH" not in types(decision)
    assert "MISSING_LOCALLY" not in types(decision)
    assert decision.status == "SUCCESS"
    assert list(desk.book.open_orders()) == []


def test_a_row_from_before_the_fill_shows_the_amended_quantity_all_the_same() -> None:
    desk = recorded()
    decision = desk.look(
        slice_at(20, [pos(3)], [amended(0, OrderStatus.OPEN)], [fill("F1", 3, at_s=15, order_id="B1")])
    )
    assert desk.quantities() == {"net": dec(3)}
    assert "MISSING_LOCALLY" not in types(decision)


@pytest.mark.parametrize(
    ("now", "held"),
    [
        (amended(3, OrderStatus.FILLED), 3),
        (order("B1", 1, 0, client_id="c1"), 0),
    ],
    ids=["it was amended since", "it was not, says the broker"],
)
def test_a_row_that_works_and_has_less_room_than_its_fills_is_from_before_them(now: Order, held: int) -> None:
    """A snapshot whose requests were answered at different moments: the orders from before an amendment, the fills from
    after it."""
    desk = recorded()
    slice_ = slice_at(20, [pos(held)], [order("B1", 1, 0, client_id="c1")], [fill("F1", 3, at_s=15, order_id="B1")])
    asked = reconcile(desk.book, slice_, desk.policy, at(20))
    query = OrderQuery(INSTRUMENT, "B1", "c1")
    assert asked.lookups == (query,)
    assert "POSITION_MISMATCH" not in types(asked)
    decision = desk.look(slice_, answers={"B1": OrderAnswer(query, now)})
    assert desk.quantities() == ({"net": dec(held)} if held else {})
    assert "POSITION_MISMATCH" not in types(decision)


def test_while_the_order_cannot_be_looked_up_its_fill_waits_and_nothing_is_said_of_the_leg() -> None:
    desk = recorded()
    slice_ = slice_at(20, [pos(3)], fills=[fill("F1", 3, at_s=15, order_id="B1")])
    query = OrderQuery(INSTRUMENT, "B1", "c1")
    silent = desk.look(slice_, answers={"B1": OrderAnswer(query, failure="timed out")})
    assert (silent.cursor, silent.status.value, desk.quantities()) == (None, "PARTIAL", {})
    assert silent.unverified
    heard = desk.look(
        replace(slice_, requested_at=at(30), revision="r30"),
        answers={"B1": OrderAnswer(query, amended(3, OrderStatus.FILLED))},
    )
    assert (heard.status.value, desk.quantities()) == ("SUCCESS", {"net": dec(3)})
    assert heard.cursor is not None


BEFORE = order("B1", 2, 1, OrderStatus.PARTIALLY_FILLED, client_id="c1", average="1.1")


@pytest.mark.parametrize("left", [0, 2])
@pytest.mark.parametrize("shown", [(), (BEFORE,)], ids=["not shown", "as it was before"])
def test_a_correction_without_the_fill_that_it_corrects_changes_nothing(shown: tuple[Order, ...], left: int) -> None:
    """The fill waits or does not count: applied alone, its correction would take another fill out of the leg."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", quantity=2, status=OrderStatus.OPEN, submitted_at=at(1)), at_s=1)
    desk.look(slice_at(12, [pos(1)], [BEFORE], [fill("F0", 1, at_s=11, order_id="B1")]))
    made = fill("F1", 3, at_s=15, order_id="B1")
    fills = [made, replace(made, fill_id="C1", quantity=dec(left), corrects=Corrected("F1", dec(3), made.price))]
    query = OrderQuery(INSTRUMENT, "B1", "c1")
    silent = {"B1": OrderAnswer(query, failure="timed out")}
    desk.look(slice_at(20, [pos(1 + left)], shown, fills), answers=silent)
    assert desk.quantities() == {"net": 1}
    now = replace(BEFORE, quantity=dec(5), filled_quantity=dec(1 + left))
    heard = desk.look(slice_at(30, [pos(1 + left)], [now], fills), answers={"B1": OrderAnswer(query, now)})
    assert desk.quantities() == {"net": 1 + left}
    assert "POSITION_MISMATCH" not in types(heard)
    assert desk.look(slice_at(40, [pos(1 + left)], [now])).status == "SUCCESS"


def test_an_order_that_the_broker_does_not_know_has_no_more_than_was_recorded() -> None:
    desk = recorded()
    asked = reconcile(
        desk.book, slice_at(20, [pos(3)], fills=[fill("F1", 3, at_s=15, order_id="B1")]), desk.policy, at(20)
    )
    assert asked.lookups == (OrderQuery(INSTRUMENT, "B1", "c1"),)


def test_an_order_and_what_took_its_place_are_no_parts_of_one_though_they_add_up_to_what_was_ordered() -> None:
    """Else the order that was replaced is in step, and the one that works is nowhere."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", quantity=7, status=OrderStatus.OPEN, submitted_at=at(1)), at_s=1)
    rows = [
        order("B1", 3, status=OrderStatus.CANCELLED, client_id="c1", submitted_at=at(1), replaced_by="B2"),
        order("B2", 4, client_id="c1", submitted_at=at(9)),
    ]
    desk.look(slice_at(20, orders=rows))
    assert [(one.broker_order_id, one.quantity) for one in desk.book.open_orders()] == [("B2", dec(4))]


def test_a_correction_of_the_same_slice_makes_room_and_nothing_is_looked_up() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", quantity=9, status=OrderStatus.OPEN, submitted_at=at(1)), at_s=1)
    first = fill("F1", 8, at_s=2, order_id="B1")
    row = order("B1", 9, 8, OrderStatus.PARTIALLY_FILLED, client_id="c1", average="1.1")
    desk.look(slice_at(10, [pos(8)], [row], [first]))
    bust = replace(first, fill_id="C1", quantity=dec(0), corrects=Corrected("F1", dec(8), first.price))
    again = fill("F2", 8, at_s=15, order_id="B1")
    slice_ = slice_at(20, [pos(8)], [row], [bust, again])
    assert reconcile(desk.book, slice_, desk.policy, at(20)).lookups == ()
    desk.look(slice_)
    (found,) = desk.book.orders.values()
    assert (desk.quantities(), int(found.filled_quantity)) == ({"net": dec(8)}, 8)
