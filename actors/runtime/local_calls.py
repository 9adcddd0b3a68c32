"""Calls between the actors of one machine over Unix sockets, which take a tenth of the processor time of the cluster's.

The laws of this module:

* A call has the same effect and fails in the same ways as one through the cluster: its exceptions are pickled, one that
  is given up goes on, and the end of the other process ends the calls that wait for it.
* Only processes of one user talk to each other. The kernel states whose process is at the other end (``SO_PEERCRED``,
  unix(7)), and nothing is unpickled before. Where the kernel does not state it, there is no socket.
* A socket is optional: where there is none, or it fails, the cluster carries the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import pickle
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from loguru import logger

from actors.runtime.ports import Answer, answer_of

LONGEST_PATH = 100
"""A socket's path has at most 108 bytes (unix(7))."""
LARGEST_MESSAGE = 1 << 30
MOST_AT_ONCE = 1_000
"""Of the calls of one process that are under way: more are read only when one has been answered."""
UNSENT_AT_MOST = 1 << 26
_BACKLOG = 4096
"""The kernel takes less where its net.core.somaxconn is less."""
_ENDED = "its process has ended"
HEADER = struct.Struct("!QQ")
_CREDENTIALS = struct.Struct("3i")

Asked = Callable[[str, tuple[object, ...]], Awaitable[object]]
"""Makes a call of an actor: the method's name and the arguments."""


class NotReached(Exception):
    """The process at the other end has ended, does not read what it is sent, or answers with what cannot be read here.
    It may have carried out the call."""


class Late(TimeoutError):
    """Our time-out for a call is over; never a method's own ``TimeoutError``."""


def socket_path(folder: str, *names: str) -> str | None:
    """The path of the socket of whatever has these names; ``None`` where it is too long for the kernel."""
    name = hashlib.blake2b("\0".join(names).encode(), digest_size=9).hexdigest()
    path = os.path.join(folder, name)
    return path if len(os.fsencode(path)) <= LONGEST_PATH else None


def pickled_answer(answer: tuple[bool, Any]) -> bytes:
    """The bytes of an answer. What cannot be pickled, or not be read again, or is too large, is sent as text."""
    try:
        pickled = pickle.dumps(answer)
        check_size("the answer", pickled)
        if not answer[0]:
            pickle.loads(pickled)  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - whatever the object's own code raises
        well, value = answer
        found = "its answer cannot be sent" if well else str(value)
        pickled = pickle.dumps((False, RuntimeError(f"{type(value).__name__}: {found}")))
    return pickled


def check_size(what: str, message: bytes) -> None:
    """Raise ``RuntimeError`` for what the other end does not read: it ends the connection, and with it every call."""
    if len(message) > LARGEST_MESSAGE:
        raise RuntimeError(f"{what} was not sent: {len(message):,} bytes are too many")


def is_of_our_user(connected: socket.socket | None) -> bool:
    """Whether the process at the other end is of the user of this one, as the kernel states it."""
    if connected is None or not hasattr(socket, "SO_PEERCRED"):
        return False
    shown = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(shown)[1] == os.geteuid())


class _Messages(asyncio.Protocol):
    """Numbered messages in both directions."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not is_of_our_user(transport.get_extra_info("socket")):
            transport.close()
        else:
            self._transport = transport  # type: ignore[assignment]  # of a stream it is a Transport

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return  # it is being closed
        received = self._received
        received += data
        begin = 0
        while len(received) - begin >= HEADER.size:
            length, number = HEADER.unpack_from(received, begin)
            if length > LARGEST_MESSAGE:
                self.close()
                return
            end = begin + HEADER.size + length
            if len(received) < end:
                break
            self.message_received(number, bytes(memoryview(received)[begin + HEADER.size : end]))
            begin = end
        if begin:
            del received[:begin]

    def message_received(self, number: int, message: bytes) -> None:
        raise NotImplementedError

    def send(self, number: int, message: bytes) -> None:
        """Send a message; nothing happens where the connection has ended."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(HEADER.pack(len(message), number) + message)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


