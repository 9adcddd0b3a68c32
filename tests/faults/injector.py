"""The faults: each kind is done to a target drawn by the seed, and undone before the next burst."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

from actors.names import SUPERVISOR
from actors.runtime import ray_cluster
from actors.runtime.ports import CallError
from brokers.simulators.base import Fault
from supervisor.changes.requests import SetInterval
from supervisor.client.processes import Running
from tests.faults.clocks import HOURS_OFF_S, STEPS_S, HouseClock
from tests.faults.market import INSTRUMENTS, PLACES, Market
from tests.faults.proxy import Wire

LIES = (
    Fault.EMPTY,
    Fault.MALFORMED_ROW,
    Fault.HALF_BODY,
    Fault.SERVER_ERROR,
    Fault.UNAVAILABLE,
    Fault.RATE_LIMITED,
    Fault.HTML,
    Fault.RESET,
    Fault.TIMEOUT,
    Fault.LATE,
)
HELD_S = (1.0, 4.0)
PAUSED_S = (3.0, 12.0)
RAY_PAUSED_S = (1.0, 6.0)
"""Ray gives a node up that is silent for some twenty seconds."""
SPARE_BYTES = 2_000_000


class Injector:
    """Does faults to a running house. ``by_kind`` counts those that were carried out."""

    def __init__(self, seed: int, market: Market, running: Running, clock: HouseClock, namespace: str) -> None:
        self._random = random.Random(seed * 7 + 1)  # noqa: S311 - the same schedule for the same seed
        self._market = market
        self._running = running
        self._clock = clock
        self._namespace = namespace
        self.by_kind: dict[str, int] = {}
        self._interval_s = 1.0
        self.kinds: dict[str, Callable[[], None]] = {
            "kill instrument": lambda: self._kill(self._instrument()),
            "kill account": lambda: self._kill(self._account()),
            "kill audit": lambda: self._kill("audit"),
            "kill supervisor": lambda: self._kill("supervisor"),
            "kill several at once": self._kill_several,
            "kill during recovery": self._kill_again,
            "pause instrument": lambda: self._pause(self._instrument()),
            "pause account": lambda: self._pause(self._account()),
            "pause audit": lambda: self._pause("audit"),
            "pause supervisor": lambda: self._pause("supervisor"),
            "cut connection": lambda: self._wire(Wire.CUT),
            "slow connection": lambda: self._wire(Wire.SLOW),
            "half-open connection": lambda: self._wire(Wire.HANGING),
            "disk full": self._disk_full,
            "descriptors used up": self._no_descriptors,
            "memory used up": self._no_memory,
            "supervisor ends without a crash": self._end_supervisor,
            "pause Ray's raylet": lambda: self._pause_rays("raylet"),
            "pause Ray's GCS": lambda: self._pause_rays("gcs_server"),
            "halt and resume": self._halt,
            "configuration applied": self._apply,
            "restart by an operator": lambda: self._restart(self._instrument()),
            **{f"broker lies: {lie.value}": (lambda lie=lie: self._lie(lie)) for lie in LIES},  # type: ignore[misc]  # a lambda's default
        }
        if clock.there:
            self.kinds["clock stepped"] = self._step_clock
            self.kinds["clock an hour off, and set right"] = self._hour_off
        self._bag: list[str] = []

    def next(self) -> str:
        """The next kind: each comes once before any comes again."""
        if not self._bag:
            self._bag = list(self.kinds)
            self._random.shuffle(self._bag)
        return self._bag.pop()

    def burst(self) -> list[str]:
        """One to three faults, one after the other."""
        done = []
        for _ in range(self._random.choice([1, 2, 2, 3])):
            kind = self.next()
            with contextlib.suppress(CallError, ProcessLookupError, psutil.NoSuchProcess):
                self.kinds[kind]()
                self.by_kind[kind] = self.by_kind.get(kind, 0) + 1
                done.append(kind)
        return done

    # Whom

    def _instrument(self) -> str:
        account, symbol = self._random.choice(PLACES)
        return f"{account}/{symbol}"

    def _account(self) -> str:
        return self._random.choice(tuple(INSTRUMENTS))

    def _pid(self, name: str) -> int:
        status: dict[str, Any] = self._running.status(timeout_s=20)
        if name == "supervisor":
            return int(status["supervisor"]["pid"])
        pid = next((row["pid"] for row in status["supervisor"]["actors"] if row["name"] == name), None)
        if pid is None:  # it is not up, or the supervisor is only just back and has not looked for it yet
            raise ProcessLookupError(name)
        return int(pid)

    # What

    def _kill(self, name: str) -> None:
        os.kill(self._pid(name), signal.SIGKILL)

    def _kill_several(self) -> None:
        names = self._random.sample(["audit", *INSTRUMENTS, *(f"{a}/{s}" for a, s in PLACES)], 4)
        for pid in {self._pid(name) for name in names}:
            os.kill(pid, signal.SIGKILL)

    def _kill_again(self) -> None:
        name = self._random.choice([self._instrument(), self._account(), "audit"])
        first = self._pid(name)
        os.kill(first, signal.SIGKILL)
        until_s = time.monotonic() + 20
        while time.monotonic() < until_s:
            with contextlib.suppress(ProcessLookupError, CallError):
                if (pid := self._pid(name)) != first:
                    os.kill(pid, signal.SIGKILL)
                    return
            time.sleep(0.05)

    def _pause(self, name: str) -> None:
        pid = self._pid(name)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self._random.uniform(*PAUSED_S))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def _wire(self, state: Wire) -> None:
        wire = self._market.wires[self._account()]
        wire.set(state)
        time.sleep(self._random.uniform(*HELD_S))
        wire.set(Wire.WHOLE)

    def _lie(self, lie: Fault) -> None:
        self._market.brokers[self._account()].faults.add(lie, times=self._random.randint(1, 4))
        time.sleep(1.0)

    @contextlib.contextmanager
    def _limited(self, name: str, what: int, soft: int) -> Iterator[None]:
        process = psutil.Process(self._pid(name))
        before = process.rlimit(what)
        process.rlimit(what, (soft, before[1]))
        try:
            yield
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.rlimit(what, before)

    def _disk_full(self) -> None:
        """No file of the journal's process may grow: what a full disk says of a write."""
        with self._limited("audit", resource.RLIMIT_FSIZE, 0):
            time.sleep(self._random.uniform(*HELD_S))

    def _no_descriptors(self) -> None:
        name = self._account()
        used = psutil.Process(self._pid(name)).num_fds()
        with self._limited(name, resource.RLIMIT_NOFILE, used):
            time.sleep(self._random.uniform(*HELD_S))

    def _no_memory(self) -> None:
        """A process that is given no more of it: what asks for some is refused, or ends."""
        name = self._random.choice(["audit", self._account(), self._instrument()])
        used = psutil.Process(self._pid(name)).memory_info().vms
        with self._limited(name, resource.RLIMIT_AS, used + SPARE_BYTES):
            time.sleep(self._random.uniform(*HELD_S))

    def _step_clock(self) -> None:
        """It stays wrong until the next step."""
        self._clock.step_to(self._random.choice([one for one in STEPS_S if one != self._clock.wrong_by_s]))

    def _hour_off(self) -> None:
        """Nobody believes a broker meanwhile; whether trading is allowed then is watched all the time."""
        before_s = self._clock.wrong_by_s
        self._clock.step_to(self._random.choice(HOURS_OFF_S))
        time.sleep(self._random.uniform(*PAUSED_S))
        self._clock.step_to(before_s)

    def _end_supervisor(self) -> None:
        """As `exit_actor` does: Ray takes that for wanted, and `start` makes it anew."""
        ray_cluster.kill(SUPERVISOR, self._namespace)

    def _pause_rays(self, name: str) -> None:
        victim = next(one for one in psutil.Process().children(recursive=True) if one.name() == name)
        victim.suspend()
        time.sleep(self._random.uniform(*RAY_PAUSED_S))
        victim.resume()

    def _halt(self) -> None:
        account = self._account()
        self._running.halt(account, None, "a fault campaign")
        time.sleep(0.5)
        self._running.resume_trading(account, None)

    def _apply(self) -> None:
        account, symbol = self._random.choice(PLACES)
        self._interval_s = 1.5 if self._interval_s == 1.0 else 1.0
        self._running.change(SetInterval(account, symbol, self._interval_s), "a fault campaign")

    def _restart(self, name: str) -> None:
        self._running.restart(name)
