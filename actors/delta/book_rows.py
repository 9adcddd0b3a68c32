"""What a table said of each contract at one time: its newest rows as claims, and what of them cannot be believed. Pure.

The law of this module: a number is told to its last digit, with how finely its column tells at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import pyarrow as pa

from actors.delta.book_spec import BookTableSpec
from actors.delta.latest_rows import LEG, TIED, TIME
from actors.events import to_iso, to_text
from brokers.model import LONG, SHORT, Claim, ClaimDoubt, Claims, LegScheme

AHEAD_AT_MOST = timedelta(minutes=15)
"""How far the clock of whoever writes may be ahead. A row from tomorrow would be the newest one until then."""

FLOAT_DIGITS: Final = {pa.float64(): 15, pa.float32(): 6}
"""The decimal digits that a binary number keeps, whichever they are."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class State:
    """What was read: the newest rows, the files that they are from, and what could not be placed. ``nobodys`` is the
    newest time of a row without a contract, ``None`` for one without a time too."""

    opened: int
    version: int
    schema: pa.Schema
    files: frozenset[str]
    rows: pa.Table
    nobodys: tuple[int | None, ...] = ()
    timeless: frozenset[str] = frozenset()
    unordered: str | None = None
    places: Mapping[str, list[int]] = field(default_factory=dict)


class DeltaBook:
    """What a table said at one time."""

    def __init__(self, spec: BookTableSpec, state: State, now: datetime, stale: str | None) -> None:
        self._spec = spec
        self._state = state
        self._now = now
        self._stale = stale

    def claims(self, instrument: str, identity: str | None) -> Claims:
        """Of one instrument, by its name or by the broker's lasting id of it."""
        if self._stale is not None:
            return Claims((), (ClaimDoubt(None, stale=True, text=self._stale),))
        key = instrument
        if self._spec.by_identity:
            if identity is None and not instrument.isdigit():
                found = f"column {self._spec.key}: the broker has not told yet which {self._spec.key} {instrument} is"
                return Claims((), (ClaimDoubt(None, stale=False, text=f"{found}. It is asked again"),))
            key = identity or instrument
        return self._claims_of(key)

    def held(self, names: Mapping[str, str]) -> Mapping[str, str]:
        """What each contract holds that is not flat, in words."""
        found: dict[str, str] = {}
        for key in self._state.places if self._stale is None else ():
            words = [f"{row.leg} {to_text(row.quantity)}" for row in self._claims_of(key).rows if row.quantity]
            if words:
                found[names.get(key, key) if self._spec.by_identity else key] = ", ".join(words)
        return found

    def _claims_of(self, key: str) -> Claims:
        state = self._state
        made = [self._claim(place) for place in state.places.get(key, ())]
        rows = [one for one in made if isinstance(one, Claim)]
        doubts = [one for one in made if isinstance(one, ClaimDoubt)]
        newest = max((row.at for row in rows), default=None)
        for at in state.nobodys:
            if at is None or newest is None or time_of(at) >= newest:
                columns = " or ".join(filter(None, (self._spec.key, self._spec.leg)))
                when = "without a time" if at is None else f"of {to_iso(time_of(at))}"
                found = f"a row {when} has null in column {columns}, and may be of any contract"
                doubts.append(ClaimDoubt(None, stale=False, text=f"{found}: give it its contract, or delete it"))
        if key in state.timeless:
            found = f"a row of {key} has null in column {self._spec.time}, and may be its newest"
            doubts.append(ClaimDoubt(None, stale=False, text=f"{found}: give it its time, or delete it"))
        if self._spec.leg is None and self._spec.legs is LegScheme.SIDED:
            rows = [side for row in rows for side in _sides(row)]
        return Claims(tuple(rows), tuple(doubts))

    def _claim(self, place: int) -> Claim | ClaimDoubt:
        rows, spec = self._state.rows, self._spec
        leg, at = str(rows[LEG][place].as_py()), time_of(rows[TIME][place].as_py())
        doubted = None if spec.leg is None and spec.legs is LegScheme.SIDED else leg
        what = f"its row of {to_iso(at)} of leg {leg}"
        if at - self._now > AHEAD_AT_MOST:
            found = f"{what} is from the future, by column {spec.time}, and would be the newest one until then"
            return ClaimDoubt(doubted, stale=False, text=f"{found}: correct it, and see to the clocks")
        if self._state.unordered is not None and rows[TIED][place].as_py():
            found = f"{what} has another of the same time that differs, and {self._state.unordered}"
            remedy = "name a column that orders them (book.columns.order), or write a newer row"
            return ClaimDoubt(doubted, stale=False, text=f"{found}: {remedy}")
        quantity, price = rows["quantity"][place].as_py(), rows["price"][place].as_py()
        for name, number in ((spec.quantity, quantity), (spec.average_price, price)):
            if name == spec.quantity and number is None:
                return ClaimDoubt(
                    doubted, stale=False, text=f"{what} has null in column {name}: write one with a number"
                )
            if isinstance(number, float) and not math.isfinite(number):
                return ClaimDoubt(doubted, stale=False, text=f"{what} has {number} in column {name}: write a number")
        return Claim(
            leg=leg,
            quantity=_exact(quantity),
            average_price=None if price is None else _exact(price),
            at=at,
            quantity_step=_step(quantity, rows["quantity"].type),
            price_step=_step(price, rows["price"].type),
            quantity_grid=not isinstance(quantity, float),
            price_grid=not isinstance(price, float),
            discrepancy=rows["discrepancy"][place].as_py(),
        )


def _sides(row: Claim) -> tuple[Claim, Claim]:
    """A net quantity as the two sides that an account has which keeps both."""
    zero = Decimal(0)
    long, short = max(row.quantity, zero), min(row.quantity, zero)
    return replace(row, leg=LONG, quantity=long), replace(row, leg=SHORT, quantity=short)


def _exact(number: Decimal | float) -> Decimal:
    return number if isinstance(number, Decimal) else Decimal(repr(number))


def _step(number: Decimal | float | None, kind: pa.DataType) -> Decimal:
    """How finely a column tells a number of this size."""
    if kind in FLOAT_DIGITS:
        size = abs(_exact(number)) if number else Decimal(0)
        return Decimal(1).scaleb(size.adjusted() + 1 - FLOAT_DIGITS[kind]) if size else Decimal(0)
    if pa.types.is_decimal(kind):
        return Decimal(1).scaleb(-kind.scale)
    return Decimal(1)


def time_of(microseconds: int) -> datetime:
    """A time that is counted in microseconds since 1970."""
    return EPOCH + microseconds * MICROSECOND
