"""``filled`` can go down: corrections lower it, a row that lags behind one is no missed fill, and an order that is
filled further in the book than at the broker is a break and never in step."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from actors.book.trading_permission import obstacles
from brokers.clocks import broker_time, shown
from brokers.model import (
    Conventions,
    Corrected,
    Fill,
    IdScope,
    Order,
    OrderAnswer,
    OrderQuery,
    OrderStatus,
    Partial,
    Side,
    Slice,
    Unsupported,
)
from tests.unit.builders import (
    FAILED,
    INSTRUMENT,
    SIDED,
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

FILLED, OPEN, PARTIAL = OrderStatus.FILLED, OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED


def net(desk: Desk) -> dict[str, int]:
    """What is held in each leg, in whole units."""
    return {leg: int(quantity) for leg, quantity in desk.quantities().items()}


def whole_seconds(seconds: float, *sections: object) -> Slice:
    """A slice of a broker whose time has whole seconds: its time is surely not too late."""
    made = slice_at(seconds, *sections)  # type: ignore[arg-type]  # its sections
    return replace(made, as_of=broker_time(shown(made.as_of).replace(microsecond=0)) - timedelta(microseconds=1))


def filled(desk: Desk) -> int:
    found = desk.book.find_order_by_ticket("B1")
    assert found is not None
    return int(found.filled_quantity)


def test_a_fill_reported_after_the_position_and_the_order_that_contain_it_counts_once() -> None:
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


@pytest.mark.parametrize("inside", [0, 1, 2, 3])
def test_of_fills_right_after_a_position_the_first_may_be_in_it_and_count_once(inside: int) -> None:
    """The broker names one time for several requests, the earliest: the position may contain what came after that."""
    desk = Desk()
    times, quantities = [10.1, 10.6, 12], [2, 5, 3]
    before, whole = 100 + sum(quantities[:inside]), 100 + sum(quantities)
    desk.look(slice_at(10, [pos(before)]))
    fills = [
        fill(f"F{at_s}", quantity, at_s=at_s, order_id="B1") for at_s, quantity in zip(times, quantities, strict=True)
    ]
    last = desk.look(slice_at(13, [pos(whole)], [], fills))
    assert net(desk) == {"net": whole}
    assert "POSITION_MISMATCH" not in types(last)
    for seconds in (20, 400):
        last = desk.look(slice_at(seconds, [pos(whole)]))
    assert (last.status.value, net(desk)) == ("SUCCESS", {"net": whole})


def set_to_100_at_10_s(*rows: Order) -> Desk:
    """A desk whose leg was corrected to 100 of a position that was read at 10 s or shortly after."""
    desk = Desk()
    for number, row in enumerate(rows):
        report = order_report(row.client_order_id, row.broker_order_id, row.quantity, OPEN, side=row.side)
        desk.report(report, at_s=-9 + number)
    desk.look(slice_at(0, [pos(90)], rows))
    desk.look(slice_at(10, [pos(100)], rows))
    return desk


def test_what_was_inferred_of_one_order_does_not_hide_the_fill_of_another_one() -> None:
    a, b = order("A", 50, client_id="c1"), order("B", 50, client_id="c2")
    desk = set_to_100_at_10_s(a, b)
    b = order("B", 50, 5, PARTIAL, client_id="c2", average="1.1")
    desk.look(slice_at(11.5, [pos(105)], [a, b]))  # B's fill is not reported yet, and inferred
    a = order("A", 50, 5, PARTIAL, client_id="c1", average="1.1")
    fills = [fill("FA", 5, at_s=11, order_id="A"), fill("FB", 5, at_s=12, order_id="B")]
    last = desk.look(slice_at(13, [pos(110)], [a, b], fills))
    assert types(last) == ["MISSED_FILL"]
    assert desk.quantities() == {"net": 110}
    assert [e.payload["legs"] for e in desk.events if e.payload.get("fill_id") == "FA"] == [[["net", "5"]]]


def test_what_was_inferred_gives_way_to_one_fill_beside_one_that_the_position_contains() -> None:
    a = order("A", 50, client_id="c1")
    desk = set_to_100_at_10_s(a)  # with F3
    desk.look(slice_at(11.5, [pos(105)], [order("A", 50, 5, PARTIAL, client_id="c1", average="1.1")]))
    a = order("A", 50, 10, PARTIAL, client_id="c1", average="1.1")
    fills = [
        fill("F1", 5, at_s=11, order_id="A"),
        fill("F2", 5, at_s=12, order_id="A"),
        fill("F3", 5, at_s=10.2, order_id="Z"),
    ]
    last = desk.look(slice_at(13, [pos(110)], [a], fills))
    assert (last.status.value, net(desk)) == ("SUCCESS", {"net": 110})


@pytest.mark.parametrize("second_s", [11.5, 17])
def test_a_fill_that_cannot_be_in_the_position_counts_whatever_is_shown(second_s: float) -> None:
    """It came long after the position was read, or after the one that is shown now."""
    desk = set_to_100_at_10_s()
    fills = [fill("F1", 5, at_s=10.2), fill("F2", 5, at_s=second_s)]
    last = desk.look(slice_at(11 if second_s < 12 else 20, [pos(100)], [], fills))
    assert (last.status.value, net(desk)) == ("PARTIAL", {"net": 110})


@pytest.mark.parametrize("inside", [0, 1])
@pytest.mark.parametrize("later_leg", ["long", "short"])
def test_a_fill_beyond_the_seconds_after_a_position_does_not_count_those_within_them_twice(
    later_leg: str, inside: int
) -> None:
    desk, signs = Desk(), {"long": 1, "short": -1}
    held = {"long": 90 + 5 * inside, "short": -20}
    rows = [pos(quantity, leg=leg) for leg, quantity in held.items()]
    desk.look(slice_at(0, [pos(80, leg="long"), pos(-10, leg="short")], conventions=SIDED))
    desk.look(slice_at(10, rows, conventions=SIDED))
    later = fill("F2", 3, at_s=17, leg=later_leg, side=Side.BUY if later_leg == "long" else Side.SELL)
    whole = {**held, "long": 95}
    whole[later_leg] += 3 * signs[later_leg]
    rows = [pos(quantity, leg=leg) for leg, quantity in whole.items()]
    desk.look(slice_at(20, rows, [], [fill("F1", 5, at_s=10.2, leg="long"), later], conventions=SIDED))
    assert net(desk) == whole
    assert desk.look(slice_at(30, rows, conventions=SIDED)).status == "SUCCESS"


def test_a_position_from_before_a_streamed_fill_does_not_contain_another_fill_of_that_size() -> None:
    a, b = order("A", 5, client_id="c1"), order("B", 5, client_id="c2")
    desk = set_to_100_at_10_s(a, b)
    streamed = slice_at(15.2, FAILED, FAILED, Partial((fill("FB", 5, at_s=15.1, order_id="B"),)))
    desk.look(replace(streamed, fills_cursor=None, streamed=True))
    assert net(desk) == {"net": 105}
    # This look was under way when the stream reported B's fill.
    last = desk.look(slice_at(15, [pos(105)], [], [fill("FA", 5, at_s=12, order_id="A")]), at(15.3))
    assert (net(desk), last.status.value) == ({"net": 110}, "PARTIAL")
    assert desk.look(slice_at(20, [pos(110)])).status == "SUCCESS"


def test_a_position_that_contains_a_fill_that_waits_does_not_contain_another_one_instead() -> None:
    a, b = order("A", 50, client_id="c1"), order("B", 5, client_id="c2", side=Side.SELL)
    desk = set_to_100_at_10_s(a, b)
    desk.look(slice_at(20, [pos(95)], [a], [fill("FB1", 5, at_s=18, order_id="B", side=Side.SELL)]))
    desk.look(slice_at(30, [pos(200)], [a]))
    a = order("A", 50, 5, PARTIAL, client_id="c1", average="1.1")
    made = [fill("FA", 5, at_s=31, order_id="A"), fill("FB2", 5, at_s=32, order_id="B", side=Side.SELL)]
    silent = OrderAnswer(OrderQuery(INSTRUMENT, "B", "c2"), failure="timed out")
    desk.look(slice_at(35, [pos(200)], [a], made), answers={"B": silent})  # B was enlarged, and is not shown
    assert net(desk) == {"net": 205}
    b = order("B", 10, 10, FILLED, client_id="c2", side=Side.SELL, average="1.1")
    desk.look(slice_at(40, [pos(200)], [a, b], made))
    assert net(desk) == {"net": 200}
    assert desk.look(slice_at(50, [pos(200)], [a, b])).status == "SUCCESS"


def test_what_was_inferred_gives_way_to_one_fill_beside_a_position_of_our_own_report_too() -> None:
    desk = set_to_100_at_10_s(order("A", 50, client_id="c1"))
    desk.look(slice_at(400, [pos(105)], [order("A", 50, 5, PARTIAL, client_id="c1", average="1.1")]))
    desk.report(position_report(110), at_s=410)
    fills = [
        fill("F1", 5, at_s=390, order_id="A"),
        fill("F2", 5, at_s=420, order_id="A"),
        fill("F3", 5, at_s=405, order_id="Z"),  # in our report
    ]
    a = order("A", 50, 10, PARTIAL, client_id="c1", average="1.1")
    last = desk.look(slice_at(430, [pos(115)], [a], fills))
    assert (last.status.value, net(desk)) == ("SUCCESS", {"net": 115})


@pytest.mark.parametrize("before", [60, 65])
@pytest.mark.parametrize(("ordered", "shown_later"), [(5, True), (5, False), (50, True)])
def test_a_fill_that_a_foreign_order_was_adopted_with_is_in_the_leg_once(
    ordered: int, shown_later: bool, before: int
) -> None:
    """The order's row was read after the fill, and the positions before it or after it, too."""
    desk = Desk()
    desk.look(slice_at(0, [pos(60)]))
    row = order("X1", ordered, 5, FILLED if ordered == 5 else PARTIAL, average="1.1")
    desk.look(slice_at(10, [pos(before)], [row]))
    rows = [row] if shown_later else []
    last = desk.look(slice_at(20, [pos(65)], rows, [fill("F1", 5, at_s=10.2, order_id="X1")]))
    assert "POSITION_MISMATCH" not in types(last)
    assert net(desk) == {"net": 65}
    found = desk.book.find_order_by_ticket("X1")
    assert found is not None
    assert (found.filled_quantity, found.adopted) == (dec(5), dec(0))
    assert desk.look(slice_at(30, [pos(65)], rows)).status == "SUCCESS"


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
    bust = replace(
        first, fill_id="F2", quantity=dec(0), time=broker_time(at(19)), corrects=Corrected("F1", dec(100), first.price)
    )
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
    before = replace(before, taken_back=dec(3), strategy="s1", recorded_at=at(1), updated_at=at(2), reason="why")
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


