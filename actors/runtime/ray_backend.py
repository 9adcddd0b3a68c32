"""The only module that imports Ray: clusters, actors as processes, and calls between them.

The laws of this module:

* Every Ray exception becomes one of ours, by what it means: :class:`ActorUnavailable`, :class:`CallTimeout`, or the
  exception that the called method itself raised.
* Account, instrument and audit actors are detached, named as people name them, ``max_restarts=0`` and ``num_cpus=0``:
  the supervisor alone restarts them. The supervisor is restarted by Ray, always.
* A handle is never kept over a death: it is resolved again by name.
* An actor without a process of its own is found in a cell of its account (:mod:`actors.runtime.cell`), by every caller.
* A call between actors of one node goes over the socket of the called one (:mod:`actors.runtime.local_calls`); where
  there is none, and for all that creates, finds and ends actors, Ray is the way.
* Ray's processes listen on this machine's loopback unless the configuration names another cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import glob
import inspect
import logging
import math
import os
import pickle
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import ray
from loguru import logger
from ray.exceptions import (
    ActorAlreadyExistsError,
    ActorDiedError,
    GetTimeoutError,
    RayError,
    RaySystemError,
    RayTaskError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.names import account_of, cell_account
from actors.runtime.local_calls import Connection, NotReached, connect, serve, socket_path
from actors.runtime.ports import (
    EVICTED_WITHIN_S,
    ActorUnavailable,
    Answer,
    CallTimeout,
    answer_of,
    logged,
    outcome,
)
from actors.runtime.together import TOGETHER, Together
from brokers.frozen import dataclass
from brokers.versions import program_version

if TYPE_CHECKING:
    # Whoever uses these imports them: the supervisor and the command line. Each actor imports this module.
    import psutil

    from actors.runtime.deployment import Carried, Deployment
    from actors.runtime.nodes import Node, Nodes, Place
    from actors.runtime.ray_environment import Address

NAME_FREE_WITHIN_S = 10.0
NODES_WITHIN_S = 5.0
NEAR_WITHIN_S = 20.0
"""How long the start of an actor that should run beside another waits for the node of that one; then any node of its
place will do."""
ENDS_WITHIN_S = 2.0
PROBES = frozenset({"health"})
"""The methods by which the supervisor finds out that an actor is well. They go through Ray where that has not answered
for it within ``RAY_ANSWERS_EVERY_S``: an actor that Ray is about to end answers no more calls of Ray, and still those
at its socket, while another call is open (findings/ray_exit_actor_waits_for_every_call.sh)."""
RAY_ANSWERS_EVERY_S = 10.0
SOCKET_AGAIN_S = 2.0
"""An actor without a socket may be about to open it: it does so when it is first called."""
NEVER_REPEATED = frozenset({"cancel_order", "change"})
"""All other calls between actors may be carried out twice: appends name their version, the rest only reads."""

_FORM_OF_CALLS = "1"
"""Of the messages on the sockets: a later version with another form has other sockets, and does not meet this one."""
_HEAD = "node:__internal_head__"
"""A resource that Ray gives the head of a cluster alone."""
_MANY = 1_000
_LEAST_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an actor is reached through the cluster: by its own handle, or by that of the ``cell`` which carries it."""

    handle: Any
    cell: str | None = None

    def send(self, actor: str, method: str, args: tuple[object, ...]) -> Any:
        """The reference of the answer: in a cell, that of a list with one :data:`~actors.runtime.ports.Answer`."""
        if self.cell is not None:
            return self.deliver([(actor, method, args)])
        _check_connected()
        if self._is_by_many(method):
            return self.handle.many.remote(method, [args])
        return getattr(self.handle, method).remote(*args)

    def _is_by_many(self, method: str) -> bool:
        """Whether the handle lacks the method: its actor was made by an earlier version, and Ray has since started it
        again with a later one."""
        return not hasattr(self.handle, method)

    def send_many(self, actor: str, method: str, calls: Sequence[tuple[object, ...]]) -> Any:
        """The reference of a list with the answer of each."""
        if self.cell is not None:
            return self.deliver([(actor, method, args) for args in calls])
        _check_connected()
        return self.handle.many.remote(method, calls)

    def deliver(self, calls: Sequence[tuple[str, str, tuple[object, ...]]]) -> Any:
        """The reference of a list with the answer of each of these calls of actors in the cell."""
        _check_connected()
        return self.handle.deliver.remote(calls)

    def read(self, method: str, answer: Any) -> Any:
        """What the call gave. Raises what the method raised."""
        return outcome(answer[0]) if self.cell is not None or self._is_by_many(method) else answer


