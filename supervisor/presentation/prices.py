"""Prices as people are shown them. Pure.

An average price is often a quotient with a tail of digits that nobody reads. It is rounded here for the eye alone:
JSON, the journal and every comparison keep it to the digit.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from actors.events import to_text

SHOWN_DIGITS = 10
"""Significant digits: more than a broker quotes."""


def number_of(value: object) -> Decimal | None:
    """The finite number that something of a payload is; ``None`` where it is none."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def shown_price(price: object) -> str:
    """A price in plain digits, rounded after the point to ``SHOWN_DIGITS`` significant ones. What is no number is
    shown as it is."""
    value = number_of(price)
    if value is None:
        return str(price)
    places = max(0, SHOWN_DIGITS - 1 - value.adjusted())
    rounded = Decimal(format(value, f".{places}f"))
    return to_text(rounded) or "0"
