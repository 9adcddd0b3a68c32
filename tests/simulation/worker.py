"""One run in a process of a campaign, which a run that hangs does not hold up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from tests.simulation.run import Outcome, run

HANGS_AFTER_S = 120
"""A run takes a fraction of a second; one that goes on for so long never ends."""


class Hangs(SystemExit):
    """Nothing in a run may take it for a fault of its own, and a loop whose tasks go on for ever ends with it: it keeps
    any other exception of a task for whoever awaits that."""


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    def over(*_: object) -> None:
        raise Hangs

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, HANGS_AFTER_S, 1.0)  # again, where what ends it goes on as well
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def bounded(seed: int, steps: int) -> Outcome:
    """As :func:`run`; one that does not end has failed."""
    try:
        with _bounded():
            return run(seed, steps)
    except Hangs:
        return Outcome(seed, steps, f"it did not end within {HANGS_AFTER_S} s")
