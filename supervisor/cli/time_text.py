"""Times as operators write them, read as aware UTC. Pure: the present is an argument.

The law of this module: an ambiguous text is refused. A time without a zone is UTC, whatever the machine's own zone is;
a time of day is today's, also if it is still to come.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Final

FORMS: Final = (
    "2026-01-31T14:32:05Z, 2026-01-31 14:32, 2026-01-31, 14:32 (today), 90s, 15m, 2h, 3d, 1h30m (that long ago), "
    "now, today, yesterday; UTC where no zone is given"
)
"""The accepted forms, for help and errors."""

_AGO: Final = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?(?: ago)?")
_DATE: Final = re.compile(r"\d{4}-?(\d{2}|W\d{2})-?\d")
_DAY: Final = timedelta(days=1)


class NoMoment(ValueError):
    """A text that names no time."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"{self.text!r} is not a time. Write one of: {FORMS}"


def moment(text: str, now: datetime) -> datetime:
    """The time, aware UTC, that ``text`` names at ``now``; see :data:`FORMS`. A date alone is its midnight. Raises
    :class:`NoMoment`."""
    words = text.strip()
    try:
        return (_named(words.lower(), now) or _ago(words.lower(), now) or _written(words, now)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise NoMoment(text) from None


def _named(words: str, now: datetime) -> datetime | None:
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return {"now": now, "today": midnight, "yesterday": midnight - _DAY}.get(words)


def _ago(words: str, now: datetime) -> datetime | None:
    found = _AGO.fullmatch(words)
    if found is None or not any(found.groups()):
        return None
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return now - timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def _written(words: str, now: datetime) -> datetime:
    if _DATE.match(words):
        return _aware(datetime.fromisoformat(words))
    if ":" not in words:
        raise ValueError(words)  # 1432 could be a year
    of_day = time.fromisoformat(words)
    zone = of_day.tzinfo or UTC
    return datetime.combine(now.astimezone(zone).date(), of_day.replace(tzinfo=zone))


def _aware(written: datetime) -> datetime:
    return written if written.tzinfo is not None else written.replace(tzinfo=UTC)
