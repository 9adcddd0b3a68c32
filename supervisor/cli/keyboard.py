"""Reads single keys from a terminal, without Enter.

The laws of this module: without a terminal on standard input there are no keys; the terminal's settings are restored,
whatever happens; Ctrl-C stays a signal.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from supervisor.cli.look import BACKSPACE, DOWN, ENTER, ESCAPE, UP

_NAMES = {"\r": ENTER, "\n": ENTER, "\x1b": ESCAPE, "\x7f": BACKSPACE, "\b": BACKSPACE}
_SEQUENCES = {"\x1b[A": UP, "\x1b[B": DOWN, "\x1bOA": UP, "\x1bOB": DOWN}


def named(typed: str) -> Iterator[str]:
    """The keys in a terminal's input: letters, and the names of special keys; unknown sequences are left out."""
    place = 0
    while place < len(typed):
        sequence = _SEQUENCES.get(typed[place : place + 3])
        if sequence is not None:
            yield sequence
            place += 3
            continue
        letter = typed[place]
        if letter in _NAMES or letter.isprintable():
            yield _NAMES.get(letter, letter)
        place += 1


class Keyboard:
    """Standard input as keys, within a ``with`` block."""

    def __init__(self) -> None:
        self._file: int | None = None
        self._before: list[Any] | None = None

    def __enter__(self) -> Keyboard:
        with contextlib.suppress(OSError, ValueError, ImportError):
            import termios
            import tty

            file = sys.stdin.fileno()
            if os.isatty(file) and os.getpgrp() == os.tcgetpgrp(file):  # else reading would stop this process
                self._before = termios.tcgetattr(file)
                tty.setcbreak(file, termios.TCSANOW)
                self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None and self._before is not None:
            import termios

            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self._file, termios.TCSANOW, self._before)

    def pressed(self, within_s: float) -> list[str]:
        """The keys pressed, as soon as there are any; empty after ``within_s``."""
        if self._file is None:
            if within_s:
                time.sleep(within_s)
            return []
        with contextlib.suppress(OSError, ValueError):
            if select.select([self._file], [], [], within_s)[0]:
                sent = os.read(self._file, 256)
                if sent:
                    return list(named(sent.decode(errors="replace")))
                self._file = None  # the other end is closed
        return []
