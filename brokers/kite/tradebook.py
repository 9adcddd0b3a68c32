"""Which of the day's trades a caller has had already.

Kite lists every trade of the day at every request, and a trade may be told a little late. A cursor is an epoch
millisecond of the broker, moved on by at least one whenever a fill is handed out for the first time: a fill that was
handed out with cursor ``c`` is known to everybody who asks with ``c`` or more, and to nobody who asks with less.

Within one connection a fill is new when its id is. At the first reading of a connection nothing tells when the fills
of the day were first listed: then those count as new that were made less than ``OVERLAP_MS`` before the cursor, and the
very first cursor of all is set so far ahead that this reaches back to its own moment and no further.
"""

from __future__ import annotations

from brokers.model import Complete, Cursor, Fill, Partial, Section

OVERLAP_MS = 60_000
"""How late a trade may be told, for a connection that was not there to see it."""


class Tradebook:
    """The memory of one connection."""

    def __init__(self) -> None:
        self._noted: dict[str, Cursor] = {}
        self._last = 0
        self._began = False

    def hand_out(self, found: Section[Fill], cursor: Cursor | None, now_ms: int) -> tuple[Section[Fill], Cursor | None]:
        """The fills after ``cursor`` of all those of the day, and the cursor to ask with next time.

        Without a cursor none is wanted: what was found is held by the positions already. A section that is not
        COMPLETE keeps the cursor where it was, so that the same fills are asked for until they can be read.
        """
        if not isinstance(found, Complete | Partial):
            return found, cursor
        fresh = any(fill.fill_id not in self._noted for fill in found.rows)
        if cursor is None:
            self._note(found.rows, max(now_ms + OVERLAP_MS, self._last + fresh))
            return (Complete() if isinstance(found, Complete) else Partial((), found.problems)), self._last
        rows = tuple(fill for fill in found.rows if self._known_from(fill, cursor) > cursor)
        if isinstance(found, Partial):
            return Partial(rows, found.problems), cursor
        # Beyond the caller's own cursor, else one more who stands there would count as having been given the new ones.
        self._note(found.rows, max(now_ms, cursor, self._last) + fresh)
        return Complete(rows), self._last

    def _known_from(self, fill: Fill, cursor: Cursor) -> Cursor:
        """The first cursor whose holder has been given this fill."""
        noted = self._noted.get(fill.fill_id)
        if noted is not None:
            return noted
        # To the end of its second, as that is all that is told of its time.
        return cursor + 1 if self._began else int(fill.time.timestamp()) * 1000 + 1000 + OVERLAP_MS

    def _note(self, rows: tuple[Fill, ...], cursor: Cursor) -> None:
        """Remember the day's fills, and no others: tomorrow's exchange may use an id again."""
        self._noted = {fill.fill_id: min(self._known_from(fill, cursor - 1), cursor) for fill in rows}
        self._last, self._began = cursor, True
