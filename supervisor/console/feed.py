"""The supervisor's last answer, requested once for all open pages, and never while no page is open.

The laws of this module: what is shown has its age; while a supervisor does not answer, its last answer stays, with the
reason; at most one request is pending.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from loguru import logger

from brokers.frozen import dataclass
from supervisor.console.desk import Away, Desk
from supervisor.presentation.attention import by_place

LOOK_EVERY_S = 1.0
PATIENCE_S = 2.0
"""How long a page waits for the supervisor before it shows the last answer."""
_LOOKED_AT_FOR_S = 10.0
_CYCLES_KEPT = 20


Without = Callable[[], Awaitable[tuple[Sequence[Mapping[str, Any]], float]]]


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle of an instrument, as seen from here."""

    finished_at: str
    status: str
    duration_ms: float | None
    found: str


@dataclass(frozen=True, slots=True)
class Seen:
    """The last answer: ``status`` is ``None`` before the first, ``heard_s`` is the monotonic time of its request,
    ``trouble`` why there is nothing newer; ``number`` grows with each change of these."""

    number: int = 0
    status: Mapping[str, Any] | None = None
    breaks: Sequence[Mapping[str, Any]] = ()
    heard_s: float = 0.0
    trouble: str | None = None
    cycles: Mapping[str, Sequence[Cycle]] = field(default_factory=dict)

    @property
    def of_place(self) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
        """The breaks of each account and instrument."""
        return by_place(self.breaks)

    def account(self, name: str) -> Mapping[str, Any] | None:
        """An account of the document."""
        rows = self.status["accounts"] if self.status is not None else ()
        return next((row for row in rows if row["account"] == name), None)

    def instrument(self, account: str, symbol: str) -> Mapping[str, Any] | None:
        """An instrument of the document."""
        found = self.account(account)
        rows = found["instruments"] if found is not None else ()
        return next((row for row in rows if row["instrument"] == symbol), None)

    def open_break(self, break_id: str) -> Mapping[str, Any] | None:
        """An open break by its whole id."""
        return next((row for row in self.breaks if row["id"] == break_id), None)


class Feed:
    """Requests the status and wakes the pages that wait for a newer one. Use it on one event loop. ``without`` returns
    the open breaks and when it found them, for the time before the supervisor has ever answered."""

    def __init__(
        self, desk: Desk, monotonic_s: Callable[[], float] = time.monotonic, without: Without | None = None
    ) -> None:
        self._desk = desk
        self._without = without
        self.monotonic_s = monotonic_s
        self.seen = Seen()
        self._cycles: dict[str, deque[Cycle]] = {}
        self._question: asyncio.Task[None] | None = None
        self._newer = asyncio.Condition()
        self._looked_s = self._asked_s = -math.inf
        self._wanted = asyncio.Event()
        self.closing = False

    async def run(self) -> None:
        """Keep up with the supervisor while a page is open, until cancelled."""
        while not self.closing:
            await self._wanted.wait()
            await self._answer(self._question)
            if self.monotonic_s() - self._looked_s > _LOOKED_AT_FOR_S:
                self._wanted.clear()
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """Note that a page is open."""
        self._looked_s = self.monotonic_s()
        self._wanted.set()

    async def fresh(self, max_age_s: float = LOOK_EVERY_S) -> Seen:
        """An answer at most this old, requested anew if there is none. A slow supervisor is not waited for: the last
        answer has its age."""
        self.look()
        if self._asked_s >= self.monotonic_s() - max_age_s and (self._question is None or self._question.done()):
            return self.seen
        return await self._answer(self._question)

    async def refresh(self) -> Seen:
        """Request an answer now, so that it includes what was just done."""
        under_way = self._question
        if under_way is not None and not under_way.done():
            await self._answer(under_way)  # it was requested before, and may not include it
            if not under_way.done():
                return self.seen
        return await self._answer(None)

    async def _answer(self, question: asyncio.Task[None] | None) -> Seen:
        if question is None or question.done():
            question = self._question = asyncio.create_task(self._ask())
        await asyncio.wait([question], timeout=PATIENCE_S)
        return self.seen

    async def _ask(self) -> None:
        asked_s = self._asked_s = self.monotonic_s()
        before = self.seen
        try:
            status, breaks = await self._desk.look()
            self._note(status)
        except Away as error:
            self.seen = replace(before, number=before.number + 1, trouble=str(error))
            if before.status is None and self._without is not None:
                rows, found_s = await self._without()
                self.seen = replace(self.seen, breaks=rows, heard_s=found_s)
        except Exception as error:  # noqa: BLE001 - an unreadable answer must not end everybody's pages
            logger.warning("the supervisor's answer could not be read: {}", type(error).__name__)
            words = f"its answer could not be read ({type(error).__name__})"
            self.seen = replace(before, number=before.number + 1, trouble=words)
        else:
            self.seen = Seen(before.number + 1, status, breaks, asked_s, None, self._cycles)
        async with self._newer:
            self._newer.notify_all()

    def _note(self, status: Mapping[str, Any]) -> None:
        there = set()
        for account in status["accounts"]:
            for row in account["instruments"]:
                name = f"{account['account']}/{row['instrument']}"
                there.add(name)
                at = row["health"]["last_cycle_at"]
                kept = self._cycles.setdefault(name, deque(maxlen=_CYCLES_KEPT))
                if at is not None and (not kept or kept[0].finished_at != at):
                    found = [f"{one['type']} {one['key']}" for one in row["discrepancies"]]
                    words = ", ".join(found) or str(row["error"] or "in step")
                    kept.appendleft(Cycle(at, row["status"], row["health"]["last_cycle_ms"], words))
        for gone in self._cycles.keys() - there:
            del self._cycles[gone]

    async def newer(self, than: int, within_s: float) -> Seen:
        """The first answer with a higher number, or the present one after ``within_s``."""
        self.look()
        async with self._newer:
            try:
                async with asyncio.timeout(within_s):
                    await self._newer.wait_for(lambda: self.closing or self.seen.number > than)
            except TimeoutError:
                pass
        return self.seen

    async def close(self) -> None:
        """Release everybody who waits."""
        self.closing = True
        self._wanted.set()
        async with self._newer:
            self._newer.notify_all()
