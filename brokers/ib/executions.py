"""What TWS's list of executions gives away by itself. TWS lists executions "since midnight", without a number that
grows: that something traded between two lists, and that a day ended, is told by their ids."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo

from brokers.model import Cursor

_DAY_MS = 86_400_000


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
