"""The supervision tree: which events lead to which commands, and what holds for any of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from supervisor.tree.model import (
    AUDIT,
    LIVING,
    Answer,
    Begin,
    Child,
    ChildKey,
    ChildSpec,
    Command,
    DesiredChanged,
    Died,
    Discovered,
    Ended,
    Ending,
    Event,
    InQuarantine,
    Kill,
    Kind,
    OperatorRestart,
    Probe,
    ProbeAnswered,
    ProbeFailed,
    Quarantined,
    RestartScheduled,
    Start,
    Started,
    StartFailed,
    Starting,
    Stop,
    Tick,
    TreePolicy,
    Up,
)
from supervisor.tree.restart import RestartPolicy
from supervisor.tree.tree import Tree, next_probe_s

POLICY = TreePolicy(
    RestartPolicy(intensity=2, period_s=60, backoff_min_s=1, backoff_max_s=8, jitter=0),
    wave_size=3,
    probe_period_s=1,
    start_timeout_s=30,
    stop_timeout_s=5,
)


def account(name: str) -> ChildKey:
    return ChildKey(Kind.ACCOUNT, name)


def instrument(name: str) -> ChildKey:
    return ChildKey(Kind.INSTRUMENT, name)


def spec(key: ChildKey, fingerprint: str = "") -> ChildSpec:
    return ChildSpec(key, interval_s=5, timeout_s=2, fingerprint=fingerprint)  # hung after 17 s


FX, CFD = account("fx"), account("cfd")
GBP, EUR, XAU = instrument("fx/GBP_JPY"), instrument("fx/EUR_USD"), instrument("cfd/XAUUSD")
ALL = (AUDIT, FX, CFD, GBP, EUR, XAU)
SPECS = tuple(map(spec, ALL))

C = TypeVar("C", bound=Command)


class World:
    """Drives a tree as the supervisor's loop does, with actors that do what a test says."""

    def __init__(self, policy: TreePolicy = POLICY) -> None:
        self.tree = Tree(policy, lambda: 0.5)
        self.now_s = 1000.0
        self.log: list[Command] = []

    def tell(self, event: Event, after_s: float = 0.0) -> list[Command]:
        self.now_s += after_s
        commands = self.tree.handle(event, self.now_s)
        assert self.tree.validate() == []
        self.log += commands
        return commands

    def up(self, *, desired: tuple[ChildSpec, ...] = SPECS) -> World:
        """Everything started, nothing left to answer."""
        self.settle([*self.tell(Discovered(())), *self.tell(DesiredChanged(desired))])
        return self

    def settle(self, commands: list[Command]) -> None:
        """Answer every command as a healthy actor would, and so on until there is none."""
        while commands:
            command = commands.pop(0)
            match command:
                case Start(ChildSpec(key), attempt, waiting=False) | Begin(key, attempt):
                    commands += self.tell(Started(key, attempt))
                case Stop(key, attempt) | Kill(key, attempt):
                    commands += self.tell(Ended(key, attempt))
                case Probe(key, attempt):
                    commands += self.tell(ProbeAnswered(key, attempt, 0.0))

    def attempt(self, key: ChildKey) -> int:
        return self.tree.children[key].attempt

    def die(self, key: ChildKey, after_s: float = 0.0) -> list[Command]:
        return self.tell(Died(key, self.attempt(key), "killed"), after_s)

    def answer(self, key: ChildKey, age_s: float | None, *, after_s: float = 0.0, due: bool = True) -> list[Command]:
        return self.tell(ProbeAnswered(key, self.attempt(key), age_s, due), after_s)

    def logged(self, kind: type[C]) -> list[C]:
        return [command for command in self.log if isinstance(command, kind)]

    @property
    def states(self) -> dict[str, str]:
        return {key.name: type(child.state).__name__ for key, child in self.tree.children.items()}


def started(commands: list[Command]) -> list[str]:
    return [command.spec.key.name for command in commands if isinstance(command, Start)]


def begun(commands: list[Command]) -> list[str]:
    return [command.key.name for command in commands if isinstance(command, Begin)] + [
        command.spec.key.name for command in commands if isinstance(command, Start) and not command.waiting
    ]


def stopped(commands: list[Command]) -> list[str]:
    return [command.key.name for command in commands if isinstance(command, Stop)]


