"""Legs that both sides agree on, and that are amiss all the same: two against each other, and too little protection."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.book.discrepancies import DiscrepancyType
from actors.book.policy import Policy
from actors.book.trading_permission import obstacles
from actors.events import Severity
from actors.reconciliation.reconciliation_pass import Decision
from brokers.model import Complete, Order, OrderStatus, Partial, RowProblem, SectionName, Side
from tests.unit.builders import TICKET, Desk, at, dec, fill, order, order_report, pos, slice_at

S = OrderStatus
LONG, SHORT = pos("0.1", leg="1001"), pos("-0.1", leg="1002")


def of(decision: Decision, kind: DiscrepancyType) -> list[tuple[str, Severity, str | None]]:
    return [(d.found.key, d.found.severity, d.found.strategy) for d in decision.discrepancies if d.found.type is kind]


def closed_without_naming_it(quantity: str = "0.1", leg: str | None = None, strategy: str | None = "trend") -> Desk:
    """A strategy holds a long position, and sells; its order opened a short one."""
    desk = Desk(Policy(conventions=TICKET))
    desk.look(slice_at(0, conventions=TICKET))
    desk.report(order_report("c1", quantity="0.1", strategy="trend", submitted_at=at(1)), at_s=1, conventions=TICKET)
    bought = order("1001", "0.1", "0.1", S.FILLED, client_id="c1", average="1.1", leg="1001", submitted_at=at(1))
    desk.look(
        slice_at(10, [LONG], [bought], [fill("d1", "0.1", at_s=5, order_id="1001", leg="1001")], conventions=TICKET)
    )
    sale = order_report("c2", quantity=quantity, side=Side.SELL, strategy=strategy, leg=leg, submitted_at=at(20))
    desk.report(sale, at_s=20, conventions=TICKET)
    return desk


def sold(desk: Desk, quantity: str = "0.1") -> Decision:
    row = order(
        "1002",
        quantity,
        quantity,
        S.FILLED,
        client_id="c2",
        side=Side.SELL,
        average="1.1",
        leg="1002",
        submitted_at=at(20),
    )
    deal = fill("d2", quantity, at_s=21, order_id="1002", leg="1002", side=Side.SELL)
    short = pos(f"-{quantity}", leg="1002")
    desk.look(slice_at(30, [LONG, short], [row], [deal], conventions=TICKET))
    return desk.look(slice_at(31, [LONG, short], [row], [], conventions=TICKET))


def test_a_sale_that_named_no_position_and_opened_one_against_it_is_critical_and_stops_trading() -> None:
    desk = closed_without_naming_it()
    decision = sold(desk)
    assert of(decision, DiscrepancyType.OPPOSITE_LEGS) == [("1002", Severity.CRITICAL, "trend")]
    assert decision.status == "PARTIAL"
    assert obstacles(desk.book.breaks.values(), at(31), 900.0, (), None, None, at(31))
    desk.restart()
    ended = desk.look(slice_at(40, [], conventions=TICKET))
    ended = desk.look(slice_at(41, [], conventions=TICKET))
    ended = desk.look(slice_at(42, [], conventions=TICKET))
    assert (ended.status, desk.book.breaks) == ("SUCCESS", {})


def test_a_hedge_that_cannot_have_been_meant_to_close_is_none_of_it() -> None:
    assert of(sold(closed_without_naming_it("0.3"), "0.3"), DiscrepancyType.OPPOSITE_LEGS) == []
    assert of(sold(closed_without_naming_it(strategy="hedge")), DiscrepancyType.OPPOSITE_LEGS) == []


def test_opposite_positions_that_nobody_here_opened_are_no_concern_of_ours() -> None:
    desk = Desk(Policy(conventions=TICKET))
    decision = desk.look(slice_at(0, [LONG, SHORT], conventions=TICKET))
    assert of(decision, DiscrepancyType.OPPOSITE_LEGS) == []


# -- protection -------------------------------------------------------------------------------------------------------


def stop(quantity: object, broker_id: str = "s1", side: Side = Side.SELL, parent: str | None = None) -> Order:
    return replace(order(broker_id, quantity, side=side), order_type="STOP", parent=parent)


@pytest.mark.parametrize("severity", [Severity.INFO, Severity.WARNING])
def test_an_entry_without_a_stop_and_a_stop_for_more_than_its_leg_are_reported_as_configured(
    severity: Severity,
) -> None:
    desk = Desk(Policy(protection=severity))
    desk.look(slice_at(0, [pos(100)], [stop(100)]))
    assert desk.book.breaks == {}
    less = desk.look(slice_at(10, [pos(100)], [stop(60)]))
    assert of(less, DiscrepancyType.UNPROTECTED) == [("net", severity, None)]
    more = desk.look(slice_at(20, [pos(100)], [stop(160)]))
    assert of(more, DiscrepancyType.OVERSIZED_ORDER) == [("s1", severity, None)]
    assert DiscrepancyType.UNPROTECTED not in {kind for kind, _ in desk.book.breaks}
    desk.look(slice_at(30, [pos(100)], [stop(50), stop(50, "s2")]))
    assert desk.look(slice_at(31, [pos(100)], [stop(50), stop(50, "s2")])).status == "SUCCESS"


@pytest.mark.parametrize(
    ("kind", "protects"),
    [
        ("STOP_LOSS", True),
        ("GUARANTEED_STOP_LOSS", True),
        ("TRAILING_STOP_LOSS", True),
        ("STOP_WITH_PROTECTION", True),
        ("SL-M", True),
        ("TAKE_PROFIT", False),
        ("LIMIT", False),
    ],
)
def test_a_stop_is_one_by_whatever_name_its_broker_has_for_it(kind: str, protects: bool) -> None:
    """Documentation of OANDA v20, OrderType; of the TWS API, order types; of Kite Connect, order_type."""
    desk = Desk(Policy(protection=Severity.WARNING))
    looked = desk.look(slice_at(0, [pos(100)], [replace(stop(100), order_type=kind)]))
    assert (of(looked, DiscrepancyType.UNPROTECTED) == []) is protects


def test_a_stop_that_belongs_to_the_position_protects_all_of_it_and_no_other() -> None:
    """MetaTrader's stop is a property of the position (MQL5 documentation, POSITION_SL), and no order shows it."""
    desk = Desk(Policy(protection=Severity.WARNING, conventions=TICKET))
    stopped = replace(LONG, stop_price=dec("1.05"))
    looked = desk.look(slice_at(0, [stopped, SHORT], conventions=TICKET))
    assert of(looked, DiscrepancyType.UNPROTECTED) == [("1002", Severity.WARNING, None)]
    gone = desk.look(slice_at(10, [LONG, SHORT], conventions=TICKET))
    assert sorted(key for key, *_ in of(gone, DiscrepancyType.UNPROTECTED)) == ["1001", "1002"]


def test_a_stop_that_outlived_its_leg_is_oversized() -> None:
    desk = Desk(Policy(protection=Severity.WARNING))
    decision = desk.look(slice_at(0, [], [stop(100, parent="b1")]))
    assert of(decision, DiscrepancyType.OVERSIZED_ORDER) == [("s1", Severity.WARNING, None)]


def test_nothing_is_said_of_protection_unless_configured_nor_while_the_orders_are_not_known() -> None:
    assert Desk().look(slice_at(0, [pos(100)])).discrepancies[1:] == ()
    desk = Desk(Policy(protection=Severity.WARNING))
    unread: Partial[Order] = Partial((), (RowProblem(SectionName.ORDERS, "EURUSD", "s1", "unreadable"),))
    assert of(desk.look(slice_at(0, [pos(100)], unread)), DiscrepancyType.UNPROTECTED) == []
    desk.look(slice_at(10, [pos(100)], Complete(())))
    assert desk.quantities() == {"net": dec(100)}
    assert DiscrepancyType.UNPROTECTED in {kind for kind, _ in desk.book.breaks}
