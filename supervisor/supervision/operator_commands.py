"""Operator commands to instruments: pauses and halts.

The laws of this module: a pause is written to the journal's outbox before it is sent to any instrument, and lasts until
it is resumed or the run ends, through every restart of the instrument's actor or of the supervisor; a halt is in force
whether or not its instrument has received it (:mod:`supervisor.supervision.halts`); an instrument that could not be
reached is called again after its next probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from loguru import logger

from actors.book.trading_permission import Halt, Halted, halted_by
from actors.events import EventType, Json, Record
from actors.journal.client import settled_records
from actors.journal.outbox import Outbox
from actors.journal.record_filter import RecordQuery
from actors.journal.types import JournalError
from actors.names import SUPERVISOR, split_name
from actors.runtime.ports import CallError, Runtime
from supervisor.changes.asking import Who, said_of
from supervisor.supervision.desired import DesiredState
from supervisor.supervision.halts import Halting
from supervisor.tree.model import PROBE_TIMEOUT_S, STOP_CALL_TIMEOUT_S

BY_CONFIGURATION = "halt_on"
"""The requester of a halt that the configuration places because of a break."""

_NOTES = 1_000
"""How many of the supervisor's own newest records are searched for the pauses of this run."""


def pauses_of(newest_first: Iterable[Record], run: str) -> set[str]:
    """The instruments that this run's records leave paused. A record belongs to the run that the nearest older
    configuration record names."""
    last: dict[str, str] = {}
    since: dict[str, str] = {}  # newer than the next configuration record, so of a run not known yet
    for record in newest_first:
        payload = record.event.payload
        if record.event.type is EventType.CONFIGURATION_CHANGED:
            if payload.get("run") != run:
                break
            last = since | last
            since = {}
        elif payload.get("action") in ("pause", "resume"):
            names = payload.get("instruments")
            of_these = names if isinstance(names, list) else []
            since = dict.fromkeys(map(str, of_these), str(payload["action"])) | since
    return {name for name, action in last.items() if action == "pause"}


