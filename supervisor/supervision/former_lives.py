"""What this run's journal says about former supervisors and their actors: how often each was restarted, what each
instrument found and corrected (so that the counts continue after everything was killed at once), and which actors were
left in quarantine.

The laws of this module: a count covers one run, from its `start` on; a living instrument reports its own part, and the
records before the version it began with are the part of its former processes, so nothing counts twice; while the
journal does not answer, a run has no former lives; a quarantine lasts until a person restarts the actor or its
configuration changes, whatever else dies meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from loguru import logger

from actors.events import EventType, Json, Record, Severity
from actors.instrument.statistics import Found, Totals
from actors.journal.client import settled_records
from actors.journal.outbox import Outbox
from actors.journal.record_filter import RecordQuery
from actors.journal.types import JournalError
from actors.names import SUPERVISOR
from actors.runtime.ports import CallError, Runtime
from supervisor.changes.applied_configuration import Run
from supervisor.presentation.event_text import counted_restarts
from supervisor.supervision.actor_states import key_of
from supervisor.tree.model import Event, Remembered

_PAGE = 1_000
_TRIES = 5
_AGAIN_AFTER_S = 2.0
_ACTORS = (
    EventType.CONFIGURATION_CHANGED,
    EventType.ACTOR_STARTED,
    EventType.ACTOR_RESTARTED,
    EventType.ACTOR_QUARANTINED,
    EventType.OPERATOR_ACTION,
)
_FOUND = (EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED)
TOGETHER = "its process ended together with the supervisor's"


class FormerLives:
    """Reads the former lives once, after the audit actor has come up. ``restarts`` is how often the supervisor was
    restarted, ``began_at`` when the run began."""

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
        self._learned = asyncio.Event()
        self._replaced = False
        self.restarts = 0
        self.began_at = run.began_at or started_at

    def learn(self, living: Collection[str], *, replaced: bool = False) -> None:
        """Begin to read; ``living`` are the actors that this supervisor found alive. It was not restarted where it
        ``replaced`` the former one on purpose. A second call does nothing."""
        if self._learning is None and self._run.began_at is not None:
            self._living, self._replaced = living, replaced
            self._learning = self._runtime.spawn(SUPERVISOR, self._learn())

    async def known(self, within_s: float) -> None:
        """Wait until the former lives are read, for at most ``within_s``, so that they come before any start."""
        if self._learning is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._learned.wait()

    async def _learn(self) -> None:
        for _ in range(_TRIES):
            try:
                ended = await self._read()
            except (CallError, JournalError) as error:
                logger.debug("what happened earlier in this run is not known yet: {}", error)
                await self._runtime.sleep(_AGAIN_AFTER_S)
            else:
                self._learned.set()
                await self._journal_restarts(ended)
                return
        self._learned.set()
        logger.warning("the journal does not answer what happened earlier in this run: counters start at zero")

    async def _read(self) -> dict[str, int]:
        """Read the records of this run; returns the restarts of each actor that ended together with a supervisor."""
        before = [one for one in await self._all(_ACTORS, SUPERVISOR) if one.event.time < self._started_at]
        if not any(one.event.payload.get("run") == self._run.identity for one in before):
            return {}  # nothing of this run was before
        restarts: Counter[str] = Counter()
        lived: dict[str, None] = {}
        for record in before:
            actor = record.event.payload.get("actor")
            if isinstance(actor, str):
                if record.event.type is EventType.ACTOR_RESTARTED:
                    restarts[actor] += counted_restarts(record.event.payload)
                elif record.event.type is EventType.ACTOR_STARTED:
                    lived[actor] = None
        quarantined = {name: why for name, why in _quarantined_by(before).items() if name not in self._living}
        ended = [name for name in lived if name not in self._living and name not in quarantined]
        for name in ended:
            restarts[name] += 1
        self.restarts = restarts.pop(SUPERVISOR, 0) + (0 if self._replaced else 1)
        # This supervisor's stream begins a run: a journal of years is not searched for what the run found.
        self._totals.remember(_found_by(await self._all(_FOUND, after_seq=before[0].seq)))
        counts = tuple((key_of(name), times) for name, times in restarts.items())
        left_dead = tuple((key_of(name), why) for name, why in quarantined.items())
        self._happened(Remembered(counts, left_dead))
        return {name: restarts[name] for name in ended}

    async def _journal_restarts(self, ended: Mapping[str, int]) -> None:
        if not self._living and self.restarts:  # else it was journaled when they were found
            await self._note(SUPERVISOR, "its process died, with those of all its actors", self.restarts)
        for name, restarts in ended.items():
            await self._note(name, TOGETHER, restarts)

    async def _note(self, name: str, reason: str, restarts: int) -> None:
        body: dict[str, Json] = {"actor": name, "reason": reason, "restarts": restarts}
        await self._outbox.write(EventType.ACTOR_RESTARTED, body, name, Severity.WARNING)

    async def _all(
        self, types: tuple[EventType, ...], stream: str | None = None, *, after_seq: int = 0
    ) -> list[Record]:
        found: list[Record] = []
        while True:
            filters: RecordQuery = {"types": types, "since": self._run.began_at, "limit": _PAGE, "stream": stream}
            filters["after_seq"] = found[-1].seq if found else after_seq
            page = await settled_records(self._runtime, filters)
            found += page
            if len(page) < _PAGE:
                return found


def _quarantined_by(records: Collection[Record]) -> dict[str, str]:
    """The actors that these records leave in quarantine, and why."""
    quarantined: dict[str, str] = {}
    for record in records:
        payload = record.event.payload
        actor = payload.get("actor")
        match record.event.type:
            case EventType.ACTOR_QUARANTINED if isinstance(actor, str):
                quarantined[actor] = str(payload.get("reason"))
            case EventType.OPERATOR_ACTION if payload.get("action") == "restart":
                quarantined.pop(str(actor), None)
            case EventType.ACTOR_STARTED:
                quarantined.pop(str(actor), None)
            case EventType.CONFIGURATION_CHANGED if isinstance(touched := payload.get("actors"), dict):
                for names in touched.values():
                    for name in names if isinstance(names, list) else ():
                        quarantined.pop(str(name), None)
    return quarantined


def _found_by(records: Collection[Record]) -> dict[str, list[Found]]:
    """What each instrument found and corrected, with the version of its stream."""
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
