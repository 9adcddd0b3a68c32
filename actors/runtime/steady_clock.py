"""The time that an actor uses: it looks like the wall clock's and never jumps.

The laws of this module:

* Of two readings the later one is greater: what an actor has seen first has the smaller time, whatever happens to the
  wall clock. Times of one steady clock give the order in which its actor saw things.
* The time between two readings is that of the monotonic clock, to within :data:`STEP`.
* A wall clock that moves against the monotonic one by more than :data:`STEP` has made a step. It is not followed
  automatically: until :meth:`SteadyClock.follow` the time goes on as if nothing had happened.
* A time of one steady clock means nothing to another. Actors send each other lengths of time that the sender measured
  (:data:`actors.messages.Ago`), and never a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

from actors.runtime.ports import Runtime

STEP = timedelta(seconds=1)
"""How far a wall clock may move against the monotonic one before that counts as a step."""

_TICK = timedelta(microseconds=1)
_NOTHING = timedelta()
_READ_WITHIN_S = 0.05
_READINGS = 3


class SteadyClock:
    """The time of one actor. ``step`` is by how much the wall clock has jumped away from it; zero while it has not."""

    def __init__(self, wall: Callable[[], datetime], monotonic_s: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic_s = monotonic_s
        self._wall_was, self._read_s = self._read()
        self._now = self._target = self._wall_was
        self._step = _NOTHING

    def now(self) -> datetime:
        """Later than every time returned before, except after :meth:`follow`."""
        wall, read_s = self._read()
        passed = timedelta(seconds=read_s - self._read_s)
        apart = wall - self._wall_was - passed
        self._wall_was, self._read_s = wall, read_s
        if abs(apart) > STEP:
            self._step += apart
            apart = _NOTHING
        self._target += passed + apart
        self._now = max(self._now + _TICK, self._target)
        if self._now - self._target > STEP:  # many small steps back add up to a large one
            self._step += self._target - self._now
            self._target = self._now
        return self._now

    @property
    def step(self) -> timedelta:
        """How far the wall clock has jumped since it was last followed."""
        self.now()
        return self._step if abs(self._step) > STEP else _NOTHING

    def follow(self, by: timedelta) -> None:
        """Move the time by this, forward or back; the step is then handled. The caller ensures that no later time is
        compared with one from before."""
        self._now += by
        self._target = self._now
        self._step -= by  # a step that came meanwhile is still to be handled

    def pass_over(self) -> timedelta:
        """Go on as before, and return how far the wall clock had jumped: for an actor whose times no other sees."""
        by = self.step
        self._step = _NOTHING
        return by

    def be_after(self, time: datetime) -> None:
        """From now on return only times after this one."""
        self._now = max(self._now, time)
        self._target = max(self._target, self._now)

    def _read(self) -> tuple[datetime, float]:
        """Both clocks at one moment: a process that was suspended between two readings would see a jump."""
        for _ in range(_READINGS):
            before_s = self._monotonic_s()
            wall = self._wall()
            after_s = self._monotonic_s()
            if after_s - before_s <= _READ_WITHIN_S:
                break
        return wall, after_s


class SteadyRuntime:
    """A :class:`~actors.runtime.ports.Runtime` whose ``now`` is that of a steady clock; the rest is the given one's."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.clock = SteadyClock(runtime.now, runtime.monotonic_s)

    def now(self) -> datetime:
        """The steady clock's time."""
        return self.clock.now()

    def monotonic_s(self) -> float:
        """As given."""
        return self._runtime.monotonic_s()

    def uniform(self) -> float:
        """As given."""
        return self._runtime.uniform()

    async def sleep(self, seconds: float) -> None:
        """As given."""
        await self._runtime.sleep(seconds)

    async def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        """As given."""
        return await self._runtime.call(actor, method, *args, timeout_s=timeout_s)

    def spawn(self, owner: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """As given."""
        return self._runtime.spawn(owner, work)
