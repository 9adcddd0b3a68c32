"""The entries about cycles in an instrument's own log."""

from __future__ import annotations

from actors.messages import CycleReport, Statistics
from actors.runtime.bounded_log import BoundedLog

_LONGEST = 300


class Diary(BoundedLog):
    """The log of one instrument."""

    def write_cycle(self, report: CycleReport, so_far: Statistics) -> None:
        """A cycle has ended."""
        found = tuple((one.found.id, one.resolved) for one in report.discrepancies)
        self.write((report.status, report.error, found), lambda: _line(report, so_far))


def _line(report: CycleReport, so_far: Statistics) -> str:
    parts = [f"{report.status} in {report.duration_ms:.0f} ms"]
    parts += [report.error[:_LONGEST]] if report.error else []
    parts += [
        f"{one.found.type} {one.found.key}: {one.found.book_value or 'nothing'} → "
        f"{one.found.broker_value or 'nothing'}, {one.correction or ('gone' if one.resolved else 'open')}"
        for one in report.discrepancies
    ]
    parts.append(f"cycles {so_far.cycles}, differences {so_far.discrepancies}, corrections {so_far.corrections}")
    return "; ".join(parts)
