"""Signals that ask the command line to stop: noted, never raised, so that nothing is cut off half done."""

from __future__ import annotations

import signal
import threading
from types import FrameType

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP set :attr:`asked`. To be used in the main thread."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.name: str | None = None
        """The first signal that asked."""
        self._before = {number: signal.getsignal(number) for number in _ASKING}

    def install(self) -> None:
        """From now on a signal only asks."""
        for number in _ASKING:
            signal.signal(number, self._note)

    def restore(self) -> None:
        """From now on they do what they did before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore(self) -> None:
        """From now on they do nothing: all is done, and the process is about to end."""
        for number in _ASKING:
            signal.signal(number, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.name is None:
            self.name = signal.Signals(number).name
        self.asked.set()
