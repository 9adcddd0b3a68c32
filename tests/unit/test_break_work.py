"""The work on a break: what may follow what, who may approve, and that an approval is of one content alone."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.book.break_work import (
    TRANSITIONS,
    UNTOUCHED,
    BreakAction,
    BreakRefused,
    BreakRequest,
    BreakState,
    BreakWork,
    act,
    after_change,
    approved_for,
    folded,
    person,
    sides_of,
    state_at,
    work_from,
    work_to,
)
from actors.book.discrepancies import Break, Correction, DiscrepancyType, Phase
from actors.events import Event, EventType, Severity
from tests.unit.builders import at

FOUND = Break(
    "b1", DiscrepancyType.POSITION_MISMATCH, "net", Severity.WARNING, Phase.DRIFT, None, "100", "150", "50", at(0),
    offers=Correction.FORCE_UPDATE_POSITION,
)  # fmt: skip
ALICE, BOB, CAROL = "alice@desk", "bob@desk", "carol@desk"


def asked(action: str, by: str = ALICE, found: Break = FOUND, **terms: Any) -> BreakRequest:
    kind = BreakAction(action)
    usual: dict[str, Any] = {"reason": "OTHER", "sides": sides_of(found)}
    if kind in (BreakAction.ACKNOWLEDGE, BreakAction.WAIVE):
        usual["until"] = at(3600)
    if kind is BreakAction.ASSIGN:
        usual = {"owner": "desk 2"}
    return BreakRequest(kind, by, **{**usual, **terms})


def after(
    *requests: BreakRequest, work: BreakWork = UNTOUCHED, found: Break = FOUND, four_eyes: bool = False
) -> BreakWork:
    for number, request in enumerate(requests, 1):
        kind, payload = act(found, work, request, four_eyes=four_eyes, now=at(number))
        work = folded(work, Event(str(number), kind, Severity.INFO, at(number), payload))
    return work


def test_it_goes_from_open_to_acknowledged_to_proposed_to_approved_and_names_each_hand() -> None:
    work = after(asked("acknowledge"), asked("propose", note="as asked"), asked("approve", BOB, reason="MANUAL_TRADE"))
    assert work.state is BreakState.APPROVED
    hands = [(hand.by, hand.at, hand.reason) for hand in (work.acknowledged, work.proposed, work.approved) if hand]
    assert hands == [(ALICE, at(1), "OTHER"), (ALICE, at(2), "OTHER"), (BOB, at(3), "MANUAL_TRADE")]
    assert (work.owner, work.note) == (ALICE, "as asked")


@pytest.mark.parametrize("action", BreakAction)
@pytest.mark.parametrize(
    "before", [BreakState.OPEN, BreakState.ACKNOWLEDGED, BreakState.PROPOSED, BreakState.APPROVED, BreakState.WAIVED]
)
def test_what_the_table_does_not_allow_is_refused_with_what_to_do(action: BreakAction, before: BreakState) -> None:
    work = after(*{
        BreakState.OPEN: (),
        BreakState.ACKNOWLEDGED: (asked("acknowledge"),),
        BreakState.PROPOSED: (asked("propose"),),
        BreakState.APPROVED: (asked("approve"),),
        BreakState.WAIVED: (asked("waive"),),
    }[before])  # fmt: skip
    assert work.state is before
    if before in TRANSITIONS[action]:
        assert after(asked(action), work=work).state is TRANSITIONS[action][before]
        return
    with pytest.raises(BreakRefused, match=rf"{action} break b1 .*: it is {before} by alice.*Waive it"):
        after(asked(action), work=work)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (asked("approve", sides=("100", "160")), "is now book 100, broker 150. Look at it again"),
        (asked("approve", sides=None), "does not give both sides' values"),
        (asked("approve", reason=None), "no reason is given"),
        (asked("acknowledge", until=None), "does not say until when"),
        (asked("waive", until=at(-1)), "is over"),
        (asked("assign", owner=None), "neither an owner nor a note"),
        (asked("acknowledge", by=""), "names no person"),
        (asked("propose", found=replace(FOUND, offers=None)), "no correction of it waits for a person"),
    ],
)
def test_a_request_that_cannot_be_is_refused_and_nothing_is_done(request_: BreakRequest, says: str) -> None:
    found = replace(FOUND, offers=None) if "no correction" in says else FOUND
    with pytest.raises(BreakRefused, match=says):
        after(request_, found=found)


def test_a_refusal_survives_a_pickle() -> None:
    refused = BreakRefused("approve break b1", "it is gone", "List them.")
    again = pickle.loads(pickle.dumps(refused))  # noqa: S301 - our own bytes
    assert (str(again), again.remedy) == (str(refused), "List them.")


def test_what_was_acknowledged_or_waived_is_open_again_when_its_time_is_over() -> None:
    for action in ("acknowledge", "waive"):
        work = after(asked(action, until=at(60)))
        assert state_at(work, at(59)) is not BreakState.OPEN
        assert state_at(work, at(60)) is BreakState.OPEN


def test_with_four_eyes_the_first_persons_approval_is_a_proposal_and_another_one_approves() -> None:
    proposed = after(asked("approve"), four_eyes=True)
    assert proposed.state is BreakState.PROPOSED
    with pytest.raises(BreakRefused, match="alice proposed it, and four_eyes is set"):
        after(asked("approve"), work=proposed, four_eyes=True)
    with pytest.raises(BreakRefused, match="alice proposed it"):
        after(asked("approve", "alice@another-machine"), work=proposed, four_eyes=True)
    assert after(asked("approve", BOB), work=proposed, four_eyes=True).state is BreakState.APPROVED


def test_with_four_eyes_who_acknowledged_it_as_it_is_does_not_approve_it() -> None:
    taken = after(asked("acknowledge"), four_eyes=True)
    assert after(asked("approve", BOB), work=taken, four_eyes=True).state is BreakState.APPROVED
    by_the_same = after(asked("approve"), work=taken, four_eyes=True)
    assert by_the_same.state is BreakState.PROPOSED
    handed_on = after(asked("acknowledge"), asked("propose", BOB), four_eyes=True)
    with pytest.raises(BreakRefused, match="alice acknowledged it as it now is"):
        after(asked("approve"), work=handed_on, four_eyes=True)
    assert after(asked("approve", CAROL), work=handed_on, four_eyes=True).state is BreakState.APPROVED


def test_who_acknowledged_another_difference_is_no_second_pair_of_eyes() -> None:
    other = replace(FOUND, broker_value="90000")
    work = after_change(after(asked("acknowledge"), four_eyes=True), FOUND, other)
    alone = after(asked("approve", BOB, other), work=work, found=other, four_eyes=True)
    assert alone.state is BreakState.PROPOSED


@pytest.mark.parametrize("other", [replace(FOUND, book_value="7"), replace(FOUND, broker_value="7")])
def test_a_change_of_either_side_ends_an_approval_for_good(other: Break) -> None:
    work = after_change(after(asked("approve")), FOUND, other)
    assert (work.state, work.approved) == (BreakState.OPEN, None)
    back = after_change(work, other, FOUND)
    assert approved_for(back, sides_of(FOUND), at(100)) is None


def test_more_sightings_of_the_same_difference_leave_an_approval_as_it_is() -> None:
    work = after(asked("approve"))
    assert after_change(work, FOUND, replace(FOUND, seen_at=(at(5),), halts=True)) == work


def test_an_acknowledgement_ends_where_the_break_becomes_graver() -> None:
    work = after(asked("acknowledge"))
    graver = after_change(work, FOUND, replace(FOUND, severity=Severity.CRITICAL, broker_value="-5"))
    assert graver.state is BreakState.OPEN
    assert after_change(work, FOUND, replace(FOUND, broker_value="151")).state is BreakState.ACKNOWLEDGED


def test_an_approval_is_of_what_the_broker_says_afterwards() -> None:
    work = after(asked("approve"))
    assert approved_for(work, sides_of(FOUND), at(0)) is None
    assert approved_for(work, sides_of(FOUND), at(1)) is not None
    assert approved_for(work, ("100", "151"), at(1)) is None


_STEPS = st.lists(
    st.tuples(
        st.sampled_from([*BreakAction, "changes", "passes"]),
        st.sampled_from([ALICE, BOB, CAROL, "alice@home"]),
        st.sampled_from(["150", "151"]),
        st.booleans(),
    ),
    max_size=14,
)


@given(_STEPS, st.booleans())
def test_whatever_happens_what_is_approved_was_approved_as_it_is_by_a_second_person_where_that_is_asked(
    steps: list[tuple[Any, str, str, bool]], four_eyes: bool
) -> None:
    found, work, now = FOUND, UNTOUCHED, at(0)
    for step, by, value, up_to_date in steps:
        now += timedelta(seconds=600)
        if step == "changes":
            new = replace(found, broker_value=value)
            work, found = after_change(work, found, new), new
        elif step != "passes":
            until = now + timedelta(seconds=700)
            sides = sides_of(found) if up_to_date else ("100", value)
            try:
                request = asked(step, by, found, sides=sides) if step is not BreakAction.ASSIGN else asked(step, by)
                request = replace(request, until=until if request.until is not None else None)
                kind, payload = act(found, work, request, four_eyes=four_eyes, now=now)
            except BreakRefused:
                continue
            work = folded(work, Event("e", kind, Severity.INFO, now, payload))
        assert work_from(work_to(work)) == work
        if work.state in (BreakState.APPROVED, BreakState.PROPOSED):
            hand = work.approved if work.state is BreakState.APPROVED else work.proposed
            assert hand is not None
            assert hand.sides == sides_of(found)
        if work.state is BreakState.APPROVED and four_eyes:
            others = [h for h in (work.proposed, work.acknowledged) if h is not None and h.sides == sides_of(found)]
            assert others
            assert work.approved is not None
            assert all(person(h.by) != person(work.approved.by) for h in others)


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"note": "x" * 2001}, "the note has 2001 characters, and 2000 are the most"),
        ({"note": " "}, "the note is empty"),
        ({"owner": ""}, "the owner is empty"),
        ({"owner": " \t"}, "the owner is empty"),
        ({"owner": "x" * 101}, "the owner has 101 characters, and 100 are the most"),
    ],
)
def test_words_that_say_nothing_or_too_much_are_refused(terms: dict[str, Any], says: str) -> None:
    with pytest.raises(BreakRefused, match=says):
        act(FOUND, UNTOUCHED, asked("assign", **terms), four_eyes=False, now=at(1))
    assert after(asked("assign", owner="x" * 100, note="x" * 2000)).owner == "x" * 100


def test_a_break_is_taken_from_its_owner_by_assigning_it_to_nobody() -> None:
    work = after(asked("acknowledge"), asked("assign", owner="nobody", note="gone home"))
    assert (work.owner, work.note, work.state) == (None, "gone home", BreakState.ACKNOWLEDGED)
    # What an earlier version wrote of nobody is what it was then.
    old = Event("1", EventType.BREAK_ASSIGNED, Severity.INFO, at(1), {"id": "b1", "by": ALICE, "owner": "nobody"})
    assert folded(UNTOUCHED, old).owner == "nobody"
