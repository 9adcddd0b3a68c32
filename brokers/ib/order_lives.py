"""When the life of an order at Interactive Brokers is over, by its time in force and its exchange's hours, and when a
contract is traded for the last time. Pure.

TWS sends the hours: ``tradingHours`` and ``liquidHours`` of a contract's details, for about a week ahead, holidays and
short days included. Nothing is claimed of a day that they do not cover, nor where their time zone is one of the old
abbreviations (``EST``), which leave summer time open.

An order's row has no time of placement, and none is needed: a day order that works now is over at the end of the first
session that ends from now on. A session of two parts (with lunch, or a night session before its day) ends with its
last part. Where regular hours and all hours differ, the later ones count for everything but shares and options, so that
no order counts as over too early.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, timedelta
from zoneinfo import ZoneInfo

from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.ib import wire
from brokers.ib.rows import WorkingOrder, order_key
from brokers.ib.wire import BAG, Contract, OrderTerms
from brokers.kit.foreign_row import BadRow
from brokers.model import Complete, Order, Partial, Section

_FOR_THE_SESSION = frozenset({"DAY", "IOC", "FOK", "OPG", "AUC"})
"""TWS API documentation, Order.Tif: good for the day; at once or not at all; in the opening or an auction of the day.
An order placed while the market is closed waits for the next session, so all of them are over at the end of that."""
_UNTIL = "GTD"
_REGULAR_HOURS = frozenset({"STK", "OPT", "WAR", "IOPT"})
"""Security types traded in regular hours alone, unless the order is ``outsideRth``."""
_WITHOUT_SUMMER_TIME = frozenset({"EST", "MST", "HST", "GMT"})
"""Names of fixed offsets in the IANA tables. TWS has used them for places that have summer time."""
_SPAN = re.compile(r"(?:\d{8}:)?\d{4}-(?:(\d{8}):)?(\d{4})", re.ASCII)
_ANYWHERE = timedelta(hours=12)
"""How far behind UTC a day can be: it ends there last."""
_KNOWN_AHEAD = timedelta(days=5)
"""TWS names the hours of about a week."""
_MOMENTS_KEPT = 5_000
_STILL_LISTED = timedelta(hours=1)
"""An order still listed this long after its end shows that the hours were wrong."""


@dataclass(frozen=True, slots=True)
class Hours:
    """When sessions of a contract end: in ``all_hours``, and in regular ones."""

    all_hours: tuple[BrokerTime, ...]
    regular: tuple[BrokerTime, ...]
    zone: ZoneInfo

    @classmethod
    def parse(cls, zone: str, trading: str, liquid: str) -> Hours | None:
        """Parse the texts of a contract's details; ``None`` if they cannot be read."""
        try:
            if zone in _WITHOUT_SUMMER_TIME or not zone:
                return None
            place = ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            return None
        closes = _closes(trading, place)
        return cls(closes, _closes(liquid, place) or closes, place) if closes else None

    def end_after(self, at: BrokerTime, *, regular: bool) -> BrokerTime | None:
        """The end of the first session that ends after ``at``; ``None`` where the hours do not reach that far."""
        return next((close for close in (self.regular if regular else self.all_hours) if close > at), None)

    def end_from(self, day: date, *, regular: bool) -> BrokerTime | None:
        """The end of the first session that ends on that day or later, by the exchange's calendar."""
        closes = self.regular if regular else self.all_hours
        return next((close for close in closes if close.astimezone(self.zone).date() >= day), None)

    def last_of(self, day: date) -> BrokerTime | None:
        """When trading ends on that day; ``None`` where no session ends on it, as far as the hours reach."""
        close = self.end_from(day, regular=False)
        return close if close is not None and close.astimezone(self.zone).date() == day else None


def _closes(words: str, zone: ZoneInfo) -> tuple[BrokerTime, ...]:
    """The last close of each day: ``20260105:0930-20260105:1600;20260106:CLOSED`` (TWS API documentation,
    ContractDetails); the older form names the day once, ``20260105:1700-1515,1530-1600``."""
    latest: dict[date, BrokerTime] = {}
    for day in words.split(";"):
        for span in day.split(","):
            found = _SPAN.fullmatch(span.strip())
            if found is None:
                continue
            try:
                close = BrokerTime.strptime(f"{found[1] or day[:8]} {found[2]}", "%Y%m%d %H%M").replace(tzinfo=zone)
            except ValueError:
                continue
            latest[close.date()] = max(close, latest.get(close.date(), close))
    return tuple(sorted(close.astimezone(UTC) for close in latest.values()))