# Starting and stopping


def test_nothing_starts_before_what_is_desired_and_what_lives_are_known() -> None:
    orders: list[list[Event]] = [[DesiredChanged(SPECS), Tick()], [Discovered(()), Tick()]]
    for events in orders:
        world = World()
        for event in events:
            assert world.tell(event) == []


def test_audit_then_accounts_then_instruments_begin_their_work_in_this_order() -> None:
    world = World()
    world.tell(Discovered(()))

    first = world.tell(DesiredChanged(SPECS))
    assert [(c.spec.key.name, c.waiting) for c in first if isinstance(c, Start)] == [
        ("audit", False), ("fx", True), ("cfd", True), ("fx/GBP_JPY", True), ("fx/EUR_USD", True),
    ]  # fmt: skip
    assert begun(world.tell(Started(AUDIT, world.attempt(AUDIT)))) == ["fx", "cfd"]
    assert begun(world.tell(Started(FX, world.attempt(FX)))) == ["fx/GBP_JPY", "fx/EUR_USD"]
    assert begun(world.tell(Started(CFD, world.attempt(CFD)))) == ["cfd/XAUUSD"]


def test_what_waits_for_an_account_that_is_slow_to_come_up_takes_no_place_of_the_others() -> None:
    """PEERS 17"""
    slow = [instrument(f"fx/I{number}") for number in range(40)]
    keys = [AUDIT, FX, CFD, *slow, XAU]
    world = World()
    world.tell(Discovered(()))
    world.tell(DesiredChanged(tuple(map(spec, keys))))
    world.tell(Started(AUDIT, world.attempt(AUDIT)))

    begins = world.tell(Started(CFD, world.attempt(CFD)), after_s=POLICY.start_timeout_s - 1)
    assert begun(begins) == ["cfd/XAUUSD"]
    assert sum(state == "Starting" for state in world.states.values()) == 1 + POLICY.ahead + 1


def test_what_waited_for_an_account_that_failed_is_not_begun_and_no_death() -> None:
    world = World()
    world.tell(Discovered(()))
    world.tell(DesiredChanged(SPECS))
    world.tell(Started(AUDIT, world.attempt(AUDIT)))
    commands = world.tell(StartFailed(FX, world.attempt(FX), "no such broker", permanent=True))

    why = "what it stands on did not come up"
    assert [c for c in commands if isinstance(c, Kill)] == [Kill(k, world.attempt(k), why) for k in (GBP, EUR)]
    world.settle(commands)
    assert world.states["fx/GBP_JPY"] == "Absent"
    assert world.logged(RestartScheduled) == []


def test_no_more_than_a_wave_starts_at_once() -> None:
    keys = [AUDIT, *(account(f"a{number}") for number in range(10))]
    world = World()
    world.tell(Discovered(()))
    world.tell(DesiredChanged(tuple(map(spec, keys))))

    assert len(begun(world.tell(Started(AUDIT, world.attempt(AUDIT))))) == POLICY.ahead
    for number in range(1, 10):
        world.tell(Started(keys[number], world.attempt(keys[number])))
        assert sum(state == "Starting" for state in world.states.values()) <= POLICY.wave_size


def test_an_account_that_does_not_start_keeps_nobody_else_waiting() -> None:
    """PEERS 8, PEERS 17"""
    world = World()
    world.tell(Discovered(()))
    world.tell(DesiredChanged(SPECS))
    world.tell(Started(AUDIT, world.attempt(AUDIT)))
    world.settle(world.tell(StartFailed(FX, world.attempt(FX), "no such broker", permanent=True)))
    world.settle(world.tell(Started(CFD, world.attempt(CFD))))

    assert world.states == {
        "audit": "Up", "fx": "InQuarantine", "cfd": "Up",
        "fx/GBP_JPY": "Absent", "fx/EUR_USD": "Absent", "cfd/XAUUSD": "Up",
    }  # fmt: skip
    assert world.logged(Quarantined) == [Quarantined(FX, "no such broker")]


