"""Bounds how often something that comes and goes is reported. Pure.

A broker that flaps (a row that is readable one moment and not the next, a connection that is lost and restored) would
fill the journal with breaks that open and close. The laws of this module: anything that changes a book is always
written; a break that flaps is held open, which forbids trading like any open break, until it has been calm for
:data:`CALM`; its changes until then are not reported.
"""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

CALM = timedelta(minutes=1)
REPORTS_AT_MOST = 20
"""How often a break may be reported within :data:`CALM` before it counts as flapping."""
PROBLEMS_AT_MOST = 50
"""How many unreadable rows of one section get a break each; the rest share one."""

SubjectT = TypeVar("SubjectT", bound=Hashable)


class RecentReports(Generic[SubjectT]):
    """When each subject was recently reported. It is no part of a book's state: a loaded book starts without it."""

    def __init__(self, times: dict[SubjectT, tuple[datetime, ...]] | None = None) -> None:
        self._times = {} if times is None else times

    def copy(self) -> RecentReports[SubjectT]:
        """An independent copy."""
        return RecentReports(dict(self._times))

    def add(self, subject: SubjectT, now: datetime) -> None:
        """Count a report of the subject at ``now``."""
        lately = self._lately(subject, now)
        self._times[subject] = (*lately[1 - REPORTS_AT_MOST :], now)
        for other in [one for one in self._times if not self._lately(one, now)]:
            del self._times[other]

    def flaps(self, subject: SubjectT, now: datetime) -> bool:
        """Whether the subject was reported too often recently."""
        return len(self._lately(subject, now)) >= REPORTS_AT_MOST

    def _lately(self, subject: SubjectT, now: datetime) -> tuple[datetime, ...]:
        # After the clock was set back, a time far in the future is not recent either.
        return tuple(at for at in self._times.get(subject, ()) if abs(now - at) < CALM)
