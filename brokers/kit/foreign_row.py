"""One field of a broker's row, and a row that cannot be read. Pure.

The laws of this module:

* A number is read from its text or from an exact JSON number, never through a float; NaN and infinities are refused.
* A row that cannot be read whole is not read at all: no field of it is guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from brokers.clocks import BrokerTime
from brokers.errors import with_remedy
from brokers.kit.exact_number import exact
from brokers.model import RowProblem, SectionName

Json = Mapping[str, Any]

QUOTE_LENGTH = 240
MOST_DIGITS = 20
"""No broker's number has more digits before or behind its point. A longer one would not fit into a calculation, or
would fill the memory when it is written out."""
DEEPEST = 60
"""No broker's answer is nested deeper: masking and quoting descend into it level by level."""


class Unusable(ValueError):
    """A part of a broker's answer that cannot be used; the text says why, and ``again_at`` when it will be usable if
    nothing changes."""

    again_at: datetime | None = None


class BadRow(Unusable):
    """A row that cannot be read; the text says why."""


class BadAnswer(Unusable):
    """An answer that cannot be used as a whole; the text says why. Nothing of it is known."""


OUR_TIME = range(1990, 2200)
"""The years in which a broker's times can lie: anything beyond is not a time, and cannot be calculated with."""


_HALF_A_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")


def read_json(body: bytes | None) -> Any:
    """The content of a JSON body, each number with a fraction as an exact ``Decimal``; NaN, infinities and numbers that
    are too large for one as texts; each text as :func:`whole_text`. Raises ``ValueError`` for what is not JSON, and for
    what is nested too deep to process."""
    try:
        try:
            read = json.loads(body or b"", parse_float=Decimal, parse_constant=str)
        except ArithmeticError:
            read = json.loads(body or b"", parse_float=_decimal_or_text, parse_constant=str)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if _may_be_deep(body or b"") and _is_deep(read):
        raise ValueError("it is nested too deep")
    return whole_text(read, body or b"")


def _decimal_or_text(text: str) -> Decimal | str:
    """An exponent of twenty digits is more than a ``Decimal`` has: it spoils its own row, and not the others."""
    try:
        return Decimal(text)
    except ArithmeticError:
        return text


_NO_BRACKET = bytes(code for code in range(256) if code not in b"[]{}")


def _may_be_deep(body: bytes) -> bool:
    """Whether its brackets, including those in texts, are nested too deep, or do not match."""
    left = body.translate(None, _NO_BRACKET)
    for _ in range(DEEPEST):
        before, left = left, left.replace(b"[]", b"").replace(b"{}", b"")
        if not left:
            return False
        if left == before:
            break
    return True


def _is_deep(read: Any) -> bool:
    level = [read]
    for _ in range(DEEPEST):
        level = [inner for one in level if isinstance(one, dict | list) for inner in _values(one)]
        if not level:
            return False
    return True


def whole_text(read: Any, body: bytes | None = None) -> Any:
    """The content of a body, with � for each half of a character in it (``\\ud800``): a text with one can neither be
    written to a journal nor be shown. Without the body the whole content is checked."""
    return _whole(read) if body is None or _HALF_A_CHARACTER.search(body) else read


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(one) for key, one in value.items()}
    return value


def _values(one: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return one.values() if isinstance(one, dict) else one


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
    """A row that could not be read, with whatever identifies it. ``instrument`` may raise :class:`BadRow`."""
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
    """A text that must be present and not empty."""
    value = row.get(key)
    if not isinstance(value, str) or not value or value.isspace():
        raise BadRow(f"no {key}")
    return value


def number(row: Json, key: str, form: re.Pattern[str]) -> Decimal:
    """A number that must be present, ``exact``, and with at most :data:`MOST_DIGITS` before or behind its point."""
    value = row.get(key)
    found = exact(value, form)
    if found is None:
        raise BadRow(f"no {key}" if value is None else f"{key} is not a number")
    return in_range(found, key)


def in_range(found: Decimal, key: str) -> Decimal:
    """The number, if it has no more digits than a broker's can have."""
    if not -MOST_DIGITS <= found.adjusted() <= MOST_DIGITS:
        raise BadRow(f"{key} is out of range")
    return found


def in_our_time(found: BrokerTime, key: str) -> BrokerTime:
    """The time, if somebody can have traded then."""
    if found.year not in OUR_TIME:
        raise BadRow(f"{key} is out of range")
    return found
