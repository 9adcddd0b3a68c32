"""Calls of a cluster's actors by a program that is none: the command line, a notebook, a strategy."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from typing import TYPE_CHECKING, Any

import ray
from loguru import logger
from ray.exceptions import GetTimeoutError

from actors.names import account_of
from actors.runtime.local_calls import Connection
from actors.runtime.ports import ActorUnavailable
from actors.runtime.ray_backend import NEVER_REPEATED, RayRuntime
from actors.runtime.ray_errors import NoSuchActor, short, translated
from actors.runtime.ray_places import ActorPlace, cells_of, check_connected, handle_of

if TYPE_CHECKING:
    from actors.runtime.ray_environment import Address


class Client:
    """Calls actors of a cluster from a program that is none: the command line, a notebook."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._places: dict[str, ActorPlace] = {}

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
        with translated(actor, method, f"no answer within {timeout_s:.3g} s", self._places):
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

    async def _find(self, actor: str, timeout_s: float) -> ActorPlace:
        place = self._places[actor] = await asyncio.to_thread(_looked_up, actor, self._namespace, timeout_s)
        return place


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
