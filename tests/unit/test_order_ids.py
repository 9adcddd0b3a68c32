"""Whose order a row is: ids that a broker gives for one session only, orders sent twice, more executed than ordered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.book.discrepancies import Cause, DiscrepancyType
from actors.events import Severity
from actors.reconciliation.reconciliation_pass import Decision
from brokers.model import Conventions, OrderAnswer, OrderQuery, OrderStatus, Side
from tests.unit.builders import INSTRUMENT, Desk, dec, fill, order, order_report, pos, slice_at

IB = Conventions(commission_in_average=True, unique_client_ids=True)


def of(decision: Decision, kind: DiscrepancyType) -> list[Severity]:
    return [d.found.severity for d in decision.discrepancies if d.found.type is kind and not d.resolved]


def verified() -> Desk:
    desk = Desk()
    desk.look(slice_at(0, conventions=IB))
    return desk


def test_an_order_that_had_a_provisional_id_is_the_same_order_when_its_real_one_is_reported() -> None:
    desk = verified()
    desk.report(order_report("c1"), at_s=5)
    desk.look(slice_at(20, orders=[order("17/1", client_id="c1")], conventions=IB))
    desk.look(slice_at(30, orders=[order("900", client_id="c1")], conventions=IB))
    (booked,) = desk.book.orders.values()
    assert (booked.broker_order_id, booked.client_order_id, booked.status) == ("900", "c1", OrderStatus.OPEN)
    assert desk.book.find_order("17/1", None) is None
    desk.restart()


def test_an_order_id_that_a_gateway_gives_again_after_its_restart_is_another_order() -> None:
    """The first order got it while there was no permId, and the second one does."""
    desk = verified()
    desk.report(order_report("c1"), at_s=5)
    desk.look(slice_at(20, orders=[order("17/1", client_id="c1")], conventions=IB))
    desk.report(order_report("c2", quantity=7), at_s=30)
    rows = [order("900", client_id="c1"), order("17/1", 7, client_id="c2")]
    desk.look(slice_at(50, orders=rows, conventions=IB))
    shown = {o.client_order_id: (o.broker_order_id, o.quantity) for o in desk.book.orders.values()}
    assert shown == {"c1": ("900", dec(100)), "c2": ("17/1", dec(7))}


def test_the_first_order_of_an_id_given_again_is_asked_for_and_not_taken_for_the_second() -> None:
    desk = verified()
    desk.report(order_report("c1"), at_s=5)
    desk.look(slice_at(20, orders=[order("17/1", client_id="c1")], conventions=IB))
    desk.report(order_report("c2", quantity=7), at_s=30)
    row = order("17/1", 7, client_id="c2")
    ended = order("900", filled=0, status=OrderStatus.CANCELLED, client_id="c1")
    answer = OrderAnswer(OrderQuery(INSTRUMENT, "17/1", "c1"), ended)
    desk.look(slice_at(50, orders=[row], conventions=IB), answers={"17/1": answer})
    shown = {o.client_order_id: (o.broker_order_id, o.status) for o in desk.book.orders.values()}
    assert shown == {"c1": ("900", OrderStatus.CANCELLED), "c2": ("17/1", OrderStatus.OPEN)}


def test_a_fill_under_an_id_given_again_belongs_to_the_order_whose_reference_it_bears() -> None:
    desk = verified()
    desk.report(order_report("c1"), at_s=5)
    desk.look(slice_at(20, orders=[order("17/1", client_id="c1")], conventions=IB))
    desk.report(order_report("c2", quantity=7), at_s=30)
    rows = [order("900", client_id="c1"), order("17/1", 7, 7, OrderStatus.FILLED, client_id="c2", average="1.1")]
    fills = [fill("e1", 7, order_id="17/1", client_id="c2", at_s=40)]
    desk.look(slice_at(50, [pos(7)], rows, fills, conventions=IB))
    filled = {o.client_order_id: o.filled_quantity for o in desk.book.orders.values()}
    assert filled == {"c1": dec(0), "c2": dec(7)}


def test_two_working_orders_of_one_reference_are_a_critical_duplicate_and_neither_is_hidden() -> None:
    desk = verified()
    desk.report(order_report("c1"), at_s=5)
    rows = [order("900", client_id="c1"), order("901", client_id="c1")]
    decision = desk.look(slice_at(20, orders=rows, conventions=IB))
    assert of(decision, DiscrepancyType.DUPLICATE_ORDER) == [Severity.CRITICAL]
    (found,) = [d.found for d in decision.discrepancies if d.found.type is DiscrepancyType.DUPLICATE_ORDER]
    assert (found.cause, found.linked) == (Cause.DUPLICATE_ORDER, ("900", "901"))
    assert {o.broker_order_id for o in desk.book.open_orders()} == {"900", "901"}
    assert of(desk.look(slice_at(30, orders=rows, conventions=IB)), DiscrepancyType.DUPLICATE_ORDER)
    rows[1] = replace(rows[1], status=OrderStatus.CANCELLED)
    desk.look(slice_at(40, orders=rows, conventions=IB))
    assert desk.book.breaks == {}


@pytest.mark.parametrize(
    ("conventions", "second"),
    [
        (Conventions(), order("901", client_id="c1")),
        (IB, order("901", client_id="c1", status=OrderStatus.CANCELLED)),
        (IB, order("901", client_id="c2")),
        (IB, replace(order("901", client_id="c1"), parent="900")),
    ],
    ids=["a tag that many may bear", "one that has ended", "another reference", "a child of the first"],
)
def test_orders_that_are_no_duplicates_are_reported_as_none(conventions: Conventions, second: object) -> None:
    desk = verified()
    desk.report(order_report("c1"), at_s=5)
    rows = [order("900", client_id="c1"), second]
    decision = desk.look(slice_at(20, orders=rows, conventions=conventions))  # type: ignore[arg-type]  # rows of orders
    assert of(decision, DiscrepancyType.DUPLICATE_ORDER) == []


def test_orders_of_others_that_share_a_reference_are_no_duplicates_of_ours() -> None:
    decision = verified().look(
        slice_at(20, orders=[order("900", client_id="tag"), order("901", client_id="tag")], conventions=IB)
    )
    assert of(decision, DiscrepancyType.DUPLICATE_ORDER) == []


def test_an_overfill_is_critical_and_the_order_keeps_the_quantity_that_was_ordered() -> None:
    desk = verified()
    desk.report(order_report("c1", "900"), at_s=5)
    row = order("900", 100, 120, OrderStatus.FILLED, client_id="c1", average="1.1")
    fills = [fill("e1", 100, order_id="900", at_s=10), fill("e2", 20, order_id="900", at_s=11)]
    decision = desk.look(slice_at(20, [pos(120)], [row], fills, conventions=IB))
    assert of(decision, DiscrepancyType.OVERFILL) == [Severity.CRITICAL]
    (booked,) = desk.book.orders.values()
    assert (booked.quantity, booked.filled_quantity) == (dec(100), dec(120))
    assert desk.quantities() == {"net": dec(120)}


def test_an_order_of_which_no_quantity_is_reported_is_not_filled_by_its_first_fill() -> None:
    desk = verified()
    row = order("900", 0, side=Side.BUY, client_id="x")
    desk.look(slice_at(10, orders=[row], conventions=IB))
    row = replace(row, filled_quantity=dec(4), average_fill_price=dec("1.1"), status=OrderStatus.PARTIALLY_FILLED)
    decision = desk.look(slice_at(20, [pos(4)], [row], [fill("e1", 4, order_id="900", at_s=15)], conventions=IB))
    (booked,) = desk.book.orders.values()
    assert (booked.status, booked.filled_quantity) == (OrderStatus.PARTIALLY_FILLED, dec(4))
    assert of(decision, DiscrepancyType.OVERFILL) == []
