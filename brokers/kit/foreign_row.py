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
from decimal import Decimal
from typing import Any

from brokers.errors import with_remedy
from brokers.kit.exact_number import exact
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


def number(row: Json, key: str, form: re.Pattern[str], *, digits: int | None = None) -> Decimal:
    """A number that is there, ``exact``, and of no more than so many ``digits`` before or behind its point."""
    value = row.get(key)
    found = exact(value, form)
    if found is None:
        raise BadRow(f"no {key}" if value is None else f"{key} is not a number")
    if digits is not None and not -digits <= found.adjusted() <= digits:
        raise BadRow(f"{key} is out of range")
    return found
