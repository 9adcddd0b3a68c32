"""Once a minute, asks one instrument in turn to compare its book with its journal.

The laws of this module: a check that could not be made is counted as skipped, never as one that found nothing; the
next instrument is the next by name, so that every instrument has its turn while others come and go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from loguru import logger

from actors.book.self_check import SelfCheck
from actors.events import Json, to_iso
from actors.runtime.ports import CallError, Runtime

EVERY_S = 60.0
TIMEOUT_S = 60.0


class SelfChecks:
    """Makes the checks and counts them. ``names`` returns the instruments that can be called now."""

    def __init__(self, runtime: Runtime, names: Callable[[], Sequence[str]]) -> None:
        self._runtime = runtime
        self._names = names
        self._last: str | None = None
        self._last_at: datetime | None = None
        self._failed: tuple[str, datetime] | None = None
        self._counts = {"checked": 0, "failed": 0, "skipped": 0}

    async def run(self, stopped: asyncio.Event) -> None:
        """Check one instrument a minute until ``stopped`` is set."""
        while not stopped.is_set():
            try:
                async with asyncio.timeout(EVERY_S):
                    await stopped.wait()
            except TimeoutError:
                await self.check_next()

    async def check_next(self) -> None:
        """Check the instrument whose turn it is, if there is any."""
        names = sorted(self._names())
        if not names:
            return
        name = next((name for name in names if self._last is None or name > self._last), names[0])
        self._last = name
        try:
            found: SelfCheck = await self._runtime.call(name, "self_check", timeout_s=TIMEOUT_S)
        except CallError as error:
            found = SelfCheck(name, 0, skipped=str(error))
        except Exception as error:  # noqa: BLE001 - an internal error in one actor must not end the checks of the others
            found = SelfCheck(name, 0, skipped=f"an internal error: {type(error).__name__}: {error}")
        self._count(found)

    def _count(self, found: SelfCheck) -> None:
        now = self._runtime.now()
        if found.skipped is not None:
            self._counts["skipped"] += 1
            logger.warning("{}: its book was not compared with its journal: {}", found.stream, found.skipped)
            return
        self._counts["checked"] += 1
        self._last_at = now
        if found.differences:
            self._counts["failed"] += 1
            self._failed = (found.stream, now)
            fields = ", ".join(one.field for one in found.differences)
            logger.critical("{}: its book differed from its journal, and was reloaded: {}", found.stream, fields)

    def to_json(self) -> dict[str, Json]:
        """The ``self_check`` of ``status --json``: since this supervisor started."""
        failed, failed_at = self._failed or (None, None)
        return {
            **self._counts,
            "last": self._last,
            "last_at": None if self._last_at is None else to_iso(self._last_at),
            "last_failed": failed,
            "last_failed_at": None if failed_at is None else to_iso(failed_at),
        }
