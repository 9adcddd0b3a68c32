"""The events of an account or of the supervisor on their way into the journal.

Unlike an instrument's, these events change no book: they record what happened. While the journal is away they wait, in
order and within a bound, and are written when it is back, whether or not anything else happens by then. A batch whose
answer was lost is sent again unchanged, so that the journal can recognise it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime
from itertools import islice

from loguru import logger

from actors.events import Event, EventType, Payload, Severity, event_id
from actors.journal import client
from actors.runtime.ports import Runtime
from brokers.frozen import dataclass

WAITING_AT_MOST = 1_000
RETRY_AFTER_S = 5.0


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
        self._waiting: deque[_Waiting] = deque()
        self._offered = 0  # how many of them were sent to the journal, which may have them
        self._dropped = 0
        self._version: int | None = None
        self._writing = asyncio.Lock()
        self._retrying: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many events the journal has not accepted yet."""
        return len(self._waiting)

    async def write(self, kind: EventType, payload: Payload, identity: str, severity: Severity = Severity.INFO) -> None:
        """Journal an event now, or as soon as the journal accepts it. Never raises."""
        if len(self._waiting) >= WAITING_AT_MOST:
            self._dropped += 1
            logger.error("{}: {} event(s) are lost: the journal is away, and too many wait", self._name, self._dropped)
        else:
            self._waiting.append(_Waiting(kind, severity, payload, identity, self._runtime.now()))
        await self.flush()

    async def flush(self) -> None:
        """Write what waits, if the journal accepts it. What it does not accept is retried later. Never raises."""
        async with self._writing:
            try:
                while self._waiting:
                    await self._write_out()
            except client.JournalAway as away:
                logger.warning("{}: {} event(s) wait: {}", self._name, len(self._waiting), away)
                if self._retrying is None or self._retrying.done():
                    self._retrying = self._runtime.spawn(self._name, self._retry())

    async def _retry(self) -> None:
        while self._waiting:
            await self._runtime.sleep(RETRY_AFTER_S)
            await self.flush()

    async def _write_out(self) -> None:
        if self._version is None:
            self._version = await client.version(self._runtime, self._name)
        self._offered = self._offered or len(self._waiting)
        batch = list(islice(self._waiting, self._offered))
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
            self._version = (await client.append(self._runtime, self._name, self._version, events)).version
        except client.Fenced as fenced:
            # Another incarnation of ours wrote last: continue from the stream's present version.
            self._version = fenced.stale.actual_version
        else:
            for _ in batch:
                self._waiting.popleft()
        self._offered = 0
