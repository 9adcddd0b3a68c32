"""Orders against their broker: every row of the table, and what must not be concluded."""

# mypy: disable-error-code="comparison-overlap"
# A Decimal is meant to equal an int here.

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from actors.book import payloads
from actors.book.orders import merged
from actors.book.policy import Correct, Policy
from actors.events import EventType, Severity
from brokers.model import OrderAnswer, OrderQuery, OrderStatus, RowProblem, SectionName, Side, Unsupported, section
from tests.unit.builders import (
    FAILED,
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

S, E = OrderStatus, EventType
QUERY = OrderQuery("EURUSD", "B1", "c1")
UNREADABLE = RowProblem(SectionName.ORDERS, "EURUSD", None, "what is this")


def desk_with(status: OrderStatus = S.OPEN, policy: Policy | None = None) -> Desk:
    """A verified, flat book with one order of 100, reported a minute ago."""
    desk = Desk(policy)
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=status, strategy="s1"), at_s=1)
    return desk


def ours(desk: Desk):  # type: ignore[no-untyped-def] # the order
    found = desk.book.find_order(None, "c1")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("book", "row", "status", "events", "filled"),
    [
        pytest.param(S.PENDING_SUBMIT, order("B1", client_id="c1"), S.OPEN, [E.ORDER_UPDATED], 0, id="open"),
        pytest.param(S.OPEN, order("B1", status=S.CANCELLED), S.CANCELLED, [E.ORDER_CANCELLED], 0, id="cancelled"),
        pytest.param(S.OPEN, order("B1", status=S.EXPIRED), S.EXPIRED, [E.ORDER_EXPIRED], 0, id="expired"),
        pytest.param(S.PENDING_SUBMIT, order("B1", status=S.REJECTED, reason="no margin"), S.REJECTED,
                     [E.ORDER_REJECTED], 0, id="rejected"),
        pytest.param(S.OPEN, order("B1", 100, 100, S.FILLED, average="1.2"), S.FILLED, [E.ORDER_FILLED], 100,
                     id="filled"),
        pytest.param(S.OPEN, order("B1", 100, 40, S.PARTIALLY_FILLED, average="1.2"), S.PARTIALLY_FILLED,
                     [E.ORDER_FILLED], 40, id="partially filled"),
        pytest.param(S.OPEN, order("B1", 100, 40, S.CANCELLED, average="1.2"), S.CANCELLED,
                     [E.ORDER_FILLED, E.ORDER_CANCELLED], 40, id="cancelled, fills first"),
        pytest.param(S.OPEN, order("B1", 100, 40, S.EXPIRED, average="1.2"), S.EXPIRED,
                     [E.ORDER_FILLED, E.ORDER_EXPIRED], 40, id="expired, fills first"),
        pytest.param(S.OPEN, order("B1", 50), S.OPEN, [E.ORDER_UPDATED], 0, id="quantity amended"),
        pytest.param(S.OPEN, order("B1", price="1.5"), S.OPEN, [E.ORDER_UPDATED], 0, id="price amended"),
        pytest.param(S.CANCELLED, order("B1"), S.OPEN, [E.ORDER_UPDATED], 0, id="revived"),
        pytest.param(S.PENDING_CANCEL, order("B1"), S.OPEN, [E.ORDER_UPDATED], 0, id="a cancel that was refused"),
        pytest.param(S.OPEN, order("B1", status=S.HELD), S.HELD, [E.ORDER_UPDATED], 0, id="held"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("with_fill", [True, False], ids=["fill reported", "fill inferred"])
def test_the_broker_is_right_about_an_order(
    book: OrderStatus,
    row: object,
    status: OrderStatus,
    events: list[EventType],
    filled: int,
    with_fill: bool,
) -> None:
    """FEATURES 5, FEATURES 18"""
    desk = desk_with(book)
    held = [pos(filled, "1.2")] if filled else []
    fills = [fill("f1", filled, "1.2", at_s=2, order_id="B1")] if filled and with_fill else []
    decision = desk.look(slice_at(60, held, [row], fills))  # type: ignore[list-item] # an Order
    written = [kind for kind in kinds(decision.events) if kind.value.startswith("ORDER_")]
    assert written == events
    assert (ours(desk).status, ours(desk).filled_quantity) == (status, filled)
    assert ours(desk).strategy == "s1"
    assert desk.quantities() == ({"net": filled} if filled else {})
    assert decision.status == "SUCCESS"
    assert all(d.resolved for d in decision.discrepancies)


@pytest.mark.parametrize("correct", list(Correct))
def test_a_price_that_the_broker_gives_a_market_order_of_ours_is_no_difference(correct: Correct) -> None:
    """Kite Connect forum (staff, 2026): a market order with market protection is converted into a limit order. Under
    ``alert`` each of them stayed a break, and trading was not allowed."""
    desk = Desk(Policy(correct=correct, settle=timedelta(0)))
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", price=None), fill_report("f1", 100, at_s=2, order_id="B1"), at_s=2)
    row = order("B1", 100, 100, S.FILLED, client_id="c1", price="1.12", average="1.1")
    decision = desk.look(slice_at(10, [pos(100)], [row], [fill("f1", 100, at_s=2, order_id="B1", client_id="c1")]))
    assert (decision.status, decision.discrepancies) == ("SUCCESS", ())
    assert ours(desk).limit_price == dec("1.12")
    moved = desk.look(slice_at(20, [pos(100)], [order("B1", 100, 100, S.FILLED, client_id="c1", price="1.13")]))
    assert [d.found.type for d in moved.discrepancies] == ["ORDER_STATUS_MISMATCH"], "a price that changes is amended"


@pytest.mark.parametrize("correct", list(Correct))
@pytest.mark.parametrize("price", [None, "1.1"], ids=["reported without a price", "with its limit"])
def test_a_trigger_that_is_moved_alone_is_an_amended_order(correct: Correct, price: str | None) -> None:
    """A protective stop with a limit, whose trigger alone is moved at the broker, no longer protects where its owner
    believes. That our side knew no trigger is no difference."""
    desk = Desk(Policy(correct=correct, settle=timedelta(0)))
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", price=price, status=S.OPEN), at_s=1)
    row = order("B1", client_id="c1", trigger="1.2")
    decision = desk.look(slice_at(10, orders=[row]))
    assert (decision.status, decision.discrepancies) == ("SUCCESS", ())
    assert (ours(desk).limit_price, ours(desk).trigger_price) == (dec("1.1"), dec("1.2"))
    decision = desk.look(slice_at(20, orders=[replace(row, trigger_price=dec("1.3"))]))
    assert [(d.found.type, d.found.broker_value) for d in decision.discrepancies] == [
        ("ORDER_STATUS_MISMATCH", "BUY 100 @ 1.1 from 1.3 OPEN filled 0")
    ]
    assert ours(desk).trigger_price == dec("1.3" if correct is Correct.AUTO else "1.2")
    assert payloads.order_from(payloads.order_to(ours(desk))) == ours(desk)
    if correct is Correct.AUTO:
        assert not desk.look(slice_at(30, orders=[replace(row, trigger_price=None)])).discrepancies, "none is shown"


def test_a_trigger_that_our_side_may_have_moved_itself_waits_until_the_slice_is_settled() -> None:
    desk = Desk(Policy(settle=timedelta(seconds=5)))
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=S.OPEN), at_s=1)
    row = order("B1", client_id="c1", trigger="1.2")
    desk.look(slice_at(10, orders=[row]))
    desk.report(order_report("c1", "B1", price="1.15", status=S.OPEN), at_s=19)
    moved = replace(row, limit_price=dec("1.15"), trigger_price=dec("1.3"))
    assert not desk.look(slice_at(20, orders=[moved])).discrepancies
    assert desk.look(slice_at(30, orders=[moved])).discrepancies


