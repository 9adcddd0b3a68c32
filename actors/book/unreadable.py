"""A record that stands in the journal as it was written, and is not what a record of its type has to be. Pure.

Its hash is right, so no check of the chain finds it: another program wrote it, or another version of this one. What is
folded from such a record is unknown, and never what the rest of it would give.
"""

from __future__ import annotations

from typing import Any, Final

from actors.events import JournalError, Record

UNUSABLE: Final = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What reading a payload raises that lacks a key, or has a value of another kind."""


class UnreadableRecord(JournalError):
    """The payload of a record cannot be read. It is durable and unaltered: reading it again fails again."""

    @classmethod
    def of(cls, record: Record, error: BaseException) -> UnreadableRecord:
        """The error for a record whose reading ended with one of :data:`UNUSABLE`."""
        place = f"record {record.seq}, a {record.event.type} (version {record.version} of {record.stream})"
        return cls.at(place, error)

    @classmethod
    def at(cls, place: str, error: BaseException) -> UnreadableRecord:
        """The same for a record described by ``place``."""
        remedy = (
            "Its hash is right, so it was written like this: read the journal with the program and version that wrote "
            "it, ask for a time before that record, or put back a copy of the journal from before it"
        )
        return cls(f"read {place}", _words(error), remedy)


def _words(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]!r}" if error.args else "it lacks a key"
    if isinstance(error, ArithmeticError):
        return "a number in it is none"
    return f"a value in it is not of its kind ({error})"


# Values that a fold takes as they are. The others are converted, which fails where they are of another kind.


def text_of(value: Any) -> str:
    """The value, which has to be a text. Raises ``TypeError``."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def text_or_none(value: Any) -> str | None:
    """The value, which has to be a text or ``None``. Raises ``TypeError``."""
    return None if value is None else text_of(value)


def flag_of(value: Any) -> bool:
    """The value, which has to be true or false. Raises ``TypeError``."""
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def count_of(value: Any) -> int:
    """The value, which has to be a whole number. Raises ``TypeError``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value


def rows_of(value: Any) -> list[Any]:
    """The value, which has to be a list. Raises ``TypeError``."""
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def texts_of(value: Any) -> tuple[str, ...]:
    """The texts in the value, which has to be a list of them. Raises ``TypeError``."""
    return tuple(text_of(one) for one in rows_of(value))
