"""What goes from one leg to another is one event, and the quantity over all legs is the same at every moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.account.held_books import Books
from actors.account.snapshot_cache import SnapshotCache
from actors.book.discrepancies import Cause, DiscrepancyType
from actors.book.policy import Correct, Policy
from actors.events import Event, EventType, Severity
from actors.messages import SliceRequest
from actors.reconciliation.moves import moves_of
from actors.reconciliation.reconciliation_pass import Decision, Status
from brokers.clocks import broker_time
from brokers.model import Complete, Conventions, LegScheme, Position, Slice, Snapshot
from brokers.port import Remembered
from tests.unit.builders import INSTRUMENT, Desk, at, dec, fill, fill_report, order, pos, slice_at

PRODUCTS = Conventions(LegScheme.NET, products=True)
WHY = {"holdings": "the holdings are not taken up"}


def holding_at(seconds: float, held: list[Position], aside: list[Position]) -> Slice:
    return replace(slice_at(seconds, held), aside=tuple(aside), unread_legs=WHY)


def desk(*rows: Position, policy: Policy | None = None) -> Desk:
    made = Desk(policy)
    made.look(slice_at(1, list(rows)))
    return made


def synced(decision: Decision) -> list[Event]:
    return [event for event in decision.events if event.type is EventType.POSITION_SYNCED]


@pytest.mark.parametrize(
    ("source", "target", "cause"),
    [
        ("MIS", "CNC", Cause.CONVERSION),
        ("NRML", "MIS", Cause.CONVERSION),
        ("CNC", "MTF", Cause.CONVERSION),
        ("CNC", "holdings", Cause.SETTLEMENT),
    ],
)
def test_a_product_that_is_converted_or_delivered_is_one_event_in_one_look(
    source: str, target: str, cause: Cause
) -> None:
    it = desk(pos(10, 100, source))
    decision = it.look(slice_at(10, [pos(10, 100, target)]))
    assert it.held() == {target: (dec(10), dec(100))}
    assert len(synced(decision)) == 1
    (found,) = decision.discrepancies
    assert (found.found.cause, found.found.severity, found.resolved) == (cause, Severity.INFO, True)
    assert it.look(slice_at(11, [pos(10, 100, target)])).status is Status.SUCCESS
    it.restart()


def test_a_part_that_is_converted_takes_its_lots_along() -> None:
    it = desk(pos(10, 100, "MIS"), pos(5, 90, "CNC"))
    it.look(slice_at(10, [pos(6, 100, "MIS"), pos(9, "94.444", "CNC")]))
    assert it.quantities() == {"MIS": dec(6), "CNC": dec(9)}
    it.restart()


def test_a_leg_that_a_move_opens_is_dated_by_the_brokers_clock() -> None:
    """Kind: a wall clock taken for the order of events."""
    it = desk(pos(10, 100, "MIS"))
    as_of = broker_time(at(-7200))
    it.look(replace(slice_at(10, [pos(10, 100, "CNC")]), as_of=as_of))
    assert it.book.legs["CNC"].opened_at == as_of
    it.restart()


def test_a_sale_out_of_the_holdings_settles_with_them_in_the_morning() -> None:
    it = desk(pos(92, 100, "holdings"), pos(-57, 120, "CNC"))
    decision = it.look(slice_at(10, [pos(35, 100, "holdings")]))
    assert it.quantities() == {"holdings": dec(35)}
    assert [d.found.cause for d in decision.discrepancies] == [Cause.SETTLEMENT]


@pytest.mark.parametrize("taken_up", [True, False], ids=["holdings taken up", "not taken up"])
def test_a_sale_of_all_that_is_in_the_holdings_leaves_nothing_in_the_morning_and_no_alarm(taken_up: bool) -> None:
    """Zerodha: shares that are sold stay in the holdings until the night, beside a negative row of CNC. In the morning
    neither is shown. Both were CRITICAL ghosts; of holdings that are not taken up, shares that nobody had stayed."""
    it = desk(pos(10, 100, "holdings"), pos(-10, 120, "CNC"))
    shown = [slice_at(s, []) if taken_up else holding_at(s, [], []) for s in (10, 20)]
    first, second = it.look(shown[0]), it.look(shown[1])
    found = [(d.found.type, d.found.cause, d.found.severity) for one in (first, second) for d in one.discrepancies]
    assert set(found) == {(DiscrepancyType.POSITION_MISMATCH, Cause.SETTLEMENT, Severity.INFO)}
    assert [d.resolved for one in (first, second) for d in one.discrepancies] == [False, True]
    assert it.quantities() == {}
    assert it.look(holding_at(30, [], []) if not taken_up else slice_at(30, [])).status is Status.SUCCESS


def test_a_sale_settles_out_of_what_the_book_has_though_the_account_holds_more_of_its_own() -> None:
    it = desk(pos(10, 100, "holdings"), pos(-10, 120, "CNC"))
    for seconds in (10, 20):
        it.look(holding_at(seconds, [], [pos(500, 80, "holdings")]))
    assert (it.quantities(), it.look(holding_at(30, [], [pos(500, 80, "holdings")])).status) == ({}, Status.SUCCESS)


def test_a_sale_that_is_shown_again_has_not_settled() -> None:
    held = [pos(10, 100, "holdings"), pos(-10, 120, "CNC")]
    it = desk(*held)
    it.look(slice_at(10, []))
    assert it.look(slice_at(11, held)).status is Status.SUCCESS
    it.look(slice_at(20, []))
    assert it.quantities() == {"holdings": dec(10), "CNC": dec(-10)}


def test_a_sale_beside_another_leg_that_is_gone_is_no_settlement() -> None:
    """Two looks at the same answer made different events of it: the move first, then a ghost of what was left."""
    it = desk(pos(3, 100, "holdings"), pos(-1, 120, "CNC"), pos(-1, 120, "MIS"))
    decision = it.look(slice_at(10, [pos(1, 100, "NRML")]))
    assert it.quantities() == {"holdings": dec(2), "CNC": dec(-1), "MIS": dec(-1), "NRML": dec(1)}
    settled = [d for d in decision.discrepancies if d.found.cause is Cause.SETTLEMENT]
    assert len(settled) == 1
    for seconds in (11, 12):
        it.look(slice_at(seconds, [pos(1, 100, "NRML")]))
    assert it.quantities() == {"NRML": dec(1)}


@pytest.mark.parametrize(
    ("rows", "unread"),
    [
        ([pos(10, 100, "holdings"), pos(-12, 120, "CNC")], WHY),
        ([pos(10, 100, "holdings"), pos(-10, 120, "CNC")], {"holdings": "not read", "CNC": "not read"}),
        ([pos(10, 100, "holdings"), pos(-10, 120, "MIS")], WHY),
    ],
    ids=["more sold than held", "nothing known of either", "not sold for delivery"],
)
def test_nothing_settles_out_of_the_holdings_that_cannot_have(rows: list[Position], unread: dict[str, str]) -> None:
    it = desk(*rows)
    for seconds in (10, 20):
        decision = it.look(replace(slice_at(seconds, []), unread_legs=unread))
        assert Cause.SETTLEMENT not in {d.found.cause for d in decision.discrepancies}
    assert it.quantities()["holdings"] == 10


def test_a_purchase_goes_into_holdings_that_are_not_taken_up_and_what_was_there_before_is_no_difference() -> None:
    it = desk(pos(10, 100, "CNC"))
    it.look(holding_at(10, [], [pos(510, 80, "holdings")]))
    assert it.held() == {"holdings": (dec(10), dec(100))}
    again = it.look(holding_at(11, [], [pos(510, 80, "holdings")]))
    assert (again.status, again.discrepancies) == (Status.SUCCESS, ())


def test_holdings_that_are_not_taken_up_are_no_zombie() -> None:
    it = Desk()
    decision = it.look(holding_at(1, [], [pos(500, 80, "holdings")]))
    assert (decision.status, it.quantities()) == (Status.SUCCESS, {})


def test_holdings_too_few_for_the_purchase_are_a_difference_and_no_delivery() -> None:
    it = desk(pos(10, 100, "CNC"))
    decision = it.look(holding_at(10, [], [pos(4, 80, "holdings")]))
    assert decision.status is Status.PARTIAL
    assert it.quantities() == {"CNC": dec(10)}


def test_what_is_not_conserved_is_no_conversion() -> None:
    it = desk(pos(10, 100, "MIS"))
    decision = it.look(slice_at(10, [pos(9, 100, "CNC")]))
    assert Cause.CONVERSION not in {d.found.cause for d in decision.discrepancies}


def test_legs_of_a_broker_without_products_are_never_converted() -> None:
    it = desk(pos(10, 1, "1001"))
    decision = it.look(slice_at(10, [pos(10, 1, "1002")]))
    assert Cause.CONVERSION not in {d.found.cause for d in decision.discrepancies}


def test_under_alert_a_conversion_is_reported_once_and_nothing_is_moved() -> None:
    it = desk(pos(10, 100, "MIS"))
    it.policy = Policy(correct=Correct.ALERT)
    decision = it.look(slice_at(10, [pos(10, 100, "CNC")]))
    assert [(d.found.cause, d.resolved) for d in decision.discrepancies] == [(Cause.CONVERSION, False)]
    assert it.quantities() == {"MIS": dec(10)}


def test_an_average_that_is_not_known_is_compared_with_nothing() -> None:
    it = desk(pos(10, 100, "CNC"))
    unpriced = replace(pos(10, 0, "CNC"), price_told=False)
    assert it.look(slice_at(10, [unpriced])).status is Status.SUCCESS
    it.look(slice_at(11, [replace(unpriced, quantity=dec(12))]))
    assert it.held() == {"CNC": (dec(12), dec(100))}


def test_an_average_of_all_buys_is_not_compared_with_that_of_what_is_left() -> None:
    it = desk(pos(1, "2.63", "CNC"))
    row = Position(INSTRUMENT, "CNC", dec(1), dec("2.635"), open_average=dec("2.63"))
    assert it.look(slice_at(10, [row])).status is Status.SUCCESS


def test_an_order_that_waits_for_its_market_to_open_is_not_stale_before_that() -> None:
    it = Desk(Policy(stale_order=timedelta(seconds=60)))
    waiting = replace(order("A1", submitted_at=at(0)), waits_for_open=True)
    assert it.look(slice_at(40_000, orders=[waiting])).cancels == ()
    assert not any(key[0] == "STALE_ORDER" for key in it.book.breaks)
    it.look(slice_at(50_000, orders=[replace(waiting, waits_for_open=False)]))
    assert any(key[0] == "STALE_ORDER" for key in it.book.breaks)


LEGS = ["CNC", "MIS", "NRML", "MTF", "holdings"]
quantities = st.dictionaries(st.sampled_from(LEGS), st.integers(-50, 50).filter(bool).map(Decimal), min_size=1)


@given(before=quantities, after=quantities)
def test_whatever_is_moved_the_quantity_over_all_legs_stays(
    before: dict[str, Decimal], after: dict[str, Decimal]
) -> None:
    name = next(iter(after))
    after[name] += sum(before.values()) - sum(after.values())
    it = desk(*(pos(quantity, 100, leg) for leg, quantity in before.items()))
    shown = {leg: quantity for leg, quantity in after.items() if quantity}
    decision = it.look(slice_at(10, [pos(quantity, 100, leg) for leg, quantity in shown.items()]))
    assert sum(it.quantities().values()) == sum(before.values())
    gone = {quantity > 0 for leg, quantity in before.items() if leg not in shown}
    if len(gone) < 2:  # else one of them may be the other's end, and neither is seen
        assert it.quantities() == shown
        assert {d.found.cause for d in decision.discrepancies} <= {Cause.CONVERSION, Cause.SETTLEMENT, None}
    for seconds in (11, 12):
        it.look(slice_at(seconds, [pos(quantity, 100, leg) for leg, quantity in shown.items()]))
    assert it.quantities() == shown
    it.restart()


@given(st.dictionaries(st.sampled_from(LEGS), st.integers(-50, 50).map(Decimal)))
def test_moves_make_the_changes_or_there_are_none(changes: dict[str, Decimal]) -> None:
    made: dict[str, Decimal] = {}
    for move in moves_of(changes):
        assert move.quantity > 0
        made[move.source] = made.get(move.source, Decimal(0)) - move.quantity
        made[move.target] = made.get(move.target, Decimal(0)) + move.quantity
    if sum(changes.values()) == 0:
        assert made == {name: change for name, change in changes.items() if change}
    else:
        assert made == {}


@pytest.mark.parametrize("reported_by", ["the broker", "our side"])
def test_a_conversion_beside_a_fill_of_the_same_leg_is_there_once_at_every_moment(reported_by: str) -> None:
    """Of the leg that was just filled nothing can be said yet: nor of where it went."""
    it = desk(pos(100, 100, "MIS"))
    fills = [fill("F1", 50, 100, at_s=9.9, leg="MIS", order_id="Q")]
    if reported_by == "our side":
        it.report(fill_report("F1", 50, 100, at_s=9.9, leg="MIS", order_id="Q"), at_s=10, conventions=PRODUCTS)
    after = [pos(50, 100, "MIS"), pos(100, 100, "CNC")]
    for seconds in (11, 11.5, 16, 16.5):
        last = it.look(slice_at(seconds, after, [], fills, conventions=PRODUCTS))
        assert sum(it.quantities().values()) == 150
    assert (it.quantities(), last.status) == ({"MIS": dec(50), "CNC": dec(100)}, Status.SUCCESS)
    causes = [event.payload["cause"] for event in it.events if event.payload.get("type") == "POSITION_MISMATCH"]
    assert causes == ["CONVERSION"]


def test_two_legs_against_each_other_that_are_not_shown_are_closed_with_proof_and_not_by_a_move() -> None:
    """That neither is shown is no sight of one in the other: a single answer that lacks both would close both."""
    held = [pos(100, 100, "CNC"), pos(-100, 101, "MIS")]
    it = desk(*held)
    decision = it.look(slice_at(10, []))
    assert it.quantities() == {"CNC": dec(100), "MIS": dec(-100)}
    assert {(str(d.found.type), d.found.key, d.resolved) for d in decision.discrepancies} == {
        ("NAKED_POSITION", "CNC", False),
        ("NAKED_POSITION", "MIS", False),
    }
    assert it.look(slice_at(11, held)).status is Status.SUCCESS
    for seconds in (20, 21):
        it.look(slice_at(seconds, []))
    assert it.quantities() == {}


def test_what_is_recovered_leaves_no_move_for_a_second_look_at_the_same_answer() -> None:
    """`look` asserts that it finds nothing more."""
    it = desk(pos(2, 12, "NRML"), pos(-2, 15, "MIS"))
    it.look(slice_at(10, [pos(2, 10, "CNC")]))
    assert it.quantities() == {"CNC": dec(2), "NRML": dec(2), "MIS": dec(-2)}


@pytest.mark.parametrize(
    ("legs", "gone"),
    [
        ({"holdings": 10, "CNC": -10}, ()),
        ({"holdings": 10, "CNC": -4}, ("NSE:INFY CNC", "NSE:INFY holdings")),
        ({"MIS": 10, "CNC": -10}, ("NSE:INFY CNC", "NSE:INFY MIS")),
    ],
    ids=["all sold", "some sold", "two that close each other"],
)
def test_an_account_that_sold_all_it_had_is_believed_in_the_morning(
    legs: dict[str, int], gone: tuple[str, ...]
) -> None:
    """Kite has no other word on what is held: a person had to record 0 for each leg, after every such sale."""
    books, cache = Books(), SnapshotCache("eq", "1")
    held = Remembered({name: (dec(quantity), dec(100)) for name, quantity in legs.items()})
    books.hear(SliceRequest("NSE:INFY", at(0), 1, held=held))
    snapshot = Snapshot(at(10), broker_time(at(10)), Complete(), Complete(), Complete(), 1)
    cache.take(snapshot, 1)
    assert books.all_gone(snapshot, cache) == gone
