"""Fills: applied once, in the broker's order, and never on top of a position that contains them."""

# mypy: disable-error-code="comparison-overlap"
# A Decimal is meant to equal an int here.

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest

from actors.book.discrepancies import Cause
from actors.book.policy import Correct, Policy
from actors.events import EventType
from brokers.clocks import shown
from brokers.model import (
    Corrected,
    Fill,
    Order,
    OrderAnswer,
    OrderQuery,
    OrderStatus,
    RowProblem,
    Section,
    SectionName,
    Side,
    Unsupported,
    section,
)
from tests.unit.builders import (
    FAILED,
    TICKET,
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

S = OrderStatus
QUERY = OrderQuery("EURUSD", "B1", "c1")
UNREADABLE = RowProblem(SectionName.POSITIONS, "EURUSD", None, "what is this")


def desk_with_order(status: OrderStatus = S.OPEN) -> Desk:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=status), at_s=1)
    return desk


def test_an_inferred_fill_has_the_incremental_price() -> None:
    desk = desk_with_order()
    row = order("B1", 100, 40, S.PARTIALLY_FILLED, average="1.10")
    desk.look(slice_at(60, [pos(40, "1.10")], [row], [fill("f1", 40, "1.10", at_s=50, order_id="B1")]))
    more = order("B1", 100, 100, S.FILLED, average="1.16")
    desk.look(slice_at(70, [pos(100, "1.16")], [more]))
    ours = desk.book.find_order_by_ticket("B1")
    assert ours is not None
    assert [(i.quantity, i.price) for i in ours.inferred] == [(60, dec("1.2"))]
    assert ours.average_fill_price == dec("1.16")
    assert desk.held() == {"net": (100, dec("1.16"))}


REAL = [
    fill("r1", 10, "1.1", at_s=50, order_id="B1"),
    fill("r2", 30, "1.2", at_s=51, order_id="B1"),
    fill("r3", 60, "1.3", at_s=52, order_id="B1"),
]


@pytest.mark.parametrize("arrival", list(itertools.permutations(REAL)), ids=lambda p: "".join(f.fill_id for f in p))
@pytest.mark.parametrize("at_once", [True, False], ids=["together", "one by one"])
def test_an_inferred_fill_gives_way_to_the_real_ones_in_any_order(
    arrival: tuple[Fill, ...],
    at_once: bool,
) -> None:
    """PEERS 3"""
    desk = desk_with_order()
    done, held = order("B1", 100, 100, S.FILLED, average="1.25"), [pos(100, "1.25")]
    desk.look(slice_at(60, held, [done]))
    assert desk.book.orders["broker:B1"].inferred
    moments = [arrival] if at_once else [(one,) for one in arrival]
    for moment, fills in enumerate(moments, 61):
        desk.look(slice_at(moment, held, [done], fills))
    ours = desk.book.orders["broker:B1"]
    assert (ours.filled_quantity, ours.inferred) == (100, ())
    assert ours.average_fill_price == dec("1.25")
    assert desk.held() == {"net": (100, dec("1.25"))}
    assert {lot.fill_id for lot in desk.book.legs["net"].lots} == {"r1", "r2", "r3"}


def test_a_real_fill_larger_than_the_inferred_one_adds_only_the_rest() -> None:
    desk = desk_with_order()
    row = order("B1", 100, 40, S.PARTIALLY_FILLED, average="1.1")
    desk.look(slice_at(60, [pos(40)], [row]))
    more = order("B1", 100, 100, S.FILLED, average="1.1")
    desk.look(slice_at(70, [pos(100)], [more], [fill("f1", 100, "1.1", at_s=59, order_id="B1")]))
    assert desk.quantities() == {"net": 100}
    assert desk.book.orders["broker:B1"].filled_quantity == 100


@pytest.mark.parametrize(
    "positions", [FAILED, section([], [UNREADABLE])], ids=["positions failed", "positions partial"]
)
def test_nothing_is_inferred_while_the_positions_are_unknown(positions: object) -> None:
    """A correction may contain what the order lacks: then inferring it would count it twice."""
    desk = desk_with_order()
    desk.look(slice_at(60, [pos(100)], [order("B1")]))
    assert desk.quantities() == {"net": 100}
    done = order("B1", 100, 100, S.FILLED, average="1.1")
    desk.look(slice_at(70, positions, [done]))  # type: ignore[arg-type] # a section
    assert desk.quantities() == {"net": 100}
    assert desk.book.orders["broker:B1"].filled_quantity == 0
    last = desk.look(slice_at(80, [pos(100)], [done]))
    assert desk.quantities() == {"net": 100}
    assert desk.book.orders["broker:B1"].filled_quantity == 100
    assert last.status == "SUCCESS"