def test_a_rejected_order_is_also_a_discrepancy() -> None:
    """FEATURES 18"""
    desk = desk_with()
    decision = desk.look(slice_at(60, orders=[order("B1", status=S.REJECTED, reason="no margin")]))
    assert types(decision) == ["ORDER_REJECTED"]
    assert E.RECONCILIATION_DISCREPANCY in kinds(decision.events)
    assert ours(desk).reason == "no margin"


def test_filled_quantity_goes_up_and_never_down() -> None:
    """An order row may lag its fills."""
    desk = desk_with()
    desk.look(slice_at(60, [pos(40)], [order("B1")], [fill("f1", 40, at_s=59, order_id="B1")]))
    desk.look(slice_at(61, [pos(40)], [order("B1")]))
    assert (ours(desk).status, ours(desk).filled_quantity) == (S.PARTIALLY_FILLED, 40)


def test_a_filled_order_is_not_revived_by_a_row_that_lags_its_fills() -> None:
    desk = desk_with()
    all_of_it = [fill("f1", 100, at_s=59, order_id="B1")]
    first = desk.look(slice_at(60, [pos(100)], [order("B1")], all_of_it))
    assert ours(desk).status is S.FILLED
    assert first.status == "PARTIAL"
    assert first.recheck_at is not None
    still = desk.look(slice_at(61, [pos(100)], [order("B1")], all_of_it))
    assert types(still) == ["ORDER_STATUS_MISMATCH!"]
    assert ours(desk).status is S.FILLED
    caught_up = desk.look(slice_at(62, [pos(100)], [order("B1", 100, 100, S.FILLED)], all_of_it))
    assert caught_up.status == "SUCCESS"
    assert not desk.book.breaks


