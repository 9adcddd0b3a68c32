"""Calls over the sockets of :mod:`actors.runtime.local_calls` by a thread that waits for the answer."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import select
import socket
import time

from actors.runtime.local_calls import (
    HEADER,
    LARGEST_MESSAGE,
    Late,
    NotReached,
    check_size,
    is_of_our_user,
)
from actors.runtime.ports import Answer

_ENDED = "its process has ended"
_AT_ONCE = 1 << 20
_LONGEST_S = 1_000_000.0
"""What the kernel takes at most is twice as much."""
_NUMBER = 0
"""Of every message: a connection carries one call at a time."""


class BlockingConnection:
    """A connection to an actor's process, for one call at a time: see :func:`connect`. It ends with the first call that
    is not answered, since what comes later would be taken for the answer of the next one."""

    def __init__(self, connected: socket.socket) -> None:
        self._connected = connected
        self._poll = select.poll()
        self._fd = connected.fileno()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # interrupted before it had a socket
            self.close()

    @property
    def is_open(self) -> bool:
        """Whether the actor's process can still answer, as far as is known. Between two calls there is nothing to be
        read unless the other end has closed it."""
        return self._connected.fileno() >= 0 and not self._is_ready(select.POLLIN, 0)

    def close(self) -> None:
        """End the connection."""
        self._connected.close()

    def call(self, method: str, args: tuple[object, ...], timeout_s: float) -> Answer:
        """The outcome of a call. Raises :class:`NotReached` and :class:`Late`, and ``RuntimeError`` for a message that
        cannot be sent."""
        until_s = time.monotonic() + timeout_s
        message = pickle.dumps((method, args))
        check_size(method, message)
        try:
            self._send(HEADER.pack(len(message), _NUMBER) + message, until_s)
            length, _ = HEADER.unpack(self._received(HEADER.size, until_s))
            if length > LARGEST_MESSAGE:
                raise NotReached(f"it answers with {length:,} bytes")
            pickled = self._received(length, until_s)
        except OSError as error:
            self.close()
            if isinstance(error, TimeoutError) or error.errno is None:
                raise  # ours, or what a signal's handler raised, such as the limit of a notebook's cell
            raise NotReached(_ENDED) from None
        except BaseException:  # also what a signal raises
            self.close()
            raise
        try:
            answer: Answer = pickle.loads(pickled)  # noqa: S301 - of a process of our own user
        except Exception as error:  # noqa: BLE001 - whatever the object's own code raises
            raise NotReached(f"the answer cannot be read: {error}") from None
        return answer

    def _send(self, message: bytes, until_s: float) -> None:
        unsent = memoryview(message)
        while unsent:
            self._await(select.POLLOUT, until_s)
            unsent = unsent[self._connected.send(unsent, socket.MSG_NOSIGNAL) :]

    def _received(self, size: int, until_s: float) -> bytearray:
        received = bytearray()
        while len(received) < size:
            self._await(select.POLLIN, until_s)
            part = self._connected.recv(min(size - len(received), _AT_ONCE))
            if not part:
                raise NotReached(_ENDED)
            received += part
        return received

    def _await(self, event: int, until_s: float) -> None:
        if not self._is_ready(event, max(0.0, until_s - time.monotonic())):
            raise Late

    def _is_ready(self, event: int, within_s: float) -> bool:
        self._poll.register(self._fd, event)
        return bool(self._poll.poll(math.ceil(min(within_s, _LONGEST_S) * 1000)))


def connect(path: str) -> BlockingConnection | None:
    """A connection to the actor that serves at this path; ``None`` where nobody of our user does, or does at once."""
    try:
        connected = socket.socket(socket.AF_UNIX)
    except OSError:
        return None  # this program may open no more
    connected.setblocking(False)
    try:
        connected.connect(path)
        if is_of_our_user(connected) and os.path.basename(connected.getpeername()) == os.path.basename(path):
            return BlockingConnection(connected)
    except OSError:
        pass
    connected.close()
    return None


class IdleConnections:
    """Connections between two calls, by process. Threads may use it at the same time, and so may a signal's handler
    that interrupts one: each step is whole by itself, and nobody waits for a lock."""

    def __init__(self) -> None:
        self._idle: dict[str, list[BlockingConnection]] = {}

    def take(self, process: str) -> BlockingConnection | None:
        """An open one, which is the caller's from now on; ``None`` where there is none."""
        idle = self._idle.get(process, [])
        while True:
            try:
                connection = idle.pop()
            except IndexError:
                return None
            if connection.is_open:
                return connection
            connection.close()

    def give(self, process: str, connection: BlockingConnection) -> None:
        """Keep one for the next call, if it is open."""
        if connection.is_open:
            self._idle.setdefault(process, []).append(connection)
