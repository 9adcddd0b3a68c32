"""Which executions of an account were handed out already, and whether any can have been missed.

TWS lists executions "since midnight", without a number that grows. So every list is read whole, and what was handed
out before is left out by its id. A cursor is an epoch millisecond of TWS, moved on by at least one whenever a fill is
handed out for the first time: a fill that was handed out with cursor ``c`` is known to everybody who asks with ``c`` or
more, and to nobody who asks with less. One whose commission comes later is handed out for the first time once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, tzinfo

from brokers.model import Complete, Cursor, Failed, Fill, Partial, Section, rows_of

_DAY_MS = 86_400_000


class FillSequence:
    """The memory of one account, over all of its connections."""

    def __init__(self) -> None:
        self._handed: dict[str, Cursor] = {}
        self._late: dict[str, Fill] = {}
        self._last = 0

    @property
    def owes(self) -> bool:
        """Whether a fill is to be handed out again that has not been yet."""
        return any(fill_id not in self._handed for fill_id in self._late)

    def hand_out_again(self, fill: Fill) -> None:
        """A fill that was handed out before has a commission now: it comes with the next ones, whether or not TWS still
        lists it."""
        self._late[fill.fill_id] = fill
        self._handed.pop(fill.fill_id, None)

    def hand_out(
        self, found: Section[Fill], cursor: Cursor | None, now_ms: int, *, gap: str | None = None
    ) -> tuple[Section[Fill], Cursor]:
        """The fills after ``cursor`` of those found, and the cursor to ask with next time.

        Without a cursor none is wanted: what was found is held by the positions already. A section that is not COMPLETE
        keeps the cursor where it was, so that the same fills are asked for until they can be read. A ``gap`` is told
        once: the section is FAILED with its reason and the cursor goes on behind it, and what was found comes next.
        """
        found = self._with_late(found)
        if cursor is None:
            return _without_rows(found), self._remember(found, now_ms)
        if gap is not None and isinstance(found, Complete | Partial):
            self._last = max(now_ms, cursor + 1, self._last)
            return Failed(gap), self._last
        rows = tuple(f for f in rows_of(found) if self._handed.get(f.fill_id, cursor + 1) > cursor)
        if isinstance(found, Complete):
            known = [fill_id for fill_id in self._late if self._handed.get(fill_id, cursor + 1) <= cursor]
            last = self._remember(found, max(now_ms, cursor))
            for fill_id in known:
                del self._late[fill_id]
            return Complete(rows), last
        return (Partial(rows, found.problems) if isinstance(found, Partial) else found), cursor

    def _with_late(self, found: Section[Fill]) -> Section[Fill]:
        """With the fills to be handed out again; where TWS lists one with its commission that row counts."""
        if not self._late or not isinstance(found, Complete | Partial):
            return found
        listed = {f.fill_id: f for f in found.rows if f.commission is not None or f.fill_id not in self._late}
        return replace(found, rows=tuple((self._late | listed).values()))

    def _remember(self, found: Section[Fill], cursor: Cursor) -> Cursor:
        present = {fill.fill_id for fill in rows_of(found)}
        fresh = [fill_id for fill_id in present if fill_id not in self._handed]
        self._last = max(cursor, self._last + 1 if fresh else self._last)
        self._handed.update(dict.fromkeys(fresh, self._last))
        if isinstance(found, Complete):
            # What is no longer listed was of another day, and cannot come again.
            self._handed = {fill_id: at for fill_id, at in self._handed.items() if fill_id in present}
        return self._last


class Listing:
    """Notices what the lists themselves give away: that something traded between two of them, and that a day ended."""

    def __init__(self) -> None:
        self._seen: frozenset[tuple[str, str]] = frozenset()
        self._roots: frozenset[str] = frozenset()

    def moved(self, listed: Iterable[tuple[str, str]]) -> frozenset[str]:
        """The instruments with an execution, as (instrument, execId), that was never listed before."""
        now = frozenset(listed)
        fresh, self._seen = now - self._seen, self._seen | now
        return frozenset(instrument for instrument, _ in fresh)

    def cut(self, roots: Iterable[str]) -> bool:
        """Whether executions of the list before are no longer in this one, which was read whole. With that the day
        before is forgotten."""
        now, before = frozenset(roots), self._roots
        self._roots = now
        ended = bool(before - now)
        if ended:
            self._seen = frozenset(one for one in self._seen if one[1].rpartition(".")[0] in now)
        return ended


def began_before_today(cursor: Cursor, now_ms: int, zone: tzinfo | None) -> bool:
    """Whether a day of TWS ended between the two, so that executions before it are no longer listed. The day is that of
    ``zone``, of UTC where no zone is known."""
    if now_ms - cursor >= _DAY_MS:
        return True
    days = [datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone or UTC).date() for ms in (cursor, now_ms)]
    return days[0] < days[1]


def _without_rows(found: Section[Fill]) -> Section[Fill]:
    if isinstance(found, Complete):
        return Complete()
    return Partial((), found.problems) if isinstance(found, Partial) else found
