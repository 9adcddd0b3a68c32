"""Signals that ask the command line to stop: noted, never raised, so that nothing is cut off half done.

Ray's own processes share our terminal and our process group. They block SIGINT themselves; a terminal that goes away
would end them all the same, so they are started with SIGHUP ignored (:meth:`StopSignals.install`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP set :attr:`asked`. To be made, and left, in the main thread."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.name: str | None = None
        """The first signal that asked."""
        self._heeding = False
        self._on_terminal = sys.stdin is not None and _is_terminal()

    def install(self) -> None:
        """From now on a signal only asks. Until :meth:`heed_hangup` SIGHUP is ignored, by the processes started
        meanwhile for good: an ignored signal stays so over exec."""
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def heed_hangup(self) -> None:
        """From now on SIGHUP asks too; one that came before is known by the terminal that is gone."""
        if self._heeding:
            return
        self._heeding = True
        signal.signal(signal.SIGHUP, self._note)
        if self._on_terminal and not _is_terminal():
            self._note(signal.SIGHUP, None)

    def ignore(self) -> None:
        """From now on they do nothing: all is done, and the process is about to end."""
        for number in _ASKING:
            signal.signal(number, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.name is None:
            self.name = signal.Signals(number).name
        self.asked.set()


def _is_terminal() -> bool:
    try:
        os.tcgetpgrp(0)
    except OSError:
        return False
    return True