def test_a_correction_reported_with_what_it_corrects_comes_after_it_whatever_its_id() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    first = fill("F1", 100, at_s=9)
    second = replace(first, fill_id="C1", quantity=dec(40), corrects=Corrected("F1", dec(100), first.price))
    desk.look(slice_at(60, [pos(40)], [], [second, first]))
    assert net(desk) == {"net": 40}
    assert [e.payload["fill_id"] for e in desk.events if e.type == "ORDER_FILLED"] == ["F1", "C1"]
    assert desk.look(slice_at(70, [pos(40)], [], [second, first])).status.value == "SUCCESS"


def of_f1(now: object, was: int, price: str = "1.1") -> Fill:
    """The broker says that F1 was another one, and dates that to F1."""
    taken_back = Corrected("F1", dec(was), dec(1.1))
    return replace(fill("C1", now, price, at_s=2, order_id="B1"), corrects=taken_back)


def guessed(desk: Desk) -> list[object]:
    """The ids of the fills that were inferred."""
    return [event.payload["fill_id"] for event in desk.events if event.payload.get("inferred")]


def with_f1_lowered_by_its_row(reported: int, row_says: int) -> Desk:
    """F1 was reported by us; the broker's row and position say less, before anything says why."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=OPEN, submitted_at=at(1)), at_s=1)
    desk.report(fill_report("F1", reported, at_s=2, order_id="B1"), at_s=2)
    row = order("B1", 100, row_says, PARTIAL if row_says else OPEN, client_id="c1", average="1.1")
    held = [pos(row_says)] if row_says else []
    for seconds in (10, 11, 12):
        desk.look(slice_at(seconds, held, [row]))
    assert (filled(desk), net(desk)) == (row_says, {"net": row_says} if row_says else {})
    return desk


@pytest.mark.parametrize(
    ("row_says", "now", "others", "in_all"),
    [(0, 0, 0, 0), (4, 4, 0, 4), (3, 0, 3, 3), (3, 2, 1, 3), (4, 9, 0, 9)],
    ids=["busted whole", "in part", "busted, and another fill", "in part, and another fill", "the row was wrong"],
)
def test_a_correction_reported_after_the_row_was_lowered_takes_out_nothing_twice(
    row_says: int, now: int, others: int, in_all: int
) -> None:
    """Kind: a count standing for the content. The row had the correction in it: else ``filled`` ends below zero."""
    desk = with_f1_lowered_by_its_row(10, row_says)
    row = order("B1", 100, in_all, PARTIAL if in_all else OPEN, client_id="c1", average="1.1")
    held = [pos(in_all)] if in_all else []
    fills = [of_f1(now, 10), *([fill("F2", others, at_s=3, order_id="B1")] if others else [])]
    desk.look(slice_at(20, held, [row], fills))
    for seconds in (21, 30, 40):
        last = desk.look(slice_at(seconds, held, [row]))
    assert (last.status.value, filled(desk), desk.book.breaks) == ("SUCCESS", in_all, {})
    found = desk.book.find_order_by_ticket("B1")
    assert found is not None
    assert (found.taken_back, found.notional) == (dec(0), dec("1.1") * in_all)
    desk.restart()


def test_a_report_restated_after_the_row_was_lowered_takes_out_nothing_twice() -> None:
    desk = with_f1_lowered_by_its_row(10, 4)
    row = order("B1", 100, 4, PARTIAL, client_id="c1", average="1.1")
    desk.look(slice_at(20, [pos(4)], [row], [fill("F1", 4, at_s=2, order_id="B1")]))
    last = desk.look(slice_at(30, [pos(4)], [row]))
    assert (last.status.value, filled(desk), net(desk)) == ("SUCCESS", 4, {"net": 4})
    assert not guessed(desk)
    desk.restart()


def test_a_report_that_was_of_another_order_takes_nothing_out_of_one_that_its_row_has_lowered() -> None:
    desk = with_f1_lowered_by_its_row(10, 0)
    rows = [order("B1", 100, 0, client_id="c1"), order("B2", 100, 10, PARTIAL, average="1.1")]
    desk.look(slice_at(20, [pos(10)], rows, [fill("F1", 10, at_s=2, order_id="B2")]))
    for seconds in (21, 30, 40):
        last = desk.look(slice_at(seconds, [pos(10)], rows))
    assert (last.status.value, filled(desk), net(desk)) == ("SUCCESS", 0, {"net": 10})
    assert not guessed(desk)
    desk.restart()


def test_a_correction_that_raises_a_fill_is_what_was_inferred_of_its_row() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=OPEN, submitted_at=at(1)), at_s=1)
    desk.look(slice_at(10, [pos(3)], [order("B1", 100, 3, PARTIAL)], [fill("F1", 3, at_s=2, order_id="B1")]))
    row = order("B1", 100, 5, PARTIAL, client_id="c1", average="1.2")
    desk.look(slice_at(20, [pos(5, "1.2")], [row]))
    assert (filled(desk), net(desk)) == (5, {"net": 5})
    desk.look(slice_at(30, [pos(5, "1.2")], [row], [of_f1(5, 3, "1.2")]))
    last = desk.look(slice_at(31, [pos(5, "1.2")], [row]))
    assert (last.status.value, filled(desk), net(desk)) == ("SUCCESS", 5, {"net": 5})
    found = desk.book.find_order_by_ticket("B1")
    assert found is not None
    assert (found.inferred, found.notional) == ((), dec("6.0"))
    desk.restart()


def with_a_fill_that_nobody_reported(quantity: int) -> tuple[Desk, Order, Fill]:
    """F1 of 5 was corrected to 3, and a second fill came of which nothing was reported but by the order's row."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=OPEN, submitted_at=at(1)), at_s=1)
    desk.report(fill_report("F1", 5, at_s=2, order_id="B1"), at_s=2)
    row = order("B1", 100, 3 + quantity, PARTIAL, client_id="c1", average="1.1")
    second = fill("F2", quantity, at_s=3, order_id="B1")
    desk.look(slice_at(10, [pos(3 + quantity)], [row], [of_f1(3, 5)]))
    return desk, row, second


