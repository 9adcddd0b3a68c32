"""What a broker reports late of something that is over already: totals and averages come out exact, what was guessed
gives way, and nothing is reported as a difference that our side made itself."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from actors.book.discrepancies import DiscrepancyType as T
from actors.book.policy import Correct, Policy
from actors.book.trading_permission import Obstacle, obstacles
from actors.events import EventType, Severity
from brokers.model import (
    NET,
    Conventions,
    Corrected,
    CostBasis,
    Evidence,
    Failed,
    Fill,
    Order,
    OrderStatus,
    Position,
    Reason,
    Side,
)
from tests.unit.builders import (
    FAILED,
    INSTRUMENT,
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
    restated = replace(BOUGHT, quantity=dec(90), price=dec("1.2"))
    last = desk.look(slice_at(20, [pos(50, "1.2")], [buys(90, "1.2"), SELLS], [restated, SOLD]))
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


def bust_of(executed: Fill) -> Fill:
    corrects = Corrected(executed.fill_id, executed.quantity, executed.price)
    return replace(executed, fill_id=executed.fill_id + "b", quantity=dec(0), corrects=corrects)


@pytest.mark.parametrize("later", [(), (BOUGHT,)], ids=["never reported", "reported after its bust"])
def test_a_bust_of_an_execution_that_nobody_reported_changes_nothing(later: tuple[Fill, ...]) -> None:
    desk = two_orders()
    rows = [buys(0, None, S.OPEN), order("B2", 40, 0, client_id="c2", side=Side.SELL)]
    desk.look(slice_at(20, [], rows, [bust_of(BOUGHT)]))
    for seconds in (30, 40):
        last = desk.look(slice_at(seconds, [], rows, later))
        desk.restart()
    assert (last.status, desk.held(), kinds(desk)) == ("SUCCESS", {}, [])


def guessed(
    quantity: int,
    side: Side = Side.BUY,
    held: int = 0,
    conventions: Conventions = Conventions(),  # noqa: B008 - frozen
) -> tuple[Desk, Fill, int]:
    """A desk that inferred a fill of an order from its row, as its execution was not reported; that; what is held."""
    desk = Desk()
    rows = [pos(held, "1.4")] if held else []
    desk.look(slice_at(0, rows, conventions=conventions))
    desk.report(order_report("c1", "B1", 10, S.OPEN, side=side), at_s=1, conventions=conventions)
    left = held + quantity * side.sign
    desk.look(
        slice_at(
            10, [pos(left, "1.4" if held else "1.1")] if left else [], [of_ten(quantity, side)], conventions=conventions
        )
    )
    order_ = desk.book.find_order("B1", None)
    assert order_ is not None
    assert [guess.quantity for guess in order_.inferred] == [quantity]
    return desk, fill("F1", quantity, "1.1", at_s=8, order_id="B1", side=side), left


def of_ten(filled: int, side: Side = Side.BUY, average: str = "1.1") -> Order:
    status = S.FILLED if filled == 10 else S.PARTIALLY_FILLED if filled else S.OPEN
    return order("B1", 10, filled, status, client_id="c1", side=side, average=average if filled else None)


@pytest.mark.parametrize("conventions", [Conventions(), FIFO], ids=["weighted", "fifo"])
@pytest.mark.parametrize("lags", [(), ("row",), ("positions",), ("row", "positions")], ids=str)
@pytest.mark.parametrize(
    ("quantity", "side", "held"),
    [(5, Side.BUY, 0), (10, Side.BUY, 0), (5, Side.BUY, 20), (5, Side.SELL, 20), (10, Side.SELL, 10)],
    ids=["opened", "all of it", "added to", "closed in part", "closed whole"],
)
def test_what_was_inferred_gives_way_to_the_bust_of_its_execution(
    quantity: int, side: Side, held: int, lags: tuple[str, ...], conventions: Conventions
) -> None:
    """Kinds: a guess that never gives way, and ``filled`` that only grows."""
    desk, executed, left = guessed(quantity, side, held, conventions)
    before = len(desk.events)
    shown = left if "positions" in lags else held
    row = of_ten(quantity if "row" in lags else 0, side)
    desk.look(slice_at(20, [pos(shown, "1.4")] if shown else [], [row], [bust_of(executed)], conventions=conventions))
    (taken,) = [one for one in desk.events[before:] if one.type is EventType.ORDER_FILLED]
    assert taken.payload["fill_id"] == "F1b"
    assert desk.quantities() == ({NET: held} if held else {}), "at once, whatever lags"
    desk.restart()
    truth = [pos(held, "1.4")] if held else []
    for seconds, fills in ((30, []), (40, [executed]), (50, [])):
        last = desk.look(slice_at(seconds, truth, [of_ten(0, side)], fills, conventions=conventions))
        desk.restart()
    order_ = desk.book.find_order("B1", None)
    assert order_ is not None
    assert (order_.filled_quantity, order_.notional, order_.inferred, order_.status) == (dec(0), dec(0), (), S.OPEN)
    assert desk.held() == ({NET: (dec(held), dec("1.4"))} if held else {})
    assert (last.status, desk.book.breaks) == ("SUCCESS", {})
    if "positions" not in lags:
        assert [one.severity for one in desk.events[before:] if one.type is EventType.RECONCILIATION_DISCREPANCY] == []
    assert all(one.severity is not Severity.CRITICAL for one in desk.events[before:])


@pytest.mark.parametrize("policy", [Policy(), Policy(correct=Correct.ALERT)], ids=["correcting", "alert"])
def test_what_was_inferred_gives_way_to_the_correction_of_its_execution_to_less(policy: Policy) -> None:
    desk, executed, _ = guessed(5)
    desk.policy = policy
    before = len(desk.events)
    corrected = replace(bust_of(executed), quantity=dec(3), price=dec("1.2"))
    for seconds, fills in ((20, [corrected]), (30, []), (40, [executed])):
        last = desk.look(slice_at(seconds, [pos(3, "1.2")], [of_ten(3, average="1.2")], fills))
        desk.restart()
    order_ = desk.book.find_order("B1", None)
    assert order_ is not None
    assert (order_.filled_quantity, order_.notional, order_.inferred) == (dec(3), dec("3.6"), ())
    assert (desk.held(), last.status) == ({NET: (dec(3), dec("1.2"))}, "SUCCESS")
    assert EventType.RECONCILIATION_DISCREPANCY not in [one.type for one in desk.events[before:]]
    lots = desk.book.legs[NET].lots
    assert [(lot.quantity, lot.price, lot.fill_id) for lot in lots] == [(dec(3), dec("1.2"), "F1b")]


@pytest.mark.parametrize("policy", [Policy(), Policy(correct=Correct.ALERT)], ids=["correcting", "alert"])
def test_the_brokers_own_word_on_what_was_inferred_is_no_difference(policy: Policy) -> None:
    desk, executed, _ = guessed(5)
    before = len(desk.events)
    desk.policy = policy
    restated = replace(executed, price=dec("1.2"))
    for seconds, fills in ((20, [restated]), (30, []), (40, [])):
        last = desk.look(slice_at(seconds, [pos(5, "1.2")], [of_ten(5, average="1.2")], fills))
        desk.restart()
    assert (last.status, desk.held()) == ("SUCCESS", {NET: (dec(5), dec("1.2"))})
    assert [one.type for one in desk.events[before:]].count(EventType.ORDER_FILLED) == 1
    assert EventType.RECONCILIATION_DISCREPANCY not in [one.type for one in desk.events[before:]]


def test_more_than_was_inferred_is_a_difference_of_the_rest() -> None:
    desk, executed, _ = guessed(5)
    desk.look(slice_at(20, [pos(8)], [of_ten(8)], [replace(executed, quantity=dec(8))]))
    found = [one for one in desk.events if one.type is EventType.RECONCILIATION_DISCREPANCY][-1].payload
    assert (found["book_value"], found["broker_value"], found["difference"]) == ("5", "8", "3")
    assert desk.held() == {NET: (dec(8), dec("1.1"))}


@pytest.mark.parametrize("own", [True, False], ids=["of our order", "of an order of somebody's"])
def test_a_position_that_no_fill_explains_gives_way_to_the_bust_of_its_execution(own: bool) -> None:
    desk = Desk()
    desk.look(slice_at(0))
    rows = [of_ten(0)] if own else []
    if own:
        desk.report(order_report("c1", "B1", 10, S.OPEN), at_s=1)
    desk.look(slice_at(10, [pos(5)], rows))
    before = len(desk.events)
    executed = fill("F1", 5, "1.1", at_s=8, order_id="B1" if own else "B7")
    for seconds, fills in ((20, [bust_of(executed)]), (30, [executed])):
        last = desk.look(slice_at(seconds, [], rows, fills))
        desk.restart()
    assert (last.status, desk.held(), desk.book.breaks) == ("SUCCESS", {}, {})
    assert EventType.RECONCILIATION_DISCREPANCY not in [one.type for one in desk.events[before:]]


def test_a_position_that_is_still_shown_gives_way_to_no_bust() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(slice_at(10, [pos(5)]))
    desk.look(slice_at(20, [pos(5)], [], [bust_of(fill("F1", 5, "1.1", at_s=8, order_id="B7"))]))
    assert desk.quantities() == {NET: 5}


@pytest.mark.parametrize("first", [[pos(5)], FAILED, [pos(8)]], ids=["still shown", "not known", "traded since"])
def test_a_bust_that_comes_before_its_position_goes_waits_for_it(first: list[Position] | Failed) -> None:
    """It was recorded as changing nothing, and when the position went, nothing said why: a CRITICAL ghost."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(slice_at(10, [pos(5)]))
    bust = bust_of(fill("F1", 5, "1.1", at_s=8, order_id="B7"))
    bought = [fill("F2", 3, "1.1", at_s=19, order_id="B8")] if first == [pos(8)] else []
    assert desk.look(slice_at(20, first, [], [bust, *bought])).cursor is None, "they are requested again"
    desk.restart()
    last = desk.look(slice_at(30, [pos(3)] if bought else [], [], [bust, *bought]))
    assert (last.status, desk.book.breaks) == ("SUCCESS", {})
    assert desk.quantities() == ({NET: dec(3)} if bought else {})
    assert T.NAKED_POSITION not in {one.found.type for one in last.discrepancies}
    assert not [one for one in desk.events if one.severity is Severity.CRITICAL]