class Lives:
    """When the orders of an account end, as first determined."""

    def __init__(self) -> None:
        self._hours: dict[int, Hours | None] = {}
        self._ends: dict[str, tuple[OrderTerms, BrokerTime | None]] = {}
        self._last_moments: dict[tuple[int, date], BrokerTime] = {}

    def learn(self, con_id: int, hours: Hours | None) -> None:
        """Take the hours of a contract; ``None`` where TWS sends none that can be read."""
        self._hours[con_id] = hours

    def lacking(self, orders: Iterable[WorkingOrder], now: BrokerTime) -> list[int]:
        """The contracts whose hours have to be requested, because a working order depends on them."""
        wanted: dict[int, None] = {}
        for order in orders:
            con_id, terms = _place(order.terms.contract), order.terms
            if not con_id or not _goes_by_hours(terms):
                continue
            known = self._hours.get(con_id)
            unasked = con_id not in self._hours
            if unasked or (known is not None and known.end_after(now, regular=False) is None):
                wanted[con_id] = None
        return list(wanted)

    def with_ends(self, section: Section[Order], orders: Iterable[WorkingOrder], now: BrokerTime) -> Section[Order]:
        """The orders, each with the time at which it ends."""
        before, self._ends = self._ends, {}
        for order in orders:
            terms = order.terms
            key = order_key(terms.perm_id, terms.client_id, terms.order_id)
            known = before.get(key)
            if known is None or known[1] is None or _is_changed(known[0], terms) or now > known[1] + _STILL_LISTED:
                known = terms, self._end(terms, now)
            self._ends[key] = known
        return self.known(section)

    def known(self, section: Section[Order]) -> Section[Order]:
        """The orders with the ends that were determined last."""
        if not isinstance(section, Complete | Partial):
            return section
        rows = (_with_end(row, self._ends) for row in section.rows)
        return replace(section, rows=tuple(rows))

    def _end(self, terms: OrderTerms, now: BrokerTime) -> BrokerTime | None:
        hours = self._hours.get(_place(terms.contract))
        regular = terms.contract.sec_type in _REGULAR_HOURS and not terms.outside_hours
        if terms.tif in _FOR_THE_SESSION:
            begins = _begins(terms, now)
            return None if hours is None or begins is None else hours.end_after(begins, regular=regular)
        if terms.tif != _UNTIL or not terms.good_till:
            return None
        if len(terms.good_till) > len("yyyymmdd"):
            return _moment(terms.good_till)
        return None if hours is None else _on_day(hours, terms.good_till, regular=regular)

    def expiring(self, contracts: Iterable[Contract], now: BrokerTime) -> list[int]:
        """The contracts whose hours have to be requested, because their last day is within what TWS reports ahead."""
        days = (now - _ANYWHERE).date(), (now + _KNOWN_AHEAD).date()
        wanted = {one.con_id: one.expiry for one in contracts if one.expiry is not None and one.con_id}
        return [
            con_id
            for con_id, day in wanted.items()
            if days[0] <= day <= days[1] and self.last_moment(con_id, day) is None
        ]

    def last_moment(self, con_id: int, last_day: date) -> BrokerTime | None:
        """When a contract is traded for the last time, by its last trading day; ``None`` where its hours do not say. A
        moment that was determined stays, as TWS soon names later days alone."""
        known = self._last_moments.get((con_id, last_day))
        hours = self._hours.get(con_id)
        moment = hours.last_of(last_day) if hours is not None else None
        if moment is not None and moment != known:
            self._last_moments[(con_id, last_day)] = known = moment
            while len(self._last_moments) > _MOMENTS_KEPT:
                del self._last_moments[next(iter(self._last_moments))]
        return known


def _begins(terms: OrderTerms, now: BrokerTime) -> BrokerTime | None:
    """From when on an order works, which may be later than now. ``None`` where that cannot be read."""
    if not terms.good_after:
        return now
    begins = _moment(terms.good_after)
    return None if begins is None else max(now, begins)


def _moment(words: str) -> BrokerTime | None:
    """The time in a text; ``None`` where it cannot be read or its zone is unknown."""
    try:
        return wire.moment(words, None)[0]
    except BadRow:
        return None


def _on_day(hours: Hours, day: str, *, regular: bool) -> BrokerTime | None:
    """The end of the session of a date without a time of day: TWS User's Guide, "until the close of the market on the
    date specified"."""
    try:
        return hours.end_from(date.fromisoformat(day), regular=regular)
    except ValueError:
        return None


def _goes_by_hours(terms: OrderTerms) -> bool:
    return terms.tif in _FOR_THE_SESSION or (terms.tif == _UNTIL and len(terms.good_till) == len("yyyymmdd"))


def _place(contract: Contract) -> int:
    """The contract whose hours apply to an order; for a combination that is its first leg."""
    if contract.sec_type == BAG:
        return contract.legs[0].con_id if contract.legs else 0
    return contract.con_id


def _is_changed(before: OrderTerms, now: OrderTerms) -> bool:
    one, other = ((t.tif, t.good_till, t.good_after, t.outside_hours) for t in (before, now))
    return one != other


def _with_end(row: Order, ends: Mapping[str, tuple[OrderTerms, BrokerTime | None]]) -> Order:
    known = ends.get(row.broker_order_id)
    if known is None or known[1] is None or row.status.terminal:
        return row
    return replace(row, expires_at=known[1])