def test_a_slice_from_before_our_cancel_does_not_undo_it() -> None:
    """PEERS 11"""
    desk = desk_with()
    desk.look(slice_at(60, orders=[order("B1")]))
    desk.report(order_report("c1", "B1", status=S.PENDING_CANCEL), at_s=100)
    decision = desk.look(slice_at(101, orders=[order("B1")]))
    assert ours(desk).status is S.PENDING_CANCEL
    assert decision.recheck_at == at(105)
    desk.look(slice_at(105, orders=[order("B1")]))
    assert ours(desk).status is S.OPEN


def test_an_older_answer_does_not_undo_what_a_newer_one_said() -> None:
    """PEERS 11"""
    desk = desk_with()
    desk.look(slice_at(60, orders=[order("B1", 50, status=S.CANCELLED)]), now=at(60))
    late = desk.look(slice_at(59, orders=[order("B1", 100)]), now=at(61))
    assert (ours(desk).status, ours(desk).quantity) == (S.CANCELLED, 50)
    assert late.status == "PARTIAL"


def test_an_order_shown_twice_is_taken_where_it_is_furthest() -> None:
    desk = desk_with()
    rows = [order("B1", 100, 100, S.FILLED, average="1.1"), order("B1", 100, 0)]
    for moment, shown in ((60, rows), (61, rows[::-1])):
        desk.look(slice_at(moment, [pos(100)], shown, [fill("f1", 100, at_s=59, order_id="B1")]))
        assert ours(desk).status is S.FILLED


def test_an_order_that_took_the_place_of_ours_is_ours() -> None:
    desk = desk_with()
    rows = [order("B1", status=S.CANCELLED, client_id="c1", replaced_by="B2"), order("B2", 60, price="1.3")]
    decision = desk.look(slice_at(60, orders=rows))
    after = desk.book.find_order_by_ticket("B2")
    assert after is not None
    assert (after.status, after.quantity, after.strategy) == (S.OPEN, 60, "s1")
    assert ours(desk).status is S.CANCELLED
    assert "EXTERNAL_ORDER" not in types(decision)
    assert all(d.found.severity is Severity.INFO for d in decision.discrepancies)


