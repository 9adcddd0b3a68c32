"""The port through which actors reach each other, the clock, randomness, and threads.

An actor is a plain class that receives a :class:`Runtime`. The actors of one process run on :class:`LocalRuntime`
(tests, ``python -m supervisor reconcile``), those of a cluster on the runtime in :mod:`actors.runtime.ray_backend`. An
actor keeps no handle of another: it calls it by name, and every call is bounded in time.

The laws of this module: a failed call says whether the other actor may have done the work (:class:`CallTimeout`,
:class:`ActorUnavailable`: it may); nothing here raises an exception that does not round-trip through pickle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from loguru import logger

EVICTED_WITHIN_S = 3.0
"""A cell that does not answer within this time is ended with everything it carries."""


class CallError(Exception):
    """A call to another actor returned no answer. Whether it was carried out is unknown."""

    def __init__(self, actor: str, method: str, found: str) -> None:
        super().__init__(actor, method, found)
        self.actor = actor
        self.method = method
        self.found = found

    def __str__(self) -> str:
        return f"actor {self.actor} did not answer {self.method}: {self.found}"


class ActorUnavailable(CallError):
    """The actor is dead, restarting, or was never there."""


def closed(actor: str) -> ActorUnavailable:
    """The health of an actor that was closed and has not ended: whoever closed it has died, and it must be replaced."""
    return ActorUnavailable(actor, "health", "it was closed by a supervisor that has died")


class CallTimeout(CallError):
    """The actor lives, as far as is known, and did not answer in time."""


Answer = tuple[bool, Any]
"""The outcome of a call: true and its result, or false and its exception."""


async def answer_of(work: Awaitable[Any]) -> Answer:
    """The outcome of a call as a value, to be sent to its caller."""
    try:
        return True, await work
    except Exception as error:  # noqa: BLE001 - the caller gets it
        return False, error


def outcome(answer: Answer) -> Any:
    """The result of a call. Raises its exception."""
    well, value = answer
    if not well:
        raise value
    return value


class Runtime(Protocol):
    """Everything an actor may use of the outside world."""

    def now(self) -> datetime:
        """The present time, aware UTC."""

    def monotonic_s(self) -> float:
        """Seconds of a clock that never goes back."""

    def uniform(self) -> float:
        """A random number in [0, 1)."""

    async def sleep(self, seconds: float) -> None:
        """Wait; other work goes on."""

    async def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        """The answer of another actor's method. Raises what the method raised, or :class:`CallError`."""

    def spawn(self, owner: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a loop of an actor beside its calls, as long as the actor lives."""


class Delivery(Protocol):
    """How the local runtime delivers a message; a simulation delays, drops and repeats messages here."""

    async def __call__(self, actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
        """Call ``send`` once (or never, or twice) and return its answer."""


@runtime_checkable
class Carrying(Protocol):
    """An actor that carries others: see :mod:`actors.runtime.cell`."""

    def carries(self, name: str) -> bool:
        """Whether it carries an actor of this name."""

    async def deliver(self, calls: Sequence[tuple[str, str, tuple[object, ...]]]) -> list[Answer]:
        """Make calls of the actors it carries, each with its answer."""

    async def end(self) -> None:
        """End all actors it carries."""


async def deliver_at_once(actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
    """Every message arrives, once, immediately."""
    del actor, method
    return await send()


class LocalRuntime:
    """All actors in one process and one event loop.

    Clock, randomness and delivery are arguments; ``deliver`` may be replaced at any time. Time-outs and sleeps are
    those of the running loop, so that a loop with virtual time runs the whole system in virtual time. An actor may be
    killed at any await: its running work is cancelled, and its callers get :class:`ActorUnavailable`.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        monotonic_s: Callable[[], float],
        uniform: Callable[[], float],
        deliver: Delivery = deliver_at_once,
    ) -> None:
        self._now = now
        self._monotonic_s = monotonic_s
        self._uniform = uniform
        self.deliver = deliver
        self._actors: dict[str, object] = {}
        self._tasks: dict[str, dict[asyncio.Task[Any], None]] = {}  # in a fixed order, so that a seed replays

    def now(self) -> datetime:
        """The time of the given clock."""
        return self._now()

    def monotonic_s(self) -> float:
        """The time of the given monotonic clock."""
        return self._monotonic_s()

    def uniform(self) -> float:
        """A number of the given random source."""
        return self._uniform()

    async def sleep(self, seconds: float) -> None:
        """Sleep in the running loop's time."""
        await asyncio.sleep(seconds)

    def register(self, name: str, actor: object) -> None:
        """Make an actor reachable under this name."""
        self._actors[name] = actor

    def names(self) -> tuple[str, ...]:
        """The names of all registered actors."""
        return tuple(self._actors)

    def actor(self, name: str) -> object:
        """The actor of this name itself, for code in its process. Raises ``KeyError``."""
        return self._actors[name]

    async def kill(self, name: str) -> None:
        """End an actor at once, as a SIGKILL would, without notice. The actors that it carries end too."""
        ended = self._actors.pop(name, None)
        if isinstance(ended, Carrying):
            await ended.end()
        tasks = list(self._tasks.pop(name, ()))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        """Call a method of a registered actor."""
        try:
            async with asyncio.timeout(timeout_s) as limit:
                return await self.deliver(actor, method, lambda: self._run(actor, method, args))
        except TimeoutError:
            if not limit.expired():
                raise  # the method's own
            raise CallTimeout(actor, method, f"no answer within {timeout_s:g} s") from None

    async def call_many(
        self, actor: str, method: str, calls: Sequence[tuple[object, ...]], timeout_s: float
    ) -> list[Answer]:
        """Several calls of one method, each with its answer."""
        pending = [self.call(actor, method, *args, timeout_s=timeout_s) for args in calls]
        return await asyncio.gather(*map(answer_of, pending))

    async def _run(self, actor: str, method: str, args: tuple[object, ...]) -> Any:
        target = self._actors.get(actor)
        if target is None:
            for carrier in self._actors.values():
                if isinstance(carrier, Carrying) and carrier.carries(actor):
                    [answer] = await carrier.deliver([(actor, method, args)])
                    return outcome(answer)
            raise ActorUnavailable(actor, method, "there is no such actor")
        task = asyncio.ensure_future(getattr(target, method)(*args))
        self._own(actor, task)
        try:
            # A caller that gives up does not stop the work that it requested, as in a cluster.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # If the caller is ended at the same moment, its cancellation must not turn into an answer.
            if task.cancelled() and self._actors.get(actor) is not target and not _is_ended():
                raise ActorUnavailable(actor, method, "it was killed") from None
            raise

    def spawn(self, owner: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it until it ends or its owner is killed. An error that ends it is logged, never lost."""
        task = asyncio.ensure_future(logged(owner, work))
        task.add_done_callback(lambda _: work.close())  # for a task that was cancelled before it began
        self._own(owner, task)
        return task

    def _own(self, actor: str, task: asyncio.Task[Any]) -> None:
        owned = self._tasks.setdefault(actor, {})
        owned[task] = None
        task.add_done_callback(lambda done: owned.pop(done, None))
        task.add_done_callback(_seen)


def _is_ended() -> bool:
    """Whether the running task has been cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def logged(owner: str, work: Coroutine[Any, Any, None]) -> None:
    """Run a loop of an actor; an error that ends it is logged, never lost."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception:  # noqa: BLE001 - nothing awaits a loop; its age warns the supervisor, and the log has the reason
        logger.exception("{}: a loop of this actor ended", owner)


def _seen(task: asyncio.Task[Any]) -> None:
    """Mark the task's exception as retrieved: the caller has had it, and asyncio need not warn about it."""
    if not task.cancelled():
        task.exception()
