"""Keeps the grounds of each decision beside the journal, where the configuration asks for that.

The laws of this module:

* A pass is kept before its events are journaled, and they name it. A pass that could not be kept is not named, and
  delays nothing: that is reported once, and the next pass tries again.
* A pass is kept where it wrote something, or saw something else than the last kept one.
"""

from __future__ import annotations

from loguru import logger

from actors.events import Event
from actors.journal.client import JOURNAL_TIMEOUT_S
from actors.journal.types import JournalError
from actors.names import AUDIT
from actors.reconciliation.grounds import PASS, Grounds, kept, with_key
from actors.runtime.ports import CallError, Runtime


class SliceKeeper:
    """Keeps the passes of one instrument, one after another."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        self._name = name
        self._runtime = runtime
        self._last: str | None = None
        self._seen: tuple[str, int] | None = None
        self._warned = False

    async def with_pass(self, grounds: Grounds, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """The events, with the name of the pass that decided them, if it was kept. Call before they are journaled."""
        seen = (grounds.slice.revision, grounds.book.version)
        if not events and seen == self._seen:
            return events
        found = kept(grounds, len(events), self._last)
        try:
            await self._runtime.call(
                AUDIT,
                "keep_pass",
                self._name,
                grounds.book.version,
                found.hash,
                found.entry,
                dict(found.parts),
                timeout_s=JOURNAL_TIMEOUT_S,
            )
        except (CallError, JournalError) as error:
            if not self._warned:
                logger.warning("{}: what was decided on is not kept: {}", self._name, error)
            self._warned = True
            return events
        self._warned = False
        self._last = found.hash
        self._seen = (grounds.slice.revision, grounds.book.version + len(events))
        return with_key(events, PASS, found.hash)
