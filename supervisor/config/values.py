"""The types of a configuration's values; each says in its error what it expects.

They read the scalars of :mod:`supervisor.config.yaml_source` and their Python counterparts. A quantity or a price is
never read from a float.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from brokers.kit.exact_number import written
from brokers.paper.prices import is_amount
from brokers.spec import SecretRef
from brokers.versions import Unreadable
from supervisor.config.errors import expected
from supervisor.config.yaml_source import Number, scalar

Raw = Any
"""What a validator receives: anything."""


class Model(BaseModel):
    """A part of the configuration: an unknown key is a mistake, and no error quotes the value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """As it was pickled, perhaps by another version: see :mod:`brokers.versions`. What that did not know has its
        default, what only that knew is left out."""
        known, given = type(self).model_fields, state["__dict__"]
        new = {name: one for name, one in known.items() if name not in given}
        for name in (name for name, one in new.items() if one.is_required()):
            raise Unreadable(type(self).__name__, name)
        values = {name: value for name, value in given.items() if name in known}
        values |= {name: one.get_default(call_default_factory=True) for name, one in new.items()}
        fields_set = set(state.get("__pydantic_fields_set__") or ()) & set(known)
        super().__setstate__({**state, "__dict__": values, "__pydantic_fields_set__": fields_set})


def file_path(what: str) -> BeforeValidator:
    """The path of a file, made absolute; ``None`` stays."""

    def validate(value: Raw) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value or value.endswith("/"):
            raise expected(what)
        return os.path.abspath(os.path.expanduser(value))

    return BeforeValidator(validate)


FilePath = Annotated[str | None, file_path("the path of a file, or null")]
"""A file, or none."""

_QUOTED = re.compile(r"[-+]?\d{1,30}(\.\d{1,30})?")
_WHOLE = re.compile(r"[-+]?\d{1,18}")


def text(what: str, pattern: str = r"[^\x00-\x1f\x7f-\x9f]*\S[^\x00-\x1f\x7f-\x9f]*") -> BeforeValidator:
    """Text that matches a pattern; a number counts as the text it was written with."""
    compiled = re.compile(pattern)

    def validate(value: Raw) -> str:
        value = value.text if isinstance(value, Number) else str(value) if type(value) is int else value
        if isinstance(value, str) and compiled.fullmatch(value):
            return value
        raise expected(what)

    return BeforeValidator(validate)


def _decimal(value: Raw) -> Decimal | None:
    """A value as the finite number of a sane size that was written, exactly; ``None`` for anything else."""
    if isinstance(value, bool | float):
        return None
    if isinstance(value, str) and _QUOTED.fullmatch(value):  # quoted, like decimals in JSON
        return written(value)
    if isinstance(value, Number):
        return written(value.text)
    return written(str(value)) if isinstance(value, int | Decimal) else None


def _within(what: str, allowed: Callable[[Decimal], bool]) -> Callable[[Raw], Decimal]:
    def validate(value: Raw) -> Decimal:
        number = _decimal(value)
        if number is None or not allowed(number):
            raise expected(what)
        return number

    return validate


def decimal(what: str, allowed: Callable[[Decimal], bool]) -> BeforeValidator:
    """An exact number within bounds."""
    return BeforeValidator(_within(what, allowed))


def duration(what: str, allowed: Callable[[Decimal], bool]) -> BeforeValidator:
    """A length of time. Only times become floats, since no money depends on their last digit."""
    exact = _within(what, allowed)

    def validate(value: Raw) -> float:
        if isinstance(value, str):
            raise expected(what)
        return float(exact(Decimal(repr(value)) if isinstance(value, float) else value))

    return BeforeValidator(validate)


def _whole(what: str, smallest: int, largest: int) -> Callable[[Raw], int]:
    def validate(value: Raw) -> int:
        written = value.text if isinstance(value, Number) else str(value) if type(value) is int else ""
        if _WHOLE.fullmatch(written) and smallest <= int(written) <= largest:
            return int(written)
        raise expected(what)

    return validate


def whole(what: str, smallest: int, largest: int) -> BeforeValidator:
    """A whole number within bounds."""
    return BeforeValidator(_whole(what, smallest, largest))


_up_to_a_cell = _whole("auto, or a whole number from 1 to 10000", 1, 10_000)


def _per_actor(value: Raw) -> int | Literal["auto"]:
    return "auto" if value == "auto" else _up_to_a_cell(value)


PerActor = Annotated[int | Literal["auto"], BeforeValidator(_per_actor)]
"""How many instruments of an account share a process."""


def _unquoted(value: Raw) -> Raw:
    """A price with or without quotes: its digits count either way."""
    return scalar(value) if isinstance(value, str) else value