@dataclass(frozen=True, slots=True)
class _Socket:
    """Where an actor of this node is reached: over its own socket, or over that of the ``cell`` which carries it. As
    :class:`_Place`, with an answer to be awaited for each reference."""

    connection: Connection
    cell: str | None = None

    def send(self, actor: str, method: str, args: tuple[object, ...]) -> Any:
        if self.cell is not None:
            return self.deliver([(actor, method, args)])
        return self._called(method, args)

    def send_many(self, actor: str, method: str, calls: Sequence[tuple[object, ...]]) -> Any:
        if self.cell is not None:
            return self.deliver([(actor, method, args) for args in calls])
        return self._called("many", (method, calls))

    def deliver(self, calls: Sequence[tuple[str, str, tuple[object, ...]]]) -> Any:
        return self._called("deliver", (calls,))

    async def _called(self, method: str, args: tuple[object, ...]) -> Any:
        try:
            return await self.connection.call(method, args)
        except (RayError, _Late) as error:  # the method's own, and so Ray raises it
            raise RayTaskError(method, str(error), error) from None  # type: ignore[no-untyped-call]  # Ray's

    def read(self, method: str, answer: Any) -> Any:
        del method
        return answer if self.cell is None else outcome(answer[0])


_Send = Callable[["_Place | _Socket"], Awaitable[Any]]


def _check_connected() -> None:
    """Raise ``RaySystemError`` where this process has left its cluster, or was never in one: Ray would start a new
    cluster for the call. A look-up can still run then, since Ray lets it wait for longer than its caller does."""
    if not ray.is_initialized():
        raise RaySystemError("this process is not connected to a Ray cluster")  # type: ignore[no-untyped-call]  # Ray's


_CARRIED_HERE: dict[tuple[str, str], _Place] = {}
"""Namespace and name of the actors that a cluster of this process put into a cell: others must search for them."""


