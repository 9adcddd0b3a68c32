"""What our side reports of itself, as events."""

from __future__ import annotations

from datetime import timedelta

import pytest

from actors.book.book import Book
from actors.events import Event, EventType
from actors.reconciliation.own_reports import FillReport, PositionReport, Report, events_of
from brokers.model import Conventions, OrderStatus, Side
from tests.unit.builders import (
    INSTRUMENT,
    SIDED,
    TICKET,
    Desk,
    at,
    dec,
    fill_report,
    kinds,
    order,
    order_report,
    pos,
    position_report,
    slice_at,
)

S = OrderStatus


def events(desk: Desk, *reports: Report, at_s: float = 1, conventions: Conventions = SIDED) -> tuple[Event, ...]:
    return events_of(desk.book, reports, conventions, at(at_s))


def test_each_report_is_an_event_of_its_kind() -> None:
    desk = Desk()
    given = events(desk, order_report(), fill_report("f", 10, at_s=0, client_id="c1"), position_report(5, leg="short"))
    assert kinds(given) == [EventType.ORDER_RECORDED, EventType.FILL_RECORDED, EventType.POSITION_RECORDED]
    assert desk.book.version == 0, "the book is not changed"


@pytest.mark.parametrize(
    "report",
    [order_report(), order_report(None, "77"), order_report(submitted_at=at(0)), fill_report("f", 10, at_s=0)],
    ids=["client id", "broker id", "submitted", "fill"],
)
def test_what_is_reported_twice_counts_once(report: Report) -> None:
    desk = Desk()
    assert len(events(desk, report, report)) == 1
    desk.report(report, at_s=1)
    assert events(desk, report, at_s=2) == ()


@pytest.mark.parametrize("submitted", [None, 0.0], ids=["untimed", "timed"])
@pytest.mark.parametrize("broker_id", [None, "7"])
@pytest.mark.parametrize("end", [S.FILLED, S.CANCELLED])
def test_a_report_repeated_after_the_order_has_ended_opens_no_second_one(
    submitted: float | None, broker_id: str | None, end: S
) -> None:
    """A queue that delivers twice must not leave a phantom order in the book."""
    sent = order_report("c1", broker_id, submitted_at=None if submitted is None else at(submitted))
    desk = Desk()
    desk.report(sent, at_s=0.1)
    filled = 100 if end is S.FILLED else 0
    row = order("7", 100, filled, end, client_id="c1", average="1.1", submitted_at=at(0.2))
    desk.look(slice_at(10, [pos(filled)] if filled else [], [row]))
    assert [o.status for o in desk.book.orders.values()] == [end]
    assert events(desk, sent, at_s=11) == ()


def test_an_order_that_reconciliation_found_first_is_not_reported_into_a_second_one() -> None:
    """The report was slow: the order was adopted from the broker, and has ended, before we heard of it."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(
        slice_at(1, [pos(100)], [order("7", 100, 100, S.FILLED, client_id="c1", average="1.1", submitted_at=at(0.5))])
    )
    given = events(desk, order_report("c1", submitted_at=at(0.4)), at_s=2)
    desk.write(given)
    assert len(desk.book.orders) == 1
    assert not list(desk.book.open_orders())


def test_a_client_id_that_is_used_again_is_another_order() -> None:
    """MT5's comment is anything a trader writes: it need not be unique."""
    desk = Desk()
    desk.report(order_report("ema", submitted_at=at(0)), at_s=0)
    desk.look(slice_at(10, [], [order("7", status=S.CANCELLED, client_id="ema", submitted_at=at(0))]))
    desk.report(order_report("ema", submitted_at=at(20)), at_s=20)
    assert len(desk.book.orders) == 2
    assert [o.submitted_at for o in desk.book.open_orders()] == [at(20)]


def test_an_amended_order_is_news_and_keeps_what_it_was() -> None:
    desk = Desk()
    desk.report(order_report("c1", status=S.OPEN, strategy="ema"), at_s=0)
    desk.report(fill_report("f", 40, at_s=1, client_id="c1"), at_s=1)
    desk.report(order_report("c1", "7", quantity=200, status=S.OPEN), at_s=2)
    (found,) = desk.book.orders.values()
    assert (found.broker_order_id, found.strategy) == ("7", "ema")
    assert (found.quantity, found.filled_quantity) == (dec(200), dec(40))


def test_a_fill_without_an_order_joins_a_leg_by_the_account_s_conventions() -> None:
    desk = Desk()
    desk.report(fill_report("f", 10, at_s=0), at_s=0, conventions=SIDED)
    desk.report(fill_report("g", 4, at_s=0, side=Side.SELL), at_s=0, conventions=SIDED)
    assert desk.quantities() == {"long": dec(6)}


def test_a_position_replaces_what_a_leg_held() -> None:
    desk = Desk()
    desk.report(position_report(5, leg="11"), at_s=0, conventions=TICKET)
    desk.report(position_report(0, leg="11"), at_s=1, conventions=TICKET)
    assert desk.quantities() == {}


def test_the_strategy_is_kept() -> None:
    desk = Desk()
    given = events(
        desk,
        FillReport(INSTRUMENT, "f", None, Side.BUY, dec(1), dec(1), at(0), strategy="ema"),
        PositionReport(INSTRUMENT, "long", dec(2), dec(1), strategy="rsi"),
    )
    assert [event.payload["strategy"] for event in given] == ["ema", "rsi"]


def test_the_same_reports_give_the_same_events() -> None:
    """Law 5"""
    reports = (order_report(), fill_report("f", 10, at_s=0, client_id="c1"))
    assert events(Desk(), *reports) == events(Desk(), *reports)


def test_a_report_of_another_instrument_is_refused() -> None:
    """A fill in the wrong book is a wrong position in two of them."""
    book = Book("acc", "GBPUSD")
    with pytest.raises(ValueError, match=r"acc/GBPUSD.*EURUSD"):
        events_of(book, [fill_report("f", 1, at_s=0)], SIDED, at(0) + timedelta(seconds=1))


@pytest.mark.parametrize("status", [S.OPEN, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED])
def test_the_report_of_a_submission_once_more_says_nothing_of_an_order_that_is_further(status: OrderStatus) -> None:
    """FEATURES 22, PEERS 15: a strategy that retries, or starts again, reports what it reported before."""
    desk = Desk()
    desk.look(slice_at(0))
    sent = order_report("c1", None, status=S.PENDING_SUBMIT)
    desk.report(sent, at_s=1)
    filled = {S.PARTIALLY_FILLED: 40, S.FILLED: 100}.get(status, 0)
    row = order("B1", 100, filled, status, client_id="c1", average="1.1" if filled else None)
    desk.look(slice_at(20, [pos(filled)] if filled else [], [row]))
    before = desk.book.find_order("B1", None)
    assert before is not None
    assert before.status is status

    assert events_of(desk.book, [sent], Conventions(), at(30)) == ()
    assert desk.book.find_order("B1", None) == before
