"""When a dead actor comes back, and when it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.tree.restart import Quarantine, Restart, RestartHistory, RestartPolicy, after_death

POLICY = RestartPolicy(intensity=5, period_s=60, backoff_min_s=0.5, backoff_max_s=3, jitter=0.0)


def verdicts(policy: RestartPolicy, deaths_s: list[float], uniform: float = 0.0) -> list[float | None]:
    """The delay after each death, ``None`` for quarantine."""
    history, delays = RestartHistory(), list[float | None]()
    for at_s in deaths_s:
        history, verdict = after_death(policy, history, at_s, uniform)
        delays.append(verdict.delay_s if isinstance(verdict, Restart) else None)
    return delays


SCENARIOS: dict[str, tuple[RestartPolicy, list[float], list[float | None]]] = {
    "the first death is restarted at once": (POLICY, [100], [0]),
    "later ones wait twice as long each time, up to the largest": (POLICY, [1, 2, 3, 4, 5], [0, 0.5, 1, 2, 3]),
    "one more than intensity is quarantined": (POLICY, [1, 2, 3, 4, 5, 20], [0, 0.5, 1, 2, 3, None]),
    "restarts outside the window are forgotten": (POLICY, [1, 2, 3, 200, 201], [0, 0.5, 1, 0, 0.5]),
    "rare deaths are each restarted at once": (POLICY, [0, 61, 122, 183, 244, 305, 366], [0] * 7),
    "an intensity of none restarts nothing": (replace(POLICY, intensity=0), [1], [None]),
    "a smallest delay of none is no delay": (replace(POLICY, backoff_min_s=0), [1, 2, 3], [0, 0, 0]),
    "many restarts do not overflow": (replace(POLICY, intensity=3000), [1] * 2000, [0, 0.5, 1, 2, *([3.0] * 1996)]),
}


@pytest.mark.parametrize(("policy", "deaths_s", "delays_s"), SCENARIOS.values(), ids=SCENARIOS.keys())
def test_restarts(policy: RestartPolicy, deaths_s: list[float], delays_s: list[float | None]) -> None:
    assert delays_s == verdicts(policy, deaths_s)


def test_jitter_only_lengthens_a_delay() -> None:
    assert pytest.approx(verdicts(replace(POLICY, jitter=0.1), [1, 2, 3, 4], uniform=1.0)) == [0, 0.55, 1.1, 2.2]


def test_a_quarantine_says_why() -> None:
    _, verdict = after_death(POLICY, RestartHistory((1, 2, 3, 4, 5)), 6, 0)

    assert Quarantine("5 restarts within 60 s, and it died again") == verdict


def test_an_operator_clears_a_quarantine_with_a_fresh_history() -> None:
    _, verdict = after_death(POLICY, RestartHistory(), 6, 0)

    assert Restart(0) == verdict


policies = st.builds(
    RestartPolicy,
    intensity=st.integers(0, 10),
    period_s=st.floats(0.1, 1000),
    backoff_min_s=st.floats(0, 5),
    backoff_max_s=st.floats(5, 60),
    jitter=st.floats(0, 1),
)


@given(policies, st.lists(st.floats(0, 100), max_size=60), st.floats(0, 1))
def test_for_any_deaths_the_limits_hold(policy: RestartPolicy, gaps_s: list[float], uniform: float) -> None:
    now_s, history = 0.0, RestartHistory()
    for gap_s in gaps_s:
        now_s += gap_s
        history, verdict = after_death(policy, history, now_s, uniform)

        assert len(history.restarts_s) <= policy.intensity
        assert all(at_s > now_s - policy.period_s for at_s in history.restarts_s)
        if isinstance(verdict, Restart):
            assert 0 <= verdict.delay_s <= policy.backoff_max_s * (1 + policy.jitter)
            assert verdict.delay_s == 0 or len(history.restarts_s) > 1
            now_s += verdict.delay_s
        else:
            assert len(history.restarts_s) == policy.intensity


@given(policies, st.lists(st.floats(0, 100), max_size=30), st.floats(0, 1))
def test_the_same_deaths_have_the_same_end(policy: RestartPolicy, deaths_s: list[float], uniform: float) -> None:
    assert verdicts(policy, sorted(deaths_s), uniform) == verdicts(policy, sorted(deaths_s), uniform)