def test_stop_goes_in_reverse_and_leaves_nothing() -> None:
    world = World().up()
    first = world.tell(DesiredChanged(()))
    assert sorted(stopped(first)) == ["cfd/XAUUSD", "fx/EUR_USD", "fx/GBP_JPY"]

    assert stopped(world.tell(Ended(XAU, world.attempt(XAU)))) == ["cfd"]
    assert stopped(world.tell(Ended(GBP, world.attempt(GBP)))) == []
    assert stopped(world.tell(Ended(EUR, world.attempt(EUR)))) == ["fx"]
    assert stopped(world.tell(Ended(FX, world.attempt(FX)))) == []
    assert stopped(world.tell(Ended(CFD, world.attempt(CFD)))) == ["audit"]
    world.tell(Ended(AUDIT, world.attempt(AUDIT)))
    assert world.tree.stopped


def test_a_stop_amid_the_start_kills_what_is_starting() -> None:
    world = World()
    world.tell(Discovered(()))
    world.tell(DesiredChanged(SPECS))
    attempt = world.attempt(AUDIT)

    commands = world.tell(DesiredChanged(()))
    assert [c.key for c in commands if isinstance(c, Kill)] == [GBP, EUR, CFD]
    assert world.tell(Started(AUDIT, attempt)) == []  # it came up after all, just before the kill
    world.settle(commands)
    assert world.tree.stopped


def test_an_actor_that_does_not_stop_in_time_is_killed() -> None:
    world = World().up()
    world.tell(DesiredChanged(()))

    kills = [command for command in world.tell(Tick(), after_s=5) if isinstance(command, Kill)]
    assert {command.key for command in kills} == {GBP, EUR, XAU}


def test_one_instrument_is_removed_and_another_added_while_the_rest_runs() -> None:
    world = World().up()
    new = instrument("cfd/EURUSD")
    commands = world.tell(DesiredChanged((*(s for s in SPECS if s.key != GBP), spec(new))))

    assert stopped(commands) == ["fx/GBP_JPY"]
    assert started(commands) == ["cfd/EURUSD"]
    assert len(commands) == 2


def test_a_changed_spec_restarts_that_child_alone_and_is_no_death() -> None:
    world = World().up()
    changed = tuple(replace(s, fingerprint="new") if s.key == GBP else s for s in SPECS)

    commands = world.tell(DesiredChanged(changed))
    assert stopped(commands) == ["fx/GBP_JPY"]
    world.settle(commands)
    assert world.tree.children[GBP].running == spec(GBP, "new")
    assert world.tree.children[GBP].restarts == 0
    assert world.logged(RestartScheduled) == []


def test_a_child_desired_without_what_it_stands_on_is_a_mistake_of_the_caller() -> None:
    for specs in ((spec(FX),), (spec(AUDIT), spec(GBP))):
        with pytest.raises(ValueError, match="without what it stands on"):
            World().tell(DesiredChanged(specs))


# Finding children again


def test_a_new_supervisor_takes_over_what_lives_and_sweeps_orphans() -> None:
    world = World()
    orphan = instrument("gone/USD_CAD")
    world.tell(Discovered((AUDIT, FX, GBP, orphan)))
    commands = world.tell(DesiredChanged(SPECS))

    assert stopped(commands) == ["gone/USD_CAD"]
    assert started(commands) == ["cfd", "fx/EUR_USD", "cfd/XAUUSD"]
    assert world.states["fx/GBP_JPY"] == "Up"


def test_an_orphan_that_appears_later_is_swept() -> None:
    world = World().up()
    commands = world.tell(Discovered((*ALL, instrument("fx/OLD"))))

    assert commands == [Stop(instrument("fx/OLD"), 0)]
    world.settle(commands)
    assert instrument("fx/OLD") not in world.tree.children


def test_a_child_taken_over_is_restarted_when_its_spec_changes_later() -> None:
    world = World()
    world.tell(DesiredChanged(SPECS))
    world.tell(Discovered(ALL))

    changed = tuple(replace(s, interval_s=9) if s.key == FX else s for s in SPECS)
    assert stopped(world.tell(DesiredChanged(changed))) == ["fx"]


# Deaths, restarts and quarantine


def test_the_first_death_is_restarted_at_once_and_later_ones_wait() -> None:
    world = World().up()

    commands = world.die(GBP)
    assert commands[0] == RestartScheduled(GBP, "killed", 0.0, 1)
    assert started(commands) == ["fx/GBP_JPY"]
    world.settle(commands)
    assert started(world.die(GBP, after_s=1)) == []
    assert world.tree.wake_at_s(world.now_s) is not None
    assert started(world.tell(Tick(), after_s=0.9)) == []
    assert started(world.tell(Tick(), after_s=0.1)) == ["fx/GBP_JPY"]


