"""Actors of a Ray cluster: created, placed on its machines, and ended. For the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Collection, Iterator
from typing import Any

import psutil
import ray
from loguru import logger
from ray.exceptions import ActorAlreadyExistsError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.names import cell_account
from actors.runtime.cell import Cell, Seats
from actors.runtime.deployment import Carried, Deployment
from actors.runtime.local_calls import Late
from actors.runtime.nodes import OF_ONE_NODE, Node, Nodes, Place, place_of
from actors.runtime.ports import EVICTED_WITHIN_S, ActorUnavailable
from actors.runtime.ray_backend import RayRuntime, packed, remote_class
from actors.runtime.ray_errors import NoSuchActor, short, translated, within
from actors.runtime.ray_places import CARRIED_HERE, ActorPlace, handle_of, names_in
from brokers.versions import program_version

NAME_FREE_WITHIN_S = 10.0


NODES_WITHIN_S = 5.0


NEAR_WITHIN_S = 20.0
"""How long the start of an actor that should run beside another waits for the node of that one; then any node of its
place will do."""


ENDS_WITHIN_S = 2.0


_HEAD = "node:__internal_head__"
"""A resource that Ray gives the head of a cluster alone."""


_MANY = 1_000


_LEAST_AT_ONCE = 2


class RayCluster:
    """Creates, finds and ends actors of one namespace. Blocking Ray calls run in threads."""

    __module__ = "actors.runtime.ray_backend"  # by which earlier versions read it, where a roll goes back to one

    def __init__(self, namespace: str) -> None:
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
        with translated(name, "start", f"not up within {timeout_s:g} s", besides=ValueError):
            with self._making(name):  # at once: an actor that should run beside it may be created at the same moment
                if self._seats.cell_of(name) is not None:
                    await self._evict(name)
                node = await self._near(deployment.near) or await self._last_node(name)
                handle = await asyncio.to_thread(self._create, deployment, node)
                self._made[name] = handle
            if may_begin is not None:
                await may_begin.wait()
            async with within(timeout_s):
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
        for name in await asyncio.to_thread(names_in, self._namespace):
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
            raise ActorUnavailable("the cluster", "nodes", short(error)) from None
        self._draining = frozenset(node.name for node in found.living if node.draining)
        return found

    async def drain(self, node: str) -> None:
        """As Ray's own autoscaler does before it takes a machine away: the raylet starts nothing more, and ends when
        the last actor has left."""
        try:
            accepted, why = await asyncio.wait_for(asyncio.to_thread(_drain, node), NODES_WITHIN_S)
        except Exception as error:  # noqa: BLE001 - as above
            raise ActorUnavailable("the cluster", "drain", short(error)) from None
        if not accepted:
            raise ActorUnavailable("the cluster", "drain", why or "Ray refuses it")

    async def renew(self, name: str) -> None:
        """Ray starts it in another process, which imports the code that is installed by then."""
        try:
            handle = await asyncio.to_thread(ray.get_actor, name, self._namespace)
            await asyncio.to_thread(ray.kill, handle, no_restart=False)
        except (RayError, ValueError) as error:
            raise ActorUnavailable(name, "renew", short(error)) from None

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
            async with within(within_s):
                if handle is None:
                    handle = await asyncio.to_thread(ray.get_actor, cell or name, self._namespace)
                node = str(await handle.on_node.remote())
        except (RayError, ValueError, Late) as error:
            raise ActorUnavailable(name, "on_node", short(error)) from None
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
        with translated(name, "start", late, besides=ValueError, where=f"{cell}: "):
            await self._open(cell, timeout_s, deployment)
            if may_begin is not None:
                await may_begin.wait()
            async with within(timeout_s):
                try:
                    handle = await self._seat(cell, made, timeout_s, deployment)
                except RayTaskError:
                    raise
                except RayError:  # the cell has ended with all it carried, and another takes its place
                    handle = await self._seat(cell, made, timeout_s, deployment)
            CARRIED_HERE[self._namespace, name] = ActorPlace(handle, cell)

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
        async with self._opening.setdefault(cell, asyncio.Lock()):
            if cell not in self._cells:
                place = carried.place
                made = Deployment(cell, Cell, (cell, RayRuntime(self._namespace), place), begin=None, place=place)
                node = await self._near(carried.near)
                handle = await asyncio.to_thread(self._create, made, node)
                async with within(timeout_s):
                    await handle.__ray_ready__.remote()
                self._cells[cell] = handle
            return self._cells[cell]

    async def _evict(self, name: str) -> None:
        cell = self._seats.cell_of(name)
        self._seats.leave(name)
        CARRIED_HERE.pop((self._namespace, name), None)
        if cell is not None:
            await self._leave(cell, name)

    async def _leave(self, cell: str, name: str) -> None:
        """End a carried actor; also the cell, if it carries no more actors or does not answer."""
        handle = self._cells.get(cell)
        try:
            if handle is not None:
                async with within(EVICTED_WITHIN_S):
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
            handle = await asyncio.to_thread(handle_of, cell, self._namespace)
            async with within(EVICTED_WITHIN_S):
                carried = tuple(await handle.hosted.remote())
                place: Place = await handle.place.remote()
                program = await handle.program.remote() if hasattr(handle, "program") else None
        except (RayError, NoSuchActor, TimeoutError) as error:
            logger.error("{}: does not report the actors it carries ({}), and is ended", cell, short(error))
            await self._end(cell)
            return ()
        self._cells[cell] = handle
        if program is None or program.version != program_version():
            self._foreign.add(cell)
        self._seats.found(cell, carried, place)
        for name in carried:
            CARRIED_HERE[self._namespace, name] = ActorPlace(handle, cell)
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


def create(deployment: Deployment, namespace: str, node: str | None = None) -> Any:
    """Create a detached actor of that name; returns its handle. It may not be up yet. It goes on that ``node`` if it
    can, and in any case into its place.

    Arguments above 100 kB go to Ray's object store, whose owner is this process: when it has ended, Ray cannot bring an
    immortal actor back. Those of an immortal one are packed, which serves for some ten thousand instruments.
    """
    args = packed(deployment.args) if deployment.immortal else deployment.args
    return (
        remote_class(deployment.actor)
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


def placement(place: Place, node: str | None) -> dict[str, Any]:
    """The options that put an actor into a place, and there on that node if it can be. ``label_selector`` and
    ``fallback_strategy`` are in every Ray that we take."""
    labels = dict(place)
    if not labels:
        return {} if node is None else {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True)}
    if node is None:
        return {"label_selector": labels}
    return {
        "label_selector": {**labels, OF_ONE_NODE: node},
        "fallback_strategy": [{"label_selector": labels}],
    }


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


def _worker(pid: int | None) -> psutil.Process | None:
    """One of Ray's workers on this machine; ``None`` where it has ended."""
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid) if pid is not None else None
        if process is not None and any(word.startswith("ray::") for word in process.cmdline()[:1]):
            return process
    return None


def _end_stopped(process: psutil.Process | None) -> None:
    """End a process if it is stopped (SIGSTOP, a debugger). Ray asks one to end, and waits some five seconds for one
    that cannot react."""
    with contextlib.suppress(psutil.Error, OSError):
        if process is not None and process.status() == psutil.STATUS_STOPPED:
            process.kill()


def _wait_for(process: psutil.Process | None) -> None:
    """Wait until a process that is being ended has: Ray frees its name a moment before, and it still answers at its
    socket."""
    with contextlib.suppress(psutil.Error, OSError):
        if process is not None:
            process.wait(ENDS_WITHIN_S)


def machines() -> Nodes:
    """The machines of the cluster that this process is connected to."""
    rows: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's
    draining = _draining_nodes()
    found = [(bool(row["Alive"]), _node(row, draining)) for row in rows]
    return Nodes(tuple(one for alive, one in found if alive), tuple(one for alive, one in found if not alive))


def _node(row: dict[str, Any], draining: Collection[str]) -> Node:
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
