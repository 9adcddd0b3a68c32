"""Which of an MT5 account's fills a caller has had already, and where the next ones begin.

The gateway tells deals "since" a whole second, a deal may be told a little late, and many deals share a second.
So each request reaches back behind its cursor, and what was handed out before is left out by its id. A cursor is an
epoch second of the gateway, moved on by at least one whenever a fill is handed out for the first time: a fill that
was handed out with cursor ``c`` is known to everybody who asks with ``c`` or more, and to nobody who asks with less.
"""

from __future__ import annotations

from decimal import Decimal

from brokers.model import Complete, Cursor, Fill, Order, Partial, Section, rows_of

OVERLAP_S = 60
"""How late a deal may be told."""
CLOCKLESS_OVERLAP_S = 86_400
"""The same where the gateway tells no time, whose clock may then stand in any time zone."""
GUARD_S = 2
"""However far a cursor ran ahead of the clock, this much of the past is asked for."""
REMEMBERED = 10_000


class Sequence:
    """The memory of one connection. ``now_s`` is the gateway's present epoch second, ours where it tells none
    (then ``clockless``)."""

    def __init__(self) -> None:
        self._handed: dict[str, Cursor] = {}
        self._last = 0

    def since(self, cursor: Cursor | None, now_s: int, *, clockless: bool) -> int:
        """From which second on to ask, to learn every fill after ``cursor``."""
        overlap_s = CLOCKLESS_OVERLAP_S if clockless else OVERLAP_S
        if cursor is None:
            return now_s - overlap_s
        return max(0, min(cursor - overlap_s, now_s - GUARD_S))

    def hand_out(
        self, found: Section[Fill], cursor: Cursor | None, now_s: int, *, clockless: bool
    ) -> tuple[Section[Fill], Cursor]:
        """The fills after ``cursor`` of those found, and the cursor to ask with next time.

        Without a cursor none is wanted: what was found is held by the positions already, and the first cursor is
        placed so that its overlap does not reach back before now. A section that is not COMPLETE keeps the cursor
        where it was, so that the same fills are asked for until they can be read.
        """
        if cursor is None:
            first = now_s if clockless else now_s + OVERLAP_S
            return self._without_earlier(found), self._remember(found, first)
        if isinstance(found, Complete):
            fresh = Complete(tuple(f for f in found.rows if self._handed.get(f.fill_id, cursor + 1) > cursor))
            return fresh, self._remember(found, max(now_s, cursor), beyond=cursor)
        if isinstance(found, Partial):
            rows = tuple(f for f in found.rows if self._handed.get(f.fill_id, cursor + 1) > cursor)
            return Partial(rows, found.problems), cursor
        return found, cursor

    @staticmethod
    def _without_earlier(found: Section[Fill]) -> Section[Fill]:
        return Partial((), found.problems) if isinstance(found, Partial) else Complete() if rows_of(found) else found

    def _remember(self, found: Section[Fill], cursor: Cursor, beyond: Cursor | None = None) -> Cursor:
        """``beyond`` is what was asked with: another process may have given it out, ahead of the clock of now."""
        fresh = [fill.fill_id for fill in rows_of(found) if fill.fill_id not in self._handed]
        if fresh and beyond is not None:
            cursor = max(cursor, beyond + 1)
        self._last = max(cursor, self._last + 1 if fresh else self._last)
        self._handed.update(dict.fromkeys(fresh, self._last))
        if len(self._handed) > REMEMBERED:
            present = {fill.fill_id for fill in rows_of(found)}
            self._handed = {fill_id: at for fill_id, at in self._handed.items() if fill_id in present}
        return self._last


class Movement:
    """Notices whether an account traded, by the deals and filled quantities it has not seen before."""

    def __init__(self) -> None:
        self._fills: set[str] = set()
        self._filled: dict[str, Decimal] = {}

    def since_last(self, fills: Section[Fill], orders: Section[Order]) -> frozenset[str]:
        """The instruments of which something was filled since the last time this was asked."""
        deals, working = rows_of(fills), rows_of(orders)
        moved = {fill.instrument for fill in deals if fill.fill_id not in self._fills}
        moved |= {o.instrument for o in working if o.filled_quantity > self._filled.get(o.broker_order_id, Decimal(0))}
        self._fills.update(fill.fill_id for fill in deals)
        if len(self._fills) > REMEMBERED:
            self._fills = {fill.fill_id for fill in deals}
        if isinstance(orders, Complete):
            self._filled = {}
        self._filled.update((order.broker_order_id, order.filled_quantity) for order in working)
        return frozenset(moved)
