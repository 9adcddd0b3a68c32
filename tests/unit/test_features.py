"""What the systems we replace do, as far as the core alone does it: one story a row of FEATURES.md."""

# mypy: disable-error-code="comparison-overlap"
# A Decimal is meant to equal an int here.

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from actors.book.checkpoint import checkpoint, checkpoint_event, replay
from actors.book.policy import Policy
from actors.events import Event, EventType, Severity
from actors.reconciliation.positions import force_add_position, force_close_position, force_update_position
from brokers.clocks import broker_time
from brokers.model import NET, Order, OrderAnswer, OrderQuery, OrderStatus, Section, Unsupported
from tests.unit.builders import (
    FAILED,
    TICKET,
    Desk,
    at,
    dec,
    fill,
    kinds,
    order,
    order_report,
    pos,
    records,
    slice_at,
    types,
)

S, E = OrderStatus, EventType


def test_partial_fills_are_found_and_the_position_follows() -> None:
    """FEATURES 5"""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", 100, S.OPEN), at_s=1)
    for filled in (10, 35, 80):
        row = order("B1", 100, filled, S.PARTIALLY_FILLED, average="1.1")
        decision = desk.look(slice_at(filled, [pos(filled)], [row]))
        assert types(decision) == ["MISSED_FILL"]
        assert desk.quantities() == {"net": filled}
    assert desk.look(slice_at(90, [pos(80)], [order("B1", 100, 80, S.CANCELLED)])).status == "SUCCESS"
    assert desk.quantities() == {"net": 80}


def test_a_stale_order_is_found_and_cancelled_where_asked() -> None:
    """FEATURES 6"""
    for asked, cancels in ((False, 0), (True, 1)):
        desk = Desk(Policy(stale_order=timedelta(seconds=60), cancel_stale_orders=asked))
        desk.report(order_report("c1", "B1", 100, S.OPEN, submitted_at=at(0)), at_s=0)
        working = [order("B1", client_id="c1", submitted_at=at(0))]
        assert desk.look(slice_at(60, orders=working)).cancels == ()
        decision = desk.look(slice_at(61, orders=working))
        assert types(decision) == ["STALE_ORDER!"]
        assert len(decision.cancels) == cancels
        assert desk.book.find_order_by_ticket("B1").status is S.OPEN  # type: ignore[union-attr] # it is there


def test_three_phases_run_in_their_order_and_the_broker_is_right() -> None:
    """FEATURES 10"""
    desk = Desk()
    desk.look(slice_at(0, [pos(1, leg="ghost"), pos(1, leg="volume"), pos(1, "1.1", "price")], conventions=TICKET))
    truth = [pos(5, leg="zombie"), pos(3, leg="volume"), pos(1, "1.4", "price")]
    desk.look(slice_at(10, truth[1:], conventions=TICKET))
    decision = desk.look(slice_at(11, truth, conventions=TICKET))
    phases = [d.found.phase.value for d in decision.discrepancies]
    assert phases == ["RECOVERY", "GHOST"]
    assert desk.held() == {row.leg: (row.quantity, row.average_price) for row in truth}


def test_the_three_forced_corrections_keep_lots_right() -> None:
    """FEATURES 13"""
    desk = Desk()

    def force(payload: dict, version: int) -> None:  # type: ignore[type-arg] # JSON
        desk.write([Event(str(version), E.POSITION_SYNCED, Severity.INFO, at(version), payload)])

    force(force_add_position("77", dec(3), dec("1.1"), broker_time(at(0))), 0)
    force(force_update_position("77", dec(5), dec("1.3"), broker_time(at(1))), 1)
    leg = desk.book.positions_by_ticket()["77"]
    assert [(lot.quantity, lot.price) for lot in leg.lots] == [(3, dec("1.1")), (2, dec("1.6"))]
    force(force_update_position("77", dec(1), dec("1.3"), broker_time(at(2))), 2)
    assert [(lot.quantity, lot.price) for lot in desk.book.legs["77"].lots] == [(1, dec("1.6"))]
    force(force_close_position("77", broker_time(at(3))), 3)
    assert desk.book.positions_by_ticket() == {}


