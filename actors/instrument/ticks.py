"""The times at which the instruments of an account act together. Pure."""

from __future__ import annotations

import math
import zlib
from datetime import UTC, datetime


def tick(account: str, interval_s: float, now: datetime, *, after: bool) -> datetime:
    """The next tick of an account's grid after ``now``, or the last one up to it. The ticks of different accounts are
    apart. With an interval of 0 it is always now."""
    if interval_s <= 0:
        return now
    offset_s = zlib.crc32(account.encode()) % 1000 / 1000 * interval_s
    ticks = math.floor((now.timestamp() - offset_s) / interval_s)
    return datetime.fromtimestamp((ticks + after) * interval_s + offset_s, UTC)