def test_nothing_is_inferred_while_the_fills_are_unknown() -> None:
    desk = desk_with_order()
    decision = desk.look(slice_at(60, [pos(0)], [order("B1", 100, 40, S.PARTIALLY_FILLED)], FAILED))
    assert decision.status == "PARTIAL"
    assert desk.book.orders["broker:B1"].filled_quantity == 0


def test_nothing_is_inferred_when_the_order_could_not_be_asked_for() -> None:
    desk = desk_with_order()
    row = order("B1", 100, 40, S.PARTIALLY_FILLED)
    decision = desk.look(slice_at(60, [], [row]), answers={"B1": OrderAnswer(QUERY, failure="timed out")})
    assert decision.unverified == ("order B1 could not be looked up: timed out",)
    assert desk.book.orders["broker:B1"].filled_quantity == 0


def test_a_broker_without_fills_has_them_inferred() -> None:
    desk = desk_with_order()
    row = order("B1", 100, 40, S.PARTIALLY_FILLED, average="1.1")
    decision = desk.look(slice_at(60, [pos(40)], [row], Unsupported()))
    assert decision.status == "SUCCESS"
    assert types(decision) == ["MISSED_FILL"]
    assert desk.quantities() == {"net": 40}


@pytest.mark.parametrize(
    ("limit", "average", "price"),
    [
        pytest.param("-37.63", "-37.63", "-37.63", id="oil in April 2020"),
        pytest.param(None, "-37.63", "-37.63", id="at market"),
        pytest.param(None, "0", "0", id="given away"),
        pytest.param("1.1", None, "1.1", id="only the limit is known"),
    ],
)
def test_an_inferred_price_may_be_zero_or_less_where_the_order_traded_there(
    limit: str | None, average: str | None, price: str
) -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", price=limit), at_s=1)
    row = order("B1", 100, 100, S.FILLED, price=limit, average=average)
    decision = desk.look(slice_at(60, [pos(100, price)], [row]))
    assert decision.status == "SUCCESS"
    assert desk.held() == {"net": (100, dec(price))}


def test_an_implausible_incremental_price_is_not_believed() -> None:
    """A broker that rounds its average: (1.00 x 101 - 1.04 x 100) / 1 would be below zero."""
    desk = desk_with_order()
    desk.report(order_report("c2", "B2", quantity=101), at_s=2)
    desk.look(slice_at(60, [pos(100, "1.04")], [order("B1"), order("B2", 101, 100, S.PARTIALLY_FILLED, average="1.04")],
                       [fill("f1", 100, "1.04", at_s=50, order_id="B2")]))  # fmt: skip
    desk.look(slice_at(70, [pos(101, "1.04")], [order("B1"), order("B2", 101, 101, S.FILLED, average="1.00")]))
    assert [i.price for i in desk.book.orders["broker:B2"].inferred] == [dec("1.1")]


def test_a_fill_of_an_order_nobody_reported_is_an_external_trade_applied_once() -> None:
    """PEERS 4, PEERS 14"""
    desk = Desk()
    desk.look(slice_at(0))
    trade = fill("x1", 7, at_s=5, order_id="X9")
    decision = desk.look(slice_at(10, [pos(7)], fills=[trade]))
    assert decision.discrepancies[0].found.cause is Cause.EXTERNAL_TRADE
    assert kinds(decision.events).count(EventType.ORDER_FILLED) == 1
    desk.restart()
    desk.look(slice_at(20, [pos(7)], fills=[trade, trade]))
    assert desk.quantities() == {"net": 7}


def test_two_trades_of_one_unknown_order_are_one_difference() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    both = [fill("x1", 7, at_s=5, order_id="X9"), fill("x2", 3, at_s=6, order_id="X9")]
    decision = desk.look(slice_at(10, [pos(10)], fills=both))
    assert [(d.found.key, d.found.broker_value) for d in decision.discrepancies] == [("X9", "10")]
    assert desk.quantities() == {"net": 10}


def test_a_fill_that_a_correction_contains_is_recorded_and_not_applied() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(10)]))
    desk.look(slice_at(10, [pos(17)]))
    decision = desk.look(slice_at(20, [pos(17)], fills=[fill("x1", 7, at_s=9, order_id="X9")]))
    assert desk.quantities() == {"net": 17}
    assert "x1" in desk.book.applied
    assert decision.status == "SUCCESS"