def test_the_replacement_is_ours_when_only_the_answer_by_id_shows_it() -> None:
    desk = desk_with()
    gone = order("B1", status=S.CANCELLED, client_id="c1", replaced_by="B2")
    decision = desk.look(slice_at(60, orders=[order("B2", 60)]), answers={"B1": OrderAnswer(QUERY, gone)})
    assert "EXTERNAL_ORDER" not in types(decision)
    assert desk.book.find_order_by_ticket("B2").strategy == "s1"  # type: ignore[union-attr] # it is there


def test_an_unknown_order_is_adopted_and_followed() -> None:
    """PEERS 14, FEATURES 18"""
    desk = Desk()
    desk.look(slice_at(0))
    decision = desk.look(slice_at(60, [pos(40)], [order("B9", 100, 40, S.PARTIALLY_FILLED, average="1.1")]))
    assert "EXTERNAL_ORDER" in types(decision)
    desk.look(slice_at(61, [pos(100)], [order("B9", 100, 100, S.FILLED)], [fill("f2", 60, at_s=60.5, order_id="B9")]))
    adopted = desk.book.find_order_by_ticket("B9")
    assert adopted is not None
    assert (adopted.status, adopted.filled_quantity) == (S.FILLED, 100)
    assert desk.quantities() == {"net": 100}


def test_what_was_filled_before_an_order_was_adopted_does_not_swallow_later_fills() -> None:
    """The first 40 are never reported (they are before our place in the broker's fills); the next 60 are."""
    desk = Desk()
    row = order("B9", 100, 40, S.PARTIALLY_FILLED, average="1.1")
    desk.look(slice_at(0, [pos(40)], [row]))
    done = order("B9", 100, 100, S.FILLED, average="1.16")
    desk.look(slice_at(60, [pos(100, "1.16")], [done], [fill("f2", 60, "1.2", at_s=59, order_id="B9")]))
    adopted = desk.book.find_order_by_ticket("B9")
    assert adopted is not None
    assert (adopted.status, adopted.filled_quantity, adopted.inferred) == (S.FILLED, 100, ())
    assert desk.quantities() == {"net": 100}


def test_late_fills_from_before_and_after_an_adoption_count_where_they_belong() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.look(slice_at(10, [pos(10)], [order("B9", 30, 10, S.PARTIALLY_FILLED, average="1.1")]))
    row = order("B9", 30, 20, S.PARTIALLY_FILLED, average="1.1")
    desk.look(slice_at(20, [pos(20)], [row]))
    for moment, late in ((30, fill("f1", 10, at_s=9, order_id="B9")), (31, fill("f2", 10, at_s=15, order_id="B9"))):
        desk.look(slice_at(moment, [pos(20)], [row], [late]))
    adopted = desk.book.find_order_by_ticket("B9")
    assert adopted is not None
    assert (adopted.filled_quantity, adopted.adopted, adopted.inferred) == (20, 0, ())
    assert desk.quantities() == {"net": 20}


def test_what_was_filled_before_an_order_was_adopted_is_history_when_it_is_reported() -> None:
    """A broker that always sends all of today's fills: the position contains them."""
    desk = Desk(Policy(positions=False))
    row = order("B9", 100, 40, S.PARTIALLY_FILLED, average="1.1")
    fills = [fill("f1", 40, at_s=-60, order_id="B9")]
    for moment in (0, 1, 400):
        desk.look(slice_at(moment, [pos(40)], [row], fills))
    assert desk.quantities() == {}
    desk.look(slice_at(500, [pos(70)], [order("B9", 100, 70, S.PARTIALLY_FILLED)],
                       [*fills, fill("f2", 30, at_s=450, order_id="B9")]))  # fmt: skip
    assert desk.quantities() == {"net": 30}
    assert desk.book.find_order_by_ticket("B9").filled_quantity == 70  # type: ignore[union-attr] # it is there


