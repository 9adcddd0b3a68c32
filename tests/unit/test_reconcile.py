"""A pass as a whole: its status, its age, its memory, and that the same input gives the same events."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from actors.book.book import Book
from actors.book.checkpoint import checkpoint
from actors.book.policy import Correct, Policy
from actors.events import EventType, Severity
from actors.reconciliation.decide import reconcile
from brokers.clocks import broker_time
from brokers.model import Failed, OrderStatus, RowProblem, SectionName, Slice, Unsupported, section
from tests.unit.builders import FAILED, T0, Desk, at, dec, fill, kinds, order, order_report, pos, slice_at, types


def problem(name: SectionName, key: str | None = "7") -> RowProblem:
    return RowProblem(name, "EURUSD", key, "what is this")


@pytest.mark.parametrize(
    ("slice_", "status"),
    [
        pytest.param(slice_at(10, [pos(1)]), "SUCCESS", id="in step"),
        pytest.param(slice_at(10, [pos(1)], Unsupported(), Unsupported()), "SUCCESS", id="no orders, no fills there"),
        pytest.param(slice_at(10, Unsupported()), "SUCCESS", id="no positions there"),
        pytest.param(slice_at(10, FAILED), "PARTIAL", id="positions failed"),
        pytest.param(slice_at(10, [pos(1)], FAILED), "PARTIAL", id="orders failed"),
        pytest.param(slice_at(10, [pos(1)], [], FAILED), "PARTIAL", id="fills failed"),
        pytest.param(slice_at(10, section([pos(1)], [problem(SectionName.POSITIONS)])), "PARTIAL", id="unreadable row"),
        pytest.param(slice_at(10), "PARTIAL", id="a break is open"),
    ],
)
def test_the_status_of_a_pass(slice_: Slice, status: str) -> None:
    """FEATURES 12"""
    desk = Desk()
    desk.look(slice_at(0, [pos(1)]))
    assert desk.look(slice_).status == status
    assert desk.quantities() == {"net": 1}


def test_a_slice_of_another_account_or_instrument_is_an_error_of_ours() -> None:
    """PEERS 2"""
    desk = Desk()
    desk.look(slice_at(0, [pos(1)]))
    desk.look(slice_at(1, [pos(1)], revision="same"))
    for wrong in (slice_at(2, [pos(1)], revision="same", account="other"), slice_at(2, instrument="GBPUSD")):
        with pytest.raises(ValueError, match="acc/EURUSD"):
            reconcile(desk.book, wrong, desk.policy, at(2))


def test_an_unreadable_row_is_a_break_until_it_can_be_read() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(1)]))
    broken = section([pos(2)], [problem(SectionName.POSITIONS)])
    first = desk.look(slice_at(10, broken))
    assert types(first) == ["MALFORMED_DATA!", "POSITION_MISMATCH"]
    assert desk.quantities() == {"net": 2}
    assert desk.look(slice_at(11, broken)).events == ()
    assert types(desk.look(slice_at(12, FAILED))) == ["MALFORMED_DATA!"]
    assert desk.look(slice_at(13, [pos(2)])).status == "SUCCESS"


ONE = problem(SectionName.POSITIONS, "1")
ANOTHER, NAMELESS = replace(ONE, text="nor this"), replace(ONE, key=None, text="no id")


@pytest.mark.parametrize(
    ("first", "then", "breaks"),
    [
        pytest.param(
            [ONE, NAMELESS], [ONE, NAMELESS], 2, id="one without an id at the place that another has as its id"
        ),
        pytest.param([ONE, ANOTHER], [ANOTHER, ONE], 1, id="two of one id, in another order"),
    ],
)
def test_two_unreadable_rows_never_take_turns_at_one_break(
    first: list[RowProblem], then: list[RowProblem], breaks: int
) -> None:
    """They would be written at every look, for as long as the broker shows them."""
    desk = Desk()
    desk.look(slice_at(0, [pos(1)]))
    assert len(desk.look(slice_at(10, section([pos(1)], first))).events) == breaks
    assert desk.look(slice_at(20, section([pos(1)], then))).events == ()


def test_a_row_in_doubt_says_when_a_verdict_is_to_look_again() -> None:
    """FEATURES 11: it waits, within bounds, for what it needs."""
    desk = Desk()
    desk.look(slice_at(0, [pos(1)]))
    doubt = replace(problem(SectionName.POSITIONS), again_at=at(20))
    first = desk.look(slice_at(10, section([pos(1)], [doubt])))
    assert (first.status, first.recheck_at) == ("PARTIAL", at(20))
    assert desk.look(slice_at(11, section([pos(1)], [problem(SectionName.POSITIONS)]))).recheck_at is None
    assert desk.look(slice_at(20, [pos(1)])).status == "SUCCESS"


def test_an_unreadable_row_of_no_instrument_makes_the_section_partial_and_is_the_accounts() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(1)]))
    nobodys = RowProblem(SectionName.POSITIONS, None, None, "what is this")
    decision = desk.look(slice_at(10, section([], [nobodys])))
    assert (decision.status, decision.discrepancies) == ("PARTIAL", ())


def test_an_old_answer_is_stale_and_nothing_is_concluded_from_it() -> None:
    """FEATURES 25"""
    desk = Desk(Policy(max_age=timedelta(seconds=30), unverified=timedelta(seconds=60)))
    desk.look(slice_at(0, [pos(1)]))
    old = slice_at(10, [pos(5)])
    first = desk.look(old, now=at(45))
    assert [(d.found.type.value, d.found.severity) for d in first.discrepancies] == [("STALE_DATA", Severity.WARNING)]
    worse = desk.look(old, now=at(75))
    assert [d.found.severity for d in worse.discrepancies] == [Severity.CRITICAL]
    assert desk.quantities() == {"net": 1}
    assert desk.look(slice_at(80, [pos(1)])).status == "SUCCESS"
    assert not desk.book.breaks


def test_the_fills_of_an_answer_too_old_to_act_on_are_asked_for_again() -> None:
    """FEATURES 25: what was not dealt with is not passed over."""
    desk = Desk(Policy(max_age=timedelta(seconds=30)))
    desk.look(slice_at(0, [pos(1)]))
    late = slice_at(10, [pos(3)], [], [fill("f1", 2, at_s=9)])
    assert late.fills_cursor is not None
    decision = desk.look(late, now=at(45))
    assert (decision.cursor, "f1" in desk.book.applied) == (None, False)
    assert desk.look(late, now=at(20)).cursor == late.fills_cursor
    assert desk.quantities() == {"net": 3}


def test_fills_that_the_broker_no_longer_has_are_reported_once_and_the_next_ones_are_fills_again() -> None:
    """FEATURES 16: what is lost is said, in the journal, with the place from which it goes on."""
    desk = Desk()
    desk.look(slice_at(0, [pos(1)]))
    lost = replace(slice_at(10, [pos(3)], [], Failed("no longer listed. Look them up")), fills_cursor=10_000)
    first = desk.look(lost)
    assert types(first) == ["STALE_DATA!", "POSITION_MISMATCH"]
    assert (first.status, first.recheck_at) == ("PARTIAL", at(10))
    second = desk.look(slice_at(11, [pos(3)]))
    assert (second.status, kinds(second.events)) == ("SUCCESS", ["DISCREPANCY_RESOLVED", "RECONCILED"])
    assert desk.book.cursor == 11_000
    third = desk.look(slice_at(20, [pos(4)], [], [fill("f2", 1, at_s=15)]))
    assert types(third) == ["MISSED_FILL"]
    assert desk.quantities() == {"net": 4}


def test_an_answer_remembered_as_clean_goes_stale_all_the_same() -> None:
    desk = Desk(Policy(max_age=timedelta(seconds=30)))
    for moment in (0, 1):
        desk.look(slice_at(moment, [pos(1)], revision="same"))
    again = slice_at(1, [pos(1)], revision="same")
    assert desk.look(again, now=at(20)).status == "SUCCESS"
    assert types(desk.look(again, now=at(40))) == ["STALE_DATA!"]


def test_a_book_that_cannot_be_verified_for_too_long_is_a_break() -> None:
    desk = Desk(Policy(max_age=timedelta(seconds=30), unverified=timedelta(seconds=60)))
    desk.look(slice_at(0, [pos(1)]))
    assert desk.look(slice_at(29, FAILED)).discrepancies == ()
    assert types(desk.look(slice_at(31, FAILED))) == ["STALE_DATA!"]
    desk.restart()
    assert [d.found.severity for d in desk.look(slice_at(61, FAILED)).discrepancies] == [Severity.CRITICAL]


def test_an_unchanged_slice_is_answered_from_memory_until_anything_changes() -> None:
    desk = Desk()
    for moment in (0, 1):
        desk.look(slice_at(moment, [pos(1)], revision="same"))
    assert desk.book.clean == "same"
    unread = slice_at(2, [pos(999)], revision="same")
    assert reconcile(desk.book, unread, desk.policy, at(2)).status == "SUCCESS"
    other = replace(desk.policy)
    assert reconcile(desk.book.fork(), unread, other, at(2)).events != ()
    desk.report(order_report("c1"), at_s=3)
    assert desk.book.clean is None


def test_a_slice_that_is_not_in_step_is_not_remembered() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(1)]))
    for moment in (10, 10.1):
        desk.look(slice_at(moment, revision="same"))
        assert desk.book.clean is None


def test_evidence_of_clean_cycles_is_written_at_most_every_five_minutes() -> None:
    desk = Desk()
    written = []
    for moment in range(0, 1200, 60):
        written += kinds(desk.look(slice_at(moment, [pos(1)], revision="same")).events)
    assert written.count(EventType.RECONCILED) == 4
    assert len(written) == 4 + 2  # and what the first pass found


def test_the_same_cold_start_twice_gives_the_same_events() -> None:
    """PEERS 5"""
    slice_ = slice_at(0, [pos(1)], [order("B1"), order("B2", 5, 5, OrderStatus.FILLED)], [fill("f1", 5, order_id="B2")])
    first, second = (reconcile(Book("acc", "EURUSD"), slice_, Policy(), T0) for _ in range(2))
    assert first == second
    assert first.events
    elsewhere = reconcile(Book("other", "EURUSD"), replace(slice_, account="other"), Policy(), T0)
    assert not {e.event_id for e in first.events} & {e.event_id for e in elsewhere.events}


def test_a_pass_does_not_change_the_book() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(1)]))
    before = checkpoint(desk.book)
    reconcile(desk.book, slice_at(10, [pos(7, leg="x")], [order("B1")]), desk.policy, at(10))
    assert checkpoint(desk.book) == before


def alerting(*held: object) -> Desk:
    desk = Desk(Policy(Correct.ALERT))
    desk.report(order_report("c1", "B1", status=OrderStatus.OPEN), at_s=-60)
    desk.look(slice_at(0, orders=[order("B1")]))
    return desk


@pytest.mark.parametrize(
    ("slice_", "found"),
    [
        pytest.param(slice_at(10, [pos(5)], [order("B1")]), ["MISSING_LOCALLY!"], id="zombie"),
        pytest.param(slice_at(10, [], [order("B1", 100, 100, OrderStatus.FILLED)]), ["MISSED_FILL!"], id="filled"),
        pytest.param(slice_at(10, [], [order("B1", 50)]), ["ORDER_STATUS_MISMATCH!"], id="amended"),
        pytest.param(slice_at(10, [], [order("B1", status=OrderStatus.REJECTED)]), ["ORDER_REJECTED!"], id="rejected"),
        pytest.param(slice_at(10, [], [order("B1"), order("B9")]), ["EXTERNAL_ORDER!"], id="external order"),
        pytest.param(slice_at(10, [pos(7)], [order("B1")], [fill("x1", 7, at_s=5, order_id="X")]), ["MISSED_FILL!"],
                     id="an external trade, and the position it explains"),
        pytest.param(slice_at(10), ["ORDER_MISSING!"], id="missing order"),
    ],
)  # fmt: skip
def test_under_alert_differences_are_reported_once_and_stay_open(slice_: Slice, found: list[str]) -> None:
    """PEERS 10, FEATURES 11"""
    desk = alerting()
    before = checkpoint(desk.book)
    decision = desk.look(slice_)
    assert types(decision) == found
    assert set(kinds(decision.events)) == {EventType.RECONCILIATION_DISCREPANCY}
    assert decision.status == "PARTIAL"
    after = checkpoint(desk.book)
    assert {k: v for k, v in after.items() if k != "breaks"} == {k: v for k, v in before.items() if k != "breaks"}
    later = desk.look(replace(slice_, requested_at=at(400), as_of=broker_time(at(400))))
    assert types(later) == found
    assert later.events == ()


def test_what_alert_reported_is_corrected_once_that_is_allowed() -> None:
    desk = alerting()
    slice_ = slice_at(10, [pos(5)], [order("B1")])
    desk.look(slice_)
    desk.policy = Policy()
    decision = desk.look(replace(slice_, requested_at=at(11), as_of=broker_time(at(11))))
    assert types(decision) == ["MISSING_LOCALLY"]
    assert EventType.DISCREPANCY_RESOLVED in kinds(decision.events)
    assert desk.quantities() == {"net": 5}
    assert not desk.book.breaks


def test_every_payload_is_made_of_what_json_can_hold() -> None:
    def check(value: object) -> None:
        assert value is None or isinstance(value, bool | int | str | list | dict), value
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(inner)

    desk = Desk()
    desk.look(slice_at(0, [pos("0.00000001", "12345678901234567890.123456789")], [order("B1", "1E+3", "1E+1")]))
    desk.look(slice_at(10, [], [order("B1", 1000, 1000, OrderStatus.FILLED, average="1E-7")]))
    for event in desk.events:
        check(dict(event.payload))
        assert "E" not in str(event.payload.get("quantity", ""))
    assert desk.quantities() == {"net": dec("0.00000001")} or desk.quantities()
