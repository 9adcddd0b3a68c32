"""Checks the arguments of the handle's callers before any actor is called; an error names the argument.

The law of this module: a value of another kind is a ``TypeError``, one that cannot be a ``ValueError``, and each says
what was found and what was expected.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from pydantic import ValidationError

from supervisor.client.features import PositionFeatures
from supervisor.client.reports import described

Word = TypeVar("Word", bound=StrEnum)


def seconds(key: str, value: object) -> float:
    """A finite number of seconds, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(_found(key, value, "a number of seconds"))
    if not math.isfinite(value) or value < 0:
        raise ValueError(_found(key, value, "a number of seconds, 0 or more"))
    return float(value)


def count(key: str, value: object) -> int:
    """A whole number, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(_found(key, value, "a whole number"))
    if value < 0:
        raise ValueError(_found(key, value, "a whole number, 0 or more"))
    return int(value)


def name(key: str, value: object) -> str:
    """A name, as text."""
    if not isinstance(value, str):
        raise TypeError(_found(key, value, "text"))
    if not value:
        raise ValueError(_found(key, value, "a name"))
    return value


def identity(key: str, value: object) -> str:
    """An id, the broker's or ours, as text."""
    if isinstance(value, bool) or not isinstance(value, str | numbers.Integral):
        raise TypeError(_found(key, value, "an id, as text or a whole number"))
    if value == "":
        raise ValueError(_found(key, value, "an id"))
    return str(value)


def aware(key: str, value: datetime | None) -> datetime | None:
    """A time with its offset from UTC, or none."""
    if value is not None and not isinstance(value, datetime):
        raise TypeError(_found(key, value, "a datetime with its offset from UTC"))
    if value is not None and value.tzinfo is None:
        raise ValueError(_found(key, value, "a time with its offset from UTC"))
    return value


def word(words: type[Word], key: str, given: str) -> Word:
    """One of a few words."""
    try:
        return words(given)
    except ValueError:
        raise ValueError(_found(key, given, f"one of {', '.join(words)}")) from None


def features(given: PositionFeatures | Mapping[str, object], mark_price: object) -> PositionFeatures:
    """A model's features, from themselves or from a mapping by name; a ``mark_price`` that is not ``None`` replaces
    theirs."""
    if not isinstance(given, PositionFeatures | Mapping):
        raise TypeError(_found("features", given, "a PositionFeatures, or a mapping of its fields"))
    fields = given.model_dump() if isinstance(given, PositionFeatures) else dict(given)
    try:
        return PositionFeatures.model_validate(fields if mark_price is None else {**fields, "mark_price": mark_price})
    except ValidationError as error:
        problems = "; ".join(str(described(one, PositionFeatures)) for one in error.errors())
        raise ValueError(f"features: {problems}") from None


def _found(key: str, value: object, expected: str) -> str:
    return f"{key}: found {value!r}, expected {expected}"
