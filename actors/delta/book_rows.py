"""The content of a table at one time: the newest row of each contract as a claim, and what of it cannot be believed.
Pure.

The law of this module: a number keeps all its digits, together with the precision of its column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from actors.delta.book_spec import BookTableSpec
from actors.delta.latest_rows import LEG, TIED, TIME
from actors.events import to_iso, to_text
from brokers.frozen import dataclass
from brokers.model import LONG, NET, SHORT, Claim, ClaimDoubt, Claims, LegScheme

AHEAD_AT_MOST = timedelta(minutes=15)
"""How far ahead a writer's clock may be. A row from tomorrow would otherwise stay the newest until then."""

FLOAT_DIGITS: Final = {pa.float64(): 15, pa.float32(): 6}
"""The decimal digits that a binary number keeps, whichever they are."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class State:
    """What was read: the newest rows, the files that they are from, and what could not be assigned. ``nobodys`` is the
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
    values: Mapping[str, list[Any]] = field(default_factory=dict)
    claims: dict[str, Claims] = field(default_factory=dict)

    @property
    def newest(self) -> datetime | None:
        """The time of the newest row."""
        times = self.values.get(TIME)
        return time_of(max(times)) if times else None


class DeltaBook:
    """The content of a table at one time."""

    def __init__(self, spec: BookTableSpec, state: State, now: datetime, stale: str | None) -> None:
        self._spec = spec
        self._state = state
        self._now = now
        self._stale = stale
        kinds = [state.rows[name].type for name in ("quantity", "price")]
        self._steps = _step(kinds[0]), _step(kinds[1])
        self._digits = [FLOAT_DIGITS.get(kind, 0) for kind in kinds]
        newest = state.newest
        # A judgement on a row stays valid, unless the row is from the future and will not always be.
        self._lasting = newest is None or newest - now <= AHEAD_AT_MOST
        self._words: dict[str, str] | None = None

    def still_says(self, state: State, now: datetime, stale: str | None) -> bool:
        """Whether this is also the content of the table at another time."""
        return state is self._state and stale is None is self._stale and self._lasting and now >= self._now

    def claims(self, instrument: str, identity: str | None) -> Claims:
        """The claims about one instrument, by its name or by the broker's permanent id of it."""
        if self._stale is not None:
            return Claims((), (ClaimDoubt(None, stale=True, text=self._stale),))
        key = instrument
        if self._spec.by_identity:
            if identity is None and not instrument.isdigit():
                found = (
                    f"column {self._spec.key}: the broker has not reported yet which {self._spec.key} {instrument} is"
                )
                return Claims((), (ClaimDoubt(None, stale=False, text=f"{found}. The next look asks again"),))
            key = identity or instrument
        return self._claims_of(key)

    def held(self, names: Mapping[str, str]) -> Mapping[str, str]:
        """What each contract holds that is not flat, as text."""
        if self._words is None:
            claimed = ((key, self._claims_of(key).rows) for key in self._state.places if self._stale is None)
            words = (
                (key, [f"{row.leg} {to_text(row.quantity)}" for row in rows if row.quantity]) for key, rows in claimed
            )
            self._words = {key: ", ".join(legs) for key, legs in words if legs}
        if not self._spec.by_identity:
            return self._words
        return {names.get(key, key): legs for key, legs in self._words.items()}

    def _claims_of(self, key: str) -> Claims:
        known = self._state.claims.get(key) if self._lasting else None
        if known is None:
            known = self._state.claims[key] = self._judged(key)
        return known

    def _judged(self, key: str) -> Claims:
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
        values, (quantity_step, price_step) = self._state.values, self._steps
        in_column, at = values[LEG][place], time_of(values[TIME][place])
        leg = NET if in_column is None else str(in_column)
        quantity, price = values["quantity"][place], values["price"][place]
        found = self._amiss(place, at, quantity, price)
        if found is not None:
            whole = self._spec.leg is None and self._spec.legs is LegScheme.SIDED
            text = f"its row of {to_iso(at)} of leg {leg} {found}"
            return ClaimDoubt(None if whole else leg, stale=False, text=text)
        return Claim(
            leg=leg,
            quantity=_exact(quantity),
            average_price=None if price is None else _exact(price),
            at=at,
            quantity_step=_float_step(quantity, self._digits[0]) if quantity_step is None else quantity_step,
            price_step=_float_step(price, self._digits[1]) if price_step is None else price_step,
            quantity_grid=quantity_step is not None,
            price_grid=price_step is not None,
            discrepancy=values["discrepancy"][place],
        )

    def _amiss(self, place: int, at: datetime, quantity: object, price: object) -> str | None:
        """Why a row is not believed, with what to do."""
        spec, state = self._spec, self._state
        if not self._lasting and at - self._now > AHEAD_AT_MOST:
            found = f"is from the future, by column {spec.time}, and would be the newest until then"
            return f"{found}: correct it, and check the clock of the program that wrote it"
        if state.unordered is not None and state.values[TIED][place]:
            remedy = "name a column that orders them (book.columns.order), or write a newer row"
            return f"has another of the same time that differs, and {state.unordered}: {remedy}"
        if quantity is None:
            return f"has null in column {spec.quantity}: write one with a number"
        for name, number in ((spec.quantity, quantity), (spec.average_price, price)):
            if isinstance(number, float) and not math.isfinite(number):
                return f"has {number} in column {name}: write one with a number"
        return None


def _sides(row: Claim) -> tuple[Claim, Claim]:
    """Splits a net quantity into two sides, for an account that keeps both."""
    zero = Decimal(0)
    long, short = max(row.quantity, zero), min(row.quantity, zero)
    return replace(row, leg=LONG, quantity=long), replace(row, leg=SHORT, quantity=short)


def _exact(number: Decimal | float) -> Decimal:
    return number if isinstance(number, Decimal) else Decimal(repr(number))


def _step(kind: pa.DataType) -> Decimal | None:
    """The precision of a column; ``None`` where that depends on the number's size."""
    if kind in FLOAT_DIGITS:
        return None
    return Decimal(1).scaleb(-kind.scale) if pa.types.is_decimal(kind) else Decimal(1)


def _float_step(number: float | None, digits: int) -> Decimal:
    """The precision of a float of this size."""
    if not number:
        return Decimal(0)
    return Decimal(1).scaleb(_exact(number).adjusted() + 1 - digits)


def time_of(microseconds: int) -> datetime:
    """A time from microseconds since 1970; for one out of range, the first or the last that there is."""
    try:
        return EPOCH + microseconds * MICROSECOND
    except OverflowError:  # a table can hold times that Python cannot
        return FIRST if microseconds < 0 else LAST
