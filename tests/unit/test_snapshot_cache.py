"""What an account actor keeps of its snapshots: revisions, fills and who has had them, unreadable rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.account.snapshot_cache import SnapshotCache
from actors.messages import SliceRequest, Unchanged
from brokers.clocks import broker_time
from brokers.model import (
    Complete,
    Conventions,
    Failed,
    Fill,
    LegScheme,
    Order,
    Partial,
    Position,
    RowProblem,
    Section,
    SectionName,
    Slice,
    Snapshot,
    Unsupported,
    rows_of,
)
from tests.unit.builders import at, dec, fill, order, pos
from tests.unit.fakes import problem

A, B = "EURUSD", "GBPUSD"


def shot(
    seconds: float,
    positions: Section[Position] | list[Position] | tuple[Position, ...] = (),
    fills: Section[Fill] | list[Fill] | tuple[Fill, ...] = (),
    cursor: int | None = 0,
    *,
    orders: Section[Order] | list[Order] | tuple[Order, ...] = (),
    conventions: Conventions = Conventions(),  # noqa: B008 - frozen
) -> Snapshot:
    return Snapshot(
        at(seconds),
        broker_time(at(seconds)),
        Complete(tuple(positions)) if isinstance(positions, list | tuple) else positions,
        Complete(tuple(orders)) if isinstance(orders, list | tuple) else orders,
        Complete(tuple(fills)) if isinstance(fills, list | tuple) else fills,
        cursor,
        conventions,
    )


def ask(
    ledger: SnapshotCache, since: int | None = None, known: str | None = None, instrument: str = A, at_s: float = 0
) -> Slice | Unchanged:
    return ledger.slice(SliceRequest(instrument, at(at_s), since, known))


def whole(answer: Slice | Unchanged) -> Slice:
    assert isinstance(answer, Slice)
    return answer


def ids(answer: Slice | Unchanged) -> list[str]:
    return [row.fill_id for row in rows_of(whole(answer).fills)]


def a_ledger(*snapshots: tuple[Snapshot, int | None], incarnation: str = "i1") -> SnapshotCache:
    ledger = SnapshotCache("acc", incarnation)
    for snapshot, since in snapshots:
        ledger.take(snapshot, since)
    return ledger


# Revisions


@pytest.mark.parametrize(
    ("second", "changed"),
    [
        (shot(1, [pos(5)]), False),
        (shot(1, [pos(6)]), True),
        (shot(1, []), True),
        (shot(1, [pos(5)], orders=[order("1")]), True),
        (shot(1, [pos(5)], [fill("f", 1)], 1), True),
        (shot(1, Failed("no")), True),
        (shot(1, Partial((pos(5),), (problem(SectionName.POSITIONS, A),))), True),
        (shot(1, Partial((pos(5),), (problem(SectionName.POSITIONS, B),))), False),
        (shot(1, [pos(5)], Failed("no")), True),
        (shot(1, [pos(5)], Partial((), (problem(SectionName.FILLS, A),))), True),
        (shot(1, [pos(5)], conventions=Conventions(LegScheme.SIDED)), True),
        (replace(shot(1, [pos(5)]), left_out={A: "filtered"}), True),
        (replace(shot(1, [pos(5)]), left_out={B: "filtered"}), False),
        (replace(shot(1, [pos(5)]), unread_legs={"holdings": "not read"}), True),
    ],
    ids=[
        "same", "quantity", "gone", "order", "fill", "failed", "my row unreadable", "another's row unreadable",
        "fills failed", "fill unreadable", "conventions", "left out", "another's left out", "a leg not read",
    ],
)  # fmt: skip
def test_a_revision_changes_exactly_when_what_it_says_changes(second: Snapshot, changed: bool) -> None:
    ledger = a_ledger((shot(0, [pos(5)]), None))
    known = whole(ask(ledger)).revision
    ledger.take(second, 0)
    answer = ask(ledger, since=0, known=known)
    assert isinstance(answer, Slice) is changed
    assert answer.requested_at == at(1)


def test_another_instrument_s_change_leaves_a_revision_alone() -> None:
    ledger = a_ledger((shot(0, [pos(5)]), None))
    known = whole(ask(ledger)).revision
    ledger.take(shot(1, [pos(5), Position(B, "net", pos(1).quantity, pos(1).average_price)]), 0)
    assert isinstance(ask(ledger, 0, known), Unchanged)
    assert len(rows_of(whole(ask(ledger, 0, None, B)).positions)) == 1


def test_two_incarnations_never_share_a_revision() -> None:
    first, second = a_ledger((shot(0, [pos(5)]), None)), a_ledger((shot(0, [pos(6)]), None), incarnation="i2")
    known = whole(ask(first)).revision
    assert isinstance(ask(second, known=known), Slice)


def test_an_instrument_never_seen_has_nothing_in_complete_sections() -> None:
    answer = whole(ask(a_ledger((shot(0, [pos(5)]), None)), instrument=B))
    assert answer.positions == Complete()
    assert answer.orders == Complete()


def test_an_instrument_of_which_a_row_was_left_out_is_unknown_until_it_is_not_and_the_others_are_known() -> None:
    """FEATURES 25: what a filter leaves out is never flat."""
    rows = shot(0, [pos(5)], [fill("f", 1)], 1)
    ledger = a_ledger((replace(rows, left_out={A: "filtered"}), 0))
    answer = whole(ask(ledger, since=0))
    assert (answer.positions, answer.orders, answer.fills) == (Failed("filtered"),) * 3
    assert answer.fills_cursor is None
    again = ask(ledger, since=0, known=answer.revision)
    assert isinstance(again, Unchanged)
    assert again.fills_cursor is None
    other = whole(ask(ledger, instrument=B))
    assert (other.positions, other.orders, other.fills) == (Complete(), Complete(), Complete())
    ledger.take(shot(1, [pos(5)], cursor=1), 1)
    known = whole(ask(ledger, since=0, known=answer.revision))
    assert known.positions == Complete((pos(5),))
    assert ids(known) == ["f"]


def test_what_was_left_out_starts_nothing_and_a_gap_before_it_is_still_reported_afterwards() -> None:
    ledger = a_ledger((replace(shot(0), left_out={A: "filtered"}), 0))
    assert ledger.instruments() == frozenset()
    ledger.take(replace(shot(1, fills=Failed("a day has ended"), cursor=9), left_out={A: "filtered"}), 0)
    assert whole(ask(ledger, since=0)).fills_cursor is None
    ledger.take(shot(2, cursor=9), 9)
    answer = whole(ask(ledger, since=0))
    assert (answer.fills, answer.fills_cursor) == (Failed("a day has ended"), 9)


def test_what_is_unsupported_stays_so_though_a_row_was_left_out() -> None:
    ledger = a_ledger((replace(shot(0, fills=Unsupported(), cursor=None), left_out={A: "filtered"}), None))
    assert whole(ask(ledger)).fills == Unsupported()


# Fills and cursors


def test_fills_come_once_for_each_cursor() -> None:
    ledger = a_ledger((shot(0, cursor=10), None), (shot(1, [], [fill("a", 1)], 12), 10))
    assert ids(ask(ledger, since=10)) == ["a"]
    assert whole(ask(ledger, since=10)).fills_cursor == 12
    assert ids(ask(ledger, since=12)) == []
    ledger.take(shot(2, [], [fill("a", 1), fill("b", 1)], 13), 12)
    assert ids(ask(ledger, since=12)) == ["b"]
    assert ids(ask(ledger, since=10)) == ["a", "b"]


def test_a_cursor_from_before_we_began_is_not_covered() -> None:
    ledger = a_ledger((shot(0, cursor=10), None))
    assert ledger.covers(None)
    assert ledger.covers(10)
    assert not ledger.covers(9)
    assert isinstance(whole(ask(ledger, since=9)).fills, Failed)


def test_asking_from_further_back_covers_it() -> None:
    ledger = a_ledger((shot(0, cursor=10), None), (shot(1, [], [fill("old", 1)], 11), 3))
    assert ledger.covers(3)
    assert ids(ask(ledger, since=3)) == ["old"]


def test_a_slice_that_was_not_covered_is_not_called_unchanged_once_it_is() -> None:
    """Law 1: what was unknown must be reported when it becomes known, though nothing else changed."""
    ledger = a_ledger((shot(0, [pos(5)], cursor=10), None))
    before = whole(ask(ledger, since=3))
    assert isinstance(before.fills, Failed)
    ledger.take(shot(1, [pos(5)], cursor=10), 3)
    after = ask(ledger, since=3, known=before.revision)
    assert whole(after).fills == Complete()


@pytest.mark.parametrize("section", [Failed("no"), Unsupported()], ids=["failed", "unsupported"])
def test_a_section_that_says_nothing_is_handed_on_as_it_is(section: Section[Fill]) -> None:
    ledger = a_ledger((shot(0, [], section, None), None))
    assert whole(ask(ledger)).fills == section
    assert whole(ask(ledger)).fills_cursor is None


def test_fills_that_failed_once_are_asked_for_from_the_same_place() -> None:
    ledger = a_ledger((shot(0, cursor=10), None), (shot(1, [], Failed("no"), 10), 10))
    assert ledger.fills_cursor == 10
    ledger.take(shot(2, [], [fill("a", 1)], 11), 10)
    assert ids(ask(ledger, since=10)) == ["a"]


@pytest.mark.parametrize("cursor", [10, 11], ids=["cursor stays", "cursor moves up to the bad row"])
def test_a_fill_beside_an_unreadable_one_reaches_its_instrument_at_once_and_later(cursor: int) -> None:
    """An adapter keeps its cursor before a row it cannot read; the rows it could read are no less fills."""
    bad = (problem(SectionName.FILLS, B, "77"),)
    ledger = a_ledger((shot(0, cursor=10), None), (shot(1, [], Partial((fill("a", 1),), bad), cursor), 10))
    answer = whole(ask(ledger, since=10))
    assert ids(answer) == ["a"]
    assert isinstance(answer.fills, Complete)
    assert answer.fills_cursor is None
    assert isinstance(whole(ask(ledger, since=10, instrument=B)).fills, Partial)
    ledger.take(shot(2, [], [fill("a", 1)], 15), cursor)
    assert ids(ask(ledger, since=10)) == ["a"]
    assert ids(ask(ledger, since=15)) == []


def test_an_unreadable_fill_does_not_leave_the_others_unknown_to_a_new_account_actor() -> None:
    """An unreadable row makes its section PARTIAL; the other rows go on."""
    bad = (problem(SectionName.FILLS, B, "77"),)
    ledger = a_ledger((shot(0, [], Partial((fill("a", 1),), bad), 10), 10))
    assert ledger.covers(10)
    assert ids(ask(ledger, since=10)) == ["a"]
    assert isinstance(whole(ask(ledger, since=10, instrument=B)).fills, Partial)


def test_a_partial_section_without_a_row_to_blame_is_complete_for_nobody() -> None:
    """Law 1: OANDA's adapter gives so many pages of transactions at a time, and the rest next time."""
    ledger = a_ledger((shot(0, cursor=10), None), (shot(1, [], Partial((fill("a", 1),)), 50), 10))
    assert isinstance(whole(ask(ledger, since=10)).fills, Partial)
    assert isinstance(whole(ask(ledger, since=10, instrument=B)).fills, Partial)
    assert ledger.fills_cursor == 50, "the next pages are asked for, not the same ones for ever"
    ledger.take(shot(2, [], [fill("b", 1)], 90), 50)
    assert ids(ask(ledger, since=10)) == ["a", "b"]
    assert whole(ask(ledger, since=10)).fills_cursor == 90


