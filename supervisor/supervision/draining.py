"""Taking a machine away in order: who has to leave it, and whether they can.

The laws of this module: nothing is begun that would leave an actor without a node, unless that is requested; the node
of the journal, of the supervisor, or of the cluster's head is never drained, and none while it is not known whether it
is that; the request is durable before the cluster hears of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from actors.events import EventType, Json
from actors.journal.outbox import Outbox
from actors.names import SUPERVISOR
from actors.runtime.deployment import Cluster
from actors.runtime.nodes import Node
from actors.runtime.ports import CallError
from brokers.frozen import dataclass
from brokers.versions import across_versions
from supervisor.changes.asking import Who, said_of
from supervisor.changes.requests import ChangeRefused
from supervisor.tree.model import LIVING, Child, ChildKey, ChildSpec, InQuarantine, Kind, Pending

_ID_SAID = 4
"""How much of its id names a node, at least."""
_MOVABLE = (Kind.ACCOUNT, Kind.INSTRUMENT)


@across_versions
@dataclass(frozen=True, slots=True)
class Drained:
    """A draining node: its id and its description, the actors that move to another node, in this order, and those that
    stay until it has ended, with the reason."""

    node: str
    words: str
    moves: tuple[str, ...]
    stays: Mapping[str, str]


class Draining:
    """Drains nodes. ``look`` asks the cluster for its nodes, ``nodes`` are those of its last answer, by name, and
    ``nowhere`` is why no node but that one can place a child, or ``None``. A cluster of our own has not
    ``several_nodes``."""

    def __init__(
        self,
        cluster: Cluster,
        outbox: Outbox,
        children: Mapping[ChildKey, Child],
        *,
        several_nodes: bool,
        look: Callable[[], Awaitable[None]],
        nodes: Callable[[], Mapping[str, Node]],
        nowhere: Callable[[ChildSpec, str], str | None],
    ) -> None:
        self._cluster = cluster
        self._outbox = outbox
        self._children = children
        self._several_nodes = several_nodes
        self._look = look
        self._nodes = nodes
        self._nowhere = nowhere

    async def drain(self, wanted: str, by: Who, *, force: bool) -> Drained:
        """Drain the node that is named by its id, the beginning of it, or its address; one that is already draining is
        only reported again. Raises :class:`ChangeRefused`."""
        attempted = f"drain {wanted}"
        await self._look()
        node = self._named(wanted, attempted)
        await self._refuse_the_house(node, attempted)
        stays: dict[str, str] = {}
        moves: list[str] = []
        for key in sorted(self._children, key=lambda key: (key.account, key.kind, key.name)):
            child = self._children[key]
            if key.kind not in _MOVABLE or child.spec is None or isinstance(child.state, InQuarantine | Pending):
                continue
            why = self._nowhere(child.spec, node.name)
            if why is not None and child.node in (node.name, None):  # one that is starting may be there already
                stays[key.name] = why
            elif child.node == node.name:
                moves.append(key.name)
        if stays and not force:
            name, why = next(iter(stays.items()))
            remedy = "With --force (force=True) they stay until it has ended, and wait for another node."
            raise ChangeRefused(attempted, f"{name} could go nowhere else ({len(stays)} in all): {why}", remedy)
        words: dict[str, Json] = {"action": "drain", "node": str(node), "moves": [*moves], "stays": [*stays]}
        await self._outbox.write(EventType.OPERATOR_ACTION, words | {"by": None, **said_of(by)}, node.name)
        try:
            await self._cluster.drain(node.name)
        except CallError as error:
            raise ChangeRefused(attempted, str(error), "Try again.") from None
        return Drained(node.name, str(node), tuple(moves), stays)

    def _named(self, wanted: str, attempted: str) -> Node:
        if not self._several_nodes:
            found = "this cluster is one machine, and the supervisor's own"
            raise ChangeRefused(attempted, found, "Use stop.")
        nodes = self._nodes()
        if not nodes:
            raise ChangeRefused(attempted, "the cluster does not report its nodes", "Try again.")
        called = [
            node
            for node in nodes.values()
            if wanted in {node.name, node.address} - {""} or (len(wanted) >= _ID_SAID and node.name.startswith(wanted))
        ]
        if len(called) == 1:
            return called[0]
        shown = ", ".join(f"{node.name[:8]} at {node}" for node in (called or nodes.values()))
        why = f"{len(called)} nodes are called so" if called else "there is no such node"
        raise ChangeRefused(attempted, why, f"Name it by its id or its address. There are: {shown}")

    async def _refuse_the_house(self, node: Node, attempted: str) -> None:
        """Raise :class:`ChangeRefused` where the cluster or the journal would end with the node."""
        if node.head:
            remedy = "To move accounts away from it, change their place, and apply."
            raise ChangeRefused(attempted, f"{node} is the head of the cluster, which ends with it", remedy)
        where: dict[str, str | None] = {
            key.name: child.node
            for key, child in self._children.items()
            if key.kind not in _MOVABLE and child.spec is not None and isinstance(child.state, LIVING)
        }
        try:
            where = {SUPERVISOR: await self._cluster.node_of(SUPERVISOR)} | where
        except CallError as error:
            raise ChangeRefused(
                attempted, f"it is not known whether the supervisor is there: {error}", "Try again."
            ) from None
        house = [name for name, on in where.items() if on == node.name]
        if house:
            stay = "which stays" if len(house) == 1 else "which stay"
            remedy = "Stop the supervisor, and start it with another journal.place."
            raise ChangeRefused(attempted, f"{node} has {', '.join(house)}, {stay} where the journal is", remedy)
        unknown = [name for name, on in where.items() if on is None and name != SUPERVISOR]
        if unknown:
            found = f"it is not known yet on which node {', '.join(unknown)} runs"
            raise ChangeRefused(attempted, found, "Try again.")
