"""Where other reconcilers fail: the stories of PEERS.md that the core alone can show, one test a row."""

# mypy: disable-error-code="comparison-overlap"
# A Decimal is meant to equal an int here.

from __future__ import annotations

from actors.book.discrepancies import Cause
from actors.book.lots import Lot
from actors.book.policy import Correct, Policy
from actors.events import EventType, Severity
from actors.reconciliation.decide import reconcile
from brokers.model import (
    OrderAnswer,
    OrderQuery,
    OrderStatus,
    Position,
    RowProblem,
    Section,
    SectionName,
    Side,
    section,
)
from tests.unit.builders import (
    FAILED,
    TICKET,
    Desk,
    at,
    check_lots,
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


def test_a_failed_answer_is_not_a_flat_account() -> None:
    """PEERS 1"""
    desk = Desk()
    desk.look(slice_at(0, [pos(100)]))
    half: Section[Position] = section([], [RowProblem(SectionName.POSITIONS, None, None, "<html>Bad gateway</html>")])
    for moment, answer in enumerate([FAILED, half, FAILED, half, FAILED] * 5, 10):
        decision = desk.look(slice_at(moment, answer, FAILED, FAILED))
        assert decision.status == "PARTIAL"
        assert desk.quantities() == {"net": 100}
    assert desk.look(slice_at(60, [pos(100)])).status == "SUCCESS"


def test_an_empty_answer_after_an_error_closes_nothing_by_itself() -> None:
    """PEERS 1"""
    desk = Desk()
    desk.look(slice_at(0, [pos(100)]))
    desk.look(slice_at(10, FAILED))
    assert types(desk.look(slice_at(11, []))) == ["NAKED_POSITION!"]
    assert desk.look(slice_at(12, [pos(100)])).status == "SUCCESS"
    assert desk.quantities() == {"net": 100}


def test_the_same_instrument_in_two_accounts_is_two_books() -> None:
    """PEERS 2"""
    ours, theirs = Desk(), Desk(account="other")
    ours.look(slice_at(0, [pos(100)], [order("1")]))
    theirs.look(slice_at(0, [pos(-7)], [order("1", 9)], account="other"))
    assert (ours.quantities(), theirs.quantities()) == ({"net": 100}, {"net": -7})
    assert not {e.event_id for e in ours.events} & {e.event_id for e in theirs.events}


def test_real_fills_after_an_inferred_one_take_its_place_out_of_order() -> None:
    """PEERS 3"""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", 100, S.OPEN), at_s=1)
    half = order("B1", 100, 60, S.PARTIALLY_FILLED, average="1.15")
    desk.look(slice_at(10, [pos(60, "1.15")], [half]))
    done, held = order("B1", 100, 100, S.FILLED, average="1.17"), [pos(100, "1.17")]
    real = [
        fill("r3", 40, "1.20", at_s=15, order_id="B1"),
        fill("r2", 30, "1.20", at_s=6, order_id="B1"),
        fill("r1", 30, "1.10", at_s=5, order_id="B1"),
    ]
    for moment, one in enumerate(real, 20):
        desk.look(slice_at(moment, held, [done], [one]))
    ours = desk.book.find_order_by_ticket("B1")
    assert ours is not None
    assert (ours.status, ours.filled_quantity, ours.inferred) == (S.FILLED, 100, ())
    assert ours.average_fill_price == dec("1.17")
    assert desk.held() == {"net": (100, dec("1.17"))}


def test_a_fill_whose_order_nobody_reported_is_applied_once() -> None:
    """PEERS 4"""
    desk = Desk()
    desk.look(slice_at(0, [pos(100)]))
    trade = fill("x1", 30, at_s=5, order_id="unheard of", side=Side.SELL)
    for moment in (6, 7, 400):
        decision = desk.look(slice_at(moment, [pos(70)], fills=[trade]))
        assert decision.status == "SUCCESS"
    assert desk.quantities() == {"net": 70}
    applied = [e for e in desk.events if e.type is EventType.ORDER_FILLED]
    assert [e.payload["cause"] for e in applied] == [Cause.EXTERNAL_TRADE]


def test_a_second_cold_start_makes_the_same_ids_and_a_restart_no_duplicates() -> None:
    """PEERS 5"""

    def cold_start() -> Desk:
        desk = Desk()
        desk.report(order_report("c1", "B1", 100, S.OPEN), at_s=-10)
        desk.look(slice_at(0, [pos(100)], [order("B1", 100, 100, S.FILLED, average="1.1"), order("B2")]))
        return desk

    first, second = cold_start(), cold_start()
    assert [e.event_id for e in first.events] == [e.event_id for e in second.events]
    assert any(str(e.payload.get("fill_id")).startswith("inferred:") for e in first.events)
    first.restart()
    again = first.look(slice_at(1, [pos(100)], [order("B1", 100, 100, S.FILLED, average="1.1"), order("B2")]))
    assert again.events == ()


def test_an_unknown_hedge_ticket_and_two_legs_of_one_instrument() -> None:
    """PEERS 6"""
    desk = Desk()
    rows = [pos(1, "1.1", "501"), pos(-1, "1.2", "502"), pos(2, "1.3", "503")]
    desk.look(slice_at(0, rows, conventions=TICKET))
    assert desk.held() == {
        "501": (1, dec("1.1")),
        "502": (-1, dec("1.2")),
        "503": (2, dec("1.3")),
    }
    assert desk.look(slice_at(1, rows, conventions=TICKET)).events == ()


def test_an_average_price_that_differs_is_noticed() -> None:
    """PEERS 9"""
    desk = Desk()
    desk.look(slice_at(0, [pos(100, "1.1000")]))
    decision = desk.look(slice_at(10, [pos(100, "1.1050")]))
    assert types(decision) == ["PRICE_MISMATCH"]
    assert decision.discrepancies[0].found.difference == "0.005"
    assert desk.held() == {"net": (100, dec("1.105"))}


def test_with_corrections_off_nothing_is_made_up_and_nothing_is_called_a_success() -> None:
    """PEERS 10"""
    desk = Desk(Policy(Correct.ALERT))
    desk.look(slice_at(0))
    for moment in (10, 20, 400):
        decision = desk.look(slice_at(moment, [pos(100)], [order("B9")], [fill("x1", 3, at_s=9, order_id="B8")]))
        assert decision.status == "PARTIAL"
        assert [d.resolved for d in decision.discrepancies] == [False, False, False]
        assert (desk.quantities(), list(desk.book.orders), list(desk.book.applied)) == ({}, [], [])


def test_a_snapshot_older_than_the_fill_just_received_undoes_nothing() -> None:
    """PEERS 11"""
    desk = Desk()
    desk.look(slice_at(0, [pos(100)]))
    desk.report(fill_report("f1", 50, at_s=10), at_s=10)
    decision = desk.look(slice_at(9.9, [pos(100)]), now=at(10.1))
    assert (desk.quantities(), decision.discrepancies) == ({"net": 150}, ())
    assert decision.recheck_at == at(15)
    assert desk.look(slice_at(15, [pos(150)], fills=[fill("f1", 50, at_s=10)])).status == "SUCCESS"


def test_an_order_in_flight_outlives_time_outs_and_is_not_missing_because_of_an_error() -> None:
    """PEERS 12"""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", submitted_at=at(1)), at_s=1)
    query = OrderQuery("EURUSD", None, "c1")
    for moment in range(10, 60, 5):
        decision = desk.look(slice_at(moment), answers={"c1": OrderAnswer(query, failure="name resolution failed")})
        assert decision.status == "PARTIAL"
        assert "name resolution failed" in decision.unverified[0]
        assert next(desk.book.open_orders()).status is S.PENDING_SUBMIT
    desk.look(slice_at(60, orders=[order("B1", client_id="c1", submitted_at=at(1))]))
    assert next(desk.book.open_orders()).status is S.OPEN


def test_orders_and_closes_made_by_hand_are_seen_while_running() -> None:
    """PEERS 14"""
    desk = Desk()
    desk.look(slice_at(0, [pos(100)]))
    seen = desk.look(slice_at(10, [pos(100)], [order("M1", 50, side=Side.SELL)]))
    assert types(seen) == ["EXTERNAL_ORDER"]
    assert [o.broker_order_id for o in desk.book.open_orders()] == ["M1"]
    ghost = desk.look(slice_at(20, [], [order("M1", 50, side=Side.SELL)]))
    assert [(d.found.type.value, d.found.severity) for d in ghost.discrepancies] == [
        ("NAKED_POSITION", Severity.CRITICAL)
    ]
    desk.look(slice_at(21, [], [order("M1", 50, side=Side.SELL)]))
    assert desk.quantities() == {}


def test_a_restart_with_an_entry_still_open_goes_on_where_it_was() -> None:
    """PEERS 15"""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("entry", "B1", 100, S.OPEN), order_report("stop", "B2", 100, side=Side.SELL), at_s=1)
    desk.report(fill_report("f1", 40, at_s=2, order_id="B1"), at_s=2)
    desk.restart()
    rows = [
        order("B1", 100, 40, S.PARTIALLY_FILLED, client_id="entry", average="1.1"),
        order("B2", 100, side=Side.SELL, client_id="stop"),
    ]
    decision = desk.look(slice_at(10, [pos(40)], rows, [fill("f1", 40, at_s=2, order_id="B1")]))
    assert kinds(decision.events) == [
        EventType.RECONCILIATION_DISCREPANCY,  # the stop is confirmed
        EventType.ORDER_UPDATED,
    ]
    assert desk.quantities() == {"net": 40}
    desk.restart()
    assert desk.look(slice_at(11, [pos(40)], rows, [fill("f1", 40, at_s=2, order_id="B1")])).events == ()
    assert len(list(desk.book.open_orders())) == 2


