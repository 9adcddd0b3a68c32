"""Events of an account or of the supervisor on their way into the journal.

Unlike an instrument's, these events change no book: they tell what happened. While the journal is away they wait, in
order and within a bound, and are written when it is back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import datetime

from loguru import logger

from actors import stream
from actors.events import Event, EventType, Payload, Severity, event_id
from actors.runtime import Runtime

WAITING_AT_MOST = 1_000


@dataclass(frozen=True, slots=True)
class _Waiting:
    kind: EventType
    severity: Severity
    payload: Payload
    identity: str
    time: datetime


class Outbox:
    """The one writer of one stream."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        self._name = name
        self._runtime = runtime
        self._waiting: deque[_Waiting] = deque(maxlen=WAITING_AT_MOST)
        self._version: int | None = None
        self._writing = asyncio.Lock()

    async def write(self, kind: EventType, payload: Payload, identity: str, severity: Severity = Severity.INFO) -> None:
        """Journal an event now, or as soon as the journal takes it. Never raises."""
        self._waiting.append(_Waiting(kind, severity, payload, identity, self._runtime.now()))
        await self.flush()

    async def flush(self) -> None:
        """Write what waits, if the journal takes it."""
        async with self._writing:
            try:
                while self._waiting:
                    await self._write_out()
            except stream.JournalAway as away:
                logger.warning("{}: {} event(s) wait: {}", self._name, len(self._waiting), away)

    async def _write_out(self) -> None:
        if self._version is None:
            self._version = (await stream.load(self._runtime, self._name)).version
        batch = list(self._waiting)
        events = tuple(
            Event(
                event_id(self._name, str(self._version + place), waiting.kind, waiting.identity),
                waiting.kind,
                waiting.severity,
                waiting.time,
                waiting.payload,
            )
            for place, waiting in enumerate(batch, start=1)
        )
        try:
            self._version = (await stream.append(self._runtime, self._name, self._version, events)).version
        except stream.Fenced as fenced:
            # An earlier incarnation of ours wrote last, or an answer was lost: go on from where the stream stands.
            self._version = fenced.stale.actual_version
            return
        for written in batch:
            if self._waiting and self._waiting[0] is written:
                self._waiting.popleft()
