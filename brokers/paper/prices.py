"""The prices of a paper account: fed by its user, standing still, or a seeded walk. Pure.

The laws of this module: the same seed gives the same prices, step by step, whatever is read in between; a price is
above zero, and its bid is not above its ask.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from hashlib import sha256

from brokers.frozen import dataclass

ZERO = Decimal(0)
MOST_DIGITS = 12
"""The largest number of digits before and behind the point, of a quantity or a price."""


@dataclass(frozen=True, slots=True)
class Market:
    """How one symbol trades.

    ``start`` is the first bid; without it there is no price before one is fed. With a ``seed`` the bid moves one
    ``tick`` down, not at all, or up every ``step_s`` seconds; without one it stands. The ask is ``spread`` above the
    bid. ``slippage`` is how much worse than the price MARKET and STOP orders fill, ``liquidity`` the quantity that can
    be bought, and sold, at one price before it moves; ``None`` is any. With a ``tick``, prices between two ticks are
    rejected.
    """

    symbol: str
    start: Decimal | None = None
    tick: Decimal | None = None
    spread: Decimal = ZERO
    seed: int | None = None
    step_s: float = 1.0
    slippage: Decimal = ZERO
    liquidity: Decimal | None = None

    @property
    def walks(self) -> bool:
        """Whether its price moves by itself."""
        return self.start is not None and self.seed is not None and self.tick is not None

    def quote(self, now: datetime) -> Quote | None:
        """Its first price; ``None`` where it has to be fed."""
        return None if self.start is None else self.quoted(self.start, self.start + self.spread, now)

    def quoted(self, bid: Decimal, ask: Decimal, now: datetime, *, fed: bool = False, steps: int = 0) -> Quote:
        """A new price, with the full liquidity of one price."""
        return Quote(bid, ask, now, fed, steps, self.liquidity, self.liquidity)

    def step(self, last: Quote, now: datetime) -> Quote:
        """The next price of its walk. Only for a market that walks."""
        assert self.tick is not None  # noqa: S101 - only then does it walk
        steps = last.steps + 1
        ticks = _chance(f"{self.seed}/{self.symbol}/{steps}") % 3 - 1
        bid = max(last.bid + self.tick * ticks, self.tick)
        return self.quoted(bid, bid + self.spread, now, steps=steps)


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of a symbol, and the quantity that can still be sold at its bid and bought at its ask before it moves
    (``None``: any quantity). ``steps`` is how far its walk has come."""

    bid: Decimal
    ask: Decimal
    at: datetime
    fed: bool
    steps: int
    bid_left: Decimal | None
    ask_left: Decimal | None


def _chance(name: str) -> int:
    """A pseudo-random number that is the same for a name in every version of Python."""
    return int.from_bytes(sha256(name.encode()).digest()[:8])


def problem_with(bid: Decimal, ask: Decimal) -> str | None:
    """Why these are not a price; ``None`` when they are."""
    for name, value in (("bid", bid), ("ask", ask)):
        if not is_amount(value):
            return f"{name} {value} is not a number above 0 of at most {MOST_DIGITS} digits"
    return f"bid {bid} is above ask {ask}" if bid > ask else None


def is_amount(value: Decimal) -> bool:
    """Whether it is above zero, and of a size at which sums stay exact."""
    if not value.is_finite() or value <= 0 or len(value.as_tuple().digits) > MOST_DIGITS:
        return False
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -MOST_DIGITS and value.adjusted() < MOST_DIGITS
