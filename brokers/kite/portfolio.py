"""Everything that is held, from every place in which Zerodha keeps it: the day's positions, the holdings, and margin.

A purchase is a row of ``net`` on its day. From the next morning a CNC purchase is in the holdings, and an MTF purchase
in the holding's ``mtf``, which is the same leg MTF. A sale out of either is a negative row of ``net`` until the night.

A holding belongs to no exchange: the broker shows it under one, often not the one on which it was bought. One ISIN is
one instrument here, under the name by which this account trades it; over a restart, under the name of its book. Where
an exchange changes the symbol of a company, its ISIN stays (ZOMATO's is ETERNAL's since 2025), and so does the book.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import field, replace
from decimal import Decimal

from brokers.errors import with_remedy
from brokers.frozen import dataclass
from brokers.kite.decode import Listing, PositionRow
from brokers.model import Fill, Position, Side

MTF = "MTF"
DELIVERED = ("CNC", MTF)
_EQUITY = ("NSE", "BSE")
_ZERO = Decimal(0)


class Names:
    """The name of each holding; once assigned it stays. ``configured`` are the names in the configuration."""

    def __init__(self, configured: Iterable[str] = ()) -> None:
        self._configured = frozenset(configured)
        self._bought: set[str] = set()
        self._of: dict[str, str] = {}
        self._pinned: Mapping[str, str] = {}
        self._renamed: dict[str, str] = {}
        self._apart: frozenset[str] = frozenset()

    def pin(self, identities: Mapping[str, str]) -> None:
        """Assign the ISINs of the books to their names. An ISIN of which several have a book is left as it is."""
        if identities == self._pinned:
            return
        self._pinned = dict(identities)
        isins = list(self._pinned.values())
        self._of |= {isin: name for name, isin in self._pinned.items() if isins.count(isin) == 1}

    def learn(self, net: Iterable[PositionRow]) -> None:
        """Keep these names: what is bought for delivery is held under the same name tomorrow."""
        self._bought.update(row.instrument for row in net if row.leg in DELIVERED)

    def learn_shares(self, held: Collection[PositionRow]) -> None:
        """Keep the symbols that mean one company on one exchange and another one on the other, and the new symbols of
        shares that go by an old one here."""
        isins: dict[str, set[str]] = {}
        for row in held:
            if row.isin is not None:
                isins.setdefault(row.instrument.partition(":")[2], set()).add(row.isin)
        self._apart |= {symbol for symbol, found in isins.items() if len(found) > 1}
        for row in held:
            names, name = (row.instrument, *siblings(row.instrument)), self._of.get(row.isin or "", row.instrument)
            if name not in names and name == self.name(row):
                self._renamed |= dict.fromkeys(names, name)

    def shared(self, instrument: str) -> str:
        """The configured name of a share, where only its name on the other exchange is configured; else its own."""
        if instrument in self._configured or instrument.partition(":")[2] in self._apart:
            return instrument
        if instrument in self._renamed:
            return self._renamed[instrument]
        return next((name for name in siblings(instrument) if name in self._configured), instrument)

    def traded(self, instrument: str) -> bool:
        """Whether this account trades it, by any of its names."""
        return bool({instrument, *siblings(instrument)} & (self._configured | self._bought))

    def name(self, row: PositionRow) -> str:
        """The name of a holding: that of its ISIN, else the configured one or that of its purchase, else its own."""
        identity = row.isin or row.instrument
        own, others = row.instrument, siblings(row.instrument)
        if own in self._configured and self._of.get(identity, own) not in (own, *others):
            return own  # its new symbol is configured already
        if identity not in self._of:
            others = () if own.partition(":")[2] in self._apart else others
            known = [n for names in (self._configured, self._bought) for n in (own, *others) if n in names]
            self._of[identity] = known[0] if known else own
        return self._of[identity]

    def uncertain(self, row: PositionRow) -> tuple[str, ...]:
        """Other names by which a holding may have been bought, where nothing shows which."""
        own, others = row.instrument, siblings(row.instrument)
        if self._configured or self.name(row) != own or {own, *others} & self._bought:
            return ()
        if row.isin is not None and self._pinned.get(own) == row.isin and not {*others} & self._pinned.keys():
            return ()  # its book says so
        return others


EXCHANGES = frozenset({"NSE", "BSE", "NFO", "BFO", "CDS", "BCD", "MCX", "NCO", "MF", "NSEIX", "GLOBAL"})
"""Kite Connect documentation, constants: the exchanges."""


def misnamed(configured: Iterable[str]) -> dict[str, str]:
    """Configured names that cannot be Kite's (EXCHANGE:TRADINGSYMBOL in capitals), each with what to do."""
    found: dict[str, str] = {}
    for name in configured:
        exchange, _, symbol = name.partition(":")
        if exchange in EXCHANGES and symbol and symbol == symbol.upper():
            continue
        words = re.split(r"[:/.\s]", name.upper())
        place, rest = (words[0], words[1:]) if words[0] in EXCHANGES and len(words) > 1 else ("NSE", words)
        near = f"{place}:{''.join(rest)}"
        found[name] = with_remedy(
            f"the broker has no instrument {name}: its names are EXCHANGE:TRADINGSYMBOL, in capitals",
            f"Did you mean {near}? Correct it under `instruments`",
        )
    return found


