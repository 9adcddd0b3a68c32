"""Live events: every record of the journal from a point on, as it is written.

The laws of this module: between start and end no event is missed, whatever is restarted meanwhile; each event is
returned once; :attr:`EventStream.seq` is where to resume, in this process or another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType

from actors.events import Record
from actors.journal.record_filter import RecordFilter, meets
from actors.journal.types import JournalError
from actors.names import AUDIT
from actors.runtime.ports import CallError
from supervisor.client.arguments import count, seconds
from supervisor.client.calls import Port, run_blocking
from supervisor.client.link import ClusterGone
from supervisor.client.records import Entry
from supervisor.errors import NotAnswered

_POLL_S = 1.0
"""The longest that one request is pending: :meth:`EventStream.close` and an interrupt take effect within this time."""
_ANSWER_WITHIN_S = 10.0
_PAUSE_S = 0.2
_PATIENCE_S = 120.0
"""How long the journal may be away before the stream ends, with an error that says where to resume."""


class _Following:
    """The code of both kinds of streams. With ``idle_s`` it ends when no matching event came for that long."""

    def __init__(
        self, port: Callable[[], Port], wanted: RecordFilter, after_seq: int | None, idle_s: float | None
    ) -> None:
        self.seq = None if after_seq is None else count("after_seq", after_seq)
        self.closed = False
        self._port = port
        self._wanted = wanted
        self._idle_s = None if idle_s is None else seconds("idle_s", idle_s)
        self._waiting: deque[Record] = deque()

    async def begin(self) -> None:
        """Fix the start: after the present end of the journal, unless ``after_seq`` was given."""
        if self.seq is None:
            deadline_s = self._port().monotonic_s() + _ANSWER_WITHIN_S
            while True:
                try:
                    head = await self._port().call(AUDIT, "head", timeout_s=_ANSWER_WITHIN_S)
                except (CallError, JournalError) as error:
                    await self._again(error, deadline_s)
                else:
                    self.seq = 0 if head is None else head[0]
                    return

    async def next(self) -> Entry | None:
        """The next matching event; ``None`` at the end."""
        await self.begin()
        quiet_since_s = answered_s = self._port().monotonic_s()
        while not self.closed:
            while self._waiting:
                record = self._waiting.popleft()
                self.seq = record.seq
                if meets(self._wanted, record):
                    return Entry(record)
            if self._idle_s is not None and self._port().monotonic_s() - quiet_since_s >= self._idle_s:
                return None
            poll_s = _POLL_S if self._idle_s is None else min(_POLL_S, self._idle_s)
            try:
                page = await self._port().call(AUDIT, "wait_for", self.seq, poll_s, timeout_s=poll_s + _ANSWER_WITHIN_S)
            except (CallError, JournalError) as error:
                await self._again(error, answered_s + _PATIENCE_S)
            else:
                answered_s = self._port().monotonic_s()
                self._waiting.extend(page)
        return None

    async def _again(self, error: Exception, deadline_s: float) -> None:
        if isinstance(error, ClusterGone) or self._port().monotonic_s() > deadline_s:
            resume = "" if self.seq is None else f". Resume with after_seq={self.seq}"
            raise NotAnswered(f"the journal's events cannot be read: {error}{resume}") from None
        await self._port().sleep(_PAUSE_S)


class EventStream:
    """Live events for a ``for`` loop. ``seq`` is the last record handled: resume with ``after_seq=seq``. Another thread
    may close it, and leaving its ``with`` block does; the loop then ends within a second."""

    def __init__(
        self, port: Callable[[], Port], wanted: RecordFilter, after_seq: int | None, idle_s: float | None
    ) -> None:
        self._following = _Following(port, wanted, after_seq, idle_s)
        run_blocking(self._following.begin())

    @property
    def seq(self) -> int:
        """The last record that was handled, returned or skipped."""
        return self._following.seq or 0

    def close(self) -> None:
        """End it."""
        self._following.closed = True

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> Entry:
        entry = run_blocking(self._following.next())
        if entry is None:
            raise StopIteration
        return entry

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncEventStream:
    """As :class:`EventStream`, for ``async for``. It starts with ``async with``, or with its first event."""

    def __init__(
        self, port: Callable[[], Port], wanted: RecordFilter, after_seq: int | None, idle_s: float | None
    ) -> None:
        self._following = _Following(port, wanted, after_seq, idle_s)

    @property
    def seq(self) -> int | None:
        """The last record that was handled; ``None`` before the stream has started."""
        return self._following.seq

    async def aclose(self) -> None:
        """End it."""
        self._following.closed = True

    def __aiter__(self) -> AsyncEventStream:
        return self

    async def __anext__(self) -> Entry:
        entry = await self._following.next()
        if entry is None:
            raise StopAsyncIteration
        return entry

    async def __aenter__(self) -> AsyncEventStream:
        await self._following.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
