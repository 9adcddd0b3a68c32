"""Signals that ask the command line to stop, or to reload its configuration: noted, never raised, so that nothing is
cut off half done."""

from __future__ import annotations

import signal
import threading
from types import FrameType

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
