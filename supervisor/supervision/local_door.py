"""The supervisor's door for programs of its own machine: a Unix socket, so that a command need not join the cluster.

Only the owner can read the socket's directory. A caller first sends the token from the run file, which only the owner
can read either. The laws of this module: nothing of a caller is unpickled before its token was checked; a caller
reaches the supervisor's public methods and nothing else; the door is optional, since the cluster is another way in:
where it cannot be opened, nothing else changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import pickle
import shutil
import struct
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import field
from pathlib import Path

from loguru import logger

from actors.runtime.local_calls import LARGEST_MESSAGE, LONGEST_PATH, pickled_answer
from actors.runtime.ports import answer_of
from brokers.frozen import dataclass
from brokers.versions import across_versions

LENGTH = struct.Struct("!Q")
TOKEN_BYTES = 32
_PRESENT_WITHIN_S = 2.0


@across_versions
@dataclass(frozen=True, slots=True)
class Door:
    """The socket's path, and the token that opens it."""

    path: str
    token: bytes = field(repr=False)


def new_door() -> Door | None:
    """A path for a door, in a new directory of our own; ``None`` where no path is short enough."""
    try:
        directory = tempfile.mkdtemp(prefix="supervisor-")  # only its owner can read it
    except OSError as error:
        logger.debug("no local socket: {}", error)
        return None
    path = os.path.join(directory, "door")
    if len(os.fsencode(path)) > LONGEST_PATH:
        os.rmdir(directory)
        return None
    return Door(path, os.urandom(TOKEN_BYTES))


def remove(path: str) -> None:
    """Remove the door and its directory."""
    shutil.rmtree(Path(path).parent, ignore_errors=True)


Answer = Callable[[str, tuple[object, ...]], Awaitable[object]]


class DoorKeeper:
    """Serves callers that have the token, with one ``answer`` per request. Call :meth:`serve` once."""

    def __init__(self, door: Door, answer: Answer) -> None:
        self._door = door
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def serve(self) -> None:
        """Serve from now on, until :meth:`close`. Never raises: without a door the cluster is another way in."""
        with contextlib.suppress(OSError):
            os.unlink(self._door.path)  # left by the former supervisor
        try:
            self._server = await asyncio.start_unix_server(self._visit, self._door.path)
            os.chmod(self._door.path, 0o600)
        except OSError as error:
            logger.debug("no local socket: {}", error)

    def close(self) -> None:
        """Accept no further callers."""
        if self._server is not None:
            self._server.close()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PRESENT_WITHIN_S):
                shown = await reader.readexactly(TOKEN_BYTES)
            if not hmac.compare_digest(shown, self._door.token):
                return
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                if length > LARGEST_MESSAGE:
                    return
                method, args = pickle.loads(await reader.readexactly(length))  # noqa: S301 - the token was right
                answer = await self._answered(str(method), tuple(args))
                writer.write(LENGTH.pack(len(answer)) + answer)
                await writer.drain()
        except (OSError, EOFError, TimeoutError, pickle.UnpicklingError):
            pass  # the caller has gone, or is not one of ours
        finally:
            writer.close()

    async def _answered(self, method: str, args: tuple[object, ...]) -> bytes:
        return pickled_answer(await answer_of(self._answer(method, args)))
