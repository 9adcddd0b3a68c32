"""What an account actor does with its broker's stream: an event wakes its instrument, and an execution in the stream is
passed to the instrument.

The laws of this module: whatever happens to the stream, polling goes on; a burst of events wakes each instrument once;
an execution is passed on at once, without waiting for anybody, and wakes its instrument itself; a stream's thread never
touches the actor, it only posts into the actor's event loop; a stream that does not come up, or is silent, is reported
once, and once more when it is live and stays so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from loguru import logger

from actors.events import EventType, Json, Severity
from actors.runtime.ports import Runtime
from brokers.errors import BrokerError, with_remedy
from brokers.executions import ReportsFills
from brokers.model import StreamedFill
from brokers.port import Stream, StreamState

LOOK_EVERY_S = 1.0
START_AGAIN_AFTER_S = 60.0
"""A refused stream needs another session, which a person provides: it is tried with the present one once a minute."""

REPORTED_AFTER_S = 20.0
"""How long a stream may be connecting before that is reported: the longest silence that any stream is allowed. A
shorter gap was a reconnect, after which everything is checked anyway."""

BACK_AFTER_S = 30.0
"""How long a stream whose loss was reported must be live before that is reported: longer than any allowed silence, so
that a stream which connects and stays silent is one loss and not many."""

_FOR_A_PERSON = frozenset({StreamState.REFUSED, StreamState.SPENT})
_AT_ONCE = _FOR_A_PERSON | {StreamState.SILENT}

GATHER_S = 0.005
"""How long an event waits for others: an order is reported just before its execution, and one look shows both."""

Wake = Callable[[frozenset[str]], Awaitable[None]]
"""Wake these instruments, or all where the set is empty."""

HandOver = Callable[[Sequence[StreamedFill]], None]
"""Pass executions to their instruments, which also wakes them; does not wait."""

Say = Callable[[EventType, dict[str, Json], str, Severity], None]
"""Journal an event: its kind, payload, identity and severity."""


class StreamWatch:
    """Follows one stream for one account. ``wake`` is called with the instruments that an event concerns (an empty set
    means that it may be any), ``hand_over`` with the executions in the stream. ``say`` journals that the stream was
    lost (CONNECTION_LOST, with its state as ``stream`` in the payload) or is live again (CONNECTION_RESTORED)."""

    def __init__(self, account: str, runtime: Runtime, wake: Wake, hand_over: HandOver, say: Say) -> None:
        self._account = account
        self._runtime = runtime
        self._wake = wake
        self._journal = say
        self._stream: Stream | None = None
        self._touched: set[str | None] = set()
        self._hand_over = hand_over
        self._executed: list[StreamedFill] = []
        self._covered: set[str] = set()  # their next event is that of an execution, which wakes them itself
        self._news = asyncio.Event()
        self._reported: StreamState | None = None  # its state when its loss was reported; None while none is
        self._away_since_s: float | None = None
        self._live_since_s: float | None = None
        self._not_started: str | None = None
        self._tried_at_s: float | None = None
        self._loops: list[asyncio.Task[None]] = []

    @property
    def state(self) -> StreamState | None:
        """The state of the stream; ``None`` where the broker has none."""
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
        """Stop following the stream."""
        stream, self._stream = self._stream, None
        for loop in self._loops:
            loop.cancel()
        if stream is not None:
            stream.close()

    async def _hear(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self._runtime.sleep(GATHER_S)
            touched, self._touched = self._touched, set()
            if touched:
                named = frozenset(name for name in touched if name is not None)
                await self._wake(frozenset() if None in touched else named)

    async def _look_after(self, stream: Stream) -> None:
        """Start it, report its loss and its return, and start it again when only that can help."""
        loop = asyncio.get_running_loop()

        def on_event(instrument: str | None) -> None:
            loop.call_soon_threadsafe(self._note, instrument)

        def on_fill(executed: StreamedFill) -> None:
            loop.call_soon_threadsafe(self._note_fill, executed)

        if isinstance(stream, ReportsFills):
            stream.report_fills_to(on_fill)
        while self._stream is stream:
            state = stream.state
            if state is StreamState.CLOSED or (state is StreamState.REFUSED and self._may_try_again()):
                self._start(stream, on_event)
                state = stream.state
            if state is StreamState.LIVE:
                self._came()
            else:
                self._went(state, self._not_started or stream.error)
            await self._runtime.sleep(LOOK_EVERY_S)

    def _note(self, instrument: str | None) -> None:
        if instrument in self._covered:
            self._covered.discard(instrument)
            return
        if instrument is None:
            self._covered.clear()
        self._touched.add(instrument)
        self._news.set()

    def _note_fill(self, executed: StreamedFill) -> None:
        self._covered.add(executed.fill.instrument)
        self._touched.discard(executed.fill.instrument)
        self._executed.append(executed)
        if len(self._executed) == 1:
            asyncio.get_running_loop().call_soon(self._give)

    def _give(self) -> None:
        executed, self._executed = self._executed, []
        self._hand_over(executed)

    def _may_try_again(self) -> bool:
        tried_at_s = self._tried_at_s
        return tried_at_s is None or self._runtime.monotonic_s() - tried_at_s >= START_AGAIN_AFTER_S

    def _start(self, stream: Stream, on_event: Callable[[str | None], None]) -> None:
        self._tried_at_s = self._runtime.monotonic_s()
        self._not_started = None
        try:
            stream.start(on_event)
        except BrokerError as error:
            self._not_started = str(error)

    def _came(self) -> None:
        self._away_since_s = None
        now_s = self._runtime.monotonic_s()
        if self._live_since_s is None:
            self._live_since_s = now_s
            logger.info("{}: the broker's stream is live", self._account)
        if self._reported is not None and now_s - self._live_since_s >= BACK_AFTER_S:
            self._reported = None
            payload: dict[str, Json] = {"account": self._account, "stream": StreamState.LIVE.value}
            self._journal(EventType.CONNECTION_RESTORED, payload, "stream", Severity.INFO)

    def _went(self, state: StreamState, error: str | None) -> None:
        now_s = self._runtime.monotonic_s()
        self._live_since_s = None
        if self._away_since_s is None:
            self._away_since_s = now_s
        if self._must_report(state, now_s - self._away_since_s):
            self._report_loss(state, error)

    def _must_report(self, state: StreamState, away_s: float) -> bool:
        """Once for each loss; once more where it turns out that only a person can help."""
        if self._reported is not None:
            return state in _FOR_A_PERSON and self._reported not in _FOR_A_PERSON
        return state in _AT_ONCE or self._not_started is not None or away_s >= REPORTED_AFTER_S

    def _report_loss(self, state: StreamState, error: str | None) -> None:
        self._reported = state
        reason = with_remedy(error or self._no_word(state), "Its instruments are polled meanwhile")
        logger.warning("{}", reason)
        payload: dict[str, Json] = {"account": self._account, "stream": state.value, "reason": reason}
        self._journal(EventType.CONNECTION_LOST, payload, "stream", Severity.WARNING)

    def _no_word(self, state: StreamState) -> str:
        found = f"{self._account}: the broker's stream is {state} and does not say why"
        return with_remedy(found, "Check the network, and the address of the stream in the configuration")