def test_a_difference_that_is_not_corrected_stays_open_and_keeps_its_age() -> None:
    """PEERS 16"""
    desk = Desk(Policy(max_correction=dec(10)))
    desk.look(slice_at(0))
    opened = set()
    for moment in range(10, 4000, 200):
        decision = desk.look(slice_at(moment, [pos(100)]))
        assert decision.status == "PARTIAL"
        opened.add((decision.discrepancies[0].found.id, decision.discrepancies[0].found.opened_at))
    assert {when for _, when in opened} == {at(10)}
    assert len(opened) == 1


def test_five_thousand_fills_of_one_order_take_time_in_proportion() -> None:
    """PEERS 18 (counted in work done, not in seconds)"""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", 5000, S.OPEN), at_s=1)
    fills = [fill(str(n), 1, "1.1", at_s=2 + n / 1000, order_id="B1") for n in range(5000)]
    done = order("B1", 5000, 5000, S.FILLED, average="1.1")
    lots_made = 0
    made = Lot.__init__

    def counting(self: Lot, *of: object, **named: object) -> None:
        nonlocal lots_made
        lots_made += 1
        made(self, *of, **named)  # type: ignore[arg-type] # as it was called

    Lot.__init__ = counting  # type: ignore[method-assign] # put back below
    try:
        decision = reconcile(desk.book, slice_at(60, [pos(5000)], [done], fills), desk.policy, at(60))
        for event in decision.events:
            desk.book.apply(event)
    finally:
        Lot.__init__ = made  # type: ignore[method-assign] # as it was
    check_lots(desk.book)
    assert desk.quantities() == {"net": 5000}
    assert decision.status == "SUCCESS"
    assert lots_made == 2 * 5000  # once to decide, once to apply
