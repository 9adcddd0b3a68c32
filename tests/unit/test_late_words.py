"""What a broker tells late of something that is over already: totals and averages come out exact, what was guessed
gives way, and nothing is reported as a difference that our side made itself."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from actors.book.discrepancies import DiscrepancyType as T
from actors.book.policy import Correct, Policy
from actors.book.trading_permission import Obstacle, obstacles
from actors.events import EventType
from brokers.model import (
    NET,
    Conventions,
    Corrected,
    CostBasis,
    Evidence,
    Fill,
    Order,
    OrderStatus,
    Position,
    Reason,
    Side,
)
from tests.unit.builders import INSTRUMENT, Desk, at, dec, fill, fill_report, order, order_report, pos, slice_at

S = OrderStatus
BOUGHT = fill("F1", 100, "1.1", at_s=2, order_id="B1")
SOLD = fill("F2", 40, "1.3", at_s=4, order_id="B2", side=Side.SELL)
SELLS = order("B2", 40, 40, S.FILLED, client_id="c2", side=Side.SELL, average="1.3")
FIFO = Conventions(cost_basis=CostBasis.FIFO)
SPREAD = Conventions(commission_in_average=True)


def buys(filled: object, average: object | None = "1.1", status: OrderStatus = S.PARTIALLY_FILLED) -> Order:
    return order("B1", 120, filled, status, client_id="c1", average=average)


def two_orders(conventions: Conventions = Conventions()) -> Desk:  # noqa: B008 - frozen
    desk = Desk()
    desk.look(slice_at(0, conventions=conventions))
    desk.report(order_report("c1", "B1", 120, S.OPEN), at_s=1, conventions=conventions)
    desk.report(order_report("c2", "B2", 40, S.OPEN, side=Side.SELL), at_s=1, conventions=conventions)
    return desk


def kinds(desk: Desk) -> list[str]:
    return [str(e.payload["type"]) for e in desk.events if e.type is EventType.RECONCILIATION_DISCREPANCY]


@pytest.mark.parametrize("conventions", [Conventions(), FIFO])
@pytest.mark.parametrize(
    ("quantity", "price", "left", "average"),
    [
        (90, "1.1", 50, "1.1"),
        (100, "1.2", 60, "1.2"),
        (90, "1.2", 50, "1.2"),
        (110, "1.1", 70, "1.1"),
        (40, "1.1", 0, None),
        (30, "1.1", -10, "1.3"),  # of what was sold, 10 was never held
        (0, "1.1", -40, "1.3"),
    ],
)
def test_a_correction_of_what_is_closed_in_part_leaves_what_the_broker_holds_at_its_average(
    quantity: int, price: str, left: int, average: str | None, conventions: Conventions
) -> None:
    desk = two_orders(conventions)
    desk.look(slice_at(10, [pos(60)], [buys(100), SELLS], [BOUGHT, SOLD], conventions=conventions))
    corrected = replace(BOUGHT, fill_id="F1c", quantity=dec(quantity), price=dec(price))
    corrected = replace(corrected, corrects=Corrected("F1", BOUGHT.quantity, BOUGHT.price))
    held = [pos(left, average)] if average is not None else []
    row = buys(quantity, price) if quantity else buys(0, None, S.OPEN)
    desk.look(slice_at(20, held, [row, SELLS], [corrected], conventions=conventions))
    desk.restart()
    for seconds in (30, 40):
        last = desk.look(slice_at(seconds, held, [row, SELLS], conventions=conventions))
    assert desk.held() == ({} if average is None else {NET: (dec(left), dec(average))})
    bought = desk.book.find_order("B1", None)
    assert bought is not None
    assert (bought.filled_quantity, bought.notional) == (dec(quantity), quantity * dec(price))
    assert (last.status, desk.book.breaks) == ("SUCCESS", {})
    assert {T.PRICE_MISMATCH, T.POSITION_MISMATCH, T.NAKED_POSITION}.isdisjoint(kinds(desk))


def test_what_our_side_reported_of_a_fill_gives_way_though_part_of_it_is_closed() -> None:
    desk = two_orders()
    desk.report(fill_report("F1", 100, "1.1", at_s=2, order_id="B1"), at_s=2)
    desk.report(fill_report("F2", 40, "1.3", at_s=4, order_id="B2", side=Side.SELL), at_s=4)
    told = replace(BOUGHT, quantity=dec(90), price=dec("1.2"))
    last = desk.look(slice_at(20, [pos(50, "1.2")], [buys(90, "1.2"), SELLS], [told, SOLD]))
    assert desk.held() == {NET: (dec(50), dec("1.2"))}
    assert (last.status, kinds(desk)) == ("SUCCESS", [])
    desk.restart()


@pytest.mark.parametrize("conventions", [Conventions(), FIFO, SPREAD])
def test_a_commission_of_a_lot_that_is_closed_is_written_once_and_changes_nothing(conventions: Conventions) -> None:
    desk = two_orders(conventions)
    sold = replace(SOLD, quantity=dec(100))
    sells = replace(SELLS, quantity=dec(100), filled_quantity=dec(100))
    rows = [buys(100), sells]
    desk.look(slice_at(10, [], rows, [BOUGHT, sold], conventions=conventions))
    desk.look(slice_at(20, [], rows, conventions=conventions))
    before = len(kinds(desk))
    for seconds in (30, 40):
        charged = replace(BOUGHT, commission=dec(10), commission_currency="USD")
        last = desk.look(slice_at(seconds, [], rows, [charged], conventions=conventions))
        desk.restart()
    assert (last.status, desk.held(), len(kinds(desk))) == ("SUCCESS", {}, before)
    assert [e.type for e in desk.events].count(EventType.COMMISSION_REPORTED) == 1


def bust_of(told: Fill) -> Fill:
    corrects = Corrected(told.fill_id, told.quantity, told.price)
    return replace(told, fill_id=told.fill_id + "b", quantity=dec(0), corrects=corrects)


@pytest.mark.parametrize("later", [(), (BOUGHT,)], ids=["never told", "told after its bust"])
def test_a_bust_of_an_execution_that_nobody_told_changes_nothing(later: tuple[Fill, ...]) -> None:
    desk = two_orders()
    rows = [buys(0, None, S.OPEN), order("B2", 40, 0, client_id="c2", side=Side.SELL)]
    desk.look(slice_at(20, [], rows, [bust_of(BOUGHT)]))
    for seconds in (30, 40):
        last = desk.look(slice_at(seconds, [], rows, later))
        desk.restart()
    assert (last.status, desk.held(), kinds(desk)) == ("SUCCESS", {}, [])


def split_and_fill(*, told: bool) -> tuple[Desk, list[Position]]:
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(slice_at(5, [pos(100, "40")]))
    desk.report(order_report("c1", "B1", 40, S.OPEN), at_s=6)
    held = [pos(440, "10")]
    row = order("B1", 40, 40, S.FILLED, client_id="c1", average="10", price="10")
    evidence = (Evidence(Reason.SPLIT, INSTRUMENT, NET, dec(300), "4 for 1", ratio=dec(4)),) if told else ()
    bought = fill("F1", 40, "10", at_s=12, order_id="B1")
    first = desk.look(replace(slice_at(20, held, [row], [bought]), evidence=evidence))
    assert first.status == "PARTIAL", "while the split is not dealt with, nothing is in step"
    for seconds in (30, 40):
        last = desk.look(replace(slice_at(seconds, held, [row]), evidence=evidence))
        desk.restart()
    assert last.status == "SUCCESS"
    return desk, held


@pytest.mark.parametrize("told", [True, False])
def test_a_split_and_an_untold_fill_in_one_look_come_out_as_the_broker_holds_them(told: bool) -> None:
    desk, _ = split_and_fill(told=told)
    assert desk.held() == {NET: (dec(440), dec(10))}


def test_lots_are_scaled_by_the_split_that_was_told_and_by_no_other() -> None:
    desk, _ = split_and_fill(told=True)
    lots = desk.book.legs[NET].lots
    assert sum((lot.quantity for lot in lots), Decimal(0)) == 440
    assert all(lot.quantity == lot.quantity.to_integral_value() for lot in lots)


@pytest.mark.parametrize("ours", [True, False], ids=["our order", "somebody's"])
def test_under_alert_a_close_that_was_missed_stays_open_and_stands_against_trading(ours: bool) -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(slice_at(5, [pos(500)]))
    desk.policy = Policy(correct=Correct.ALERT)
    if ours:
        desk.report(order_report("c9", "B9", 500, S.OPEN, side=Side.SELL), at_s=7)
    row = order("B9", 500, 500, S.FILLED, client_id="c9" if ours else None, side=Side.SELL, average="1.2")
    closed = fill("F9", 500, "1.2", at_s=12, order_id="B9", side=Side.SELL)
    for seconds, fills in ((20, [closed]), (30, []), (40, [])):
        last = desk.look(slice_at(seconds, [], [row], fills))
        assert last.status == "PARTIAL"
        assert desk.quantities() == {NET: 500}, "under alert the book stays as it is"
        why = obstacles(desk.book.breaks.values(), at(seconds), 60, (), None, None, at(seconds))
        assert {reason.obstacle for reason in why} & {Obstacle.OPEN_BREAK, Obstacle.CRITICAL_BREAK}
    open_now = {kind for kind, _ in desk.book.breaks}
    assert (T.MISSED_FILL if ours else T.NAKED_POSITION) in open_now
