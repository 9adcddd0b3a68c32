"""How long to wait before something is tried again. Pure: chance is an argument.

Requests to a broker are repeated by stamina; this is for what goes on for ever.
"""

from __future__ import annotations

_LARGEST_EXPONENT = 64
"""2.0 ** 1024 overflows; long before that the longest pause has been reached."""


def backoff_s(failures: int, first_s: float, longest_s: float) -> float:
    """The pause after so many failures in a row (1 or more), in seconds: ``first_s``, then twice as long each time, at
    most ``longest_s``."""
    return min(longest_s, first_s * 2.0 ** min(failures - 1, _LARGEST_EXPONENT))


def spread_s(pause_s: float, uniform: float) -> float:
    """Half of a pause to all of it, by a random number from 0 to 1: those who failed together do not come back
    together."""
    return pause_s * (1 + uniform) / 2