@pytest.mark.parametrize("key", ALL, ids=lambda key: key.name)
def test_quarantine_isolates_that_child_alone(key: ChildKey) -> None:
    """PEERS 17"""
    world = World().up()
    others = {other: world.tree.children[other].attempt for other in ALL if other != key}
    for _ in range(3):
        world.settle([c for c in world.die(key, after_s=0.1) if not isinstance(c, Probe)])
        world.settle([c for c in world.tell(Tick(), after_s=2) if not isinstance(c, Probe)])

    assert isinstance(world.tree.children[key].state, InQuarantine)
    assert [quarantined.key for quarantined in world.logged(Quarantined)] == [key]
    for other, attempt in others.items():
        assert isinstance(world.tree.children[other].state, Up)
        assert world.tree.children[other].attempt == attempt


def test_a_start_that_fails_counts_as_a_death() -> None:
    world = World().up()
    world.die(XAU)
    commands = world.tell(StartFailed(XAU, world.attempt(XAU), "out of memory"))

    assert commands == [RestartScheduled(XAU, "out of memory", 1.0, 2)]


def test_an_operator_ends_a_quarantine() -> None:
    world = World()
    world.tell(Discovered(()))
    world.tell(DesiredChanged(SPECS))
    world.settle(world.tell(StartFailed(AUDIT, world.attempt(AUDIT), "no disk", permanent=True)))
    assert world.tell(Tick(), after_s=1000) == []

    assert started(world.tell(OperatorRestart(AUDIT)))[0] == "audit"


def test_an_operator_clears_the_history_of_deaths() -> None:
    world = World().up()
    for _ in range(2):
        world.settle([c for c in world.die(GBP, after_s=0.1) if not isinstance(c, Probe)])
        world.settle([c for c in world.tell(Tick(), after_s=2) if not isinstance(c, Probe)])
    world.die(GBP)
    assert world.states["fx/GBP_JPY"] == "InQuarantine"

    world.settle(world.tell(OperatorRestart(GBP)))
    assert RestartScheduled(GBP, "killed", 0.0, 3) in world.die(GBP)


def test_an_operator_restarts_a_healthy_child_in_order() -> None:
    world = World().up()
    commands = world.tell(OperatorRestart(GBP))

    assert commands == [Stop(GBP, world.attempt(GBP))]
    assert started(world.tell(Ended(GBP, world.attempt(GBP)))) == ["fx/GBP_JPY"]
    assert world.tell(OperatorRestart(instrument("fx/NOBODY"))) == []


def test_a_changed_configuration_ends_a_quarantine() -> None:
    world = World()
    world.tell(Discovered(()))
    world.tell(DesiredChanged(SPECS))
    world.tell(StartFailed(AUDIT, world.attempt(AUDIT), "no disk", permanent=True))

    changed = tuple(replace(s, fingerprint="other disk") if s.key == AUDIT else s for s in SPECS)
    assert started(world.tell(DesiredChanged(changed))) == ["audit"]


def test_instruments_are_restarted_while_their_account_is_down_and_not_while_the_audit_actor_is() -> None:
    world = World().up()
    world.die(FX)
    world.tell(StartFailed(FX, world.attempt(FX), "refused", permanent=True))
    assert started(world.die(GBP)) == ["fx/GBP_JPY"]

    world.die(AUDIT)
    assert started(world.die(XAU)) == []
    assert started(world.tell(Started(AUDIT, world.attempt(AUDIT)))) == ["cfd/XAUUSD"]


def test_a_death_told_while_it_starts_or_ends_waits_for_the_answer_of_the_command() -> None:
    world = World().up()
    world.die(GBP)
    assert world.die(GBP) == []
    assert world.states["fx/GBP_JPY"] == "Starting"
    world.tell(OperatorRestart(EUR))
    assert world.die(EUR) == []
    assert world.states["fx/EUR_USD"] == "Ending"


