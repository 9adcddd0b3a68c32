"""Whether positions and trades of one reading agree.

A row of ``net`` carries the quantities bought and sold today, and the trades of the day are the same in pieces. Where
the two differ, something was filled between the two requests, or one of the two lags behind. A difference that stays
unchanged for ``STANDING_S`` is no lag but a peculiarity (such as a product converted into another).
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
"""Instrument, leg, bought and sold according to the position, bought and sold according to the trades."""

_ZERO = Decimal(0)


def clashes(net: Listing[PositionRow], fills: Section[Fill]) -> frozenset[Clash]:
    """The differences where both are known. An instrument with an unreadable row is not compared: its section has the
    problem."""
    if not isinstance(fills, Complete):
        return frozenset()
    sums: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
    for fill in fills.rows:
        bought, sold = sums.get((fill.instrument, fill.leg or ""), (_ZERO, _ZERO))
        more = (bought + fill.quantity, sold) if fill.side.sign > 0 else (bought, sold + fill.quantity)
        sums[(fill.instrument, fill.leg or "")] = more
    rows = {(row.instrument, row.leg): (row.bought, row.sold) for row in net.rows.values()}
    unread = {problem.instrument for problem in net.problems}
    found = set()
    for key in sums.keys() | rows.keys():
        traded, stated = sums.get(key, (_ZERO, _ZERO)), rows.get(key, (None, None))
        # A row without today's quantities agrees with no trades today.
        same = stated == traded or (stated == (None, None) and traded == (_ZERO, _ZERO))
        if not same and not unread & {None, key[0]}:
            found.add((*key, *stated, *traded))
    return frozenset(clash for clash in found if clash[0] not in _converted(found))


def _converted(found: set[Clash]) -> set[str]:
    """Instruments whose products differ from their trades but agree with them in total: a product was converted into
    another."""
    nets: dict[str, list[Decimal]] = {}
    for instrument, _, bought, sold, traded_in, traded_out in found:
        change = (bought or _ZERO) - (sold or _ZERO) - traded_in + traded_out
        nets.setdefault(instrument, []).append(change)
    return {name for name, changes in nets.items() if len(changes) > 1 and any(changes) and not sum(changes, _ZERO)}


class Agreement(Doubts[Clash]):
    """How long each difference has existed."""

    def __init__(self) -> None:
        super().__init__(STANDING_S)

    def each_believed_at(self, found: frozenset[Clash], now: datetime) -> dict[str, datetime]:
        """When each instrument's differences will have stood long enough."""
        last: dict[str, datetime] = {}
        for clash in found:
            at = self.believed_at(clash, now)
            last[clash[0]] = max(at, last.get(clash[0], at))
        return last


def in_doubt(
    positions: Section[Position], fresh: frozenset[Clash], believed_at: Mapping[str, datetime] | None = None
) -> Section[Position]:
    """The positions, without those of instruments whose trades disagree."""
    found = "what it traded today is not the sum of its trades, so positions and trades may not belong together"
    text = with_remedy(found, f"Both are read again, and believed when they are the same for {STANDING_S:g} s")
    doubtful = {clash[0] for clash in fresh}
    if doubtful and isinstance(positions, Complete | Partial):
        positions = replace(positions, rows=tuple(row for row in positions.rows if row.instrument not in doubtful))
    return doubted(positions, doubtful, text, believed_at or {})
