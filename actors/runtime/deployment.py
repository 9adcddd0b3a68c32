"""The port through which the supervisor creates, finds and ends actors.

:class:`LocalCluster` puts them into one process beside a :class:`~actors.runtime.ports.LocalRuntime`; that of
:mod:`actors.runtime.ray_backend` makes each a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from actors.names import cell_account
from actors.runtime.cell import Cell, Seats
from actors.runtime.nodes import EVERYWHERE, Node, Nodes, Place
from actors.runtime.ports import EVICTED_WITHIN_S, CallError, CallTimeout, LocalRuntime
from brokers.frozen import dataclass
from brokers.versions import program_version


@dataclass(frozen=True, slots=True)
class Carried:
    """An actor that a cell of this group may carry together with others, at most ``size`` of them."""

    group: str
    size: int


@dataclass(frozen=True, slots=True)
class Deployment:
    """An actor to be created: its class (in one process, any factory), its arguments, and the method that begins its
    work, with that method's arguments (``None``: the constructor begins it). The cluster itself restarts an
    ``immortal`` one. ``carried`` is set where it shares a process with others of its group. It may run only on a node
    of its ``place``, preferably the one where ``near`` runs, else the one where it last ran: those that belong to it
    may still be there."""

    name: str
    actor: Callable[..., Any]
    args: tuple[object, ...]
    begin: str | None = "start"
    begin_with: tuple[object, ...] = ()
    immortal: bool = False
    carried: Carried | None = None
    place: Place = EVERYWHERE
    near: str | None = None


class Cluster(Protocol):
    """Creates, finds and ends actors of one namespace."""

    @property
    def at_once(self) -> int:
        """How many actors it can start in parallel before they only slow each other down."""

    async def create(self, deployment: Deployment, timeout_s: float, may_begin: asyncio.Event | None = None) -> None:
        """Make sure that nothing lives under the name, create the actor, begin its work (once it may), and wait for
        the first answer. Raises what its constructor or its first method raised, or
        :class:`~actors.runtime.ports.CallError`. ``timeout_s`` counts from when it may begin."""

    async def kill(self, name: str) -> None:
        """End the actor of that name at once, if there is one, and wait until its name is free."""

    async def living(self) -> tuple[str, ...]:
        """The names of every living actor of the namespace."""

    async def ended(self, name: str) -> None:
        """Wait until the present actor of that name seems to have ended, which is the time to probe it. Where its end
        cannot be observed, this waits for ever."""

    async def nodes(self) -> Nodes:
        """The cluster's nodes. Raises :class:`~actors.runtime.ports.CallError` where it does not report them."""

    async def node_of(self, name: str) -> str | None:
        """The name of the node on which an actor lives; ``None`` where that is not known."""

    async def drain(self, node: str) -> None:
        """Let nothing more start on a node. What is there goes on; the node ends when nobody is there any more. Raises
        :class:`~actors.runtime.ports.CallError`."""

    async def renew(self, name: str) -> None:
        """End the process of an immortal actor, which the cluster then starts again, with the code that is there now.
        Raises :class:`~actors.runtime.ports.CallError`."""


ONLY_NODE = Node("here")


