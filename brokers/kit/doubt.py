"""Sections of one reading that contradict each other, or an earlier one: what is not believed, and until when. Pure,
except for the memory of what was in doubt.

Positions and fills are requested one after the other. Where something was filled in between, the two may not agree:
everything is read again a few times (:func:`settled`), and an instrument that still moves has its positions put in
doubt (:func:`doubted`). A doubt that stays unchanged for a while counts as a fact (:class:`Doubts`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Generic, TypeVar

from brokers.model import Complete, Partial, Position, RowProblem, Section, SectionName, problems_of

REREADS = 2
"""How often a reading whose parts disagree is read again."""

FILLS_KEPT_COMING = "its fills kept coming while the positions were read, so the two may not belong together"

Reading = TypeVar("Reading")
Doubt = TypeVar("Doubt")


async def settled(read: Callable[[], Awaitable[Reading]], moved: Callable[[Reading], object]) -> Reading:
    """A reading in which nothing ``moved``, or the last of a few."""
    reading = await read()
    for _ in range(REREADS):
        if not moved(reading):
            break
        reading = await read()
    return reading


def doubted(
    positions: Section[Position],
    instruments: Iterable[str],
    text: str,
    believed_at: Mapping[str, datetime] = MappingProxyType({}),
) -> Section[Position]:
    """The positions, in doubt for these instruments; ``believed_at`` is when a doubt ends if it stays unchanged."""
    doubts = [
        RowProblem(SectionName.POSITIONS, name, None, text, believed_at.get(name)) for name in sorted(instruments)
    ]
    if not doubts or not isinstance(positions, Complete | Partial):
        return positions
    return Partial(positions.rows, (*problems_of(positions), *doubts))


class Doubts(Generic[Doubt]):
    """How long each doubt has existed. A doubt that stood for ``standing_s`` seconds is believed."""

    def __init__(self, standing_s: float) -> None:
        self._standing = timedelta(seconds=standing_s)
        self._since: dict[Doubt, datetime] = {}

    def fresh(self, found: Iterable[Doubt], now: datetime) -> frozenset[Doubt]:
        """The doubts that are not believed yet."""
        return frozenset(one for one in found if abs(now - self._since.get(one, now)) < self._standing)

    def believed_at(self, one: Doubt, now: datetime) -> datetime:
        """When it will have stood long enough."""
        return self._since.get(one, now) + self._standing

    def note(self, found: Iterable[Doubt], now: datetime) -> None:
        """Keep the doubts of the last reading, and no others."""
        self._since = {one: self._since.get(one, now) for one in found}
