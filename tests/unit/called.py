"""An actor's end of the sockets of one machine, and a process that answers nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from actors.runtime.local_calls import NotReached, serve
from actors.runtime.ports import ActorUnavailable


class Odd(Exception):
    """An error that cannot be pickled."""


class Nameless(Odd):
    """The same, and it cannot be shown either."""

    def __str__(self) -> str:
        raise KeyError("nothing")


class Unusual(BaseException):
    """What no ``except Exception`` catches."""


class Spoilt:
    """An object that can be sent, and not be read."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return int, ("not a number",)


class Actor:
    """What is asked."""

    def __init__(self) -> None:
        self.began: list[object] = []
        self.may_end = asyncio.Event()
        self.ended = asyncio.Event()

    async def ask(self, method: str, args: tuple[object, ...]) -> object:
        """Do as the method says."""
        self.began.append(args)
        match method:
            case "refuse":
                raise ActorUnavailable("fx", "slice", "its process has ended")
            case "odd":
                raise Odd(lambda: None)
            case "nameless":
                raise Nameless(lambda: None)
            case "unusual":
                raise Unusual
            case "large":
                return "x" * 3_000_000
            case "unsendable":
                return lambda: None
            case "spoilt":
                return Spoilt()
            case "cancelled":
                raise asyncio.CancelledError
            case "wait":
                await self.may_end.wait()
                self.ended.set()
        return method, args


@asynccontextmanager
async def served(directory: Path) -> AsyncIterator[tuple[Actor, str]]:
    """An actor, and the path of its socket."""
    actor, path = Actor(), str(directory / "socket")
    server = await serve(path, actor.ask)
    assert server is not None
    try:
        yield actor, path
    finally:
        server.close()


@contextlib.contextmanager
def listens(path: str) -> Iterator[socket.socket]:
    """A process that is connected to, and answers nothing by itself."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        yield listening


ERRORS = [
    ("refuse", ActorUnavailable, "actor fx did not answer slice: its process has ended"),
    ("odd", RuntimeError, "Odd: "),
    ("unsendable", RuntimeError, "function: its answer cannot be sent"),
    ("cancelled", NotReached, "the call was cancelled"),
    ("nameless", RuntimeError, "KeyError in the called method"),
    ("unusual", RuntimeError, "Unusual in the called method"),
]
"""What comes of the methods that fail."""
