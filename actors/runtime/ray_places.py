"""Where an actor is reached: through Ray by its handle, or at the socket of its process."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RaySystemError, RayTaskError

from actors.names import cell_account
from actors.runtime.local_calls import Connection, Late, socket_path
from actors.runtime.ports import Answer, outcome
from actors.runtime.ray_errors import NoSuchActor
from brokers.frozen import dataclass

_FORM_OF_CALLS = "1"
"""Of the messages on the sockets: a later version with another form has other sockets, and does not meet this one."""


CARRIED_HERE: dict[tuple[str, str], ActorPlace] = {}
"""Namespace and name of the actors that a cluster of this process put into a cell: others must search for them."""


@dataclass(frozen=True, slots=True)
class ActorPlace:
    """Where an actor is reached through the cluster: by its own handle, or by that of the ``cell`` which carries it."""

    handle: Any
    cell: str | None = None

    def send(self, actor: str, method: str, args: tuple[object, ...]) -> Any:
        """The reference of the answer: in a cell, that of a list with one :data:`~actors.runtime.ports.Answer`."""
        if self.cell is not None:
            return self.deliver([(actor, method, args)])
        check_connected()
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
        check_connected()
        return self.handle.many.remote(method, calls)

    def deliver(self, calls: Sequence[tuple[str, str, tuple[object, ...]]]) -> Any:
        """The reference of a list with the answer of each of these calls of actors in the cell."""
        check_connected()
        return self.handle.deliver.remote(calls)

    def read(self, method: str, answer: Any) -> Any:
        """What the call gave. Raises what the method raised."""
        return outcome_of(method, answer[0]) if self.cell is not None or self._is_by_many(method) else answer


@dataclass(frozen=True, slots=True)
class ActorSocket:
    """Where an actor of this node is reached: over its own socket, or over that of the ``cell`` which carries it. As
    :class:`ActorPlace`, with an answer to be awaited for each reference."""

    connection: Connection
    cell: str | None = None

    def send(self, actor: str, method: str, args: tuple[object, ...]) -> Any:
        """The answer: from a cell, in a list with one :data:`~actors.runtime.ports.Answer`."""
        if self.cell is not None:
            return self.deliver([(actor, method, args)])
        return self._called(method, args)

    def send_many(self, actor: str, method: str, calls: Sequence[tuple[object, ...]]) -> Any:
        """A list with the answer of each."""
        if self.cell is not None:
            return self.deliver([(actor, method, args) for args in calls])
        return self._called("many", (method, calls))

    def deliver(self, calls: Sequence[tuple[str, str, tuple[object, ...]]]) -> Any:
        """A list with the answer of each of these calls of actors in the cell."""
        return self._called("deliver", (calls,))

    async def _called(self, method: str, args: tuple[object, ...]) -> Any:
        return outcome_of(method, await self.connection.call(method, args))

    def read(self, method: str, answer: Any) -> Any:
        """What the call gave. Raises what the method raised."""
        return answer if self.cell is None else outcome_of(method, answer[0])


def outcome_of(method: str, answer: Answer) -> Any:
    """The result of a method. Raises its exception, as Ray does: one that could be of the call, by its type, is told
    apart."""
    try:
        return outcome(answer)
    except (RayError, Late) as error:
        raise RayTaskError(method, str(error), error) from None  # type: ignore[no-untyped-call]  # Ray's


def check_connected() -> None:
    """Raise ``RaySystemError`` where this process has left its cluster, or was never in one: Ray would start a new
    cluster for the call. A look-up can still run then, since Ray lets it wait for longer than its caller does."""
    if not ray.is_initialized():
        raise RaySystemError("this process is not connected to a Ray cluster")  # type: ignore[no-untyped-call]  # Ray's


def handle_of(actor: str, namespace: str) -> Any:
    """The handle of a name. Raises :class:`NoSuchActor`, and ``RayError`` where there is no cluster to ask."""
    check_connected()
    try:
        return ray.get_actor(actor, namespace=namespace)
    except ValueError:
        raise NoSuchActor(actor) from None


def names_in(namespace: str) -> list[str]:
    """The names of the living actors of a namespace, cells among them."""
    check_connected()
    return [row["name"] for row in ray.util.list_named_actors(True) if row["namespace"] == namespace]


def cells_of(account: str, namespace: str) -> list[tuple[str, Any]]:
    """The names and handles of the cells that carry instruments of an account."""
    found = []
    for name in names_in(namespace):
        if cell_account(name) == account:
            with contextlib.suppress(NoSuchActor):
                found.append((name, handle_of(name, namespace)))
    return found


def socket_of(namespace: str, process: str) -> str | None:
    """Where an actor or cell on this node of the cluster has its socket, if it has one. Several nodes on one machine,
    as tests have them, are as far from each other as any."""
    node: Any = ray._private.worker.global_worker.node  # noqa: SLF001 - Ray says it nowhere else
    if node is None or not ray.is_initialized():
        return None
    here = str(ray.get_runtime_context().get_node_id())
    return socket_path(str(node.get_sockets_dir_path()), _FORM_OF_CALLS, namespace, here, process)
