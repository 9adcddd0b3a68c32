"""The trade server's time zone, and the conversion of its times. Pure, except for what it remembers.

MetaTrader counts all times as seconds since 1970 in the *server's* zone (UTC+2 or +3, with its daylight saving), as its
Python package does. A gateway passes them on, or converts them to UTC. Which of the two is measured: the time in the
reply to GET_ACCOUNT or PING against our clock. Zones differ by at least a quarter of an hour, so a difference of less
than ten minutes is a wrong clock and not a zone.

A gateway whose clock is in one zone and whose deals are in another cannot be believed: its deals "of the future" would
count a second time when their hour comes. They are refused, for as long as they are sent with that time.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from brokers.clocks import BrokerTime, broker_time
from brokers.errors import with_remedy
from brokers.model import Complete, Fill, Order, Partial, RowProblem, Section, SectionName, StreamedFill

_STEP_S = 900
_SMALLEST_ZONE_S = 600
AHEAD_S = 60.0
"""How far the date of a deal may be ahead of the gateway's clock."""
CLOCKLESS_AHEAD_S = 300.0
"""The same where the gateway sends no time, and our clock may be wrong."""

_REMEDY = (
    "Let the gateway send all times in one zone: those of GET_ACCOUNT and PING like those of its deals, all in the "
    "server's zone or all in UTC"
)


class ServerTime:
    """``offset_s`` is how far the gateway's clock is ahead of ours at least, ``None`` where it sends no time;
    ``zone_s`` is the part of it that is a time zone."""

    def __init__(self) -> None:
        self.offset_s: float | None = None
        self.zone_s = 0
        self._refused: dict[str, BrokerTime] = {}

    def forget(self) -> None:
        """Forget the clock until the gateway sends it again."""
        self.offset_s, self.zone_s = None, 0

    def observe(self, time_s: float, received_at: datetime) -> bool:
        """Take the gateway's time from a reply that came at ``received_at``. True where its zone has changed."""
        # Its second may have begun long before the reply came: this is the minimum by which its clock is ahead.
        self.offset_s = time_s - received_at.timestamp()
        zone_s = round(self.offset_s / _STEP_S) * _STEP_S if abs(self.offset_s) >= _SMALLEST_ZONE_S else 0
        moved, self.zone_s = zone_s != self.zone_s, zone_s
        return moved

    @property
    def words(self) -> str:
        """The zone for a person."""
        hours, minutes = divmod(abs(self.zone_s) // 60, 60)
        return f"UTC{'-' if self.zone_s < 0 else '+'}{hours}:{minutes:02d}" if self.zone_s else "UTC"

    @property
    def skew(self) -> timedelta:
        """How far the gateway's clock is ahead of ours, apart from its zone."""
        return timedelta(seconds=(self.offset_s or 0.0) - self.zone_s)

    def _ahead(self, now: datetime, seconds: float) -> BrokerTime:
        """So long after the present of the gateway's clock."""
        return broker_time(now + self.skew + timedelta(seconds=seconds))

    def orders(self, section: Section[Order]) -> Section[Order]:
        """The same orders, with their times in UTC."""
        if not self.zone_s or not isinstance(section, Complete | Partial):
            return section
        zone = timedelta(seconds=self.zone_s)
        rows = (replace(o, submitted_at=o.submitted_at and o.submitted_at - zone) for o in section.rows)
        return replace(section, rows=tuple(rows))

    def fills(self, section: Section[Fill], now: datetime) -> Section[Fill]:
        """The same fills with their times in UTC, without those of the future."""
        if not isinstance(section, Complete | Partial) or not section.rows:
            return section
        zone = timedelta(seconds=self.zone_s)
        limit = self._ahead(now, CLOCKLESS_AHEAD_S if self.offset_s is None else AHEAD_S)
        rows: list[Fill] = []
        problems: list[RowProblem] = []
        for fill in section.rows:
            made = replace(fill, time=fill.time - zone) if zone else fill
            if made.time > limit or self._refused.get(made.fill_id) == made.time:
                self._refused[made.fill_id] = made.time
                problems.append(self._problem(made))
            else:
                self._refused.pop(made.fill_id, None)
                rows.append(made)
        if not problems:
            return replace(section, rows=tuple(rows))
        known = section.problems if isinstance(section, Partial) else ()
        return Partial(tuple(rows), (*known, *problems))

    def streamed(self, pushed: StreamedFill, now: datetime) -> StreamedFill | None:
        """The same execution with its times in UTC; ``None`` where the gateway's zone is not known, or the time is in
        the future. May be called from any thread."""
        fill, order, zone = pushed.fill, pushed.order, timedelta(seconds=self.zone_s)
        at = fill.time - zone
        if self.offset_s is None or at > self._ahead(now, AHEAD_S) or fill.fill_id in self._refused:
            return None
        if order is not None:
            order = replace(order, submitted_at=order.submitted_at and order.submitted_at - zone)
        return StreamedFill(replace(fill, time=at), order)

    def _problem(self, fill: Fill) -> RowProblem:
        clock = "our clock (it sends none)" if self.offset_s is None else "the gateway's own clock"
        found = (
            f"deal {fill.fill_id} was dated {fill.time:%Y-%m-%d %H:%M:%S}, after {clock}: they are not in one time zone"
        )
        return RowProblem(SectionName.FILLS, fill.instrument, fill.fill_id, with_remedy(found, _REMEDY))
