"""What an instrument's own log tells: Ray's dashboard shows it beside the actor.

The law of this module: it is bounded. A line is written where a cycle ended otherwise than the one before, or found
something new, and else no more often than every five minutes.
"""

from __future__ import annotations

from collections.abc import Callable

from loguru import logger

from actors.messages import CycleReport, Statistics

CALM_S = 300.0
_LONGEST = 300


class Diary:
    """The log of one instrument."""

    def __init__(self, name: str, monotonic_s: Callable[[], float]) -> None:
        self._name = name
        self._monotonic_s = monotonic_s
        self._told: tuple[object, ...] | None = None
        self._told_s = 0.0

    def tell(self, report: CycleReport, so_far: Statistics) -> None:
        """A cycle has ended: write a line where there is something to tell."""
        now_s = self._monotonic_s()
        found = tuple((one.found.id, one.resolved) for one in report.discrepancies)
        ended = (report.status, report.error, found)
        if ended == self._told and now_s - self._told_s < CALM_S:
            return
        self._told, self._told_s = ended, now_s
        logger.info("{}", self._line(report, so_far))

    def _line(self, report: CycleReport, so_far: Statistics) -> str:
        parts = [f"{self._name}: {report.status} in {report.duration_ms:.0f} ms"]
        parts += [report.error[:_LONGEST]] if report.error else []
        parts += [
            f"{one.found.type} {one.found.key}: {one.found.book_value or 'nothing'} → "
            f"{one.found.broker_value or 'nothing'}, {one.correction or ('gone' if one.resolved else 'open')}"
            for one in report.discrepancies
        ]
        parts.append(f"cycles {so_far.cycles}, differences {so_far.discrepancies}, corrections {so_far.corrections}")
        return "; ".join(parts)
