"""Shares that the delivery of an option brings or takes. Pure.

Options on shares are delivered in India: one in the money on its last day becomes shares at its strike, which arrive a
day or two later (Zerodha, "Policy on physical settlement"). Kite reports no exercise. What the readings show becomes
evidence: an option that has expired, and exactly its number of shares, at its strike, that came into the holdings or
left them within :data:`DAYS` of that, with no trade and from no other leg. Any other arrival stays unexplained; futures
are delivered at a price that Kite does not report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from decimal import Decimal

from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.kite.decode import HOLDINGS
from brokers.model import ContractFacts, Evidence, Position, Reason

DAYS = timedelta(days=4)
"""From the end of the last session: two days of settlement, and a weekend."""

_KEPT = timedelta(minutes=10)
"""How long evidence is reported: by then every consumer has seen it."""
_COST_TOLERANCE = Decimal("0.002")
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class _Option:
    leg: str
    quantity: Decimal
    facts: ContractFacts


@dataclass(frozen=True, slots=True)
class _Shares:
    """The quantity of a share held in all legs, and its delivered part."""

    total: Decimal = _ZERO
    holding: Position | None = None

    @property
    def delivered(self) -> Decimal:
        return self.holding.quantity if self.holding is not None else _ZERO


_NONE = _Shares()


def _by_share(rows: Iterable[Position]) -> dict[str, _Shares]:
    found: dict[str, _Shares] = {}
    for row in rows:
        known = found.get(row.instrument, _NONE)
        holding = row if row.leg == HOLDINGS else known.holding
        found[row.instrument] = _Shares(known.total + row.quantity, holding)
    return found


class Deliveries:
    """Evidence from the readings of one connection. ``has_expired`` says whether a contract has expired by a time."""

    def __init__(self, has_expired: Callable[[str, BrokerTime], bool]) -> None:
        self._has_expired = has_expired
        self._held: dict[tuple[str, str], _Option] = {}
        self._over: dict[tuple[str, str], _Option] = {}
        self._shares: dict[str, _Shares] | None = None
        self._seen: list[tuple[BrokerTime, Evidence]] = []

    def look(
        self, rows: Iterable[Position], contracts: Mapping[str, ContractFacts], traded: Iterable[str], at: BrokerTime
    ) -> tuple[Evidence, ...]:
        """Compare this reading, whose positions are all known, with the one before it. ``traded`` are the instruments
        with a known trade of today."""
        rows, sold = tuple(rows), frozenset(traded)
        options = {(row.instrument, row.leg): row for row in rows if row.instrument in contracts}
        for key, option in list(self._held.items()):
            if key not in options and self._has_expired(key[0], at):
                self._over[key] = option
                del self._held[key]
        for key, row in options.items():
            facts = contracts[row.instrument]
            if facts.strike is not None and facts.underlying is not None:
                self._held[key] = _Option(row.leg, row.quantity, facts)
        self._over = {
            key: option
            for key, option in self._over.items()
            if option.facts.ends_at is not None and at <= option.facts.ends_at + DAYS
        }
        shares = _by_share(rows)
        if self._shares is not None and self._over:
            for name in shares.keys() | self._shares.keys():
                if name not in sold:
                    self._judge(name, self._shares.get(name, _NONE), shares.get(name, _NONE), at)
        self._shares = shares
        self._seen = [(seen, evidence) for seen, evidence in self._seen if at - seen <= _KEPT]
        return tuple(evidence for _, evidence in self._seen)

    def _judge(self, name: str, was: _Shares, now: _Shares, at: BrokerTime) -> None:
        change = now.delivered - was.delivered
        if change != now.total - was.total:
            return
        alike = [
            (key, option)
            for key, option in self._over.items()
            if change and name.partition(":")[2] == option.facts.underlying and _shares_of(option) == change
        ]
        if len(alike) != 1:  # two candidates: none is chosen
            return
        ((key, option),) = alike
        strike = option.facts.strike or _ZERO
        if change > 0 and not _cost(was.holding, now.holding, change, strike):
            return
        reason = Reason.EXERCISE if option.quantity > 0 else Reason.ASSIGNMENT
        text = f"{option.quantity:f} of {key[0]} expired, and {change:+f} {name} have come at the strike {strike:f}"
        stock = Evidence(reason, name, HOLDINGS, change, text, price=strike, linked=(key[0],))
        contract = Evidence(reason, key[0], option.leg, -option.quantity, text, linked=(name,))
        self._seen += [(at, stock), (at, contract)]
        del self._over[key]


def _shares_of(option: _Option) -> Decimal:
    """Kite counts a quantity in shares."""
    return option.quantity if option.facts.right == "C" else -option.quantity


def _cost(was: Position | None, now: Position | None, change: Decimal, strike: Decimal) -> bool:
    """Whether the shares that arrived cost the strike, as far as the averages are known."""
    had, before = (_ZERO, _ZERO) if was is None else (was.quantity, was.comparable_price)
    after = None if now is None else now.comparable_price
    if before is None or after is None:
        return False
    paid = (had + change) * after - had * before
    return abs(paid - change * strike) <= _COST_TOLERANCE * change * strike
