"""The second from which deals are requested of an MT5 gateway, and what deals and orders show of an account's trading.

The gateway lists deals "since" a whole second, a deal may appear a little late, and many deals share a second. So each
request reaches back behind its cursor, an epoch second of the gateway; see :mod:`brokers.kit.fill_cursor`.
"""

from __future__ import annotations

from decimal import Decimal

from brokers.model import Complete, Cursor, Fill, Order, Section, rows_of

OVERLAP_S = 60
"""How late a deal may appear."""
CLOCKLESS_OVERLAP_S = 86_400
"""The same where the gateway sends no time: its clock may be in any time zone."""
GUARD_S = 2
"""However far a cursor ran ahead of the clock, this much of the past is requested."""
REMEMBERED = 10_000


def since(cursor: Cursor | None, now_s: int, *, clockless: bool) -> int:
    """The second from which to request deals, to get every fill after ``cursor``. ``now_s`` is the gateway's present
    epoch second, or ours where it sends none (then ``clockless``)."""
    overlap_s = CLOCKLESS_OVERLAP_S if clockless else OVERLAP_S
    if cursor is None:
        return now_s - overlap_s
    return max(0, min(cursor - overlap_s, now_s - GUARD_S))


class Movement:
    """Notices whether an account traded, by deals and filled quantities that are new."""

    def __init__(self) -> None:
        self._fills: set[str] = set()
        self._filled: dict[str, Decimal] = {}

    def since_last(self, fills: Section[Fill], orders: Section[Order]) -> frozenset[str]:
        """The instruments in which something was filled since the last call."""
        deals, working = rows_of(fills), rows_of(orders)
        moved = {fill.instrument for fill in deals if fill.fill_id not in self._fills}
        moved |= {o.instrument for o in working if o.filled_quantity > self._filled.get(o.broker_order_id, Decimal(0))}
        self._fills.update(fill.fill_id for fill in deals)
        if len(self._fills) > REMEMBERED:
            self._fills = {fill.fill_id for fill in deals}
        if isinstance(orders, Complete):
            self._filled = {}
        self._filled.update((order.broker_order_id, order.filled_quantity) for order in working)
        return frozenset(moved)