def siblings(instrument: str) -> tuple[str, ...]:
    """The names of a share on the other exchanges."""
    exchange, _, symbol = instrument.partition(":")
    return tuple(f"{other}:{symbol}" for other in _EQUITY if other != exchange) if exchange in _EQUITY else ()


@dataclass(frozen=True, slots=True)
class Portfolio:
    """``rows`` are the legs, ``holdings`` those of delivered shares. ``left_out`` are instruments that may be among the
    holdings under another name. ``isins`` are those of the holdings, by name."""

    rows: tuple[Position, ...]
    holdings: tuple[Position, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    isins: Mapping[str, str] = field(default_factory=dict)

    def without(self, instruments: Collection[str]) -> Portfolio:
        """The same without the rows of these instruments."""
        rows, holdings = (
            tuple(row for row in one if row.instrument not in instruments) for one in (self.rows, self.holdings)
        )
        return replace(self, rows=rows, holdings=holdings)


def portfolio(
    net: Listing[PositionRow], held: Listing[PositionRow] | None, names: Names, trades: Iterable[Fill] | None
) -> Portfolio:
    """All legs of an account. ``trades`` are the day's, ``None`` where they are not all known."""
    names.learn(net.rows.values())
    made = _by_leg(trades) if trades is not None else None
    rows: dict[tuple[str, str], Position] = {}
    for row in net.rows.values():
        if row.position is not None:
            key = row.instrument, row.leg
            rows[key] = with_open_average(row, None if made is None else made.get(key, ()))
    holdings: dict[tuple[str, str], Position] = {}
    left_out: dict[str, str] = {}
    isins: dict[str, set[str]] = {}
    for row in held.rows.values() if held is not None else ():
        if row.position is None and row.mtf is None:
            continue
        name = names.name(row)
        if row.isin is not None:
            isins.setdefault(name, set()).add(row.isin)
        if row.position is not None:
            _add(holdings, replace(row.position, instrument=name))
        if row.mtf is not None:
            _add(rows, replace(row.mtf, instrument=name))
        for other in names.uncertain(row):
            left_out[other] = f"shares of {row.isin or 'no ISIN'} are held, which the broker calls {row.instrument}"
    whole = tuple(row for row in rows.values() if row.quantity)
    return Portfolio(whole, tuple(holdings.values()), left_out, {n: min(i) for n, i in isins.items() if len(i) == 1})


def _add(rows: dict[tuple[str, str], Position], row: Position) -> None:
    """Add up two places of one leg, at the average of both where both are known and on one side."""
    key = row.instrument, row.leg
    known = rows.get(key)
    if known is None:
        rows[key] = row
        return
    quantity = known.quantity + row.quantity
    one, other = known.comparable_price, row.comparable_price
    average = None
    if one is not None and other is not None and known.quantity * row.quantity > 0:
        average = (known.quantity * one + row.quantity * other) / quantity
    rows[key] = Position(row.instrument, row.leg, quantity, average or _ZERO, price_told=average is not None)


def _by_leg(trades: Iterable[Fill]) -> dict[tuple[str, str], list[Fill]]:
    found: dict[tuple[str, str], list[Fill]] = {}
    for fill in sorted(trades, key=lambda fill: (fill.time, len(fill.fill_id), fill.fill_id)):
        found.setdefault((fill.instrument, fill.leg or ""), []).append(fill)
    return found


def with_open_average(row: PositionRow, trades: Iterable[Fill] | None) -> Position:
    """A row's position with the average of its open quantity.

    Observed at Kite: ``average_price`` covers everything bought in the row since it began (sold, where it is short),
    including what was closed since. Where nothing was closed that is the average of the open quantity. Else that
    average is computed from the day's trades; where they do not add up to the row, the average counts as unknown.
    """
    held = row.position
    assert held is not None  # noqa: S101 - the caller passes only rows that are not flat
    closed = row.sold if held.quantity > 0 else row.bought
    if not held.price_told or not closed:
        return held
    average = _replayed(row, held, list(trades)) if trades is not None else None
    return replace(held, price_told=False) if average is None else replace(held, open_average=average)


def _replayed(row: PositionRow, held: Position, trades: list[Fill]) -> Decimal | None:
    carried = row.overnight or _ZERO
    if carried + sum((fill.quantity * fill.side.sign for fill in trades), _ZERO) != held.quantity:
        return None
    for stated, side in ((row.bought, Side.BUY), (row.sold, Side.SELL)):
        if stated is not None and stated != sum((fill.quantity for fill in trades if fill.side is side), _ZERO):
            return None
    opening = [fill for fill in trades if fill.side.sign * held.quantity > 0]
    price = _ZERO
    if carried * held.quantity > 0:
        opened = sum((fill.quantity for fill in opening), _ZERO)
        paid = sum((fill.quantity * fill.price for fill in opening), _ZERO)
        price = (held.average_price * (abs(carried) + opened) - paid) / abs(carried)
        if price <= 0:
            return None
    quantity = carried
    for fill in trades:
        signed = fill.quantity * fill.side.sign
        total = quantity + signed
        if quantity * signed >= 0:
            price = (quantity * price + signed * fill.price) / total
        elif total * signed > 0:
            price = fill.price
        quantity = total
    return price