def test_a_fill_from_before_the_first_look_that_was_in_step_is_contained_in_it() -> None:
    """Of an order of ours, reported late, and undone by another trade before we ever looked."""
    desk = Desk()
    desk.report(order_report("c1", "B1", status=S.OPEN), fill_report("f1", 10, at_s=-10, order_id="B1"), at_s=-10)
    half = order("B1", 100, 10, S.PARTIALLY_FILLED, average="1.1")
    assert desk.look(slice_at(0, [pos(10)], [half])).status == "SUCCESS"
    more = order("B1", 100, 15, S.PARTIALLY_FILLED, average="1.1")
    late = desk.look(slice_at(10, [pos(10)], [more], [fill("f0", 5, at_s=-5, order_id="B1")]))
    assert late.status == "SUCCESS"
    assert desk.quantities() == {"net": 10}
    assert desk.book.orders["broker:B1"].filled_quantity == 15


def test_under_alert_fills_and_what_is_still_missing_are_one_break() -> None:
    desk = Desk(Policy(Correct.ALERT))
    desk.report(order_report("c1", "B1", status=S.OPEN), at_s=-60)
    desk.look(slice_at(0, orders=[order("B1")]))
    row = order("B1", 100, 60, S.PARTIALLY_FILLED, average="1.1")
    decision = desk.look(slice_at(10, [pos(60)], [row], [fill("f1", 40, at_s=5, order_id="B1")]))
    assert types(decision) == ["MISSED_FILL!"]


def test_a_fill_after_the_correction_is_applied() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(10)]))
    desk.look(slice_at(10, [pos(17)]))
    desk.look(slice_at(20, [pos(20)], fills=[fill("x1", 3, at_s=11, order_id="X9")]))
    assert desk.quantities() == {"net": 20}
    assert desk.book.watermarks["net"] == slice_at(10).as_of


def test_what_a_new_book_finds_in_the_past_is_history() -> None:
    """FEATURES 1"""
    desk = Desk()
    old = [fill("x1", 7, at_s=-5, order_id="X9"), fill("x2", 3, at_s=-4, order_id="X8")]
    decision = desk.look(slice_at(0, [pos(50)], fills=old))
    assert types(decision) == ["MISSING_LOCALLY"]
    assert desk.quantities() == {"net": 50}
    desk.look(slice_at(1, [pos(50)], fills=old))
    assert desk.quantities() == {"net": 50}


def test_what_is_traded_while_a_new_book_takes_its_first_look_is_no_history() -> None:
    """Positions were read, then the trade happened, then the fills were read."""
    desk = Desk()
    desk.look(slice_at(0, [pos(50)], fills=[fill("x1", 7, at_s=0.2, order_id="X9")]), now=at(0.5))
    desk.look(slice_at(1, [pos(57)]))
    last = desk.look(slice_at(2, [pos(57)]))
    assert last.status == "SUCCESS"
    assert desk.quantities() == {"net": 57}
    assert "x1" in desk.book.applied


def test_history_stays_history_when_an_older_row_has_its_order_adopted() -> None:
    """The fill is in the position we started from; the row is from before it."""
    desk = Desk()
    trade = fill("x1", 7, at_s=-1, order_id="B9")
    desk.look(slice_at(0, [pos(7)], fills=[trade]))
    desk.look(slice_at(-2, [], [order("B9", 7)], [trade]), now=at(1))
    done = order("B9", 7, 7, S.FILLED, average="1.1")
    asked = OrderAnswer(OrderQuery("EURUSD", "B9", None), done, (trade,))
    last = desk.look(slice_at(10, [pos(7)], fills=[trade]), answers={"B9": asked})
    assert last.status == "SUCCESS"
    assert desk.quantities() == {"net": 7}
    assert desk.book.orders["broker:B9"].filled_quantity == 7


def test_a_book_with_one_unreadable_section_does_not_stay_new_for_ever() -> None:
    """Its positions were compared: what is traded from then on is news."""
    desk = Desk()
    broken: Section[Order] = section([], [RowProblem(SectionName.ORDERS, "EURUSD", "B1", "what is this")])
    desk.look(slice_at(0, [pos(50)], broken))
    decision = desk.look(slice_at(10, [pos(57)], broken, [fill("x1", 7, at_s=5, order_id="X9")]))
    assert desk.quantities() == {"net": 57}
    assert decision.discrepancies[-1].found.cause is Cause.EXTERNAL_TRADE


