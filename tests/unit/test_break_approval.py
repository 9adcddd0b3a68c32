"""A correction that waits for a person: made once approved, at the next look, on what both sides still say, and never
otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from actors.book.break_work import UNTOUCHED, BreakAction, BreakRequest, BreakState, act, sides_of
from actors.book.checkpoint import checkpoint, checkpoint_event, replay
from actors.book.discrepancies import Break, Correction, DiscrepancyType
from actors.book.policy import Correct, Policy
from actors.events import Event, EventType, Severity, event_id
from actors.instrument.book_keeper import clock_stepped
from brokers.model import Corrected, OrderStatus
from tests.unit.builders import (
    FAILED,
    Desk,
    at,
    dec,
    fill,
    kinds,
    order,
    order_report,
    pos,
    position_report,
    records,
    slice_at,
    types,
)

ALERT = Policy(correct=Correct.ALERT, settle=timedelta(0), confirm_gap=timedelta(milliseconds=100))
AT_MOST_10 = Policy(max_correction=dec(10), settle=timedelta(0), confirm_gap=timedelta(milliseconds=100))


def only(desk: Desk) -> Break:
    (found,) = desk.book.breaks.values()
    return found


def approve(desk: Desk, found: Break, at_s: float, by: str = "ann@desk") -> None:
    request = BreakRequest(BreakAction.APPROVE, by, "MANUAL_TRADE", sides=sides_of(found))
    work = desk.book.work.get(found.id, UNTOUCHED)
    kind, payload = act(found, work, request, four_eyes=False, now=at(at_s))
    identity = event_id(desk.book.stream, str(desk.book.version + 1), kind, found.id)
    desk.write([Event(identity, kind, Severity.INFO, at(at_s), payload)])


def holding(policy: Policy, quantity: object = 100) -> Desk:
    """A desk that has been in step with this held."""
    desk = Desk(policy)
    desk.report(position_report(quantity), at_s=0)
    desk.look(slice_at(1, [pos(quantity)]))
    return desk


@pytest.mark.parametrize("policy", [AT_MOST_10, ALERT], ids=["above max_correction", "under alert"])
@pytest.mark.parametrize(
    ("broker", "correction"),
    [(150, Correction.FORCE_UPDATE_POSITION), (0, Correction.FORCE_CLOSE_POSITION)],
    ids=["drift", "ghost"],
)
def test_it_waits_until_it_is_approved_and_is_made_at_the_next_look(
    policy: Policy, broker: int, correction: Correction
) -> None:
    desk = holding(policy)
    rows = [pos(broker)] if broker else []
    for second in (2, 3, 4):
        desk.look(slice_at(second, rows))
    found = only(desk)
    assert found.offers is correction
    approve(desk, found, 5)
    assert desk.book.work[found.id].state is BreakState.APPROVED
    desk.restart()
    made = [desk.look(slice_at(second, rows)) for second in (6, 7)]
    (done,) = [one for decision in made for one in decision.discrepancies if one.resolved]
    assert (done.found.id, done.correction) == (found.id, correction)
    resolved = [event for event in desk.events if event.type is EventType.DISCREPANCY_RESOLVED]
    assert [event.payload["approved_by"] for event in resolved] == ["ann@desk"]
    assert desk.quantities() == ({"net": dec(broker)} if broker else {})
    assert (desk.book.work, desk.book.breaks) == ({}, {})
    desk.restart()


def test_a_leg_the_book_has_not_and_a_move_wait_alike() -> None:
    desk = Desk(AT_MOST_10)
    desk.look(slice_at(1))
    desk.look(slice_at(2, [pos(50)]))
    assert only(desk).offers is Correction.FORCE_ADD_POSITION
    approve(desk, only(desk), 3)
    desk.look(slice_at(4, [pos(50)]))
    assert desk.quantities() == {"net": dec(50)}


@pytest.mark.parametrize("policy", [AT_MOST_10, ALERT], ids=["above max_correction", "under alert"])
def test_an_approval_corrects_nothing_else(policy: Policy) -> None:
    desk = holding(policy)
    desk.look(slice_at(2, [pos(150)]))
    approve(desk, only(desk), 3)
    desk.look(slice_at(4, [pos(151)]))  # another difference
    assert (desk.quantities(), only(desk).broker_value) == ({"net": dec(100)}, "151")
    desk.look(slice_at(5, [pos(150)]))  # the one approved, again: it was approved of another moment
    assert desk.quantities() == {"net": dec(100)}
    assert desk.book.work[only(desk).id].state is BreakState.OPEN
    approve(desk, only(desk), 6)
    desk.look(slice_at(7, [pos(150)]))
    assert desk.quantities() == {"net": dec(150)}


@pytest.mark.parametrize("policy", [AT_MOST_10, ALERT], ids=["above max_correction", "under alert"])
def test_the_approval_of_a_difference_that_went_away_is_gone_with_it(policy: Policy) -> None:
    desk = holding(policy)
    desk.look(slice_at(2, [pos(150)]))
    yesterdays = only(desk)
    approve(desk, yesterdays, 3)
    desk.look(slice_at(4, [pos(100)]))
    assert (desk.book.breaks, desk.book.work) == ({}, {})
    desk.look(slice_at(90_000, [pos(150)]))
    assert (desk.quantities(), only(desk).id == yesterdays.id) == ({"net": dec(100)}, False)


@pytest.mark.parametrize("policy", [AT_MOST_10, ALERT], ids=["above max_correction", "under alert"])
def test_what_the_broker_said_before_the_approval_makes_no_correction(policy: Policy) -> None:
    desk = holding(policy)
    desk.look(slice_at(2, [pos(150)]))
    approve(desk, only(desk), 5)
    desk.look(slice_at(4, [pos(150)]), at(6))
    assert desk.quantities() == {"net": dec(100)}
    desk.look(slice_at(7, [pos(150)]))
    assert desk.quantities() == {"net": dec(150)}


def test_what_has_to_be_proven_is_proven_though_it_is_approved() -> None:
    desk = holding(ALERT)
    desk.look(slice_at(2))
    approve(desk, only(desk), 3)
    first = desk.look(slice_at(4))
    assert types(first) == ["NAKED_POSITION!"]
    assert desk.quantities() == {"net": dec(100)}
    assert types(desk.look(slice_at(5))) == ["NAKED_POSITION"]
    assert desk.quantities() == {}


def test_a_dry_run_heeds_no_approval() -> None:
    desk = holding(AT_MOST_10)
    desk.look(slice_at(2, [pos(150)]))
    approve(desk, only(desk), 3)
    desk.policy = replace(AT_MOST_10, correct=Correct.ALERT, approvals=False)
    desk.look(slice_at(4, [pos(150)]))
    assert desk.quantities() == {"net": dec(100)}


def with_an_order(policy: Policy) -> Desk:
    desk = Desk(policy)
    desk.report(order_report("c1", "o1", status=OrderStatus.OPEN), at_s=0)
    desk.look(slice_at(1, [], [order("o1", client_id="c1")]))
    assert desk.book.breaks == {}
    return desk


def test_under_alert_a_missed_fill_is_applied_when_approved_and_explains_the_position_then() -> None:
    desk = with_an_order(ALERT)
    shown = ([pos(40)], [order("o1", filled=40, status=OrderStatus.PARTIALLY_FILLED, client_id="c1")])
    fills = [fill("f1", 40, at_s=2, order_id="o1")]
    desk.look(slice_at(3, *shown, fills))
    missed = desk.book.breaks[DiscrepancyType.MISSED_FILL, "o1"]
    approve(desk, missed, 4)
    desk.look(slice_at(5, *shown, fills))
    assert desk.quantities() == {"net": dec(40)}
    assert desk.book.find_order_by_ticket("o1").filled_quantity == dec(40)  # type: ignore[union-attr] # it is there
    assert EventType.ORDER_FILLED in kinds(desk.events)
    desk.restart()


def test_under_alert_an_order_is_not_corrected_on_top_of_a_fill_that_was_only_tried() -> None:
    desk = with_an_order(ALERT)
    shown = ([pos(40)], [order("o1", quantity=90, filled=40, status=OrderStatus.PARTIALLY_FILLED, client_id="c1")])
    fills = [fill("f1", 40, at_s=2, order_id="o1")]
    desk.look(slice_at(3, *shown, fills))
    amended = desk.book.breaks[DiscrepancyType.ORDER_STATUS_MISMATCH, "o1"]
    approve(desk, amended, 4)
    desk.look(slice_at(5, *shown, fills))
    before = desk.book.find_order_by_ticket("o1")
    assert before is not None
    assert (before.filled_quantity, before.quantity) == (dec(0), dec(100))
    approve(desk, desk.book.breaks[DiscrepancyType.MISSED_FILL, "o1"], 6)
    desk.look(slice_at(7, *shown, fills))
    after = desk.book.find_order_by_ticket("o1")
    assert after is not None
    assert (after.filled_quantity, after.quantity) == (dec(40), dec(90))
    assert (desk.quantities(), desk.book.breaks) == ({"net": dec(40)}, {})
    desk.restart()


def test_the_work_is_in_a_checkpoint_and_one_without_any_is_as_it_was() -> None:
    desk = holding(AT_MOST_10)
    assert not {"work", "halts_due"} & checkpoint(desk.book).keys()
    desk.look(slice_at(2, [pos(150)]))
    approve(desk, only(desk), 3)
    event = checkpoint_event(desk.book, at(4))
    again = replay("acc", "EURUSD", records([event], desk.book.stream, desk.book.version))
    assert (again.work, checkpoint(again)) == (desk.book.work, checkpoint(desk.book))


# Halting by a break


@pytest.mark.parametrize("corrected", [True, False], ids=["though it is corrected at once", "while it is open"])
def test_a_break_of_a_type_that_halts_is_due_to_halt_until_trading_was_halted(corrected: bool) -> None:
    policy = Policy(settle=timedelta(0), halt_on=(DiscrepancyType.POSITION_MISMATCH,))
    desk = holding(policy if corrected else replace(policy, max_correction=dec(10)))
    desk.look(slice_at(2, [pos(150)]))
    assert list(desk.book.halts_due.values()) == ["POSITION_MISMATCH net"]
    desk.restart()
    assert list(desk.book.halts_due.values()) == ["POSITION_MISMATCH net"]
    desk.write([Event("h", EventType.TRADING_HALTED, Severity.WARNING, at(3), {"scope": "acc/EURUSD", "reason": None})])
    desk.look(slice_at(4, [pos(150)]))
    assert desk.book.halts_due == {}


def test_a_break_that_is_open_for_too_long_halts_by_its_severity_once() -> None:
    policy = replace(AT_MOST_10, halt_after=((Severity.WARNING, timedelta(seconds=60)),))
    desk = holding(policy)
    desk.look(slice_at(2, [pos(150)]))
    desk.look(slice_at(61, [pos(150)]))
    assert desk.book.halts_due == {}
    desk.look(slice_at(62, [pos(150)]))
    assert list(desk.book.halts_due) == [only(desk).id]
    desk.write([Event("h", EventType.TRADING_HALTED, Severity.WARNING, at(63), {"scope": "x", "reason": None})])
    desk.look(slice_at(200, [pos(150)]))
    assert desk.book.halts_due == {}


def test_a_row_that_goes_on_counting_what_was_taken_back_is_believed_by_a_person_alone() -> None:
    """It lags behind the correction, or counts a fill that nobody reported: no look can say which."""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=OrderStatus.OPEN, submitted_at=at(1)), at_s=1)
    row = order("B1", 100, 5, OrderStatus.PARTIALLY_FILLED, client_id="c1", average="1.1")
    first = fill("F1", 5, at_s=2, order_id="B1")
    desk.look(slice_at(10, [pos(5)], [row], [first]))
    bust = replace(first, fill_id="C1", quantity=dec(0), corrects=Corrected("F1", dec(5), first.price))
    for second in (20, 30, 400):
        desk.look(slice_at(second, [], [row], [bust]))
    found = only(desk)
    assert (found.type, found.offers) == (DiscrepancyType.FILLED_MISMATCH, Correction.INFER_FILL)
    approve(desk, found, 500)
    desk.look(slice_at(501, [], [row]))
    (after,) = desk.book.orders.values()
    assert (int(after.filled_quantity), desk.quantities(), len(desk.book.breaks)) == (5, {}, 0)
    assert desk.look(slice_at(510, [], [row])).status.value == "SUCCESS"
    desk.restart()


def test_a_row_that_counts_fills_beyond_what_was_ordered_as_well_does_not_lag_behind_a_correction() -> None:
    """The broker busts a fill and fills the order again before anybody reports the bust. Until then the further fill
    exceeds the order, and counts nothing; afterwards the row counts exactly what the bust took back. A row that lags
    counts the same, but the broker lists no such fill."""
    desk = Desk(Policy(settle=timedelta(0), confirm_gap=timedelta(milliseconds=100)))
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", quantity=9, status=OrderStatus.OPEN, submitted_at=at(1)), at_s=1)
    first = fill("F1", 4, at_s=2, order_id="B1")
    further = [fill("F2", 2, at_s=3, order_id="B1"), fill("F3", 1, at_s=4, order_id="B1")]
    beyond = fill("F4", 4, at_s=5, order_id="B1")
    row = order("B1", 9, 7, OrderStatus.PARTIALLY_FILLED, client_id="c1", average="1.1")
    desk.look(slice_at(10, [pos(7)], [row], [first, *further]))
    desk.look(slice_at(11, FAILED, FAILED, [beyond]))
    assert "F4" in desk.book.applied
    bust = replace(first, fill_id="C1", quantity=dec(0), corrects=Corrected("F1", dec(4), first.price))
    for second in (20, 21, 22):
        last = desk.look(slice_at(second, [pos(7)], [row], [beyond, bust, *further]))
    (found,) = desk.book.orders.values()
    assert (int(found.filled_quantity), desk.quantities(), desk.book.breaks) == (7, {"net": dec(7)}, {})
    assert last.status.value == "SUCCESS"
    desk.restart()


def test_what_was_inferred_stands_for_the_first_units_of_a_fill_beyond_what_was_ordered() -> None:
    """The fill exceeds the order by one unit, which a bust that is not reported yet has made room for. The row makes us
    infer the others; after the bust it counts exactly what that took back, and does not lag."""
    desk = Desk(Policy(settle=timedelta(0), confirm_gap=timedelta(milliseconds=100)))
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", quantity=8, status=OrderStatus.OPEN, submitted_at=at(1)), at_s=1)
    first, second = fill("F1", 1, at_s=2, order_id="B1"), fill("F2", 3, at_s=3, order_id="B1")
    beyond = fill("F3", 5, at_s=4, order_id="B1")
    row = order("B1", 8, 8, OrderStatus.FILLED, client_id="c1", average="1.1")
    desk.look(slice_at(10, [pos(8)], [row], [first, second, beyond]))
    assert "F3" in desk.book.uncounted
    bust = replace(first, fill_id="C1", quantity=dec(0), corrects=Corrected("F1", dec(1), first.price))
    for second_s in (20, 21, 22):
        last = desk.look(slice_at(second_s, [pos(8)], [row], [bust, second, beyond]))
    (found,) = desk.book.orders.values()
    assert (int(found.filled_quantity), desk.quantities(), desk.book.breaks) == (8, {"net": dec(8)}, {})
    assert last.status.value == "SUCCESS"
    desk.restart()


def test_a_fill_from_before_its_order_was_adopted_is_none_beyond_what_was_ordered() -> None:
    desk = Desk(Policy(settle=timedelta(0), confirm_gap=timedelta(milliseconds=100)))
    before, then = fill("F1", 4, at_s=2, order_id="B1"), fill("F2", 4, at_s=12, order_id="B1")
    partial = OrderStatus.PARTIALLY_FILLED
    desk.look(slice_at(10, [pos(4)], [order("B1", 20, 4, partial, average="1.1")], [before]))
    row = order("B1", 20, 8, partial, average="1.1")
    desk.look(slice_at(13, [pos(8)], [row], [before, then]))
    assert "F1" in desk.book.uncounted
    bust = replace(then, fill_id="C1", quantity=dec(0), corrects=Corrected("F2", dec(4), then.price))
    for second in (20, 21, 400):
        desk.look(slice_at(second, [pos(4)], [row], [before, bust]))
    assert (only(desk).type, desk.quantities()) == (DiscrepancyType.FILLED_MISMATCH, {"net": dec(4)})


def test_an_approval_from_before_the_clock_was_set_back_counts_after_it() -> None:
    desk = holding(AT_MOST_10)
    for second in (5000, 5001):
        desk.look(slice_at(second, [pos(150)]))
    approve(desk, only(desk), 5002)
    assert desk.book.newest_own_time() == at(5002)
    desk.write([clock_stepped(desk.book, timedelta(seconds=-600), at(4405))])
    desk.restart()
    desk.look(slice_at(4410, [pos(150)]))
    assert desk.quantities() == {"net": dec(150)}


def test_what_was_seen_before_the_clock_was_set_proves_nothing() -> None:
    desk = holding(Policy(settle=timedelta(0), confirm_gap=timedelta(milliseconds=100)))
    desk.look(slice_at(5000, []))
    desk.write([clock_stepped(desk.book, timedelta(seconds=600), at(5605))])
    desk.look(slice_at(5610, []))
    assert desk.quantities() == {"net": dec(100)}
    desk.look(slice_at(5611, []))
    assert desk.quantities() == {}
