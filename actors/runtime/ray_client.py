"""Calls of a cluster's actors by a program that is none: the command line, a notebook, a strategy."""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from time import monotonic as monotonic_s
from typing import TYPE_CHECKING, Any

import ray
from loguru import logger
from ray.exceptions import GetTimeoutError

from actors.names import account_of
from actors.runtime.blocking_calls import BlockingConnection, IdleConnections, connect
from actors.runtime.local_calls import Connection
from actors.runtime.ports import ActorUnavailable
from actors.runtime.ray_backend import NEVER_REPEATED, PROBES, RayRuntime
from actors.runtime.ray_errors import NoSuchActor, short, translated
from actors.runtime.ray_places import ActorPlace, cells_of, check_connected, handle_of, outcome_of, socket_of

if TYPE_CHECKING:
    from actors.runtime.ray_environment import Address


class Client:
    """Calls actors of a cluster from a program that is none: the command line, a notebook. Threads may share it."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._places: dict[str, ActorPlace] = {}
        self._idle = IdleConnections()

    def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        """As :meth:`RayRuntime.call`, and blocking."""
        known, until_s = actor in self._places, monotonic_s() + timeout_s
        with_what = actor, method, args, timeout_s, until_s
        try:
            return self._call(*with_what)
        except ActorUnavailable:
            if not known or method in NEVER_REPEATED or monotonic_s() >= until_s:
                raise
            return self._call(*with_what)

    def _call(self, actor: str, method: str, args: tuple[object, ...], timeout_s: float, until_s: float) -> Any:
        with translated(actor, method, f"no answer within {timeout_s:.3g} s", self._places):
            place = self._places.get(actor)
            if place is None:
                place = self._places[actor] = _looked_up(actor, self._namespace, until_s - monotonic_s())
            left_s = max(0.0, until_s - monotonic_s())
            check_connected()
            process = place.cell or actor
            by_ray = method in PROBES or not _is_known_everywhere(args)
            connection = None if by_ray else self._connection(process)
            if connection is None:
                return place.read(method, ray.get(place.send(actor, method, args), timeout=left_s))
            if place.cell is None:
                answer = connection.call(method, args, left_s)
            else:
                answer = connection.call("deliver", ([(actor, method, args)],), left_s)
            self._idle.give(process, connection)
            found = outcome_of(method, answer)
            return found if place.cell is None else outcome_of(method, found[0])

    def _connection(self, process: str) -> BlockingConnection | None:
        connection = self._idle.take(process)
        if connection is None and (path := socket_of(self._namespace, process)) is not None:
            connection = connect(path)
        return connection


class _Program(RayRuntime):
    """Finds actors from a process that is none."""

    async def _find(self, actor: str, timeout_s: float) -> ActorPlace:
        place = self._places[actor] = await asyncio.to_thread(_looked_up, actor, self._namespace, timeout_s)
        return place


class AwaitingClient(_Program):
    """As :class:`Client`, to be awaited in a program's own event loops, of which one may end and another begin."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self._of_loops: dict[asyncio.AbstractEventLoop, _OfOneLoop] = {}

    async def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        """As :meth:`RayRuntime.call`."""
        if not _is_known_everywhere(args):
            return await super().call(actor, method, *args, timeout_s=timeout_s)
        loop = asyncio.get_running_loop()
        if loop not in self._of_loops:
            for known in tuple(self._of_loops):  # other threads begin and end loops meanwhile
                if known.is_closed():
                    self._of_loops.pop(known, None)
            self._of_loops[loop] = _OfOneLoop(self._namespace)
        return await self._of_loops[loop].call(actor, method, *args, timeout_s=timeout_s)

    async def _connection(self, process: str) -> Connection | None:
        """None: what does not go by :class:`_OfOneLoop` goes through Ray."""
        del process
        return None


class _OfOneLoop(_Program):
    """Connections belong to an event loop, and end before it does."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self._until_the_end: AsyncGenerator[None, None] | None = None

    async def _connection(self, process: str) -> Connection | None:
        check_connected()
        if self._until_the_end is None:
            self._until_the_end = _with_the_loop(self._connections)
            await anext(self._until_the_end)
        return await super()._connection(process)


def _is_known_everywhere(args: tuple[object, ...]) -> bool:
    """Whether an actor can read these arguments from a socket. A class of the program's own module, as of a notebook,
    is known nowhere else: Ray sends it along."""
    try:
        return b"__main__" not in pickle.dumps(args)
    except Exception:  # noqa: BLE001 - whatever the object's own code raises; Ray may be able to
        return False


async def _with_the_loop(connections: dict[str, Connection]) -> AsyncGenerator[None, None]:
    """Whoever ends a loop ends its generators first (``asyncio.run`` does), and so does a loop with one that nobody
    holds any more: this must not hold who holds it."""
    try:
        yield
    finally:
        for connection in connections.values():
            connection.close()


def _looked_up(actor: str, namespace: str, timeout_s: float) -> ActorPlace:
    """The place of an actor. Ray blocks a minute for a cluster that has gone, so this asks in a thread of its own.
    Raises ``GetTimeoutError``, and :class:`NoSuchActor`."""
    answer: Future[ActorPlace] = Future()

    def find() -> ActorPlace:
        try:
            return ActorPlace(handle_of(actor, namespace))
        except NoSuchActor:
            for cell, handle in cells_of(account_of(actor), namespace) if "/" in actor else ():
                check_connected()
                if actor in ray.get(handle.hosted.remote(), timeout=timeout_s):
                    return ActorPlace(handle, cell)
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


def is_gone(actor: str, namespace: str, timeout_s: float) -> bool:
    """Whether the cluster says that nobody of this name lives or is being brought back. False where it does not say."""
    try:
        _looked_up(actor, namespace, timeout_s)
    except NoSuchActor:
        return True
    except Exception as error:  # noqa: BLE001 - whatever Ray says of a cluster that is not well
        logger.debug("{}: {}", actor, short(error))
    return False


def join(address: Address, namespace: str) -> Client:
    """Reach a running cluster from another process. Raises ``ConnectionError`` when it does not answer."""
    if not ray.is_initialized():
        ray.init(address=address.gcs, namespace=namespace, log_to_driver=False, logging_level=logging.ERROR)
    return Client(namespace)
