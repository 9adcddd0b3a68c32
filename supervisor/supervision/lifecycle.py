"""Executes the commands of the tree: starts, stops, kills and probes children.

The laws of this module: every command runs in a task of its own and ends in an event; a newer command on a child
cancels an older one that is still running; a failed start leaves nothing alive; the tree receives the state of the
nodes before a death that a lost node may explain.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from loguru import logger

from actors.delta.sink_actor import SinkHealth
from actors.events import EventType, Json, Severity
from actors.journal.outbox import Outbox
from actors.journal.types import JournalError
from actors.messages import AccountHealth, AlertsHealth, Connection, InstrumentHealth
from actors.names import AUDIT, SUPERVISOR
from actors.reconciliation.reconciliation_pass import Status
from actors.runtime.deployment import Cluster, Deployment
from actors.runtime.nodes import Node, Nodes, nowhere
from actors.runtime.ports import CallError, CallTimeout, Runtime, closed
from brokers.versions import program_of
from supervisor.supervision.actor_states import key_of
from supervisor.supervision.discovery import Discovery
from supervisor.supervision.health import HealthRegistry
from supervisor.supervision.operator_commands import Instructions
from supervisor.tree.model import (
    PROBE_TIMEOUT_S,
    START_TIMEOUT_S,
    STOP_CALL_TIMEOUT_S,
    Begin,
    ChildKey,
    ChildSpec,
    Command,
    Died,
    Discovered,
    Ended,
    Event,
    HandedOver,
    Kill,
    Kind,
    NodeLost,
    NodesSeen,
    NoPlace,
    PlacedOn,
    Probe,
    ProbeAnswered,
    ProbeFailed,
    Quarantined,
    RestartScheduled,
    Rolled,
    Start,
    Started,
    StartFailed,
    Stop,
)

ASK_AGAIN_AFTER_S = 1.0
NODES_EVERY_S = 2.0
"""How often a cluster that may have several machines is asked for its nodes."""
_LOGGING = frozenset({Kind.AUDIT, Kind.ACCOUNT, Kind.INSTRUMENT})
BEGIN_TRIES = 10
NODE_TRIES = 30
FIRST_CYCLE_WITHIN_S = 1.0
"""How long an instrument's probe waits for its first cycle: less than a probe's time-out."""


class CannotRun(Exception):
    """This version cannot make the child: trying again does not help."""


class Lifecycle:
    """Starts, probes and ends children. ``deployment`` returns what a child is made of, or raises :class:`CannotRun`.
    ``heed`` receives each child's health, ``happened`` the event in which a command ended, ``rolled`` the end of a
    roll, and ``journal_is_there`` is called when the audit actor has come up. The cluster is asked for nodes only if
    there may be ``several_nodes``. ``replaced`` is whether this supervisor took the place of another on purpose."""

    def __init__(
        self,
        runtime: Runtime,
        cluster: Cluster,
        outbox: Outbox,
        healths: HealthRegistry,
        instructions: Instructions,
        discovery: Discovery,
        *,
        deployment: Callable[[ChildKey], Deployment],
        heed: Callable[[ChildKey, int, Any], None],
        happened: Callable[[Event], None],
        journal_is_there: Callable[[], None],
        rolled: Callable[[Rolled], None],
        several_nodes: bool = False,
    ) -> None:
        self._runtime = runtime
        self._cluster = cluster
        self._outbox = outbox
        self._healths = healths
        self._instructions = instructions
        self._discovery = discovery
        self._deployment = deployment
        self._heed = heed
        self._happened = happened
        self._journal_is_there = journal_is_there
        self._rolled = rolled
        self.replaced = False
        self._several_nodes = several_nodes
        self._nodes = Nodes(())
        self._tasks: dict[ChildKey, asyncio.Task[None]] = {}
        self._may_begin: dict[ChildKey, asyncio.Event] = {}
        self._lived: dict[ChildKey, None] = {}  # a set that keeps its order
        self._came_back: dict[ChildKey, tuple[int, str]] = {}  # restarts and reason, until its own log has them

    # The machines

    @property
    def nodes(self) -> dict[str, Node]:
        """The nodes of the cluster's last answer, by name; empty on a single machine of our own."""
        return {node.name: node for node in self._nodes.living}

    def nowhere(self, spec: ChildSpec, without: str | None = None) -> str | None:
        """Why no node can place a child, ``without`` left aside; ``None`` where one can, or where the nodes are not
        known."""
        living = [replace(node, draining=True) if node.name == without else node for node in self._nodes.living]
        return nowhere(spec.place, living) if living else None

    async def follow_nodes(self) -> None:
        """Send the tree the cluster's nodes whenever they change."""
        while self._several_nodes:
            await self.look_at_nodes()
            await self._runtime.sleep(NODES_EVERY_S)

    async def look_at_nodes(self) -> None:
        """Ask the cluster for its nodes; while it does not answer, the last ones stand."""
        if not self._several_nodes:
            return
        try:
            nodes = await self._cluster.nodes()
        except CallError as error:
            logger.warning("{}", error)
            return
        if not nodes.living:
            logger.warning("the cluster reports no living node, though this is one")  # it has not recovered yet
        elif nodes != self._nodes:
            for node in set(nodes.lost) - set(self._nodes.lost):
                logger.warning("node lost: {}", node)
            for node in {one for one in nodes.living if one.draining} - set(self._nodes.living):
                logger.warning("a node is to go: {}", node)
            self._nodes = nodes
            self._happened(NodesSeen(nodes))

    async def _report_node(self, key: ChildKey, attempt: int) -> None:
        """Send the tree the child's node; where that is not known now, later."""
        if self._several_nodes and not await self._is_placed(key, attempt):
            self._runtime.spawn(SUPERVISOR, self._report_node_later(key, attempt))

    async def _report_node_later(self, key: ChildKey, attempt: int) -> None:
        for _ in range(NODE_TRIES):
            await self._runtime.sleep(NODES_EVERY_S)
            if await self._is_placed(key, attempt):
                return

    async def _is_placed(self, key: ChildKey, attempt: int) -> bool:
        try:
            node = await self._cluster.node_of(key.name)
        except CallError as error:
            logger.debug("{}: its node is not known: {}", key.name, error)
            return False
        if node is not None:
            self._happened(PlacedOn(key, attempt, node))
        return True

    # Children that a former supervisor left

    async def find_the_living(self, replaces: Callable[[], Awaitable[str | None]]) -> tuple[str, ...]:
        """Find the children that live and report them to the tree; returns their names. ``replaces`` is why this
        supervisor takes the place of another, if that was on purpose."""
        names = tuple(name for name in await self._living() if name != SUPERVISOR)
        if names:
            why = await replaces() if AUDIT in names else None
            self.replaced = why is not None
            words = why or "this supervisor replaces one that died"
            logger.warning("{}; still running: {}", words, ", ".join(sorted(names)))
            body: dict[str, Json] = {"actor": SUPERVISOR, "reason": why or "its process died"}
            body |= {} if why is None else {"counted": False}
            # Awaited: once this is written, nothing that the former supervisor sent can be written any more.
            await self._outbox.write(EventType.ACTOR_RESTARTED, body, SUPERVISOR, Severity.WARNING)
        self._lived = dict.fromkeys(key_of(name) for name in names)
        self._happened(Discovered(tuple(self._lived)))
        for key in self._lived:
            self._runtime.spawn(SUPERVISOR, self._watch(key, 0))
            self._runtime.spawn(SUPERVISOR, self._report_node(key, 0))
            if key.kind is not Kind.AUDIT:
                self._runtime.spawn(SUPERVISOR, self._see_begun(key))
        return names

    async def _see_begun(self, key: ChildKey) -> None:
        """Start an actor that the former supervisor may have created and not started. One that has begun goes on."""
        for _ in range(BEGIN_TRIES):
            try:
                await self._runtime.call(key.name, "start", timeout_s=PROBE_TIMEOUT_S)
            except CallError as error:
                logger.debug("{}", error)
                await self._runtime.sleep(ASK_AGAIN_AFTER_S)
            else:
                return

    async def _living(self) -> tuple[str, ...]:
        """The names of the living actors. Nothing may start before they are known, so this asks until it succeeds."""
        while True:
            try:
                return await self._cluster.living()
            except Exception:  # noqa: BLE001 - whatever the error: without an answer there is nothing we may do
                logger.exception("the cluster does not report which actors run; asking again")
                await self._runtime.sleep(ASK_AGAIN_AFTER_S)

    # Commands

    def execute(self, command: Command) -> None:
        """Begin to execute a command; an event reports its outcome."""
        match command:
            case Start(spec, attempt, waiting):
                may_begin = self._may_begin[spec.key] = asyncio.Event()
                if not waiting:
                    may_begin.set()
                self._begin(spec.key, self._start(spec, attempt, may_begin))
            case Begin(key):
                self._may_begin[key].set()
            case Stop(key, attempt):
                self._begin(key, self._stop(key, attempt))
            case Kill(key, attempt, reason):
                logger.warning("{}: killed: {}", key.name, reason)
                self._begin(key, self._kill(key, attempt))
            case Probe(key, attempt):
                self._runtime.spawn(SUPERVISOR, self._probe(key, attempt))
            case RestartScheduled(key, reason, delay_s, restarts):
                logger.warning("{}: died ({}), restart {} in {:.1f} s", key.name, reason, restarts, delay_s)
                self._came_back[key] = restarts, reason
                body: dict[str, Json] = {"actor": key.name, "reason": reason, "restarts": restarts}
                self._note(EventType.ACTOR_RESTARTED, body, key.name, Severity.WARNING)
            case NodeLost(key, reason, restarts, forgives):
                logger.warning("{}: died with its node ({}), which counts as no restart", key.name, reason)
                self._came_back[key] = restarts, reason
                body = {"actor": key.name, "reason": reason, "restarts": restarts, "counted": False}
                body |= {"forgives": True} if forgives else {}
                self._note(EventType.ACTOR_RESTARTED, body, key.name, Severity.WARNING)
            case HandedOver(key, reason, restarts, programs):
                logger.info("{}: {}", key.name, reason)
                self._came_back[key] = restarts, reason
                body = {"actor": key.name, "reason": reason, "restarts": restarts, "counted": False}
                body |= {} if programs is None else {"from": programs[0], "to": programs[1]}
                self._note(EventType.ACTOR_RESTARTED, body, key.name, Severity.INFO)
            case Rolled():
                self._rolled(command)
            case NoPlace(key, reason):
                logger.critical("{}: cannot be started: {}", key.name, reason)
                if key.kind is not Kind.INSTRUMENT:  # its account waits for the same labels, and says so
                    body = {"actor": key.name, "reason": reason}
                    self._note(EventType.ACTOR_PENDING, body, key.name, Severity.CRITICAL)
            case Quarantined(key, reason):
                logger.critical("{}: quarantined: {}. `restart {}` ends the quarantine", key.name, reason, key.name)
                body = {"actor": key.name, "reason": reason}
                self._note(EventType.ACTOR_QUARANTINED, body, key.name, Severity.CRITICAL)

    def _begin(self, key: ChildKey, work: Coroutine[Any, Any, None]) -> None:
        """Run a command on a child; this cancels an older one that is still running."""
        under_way = self._tasks.get(key)
        if under_way is not None:
            under_way.cancel()
        self._tasks[key] = self._runtime.spawn(SUPERVISOR, work)

    def _note(self, kind: EventType, payload: dict[str, Json], identity: str, severity: Severity) -> None:
        self._runtime.spawn(SUPERVISOR, self._outbox.write(kind, payload, identity, severity))

    # Starting

    async def _start(self, spec: ChildSpec, attempt: int, may_begin: asyncio.Event) -> None:
        key = spec.key
        try:
            await self._cluster.create(self._deployment(key), START_TIMEOUT_S, may_begin)
            if key.kind is Kind.AUDIT:
                await self._open_journal()
        except asyncio.CancelledError:
            raise
        except CannotRun as refused:
            self._happened(StartFailed(key, attempt, str(refused), permanent=True))
            return
        except Exception as error:  # noqa: BLE001 - whatever a constructor raises, the tree decides what follows
            await self._cluster.kill(key.name)
            await self.look_at_nodes()
            self._happened(StartFailed(key, attempt, str(error)))
            return
        await self._greet(key, attempt)

    async def _greet(self, key: ChildKey, attempt: int) -> None:
        """The child lives: send it what it has to know, and report that it is up."""
        if key.kind is Kind.INSTRUMENT:
            await self._instructions.repeat(key.name)
        if key.kind is not Kind.INSTRUMENT or self._healths.knows_instrument(key.name):
            # A new instrument has nothing to report before its first cycle. After a restart, the report of the former
            # process is out of date.
            await self._ask_health(key, attempt)
        await self._report_node(key, attempt)
        self._happened(Started(key, attempt))
        self._runtime.spawn(SUPERVISOR, self._watch(key, attempt))
        if key in self._came_back and key.kind in _LOGGING:
            self._runtime.spawn(SUPERVISOR, self._have_it_logged(key, *self._came_back.pop(key)))
        if key.kind is Kind.AUDIT:
            self._journal_is_there()
        if key.kind is Kind.ACCOUNT and key in self._lived:
            self._runtime.spawn(SUPERVISOR, self._wake_instruments(key.name))
        self._lived[key] = None
        if key.kind is Kind.ACCOUNT:
            self._discovery.look_into_our_books(key.name)
        self._note(EventType.ACTOR_STARTED, {"actor": key.name, "attempt": attempt}, key.name, Severity.INFO)

    async def _have_it_logged(self, key: ChildKey, restarts: int, reason: str) -> None:
        """Write the reason of its restart into the actor's own log, which starts empty with each process."""
        with contextlib.suppress(CallError):
            await self._runtime.call(key.name, "restarted", restarts, reason, timeout_s=PROBE_TIMEOUT_S)

    async def _wake_instruments(self, account: str) -> None:
        try:
            await self._runtime.call(account, "wake_instruments", timeout_s=START_TIMEOUT_S)
        except CallError as error:
            logger.warning("{}", error)

    async def _open_journal(self) -> None:
        """Open the journal. If that fails, the audit actor stays alive, reports the error and tries again."""
        try:
            await self._runtime.call(AUDIT, "open", timeout_s=START_TIMEOUT_S)
        except JournalError as error:
            logger.critical("{}", error)

    # Ending

    async def _stop(self, key: ChildKey, attempt: int) -> None:
        method = "stop" if key.kind is Kind.INSTRUMENT else "close"
        try:
            await self._runtime.call(key.name, method, timeout_s=STOP_CALL_TIMEOUT_S)
        except CallError as error:
            logger.warning("{}", error)
        await self._kill(key, attempt)

    async def _kill(self, key: ChildKey, attempt: int) -> None:
        await self._cluster.kill(key.name)
        self._healths.ended(key.name)
        self._happened(Ended(key, attempt))

    # Probing

    async def refresh(self, key: ChildKey, attempt: int) -> None:
        """Ask an actor for its health now, beside the scheduled probes."""
        await self._ask_health(key, attempt)

    async def _watch(self, key: ChildKey, attempt: int) -> None:
        """Probe an actor at once when it seems to have ended, without waiting for its next probe."""
        await self._cluster.ended(key.name)
        self._happened(await self._ask_health(key, attempt))

    async def _probe(self, key: ChildKey, attempt: int) -> None:
        patience = (FIRST_CYCLE_WITHIN_S,) if key.kind is Kind.INSTRUMENT else ()
        self._happened(await self._ask_health(key, attempt, *patience))

    async def _ask_health(self, key: ChildKey, attempt: int, *patience_s: float) -> ProbeAnswered | ProbeFailed | Died:
        """Ask an actor for its health, and keep the report for ``status``."""
        try:
            health = await self._runtime.call(key.name, "health", *patience_s, timeout_s=PROBE_TIMEOUT_S)
        except CallTimeout:
            return ProbeFailed(key, attempt)
        except CallError as error:
            await self.look_at_nodes()
            return Died(key, attempt, error.found)
        if isinstance(health, dict) and health.get("closed"):
            return Died(key, attempt, closed(key.name).found)
        self._healths.keep(key, attempt, health)
        self._heed(key, attempt, health)
        return _answer(key, attempt, health)


def _answer(key: ChildKey, attempt: int, health: Any) -> ProbeAnswered:
    """What the tree needs of a health report."""
    said = program_of(health.get("program")) if isinstance(health, dict) else health.program
    program = "" if said is None else said.version
    match health:
        case InstrumentHealth():
            verified = health.verified_age_s is not None
            in_step = health.report is not None and health.report.status is Status.SUCCESS
            return ProbeAnswered(
                key,
                attempt,
                health.cycle_age_s,
                not health.paused,
                health.fingerprint,
                verified,
                program,
                well=verified and in_step and not health.paused,
            )
        case AccountHealth():
            well = health.connection is Connection.CONNECTED
            return ProbeAnswered(key, attempt, None, False, health.fingerprint, program=program, well=well)
        case AlertsHealth() | SinkHealth():
            well = health.error is None
            return ProbeAnswered(key, attempt, None, False, health.fingerprint, program=program, well=well)
        case _:
            return ProbeAnswered(key, attempt, None, False, program=program, well=health.get("writable") is True)
