"""What TWS's list of executions shows by itself. TWS lists executions "since midnight", without a growing number: only
the ids show that something traded between two lists, and that a day ended."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo

from brokers.model import Cursor

_DAY_MS = 86_400_000


class Listing:
    """Notices from the lists alone that something traded between two of them, and that a day ended."""

    def __init__(self) -> None:
        self._seen: frozenset[tuple[str, str]] = frozenset()
        self._roots: frozenset[str] = frozenset()

    def moved(self, listed: Iterable[tuple[str, str]]) -> frozenset[str]:
        """The instruments with an execution, as (instrument, execId), that no earlier list had."""
        now = frozenset(listed)
        fresh, self._seen = now - self._seen, self._seen | now
        return frozenset(instrument for instrument, _ in fresh)

    def cut(self, roots: Iterable[str]) -> bool:
        """Whether executions of the last list are missing from this one, which was read whole. If so, the day before is
        forgotten."""
        now, before = frozenset(roots), self._roots
        self._roots = now
        ended = bool(before - now)
        if ended:
            self._seen = frozenset(one for one in self._seen if one[1].rpartition(".")[0] in now)
        return ended


def began_before_today(cursor: Cursor, now_ms: int, zone: tzinfo | None) -> bool:
    """Whether a day of TWS ended between the two, so that executions before it are no longer listed. The day is in
    ``zone``, or in UTC where no zone is known."""
    if now_ms - cursor >= _DAY_MS:
        return True
    days = [datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone or UTC).date() for ms in (cursor, now_ms)]
    return days[0] < days[1]
