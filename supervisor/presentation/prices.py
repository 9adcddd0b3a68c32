"""Prices as people are shown them. Pure.

An average price is often a quotient with many digits that nobody reads. It is rounded for display only: JSON, the
journal and every comparison keep all digits.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from actors.events import to_text

SHOWN_DIGITS = 10
"""Significant digits: more than any broker quotes."""


def number_of(value: object) -> Decimal | None:
    """A payload's value as a finite number; ``None`` where it is none."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def shown_price(price: object) -> str:
    """A price in plain digits, its decimals rounded to ``SHOWN_DIGITS`` significant digits in all. Anything that is not
    a number is shown unchanged."""
    value = number_of(price)
    if value is None:
        return str(price)
    places = max(0, SHOWN_DIGITS - 1 - value.adjusted())
    rounded = Decimal(format(value, f".{places}f"))
    return to_text(rounded) or "0"