@pytest.mark.parametrize("quantity", [1, 2])
def test_a_fill_that_only_its_row_counts_beside_a_correction_is_asked_for(quantity: int) -> None:
    """Kind: a break that only a state which never comes can end. The row does not lag, it has a fill that the broker
    does not report by itself."""
    desk, row, second = with_a_fill_that_nobody_reported(quantity)
    query = OrderQuery(INSTRUMENT, "B1", "c1")
    desk.look(slice_at(20, [pos(3 + quantity)], [row]), answers={"B1": OrderAnswer(query, row, (second,))})
    last = desk.look(slice_at(21, [pos(3 + quantity)], [row]))
    assert (last.status.value, filled(desk), net(desk)) == ("SUCCESS", 3 + quantity, {"net": 3 + quantity})
    assert desk.book.known_as(second)
    desk.restart()


def test_a_row_that_is_not_what_it_was_before_a_correction_is_believed_with_proof() -> None:
    desk, row, _ = with_a_fill_that_nobody_reported(1)
    first = desk.look(slice_at(20, [pos(4)], [row]))
    assert ("FILLED_MISMATCH!" in types(first), filled(desk)) == (True, 3)
    desk.look(slice_at(21, [pos(4)], [row]))
    last = desk.look(slice_at(22, [pos(4)], [row]))
    assert (last.status.value, filled(desk), net(desk)) == ("SUCCESS", 4, {"net": 4})
    desk.restart()


