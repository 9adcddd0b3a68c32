"""Signals that ask the command line to stop, or to reload its configuration: noted, never raised, so that nothing is
cut off half done. And the running of a coroutine that Ctrl-C always ends."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP set :attr:`asked`. Use it in the main thread.

    SIGHUP has three meanings. At a terminal, the terminal is gone: the process ends as after Ctrl-C. For a service
    (``hangup_reloads``), its configuration has changed: :attr:`reload` is set. A process that was started to ignore it
    (by ``nohup``) ignores it."""

    def __init__(self, *, hangup_reloads: bool = False) -> None:
        self.asked = threading.Event()
        self.reload = threading.Event()
        self.name: str | None = None
        """The first signal that arrived."""
        self._hangup_reloads = hangup_reloads
        self._before = {number: signal.getsignal(number) for number in _ASKING}

    def install(self) -> None:
        """Only note signals from now on."""
        for number in _ASKING:
            if number is signal.SIGHUP and self._before[number] is signal.SIG_IGN:
                continue
            signal.signal(number, self._note)

    def restore(self) -> None:
        """Restore the former handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore(self) -> None:
        """Ignore signals from now on: everything is done, and the process is about to end."""
        for number in _ASKING:
            signal.signal(number, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGHUP and self._hangup_reloads:
            self.reload.set()
            return
        if self.name is None:
            self.name = signal.Signals(number).name
        self.asked.set()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it as ``asyncio.run`` does; in the main thread, SIGINT cancels it and raises ``KeyboardInterrupt``.

    ``asyncio.run`` alone can sleep through a SIGINT. Python only notes the signal and acts on it when the main thread
    runs next; where it arrives just before the event loop goes to sleep, or in another thread, nothing wakes the loop
    until its next event, which for a broker that does not answer is its time-out. A handler of the loop's own writes to
    a descriptor that the loop waits for, and so always wakes it. Where SIGINT is ignored or somebody else's, it is left
    as it is."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours or threading.current_thread() is not threading.main_thread():
        return asyncio.run(work)
    interrupted = False

    async def interruptible() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def interrupt() -> None:
            nonlocal interrupted
            if interrupted or task is None:
                raise KeyboardInterrupt  # the second one does not wait for what the first one ends in order
            interrupted = True
            task.cancel()

        loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            return await work
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
