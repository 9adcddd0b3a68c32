"""The supervisor actor: the shell around :mod:`supervisor.tree`.

It owns the clock, the probes and the commands; what is to be done is decided in the tree. It may be killed at any
time: it comes back with the configuration it was given and finds its children again by their names.

The laws of this module: one queue of events, one loop that hands them to the tree; every command runs in a task of its
own and ends in an event; what the supervisor shows is what its children last reported, never a call to all of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from loguru import logger

from actors.audit import Audit
from actors.deployment import Cluster, Deployment
from actors.events import EventType, Json, Severity, stream_of
from actors.journal_types import JournalError
from actors.messages import AccountHealth, Connection, CycleReport, InstrumentHealth
from actors.outbox import Outbox
from actors.permission import scope_of
from actors.reports import Report
from actors.runtime import CallError, CallTimeout, Runtime
from actors.stream import AUDIT as AUDIT_NAME
from actors.tally import Totals
from brokers.model import Conventions
from brokers.registry import CONVENTIONS, open_broker
from brokers.stream import StreamState
from supervisor import blueprint, status
from supervisor.blueprint import MakeBroker
from supervisor.books import held_in_our_books
from supervisor.change_requests import Change, ChangeRefused
from supervisor.changes import Effects, Marks
from supervisor.changing import Changed, Changing, words_of
from supervisor.children import (
    Begin,
    Child,
    ChildKey,
    ChildSpec,
    Command,
    DesiredChanged,
    Died,
    Discovered,
    Ended,
    Event,
    Kill,
    Kind,
    OperatorRestart,
    Probe,
    ProbeAnswered,
    ProbeFailed,
    Quarantined,
    RestartScheduled,
    Start,
    Started,
    StartFailed,
    Stop,
    Tick,
    TreePolicy,
    Up,
)
from supervisor.config import SUPPORTED_BROKERS, Configuration
from supervisor.document import document
from supervisor.halting import Halted, Halting
from supervisor.restart import RestartPolicy
from supervisor.self_checks import SelfChecks
from supervisor.standing import Run, Standing
from supervisor.tree import Tree

SUPERVISOR = "supervisor"
PROBE_TIMEOUT_S = 3.0
STOP_CALL_TIMEOUT_S = 8.0
LONGEST_SLEEP_S = 5.0
ASK_AGAIN_AFTER_S = 1.0
WAVE_SIZE = 8
START_TIMEOUT_S = 120.0
VERDICT_MARGIN_S = 30.0
_LOOK_AGAIN_AFTER_S = 0.1
_FINAL = frozenset({"SETTLED", "QUARANTINED"})


class Supervisor:
    """Keeps the desired actors alive, and answers for all of them. ``make_broker`` opens an account's adapter, inside
    the account's actor; ``make_audit`` makes the audit actor of a journal's URL and
    its heads file."""

    def __init__(
        self,
        configuration: Configuration,
        runtime: Runtime,
        cluster: Cluster,
        make_broker: MakeBroker = open_broker,
        make_audit: Callable[[str, str | None], Audit] = Audit,
        run: Run = Run(),  # noqa: B008 - it is frozen
    ) -> None:
        self._configuration = configuration
        self._runtime = runtime
        self._cluster = cluster
        self._make_broker = make_broker
        self._make_audit = make_audit
        self._run_identity = run.identity
        restarts = _restarts(configuration)
        policy = TreePolicy(restart=restarts, wave_size=WAVE_SIZE, start_timeout_s=START_TIMEOUT_S)
        self._tree = Tree(policy, runtime.uniform)
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._tasks: dict[ChildKey, asyncio.Task[None]] = {}
        self._may_begin: dict[ChildKey, asyncio.Event] = {}
        self._accounts: dict[str, AccountHealth] = {}
        self._instruments: dict[str, InstrumentHealth] = {}
        self._totals = Totals()
        self._journal: dict[str, Json] = {}
        self._discovered: set[tuple[str, str]] = set()
        self._lived: set[ChildKey] = set()
        self._desired: list[Json] = []
        self._specs: dict[ChildKey, ChildSpec] = {}
        self._paused: set[str] = set()
        self._empty_since: dict[ChildKey, tuple[int, float]] = {}
        self._outbox = Outbox(SUPERVISOR, runtime)
        self._halting = Halting(runtime)
        self._changing = Changing(configuration, run, runtime, self._outbox, _Staff(self))
        self._started_at = runtime.now()
        self._stopped = asyncio.Event()
        self._stopping = False
        self._loop = runtime.spawn(SUPERVISOR, self._run())
        self._self_checks = SelfChecks(runtime, self._instruments_up)
        runtime.spawn(SUPERVISOR, self._self_checks.run(self._stopped))

    def __repr__(self) -> str:
        return SUPERVISOR

    # What people and programs ask

    async def status(self) -> dict[str, Any]:
        """The JSON document of ``status --json``, from the children's last reports."""
        rows = [(self._account_health(name), self._reports_of(name)) for name in self._names()]
        age_ms = (self._runtime.now() - self._started_at).total_seconds() * 1000
        result = document(self._started_at, age_ms, rows)
        status.add_account_health(result, [health for health, _ in rows])
        status.add_health(result, self._tree.children, self._instruments, self._runtime.now(), self._halting.on)
        result["supervisor"] = {
            "pid": os.getpid(),
            "state": "STOPPING" if self._stopping else "RUNNING",
            "journal": self._journal,
            "actors": status.actor_rows(self._tree.children, self._pids()),
            "self_check": self._self_checks.to_json(),
        }
        return result

    async def verdict(
        self, account: str | None, instrument: str | None, dry_run: bool
    ) -> list[tuple[AccountHealth, list[CycleReport]]]:
        """A verdict on every selected instrument, past the schedule, each by its own actor."""
        chosen = [name for name in self._names() if account in (None, name)]
        work = [self._verdicts_of(name, instrument, dry_run=dry_run) for name in chosen]
        return list(await asyncio.gather(*work))

    async def record(self, account: str, reports: dict[str, Sequence[Report]]) -> int:
        """Put our side's reports into the books of one account; gives how many were news."""
        news = 0
        for symbol, of_symbol in reports.items():
            name = stream_of(account, symbol)
            news += await self._runtime.call(name, "record", tuple(of_symbol), timeout_s=VERDICT_MARGIN_S)
        return news

    async def pause(self, account: str | None, instrument: str | None) -> tuple[str, ...]:
        """Let the selected instruments run no cycle by themselves; gives their names."""
        told = await self._tell("pause", account, instrument)
        self._paused.update(told)
        return told

    async def resume(self, account: str | None, instrument: str | None) -> tuple[str, ...]:
        """Let them go on; gives their names."""
        self._paused.difference_update(self._chosen(account, instrument))
        return await self._tell("resume", account, instrument)

    async def halt(self, account: str | None, instrument: str | None, reason: str | None) -> Halted:
        """Stop trading in one instrument, an account or everything: ``trading_allowed`` is false there from now on,
        and after every restart. What runs goes on being reconciled; nothing is sent to a broker."""
        scopes = self._scopes(account, instrument)
        for scope in scopes:
            self._halting.put(scope, reason)
        keep = asyncio.gather(*(self._halting.keep(scope) for scope in scopes))
        told, failures = await asyncio.gather(self._tell_halts(account, instrument), keep)
        return self._halted(scopes, told, next(filter(None, failures), None))

    async def resume_trading(self, account: str | None, instrument: str | None) -> Halted:
        """End the halts of one instrument, of an account and its instruments, or all; a wider one stays in force."""
        lifted: tuple[str, ...] = ()
        failure: str | None = None
        for scope in self._scopes(account, instrument):
            ended, why_not = await self._halting.lift(scope)
            lifted, failure = lifted + ended, failure or why_not
        return self._halted(lifted, await self._tell_halts(account, instrument), failure)

    async def directory(self) -> dict[str, dict[str, Any]]:
        """The accounts that run, each with its ``broker``, how it names ``legs`` as far as the broker's name tells,
        its ``instruments``, and whether it takes ``all`` the account has."""
        return {
            name: {
                "broker": self._configuration.account(name).broker,
                "legs": CONVENTIONS.get(self._configuration.account(name).broker, Conventions()).legs,
                "instruments": self._symbols(name),
                "all": self._takes_all(name),
            }
            for name in self._names()
        }

    async def actor_state(self, name: str) -> tuple[str, str]:
        """Where an actor of ours is: in one word, as ``status`` shows it, and in words with the reason."""
        child = next((child for key, child in self._tree.children.items() if key.name == name), None)
        return status.state_name(child.state) if child is not None else "ABSENT", status.state_words(child)

    async def look_after(self, account: str, symbol: str) -> bool:
        """Start an actor for an instrument of an account that takes all it has, before its broker speaks of it. False
        where the account does not, or ignores it."""
        self._discover(account, [symbol])
        return symbol in self._symbols(account)

    async def change(self, wanted: Change, asked_by: str, force: bool = False, dry_run: bool = False) -> Changed:
        """Change what runs, or with ``dry_run`` tell what that would be. Durable when it returns; :meth:`settled` waits
        for the actors. ``force`` lets go of books that hold something. Raises :class:`ChangeRefused` and
        :class:`ChangeNotMade`, and then nothing was changed."""
        if self._stopping:
            raise ChangeRefused(str(wanted), "the supervisor is stopping", "Change the file, and start again.")
        return await self._changing.change(wanted, asked_by, force=force, dry_run=dry_run)

    async def settled(self, names: Sequence[str], timeout_s: float) -> dict[str, tuple[str, str]]:
        """Wait until each of these actors is up as it is desired now, gone where it is not, or in quarantine, and for
        no longer than ``timeout_s``. Gives where each is: in one word (``SETTLED`` where it is as it shall be), and in
        words."""
        until_s = self._runtime.monotonic_s() + timeout_s
        while any(self._stands(name)[0] not in _FINAL for name in names) and self._runtime.monotonic_s() < until_s:
            await self._runtime.sleep(_LOOK_AGAIN_AFTER_S)
        return {name: self._stands(name) for name in names}

    async def restart(self, name: str) -> bool:
        """Restart one actor, whatever its history; this ends a quarantine. False when there is none of that name."""
        key = next((key for key in self._tree.children if key.name == name), None)
        if key is None:
            return False
        await self._outbox.write(EventType.OPERATOR_ACTION, {"action": "restart", "actor": name}, name)
        self._events.put_nowait(OperatorRestart(key))
        return True

    async def stop(self) -> None:
        """End every child, in order, and answer when nothing of ours lives but this actor."""
        if not self._stopping:
            self._stopping = True
            self._note(EventType.OPERATOR_ACTION, {"action": "stop"}, "stop", Severity.INFO)
            self._events.put_nowait(DesiredChanged(()))
        await self._stopped.wait()

    async def pid(self) -> int:
        """The process this actor lives in."""
        return os.getpid()

    # The loop

    async def _run(self) -> None:
        await self._find_the_living()
        stands = await self._changing.learn([key.name for key in self._lived], lambda: self._stopping)
        self._configuration = stands.configuration
        self._tree.restart_by(_restarts(self._configuration))
        self._desire()
        self._runtime.spawn(SUPERVISOR, self._halting.learn())  # each instrument is told with its next probe
        wake_at_s: float | None = None
        while not self._stopped.is_set():
            event = await self._next_event(wake_at_s)
            now_s = self._runtime.monotonic_s()
            for command in self._tree.handle(event, now_s):
                self._execute(command)
            wake_at_s = self._tree.wake_at_s(now_s)
            if self._stopping and self._tree.stopped:
                self._stopped.set()

    async def _next_event(self, wake_at_s: float | None) -> Event:
        now_s = self._runtime.monotonic_s()
        wait_s = LONGEST_SLEEP_S if wake_at_s is None else min(LONGEST_SLEEP_S, max(0.0, wake_at_s - now_s))
        try:
            async with asyncio.timeout(wait_s):
                return await self._events.get()
        except TimeoutError:
            return Tick()

    async def _find_the_living(self) -> None:
        names = [name for name in await self._living() if name != SUPERVISOR]
        if names:
            logger.warning("this supervisor takes over from one that died; living: {}", ", ".join(sorted(names)))
            body: dict[str, Json] = {"actor": SUPERVISOR, "reason": "it takes over from one that died"}
            # Awaited: once it is written, nothing that the one that died had sent can be written any more.
            await self._outbox.write(EventType.ACTOR_RESTARTED, body, SUPERVISOR, Severity.WARNING)
        self._lived = {_key_of(name) for name in names}
        self._events.put_nowait(Discovered(tuple(self._lived)))

    async def _living(self) -> tuple[str, ...]:
        """Who lives. Nothing may be started before that is known, so it is asked until it is answered."""
        while True:
            try:
                return await self._cluster.living()
            except Exception:  # noqa: BLE001 - whatever it is, without an answer there is nothing we may do
                logger.exception("the cluster does not tell who lives; asking again")
                await self._runtime.sleep(ASK_AGAIN_AFTER_S)

    def _desire(self, *, journaled: bool = False) -> None:
        """Tell the tree what shall run, and the journal when that is something else than before, unless it has it."""
        if self._stopping:
            return
        specs = blueprint.children(self._configuration, sorted(self._discovered), self._changing.marks)
        self._specs = {spec.key: spec for spec in specs}
        self._events.put_nowait(DesiredChanged(specs))
        desired = words_of(specs)
        if desired != self._desired:
            self._desired = desired
            if not journaled:
                body: dict[str, Json] = {"run": self._run_identity, "desired": desired}
                self._note(EventType.CONFIGURATION_CHANGED, body, "desired", Severity.INFO)

    def _adopt(self, found: Standing, effects: Effects) -> None:
        """Have this run from now on: what differs is started, restarted and stopped by the tree."""
        self._discovered = blueprint.discovered_in(found.configuration, self._configuration, self._discovered)
        self._configuration = found.configuration
        for name in effects.stopped:
            self._accounts.pop(name, None)
            self._instruments.pop(name, None)
            self._paused.discard(name)
        self._tree.restart_by(_restarts(found.configuration))
        self._desire(journaled=True)
        for account in effects.told:
            self._runtime.spawn(SUPERVISOR, self._tell_managed(account))

    async def _tell_managed(self, account: str) -> None:
        managed = blueprint.managed_by(self._configuration, account)
        if managed is None:
            return
        try:
            await self._runtime.call(account, "manage", *managed, timeout_s=PROBE_TIMEOUT_S)
        except CallError as error:
            logger.debug("{}: it is told with its next probe: {}", account, error)

    def _stands(self, name: str) -> tuple[str, str]:
        key = _key_of(name)
        child, spec = self._tree.children.get(key), self._specs.get(key)
        if child is None:
            return ("SETTLED", "it runs no more") if spec is None else ("WAITING", status.state_words(None))
        if spec is not None and child.spec == child.running == spec and _is_up(child):
            return "SETTLED", "it is up"
        return status.state_name(child.state), status.state_words(child)

    # Commands

    def _execute(self, command: Command) -> None:
        match command:
            case Start(spec, attempt, waiting):
                may_begin = self._may_begin[spec.key] = asyncio.Event()
                if not waiting:
                    may_begin.set()
                self._begin(spec.key, self._start(spec, attempt, may_begin))
            case Begin(key):
                self._may_begin[key].set()
            case Stop(key, attempt):
                self._begin(key, self._stop_child(key, attempt))
            case Kill(key, attempt, reason):
                logger.warning("{}: killed: {}", key.name, reason)
                self._begin(key, self._kill_child(key, attempt))
            case Probe(key, attempt):
                self._runtime.spawn(SUPERVISOR, self._probe(key, attempt))
            case RestartScheduled(key, reason, delay_s, restarts):
                logger.warning("{}: died ({}), restart {} in {:.1f} s", key.name, reason, restarts, delay_s)
                body: dict[str, Json] = {"actor": key.name, "reason": reason, "restarts": restarts}
                self._note(EventType.ACTOR_RESTARTED, body, key.name, Severity.WARNING)
            case Quarantined(key, reason):
                logger.critical("{}: quarantined: {}. `restart {}` ends it", key.name, reason, key.name)
                body = {"actor": key.name, "reason": reason}
                self._note(EventType.ACTOR_QUARANTINED, body, key.name, Severity.CRITICAL)

    def _begin(self, key: ChildKey, work: Coroutine[Any, Any, None]) -> None:
        """Run a command on a child; a newer one ends an older one that is still under way."""
        under_way = self._tasks.get(key)
        if under_way is not None:
            under_way.cancel()
        self._tasks[key] = self._runtime.spawn(SUPERVISOR, work)

    def _note(self, kind: EventType, payload: dict[str, Json], identity: str, severity: Severity) -> None:
        self._runtime.spawn(SUPERVISOR, self._outbox.write(kind, payload, identity, severity))

    async def _start(self, spec: ChildSpec, attempt: int, may_begin: asyncio.Event) -> None:
        key = spec.key
        refused = self._cannot_run(key)
        if refused is not None:
            self._events.put_nowait(StartFailed(key, attempt, refused, permanent=True))
            return
        try:
            await self._cluster.create(self._deployment(key), START_TIMEOUT_S, may_begin)
            if key.kind is Kind.AUDIT:
                await self._open_journal()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a constructor raises, the tree decides what follows
            await self._cluster.kill(key.name)
            self._events.put_nowait(StartFailed(key, attempt, str(error)))
            return
        if key.kind is Kind.INSTRUMENT:
            if key.name in self._paused:
                await self._told(key.name, "pause")  # until it is resumed, whatever it was restarted for
            self._runtime.spawn(SUPERVISOR, self._correct_halts(key.name))
        if key.kind is not Kind.INSTRUMENT or key.name in self._instruments:
            # A new instrument has something to tell after its first cycle; of one that was restarted, what the process
            # before it told is no longer so.
            await self._ask_health(key, attempt)
        self._events.put_nowait(Started(key, attempt))
        if key.kind is Kind.ACCOUNT and key in self._lived:
            self._runtime.spawn(SUPERVISOR, self._wake_instruments(key.name))
        self._lived.add(key)
        if key.kind is Kind.ACCOUNT and self._takes_all(key.name):
            self._discover(key.name, await held_in_our_books(key.name, self._runtime))
        self._note(EventType.ACTOR_STARTED, {"actor": key.name, "attempt": attempt}, key.name, Severity.INFO)

    async def _wake_instruments(self, account: str) -> None:
        try:
            await self._runtime.call(account, "wake_instruments", timeout_s=START_TIMEOUT_S)
        except CallError as error:
            logger.warning("{}", error)

    async def _open_journal(self) -> None:
        """A journal that cannot be opened leaves its actor alive, which says so and tries again."""
        try:
            await self._runtime.call(AUDIT_NAME, "open", timeout_s=START_TIMEOUT_S)
        except JournalError as error:
            logger.critical("{}", error)

    async def _stop_child(self, key: ChildKey, attempt: int) -> None:
        method = "stop" if key.kind is Kind.INSTRUMENT else "close"
        try:
            await self._runtime.call(key.name, method, timeout_s=STOP_CALL_TIMEOUT_S)
        except CallError as error:
            logger.warning("{}", error)
        await self._kill_child(key, attempt)

    async def _kill_child(self, key: ChildKey, attempt: int) -> None:
        await self._cluster.kill(key.name)
        self._accounts.pop(key.name, None)
        self._events.put_nowait(Ended(key, attempt))

    async def _probe(self, key: ChildKey, attempt: int) -> None:
        self._events.put_nowait(await self._ask_health(key, attempt))

    async def _ask_health(self, key: ChildKey, attempt: int) -> ProbeAnswered | ProbeFailed | Died:
        """What the actor says of itself, kept for whoever asks us."""
        try:
            health = await self._runtime.call(key.name, "health", timeout_s=PROBE_TIMEOUT_S)
        except CallTimeout:
            return ProbeFailed(key, attempt)
        except CallError as error:
            return Died(key, attempt, error.found)
        if isinstance(health, InstrumentHealth):
            self._instruments[key.name] = self._totals.with_former(key.name, attempt, health)
            self._note_pause(key, attempt, paused=health.paused)
            if self._halting.on(key.name) != health.halts:
                self._runtime.spawn(SUPERVISOR, self._correct_halts(key.name))
            self._retire_when_quiet(key, health)
            return ProbeAnswered(key, attempt, health.cycle_age_s, not health.paused, health.fingerprint)
        if isinstance(health, AccountHealth):
            self._accounts[key.name] = health
            self._discover(health.account, health.unowned)
            wanted = blueprint.managed_by(self._configuration, key.name)
            if health.managed is not None and wanted not in (None, (health.managed, health.ignored)):
                self._runtime.spawn(SUPERVISOR, self._tell_managed(key.name))
            if health.stream is StreamState.SPENT:
                # Its stream cannot be opened in that process any more; another process can.
                self._events.put_nowait(OperatorRestart(key))
            return ProbeAnswered(key, attempt, None, cycle_due=False, fingerprint=health.fingerprint)
        self._journal = health
        return ProbeAnswered(key, attempt, None, cycle_due=False)

    def _note_pause(self, key: ChildKey, attempt: int, *, paused: bool) -> None:
        child = self._tree.children.get(key)
        if child is None or child.attempt != attempt or not _is_up(child):
            return  # one that is being stopped pauses too
        if paused:
            self._paused.add(key.name)
        else:
            self._paused.discard(key.name)

    def _discover(self, account: str, symbols: Iterable[str]) -> None:
        """With ``instruments: all``, an actor for everything that the account has, or our books say it has."""
        if account not in self._names():
            return  # it was removed meanwhile
        ignored = self._configuration.account(account).ignore_instruments
        new = {(account, symbol) for symbol in symbols if symbol not in ignored} - self._discovered
        if new and not self._stopping and self._takes_all(account):
            self._discovered |= new
            self._desire()

    def _retire_when_quiet(self, key: ChildKey, health: InstrumentHealth) -> None:
        """An instrument that was discovered needs no actor once it has been empty for long enough."""
        account, _, symbol = key.name.partition("/")
        if (account, symbol) not in self._discovered or account not in self._names():
            return
        limit_s = self._configuration.account(account).retire_after_s
        now_s = self._runtime.monotonic_s()
        if limit_s is None or not status.is_empty(health.report):
            self._empty_since.pop(key, None)
            return
        seen = health.statistics.discrepancies
        discrepancies, since_s = self._empty_since.setdefault(key, (seen, now_s))
        if discrepancies != seen:
            self._empty_since[key] = (seen, now_s)
        elif now_s - since_s >= limit_s and not self._stopping:
            del self._empty_since[key]
            self._discovered.discard((account, symbol))
            self._runtime.spawn(SUPERVISOR, self._retire(account, symbol))

    async def _retire(self, account: str, symbol: str) -> None:
        # Before its actor goes: else the account would have it found again at once.
        try:
            await self._runtime.call(account, "forget", symbol, timeout_s=PROBE_TIMEOUT_S)
        except CallError as error:
            logger.warning("{}", error)
        logger.info("{}: retired, it has been empty long enough", stream_of(account, symbol))
        self._desire()

    def _takes_all(self, account: str) -> bool:
        return account in self._names() and self._configuration.account(account).instruments is None

    # Children

    def _cannot_run(self, key: ChildKey) -> str | None:
        if key.kind is not Kind.ACCOUNT or key.name not in self._names():
            return None
        broker = self._configuration.account(key.name).broker
        return None if broker in SUPPORTED_BROKERS else f"there is no adapter for broker {broker} in this version"

    def _deployment(self, key: ChildKey) -> Deployment:
        if key.kind is Kind.AUDIT:
            return Deployment(key.name, self._make_audit, blueprint.audit_actor(self._configuration), begin=None)
        if key.kind is Kind.ACCOUNT:
            given = blueprint.account_actor(
                self._configuration,
                key.name,
                self._runtime,
                make_broker=self._make_broker,
                marks=self._changing.marks,
            )
            return Deployment(key.name, blueprint.actor_of(key), given)
        account, _, symbol = key.name.partition("/")
        made = blueprint.instrument_actor(self._configuration, account, symbol, self._runtime)
        return Deployment(key.name, blueprint.actor_of(key), made)

    def _instruments_up(self) -> list[str]:
        up = (key for key, child in self._tree.children.items() if _is_up(child))
        return [key.name for key in up if key.kind is Kind.INSTRUMENT]

    def _pids(self) -> dict[str, int]:
        """The processes of the children, as far as they have told."""
        pids = {name: health.pid for name, health in (self._accounts | self._instruments).items()}
        audit = self._journal.get("pid")
        return pids | ({AUDIT_NAME: audit} if isinstance(audit, int) else {})

    def _names(self) -> tuple[str, ...]:
        return tuple(account.name for account in self._configuration.enabled_accounts)

    def _symbols(self, account: str) -> list[str]:
        found = sorted(symbol for name, symbol in self._discovered if name == account)
        return [*self._configuration.account(account).symbols, *found]

    def _account_health(self, name: str) -> AccountHealth:
        """What the account last said of itself, or why it says nothing."""
        child = self._tree.children.get(ChildKey(Kind.ACCOUNT, name))
        said = self._accounts.get(name)
        if said is not None and child is not None and isinstance(child.state, Up):
            return said
        error = status.state_words(child)
        broker = self._configuration.account(name).broker
        return AccountHealth(name, broker, Connection.CONNECTING, error, 0, 0, None, (), (), 0)

    def _reports_of(self, account: str) -> list[CycleReport]:
        """The last report of each instrument, or a degraded one that says where its actor is."""
        rows = []
        for symbol in self._symbols(account):
            name = stream_of(account, symbol)
            child = self._tree.children.get(ChildKey(Kind.INSTRUMENT, name))
            health = self._instruments.get(name)
            last = health.report if health is not None else None
            if last is None or health is None or not _is_up(child):
                last = status.absent(account, symbol, child, last, self._runtime.now())
            else:
                max_age_s = self._configuration.instrument_settings(account, symbol).max_age_s
                last = status.aged(last, health, max_age_s, self._runtime.now())
            rows.append(last)
        return rows

    async def _verdicts_of(
        self, account: str, instrument: str | None, *, dry_run: bool
    ) -> tuple[AccountHealth, list[CycleReport]]:
        symbols = [symbol for symbol in self._symbols(account) if instrument in (None, symbol)]
        reports = await asyncio.gather(*(self._verdict_of(account, symbol, dry_run=dry_run) for symbol in symbols))
        try:
            health = await self._runtime.call(account, "health", timeout_s=PROBE_TIMEOUT_S)
        except CallError:
            health = self._account_health(account)
        return health, list(reports)

    async def _verdict_of(self, account: str, symbol: str, *, dry_run: bool) -> CycleReport:
        name = stream_of(account, symbol)
        given = self._configuration.instrument_settings(account, symbol)
        bound_s = given.settle_s + given.confirmations * given.confirm_gap_s
        timeout_s = bound_s + 2 * self._configuration.timeout_s(account) + VERDICT_MARGIN_S
        method = "detect_drift" if dry_run else "reconcile_now"
        try:
            report: CycleReport = await self._runtime.call(name, method, timeout_s=timeout_s)
        except CallError as error:
            child = self._tree.children.get(ChildKey(Kind.INSTRUMENT, name))
            return status.absent(account, symbol, child, None, self._runtime.now(), str(error))
        return report

    def _chosen(self, account: str | None, instrument: str | None) -> list[str]:
        return [
            stream_of(name, symbol)
            for name in self._names()
            if account in (None, name)
            for symbol in self._symbols(name)
            if instrument in (None, symbol)
        ]

    def _scopes(self, account: str | None, instrument: str | None) -> tuple[str, ...]:
        """What a selection halts: an instrument named without its account, in each account that has it."""
        if account is None and instrument is not None:
            return tuple(self._chosen(None, instrument))
        return (scope_of(account, instrument),)

    async def _tell_halts(self, account: str | None, instrument: str | None) -> dict[str, bool]:
        chosen = self._chosen(account, instrument)
        told = await asyncio.gather(*(self._set_halts(name) for name in chosen))
        return dict(zip(chosen, told, strict=True))

    async def _correct_halts(self, name: str) -> None:
        await self._set_halts(name)

    async def _set_halts(self, name: str) -> bool:
        halts = self._halting.on(name)
        if halts is None:
            return False
        try:
            await self._runtime.call(name, "set_halts", halts, timeout_s=PROBE_TIMEOUT_S)
        except CallError as error:
            logger.debug("{}: it hears of its halts when it is back: {}", name, error)
            return False
        return True

    def _halted(self, scopes: tuple[str, ...], told: dict[str, bool], failure: str | None) -> Halted:
        remaining = dict.fromkeys(halt for name in told for halt in self._halting.on(name) or ())
        return Halted(
            scopes,
            tuple(name for name, done in told.items() if done),
            tuple(name for name, done in told.items() if not done),
            tuple(remaining),
            failure,
        )

    async def _tell(self, method: str, account: str | None, instrument: str | None) -> tuple[str, ...]:
        chosen = self._chosen(account, instrument)
        await self._outbox.write(EventType.OPERATOR_ACTION, {"action": method, "instruments": list(chosen)}, method)
        told = await asyncio.gather(*(self._told(name, method) for name in chosen))
        return tuple(name for name, done in zip(chosen, told, strict=True) if done)

    async def _told(self, name: str, method: str) -> bool:
        try:
            await self._runtime.call(name, method, timeout_s=STOP_CALL_TIMEOUT_S)
        except CallError as error:
            logger.warning("{}", error)
            return False
        return True