def test_fills_the_broker_no_longer_has_are_said_to_be_missing_once_for_each_instrument() -> None:
    """The adapter moves its cursor on past them, "so that the gap is reported once and not for ever"."""
    ledger = a_ledger((shot(0, [pos(5)], cursor=10), None))
    known = whole(ask(ledger, since=10)).revision
    ledger.take(shot(1, [pos(5)], Failed("no longer listed"), 50), 10)
    assert ledger.fills_cursor == 50
    ledger.take(shot(2, [pos(5)], [], 51), 50)
    assert ledger.covers(10)
    answer = whole(ask(ledger, since=10, known=known))
    assert answer.fills == Failed("no longer listed")
    assert answer.fills_cursor == 50
    after = whole(ask(ledger, since=50, known=answer.revision))
    assert after.fills == Complete()
    assert after.fills_cursor == 51


def test_what_is_forgotten_is_no_longer_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.account.snapshot_cache.FILLS_KEPT", 3)
    ledger = a_ledger((shot(0, cursor=0), None))
    for number in range(1, 6):
        ledger.take(shot(number, [], [fill(f"f{number}", 1)], number), number - 1)
    assert not ledger.covers(1)
    assert ledger.covers(2)
    assert ids(ask(ledger, since=2)) == ["f3", "f4", "f5"]


