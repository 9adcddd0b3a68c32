"""A caller at the supervisor's local door (:mod:`supervisor.supervision.local_door`): reaches the supervisor without
the cluster."""

from __future__ import annotations

import contextlib
import pickle
import socket
import time
from typing import Any

from actors.names import SUPERVISOR
from actors.runtime.ports import ActorUnavailable, CallTimeout, outcome
from supervisor.supervision.local_door import LENGTH, Door


class DoorClient:
    """Calls the supervisor, blocking; no other actor is reachable here. Each call opens a connection, since the
    supervisor may have been restarted since the last one."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        """Return the result of its method. Raises the method's exception, :class:`ActorUnavailable` or
        :class:`CallTimeout`."""
        if actor != SUPERVISOR:
            raise ActorUnavailable(actor, method, "it cannot be reached through the supervisor's local socket")
        until_s = time.monotonic() + timeout_s
        try:
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as talk:
                talk.settimeout(timeout_s)
                talk.connect(self._door.path)
                request = pickle.dumps((method, args))
                talk.sendall(self._door.token + LENGTH.pack(len(request)) + request)
                (length,) = LENGTH.unpack(_exactly(talk, LENGTH.size, until_s))
                answer = pickle.loads(_exactly(talk, length, until_s))  # noqa: S301 - of our own user, by its path
        except TimeoutError:
            if time.monotonic() < until_s:
                raise  # a signal's, such as the limit of a notebook's cell
            raise CallTimeout(actor, method, f"no answer within {timeout_s:.3g} s") from None
        except (OSError, EOFError) as error:
            raise ActorUnavailable(actor, method, str(error) or "its process has ended") from None
        return outcome(answer)


def _exactly(talk: socket.socket, size: int, until_s: float) -> bytes:
    parts: list[bytes] = []
    while size:
        talk.settimeout(max(0.001, until_s - time.monotonic()))
        part = talk.recv(min(size, 1 << 20))
        if not part:
            raise EOFError("its process has ended")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