class _Staff:
    """The supervisor as :class:`~supervisor.changing.Staff`; none of this is for callers from outside."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def specs(self, configuration: Configuration, marks: Marks) -> tuple[ChildSpec, ...]:
        owner = self._supervisor
        found = blueprint.discovered_in(configuration, owner._configuration, owner._discovered)
        return blueprint.children(configuration, sorted(found), marks)

    def unverified(self, name: str) -> str | None:
        account, _, symbol = name.partition("/")
        for report in self._supervisor._reports_of(account):
            if report.instrument == symbol:
                never = report.verified_at is None
                return (report.error or "never yet in step") if report.unverified or never else None
        return "nobody looks after it"

    def adopt(self, found: Standing, effects: Effects) -> None:
        self._supervisor._adopt(found, effects)


def _restarts(configuration: Configuration) -> RestartPolicy:
    given = configuration.supervision
    return RestartPolicy(given.intensity, given.period_s, *given.backoff_s)


def _key_of(name: str) -> ChildKey:
    if name == AUDIT_NAME:
        return ChildKey(Kind.AUDIT, name)
    return ChildKey(Kind.INSTRUMENT if "/" in name else Kind.ACCOUNT, name)


def _is_up(child: Child | None) -> bool:
    return child is not None and isinstance(child.state, Up)