class _Answering(_Messages):
    """The actor's end of a connection."""

    def __init__(self, ask: Asked) -> None:
        super().__init__()
        self._ask = ask
        self._running: dict[asyncio.Task[None], int] = {}

    def message_received(self, number: int, message: bytes) -> None:
        try:
            method, args = pickle.loads(message)  # noqa: S301 - of a process of our own user
        except Exception as error:  # noqa: BLE001 - whatever the object's own code raises
            self.send(number, pickled_answer((False, RuntimeError(f"the call cannot be read: {error}"))))
            return
        task = asyncio.get_running_loop().create_task(self._answered(number, method, args))
        self._running[task] = number
        task.add_done_callback(self._done)
        if len(self._running) >= MOST_AT_ONCE and self._transport is not None:
            self._transport.pause_reading()

    async def _answered(self, number: int, method: str, args: tuple[object, ...]) -> None:
        self.send(number, pickled_answer(await answer_of(self._ask(method, args))))

    def _done(self, task: asyncio.Task[None]) -> None:
        number = self._running.pop(task)
        if task.cancelled():
            self.send(number, pickled_answer((False, NotReached("the call was cancelled"))))
        elif (error := task.exception()) is not None:
            logger.opt(exception=error).error("a call ended without an answer that can be sent")
            ended = RuntimeError(f"{type(error).__name__} in the called method")
            self.send(number, pickled_answer((False, ended)))
        if len(self._running) == MOST_AT_ONCE - 1 and self._transport is not None:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None


class Connection(_Messages):
    """A caller's end of a connection: see :func:`connect`."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}

    @property
    def is_open(self) -> bool:
        """Whether the actor's process can still answer, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def name(self) -> str:
        """The name under which the actor's process has opened its socket, as the kernel states it."""
        path = None if self._transport is None else self._transport.get_extra_info("peername")
        return os.path.basename(path or "")

    async def call(self, method: str, args: tuple[object, ...]) -> Answer:
        """The outcome of a call. Raises :class:`NotReached`, and ``RuntimeError`` for a message that cannot be sent."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise NotReached(_ENDED)
        if transport.get_write_buffer_size() > UNSENT_AT_MOST:
            raise NotReached("it does not read what it is sent")
        number = next(self._numbers)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            message = pickle.dumps((method, args))
            check_size(method, message)
            self.send(number, message)
            return await answer
        finally:
            self._waiting.pop(number, None)

    def message_received(self, number: int, message: bytes) -> None:
        """Give an answer to whoever waits for it."""
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():
            return  # its caller has given up
        try:
            waiting.set_result(pickle.loads(message))  # noqa: S301 - of a process of our own user
        except Exception as error:  # noqa: BLE001 - whatever the object's own code raises
            waiting.set_exception(NotReached(f"the answer cannot be read: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any longer."""
        del exc
        self._transport = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(NotReached(_ENDED))


async def connect(path: str) -> Connection | None:
    """A connection to the actor that serves at this path; ``None`` where nobody of our user does."""
    try:
        _, connection = await asyncio.get_running_loop().create_unix_connection(Connection, path)
    except OSError:
        return None
    if connection.is_open and connection.name != os.path.basename(path):
        connection.close()  # a link to another actor's, or that under this name, by who may write into the folder
    return connection if connection.is_open else None


async def serve(path: str, ask: Asked) -> asyncio.Server | None:
    """Answer calls at this path from now on, in the place of whoever did before. ``None`` where that cannot be."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    with contextlib.suppress(OSError):
        os.unlink(path)
    opened = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(opened.fileno(), 0o600)  # the mode of what is bound: a chmod of the path would follow a link there
        opened.bind(path)
        loop = asyncio.get_running_loop()
        return await loop.create_unix_server(lambda: _Answering(ask), sock=opened, backlog=_BACKLOG)
    except OSError as error:
        opened.close()
        logger.debug("no socket for calls on this machine: {}", error)
        return None
