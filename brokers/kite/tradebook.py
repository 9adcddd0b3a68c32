"""Which of the day's trades a caller has had already, and which are lost.

Kite lists every trade of the day at every request, and a trade may appear a little late. A cursor is an epoch
millisecond of the broker; see :mod:`brokers.kit.fill_cursor`. At the first reading of a connection nothing shows when
the fills of the day were first listed; then those made less than ``OVERLAP_MS`` before the cursor count as new. The
very first cursor of all is set so far ahead that this reaches back to its own moment, and to none of the fills listed
then: the positions contain those.

Kite lists no trades of earlier days. A caller whose cursor is of such a day gets today's; the positions, which are
whole, contain the rest, and :meth:`Tradebook.gap` reports it.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from brokers.kit.fill_cursor import FillCursor
from brokers.kite.decode import IST
from brokers.model import Complete, Cursor, Fill, Partial, Section

OVERLAP_MS = 60_000
"""How late a trade may appear, for a connection that was not open at the time."""

NIGHT_MS = 3_600_000
"""Trading pauses for longer than this every night, so two looks within it saw the end of one day's list."""


class Tradebook:
    """The memory of one connection."""

    def __init__(self) -> None:
        self._there_since: Cursor | None = None
        self._looked: Cursor = 0
        self._cursor = FillCursor(listed_by=_surely_listed_by)

    def hand_out(self, found: Section[Fill], cursor: Cursor | None, now_ms: int) -> tuple[Section[Fill], Cursor | None]:
        """The fills after ``cursor`` among all those of the day, and the cursor for the next request; see
        :meth:`brokers.kit.fill_cursor.FillCursor.hand_out`."""
        if not isinstance(found, Complete | Partial):
            return found, cursor
        if isinstance(found, Complete):
            self._look(now_ms)
        return self._cursor.hand_out(found, cursor, now_ms, overlap=OVERLAP_MS)

    def _look(self, now_ms: Cursor) -> None:
        if self._there_since is None or (now_ms - self._looked > NIGHT_MS and _day(now_ms) != _day(self._looked)):
            self._there_since = now_ms
        self._looked = now_ms

    def gap(self, found: Section[Fill], cursor: Cursor | None, now_ms: Cursor) -> str | None:
        """Which fills after the cursor the broker can no longer list, in words. Call it before handing them out. A list
        that still shows the cursor's day, as it does until some time in the morning, lacks none, and a connection that
        was open all the time has handed them out."""
        if cursor is None or not isinstance(found, Complete) or _day(cursor) >= _day(now_ms):
            return None
        there = self._there_since is not None and now_ms - self._looked <= NIGHT_MS and cursor >= self._there_since
        if there or any(fill.time.astimezone(IST).date() <= _day(cursor) for fill in found.rows):
            return None
        return (
            f"the broker lists today's trades alone: those made on {_day(cursor)} or after, and before today, are lost"
        )


def _surely_listed_by(fill: Fill) -> Cursor:
    """The end of its second, as Kite dates it to the second."""
    return int(fill.time.timestamp()) * 1000 + 1000 + OVERLAP_MS


def _day(cursor: Cursor) -> date:
    return datetime.fromtimestamp(cursor / 1000, UTC).astimezone(IST).date()