def test_answers_of_an_earlier_attempt_are_ignored() -> None:
    world = World().up()
    old = world.attempt(GBP)
    world.settle(world.die(GBP))

    for late in (Died(GBP, old, "late"), Ended(GBP, old), StartFailed(GBP, old, "late"), ProbeAnswered(GBP, old, 1e6)):
        assert world.tell(late) == []
    assert world.states["fx/GBP_JPY"] == "Up"


def test_attempts_are_not_repeated_by_a_child_removed_and_added_again() -> None:
    world = World().up()
    old = world.attempt(GBP)
    world.settle(world.tell(DesiredChanged(tuple(s for s in SPECS if s.key != GBP))))
    world.settle(world.tell(DesiredChanged(SPECS)))

    assert world.attempt(GBP) > old
    assert world.tell(Died(GBP, old, "late")) == []


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
        commands = world.tell(Ended(GBP, world.attempt(GBP)))
        assert "hung: no cycle finished for 17.1 s" in [c.reason for c in commands if isinstance(c, RestartScheduled)]
        assert started(commands) == ["fx/GBP_JPY"]


def test_a_child_that_answers_no_probe_is_killed_once_it_has_been_silent_long_enough() -> None:
    world = World().up()
    assert Probe(FX, world.attempt(FX)) in world.tell(Tick(), after_s=2)
    for key in ALL:
        if key != FX:
            world.answer(key, 0.0)

    for _ in range(4):  # silent since the first of these probes was sent
        commands = world.tell(ProbeFailed(FX, world.attempt(FX)), after_s=4)
        assert Probe(FX, world.attempt(FX)) in commands
        for key in ALL:
            if key != FX:
                world.answer(key, 0.0)
    kills = [c for c in world.tell(Tick(), after_s=1) if isinstance(c, Kill)]
    assert kills == [Kill(FX, world.attempt(FX), "hung: it answers no probe")]


def test_one_answer_ends_the_silence() -> None:
    world = World().up()
    world.tell(Tick(), after_s=2)
    world.tell(ProbeFailed(FX, world.attempt(FX)), after_s=10)
    for key in ALL:
        world.answer(key, 0.0)
    world.settle([c for c in world.tell(Tick(), after_s=6) if isinstance(c, Probe)])

    assert set(world.states.values()) == {"Up"}


def test_one_probe_is_out_for_a_child() -> None:
    world = World().up()
    assert len([c for c in world.tell(Tick(), after_s=2) if isinstance(c, Probe)]) == len(ALL)
    assert not [c for c in world.tell(Tick(), after_s=2) if isinstance(c, Probe)]


def test_the_probes_of_many_children_are_no_more_than_the_supervisor_can_take() -> None:
    many = tuple(map(spec, (AUDIT, FX, *(instrument(f"fx/I{number:03}") for number in range(98)))))
    policy = replace(POLICY, probe_period_s=2.0, probes_per_s=10.0, wave_size=100)
    world = World(policy).up(desired=many)
    probes = 0
    for _ in range(100):
        commands = [command for command in world.tell(Tick(), after_s=1) if isinstance(command, Probe)]
        probes += len(commands)
        world.settle(list(commands))
    assert probes == pytest.approx(100 * 10, rel=0.1)


def test_an_instrument_is_asked_at_once_and_at_short_intervals_until_its_first_cycle_has_finished() -> None:
    world = World()
    world.settle([*world.tell(Discovered(())), *world.tell(DesiredChanged(tuple(map(spec, (AUDIT, FX)))))])
    world.tell(DesiredChanged(tuple(map(spec, (AUDIT, FX, GBP)))))
    gbp = Probe(GBP, world.attempt(GBP))
    assert gbp in world.tell(Started(GBP, world.attempt(GBP)))
    world.answer(GBP, None, after_s=0.1)
    assert gbp in world.tell(Tick(), after_s=0.4)
    world.answer(GBP, 0.1, after_s=0.1)
    assert gbp not in world.tell(Tick(), after_s=0.4)


def test_a_start_that_is_never_answered_is_killed_and_tried_again() -> None:
    world = World()
    world.tell(Discovered(()))
    world.tell(DesiredChanged(SPECS))
    commands = world.tell(Tick(), after_s=30)

    assert Kill(AUDIT, world.attempt(AUDIT), "hung: it did not come up in time") in commands
    assert started(world.tell(Ended(AUDIT, world.attempt(AUDIT)))) == ["audit"]


