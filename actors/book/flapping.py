"""What comes and goes all the time is reported a bounded number of times. Pure.

A broker that flaps (a row that can be read and cannot, a connection that is lost and restored) would fill the journal
with what opens and closes. The laws of this module: what changes a book is never kept back; a break that flaps is held
open, which forbids trading as any open break does, until it has been calm for :data:`CALM`; of what it says meanwhile
nothing is reported.
"""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

CALM = timedelta(minutes=1)
REPORTS_AT_MOST = 20
"""So often a break may be reported within :data:`CALM`; from then on it flaps."""
PROBLEMS_AT_MOST = 50
"""So many unreadable rows of one section are breaks of their own; the others are one together."""

SubjectT = TypeVar("SubjectT", bound=Hashable)


class RecentReports(Generic[SubjectT]):
    """When each subject was reported lately. It is no part of a book's state: one that is loaded begins anew."""

    def __init__(self, times: dict[SubjectT, tuple[datetime, ...]] | None = None) -> None:
        self._times = {} if times is None else times

    def copy(self) -> RecentReports[SubjectT]:
        """One that goes on by itself."""
        return RecentReports(dict(self._times))

    def add(self, subject: SubjectT, now: datetime) -> None:
        """It was reported, now."""
        lately = self._lately(subject, now)
        self._times[subject] = (*lately[1 - REPORTS_AT_MOST :], now)
        for other in [one for one in self._times if not self._lately(one, now)]:
            del self._times[other]

    def flaps(self, subject: SubjectT, now: datetime) -> bool:
        """Whether it was reported too often lately."""
        return len(self._lately(subject, now)) >= REPORTS_AT_MOST

    def _lately(self, subject: SubjectT, now: datetime) -> tuple[datetime, ...]:
        # After the clock was set back, what is to come is not lately either.
        return tuple(at for at in self._times.get(subject, ()) if abs(now - at) < CALM)
