"""Positions that lag behind fills, fills from before what nobody explains, and orders from before the first look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from actors.book.discrepancies import Cause
from actors.book.policy import Policy
from actors.events import EventType, Severity
from actors.reconciliation.reconciliation_pass import Decision
from brokers.clocks import broker_time
from brokers.model import Evidence, OrderAnswer, OrderQuery, OrderStatus, Reason, Side, Slice
from tests.unit.builders import (
    FAILED,
    INSTRUMENT,
    Desk,
    at,
    dec,
    fill,
    fill_report,
    kinds,
    order,
    order_report,
    pos,
    position_report,
    slice_at,
    types,
)

S = OrderStatus
SOLD = order("b9", 100, 100, S.FILLED, side=Side.SELL, client_id="c9")


def severities(decision: Decision) -> set[Severity]:
    return {one.found.severity for one in decision.discrepancies}


# -- a position that lags behind the fills that its broker reported ----------------------------------------------------


def look_at_a_fill(desk: Desk, second: float = 10) -> None:
    """The broker reports a fill of 50, and a position of 100 that does not have it."""
    desk.look(
        slice_at(second, [pos(100)], [order("b1", 50, 50, S.FILLED)], [fill("f1", 50, at_s=second - 1, order_id="b1")])
    )
    assert desk.quantities() == {"net": dec(150)}


def test_a_position_that_comes_five_seconds_after_its_fill_pushes_no_book_back_and_forth() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(100)]))
    look_at_a_fill(desk)
    for second in (11, 12, 13, 14, 14.9):
        decision = desk.look(slice_at(second, [pos(100)], [order("b1", 50, 50, S.FILLED)]))
        assert (decision.status, types(decision)) == ("PARTIAL", [])
    assert decision.recheck_at == at(15)
    assert desk.look(slice_at(15, [pos(150)], [order("b1", 50, 50, S.FILLED)])).status == "SUCCESS"
    assert EventType.POSITION_SYNCED not in kinds(desk.events[2:])
    desk.restart()


def test_a_drift_that_takes_back_what_fills_explain_takes_confirmation_as_a_ghost_does() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(100)]))
    look_at_a_fill(desk)
    desk.restart()
    first = desk.look(slice_at(16, [pos(100)], [order("b1", 50, 50, S.FILLED)]))
    assert (types(first), desk.quantities()) == (["POSITION_MISMATCH!"], {"net": dec(150)})
    last = desk.look(slice_at(17, [pos(100)], [order("b1", 50, 50, S.FILLED)]))
    assert (types(last), desk.quantities()) == (["POSITION_MISMATCH"], {"net": dec(100)})


def test_a_drift_of_another_size_or_after_the_position_was_in_step_takes_one_look() -> None:
    for shown, looks_before in ((pos(90), ()), (pos(170), ()), (pos(100), (400,))):
        desk = Desk()
        desk.look(slice_at(0, [pos(100)]))
        look_at_a_fill(desk)
        for second in looks_before:
            desk.look(slice_at(second, [pos(150)], [order("b1", 50, 50, S.FILLED)]))
        decision = desk.look(slice_at(500, [shown], [order("b1", 50, 50, S.FILLED)]))
        assert types(decision) == ["POSITION_MISMATCH"]


@pytest.mark.parametrize("lacking", [("f1", "f2"), ("f2",)], ids=["both", "the newest"])
def test_a_position_may_lag_behind_several_fills_whatever_their_sides(lacking: tuple[str, ...]) -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(100)]))
    two = [fill("f1", 50, at_s=8, order_id="b1"), fill("f2", 30, at_s=9, order_id="b2", side=Side.SELL)]
    desk.look(slice_at(10, [pos(120)], fills=two))
    shown = 100 if len(lacking) == 2 else 150
    decision = desk.look(slice_at(12, [pos(shown)]))
    assert (decision.status, types(decision)) == ("PARTIAL", [])


def test_a_leg_that_a_fill_opened_or_closed_is_no_ghost_and_no_zombie_while_its_position_lags() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(slice_at(10, [], fills=[fill("f1", 50, at_s=9, order_id="b1")]))
    assert desk.look(slice_at(12)).discrepancies == ()
    assert desk.look(slice_at(14.5)).discrepancies == ()
    assert desk.look(slice_at(15, [pos(50)])).status == "SUCCESS"
    desk.look(slice_at(20, [pos(50)], fills=[fill("f2", 50, at_s=19, order_id="b2", side=Side.SELL)]))
    assert desk.look(slice_at(22, [pos(50)])).discrepancies == ()
    assert desk.look(slice_at(25)).status == "SUCCESS"


# -- fills of a slice before its unexplained part ---------------------------------------------------------------------


def test_what_came_without_a_fill_comes_before_the_sale_of_it_and_the_book_never_goes_short() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(60)]))
    decision = desk.look(slice_at(10, [], [SOLD], [fill("f1", 100, at_s=8, order_id="b9", side=Side.SELL)]))
    first, *rest = decision.discrepancies
    assert (first.found.type, first.found.difference, first.found.cause) == (
        "POSITION_MISMATCH",
        "40",
        Cause.UNEXPLAINED,
    )
    assert Severity.CRITICAL not in severities(decision)
    assert {one.found.type.value for one in rest} == {"MISSED_FILL", "EXTERNAL_ORDER"}
    assert (decision.status, desk.quantities()) == ("SUCCESS", {})
    changed = [e for e in desk.events if e.type in (EventType.POSITION_SYNCED, EventType.ORDER_FILLED)]
    assert [e.payload["quantity"] for e in changed] == ["60", "100", "100"]
    desk.restart()
    assert desk.look(slice_at(11, [], [SOLD])).discrepancies == ()


def test_a_transfer_that_the_broker_reports_is_one_though_it_was_sold_in_the_same_moment() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(60)]))
    transfer = Evidence(Reason.TRANSFER, INSTRUMENT, "net", dec(40), "40 transferred in")
    slice_ = slice_at(10, [], [SOLD], [fill("f1", 100, at_s=8, order_id="b9", side=Side.SELL)])
    decision = desk.look(replace(slice_, evidence=(transfer,)))
    assert decision.discrepancies[0].found.cause is Cause.TRANSFER
    assert desk.quantities() == {}


def test_a_sale_out_of_a_flat_book_is_waited_for_as_the_position_may_lag_behind_it() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    sale = fill("f1", 100, at_s=8, order_id="b9", side=Side.SELL)
    desk.look(slice_at(10, [], [SOLD], [sale]))
    assert desk.look(slice_at(12, [], [SOLD])).discrepancies == ()
    assert desk.look(slice_at(15, [pos(-100)], [SOLD])).status == "SUCCESS"


def test_what_came_into_a_flat_book_and_was_sold_in_part_was_never_short() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    decision = desk.look(slice_at(10, [pos(20)], [SOLD], [fill("f1", 100, at_s=8, order_id="b9", side=Side.SELL)]))
    assert "MISSING_LOCALLY" in types(decision)
    assert Severity.CRITICAL not in severities(decision)
    assert desk.quantities() == {"net": dec(20)}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [(pos(60), -40), (pos(-40), -40), (pos(-30), -40), (pos(20), 20)],
    ids=["it lags", "it has the sale", "short, and something else", "more came"],
)
def test_only_what_the_position_contradicts_comes_before_the_fills(shown: object, expected: int) -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(60)]))
    sale = fill("f1", 100, at_s=8, order_id="b9", side=Side.SELL)
    desk.look(slice_at(10, [shown], [SOLD], [sale]))  # type: ignore[list-item]  # a position
    assert desk.quantities() == {"net": dec(expected)}


def test_a_position_that_has_some_of_the_fills_lags_and_nothing_came_before_them() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(60)]))
    sales = [fill(f"f{n}", q, at_s=7 + n, order_id="b9", side=Side.SELL) for n, q in enumerate((60, 40))]
    desk.look(slice_at(10, [], [SOLD], sales))
    assert desk.quantities() == {"net": dec(-40)}
    assert desk.look(slice_at(12, [], [SOLD])).discrepancies == ()
    assert desk.look(slice_at(15, [pos(-40)], [SOLD])).status == "SUCCESS"


# -- own orders from before the very first look -----------------------------------------------------------------------

OWN = order("b1", 100, 50, S.PARTIALLY_FILLED, client_id="c1", average="1.1", submitted_at=at(0))


def recorded() -> Desk:
    desk = Desk()
    desk.report(order_report("c1", quantity=100, submitted_at=at(0)), at_s=0)
    return desk


@pytest.mark.parametrize("listed", [True, False], ids=["with its fill", "its fill not listed"])
def test_own_orders_recorded_before_the_very_first_look_are_an_adoption(listed: bool) -> None:
    desk = recorded()
    fills = [fill("f1", 50, at_s=5, order_id="b1")] if listed else []
    found = [desk.look(slice_at(20 + n, [pos(70)], [OWN], fills)) for n in range(7)]
    assert {severity for one in found for severity in severities(one)} == {Severity.INFO}
    assert (found[-1].status, desk.quantities()) == ("SUCCESS", {"net": dec(70)})
    (booked,) = desk.book.orders.values()
    assert (booked.client_order_id, booked.filled_quantity) == ("c1", dec(50))


def test_a_position_that_our_side_reported_before_the_first_look_is_compared_and_not_adopted() -> None:
    desk = Desk()
    desk.report(position_report(100), at_s=0)
    decision = desk.look(slice_at(20, [pos(70)]))
    assert severities(decision) == {Severity.WARNING}


def test_a_fill_that_our_side_reported_before_the_first_look_says_nothing_of_what_was_held_before_it() -> None:
    desk = Desk()
    desk.report(fill_report("f1", 50, at_s=0), at_s=0)
    decision = desk.look(slice_at(20, [pos(70)], fills=[fill("f1", 50, at_s=0)]))
    assert severities(decision) == {Severity.INFO}
    assert desk.quantities() == {"net": dec(70)}


# -- equal by chance: fills that the positions cannot contain ----------------------------------------------------------


SHORT = order("b1", 7, 2, S.PARTIALLY_FILLED, side=Side.SELL)
"""Working since before the first look, with 2 filled."""
OTHER = order("b2", 7, 0, side=Side.SELL, client_id="c2")


def short_since_before_the_first_look() -> Desk:
    """A first look that adopted an order with 2 filled, without positions, and an order of ours beside it."""
    desk = Desk()
    desk.look(slice_at(0, FAILED, [SHORT]))
    desk.report(order_report("c2", "b2", quantity=7, side=Side.SELL, submitted_at=at(0)), at_s=0)
    assert (desk.quantities(), desk.book.baseline) == ({}, None)
    return desk


def after(slice_: Slice, seconds: float) -> Slice:
    """The same answer, of that broker time, though it was requested later."""
    return replace(slice_, as_of=broker_time(at(seconds)))


SOLD_2 = fill("f2", 2, at_s=9, order_id="b1", side=Side.SELL)
SOLD_2_LATER = fill("f3", 2, at_s=15, order_id="b2", side=Side.SELL)
NOW_SHORT = order("b1", 7, 4, S.PARTIALLY_FILLED, side=Side.SELL)
OTHER_FILLED = order("b2", 7, 2, S.PARTIALLY_FILLED, side=Side.SELL, client_id="c2")


def by_the_section(desk: Desk) -> Decision:
    """The later fill is in the fills of the look, whose positions are of before it."""
    rows = [NOW_SHORT, OTHER_FILLED]
    return desk.look(after(slice_at(16, [pos(-4)], rows, [SOLD_2, SOLD_2_LATER]), 10))


def by_an_answer(desk: Desk) -> Decision:
    """The later fill came with the answer to a look-up."""
    slice_ = after(slice_at(16, [pos(-4)], [NOW_SHORT], [SOLD_2]), 10)
    answer = OrderAnswer(OrderQuery(INSTRUMENT, "b2", "c2"), OTHER_FILLED, (SOLD_2_LATER,))
    return desk.look(slice_, answers={"b2": answer})


def by_a_report(desk: Desk) -> Decision:
    """Our side reported the later fill while the look was under way."""
    slice_ = slice_at(10, [pos(-4)], [NOW_SHORT, OTHER], [SOLD_2])
    desk.report(fill_report("f3", 2, at_s=15, order_id="b2", side=Side.SELL), at_s=15)
    return desk.look(slice_, at(16))


@pytest.mark.parametrize("later", [by_the_section, by_an_answer, by_a_report])
def test_a_new_book_that_equals_a_position_without_its_latest_fill_is_not_in_step(
    later: Callable[[Desk], Decision],
) -> None:
    """-4 contains the fill of 2 that the first look adopted, and not the latest: -6 is held."""
    desk = short_since_before_the_first_look()
    decision = later(desk)
    assert (decision.status, desk.quantities(), desk.book.reconciled_at) == ("PARTIAL", {"net": dec(-4)}, None)
    assert decision.recheck_at is not None
    last = desk.look(slice_at(30, [pos(-6)], [NOW_SHORT, OTHER_FILLED], [SOLD_2_LATER]))
    assert (last.status, desk.quantities()) == ("SUCCESS", {"net": dec(-6)})
    desk.restart()


def test_a_new_book_that_is_flat_by_chance_is_not_in_step() -> None:
    """2 were held before the first look and sold in it (nothing is shown), and 2 bought again since: the book counts
    both fills."""
    desk = short_since_before_the_first_look()
    bought = fill("f3", 2, at_s=15, order_id="b2", side=Side.BUY)
    filled = replace(OTHER_FILLED, side=Side.BUY)
    decision = desk.look(after(slice_at(16, [], [NOW_SHORT, filled], [SOLD_2, bought]), 10))
    assert (decision.status, desk.quantities(), desk.book.reconciled_at) == ("PARTIAL", {}, None)
    last = desk.look(slice_at(30, [pos(2)], [NOW_SHORT, filled]))
    assert (last.status, desk.quantities()) == ("SUCCESS", {"net": dec(2)})


def test_a_difference_is_not_over_because_a_later_fill_equals_it() -> None:
    """100 more are held than the book says, too many to take over alone. Then 100 are bought, while the positions are
    still of before that: they equal the book, and the difference is what it was."""
    desk = Desk(Policy(max_correction=dec(100)))
    desk.look(slice_at(0, [pos(100)]))
    desk.policy = Policy(max_correction=dec(50))
    assert types(desk.look(slice_at(10, [pos(200)]))) == ["POSITION_MISMATCH!"]
    bought = fill("f1", 100, at_s=25, order_id="b1")
    row = order("b1", 100, 100, S.FILLED)
    decision = desk.look(after(slice_at(26, [pos(200)], [row], [bought]), 20))
    assert "POSITION_MISMATCH!" in types(decision)
    assert desk.quantities() == {"net": dec(200)}
    (found,) = [one.found for one in desk.look(slice_at(40, [pos(300)], [row])).discrepancies]
    assert (found.broker_value, found.opened_at) == ("300", at(10))


def test_a_book_that_was_in_step_takes_a_position_that_has_its_latest_fill() -> None:
    """The time of a position is the earliest that it may be of, so most looks at a running order are such looks."""
    desk = Desk()
    desk.look(slice_at(0, [pos(100)]))
    row = order("b1", 100, 100, S.FILLED)
    decision = desk.look(after(slice_at(26, [pos(200)], [row], [fill("f1", 100, at_s=25, order_id="b1")]), 20))
    assert (decision.status, decision.recheck_at) == ("SUCCESS", None)
