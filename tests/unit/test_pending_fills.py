"""What a fill that waits for its leg is not placed by: an answer from before it, one that may lag, one that is not
whole."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from brokers.model import Complete, Fill, Partial, Position, Section, Side
from tests.unit.builders import FAILED, TICKET, Desk, at, fill_report, pos, slice_at

BOTH = (pos(10, leg="7"), pos(10, leg="8"))


@dataclass(frozen=True)
class Answer:
    """What the broker says, asked at ``asked_s`` and heard at ``heard_s``."""

    shown: Section[Position]
    asked_s: float
    heard_s: float
    fills: Section[Fill] = field(default_factory=lambda: Complete(()))


@pytest.mark.parametrize(
    ("side", "answer"),
    [
        pytest.param(Side.BUY, Answer(Complete((pos(15, leg="7"), BOTH[1])), 9.9, 10.1), id="from before the report"),
        pytest.param(
            Side.SELL, Answer(Complete((pos(10, leg="7"),)), 11, 11), id="a leg that is not shown, not settled yet"
        ),
        pytest.param(
            Side.BUY, Answer(Complete(BOTH), 16, 16, FAILED), id="settled, and its own row may be reported yet"
        ),
        pytest.param(Side.BUY, Answer(Partial(BOTH), 16, 16), id="settled, and a leg may be there that is not shown"),
    ],
)
def test_a_fill_that_waits_for_its_leg_waits_on(side: Side, answer: Answer) -> None:
    desk = Desk()
    desk.look(slice_at(0, BOTH, conventions=TICKET))
    quantity = 5 if side is Side.BUY else 10
    desk.report(fill_report("F1", quantity, at_s=10, side=side), at_s=10, conventions=TICKET)
    asked = slice_at(answer.asked_s, answer.shown, [], answer.fills, conventions=TICKET)
    desk.look(asked, now=at(answer.heard_s))
    assert desk.quantities() == {"7": 10, "8": 10}
    assert [one.fill.fill_id for one in desk.book.pending_fills()] == ["F1"]


def test_a_leg_that_is_gone_once_settled_is_where_a_close_that_waited_was() -> None:
    desk = Desk()
    desk.look(slice_at(0, BOTH, conventions=TICKET))
    desk.report(fill_report("F1", 10, at_s=10, side=Side.SELL), at_s=10, conventions=TICKET)
    for seconds in (11, 15.5):
        desk.look(slice_at(seconds, BOTH[:1], conventions=TICKET))
    assert desk.quantities() == {"7": 10}
    assert not desk.book.pending_fills()
