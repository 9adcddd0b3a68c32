"""Which fills of an account a caller has had already, for a broker that does not number them in order. Pure, except for
its memory.

A cursor is a time of the broker in whole units of the adapter (seconds, milliseconds). It moves on by at least one
whenever a fill is handed out for the first time: a fill that was handed out with cursor ``c`` is known to every caller
whose cursor is ``c`` or more, and to no caller with less. So a list may reach back behind the cursor, come late, or be
the whole day's: what was handed out before is left out by its id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from brokers.clocks import BrokerTime
from brokers.model import Complete, Cursor, Failed, Fill, Partial, Section, rows_of


def before_second_of(at: BrokerTime) -> BrokerTime:
    """The last moment before the second in which a reading began. A fill of that second is dated to its beginning,
    whether it came before the reading or after it: it must still count as later."""
    return at.replace(microsecond=0) - timedelta(microseconds=1)


class FillCursor:
    """The memory of one account or one connection.

    ``remembered`` is how many fills are kept beyond those listed now: 0 where a list that lost a fill cannot show it
    again. ``listed_by`` returns, for a fill that is there at the very first reading, a cursor whose holder has
    certainly had it; without it, such a fill is handed out to every caller that has a cursor.
    """

    def __init__(self, *, remembered: int = 0, listed_by: Callable[[Fill], Cursor] | None = None) -> None:
        self._remembered = remembered
        self._listed_by = listed_by
        self._handed: dict[str, Cursor] = {}
        self._late: dict[str, Fill] = {}
        self._last: Cursor = 0
        self._began = False

    @property
    def owes(self) -> bool:
        """Whether a fill is still to be handed out again."""
        return any(fill_id not in self._handed for fill_id in self._late)

    def hand_out_again(self, fill: Fill) -> None:
        """Hand a fill out once more, because its commission is known now. It comes with the next fills, whether or not
        the broker still lists it."""
        self._late[fill.account_key] = fill
        self._handed.pop(fill.account_key, None)

    def hand_out(
        self, found: Section[Fill], cursor: Cursor | None, now: Cursor, *, overlap: int = 0, gap: str | None = None
    ) -> tuple[Section[Fill], Cursor]:
        """The fills after ``cursor`` among those found, and the cursor for the next request.

        Without a cursor no fill is wanted: the positions contain what was found, and the first cursor is placed so that
        an ``overlap``, by which later requests reach back, does not reach back before ``now``. A section that is not
        COMPLETE leaves the cursor where it was, so that the same fills are requested until they can be read. A ``gap``
        is reported once: the section is FAILED with its reason, the cursor moves past the gap, and what was found comes
        next.
        """
        found = self._with_late(found)
        if cursor is None:
            first = max([now + overlap, *(self._known_from(fill, 0) for fill in rows_of(found))])
            return _without_rows(found), self._remember(found, first, 0)
        if gap is not None and isinstance(found, Complete | Partial):
            self._last = max(now, cursor + 1, self._last)
            return Failed(gap), self._last
        rows = tuple(fill for fill in rows_of(found) if self._known_from(fill, cursor) > cursor)
        if isinstance(found, Partial):
            return Partial(rows, found.problems), cursor
        if not isinstance(found, Complete):
            return found, cursor
        had = [fill_id for fill_id, fill in self._late.items() if self._known_from(fill, cursor) <= cursor]
        # Beyond the caller's own cursor, which may be ahead of the clock: another caller there has not had them.
        last = self._remember(found, now, cursor)
        for fill_id in had:
            del self._late[fill_id]
        return Complete(rows), last

    def _known_from(self, fill: Fill, cursor: Cursor) -> Cursor:
        """The first cursor whose holder has had this fill; one after ``cursor`` for a new fill."""
        known = self._handed.get(fill.account_key)
        if known is not None:
            return known
        return cursor + 1 if self._began or self._listed_by is None else self._listed_by(fill)

    def _with_late(self, found: Section[Fill]) -> Section[Fill]:
        """Add the fills to be handed out again; where the broker lists one with its commission, that row counts."""
        if not self._late or not isinstance(found, Complete | Partial):
            return found
        listed = {f.account_key: f for f in found.rows if f.commission is not None or f.account_key not in self._late}
        return replace(found, rows=tuple((self._late | listed).values()))

    def _remember(self, found: Section[Fill], now: Cursor, cursor: Cursor) -> Cursor:
        """Note what is handed out, and with which cursor: not before ``now``, and beyond ``cursor``."""
        rows = rows_of(found)
        fresh = [fill for fill in rows if fill.account_key not in self._handed]
        last = max(now, max(cursor, self._last) + bool(fresh))
        self._handed.update({fill.account_key: min(self._known_from(fill, last - 1), last) for fill in fresh})
        present = {fill.account_key for fill in rows}
        if isinstance(found, Complete) and len(self._handed) > self._remembered:
            self._handed = {fill_id: at for fill_id, at in self._handed.items() if fill_id in present}
        self._last, self._began = last, True
        return last


def _without_rows(found: Section[Fill]) -> Section[Fill]:
    if isinstance(found, Complete):
        return Complete()
    return Partial((), found.problems) if isinstance(found, Partial) else found