@pytest.mark.parametrize("unknown", ["its answer", "the fills"])
def test_a_row_beside_a_correction_is_not_believed_while_its_fills_are_unknown(unknown: str) -> None:
    """What it counts may be reported with the next answer."""
    desk, row, _ = with_a_fill_that_nobody_reported(1)
    failed = {"B1": OrderAnswer(OrderQuery(INSTRUMENT, "B1", "c1"), failure="timed out")}
    for seconds in (20, 21, 22, 23):
        if unknown == "the fills":
            last = desk.look(slice_at(seconds, [pos(4)], [row], FAILED))
        else:
            last = desk.look(slice_at(seconds, [pos(4)], [row]), answers=failed)
        assert (last.status.value, filled(desk)) == ("PARTIAL", 3)


def test_what_a_row_took_out_is_remembered_of_two_orders_that_turn_out_to_be_one() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", quantity=100, submitted_at=at(1)), at_s=1)
    desk.look(slice_at(2, [pos(10)], [order("B1", 100, 10, PARTIAL)], [fill("F1", 10, at_s=2, order_id="B1")]))
    row = order("B1", 100, 4, PARTIAL, average="1.1")
    of_c1 = {"c1": OrderAnswer(OrderQuery(INSTRUMENT, None, "c1"), failure="timed out")}
    for seconds in (10, 11, 12):
        desk.look(slice_at(seconds, [pos(4)], [row]), answers=of_c1)
    desk.report(order_report("c1", "B1", status=OPEN, submitted_at=at(1)), at_s=13)
    desk.restart()
    desk.look(slice_at(20, [pos(4)], [row], [of_f1(4, 10)]))
    assert filled(desk) == 4
    found = desk.book.find_order_by_ticket("B1")
    assert found is not None
    assert (found.client_order_id, found.taken_back) == ("c1", dec(0))


