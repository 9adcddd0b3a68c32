"""When an order at Kite ends, by the session of its exchange.

`exchange_calendars` (XBOM, extra ``calendars``) knows which days are sessions of NSE and BSE, and which are short, for
as long as it knows the holidays: about a year ahead. It knows neither the special sessions of Saturdays and Diwali, nor
the days of currencies and commodities (MCX opens on the evening of many holidays). Where it knows nothing, or is not
installed, the only claim is that no order outlives the day on which it worked; for an order for another day not even
that.

No calendar has these hours: currencies trade to 17:00, cross currency pairs to 19:30 (NSE, "Market timings", currency
derivatives); commodities to 23:30, to 23:55 while the United States have winter time (MCX, circulars on trading hours).
"""

from __future__ import annotations

from datetime import UTC, date, time, timedelta, timezone
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from brokers.clocks import BrokerTime

IST = timezone(timedelta(hours=5, minutes=30), "IST")
_EQUITY = frozenset({"NSE", "BSE", "NFO", "BFO"})
_CURRENCY = frozenset({"CDS", "BCD"})
_COMMODITY = frozenset({"MCX", "NCO"})
_CROSS_PAIRS = ("EURUSD", "GBPUSD", "USDJPY")
_EQUITY_CLOSES = time(15, 30)
_NEW_YORK = ZoneInfo("America/New_York")
_END_OF_DAY = timedelta(days=1)


def good_until(instrument: str, began: BrokerTime, *, for_next_session: bool) -> BrokerTime | None:
    """When a DAY order ends that ``began`` then: at the close of that day, or of the next session where it was placed
    ``for_next_session`` (after market) or began after the close. ``None`` where that is not known."""
    day = began.astimezone(IST).date()
    closes = close_of(instrument, day)
    if not for_next_session and (closes is None or began < closes):
        return closes if closes is not None else _midnight_after(day)
    before = for_next_session and _before_open(instrument, began)
    following = _next_session(instrument.partition(":")[0], day if before else day + _END_OF_DAY)
    return None if following is None else close_of(instrument, following)


def close_of(instrument: str, day: date) -> BrokerTime | None:
    """When trading ends on that day; ``None`` for a day that is no session as far as is known."""
    exchange, _, symbol = instrument.partition(":")
    return _close(exchange, exchange in _CURRENCY and symbol.startswith(_CROSS_PAIRS), day)


def last_moment(instrument: str, last_day: date) -> BrokerTime:
    """When trading of a contract ends for good, by the last day that its exchange lists: at the close of that day, or
    at its midnight where no session of it is known. Some end earlier that day (currencies at 12:30), none later."""
    closes = close_of(instrument, last_day)
    return _midnight_after(last_day) if closes is None else closes


def load() -> None:
    """Load the calendar: it takes a while, once in a process."""
    _calendar()


@lru_cache(maxsize=1024)
def _close(exchange: str, cross_pair: bool, day: date) -> BrokerTime | None:
    if exchange in _CURRENCY:
        return _at(day, time(19, 30) if cross_pair else time(17, 0))
    if exchange in _COMMODITY:
        evening = _at(day, time(23, 30))
        summer = bool(evening.astimezone(_NEW_YORK).dst())
        return evening if summer else _at(day, time(23, 55))
    if exchange not in _EQUITY:
        return None
    calendar = _calendar()
    if calendar is None or not _knows(calendar, day):
        return _at(day, _EQUITY_CLOSES)
    if not calendar.is_session(day.isoformat()):
        return None
    close: BrokerTime = calendar.session_close(day.isoformat()).to_pydatetime()
    return close.astimezone(UTC)


def _before_open(instrument: str, at: BrokerTime) -> bool:
    """Whether ``at`` is in the night before a session, so that the session is the next one."""
    exchange = instrument.partition(":")[0]
    opens = time(9, 15) if exchange in _EQUITY else time(9, 0)
    return at.astimezone(IST).time() < opens


@lru_cache(maxsize=64)
def _next_session(exchange: str, first: date) -> date | None:
    """The first session on that day or after it."""
    calendar = _calendar() if exchange in _EQUITY else None
    if calendar is None or not _knows(calendar, first + timedelta(days=14)):
        return None
    found: date = calendar.date_to_session(first.isoformat(), direction="next").date()
    return found


def _knows(calendar: Any, day: date) -> bool:
    return bool(calendar.first_session.date() <= day <= calendar.last_session.date())


@lru_cache(maxsize=1)
def _calendar() -> Any | None:
    """Loaded when the first order needs it; ``None`` without the extra."""
    try:
        import exchange_calendars
    except ImportError:
        return None
    return exchange_calendars.get_calendar("XBOM")


def _at(day: date, hour: time) -> BrokerTime:
    return BrokerTime.combine(day, hour, tzinfo=IST).astimezone(UTC)


def _midnight_after(day: date) -> BrokerTime:
    return BrokerTime.combine(day + _END_OF_DAY, time(0, 0), tzinfo=IST).astimezone(UTC)
