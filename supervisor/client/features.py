"""Compares a model's position features with the verified book. Pure.

A model that was trained on its position (side, quantity, average price, unrealised profit, seconds in position) decides
on the position that it believes to hold. This module compares that belief with the book.

The laws of this module: an old book proves nothing (``usable`` is false when the book was never found in step, not
within ``unverified_s``, or is known to differ from the broker); tolerances are those of the instrument's policy; a
float counts to twelve significant digits, since models compute in floats, and everything else exactly.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from actors.book.discrepancies import DiscrepancyType
from actors.book.legs import impossible
from actors.book.view import BookState, LegState
from actors.events import to_iso
from brokers.clocks import BrokerTime, ahead_of_ours
from brokers.frozen import dataclass
from supervisor.config.errors import expected

ZERO = Decimal(0)
_POSITION_BREAKS = frozenset(
    {
        DiscrepancyType.MISSING_LOCALLY,
        DiscrepancyType.NAKED_POSITION,
        DiscrepancyType.POSITION_MISMATCH,
        DiscrepancyType.PRICE_MISMATCH,
    }
)


class PositionSide(StrEnum):
    """The direction of a position."""

    LONG = "long"
    SHORT = "short"
    FLAT = "flat"


_SIDES: dict[object, PositionSide] = {
    "long": PositionSide.LONG,
    "buy": PositionSide.LONG,
    "short": PositionSide.SHORT,
    "sell": PositionSide.SHORT,
    "flat": PositionSide.FLAT,
    "none": PositionSide.FLAT,
    1: PositionSide.LONG,
    -1: PositionSide.SHORT,
    0: PositionSide.FLAT,
}


def _side(value: object) -> PositionSide:
    found = _SIDES.get(value.lower() if isinstance(value, str) else value if isinstance(value, numbers.Real) else "")
    if found is None or isinstance(value, bool):
        raise expected("long, short or flat (or 1, -1, 0)")
    return found


def _number(value: object) -> Decimal:
    try:
        if isinstance(value, float):
            number = Decimal(format(float(value), ".12g"))
        elif isinstance(value, bool) or not isinstance(value, str | Decimal | numbers.Real):
            raise expected("a finite number")
        else:
            number = Decimal(str(value))  # its shortest digits, for numpy's smaller floats
    except ArithmeticError:
        raise expected("a finite number") from None
    if not number.is_finite():
        raise expected("a finite number")
    return number


def _above_zero(value: object) -> Decimal:
    number = _number(value)
    if number <= 0:
        raise expected("a number above 0")
    return number


def _seconds(value: object) -> Decimal:
    number = _number(value)
    if number < 0:
        raise expected("a number of seconds, 0 or more")
    return number


Number = Annotated[Decimal, BeforeValidator(_number)]
Seconds = Annotated[Decimal, BeforeValidator(_seconds)]
AboveZero = Annotated[Decimal, BeforeValidator(_above_zero)]


class PositionFeatures(BaseModel):
    """The position that a model believes to hold; any subset of the features.

    ``quantity`` is signed, negative for short; with a ``side`` only its size counts. ``unrealised_pnl`` needs
    ``mark_price`` and is in the instrument's quote currency: the sum of (mark - average price) x quantity x
    ``contract_size`` (units in one of quantity: 1, or an MT5 lot's 100000, an option's 100).
    ``seconds_in_position`` counts from the opening of the oldest FIFO lot that is still open. ``leg`` names one leg;
    without it, the net of all legs is meant.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    side: Annotated[PositionSide, BeforeValidator(_side)] | None = None
    quantity: Number | None = None
    average_price: Number | None = None
    unrealised_pnl: Number | None = None
    seconds_in_position: Seconds | None = None
    mark_price: Number | None = None
    contract_size: AboveZero = Decimal(1)
    leg: str | None = None


