"""A fill that a broker's stream reports is evidence: in the book at once where enough is known of it, and else left to
the look, which comes to the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

import pytest

from actors.book.policy import Correct, Policy
from actors.events import EventType
from brokers.clocks import broker_time
from brokers.model import (
    NET,
    Conventions,
    Corrected,
    Failed,
    Fill,
    Order,
    OrderStatus,
    Partial,
    Side,
    Slice,
)
from tests.unit.builders import (
    TICKET,
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
from tests.unit.builders import position_report as position

UNREPORTED = Failed("a stream reports executions alone")
STANDS = order("B1", 100, client_id="c1")
NOW_S = 100.0
USUALLY, OF_USE = Conventions(), Policy()


def by_the_stream(
    *fills: Fill, rows: tuple[Order, ...] = (), at_s: float = NOW_S, conventions: Conventions = USUALLY
) -> Slice:
    """What a stream reports at a moment."""
    made = slice_at(at_s, UNREPORTED, Partial(rows), Partial(fills), conventions=conventions, revision=f"s{at_s}")
    return replace(made, fills_cursor=None, streamed=True)


def desk(policy: Policy | None = None, conventions: Conventions = USUALLY) -> Desk:
    """A book that has been in step for a while: 50 held, and an order of ours at the broker."""
    made = Desk(policy)
    made.report(order_report("c1", "B1", status=OrderStatus.OPEN, strategy="grid"), at_s=1)
    leg = "T7" if conventions is TICKET else NET
    made.look(slice_at(10, [pos(50, leg=leg)], [STANDS], conventions=conventions))
    made.look(slice_at(20, [pos(50, leg=leg)], [STANDS], conventions=conventions))
    made.events.clear()
    return made


def test_a_fill_of_our_order_is_in_the_book_at_once_and_the_look_finds_nothing_to_add() -> None:
    one = desk()
    done = fill("F1", 30, at_s=99, order_id="B1")
    decision = one.look(by_the_stream(done))
    assert types(decision) == ["MISSED_FILL"]
    assert kinds(one.events) == [EventType.RECONCILIATION_DISCREPANCY, EventType.ORDER_FILLED]
    assert one.quantities() == {NET: dec(80)}
    assert one.book.orders["broker:B1"].filled_quantity == 30
    after = one.look(
        slice_at(101, [pos(80)], [order("B1", 100, 30, OrderStatus.PARTIALLY_FILLED, average="1.1")], [done])
    )
    assert after.status == "SUCCESS"
    assert EventType.ORDER_FILLED not in kinds(after.events)


def test_it_comes_out_as_by_a_look() -> None:
    """The same events, to the digit, but for what only the look concludes."""
    by_stream, by_look = desk(), desk()
    row = order("B1", 100, 30, OrderStatus.PARTIALLY_FILLED, average="1.1", client_id="c1")
    done = fill("F1", 30, at_s=99, order_id="B1")
    by_stream.look(by_the_stream(done))
    by_look.look(slice_at(NOW_S, [pos(80)], [row], [done]))
    payloads = [event.payload for event in by_stream.events]
    assert payloads == [event.payload for event in by_look.events][: len(payloads)]


def test_nothing_is_concluded_from_what_a_stream_does_not_report() -> None:
    """No break is closed, nothing is given up, nothing is verified, however often it reports."""
    one = desk()
    one.look(slice_at(30, [], [STANDS]))
    assert [kind.value for kind, _ in one.book.breaks] == ["NAKED_POSITION"]
    version, breaks = one.book.version, dict(one.book.breaks)
    for seconds in (40.0, 50.0, 60.0):
        assert one.look(by_the_stream(at_s=seconds)).events == ()
    assert (one.book.version, one.book.breaks) == (version, breaks)


def test_an_older_look_does_not_undo_it() -> None:
    """PEERS 11: it was asked for before the stream reported it, and comes after."""
    one = desk()
    one.look(by_the_stream(fill("F1", 30, at_s=99, order_id="B1")))
    late = one.look(slice_at(99.5, [pos(50)], [STANDS]), now=at(101))
    assert late.events == ()
    lagging = one.look(slice_at(101, [pos(50)], [order("B1", 100, 30, OrderStatus.PARTIALLY_FILLED, average="1.1")]))
    assert one.quantities() == {NET: dec(80)}
    assert lagging.recheck_at == at(NOW_S) + one.policy.settle


@dataclass(frozen=True)
class Left:
    """A fill that is left to the look, and why."""

    fill: Fill
    before: Callable[[Desk], object] = lambda _: None
    rows: tuple[Order, ...] = ()
    conventions: Conventions = USUALLY
    policy: Policy = OF_USE


USUAL = fill("F1", 30, at_s=99, order_id="B1")
LEFT = {
    "reported again": Left(USUAL, lambda one: one.look(by_the_stream(USUAL, at_s=99.5))),
    "that our side reported otherwise": Left(
        replace(USUAL, price=dec("1.2")),
        lambda one: one.report(fill_report("F1", 30, at_s=99, order_id="B1"), at_s=99.2),
    ),
    "reported by our side": Left(
        USUAL,
        lambda one: one.report(fill_report("F1", 30, at_s=99, order_id="B1"), at_s=99.2),
    ),
    "of nobody's order that we know": Left(replace(USUAL, broker_order_id="B9")),
    "more than is left of its order": Left(replace(USUAL, quantity=dec(101))),
    "of the other side than its order": Left(replace(USUAL, side=Side.SELL)),
    "of an order of which our side reported another side": Left(
        replace(USUAL, side=Side.SELL), rows=(replace(STANDS, side=Side.SELL),)
    ),
    "from before the last position": Left(
        replace(USUAL, time=broker_time(at(19))), lambda one: one.look(slice_at(26, [pos(60)], [STANDS]))
    ),
    "from just after the last position": Left(
        replace(USUAL, time=broker_time(at(98))), lambda one: one.look(slice_at(95, [pos(60)], [STANDS]))
    ),
    "beside a position that our side reported": Left(USUAL, lambda one: one.report(position(80), at_s=99.5)),
    "from tomorrow": Left(replace(USUAL, time=broker_time(at(NOW_S + 86_400)))),
    "from an hour ago": Left(replace(USUAL, time=broker_time(at(NOW_S) - timedelta(hours=1)))),
    "that corrects another": Left(replace(USUAL, corrects=Corrected("F0", dec(20), dec("1.1")))),
    "of a combination's leg": Left(replace(USUAL, combination="EURUSD-GBPUSD")),
    "whose leg only the broker knows": Left(USUAL, conventions=TICKET),
    "where only alerts are wanted": Left(USUAL, policy=Policy(correct=Correct.ALERT)),
    "whose client id two orders have": Left(
        replace(USUAL, broker_order_id="B9", client_order_id="c2"),
        lambda one: one.report(
            order_report("c2", submitted_at=at(90)), order_report("c2", submitted_at=at(97)), at_s=98
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT.values(), ids=LEFT)
def test_a_fill_of_which_too_little_is_known_is_left_to_the_look(case: Left) -> None:
    one = desk(case.policy, case.conventions)
    case.before(one)
    version = one.book.version
    assert one.look(by_the_stream(case.fill, rows=case.rows, conventions=case.conventions)).events == ()
    assert one.book.version == version


def test_a_book_that_was_never_looked_at_takes_none() -> None:
    one = Desk()
    one.report(order_report("c1", "B1", status=OrderStatus.OPEN), at_s=1)
    assert one.look(by_the_stream(USUAL)).events == ()


ROW = order("B2", 30, 30, OrderStatus.FILLED, client_id="c2")


@pytest.mark.parametrize(
    ("of", "row", "key", "strategy"),
    [
        (replace(USUAL, broker_order_id="B2", client_order_id="c2"), None, "client:c2", "trend"),
        (replace(USUAL, broker_order_id="B2"), ROW, "client:c2", "trend"),
        (replace(USUAL, broker_order_id="B9"), order("B9", 30, 30, OrderStatus.FILLED), None, None),
    ],
    ids=["by its client id", "by its order's row", "of somebody else's order, whose row is reported"],
)
def test_an_order_that_was_just_sent_gets_its_fill(
    of: Fill, row: Order | None, key: str | None, strategy: str | None
) -> None:
    one = desk()
    if strategy is not None:
        one.report(order_report("c2", quantity=30, strategy=strategy), at_s=98)
    done = one.look(by_the_stream(of, rows=() if row is None else (row,)))
    [event] = [event for event in done.events if event.type is EventType.ORDER_FILLED]
    assert (event.payload["order_key"], event.payload["strategy"]) == (key, strategy)
    assert one.quantities() == {NET: dec(80)}
    shown = row or ROW
    one.look(slice_at(101, [pos(80)], [STANDS, replace(shown, average_fill_price=Decimal("1.1"))], [of]))
    last = one.look(slice_at(110, [pos(80)], [STANDS, shown], [of]))
    assert one.quantities() == {NET: dec(80)}
    assert last.status == "SUCCESS"


def test_a_burst_of_one_order_is_taken_together_and_an_overfill_waits_for_the_look() -> None:
    one = desk()
    parts = [fill(f"F{number}", 40, at_s=99, order_id="B1") for number in range(2)]
    assert one.look(by_the_stream(*parts, *parts)).status == "PARTIAL"
    assert one.quantities() == {NET: dec(130)}
    assert one.look(by_the_stream(fill("F9", 40, at_s=99.5, order_id="B1"), at_s=101)).events == ()
