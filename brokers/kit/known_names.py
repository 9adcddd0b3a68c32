"""Configured names that a broker does not have: a mistake, and never a flat instrument.

A name that no row carries looks like an instrument of which nothing is held. So the configured names are looked up in
the broker's own list, once a connection. A name that is not there is reported with the names most like it, and is
unknown until it is corrected.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta

from brokers.errors import BrokerError, with_remedy
from brokers.kit.foreign_row import Unusable

AGAIN_AFTER = timedelta(minutes=10)
"""When a list that could not be fetched is requested again."""
_SUFFIX = re.compile(r"[.#+\-_/\s]")
_CLOSE = 0.8
_SHOWN = 3


def nearest(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """The known names most like it, first those that differ in case, in a separator or in a suffix."""
    listed = sorted(set(known))
    bare, root = _bare(name), _SUFFIX.split(name.casefold())[0]
    alike = [other for other in listed if _bare(other) == bare]
    alike += [other for other in listed if other not in alike and _SUFFIX.split(other.casefold())[0] == root]
    alike += [
        other
        for other in listed
        if other not in alike
        and min(len(bare), len(_bare(other))) >= 3
        and (_bare(other).startswith(bare) or bare.startswith(_bare(other)))
    ]
    by_bare = {_bare(other): other for other in listed}
    alike += [by_bare[one] for one in difflib.get_close_matches(bare, by_bare, _SHOWN, _CLOSE)]
    return tuple(dict.fromkeys(alike))[:_SHOWN]


def _bare(name: str) -> str:
    return _SUFFIX.sub("", name.casefold())


def same_but_for_suffix(name: str, other: str) -> bool:
    """Whether two names differ only in case, separators or a suffix."""
    return name != other and (_bare(name) == _bare(other) or _bare(other).startswith(_bare(name)))


def mistaken(configured: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """The configured names that are not known, each with what to do. An empty list proves nothing."""
    if not known:
        return {}
    return {name: _explained(name, nearest(name, known)) for name in configured if name not in known}


def _explained(name: str, near: tuple[str, ...]) -> str:
    ask = f"Did you mean {' or '.join(near)}?" if near else "Look its name up at the broker."
    return with_remedy(f"the broker has no instrument {name}", f"{ask} Correct it under `instruments`")


class KnownNames:
    """The mistakes in the configured names of one account. ``ask`` returns the broker's own list, ``None`` where it has
    none; ``known`` is the number of names in it."""

    def __init__(self, configured: Iterable[str], ask: Callable[[], Awaitable[Collection[str] | None]]) -> None:
        self._configured = tuple(configured)
        self._ask = ask
        self.known: int | None = None
        self._found: Mapping[str, str] | None = None
        self._again_at: datetime | None = None

    async def mistakes(self, now: datetime) -> Mapping[str, str]:
        """Maps a name to what is wrong with it. Empty while the list cannot be fetched."""
        if self._found is None and self._configured and (self._again_at is None or now >= self._again_at):
            self._again_at = now + AGAIN_AFTER
            try:
                known = await self._ask()
            except (BrokerError, Unusable):
                return {}
            self.known = None if known is None else len(known)
            self._found = {} if known is None else mistaken(self._configured, known)
        return self._found or {}


class LookedUpNames:
    """The same for a broker whose list is too long to read without need: a name is looked up only while no row carries
    it. ``look_up`` returns the broker's names most like it, with the name itself where the broker has it; ``None``
    where the broker does not answer."""

    def __init__(self, configured: Iterable[str], look_up: Callable[[str], Awaitable[Collection[str] | None]]) -> None:
        self._unknown = dict.fromkeys(configured)
        self._look_up = look_up
        self._found: dict[str, str] = {}
        self._again_at: dict[str, datetime] = {}

    async def mistakes(self, seen: Collection[str], now: datetime) -> Mapping[str, str]:
        """Maps a name to what is wrong with it. ``seen`` are the names that rows carry, and those of books with known
        contracts: the broker has them, whatever its list shows."""
        for name in [name for name in self._unknown if name in seen]:
            del self._unknown[name]
            self._found.pop(name, None)
        for name in list(self._unknown):
            if name in self._found or now < self._again_at.get(name, now):
                continue
            self._again_at[name] = now + AGAIN_AFTER
            try:
                known = await self._look_up(name)
            except (BrokerError, Unusable):
                continue
            if known is not None and name in known:
                del self._unknown[name]
            elif known is not None:
                self._found[name] = _explained(name, nearest(name, {*known, *seen}))
        return dict(self._found)