def test_fills_are_applied_in_the_brokers_order_of_time() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    trades = [
        fill("10", 5, "1.3", at_s=7, order_id="X3"),
        fill("9", 5, "1.2", at_s=7, order_id="X2", side=Side.SELL),
        fill("1", 5, "1.1", at_s=6, order_id="X1"),
    ]
    desk.look(slice_at(10, [pos(5, "1.3")], fills=trades))
    assert desk.held() == {"net": (5, dec("1.3"))}
    assert list(desk.book.applied) == ["1", "9", "10"]


def test_the_place_in_the_brokers_fills_moves_on_past_an_open_break_of_another_kind() -> None:
    """Else every fill since would be asked for again for as long as the break is open."""
    desk = Desk(Policy(stale_order=timedelta(seconds=1)))
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", submitted_at=shown(slice_at(0).as_of), status=S.OPEN), at_s=1)
    decision = desk.look(slice_at(60, orders=[order("B1")]))
    assert types(decision) == ["STALE_ORDER!"]
    assert decision.cursor == 60_000


def test_the_place_in_the_brokers_fills_does_not_move_past_a_fill_that_is_not_applied() -> None:
    desk = Desk(Policy(Correct.ALERT))
    desk.look(slice_at(0))
    decision = desk.look(slice_at(10, [pos(7)], fills=[fill("x1", 7, at_s=5, order_id="X9")]))
    assert types(decision) == ["MISSED_FILL!"]
    assert decision.cursor is None


def test_a_fill_of_the_very_second_of_the_adoption_that_its_order_already_has_is_no_difference() -> None:
    """MT5 reports seconds: a fill may seem to be later than the look that already counted it. It is remembered, and
    neither reported nor counted."""
    desk = Desk()
    done = order("B1", 60, 60, OrderStatus.FILLED)
    desk.look(slice_at(0, [pos(60)], [done]))
    late = desk.look(slice_at(10, [pos(60)], [done], [fill("F1", 60, order_id="B1", at_s=0.5)]))

    assert types(late) == []
    assert desk.quantities() == {"net": 60}
    assert next(iter(desk.book.orders.values())).filled_quantity == 60


def corrected(base: Fill, fill_id: str, quantity: object, price: object) -> Fill:
    was = Corrected(base.fill_id, base.quantity, base.price)
    return replace(base, fill_id=fill_id, quantity=dec(quantity), price=dec(price), corrects=was)


@pytest.mark.parametrize(
    ("quantity", "price", "held", "average"),
    [
        pytest.param(100, "1.3", 110, "1.281818", id="another price"),
        pytest.param(80, "1.2", 90, "1.188889", id="fewer units"),
        pytest.param(120, "1.2", 130, "1.192308", id="more units"),
        pytest.param(0, "1.2", 10, "1.1", id="taken back"),
    ],
)
def test_an_execution_that_its_broker_corrects_changes_the_book_by_the_difference(
    quantity: int, price: str, held: int, average: str
) -> None:
    desk = desk_with_order()
    first, base = fill("x1", 10, "1.1", at_s=5, order_id="B9"), fill("e.01", 100, "1.2", at_s=6, order_id="B1")
    desk.look(slice_at(10, [pos(110, "1.190909")], fills=[first, base]))
    again = corrected(base, "e.02", quantity, price)
    decision = desk.look(slice_at(20, [pos(held, average)], fills=[first, base, again]))

    assert desk.quantities() == {"net": held}
    assert round(desk.book.legs["net"].average_price, 6) == dec(average)
    assert [event.type for event in decision.events].count(EventType.ORDER_FILLED) == 1
    assert EventType.POSITION_SYNCED not in kinds(decision.events)
    ours = desk.book.find_order("B1", None)
    assert ours is not None
    assert (ours.filled_quantity, ours.notional) == (quantity, quantity * dec(price))
    desk.restart()
    assert desk.look(slice_at(30, [pos(held, average)], fills=[first, base, again])).events == ()
    assert desk.quantities() == {"net": held}


def test_a_correction_of_an_execution_that_the_positions_contained_changes_nothing() -> None:
    desk = Desk()
    base = fill("e.01", 100, "1.2", at_s=-5, order_id="B1")
    desk.look(slice_at(0, [pos(100, "1.2")], fills=[base]))
    again = corrected(base, "e.02", 80, "1.2")
    desk.look(slice_at(10, [pos(80, "1.2")], fills=[base, again]))
    assert desk.quantities() == {"net": 80}


