"""Doubts an answer in which all positions are gone and no deal explains it, as of a terminal that lost its broker.

One position that is gone is an ordinary ghost. Two or more that are gone in one answer, while all deals could be read
and none of them is in any of these instruments, are not believed until a deal explains one, the rows are back, or a
second source confirms it: an account without margin in use.
"""

from __future__ import annotations

from decimal import Decimal

from brokers.errors import with_remedy
from brokers.model import Complete, Failed, Fill, Position, Section

FEWEST = 2
_REMEDY = (
    "Look at the terminal's connection and at its positions. If the account is flat, restart this account: "
    "its actor then believes the first answer"
)


class Vanished:
    """The holdings that were last believed, and what traded since."""

    def __init__(self) -> None:
        self._held: frozenset[tuple[str, str]] = frozenset()
        self._traded: set[str] = set()

    def doubted(self, positions: Section[Position], fills: Section[Fill], traded: frozenset[str]) -> bool:
        """Whether these positions need a second source. ``traded`` are the instruments with fills since the last
        call."""
        self._traded |= traded
        if not isinstance(positions, Complete):
            return False
        if positions.rows or not isinstance(fills, Complete) or len(self._held) < FEWEST:
            self.believe(positions)
            return False
        if self._traded & {instrument for instrument, _ in self._held}:
            self.believe(positions)
            return False
        return True

    def believe(self, positions: Complete[Position]) -> None:
        """Take these positions for what is held."""
        self._held = frozenset((row.instrument, row.leg) for row in positions.rows)
        self._traded.clear()

    def failed(self, margin: Decimal | None) -> Failed:
        """The section for positions in doubt."""
        in_use = "" if margin is None else f", and the account has {margin} of margin in use"
        found = f"all {len(self._held)} positions are gone at once, no deal says why{in_use}"
        return Failed(with_remedy(found, _REMEDY))
