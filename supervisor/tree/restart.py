"""When a dead actor is started again, and when it is not.

Erlang/OTP's sliding window of restarts on a monotonic clock, with a growing delay between them. An actor beyond the
limit is quarantined; no other is affected. Time and randomness are arguments.
"""

from __future__ import annotations

from brokers.frozen import dataclass
from brokers.kit.backoff import backoff_s


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """At most ``intensity`` restarts within ``period_s``. The first is immediate; later ones wait ``backoff_min_s``,
    then twice as long each time, up to ``backoff_max_s``, each lengthened by up to the fraction ``jitter``, so that
    actors which died together do not restart together.

    An actor whose delays alone fill ``period_s`` never reaches the limit and is restarted at ``backoff_max_s`` for
    ever: choose ``period_s`` above the sum of ``intensity`` delays.
    """

    intensity: int = 5
    period_s: float = 60.0
    backoff_min_s: float = 0.5
    backoff_max_s: float = 30.0
    jitter: float = 0.2


@dataclass(frozen=True, slots=True)
class RestartHistory:
    """The times of an actor's restarts within the window, oldest first, on a monotonic clock. A fresh history ends a
    quarantine: an operator's restart starts one."""

    restarts_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after ``delay_s``."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Leave it down until an operator restarts it."""

    reason: str


def after_death(
    policy: RestartPolicy, history: RestartHistory, now_monotonic_s: float, uniform: float
) -> tuple[RestartHistory, Restart | Quarantine]:
    """The decision about a death at ``now_monotonic_s``. ``uniform`` is a random number from 0 to 1.

    The restart counts from the moment it is due, so that a long delay does not use up the window it waits in.
    """
    recent = tuple(at for at in history.restarts_s if at > now_monotonic_s - policy.period_s)
    if len(recent) >= policy.intensity:
        reason = f"{len(recent)} restarts within {policy.period_s:g} s, and it died again"
        return RestartHistory(recent), Quarantine(reason)
    delay_s = _delay_s(policy, len(recent), uniform)
    return RestartHistory((*recent, now_monotonic_s + delay_s)), Restart(delay_s)


def _delay_s(policy: RestartPolicy, recent: int, uniform: float) -> float:
    if recent == 0:
        return 0.0
    return backoff_s(recent, policy.backoff_min_s, policy.backoff_max_s) * (1 + policy.jitter * uniform)
