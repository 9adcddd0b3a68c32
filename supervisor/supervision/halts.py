"""Halts of trading: journaled in the stream of what they stop, rebuilt from there, and sent to the instruments.

The laws of this module: a halt is in force as soon as it is requested, durable or not, and the requester learns which;
it ends only when its end is durable; until the halts have been read from the journal they are reported as unknown, and
no instrument is sent an empty list.
"""

from __future__ import annotations

import asyncio
from dataclasses import field

from loguru import logger

from actors.book.trading_permission import EVERYTHING, HALT_TYPES, Halt, folded, halts_on, scope_words
from actors.events import Event, EventType, Json, Payload, Severity, event_id
from actors.journal import client
from actors.journal.client import Fenced, JournalAway
from actors.journal.record_filter import RecordQuery
from actors.journal.types import JournalError
from actors.runtime.ports import CallError, Runtime
from brokers.frozen import dataclass
from supervisor.changes.asking import Who, said_of

_PAGE = 1000
_TRIES = 5
"""How often a write is tried again when the instrument has written to its own stream in between."""
_TRY_AGAIN_AFTER_S = 0.5
KEEP_WITHIN_S = 15.0
"""How long a halt waits to become durable before the requester is warned that it is not. An audit actor that has died
is back within seconds."""
_LEARN_AGAIN_AFTER_S = 0.2
_READ_TIMEOUT_S = 300.0
"""Long enough to read a journal of years for its few halts."""


@dataclass(slots=True)
class _Unwritten:
    """A halt that is not in the journal yet, and ``by`` whom it was requested."""

    by: Who
    failure: str = "it did not answer"
    written: asyncio.Event = field(default_factory=asyncio.Event)


class Halting:
    """The halts in force, including those that are not in the journal yet."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._halts: dict[str, Halt] = {}
        self._known = False
        self._to_write: dict[str, _Unwritten] = {}
        self._insisting: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()

    @property
    def known(self) -> bool:
        """Whether the halts have been read from the journal."""
        return self._known

    def on(self, name: str) -> tuple[Halt, ...] | None:
        """The halts that apply to an instrument; ``None`` while they are not known."""
        found = halts_on(name, self._halts)
        return found if self._known or found else None

    async def learn(self) -> None:
        """Read the halts in force from the journal, trying until it succeeds."""
        while not self._known:
            try:
                self._halts = await self._read() | self._halts
                self._known = True
            except (CallError, JournalError) as error:
                logger.debug("which halts are in force is not known yet: {}", error)
                await self._runtime.sleep(_LEARN_AGAIN_AFTER_S)

    def put(self, scope: str, reason: str | None, by: Who = None) -> None:
        """Put a halt in force from now on; :meth:`keep` makes it durable. ``by`` is the requester."""
        old = self._halts.get(scope)
        if old is None or reason not in (None, old.reason):
            self._halts[scope] = Halt(scope, reason, self._runtime.now())
            self._to_write.setdefault(scope, _Unwritten(by)).by = by

    async def keep(self, scope: str) -> str | None:
        """Make a halt durable. Returns why it is not, or ``None`` where it is. A halt that is not written within
        ``KEEP_WITHIN_S`` is retried until it is written or lifted."""
        waiting = self._to_write.get(scope)
        if waiting is None:
            return None
        if self._insisting is None or self._insisting.done():
            self._insisting = self._runtime.spawn(EVERYTHING, self._insist())
        try:
            async with asyncio.timeout(KEEP_WITHIN_S):
                await waiting.written.wait()
        except TimeoutError:
            return waiting.failure
        return None

    async def _insist(self) -> None:
        while True:
            for scope in sorted(self._to_write):
                async with self._changing:
                    await self._write_halt(scope)
            if not self._to_write:
                return
            await self._runtime.sleep(_TRY_AGAIN_AFTER_S)

    async def _write_halt(self, scope: str) -> None:
        waiting = self._to_write.get(scope)
        if waiting is None:
            return
        halt = self._halts[scope]
        body: dict[str, Json] = {"scope": scope_words(scope), "reason": halt.reason, **said_of(waiting.by)}
        failure = await self._journaled(scope, EventType.TRADING_HALTED, body)
        if failure is not None:
            waiting.failure = failure
        elif self._halts[scope] is halt:  # else its reason has changed meanwhile, and is written next
            self._written(scope)

    def _written(self, scope: str) -> None:
        waiting = self._to_write.pop(scope, None)
        if waiting is not None:
            waiting.written.set()

    async def lift(self, scope: str, by: Who = None) -> tuple[tuple[str, ...], str | None]:
        """End the halts of a scope and of every narrower one. Returns those that ended, and why the others did not."""
        async with self._changing:
            if not self._known:
                return (), "the halts have not been read from the journal yet. Try again"
            lifted: list[str] = []
            for inner in [one for one in self._halts if _within(one, scope)]:
                body: dict[str, Json] = {"scope": scope_words(inner), **said_of(by)}
                failure = await self._journaled(inner, EventType.TRADING_RESUMED, body)
                if failure is not None:
                    return tuple(lifted), failure
                del self._halts[inner]
                self._written(inner)
                lifted.append(inner)
            return tuple(lifted), None

    async def _read(self) -> dict[str, Halt]:
        halts = []
        after_seq = 0
        while True:
            filters: RecordQuery = {"types": HALT_TYPES, "after_seq": after_seq, "limit": _PAGE}
            page = await client.settled_records(self._runtime, filters, _READ_TIMEOUT_S)
            halts += page
            if len(page) < _PAGE:
                return folded(halts)
            after_seq = page[-1].seq

    async def _journaled(self, name: str, kind: EventType, payload: Payload) -> str | None:
        """Write to a stream that may have another writer. Returns why that failed, or ``None``."""
        severity = Severity.WARNING if kind is EventType.TRADING_HALTED else Severity.INFO
        try:
            version = await client.version(self._runtime, name)
            for _ in range(_TRIES):
                identity = event_id(name, str(version + 1), kind)
                event = Event(identity, kind, severity, self._runtime.now(), payload)
                try:
                    await client.append(self._runtime, name, version, (event,))
                except Fenced as fenced:
                    version = fenced.stale.actual_version
                else:
                    return None
        except JournalAway as away:
            logger.warning("{}: {} is not durable: {}", name, kind, away)
            return str(away)
        return f"the stream of {name} is too busy to write to. Try again"


def not_durable(failure: str) -> str:
    """The warning to the requester of a halt that is in force and not in the journal."""
    return (
        f"halted now, but not durable: {failure}. It is retried, and lost if the supervisor stops before that "
        "succeeds: halt again"
    )


def _within(scope: str, wider: str) -> bool:
    """Whether a halt of one scope is within another scope."""
    return wider == EVERYTHING or scope == wider or scope.startswith(f"{wider}/")
