"""An instrument actor's statistics of its cycles, and their totals over its incarnations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from actors.events import Severity
from actors.messages import CycleReport, InstrumentHealth, Statistics
from actors.reconciliation.reconciliation_pass import Status
from brokers.frozen import dataclass


class Tally:
    """Statistics of reports, in which a discrepancy counts once, however many cycles it stays open."""

    def __init__(self) -> None:
        self.statistics = Statistics()
        self._open: set[str] = set()

    def count(self, report: CycleReport) -> None:
        """Add one cycle."""
        old = self.statistics
        new = [found for found in report.discrepancies if found.found.id not in self._open]
        still_open = {found.found.id for found in report.discrepancies if not found.resolved}
        # A cycle without an answer need not show every open break.
        self._open = self._open | still_open if report.unverified else still_open
        by_type = dict(old.by_type)
        for found in new:
            by_type[found.found.type] = by_type.get(found.found.type, 0) + 1
        cycles = old.cycles + 1
        self.statistics = Statistics(
            cycles=cycles,
            successes=old.successes + (report.status is Status.SUCCESS),
            failures=old.failures + (report.status is Status.FAILED),
            discrepancies=old.discrepancies + len(new),
            critical=old.critical + sum(found.found.severity is Severity.CRITICAL for found in new),
            corrections=old.corrections + sum(found.correction is not None for found in report.discrepancies),
            by_type=by_type,
            mean_cycle_ms=old.mean_cycle_ms + (report.duration_ms - old.mean_cycle_ms) / cycles,
            longest_cycle_ms=max(old.longest_cycle_ms, report.duration_ms),
            by_status={**old.by_status, report.status.value: old.by_status.get(report.status.value, 0) + 1},
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A difference in the journal, at a ``version`` of its stream: ``new``, or one that had been found before."""

    version: int
    type: str
    new: bool
    critical: bool
    corrected: bool


class Totals:
    """The statistics of instruments over all incarnations that were probed, and over earlier ones, as far as the
    journal has them."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, Statistics]] = {}
        self._former: dict[str, Statistics] = {}
        self._since: dict[str, int] = {}
        self._journaled: Mapping[str, Sequence[Found]] = {}

    def remember(self, found: Mapping[str, Sequence[Found]]) -> None:
        """Add what the journal has of the instruments. The first incarnation that was probed itself reports everything
        after the version that it began with."""
        self._journaled = dict(found)
        for name in self._since:
            self._add_journaled(name)

    def _add_journaled(self, name: str) -> None:
        before = [one for one in self._journaled.get(name, ()) if one.version <= self._since[name]]
        new = [one for one in before if one.new]
        found = Statistics(
            discrepancies=len(new),
            critical=sum(one.critical for one in new),
            corrections=sum(one.corrected for one in before),
            by_type=Counter(one.type for one in new),
        )
        self._former[name] = self._former.get(name, Statistics()).plus(found)
        self._journaled = {other: rest for other, rest in self._journaled.items() if other != name}

    def with_former(self, name: str, incarnation: int, health: InstrumentHealth) -> InstrumentHealth:
        """An actor's own health, with the statistics of its former incarnations added."""
        if health.began_version is not None and name not in self._since:
            self._since[name] = health.began_version
            self._add_journaled(name)
        before, last = self._last.get(name, (incarnation, Statistics()))
        if before != incarnation:
            self._former[name] = self._former.get(name, Statistics()).plus(last)
        self._last[name] = (incarnation, health.statistics)
        former = self._former.get(name)
        return health if former is None else replace(health, statistics=former.plus(health.statistics))
