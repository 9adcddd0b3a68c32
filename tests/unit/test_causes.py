"""Causes: what ended or changed a position without an order, how grave it is, and on what evidence it is claimed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from actors.book.discrepancies import CAUSES, Break, Cause, DiscrepancyType, Phase, cause_of
from actors.book.payloads import break_from, break_to
from actors.events import Severity
from brokers.model import Evidence, Reason, Side
from tests.unit.builders import FAILED, INSTRUMENT, Desk, at, dec, fill, order, order_report, pos, slice_at

ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"


def held(quantity: object = 100, price: object = "1.1", at_s: float = 0) -> Desk:
    """A book in step with a broker that holds this."""
    desk = Desk()
    desk.look(slice_at(at_s, [pos(quantity, price)]))
    desk.look(slice_at(at_s + 1, [pos(quantity, price)]))
    return desk


def test_a_leg_that_is_not_read_is_closed_where_its_adapter_has_evidence_that_all_of_it_is_gone() -> None:
    """Kite: delivered shares that are not taken up, sold under their name on the other exchange."""
    desk, unread = held(), {"net": "not taken up"}
    gone = Evidence(Reason.SETTLEMENT, INSTRUMENT, "net", dec(-100), "settled")
    other = replace(gone, change=dec(-99))
    decision = desk.look(replace(slice_at(20), unread_legs=unread, evidence=(other,)))
    assert decision.status == "PARTIAL"
    assert desk.quantities() == {"net": dec(100)}
    decisions = [desk.look(replace(slice_at(s), unread_legs=unread, evidence=(gone,))) for s in (30, 60)]
    assert (decisions[-1].status, decisions[-1].unverified) == ("SUCCESS", ())
    assert desk.quantities() == {}
    assert {d.found.cause for d in decisions[-1].discrepancies} == {Cause.SETTLEMENT}


def test_every_reason_a_broker_can_give_is_a_cause_with_a_severity_and_evidence_of_its_own() -> None:
    assert all(cause_of(reason, Cause.UNEXPLAINED) in CAUSES for reason in Reason)


def test_the_table_of_causes_in_the_architecture_is_the_one_the_code_goes_by() -> None:
    text = ARCHITECTURE.read_text()
    for cause, rule in CAUSES.items():
        corrected = "a person" if rule.a_person else "yes"
        assert f"| {cause.value} | {rule.severity.value} | {rule.evidence} | {corrected} |" in text


def test_a_fill_that_the_broker_marks_as_its_own_closing_is_a_critical_liquidation() -> None:
    desk = held()
    closing = replace(fill("x1", 100, side=Side.SELL, at_s=20, order_id="900"), reason=Reason.LIQUIDATION)
    (found,) = desk.look(slice_at(30, fills=[closing])).discrepancies
    assert (found.found.cause, found.found.severity, found.resolved) == (Cause.LIQUIDATION, Severity.CRITICAL, True)
    assert desk.quantities() == {}


def test_a_stop_out_of_a_position_of_ours_is_critical_though_its_order_is_known() -> None:
    desk = held()
    desk.report(order_report("c1", "7", side=Side.SELL), at_s=5)
    closing = replace(fill("x1", 100, side=Side.SELL, at_s=20, order_id="7"), reason=Reason.LIQUIDATION)
    severities = {d.found.severity for d in desk.look(slice_at(30, fills=[closing])).discrepancies}
    assert Severity.CRITICAL in severities


def test_an_order_that_the_brokers_risk_management_placed_is_a_square_off() -> None:
    desk = held()
    row = replace(order("900", side=Side.SELL), origin=Reason.SQUARE_OFF)
    (found,) = desk.look(slice_at(30, [pos(100)], [row])).discrepancies
    assert (found.found.cause, found.found.severity) == (Cause.SQUARE_OFF, Severity.WARNING)


def test_a_break_keeps_what_it_links_and_one_without_is_written_as_ever() -> None:
    plain = Break("1", DiscrepancyType.NAKED_POSITION, "net", Severity.INFO, Phase.GHOST, None, "1", None, "-1", at(0))
    explained = replace(plain, cause=Cause.ASSIGNMENT, linked=("XYZ",), detail="put 50 of XYZ")
    assert {"linked", "told"}.isdisjoint(break_to(plain, resolved=False, correction=None))
    assert break_from(break_to(explained, resolved=False, correction=None), Severity.INFO) == explained


def test_a_combinations_own_fill_moves_no_leg_while_positions_are_unknown_too() -> None:
    desk = Desk()
    desk.look(slice_at(0))
    own = replace(fill("x1", 2, at_s=20, order_id="900"), combination=INSTRUMENT)
    desk.look(slice_at(30, FAILED, fills=[own]))
    assert (desk.quantities(), list(desk.book.applied)) == ({}, ["x1"])
