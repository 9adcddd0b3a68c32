"""Exact numbers, from what a broker or a person wrote. Pure.

The law of this module: a number is read from its text or from an exact number, never through a float; NaN and
infinities are rejected.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache

LONGEST = 40
"""The largest number of characters in a number that a person wrote."""
LARGEST_EXPONENT = 25
"""Beyond this exponent, writing a number out in digits would fill the memory."""
_WRITTEN = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


def exact(value: object, form: re.Pattern[str]) -> Decimal | None:
    """The finite number of a value: a whole or exact JSON number, or a text of this form. ``None`` for anything else,
    and for a float, as it is not what the broker wrote."""
    kind = type(value)  # a JSON parser returns exactly these types; this runs for each number of a snapshot
    if kind is int:
        return Decimal(value)  # type: ignore[arg-type]  # its kind says what it is
    if kind is str:
        return from_text(value, form)
    if kind is Decimal:
        return value if value.is_finite() else None  # type: ignore[attr-defined,return-value]  # as above
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return None
    return exact(Decimal(value) if isinstance(value, Decimal) else str(value), form)


@lru_cache(maxsize=4096)
def from_text(value: str, form: re.Pattern[str]) -> Decimal | None:
    """The finite number in a text of this form; ``None`` where there is none. Cached, as the same texts repeat: 0, a
    lot, the price of a resting order."""
    if not form.fullmatch(value):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def written(text: str) -> Decimal | None:
    """The number of a sane size that a person wrote; ``None`` for anything else."""
    found = from_text(text, _WRITTEN) if len(text) <= LONGEST else None
    return found if found is None or found == 0 or is_sane(found) else None


def is_sane(number: Decimal) -> bool:
    """Whether it can be written out and compared."""
    return number.is_finite() and abs(number.adjusted()) <= LARGEST_EXPONENT
