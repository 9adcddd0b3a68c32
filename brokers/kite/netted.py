"""Shares that are bought, sold and held under the names of two exchanges, where both have a book of their own. Pure.

Zerodha support, "Interoperability of exchanges": a sale on the other exchange is delivered out of the purchase. Until
the night Kite shows it as a negative CNC row of its own exchange, and in the morning as less of the other one. And what
is bought on both becomes one holding, under one of the two names. Where only one of them is configured, both are that
instrument (:mod:`brokers.kite.joined`). Otherwise each book holds what the broker no longer shows there, and what two
days' readings show becomes evidence: all of one name that is gone, and exactly as much that came to or left the other,
while neither was traded today.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal

from brokers.clocks import BrokerTime
from brokers.kite.decode import HOLDINGS, IST
from brokers.kite.portfolio import siblings
from brokers.model import Evidence, Position, Reason
from brokers.port import Remembered

_BOUGHT = "CNC"
_LEGS = (_BOUGHT, HOLDINGS)
_KEPT = timedelta(minutes=10)
"""How long evidence is reported: by then every consumer has seen it."""
_ZERO = Decimal(0)

_Legs = Mapping[str, Decimal]


class Netted:
    """Compares each reading with the last one of the day before, or with what the books of an earlier process held."""

    def __init__(self) -> None:
        self._day: date | None = None
        self._evening: dict[str, _Legs] = {}
        self._latest: dict[str, _Legs] = {}
        self._seen: list[tuple[BrokerTime, Evidence]] = []

    def look(
        self,
        rows: Iterable[Position],
        aside: Iterable[Position],
        books: Mapping[str, Remembered],
        unknown: Collection[str],
        traded: Collection[str],
        at: BrokerTime,
    ) -> tuple[Evidence, ...]:
        """The evidence of a reading. ``aside`` are the holdings, where they are not included in ``rows``; ``unknown``
        are the instruments whose rows are in doubt, and ``traded`` those with a trade of today."""
        day = at.astimezone(IST).date()
        if self._day is not None and day != self._day:
            self._evening = self._latest
        self._day = day
        for name, book in books.items():
            if name not in self._latest and book.seen_at is not None and book.seen_at.astimezone(IST).date() < day:
                self._evening.setdefault(name, {leg: book.legs[leg][0] for leg in _LEGS if leg in book.legs})
        left_aside = list(aside)
        now = _by_name([*rows, *left_aside])
        for gone, before in list(self._evening.items()):
            for other in siblings(gone):
                if any(before.values()) and not {gone, other} & {*unknown, *traded}:
                    self._judge(gone, other, now, at, aside=bool(left_aside))
        self._latest = {**{name: self._latest.get(name, {}) for name in unknown}, **now}
        self._seen = [(seen, evidence) for seen, evidence in self._seen if at - seen <= _KEPT]
        return tuple(evidence for _, evidence in self._seen)

    def _judge(self, gone: str, other: str, now: Mapping[str, _Legs], at: BrokerTime, *, aside: bool) -> None:
        legs = {name: (self._evening.get(name, {}), now.get(name, {})) for name in (gone, other)}
        before, after = ({name: sum(pair[i].values(), _ZERO) for name, pair in legs.items()} for i in (0, 1))
        if after[gone] or after[other] != before[other] + before[gone] or after[other] < 0:
            return
        if aside and after[other] and (before[gone] > 0 or legs[other][0].get(_BOUGHT)):
            return  # what was bought goes where it is not compared: only a person can say that it is held
        text = (
            f"{gone} changed by {-before[gone]:+f} and {other} by {before[gone]:+f} overnight, with no trade of either"
        )
        for name, linked in ((gone, other), (other, gone)):
            was, is_now = legs[name]
            for leg in _LEGS:
                change = is_now.get(leg, _ZERO) - was.get(leg, _ZERO)
                if change:
                    self._seen.append((at, Evidence(Reason.SETTLEMENT, name, leg, change, text, linked=(linked,))))
        for name in (gone, other):
            self._evening[name] = now.get(name, {})


def _by_name(rows: Iterable[Position]) -> dict[str, _Legs]:
    found: dict[str, dict[str, Decimal]] = {}
    for row in rows:
        if row.leg in _LEGS:
            legs = found.setdefault(row.instrument, {})
            legs[row.leg] = legs.get(row.leg, _ZERO) + row.quantity
    return dict(found)
