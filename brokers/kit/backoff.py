"""How long to wait before the next try. Pure: chance is an argument.

stamina repeats requests to a broker; this is for tries that go on for ever.
"""

from __future__ import annotations

_LARGEST_EXPONENT = 64
"""2.0 ** 1024 overflows; the longest pause is reached long before that."""


def backoff_s(failures: int, first_s: float, longest_s: float) -> float:
    """The pause after this many failures in a row (1 or more), in seconds: ``first_s``, then twice as long each time,
    at most ``longest_s``."""
    return min(longest_s, first_s * 2.0 ** min(failures - 1, _LARGEST_EXPONENT))


def spread_s(pause_s: float, uniform: float) -> float:
    """A pause between half of ``pause_s`` and all of it, by a random number from 0 to 1, so that those that failed
    together do not come back together."""
    return pause_s * (1 + uniform) / 2