def _backoff(value: Raw) -> tuple[float, float]:
    what = "two numbers of seconds, [smallest, largest], neither negative and the largest above 0"
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise expected(what)
    least, most = (_decimal(Decimal(repr(part)) if isinstance(part, float) else part) for part in value)
    if least is None or most is None or not 0 <= least <= most or most == 0:
        raise expected(what)
    return float(least), float(most)


def _secret(value: Raw) -> SecretRef:
    # The loader has already replaced the value by the reference.
    if isinstance(value, SecretRef):
        return value
    raise expected("text, best as ${NAME} from the environment")


_DAY_S = 86400
Interval = Annotated[float, duration("a number of seconds, 0 or more, at most a week", lambda n: 0 <= n <= 7 * _DAY_S)]
Seconds = Annotated[float, duration("a number of seconds above 0", lambda n: 0 < n <= 10000 * _DAY_S)]
Milliseconds = Annotated[float, duration("a number of milliseconds, 0 or more", lambda n: 0 <= n <= 1000 * _DAY_S)]
Timeout = Annotated[float, duration("a number of milliseconds above 0, at most 600000", lambda n: 0 < n <= 600000)]
Price = Annotated[Decimal, decimal("a number above 0, of at most 12 digits", is_amount), BeforeValidator(_unquoted)]
Spread = Annotated[
    Decimal,
    decimal("a number, 0 or more, of at most 12 digits", lambda n: n == 0 or is_amount(n)),
    BeforeValidator(_unquoted),
]
Quantity = Annotated[Decimal, decimal("a number, 0 or more", lambda n: n >= 0)]
Fraction = Annotated[Decimal, decimal("a fraction of the price: a number from 0 up to 1", lambda n: 0 <= n < 1)]
Step = Annotated[float, duration("a number of seconds from 0.05 to a day", lambda n: 1 <= 20 * n <= 20 * _DAY_S)]
Backoff = Annotated[tuple[float, float], BeforeValidator(_backoff)]

Secret = Annotated[
    SecretRef,
    BeforeValidator(_secret),
    PlainSerializer(str, return_type=str),
]
ActorName = Annotated[
    str,
    text(
        "a name of letters, digits, _ . and -, beginning with a letter, a digit or _; not audit, supervisor or alerts",
        r"(?!(?:audit|supervisor|alerts)\Z)[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}",
    ),
]
Symbol = Annotated[
    str,
    # A symbol of spaces, or with spaces around it, would be a different instrument that looks the same.
    text(
        "a symbol: text without control characters, without blanks at either end (all is used alone, not in a list)",
        r"(?!all\Z)[^\x00-\x20\x7f-\xa0](?:[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0])?",
    ),
]
_HOST = r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])"
_PORT = r"(?::\d{1,5})"
_LOOPBACK = r"(?:127(?:\.\d{1,3}){3}|localhost|\[::1\])"
# A token sent unencrypted beyond this machine is no longer secret.
HttpUrl = Annotated[
    str,
    text(
        "https://host[:port] (http:// on loopback only), without /v3 or any other path",
        rf"https://{_HOST}{_PORT}?/?|http://{_LOOPBACK}{_PORT}?/?",
    ),
]
SocketUrl = Annotated[
    str,
    text("wss://host[:port] (ws:// on loopback only)", rf"wss://{_HOST}{_PORT}?/?|ws://{_LOOPBACK}{_PORT}?/?"),
]
ZmqEndpoint = Annotated[str, text("tcp://host:port, or ipc:// and a path", rf"tcp://{_HOST}{_PORT}|ipc://\S+")]
Host = Annotated[str, text("a host name or address", _HOST)]
Port = Annotated[int, whole("a port: a whole number from 1 to 65535", 1, 65535)]
RayAddress = Annotated[str, text("local, auto, or host:port", rf"local|auto|{_HOST}{_PORT}")]
ColumnName = Annotated[str, text("the name of a column")]
_LABEL = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def _place(value: Raw) -> dict[str, str] | None:
    what = "labels of nodes with one value each, such as {zone: a}, as they were given to `ray start --labels`"
    if value is None:
        return None
    if not isinstance(value, dict):
        raise expected(what)
    found = {}
    for label, given in value.items():
        said = given.text if isinstance(given, Number) else str(given).lower() if isinstance(given, bool) else given
        if not (isinstance(label, str) and isinstance(said, str)):
            raise expected(what)
        if not (_LABEL.fullmatch(label) and _LABEL_VALUE.fullmatch(said)):
            raise expected(what)
        found[label] = said
    return found


Labels = Annotated[dict[str, str] | None, BeforeValidator(_place)]
"""Where actors may run: on nodes with these labels. Label and value follow Ray's own rules."""
AccountId = Annotated[str, text("the broker's account id: letters, digits, _ and -", r"[A-Za-z0-9_-]+")]


def _zone(value: Raw) -> str:
    if isinstance(value, str) and value in available_timezones():
        return value
    raise expected("a time zone by its name, such as America/New_York")


TimeZone = Annotated[str, BeforeValidator(_zone)]
