"""The supervision tree: which events lead to which commands, and what holds for any of them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.tree.model import (
    AUDIT,
    ChildKey,
    DesiredChanged,
    Died,
    Discovered,
    Ended,
    Event,
    InQuarantine,
    Kill,
    OperatorRestart,
    Probe,
    ProbeAnswered,
    ProbeFailed,
    Quarantined,
    RestartScheduled,
    Start,
    Started,
    StartFailed,
    Stop,
    Tick,
    Up,
)
from supervisor.tree.tree import next_probe_s
from tests.unit.tree_cases import (
    ALL,
    CFD,
    EUR,
    FX,
    GBP,
    POLICY,
    SPECS,
    XAU,
    World,
    account,
    begun,
    instrument,
    spec,
    started,
    stopped,
)

# Starting and stopping


def test_nothing_starts_before_what_is_desired_and_what_lives_are_known() -> None:
    orders: list[list[Event]] = [[DesiredChanged(SPECS), Tick()], [Discovered(()), Tick()]]
    for events in orders:
        world = World()
        for event in events:
            assert world.send(event) == []


def test_audit_then_accounts_then_instruments_begin_their_work_in_this_order() -> None:
    world = World()
    world.send(Discovered(()))

    first = world.send(DesiredChanged(SPECS))
    assert [(c.spec.key.name, c.waiting) for c in first if isinstance(c, Start)] == [
        ("audit", False), ("fx", True), ("cfd", True), ("fx/GBP_JPY", True), ("fx/EUR_USD", True),
    ]  # fmt: skip
    assert begun(world.send(Started(AUDIT, world.attempt(AUDIT)))) == ["fx", "cfd"]
    assert begun(world.send(Started(FX, world.attempt(FX)))) == ["fx/GBP_JPY", "fx/EUR_USD"]
    assert begun(world.send(Started(CFD, world.attempt(CFD)))) == ["cfd/XAUUSD"]


def test_what_waits_for_an_account_that_is_slow_to_come_up_takes_no_place_of_the_others() -> None:
    """PEERS 17"""
    slow = [instrument(f"fx/I{number}") for number in range(40)]
    keys = [AUDIT, FX, CFD, *slow, XAU]
    world = World()
    world.send(Discovered(()))
    world.send(DesiredChanged(tuple(map(spec, keys))))
    world.send(Started(AUDIT, world.attempt(AUDIT)))

    begins = world.send(Started(CFD, world.attempt(CFD)), after_s=POLICY.start_timeout_s - 1)
    assert begun(begins) == ["cfd/XAUUSD"]
    assert sum(state == "Starting" for state in world.states.values()) == 1 + POLICY.ahead + 1


def test_what_waited_for_an_account_that_failed_is_not_begun_and_no_death() -> None:
    world = World()
    world.send(Discovered(()))
    world.send(DesiredChanged(SPECS))
    world.send(Started(AUDIT, world.attempt(AUDIT)))
    commands = world.send(StartFailed(FX, world.attempt(FX), "no such broker", permanent=True))

    why = "what it depends on did not come up"
    assert [c for c in commands if isinstance(c, Kill)] == [Kill(k, world.attempt(k), why) for k in (GBP, EUR)]
    world.settle(commands)
    assert world.states["fx/GBP_JPY"] == "Absent"
    assert world.logged(RestartScheduled) == []


def test_no_more_than_a_wave_starts_at_once() -> None:
    keys = [AUDIT, *(account(f"a{number}") for number in range(10))]
    world = World()
    world.send(Discovered(()))
    world.send(DesiredChanged(tuple(map(spec, keys))))

    assert len(begun(world.send(Started(AUDIT, world.attempt(AUDIT))))) == POLICY.ahead
    for number in range(1, 10):
        world.send(Started(keys[number], world.attempt(keys[number])))
        assert sum(state == "Starting" for state in world.states.values()) <= POLICY.wave_size


def test_an_account_that_does_not_start_keeps_nobody_else_waiting() -> None:
    """PEERS 8, PEERS 17"""
    world = World()
    world.send(Discovered(()))
    world.send(DesiredChanged(SPECS))
    world.send(Started(AUDIT, world.attempt(AUDIT)))
    world.settle(world.send(StartFailed(FX, world.attempt(FX), "no such broker", permanent=True)))
    world.settle(world.send(Started(CFD, world.attempt(CFD))))

    assert world.states == {
        "audit": "Up", "fx": "InQuarantine", "cfd": "Up",
        "fx/GBP_JPY": "Absent", "fx/EUR_USD": "Absent", "cfd/XAUUSD": "Up",
    }  # fmt: skip
    assert world.logged(Quarantined) == [Quarantined(FX, "no such broker")]


def test_stop_goes_in_reverse_and_leaves_nothing() -> None:
    world = World().up()
    first = world.send(DesiredChanged(()))
    assert sorted(stopped(first)) == ["cfd/XAUUSD", "fx/EUR_USD", "fx/GBP_JPY"]

    assert stopped(world.send(Ended(XAU, world.attempt(XAU)))) == ["cfd"]
    assert stopped(world.send(Ended(GBP, world.attempt(GBP)))) == []
    assert stopped(world.send(Ended(EUR, world.attempt(EUR)))) == ["fx"]
    assert stopped(world.send(Ended(FX, world.attempt(FX)))) == []
    assert stopped(world.send(Ended(CFD, world.attempt(CFD)))) == ["audit"]
    world.send(Ended(AUDIT, world.attempt(AUDIT)))
    assert world.tree.stopped


def test_a_stop_amid_the_start_kills_what_is_starting() -> None:
    world = World()
    world.send(Discovered(()))
    world.send(DesiredChanged(SPECS))
    attempt = world.attempt(AUDIT)

    commands = world.send(DesiredChanged(()))
    assert [c.key for c in commands if isinstance(c, Kill)] == [GBP, EUR, CFD]
    assert world.send(Started(AUDIT, attempt)) == []  # it came up after all, just before the kill
    world.settle(commands)
    assert world.tree.stopped


def test_an_actor_that_does_not_stop_in_time_is_killed() -> None:
    world = World().up()
    world.send(DesiredChanged(()))

    kills = [command for command in world.send(Tick(), after_s=5) if isinstance(command, Kill)]
    assert {command.key for command in kills} == {GBP, EUR, XAU}


def test_one_instrument_is_removed_and_another_added_while_the_rest_runs() -> None:
    world = World().up()
    new = instrument("cfd/EURUSD")
    commands = world.send(DesiredChanged((*(s for s in SPECS if s.key != GBP), spec(new))))

    assert stopped(commands) == ["fx/GBP_JPY"]
    assert started(commands) == ["cfd/EURUSD"]
    assert len(commands) == 2


def test_a_changed_spec_restarts_that_child_alone_and_is_no_death() -> None:
    world = World().up()
    changed = tuple(replace(s, fingerprint="new") if s.key == GBP else s for s in SPECS)

    commands = world.send(DesiredChanged(changed))
    assert stopped(commands) == ["fx/GBP_JPY"]
    world.settle(commands)
    assert world.tree.children[GBP].running == spec(GBP, "new")
    assert world.tree.children[GBP].restarts == 0
    assert world.logged(RestartScheduled) == []


def test_a_child_desired_without_what_it_stands_on_is_a_mistake_of_the_caller() -> None:
    for specs in ((spec(FX),), (spec(AUDIT), spec(GBP))):
        with pytest.raises(ValueError, match="without what it stands on"):
            World().send(DesiredChanged(specs))


# Finding children again


def test_a_new_supervisor_takes_over_what_lives_and_sweeps_orphans() -> None:
    world = World()
    orphan = instrument("gone/USD_CAD")
    world.send(Discovered((AUDIT, FX, GBP, orphan)))
    commands = world.send(DesiredChanged(SPECS))

    assert stopped(commands) == ["gone/USD_CAD"]
    assert started(commands) == ["cfd", "fx/EUR_USD", "cfd/XAUUSD"]
    assert world.states["fx/GBP_JPY"] == "Up"


def test_an_orphan_that_appears_later_is_swept() -> None:
    world = World().up()
    commands = world.send(Discovered((*ALL, instrument("fx/OLD"))))

    assert commands == [Stop(instrument("fx/OLD"), 0)]
    world.settle(commands)
    assert instrument("fx/OLD") not in world.tree.children


def test_a_child_taken_over_is_restarted_when_its_spec_changes_later() -> None:
    world = World()
    world.send(DesiredChanged(SPECS))
    world.send(Discovered(ALL))

    changed = tuple(replace(s, interval_s=9) if s.key == FX else s for s in SPECS)
    assert stopped(world.send(DesiredChanged(changed))) == ["fx"]


# Deaths, restarts and quarantine


def test_the_first_death_is_restarted_at_once_and_later_ones_wait() -> None:
    world = World().up()

    commands = world.die(GBP)
    assert commands[0] == RestartScheduled(GBP, "killed", 0.0, 1)
    assert started(commands) == ["fx/GBP_JPY"]
    world.settle(commands)
    assert started(world.die(GBP, after_s=1)) == []
    assert world.tree.wake_at_s(world.now_s) is not None
    assert started(world.send(Tick(), after_s=0.9)) == []
    assert started(world.send(Tick(), after_s=0.1)) == ["fx/GBP_JPY"]


@pytest.mark.parametrize("key", ALL, ids=lambda key: key.name)
def test_quarantine_isolates_that_child_alone(key: ChildKey) -> None:
    """PEERS 17"""
    world = World().up()
    others = {other: world.tree.children[other].attempt for other in ALL if other != key}
    for _ in range(3):
        world.settle([c for c in world.die(key, after_s=0.1) if not isinstance(c, Probe)])
        world.settle([c for c in world.send(Tick(), after_s=2) if not isinstance(c, Probe)])

    assert isinstance(world.tree.children[key].state, InQuarantine)
    assert [quarantined.key for quarantined in world.logged(Quarantined)] == [key]
    for other, attempt in others.items():
        assert isinstance(world.tree.children[other].state, Up)
        assert world.tree.children[other].attempt == attempt


def test_a_start_that_fails_counts_as_a_death() -> None:
    world = World().up()
    world.die(XAU)
    commands = world.send(StartFailed(XAU, world.attempt(XAU), "out of memory"))

    assert commands == [RestartScheduled(XAU, "out of memory", 1.0, 2)]


def test_an_operator_ends_a_quarantine() -> None:
    world = World()
    world.send(Discovered(()))
    world.send(DesiredChanged(SPECS))
    world.settle(world.send(StartFailed(AUDIT, world.attempt(AUDIT), "no disk", permanent=True)))
    assert world.send(Tick(), after_s=1000) == []

    assert started(world.send(OperatorRestart(AUDIT)))[0] == "audit"


def test_an_operator_clears_the_history_of_deaths() -> None:
    world = World().up()
    for _ in range(2):
        world.settle([c for c in world.die(GBP, after_s=0.1) if not isinstance(c, Probe)])
        world.settle([c for c in world.send(Tick(), after_s=2) if not isinstance(c, Probe)])
    world.die(GBP)
    assert world.states["fx/GBP_JPY"] == "InQuarantine"

    world.settle(world.send(OperatorRestart(GBP)))
    assert RestartScheduled(GBP, "killed", 0.0, 3) in world.die(GBP)


def test_an_operator_restarts_a_healthy_child_in_order() -> None:
    world = World().up()
    commands = world.send(OperatorRestart(GBP))

    assert commands == [Stop(GBP, world.attempt(GBP))]
    assert started(world.send(Ended(GBP, world.attempt(GBP)))) == ["fx/GBP_JPY"]
    assert world.send(OperatorRestart(instrument("fx/NOBODY"))) == []


def test_a_changed_configuration_ends_a_quarantine() -> None:
    world = World()
    world.send(Discovered(()))
    world.send(DesiredChanged(SPECS))
    world.send(StartFailed(AUDIT, world.attempt(AUDIT), "no disk", permanent=True))

    changed = tuple(replace(s, fingerprint="other disk") if s.key == AUDIT else s for s in SPECS)
    assert started(world.send(DesiredChanged(changed))) == ["audit"]


def test_instruments_are_restarted_while_their_account_is_down_and_not_while_the_audit_actor_is() -> None:
    world = World().up()
    world.die(FX)
    world.send(StartFailed(FX, world.attempt(FX), "refused", permanent=True))
    assert started(world.die(GBP)) == ["fx/GBP_JPY"]

    world.die(AUDIT)
    assert started(world.die(XAU)) == []
    assert started(world.send(Started(AUDIT, world.attempt(AUDIT)))) == ["cfd/XAUUSD"]


def test_a_death_reported_while_it_starts_or_ends_waits_for_the_answer_of_the_command() -> None:
    world = World().up()
    world.die(GBP)
    assert world.die(GBP) == []
    assert world.states["fx/GBP_JPY"] == "Starting"
    world.send(OperatorRestart(EUR))
    assert world.die(EUR) == []
    assert world.states["fx/EUR_USD"] == "Ending"


def test_answers_of_an_earlier_attempt_are_ignored() -> None:
    world = World().up()
    old = world.attempt(GBP)
    world.settle(world.die(GBP))

    for late in (Died(GBP, old, "late"), Ended(GBP, old), StartFailed(GBP, old, "late"), ProbeAnswered(GBP, old, 1e6)):
        assert world.send(late) == []
    assert world.states["fx/GBP_JPY"] == "Up"


def test_attempts_are_not_repeated_by_a_child_removed_and_added_again() -> None:
    world = World().up()
    old = world.attempt(GBP)
    world.settle(world.send(DesiredChanged(tuple(s for s in SPECS if s.key != GBP))))
    world.settle(world.send(DesiredChanged(SPECS)))

    assert world.attempt(GBP) > old
    assert world.send(Died(GBP, old, "late")) == []


# Health

HUNG: dict[str, tuple[float, float | None, bool, bool]] = {
    # seconds up, age of the last cycle, is a cycle due -> hung (after 17 s)
    "it has just started": (1, None, True, False),
    "it never finished a cycle, and should have": (17.1, None, True, True),
    "it finished one lately": (100, 16.9, True, False),
    "its last one is too long ago": (100, 17.1, True, True),
    "its last one was before this supervisor found it": (10, 5000, True, False),
    "it is paused": (100, 5000, False, False),
}


@pytest.mark.parametrize(("up_s", "age_s", "due", "hung"), HUNG.values(), ids=HUNG.keys())
def test_a_child_hangs_by_the_age_of_its_last_cycle(up_s: float, age_s: float | None, due: bool, hung: bool) -> None:
    world = World().up()
    kills = [c for c in world.answer(GBP, age_s, after_s=up_s, due=due) if isinstance(c, Kill)]

    assert ([GBP] if hung else []) == [kill.key for kill in kills]
    if hung:
        commands = world.send(Ended(GBP, world.attempt(GBP)))
        assert "hung: no cycle finished for 17.1 s" in [c.reason for c in commands if isinstance(c, RestartScheduled)]
        assert started(commands) == ["fx/GBP_JPY"]


def test_a_child_that_answers_no_probe_is_killed_once_it_has_been_silent_long_enough() -> None:
    world = World().up()
    assert Probe(FX, world.attempt(FX)) in world.send(Tick(), after_s=2)
    for key in ALL:
        if key != FX:
            world.answer(key, 0.0)

    for _ in range(4):  # silent since the first of these probes was sent
        commands = world.send(ProbeFailed(FX, world.attempt(FX)), after_s=4)
        assert Probe(FX, world.attempt(FX)) in commands
        for key in ALL:
            if key != FX:
                world.answer(key, 0.0)
    kills = [c for c in world.send(Tick(), after_s=1) if isinstance(c, Kill)]
    assert kills == [Kill(FX, world.attempt(FX), "hung: it does not answer probes")]


def test_one_answer_ends_the_silence() -> None:
    world = World().up()
    world.send(Tick(), after_s=2)
    world.send(ProbeFailed(FX, world.attempt(FX)), after_s=10)
    for key in ALL:
        world.answer(key, 0.0)
    world.settle([c for c in world.send(Tick(), after_s=6) if isinstance(c, Probe)])

    assert set(world.states.values()) == {"Up"}


def test_one_probe_is_out_for_a_child() -> None:
    world = World().up()
    assert len([c for c in world.send(Tick(), after_s=2) if isinstance(c, Probe)]) == len(ALL)
    assert not [c for c in world.send(Tick(), after_s=2) if isinstance(c, Probe)]


def test_the_probes_of_many_children_are_no_more_than_the_supervisor_can_take() -> None:
    many = tuple(map(spec, (AUDIT, FX, *(instrument(f"fx/I{number:03}") for number in range(98)))))
    policy = replace(POLICY, probe_period_s=2.0, probes_per_s=10.0, wave_size=100)
    world = World(policy).up(desired=many)
    probes = 0
    for _ in range(100):
        commands = [command for command in world.send(Tick(), after_s=1) if isinstance(command, Probe)]
        probes += len(commands)
        world.settle(list(commands))
    assert probes == pytest.approx(100 * 10, rel=0.1)


@pytest.mark.parametrize("carried", [True, False])
def test_those_that_share_a_process_are_probed_together_and_as_often_as_others(carried: bool) -> None:
    many = tuple(replace(spec(instrument(f"fx/I{number:03}")), carried=carried) for number in range(100))
    policy = replace(POLICY, probe_period_s=2.0, probes_per_s=1000.0, carried_at_once=100, wave_size=100)
    chance = random.Random(7).random  # noqa: S311 - spreads the probes, and the same in each run
    world = World(policy, uniform=chance).up(desired=(*map(spec, (AUDIT, FX)), *many))
    keys = {one.key for one in many}
    probes, moments = 0, 0
    for _ in range(6000):
        commands = [one for one in world.send(Tick(), after_s=0.01) if isinstance(one, Probe) and one.key in keys]
        probes, moments = probes + len(commands), moments + bool(commands)
        world.settle(list(commands))
    assert probes == pytest.approx(100 * 60 / 2, rel=0.2)
    assert (moments <= 121) == carried


def test_an_instrument_is_asked_at_once_and_at_short_intervals_until_its_first_cycle_has_finished() -> None:
    world = World()
    world.settle([*world.send(Discovered(())), *world.send(DesiredChanged(tuple(map(spec, (AUDIT, FX)))))])
    world.send(DesiredChanged(tuple(map(spec, (AUDIT, FX, GBP)))))
    gbp = Probe(GBP, world.attempt(GBP))
    assert gbp in world.send(Started(GBP, world.attempt(GBP)))
    world.answer(GBP, None, after_s=0.1)
    assert gbp in world.send(Tick(), after_s=0.4)
    world.answer(GBP, 0.1, after_s=0.1)
    assert gbp not in world.send(Tick(), after_s=0.4)


def test_a_start_that_is_never_answered_is_killed_and_tried_again() -> None:
    world = World()
    world.send(Discovered(()))
    world.send(DesiredChanged(SPECS))
    commands = world.send(Tick(), after_s=30)

    assert Kill(AUDIT, world.attempt(AUDIT), "hung: it did not come up in time") in commands
    assert started(world.send(Ended(AUDIT, world.attempt(AUDIT)))) == ["audit"]


@given(st.floats(0, 1e6), st.floats(0.01, 60), st.floats(0, 1))
def test_probes_spread_over_a_fifth_of_their_period(now_s: float, period_s: float, uniform: float) -> None:
    after_s = next_probe_s(now_s, period_s, uniform) - now_s

    assert 0.9 * period_s - 1e-6 <= after_s <= 1.1 * period_s + 1e-6
