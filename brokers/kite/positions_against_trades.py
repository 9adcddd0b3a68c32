"""Whether positions and trades of one reading belong together.

A row of ``net`` says how much of it was bought and sold today, and the trades of the day say the same in pieces. Where
the two differ, something was filled between the two requests, or one of the two lags behind. A difference that stands
unchanged for ``STANDING_S`` is a peculiarity (a product converted into another), and no lag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from brokers.errors import with_remedy
from brokers.kit.doubt import Doubts, doubted
from brokers.kite.decode import Listing, PositionRow
from brokers.model import Complete, Fill, Partial, Position, Section

STANDING_S = 10.0

Clash = tuple[str, str, Decimal | None, Decimal | None, Decimal, Decimal]
"""Instrument, leg, bought and sold by the position's word, bought and sold by the trades."""

_ZERO = Decimal(0)


def clashes(net: Listing[PositionRow], fills: Section[Fill]) -> frozenset[Clash]:
    """Where both are known and differ. An instrument with an unreadable row is not compared: its section says so."""
    if not isinstance(fills, Complete):
        return frozenset()
    sums: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
    for fill in fills.rows:
        bought, sold = sums.get((fill.instrument, fill.leg or ""), (_ZERO, _ZERO))
        more = (bought + fill.quantity, sold) if fill.side.sign > 0 else (bought, sold + fill.quantity)
        sums[(fill.instrument, fill.leg or "")] = more
    told = {(row.instrument, row.leg): (row.bought, row.sold) for row in net.rows.values()}
    unread = {problem.instrument for problem in net.problems}
    found = set()
    for key in sums.keys() | told.keys():
        traded, said = sums.get(key, (_ZERO, _ZERO)), told.get(key, (None, None))
        # A row that says nothing of today differs from nothing traded today in nothing.
        same = said == traded or (said == (None, None) and traded == (_ZERO, _ZERO))
        if not same and not unread & {None, key[0]}:
            found.add((*key, *said, *traded))
    return frozenset(clash for clash in found if clash[0] not in _converted(found))


def _converted(found: set[Clash]) -> set[str]:
    """Instruments whose products differ from their trades and agree with them as a whole: what left one product is in
    another."""
    nets: dict[str, list[Decimal]] = {}
    for instrument, _, bought, sold, traded_in, traded_out in found:
        change = (bought or _ZERO) - (sold or _ZERO) - traded_in + traded_out
        nets.setdefault(instrument, []).append(change)
    return {name for name, changes in nets.items() if len(changes) > 1 and any(changes) and not sum(changes, _ZERO)}


class Agreement(Doubts[Clash]):
    """How long each difference has been there."""

    def __init__(self) -> None:
        super().__init__(STANDING_S)

    def each_believed_at(self, found: frozenset[Clash], now: datetime) -> dict[str, datetime]:
        """When each instrument's differences will have stood for long."""
        last: dict[str, datetime] = {}
        for clash in found:
            at = self.believed_at(clash, now)
            last[clash[0]] = max(at, last.get(clash[0], at))
        return last


def in_doubt(
    positions: Section[Position], fresh: frozenset[Clash], believed_at: Mapping[str, datetime] | None = None
) -> Section[Position]:
    """The positions, less their word on instruments whose trades say otherwise."""
    found = "what it traded today is not the sum of its trades, so positions and trades may not belong together"
    text = with_remedy(found, f"Both are read again, and believed when they say the same for {STANDING_S:g} s")
    doubtful = {clash[0] for clash in fresh}
    if doubtful and isinstance(positions, Complete | Partial):
        positions = replace(positions, rows=tuple(row for row in positions.rows if row.instrument not in doubtful))
    return doubted(positions, doubtful, text, believed_at or {})