@pytest.mark.parametrize(
    ("orders", "fills", "answer"),
    [
        pytest.param(FAILED, [], None, id="the list of orders failed"),
        pytest.param(section([], [UNREADABLE]), [], None, id="a row of it was unreadable"),
        pytest.param(Unsupported(), [], None, id="there is no such list"),
        pytest.param([], [], OrderAnswer(QUERY, failure="timed out"), id="the question failed"),
        pytest.param([], FAILED, OrderAnswer(QUERY), id="the fills failed"),
        pytest.param([], [], OrderAnswer(QUERY, order("B7", client_id="c1")), id="the answer is of another order"),
    ],
)
def test_an_order_lives_until_its_absence_is_proven(orders: object, fills: object, answer: OrderAnswer | None) -> None:
    """PEERS 12"""
    desk = desk_with()
    for moment in (60, 70, 80, 90):
        answers = {"B1": answer} if answer is not None else None
        desk.look(slice_at(moment, [], orders, fills), answers=answers)  # type: ignore[arg-type] # sections
    assert ours(desk).status is S.OPEN


def test_an_order_unknown_to_its_broker_is_given_up_on_proof() -> None:
    """PEERS 12"""
    desk = desk_with()
    assert desk.look(slice_at(3)).discrepancies == ()
    first = desk.look(slice_at(60))
    assert types(first) == ["ORDER_MISSING!"]
    assert first.recheck_at == at(60.5)
    desk.look(slice_at(60.3))
    assert ours(desk).status is S.OPEN
    desk.look(slice_at(60.6, orders=FAILED))
    assert ours(desk).status is S.OPEN
    desk.restart()
    last = desk.look(slice_at(60.9))
    assert ours(desk).status is S.CANCELLED
    assert ours(desk).reason == "not found at the broker"
    assert last.status == "SUCCESS"


def test_new_activity_on_an_order_starts_its_proof_again() -> None:
    desk = desk_with()
    desk.look(slice_at(60))
    desk.report(order_report("c1", "B1", quantity=70, strategy="s1"), at_s=61)
    desk.look(slice_at(67))
    assert ours(desk).status is S.PENDING_SUBMIT
    desk.look(slice_at(68))
    assert ours(desk).status is S.CANCELLED


def test_an_order_whose_confirmation_was_lost_is_found_and_settled() -> None:
    """FEATURES 23"""
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", submitted_at=at(1)), at_s=1)
    done = order("B1", 100, 100, S.FILLED, client_id="c1", average="1.1", submitted_at=at(1))
    answer = OrderAnswer(QUERY, done, (fill("f1", 100, at_s=2, order_id="B1"),))
    decision = desk.look(slice_at(3, [pos(100)]), answers={"c1": answer})
    assert (ours(desk).status, ours(desk).broker_order_id) == (S.FILLED, "B1")
    assert ours(desk).inferred == ()
    assert list(desk.book.applied) == ["f1"]
    assert desk.quantities() == {"net": 100}
    assert decision.status == "SUCCESS"


def test_a_stale_order_is_reported_and_cancelled_once_and_only_where_asked() -> None:
    """FEATURES 6"""
    working = order("B1", client_id="c1", submitted_at=at(1))
    for cancel in (False, True):
        policy = Policy(stale_order=timedelta(seconds=30), cancel_stale_orders=cancel)
        desk = desk_with(policy=policy)
        assert desk.look(slice_at(20, orders=[working])).cancels == ()
        first = desk.look(slice_at(60, orders=[working]))
        assert types(first)[-1:] == ["STALE_ORDER!"]
        assert first.cancels == ((OrderQuery("EURUSD", "B1", "c1"),) if cancel else ())
        desk.restart()
        assert desk.look(slice_at(61, orders=[working])).cancels == ()
        ended = desk.look(slice_at(62, orders=[order("B1", status=S.CANCELLED, submitted_at=at(1))]))
        assert ended.status == "SUCCESS"
        assert not desk.book.breaks


def test_a_stale_order_is_never_cancelled_under_alert() -> None:
    """FEATURES 6, PEERS 10"""
    policy = Policy(Correct.ALERT, stale_order=timedelta(seconds=30), cancel_stale_orders=True)
    desk = desk_with(policy=policy)
    assert desk.look(slice_at(60, orders=[order("B1", client_id="c1", submitted_at=at(1))])).cancels == ()


