"""A book that somebody else keeps: its rows are our side of every comparison, and nothing in them is corrected here."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from actors.book.book import Book
from actors.book.checkpoint import checkpoint, replay, restore
from actors.book.discrepancies import Correction
from actors.book.policy import Correct, Policy
from actors.events import Event, EventType, Severity
from actors.reconciliation.decide import reconcile
from actors.reconciliation.grounds import Grounds, kept
from actors.reconciliation.recompute import entry_of, grounds_of
from actors.reconciliation.reconciliation_pass import ClaimCorrection, Decision, Status
from brokers.model import Claim, ClaimDoubt, Claims, Failed, Fill, Position, Section, Slice
from tests.unit.builders import ACCOUNT, INSTRUMENT, at, dec, fill, kinds, pos, records, slice_at

SETTLE_S = 5


def row(quantity: object, at_s: float, price: object | None = "1.1", leg: str = "net", by: str | None = None) -> Claim:
    return Claim(leg, dec(quantity), None if price is None else dec(price), at(at_s), discrepancy=by)


class Desk:
    """A book, looked at with what the broker and the other book say."""

    def __init__(self, **policy: object) -> None:
        self.policy = replace(Policy(max_age=timedelta(days=1)), **policy)  # type: ignore[arg-type]  # as the test gives them
        self.book = Book(ACCOUNT, INSTRUMENT)
        self.events: list[Event] = []

    def look(
        self,
        at_s: float,
        claims: list[Claim] | Claims,
        *broker: Position,
        fills: tuple[Fill, ...] = (),
        positions: Section[Position] | None = None,
    ) -> Decision:
        said = claims if isinstance(claims, Claims) else Claims(tuple(claims))
        shown = slice_at(at_s, positions if positions is not None else broker, fills=fills)
        made: Slice = replace(shown, claims=said, revision=f"{shown.revision}{said}")
        decision = reconcile(self.book, made, self.policy, at(at_s))
        self._can_be_made_again(made, at(at_s), decision)
        for event in decision.events:
            self.book.apply(event)
        self.events += decision.events
        again = reconcile(self.book, made, self.policy, at(at_s))
        assert again.events == (), "a second pass emits nothing"
        return decision

    def _can_be_made_again(self, slice_: Slice, now: datetime, decision: Decision) -> None:
        """From what would be kept of it."""
        made = kept(Grounds(self.book, slice_, self.policy, now, None), len(decision.events), None)
        read = grounds_of(entry_of(made.hash, made.entry), self.book, made.parts.get)
        assert read.decide().events == decision.events

    @property
    def quantity(self) -> Decimal:
        leg = self.book.leg("net")
        return Decimal(0) if leg is None else leg.quantity

    def open(self) -> list[tuple[str, str, str | None, str | None]]:
        found = self.book.breaks.values()
        return [(one.type.value, one.severity.value, one.book_value, one.broker_value) for one in found]


def test_a_book_in_step_is_what_its_rows_say_and_a_success() -> None:
    desk = Desk()
    done = desk.look(100, [row(5, 10)], pos(5))
    assert (done.status, kinds(desk.events)[0]) == (Status.SUCCESS, EventType.POSITION_RECORDED)
    assert desk.events[0].payload["claimed_at"] == "2024-01-02T09:00:10.000000Z"
    assert desk.look(200, [row(5, 10)], pos(5)).events == ()


@pytest.mark.parametrize(
    ("claims", "broker", "expected", "alias"),
    [
        ([], ["7"], ("MISSING_LOCALLY", "WARNING", None, "7"), "MISSING_FROM_DELTA"),
        ([row(0, 10)], ["7"], ("MISSING_LOCALLY", "WARNING", None, "7"), "MISSING_FROM_DELTA"),
        ([row(5, 10)], [], ("NAKED_POSITION", "CRITICAL", "5", None), "NAKED_POSITION"),
        ([row(5, 10)], ["7"], ("POSITION_MISMATCH", "WARNING", "5", "7"), "POSITION_MISMATCH"),
        ([row(5, 10)], ["-7"], ("POSITION_MISMATCH", "CRITICAL", "5", "-7"), "POSITION_MISMATCH"),
        ([row(5, 10, "1.2")], ["5"], ("PRICE_MISMATCH", "INFO", "1.2", "1.1"), None),
    ],
)
def test_a_difference_is_reported_and_stays_until_a_row_says_otherwise(
    claims: list[Claim], broker: list[str], expected: tuple[str, str, str | None, str | None], alias: str | None
) -> None:
    """FEATURES 25"""
    desk = Desk()
    held = [pos(one) for one in broker]
    for at_s in (100, 110, 120):
        done = desk.look(at_s, claims, *held)
        assert (done.status, desk.open()) == (Status.PARTIAL, [expected])
    assert next(iter(desk.book.breaks.values())).alias == alias
    done = desk.look(130, [row(broker[0] if broker else 0, 119)], *held)
    assert (done.status, desk.open()) == (Status.SUCCESS, [])


def test_nothing_is_corrected_in_our_book() -> None:
    desk = Desk(correct=Correct.AUTO)
    for at_s in (100, 110, 120):
        desk.look(at_s, [row(5, 10)], pos(7))
    assert desk.quantity == 5
    assert EventType.POSITION_SYNCED not in kinds(desk.events)


def test_a_fill_that_the_rows_do_not_have_is_waited_for_and_then_a_difference() -> None:
    desk = Desk()
    desk.look(100, [row(5, 10)], pos(5))
    done = desk.look(200, [row(5, 10)], pos(8), fills=(fill("f1", 3, at_s=199),))
    assert (desk.quantity, desk.open(), done.recheck_at) == (dec(8), [], at(200 + SETTLE_S))
    desk.look(206, [row(5, 10)], pos(8))
    assert desk.open() == [("POSITION_MISMATCH", "WARNING", "5", "8")]
    assert desk.look(220, [row(8, 210)], pos(8)).status is Status.SUCCESS


def test_a_fill_that_the_rows_have_already_is_counted_once() -> None:
    desk = Desk()
    desk.look(100, [row(5, 10)], pos(5))
    done = desk.look(210, [row(8, 201)], pos(8), fills=(fill("f1", 3, at_s=199),))
    assert (desk.quantity, done.status) == (dec(8), Status.SUCCESS)


def test_a_row_written_just_now_is_not_compared_with_an_answer_from_before_it_settled() -> None:
    desk = Desk()
    done = desk.look(100, [row(5, 98)], pos(3))
    assert (done.recheck_at, desk.open()) == (at(98 + SETTLE_S), [])
    desk.look(103, [row(5, 98)], pos(3))
    assert desk.open() == [("POSITION_MISMATCH", "WARNING", "5", "3")]


# Unknown is not flat

STALE = ClaimDoubt(None, stale=True, text="its newest row is old")
UNREAD = ClaimDoubt("net", stale=False, text="null in column qty")


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        (Claims((), (STALE,)), ("STALE_DATA", "WARNING", STALE.text, None)),
        (Claims((), (UNREAD,)), ("MALFORMED_DATA", "WARNING", UNREAD.text, None)),
    ],
)
def test_a_book_that_is_not_known_closes_nothing_and_is_never_in_step(
    claims: Claims, expected: tuple[str, str, str | None, str | None]
) -> None:
    desk = Desk()
    desk.look(100, [row(5, 10)], pos(5))
    for broker in ((), (pos(5),), (pos(9),)):
        done = desk.look(200, claims, *broker)
        assert (done.status, desk.quantity, desk.open()) == (Status.PARTIAL, dec(5), [expected])
        assert done.unverified
    done = desk.look(300, [row(5, 10)], pos(5))
    assert (done.status, desk.open()) == (Status.SUCCESS, [])


@pytest.mark.parametrize(
    ("claims", "words"),
    [([], "its row of"), ([row(2, 9)], "restored to an older version")],
)
def test_a_row_that_vanished_or_gave_way_to_an_older_one_is_stale(claims: list[Claim], words: str) -> None:
    desk = Desk()
    desk.look(100, [row(5, 10)], pos(5))
    desk.book = replayed(desk)  # also after a restart
    desk.look(200, claims, pos(2))
    [(kind, _, said, _)] = desk.open()
    assert (kind, desk.quantity) == ("STALE_DATA", dec(5))
    assert words in str(said)
    assert desk.look(300, [row(2, 250)], pos(2)).status is Status.SUCCESS


def test_a_leg_that_there_cannot_be_at_the_broker_is_malformed_and_nothing_is_compared() -> None:
    desk = Desk()
    desk.look(100, [row(5, 10)], pos(5))
    desk.look(200, [row(7, 110, leg="NET")], pos(5))
    [(kind, _, said, _)] = desk.open()
    assert (kind, desk.quantity) == ("MALFORMED_DATA", dec(5))
    assert "book.columns.leg" in str(said)


def test_a_leg_that_our_book_had_before_and_no_row_ever_is_not_held_by_the_other_book() -> None:
    desk = Desk()
    payload = {"leg": "net", "quantity": "5", "average_price": "1.1", "watermark": "2024-01-02T09:00:00.000000Z"}
    desk.book.apply(Event("e", EventType.POSITION_SYNCED, Severity.INFO, at(0), {**payload, "correction": None}))
    desk.look(100, [], pos(5))
    assert desk.open() == [("MISSING_LOCALLY", "WARNING", None, "5")]


def test_a_failed_section_of_the_broker_closes_no_break_and_opens_none() -> None:
    desk = Desk()
    desk.look(100, [row(5, 10)], pos(7))
    before = desk.open()
    desk.look(200, [row(5, 10)], positions=Failed("away"))
    assert (desk.open(), desk.quantity) == (before, dec(5))


# Numbers


def test_a_narrow_column_is_compared_within_its_last_place() -> None:
    desk = Desk()
    narrow = replace(row("1.01", 10, "1.1"), quantity_step=dec("0.01"))
    assert desk.look(100, [narrow], pos("1.014")).status is Status.SUCCESS
    assert desk.look(110, [narrow], pos("1.03")).status is Status.PARTIAL


def test_a_book_without_prices_has_quantities_compared_alone() -> None:
    desk = Desk()
    assert desk.look(100, [row(5, 10, None)], pos(5, "7")).status is Status.SUCCESS
    assert desk.look(110, [row(5, 10, None)], pos(5, "8")).status is Status.SUCCESS


# Rows that the other book lacks


def test_what_a_row_lacks_is_wanted_and_ends_its_break_by_the_row_that_was_written_for_it() -> None:
    desk = Desk()
    done = desk.look(100, [row(5, 10)], pos(7, "1.3"))
    [wanted] = done.claim_corrections
    [found] = list(desk.book.breaks.values())
    assert wanted == ClaimCorrection(found.id, "net", dec(7), dec("1.3"))
    # The broker goes on meanwhile: what differs from the row of ours is a break of its own.
    desk.look(120, [row(7, 101, "1.3", by=found.id)], pos(9, "1.3"))
    [other] = list(desk.book.breaks.values())
    assert other.id != found.id
    resolved = [event for event in desk.events if event.type is EventType.DISCREPANCY_RESOLVED]
    assert [event.payload["correction"] for event in resolved] == [Correction.FORCE_UPDATE_POSITION.value]


def test_a_row_that_takes_a_position_away_is_wanted_only_with_proof() -> None:
    desk = Desk(confirmations=2, confirm_gap=timedelta(seconds=1))
    assert desk.look(100, [row(5, 10)]).claim_corrections == ()
    [wanted] = desk.look(102, [row(5, 10)]).claim_corrections
    assert (wanted.quantity, wanted.average_price) == (dec(0), None)


@pytest.mark.parametrize("policy", [{"correct": Correct.ALERT}, {"max_correction": dec(1)}])
def test_nothing_is_wanted_where_only_alerts_are_or_it_is_too_much(policy: dict[str, object]) -> None:
    desk = Desk(**policy)
    assert desk.look(100, [row(5, 10)], pos(7)).claim_corrections == ()
    assert desk.open() == [("POSITION_MISMATCH", "WARNING", "5", "7")]


# The journal


def replayed(desk: Desk) -> Book:
    made = replay(ACCOUNT, INSTRUMENT, records(desk.events))
    assert checkpoint(made) == checkpoint(desk.book)
    return made


def test_a_checkpoint_keeps_which_rows_set_the_legs() -> None:
    desk = Desk()
    desk.look(100, [row(5, 10)], pos(5))
    again = Book(ACCOUNT, INSTRUMENT)
    restore(again, checkpoint(desk.book), desk.book.version)
    assert again.claimed == desk.book.claimed == {"net": at(10)}


def test_a_section_is_as_known_as_its_doubts_say() -> None:
    assert [Claims((), doubts).completeness.value for doubts in ((), (UNREAD,), (STALE,))] == [
        "COMPLETE", "PARTIAL", "FAILED",
    ]  # fmt: skip