def test_a_bust_of_an_execution_that_was_never_reported_is_nothing_that_was_missed() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=OPEN, submitted_at=at(1)), at_s=1)
    row = order("B1", 100, 0, client_id="c1")
    last = desk.look(slice_at(10, [], [row], [of_f1(0, 5)]))
    assert (last.status.value, types(last), filled(desk), net(desk)) == ("SUCCESS", [], 0, {})
    last = desk.look(slice_at(20, [], [row], [fill("F1", 5, at_s=2, order_id="B1")]))
    assert (types(last), filled(desk), net(desk)) == ([], 0, {})


def test_what_is_inferred_of_an_order_again_is_another_fill_than_what_was_taken_back() -> None:
    """Kind: ids unique only for a while. Else it is in the book already, and counts nothing."""
    desk, none = Desk(), Unsupported()
    desk.look(slice_at(0, [], [], none))
    desk.report(order_report("c1", "B1", status=OPEN, submitted_at=at(1)), at_s=1)
    filled_5 = order("B1", 100, 5, PARTIAL, client_id="c1", average="1.1")
    desk.look(slice_at(10, [pos(5)], [filled_5], none))
    for seconds in (20, 21, 22):
        desk.look(slice_at(seconds, [], [order("B1", 100, 0, client_id="c1")], none))
    assert filled(desk) == 0
    for seconds in (30, 31):
        last = desk.look(slice_at(seconds, [pos(5)], [filled_5], none))
    assert (last.status.value, filled(desk), net(desk)) == ("SUCCESS", 5, {"net": 5})
    assert len(set(guessed(desk))) == 2
    desk.restart()


def test_a_fill_of_another_day_is_not_the_one_that_was_reported_before_ids_were_known_to_begin_anew() -> None:
    daily = Conventions(fill_ids=IdScope.TRADING_DAY_AND_SIDE)
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(fill_report("F1", 5, at_s=10), at_s=11)
    desk.look(slice_at(60, [pos(5)]))
    day = 86_400
    again = fill("F1", 3, at_s=day)
    again = replace(again, id_scope=daily.fill_scope(again.side, again.time))
    found = desk.look(slice_at(day + 60, [pos(8)], [], [again], conventions=daily))
    assert (types(found), net(desk)) == (["MISSED_FILL"], {"net": 8})
