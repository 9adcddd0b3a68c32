"""The windows in which a broker is known to be away, and quiet hours. Pure: a time in, an answer out.

The law of this module: a window does not make a problem smaller; it only marks it as expected. Times are local times of
a named zone, through each change of daylight saving time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

from brokers.frozen import dataclass

MONDAY, FRIDAY, SATURDAY, SUNDAY = 0, 4, 5, 6
EVERY_DAY = frozenset(range(7))


@dataclass(frozen=True, slots=True)
class Window:
    """From ``begin`` until ``end`` on each day of ``days`` (0 is Monday; the day on which it begins), in local time.
    A window that ends no later than it begins ends on the next day."""

    name: str
    begin: time
    end: time
    zone: str
    days: frozenset[int] = EVERY_DAY

    def around(self, moment: datetime) -> tuple[datetime, datetime] | None:
        """The window that contains a time: when it begins and ends; ``None`` outside."""
        zone = ZoneInfo(self.zone)
        today = moment.astimezone(zone).date()
        for day in (today - timedelta(days=1), today):
            if day.weekday() in self.days:
                begin, end = self._on(day, zone)
                if begin <= moment < end:
                    return begin, end
        return None

    def _on(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        last = day if self.end > self.begin else day + timedelta(days=1)
        return datetime.combine(day, self.begin, zone), datetime.combine(last, self.end, zone)


_NEW_YORK = "America/New_York"
MAINTENANCE: Mapping[str, tuple[Window, ...]] = MappingProxyType(
    {
        # IBKR's system status page: the server reset, Saturday to Thursday 23:45 to 00:45, and Friday's longer one.
        # Once a week, from Sunday 01:00, the gateway asks for a new login.
        "ib": (
            Window("IB's nightly reset", time(23, 40), time(0, 50), _NEW_YORK, EVERY_DAY - {FRIDAY}),
            Window("IB's reset of Friday night", time(22, 55), time(3, 5), _NEW_YORK, frozenset({FRIDAY})),
            Window("IB's weekly re-login", time(1), time(8), _NEW_YORK, frozenset({SUNDAY})),
        ),
        # Kite Connect's documentation: an access token is valid until 6 in the morning of the next day.
        "kite": (Window("Kite's token of the day", time(6), time(9), "Asia/Kolkata"),),
        # OANDA closes its day at 17:00 in New York, when accounts are not available for some minutes.
        "oanda": (Window("OANDA's close of the day", time(16, 55), time(17, 15), _NEW_YORK),),
    }
)


def maintenance(broker: str | None, moment: datetime) -> tuple[str, datetime, datetime] | None:
    """A broker's window that contains a time: its name, and when it begins and ends."""
    for window in MAINTENANCE.get(broker or "", ()):
        found = window.around(moment)
        if found is not None:
            return window.name, *found
    return None