class RayRuntime:
    """The runtime of an actor in a cluster. Made in one process, used in another: it holds only names."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._places: dict[str, _Place] = {}
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

        async def send(place: _Place | _Socket) -> list[Answer]:
            answers: list[Answer] = list(await place.send_many(actor, method, calls))
            for well, value in answers:
                if not well and isinstance(value, ActorUnavailable) and value.actor == actor:
                    raise value  # it has left its cell
            return answers

        return cast("list[Answer]", await self._reach(actor, method, timeout_s, send))

    async def _reach(self, actor: str, method: str, timeout_s: float, send: _Send) -> Any:
        """Send something to where the actor is. Where a known place no longer answers, the actor is searched again,
        once."""
        known = actor in self._places or actor in self._connections
        try:
            return await self._once(actor, method, timeout_s, send)
        except ActorUnavailable:
            if not known or method in NEVER_REPEATED:
                raise
            return await self._once(actor, method, timeout_s, send)

    async def _once(self, actor: str, method: str, timeout_s: float, send: _Send) -> Any:
        with _translated(actor, method, f"no answer within {timeout_s:.3g} s", self._places):
            place = await self._place(actor, method, timeout_s)
            async with _within(timeout_s):
                answer = await send(place)
            if method in PROBES and isinstance(place, _Place):
                self._ray_answered_s[place.cell or actor] = self.monotonic_s()
            return answer

    async def _send(
        self, place: _Place | _Socket, actor: str, method: str, args: tuple[object, ...], timeout_s: float
    ) -> Any:
        if place.cell is not None and method in TOGETHER:
            return await self._together.call((place, method), (actor, *args), timeout_s)
        return place.read(method, await place.send(actor, method, args))

    async def _deliver(
        self, key: tuple[Any, str], calls: Sequence[tuple[object, ...]], timeout_s: float
    ) -> list[Answer]:
        place, method = key
        async with _within(timeout_s):
            return list(await place.deliver([(name, method, tuple(args)) for name, *args in calls]))

    async def _place(self, actor: str, method: str, timeout_s: float) -> _Place | _Socket:
        """Where the actor is reached. Raises :class:`_NoSuchActor`."""
        place = self._places.get(actor)
        cell = None if place is None else place.cell
        process = cell or actor
        if method not in PROBES or self._ray_has_answered(process):
            connection = await self._connection(process)
            if connection is not None:
                return _Socket(connection, cell)
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
        path = _socket_of(self._namespace, process)
        connection = await connect(path) if path is not None else None
        if connection is not None:
            self._connections[process] = connection
        return connection

    async def _find(self, actor: str, timeout_s: float) -> _Place:
        carried = _CARRIED_HERE.get((self._namespace, actor))
        if carried is not None:
            self._places[actor] = carried
            return carried
        try:
            place = self._places[actor] = _Place(_handle(actor, self._namespace))
        except _NoSuchActor:
            if "/" not in actor:
                raise
        else:
            return place
        for cell, handle in await asyncio.to_thread(_cells_of, account_of(actor), self._namespace):
            async with _within(timeout_s):
                self._learn(cell, handle, await handle.hosted.remote())
        if actor not in self._places:
            raise _NoSuchActor(actor)
        return self._places[actor]

    def _learn(self, cell: str, handle: Any, hosted: Sequence[str]) -> None:
        place = _Place(handle, cell)
        for name in hosted:
            self._places[name] = place


class RayCluster:
    """Creates, finds and ends actors of one namespace. Blocking Ray calls run in threads."""

    def __init__(self, namespace: str) -> None:
        from actors.runtime.cell import Seats

        self._namespace = namespace
        self._made: dict[str, Any] = {}
        self._seats = Seats()
        self._cells: dict[str, Any] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._ends: dict[str, asyncio.Future[None]] = {}
        self._asked: asyncio.Future[Nodes] | None = None
        self._on_node: dict[str, tuple[Any, str]] = {}  # with the handle that reported it
        self._processes: dict[str, int] = {}  # those on this machine
        self._being_made: dict[str, asyncio.Event] = {}  # whom there is no handle of yet
        self._draining: frozenset[str] = frozenset()
        self._foreign: set[str] = set()  # the cells of a former supervisor that run another version

    def __reduce__(self) -> tuple[type[RayCluster], tuple[str]]:
        return RayCluster, (self._namespace,)

    @property
    def at_once(self) -> int:
        """Three for two cores of this machine: one waits while the others import. Of eight each took a tenth more
        processor time."""
        return max(_LEAST_AT_ONCE, 3 * (os.cpu_count() or 1) // 2)

    async def create(self, deployment: Deployment, timeout_s: float, may_begin: asyncio.Event | None = None) -> None:
        """Make sure that nothing lives under the name, create the actor, begin its work (once it may), and wait for
        the first answer. Raises what its constructor or its first method raised, :class:`ActorUnavailable` or
        :class:`CallTimeout`."""
        name = deployment.name
        if deployment.carried is not None:
            await self._host(deployment, deployment.carried, timeout_s, may_begin)
            return
        with _translated(name, "start", f"not up within {timeout_s:g} s", besides=ValueError):
            with self._making(name):  # at once: an actor that should run beside it may be created at the same moment
                if self._seats.cell_of(name) is not None:
                    await self._evict(name)
                node = await self._near(deployment.near) or await self._last_node(name)
                handle = await asyncio.to_thread(self._create, deployment, node)
                self._made[name] = handle
            if may_begin is not None:
                await may_begin.wait()
            async with _within(timeout_s):
                if deployment.begin is not None:
                    await getattr(handle, deployment.begin).remote(*deployment.begin_with)
                else:
                    await handle.__ray_ready__.remote()

    async def kill(self, name: str) -> None:
        """End the actor of that name at once, if there is one, and wait until its name is free."""
        if self._seats.cell_of(name) is not None:
            await self._evict(name)
        else:
            await asyncio.to_thread(self._kill, name)

    async def living(self) -> tuple[str, ...]:
        """The names of every living actor of the namespace; of a cell, those it carries."""
        names: list[str] = []
        for name in await asyncio.to_thread(_named, self._namespace):
            if cell_account(name) is None:
                names.append(name)
            else:
                names += await self._found_cell(name)
        return tuple(names)

    # The machines

    async def nodes(self) -> Nodes:
        """As the GCS has them. It asks each raylet, and gives one up after some failures: after 15 s by its own
        settings one that refuses, after 65 s one that is silent. It keeps those it has given up."""
        if self._asked is None or self._asked.done():  # one question at a time: each takes a thread
            self._asked = asyncio.ensure_future(asyncio.to_thread(machines))
        try:
            found = await asyncio.wait_for(asyncio.shield(self._asked), NODES_WITHIN_S)
        except Exception as error:  # noqa: BLE001 - Ray raises bare ones where its GCS is away
            raise ActorUnavailable("the cluster", "nodes", _short(error)) from None
        self._draining = frozenset(node.name for node in found.living if node.draining)
        return found

    async def drain(self, node: str) -> None:
        """As Ray's own autoscaler does before it takes a machine away: the raylet starts nothing more, and ends when
        the last actor has left."""
        try:
            accepted, why = await asyncio.wait_for(asyncio.to_thread(_drain, node), NODES_WITHIN_S)
        except Exception as error:  # noqa: BLE001 - as above
            raise ActorUnavailable("the cluster", "drain", _short(error)) from None
        if not accepted:
            raise ActorUnavailable("the cluster", "drain", why or "Ray refuses it")

    async def renew(self, name: str) -> None:
        """Ray starts it in another process, which imports the code that is installed by then."""
        try:
            handle = await asyncio.to_thread(ray.get_actor, name, self._namespace)
            await asyncio.to_thread(ray.kill, handle, no_restart=False)
        except (RayError, ValueError) as error:
            raise ActorUnavailable(name, "renew", _short(error)) from None

    def _going(self) -> set[str]:
        """The cells on nodes that are being drained, and those of another version."""
        return {name for name, (_, node) in self._on_node.items() if node in self._draining} | self._foreign

    async def node_of(self, name: str) -> str | None:
        """What the actor, or the cell that carries it, says itself."""
        return await self._reported_node(name, NODES_WITHIN_S)

    async def _near(self, name: str | None) -> str | None:
        if name is None:
            return None
        try:
            if len((await self.nodes()).living) < 2:
                return None  # there is no choice, and no process to wait for: all actors start at once
            if name in self._being_made:
                await self._being_made[name].wait()
            return await self._reported_node(name, NEAR_WITHIN_S)
        except ActorUnavailable as error:
            logger.debug("{}: any node will do: {}", name, error)
            return None

    async def _last_node(self, name: str) -> str | None:
        """Where the last actor of that name ran, if something can start there: an account is replaced where its
        instruments are."""
        _, node = self._on_node.get(name, (None, None))
        if node is None:
            return None
        try:
            living = (await self.nodes()).living
        except ActorUnavailable as error:
            logger.debug("{}: any node will do: {}", name, error)
            return None
        return node if any(one.name == node and not one.draining for one in living) else None

    @contextlib.contextmanager
    def _making(self, name: str) -> Iterator[None]:
        made = self._being_made[name] = asyncio.Event()
        try:
            yield
        finally:
            made.set()
            if self._being_made.get(name) is made:
                del self._being_made[name]

    async def _reported_node(self, name: str, within_s: float) -> str | None:
        cell = self._seats.cell_of(name)
        handle: Any = self._made.get(name) if cell is None else self._cells.get(cell)
        known, node = self._on_node.get(cell or name, (None, ""))
        if known is not None and known is handle:
            return node
        try:
            async with _within(within_s):
                if handle is None:
                    handle = await asyncio.to_thread(ray.get_actor, cell or name, self._namespace)
                node = str(await handle.on_node.remote())
        except (RayError, ValueError, _Late) as error:
            raise ActorUnavailable(name, "on_node", _short(error)) from None
        self._on_node[cell or name] = handle, node
        return node

    # Those that share a process

    async def _host(
        self, deployment: Deployment, carried: Carried, timeout_s: float, may_begin: asyncio.Event | None
    ) -> None:
        name = deployment.name
        if name in self._made:  # it had a process of its own until now
            await asyncio.to_thread(self._kill, name)
        seat = self._seats.cell_of(name)
        cell = self._seats.take(name, carried.group, carried.size, deployment.place, self._going())
        if seat not in (None, cell):
            await self._leave(str(seat), name)
        made = (name, deployment.actor, deployment.args, deployment.begin, deployment.begin_with, timeout_s)
        late = f"not up within {timeout_s:g} s in {cell}"
        with _translated(name, "start", late, besides=ValueError, where=f"{cell}: "):
            await self._open(cell, timeout_s, deployment)
            if may_begin is not None:
                await may_begin.wait()
            async with _within(timeout_s):
                try:
                    handle = await self._seat(cell, made, timeout_s, deployment)
                except RayTaskError:
                    raise
                except RayError:  # the cell has ended with all it carried, and another takes its place
                    handle = await self._seat(cell, made, timeout_s, deployment)
            _CARRIED_HERE[self._namespace, name] = _Place(handle, cell)

    async def _seat(self, cell: str, made: tuple[object, ...], timeout_s: float, carried: Deployment) -> Any:
        handle = await self._open(cell, timeout_s, carried)
        try:
            await handle.host.remote(*made)
        except RayTaskError:
            raise
        except RayError:
            self._cells.pop(cell, None)
            raise
        return handle

    async def _open(self, cell: str, timeout_s: float, carried: Deployment) -> Any:
        """The handle of a cell, which is created if there is none, replacing one that has died."""
        from actors.runtime.cell import Cell
        from actors.runtime.deployment import Deployment

        async with self._opening.setdefault(cell, asyncio.Lock()):
            if cell not in self._cells:
                place = carried.place
                made = Deployment(cell, Cell, (cell, RayRuntime(self._namespace), place), begin=None, place=place)
                node = await self._near(carried.near)
                handle = await asyncio.to_thread(self._create, made, node)
                async with _within(timeout_s):
                    await handle.__ray_ready__.remote()
                self._cells[cell] = handle
            return self._cells[cell]

    async def _evict(self, name: str) -> None:
        cell = self._seats.cell_of(name)
        self._seats.leave(name)
        _CARRIED_HERE.pop((self._namespace, name), None)
        if cell is not None:
            await self._leave(cell, name)

    async def _leave(self, cell: str, name: str) -> None:
        """End a carried actor; also the cell, if it carries no more actors or does not answer."""
        handle = self._cells.get(cell)
        try:
            if handle is not None:
                async with _within(EVICTED_WITHIN_S):
                    await handle.evict.remote(name)
        except TimeoutError:
            logger.error("{}: does not answer, and is ended with all it carries", cell)
            await self._end(cell)
        except RayError:
            self._cells.pop(cell, None)  # it has ended by itself
        else:
            if cell not in self._seats.cells:
                await self._end(cell)

    async def _end(self, cell: str) -> None:
        self._cells.pop(cell, None)
        self._foreign.discard(cell)
        await asyncio.to_thread(self._kill, cell)

    async def _found_cell(self, cell: str) -> tuple[str, ...]:
        """The actors that a cell of a former supervisor carries."""
        try:
            handle = await asyncio.to_thread(_handle, cell, self._namespace)
            async with _within(EVICTED_WITHIN_S):
                carried = tuple(await handle.hosted.remote())
                place: Place = await handle.place.remote()
                program = await handle.program.remote() if hasattr(handle, "program") else None
        except (RayError, _NoSuchActor, TimeoutError) as error:
            logger.error("{}: does not report the actors it carries ({}), and is ended", cell, _short(error))
            await self._end(cell)
            return ()
        self._cells[cell] = handle
        if program is None or program.version != program_version():
            self._foreign.add(cell)
        self._seats.found(cell, carried, place)
        for name in carried:
            _CARRIED_HERE[self._namespace, name] = _Place(handle, cell)
        return carried

    async def ended(self, name: str) -> None:
        """Wait for a call that only the end of its process answers, or the same call of a later supervisor. The actors
        of one cell share one call."""
        cell = self._seats.cell_of(name)
        if cell is not None:
            end = self._ends.get(cell)
            if end is None or end.done():
                end = self._ends[cell] = asyncio.ensure_future(self._process_ended(cell, self._cells.get(cell)))
            await asyncio.shield(end)
        else:
            await self._process_ended(name, self._made.get(name))

    async def _process_ended(self, name: str, handle: Any) -> None:
        try:
            if handle is None:
                handle = await asyncio.to_thread(ray.get_actor, name, self._namespace)
            with contextlib.suppress(AttributeError):  # of a version that cannot be asked so
                node, pid = await handle.on_process.remote()
                if node == ray.get_runtime_context().get_node_id():
                    self._processes[name] = pid
            await handle.until_the_end.remote()
        except (RayError, ValueError):
            return
        except AttributeError:  # of a version that cannot be asked so
            await asyncio.Event().wait()

    def _create(self, deployment: Deployment, node: str | None = None) -> Any:
        if deployment.name in self._made:
            self._kill(deployment.name)
        try:
            return create(deployment, self._namespace, node)
        except ActorAlreadyExistsError:  # of an incarnation of ours before this one
            self._kill(deployment.name)
            return create(deployment, self._namespace, node)

    def _kill(self, name: str) -> None:
        process = _worker(self._processes.pop(name, None))
        _end_stopped(process)
        handle = self._made.pop(name, None)
        if handle is not None:
            ray.kill(handle, no_restart=True)
        kill(name, self._namespace)
        _wait_for(process)


@functools.cache
def _remote(actor: type) -> Any:
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

    path = _socket_of(namespace, name)
    return None if path is None else await serve(path, ask)


def _socket_of(namespace: str, process: str) -> str | None:
    """Where an actor or cell on this node of the cluster has its socket, if it has one. Several nodes on one machine,
    as tests have them, are as far from each other as any."""
    node: Any = ray._private.worker.global_worker.node  # noqa: SLF001 - Ray says it nowhere else
    if node is None or not ray.is_initialized():
        return None
    here = str(ray.get_runtime_context().get_node_id())
    return socket_path(str(node.get_sockets_dir_path()), _FORM_OF_CALLS, namespace, here, process)


def _packed(args: tuple[object, ...]) -> bytes:
    return zlib.compress(pickle.dumps(args))


def _unpacked(args: bytes) -> tuple[object, ...]:
    found: tuple[object, ...] = pickle.loads(zlib.decompress(args))  # noqa: S301 - packed by create, of this cluster
    return found


def machines() -> Nodes:
    """The machines of the cluster that this process is connected to."""
    from actors.runtime.nodes import Nodes

    rows: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's
    draining = _draining_nodes()
    found = [(bool(row["Alive"]), _node(row, draining)) for row in rows]
    return Nodes(tuple(one for alive, one in found if alive), tuple(one for alive, one in found if not alive))


def _node(row: dict[str, Any], draining: Collection[str]) -> Node:
    from actors.runtime.nodes import Node, place_of

    labels = {str(label): str(value) for label, value in (row.get("Labels") or {}).items()}
    name = str(row["NodeID"])
    going = bool(row["Alive"]) and name in draining
    head = _HEAD in (row.get("Resources") or {})
    return Node(name, place_of(labels), str(row.get("NodeManagerAddress") or ""), going, head)


def _draining_nodes() -> Collection[str]:
    gcs = _gcs()
    if hasattr(gcs, "get_draining_nodes"):
        return frozenset(gcs.get_draining_nodes())
    from ray.core.generated import autoscaler_pb2  # of Ray 2.59, which reports it nowhere else

    messages: Any = autoscaler_pb2  # made at run time
    state = messages.GetClusterResourceStateReply.FromString(gcs.get_cluster_resource_state()).cluster_resource_state
    draining = messages.NodeStatus.Value("DRAINING")
    return frozenset(node.node_id.hex() for node in state.node_states if node.status == draining)


def _gcs() -> Any:
    worker: Any = ray._private.worker.global_worker  # noqa: SLF001 - Ray reports draining nodes nowhere else
    return worker.gcs_client


def _drain(node: str) -> tuple[bool, str]:
    from ray.core.generated import autoscaler_pb2

    reasons: Any = autoscaler_pb2  # made at run time
    # The other reason there is, that the node is idle, is refused while an actor is on it.
    reason = reasons.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, why = _gcs().drain_node(node, reason, "drained by an operator of the supervisor", 0)
    return bool(accepted), str(why)


def placement(place: Place, node: str | None) -> dict[str, Any]:
    """The options that put an actor into a place, and there on that node if it can be. ``label_selector`` and
    ``fallback_strategy`` are in every Ray that we take."""
    labels = dict(place)
    if not labels:
        return {} if node is None else {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True)}
    if node is None:
        return {"label_selector": labels}
    from actors.runtime.nodes import OF_ONE_NODE

    return {
        "label_selector": {**labels, OF_ONE_NODE: node},
        "fallback_strategy": [{"label_selector": labels}],
    }


def create(deployment: Deployment, namespace: str, node: str | None = None) -> Any:
    """Create a detached actor of that name; returns its handle. It may not be up yet. It goes on that ``node`` if it
    can, and in any case into its place.

    Arguments above 100 kB go to Ray's object store, whose owner is this process: when it has ended, Ray cannot bring an
    immortal actor back. Those of an immortal one are packed, which serves for some ten thousand instruments.
    """
    args = _packed(deployment.args) if deployment.immortal else deployment.args
    return (
        _remote(deployment.actor)
        .options(
            name=deployment.name,
            namespace=namespace,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1 if deployment.immortal else 0,
            max_task_retries=0,
            max_concurrency=_MANY,
            **placement(deployment.place, node),
        )
        .remote(deployment.actor, args, (namespace, deployment.name))
    )


def _worker(pid: int | None) -> psutil.Process | None:
    """One of Ray's workers on this machine; ``None`` where it has ended."""
    import psutil  # actors, which import this module, need it never

    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid) if pid is not None else None
        if process is not None and any(word.startswith("ray::") for word in process.cmdline()[:1]):
            return process
    return None


