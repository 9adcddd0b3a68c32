"""Code upgraded actor by actor, while everything goes on: ``apply --rolling``, after the new version was installed.

The supervisor is replaced first, and carries out the rest. It is what makes actors: the arguments that it gives them,
the methods by which Ray lets them be called and the fingerprints by which it knows what they run are those of its own
version. One of the old version would make actors of the new one with settings of the old one, and its successor would
have to make all of them again. Replaced first, it finds the actors of the old version as after any crash of its own,
reads what they report (:mod:`brokers.versions` says which versions can), and makes each anew.

The laws of this module: nothing is begun unless every process that runs and the new version read each other's
messages; a roll is durable in the journal before anything of it happens, so that the next supervisor goes on with it,
whether that was replaced by the roll or died in it; one that does not come to its end is reported as that, in the
journal too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from loguru import logger

from actors.events import EventType, Json, Record, Severity, to_iso
from actors.journal.client import settled_records
from actors.journal.outbox import Outbox
from actors.journal.record_filter import RecordQuery
from actors.journal.types import JournalError
from actors.names import SUPERVISOR
from actors.runtime.deployment import Cluster
from actors.runtime.ports import CallError, Runtime
from brokers.frozen import dataclass
from brokers.versions import Program, across_versions
from supervisor.changes.asking import Who, said_of
from supervisor.changes.requests import ChangeRefused
from supervisor.tree.model import Child, ChildKey, Event, GiveUpRoll, Roll, Rolled, Up

ACTION = "roll"
"""What the journal calls it, in the records OPERATOR_ACTION of its beginning and its end."""
_NOTES = 1_000
_ASK_AGAIN_AFTER_S = 2.0
_REPLACED_WITHIN_S = 3.0
"""How long a supervisor waits for the journal to say that it was replaced on purpose, before it finds its actors."""
_ANSWERED_WITHIN_S = 0.5
"""How long a supervisor that is to be replaced still lives, so that its answer arrives."""
_LOOK_EVERY_S = 0.1
_KNOWN_WITHIN_S = 10.0
_STOP_AND_START = "Stop, and start with the new version."


@across_versions
@dataclass(frozen=True, slots=True)
class RollBegun:
    """What a roll does: the version it leads ``to``, those it leads ``away_from``, the ``actors`` that are replaced,
    and whether the ``supervisor`` is. Both are empty where everybody runs that version."""

    to: str
    away_from: tuple[str, ...]
    actors: tuple[str, ...]
    supervisor: bool = False


class Rolling:
    """Begins a roll, goes on with one that a former supervisor began, and reports on it. ``program`` is this process's,
    ``programs`` are those that the children have reported, by name."""

    def __init__(
        self,
        program: Program,
        runtime: Runtime,
        cluster: Cluster,
        outbox: Outbox,
        children: Mapping[ChildKey, Child],
        *,
        run: str,
        programs: Callable[[], Mapping[str, Program]],
        happened: Callable[[Event], None],
    ) -> None:
        self._program = program
        self._runtime = runtime
        self._cluster = cluster
        self._outbox = outbox
        self._children = children
        self._run = run
        self._programs = programs
        self._happened = happened
        self._state: dict[str, Json] | None = None
        self._learned = False
        self._learning: asyncio.Task[None] | None = None

    @property
    def state(self) -> dict[str, Json] | None:
        """The last roll of this run, for ``status``: the versions, who began it and when, its ``state`` (RUNNING, DONE,
        STOPPED), the ``actors`` that are ``left``, and where it stopped and why. ``None`` where there was none."""
        if self._state is None:
            return None
        return {**self._state, "left": [*self._left(str(self._state["to"]))]}

    # Beginning

    async def begin(self, program: Program, by: Who, *, dry_run: bool) -> RollBegun:
        """Begin a roll to that version; durable on return. One that is under way already goes on. With ``dry_run``,
        only say what it would do. Raises :class:`ChangeRefused`; then nothing was begun."""
        attempted = f"run {program} everywhere, actor by actor"
        await self._wait_until_known()
        if not self._learned:
            raise ChangeRefused(attempted, "it is not known yet whether another one is under way", "Try again.")
        if self._state is not None and self._state["state"] == "RUNNING":
            if self._state["to"] != program.version:
                found = f"the one to {self._state['to']} is under way"
                raise ChangeRefused(attempted, found, "Wait for its end, which status shows.")
            return self._what_is_left(program)
        begun = self._planned(program, attempted)
        if dry_run or not (begun.actors or begun.supervisor):
            return begun
        await self._journal(begun, by, attempted)
        if begun.supervisor:
            self._runtime.spawn(SUPERVISOR, self._renew())
        else:
            self._happened(Roll(program.version))
        return begun

    async def _wait_until_known(self) -> None:
        """Wait, within a bound, for the versions of those that have just come up, and for what the journal has."""
        until_s = self._runtime.monotonic_s() + _KNOWN_WITHIN_S
        while (self._silent() or not self._learned) and self._runtime.monotonic_s() < until_s:
            await self._runtime.sleep(_LOOK_EVERY_S)

    def _silent(self) -> list[str]:
        """Those that are up and have not reported their version."""
        return [name for name, child in self._up().items() if not child.program]

    def _up(self) -> dict[str, Child]:
        return {key.name: child for key, child in self._children.items() if isinstance(child.state, Up)}

    def _running(self) -> dict[str, Program]:
        up = self._up()
        return {name: one for name, one in self._programs().items() if name in up} | {SUPERVISOR: self._program}

    def _what_is_left(self, program: Program) -> RollBegun:
        others = {one.version for one in self._running().values()} - {program.version}
        left = self._left(program.version)
        return RollBegun(program.version, tuple(sorted(others)), left, self._program.version != program.version)

    def _planned(self, program: Program, attempted: str) -> RollBegun:
        if silent := self._silent():
            found = f"it is not known which version {', '.join(silent)} runs"
            remedy = "Try again; a version that does not report itself is replaced by stop and start."
            raise ChangeRefused(attempted, found, remedy)
        for name, one in self._running().items():
            if not program.reads(one):
                found = (
                    f"{name} runs {one}, and the two do not read each other's messages (number {one.messages} there, "
                    f"{program.messages} here, read from {max(one.oldest_read, program.oldest_read)} on)"
                )
                raise ChangeRefused(attempted, found, _STOP_AND_START)
        return self._what_is_left(program)

    def _left(self, version: str) -> tuple[str, ...]:
        """The actors that live and run another version."""
        found = [key for key, child in self._children.items() if child.spec is not None and child.program]
        return tuple(key.name for key in sorted(found) if self._children[key].program != version)

    async def _journal(self, begun: RollBegun, by: Who, attempted: str) -> None:
        words: dict[str, Json] = {
            "action": ACTION,
            "state": "began",
            "from": [*begun.away_from],
            "to": begun.to,
            "actors": [*begun.actors],
            "supervisor": self._program.version if begun.supervisor else None,
            "run": self._run,
            "by": None,
            **said_of(by),
        }
        await self._outbox.flush()
        if not await self._is_written(words, begun.to):
            found = "it is journaled first, and the journal does not answer"
            raise ChangeRefused(attempted, found, "Try again.")

    async def _is_written(self, words: dict[str, Json], to: str) -> bool:
        """Whether the journal has taken it; where it may still take it, a record of its end follows."""
        if self._waits():
            return False
        self._take(words, to_iso(self._runtime.now()))
        await self._outbox.write(EventType.OPERATOR_ACTION, words, to)
        if self._waits():
            self._end("STOPPED", "the journal did not answer, and it did not begin")
            return False
        return True

    def _waits(self) -> bool:
        return self._outbox.waiting > 0

    async def _renew(self) -> None:
        await self._runtime.sleep(_ANSWERED_WITHIN_S)
        logger.warning("this supervisor makes room for one of version {}", self._state and self._state["to"])
        try:
            await self._cluster.renew(SUPERVISOR)
        except CallError as error:
            self._end("STOPPED", f"the supervisor could not be replaced: {error}")

    # Its end

    def rolled(self, command: Rolled) -> None:
        """The tree has come to the end of it."""
        if command.failed is None:
            self._end("DONE", None)
        else:
            self._end("STOPPED", command.reason, command.failed.name)

    def stop(self, why: str) -> None:
        """It does not go on, since everything stops."""
        if self._state is not None and self._state["state"] == "RUNNING":
            self._happened(GiveUpRoll())
            self._end("STOPPED", why)

    def _end(self, state: str, reason: str | None, failed: str | None = None) -> None:
        assert self._state is not None  # noqa: S101 - what ends has begun
        to = str(self._state["to"])
        left = self._left(to)
        at = to_iso(self._runtime.now())
        self._state |= {"state": state, "ended_at": at, "failed": failed, "reason": reason}
        words: dict[str, Json] = {"action": ACTION, "state": state.lower(), "to": to, "run": self._run, "by": None}
        words |= {} if reason is None else {"reason": reason, "left": [*left]}
        words |= {} if failed is None else {"actor": failed}
        if state == "DONE":
            logger.info("every actor runs {}", to)
        else:
            where = "" if failed is None else f" at {failed}"
            others = f"; of another version: {', '.join(left)}" if left else ""
            logger.error("the upgrade to {} stopped{}: {}{}", to, where, reason, others)
        severity = Severity.INFO if state == "DONE" else Severity.WARNING
        self._runtime.spawn(SUPERVISOR, self._outbox.write(EventType.OPERATOR_ACTION, words, to, severity))

    async def ended(self, timeout_s: float) -> dict[str, Json] | None:
        """Wait, for at most ``timeout_s``, until the last roll has ended; returns its state."""
        until_s = self._runtime.monotonic_s() + timeout_s
        while self._runtime.monotonic_s() < until_s:
            if self._learned and (self._state is None or self._state["state"] != "RUNNING"):
                break
            await self._runtime.sleep(_LOOK_EVERY_S)
        return self.state

    # After a start, and after a crash

    async def replaces(self) -> str | None:
        """Why this supervisor takes the place of another, where a roll replaced that; ``None`` where it died."""
        filters: RecordQuery = {
            "stream": SUPERVISOR,
            "types": (EventType.OPERATOR_ACTION, EventType.ACTOR_RESTARTED),
            "order": "newest",
            "limit": _NOTES,
        }
        try:
            records = await settled_records(self._runtime, filters, _REPLACED_WITHIN_S)
        except (CallError, JournalError) as error:
            logger.warning("whether this supervisor was replaced on purpose is not known: {}", error)
            return None
        for record in records:
            payload = record.event.payload
            if record.event.type is EventType.ACTOR_RESTARTED and payload.get("actor") == SUPERVISOR:
                return None
            if payload.get("action") == ACTION:
                before = payload.get("supervisor") if payload.get("run") == self._run else None
                return None if before is None else f"replaced: {before} → {self._program}"
        return None

    def learn(self) -> None:
        """Begin to read, until the journal answers, whether a roll of this run has not ended, and go on with it."""
        if not self._learned and (self._learning is None or self._learning.done()):
            self._learning = self._runtime.spawn(SUPERVISOR, self._learn())

    async def _learn(self) -> None:
        filters: RecordQuery = {
            "stream": SUPERVISOR,
            "types": (EventType.OPERATOR_ACTION,),
            "order": "newest",
            "limit": _NOTES,
        }
        while True:
            try:
                records = await settled_records(self._runtime, filters)
                break
            except (CallError, JournalError) as error:
                logger.debug("whether an upgrade is under way is not known yet: {}", error)
                await self._runtime.sleep(_ASK_AGAIN_AFTER_S)
        if self._learned:
            return
        self._learned = True
        ours = [one for one in records if one.event.payload.get("action") == ACTION]
        ours = [one for one in ours if one.event.payload.get("run") == self._run]
        began = next((one for one in ours if one.event.payload.get("state") == "began"), None)
        if began is None:
            return
        self._take(began.event.payload, to_iso(began.event.time))
        assert self._state is not None  # noqa: S101 - it was just taken
        if ours[0] is not began:
            self._take_end(ours[0])
        elif self._program.version == self._state["to"]:
            logger.warning("going on with the upgrade to {}", self._program)
            self._happened(Roll(self._program.version))
        else:
            why = f"the supervisor came up with {self._program}: {self._state['to']} is not installed where it runs"
            self._end("STOPPED", why, SUPERVISOR)

    def _take(self, words: Mapping[str, Json], began_at: str) -> None:
        kept: dict[str, Any] = {key: words.get(key) for key in ("from", "to", "by", "actors")}
        self._state = {**kept, "state": "RUNNING", "began_at": began_at}
        self._state |= {"ended_at": None, "failed": None, "reason": None}

    def _take_end(self, record: Record) -> None:
        words = record.event.payload
        assert self._state is not None  # noqa: S101 - what ends has begun
        self._state |= {
            "state": str(words.get("state")).upper(),
            "ended_at": to_iso(record.event.time),
            "failed": words.get("actor"),
            "reason": words.get("reason"),
        }
