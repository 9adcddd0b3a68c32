"""What an account actor does with its broker's stream: an event wakes the instrument concerned, and nothing else.

The laws of this module: whatever becomes of the stream, polling carries on; events that come in a burst wake each
instrument once; a stream's thread never touches the actor, it only puts a word into its loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from actors.runtime import Runtime
from brokers.errors import BrokerError
from brokers.stream import Stream, StreamState

LOOK_EVERY_S = 1.0
START_AGAIN_AFTER_S = 60.0
"""A refused stream needs another session, which a person brings: it is tried with what there is once a minute."""


class Follower:
    """Follows one stream for one account. ``wake`` is called with the instruments that something happened in; an empty
    set says that it may have been any."""

    def __init__(self, account: str, runtime: Runtime, wake: Callable[[frozenset[str]], Awaitable[None]]) -> None:
        self._account = account
        self._runtime = runtime
        self._wake = wake
        self._stream: Stream | None = None
        self._heard: set[str | None] = set()
        self._news = asyncio.Event()
        self._said: StreamState | None = None
        self._tried_at_s: float | None = None
        self._loops: list[asyncio.Task[None]] = []

    @property
    def state(self) -> StreamState | None:
        """How the stream stands; ``None`` where the broker has none."""
        return self._stream.state if self._stream is not None else None

    @property
    def follows(self) -> bool:
        """Whether there is a stream to follow."""
        return self._stream is not None

    def follow(self, stream: Stream | None) -> None:
        """Follow this stream from now on; ``None`` where there is none."""
        if stream is None:
            return
        self._stream = stream
        self._loops = [self._runtime.spawn(self._account, work) for work in (self._hear(), self._look_after(stream))]

    async def close(self) -> None:
        """Hear nothing any more."""
        stream, self._stream = self._stream, None
        for loop in self._loops:
            loop.cancel()
        if stream is not None:
            stream.close()

    async def _hear(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            heard, self._heard = self._heard, set()
            await self._wake(frozenset() if None in heard else frozenset(name for name in heard if name is not None))

    async def _look_after(self, stream: Stream) -> None:
        """Start it, say how it stands when that changes, and start it again when only that can help."""
        loop = asyncio.get_running_loop()

        def on_event(instrument: str | None) -> None:
            loop.call_soon_threadsafe(self._note, instrument)

        while self._stream is stream:
            state = stream.state
            if state is StreamState.CLOSED or (state is StreamState.REFUSED and self._may_try_again()):
                self._start(stream, on_event)
                state = stream.state
            if state is not self._said:
                self._say(state, stream.error)
            await self._runtime.sleep(LOOK_EVERY_S)

    def _note(self, instrument: str | None) -> None:
        self._heard.add(instrument)
        self._news.set()

    def _may_try_again(self) -> bool:
        tried_at_s = self._tried_at_s
        return tried_at_s is None or self._runtime.monotonic_s() - tried_at_s >= START_AGAIN_AFTER_S

    def _start(self, stream: Stream, on_event: Callable[[str | None], None]) -> None:
        self._tried_at_s = self._runtime.monotonic_s()
        try:
            stream.start(on_event)
        except BrokerError as error:
            logger.warning("{}; its instruments are polled", error)

    def _say(self, state: StreamState, error: str | None) -> None:
        self._said = state
        if state is StreamState.LIVE:
            logger.info("{}: the broker's stream is live", self._account)
        elif state is not StreamState.CONNECTING:
            logger.warning("{}: the broker's stream is {}: {}; polling carries on", self._account, state, error)
