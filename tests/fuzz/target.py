"""What is fuzzed: a function that takes bytes from outside, with samples of them, and the errors that it declares."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

LARGEST_EXPONENT = 40
YEARS = range(1989, 2202)


class NoInput(Exception):
    """What the mutation made is not what this way in is fed with: no find, and nothing to look at."""


@contextmanager
def unpacking() -> Iterator[None]:
    """Within it what comes is taken apart by the target itself."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise NoInput from None


def as_json(body: bytes) -> Any:
    """A document, or :class:`NoInput`."""
    with unpacking():
        return json.loads(body)


@dataclass(frozen=True, slots=True)
class Kind:
    """One way in. ``read`` takes what came; whatever it raises that is none of ``declared`` is a find."""

    read: Callable[[bytes], object]
    declared: tuple[type[Exception], ...]
    samples: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """What is fuzzed in one run: the ways in by their names, and the packages whose branches guide it."""

    kinds: Mapping[str, Kind]
    packages: tuple[str, ...]

    def feed(self, data: bytes) -> bool:
        """One input: its first byte says which way in, the rest is what comes. Returns whether it was read to its end,
        without a declared error; raises what is a find."""
        if not data:
            return False
        kind = [*self.kinds.values()][data[0] % len(self.kinds)]
        try:
            kind.read(data[1:])
        except NoInput:
            return False
        except kind.declared as error:
            looks_right(str(error))
            return False
        return True

    def samples(self) -> list[bytes]:
        """What a run begins with."""
        return [bytes([place]) + one for place, kind in enumerate(self.kinds.values()) for one in kind.samples]


def looks_right(value: Any) -> None:
    """That what was read can be calculated with, journaled and shown: finite numbers of a sane size, aware times in
    which somebody can have traded, texts that are whole. Raises ``AssertionError``."""
    if isinstance(value, Enum):
        return
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, Decimal):
        assert value.is_finite(), value
        assert abs(value.adjusted()) <= LARGEST_EXPONENT, value
    elif isinstance(value, datetime):
        assert value.tzinfo is not None, value
        assert value.year in YEARS, value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            looks_right(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key, one in value.items():
            looks_right(key)
            looks_right(one)
    elif isinstance(value, tuple | list | set | frozenset):
        for one in value:
            looks_right(one)