def _end_stopped(process: psutil.Process | None) -> None:
    """End a process if it is stopped (SIGSTOP, a debugger). Ray asks one to end, and waits some five seconds for one
    that cannot react."""
    import psutil  # as above

    with contextlib.suppress(psutil.Error, OSError):
        if process is not None and process.status() == psutil.STATUS_STOPPED:
            process.kill()


def _wait_for(process: psutil.Process | None) -> None:
    """Wait until a process that is being ended has: Ray frees its name a moment before, and it still answers at its
    socket."""
    import psutil  # as above

    with contextlib.suppress(psutil.Error, OSError):
        if process is not None:
            process.wait(ENDS_WITHIN_S)


def kill(name: str, namespace: str) -> None:
    """End whatever lives under a name, and wait until the name is free. Raises ``ConnectionError`` where this process
    is connected to no cluster."""
    if not ray.is_initialized():
        raise ConnectionError(f"{name} was not ended: this process is not connected to a Ray cluster")
    deadline_s = time.monotonic() + NAME_FREE_WITHIN_S
    while time.monotonic() < deadline_s:
        try:
            living = ray.get_actor(name, namespace=namespace)
        except ValueError:
            return
        ray.kill(living, no_restart=True)
        time.sleep(0.02)  # the name is freed when the cluster has noticed the death; there is no event for it


