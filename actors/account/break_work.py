"""Operators' work on the breaks that belong to none of an account's instruments.

The laws of this module: the work, and which breaks were open, is in the account's stream, and is read from there after
a restart; nothing here corrects a book, so there is nothing to approve.
"""

from __future__ import annotations

from loguru import logger

from actors.book import payloads
from actors.book.break_work import UNTOUCHED, WORK_EVENTS, BreakRefused, BreakRequest, BreakWork, act, folded
from actors.book.discrepancies import Break
from actors.book.unreadable import UNUSABLE, UnreadableRecord
from actors.events import Event, EventType, Record, Severity, event_id
from actors.journal import client
from actors.journal.client import Fenced, JournalAway
from actors.journal.types import JournalError
from actors.runtime.ports import CallError, Runtime
from brokers.frozen import dataclass

LEARN_AGAIN_AFTER_S = 5.0
_NEWEST = 1_000
_CONNECTIONS = (EventType.CONNECTION_LOST, EventType.CONNECTION_RESTORED)
_OF_STREAM = "stream"
"""The payload key that marks a connection event as one of the stream beside the connection."""
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Before:
    """The account's state in the journal before its actor began: its open breaks, and whether its connection was
    recorded as lost and not yet as restored."""

    breaks: tuple[Break, ...]
    lost: bool


class AccountWork:
    """The work on an account's own breaks, by break id."""

    def __init__(self, account: str, runtime: Runtime) -> None:
        self._account = account
        self._runtime = runtime
        self.by_id: dict[str, BreakWork] = {}

    async def learn(self) -> Before:
        """Read from the journal the work from before this actor began, trying until it succeeds."""
        while True:
            before = await self.recall()
            if before is not None:
                return before
            await self._runtime.sleep(LEARN_AGAIN_AFTER_S)

    async def recall(self) -> Before | None:
        """As :meth:`learn`, with one attempt; ``None`` where the journal does not answer."""
        types = (*sorted(WORK_EVENTS), EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED)
        try:
            found = await self._newest(types)
            connections = await self._newest(_CONNECTIONS)
        except (CallError, JournalError) as error:
            logger.debug("{}: the work on its breaks is not known yet: {}", self._account, error)
            return None
        done = self.by_id
        self.by_id = {}
        opened: dict[str, Break] = {}
        for record in reversed(found):
            try:
                self._remember(record.event, opened)
            except UNUSABLE as error:  # what it is about is unknown; what the others are about is not
                logger.error("{}: {}", self._account, UnreadableRecord.of(record, error))
        self.by_id |= done
        last = next((one.event.type for one in connections if _OF_STREAM not in one.event.payload), None)
        return Before(tuple(opened.values()), last is EventType.CONNECTION_LOST)

    def _remember(self, event: Event, opened: dict[str, Break]) -> None:
        if event.type is EventType.RECONCILIATION_DISCREPANCY:
            opened[str(event.payload["id"])] = payloads.break_of(event)
            return
        if event.type is EventType.DISCREPANCY_RESOLVED:
            opened.pop(str(event.payload["id"]), None)
        self._fold(event)

    async def _newest(self, types: tuple[EventType, ...]) -> list[Record]:
        return await client.settled_records(
            self._runtime, {"stream": self._account, "types": types, "order": "newest", "limit": _NEWEST}
        )

    async def do(self, found: Break | None, break_id: str, request: BreakRequest) -> BreakWork:
        """Apply an operator's request; durable on return. Raises :class:`BreakRefused` and :class:`JournalAway`."""
        attempted = f"{request.action.value} break {break_id[:8]} of {self._account}"
        if found is None:
            raise BreakRefused(attempted, "it is not open, or no longer", "List the open breaks again.")
        work = self.by_id.get(break_id, UNTOUCHED)
        kind, payload = act(found, work, request, four_eyes=False, now=self._runtime.now())
        version = await client.version(self._runtime, self._account)
        for _ in range(_TRIES):
            identity = event_id(self._account, str(version + 1), kind, break_id)
            event = Event(identity, kind, Severity.INFO, self._runtime.now(), payload)
            try:
                await client.append(self._runtime, self._account, version, (event,))
            except Fenced as fenced:  # the account's own events are written to the same stream
                version = fenced.stale.actual_version
            else:
                self._fold(event)
                return self.by_id[break_id]
        raise JournalAway(f"the stream of {self._account} has other writers all the time. Try again")

    def forget(self, break_id: str) -> None:
        """Drop the work on a break that has closed."""
        self.by_id.pop(break_id, None)

    def _fold(self, event: Event) -> None:
        break_id = str(event.payload["id"])
        if event.type in WORK_EVENTS:
            self.by_id[break_id] = folded(self.by_id.get(break_id, UNTOUCHED), event)
        else:
            self.forget(break_id)
