"""The supervisor actor: the shell around :mod:`supervisor.tree.tree`.

It owns the queue of events and the loop that passes them to the tree, and it reports on everything that runs. The tree
decides what to do. The supervisor may be killed at any time: Ray restarts it with its original configuration, and it
finds its children again by name.

Its parts, each with laws of its own: :mod:`supervisor.supervision.desired` (what should run),
:mod:`supervisor.supervision.lifecycle` (executes the tree's commands), :mod:`supervisor.supervision.health` (each
child's last report), :mod:`supervisor.supervision.actor_states` (the state of each actor),
:mod:`supervisor.supervision.discovery`, :mod:`supervisor.supervision.operator_commands` (pauses and halts),
:mod:`supervisor.supervision.verdicts`, :mod:`supervisor.changes.transaction`.

The laws of this module: one queue of events and one loop that passes them to the tree; what the supervisor shows is
what its children last reported, never the result of calling all of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any

from loguru import logger

from actors.book.break_work import BreakRequest
from actors.book.trading_permission import Halted
from actors.delta.sink_actor import SinkActor
from actors.events import EventType, Json, Severity, to_iso
from actors.journal.actor import Audit
from actors.journal.evidence import EvidenceSettings
from actors.journal.outbox import Outbox
from actors.messages import AccountHealth, CycleReport, InstrumentHealth
from actors.names import AUDIT, SUPERVISOR, instrument_name, split_name
from actors.reconciliation.own_reports import Report, UnfitReports
from actors.runtime.deployment import Cluster, Deployment
from actors.runtime.ports import CallError, Runtime
from brokers.port import StreamState
from brokers.registry import open_broker
from brokers.versions import PROGRAM, Program
from supervisor.changes.applied_configuration import AppliedConfiguration, Run
from supervisor.changes.asking import Who, said_of, sender_keys
from supervisor.changes.diff import Effects
from supervisor.changes.requests import Change, ChangeRefused
from supervisor.changes.transaction import Changed, ConfigurationTransaction, words_of
from supervisor.config.models import SUPPORTED_BROKERS, Configuration
from supervisor.presentation.breaks import summary
from supervisor.supervision import specs, status
from supervisor.supervision.actor_states import ActorStates, is_up
from supervisor.supervision.breaks import BreakDesk, with_work
from supervisor.supervision.desired import DesiredState
from supervisor.supervision.discovery import Discovery
from supervisor.supervision.draining import Drained, Draining
from supervisor.supervision.former_lives import FormerLives
from supervisor.supervision.halts import Halting
from supervisor.supervision.health import HealthRegistry
from supervisor.supervision.lifecycle import CannotRun, Lifecycle
from supervisor.supervision.local_door import DoorKeeper
from supervisor.supervision.operator_commands import Instructions
from supervisor.supervision.outages import Outages
from supervisor.supervision.provenance import provenance
from supervisor.supervision.rolling import RollBegun, Rolling
from supervisor.supervision.self_checks import SelfChecks
from supervisor.supervision.specs import MakeBroker
from supervisor.supervision.verdicts import Verdicts
from supervisor.tree.model import (
    PROBE_TIMEOUT_S,
    START_TIMEOUT_S,
    ChildKey,
    DesiredChanged,
    Event,
    Kind,
    OperatorRestart,
    Tick,
    TreePolicy,
)
from supervisor.tree.restart import RestartPolicy
from supervisor.tree.tree import Tree

__all__ = ["SUPERVISOR", "Supervisor"]

LONGEST_SLEEP_S = 5.0
RECORD_TIMEOUT_S = 30.0
FORMER_LIVES_WITHIN_S = 3.0
"""How long nothing is started, probed or stopped, so that no quarantined actor is started again."""
MANY = 200
LOOK_AT_ONE_S = 20e-6
"""The tree goes over all its children for each batch of events. With more than ``MANY`` children the loop first sleeps
this long per child, so that events that arrive meanwhile are handled in one batch."""


class Supervisor:
    """Keeps the desired actors alive and reports on all of them. ``make_broker`` opens an account's adapter, inside the
    account's actor. ``make_sink`` makes a sink. ``make_audit`` makes the audit actor from the journal's URL, its heads
    file and the settings of its evidence. ``program`` is what this process runs."""

    def __init__(
        self,
        configuration: Configuration,
        runtime: Runtime,
        cluster: Cluster,
        make_broker: MakeBroker = open_broker,
        make_audit: Callable[[str, str | None, EvidenceSettings], Audit] = Audit,
        run: Run = Run(),  # noqa: B008 - it is frozen
        make_sink: Callable[..., SinkActor] = SinkActor,
        program: Program = PROGRAM,
    ) -> None:
        self._runtime = runtime
        self._make_broker = make_broker
        self._make_audit = make_audit
        self._make_sink = make_sink
        self._run_identity = run.identity
        restarts = _restarts(configuration)
        policy = TreePolicy(restart=restarts, wave_size=cluster.at_once, start_timeout_s=START_TIMEOUT_S)
        self._program = program
        self._tree = Tree(policy, runtime.uniform, program.version)
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._outbox = Outbox(SUPERVISOR, runtime)
        self._provenance_journaled = False
        self._halting = Halting(runtime)
        self._desired = DesiredState(configuration)
        self._journaled: list[Json] = []  # what should run, as last journaled
        children = self._tree.children
        self._states = ActorStates(runtime, children, self._desired)
        self._healths = HealthRegistry(runtime, children, self._desired)
        self._breaks = BreakDesk(runtime, self._desired, self._healths, self._refresh)
        self._verdicts = Verdicts(runtime, children, self._desired, self._healths)
        self._instructions = Instructions(runtime, run.identity, self._desired, self._halting, self._outbox)
        self._discovery = Discovery(runtime, self._desired, self._desire, lambda: self._stopping)
        self._changing = ConfigurationTransaction(
            configuration,
            run,
            runtime,
            self._outbox,
            specs_by=self._desired.specs_by,
            unverified=self._healths.unverified,
            nowhere=lambda spec: self._lifecycle.nowhere(spec),
            adopt=self._adopt,
        )
        self._lifecycle = Lifecycle(
            runtime,
            cluster,
            self._outbox,
            self._healths,
            self._instructions,
            self._discovery,
            deployment=self._deployment,
            heed=self._heed,
            happened=self._events.put_nowait,
            journal_is_there=self._journal_is_there,
            rolled=lambda command: self._rolling.rolled(command),
            several_nodes=configuration.several_nodes,
        )
        self._rolling = Rolling(
            program,
            runtime,
            cluster,
            self._outbox,
            children,
            run=run.identity,
            programs=self._healths.programs,
            happened=self._events.put_nowait,
        )
        self._draining = Draining(
            cluster,
            self._outbox,
            children,
            several_nodes=configuration.several_nodes,
            look=lambda: self._lifecycle.look_at_nodes(),
            nodes=lambda: self._lifecycle.nodes,
            nowhere=lambda spec, without: self._lifecycle.nowhere(spec, without),
        )
        self._started_at = runtime.now()
        self._living: tuple[str, ...] = ()
        self._outages = Outages(self._started_at)
        self._former = FormerLives(
            runtime, run, self._started_at, self._outbox, self._healths.totals, self._events.put_nowait
        )
        self._stopped = asyncio.Event()
        self._stopping = False
        self._turned_at_s: float | None = None  # when the loop last handled an event
        self._loop = runtime.spawn(SUPERVISOR, self._run())
        self._self_checks = SelfChecks(runtime, self._states.instruments_up)
        runtime.spawn(SUPERVISOR, self._self_checks.run(self._stopped))
        if run.door is not None:
            runtime.spawn(SUPERVISOR, DoorKeeper(run.door, self._asked).serve())

    def __repr__(self) -> str:
        return SUPERVISOR

    # What people and programs call

    async def status(self) -> dict[str, Any]:
        """The JSON document of ``status --json``, from the children's last reports."""
        result = self._healths.document(self._started_at, self._halting.on)
        actors = status.actor_rows(self._tree.children, self._healths.pids(), self._lifecycle.nodes)
        status.add_nodes(result, actors)
        result["supervisor"] = {
            "pid": os.getpid(),
            "program": self._program.version,
            "rolling": self._rolling.state,
            "state": "STOPPING" if self._stopping else "RUNNING",
            "restarts": self._former.restarts,
            "run_began_at": to_iso(self._former.began_at),
            "loop_age_s": self._loop_age_s(),
            "journal": self._healths.journal,
            "actors": actors,
            "self_check": self._self_checks.to_json(),
        }
        rows = self._breaks.rows()
        with_work(result, rows)
        result["breaks"] = summary(rows)
        sinks = self._healths.sinks()
        if sinks:
            result["supervisor"]["sinks"] = sinks
        result["supervisor"]["alerts"] = self._healths.alerts
        return result

    def _loop_age_s(self) -> float | None:
        """Seconds since the loop last handled an event; ``None`` before the first. Works after the loop has ended."""
        return None if self._turned_at_s is None else round(self._runtime.monotonic_s() - self._turned_at_s, 3)

    async def breaks(self) -> list[dict[str, Any]]:
        """Every open break with the work on it; the one that most needs a person comes first."""
        return self._breaks.rows()

    async def work_on_break(self, break_id: str, request: BreakRequest) -> dict[str, Any]:
        """Apply an operator's request to one break, named by its id or an unambiguous beginning of it. It is durable on
        return. Returns the break's row. Raises :class:`BreakRefused`, ``CallError`` and ``JournalAway``."""
        return await self._breaks.work_on(break_id, request)

    async def _refresh(self, name: str) -> None:
        key = self._states.key(name)
        child = self._tree.children.get(key) if key is not None else None
        if key is not None and child is not None:
            await self._lifecycle.refresh(key, child.attempt)

    async def directory(self) -> dict[str, dict[str, Any]]:
        """The accounts that run, each with its ``broker``, the scheme of its ``legs`` (as far as the broker's name
        determines it), its ``instruments``, and whether it manages ``all`` instruments of the account."""
        return self._desired.directory()

    async def actor_state(self, name: str) -> tuple[str, str]:
        """The state of one of our actors: one word, as ``status`` shows it, and a sentence with the reason."""
        word, words = self._states.state(name)
        if self._stopping and word == "ABSENT":
            return word, "the supervisor was stopped, and its actor with it"
        return word, words

    async def verdict(
        self, account: str | None, instrument: str | None, dry_run: bool, by: Who = None
    ) -> list[tuple[AccountHealth, list[CycleReport]]]:
        """Run an unscheduled verdict on every selected instrument, each in its own actor. ``by`` is the requester."""
        requester = None if by is None else said_of(by)
        return await self._verdicts.on(account, instrument, dry_run=dry_run, asked=requester)

    async def record(self, account: str, reports: dict[str, Sequence[Report]], by: Who = None) -> int:
        """Record our side's reports in the books of one account. Returns the number of newly recorded reports. ``by``
        is the reporter. Raises :class:`UnfitReports` if any report is unfit; then nothing was recorded."""
        unfit: list[tuple[str, int, str]] = []
        for symbol, of_symbol in reports.items():
            name = instrument_name(account, symbol)
            found = await self._runtime.call(name, "unfit", tuple(of_symbol), timeout_s=RECORD_TIMEOUT_S)
            unfit += [(symbol, place, words) for place, words in found]
        if unfit:
            raise UnfitReports(tuple(unfit))
        newly_recorded = 0
        for symbol, of_symbol in reports.items():
            name = instrument_name(account, symbol)
            newly_recorded += await self._runtime.call(
                name, "record", tuple(of_symbol), sender_keys(by), timeout_s=RECORD_TIMEOUT_S
            )
        return newly_recorded

    async def of_no_order(self, account: str, reports: dict[str, Sequence[Report]]) -> tuple[str, ...]:
        """The recorded fills that name an order their book does not have, one sentence each."""
        found: list[str] = []
        for symbol, of_symbol in reports.items():
            name = instrument_name(account, symbol)
            found += await self._runtime.call(name, "of_no_order", tuple(of_symbol), timeout_s=RECORD_TIMEOUT_S)
        return tuple(found)

    async def pause(self, account: str | None, instrument: str | None, by: Who = None) -> tuple[str, ...]:
        """Stop the scheduled cycles of the selected instruments; returns the names of those reached. ``by`` is the
        requester."""
        return await self._instructions.pause(account, instrument, by)

    async def resume(self, account: str | None, instrument: str | None, by: Who = None) -> tuple[str, ...]:
        """Start their scheduled cycles again; returns the names of the instruments reached."""
        return await self._instructions.resume(account, instrument, by)

    async def halt(self, account: str | None, instrument: str | None, reason: str | None, by: Who = None) -> Halted:
        """Stop trading in one instrument, an account or everything: ``trading_allowed`` is false there from now on,
        also after every restart. Reconciliation continues, and nothing is sent to a broker. Returns when the halt is
        durable, or when ``halting.KEEP_WITHIN_S`` has passed without that."""
        return await self._instructions.halt(account, instrument, reason, by)

    async def resume_trading(self, account: str | None, instrument: str | None, by: Who = None) -> Halted:
        """End the halts of one instrument, of an account and its instruments, or all. A wider halt stays in force."""
        return await self._instructions.resume_trading(account, instrument, by)

    async def look_after(self, account: str, symbol: str, by: Who = None) -> bool:
        """Start an actor for an instrument of an account that manages all instruments, before its broker reports it.
        Returns False where the account manages only those it names, or ignores this one."""
        self._discovery.found(account, [symbol], by)
        return symbol in self._desired.symbols(account)

    async def change(self, wanted: Change, asked_by: Who, force: bool = False, dry_run: bool = False) -> Changed:
        """Change what runs; with ``dry_run``, return what the change would do. The change is durable on return;
        :meth:`settled` waits for the actors. ``force`` allows removing books that are not empty. Raises
        :class:`ChangeRefused` and :class:`ChangeNotMade`; in both cases nothing was changed."""
        if self._stopping:
            raise ChangeRefused(str(wanted), "the supervisor is stopping", "Change the file, and start again.")
        return await self._changing.change(wanted, asked_by, force=force, dry_run=dry_run)

    async def settled(self, names: Sequence[str], timeout_s: float) -> dict[str, tuple[str, str]]:
        """Wait, for at most ``timeout_s``, until each of these actors runs as configured, has ended if it should not
        run, or is quarantined. Returns the state of each: one word (``SETTLED`` where it is as desired) and a
        sentence."""
        return await self._states.settled(names, timeout_s)

    async def story(self, name: str) -> list[tuple[float, str]] | None:
        """The history of an actor since this supervisor began, oldest first: how many seconds ago, and what happened.
        ``None`` where no actor has that name."""
        key = self._states.key(name)
        if key is None:
            return None
        now_s = self._runtime.monotonic_s()
        return [(round(now_s - step.at_s, 3), str(step)) for step in self._tree.story(key)]

    async def restart(self, name: str, by: Who = None) -> bool:
        """Restart one actor, whatever its history; this ends a quarantine. Returns False if no actor has that name."""
        key = self._states.key(name)
        if key is None:
            return False
        await self._outbox.write(
            EventType.OPERATOR_ACTION,
            {"action": "restart", "actor": name, "by": None, **said_of(by)},
            name,
        )
        self._events.put_nowait(OperatorRestart(key))
        return True

    async def drain(self, node: str, by: Who = None, force: bool = False) -> Drained:
        """Let nothing more start on a node, named by its id, the beginning of it, or its address, and move the accounts
        and instruments there to other nodes, one after another, each at work again before the next. ``force``: those
        that no other node can place stay until it has ended. Raises :class:`ChangeRefused`; then nothing was
        changed."""
        if self._stopping:
            raise ChangeRefused(f"drain {node}", "the supervisor is stopping", "Nothing of it will be on any node.")
        found = await self._draining.drain(node, by, force=force)
        await self._lifecycle.look_at_nodes()
        return found

    async def roll(self, program: Program, by: Who = None, dry_run: bool = False) -> RollBegun:
        """Replace this supervisor and every actor that runs another version than that one, which has been installed,
        one after another: see :mod:`supervisor.supervision.rolling`. It is begun, and durable, on return;
        :meth:`rolled` waits for its end. With ``dry_run``, only return what it would do. Raises
        :class:`ChangeRefused`; then nothing was begun."""
        if self._stopping:
            raise ChangeRefused(f"run {program} everywhere", "the supervisor is stopping", "Start it again.")
        return await self._rolling.begin(program, by, dry_run=dry_run)

    async def rolled(self, timeout_s: float) -> dict[str, Json] | None:
        """Wait, for at most ``timeout_s``, until the last roll has ended; returns it as ``status`` shows it. ``None``
        where there was none."""
        return await self._rolling.ended(timeout_s)

    async def stop(self, by: Who = None) -> None:
        """End every child, in order. Returns when this actor is the only one of ours alive."""
        if not self._stopping:
            self._stopping = True
            self._rolling.stop("everything is stopped")
            self._note(EventType.OPERATOR_ACTION, {"action": "stop", "by": None, **said_of(by)}, "stop")
            self._events.put_nowait(DesiredChanged(()))
        await self._stopped.wait()

    async def pid(self) -> int:
        """The process this actor lives in."""
        return os.getpid()

    async def _asked(self, method: str, args: tuple[object, ...]) -> object:
        """Serve a call that came in through the local door: one of the public methods above."""
        if method.startswith("_") or not hasattr(type(self), method):
            raise ValueError(f"the supervisor has no method {method!r}")
        return await getattr(self, method)(*args)

    # The loop

    async def _run(self) -> None:
        await self._lifecycle.look_at_nodes()
        self._runtime.spawn(SUPERVISOR, self._lifecycle.follow_nodes())
        living = await self._lifecycle.find_the_living(self._rolling.replaces)
        stands = await self._changing.learn(living, lambda: self._stopping)
        self._desired.begin_with(stands.configuration)
        self._discovery.take_over(living)
        self._tree.restart_by(_restarts(stands.configuration))
        self._desire()
        self._living = living
        if AUDIT in living:
            self._journal_is_there()
            await self._former.known(FORMER_LIVES_WITHIN_S)
        self._instructions.learn()
        wake_at_s: float | None = None
        while not self._stopped.is_set():
            event = await self._next_event(wake_at_s)
            if len(self._tree.children) > MANY:
                await self._runtime.sleep(len(self._tree.children) * LOOK_AT_ONE_S)
            more = [self._events.get_nowait() for _ in range(self._events.qsize())]
            now_s = self._turned_at_s = self._runtime.monotonic_s()
            for command in self._tree.handle(event, now_s, *more):
                self._lifecycle.execute(command)
            wake_at_s = self._tree.wake_at_s(now_s)
            if self._stopping and self._tree.stopped:
                self._stopped.set()

    def _journal_is_there(self) -> None:
        self._instructions.learn()
        self._former.learn(self._living, replaced=self._lifecycle.replaced)
        self._rolling.learn()

    async def _next_event(self, wake_at_s: float | None) -> Event:
        now_s = self._runtime.monotonic_s()
        wait_s = LONGEST_SLEEP_S if wake_at_s is None else min(LONGEST_SLEEP_S, max(0.0, wake_at_s - now_s))
        try:
            async with asyncio.timeout(wait_s):
                return await self._events.get()
        except TimeoutError:
            return Tick()

    def _note(
        self, kind: EventType, payload: dict[str, Json], identity: str, severity: Severity = Severity.INFO
    ) -> None:
        self._runtime.spawn(SUPERVISOR, self._outbox.write(kind, payload, identity, severity))

    # What should run

    def _desire(self, by: Who = None, *, journaled: bool = False) -> None:
        """Send the tree what should run. If that has changed, journal it too, unless ``journaled`` says that it has
        been. ``by`` is the requester, if there was one."""
        if self._stopping:
            return
        specs = self._desired.settle(self._changing.marks)
        self._events.put_nowait(DesiredChanged(specs))
        words = words_of(specs)
        if words != self._journaled:
            self._journaled = words
            if not journaled:
                body: dict[str, Json] = {"run": self._run_identity, "desired": words}
                body |= {} if by is None else said_of(by)
                if not self._provenance_journaled:
                    self._provenance_journaled = True
                    body["runs"] = provenance(self._desired.configuration)
                self._note(EventType.CONFIGURATION_CHANGED, body, "desired")

    def _adopt(self, found: AppliedConfiguration, effects: Effects) -> None:
        """Run this configuration from now on; the tree starts, restarts and stops what differs."""
        self._desired.adopt(found.configuration)
        for name in effects.stopped:
            self._healths.forget(name)
            self._instructions.forget(name)
        self._tree.restart_by(_restarts(found.configuration))
        self._desire(journaled=True)
        for account in dict.fromkeys((*effects.notified, *self._healths.behind())):
            self._runtime.spawn(SUPERVISOR, self._send_managed(account))

    async def _send_managed(self, account: str) -> None:
        managed = self._desired.managed(account)
        if managed is None:
            return
        try:
            await self._runtime.call(account, "manage", *managed, timeout_s=PROBE_TIMEOUT_S)
        except CallError as error:
            logger.debug("{}: could not be sent what it manages; the next probe retries: {}", account, error)
        else:
            await self._refresh(account)  # until it has reported what no instrument manages now, it is unverified

    async def _send_refusal(self, account: str, why: str | None) -> None:
        try:
            await self._runtime.call(account, "refuse", why, timeout_s=PROBE_TIMEOUT_S)
        except CallError as error:
            logger.debug("{}: could not be sent its refusal; the next probe retries: {}", account, error)

    def _deployment(self, key: ChildKey) -> Deployment:
        """The deployment of a child. Raises :class:`CannotRun`."""
        configuration = self._desired.configuration
        house = configuration.journal_place
        if key.kind is Kind.AUDIT:
            return Deployment(key.name, self._make_audit, specs.audit_actor(configuration), begin=None, place=house)
        if key.kind is Kind.SINK:
            given_to_sink = specs.sink_actor(configuration, key.name, self._runtime)
            return Deployment(key.name, self._make_sink, given_to_sink, place=house)
        if key.kind is Kind.ALERTS:
            alerts = specs.alerts_settings(configuration)
            return Deployment(key.name, specs.actor_of(key), (alerts, self._runtime), place=house)
        if key.kind is Kind.INSTRUMENT:
            account, symbol = split_name(key.name)
            made = specs.instrument_actor(configuration, account, symbol, self._runtime)
            carried = specs.carried_by(configuration, account, self._desired.instruments)
            halts = (self._halting.on(key.name),)
            near = None if configuration.is_spread(account) or not configuration.several_nodes else account
            place = specs.instrument_place(configuration, account)
            return Deployment(
                key.name, specs.actor_of(key), made, begin_with=halts, carried=carried, place=place, near=near
            )
        if key.name in self._desired.accounts:
            broker = configuration.account(key.name).broker
            if broker not in SUPPORTED_BROKERS:
                raise CannotRun(f"there is no adapter for broker {broker} in this version")
        marks = self._changing.marks
        given = specs.account_actor(configuration, key.name, self._runtime, make_broker=self._make_broker, marks=marks)
        return Deployment(key.name, specs.actor_of(key), given, place=configuration.place(key.name))

    # What the children report

    def _heed(self, key: ChildKey, attempt: int, health: object) -> None:
        """React to what a child's health report calls for."""
        match health:
            case dict():
                over = self._outages.over(health, self._runtime.now())
                if over is not None:
                    self._note(EventType.JOURNAL_RESTORED, {"actor": AUDIT, **over}, AUDIT, Severity.WARNING)
            case InstrumentHealth():
                child = self._tree.children.get(key)
                if child is not None and child.attempt == attempt and is_up(child):
                    # An instrument that is being stopped pauses too.
                    self._instructions.note_pause(key.name, paused=health.paused)
                self._instructions.note_halts(key.name, health.halts)
                if health.halts_due:
                    self._runtime.spawn(SUPERVISOR, self._instructions.halt_by_break(key.name, health.halts_due))
                self._discovery.retire_when_quiet(key, health)
            case AccountHealth():
                self._discovery.found(health.account, health.unowned)
                if self._healths.is_behind(health):
                    self._runtime.spawn(SUPERVISOR, self._send_managed(key.name))
                for name, why in self._healths.doubles().items():
                    self._runtime.spawn(SUPERVISOR, self._send_refusal(name, why))
                if health.stream is StreamState.SPENT:
                    # Its stream cannot be opened again in that process; a new process can open it.
                    self._events.put_nowait(OperatorRestart(key))


def _restarts(configuration: Configuration) -> RestartPolicy:
    given = configuration.supervision
    return RestartPolicy(given.intensity, given.period_s, *given.backoff_s)