@pytest.mark.parametrize(
    "policy", [Policy(correct=Correct.ALERT), Policy(positions=False)], ids=["under alert", "positions not compared"]
)
def test_a_bust_waits_only_where_the_positions_are_compared_and_corrected(policy: Policy) -> None:
    desk = Desk(policy)
    desk.look(slice_at(0))
    desk.report(position_report(5), at_s=1)
    decision = desk.look(slice_at(20, [pos(5)], [], [bust_of(fill("F1", 5, "1.1", at_s=8, order_id="B7"))]))
    assert (decision.status, decision.discrepancies, decision.cursor) == ("SUCCESS", (), 20_000)


def test_a_position_that_is_proven_to_stay_was_never_of_the_busted_execution() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(slice_at(10, [pos(5)]))
    bust = bust_of(fill("F1", 5, "1.1", at_s=8, order_id="B7"))
    for seconds in (20, 40, 60):
        last = desk.look(slice_at(seconds, [pos(5)], [], [bust]))
        desk.restart()
    assert (last.status, desk.book.breaks) == ("SUCCESS", {})
    assert desk.quantities() == {NET: dec(5)}
    assert bust.key in desk.book.applied
    desk.look(slice_at(80))
    assert desk.book.breaks.keys() == {(T.NAKED_POSITION, NET)}


