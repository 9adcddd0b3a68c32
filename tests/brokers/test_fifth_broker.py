"""The fifth broker of CONTRIBUTING.md works as it stands there."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokers.clocks import broker_time
from brokers.errors import Unreachable
from brokers.kit.event_stream import Run
from brokers.kit.fill_cursor import FillCursor
from brokers.kit.foreign_row import BadRow
from brokers.kit.scrubber import Scrubber
from brokers.model import Complete, Fill, OrderAnswer, OrderQuery, Position, Section, Side, problems_of
from brokers.port import StreamState

D = Decimal
AT = datetime(2026, 1, 5, 9, 30, 1, 500_000, tzinfo=UTC)
HELD = Position("CAT", "net", D(3), D("1.5"))
BOUGHT = Fill("CAT", "7", "1", Side.BUY, D(3), D("1.5"), broker_time(AT))


@pytest.fixture(scope="module")
def lynx() -> dict[str, Any]:
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(from brokers\.kit.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - it is ours
    return names


@dataclass
class Reading:
    moved: frozenset[str] = frozenset()
    fills: Section[Fill] = field(default_factory=lambda: Complete((BOUGHT,)))
    positions: Section[Position] = field(default_factory=lambda: Complete((HELD,)))
    orders: Complete[Any] = field(default_factory=Complete)
    requested_at: datetime = AT
    looked_at: datetime = AT
    now_s: int = 1_000


Find = Callable[[OrderQuery], Awaitable[OrderAnswer]]


class Wire:
    scrub = Scrubber(["a-secret"]).text


def broker(lynx: dict[str, Any], *readings: Reading, find: Find | None = None) -> Any:
    base: Any = lynx["LynxBroker"]

    class Made(base):  # type: ignore[misc]  # it stands in the guide, where no type checker looks
        """With what an author of an adapter writes himself."""

        def __init__(self) -> None:
            self._cursor, self._wire, self._waiting = FillCursor(), Wire(), iter(readings)

        async def _read(self) -> Reading:
            return next(self._waiting)

        async def _find(self, query: OrderQuery) -> OrderAnswer:
            assert find is not None
            return await find(query)

    return Made()


async def test_it_settles_a_reading_hands_each_fill_out_once_and_dates_it_before_its_second(
    lynx: dict[str, Any],
) -> None:
    adapter = broker(lynx, Reading(), Reading(moved=frozenset({"CAT"})), *[Reading()] * 2)
    first = await adapter.snapshot(None)
    assert (first.positions, first.fills, first.as_of) == (
        Complete((HELD,)),
        Complete(),
        AT.replace(second=0, microsecond=999_999),
    )
    second = await adapter.snapshot(first.fills_cursor - 1)
    assert second.fills == Complete((BOUGHT,))
    assert (await adapter.snapshot(second.fills_cursor)).fills == Complete()


async def test_what_never_settles_is_in_doubt(lynx: dict[str, Any]) -> None:
    adapter = broker(lynx, *[Reading(moved=frozenset({"CAT"}))] * 3)
    assert [problem.instrument for problem in problems_of((await adapter.snapshot(None)).positions)] == ["CAT"]


async def test_its_questions_stop_when_it_is_away(lynx: dict[str, Any]) -> None:
    asked: list[OrderQuery] = []
    queries = [OrderQuery("CAT", str(number), None) for number in range(4)]

    async def find(query: OrderQuery) -> OrderAnswer:
        asked.append(query)
        if query is queries[1]:
            raise BadRow("a-secret")
        if query is queries[2]:
            raise Unreachable("read it", "lynx", "nobody answered", "Wait")
        return OrderAnswer(query)

    answers = await broker(lynx, find=find).find_orders(queries)
    assert (asked, [answer.query for answer in answers]) == (queries[:3], queries)
    assert [answer.failure is None for answer in answers] == [True, False, False, False]
    assert "a-secret" not in str(answers)


def test_its_stream_wakes(lynx: dict[str, Any]) -> None:
    heard: list[str | None] = []
    base: Any = lynx["LynxStream"]

    class Made(base):  # type: ignore[misc]  # as above
        _events: tuple[Any, ...] = ({"symbol": "CAT"}, {})

    stream = Made("lynx", lambda: AT, Run)
    stream.start(heard.append)
    assert (heard, stream.state, stream.last_heard_at) == (["CAT", None], StreamState.LIVE, AT)
    stream.close()
    assert stream.state is StreamState.CLOSED
