"""The cursor over fills that adapters share whose brokers number none: each fill once to everybody, and none lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from brokers.clocks import broker_time
from brokers.kit.fill_cursor import FillCursor
from brokers.model import (
    Complete,
    Failed,
    Fill,
    Partial,
    Section,
    Side,
    rows_of,
)

D = Decimal
LATEST = datetime(2026, 1, 6, tzinfo=UTC)


def fill(fill_id: str) -> Fill:
    return Fill("AAPL", fill_id, "1", Side.BUY, D(1), D(1), broker_time(LATEST))


def test_a_fill_handed_out_first_comes_after_every_cursor_given_before() -> None:
    sequence = FillCursor()
    first, start = sequence.hand_out(Complete((fill("a"),)), None, 1000)
    assert (first, start) == (Complete(), 1000)
    second, later = sequence.hand_out(Complete((fill("a"), fill("b"))), start, 1000)
    assert [f.fill_id for f in rows_of(second)] == ["b"]
    assert later > start
    third, last = sequence.hand_out(Complete((fill("a"), fill("b"))), later, 1000)
    assert (third, last) == (Complete(), later)
    again, _ = sequence.hand_out(Complete((fill("a"), fill("b"))), start, 1000)
    assert [f.fill_id for f in rows_of(again)] == ["b"]


def test_a_new_process_is_given_every_fill_of_the_day() -> None:
    found, _ = FillCursor().hand_out(Complete((fill("a"), fill("b"))), 5000, 9000)
    assert len(rows_of(found)) == 2


def test_what_is_not_complete_keeps_the_cursor_and_a_gap_is_reported_once() -> None:
    sequence = FillCursor()
    _, start = sequence.hand_out(Complete(), None, 1000)
    assert sequence.hand_out(Failed("no"), start, 2000) == (Failed("no"), start)
    fills, after = sequence.hand_out(Complete((fill("a"),)), start, 2000, gap="midnight")
    assert fills == Failed("midnight")
    assert after > start
    found, _ = sequence.hand_out(Complete((fill("a"),)), after, 3000)
    assert [f.fill_id for f in rows_of(found)] == ["a"]


def test_a_fill_whose_commission_came_later_is_handed_out_once_more_to_everybody() -> None:
    sequence = FillCursor()
    _, start = sequence.hand_out(Complete(), None, 1000)
    _, first = sequence.hand_out(Complete((fill("a"), fill("b"))), start, 1000)
    charged = replace(fill("a"), commission=D(1))
    sequence.hand_out_again(charged)
    assert sequence.owes
    assert sequence.hand_out(Failed("no"), first, 1000) == (Failed("no"), first)
    assert sequence.hand_out(Partial((fill("b"),), ()), first, 1000) == (Partial((charged,), ()), first)
    found, second = sequence.hand_out(Complete((charged, fill("b"))), first, 1000)
    assert (found, second > first, sequence.owes) == (Complete((charged,)), True, False)
    assert sequence.hand_out(Complete((fill("b"),)), first, 1000)[0] == Complete((charged,)), "it was not taken over"
    assert sequence.hand_out(Complete((fill("b"),)), second, 1000) == (Complete(), second)
    assert sequence.hand_out(Complete((fill("b"),)), first, 1000)[0] == Complete(), "everybody had it"


def test_a_fill_after_a_restart_comes_behind_a_cursor_that_ran_ahead_of_the_clock() -> None:
    """An earlier process gave that cursor out: a fill handed out with the very same one would count as known."""
    fill = Fill("EURUSD", "9", "8", Side.BUY, Decimal(1), Decimal("1.1"), broker_time(datetime(2024, 1, 2, tzinfo=UTC)))
    fresh, cursor = FillCursor().hand_out(Complete((fill,)), 160, 105)
    assert (fresh, cursor > 160) == (Complete((fill,)), True)


class Reader:
    """Somebody who reads an account with a cursor of his own, from an empty book on."""

    def __init__(self) -> None:
        self.cursor: int | None = None
        self.contained: set[str] = set()
        self.given: list[str] = []


@given(st.lists(st.tuples(st.sampled_from(["fill", "time", "back", "whole", "part", "failed"]), st.integers(0, 2))))
def test_whoever_reads_is_given_each_fill_once_whatever_others_read_and_however_the_clock_goes(
    steps: list[tuple[str, int]],
) -> None:
    """PEERS 5, PEERS 13, PEERS 15: none is lost, and none comes twice in whole lists."""
    memory, listed, now_ms = FillCursor(), list[Fill](), 1000
    readers = [Reader() for _ in range(3)]
    for what, whose in steps:
        reader = readers[whose]
        if what == "fill":
            listed.append(fill(f"f{len(listed)}"))
        elif what in ("time", "back"):
            now_ms += 7 if what == "time" else -3
        else:
            began = reader.cursor is not None
            section: Section[Fill] = Complete(tuple(listed))
            if what != "whole" and began:
                section = Partial(tuple(listed[1:]), ()) if what == "part" else Failed("no answer")
            found, cursor = memory.hand_out(section, reader.cursor, now_ms)
            assert cursor >= (reader.cursor or 0)
            if not began:
                reader.contained = {row.fill_id for row in listed}
            elif isinstance(found, Complete):
                reader.given += [row.fill_id for row in found.rows]
                assert set(reader.given) | reader.contained == {row.fill_id for row in listed}
            else:
                assert cursor == reader.cursor
            reader.cursor = cursor
    for reader in readers:
        assert len(reader.given) == len(set(reader.given))
        assert not reader.contained & set(reader.given)
