"""What this run's journal tells of the supervisors before this one, and of their actors: how often each was restarted,
and what each instrument found and corrected, so that counts go on where everything was killed at once.

The laws of this module: a count is of one run, from its `start` on; the part of an instrument that lives is told by
itself, and that of its former processes by the records before the version that it began with, so that nothing counts
twice; a run whose journal does not answer has no former lives until it does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from datetime import datetime

from loguru import logger

from actors.events import EventType, Json, Record, Severity
from actors.instrument.statistics import Found, Totals
from actors.journal.client import JOURNAL_TIMEOUT_S
from actors.journal.outbox import Outbox
from actors.journal.record_filter import RecordQuery
from actors.journal.types import JournalError
from actors.names import AUDIT, SUPERVISOR
from actors.runtime.ports import CallError, Runtime
from supervisor.changes.applied_configuration import Run
from supervisor.supervision.actor_states import key_of
from supervisor.tree.model import Event, Remembered

_PAGE = 1_000
_TRIES = 5
_AGAIN_AFTER_S = 2.0
_ACTORS = (EventType.CONFIGURATION_CHANGED, EventType.ACTOR_STARTED, EventType.ACTOR_RESTARTED)
_FOUND = (EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED)
TOGETHER = "its process ended together with the supervisor's"


class FormerLives:
    """Reads them once, after the journal's actor has come up. ``restarts`` is how often the supervisor was restarted,
    ``began_at`` when the run began."""

    def __init__(
        self,
        runtime: Runtime,
        run: Run,
        started_at: datetime,
        outbox: Outbox,
        totals: Totals,
        happened: Callable[[Event], None],
    ) -> None:
        self._runtime = runtime
        self._run = run
        self._started_at = started_at
        self._outbox = outbox
        self._totals = totals
        self._happened = happened
        self._living: Collection[str] = ()
        self._learning: asyncio.Task[None] | None = None
        self.restarts = 0
        self.began_at = run.began_at or started_at

    def learn(self, living: Collection[str]) -> None:
        """Begin to read; ``living`` are the actors that this supervisor found. Nothing happens the second time."""
        if self._learning is None and self._run.began_at is not None:
            self._living = living
            self._learning = self._runtime.spawn(SUPERVISOR, self._learn())

    async def _learn(self) -> None:
        for _ in range(_TRIES):
            try:
                await self._read()
            except (CallError, JournalError) as error:
                logger.debug("what was before in this run is not known yet: {}", error)
                await self._runtime.sleep(_AGAIN_AFTER_S)
            else:
                return
        logger.warning("the journal does not tell what was before in this run: counts begin anew")

    async def _read(self) -> None:
        before = [one for one in await self._all(_ACTORS, SUPERVISOR) if one.event.time < self._started_at]
        if not any(one.event.payload.get("run") == self._run.identity for one in before):
            return  # nothing of this run was before
        restarts: Counter[str] = Counter()
        lived: dict[str, None] = {}
        for record in before:
            actor = record.event.payload.get("actor")
            if isinstance(actor, str):
                if record.event.type is EventType.ACTOR_RESTARTED:
                    restarts[actor] += 1
                elif actor != SUPERVISOR:
                    lived[actor] = None
        ended = [name for name in lived if name not in self._living]
        for name in ended:
            restarts[name] += 1
        self.restarts = restarts.pop(SUPERVISOR, 0) + 1
        self._totals.remember(_found_by(await self._all(_FOUND)))
        self._happened(Remembered(tuple((key_of(name), times) for name, times in restarts.items())))
        await self._tell(ended, restarts)

    async def _tell(self, ended: Collection[str], restarts: Counter[str]) -> None:
        if not self._living:  # else it was told when they were found
            await self._note(SUPERVISOR, "it takes over from one that died, as did all its actors", self.restarts)
        for name in ended:
            await self._note(name, TOGETHER, restarts[name])

    async def _note(self, name: str, reason: str, restarts: int) -> None:
        body: dict[str, Json] = {"actor": name, "reason": reason, "restarts": restarts}
        await self._outbox.write(EventType.ACTOR_RESTARTED, body, name, Severity.WARNING)

    async def _all(self, types: tuple[EventType, ...], stream: str | None = None) -> list[Record]:
        found: list[Record] = []
        while True:
            filters: RecordQuery = {"types": types, "since": self._run.began_at, "limit": _PAGE, "stream": stream}
            filters["after_seq"] = found[-1].seq if found else 0
            page = await self._runtime.call(AUDIT, "query", filters, timeout_s=JOURNAL_TIMEOUT_S)
            found += page
            if len(page) < _PAGE:
                return found


def _found_by(records: Collection[Record]) -> dict[str, list[Found]]:
    """What each instrument found and corrected, by version of its stream."""
    found: dict[str, list[Found]] = {}
    for record in records:
        event = record.event
        one = Found(
            record.version,
            str(event.payload.get("type")),
            new=event.type is EventType.RECONCILIATION_DISCREPANCY,
            critical=event.severity is Severity.CRITICAL,
            corrected=event.payload.get("correction") is not None,
        )
        found.setdefault(record.stream, []).append(one)
    return found
