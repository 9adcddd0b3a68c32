"""Halts of trading: journaled in the stream of what they stop, folded from there, told to instruments.

The laws of this module: a halt is in force as soon as it is asked for, durable or not, and whoever asked is told
whether it is durable; it ends only when its end is durable; while the journal has not told which halts there are, that
is said, and no instrument is told that there is none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from loguru import logger

from actors.book.trading_permission import EVERYTHING, HALT_TYPES, Halt, folded, halts_on, scope_words
from actors.events import Event, EventType, Json, Payload, Severity, event_id
from actors.journal import client
from actors.journal.client import Fenced, JournalAway
from actors.journal.record_filter import RecordQuery
from actors.journal.types import JournalError
from actors.names import AUDIT
from actors.runtime.ports import CallError, Runtime
from supervisor.changes.asking import Who, said_of

_PAGE = 1000
_TRIES = 5
"""An instrument writes to its own stream meanwhile: as often as that is met by chance, it is tried again."""
_TRY_AGAIN_AFTER_S = 0.5
KEEP_WITHIN_S = 15.0
"""So long a halt is tried to be made durable before whoever asked for it is told that it is not: the audit actor, when
it has died, is back in seconds."""
_LEARN_AGAIN_AFTER_S = 0.2
_READ_TIMEOUT_S = 300.0
"""A journal of years is read through for its few halts; until then nobody is told that there is none."""


@dataclass(slots=True)
class _Unwritten:
    """A halt that the journal does not have yet, and ``by`` whom it is."""

    by: Who
    failure: str = "it did not answer"
    written: asyncio.Event = field(default_factory=asyncio.Event)


class Halting:
    """Which halts are in force, beside the journal that says so."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._halts: dict[str, Halt] = {}
        self._known = False
        self._to_write: dict[str, _Unwritten] = {}
        self._insisting: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()

    @property
    def known(self) -> bool:
        """Whether the journal has told which halts there are."""
        return self._known

    def on(self, name: str) -> tuple[Halt, ...] | None:
        """The halts that apply to an instrument; ``None`` while they are not known."""
        found = halts_on(name, self._halts)
        return found if self._known or found else None

    async def learn(self) -> None:
        """Read the halts in force from the journal, however long that takes."""
        while not self._known:
            try:
                self._halts = await self._read() | self._halts
                self._known = True
            except (CallError, JournalError) as error:
                logger.debug("which halts are in force is not known yet: {}", error)
                await self._runtime.sleep(_LEARN_AGAIN_AFTER_S)

    def put(self, scope: str, reason: str | None, by: Who = None) -> None:
        """Have a halt in force from now on; :meth:`keep` makes it durable. ``by`` is who asked for it."""
        old = self._halts.get(scope)
        if old is None or reason not in (None, old.reason):
            self._halts[scope] = Halt(scope, reason, self._runtime.now())
            self._to_write.setdefault(scope, _Unwritten(by)).by = by

    async def keep(self, scope: str) -> str | None:
        """Make a halt durable; gives why it is not, ``None`` where it is. What is not written within
        ``KEEP_WITHIN_S`` goes on being tried until it is written or lifted."""
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
        elif self._halts[scope] is halt:  # else its reason has changed meanwhile
            self._written(scope)

    def _written(self, scope: str) -> None:
        waiting = self._to_write.pop(scope, None)
        if waiting is not None:
            waiting.written.set()

    async def lift(self, scope: str, by: Who = None) -> tuple[tuple[str, ...], str | None]:
        """End the halts of a scope and of all within it. Gives those that ended, and why the others did not."""
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
            page = await self._runtime.call(AUDIT, "query", filters, timeout_s=_READ_TIMEOUT_S)
            halts += page
            if len(page) < _PAGE:
                return folded(halts)
            after_seq = page[-1].seq

    async def _journaled(self, name: str, kind: EventType, payload: Payload) -> str | None:
        """Write to a stream that may have another writer. Gives why it could not be written."""
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
    """What to tell whoever asked for a halt that is in force and not in the journal."""
    return (
        f"halted now, but not durable: {failure}. It is retried, and lost if the supervisor stops before that "
        "succeeds: halt again"
    )


def _within(scope: str, wider: str) -> bool:
    """Whether a halt of one scope is within another scope."""
    return wider == EVERYTHING or scope == wider or scope.startswith(f"{wider}/")
