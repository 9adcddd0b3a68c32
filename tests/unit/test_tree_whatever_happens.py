"""The tree under any sequence of events, and the story it keeps of each child."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from supervisor.tree.model import (
    AUDIT,
    LIVING,
    Answer,
    Backoff,
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
    HandedOver,
    InQuarantine,
    Kill,
    Kind,
    OperatorRestart,
    Probe,
    ProbeAnswered,
    ProbeFailed,
    Remembered,
    Roll,
    Rolled,
    Start,
    Started,
    StartFailed,
    Starting,
    Stop,
    Tick,
    Up,
)
from supervisor.tree.tree import Tree
from tests.unit.tree_cases import ALL, EUR, FX, GBP, POLICY, SPECS, XAU, World, account, instrument, spec

# Whatever happens


class AnyEvents(RuleBasedStateMachine):
    """A tree under events in any order, with actors that may fail anywhere. What is out is remembered, and only a
    command that is out, or an actor that lives, is spoken of, as by the supervisor's loop."""

    living: tuple[ChildKey, ...] = ()

    @initialize()
    def begin(self) -> None:
        self.tree = Tree(POLICY, lambda: 0.5, "2")
        self.handed_over: ChildKey | None = None
        self.now_s = 0.0
        self.starts: dict[ChildKey, int] = {}
        self.waiting: set[ChildKey] = set()
        self.ends: dict[ChildKey, int] = {}
        self.probes: dict[ChildKey, int] = {}
        self.was_up: set[ChildKey] = set(self.living)
        self.stopping = False
        self.send(Discovered(self.living))
        self.send(DesiredChanged(SPECS))

    def send(self, event: Event) -> None:
        before = dict(self.tree.children)
        if isinstance(event, Started):
            self.was_up.add(event.key)
        commands = self.tree.handle(event, self.now_s)
        for command in commands:
            self.check(command)
        replaced = {command.key for command in commands if isinstance(command, HandedOver)}
        if isinstance(event, Answer):
            for other in before.keys() - {event.key} - replaced:
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
            case HandedOver(key):
                again = key == self.handed_over
                assert again or self.is_back(self.handed_over), "a second one is replaced while the first is away"
                self.handed_over = key
            case Rolled(program, failed):
                assert not self.stopping
                up = [one for one in self.tree.children.values() if one.spec and isinstance(one.state, Up)]
                assert failed is not None or {one.program for one in up} <= {program}
            case Probe(key, attempt):
                assert self.probes.get(key) != attempt, "a second probe while the first is unanswered"
                self.probes[key] = attempt

    def is_back(self, key: ChildKey | None) -> bool:
        """Whether one that was replaced has come up and reported its version, or will not."""
        child = None if key is None else self.tree.children.get(key)
        if child is None or child.spec is None:
            return True
        up = isinstance(child.state, Up) and child.program is not None
        return up or isinstance(child.state, Backoff | InQuarantine)

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
        self.send(Tick())

    @precondition(lambda self: self.starts)
    @rule(data=st.data(), outcome=st.sampled_from(["up", "failed", "permanently"]))
    def start_ends(self, data: st.DataObject, outcome: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.starts)))
        if outcome == "up" and key in self.waiting:
            return
        attempt = self.starts.pop(key)
        self.waiting.discard(key)
        if outcome == "up":
            self.send(Started(key, attempt))
        else:
            self.send(StartFailed(key, attempt, "no", permanent=outcome == "permanently"))

    @precondition(lambda self: self.ends)
    @rule(data=st.data())
    def end_ends(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.ends)))
        self.starts.pop(key, None)
        self.waiting.discard(key)
        self.send(Ended(key, self.ends.pop(key)))

    @precondition(lambda self: self.probes)
    @rule(
        data=st.data(),
        age_s=st.none() | st.floats(0, 40),
        fails=st.booleans(),
        due=st.booleans(),
        program=st.sampled_from(["1", "2"]),
        well=st.booleans(),
    )
    def probe_ends(
        self, data: st.DataObject, age_s: float | None, fails: bool, due: bool, program: str, well: bool
    ) -> None:
        key = data.draw(st.sampled_from(sorted(self.probes)))
        attempt = self.probes.pop(key)
        answer = ProbeAnswered(key, attempt, age_s, due, verified=well, program=program, well=well)
        self.send(ProbeFailed(key, attempt) if fails else answer)

    @precondition(lambda self: not self.stopping)
    @rule()
    def roll(self) -> None:
        self.send(Roll("2"))

    @rule(key=st.sampled_from(ALL))
    def dies(self, key: ChildKey) -> None:
        child = self.tree.children.get(key)
        if child is not None:
            self.send(Died(key, child.attempt, "killed"))

    @rule(key=st.sampled_from(ALL), attempt=st.integers(0, 5))
    def something_comes_late(self, key: ChildKey, attempt: int) -> None:
        before = self.tree.children.get(key)
        if before is not None and attempt < before.attempt:
            for event in (Started(key, attempt), Ended(key, attempt), StartFailed(key, attempt, "late")):
                assert self.tree.handle(event, self.now_s) == []
                assert self.tree.children[key] == before

    @rule(key=st.sampled_from(ALL))
    def operator(self, key: ChildKey) -> None:
        self.send(OperatorRestart(key))

    @precondition(lambda self: not self.stopping)
    @rule(gone=st.sets(st.sampled_from([GBP, EUR, XAU])), changed=st.sets(st.sampled_from(ALL)), to=st.integers(0, 3))
    def desired(self, gone: set[ChildKey], changed: set[ChildKey], to: int) -> None:
        specs = [spec(key, str(to) if key in changed else "") for key in ALL if key not in gone]
        self.send(DesiredChanged(tuple(specs)))

    @rule(living=st.sets(st.sampled_from([instrument("fx/ORPHAN"), account("old")])))
    def discovered(self, living: set[ChildKey]) -> None:
        self.send(Discovered(tuple(sorted(living))))

    @rule(quarantined=st.sets(st.sampled_from(ALL)))
    def remembered(self, quarantined: set[ChildKey]) -> None:
        self.send(Remembered((), tuple((key, "before") for key in sorted(quarantined))))

    @rule()
    def stop(self) -> None:
        self.stopping = True
        self.send(DesiredChanged(()))

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
                self.send(Ended(key, self.ends.pop(key)))
        assert self.tree.stopped


