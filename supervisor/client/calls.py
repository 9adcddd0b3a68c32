"""How the handle calls actors, blocking or awaiting, with the same code.

Everything the handle does is written once, as a coroutine over a :class:`Port`. On a :class:`BlockingPort` every await
has finished when it returns, so that :func:`run_blocking` can run such a coroutine to its end without an event loop: in
a script, and in a notebook whose thread runs a loop.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from actors.journal.client import JournalAway
from actors.runtime.ports import ActorUnavailable, Runtime
from brokers.kit.backoff import backoff_s
from supervisor.client.link import Link

if TYPE_CHECKING:
    from actors.runtime.ray_client import Client
    from supervisor.client.local_door import DoorClient

T = TypeVar("T")
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5


class Port(Protocol):
    """Calls actors by name, and waits."""

    async def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        """Return the result of an actor's method. Raises what the method raised, or
        :class:`~actors.runtime.ports.CallError`."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    def monotonic_s(self) -> float:
        """Seconds of a clock that never goes back."""


class BlockingPort:
    """Each call has finished when it returns. ``link`` watches a connection whose process must outlive the cluster."""

    def __init__(self, client: Client | DoorClient, link: Link | None = None) -> None:
        self._client = client
        self._link = link

    async def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        """Call, and block this thread meanwhile."""
        with self._link.call(actor, method) if self._link is not None else contextlib.nullcontext():
            return self._client.call(actor, method, *args, timeout_s=timeout_s)

    async def sleep(self, seconds: float) -> None:
        """Block this thread."""
        time.sleep(seconds)

    def monotonic_s(self) -> float:
        """This process's clock."""
        return time.monotonic()


class AwaitingPort:
    """Calls from a running event loop, which goes on meanwhile."""

    def __init__(self, runtime: Runtime, link: Link) -> None:
        self._runtime = runtime
        self._link = link

    async def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        """Call, and await the answer."""
        with self._link.call(actor, method):
            return await self._runtime.call(actor, method, *args, timeout_s=timeout_s)

    async def sleep(self, seconds: float) -> None:
        """Let others work."""
        await self._runtime.sleep(seconds)

    def monotonic_s(self) -> float:
        """The runtime's clock."""
        return self._runtime.monotonic_s()


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that runs on a :class:`BlockingPort`."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # the coroutine's own type
    finally:
        work.close()
    raise RuntimeError("internal error: this coroutine waits for something that does not block")


async def call_with_retry(port: Port, actor: str, method: str, *args: object, timeout_s: float) -> Any:
    """Call an actor that may be restarting (so may the audit actor): while no actor has that name, try again until
    ``timeout_s`` have passed. Only for calls that may be made twice."""
    deadline_s = port.monotonic_s() + timeout_s
    failures = 0
    while True:
        try:
            return await port.call(actor, method, *args, timeout_s=max(0.001, deadline_s - port.monotonic_s()))
        except (ActorUnavailable, JournalAway):
            failures += 1
            pause_s = backoff_s(failures, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
            if port.monotonic_s() + pause_s >= deadline_s:
                raise
        await port.sleep(pause_s)
