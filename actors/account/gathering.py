"""One record for all books of an account that are in step and have nothing else to write.

The laws of this module:

* A book is named at the version at which it was found in step, and only while its stream is still at that version: a
  book that has written since, or whose reporter was not the writer of the stream, is not named.
* An instrument that reported another version than the journal has is asked to check its stream: another process may
  have continued it, which a record of its own would have revealed.
* A report is written within :data:`GATHER_S` of the first, or as soon as the journal is there. A report that dies with
  this actor proved nothing to anybody.
"""

from __future__ import annotations

import asyncio

from loguru import logger

from actors.book.in_step import InStep, gathered
from actors.events import EventType
from actors.journal.client import JOURNAL_TIMEOUT_S
from actors.journal.outbox import Outbox
from actors.journal.types import JournalError
from actors.names import AUDIT, instrument_name
from actors.runtime.ports import CallError, Runtime

GATHER_S = 20.0
LOOKED_WITHIN_S = 2.0


class Gathering:
    """The reports of one account's instruments, until they are written."""

    def __init__(self, account: str, runtime: Runtime, outbox: Outbox) -> None:
        self._account = account
        self._runtime = runtime
        self._outbox = outbox
        self._reported: dict[str, InStep] = {}
        self._doubted: set[str] = set()
        self._writing: asyncio.Task[None] | None = None

    def add(self, report: InStep) -> None:
        """Add the report that a book is in step. An instrument's newest report counts; two different ones may come from
        two actors."""
        instrument, version = report.instrument, report.version
        before = self._reported.get(instrument)
        if before is not None and before.version != version:
            self._doubted.add(instrument)
        self._reported[instrument] = report
        if self._writing is None or self._writing.done():
            self._writing = self._runtime.spawn(self._account, self._write_later())

    async def _write_later(self) -> None:
        while self._reported:
            await self._runtime.sleep(GATHER_S)
            await self.write_out()

    async def write_out(self) -> None:
        """Write the reports so far. Those that the journal cannot be asked about now wait. Never raises."""
        reported, self._reported = self._reported, {}
        streams = {instrument_name(self._account, one.instrument): one for one in reported.values()}
        if not streams:
            return
        try:
            at = await self._runtime.call(AUDIT, "versions", tuple(streams), timeout_s=JOURNAL_TIMEOUT_S)
        except (CallError, JournalError) as error:
            logger.debug("{}: that {} books are in step is not journaled yet: {}", self._account, len(reported), error)
            self._reported = reported | self._reported
            return
        moved = {one.instrument for stream, one in streams.items() if at.get(stream) != one.version}
        doubted, self._doubted = moved | self._doubted, set()
        for instrument in sorted(doubted):
            await self._have_it_look(instrument)
        for payload in gathered(one for stream, one in streams.items() if at.get(stream) == one.version):
            await self._outbox.write(EventType.RECONCILED, payload, str(payload["requested_at"]))

    async def _have_it_look(self, instrument: str) -> None:
        name = instrument_name(self._account, instrument)
        try:
            await self._runtime.call(name, "doubt", timeout_s=LOOKED_WITHIN_S)
        except CallError as error:
            logger.debug("{}: {} could not be asked to look at its journal: {}", self._account, name, error)

    def close(self) -> None:
        """Stop waiting to write."""
        if self._writing is not None:
            self._writing.cancel()
