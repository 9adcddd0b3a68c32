"""A guess gives way: the broker's word on a fill takes the place of whatever was assumed of it, in one event."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.book.trading_permission import obstacles
from actors.book.view import book_state
from actors.events import EventType
from actors.instrument.views import book_view
from brokers.clocks import broker_time
from brokers.model import Conventions, LegScheme, OrderStatus, Side, Unsupported
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
    types,
)

FILLED, OPEN = OrderStatus.FILLED, OrderStatus.OPEN
PRODUCTS = Conventions(LegScheme.NET, products=True)


def net(desk: Desk) -> dict[str, int]:
    """What is held in each leg, in whole units."""
    return {leg: int(quantity) for leg, quantity in desk.quantities().items()}


def desk_with(*held: object, conventions: Conventions = TICKET, quantity: int = 10, side: Side = Side.BUY) -> Desk:
    """A book in step, and an order of ours that is filled at 11 s as far as our side knows."""
    desk = Desk()
    desk.look(slice_at(0, list(held), conventions=conventions))  # type: ignore[arg-type]  # rows of positions
    desk.report(order_report("c1", None, quantity=10, side=side, submitted_at=at(10)), at_s=10)
    ours = fill_report("501", quantity, at_s=11, client_id="c1", side=side)
    desk.report(ours, at_s=11, conventions=conventions)
    return desk


def discrepancies(desk: Desk) -> set[object]:
    found = (e for e in desk.events if e.type is EventType.RECONCILIATION_DISCREPANCY and e.time > at(0))
    return {e.payload["type"] for e in found}


def pending(desk: Desk) -> list[str]:
    return [fill_.fill.fill_id for fill_ in desk.book.pending_fills()]


@pytest.mark.parametrize(("conventions", "leg"), [(TICKET, "777"), (PRODUCTS, "MIS")], ids=["tickets", "products"])
def test_a_fill_whose_leg_only_the_broker_can_say_waits_for_it_and_is_shown(conventions: Conventions, leg: str) -> None:
    desk = desk_with(conventions=conventions)
    assert (net(desk), pending(desk)) == ({}, ["501"])
    reasons = obstacles((), at(11), 60.0, (), None, None, at(11), desk.book.pending_fills())
    assert [reason.obstacle.value for reason in reasons] == ["PENDING_FILL"]
    assert "501" in reasons[0].text
    assert book_view(desk.book)["pending_fills"] == [
        {"fill_id": "501", "broker_order_id": None, "side": "BUY", "quantity": "10", "price": "1.1"}
    ]
    assert len(book_state(desk.book, desk.policy, at(11), at(11), None).pending_fills) == 1
    desk.restart()
    row = order("B1", 10, 10, FILLED, client_id="c1", average="1.1", submitted_at=at(10))
    made = fill("501", 10, at_s=11, order_id="B1", leg=leg)
    desk.look(slice_at(11.2, [pos(10, leg=leg)], [row], [made], conventions=conventions))
    assert (net(desk), pending(desk)) == ({leg: 10}, [])
    last = desk.look(slice_at(12, [pos(10, leg=leg)], [row], [made], conventions=conventions))
    assert (last.status.value, net(desk)) == ("SUCCESS", {leg: 10})
    assert discrepancies(desk) <= {"ORDER_STATUS_MISMATCH"}
    assert sum(e.type is EventType.FILL_RESTATED for e in desk.events) == 1
    assert "pending_fills" not in book_view(desk.book)
    desk.restart()


def test_a_close_without_its_ticket_never_closes_another_one() -> None:
    desk = desk_with(pos(10, leg="700"), pos(10, leg="777"), side=Side.SELL)
    row = order("778", 10, 10, FILLED, client_id="c1", average="1.1", side=Side.SELL, submitted_at=at(10.5))
    made = fill("501", 10, at_s=11, order_id="778", position_id="777", leg="777", side=Side.SELL)
    for seconds in (11.2, 11.8, 14):
        desk.look(slice_at(seconds, [pos(10, leg="700")], [row], [made], conventions=TICKET))
        assert net(desk) == {"700": 10}
    assert discrepancies(desk) <= {"ORDER_STATUS_MISMATCH"}


def test_a_fill_is_where_one_leg_alone_differs_by_it_where_the_broker_reports_no_fills() -> None:
    desk = desk_with(pos(5, leg="700"))
    rows = [pos(5, leg="700"), pos(10, leg="777")]
    row = order("B1", 10, 10, FILLED, client_id="c1", average="1.1", submitted_at=at(10))
    desk.look(slice_at(11.5, rows, [row], Unsupported(), conventions=TICKET))
    assert net(desk) == {"700": 5, "777": 10}
    desk.look(slice_at(12.5, rows, [row], Unsupported(), conventions=TICKET))
    assert discrepancies(desk) <= {"ORDER_STATUS_MISMATCH"}


def test_a_fill_that_no_leg_shows_is_waited_for_until_the_positions_are_settled() -> None:
    desk = desk_with()
    row = order("B1", 10, 10, FILLED, client_id="c1", average="1.1", submitted_at=at(10))
    early = desk.look(slice_at(12, [pos(4, leg="777")], [row], conventions=TICKET))
    assert (early.status.value, net(desk), pending(desk)) == ("PARTIAL", {}, ["501"])
    assert early.recheck_at is not None
    desk.look(slice_at(20, [pos(4, leg="777")], [row], conventions=TICKET))
    assert (net(desk), pending(desk)) == ({"777": 4}, [])
    last = desk.look(slice_at(30, [pos(4, leg="777")], [row], conventions=TICKET))
    assert last.status.value == "SUCCESS"


@pytest.mark.parametrize(
    ("fields", "held"),
    [
        ({"quantity": dec(7)}, 7),
        ({"price": dec("1.2")}, 10),
        ({"side": Side.SELL, "broker_order_id": "B9"}, -10),
    ],
    ids=["quantity", "price", "side and order"],
)
def test_the_brokers_word_on_a_fill_takes_the_place_of_our_report(fields: dict[str, object], held: int) -> None:
    desk = desk_with(conventions=Conventions())
    price = fields.get("price", dec("1.1"))
    ours = order("B1", 10, 0 if held < 0 else held, FILLED if held == 10 else OPEN, client_id="c1", average=price)
    rows = [replace(ours, status=OrderStatus.PARTIALLY_FILLED) if held == 7 else ours]
    if held < 0:
        rows.append(order("B9", 10, 10, FILLED, side=Side.SELL, average="1.1"))
    made = replace(fill("501", 10, at_s=11, order_id="B1"), **fields)  # type: ignore[arg-type]  # fields of a fill
    for seconds in (11.2, 12, 13, 20, 30):
        last = desk.look(slice_at(seconds, [pos(held, price)], rows, [made]))
    assert (last.status.value, desk.held()) == ("SUCCESS", {"net": (dec(held), price)})
    ours_now = desk.book.find_order(None, "c1")
    assert ours_now is not None
    assert ours_now.filled_quantity == max(held, 0)
    assert not discrepancies(desk) & {"POSITION_MISMATCH", "PRICE_MISMATCH", "NAKED_POSITION", "MISSING_LOCALLY"}
    desk.restart()


def test_a_leg_that_was_guessed_on_a_sided_account_gives_way_to_the_one_reported() -> None:
    desk = desk_with(pos(-10, leg="short"), conventions=SIDED)
    assert net(desk) == {}, "first in, first out: the short is closed"
    made = fill("501", 10, at_s=11, leg="long")
    row = order("B1", 10, 10, FILLED, client_id="c1", average="1.1", submitted_at=at(10))
    rows = [pos(-10, leg="short"), pos(10, leg="long")]
    desk.look(slice_at(11.2, rows, [row], [made], conventions=SIDED))
    assert net(desk) == {"short": -10, "long": 10}
    assert desk.look(slice_at(12, rows, [row], [made], conventions=SIDED)).status == "SUCCESS"


def test_a_fill_beyond_the_quantity_that_was_recorded_is_not_dropped() -> None:
    desk = desk_with(conventions=Conventions(), quantity=15)
    row = order("B1", 15, 15, FILLED, client_id="c1", average="1.1", submitted_at=at(10))
    made = fill("501", 15, at_s=11, order_id="B1")
    desk.look(slice_at(20, [pos(15)], [row], [made]))
    assert net(desk) == {"net": 15}
    assert not any(e.payload.get("inferred") for e in desk.events)
    assert types(desk.look(slice_at(30, [pos(15)], [row], [made]))) == []


def test_a_fill_reported_without_its_order_is_in_the_order_that_the_broker_names_and_none_is_inferred() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", None, quantity=10, submitted_at=at(10)), at_s=10)
    desk.report(fill_report("501", 10, at_s=11), at_s=11)
    row = order("B1", 10, 10, FILLED, client_id="c1", average="1.1", submitted_at=at(10))
    for seconds in (20, 30):
        last = desk.look(slice_at(seconds, [pos(10)], [row], [fill("501", 10, at_s=11, order_id="B1")]))
    ours = desk.book.find_order_by_ticket("B1")
    assert ours is not None
    assert (last.status.value, net(desk), int(ours.filled_quantity)) == ("SUCCESS", {"net": 10}, 10)
    assert not any(e.payload.get("inferred") for e in desk.events)


def test_a_fill_that_our_side_dates_after_the_position_which_contains_it_is_not_held_beside_it() -> None:
    """The position came first, and our side takes the time at which it heard of the fill for that of the fill."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(slice_at(16, [pos(10)]))
    desk.report(fill_report("F1", 10, at_s=16.3, order_id="B1"), at_s=16.5)
    desk.look(slice_at(17, [pos(10)], [], [fill("F1", 10, at_s=15.9, order_id="B1")]))
    assert net(desk) == {"net": 10}
    for seconds in (18, 23):
        last = desk.look(slice_at(seconds, [pos(10)]))
    assert (net(desk), last.status.value, discrepancies(desk)) == ({"net": 10}, "SUCCESS", {"MISSING_LOCALLY"})
    desk.restart()


@pytest.mark.parametrize("order_id", [None, "B1"], ids=["the same", "its order, too"])
@pytest.mark.parametrize(("later", "at_s"), [("agreed on", 400), ("set", 200)])
def test_a_fill_stays_in_a_position_that_was_settled_after_its_report_whatever_its_time(
    later: str, at_s: int, order_id: str | None
) -> None:
    """Our clock is ahead of the broker's by more than settle_ms, and our side dates its fills by it."""
    desk = Desk()
    desk.look(replace(slice_at(0), as_of=broker_time(at(-20))))
    desk.report(position_report(5), at_s=1)
    desk.report(fill_report("F1", 10, at_s=22), at_s=22)
    shown = pos(15 if later == "agreed on" else 16)
    desk.look(replace(slice_at(at_s, [shown]), as_of=broker_time(at(20))))
    made = fill("F1", 10, at_s=2, order_id=order_id)
    for seconds in (at_s + 1, at_s + 7):
        last = desk.look(replace(slice_at(seconds, [shown], [], [made]), as_of=broker_time(at(seconds - 20))))
        assert net(desk) == {"net": int(shown.quantity)}
    assert last.status.value == "SUCCESS"