@dataclass(frozen=True, slots=True)
class FeatureCheck:
    """One feature beside the book's. ``differs`` is ``None`` where the two cannot be compared, for the reason in
    ``note``; ``difference`` is the book's minus the model's, where both are numbers; ``tolerance`` is the allowed one.
    """

    feature: str
    given: Decimal | str
    book: Decimal | str | None
    difference: Decimal | None
    tolerance: Decimal | None
    differs: bool | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of the comparison. ``corrected`` holds the book's values of every known feature. Where ``usable`` is
    false, neither an agreement nor the corrected values can be relied on, for the ``reason``."""

    account: str
    instrument: str
    checks: tuple[FeatureCheck, ...]
    corrected: PositionFeatures
    usable: bool
    reason: str | None
    verified_at: datetime | None
    as_of: datetime

    @property
    def differing(self) -> tuple[str, ...]:
        """The features that differ."""
        return tuple(check.feature for check in self.checks if check.differs)

    def __bool__(self) -> bool:
        """Whether the features can be traded on: usable, all comparable, and none differs."""
        return self.usable and all(check.differs is False for check in self.checks)


@dataclass(frozen=True, slots=True)
class _Held:
    """The position in the book that the features are about."""

    quantity: Decimal
    average_price: Decimal | None
    cost: Decimal
    opened_at: BrokerTime | None
    hedged: bool

    @property
    def side(self) -> PositionSide:
        if not self.quantity:
            return PositionSide.FLAT
        return PositionSide.LONG if self.quantity > 0 else PositionSide.SHORT


def validate(features: PositionFeatures, book: BookState) -> Validation:
    """Compare a model's features with a book. Raises ``ValueError`` for the features of an impossible leg: nothing is
    known of it, least of all that it is flat."""
    _check_leg(features.leg, book)
    mark = features.mark_price
    held = _held(book.legs, features.leg)
    corrected = _corrected(held, features, mark, book.as_of)
    reason = _unusable(book, features.leg)
    return Validation(
        account=book.account,
        instrument=book.instrument,
        checks=_checks(features, corrected, held, book, mark),
        corrected=corrected,
        usable=reason is None,
        reason=reason,
        verified_at=book.verified_at,
        as_of=book.as_of,
    )


def _check_leg(leg: str | None, book: BookState) -> None:
    if leg is None or any(leg == held.leg for held in book.legs):
        return
    products = True if book.conventions.products else None
    instead = impossible(book.conventions.legs, leg, None, mode_known=book.mode_known, products=products)
    if instead is not None:
        raise ValueError(
            f"features of {book.account}/{book.instrument}: leg: found {leg!r}, expected {instead}; "
            "no such leg is possible"
        )


def _held(legs: Sequence[LegState], name: str | None) -> _Held:
    chosen = [leg for leg in legs if name in (None, leg.leg)]
    quantity = sum((leg.quantity for leg in chosen), ZERO)
    cost = sum((leg.quantity * leg.average_price for leg in chosen), ZERO)
    hedged = len({leg.quantity > 0 for leg in chosen}) > 1
    average = cost / quantity if quantity and not hedged else None
    opened = [leg.opened_at for leg in chosen if leg.opened_at is not None]
    if len(chosen) == 1:
        average = chosen[0].average_price  # exactly
    return _Held(quantity, average, cost, min(opened, default=None), hedged)


def _corrected(held: _Held, features: PositionFeatures, mark: Decimal | None, as_of: datetime) -> PositionFeatures:
    pnl = None
    if not held.quantity:  # flat: whatever the mark is
        pnl = -held.cost * features.contract_size if held.cost else ZERO
    elif mark is not None:
        pnl = (mark * held.quantity - held.cost) * features.contract_size
    seconds = ZERO
    if held.opened_at is not None:
        seconds = Decimal(str(max(0.0, round(-ahead_of_ours(held.opened_at, as_of).total_seconds(), 6))))
    # Quantity keeps the form it was given in: a size beside a side.
    sized = features.side is not None and (features.quantity is None or features.quantity >= 0)
    return PositionFeatures(
        side=held.side,
        quantity=abs(held.quantity) if sized else held.quantity,
        average_price=held.average_price,
        unrealised_pnl=pnl,
        seconds_in_position=seconds,
        mark_price=mark,
        contract_size=features.contract_size,
        leg=features.leg,
    )


def _checks(
    features: PositionFeatures, corrected: PositionFeatures, held: _Held, book: BookState, mark: Decimal | None
) -> tuple[FeatureCheck, ...]:
    policy = book.policy
    price = held.average_price or ZERO
    of_price = policy.price_tolerance * abs(price)
    of_pnl = policy.price_tolerance * abs(held.cost)
    if mark is not None:
        of_pnl += policy.quantity_tolerance * abs(mark - price)
    checks = []
    if features.side is not None:
        differs = features.side is not held.side
        checks.append(FeatureCheck("side", features.side.value, held.side.value, None, None, differs))
    if features.quantity is not None:
        given = abs(features.quantity) if features.side is not None else features.quantity
        ours = abs(held.quantity) if features.side is not None else held.quantity
        checks.append(_compared("quantity", given, ours, policy.quantity_tolerance))
    if features.average_price is not None:
        checks.append(_price_check(features.average_price, held, of_price))
    if features.unrealised_pnl is not None:
        note = None if mark is not None or not held.quantity else "needs mark_price"
        tolerance = of_pnl * features.contract_size
        checks.append(_compared("unrealised_pnl", features.unrealised_pnl, corrected.unrealised_pnl, tolerance, note))
    if features.seconds_in_position is not None:
        # Our clock, the model's, the time of its computation, and the broker's time of the fill all differ.
        settle = Decimal(str(policy.settle.total_seconds()))
        ours_s = corrected.seconds_in_position
        checks.append(_compared("seconds_in_position", features.seconds_in_position, ours_s, settle))
    return tuple(checks)


def _price_check(given: Decimal, held: _Held, tolerance: Decimal) -> FeatureCheck:
    if held.hedged:
        note = "both sides are held at different prices: give a leg"
        return FeatureCheck("average_price", given, None, None, None, None, note)
    if held.average_price is None:  # flat: there is no price, and a model says so with 0
        return FeatureCheck("average_price", given, None, None, None, given != 0, "nothing is held")
    return _compared("average_price", given, held.average_price, tolerance)


def _compared(
    feature: str, given: Decimal, ours: Decimal | None, tolerance: Decimal, note: str | None = None
) -> FeatureCheck:
    if ours is None:
        return FeatureCheck(feature, given, None, None, None, None, note)
    difference = ours - given
    return FeatureCheck(feature, given, ours, difference, tolerance, abs(difference) > tolerance, note)


def _unusable(book: BookState, leg: str | None) -> str | None:
    error = f" ({book.error})" if book.error else ""
    if book.verified_at is None:
        return f"the book has not been verified against the broker since its actor started{error}"
    age_s = (book.as_of - book.verified_at).total_seconds()
    if age_s > book.unverified_s:
        return f"the book was last verified {age_s:.1f} s ago, more than unverified_s ({book.unverified_s:g}){error}"
    for pending in book.pending_fills:
        return f"fill {pending.fill.fill_id} is in no leg yet: the broker has not said which leg it changed"
    for found in book.breaks:
        if found.type in _POSITION_BREAKS and leg in (None, found.key):
            sides = f"book {found.book_value or 'nothing'}, broker {found.broker_value or 'nothing'}"
            return f"{found.type} {found.key} is open since {to_iso(found.opened_at)}: {sides}"
    return None
