"""The house: the journal's actor, one account's, and one for each of its instruments, and somebody who starts anew
whoever has died. Actors are the real ones; what they stand on is the simulation's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

from actors.account.actor import Account, AccountSettings
from actors.book.policy import Policy
from actors.instrument.actor import Instrument, InstrumentSettings
from actors.journal.actor import Audit
from actors.names import AUDIT, instrument_name
from actors.runtime.ports import LocalRuntime
from actors.runtime.ray_environment import Address
from supervisor.client.calls import AwaitingPort
from supervisor.client.connection import Connection, Place
from supervisor.client.instrument import AsyncInstrument, Named
from supervisor.client.link import Link
from tests.simulation.broker import TIMEOUT_S, SimulatedBroker
from tests.simulation.clocks import MIDNIGHT, STEPS_S, Process, WallClock, time_s
from tests.simulation.disk import Disk
from tests.simulation.faults import Faults
from tests.simulation.market import Market
from tests.simulation.network import Network

ACCOUNT = "fx"
NAMES = ("EURUSD", "USDJPY")
CYCLE_TIMEOUT_S = TIMEOUT_S + 5.0


class _Unwatched(Link):
    """A link to no cluster."""

    def _watch(self) -> None:
        return


class House:
    """Everything that lives, and the clocks it lives by."""

    def __init__(self, directory: Path, faults: Faults) -> None:
        random = faults.random
        self.faults = faults
        self.appended: dict[str, tuple[str, int]] = {}
        self.written: Callable[[str], Coroutine[Any, Any, None]] | None = None
        begin = MIDNIGHT - timedelta(seconds=random.uniform(5, 60))
        self.brokers_clock = WallClock(
            begin + timedelta(seconds=random.uniform(-20, 20)), random.uniform(0.9998, 1.0002)
        )
        self.one_machine = random.random() < 0.5
        self._machine = WallClock(begin, random.uniform(0.9999, 1.0001))
        self._begin = begin
        self._clocks: dict[str, WallClock] = {}
        self.interval_s = random.choice((15.0, 20.0))
        self.market = Market(
            NAMES[: random.choice((1, 1, 2))], self.brokers_clock, random,
            resolution=timedelta(milliseconds=random.choice((1, 1000))),
        )  # fmt: skip
        self.policy = Policy(
            settle=timedelta(seconds=random.choice((1, 2, 5))),
            max_age=timedelta(seconds=3 * self.interval_s),
            unverified=timedelta(seconds=self.interval_s + CYCLE_TIMEOUT_S),
            conventions=self.market.conventions,
        )
        self._streams = random.random() < 0.5
        self.network = Network(faults, self._strike)
        self.runtime = LocalRuntime(self._machine, time_s, random.random, self.network)
        self.disk = Disk(directory, faults)
        self._broker: SimulatedBroker | None = None
        self.instruments: dict[str, Instrument] = {}
        self._processes: dict[str, Process] = {}
        self._strikes: set[asyncio.Task[None]] = set()
        self._down: set[str] = set()
        self.restarts: Counter[str] = Counter()
        link = _Unwatched("nowhere:1", ours=False)
        port = AwaitingPort(Process(self.runtime, self.clock("strategy"), faults, self._durable), link)
        connection = Connection(Place(Address("nowhere:1", None), "test", "a test"), link, port, port)  # type: ignore[arg-type] # nothing blocks here
        self.handles = {
            name: AsyncInstrument(
                Named(ACCOUNT, name, instrument_name(ACCOUNT, name), self.market.conventions.legs),
                connection,
                lambda: port,
            )
            for name in self.market.traded
        }

    # Clocks

    def clock(self, name: str) -> WallClock:
        """The clock of the machine on which an actor lives."""
        if self.one_machine:
            return self._machine
        if name not in self._clocks:
            random = self.faults.random
            begin = self._begin + timedelta(seconds=random.uniform(-60, 60))
            self._clocks[name] = WallClock(begin, random.uniform(0.9998, 1.0002))
        return self._clocks[name]

    def step_a_clock(self) -> None:
        """Somebody sets a clock, ours or the broker's."""
        random = self.faults.random
        if self.faults.strikes("our clock steps", 0.02):
            random.choice([self._machine, *self._clocks.values()]).step(random.choice(STEPS_S))
        if self.faults.strikes("the broker's clock steps", 0.01):
            self.brokers_clock.step(random.choice(STEPS_S))

    def put_clocks_right(self) -> None:
        """An hour off is more than anybody believes: in the end all are about right."""
        for clock in (self._machine, *self._clocks.values(), self.brokers_clock):
            if abs(clock.wrong_by) > timedelta(seconds=60):
                clock.put_right()

    # Life and death

    async def open(self) -> None:
        """Everybody, for the first time."""
        self._down = {AUDIT, ACCOUNT, *(instrument_name(ACCOUNT, name) for name in self.market.traded)}
        for name in sorted(self._down, key=lambda name: (name != AUDIT, name != ACCOUNT, name)):
            await self.bring_up(name)

    async def bring_up(self, name: str) -> None:
        """A new actor of that name, at work."""
        self._down.discard(name)
        process = self._processes[name] = Process(self.runtime, self.clock(name), self.faults, self._durable)
        if name == AUDIT:
            threads = self.disk.incarnation()
            audit = Audit(
                self.disk.url,
                run_blocking=threads.run,
                monotonic=process.monotonic_s,
                open_journal=threads.open_journal,
                now=process.now,
            )
            self.runtime.register(AUDIT, audit)
        elif name == ACCOUNT:
            settings = AccountSettings(ACCOUNT, "simulated", frozenset(self.market.traded), patience_s=TIMEOUT_S)
            account = Account(settings, lambda: self._open_broker(name), process)
            self.runtime.register(name, account)
            await account.start()
        else:
            symbol = name.partition("/")[2]
            settings_of_it = InstrumentSettings(ACCOUNT, symbol, self.interval_s, CYCLE_TIMEOUT_S, self.policy)
            instrument = self.instruments[symbol] = Instrument(settings_of_it, process)
            self.runtime.register(name, instrument)
            await instrument.start(())

    def _open_broker(self, account: str) -> SimulatedBroker:
        self._broker = SimulatedBroker(account, self.market, self.clock(account), self.faults, streams=self._streams)
        return self._broker

    async def kill(self, name: str) -> bool:
        """An actor ends where it stands; whether there was one."""
        if name in self._down or name not in self._processes:
            return False
        self._down.add(name)
        self.restarts[name] += 1
        self.faults.note(f"{name} is killed")
        if name == AUDIT:
            self.disk.crash()
        self.instruments.pop(name.partition("/")[2], None)
        self._processes[name].end()
        await self.runtime.kill(name)
        if name == ACCOUNT and self._broker is not None:
            await self._broker.close()
        return True

    def _strike(self, name: str, after: int) -> None:
        self._begin_to(self.strike(name, after))

    async def strike(self, name: str, after: int) -> None:
        """Kill an actor some steps of the loop from now, and start it anew a while later."""
        for _ in range(after):
            await asyncio.sleep(0)
        if await self.kill(name):
            await asyncio.sleep(self.faults.random.choice((0.0, 0.5, 4.0)) * self.faults.random.random())
            await self.bring_up(name)

    def kill_somebody(self) -> None:
        """By chance, one or several at once."""
        random = self.faults.random
        names = (AUDIT, ACCOUNT, *(instrument_name(ACCOUNT, name) for name in self.market.traded))
        if self.faults.strikes("actor dies", 0.1):
            self._strike(random.choice(names), random.randrange(40))
        if self.faults.strikes("several actors die", 0.02):
            for name in names:
                self._strike(name, random.randrange(40))
        if self.faults.strikes("twin", 0.02):
            self._begin_to(self._twin(random.choice(tuple(self.market.traded))))

    async def _twin(self, symbol: str) -> None:
        """An actor that was thought to be dead works on for a while, beside the one in its place."""
        settings = InstrumentSettings(ACCOUNT, symbol, self.interval_s, CYCLE_TIMEOUT_S, self.policy)
        process = Process(self.runtime, self.clock(instrument_name(ACCOUNT, symbol)), self.faults, self._durable)
        twin = Instrument(settings, process)
        await twin.start(())
        await asyncio.sleep(self.faults.random.uniform(1, 20))
        process.end()

    async def everybody_is_up(self) -> None:
        """Nobody dies any more, and whoever did is back."""
        while self._strikes:
            await asyncio.gather(*self._strikes)

    def market_moved(self, instrument: str) -> None:
        """The broker's stream, where there is one, tells."""
        if self._broker is not None and self._broker.following is not None:
            self._broker.following.tell(instrument)

    async def close(self) -> None:
        for name in list(self._processes):
            await self.kill(name)
        self.disk.close()

    def _durable(self, stream: str, version: int, event_id: str) -> None:
        self.appended[event_id] = (stream, version)
        symbol = stream.partition("/")[2]
        if self.written is not None and symbol:
            self._begin_to(self.written(symbol))

    def _begin_to(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._strikes.add(task)
        task.add_done_callback(self._strikes.discard)
