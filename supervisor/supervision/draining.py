"""Taking a machine away in order: who has to leave it, and whether they can.

The laws of this module: nothing is begun that would leave somebody nowhere, unless that is asked for; a machine that
has the journal or the supervisor is never drained; the operator's word is noted before the cluster is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from actors.events import EventType, Json
from actors.journal.outbox import Outbox
from actors.names import SUPERVISOR
from actors.runtime.deployment import Cluster
from actors.runtime.nodes import Node
from actors.runtime.ports import CallError
from supervisor.changes.asking import Who, said_of
from supervisor.changes.requests import ChangeRefused
from supervisor.tree.model import LIVING, Child, ChildKey, ChildSpec, Kind

_ID_SAID = 4
"""So much of a node's id names it."""


@dataclass(frozen=True, slots=True)
class Drained:
    """A machine that is being drained: its id and what it is called, who moves to another, in this order, and who stays
    until it is gone, with the reason."""

    node: str
    words: str
    moves: tuple[str, ...]
    stays: Mapping[str, str]


class Draining:
    """Drains machines. ``nodes`` are those of the cluster by name, ``nowhere`` is why no node but those that are to go
    is in the place of one (``None`` where one is), ``look`` asks the cluster for its machines."""

    def __init__(
        self,
        cluster: Cluster,
        outbox: Outbox,
        children: Mapping[ChildKey, Child],
        *,
        nodes: Callable[[], Mapping[str, Node]],
        nowhere: Callable[[ChildSpec, str], str | None],
    ) -> None:
        self._cluster = cluster
        self._outbox = outbox
        self._children = children
        self._nodes = nodes
        self._nowhere = nowhere

    async def drain(self, wanted: str, by: Who, *, force: bool) -> Drained:
        """Drain the node that is named by its id, the beginning of it, or its address. Raises
        :class:`ChangeRefused`."""
        attempted = f"drain {wanted}"
        node = self._named(wanted, attempted)
        on_it = [
            (key, child)
            for key, child in self._children.items()
            if child.node == node.name and child.spec is not None and isinstance(child.state, LIVING)
        ]
        house = [key.name for key, _ in on_it if key.kind not in (Kind.ACCOUNT, Kind.INSTRUMENT)]
        if await self._supervisors_node() == node.name:
            house.insert(0, SUPERVISOR)
        if house:
            remedy = "Stop the supervisor, and start it with another journal.place."
            raise ChangeRefused(attempted, f"{node} has {', '.join(house)}, which stay where the journal is", remedy)
        there = sorted(on_it, key=lambda one: (one[0].account, one[0].kind, one[0].name))
        stays = {key.name: why for key, child in there if child.spec and (why := self._nowhere(child.spec, node.name))}
        if stays and not force:
            name, why = next(iter(stays.items()))
            remedy = "With --force (force=True) they stay until it is gone, and wait for another one."
            raise ChangeRefused(attempted, f"{name} could go nowhere else ({len(stays)} in all): {why}", remedy)
        moves = tuple(key.name for key, _ in there if key.name not in stays)
        words: dict[str, Json] = {"action": "drain", "node": str(node), "moves": list(moves), "stays": list(stays)}
        await self._outbox.write(EventType.OPERATOR_ACTION, words | {"by": None, **said_of(by)}, node.name)
        try:
            await self._cluster.drain(node.name)
        except CallError as error:
            raise ChangeRefused(attempted, str(error), "Try again.") from None
        return Drained(node.name, str(node), moves, stays)

    def _named(self, wanted: str, attempted: str) -> Node:
        nodes = self._nodes()
        if not nodes:
            raise ChangeRefused(attempted, "its machines are not known: this cluster is one of our own", "Use stop.")
        found = [
            node
            for node in nodes.values()
            if node.address == wanted or (len(wanted) >= _ID_SAID and node.name.startswith(wanted))
        ]
        if len(found) == 1:
            return found[0]
        shown = ", ".join(f"{node.name[:8]} at {node}" for node in (found or nodes.values()))
        why = f"{len(found)} nodes are called so" if found else "there is no such node"
        raise ChangeRefused(attempted, why, f"Name it by its id or its address. There are: {shown}")

    async def _supervisors_node(self) -> str | None:
        try:
            return await self._cluster.node_of(SUPERVISOR)
        except CallError:
            return None
