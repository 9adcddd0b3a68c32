"""The book is a fold: the same events give the same book, a fill counts once, and a fork is a book of its own."""

from __future__ import annotations

import importlib
from datetime import timedelta

import pytest

from actors.book.book import ENDED_ORDERS_KEPT_FOR, Book
from actors.book.checkpoint import checkpoint
from actors.events import Event, EventType
from brokers.model import OrderStatus, Side
from tests.unit.builders import (
    SIDED,
    TICKET,
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
)


def test_the_unit_suite_cannot_import_ray() -> None:
    with pytest.raises(ImportError, match="without Ray"):
        importlib.import_module("ray")


def test_a_fill_counts_once_however_often_its_event_is_applied() -> None:
    desk = Desk()
    desk.report(order_report("c1", "B1"), fill_report("f1", 40, at_s=1, order_id="B1"), at_s=1)
    event = desk.events[-1]
    assert event.type is EventType.FILL_RECORDED
    desk.book.apply(Event("other", event.type, event.severity, event.time, event.payload))
    assert desk.quantities() == {"net": 40}
    assert desk.book.orders["broker:B1"].filled_quantity == 40


def test_a_fill_reported_by_us_is_not_applied_again_when_the_broker_reports_it() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1"), fill_report("f1", 100, at_s=1, order_id="B1"), at_s=1)
    done = order("B1", 100, 100, OrderStatus.FILLED, client_id="c1", average="1.1")
    for moment in (1.5, 8, 9):
        desk.look(slice_at(moment, [pos(100)], [done], [fill("f1", 100, at_s=1, order_id="B1")] * 2))
    assert desk.quantities() == {"net": 100}
    assert desk.book.find_order_by_ticket("B1").filled_quantity == 100  # type: ignore[union-attr] # it is there


def test_a_fork_is_a_book_of_its_own() -> None:
    desk = Desk()
    desk.report(order_report("c1", "B1"), fill_report("f1", 40, at_s=1, order_id="B1"), at_s=1)
    before = checkpoint(desk.book)
    fork = desk.book.fork()
    twin = Desk()
    twin.book = fork
    twin.report(order_report("c2", "B2"), fill_report("f2", 7, at_s=2), position_report(3), at_s=2)
    twin.look(slice_at(60, [pos(5)]), answers={})
    assert checkpoint(desk.book) == before
    assert checkpoint(fork) != before


@pytest.mark.parametrize(
    ("conventions", "start", "trade", "after"),
    [
        pytest.param(TICKET, {"1": 10, "2": 5}, ("SELL", 12, None), {"2": 3}, id="FIFO across tickets"),
        pytest.param(TICKET, {"1": 10, "2": 5}, ("SELL", 3, "2"), {"1": 10, "2": 2}, id="the named ticket"),
        pytest.param(TICKET, {"1": 10, "2": 5}, ("SELL", 9, "2"), {"1": 10}, id="a ticket is not turned"),
        pytest.param(TICKET, {"1": 10}, ("SELL", 4, "9"), {"1": 10, "9": -4}, id="an unknown ticket is a leg"),
        pytest.param(SIDED, {"long": 10, "short": -5}, ("BUY", 2, "short"), {"long": 10, "short": -3}, id="short side"),
        pytest.param(SIDED, {"long": 10}, ("SELL", 4, "short"), {"long": 10, "short": -4}, id="hedged"),
        pytest.param(SIDED, {"long": 10}, ("SELL", 14, "long"), {}, id="a side is not turned"),
        pytest.param(SIDED, {"long": 10}, ("BUY", 4, None), {"long": 14}, id="the usual side"),
    ],
)
def test_a_fill_joins_the_leg_it_belongs_to(
    conventions: object, start: dict[str, int], trade: tuple[str, int, str | None], after: dict[str, int]
) -> None:
    """PEERS 6, FEATURES 13"""
    desk = Desk()
    for place, (leg, quantity) in enumerate(start.items()):
        desk.report(position_report(quantity, leg=leg), at_s=place)
    side, traded, joins = trade
    report = fill_report("f1", traded, at_s=100, side=Side(side), leg=joins)
    desk.report(report, at_s=100, conventions=conventions)  # type: ignore[arg-type] # Conventions
    assert desk.quantities() == after
    assert {name: leg.quantity for name, leg in desk.book.positions_by_ticket().items()} == after


def test_a_position_id_opens_a_ticket_of_its_own_and_closes_no_other() -> None:
    """A deal on a ticket we have not seen must not be taken out of the oldest one."""
    desk = Desk()
    desk.look(slice_at(0, [pos(10, leg="1")], conventions=TICKET))
    deal = fill("f1", 4, at_s=5, order_id="9", side=Side.SELL, position_id="9")
    desk.look(slice_at(6, [pos(10, leg="1"), pos(-4, leg="9")], fills=[deal], conventions=TICKET))
    assert desk.quantities() == {"1": 10, "9": -4}


def test_net_crosses_zero() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(10, "1.1")]))
    desk.look(slice_at(6, [pos(-5, "1.3")], fills=[fill("f1", 15, "1.3", at_s=5, side=Side.SELL)]))
    assert desk.held() == {"net": (dec(-5), dec("1.3"))}


def test_orders_ended_long_ago_are_forgotten_and_their_fills_with_them_do_not_come_back() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    done = order("B1", 10, 10, OrderStatus.FILLED, client_id="c1", average="1.1", submitted_at=at(1))
    executed = fill("f1", 10, at_s=1, order_id="B1")
    desk.look(slice_at(6, [pos(10)], [done], [executed]))
    later = ENDED_ORDERS_KEPT_FOR.total_seconds() + 60
    desk.look(slice_at(later, [pos(10)], [done], [executed]))
    desk.look(slice_at(later + 400, [pos(10)], [], [executed]))
    assert desk.book.find_order_by_ticket("B1") is None
    assert desk.book.find_order(None, "c1") is None
    assert desk.quantities() == {"net": 10}


def test_times_of_legs_closed_long_ago_are_forgotten() -> None:
    """A ticket is used once; a book that lives for years must not remember each."""
    desk = Desk()
    for ticket in range(5):
        desk.report(position_report(1, leg=str(ticket)), position_report(0, leg=str(ticket)), at_s=ticket)
    desk.look(slice_at((ENDED_ORDERS_KEPT_FOR + timedelta(hours=1)).total_seconds()))
    assert (desk.book.watermarks, desk.book.activity, desk.book.known_at) == ({}, {}, {})


def test_an_event_of_another_kind_says_nothing_about_the_book() -> None:
    book = Book("acc", "EURUSD")
    before = checkpoint(book)
    for version, kind in enumerate((EventType.CHECKPOINT, EventType.ACTOR_RESTARTED, EventType.OPERATOR_ACTION), 1):
        book.apply(Event(str(version), kind, "INFO", at(0), {}))  # type: ignore[arg-type] # a severity by its text
        assert book.version == version
    assert checkpoint(book) == before
