"""One field of a broker's row, and a row that cannot be read. Pure.

The laws of this module:

* A number is read from its text or from an exact JSON number, never by way of float; NaN and infinities are refused.
* A row that cannot be read whole is not read at all: no field of it is guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from brokers.errors import with_remedy
from brokers.model import RowProblem, SectionName

Json = Mapping[str, Any]

QUOTE_LENGTH = 240


class Unusable(ValueError):
    """Something of a broker's answer that cannot be used; the text says why, ``again_at`` when it will be usable if
    nothing changes."""

    again_at: datetime | None = None


class BadRow(Unusable):
    """A row that cannot be read, and why."""


class BadAnswer(Unusable):
    """An answer that cannot be used as a whole, and why: nothing of it is known."""


def cut(text: str, length: int = QUOTE_LENGTH) -> str:
    """A text for a person, cut to a readable length."""
    return text if len(text) <= length else f"{text[:length]}…"


def quote(row: object) -> str:
    """The row as text for a person, cut to a readable length."""
    return cut(json.dumps(row, default=str, ensure_ascii=False))


def problem(
    section: SectionName,
    row: object,
    why: object,
    remedy: str,
    *,
    instrument: Callable[[Json], str],
    key: Callable[[Json], object],
    quoted: Callable[[object], str] = quote,
) -> RowProblem:
    """A row that could not be read, with whatever names it. ``instrument`` may raise :class:`BadRow`."""
    fields = row if isinstance(row, dict) else {}
    try:
        named: str | None = instrument(fields)
    except BadRow:
        named = None
    found = key(fields)
    return RowProblem(
        section,
        named,
        found if isinstance(found, str) and found else None,
        with_remedy(f"{why}: {quoted(row)}", remedy),
    )


def mapping(value: object, what: str) -> Json:
    """A JSON object, or :class:`BadRow`."""
    if not isinstance(value, dict):
        raise BadRow(f"{what} is not an object")
    return value


def text(row: Json, key: str) -> str:
    """A text that is there and not empty."""
    value = row.get(key)
    if not isinstance(value, str) or not value or value.isspace():
        raise BadRow(f"no {key}")
    return value


def exact(value: object, form: re.Pattern[str]) -> Decimal | None:
    """The finite number that a value is: a whole or exact JSON number, or a text of this form. ``None`` where it is
    none; a float is none, as it is not what the broker wrote."""
    kind = type(value)  # what a parser of JSON makes is of these very types; it is asked for each number of a snapshot
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
    """The finite number that a text of this form is; ``None`` where it is none. The same texts come again and again: 0,
    a lot, the price of an order that rests."""
    if not form.fullmatch(value):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def number(row: Json, key: str, form: re.Pattern[str], *, digits: int | None = None) -> Decimal:
    """A number that is there, ``exact``, and of no more than so many ``digits`` before or behind its point."""
    value = row.get(key)
    found = exact(value, form)
    if found is None:
        raise BadRow(f"no {key}" if value is None else f"{key} is not a number")
    if digits is not None and not -digits <= found.adjusted() <= digits:
        raise BadRow(f"{key} is out of range")
    return found
