"""What tests of every stream hear its events with."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from brokers.port import Stream

PATIENCE_S = 30.0
"""For what comes in any case: a machine may be busy with much else."""
Events = queue.Queue[str | None]
StreamT = TypeVar("StreamT", bound=Stream)


@contextmanager
def listening(stream: StreamT) -> Iterator[tuple[StreamT, Events]]:
    """The stream, started, and what it reports; closed twice at the end."""
    events: Events = queue.Queue()
    stream.start(events.put)
    try:
        yield stream, events
    finally:
        stream.close()
        stream.close()


def heard(events: Events) -> str | None:
    """The next event."""
    return events.get(timeout=PATIENCE_S)


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that no event reports."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def eventually(holds: Callable[[], bool]) -> None:
    """The same in an event loop, which goes on meanwhile."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.002)
