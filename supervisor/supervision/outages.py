"""Outages of the journal, from the audit actor's health. Each is reported once, when the journal can be written again.
Pure.

The law of this module: an outage whose end the audit actor saw has both times from that actor; where the actor was
replaced during the outage, the times are those the supervisor knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from actors.events import Json, to_iso


class Outages:
    """The outages, from one health report of the audit actor to the next. An outage that ended before ``began`` was
    reported by a former supervisor."""

    def __init__(self, began: datetime) -> None:
        self._reported_until = to_iso(began)
        self._away: tuple[Json, Json] | None = None

    def over(self, said: Mapping[str, Json], now: datetime) -> dict[str, Json] | None:
        """The outage that ended, by this health report, and was not reported yet: ``since``, ``until`` and
        ``reason``."""
        if said.get("error") is not None:
            self._away = (said.get("away_since"), said["error"])
            return None
        last, away, self._away = said.get("last_outage"), self._away, None
        found: dict[str, Json] | None = None
        if isinstance(last, dict) and str(last["until"]) > self._reported_until:
            found = dict(last)
        elif away is not None:
            found = {"since": away[0], "until": to_iso(now), "reason": away[1]}
        if found is not None:
            self._reported_until = max(self._reported_until, str(found["until"]))
        return found
