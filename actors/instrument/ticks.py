"""The moments at which the instruments of an account do something together. Pure."""

from __future__ import annotations

import math
import zlib
from datetime import UTC, datetime


def tick(account: str, interval_s: float, now: datetime, *, after: bool) -> datetime:
    """The next tick of an account's grid after ``now``, or the last one that is not. Accounts tick apart from each
    other. With an interval of 0 it is always now."""
    if interval_s <= 0:
        return now
    offset_s = zlib.crc32(account.encode()) % 1000 / 1000 * interval_s
    ticks = math.floor((now.timestamp() - offset_s) / interval_s)
    return datetime.fromtimestamp((ticks + after) * interval_s + offset_s, UTC)
