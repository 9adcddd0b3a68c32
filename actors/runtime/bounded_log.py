"""An actor's own log of its work: Ray's dashboard shows it beside the actor.

The law of this module: the log is bounded, however often something changes. A line is written when a result differs
from the last one, and otherwise at most every five minutes; after twenty lines within a minute the rest is left out,
and the next line says how many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from loguru import logger

CALM_S = 300.0
"""How often a line is written although nothing has changed."""
LINES_A_MINUTE = 20


class BoundedLog:
    """The log of one actor. ``monotonic_s`` is its clock."""

    def __init__(self, name: str, monotonic_s: Callable[[], float]) -> None:
        self._name = name
        self._monotonic_s = monotonic_s
        self._last: object = None
        self._last_s = -CALM_S
        self._lines_s: deque[float] = deque(maxlen=LINES_A_MINUTE)
        self._left_out = 0

    def write(self, result: object, line: Callable[[], str]) -> None:
        """Write the line if this result of some work differs from the last one, or if it is time again."""
        now_s = self._monotonic_s()
        if result == self._last and now_s - self._last_s < CALM_S:
            return
        self._last, self._last_s = result, now_s
        if len(self._lines_s) == LINES_A_MINUTE and now_s - self._lines_s[0] < 60:
            self._left_out += 1
            return
        self._lines_s.append(now_s)
        more = f"; {self._left_out} lines before this one were left out" if self._left_out else ""
        self._left_out = 0
        logger.info("{}: {}{}", self._name, line(), more)

    def restarted(self, restarts: int, reason: str) -> None:
        """Log that this actor replaces one that died."""
        logger.warning("{}: restart {} of this actor: {}", self._name, restarts, reason)
