"""Orders that the broker has forgotten with its day: what became of them is reported once, by terms and position."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from actors.book.discrepancies import DiscrepancyType
from actors.book.policy import Correct, Policy
from actors.events import EventType, Severity
from brokers.clocks import broker_time
from brokers.model import Complete, Conventions, Failed, Order, OrderAnswer, OrderQuery, OrderStatus, Position, Side
from tests.unit.builders import (
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
    slice_at,
    types,
)

S = OrderStatus
CLOSE, MORNING = 20_000.0, 60_000.0
DAY = at(CLOSE)


def working(
    broker_id: str = "b1", client_id: str = "c1", *, expires_at: datetime | None = DAY, **fields: object
) -> Order:
    shown = order(broker_id, 75, client_id=client_id, submitted_at=at(1), **fields)  # type: ignore[arg-type]  # keywords
    return replace(shown, expires_at=broker_time(expires_at))


def yesterday(*rows: Order, held: tuple[Position, ...] = (), policy: Policy | None = None) -> Desk:
    """A desk whose orders work as these rows show, at the end of a day."""
    desk = Desk(policy)
    desk.look(slice_at(0, held))
    for row in rows:
        desk.report(
            order_report(row.client_order_id, quantity=75, side=row.side, submitted_at=at(1), leg=row.leg), at_s=1
        )
    desk.look(slice_at(10, held, rows))
    return desk


def morning(desk: Desk, *held: Position, times: int = 2) -> list[str]:
    """What is found in the morning, each difference as it is in the end."""
    found: dict[str, str] = {}
    for number in range(times):
        decision = desk.look(slice_at(MORNING + number, held))
        found |= {d.found.id: kind for d, kind in zip(decision.discrepancies, types(decision), strict=True)}
    return list(found.values())


def statuses(desk: Desk) -> dict[str | None, tuple[OrderStatus, object]]:
    return {o.client_order_id: (o.status, o.filled_quantity) for o in desk.book.orders.values()}


def test_a_day_order_that_is_gone_in_the_morning_has_expired_which_is_no_news() -> None:
    desk = yesterday(working())
    assert morning(desk) == ["ORDER_STATUS_MISMATCH"]
    assert statuses(desk) == {"c1": (S.EXPIRED, 0)}
    assert {event.severity for event in desk.events if event.type is EventType.ORDER_EXPIRED} == {Severity.INFO}
    assert desk.look(slice_at(MORNING + 10)).discrepancies == ()
    desk.restart()


def test_a_day_order_that_is_gone_beside_a_position_that_came_was_filled_and_the_two_are_one_story() -> None:
    desk = yesterday(working())
    assert morning(desk, pos(75, "1.05")) == ["MISSED_FILL"]
    assert statuses(desk) == {"c1": (S.FILLED, 75)}
    assert desk.held() == {"net": (dec(75), dec("1.05"))}
    found = [event for event in desk.events if event.type is EventType.RECONCILIATION_DISCREPANCY]
    assert {event.payload["type"] for event in found[-1:]} == {"MISSED_FILL"}
    assert EventType.POSITION_SYNCED not in kinds(desk.events)
    assert desk.look(slice_at(MORNING + 10, [pos(75, "1.05")])).discrepancies == ()
    desk.restart()


def test_the_price_of_what_was_filled_is_what_the_average_of_the_position_says() -> None:
    desk = yesterday(working(), held=(pos(25, "1.00"),))
    morning(desk, pos(100, "1.075"))
    (booked,) = [event.payload for event in desk.events if event.type is EventType.ORDER_FILLED]
    assert booked["price"] == "1.1"
    assert desk.held() == {"net": (dec(100), dec("1.075"))}


def test_of_a_day_order_that_was_filled_in_part_the_rest_expired() -> None:
    desk = yesterday(working())
    assert morning(desk, pos(30)) == ["MISSED_FILL"]
    assert statuses(desk) == {"c1": (S.EXPIRED, 30)}
    assert desk.quantities() == {"net": 30}


def test_an_order_of_unknown_terms_is_given_up_unless_the_position_says_that_it_was_filled() -> None:
    """An order open over a gap in the fills is not CANCELLED beside an unexplained position."""
    desk = yesterday(working(expires_at=None))
    assert morning(desk, pos(75)) == ["MISSED_FILL"]
    assert statuses(desk) == {"c1": (S.FILLED, 75)}
    desk = yesterday(working(expires_at=None))
    assert morning(desk) == ["ORDER_MISSING"]
    assert statuses(desk) == {"c1": (S.CANCELLED, 0)}


def test_the_position_waits_while_the_fills_of_the_night_are_lost_and_the_order_is_not_settled() -> None:
    """The first look of the morning, when TWS has forgotten its executions."""
    desk = yesterday(working(expires_at=None))
    first = desk.look(slice_at(MORNING, [pos(50)], fills=Failed("today's alone")))
    assert {d.found.type for d in first.discrepancies} == {DiscrepancyType.STALE_DATA}
    assert desk.quantities() == {}
    assert sorted(morning(desk, pos(50), times=4)) == ["MISSED_FILL", "STALE_DATA"]
    assert statuses(desk) == {"c1": (S.CANCELLED, 50)}
    assert desk.quantities() == {"net": 50}


def test_while_an_order_cannot_be_asked_for_what_it_may_have_bought_is_not_explained_otherwise() -> None:
    desk = yesterday(working())
    away = OrderAnswer(OrderQuery(INSTRUMENT, "b1", "c1"), failure="timed out")
    decision = desk.look(slice_at(MORNING, [pos(75)]), answers={"b1": away})
    assert decision.events == ()
    assert decision.unverified
    assert desk.quantities() == {}


@pytest.mark.parametrize(
    ("held", "expected"),
    [(pos(-75), S.EXPIRED), (pos(80), S.EXPIRED), (pos(40, leg="net"), S.EXPIRED)],
    ids=["the other way", "more than was ordered", "a part of it"],
)
def test_only_what_the_order_can_have_made_is_its_fill(held: Position, expected: OrderStatus) -> None:
    desk = yesterday(working())
    morning(desk, held)
    quantity = held.quantity if 0 < held.quantity <= 75 else 0
    assert statuses(desk) == {"c1": (expected, quantity)}
    assert desk.quantities() == {"net": held.quantity}


def test_a_change_that_an_order_alone_does_not_explain_is_reported_with_its_end() -> None:
    """Whoever reads EXPIRED may enter again, so it is said that it is not clear."""
    desk = yesterday(working())
    assert sorted(morning(desk, pos(80))) == [
        "MISSING_LOCALLY",
        "ORDER_STATUS_MISMATCH",
    ]
    ended = [event for event in desk.events if event.type is EventType.ORDER_EXPIRED]
    assert [event.severity for event in ended] == [Severity.WARNING]
    details = [
        event.payload.get("told") for event in desk.events if event.payload.get("type") == "ORDER_STATUS_MISMATCH"
    ]
    assert any("not clear" in str(words) for words in details)


def test_of_two_orders_that_a_change_could_be_of_none_is_chosen_and_both_where_it_is_the_sum() -> None:
    two = (working("b1", "c1"), working("b2", "c2"))
    desk = yesterday(*two)
    morning(desk, pos(75))
    assert statuses(desk) == {"c1": (S.EXPIRED, 0), "c2": (S.EXPIRED, 0)}
    assert desk.quantities() == {"net": 75}
    desk = yesterday(*two)
    assert morning(desk, pos(150)) == ["MISSED_FILL", "MISSED_FILL"]
    assert statuses(desk) == {"c1": (S.FILLED, 75), "c2": (S.FILLED, 75)}


@pytest.mark.parametrize("reported", ["by the broker", "by our side"])
def test_a_position_from_before_the_newest_fill_says_nothing_of_an_order_that_is_gone(reported: str) -> None:
    """It differs by the fill: a sale that never arrived would be taken for filled by as much."""
    desk = yesterday(working(side=Side.SELL), held=(pos(75),))
    for number in range(3):
        now_s = MORNING + 10 * number
        bought = fill(f"F{number}", 5, at_s=now_s, order_id="b9")
        before = replace(slice_at(now_s - 1, [pos(75 + 5 * number)]), as_of=broker_time(at(now_s - 1)))
        if reported == "by our side":
            desk.report(fill_report(f"F{number}", 5, at_s=now_s, order_id="b9"), at_s=now_s)
        else:
            before = replace(before, fills=Complete((bought,)))
        desk.look(before, at(now_s + 0.1))
        assert statuses(desk)["c1"] == (S.OPEN, 0)
    desk.look(slice_at(MORNING + 60, [pos(90)]))
    desk.look(slice_at(MORNING + 61, [pos(90)]))
    assert statuses(desk)["c1"] == (S.EXPIRED, 0)
    assert desk.quantities() == {"net": 90}


@pytest.mark.parametrize("reported", ["by the broker", "by our side"])
@pytest.mark.parametrize("expires_at", [DAY, None])
def test_a_position_that_equals_the_book_only_before_its_newest_fill_ends_no_order(
    expires_at: datetime | None, reported: str
) -> None:
    """The order that is gone was filled by as much as is bought right after each of these positions."""
    desk = yesterday(working(expires_at=expires_at), held=(pos(75),))
    for number in range(3):
        now_s = MORNING + 10 * number
        before = slice_at(now_s - 1, [pos(150 + 75 * number)])
        if reported == "by our side":
            desk.report(fill_report(f"F{number}", 75, at_s=now_s, order_id="b9"), at_s=now_s)
        else:
            before = replace(before, fills=Complete((fill(f"F{number}", 75, at_s=now_s, order_id="b9"),)))
        last = desk.look(before, at(now_s + 0.1))
        assert (last.status.value, statuses(desk)["c1"]) == ("PARTIAL", (S.OPEN, 0))
    for now_s in (MORNING + 60, MORNING + 61):
        last = desk.look(slice_at(now_s, [pos(375)]))
    assert (last.status.value, statuses(desk)["c1"]) == ("SUCCESS", (S.FILLED, 75))
    assert desk.quantities() == {"net": 375}
    assert EventType.POSITION_SYNCED not in kinds(desk.events[-5:])


def test_a_leg_that_is_flat_on_both_sides_before_its_newest_fill_ends_no_order() -> None:
    """The order that is gone closed the broker's position, and what was bought right after that closes the book's."""
    desk = yesterday(working(), held=(pos(-75),))
    for number, side in enumerate((Side.BUY, Side.SELL, Side.BUY)):
        now_s = MORNING + 10 * number
        made = fill(f"F{number}", 75, at_s=now_s, order_id="b9", side=side)
        position = [pos(75)] if side is Side.SELL else []
        desk.look(replace(slice_at(now_s - 1, position), fills=Complete((made,))), at(now_s + 0.1))
        assert statuses(desk)["c1"] == (S.OPEN, 0)
    for now_s in (MORNING + 60, MORNING + 61):
        last = desk.look(slice_at(now_s, [pos(75)]))
    assert (last.status.value, statuses(desk)["c1"]) == ("SUCCESS", (S.FILLED, 75))
    assert desk.quantities() == {"net": 75}


def test_a_sale_that_is_gone_beside_a_position_that_shrank_closed_it() -> None:
    desk = yesterday(working(side=Side.SELL), held=(pos(75),))
    assert morning(desk) == ["MISSED_FILL"]
    assert statuses(desk) == {"c1": (S.FILLED, 75)}
    assert desk.quantities() == {}


def test_a_purchase_of_delivery_stock_is_found_in_the_holdings_of_the_morning() -> None:
    desk = Desk()
    products = Conventions(products=True)
    desk.look(slice_at(0, conventions=products))
    desk.report(order_report(quantity=75, submitted_at=at(1), leg="CNC"), at_s=1)
    desk.look(slice_at(10, orders=[working(leg="CNC")], conventions=products))
    for number in range(2):
        found = desk.look(slice_at(MORNING + number, [pos(75, leg="holdings")], conventions=products))
    assert types(found) == ["MISSED_FILL"]
    assert desk.quantities() == {"holdings": 75}


def test_whether_a_purchase_was_filled_is_not_clear_where_the_holdings_are_not_taken_up() -> None:
    products = Conventions(products=True)
    desk = Desk()
    desk.look(slice_at(0, conventions=products))
    desk.look(slice_at(10, orders=[working(leg="CNC")], conventions=products))
    for number in range(2):
        shown = slice_at(MORNING + number, conventions=products)
        desk.look(replace(shown, unread_legs={"holdings": "not taken up"}))
    assert statuses(desk) == {"c1": (S.EXPIRED, 0)}
    assert [e.severity for e in desk.events if e.type is EventType.ORDER_EXPIRED] == [Severity.WARNING]


def test_an_order_that_its_adapter_knows_to_be_over_is_presumed_to_have_ended_so() -> None:
    desk = yesterday(working(expires_at=None))
    over = replace(working(status=S.EXPIRED), presumed=True)
    answer = OrderAnswer(OrderQuery(INSTRUMENT, "b1", "c1"), over)
    for number in range(2):
        desk.look(slice_at(MORNING + number), answers={"b1": answer})
    assert statuses(desk) == {"c1": (S.EXPIRED, 0)}


def test_under_alert_the_story_is_reported_once_and_nothing_is_changed() -> None:
    desk = yesterday(working(), policy=Policy(correct=Correct.ALERT))
    desk = yesterday(working())
    desk.policy = Policy(correct=Correct.ALERT)
    assert morning(desk, pos(75)) == ["MISSED_FILL!"]
    assert desk.quantities() == {}


def test_an_inferred_fill_above_the_largest_correction_is_left_to_a_person() -> None:
    desk = yesterday(working(), policy=Policy(max_correction=dec(50)))
    assert morning(desk, pos(75)) == ["MISSED_FILL!"]
    assert desk.quantities() == {}


def test_real_fills_that_are_listed_after_all_take_the_place_of_the_inferred_one() -> None:
    desk = yesterday(working())
    morning(desk, pos(75, "1.05"))
    desk.look(slice_at(MORNING + 10, [pos(75, "1.05")], fills=[fill("f1", 75, "1.05", at_s=15_000, order_id="b1")]))
    assert desk.held() == {"net": (dec(75), dec("1.05"))}
    assert statuses(desk) == {"c1": (S.FILLED, 75)}


def test_the_end_of_a_day_order_is_kept_over_a_restart_and_learnt_without_a_difference() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "b1", quantity=75, status=S.OPEN, submitted_at=at(1)), at_s=1)
    decision = desk.look(slice_at(10, orders=[working()]))
    assert (decision.discrepancies, kinds(decision.events)) == ((), [EventType.ORDER_UPDATED])
    desk.restart()
    assert morning(desk) == ["ORDER_STATUS_MISMATCH"]
    assert statuses(desk) == {"c1": (S.EXPIRED, 0)}
