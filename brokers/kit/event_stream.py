"""The life of a stream with a thread of its own: its state, whom it notifies, and when silence counts.

What an adapter adds (:class:`EventStream`): ``_begin`` opens the broker's stream and returns at once, ``_end`` closes
it; ``_take_credentials`` fetches the present ones. In its own thread the adapter calls ``_hear`` for every sign of
life, ``_stand`` for a change of state, ``_report_fill`` to report a whole execution, and ``_report`` to report an event
of an instrument. Each start has a :class:`Run` of its own: once closed or replaced it is ``gone``, and any later report
of its threads is ignored.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Generic, TypeVar

from loguru import logger

from brokers.executions import OnFill
from brokers.kit.scrubber import Scrubber
from brokers.model import StreamedFill
from brokers.port import Clock, OnEvent, StreamState


class Run:
    """Everything that one start began; dropped as a whole. ``over`` is set when it is."""

    def __init__(self, on_event: OnEvent) -> None:
        self.on_event = on_event
        self.over = threading.Event()

    @property
    def gone(self) -> bool:
        """Whether it was closed, given up or replaced."""
        return self.over.is_set()


RunT = TypeVar("RunT", bound=Run)


class EventStream(Generic[RunT]):
    """Meets :class:`brokers.port.Stream`. A stream that receives nothing for ``silence_s`` is SILENT; ``silence`` is
    the text for that. ``subject`` begins every error after the account's name, ``followed`` names the sender of the
    events in the log. ``new_run`` makes the adapter's own :class:`Run`."""

    subject = ""
    silence = ""
    followed = "stream"

    def __init__(
        self, account: str, clock: Clock, new_run: Callable[[OnEvent], RunT], silence_s: float = math.inf
    ) -> None:
        self._account = account
        self._clock = clock
        self._new_run = new_run
        self._silence_s = silence_s
        self._scrubber = Scrubber([])
        self._lock = threading.RLock()
        self._run: RunT | None = None
        self._state = StreamState.CLOSED
        self._error: str | None = None
        self._on_fill: OnFill | None = None
        self._heard_at: datetime | None = None
        self._heard_tick = time.monotonic()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._account!r}, {self.state.value})"

    # -- its state -------------------------------------------------------------------------------------------------

    @property
    def state(self) -> StreamState:
        """Its state now, by what was received and not by what the connection believes of itself."""
        return StreamState.SILENT if self._is_overdue() else self._state

    @property
    def error(self) -> str | None:
        """Why it is not LIVE; ``None`` while nothing is known to be wrong."""
        return self._worded(self.silence) if self._is_overdue() else self._error

    @property
    def last_heard_at(self) -> datetime | None:
        """Our time when anything was last received."""
        return self._heard_at

    def _is_overdue(self) -> bool:
        return self._state is StreamState.LIVE and self._is_silent()

    def _is_silent(self) -> bool:
        return time.monotonic() - self._heard_tick > self._silence_s

    def _worded(self, what: str) -> str:
        return f"{self._account}: {self._scrubber.text(self.subject + what)}"

    # -- start and close -------------------------------------------------------------------------------------------

    def start(self, on_event: OnEvent) -> None:
        """Follow the broker from now on. After every connect it reports an event without an instrument: what happened
        before is not reported."""
        self._take_credentials()
        self._replace(self._new_run(on_event))

    def report_fills_to(self, on_fill: OnFill | None) -> None:
        """Report each execution to ``on_fill``, where this broker's events carry it; see :mod:`brokers.executions`."""
        self._on_fill = on_fill

    def close(self) -> None:
        """Receive nothing more. Waits for an event under way, unless that one is closing the stream."""
        self._replace(None)

    def _replace(self, run: RunT | None) -> None:
        with self._lock:
            old, self._run = self._run, run
            if old is not None:
                old.over.set()
            self._state, self._error = StreamState.CLOSED, None
        if old is not None:
            self._end(old)
        with self._lock:
            if run is not None and not run.gone:
                self._stand(run, StreamState.CONNECTING)
                self._begin(run)

    # -- what an adapter adds --------------------------------------------------------------------------------------

    def _take_credentials(self) -> None:
        """Fetch the present credentials and have them masked. May raise ``Refused``."""

    def _begin(self, run: RunT) -> None:
        """Open the broker's stream, in a thread of its own; never waits."""
        raise NotImplementedError

    def _end(self, run: RunT) -> None:
        """Cut what ``_begin`` opened. Called once, after the run is ``gone``."""
        raise NotImplementedError

    # -- what an adapter calls -------------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Note that something came."""
        self._heard_at, self._heard_tick = self._clock(), time.monotonic()

    def _stand(self, run: RunT, state: StreamState, what: str | None = None) -> None:
        """Set the state from now on, because of ``what``."""
        with self._lock:
            if not run.gone:
                self._state = state
                self._error = None if what is None else self._worded(what)

    def _say(self, run: RunT, what: str | None) -> None:
        """Keep the state, and set ``what`` as the error."""
        self._stand(run, self._state, what)

    def _report(self, run: RunT, instrument: str | None) -> None:
        """Report an event of an instrument, or of any with ``None``."""
        self._call(run, partial(run.on_event, instrument))

    def _report_fill(self, run: RunT, executed: StreamedFill) -> None:
        """Report an execution to ``on_fill``."""
        if self._on_fill is not None:
            self._call(run, partial(self._on_fill, executed))

    def _call(self, run: RunT, listener: Callable[[], None]) -> None:
        """Call back; an error there must not end the stream."""
        with self._lock:  # close waits for it
            if run.gone:
                return
            try:
                listener()
            except Exception:  # noqa: BLE001 - the callback's error is ours, and not the stream's end
                logger.exception("{}: an internal error while taking an event of the {}", self._account, self.followed)