class AnyEventsInARoll(AnyEvents):
    """The same from where everybody was found alive and runs another version, which is rolled over."""

    living = ALL

    @initialize()
    def begin(self) -> None:
        super().begin()
        for key in ALL:
            self.send(ProbeAnswered(key, 0, 0.0, cycle_due=key.kind is Kind.INSTRUMENT, program="1"))
        self.probes.clear()
        self.roll()


TestAnyEvents = AnyEvents.TestCase
TestAnyEvents.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestAnyEventsInARoll = AnyEventsInARoll.TestCase
TestAnyEventsInARoll.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


def test_a_child_s_story_says_why_it_was_restarted_and_by_which_event() -> None:
    world = World().up()
    world.settle(world.die(GBP))
    world.settle(world.send(Tick(), 1.0))

    steps = [str(step) for step in world.tree.story(GBP)]

    assert steps[:3] == [
        "WAITING: what is to run has changed",
        "WAITING → STARTING: what is to run has changed",
        "STARTING → UP",
    ]
    assert "UP → RESTARTING: killed" in steps
    assert steps[-1] == "STARTING → UP"
    assert world.tree.story(instrument("fx/NOBODY")) == ()


def test_a_hung_child_s_story_says_how_long_it_hung() -> None:
    world = World().up()
    world.answer(GBP, 100.0, after_s=100.0)

    assert str(world.tree.story(GBP)[-1]) == "UP → STOPPING: hung: no cycle finished for 100.0 s"


def test_the_story_of_one_that_went_is_still_there() -> None:
    world = World().up()
    world.settle(world.send(DesiredChanged(tuple(map(spec, (AUDIT, FX, GBP))))))

    assert [str(step) for step in world.tree.story(XAU)[-3:]] == [
        "UP → STOPPING: what is to run has changed",
        "STOPPING → WAITING: its process is gone",
        "WAITING → gone: its process is gone",
    ]
    assert XAU not in world.tree.children