ROWS: list[tuple[str, OrderStatus, Section[Order] | list[Order], list[EventType], OrderStatus]] = [
    ("OPEN | PENDING_SUBMIT", S.PENDING_SUBMIT, [order("B1")], [E.ORDER_UPDATED], S.OPEN),
    ("FILLED | not terminal", S.OPEN, [order("B1", 100, 100, S.FILLED, average="1.1")], [E.ORDER_FILLED], S.FILLED),
    ("PARTIALLY_FILLED | other filled quantity", S.OPEN, [order("B1", 100, 30, S.PARTIALLY_FILLED, average="1.1")],
     [E.ORDER_FILLED], S.PARTIALLY_FILLED),
    ("CANCELLED | not terminal", S.OPEN, [order("B1", status=S.CANCELLED)], [E.ORDER_CANCELLED], S.CANCELLED),
    ("EXPIRED | not terminal", S.OPEN, [order("B1", status=S.EXPIRED)], [E.ORDER_EXPIRED], S.EXPIRED),
    ("REJECTED | not terminal", S.OPEN, [order("B1", status=S.REJECTED)],
     [E.RECONCILIATION_DISCREPANCY, E.ORDER_REJECTED], S.REJECTED),
    ("quantity amended | not terminal", S.OPEN, [order("B1", 70)], [E.ORDER_UPDATED], S.OPEN),
    ("price amended | not terminal", S.OPEN, [order("B1", price="1.4")], [E.ORDER_UPDATED], S.OPEN),
    ("absent | not terminal", S.OPEN, [], [E.RECONCILIATION_DISCREPANCY], S.OPEN),
    ("a failed list | not terminal", S.OPEN, FAILED, [], S.OPEN),
    ("any | unknown", S.OPEN, [order("B1"), order("B9")], [E.RECONCILIATION_DISCREPANCY, E.ORDER_UPDATED], S.OPEN),
    ("not terminal | terminal", S.EXPIRED, [order("B1")], [E.ORDER_UPDATED], S.OPEN),
]  # fmt: skip


@pytest.mark.parametrize(("book", "orders", "events", "after"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_every_row_of_the_order_table_with_its_events(
    book: OrderStatus, orders: Section[Order] | list[Order], events: list[EventType], after: OrderStatus
) -> None:
    """FEATURES 18"""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", 100, book), at_s=1)
    filled = sum((row.filled_quantity for row in orders), Decimal(0)) if isinstance(orders, list) else 0
    decision = desk.look(slice_at(60, [pos(filled)] if filled else [], orders))
    assert kinds(e for e in decision.events if e.type in events) == events
    ours = desk.book.find_order_by_ticket("B1")
    assert ours is not None
    assert ours.status is after
    assert desk.look(slice_at(60, [pos(filled)] if filled else [], orders)).events == ()


def test_a_corrected_position_is_an_event_of_its_own() -> None:
    """FEATURES 18"""
    desk = Desk()
    decision = desk.look(slice_at(0, [pos(100)]))
    assert kinds(decision.events) == [E.RECONCILIATION_DISCREPANCY, E.POSITION_SYNCED, E.RECONCILED]


def test_paper_mode_reconciles_orders_and_no_positions() -> None:
    """FEATURES 19"""
    for live in (True, False):
        desk = Desk(Policy(positions=live))
        decision = desk.look(slice_at(0, [pos(100)], [order("B1")]))
        assert decision.status == "SUCCESS"
        assert desk.quantities() == ({"net": 100} if live else {})
        assert desk.book.find_order_by_ticket("B1") is not None


def test_a_checkpoint_holds_what_the_fills_made_and_a_pass_can_be_counted() -> None:
    """FEATURES 20"""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", 100, S.OPEN), at_s=1)
    row = order("B1", 100, 30, S.PARTIALLY_FILLED, average="1.1")
    decision = desk.look(slice_at(10, [pos(30)], [row], [fill("f1", 30, at_s=5, order_id="B1")]))
    assert len(decision.discrepancies) == 1
    event = checkpoint_event(desk.book, at(11))
    book = replay("acc", "EURUSD", records([event], after=desk.book.version))
    assert checkpoint(book) == checkpoint(desk.book)
    assert book.legs[NET].quantity == 30


@pytest.mark.parametrize("fills", [[], Unsupported()], ids=["fills reported", "no fills there"])
def test_an_order_whose_confirmation_was_lost_is_found_later_and_settled(fills: object) -> None:
    """FEATURES 23"""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", submitted_at=at(1)), at_s=1)
    query = OrderQuery("EURUSD", None, "c1")
    lost = desk.look(slice_at(3, [], FAILED), answers={"c1": OrderAnswer(query, failure="timed out")})
    assert lost.status == "PARTIAL"
    done = order("B1", 100, 100, S.FILLED, client_id="c1", average="1.1", submitted_at=at(2))
    found = desk.look(slice_at(20, [pos(100)], [], fills), answers={"c1": OrderAnswer(query, done)})  # type: ignore[arg-type] # a section
    assert found.status == "SUCCESS"
    ours = desk.book.find_order(None, "c1")
    assert ours is not None
    assert (ours.status, ours.broker_order_id) == (S.FILLED, "B1")
    assert desk.quantities() == {"net": 100}
