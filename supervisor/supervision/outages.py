"""Outages of the journal, as its actor tells them: each is told once, when the journal can be written again. Pure.

The law of this module: an outage whose end its actor saw is told with both times by that actor; one amid which the
actor was replaced is told as far as the supervisor heard of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from actors.events import Json, to_iso


class Outages:
    """What is known of them, from one answer of the audit actor to the next. What was over before ``began`` was told
    by a supervisor before this one."""

    def __init__(self, began: datetime) -> None:
        self._told = to_iso(began)
        self._away: tuple[Json, Json] | None = None

    def over(self, said: Mapping[str, Json], now: datetime) -> dict[str, Json] | None:
        """The outage that is over by what the audit actor says of itself and that was not told yet: ``since``,
        ``until`` and ``reason``."""
        if said.get("error") is not None:
            self._away = (said.get("away_since"), said["error"])
            return None
        last, away, self._away = said.get("last_outage"), self._away, None
        found: dict[str, Json] | None = None
        if isinstance(last, dict) and str(last["until"]) > self._told:
            found = dict(last)
        elif away is not None:
            found = {"since": away[0], "until": to_iso(now), "reason": away[1]}
        if found is not None:
            self._told = max(self._told, str(found["until"]))
        return found