def test_what_a_fetch_brought_is_kept_though_it_was_known_before_what_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kind: a count standing for the content. Else whoever had it asked for learns that it cannot be had."""
    monkeypatch.setattr("actors.account.snapshot_cache.FILLS_KEPT", 2)
    ledger = a_ledger((shot(0, cursor=0), None))
    ledger.take(shot(1, [], [fill("f1", 1)], 1), 0)
    ledger.take(shot(2, [], [fill("of long ago", 1)], 2), 1)
    ledger.take(shot(3, [], [fill("f1", 1), fill("f2", 1)], 3), 0)
    assert ledger.covers(0)
    assert ids(ask(ledger, since=0)) == ["f1", "f2"]


# Commissions that come later


LATE = replace(fill("a", 1), commission=dec("1.05"), commission_currency="USD")


@pytest.mark.parametrize(
    ("later", "given"),
    [
        (fill("a", 1), None),
        (LATE, LATE),
        (replace(LATE, quantity=dec(7), price=dec(9)), LATE),
        (replace(LATE, instrument=B), LATE),
    ],
    ids=["the same once more", "with its commission", "with another quantity too", "under another name too"],
)
@pytest.mark.parametrize("cursor", [12, 13], ids=["cursor stays", "cursor moves"])
def test_a_fill_is_given_again_exactly_when_its_commission_has_come(
    later: Fill, given: Fill | None, cursor: int
) -> None:
    ledger = a_ledger((shot(0, cursor=10), None), (shot(1, [], [fill("a", 1)], 12), 10))
    known = whole(ask(ledger, since=12)).revision
    other = whole(ask(ledger, since=12, instrument=B)).revision
    ledger.take(shot(2, [], [later], cursor), 12)
    answer = ask(ledger, since=12, known=known)
    assert isinstance(answer, Slice) is (given is not None)
    if isinstance(answer, Slice):
        assert rows_of(answer.fills) == (given,)
    assert isinstance(ask(ledger, since=12, known=other, instrument=B), Unchanged)
    known = whole(ask(ledger, since=12)).revision
    for again in (later, fill("a", 1)):  # reported once more, and left out again
        ledger.take(shot(3, [], [again], cursor + 1), cursor)
        assert isinstance(ask(ledger, since=cursor, known=known), Unchanged)
    ledger.take(shot(4, [pos(1)], [], cursor + 2), cursor + 1)
    assert ids(ask(ledger, since=cursor + 1)) == []
    assert rows_of(whole(ask(ledger, since=10)).fills) == (given or fill("a", 1),)


def test_a_commission_reported_in_a_section_that_is_not_complete_is_given_until_it_is() -> None:
    bad = (problem(SectionName.FILLS, B, "77"),)
    ledger = a_ledger((shot(0, cursor=10), None), (shot(1, [], [fill("a", 1)], 12), 10))
    ledger.take(shot(2, [], Partial((LATE,), bad), 12), 12)
    assert rows_of(whole(ask(ledger, since=12)).fills) == (LATE,)
    ledger.take(shot(3, [], [LATE], 14), 12)
    assert ids(ask(ledger, since=12)) == ["a"]
    assert ids(ask(ledger, since=14)) == []


def test_a_commission_is_something_new_in_an_instrument_that_was_forgotten() -> None:
    ledger = a_ledger((shot(0, cursor=10), None), (shot(1, [], [fill("a", 1)], 12), 10))
    ask(ledger, since=10)
    assert ledger.forget(A)
    ledger.take(shot(2, [], [fill("a", 1)], 12), 12)
    assert ledger.instruments() == frozenset()
    ledger.take(shot(3, [], [LATE], 13), 12)
    assert ledger.instruments() == {A}
    assert rows_of(whole(ask(ledger, since=12)).fills) == (LATE,)


def test_the_oldest_fills_are_forgotten_in_their_order_whatever_was_forgotten_or_given_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actors.account.snapshot_cache.FILLS_KEPT", 3)
    ledger = a_ledger((shot(0, cursor=0), None))
    ledger.take(shot(1, [], [fill("a", 1), fill("b", 1)], 1), 0)
    ask(ledger, since=0)
    assert ledger.forget(A)
    ledger.take(shot(2, [], [LATE, fill("c", 1)], 2), 1)
    ledger.take(shot(3, [], [fill("d", 1)], 3), 2)
    assert ids(ask(ledger, since=0)) == ["a", "c", "d"]
    ledger.take(shot(4, [], [fill("e", 1)], 4), 3)
    assert ids(ask(ledger, since=3)) == ["e"]
    assert ids(ask(ledger)) == ["c", "d", "e"]


# Rows that cannot be read


@pytest.mark.parametrize(
    ("row", "mine", "other"),
    [
        (problem(SectionName.POSITIONS, A), Partial, Complete),
        (problem(SectionName.POSITIONS, B), Complete, Partial),
        (problem(SectionName.POSITIONS, None), Partial, Partial),
        (None, Partial, Partial),
    ],
    ids=["mine", "another's", "nobody's", "no row to blame"],
)
def test_an_unreadable_row_makes_a_section_partial_for_those_it_may_be_of(
    row: RowProblem | None, mine: type, other: type
) -> None:
    """MALFORMED_DATA of one instrument leaves the others' sections COMPLETE."""
    ledger = a_ledger((shot(0, Partial((pos(5),), (row,) if row else ())), None))
    assert type(whole(ask(ledger)).positions) is mine
    assert type(whole(ask(ledger, instrument=B)).positions) is other


def test_instruments_are_those_with_a_row_or_a_fill() -> None:
    ledger = a_ledger((shot(0, [pos(5)], cursor=1), None))
    assert ledger.instruments() == {A}
    ledger.take(shot(1, [], [fill("x", 1)], 2), 1)
    ledger.take(shot(2, [], [], 2), 2)
    assert ledger.instruments() == {A}
