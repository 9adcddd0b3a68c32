"""One run in a process of a campaign, which a run that hangs does not hold up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from tests.simulation.run import Outcome, run

HANGS_AFTER_S = 120
"""A run takes a fraction of a second; one that goes on for so long never ends."""


class Hangs(BaseException):
    """Nothing in a run may take it for a fault of its own."""


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    def over(*_: object) -> None:
        raise Hangs

    signal.signal(signal.SIGALRM, over)
    signal.alarm(HANGS_AFTER_S)
    try:
        yield
    finally:
        signal.alarm(0)


def bounded(seed: int, steps: int) -> Outcome:
    """As :func:`run`; one that does not end has failed."""
    try:
        with _bounded():
            return run(seed, steps)
    except Hangs:
        return Outcome(seed, steps, f"it did not end within {HANGS_AFTER_S} s")
