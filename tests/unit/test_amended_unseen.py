"""Kind: a guess that never gives way. The quantity we recorded of an order is our own word; the broker may have amended
it since. A fill beyond it is asked about, and is neither dropped nor found again as an unexplained position."""

from __future__ import annotations

from dataclasses import replace

from actors.reconciliation.decide import reconcile
from brokers.model import Order, OrderAnswer, OrderQuery, OrderStatus
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