def is_gone(actor: str, namespace: str, timeout_s: float) -> bool:
    """Whether the cluster says that nobody of this name lives or is being brought back. False where it does not say."""
    try:
        _looked_up(actor, namespace, timeout_s)
    except _NoSuchActor:
        return True
    except Exception as error:  # noqa: BLE001 - whatever Ray says of a cluster that is not well
        logger.debug("{}: {}", actor, _short(error))
    return False


class Client:
    """Calls actors of a cluster from a program that is none: the command line, a notebook."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._places: dict[str, _Place] = {}

    def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        """As :meth:`RayRuntime.call`, and blocking."""
        known = actor in self._places
        try:
            return self._call(actor, method, args, timeout_s)
        except ActorUnavailable:
            if not known or method in NEVER_REPEATED:
                raise
            return self._call(actor, method, args, timeout_s)

    def _call(self, actor: str, method: str, args: tuple[object, ...], timeout_s: float) -> Any:
        with _translated(actor, method, f"no answer within {timeout_s:.3g} s", self._places):
            place = self._places.get(actor)
            if place is None:
                place = self._places[actor] = _looked_up(actor, self._namespace, timeout_s)
            return place.read(method, ray.get(place.send(actor, method, args), timeout=timeout_s))


class AwaitingClient(RayRuntime):
    """As :class:`Client`, to be awaited in a program's own event loop."""

    async def _connection(self, process: str) -> Connection | None:
        """None: a program may end its event loop, which ends the connection, and go on in another."""
        del process
        return None

    async def _find(self, actor: str, timeout_s: float) -> _Place:
        place = self._places[actor] = await asyncio.to_thread(_looked_up, actor, self._namespace, timeout_s)
        return place


