"""What an instrument actor counts of its own cycles."""

from __future__ import annotations

from actors.events import Severity
from actors.messages import CycleReport, Statistics
from actors.working import Status


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
