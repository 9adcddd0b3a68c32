"""``filled`` can go down: corrections lower it, a row that lags behind one is no missed fill, and an order that is
filled further in the book than at the broker is a break and never in step."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from actors.book.trading_permission import obstacles
from brokers.model import Corrected, Order, OrderStatus, Slice
from tests.unit.builders import Desk, at, dec, fill, fill_report, order, order_report, pos, slice_at, types

FILLED, OPEN, PARTIAL = OrderStatus.FILLED, OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED


def net(desk: Desk) -> dict[str, int]:
    """What is held in each leg, in whole units."""
    return {leg: int(quantity) for leg, quantity in desk.quantities().items()}


def whole_seconds(seconds: float, *sections: object) -> Slice:
    """A slice of a broker whose time has whole seconds: its time is surely not too late."""
    made = slice_at(seconds, *sections)  # type: ignore[arg-type]  # its sections
    return replace(made, as_of=made.as_of.replace(microsecond=0) - timedelta(microseconds=1))


def filled(desk: Desk) -> int:
    found = desk.book.find_order_by_ticket("B1")
    assert found is not None
    return int(found.filled_quantity)


def test_a_fill_told_after_the_position_and_the_order_that_contain_it_counts_once() -> None:
    desk = Desk()
    desk.look(whole_seconds(0))
    row, made = order("B1", 100, 10, PARTIAL, average="1.1"), fill("F1", 10, at_s=10.2, order_id="B1")
    desk.look(whole_seconds(10.5, [pos(10)], [row]))
    desk.look(whole_seconds(11, [pos(10)], [row], [made]))
    assert (net(desk), filled(desk)) == ({"net": 10}, 10)
    for seconds in (11.6, 20, 400):
        last = desk.look(whole_seconds(seconds, [pos(10)], [row]))
    assert (last.status.value, net(desk), filled(desk)) == ("SUCCESS", {"net": 10}, 10)
    whole = order("B1", 100, 100, FILLED, average="1.1")
    desk.look(whole_seconds(500, [pos(100)], [whole], [fill("F2", 85, at_s=450, order_id="B1")]))
    assert [e.payload["counted"] for e in desk.events if e.payload.get("fill_id") == "F2"] == [True]
    assert filled(desk) == 100


def test_an_order_filled_further_in_the_book_is_a_break_that_stops_trading_and_is_lowered_on_proof() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=OPEN, submitted_at=at(1)), at_s=1)
    desk.report(fill_report("F1", 40, at_s=2, order_id="B1"), at_s=2)
    row: Order = order("B1", 100, 10, PARTIAL, client_id="c1", average="1.1")
    first = desk.look(slice_at(10, [pos(40)], [row]))
    assert (first.status.value, types(first)) == ("PARTIAL", ["FILLED_MISMATCH!"])
    found = next(iter(desk.book.breaks.values()))
    assert (found.book_value, found.broker_value) == ("40", "10")
    reasons = obstacles(desk.book.breaks.values(), at(10), 60.0, (), None, None, at(10))
    assert [reason.obstacle.value for reason in reasons] == ["ORDER_IN_DOUBT"]
    then = desk.look(slice_at(11, [pos(40)], [row]))
    assert (types(then), filled(desk)) == (["FILLED_MISMATCH"], 10)
    assert desk.look(slice_at(12, [pos(40)], [row])).status == "SUCCESS"
    desk.restart()


def test_a_row_that_catches_up_closes_the_break_and_nothing_is_lowered() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=OPEN, submitted_at=at(1)), at_s=1)
    desk.report(fill_report("F1", 40, at_s=2, order_id="B1"), at_s=2)
    desk.look(slice_at(10, [pos(40)], [order("B1", 100, 10, PARTIAL, client_id="c1", average="1.1")]))
    row = order("B1", 100, 40, PARTIAL, client_id="c1", average="1.1")
    last = desk.look(slice_at(11, [pos(40)], [row]))
    assert (last.status.value, filled(desk)) == ("SUCCESS", 40)


def test_a_row_that_lags_behind_a_correction_is_a_break_and_no_missed_fill() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=OPEN, submitted_at=at(1)), at_s=1)
    row = order("B1", 100, 100, FILLED, client_id="c1", average="1.1")
    first = fill("F1", 100, at_s=9, order_id="B1")
    desk.look(slice_at(10, [pos(100)], [row], [first]))
    bust = replace(first, fill_id="F2", quantity=dec(0), time=at(19), corrects=Corrected("F1", dec(100), first.price))
    desk.look(slice_at(20, [], [row], [bust]))
    assert filled(desk) == 0
    for seconds in (21, 30, 400):
        last = desk.look(slice_at(seconds, [], [row]))
        assert (types(last), filled(desk), net(desk)) == (["FILLED_MISMATCH!"], 0, {})
    gone = order("B1", 100, 0, OrderStatus.CANCELLED, client_id="c1")
    desk.look(slice_at(500, [], [gone]))
    last = desk.look(slice_at(510, [], [gone]))
    assert (last.status.value, desk.book.breaks) == ("SUCCESS", {})
    desk.restart()


def test_a_fill_changes_what_it_says_of_an_order_and_keeps_every_other_field() -> None:
    desk = Desk()
    desk.look(
        slice_at(0, [], [order("B1", 100, 10, PARTIAL, client_id="c1", average="1.1", leg="x", replaced_by="B2")])
    )
    (before,) = desk.book.orders.values()
    before = replace(before, taken_back=dec(3), strategy="s1", recorded_at=at(1), told_at=at(2), reason="why")
    changes = {
        "filled_quantity": dec(20),
        "notional": dec(22),
        "adopted": dec(0),
        "inferred": (),
        "status": FILLED,
        "ended_at": at(9),
        "local_at": at(8),
        "filled_at": at(7),
    }
    assert before.after_fill(**changes) == replace(before, **changes)  # type: ignore[arg-type]  # of each field its kind


def test_a_correction_told_with_what_it_corrects_comes_after_it_whatever_its_id() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    first = fill("F1", 100, at_s=9)
    second = replace(first, fill_id="C1", quantity=dec(40), corrects=Corrected("F1", dec(100), first.price))
    desk.look(slice_at(60, [pos(40)], [], [second, first]))
    assert net(desk) == {"net": 40}
    assert [e.payload["fill_id"] for e in desk.events if e.type == "ORDER_FILLED"] == ["F1", "C1"]
    assert desk.look(slice_at(70, [pos(40)], [], [second, first])).status.value == "SUCCESS"