class _NoSuchActor(Exception):
    """Nobody of that name lives, alone or in a cell."""

    def __str__(self) -> str:
        return "its process has ended"


def _handle(actor: str, namespace: str) -> Any:
    """The handle of a name. Raises :class:`_NoSuchActor`, and ``RayError`` where there is no cluster to ask."""
    _check_connected()
    try:
        return ray.get_actor(actor, namespace=namespace)
    except ValueError:
        raise _NoSuchActor(actor) from None


def _named(namespace: str) -> list[str]:
    _check_connected()
    return [row["name"] for row in ray.util.list_named_actors(True) if row["namespace"] == namespace]


def _cells_of(account: str, namespace: str) -> list[tuple[str, Any]]:
    """The names and handles of the cells that carry instruments of an account."""
    found = []
    for name in _named(namespace):
        if cell_account(name) == account:
            with contextlib.suppress(_NoSuchActor):
                found.append((name, _handle(name, namespace)))
    return found


def _looked_up(actor: str, namespace: str, timeout_s: float) -> _Place:
    """The place of an actor. Ray blocks a minute for a cluster that has gone, so this asks in a thread of its own.
    Raises ``GetTimeoutError``, and :class:`_NoSuchActor`."""
    answer: Future[_Place] = Future()

    def find() -> _Place:
        try:
            return _Place(_handle(actor, namespace))
        except _NoSuchActor:
            for cell, handle in _cells_of(account_of(actor), namespace) if "/" in actor else ():
                _check_connected()
                if actor in ray.get(handle.hosted.remote(), timeout=timeout_s):
                    return _Place(handle, cell)
            raise

    def look_up() -> None:
        try:
            answer.set_result(find())
        except Exception as error:  # noqa: BLE001 - the waiting caller gets it
            answer.set_exception(error)

    threading.Thread(target=look_up, name=f"look up {actor}", daemon=True).start()
    wait_for_futures([answer], timeout_s)
    if not answer.done():
        raise GetTimeoutError(f"the cluster did not find {actor} in time")
    return answer.result()


