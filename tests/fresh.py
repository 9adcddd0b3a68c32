"""What CI tries anew in each run, and a developer's run leaves short: seeds that nobody has seen."""

from __future__ import annotations

import os

IN_CI = bool(os.environ.get("CI"))
"""``.ci/run`` sets it."""

SEEDS = "seeds"
"""The property of a test under which the summary of the run shows the seeds that it used."""


def a_seed(variable: str, known: int) -> int:
    """The seed to begin with: what the environment variable says, a fresh one in CI, else one known to pass."""
    given = os.environ.get(variable, "fresh" if IN_CI else str(known))
    return int.from_bytes(os.urandom(5)) if given == "fresh" else int(given)