def test_a_correction_that_a_position_taken_over_contains_is_only_recorded() -> None:
    desk = desk_with_order()
    base = fill("e.01", 100, "1.2", at_s=5, order_id="B1")
    desk.look(slice_at(10, [pos(100, "1.2")], fills=[base]))
    desk.look(slice_at(20, [pos(80, "1.2")], fills=[base]))
    desk.look(slice_at(30, [pos(80, "1.2")], fills=[base, corrected(base, "e.02", 80, "1.2")]))
    assert desk.quantities() == {"net": 80}
    assert "e.02" in desk.book.applied


def test_a_correction_is_only_reported_where_nothing_is_to_be_corrected() -> None:
    """PEERS 10"""
    desk = desk_with_order()
    base = fill("e.01", 100, "1.2", at_s=5, order_id="B1")
    desk.look(slice_at(10, [pos(100, "1.2")], fills=[base]))
    again = corrected(base, "e.02", 80, "1.2")
    desk.policy = Policy(correct=Correct.ALERT)
    decision = desk.look(slice_at(20, [pos(80, "1.2")], fills=[base, again]))
    assert desk.quantities() == {"net": 100}
    assert {found.found.key for found in decision.discrepancies} >= {"e.02"}


def test_a_commission_is_kept_with_its_fill() -> None:
    desk = desk_with_order()
    charged = replace(fill("x1", 7, at_s=5, order_id="B1"), commission=dec("1.05"), commission_currency="USD")
    decision = desk.look(slice_at(10, [pos(7)], fills=[charged]))
    (event,) = [event for event in decision.events if event.type is EventType.ORDER_FILLED]
    assert (event.payload["commission"], event.payload["commission_currency"]) == ("1.05", "USD")


def test_a_fill_of_an_unknown_order_from_before_the_first_look_is_recorded_and_changes_nothing() -> None:
    """PEERS 4"""
    desk = Desk()
    desk.look(slice_at(0, [pos(10)]))
    early = fill("x1", 7, at_s=-5, order_id="X9")
    decision = desk.look(slice_at(10, [pos(10)], fills=[early]))
    assert decision.status == "SUCCESS"
    (event,) = [event for event in decision.events if event.type is EventType.ORDER_FILLED]
    assert (event.payload["fill_id"], event.payload["legs"]) == ("x1", [])
    assert desk.quantities() == {"net": 10}
    desk.restart()
    assert desk.look(slice_at(20, [pos(10)], fills=[early])).events == ()


def test_a_correction_reported_before_its_execution_counts_alone() -> None:
    desk = desk_with_order()
    base = fill("e.01", 100, "1.2", at_s=5, order_id="B1")
    again = corrected(base, "e.02", 80, "1.3")
    desk.look(slice_at(10, [pos(80, "1.3")], fills=[again]))
    assert desk.quantities() == {"net": 80}
    desk.look(slice_at(20, [pos(80, "1.3")], fills=[base, again]))
    assert desk.quantities() == {"net": 80}
    ours = desk.book.find_order("B1", None)
    assert ours is not None
    assert ours.filled_quantity == 80


def test_a_correction_stands_in_for_what_was_inferred_of_its_order() -> None:
    """PEERS 3"""
    desk = desk_with_order()
    desk.look(slice_at(10, [pos(100, "1.2")], [order("B1", 100, 100, S.FILLED, average="1.2")]))
    base = fill("e.01", 100, "1.2", at_s=5, order_id="B1")
    again = corrected(base, "e.02", 100, "1.3")
    desk.look(slice_at(20, [pos(100, "1.3")], [order("B1", 100, 100, S.FILLED, average="1.3")], [again]))
    desk.look(slice_at(30, [pos(100, "1.3")], [order("B1", 100, 100, S.FILLED, average="1.3")], [base, again]))
    ours = desk.book.find_order("B1", None)
    assert ours is not None
    assert (ours.filled_quantity, ours.inferred) == (100, ())
    assert desk.quantities() == {"net": 100}


def test_a_deal_that_closes_by_its_brokers_word_never_opens_a_leg() -> None:
    desk = Desk()
    desk.look(slice_at(1, [], conventions=TICKET))
    out = replace(fill("f1", 1, at_s=2, side=Side.SELL, order_id="o1", leg="7", position_id="7"), closing=True)
    desk.look(slice_at(3, [], fills=[out], conventions=TICKET))
    assert desk.book.legs == {}