def test_a_side_that_differs_is_another_order() -> None:
    desk = desk_with()
    decision = desk.look(slice_at(60, orders=[order("B2", client_id="c1", side=Side.SELL), order("B1")]))
    assert "EXTERNAL_ORDER" in types(decision)
    assert ours(desk).side is Side.BUY
    assert dec(100) == ours(desk).quantity


def test_of_an_order_that_is_shown_twice_the_row_that_is_furthest_on_counts() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=OrderStatus.OPEN, submitted_at=at(1)), at_s=1)
    rows = [order("B1", 100, filled, OrderStatus.PARTIALLY_FILLED, client_id="c1", average="1.1") for filled in (3, 5)]
    last = desk.look(slice_at(10, [pos(5)], rows, [fill("F1", 5, at_s=2, order_id="B1")]))
    last = desk.look(slice_at(11, [pos(5)], rows))
    assert (last.status.value, types(last)) == ("SUCCESS", [])


def test_a_slice_that_is_too_old_is_no_first_look() -> None:
    """What was there at the first look is what is there when somebody looks."""
    desk = Desk()
    desk.look(slice_at(0, [pos(5)]), now=at(10_000))
    assert "STALE_DATA" in {str(event.payload.get("type")) for event in desk.events}
    assert desk.book.baseline is None


@pytest.mark.parametrize("correct", list(Correct))
def test_a_quantity_that_the_broker_does_not_report_is_no_difference(correct: Correct) -> None:
    """TWS API documentation, ``cashQty``: the rows of an order for an amount of cash have a total quantity of 0. Our
    side's quantity was overwritten with it, or stayed a break under ``alert``."""
    desk = Desk(Policy(correct=correct, settle=timedelta(0)))
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", "1.5", S.OPEN, price=None), at_s=1)
    working = order("B1", 0, 0, S.OPEN, client_id="c1", price=None)
    assert types(desk.look(slice_at(10, [], [working]))) == []
    desk.report(fill_report("f1", "1.49", at_s=12, order_id="B1"), at_s=12)
    filled = order("B1", 0, "1.49", S.FILLED, client_id="c1", price=None, average="1.1")
    desk.look(slice_at(20, [pos("1.49")], [filled], [fill("f1", "1.49", at_s=12, order_id="B1")]))
    assert (ours(desk).quantity, ours(desk).filled_quantity) == (dec("1.5"), dec("1.49"))


@pytest.mark.parametrize("price", [None, "1.1"])
def test_a_quantity_that_is_not_reported_delays_nothing_and_no_merge_forgets_ours(price: str | None) -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", "1.5", price=price), at_s=1)
    desk.look(slice_at(2, [], [order("B1", 0, 0, S.OPEN, client_id="c1", price=price)]))
    assert ours(desk).status is S.OPEN, "though our side acted a moment ago"
    both = merged(ours(desk), replace(ours(desk), quantity=dec(0)), None, None)
    assert both.quantity == dec("1.5")


def test_a_fill_of_an_order_without_a_quantity_counts_though_the_orders_row_lags_behind_it() -> None:
    desk = Desk(Policy(settle=timedelta(0)))
    desk.look(slice_at(0))
    cash = order("B1", 0, "0.5", S.PARTIALLY_FILLED, price=None, average="1.1")
    first = fill("f1", "0.5", at_s=8, order_id="B1")
    desk.look(slice_at(10, [pos("0.5")], [cash], [first]))
    second = fill("f2", "0.99", at_s=18, order_id="B1")
    desk.look(slice_at(20, [pos("1.49")], [cash], [first, second]))
    assert (desk.quantities(), desk.book.find_order("B1", None).filled_quantity) == ({"net": dec("1.49")}, dec("1.49"))  # type: ignore[union-attr]
    done = order("B1", 0, "1.49", S.FILLED, price=None, average="1.1")
    last = desk.look(slice_at(30, [pos("1.49")], [done], [first, second]))
    assert "MISSED_FILL" not in {d.found.type for d in last.discrepancies}
