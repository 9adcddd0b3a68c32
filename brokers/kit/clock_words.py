"""How far a broker's clock is from ours, in words. Pure."""

from __future__ import annotations

from datetime import timedelta

WHOLE_SECOND_S = 1.0
"""Brokers show whole seconds, cut: a smaller difference is none."""


def clock_words(ahead: timedelta | None, zone: str) -> str | None:
    """``ahead`` is how far the broker's clock is ahead of ours, ``zone`` the zone in which it shows times; ``None`` for
    a broker that shows no time."""
    if ahead is None:
        return None
    seconds = ahead.total_seconds()
    if abs(seconds) < WHOLE_SECOND_S:
        return f"with ours to the second; it shows times in {zone}"
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} ours; it shows times in {zone}"
