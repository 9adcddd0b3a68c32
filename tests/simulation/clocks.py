"""Clocks that drift and jump, and the process that an actor lives in, which has one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from actors.journal.types import Appended
from actors.runtime.ports import Answer, LocalRuntime
from tests.simulation.faults import Faults

MIDNIGHT = datetime(2024, 1, 3, tzinfo=UTC)
"""Somewhere in a run: a trading day ends in it, and ids begin anew."""

STEPS_S = (-3600.0, -600.0, -30.0, -3.0, -0.6, 0.6, 3.0, 30.0, 600.0, 3600.0)
RESOLUTION = timedelta(milliseconds=1)


def time_s() -> float:
    """The true time: seconds since the run began, which nobody in it can read."""
    return asyncio.get_running_loop().time()


class WallClock:
    """A clock of a machine or a broker. ``rate`` is how many of its seconds pass in a true one."""

    def __init__(self, begin: datetime, rate: float = 1.0) -> None:
        self._begin = begin
        self._rate = rate
        self.wrong_by = timedelta()
        self._read = 0

    def __call__(self) -> datetime:
        """It never says the same twice, as no clock of microseconds does."""
        self._read += 1
        return self.exact() + timedelta(microseconds=self._read % 50)

    def exact(self) -> datetime:
        return self._begin + timedelta(seconds=time_s() * self._rate) + self.wrong_by

    def step(self, seconds: float) -> None:
        self.wrong_by += timedelta(seconds=seconds)

    def put_right(self) -> None:
        self.wrong_by = timedelta()


class Process:
    """The runtime of one incarnation of an actor: the house's, with a clock and loops of its own. The monotonic clocks
    of two processes have nothing in common. ``durable`` gets the stream and version of each event that the journal's
    actor said to it is durable, ``appends`` the stream of each append that it is about to send."""

    def __init__(
        self,
        runtime: LocalRuntime,
        clock: WallClock,
        faults: Faults,
        durable: Callable[[str, int, str], None],
        appends: Callable[[str], None],
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._faults = faults
        self._durable = durable
        self._appends = appends
        self._monotonic_from_s = faults.random.uniform(0, 1e6)
        self._loops: list[asyncio.Task[None]] = []

    def now(self) -> datetime:
        return self._clock()

    def monotonic_s(self) -> float:
        return self._monotonic_from_s + time_s()

    def uniform(self) -> float:
        return self._faults.random.random()

    async def sleep(self, seconds: float) -> None:
        await self._runtime.sleep(seconds)

    async def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        self._note_sending(args)
        answer = await self._runtime.call(actor, method, *args, timeout_s=timeout_s)
        self._note(args, answer)
        return answer

    def _note_sending(self, args: tuple[object, ...]) -> None:
        match args:
            case (str() as stream, int(), tuple()):
                self._appends(stream)

    def _note(self, args: tuple[object, ...], answer: object) -> None:
        match args:
            case (str() as stream, int() as version, tuple() as events) if isinstance(answer, Appended):
                for place, event in enumerate(events, version + 1):
                    self._durable(stream, place, event.event_id)

    async def call_many(
        self, actor: str, method: str, calls: Sequence[tuple[object, ...]], timeout_s: float
    ) -> list[Answer]:
        for args in calls:
            self._note_sending(args)
        answers = await self._runtime.call_many(actor, method, calls, timeout_s)
        for args, (well, answer) in zip(calls, answers, strict=True):
            if well:
                self._note(args, answer)
        return answers

    def spawn(self, owner: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._runtime.spawn(owner, work)
        self._loops.append(task)
        return task

    def end(self) -> None:
        """Whatever still runs in it ends where it stands."""
        for task in self._loops:
            task.cancel()
