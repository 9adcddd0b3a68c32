"""A sink as an actor: writes position updates of the journal into one Delta table, beside everything else.

The laws of this module:

* Nothing waits for it. It reads the journal beside its writer, in threads of a process of its own.
* Every error is reported with its health and tried again: the table itself records how far it was written.
* The library is imported only where there is a table to write.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Protocol

from loguru import logger

from actors.events import Json, to_iso
from actors.journal.types import JournalError
from actors.runtime.ports import Runtime, closed
from brokers.errors import BrokerError, Refused
from brokers.frozen import dataclass
from brokers.spec import SecretRef
from brokers.versions import PROGRAM, Program, across_versions

EVERY_S = 3.0
AGAIN_AFTER_S = 5.0
REFUSED_PAUSE_S = 60.0
"""A table that refuses our rows needs a person."""

STOP_WITHIN_S = 6.0
"""How long the last batch may take when the sink is stopped. The next start writes what it does not."""


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """The table, and its journal. ``options`` are those of its store; a :class:`SecretRef` is resolved on opening.
    ``fingerprint`` covers all of this."""

    name: str
    uri: str
    journal_url: str = field(repr=False)
    every_s: float = EVERY_S
    options: Mapping[str, str | SecretRef] = field(default_factory=dict)
    fingerprint: str | None = None


@across_versions
@dataclass(frozen=True, slots=True)
class SinkHealth:
    """A sink's answer to a probe: the place up to which the table holds the journal, how many rows this process wrote,
    when it last wrote or found nothing to write, and the error that keeps it from writing, if any. ``program`` is what
    its process runs."""

    name: str
    uri: str
    seq: int
    rows: int
    at: datetime | None
    error: str | None
    pid: int
    fingerprint: str | None = None
    program: Program | None = None

    def to_json(self) -> dict[str, Json]:
        """The form of ``status --json``."""
        return {
            "name": self.name,
            "uri": self.uri,
            "seq": self.seq,
            "rows": self.rows,
            "at": None if self.at is None else to_iso(self.at),
            "error": self.error,
        }


class Stepping(Protocol):
    """Writes a journal into a table, batch by batch. Its methods block."""

    def step(self) -> Step:
        """Write one batch."""

    def keep_up(self) -> None:
        """Compact and vacuum where that is due."""

    def close(self) -> None:
        """Close the journal."""


class Step(Protocol):
    """The result of one step."""

    @property
    def rows(self) -> int:
        """How many rows it wrote."""

    @property
    def seq(self) -> int:
        """The place up to which the table holds the journal."""

    @property
    def more(self) -> bool:
        """Whether the next is due at once."""


def open_sink(settings: SinkSettings, now: Callable[[], datetime]) -> Stepping:
    """The sink with its journal and its table opened. Raises ``JournalError`` and :class:`brokers.errors.BrokerError`;
    ``Refused`` where the extra is missing."""
    try:
        from actors.delta.sink import JournalSink, position_table
    except ImportError as error:
        found = f"it needs the extra 'delta', and {error.name} is not installed here"
        remedy = "pip install -e '.[delta]'"
        raise Refused(f"write to {settings.uri}", settings.name, found, remedy) from None
    options = {key: one.resolve() if isinstance(one, SecretRef) else one for key, one in settings.options.items()}
    return JournalSink.open(settings.journal_url, position_table(settings.uri, options or None), now)


def _utc_now() -> datetime:
    """The time for hourly upkeep, which runs in a thread."""
    return datetime.now(UTC)


class SinkActor:
    """Keeps one table up to date with the journal. ``open_`` makes the sink, in a thread."""

    def __init__(
        self,
        settings: SinkSettings,
        runtime: Runtime,
        open_: Callable[[SinkSettings, Callable[[], datetime]], Stepping] = open_sink,
        in_thread: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._open = open_
        self._in_thread = in_thread
        self._sink: Stepping | None = None
        self._seq = 0
        self._rows = 0
        self._at: datetime | None = None
        self._error: str | None = None
        self._loop: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def __repr__(self) -> str:
        return self._settings.name

    async def start(self) -> None:
        """Begin to write, and go on every ``every_s``."""
        if self._loop is None:
            self._loop = self._runtime.spawn(self._settings.name, self._run())

    async def health(self) -> SinkHealth:
        """How far it has come. Does not wait. Raises :class:`~actors.runtime.ports.ActorUnavailable` after
        :meth:`close`."""
        if self._stopping.is_set():
            raise closed(self._settings.name)
        given = self._settings
        here = (self._seq, self._rows, self._at, self._error, os.getpid(), given.fingerprint, PROGRAM)
        return SinkHealth(given.name, given.uri, *here)

    async def close(self) -> None:
        """Write what is left, within bounds, and end. Never raises."""
        self._stopping.set()
        if self._loop is not None:
            await asyncio.wait([self._loop], timeout=STOP_WITHIN_S)
            self._loop.cancel()

    async def _run(self) -> None:
        while True:
            last = self._stopping.is_set()
            pause_s = await self._step()
            if last:
                await self._let_go()
                return
            if pause_s:
                await self._pause(pause_s)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _step(self) -> float:
        """Write one batch; returns how long to wait before the next."""
        before = self._error
        try:
            if self._sink is None:
                self._sink = await self._in_thread(self._open, self._settings, _utc_now)
            done = await self._in_thread(self._sink.step)
            self._seq, self._rows, self._at, self._error = done.seq, self._rows + done.rows, self._runtime.now(), None
            if not done.more and not self._stopping.is_set():
                await self._in_thread(self._sink.keep_up)
        except (BrokerError, JournalError) as error:
            self._error = str(error)
            pause_s = REFUSED_PAUSE_S if isinstance(error, Refused) else AGAIN_AFTER_S
        except Exception as error:  # noqa: BLE001 - whatever the error, the next batch starts from the table
            logger.exception("{}: an internal error", self._settings.name)
            self._error, pause_s = f"an internal error: {type(error).__name__}: {error}", AGAIN_AFTER_S
        else:
            if before is not None:
                logger.info("{}: writing again", self._settings.name)
            return 0.0 if done.more else self._settings.every_s
        if before is None:
            logger.warning("{}: {} Tried again in {:g} s", self._settings.name, self._error, pause_s)
        await self._let_go()
        return pause_s

    async def _let_go(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            await self._in_thread(sink.close)
