"""What was believed, reported and corrected over time."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from actors.book.book import Book
from actors.book.policy import Correct, Policy
from actors.events import Record
from supervisor.presentation.timeline import Line, Point, drawing, lines
from tests.unit.builders import Desk, at, pos, position_report, records, slice_at


def story(desk: Desk) -> Line:
    (line,) = lines(Book(desk.book.account, desk.book.instrument), kept(desk))
    return line


def kept(desk: Desk) -> list[Record]:
    return list(records(desk.events))


def quantities(points: Sequence[Point]) -> list[int]:
    return [int(quantity) for _, quantity, _ in points]


def test_a_drift_is_believed_reported_and_corrected_in_this_order() -> None:
    desk = Desk(Policy())
    desk.report(position_report(100), at_s=0)
    desk.look(slice_at(10, [pos(100)]))
    for second in (20, 30, 40):
        desk.look(slice_at(second, [pos(150)]))
    line = story(desk)
    assert quantities(line.believed) == [0, 100, 150]
    assert 150 in quantities(line.reported)
    assert quantities(line.corrected) == [150]


def test_a_position_that_the_book_never_had_is_believed_to_be_nothing_and_reported() -> None:
    desk = Desk(Policy(correct=Correct.ALERT))
    desk.look(slice_at(1))
    desk.look(slice_at(2, [pos(-50)]))
    line = story(desk)
    assert (quantities(line.believed), quantities(line.reported), line.corrected) == ([0], [-50], [])


def test_a_story_that_begins_in_the_middle_begins_with_what_the_book_held_then() -> None:
    desk = Desk(Policy())
    desk.report(position_report(100), at_s=0)
    desk.look(slice_at(10, [pos(100)]))
    whole = kept(desk)
    book = Book(desk.book.account, desk.book.instrument)
    for record in whole[:1]:
        book.apply(record.event)
    (line,) = lines(book, whole[1:])
    assert quantities(line.believed) == [100]


def test_a_drawing_says_in_words_what_its_marks_are_and_takes_nothing_as_markup() -> None:
    line = Line("<b>", [(at(0), Decimal(0), 1)], [(at(5), Decimal("150.5"), 7)], [(at(6), Decimal("150.5"), 8)])
    text = drawing(line, at(10))
    assert "broker reported 150.5 at 2024-01-02" in text
    assert "record 8" in text
    assert "leg &lt;b&gt;: believed last 0, reported last 150.5" in text
    assert "<b>" not in text
    assert "style=" not in text
    assert drawing(Line("net"), at(10)) == ""
