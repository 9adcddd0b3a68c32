"""What an instrument actor counts of its own cycles, and what comes together over its incarnations."""

from __future__ import annotations

from dataclasses import replace

from actors.events import Severity
from actors.messages import CycleReport, InstrumentHealth, Statistics
from actors.reconciliation.reconciliation_pass import Status


class Tally:
    """Statistics over reports, in which a discrepancy counts once, however many cycles it stays open."""

    def __init__(self) -> None:
        self.statistics = Statistics()
        self._open: set[str] = set()

    def count(self, report: CycleReport) -> None:
        """Add one cycle."""
        old = self.statistics
        new = [found for found in report.discrepancies if found.found.id not in self._open]
        still_open = {found.found.id for found in report.discrepancies if not found.resolved}
        # A cycle that learned nothing need not show every break there is.
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
        )


class Totals:
    """The statistics of instruments over all of their incarnations that were asked."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, Statistics]] = {}
        self._former: dict[str, Statistics] = {}

    def with_former(self, name: str, incarnation: int, health: InstrumentHealth) -> InstrumentHealth:
        """What an actor says of itself, its statistics with those of the ones it came in the place of."""
        before, last = self._last.get(name, (incarnation, Statistics()))
        if before != incarnation:
            self._former[name] = self._former.get(name, Statistics()).plus(last)
        self._last[name] = (incarnation, health.statistics)
        former = self._former.get(name)
        return health if former is None else replace(health, statistics=former.plus(health.statistics))
