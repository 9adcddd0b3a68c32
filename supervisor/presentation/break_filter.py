"""Filters open breaks for the command line, the handle and the page, in one form. Pure.

The law of this module: an invalid type, severity, state or age is refused with the valid ones, never answered with an
empty list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from actors.book.break_work import NOBODY, BreakState
from actors.book.discrepancies import DiscrepancyType
from actors.events import Severity
from brokers.frozen import dataclass

_LENGTH: Final = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?")
_STATES: Final = tuple(state for state in BreakState if state is not BreakState.RESOLVED)
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class BreakFilter:
    """The conditions on an open break; ``None`` is no condition. ``older`` is the least time that it has been open
    (90s, 15m, 2h, 3d, 1h30m); ``owner`` may be :data:`NOBODY`. Raises ``ValueError`` with a message for an invalid one.
    """

    account: str | None = None
    instrument: str | None = None
    type: str | None = None
    severity: str | None = None
    state: str | None = None
    older: str | None = None
    owner: str | None = None

    def __post_init__(self) -> None:
        for name, kind in (("type", DiscrepancyType), ("severity", Severity), ("state", _STATES)):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, _one_of(name, given, kind))
        if self.older is not None:
            seconds_of(self.older)

    def __bool__(self) -> bool:
        """Whether there is any condition."""
        return any(getattr(self, one.name) is not None for one in fields(self))

    @classmethod
    def of_query(cls, query: str) -> BreakFilter:
        """The filter in an address's query; empty and unknown parts of it are ignored."""
        names = {one.name for one in fields(cls)}
        given = {name: value.strip()[:_LONGEST] for name, value in parse_qsl(query) if name in names}
        return cls(**{name: value for name, value in given.items() if value})

    @property
    def query(self) -> str:
        """The filter as an address's query, always in the same order; empty without a condition."""
        return urlencode([(one.name, given) for one in fields(self) if (given := getattr(self, one.name)) is not None])

    def rows(self, rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The rows that meet the conditions, in their order."""
        return [row for row in rows if self._wants(row)]

    def _wants(self, row: Mapping[str, Any]) -> bool:
        if self.older is not None and row["age_s"] < seconds_of(self.older):
            return False
        if self.owner == NOBODY and row["owner"] is not None:
            return False
        if self.instrument is not None and self.instrument != instrument_of(row):
            return False
        same = ("account", "type", "severity", "state", *(() if self.owner == NOBODY else ("owner",)))
        return all((wanted := getattr(self, name)) is None or row[name] == wanted for name in same)


def instrument_of(row: Mapping[str, Any]) -> str:
    """The instrument of a break; one that no instrument manages is named by its account's break."""
    return str(row.get("key") if row["type"] == DiscrepancyType.UNMANAGED_INSTRUMENT else row["instrument"])


def seconds_of(length: str) -> int:
    """A length of time in seconds. Raises ``ValueError`` with a message."""
    found = _LENGTH.fullmatch(length.strip().lower())
    if found is None or not any(found.groups()):
        raise ValueError(f"{length!r} is no length of time. Write one as 90s, 15m, 2h, 3d or 1h30m")
    return sum(int(part or 0) * size for part, size in zip(found.groups(), (86400, 3600, 60, 1), strict=True))


def _one_of(name: str, given: str, known: Iterable[StrEnum]) -> str:
    names = [one.value for one in known]
    wanted = given.strip().upper()
    if wanted not in names:
        raise ValueError(f"{given!r} is no {name} of a break. There are: {', '.join(names)}")
    return wanted
