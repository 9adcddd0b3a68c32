"""Signals that ask the command line to stop, or to read its configuration again: noted, never raised, so that nothing
is cut off half done."""

from __future__ import annotations

import signal
import threading
from types import FrameType

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP set :attr:`asked`. To be used in the main thread.

    SIGHUP is what its sender means by it: of a process at a terminal that the terminal is gone, which ends it as Ctrl-C
    would; of a service (``hangup_reloads``) that its configuration has changed, which sets :attr:`reload`; and nothing
    at all of a process that was started to ignore it (by ``nohup``)."""

    def __init__(self, *, hangup_reloads: bool = False) -> None:
        self.asked = threading.Event()
        self.reload = threading.Event()
        self.name: str | None = None
        """The first signal that asked."""
        self._hangup_reloads = hangup_reloads
        self._before = {number: signal.getsignal(number) for number in _ASKING}

    def install(self) -> None:
        """From now on a signal only asks."""
        for number in _ASKING:
            if number is signal.SIGHUP and self._before[number] is signal.SIG_IGN:
                continue
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
        if number == signal.SIGHUP and self._hangup_reloads:
            self.reload.set()
            return
        if self.name is None:
            self.name = signal.Signals(number).name
        self.asked.set()