class LocalCluster:
    """Every actor in this process, on this runtime, as if on one of these nodes: :meth:`add_node` and
    :meth:`lose_node` simulate a cluster of several. An actor that no node can place waits for one, as in Ray."""

    at_once = 8

    def __init__(self, runtime: LocalRuntime, nodes: tuple[Node, ...] = (ONLY_NODE,)) -> None:
        self._runtime = runtime
        self._seats = Seats()
        self._nodes = {node.name: node for node in nodes}
        self._lost: list[Node] = []
        self._node_of: dict[str, str] = {}
        self._last_on: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._foreign: set[str] = set()  # the cells that were found to run another version

    def add_node(self, node: Node) -> None:
        """A machine joins."""
        self._nodes[node.name] = node
        self._changed.set()

    async def lose_node(self, name: str, *, noticed: bool = True) -> None:
        """Lose a node with everything that ran on it. With ``noticed`` false the cluster still considers it alive,
        until :meth:`notice_loss`."""
        for actor in [one for one, node in self._node_of.items() if node == name]:
            del self._node_of[actor]
            self._seats.forget(actor)
            await self._runtime.kill(actor)
        if noticed:
            self.notice_loss(name)

    def notice_loss(self, name: str) -> None:
        """The cluster notices that a node is lost."""
        self._lost.append(self._nodes.pop(name))

    async def drain(self, node: str) -> None:
        """Put nobody more on it. It does not end by itself."""
        self._nodes[node] = replace(self._nodes[node], draining=True)

    async def renew(self, name: str) -> None:
        """End it. Whoever plays the cluster makes it anew."""
        await self._runtime.kill(name)

    async def nodes(self) -> Nodes:
        """The nodes that were given and added, and those that were lost."""
        return Nodes(tuple(self._nodes.values()), tuple(self._lost))

    async def node_of(self, name: str) -> str | None:
        """The node it was put on."""
        return self._node_of.get(self._seats.cell_of(name) or name)

    async def _put(self, name: str, place: Place, near: str | None) -> None:
        while True:
            fit = [node.name for node in self._nodes.values() if node.is_in(place) and not node.draining]
            if fit:
                wanted = self._node_of.get(near) if near is not None else self._last_on.get(name)
                self._node_of[name] = self._last_on[name] = wanted if wanted in fit else fit[0]
                return
            self._changed.clear()
            await self._changed.wait()

    async def create(self, deployment: Deployment, timeout_s: float, may_begin: asyncio.Event | None = None) -> None:
        """Construct and register the actor, and call the method that begins its work."""
        if deployment.carried is not None:
            await self._host(deployment, deployment.carried, timeout_s, may_begin)
            return
        await self.kill(deployment.name)
        await self._put(deployment.name, deployment.place, deployment.near)
        actor: Any = deployment.actor(*deployment.args)
        self._runtime.register(deployment.name, actor)
        if may_begin is not None:
            await may_begin.wait()
        if deployment.begin is None:
            return
        try:
            async with asyncio.timeout(timeout_s) as limit:
                await self._runtime.call(deployment.name, deployment.begin, *deployment.begin_with, timeout_s=timeout_s)
        except TimeoutError:
            if not limit.expired():
                raise  # the method's own
            raise CallTimeout(deployment.name, deployment.begin, f"not up within {timeout_s:g} s") from None

    async def _host(
        self, deployment: Deployment, carried: Carried, timeout_s: float, may_begin: asyncio.Event | None
    ) -> None:
        name = deployment.name
        await self.kill(name)
        cell = self._seats.take(name, carried.group, carried.size, deployment.place, self._going())
        if cell not in self._runtime.names():
            await self._put(cell, deployment.place, deployment.near)
            self._runtime.register(cell, Cell(cell, self._runtime, deployment.place))
        if may_begin is not None:
            await may_begin.wait()
        made = (name, deployment.actor, deployment.args, deployment.begin, deployment.begin_with, timeout_s)
        await self._runtime.call(cell, "host", *made, timeout_s=timeout_s)

    def _going(self) -> set[str]:
        """Who is on a node that is being drained, and the cells of another version."""
        going = {name for name, node in self._node_of.items() if node in self._nodes and self._nodes[node].draining}
        return going | self._foreign

    async def kill(self, name: str) -> None:
        """Cancel all its work and remove it; a cell that carries no more actors ends too."""
        cell = self._seats.cell_of(name)
        if cell is None:
            self._node_of.pop(name, None)
            await self._runtime.kill(name)
            return
        with contextlib.suppress(CallError):
            await self._runtime.call(cell, "evict", name, timeout_s=EVICTED_WITHIN_S)
        self._seats.leave(name)
        if cell not in self._seats.cells:
            self._node_of.pop(cell, None)
            await self._runtime.kill(cell)

    async def living(self) -> tuple[str, ...]:
        """All registered and all carried actors; none of a cell that has ended."""
        names: list[str] = []
        for name in self._runtime.names():
            if cell_account(name) is None:
                names.append(name)
            else:
                carried = await self._runtime.call(name, "hosted", timeout_s=EVICTED_WITHIN_S)
                program = await self._runtime.call(name, "program", timeout_s=EVICTED_WITHIN_S)
                if program.version != program_version():
                    self._foreign.add(name)
                self._seats.found(name, carried, await self._runtime.call(name, "place", timeout_s=EVICTED_WITHIN_S))
                names += carried
        return tuple(names)

    async def ended(self, name: str) -> None:  # noqa: ARG002 - the same for every actor
        """Never returns: in one process an end cannot be observed."""
        await asyncio.Event().wait()
