"""Kind: a wall clock taken for the order of events. A position that our side reports carries no time that a broker's
could be compared with: whether it has a fill in it that is reported later is known from what came after what, and else
from the positions that the broker shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.book.checkpoint import checkpoint_event
from actors.book.payloads import position_to
from actors.book.policy import Correct, Policy
from actors.events import Event, EventType, Severity
from brokers.clocks import broker_time
from brokers.model import Corrected, Fill, OrderStatus, Side, Unsupported
from tests.unit.builders import (
    FAILED,
    TICKET,
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
    types,
)

OPEN, FILLED = OrderStatus.OPEN, OrderStatus.FILLED


def net(desk: Desk) -> dict[str, int]:
    """What is held in each leg, in whole units."""
    return {leg: int(quantity) for leg, quantity in desk.quantities().items()}


def trade_after_the_report(desk: Desk, reported_at_s: float, behind_s: float = 0) -> None:
    """A position of 10 is reported at 100.3 s, then an order, then its fill of 5."""
    desk.look(replace(slice_at(0), as_of=broker_time(at(-behind_s))))
    desk.report(position_report(10), at_s=100.3)
    desk.report(order_report("c1", "B1", quantity=5, status=OPEN), at_s=100.4)
    desk.report(fill_report("F1", 5, "1.2", at_s=reported_at_s, order_id="B1"), at_s=100.9)


@pytest.mark.parametrize(
    ("reported_at_s", "behind_s"),
    [(50.5, 60), (160.5, -60), (100, 0), (100.5, 0)],
    ids=["broker 60 s behind", "broker 60 s ahead", "dated to the second", "clocks equal"],
)
def test_a_trade_after_a_position_report_counts_whatever_the_clocks_say(reported_at_s: float, behind_s: float) -> None:
    desk = Desk()
    trade_after_the_report(desk, reported_at_s, behind_s)
    assert net(desk) == {"net": 15}
    desk.restart()
    row = order("B1", 5, 5, FILLED, client_id="c1", average="1.2")
    bought = fill("F1", 5, "1.2", at_s=reported_at_s, order_id="B1")
    for seconds in (101, 110, 120):
        last = desk.look(
            replace(slice_at(seconds, [pos(15)], [row], [bought]), as_of=broker_time(at(seconds - behind_s)))
        )
        assert net(desk) == {"net": 15}
    assert last.status == "SUCCESS"
    assert not any(e.payload.get("type") == "POSITION_MISMATCH" for e in desk.events)


def test_where_positions_are_not_compared_a_trade_after_a_position_report_counts_too() -> None:
    desk = Desk(Policy(positions=False))
    desk.look(slice_at(0))
    desk.report(position_report(10), at_s=100.3)
    desk.report(order_report("c1", "B1", quantity=5, status=OPEN), at_s=100.4)
    row = order("B1", 5, 5, FILLED, client_id="c1", average="1.2")
    for seconds in (120, 500, 5000):
        desk.look(slice_at(seconds, [], [row], [fill("F1", 5, "1.2", at_s=100, order_id="B1")]))
        assert net(desk) == {"net": 15}
        desk.restart()


@pytest.mark.parametrize(
    ("believed", "shown"), [(15, 15), (10, 15)], ids=["the report has it in it", "the report is from before it"]
)
@pytest.mark.parametrize("correct", Correct)
def test_a_fill_of_an_order_from_before_the_report_is_in_it_where_the_positions_say_so(
    believed: int, shown: int, correct: Correct
) -> None:
    desk = Desk(Policy(correct=correct))
    desk.report(position_report(10), at_s=-9)
    desk.look(slice_at(0, [pos(10)]))
    desk.report(order_report("c1", "B1", quantity=5, status=OPEN), at_s=1)
    desk.look(slice_at(2, [pos(10)], [order("B1", 5, client_id="c1")]))
    if believed != 10:
        desk.report(position_report(believed), at_s=3)
    row = order("B1", 5, 5, FILLED, client_id="c1", average="1.1")
    for seconds in (3.5, 9, 20):
        last = desk.look(slice_at(seconds, [pos(shown)], [row], [fill("F1", 5, at_s=2.5, order_id="B1")]))
        assert not {"POSITION_MISMATCH", "POSITION_MISMATCH!"} & set(types(last))
    if correct is Correct.AUTO:
        assert (net(desk), last.status) == ({"net": 15}, "SUCCESS")
    desk.restart()


def test_of_several_fills_around_a_report_the_earlier_ones_are_in_it() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(10)]))
    desk.report(order_report("c1", "B1", quantity=8, status=OPEN), at_s=1)
    desk.report(position_report(15), at_s=3)
    row = order("B1", 8, 8, FILLED, client_id="c1", average="1.1")
    fills = [fill("F1", 5, at_s=2, order_id="B1"), fill("F2", 3, at_s=3, order_id="B1")]
    assert types(desk.look(slice_at(4, [pos(18)], [row], fills))) == ["MISSED_FILL"]
    assert net(desk) == {"net": 18}
    assert desk.look(slice_at(20, [pos(18)], [row], fills)).status == "SUCCESS"
    desk.restart()


@pytest.mark.parametrize("fills", ["listed", "unsupported"])
def test_a_late_report_of_a_fill_that_the_position_has_in_it_gives_way_to_the_positions(fills: str) -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(10)]))
    desk.report(order_report("c1", "B1", quantity=5, status=OPEN), at_s=1)
    desk.report(position_report(15), at_s=3)
    desk.report(fill_report("F1", 5, at_s=2, order_id="B1"), at_s=4)
    row = order("B1", 5, 5, FILLED, client_id="c1", average="1.1")
    fills_section = Unsupported() if fills == "unsupported" else [fill("F1", 5, at_s=2, order_id="B1")]
    for seconds in (5, 10, 20):
        last = desk.look(slice_at(seconds, [pos(15)], [row], fills_section))
    assert (net(desk), last.status) == ({"net": 15}, "SUCCESS")
    assert not any(e.payload.get("type") == "POSITION_MISMATCH" for e in desk.events)
    assert sum(e.type is EventType.FILL_RESTATED for e in desk.events) == 1
    desk.restart()


def test_a_fill_from_before_the_report_that_the_broker_reports_otherwise_changes_the_position_no_more() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(10)]))
    desk.report(order_report("c1", "B1", quantity=5, status=OPEN), at_s=1)
    desk.report(fill_report("F1", 5, at_s=2, order_id="B1"), at_s=2)
    desk.report(position_report(14), at_s=3)
    row = order("B1", 5, 4, OrderStatus.PARTIALLY_FILLED, client_id="c1", average="1.1")
    for seconds in (4, 10, 20):
        last = desk.look(slice_at(seconds, [pos(14)], [row], [fill("F1", 4, at_s=2, order_id="B1")]))
    assert (net(desk), last.status) == ({"net": 14}, "SUCCESS")
    assert not any(e.payload.get("type") == "POSITION_MISMATCH" for e in desk.events)
    desk.restart()


def test_a_bust_after_the_report_counts_unless_the_positions_say_that_it_is_in_it() -> None:
    for believed in (15, 10):
        desk = Desk()
        desk.look(slice_at(0, [pos(10)]))
        desk.report(order_report("c1", "B1", quantity=5, status=OPEN), at_s=1)
        done = fill("F1", 5, at_s=2, order_id="B1")
        desk.look(slice_at(2, [pos(15)], [order("B1", 5, 5, FILLED, client_id="c1", average="1.1")], [done]))
        desk.report(position_report(believed, "1.2"), at_s=3)
        gone: Fill = replace(done, fill_id="C1", quantity=dec(0), corrects=Corrected("F1", dec(5), dec("1.1")))
        row = order("B1", 5, 0, OPEN, client_id="c1")
        for seconds in (4, 10, 20):
            last = desk.look(slice_at(seconds, [pos(10, "1.1")], [row], [done, gone]))
            assert "POSITION_MISMATCH" not in types(last)
        assert net(desk) == {"net": 10}
        desk.restart()


def test_where_nobody_shows_the_positions_a_fill_reported_after_the_report_counts() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(10)]))
    desk.report(position_report(12), at_s=3)
    desk.look(slice_at(20, FAILED, [], [fill("X1", 3, at_s=2, side=Side.SELL)]))
    assert net(desk) == {"net": 9}


def test_once_both_sides_were_the_same_after_the_report_the_brokers_time_decides_again() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(10)]))
    desk.report(position_report(12), at_s=3)
    desk.look(slice_at(400, [pos(12)]))
    desk.look(slice_at(401, FAILED, [], [fill("X1", 3, at_s=2), fill("X2", 1, at_s=400.5)]))
    assert net(desk) == {"net": 13}
    desk.restart()


def test_a_position_report_of_an_earlier_version_is_replayed_as_it_was_with_its_time() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    old = position_to("net", dec(10), dec("1.1"), broker_time(at(100)), None) | {"strategy": None}
    desk.write([Event("p", EventType.POSITION_RECORDED, Severity.INFO, at(100), old)])
    document = dict(checkpoint_event(desk.book, at(101)).payload)
    del document["believed"], document["position_reports"]
    desk.write([replace(checkpoint_event(desk.book, at(101)), payload=document)])
    desk.report(fill_report("F1", 5, at_s=99), at_s=102)
    assert net(desk) == {"net": 10}
    desk.report(fill_report("F2", 5, at_s=103), at_s=104)
    assert net(desk) == {"net": 15}
    desk.restart()


@pytest.mark.parametrize(("leg", "held"), [("7", {"7": 15}), ("8", {"7": 15, "8": 15})], ids=["its leg", "another leg"])
def test_a_fill_that_waits_for_its_leg_is_in_the_position_of_that_leg_that_is_reported_after_it(
    leg: str, held: dict[str, int]
) -> None:
    """The broker's word comes before the positions are settled: until then the book would have it twice."""
    desk = Desk()
    others = [] if leg == "7" else [pos(15, leg=leg)]
    desk.look(slice_at(0, [pos(10, leg="7")], conventions=TICKET))
    desk.report(fill_report("F1", 5, at_s=10), at_s=10, conventions=TICKET)
    desk.report(position_report(15, leg=leg), at_s=10.5, conventions=TICKET)
    desk.report(fill_report("F2", 1, at_s=10.6), at_s=10.6, conventions=TICKET)
    desk.restart()
    made = [fill(name, of, at_s=9.9, leg="7", position_id="7") for name, of in (("F1", 5), ("F2", 1))]
    for seconds in (11, 12, 16, 17):
        last = desk.look(slice_at(seconds, [pos(16, leg="7"), *others], [], made, conventions=TICKET))
        assert net(desk) == held | {"7": 16}
        desk.restart()
    assert last.status == "SUCCESS"
    assert not any(e.payload.get("type") == "POSITION_MISMATCH" for e in desk.events)