@given(st.floats(0, 1e6), st.floats(0.01, 60), st.floats(0, 1))
def test_probes_spread_over_a_fifth_of_their_period(now_s: float, period_s: float, uniform: float) -> None:
    after_s = next_probe_s(now_s, period_s, uniform) - now_s

    assert 0.9 * period_s - 1e-6 <= after_s <= 1.1 * period_s + 1e-6


# Whatever happens


class AnyEvents(RuleBasedStateMachine):
    """A tree under events in any order, with actors that may fail anywhere. What is out is remembered, and only a
    command that is out, or an actor that lives, is spoken of, as by the supervisor's loop."""

    @initialize()
    def begin(self) -> None:
        self.tree = Tree(POLICY, lambda: 0.5)
        self.now_s = 0.0
        self.starts: dict[ChildKey, int] = {}
        self.waiting: set[ChildKey] = set()
        self.ends: dict[ChildKey, int] = {}
        self.probes: dict[ChildKey, int] = {}
        self.was_up: set[ChildKey] = set()
        self.stopping = False
        self.tell(Discovered(()))
        self.tell(DesiredChanged(SPECS))

    def tell(self, event: Event) -> None:
        before = dict(self.tree.children)
        if isinstance(event, Started):
            self.was_up.add(event.key)
        for command in self.tree.handle(event, self.now_s):
            self.check(command)
        if isinstance(event, Answer):
            for other in before.keys() - {event.key}:
                self.is_untouched(before[other], other)

    def is_untouched(self, before: Child, key: ChildKey) -> None:
        """PEERS 17: what one actor does ends no other one that is wanted."""
        if before.spec is not None and isinstance(before.state, Up):
            after = self.tree.children[key]
            assert isinstance(after.state, Up)
            assert after.attempt == before.attempt

    def check(self, command: Command) -> None:
        match command:
            case Start(ChildSpec(key), attempt, waiting):
                assert not self.stopping
                assert key not in self.starts, "a second start while the first is unanswered"
                assert key not in self.ends, "a start while the end is unanswered"
                self.starts[key] = attempt
                if waiting:
                    self.waiting.add(key)
                else:
                    self.begins(key)
            case Begin(key, attempt):
                assert self.starts[key] == attempt
                self.waiting.remove(key)
                self.begins(key)
            case Stop(key, attempt):
                assert key not in self.ends
                assert self.tree.children[key].spec is not None or not self.above(key)
                self.ends[key] = attempt
            case Kill(key, attempt):
                self.ends[key] = attempt
            case Probe(key, attempt):
                assert self.probes.get(key) != attempt, "a second probe while the first is unanswered"
                self.probes[key] = attempt

    def begins(self, key: ChildKey) -> None:
        if key.kind is not Kind.AUDIT:
            assert isinstance(self.tree.children[AUDIT].state, Up)
        if key.kind is Kind.INSTRUMENT:
            assert account(key.account) in self.was_up

    def above(self, key: ChildKey) -> list[ChildKey]:
        """What lives and is to end before it."""
        living = [k for k, child in self.tree.children.items() if isinstance(child.state, LIVING)]
        return [k for k in living if k.kind > key.kind and (key.kind is Kind.AUDIT or k.account == key.account)]

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.tell(Tick())

    @precondition(lambda self: self.starts)
    @rule(data=st.data(), outcome=st.sampled_from(["up", "failed", "permanently"]))
    def start_ends(self, data: st.DataObject, outcome: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.starts)))
        if outcome == "up" and key in self.waiting:
            return
        attempt = self.starts.pop(key)
        self.waiting.discard(key)
        if outcome == "up":
            self.tell(Started(key, attempt))
        else:
            self.tell(StartFailed(key, attempt, "no", permanent=outcome == "permanently"))

    @precondition(lambda self: self.ends)
    @rule(data=st.data())
    def end_ends(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.ends)))
        self.starts.pop(key, None)
        self.waiting.discard(key)
        self.tell(Ended(key, self.ends.pop(key)))

    @precondition(lambda self: self.probes)
    @rule(data=st.data(), age_s=st.none() | st.floats(0, 40), fails=st.booleans(), due=st.booleans())
    def probe_ends(self, data: st.DataObject, age_s: float | None, fails: bool, due: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.probes)))
        attempt = self.probes.pop(key)
        self.tell(ProbeFailed(key, attempt) if fails else ProbeAnswered(key, attempt, age_s, due))

    @rule(key=st.sampled_from(ALL))
    def dies(self, key: ChildKey) -> None:
        child = self.tree.children.get(key)
        if child is not None:
            self.tell(Died(key, child.attempt, "killed"))

    @rule(key=st.sampled_from(ALL), attempt=st.integers(0, 5))
    def something_comes_late(self, key: ChildKey, attempt: int) -> None:
        before = self.tree.children.get(key)
        if before is not None and attempt < before.attempt:
            for event in (Started(key, attempt), Ended(key, attempt), StartFailed(key, attempt, "late")):
                assert self.tree.handle(event, self.now_s) == []
                assert self.tree.children[key] == before

    @rule(key=st.sampled_from(ALL))
    def operator(self, key: ChildKey) -> None:
        self.tell(OperatorRestart(key))

    @precondition(lambda self: not self.stopping)
    @rule(gone=st.sets(st.sampled_from([GBP, EUR, XAU])), changed=st.sets(st.sampled_from(ALL)), to=st.integers(0, 3))
    def desired(self, gone: set[ChildKey], changed: set[ChildKey], to: int) -> None:
        specs = [spec(key, str(to) if key in changed else "") for key in ALL if key not in gone]
        self.tell(DesiredChanged(tuple(specs)))

    @rule(living=st.sets(st.sampled_from([instrument("fx/ORPHAN"), account("old")])))
    def discovered(self, living: set[ChildKey]) -> None:
        self.tell(Discovered(tuple(sorted(living))))

    @rule()
    def stop(self) -> None:
        self.stopping = True
        self.tell(DesiredChanged(()))

    @invariant()
    def no_more_than_a_wave_is_starting(self) -> None:
        starting = [c for c in self.tree.children.values() if isinstance(c.state, Starting)]
        assert len(starting) <= POLICY.wave_size + POLICY.ahead

    @invariant()
    def a_command_is_out_for_every_state_that_waits_for_one(self) -> None:
        for key, child in self.tree.children.items():
            if isinstance(child.state, Starting):
                assert self.starts.get(key) == child.attempt
            if isinstance(child.state, Ending):
                assert self.ends.get(key) == child.attempt

    @invariant()
    def the_next_tick_is_ahead(self) -> None:
        wake_s = self.tree.wake_at_s(self.now_s)
        assert wake_s is None or wake_s > self.now_s

    def teardown(self) -> None:
        """However it went: a stop that is answered leaves nothing, children before what they stand on."""
        if not hasattr(self, "tree"):
            return
        self.stop()
        for _ in range(len(ALL)):
            for key in sorted(self.ends):
                self.starts.pop(key, None)
                self.tell(Ended(key, self.ends.pop(key)))
        assert self.tree.stopped


