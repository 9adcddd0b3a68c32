"""The house: the journal's actor, one or two accounts', one for each of their instruments, and whoever starts anew
those that have died: in some houses the real supervisor, in the others somebody who always does. Actors are the real
ones; what they stand on is the simulation's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from actors.account.actor import Account, AccountSettings
from actors.book.policy import Policy
from actors.instrument.actor import Instrument, InstrumentSettings
from actors.journal.actor import Audit
from actors.names import AUDIT, SUPERVISOR, cell_account, instrument_name, split_name
from actors.runtime.cell import Cell
from actors.runtime.deployment import Deployment
from actors.runtime.ports import LocalRuntime, Runtime
from actors.runtime.ray_environment import Address
from supervisor.client.calls import AwaitingPort
from supervisor.client.connection import Connection, Place
from supervisor.client.instrument import AsyncInstrument, Named
from supervisor.client.link import Link
from supervisor.supervision.actor import Supervisor
from tests.simulation.broker import TIMEOUT_S, SimulatedBroker
from tests.simulation.clocks import MIDNIGHT, STEPS_S, Process, WallClock, time_s
from tests.simulation.disk import Disk
from tests.simulation.faults import Faults
from tests.simulation.market import Market
from tests.simulation.network import Network
from tests.simulation.supervised import SimulatedCluster, a_supervisor

ACCOUNTS = ("fx", "cfd")
NAMES = ("EURUSD", "USDJPY")
PER_ACTOR = (1, 1, 1, 2, 500)
CYCLE_TIMEOUT_S = TIMEOUT_S + 5.0
SUPERVISOR_HANGS_FOR_S = 15.0
CAPS = (
    ("actors.account.snapshot_cache.FILLS_KEPT", (2, 50_000, 50_000)),
    ("actors.book.book.REPORTED_KEPT", (2, 5_000, 5_000)),
    ("actors.book.book.WITHOUT_COMMISSION_KEPT", (2, 5_000, 5_000)),
    ("actors.instrument.book_keeper.CHECKPOINT_EVERY", (5, 20, 250)),
)
"""What is remembered at most, or how often all of it is written: in some runs so little that each cap is reached."""


@contextmanager
def at_their_caps(random: Random) -> Iterator[None]:
    """Some caches of this run hold next to nothing."""
    with ExitStack() as stack:
        for place, sizes in CAPS:
            stack.enter_context(patch(place, random.choice(sizes)))
        yield


def _cell(actor: object) -> Cell:
    assert isinstance(actor, Cell)
    return actor


class _Unwatched(Link):
    """A link to no cluster."""

    def _watch(self) -> None:
        return


@dataclass
class Venue:
    """One account at its broker. ``takes_all`` is whether its instruments come and go by what it has."""

    name: str
    market: Market
    streams: bool
    takes_all: bool
    broker: SimulatedBroker | None = None


class House:
    """Everything that lives, and the clocks it lives by. An instrument is known by the name of its actor, which is that
    of its stream."""

    def __init__(self, directory: Path, faults: Faults) -> None:
        random = faults.random
        self.faults = faults
        self.directory = directory
        self.appended: dict[str, tuple[str, int]] = {}
        self.written: Callable[[str], Coroutine[Any, Any, None]] | None = None
        self.appends: Callable[[str], None] | None = None
        self.begin = MIDNIGHT - timedelta(seconds=random.uniform(5, 60))
        self.one_machine = random.random() < 0.5
        self._machine = WallClock(self.begin, random.uniform(0.9999, 1.0001))
        self._clocks: dict[str, WallClock] = {}
        self.interval_s = random.choice((15.0, 20.0))
        self.settle_s = random.choice((1, 2, 5))
        self.supervised = random.random() < 0.4
        self.retire_after_s = random.choice((1.0, 3.0, 10.0))
        # Of a chance of its own, so that a seed without cells stays what it was.
        self.instruments_per_actor = Random(f"{faults.seed} cells").choice(PER_ACTOR)  # noqa: S311 - as Faults
        self.venues = {name: self._venue(name) for name in ACCOUNTS[: random.choice((1, 1, 2))]}
        self.network = Network(faults, self._strike, lambda name: self._processes.get(name))
        self.runtime = LocalRuntime(self._machine, time_s, random.random, self.network)
        self.disk = Disk(directory / "disk", faults)
        self.instruments: dict[str, Instrument] = {}
        self._settings: dict[str, InstrumentSettings] = {}
        self._processes: dict[str, Process] = {}
        self._strikes: set[asyncio.Task[None]] = set()
        self._down: set[str] = set()
        self._ends: dict[str, asyncio.Event] = {}
        self.restarts: Counter[str] = Counter()
        self.cluster = SimulatedCluster(self)
        self.supervisor: Supervisor | None = None
        link = _Unwatched("nowhere:1", ours=False)
        self.port = AwaitingPort(
            Process(self.runtime, self.clock("strategy"), faults, self._durable, self._appends), link
        )
        connection = Connection(Place(Address("nowhere:1", None), "test", "a test"), link, self.port, self.port)  # type: ignore[arg-type] # nothing blocks here
        self.handles = {
            venue.name: {
                symbol: AsyncInstrument(
                    Named(venue.name, symbol, instrument_name(venue.name, symbol), venue.market.conventions.legs),
                    connection,
                    lambda: self.port,
                )
                for symbol in venue.market.traded
            }
            for venue in self.venues.values()
        }

    def _venue(self, name: str) -> Venue:
        random = self.faults.random
        clock = WallClock(self.begin + timedelta(seconds=random.uniform(-20, 20)), random.uniform(0.9998, 1.0002))
        market = Market(
            NAMES[: random.choice((1, 1, 2))],
            clock,
            random,
            resolution=timedelta(milliseconds=random.choice((1, 1000))),
        )
        takes_all = self.supervised and random.random() < 0.5
        return Venue(name, market, streams=random.random() < 0.5, takes_all=takes_all)

    def market_of(self, stream: str) -> Market:
        """Where an instrument is traded."""
        return self.venues[split_name(stream)[0]].market

    @property
    def every_stream(self) -> tuple[str, ...]:
        """Every instrument that may have an actor."""
        return tuple(instrument_name(v.name, symbol) for v in self.venues.values() for symbol in v.market.traded)

    # Clocks

    def clock(self, name: str) -> WallClock:
        """The clock of the machine on which an actor lives."""
        if self.one_machine:
            return self._machine
        if name not in self._clocks:
            random = self.faults.random
            begin = self.begin + timedelta(seconds=random.uniform(-60, 60))
            self._clocks[name] = WallClock(begin, random.uniform(0.9998, 1.0002))
        return self._clocks[name]

    def step_a_clock(self) -> None:
        """Somebody sets a clock, ours or a broker's."""
        random = self.faults.random
        if self.faults.strikes("our clock steps", 0.02):
            random.choice([self._machine, *self._clocks.values()]).step(random.choice(STEPS_S))
        if self.faults.strikes("the broker's clock steps", 0.01):
            random.choice(list(self.venues.values())).market.clock.step(random.choice(STEPS_S))

    def put_clocks_right(self) -> None:
        """An hour off is more than anybody believes: in the end all are about right."""
        brokers = (venue.market.clock for venue in self.venues.values())
        for clock in (self._machine, *self._clocks.values(), *brokers):
            if abs(clock.wrong_by) > timedelta(seconds=60):
                clock.put_right()

    # Life and death

    async def open(self) -> None:
        """Everybody, for the first time."""
        if self.supervised:
            await self.bring_up(SUPERVISOR)
            return
        self._down = {AUDIT, *self.venues, *self.every_stream}
        for name in sorted(self._down, key=lambda name: (name != AUDIT, name not in self.venues, name)):
            await self.bring_up(name)

    async def bring_up(self, name: str) -> None:
        """A new actor of that name, at work."""
        self._down.discard(name)
        if name == SUPERVISOR:
            self.supervisor = a_supervisor(self, self.process(name))
            self.runtime.register(name, self.supervisor)
        elif name == AUDIT:
            self.audit()
        elif name in self.venues:
            symbols = frozenset(self.venues[name].market.traded)
            await self.account(AccountSettings(name, "simulated", symbols, patience_s=TIMEOUT_S)).start()
        else:
            await self.instrument(self._settings_of(name)).start(())

    def process(self, name: str) -> Process:
        """What a new actor of that name lives in."""
        process = self._processes[name] = Process(
            self.runtime, self.clock(name), self.faults, self._durable, self._appends
        )
        self._ends[name] = asyncio.Event()
        return process

    def audit(self) -> Audit:
        """The actor of the journal, on the disk as it now is."""
        process, threads = self.process(AUDIT), self.disk.incarnation()
        audit = Audit(
            self.disk.url,
            run_blocking=threads.run,
            monotonic=process.monotonic_s,
            open_journal=threads.open_journal,
            now=process.now,
        )
        self.runtime.register(AUDIT, audit)
        return audit

    def account(self, settings: AccountSettings) -> Account:
        """The actor of an account."""
        name = settings.account
        account = Account(settings, lambda: self._open_broker(name), self.process(name))
        self.runtime.register(name, account)
        return account

    def instrument(self, settings: InstrumentSettings) -> Instrument:
        """The actor of an instrument."""
        name = instrument_name(settings.account, settings.instrument)
        conventions = self.venues[settings.account].market.conventions
        settings = replace(settings, policy=replace(settings.policy, conventions=conventions))
        self._settings[name] = settings
        made = self.instruments[name] = Instrument(settings, self.process(name))
        self.runtime.register(name, made)
        return made

    def cell(self, name: str) -> None:
        """The actor of a cell, which carries nobody yet."""
        self.runtime.register(name, Cell(name, self.process(name)))

    async def carry(self, cell: str, deployment: Deployment, timeout_s: float) -> None:
        """Have a cell make an actor of an instrument, and begin it."""
        name, (settings, *_) = deployment.name, deployment.args
        assert isinstance(settings, InstrumentSettings)
        conventions = self.venues[settings.account].market.conventions
        settings = replace(settings, policy=replace(settings.policy, conventions=conventions))
        self._settings[name] = settings

        def make(runtime: Runtime) -> Instrument:
            self.process(name)
            made = self.instruments[name] = Instrument(settings, runtime)
            return made

        process = self._processes[cell]
        made = (name, make, (process,), deployment.begin, deployment.begin_with, timeout_s)
        await self.runtime.call(cell, "host", *made, timeout_s=timeout_s)

    def cells(self) -> dict[str, tuple[str, ...]]:
        """Each living cell, with the actors that it carries."""
        names = (name for name in self.runtime.names() if cell_account(name) is not None)
        return {name: _cell(self.runtime.actor(name)).carried() for name in names}

    def names(self) -> tuple[str, ...]:
        """Whoever lives, carried or not; the cells themselves are nobody."""
        by_itself = (name for name in self.runtime.names() if cell_account(name) is None)
        return (*by_itself, *(name for carried in self.cells().values() for name in carried))

    def _settings_of(self, stream: str) -> InstrumentSettings:
        known = self._settings.get(stream)
        if known is not None:
            return known
        account, symbol = split_name(stream)
        policy = Policy(
            settle=timedelta(seconds=self.settle_s),
            max_age=timedelta(seconds=3 * self.interval_s),
            unverified=timedelta(seconds=self.interval_s + CYCLE_TIMEOUT_S),
        )
        return InstrumentSettings(account, symbol, self.interval_s, CYCLE_TIMEOUT_S, policy)

    def _open_broker(self, account: str) -> SimulatedBroker:
        venue = self.venues[account]
        venue.broker = SimulatedBroker(account, venue.market, self.clock(account), self.faults, streams=venue.streams)
        return venue.broker

    def lives(self, name: str) -> bool:
        """Whether there is an actor of that name."""
        return name in (*self.names(), *self.cells())

    async def ended(self, name: str) -> None:
        """Wait until the actor of that name, as it now is, ends."""
        if self.lives(name):
            await self._ends[name].wait()

    async def kill(self, name: str) -> bool:
        """An actor ends where it stands; whether there was one."""
        if name in self._down or not self.lives(name):
            return False
        self.restarts[name] += 1
        name = next((cell for cell, carried in self.cells().items() if name in carried), name)
        self.faults.note(f"{name} is killed")
        await self.end(name)
        return True

    async def end(self, name: str) -> None:
        """End whatever lives under a name; of what is carried nobody else."""
        if not self.lives(name):
            return
        cells = self.cells()
        cell = next((cell for cell, carried in cells.items() if name in carried), None)
        if cell is not None:
            await _cell(self.runtime.actor(cell)).evict(name)
        for gone in (*cells.get(name, ()), *((name,) if cell is not None else ())):
            self.instruments.pop(gone, None)
            self._ends[gone].set()
        if cell is not None:
            return
        if not self.supervised or name == SUPERVISOR:
            self._down.add(name)
        if name == AUDIT:
            self.disk.crash()
        self.instruments.pop(name, None)
        self._processes[name].end()
        ended = self._ends[name]
        await self.runtime.kill(name)
        ended.set()
        venue = self.venues.get(name)
        if venue is not None and venue.broker is not None:
            await venue.broker.close()

    def _strike(self, name: str, after: int) -> None:
        self._begin_to(self.strike(name, after))

    async def strike(self, name: str, after: int) -> None:
        """Kill an actor some steps of the loop from now. It is started anew a while later: by the supervisor where
        there is one, which the cluster brings back itself."""
        for _ in range(after):
            await asyncio.sleep(0)
        if await self.kill(name) and (not self.supervised or name == SUPERVISOR):
            await asyncio.sleep(self.faults.random.choice((0.0, 0.5, 4.0)) * self.faults.random.random())
            await self.bring_up(name)

    def kill_somebody(self) -> None:
        """By chance, one or several at once."""
        random = self.faults.random
        names = (AUDIT, *self.venues, *self.every_stream, *((SUPERVISOR,) if self.supervised else ()))
        if self.faults.strikes("actor dies", 0.1):
            self._strike(random.choice(names), random.randrange(40))
        if self.faults.strikes("several actors die", 0.02):
            for name in names:
                self._strike(name, random.randrange(40))
        if self.faults.strikes("twin", 0.02):
            self._begin_to(self._twin(random.choice(self.every_stream)))
        if self.supervised and self.faults.strikes("loop dies", 0.02):
            self._begin_to(self._hang(random.choice((SUPERVISOR, *self.every_stream))))

    async def _hang(self, name: str) -> None:
        """An actor answers, and does nothing any more. The supervisor is killed by who started it; whom it supervises,
        by it."""
        if not self.lives(name) or any(name in carried for carried in self.cells().values()):
            return  # a cell that hangs is no loop that died
        process = self._processes[name]
        process.end()
        if name == SUPERVISOR:
            await asyncio.sleep(SUPERVISOR_HANGS_FOR_S)
            if self._processes[name] is process:
                await self.strike(name, 0)

    async def _twin(self, stream: str) -> None:
        """An actor that was thought to be dead works on for a while, beside the one in its place."""
        process = Process(self.runtime, self.clock(stream), self.faults, self._durable, self._appends)
        settings = self._settings_of(stream)
        conventions = self.market_of(stream).conventions
        twin = Instrument(replace(settings, policy=replace(settings.policy, conventions=conventions)), process)
        await twin.start(())
        await asyncio.sleep(self.faults.random.uniform(1, 20))
        process.end()

    async def everybody_is_up(self) -> None:
        """Nobody dies any more, and whoever did is back."""
        while self._strikes:
            await asyncio.gather(*self._strikes)
        if self.supervised:
            await self.cluster.everybody_is_up()

    def market_moved(self, stream: str) -> None:
        """The broker's stream, if there is one, reports an event."""
        account, symbol = split_name(stream)
        broker = self.venues[account].broker
        if broker is not None and broker.following is not None:
            for fill, row in self.market_of(stream).executed(symbol):
                broker.following.execute(fill, row)
            broker.following.report(symbol)

    async def close(self) -> None:
        for name in sorted(self.runtime.names(), key=lambda name: name != SUPERVISOR):
            self.faults.note(f"{name} is stopped")
            await self.end(name)
        self.disk.close()

    def _durable(self, stream: str, version: int, event_id: str) -> None:
        self.appended[event_id] = (stream, version)
        if self.written is not None and "/" in stream:
            self._begin_to(self.written(stream))

    def _appends(self, stream: str) -> None:
        if self.appends is not None and "/" in stream:
            self.appends(stream)

    def _begin_to(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._strikes.add(task)
        task.add_done_callback(self._strikes.discard)