def start_or_join(address: str, namespace: str, *, dashboard: bool = True, cpus: int | None = None) -> Address:
    """A cluster of our own on this machine's loopback (``local``), or the one at an address (``auto``, host:port).

    :func:`actors.runtime.ray_environment.prepare` must have been called before this module was imported. A cluster of
    our own ends with this process; one that does not come up raises
    :class:`~actors.runtime.ray_environment.ClusterNotUp`. Joining one whose address does not answer raises
    ``ConnectionError``.
    """
    from actors.runtime.ray_environment import LOOPBACK, Address, ClusterNotUp

    if address == "local":
        try:
            ray.init(
                address="local",
                _temp_dir=_own_folder(),
                namespace=namespace,
                include_dashboard=dashboard,
                log_to_driver=False,
                logging_level=logging.WARNING,
                num_cpus=cpus,
                _node_ip_address=LOOPBACK,
            )
        except Exception as error:  # Ray raises bare ones for whatever its processes did not do in time
            raise ClusterNotUp(str(error)) from error
        protect_token()
    else:
        ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level=logging.WARNING)
    return Address(ray.get_runtime_context().gcs_address, os.environ.get("RAY_AUTH_MODE"))


def _own_folder() -> str:
    """The folder for the sockets and logs of a cluster of our own. Ray lets every user of the machine read and write
    its folder, and each of its processes restores that: so it is inside a folder of ours that admits nobody else.
    Folders of earlier starts are removed, except for the last few and those whose process lives. Raises ``OSError``."""
    from actors.runtime.cluster_probe import lives

    base = os.environ.get("RAY_TMPDIR") or "/tmp"  # noqa: S108 - Ray's own default; a socket's path has at most 108 bytes
    closed = os.path.join(base, f"supervisor-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(closed, 0o700)
    found = os.lstat(closed)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        closed = tempfile.mkdtemp(prefix="supervisor-", dir=base)  # another user has taken the name
    os.chmod(closed, 0o700)
    folder = os.path.join(closed, "ray")
    for old in sorted(glob.glob(os.path.join(glob.escape(folder), "session_2*")))[:-SESSIONS_KEPT]:
        pid = old.rpartition("_")[2]
        if pid.isdigit() and not lives(int(pid)):
            shutil.rmtree(old, ignore_errors=True)
    return folder


SESSIONS_KEPT = 5
"""How many starts' logs are kept."""


def join(address: Address, namespace: str) -> Client:
    """Reach a running cluster from another process. Raises ``ConnectionError`` when it does not answer."""
    if not ray.is_initialized():
        ray.init(address=address.gcs, namespace=namespace, log_to_driver=False, logging_level=logging.ERROR)
    return Client(namespace)


def connected_to() -> str | None:
    """host:port of the cluster that this process is connected to, whoever connected it; ``None`` when there is none."""
    return str(ray.get_runtime_context().gcs_address) if ray.is_initialized() else None


_ASKED_BY_ANYBODY = """
import os, sys
os.environ["RAY_AUTH_MODE"] = "disabled"
from ray._raylet import GcsClient
print(GcsClient(address=sys.argv[1]).internal_kv_exists(b"session", b"session", timeout=5))
"""
_PROBE_WITHIN_S = 20.0


def lets_everybody_in(gcs: str) -> bool:
    """Whether the cluster at host:port answers without a token: then everybody who reaches it can run code in it.
    Checked in a process of its own, since Ray reads its settings once."""
    try:
        asked = subprocess.run(  # noqa: S603 - our own words, and an address that was reached already
            [sys.executable, "-c", _ASKED_BY_ANYBODY, gcs], capture_output=True, timeout=_PROBE_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False  # it answers nobody without a token
    return asked.returncode == 0


def leave() -> None:
    """Disconnect; a cluster of our own ends."""
    ray.shutdown()


def dashboard_url() -> str | None:
    """The address of this cluster's Ray dashboard, if it has one."""
    node: Any = ray._private.worker.global_worker.node  # noqa: SLF001 - Ray says it nowhere else
    return f"http://{node.webui_url}" if node is not None and node.webui_url else None


def logs_folder() -> str | None:
    """The folder of this cluster's logs on this machine."""
    node: Any = ray._private.worker.global_worker.node  # noqa: SLF001 - Ray says it nowhere else
    return str(node.get_logs_dir_path()) if node is not None else None


def protect_token() -> None:
    """Ray writes its token readable by everybody on the machine; with it anyone can run code in the cluster."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token")
    if os.path.exists(path):
        os.chmod(path, 0o600)


class _Late(TimeoutError):
    """Our time-out for a call is over; never a method's own ``TimeoutError``."""


@contextlib.asynccontextmanager
async def _within(timeout_s: float) -> AsyncIterator[None]:
    """Bounds what is awaited in it. Raises :class:`_Late`."""
    try:
        async with asyncio.timeout(timeout_s) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise _Late from None


@contextlib.contextmanager
def _translated(
    actor: str,
    method: str,
    late: str,
    places: dict[str, _Place] | None = None,
    *,
    besides: type[Exception] | tuple[type[Exception], ...] = (),
    where: str = "",
) -> Iterator[None]:
    """Translates Ray's exceptions of a call into ours: see the laws of this module. ``late`` is the message of a
    time-out; ``where`` begins the message about an actor that was not reached, whose place is forgotten. ``besides``
    are further exceptions that mean this."""
    try:
        yield
    except RayTaskError as error:
        # First: a method's exception also has its own type, and its ValueError does not come from Ray.
        raise _cause(error) from None
    except (GetTimeoutError, _Late):
        # No other TimeoutError: one that a signal raised here is the program's own, such as the limit of a cell.
        raise CallTimeout(actor, method, late) from None
    except ActorUnavailable:
        _forget(actor, places)  # it has left its cell
        raise
    except (RayError, _NoSuchActor, NotReached) as error:
        _forget(actor, places)
        raise ActorUnavailable(actor, method, where + _short(error)) from None
    except besides as error:
        raise ActorUnavailable(actor, method, where + _short(error)) from None


def _forget(actor: str, places: dict[str, _Place] | None) -> None:
    if places is not None:
        places.pop(actor, None)


def _cause(error: RayTaskError) -> BaseException:
    """What the method raised, in its own type."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else RuntimeError(_short(error))


def _short(error: BaseException) -> str:
    if isinstance(error, ActorDiedError):
        return "its process has ended"
    if isinstance(error, ValueError) and "look up actor" in str(error):
        return "its process has ended"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