TestAnyEvents = AnyEvents.TestCase
TestAnyEvents.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


def test_a_child_s_story_says_why_it_was_restarted_and_by_which_event() -> None:
    world = World().up()
    world.settle(world.die(GBP))
    world.settle(world.tell(Tick(), 1.0))

    steps = [str(step) for step in world.tree.story(GBP)]

    assert steps[:3] == [
        "unknown → Absent by DesiredChanged",
        "Absent → Starting by DesiredChanged",
        "Starting → Up by Started",
    ]
    assert "Up → Backoff by Died: killed" in steps
    assert steps[-1] == "Starting → Up by Started"
    assert world.tree.story(instrument("fx/NOBODY")) == ()


def test_a_hung_child_s_story_says_how_long_it_hung() -> None:
    world = World().up()
    world.answer(GBP, 100.0, after_s=100.0)

    assert str(world.tree.story(GBP)[-1]) == "Up → Ending by ProbeAnswered: hung: no cycle finished for 100.0 s"


def test_the_story_of_one_that_went_is_still_there() -> None:
    world = World().up()
    world.settle(world.tell(DesiredChanged(tuple(map(spec, (AUDIT, FX, GBP))))))

    assert [step.after for step in world.tree.story(XAU)[-3:]] == ["Ending", "Absent", None]
    assert XAU not in world.tree.children