class Instructions:
    """Sends pauses and halts to the instruments, and keeps which of them must stay paused."""

    def __init__(self, runtime: Runtime, run: str, desired: DesiredState, halting: Halting, outbox: Outbox) -> None:
        self._runtime = runtime
        self._run = run
        self._desired = desired
        self._halting = halting
        self._outbox = outbox
        self._paused: set[str] = set()
        self._pauses_known = False
        self._learning: asyncio.Task[None] | None = None
        self._up_before: set[str] = set()  # the instruments that reported before the halts were known
        self._halting_by_break: set[str] = set()

    async def repeat(self, name: str) -> None:
        """Send an instrument that has just started the pause that its former process had."""
        if name in self._paused:
            await self._send(name, "pause")  # until it is resumed, whatever the reason for its restart

    def forget(self, name: str) -> None:
        """Drop the pause of an instrument that is no longer desired."""
        self._paused.discard(name)

    def learn(self) -> None:
        """Start to read the halts in force and this run's pauses from the journal, until it answers. Instruments that
        are up are sent them then; the others receive them when they start."""
        if self._halting.known:
            return
        if self._learning is not None:
            self._learning.cancel()
        self._learning = self._runtime.spawn(SUPERVISOR, self._learn())

    async def _learn(self) -> None:
        await self._halting.learn()
        await asyncio.gather(*(self._set_halts(name) for name in sorted(self._up_before)), self._learn_pauses())
        self._up_before.clear()

    # Pauses

    async def _learn_pauses(self) -> None:
        """A supervisor that replaces another in the middle of a run takes over the pauses that the former one noted."""
        types = (EventType.OPERATOR_ACTION, EventType.CONFIGURATION_CHANGED)
        filters: RecordQuery = {"stream": SUPERVISOR, "types": types, "order": "newest", "limit": _NOTES}
        try:
            noted = await settled_records(self._runtime, filters)
        except (CallError, JournalError) as error:
            logger.warning("the pauses from before this supervisor started are unknown: {}", error)
            return
        paused = pauses_of(noted, self._run) - self._paused
        self._paused |= paused
        self._pauses_known = True
        await asyncio.gather(*(self._send(name, "pause") for name in sorted(paused & self._up_before)))

    async def pause(self, account: str | None, instrument: str | None, by: Who = None) -> tuple[str, ...]:
        """Stop the scheduled cycles of the selected instruments; returns the names of those reached."""
        self._paused.update(self._desired.chosen(account, instrument))
        return await self._send_all("pause", account, instrument, by)

    async def resume(self, account: str | None, instrument: str | None, by: Who = None) -> tuple[str, ...]:
        """Start their scheduled cycles again; returns the names of the instruments reached."""
        self._paused.difference_update(self._desired.chosen(account, instrument))
        return await self._send_all("resume", account, instrument, by)

    def note_pause(self, name: str, *, paused: bool) -> None:
        """An instrument reports whether it is paused. Until the journal has answered, its report shows what the former
        supervisor sent. Afterwards our own record decides, since a report may be older than a resume; an instrument
        that missed its pause is sent it again."""
        if paused and not self._pauses_known:
            self._paused.add(name)
        elif not paused and name in self._paused:
            self._runtime.spawn(SUPERVISOR, self._pause_again(name))

    async def _pause_again(self, name: str) -> None:
        if name in self._paused:  # it may have been resumed since
            await self._send(name, "pause")

    async def _send_all(self, method: str, account: str | None, instrument: str | None, by: Who) -> tuple[str, ...]:
        chosen = self._desired.chosen(account, instrument)
        body: dict[str, Json] = {"action": method, "instruments": list(chosen), "by": None, **said_of(by)}
        await self._outbox.write(EventType.OPERATOR_ACTION, body, method)
        reached = await asyncio.gather(*(self._send(name, method) for name in chosen))
        return tuple(name for name, done in zip(chosen, reached, strict=True) if done)

    async def _send(self, name: str, method: str) -> bool:
        try:
            await self._runtime.call(name, method, timeout_s=STOP_CALL_TIMEOUT_S)
        except CallError as error:
            logger.warning("{}", error)
            return False
        return True

    # Halts

    async def halt(self, account: str | None, instrument: str | None, reason: str | None, by: Who = None) -> Halted:
        """Put the halts of a selection in force, send them to its instruments, and make them durable."""
        scopes = self._desired.scopes(account, instrument)
        for scope in scopes:
            self._halting.put(scope, reason, by)
        keep = asyncio.gather(*(self._halting.keep(scope) for scope in scopes))
        reached, failures = await asyncio.gather(self._send_halts(account, instrument), keep)
        return self._halted(scopes, reached, next(filter(None, failures), None))

    async def resume_trading(self, account: str | None, instrument: str | None, by: Who = None) -> Halted:
        """End the halts of a selection and of every narrower scope, and send the rest to its instruments."""
        lifted: tuple[str, ...] = ()
        failure: str | None = None
        for scope in self._desired.scopes(account, instrument):
            ended, why_not = await self._halting.lift(scope, by)
            lifted, failure = lifted + ended, failure or why_not
        return self._halted(lifted, await self._send_halts(account, instrument), failure)

    async def halt_by_break(self, name: str, breaks: Sequence[str]) -> None:
        """An instrument has breaks that halt its trading, by the configuration. Such a halt is like any other: it ends
        when a person resumes trading."""
        own = any(halt.scope == name for halt in self._halting.on(name) or ())
        if own or name in self._halting_by_break:
            if own:
                await self._set_halts(name)  # the instrument has not received it
            return
        self._halting_by_break.add(name)
        try:
            account, symbol = split_name(name)
            reason = ", ".join(halted_by(words) for words in breaks)
            logger.warning("{}: trading is halted: {}", name, reason)
            await self.halt(account, symbol, reason, BY_CONFIGURATION)
        finally:
            self._halting_by_break.discard(name)

    def note_halts(self, name: str, halts: tuple[Halt, ...] | None) -> None:
        """An instrument reports the halts it knows of; if they differ from ours, it is sent ours."""
        if not self._halting.known:
            self._up_before.add(name)
        if self._halting.on(name) not in (None, halts):
            self._runtime.spawn(SUPERVISOR, self._correct_halts(name))

    async def _send_halts(self, account: str | None, instrument: str | None) -> dict[str, bool]:
        chosen = self._desired.chosen(account, instrument)
        reached = await asyncio.gather(*(self._set_halts(name) for name in chosen))
        return dict(zip(chosen, reached, strict=True))

    async def _correct_halts(self, name: str) -> None:
        await self._set_halts(name)

    async def _set_halts(self, name: str) -> bool:
        halts = self._halting.on(name)
        if halts is None:
            return False
        try:
            await self._runtime.call(name, "set_halts", halts, timeout_s=PROBE_TIMEOUT_S)
        except CallError as error:
            logger.debug("{}: could not be sent its halts; it receives them when it is back: {}", name, error)
            return False
        return True

    def _halted(self, scopes: tuple[str, ...], reached: dict[str, bool], failure: str | None) -> Halted:
        remaining = dict.fromkeys(halt for name in reached for halt in self._halting.on(name) or ())
        return Halted(
            scopes,
            tuple(name for name, done in reached.items() if done),
            tuple(name for name, done in reached.items() if not done),
            tuple(remaining),
            failure,
        )