def test_a_position_of_known_fills_gives_way_to_no_bust_of_another_execution() -> None:
    """It was closed by hand, and nobody reported it yet: the bust of what never counted does not explain that."""
    desk = two_orders()
    rows = [buys(100), order("B2", 40, 0, client_id="c2", side=Side.SELL)]
    desk.look(slice_at(10, [pos(100)], rows, [BOUGHT]))
    other = fill("F7", 100, "1.1", at_s=8, order_id="B7")
    desk.look(slice_at(20, [], rows, [bust_of(other)]))
    assert desk.quantities() == {NET: 100}
    assert T.NAKED_POSITION in {kind for kind, _ in desk.book.breaks}


def split_and_fill(*, split_reported: bool) -> tuple[Desk, list[Position]]:
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(slice_at(5, [pos(100, "40")]))
    desk.report(order_report("c1", "B1", 40, S.OPEN), at_s=6)
    held = [pos(440, "10")]
    row = order("B1", 40, 40, S.FILLED, client_id="c1", average="10", price="10")
    evidence = (Evidence(Reason.SPLIT, INSTRUMENT, NET, dec(300), "4 for 1", ratio=dec(4)),) if split_reported else ()
    bought = fill("F1", 40, "10", at_s=12, order_id="B1")
    first = desk.look(replace(slice_at(20, held, [row], [bought]), evidence=evidence))
    assert first.status == "PARTIAL", "while the split is not dealt with, nothing is in step"
    for seconds in (30, 40):
        last = desk.look(replace(slice_at(seconds, held, [row]), evidence=evidence))
        desk.restart()
    assert last.status == "SUCCESS"
    return desk, held


@pytest.mark.parametrize("split_reported", [True, False])
def test_a_split_and_an_unreported_fill_in_one_look_come_out_as_the_broker_holds_them(split_reported: bool) -> None:
    desk, _ = split_and_fill(split_reported=split_reported)
    assert desk.held() == {NET: (dec(440), dec(10))}


def test_lots_are_scaled_by_the_split_that_was_reported_and_by_no_other() -> None:
    desk, _ = split_and_fill(split_reported=True)
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


def test_a_fill_of_an_order_that_was_enlarged_is_counted_beside_what_our_side_reported_of_it() -> None:
    """Our side reported a fill of the enlarged order; the broker's answer is from before, with the order's first fill.
    The order is not known to be that large yet, and its quantity is no bound for what can be filled."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", 2, S.OPEN), at_s=1)
    desk.report(fill_report("F2", 3, "1.2", at_s=9, order_id="B1"), at_s=9)
    row = order("B1", 2, 1, S.PARTIALLY_FILLED, client_id="c1")
    first = fill("F1", 1, "1.1", at_s=5, order_id="B1")
    desk.look(slice_at(8, [pos(1)], [row], [first]))
    assert desk.held()[NET][0] == dec(4)
    filled = order("B1", 11, 4, S.CANCELLED, client_id="c1")
    for seconds in (20, 30):
        last = desk.look(slice_at(seconds, [pos(4)], [filled], [first, fill("F2", 3, "1.2", at_s=9, order_id="B1")]))
    assert desk.held()[NET][0] == dec(4)
    assert T.POSITION_MISMATCH not in kinds(desk)
    assert (last.status, desk.book.breaks) == ("SUCCESS", {})
    desk.restart()
