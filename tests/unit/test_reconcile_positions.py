"""Positions: what adds or updates takes one look, what removes takes proof, and no look counts from before our own
latest activity."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from actors.book.policy import Policy
from actors.events import EventType, Severity
from brokers.model import RowProblem, SectionName, Side, Unsupported, section
from tests.unit.builders import (
    FAILED,
    TICKET,
    Desk,
    at,
    dec,
    fill,
    fill_report,
    pos,
    position_report,
    slice_at,
    types,
)

UNREADABLE = RowProblem(SectionName.POSITIONS, "EURUSD", None, "what is this")


def verified(*rows: object, policy: Policy | None = None) -> Desk:
    """A book found in step with these legs at the beginning of time."""
    desk = Desk(policy)
    desk.look(slice_at(0, list(rows)))  # type: ignore[arg-type] # positions
    return desk


@pytest.mark.parametrize(
    ("held", "shown", "after", "found", "severity"),
    [
        pytest.param([], [pos(100)], {"net": (100, "1.1")}, ["MISSING_LOCALLY"], "WARNING", id="zombie"),
        pytest.param([pos(80)], [pos(100)], {"net": (100, "1.1")}, ["POSITION_MISMATCH"], "WARNING", id="drift up"),
        pytest.param([pos(80)], [pos(1)], {"net": (1, "1.1")}, ["POSITION_MISMATCH"], "WARNING", id="drift down"),
        pytest.param([pos(80)], [pos(-80)], {"net": (-80, "1.1")}, ["POSITION_MISMATCH"], "CRITICAL", id="other sign"),
        pytest.param([pos(80)], [pos(80, "1.2")], {"net": (80, "1.2")}, ["PRICE_MISMATCH"], "INFO", id="price drift"),
        pytest.param([pos(80)], [pos(80, "1.100001")], {"net": (80, "1.1")}, [], None, id="within the tolerance"),
        pytest.param([pos(80, "-37.63")], [pos(80, "-37")], {"net": (80, "-37")}, ["PRICE_MISMATCH"], "INFO",
                     id="drift of a price below zero"),
        pytest.param([pos(80, "-37.63")], [pos(80, "-37.6301")], {"net": (80, "-37.63")}, [], None,
                     id="a price below zero, within the tolerance"),
        pytest.param([pos(80, "0.1")], [pos(80, "0")], {"net": (80, "0")}, ["PRICE_MISMATCH"], "INFO", id="to zero"),
    ],
)  # fmt: skip
def test_one_look_is_enough_to_add_or_update(
    held: list[object], shown: list[object], after: dict[str, tuple[object, object]], found: list[str], severity: str
) -> None:
    """FEATURES 10, PEERS 9"""
    desk = verified(*held)
    decision = desk.look(slice_at(10, shown))  # type: ignore[arg-type] # positions
    assert desk.held() == {leg: (dec(q), dec(p)) for leg, (q, p) in after.items()}
    assert types(decision) == found
    assert [d.found.severity.value for d in decision.discrepancies] == ([severity] if severity else [])
    assert decision.status == "SUCCESS"
    assert desk.look(slice_at(11, shown)).discrepancies == ()  # type: ignore[arg-type] # positions


def test_the_first_look_of_a_new_book_is_not_alarming() -> None:
    decision = Desk().look(slice_at(0, [pos(100)]))
    assert [(d.found.type.value, d.found.severity) for d in decision.discrepancies] == [
        ("MISSING_LOCALLY", Severity.INFO)
    ]


def test_a_ghost_is_closed_by_the_second_of_two_looks_far_enough_apart() -> None:
    """FEATURES 10, PEERS 14"""
    desk = verified(pos(100))
    first = desk.look(slice_at(10))
    assert types(first) == ["NAKED_POSITION!"]
    assert first.recheck_at == at(10.5)
    desk.look(slice_at(10.4))
    assert desk.quantities() == {"net": 100}
    last = desk.look(slice_at(10.5))
    assert types(last) == ["NAKED_POSITION"]
    assert desk.quantities() == {}
    assert last.status == "SUCCESS"


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(FAILED, id="failed"),
        pytest.param(Unsupported(), id="unsupported"),
        pytest.param(section([], [UNREADABLE]), id="partial"),
    ],
)
def test_a_second_look_that_is_not_complete_proves_nothing(second: object) -> None:
    """PEERS 1"""
    desk = verified(pos(100))
    desk.look(slice_at(10))
    for moment in (20, 30, 40):
        desk.look(slice_at(moment, second))  # type: ignore[arg-type] # a section
        assert desk.quantities() == {"net": 100}
    desk.look(slice_at(50))
    assert desk.quantities() == {}


def test_the_same_answer_twice_is_one_look() -> None:
    desk = verified(pos(100))
    once = slice_at(10)
    for now in (10, 20, 30):
        desk.look(once, now=at(now))
        assert desk.quantities() == {"net": 100}


def test_one_slice_is_never_two_looks_however_short_the_gap_may_be() -> None:
    """Law 4: two COMPLETE sections, not one section looked at twice."""
    desk = verified(pos(100), policy=Policy(confirm_gap=timedelta(0)))
    gone = slice_at(10)
    desk.look(gone)
    desk.look(gone)
    assert set(desk.book.legs) == {"net"}
    desk.look(slice_at(10.001))
    assert desk.book.legs == {}


def test_a_ghost_that_comes_back_needs_its_proof_from_the_start() -> None:
    desk = verified(pos(100))
    desk.look(slice_at(10))
    assert desk.look(slice_at(20, [pos(100)])).status == "SUCCESS"
    assert not desk.book.breaks
    desk.look(slice_at(30))
    assert desk.quantities() == {"net": 100}


def test_sightings_survive_a_restart() -> None:
    """PEERS 15"""
    desk = verified(pos(100))
    desk.look(slice_at(10))
    desk.restart()
    desk.look(slice_at(11))
    assert desk.quantities() == {}


def test_our_own_activity_starts_the_proof_of_a_ghost_again() -> None:
    """PEERS 11"""
    desk = verified(pos(100))
    desk.look(slice_at(10))
    desk.report(fill_report("f1", 5, at_s=11), at_s=11)
    deferred = desk.look(slice_at(12))
    assert deferred.recheck_at == at(16)
    assert deferred.status == "PARTIAL"
    desk.look(slice_at(16))
    assert desk.quantities() == {"net": 105}
    desk.look(slice_at(17))
    assert desk.quantities() == {}


def test_a_fill_at_the_broker_starts_the_proof_of_a_ghost_again() -> None:
    """The first look was at another leg than the one there is now."""
    desk = verified(pos(100))
    desk.look(slice_at(10))
    desk.look(slice_at(20, [], fills=[fill("x1", 5, at_s=15, order_id="X")]))
    desk.look(slice_at(21))
    assert desk.quantities() == {"net": 105}
    desk.look(slice_at(22))
    assert desk.quantities() == {}


def test_a_position_older_than_our_fill_does_not_undo_it() -> None:
    """PEERS 11"""
    desk = verified(pos(100))
    desk.report(fill_report("f1", 50, at_s=10), at_s=10)
    for moment in (9, 12, 14.9):
        decision = desk.look(slice_at(moment, [pos(100)]), now=at(max(moment, 12)))
        assert desk.quantities() == {"net": 150}
        assert decision.recheck_at == at(15)
    desk.look(slice_at(15, [pos(150)]))
    assert desk.look(slice_at(16, [pos(150)])).status == "SUCCESS"


def test_a_correction_is_not_undone_by_an_older_answer() -> None:
    """PEERS 11"""
    desk = verified(pos(80))
    desk.look(slice_at(20, [pos(100)]))
    late = desk.look(slice_at(10, [pos(80)]), now=at(21))
    assert desk.quantities() == {"net": 100}
    assert late.status == "PARTIAL"
    closed = verified(pos(80))
    closed.look(slice_at(20))
    closed.look(slice_at(21))
    closed.look(slice_at(10, [pos(80)]), now=at(22))
    assert closed.quantities() == {}


def test_a_fill_is_not_undone_by_an_older_answer() -> None:
    """PEERS 11"""
    desk = verified(pos(80))
    desk.look(slice_at(20, [pos(100)], fills=[fill("x1", 20, at_s=15, order_id="X")]))
    desk.look(slice_at(14, [pos(80)]), now=at(21))
    assert desk.quantities() == {"net": 100}


def test_positions_that_lag_a_fill_in_the_same_answer_are_looked_at_again() -> None:
    desk = verified(pos(80))
    trade = [fill("x1", 20, at_s=9, order_id="X")]
    decision = desk.look(slice_at(10, [pos(80)], fills=trade))
    assert desk.quantities() == {"net": 100}
    assert (decision.status, decision.recheck_at) == ("PARTIAL", at(10.5))
    assert desk.look(slice_at(10.5, [pos(100)], fills=trade)).status == "SUCCESS"


def test_a_leg_shown_twice_with_different_values_is_unreadable() -> None:
    """Public MT5 gateways copy rows; which of them is right is not ours to guess."""
    desk = verified(pos(10, leg="1"), pos(5, leg="2"))
    rows = [pos(10, leg="1"), pos(99, leg="2"), pos(98, leg="2")]
    for moment in (10, 20):
        decision = desk.look(slice_at(moment, rows, conventions=TICKET))
        assert types(decision) == ["MALFORMED_DATA!"]
        assert desk.quantities() == {"1": 10, "2": 5}
        assert decision.status == "PARTIAL"
    again = desk.look(slice_at(30, [pos(10, leg="1"), pos(5, leg="2")] * 2, conventions=TICKET))
    assert again.status == "SUCCESS"
    assert not desk.book.breaks


def test_a_row_of_nothing_is_no_position() -> None:
    """IB and Kite keep flat rows; an adapter that lets one through must not have it added again and again."""
    desk = verified()
    assert desk.look(slice_at(10, [pos(0)])).events == ()
    ghost = verified(pos(100))
    ghost.look(slice_at(10, [pos(0)]))
    assert ghost.quantities() == {"net": 100}
    ghost.look(slice_at(11, [pos(0)]))
    assert ghost.quantities() == {}


def test_a_difference_within_the_tolerance_is_none_whatever_side_has_it() -> None:
    policy = Policy(quantity_tolerance=dec("0.001"))
    assert verified(policy=policy).look(slice_at(10, [pos("0.001")])).discrepancies == ()
    desk = verified(pos("0.0005"), policy=Policy())
    desk.policy = policy
    assert desk.look(slice_at(10)).discrepancies == ()
    assert desk.look(slice_at(11, [pos("0.0015")])).discrepancies == ()
    assert types(desk.look(slice_at(12, [pos("0.0016")]))) == ["POSITION_MISMATCH"]


def test_a_correction_above_the_limit_is_left_to_a_person() -> None:
    desk = verified(pos(10), policy=Policy(max_correction=dec(50)))
    for moment in (10, 20, 30):
        decision = desk.look(slice_at(moment, [pos(61)]))
        assert types(decision) == ["POSITION_MISMATCH!"]
        assert desk.quantities() == {"net": 10}
    opened = next(iter(desk.book.breaks.values()))
    assert opened.opened_at == at(10)
    assert desk.look(slice_at(40, [pos(60)])).status == "SUCCESS"
    assert desk.quantities() == {"net": 60}
    huge = verified(pos(100))
    huge.policy = Policy(max_correction=dec(50))
    for moment in (10, 20, 30):
        huge.look(slice_at(moment))
    assert huge.quantities() == {"net": 100}


def test_paper_mode_leaves_positions_alone() -> None:
    """FEATURES 19"""
    desk = Desk(Policy(positions=False))
    desk.report(position_report(5), at_s=0)
    for moment in (10, 20, 30):
        assert desk.look(slice_at(moment, [pos(100, leg="x")])).status == "SUCCESS"
    assert desk.quantities() == {"net": 5}


def test_recovery_comes_before_ghosts_and_ghosts_before_drift() -> None:
    """FEATURES 10"""
    desk = verified(pos(10, leg="1"), pos(10, leg="2"))
    rows = [pos(11, leg="2"), pos(10, leg="3")]
    desk.look(slice_at(10, [pos(10, leg="2")], conventions=TICKET))
    decision = desk.look(slice_at(11, rows, conventions=TICKET))
    synced = [e.payload["correction"] for e in decision.events if e.type is EventType.POSITION_SYNCED]
    assert synced == ["force_add_position", "force_close_position", "force_update_position"]
    assert [d.found.phase.value for d in decision.discrepancies] == ["RECOVERY", "GHOST", "DRIFT"]


def test_a_short_that_is_covered_outside_is_a_ghost_and_fills_explain_what_they_can() -> None:
    """PEERS 14"""
    desk = verified(pos(-100))
    trade = fill("x1", 60, at_s=5, order_id="X", side=Side.BUY)
    desk.look(slice_at(10, fills=[trade]))
    assert desk.quantities() == {"net": -40}
    desk.look(slice_at(11, fills=[trade]))
    desk.look(slice_at(12, fills=[trade]))
    assert desk.quantities() == {}


def test_both_sides_of_a_difference_are_shown() -> None:
    desk = verified(pos(80))
    decision = desk.look(slice_at(10, [pos(100)]))
    shown = decision.discrepancies[0].to_json()
    assert replace(decision.discrepancies[0].found).difference == "20"
    assert {key: shown[key] for key in ("key", "book_value", "broker_value", "resolved", "correction", "cause")} == {
        "key": "net",
        "book_value": "80",
        "broker_value": "100",
        "resolved": True,
        "correction": "force_update_position",
        "cause": "UNEXPLAINED",
    }


def test_a_slice_that_carries_an_earlier_answer_on_shows_a_ghost_and_proves_nothing() -> None:
    """Law 4: a mistake in the answer it rests on would confirm itself."""
    desk = verified(pos(100))
    for seconds in (10, 11, 12):
        desk.look(replace(slice_at(seconds), whole=False))
    assert desk.quantities() == {"net": 100}
    desk.look(slice_at(13))
    assert desk.quantities() == {"net": 100}
    desk.look(slice_at(14))
    assert desk.quantities() == {}


def test_a_leg_that_is_not_read_is_unknown_and_never_closed_and_the_other_legs_go_on() -> None:
    """Law 1: a COMPLETE section says nothing about what its adapter was asked not to read."""
    desk = verified(pos(24, leg="holdings"), pos(10, leg="MIS"), pos(3, leg="CNC"))
    unread = {"holdings": "the holdings are not read. Read them"}
    for seconds in (10, 11, 12):
        decision = desk.look(replace(slice_at(seconds, [pos(12, leg="MIS")]), unread_legs=unread))
    assert desk.quantities() == {"holdings": 24, "MIS": 12}
    assert decision.status == "PARTIAL"
    assert decision.unverified == ("leg holdings not known: the holdings are not read. Read them",)
    assert types(decision) == []
    assert desk.look(slice_at(13, [pos(24, leg="holdings"), pos(12, leg="MIS")])).status == "SUCCESS"


def test_a_leg_that_is_not_read_and_not_held_in_the_book_leaves_the_book_in_step() -> None:
    desk = verified(pos(10, leg="MIS"))
    unread = {"holdings": "not read"}
    assert desk.look(replace(slice_at(10, [pos(10, leg="MIS")]), unread_legs=unread)).status == "SUCCESS"


def test_a_ghost_that_was_seen_before_its_leg_was_no_longer_read_stays_open() -> None:
    desk = verified(pos(24, leg="holdings"))
    assert types(desk.look(slice_at(10))) == ["NAKED_POSITION!"]
    decision = desk.look(replace(slice_at(20), unread_legs={"holdings": "not read"}))
    assert types(decision) == ["NAKED_POSITION!"]
    assert desk.quantities() == {"holdings": 24}
