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
from actors.reports import Report
from actors.runtime import CallError, CallTimeout, Runtime
from actors.stream import AUDIT as AUDIT_NAME
from brokers.registry import open_broker
from brokers.stream import StreamState
from supervisor import blueprint, status
from supervisor.blueprint import MakeBroker
from supervisor.books import held_in_our_books
from supervisor.children import (
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
from supervisor.restart import RestartPolicy
from supervisor.tree import Tree

SUPERVISOR = "supervisor"
PROBE_TIMEOUT_S = 3.0
STOP_CALL_TIMEOUT_S = 8.0
LONGEST_SLEEP_S = 5.0
ASK_AGAIN_AFTER_S = 1.0
WAVE_SIZE = 8
START_TIMEOUT_S = 120.0
VERDICT_MARGIN_S = 30.0


class Supervisor:
    """Keeps the desired actors alive, and answers for all of them. ``make_broker`` opens an account's adapter, inside
    the account's actor; ``make_audit`` makes the audit actor of a journal's URL."""

    def __init__(
        self,
        configuration: Configuration,
        runtime: Runtime,
        cluster: Cluster,
        make_broker: MakeBroker = open_broker,
        make_audit: Callable[[str], Audit] = Audit,
    ) -> None:
        self._configuration = configuration
        self._runtime = runtime
        self._cluster = cluster
        self._make_broker = make_broker
        self._make_audit = make_audit
        given = configuration.supervision
        restarts = RestartPolicy(given.intensity, given.period_s, *given.backoff_s)
        policy = TreePolicy(restart=restarts, wave_size=WAVE_SIZE, start_timeout_s=START_TIMEOUT_S)
        self._tree = Tree(policy, runtime.uniform)
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._tasks: dict[ChildKey, asyncio.Task[None]] = {}
        self._accounts: dict[str, AccountHealth] = {}
        self._instruments: dict[str, InstrumentHealth] = {}
        self._journal: dict[str, Json] = {}
        self._discovered: set[tuple[str, str]] = set()
        self._lived: set[ChildKey] = set()
        self._desired: list[Json] = []
        self._empty_since: dict[ChildKey, tuple[int, float]] = {}
        self._outbox = Outbox(SUPERVISOR, runtime)
        self._started_at = runtime.now()
        self._stopped = asyncio.Event()
        self._stopping = False
        self._loop = runtime.spawn(SUPERVISOR, self._run())

    def __repr__(self) -> str:
        return SUPERVISOR

    # What people and programs ask

    async def status(self) -> dict[str, Any]:
        """The JSON document of ``status --json``, from the children's last reports."""
        rows = [(self._account_health(name), self._reports_of(name)) for name in self._names()]
        age_ms = (self._runtime.now() - self._started_at).total_seconds() * 1000
        result = document(self._started_at, age_ms, rows)
        status.add_health(result, self._tree.children, self._instruments, self._runtime.now())
        result["supervisor"] = {
            "pid": os.getpid(),
            "state": "STOPPING" if self._stopping else "RUNNING",
            "journal": self._journal,
            "actors": status.actor_rows(self._tree.children, self._pids()),
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
        return await self._tell("pause", account, instrument)

    async def resume(self, account: str | None, instrument: str | None) -> tuple[str, ...]:
        """Let them go on; gives their names."""
        return await self._tell("resume", account, instrument)

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
        self._desire()
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
            self._note(EventType.ACTOR_RESTARTED, body, SUPERVISOR, Severity.WARNING)
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

    def _desire(self) -> None:
        """Tell the tree what shall run, and the journal when that is something else than before."""
        specs = blueprint.children(self._configuration, sorted(self._discovered))
        self._events.put_nowait(DesiredChanged(specs))
        desired: list[Json] = [f"{spec.key.name} {spec.fingerprint}".strip() for spec in specs]
        if desired != self._desired:
            self._desired = desired
            self._note(EventType.CONFIGURATION_CHANGED, {"desired": desired}, "desired", Severity.INFO)

    # Commands

    def _execute(self, command: Command) -> None:
        match command:
            case Start(spec, attempt):
                self._begin(spec.key, self._start(spec, attempt))
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

    async def _start(self, spec: ChildSpec, attempt: int) -> None:
        key = spec.key
        refused = self._cannot_run(key)
        if refused is not None:
            self._events.put_nowait(StartFailed(key, attempt, refused, permanent=True))
            return
        try:
            await self._cluster.create(self._deployment(key), START_TIMEOUT_S)
            if key.kind is Kind.AUDIT:
                await self._open_journal()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a constructor raises, the tree decides what follows
            await self._cluster.kill(key.name)
            self._events.put_nowait(StartFailed(key, attempt, str(error)))
            return
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
            self._instruments[key.name] = health
            self._retire_when_quiet(key, health)
            return ProbeAnswered(key, attempt, health.cycle_age_s, cycle_due=not health.paused)
        if isinstance(health, AccountHealth):
            self._accounts[key.name] = health
            self._discover(health.account, health.unowned)
            if health.stream is StreamState.SPENT:
                # Its stream cannot be opened in that process any more; another process can.
                self._events.put_nowait(OperatorRestart(key))
        else:
            self._journal = health
        return ProbeAnswered(key, attempt, None, cycle_due=False)

    def _discover(self, account: str, symbols: Iterable[str]) -> None:
        """With ``instruments: all``, an actor for everything that the account has, or our books say it has."""
        ignored = self._configuration.account(account).ignore_instruments
        new = {(account, symbol) for symbol in symbols if symbol not in ignored} - self._discovered
        if new and not self._stopping and self._takes_all(account):
            self._discovered |= new
            self._desire()

    def _retire_when_quiet(self, key: ChildKey, health: InstrumentHealth) -> None:
        """An instrument that was discovered needs no actor once it has been empty for long enough."""
        account, _, symbol = key.name.partition("/")
        if (account, symbol) not in self._discovered:
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
        return self._configuration.account(account).instruments is None

    # Children

    def _cannot_run(self, key: ChildKey) -> str | None:
        if key.kind is not Kind.ACCOUNT:
            return None
        broker = self._configuration.account(key.name).broker
        return None if broker in SUPPORTED_BROKERS else f"there is no adapter for broker {broker} in this version"

    def _deployment(self, key: ChildKey) -> Deployment:
        if key.kind is Kind.AUDIT:
            return Deployment(key.name, self._make_audit, (self._configuration.journal_url,), begin=None)
        if key.kind is Kind.ACCOUNT:
            given = blueprint.account_actor(self._configuration, key.name, self._runtime, make_broker=self._make_broker)
            return Deployment(key.name, blueprint.actor_of(key), given)
        account, _, symbol = key.name.partition("/")
        made = blueprint.instrument_actor(self._configuration, account, symbol, self._runtime)
        return Deployment(key.name, blueprint.actor_of(key), made)

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

    async def _tell(self, method: str, account: str | None, instrument: str | None) -> tuple[str, ...]:
        chosen = [
            stream_of(name, symbol)
            for name in self._names()
            if account in (None, name)
            for symbol in self._symbols(name)
            if instrument in (None, symbol)
        ]
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


def _key_of(name: str) -> ChildKey:
    if name == AUDIT_NAME:
        return ChildKey(Kind.AUDIT, name)
    return ChildKey(Kind.INSTRUMENT if "/" in name else Kind.ACCOUNT, name)


def _is_up(child: Child | None) -> bool:
    return child is not None and isinstance(child.state, Up)
