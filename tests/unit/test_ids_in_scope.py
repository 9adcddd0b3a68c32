"""Ids are unique only for a while: in a day, on a side, in a run. A fill is one in the scope of its id, and an inferred
fill's id is used once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from actors.account.snapshot_cache import SnapshotCache
from actors.book.policy import Policy
from actors.messages import SliceRequest
from brokers.clocks import broker_time
from brokers.model import (
    Complete,
    Conventions,
    Corrected,
    Fill,
    IdScope,
    OrderStatus,
    Position,
    Side,
    Slice,
    Snapshot,
    Unsupported,
)
from tests.unit.builders import (
    ACCOUNT,
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

DAY_S = 86_400
DAILY = Conventions(fill_ids=IdScope.TRADING_DAY_AND_SIDE, products=True, day_ahead_of_utc=timedelta(hours=5.5))
FILLED = OrderStatus.FILLED


def net(desk: Desk) -> dict[str, int]:
    """What is held in each leg, in whole units."""
    return {leg: int(quantity) for leg, quantity in desk.quantities().items()}


def traded(quantity: int, at_s: float, order_id: str = "B1", side: Side = Side.BUY) -> Fill:
    """A fill of the one id that the exchange gives each day."""
    made = fill("77", quantity, at_s=at_s, order_id=order_id, side=side, leg="CNC")
    return replace(made, id_scope=DAILY.fill_scope(side, made.time))


def daily(seconds: float, held: int, *fills: Fill) -> Slice:
    rows = [pos(held, leg="CNC")] if held else []
    return slice_at(seconds, rows, [], list(fills), conventions=DAILY)


def test_a_fill_of_the_next_day_with_yesterdays_id_counts() -> None:
    desk = Desk()
    desk.look(daily(0, 0))
    desk.look(daily(100, 10, traded(10, 50)))
    desk.look(daily(DAY_S + 100, 40, traded(30, DAY_S + 50, "B2")))
    assert net(desk) == {"CNC": 40}
    assert "POSITION_MISMATCH" not in [e.payload.get("type") for e in desk.events]
    assert types(desk.look(daily(DAY_S + 110, 40, traded(30, DAY_S + 50, "B2")))) == []


def test_both_sides_of_one_match_count_in_whatever_order_they_are_reported() -> None:
    sell, buy = traded(10, 50, "B9", Side.SELL), traded(10, 50, "B5")
    for first, then in (([sell], [buy, sell]), ([buy], [sell, buy])):
        desk = Desk()
        desk.look(daily(0, 0))
        desk.look(daily(100, sum(int(f.quantity) * f.side.sign for f in first), *first))
        desk.look(daily(102, 0, *then))
        assert net(desk) == {}


def test_a_report_of_the_next_day_is_another_fill_and_one_of_the_same_day_is_not() -> None:
    desk = Desk()
    desk.look(daily(0, 0))
    desk.look(daily(100, 10, traded(10, 50)))
    desk.report(fill_report("77", 10, at_s=50, leg="CNC"), at_s=101, conventions=DAILY)
    assert net(desk) == {"CNC": 10}
    desk.report(fill_report("77", 30, at_s=DAY_S, leg="CNC"), at_s=DAY_S, conventions=DAILY)
    assert net(desk) == {"CNC": 40}
    desk.restart()


def test_a_fill_that_was_booked_without_its_scope_is_the_same_on_its_day_alone() -> None:
    """Journals of earlier versions know no scope."""
    desk = Desk()
    desk.look(daily(0, 0))
    desk.report(fill_report("77", 10, at_s=50, leg="CNC"), at_s=50)
    desk.look(daily(100, 10, traded(10, 50)))
    assert net(desk) == {"CNC": 10}
    desk.look(daily(DAY_S + 100, 40, traded(30, DAY_S + 50, "B2")))
    assert net(desk) == {"CNC": 40}


def test_an_account_keeps_two_days_fills_of_one_id_apart_and_those_of_two_instruments() -> None:
    cache = SnapshotCache(ACCOUNT, "i1")

    def take(seconds: float, held: int, fills: list[Fill], cursor: int) -> None:
        shot = Snapshot(
            at(seconds),
            broker_time(at(seconds)),
            Complete((Position(INSTRUMENT, "CNC", dec(held), dec("1.1")),) if held else ()),
            Complete(()),
            Complete(tuple(fills)),
            cursor,
        )
        cache.take(shot, cursor - 1 if cursor else None)

    take(0, 0, [], 0)
    take(100, 10, [traded(10, 50), replace(traded(7, 50), instrument="BSE:X")], 1)
    take(DAY_S + 100, 40, [traded(30, DAY_S + 50)], 2)
    given = cache.slice(SliceRequest(INSTRUMENT, at(0), 0))
    other = cache.slice(SliceRequest("BSE:X", at(0), 0))
    assert isinstance(given, Slice)
    assert isinstance(other, Slice)
    assert isinstance(given.fills, Complete)
    assert isinstance(other.fills, Complete)
    assert [int(one.quantity) for one in given.fills.rows] == [10, 30]
    assert [int(one.quantity) for one in other.fills.rows] == [7]


@pytest.mark.parametrize("policy", [Policy(), Policy(positions=False)], ids=["live", "paper"])
def test_an_inferred_fill_counts_though_its_order_has_the_ids_of_one_long_ended(policy: Policy) -> None:
    desk = Desk(policy)
    desk.look(slice_at(0, [], [], Unsupported()))
    for day, held in ((0, 100), (3, 200)):
        sent = day * DAY_S + 1
        desk.report(order_report("EA1", None, submitted_at=at(sent)), at_s=sent)
        row = order(f"B{day}", 100, 100, FILLED, client_id="EA1", average="1.1", submitted_at=at(sent))
        desk.look(slice_at(sent + 9, [pos(held)], [row], Unsupported()))
        desk.look(slice_at(sent + 400, [pos(held)], [row], Unsupported()))
        if not day:
            desk.look(slice_at(3 * DAY_S, [pos(100)], [], Unsupported()))
    assert net(desk) == {"net": 200}
    assert [int(o.filled_quantity) for o in desk.book.orders.values() if o.broker_order_id == "B3"] == [100]
    count = len(desk.events)
    for more in range(5):
        desk.look(slice_at(3 * DAY_S + 500 + more, [pos(200)], [row], Unsupported()))
    assert len(desk.events) == count


def test_a_correction_of_what_was_inferred_first_writes_nothing_twice() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1", "B1", status=OrderStatus.OPEN), at_s=1)
    row = order("B1", 100, 100, FILLED, client_id="c1", average="1.1")
    first = fill("F1", 100, at_s=9, order_id="B1")
    desk.look(slice_at(10, [pos(100)], [row]))
    desk.look(slice_at(12, [pos(100)], [row], [first]))
    was = Corrected("F1", first.quantity, first.price)
    desk.look(
        slice_at(
            20,
            [pos(40)],
            [row],
            [replace(first, fill_id="F2", quantity=dec(40), time=broker_time(at(19)), corrects=was)],
        )
    )
    desk.look(slice_at(30, [pos(40)], [row]))
    count = len(desk.events)
    for more in range(5):
        last = desk.look(slice_at(40 + more, [pos(40)], [row]))
    assert kinds(desk.events[count:]) == []
    assert types(last) == ["FILLED_MISMATCH!"]
