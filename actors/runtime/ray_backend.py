"""Actors as processes of Ray, and the calls between them.

The laws of this module, and of those whose names begin with ``ray_``, which alone import Ray:

* Every Ray exception becomes one of ours, by what it means (:mod:`actors.runtime.ray_errors`):
  :class:`ActorUnavailable`, :class:`CallTimeout`, or the exception that the called method itself raised.
* Account, instrument and audit actors are detached, named as people name them, ``max_restarts=0`` and ``num_cpus=0``:
  the supervisor alone restarts them (:mod:`actors.runtime.ray_cluster`). The supervisor is restarted by Ray, always.
* A handle is never kept over a death: it is resolved again by name.
* An actor without a process of its own is found in a cell of its account (:mod:`actors.runtime.cell`), by every caller.
* A call between processes of one node goes over the socket of the called actor (:mod:`actors.runtime.local_calls`);
  where there is none, and for all that creates, finds and ends actors, Ray is the way.
* Ray's processes listen on this machine's loopback unless the configuration names another cluster
  (:mod:`actors.runtime.ray_session`).

Every actor's process imports this module, and pays for each further import.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import os
import pickle
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import ray

from actors.names import account_of
from actors.runtime.local_calls import Connection, connect, serve
from actors.runtime.ports import ActorUnavailable, Answer, answer_of, logged
from actors.runtime.ray_errors import NoSuchActor, translated, within
from actors.runtime.ray_places import CARRIED_HERE, ActorPlace, ActorSocket, cells_of, handle_of, socket_of
from actors.runtime.together import TOGETHER, Together

PROBES = frozenset({"health"})
"""The methods by which the supervisor finds out that an actor is well. They go through Ray where that has not answered
for it within ``RAY_ANSWERS_EVERY_S``: an actor that Ray is about to end answers no more calls of Ray, and still those
at its socket, while another call is open (findings/ray_exit_actor_waits_for_every_call.sh)."""


RAY_ANSWERS_EVERY_S = 10.0


SOCKET_AGAIN_S = 2.0
"""An actor without a socket may be about to open it: it does so when it is first called."""


NEVER_REPEATED = frozenset({"cancel_order", "change"})
"""All other calls between actors may be carried out twice: appends name their version, the rest only reads."""


_Send = Callable[["ActorPlace | ActorSocket"], Awaitable[Any]]


class RayRuntime:
    """The runtime of an actor in a cluster. Made in one process, used in another: it holds only names."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._places: dict[str, ActorPlace] = {}
        self._connections: dict[str, Connection] = {}
        self._socket_again_s: dict[str, float] = {}
        self._ray_answered_s: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._together = Together(self._deliver)

    def __reduce__(self) -> tuple[type[RayRuntime], tuple[str]]:
        return RayRuntime, (self._namespace,)

    def now(self) -> datetime:
        """The system's clock."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """The system's monotonic clock."""
        return time.monotonic()

    def uniform(self) -> float:
        """The system's chance."""
        return random.random()  # noqa: S311 - spreads retries and probes; nothing secret rests on it

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    def spawn(self, owner: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it until it ends or this process does. An error that ends it is logged, never lost."""
        task = asyncio.get_running_loop().create_task(logged(owner, work))
        # A task that is cancelled before it began never gets to its coroutine.
        task.add_done_callback(lambda _: work.close())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        """Call an actor by name. Raises what the method raised, :class:`ActorUnavailable` or :class:`CallTimeout`.

        A handle from before the actor's death answers nothing: the name is resolved again, and the call is made once
        more where that can do no harm.
        """
        return await self._reach(
            actor, method, timeout_s, lambda place: self._send(place, actor, method, args, timeout_s)
        )

    async def call_many(
        self, actor: str, method: str, calls: Sequence[tuple[object, ...]], timeout_s: float
    ) -> list[Answer]:
        """Several calls of one method of an actor, as one message. As :meth:`call`, but what a method raised is in its
        answer."""

        async def send(place: ActorPlace | ActorSocket) -> list[Answer]:
            answers: list[Answer] = list(await place.send_many(actor, method, calls))
            for well, value in answers:
                if not well and isinstance(value, ActorUnavailable) and value.actor == actor:
                    raise value  # it has left its cell
            return answers

        return cast("list[Answer]", await self._reach(actor, method, timeout_s, send))

    async def _reach(self, actor: str, method: str, timeout_s: float, send: _Send) -> Any:
        """Send something to where the actor is. Where a known place no longer answers, the actor is searched again,
        once, in what is left of the time."""
        known = actor in self._places or actor in self._connections
        until_s = self.monotonic_s() + timeout_s
        try:
            return await self._once(actor, method, timeout_s, until_s, send)
        except ActorUnavailable:
            if not known or method in NEVER_REPEATED or self.monotonic_s() >= until_s:
                raise
            return await self._once(actor, method, timeout_s, until_s, send)

    async def _once(self, actor: str, method: str, timeout_s: float, until_s: float, send: _Send) -> Any:
        with translated(actor, method, f"no answer within {timeout_s:.3g} s", self._places):
            place = await self._place(actor, method, until_s - self.monotonic_s())
            async with within(until_s - self.monotonic_s()):
                answer = await send(place)
            if method in PROBES and isinstance(place, ActorPlace):
                self._ray_answered_s[place.cell or actor] = self.monotonic_s()
            return answer

    async def _send(
        self, place: ActorPlace | ActorSocket, actor: str, method: str, args: tuple[object, ...], timeout_s: float
    ) -> Any:
        if place.cell is not None and method in TOGETHER:
            return await self._together.call((place, method), (actor, *args), timeout_s)
        return place.read(method, await place.send(actor, method, args))

    @staticmethod  # what held this runtime here would keep a program's connections open until Python looks for cycles
    async def _deliver(key: tuple[Any, str], calls: Sequence[tuple[object, ...]], timeout_s: float) -> list[Answer]:
        place, method = key
        async with within(timeout_s):
            return list(await place.deliver([(name, method, tuple(args)) for name, *args in calls]))

    async def _place(self, actor: str, method: str, timeout_s: float) -> ActorPlace | ActorSocket:
        """Where the actor is reached. Raises :class:`NoSuchActor`."""
        place = self._places.get(actor)
        cell = None if place is None else place.cell
        process = cell or actor
        if method not in PROBES or self._ray_has_answered(process):
            connection = await self._connection(process)
            if connection is not None:
                return ActorSocket(connection, cell)
        return await self._find(actor, timeout_s) if place is None else place

    def _ray_has_answered(self, process: str) -> bool:
        return self.monotonic_s() - self._ray_answered_s.get(process, -math.inf) < RAY_ANSWERS_EVERY_S

    async def _connection(self, process: str) -> Connection | None:
        """The connection to the socket of an actor, or a cell, on this node, if it has one."""
        connection = self._connections.get(process)
        if connection is not None and connection.is_open:
            return connection
        now_s = self.monotonic_s()
        if self._socket_again_s.get(process, now_s) > now_s:
            return None
        self._socket_again_s[process] = now_s + SOCKET_AGAIN_S
        self._connections.pop(process, None)
        path = socket_of(self._namespace, process)
        connection = await connect(path) if path is not None else None
        if connection is not None:
            self._connections[process] = connection
        return connection

    async def _find(self, actor: str, timeout_s: float) -> ActorPlace:
        carried = CARRIED_HERE.get((self._namespace, actor))
        if carried is not None:
            self._places[actor] = carried
            return carried
        try:
            place = self._places[actor] = ActorPlace(handle_of(actor, self._namespace))
        except NoSuchActor:
            if "/" not in actor:
                raise
        else:
            return place
        for cell, handle in await asyncio.to_thread(cells_of, account_of(actor), self._namespace):
            async with within(timeout_s):
                self._learn(cell, handle, await handle.hosted.remote())
        if actor not in self._places:
            raise NoSuchActor(actor)
        return self._places[actor]

    def _learn(self, cell: str, handle: Any, hosted: Sequence[str]) -> None:
        place = ActorPlace(handle, cell)
        for name in hosted:
            self._places[name] = place


@functools.cache
def remote_class(actor: type) -> Any:
    """The class as Ray knows it. Made once: each making is sent to the whole cluster and kept there."""
    made: Any = ray.remote(_door(actor))
    return made


def _door(actor: type) -> type:
    """A class with the public methods of an actor's own, which it makes and calls.

    Ray loads an actor's class in every process that resolves a handle of it. The actor's own would be imported there,
    with all that it needs; this one needs nothing.
    """

    kind = actor.__name__  # what is made here must not hold the class itself, or it is imported everywhere after all

    def __init__(  # noqa: N807 - of the class made here
        self: Any, make: type, args: tuple[object, ...] | bytes, opens: tuple[str, str] | None = None
    ) -> None:
        self._actor = make(*(_unpacked(args) if isinstance(args, bytes) else args))
        self._opens = opens  # namespace and name, until its socket is open
        self._asked_anew = asyncio.Event()

    def __repr__(self: Any) -> str:  # noqa: N807 - as above
        return repr(getattr(self, "_actor", kind))  # total: one that raises would end the process

    async def until_the_end(self: Any) -> None:
        # Ray does not cancel the call of a caller that has died, and an unanswered call keeps its caller's socket open
        # (findings/ray_dead_caller_keeps_its_socket.sh). One supervisor asks at a time: the next one ends the call of
        # the one before, which would only probe this actor if it still lived.
        self._asked_anew.set()
        asked_anew = self._asked_anew = asyncio.Event()
        await asked_anew.wait()

    async def on_node(self: Any) -> str:  # noqa: ARG001 - whoever it is
        return str(ray.get_runtime_context().get_node_id())

    async def on_process(self: Any) -> tuple[str, int]:  # noqa: ARG001 - whoever it is
        return str(ray.get_runtime_context().get_node_id()), os.getpid()

    async def open_socket(self: Any) -> None:
        # By name: the class is sent as it is made here, also to an earlier version, which has no such function.
        from actors.runtime import ray_backend

        (namespace, name), self._opens = self._opens, None
        serve_calls = getattr(ray_backend, "_serve_calls", None)
        self._server = None if serve_calls is None else await serve_calls(self, namespace, name)

    async def many(self: Any, method: str, calls: Sequence[tuple[object, ...]]) -> list[Answer]:
        if self._opens is not None:
            await self._open_socket()
        asked = getattr(self._actor, method)
        return await asyncio.gather(*[answer_of(asked(*args)) for args in calls])

    names = [name for name, _ in inspect.getmembers(actor, inspect.isfunction) if not name.startswith("_")]
    methods = {name: _passed_on(name) for name in names}
    own = {
        "_open_socket": open_socket,
        "many": many,
        "until_the_end": until_the_end,
        "on_node": on_node,
        "on_process": on_process,
    }
    return type(kind, (), {"__init__": __init__, "__repr__": __repr__, **own, **methods})


def _passed_on(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def method(self: Any, *args: object, **named: object) -> Any:
        if self._opens is not None:
            await self._open_socket()
        answer = getattr(self._actor, name)(*args, **named)
        return await answer if hasattr(answer, "__await__") else answer

    method.__name__ = method.__qualname__ = name
    return method


async def _serve_calls(actor: Any, namespace: str, name: str) -> asyncio.Server | None:
    """Answer callers of this node over a socket, too. Whoever lets go of the server may end it."""

    async def ask(method: str, args: tuple[object, ...]) -> object:
        if method.startswith("_"):
            raise AttributeError(f"{name} has no method {method}")
        return await getattr(actor, method)(*args)

    path = socket_of(namespace, name)
    return None if path is None else await serve(path, ask)


def packed(args: tuple[object, ...]) -> bytes:
    """An actor's arguments, small enough for the cluster to keep them."""
    return zlib.compress(pickle.dumps(args))


def _unpacked(args: bytes) -> tuple[object, ...]:
    found: tuple[object, ...] = pickle.loads(zlib.decompress(args))  # noqa: S301 - packed by create, of this cluster
    return found


def __getattr__(name: str) -> Any:
    """What earlier versions have here: Ray keeps the arguments of a supervisor that one of them started."""
    if name == "RayCluster":
        from actors.runtime.ray_cluster import RayCluster

        return RayCluster
    raise AttributeError(f"module {__name__} has no attribute {name}")
