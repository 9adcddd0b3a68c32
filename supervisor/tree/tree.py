"""The supervision tree: events in, commands out.

:class:`Tree` holds what is desired and what is known of each actor. The supervisor's loop passes it every event with
the time, executes the returned commands, and reports the result of each as an event. Such a loop:

    commands = tree.handle(event, now_s)     # event: what happened; Tick no later than tree.wake_at_s(now_s)
    for command in commands: ...             # each in its own task, whose end puts an event on the queue

========================  ==========================================================================================
command                   what the loop does, and the events that answer it
========================  ==========================================================================================
Start(spec, attempt)      make sure nothing lives under the name, create the actor, wait for its first answer:
                          Started, StartFailed
Stop(key, attempt)        ask it to end, wait, kill it if it does not: Ended
Kill(key, attempt)        cancel a pending start, kill this very actor (by its handle, since another may have its name
                          by then) without asking: Ended
Probe(key, attempt)       ask for its health, within its time-out: ProbeAnswered, ProbeFailed, or Died
RestartScheduled          record and show it; no answer
NodeLost                  record and show it; no answer
HandedOver                record and show it; no answer
Rolled                    record and show it; no answer
NoPlace                   record it and alert; no answer
Quarantined               record it and alert; no answer
========================  ==========================================================================================

The laws of this module:

* Nothing is started before both the desired state and the living actors are known (``DesiredChanged``,
  ``Discovered``): a supervisor that was killed finds its children again and starts no second set.
* Audit, then accounts, then instruments, and no more than ``wave_size`` starting at once. The audit actor must be up
  for anything to start; an account must have been started once for its instruments. It need not be connected, nor
  alive when one of its instruments is restarted: one broker that is down stops nothing else.
* A sink depends on the audit actor alone, and starts after everything else.
* What is not desired is stopped, in reverse order: an account after its instruments, a sink after the actors that end
  with it, the audit actor last.
* An event of one child changes no other child, except by the two laws above.
* Where the nodes are known (``NodesSeen``), a child that none of them can place is not started: it is pending until one
  can. A child that dies with its node did not crash: it is started elsewhere at once, or is pending, and its death does
  not count. A node may be known to be lost only some time after its actors are: then their deaths are forgiven.
* Accounts and instruments leave a draining node one after another, each for another node of its place: the next when
  the one before is at work again. One that no other node can place stays until the node is lost.
* A roll replaces the children that run another version: of one account after the other its instruments and then itself,
  then the audit actor, the sinks and alerts. One process at a time, or some instruments that share theirs; the next
  when those before run the new version and are as well as they were. It ends at the first that is not in time, that
  dies, or that comes up with another version: the others stay as they are. Who is not up is no concern of it, since
  whatever starts, starts with the new version. Repeated, it goes on with those that are left.
* What another version started may differ in settings that only one of the two knows: it is not compared with what is
  desired, but left as it was found until it is replaced, or its configuration changes.
* At most one Start, Stop or Kill of a child is unanswered (except for the Kill that follows one that timed out), and at
  most one Probe. An answer to an earlier attempt is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from types import MappingProxyType

from actors.runtime.nodes import Node, Nodes, nowhere
from supervisor.tree.model import (
    AUDIT,
    LIVING,
    Absent,
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
    GiveUpRoll,
    HandedOver,
    InQuarantine,
    Kill,
    Kind,
    NodeLost,
    NodesSeen,
    NoPlace,
    OperatorRestart,
    Pending,
    PlacedOn,
    Probe,
    ProbeAnswered,
    ProbeFailed,
    Quarantined,
    Remembered,
    RestartScheduled,
    Roll,
    Rolled,
    Start,
    Started,
    StartFailed,
    Starting,
    Stop,
    Tick,
    TreePolicy,
    Up,
)
from supervisor.tree.restart import Quarantine, RestartHistory, RestartPolicy, after_death
from supervisor.tree.story import Children, Step

_ON_THE_JOURNAL_ALONE = frozenset({Kind.ACCOUNT, Kind.SINK, Kind.ALERTS})
"""The kinds that depend on the audit actor alone."""
_READ_WHAT_OTHERS_WRITE = frozenset({Kind.SINK, Kind.ALERTS})
_GO_ELSEWHERE = frozenset({Kind.ACCOUNT, Kind.INSTRUMENT})
"""Who leaves a node that is being drained: those of the house are where the journal is."""


FORGIVEN_WITHIN_S = 120.0
"""A cluster notices a lost node within this time; a death on it longer before that had another cause."""


CARRIED_TOGETHER_S = 0.5
"""Those that share a process are probed at whole multiples of this time: one message probes several of them."""


def next_probe_s(now_s: float, period_s: float, uniform: float) -> float:
    """When to probe next: after the period × U(0.9, 1.1), so that the probes of many actors spread out."""
    return now_s + period_s * (0.9 + 0.2 * uniform)


def hung_for_s(spec: ChildSpec, up: Up, answer: ProbeAnswered, now_s: float) -> float | None:
    """How long a child that answered has been without a finished cycle, if that is too long."""
    if not answer.cycle_due:
        return None
    since_up_s = now_s - up.since_s
    idle_s = since_up_s if answer.cycle_age_s is None else min(since_up_s, answer.cycle_age_s)
    return idle_s if idle_s > spec.hung_after_s else None


def _account_of(key: ChildKey) -> ChildKey:
    """The account a child depends on; for the audit actor and an account, itself."""
    return ChildKey(Kind.ACCOUNT, key.account) if key.kind is Kind.INSTRUMENT else key


def _running_as_found(child: Child) -> Child:
    """Assume that a child found living runs what is desired; a later change of that restarts it."""
    found = child.running is None and isinstance(child.state, Up)
    return replace(child, running=child.spec) if found else child


def _running_as_reported(child: Child, fingerprint: str | None) -> Child:
    """Take a found child's own report of what it was started with: a former supervisor may have died before it could
    restart the child with something newer."""
    if child.running is None or fingerprint in (None, child.running.fingerprint):
        return child
    return replace(child, running=replace(child.running, fingerprint=fingerprint or ""))


def _is_starting(child: Child, *, waiting: bool) -> bool:
    return isinstance(child.state, Starting) and child.state.waiting is waiting


def _in_rolling_order(key: ChildKey) -> tuple[object, ...]:
    """The books first, each account after its own; what all of them write to, and who reads that, last."""
    if key.kind in _GO_ELSEWHERE:
        return 0, key.account, key.kind is Kind.ACCOUNT, key.name
    return 1, key.kind, key.name


def _is_on_its_way(child: Child) -> bool:
    """Whether it ends or comes up, or has not reported its version since."""
    unknown = isinstance(child.state, Up) and child.program is None
    return child.spec is not None and (unknown or isinstance(child.state, Starting | Ending))


class Tree:
    """The state of the tree. Only :meth:`handle` changes it. ``uniform`` returns random numbers from 0 to 1,
    ``program`` is the version of this process."""

    def __init__(self, policy: TreePolicy, uniform: Callable[[], float], program: str = "") -> None:
        self._policy = policy
        self._uniform = uniform
        self._program = program
        self._children = Children()
        self._attempts = 0
        self._desired_known = False
        self._living_known = False
        self._nodes: tuple[Node, ...] | None = None
        self._gone: dict[str, Node] = {}  # the nodes that the cluster reports as lost
        self._lost_s = float("-inf")
        self._moved: ChildKey | None = None  # the last child that left a draining node
        self._roll: str | None = None  # the version that every child is to run
        self._replaced: dict[ChildKey, bool] = {}  # who is being replaced now, and whether it was well before
        self._released: set[ChildKey] = set()  # released from whatever quarantine a former supervisor put them in

    @property
    def children(self) -> Mapping[ChildKey, Child]:
        """All children, for a table or a test."""
        return MappingProxyType(self._children)

    def story(self, key: ChildKey) -> tuple[Step, ...]:
        """The history of a child, oldest first: which event led from which state to which, and why."""
        return self._children.story(key)

    def validate(self) -> list[str]:
        """The violated laws of the tree's state, as text: none, after every event. For tests, which call it after each
        event."""
        starting = [child for child in self._children.values() if isinstance(child.state, Starting)]
        weight = sum(map(self._weight, starting))
        waiting = sum(self._weight(child) for child in starting if _is_starting(child, waiting=True))
        attempts = [child.attempt for child in self._children.values() if child.attempt]
        broken = {
            "more come up at once than there is room for": weight >= self._policy.wave_size + self._policy.ahead + 1,
            "more wait for what they stand on than may": waiting >= self._policy.ahead + 1,
            "two children have one attempt": len(attempts) != len(set(attempts)),
            "an attempt is numbered beyond the last": max(attempts, default=0) > self._attempts,
        }
        for key, child in self._children.items():
            state = child.state
            broken |= {
                f"{key.name} is neither desired nor living": child.spec is None and not isinstance(state, LIVING),
                f"{key.name} starts as nothing": isinstance(state, Starting) and child.running is None,
                f"{key.name} was started before both sides were known": child.attempt > 0
                and not (self._desired_known and self._living_known),
                f"{key.name} was asked before it was up": isinstance(state, Up)
                and state.asked_s is not None
                and state.asked_s < state.since_s,
            }
            last = self.story(key)[-1:]
            broken[f"{key.name}'s story ends elsewhere"] = [step.after for step in last] != [type(state)]
        return [words for words, holds in broken.items() if holds]

    def restart_by(self, policy: RestartPolicy) -> None:
        """Use another restart policy from now on."""
        self._policy = replace(self._policy, restart=policy)

    @property
    def stopped(self) -> bool:
        """Whether nothing is desired and nothing of ours lives."""
        return self._desired_known and self._living_known and not self._children

    def wake_at_s(self, now_s: float) -> float | None:
        """The latest time for a Tick, if nothing else happens before: call it right after :meth:`handle`, with the same
        time. Anything due longer waits for another event (for room in the wave, for the audit actor)."""
        due = (at_s for child in self._children.values() for at_s in self._due_s(child))
        return min((at_s for at_s in due if at_s > now_s), default=None)

    def handle(self, event: Event, now_s: float, *more: Event) -> list[Command]:
        """Apply these events in order; returns the commands in the order to execute them."""
        commands = [command for one in (event, *more) for command in self._take(one, now_s)]
        if self._desired_known and self._living_known:
            commands += self._overdue(now_s)
            commands += self._stops(now_s)
            commands += self._hand_overs(now_s)
            commands += self._begins(now_s)
            commands += self._without_place(now_s)
            commands += self._starts(now_s)
            commands += self._probes(now_s)
        return commands

    def _take(self, event: Event, now_s: float) -> list[Command]:
        commands: list[Command] = []
        self._children.event, self._children.now_s = event, now_s
        match event:
            case Tick():
                pass
            case DesiredChanged(specs):
                self._desire(specs)
            case Discovered(living):
                self._discover(living, now_s)
            case NodesSeen(nodes):
                commands += self._see_nodes(nodes, now_s)
            case OperatorRestart(key):
                commands += self._operator_restart(key, now_s)
            case Roll(program):
                self._roll = program
            case GiveUpRoll():
                self._roll = None
            case Remembered(restarts, quarantined):
                for key, times in restarts:
                    known = self._children.get(key)
                    if known is not None:
                        self._children[key] = replace(known, restarts=known.restarts + times)
                for key, reason in quarantined:
                    commands += self._still_in_quarantine(key, reason, now_s)
            case _:
                child = self._children.get(event.key)
                if child is not None and child.attempt == event.attempt:
                    commands += self._answer(event, child, now_s)
        return commands

    # Desired and living children

    def _desire(self, specs: Iterable[ChildSpec]) -> None:
        wanted = {spec.key: spec for spec in specs}
        for key in wanted:
            if not {AUDIT, _account_of(key)} <= wanted.keys() | {key}:
                raise ValueError(f"{key.name} is desired without what it stands on")
        self._desired_known = True
        self._roll = self._roll if wanted else None
        for key, child in self._children.items():
            spec = wanted.get(key)
            changed = spec is not None and child.spec is not None and spec != child.spec
            if changed:
                self._released.add(key)
            waiting = isinstance(child.state, Backoff | InQuarantine | Pending)
            if changed and waiting:
                self._children[key] = replace(child, spec=spec, state=Absent(), history=RestartHistory())
            else:
                self._children[key] = _running_as_found(replace(child, spec=spec))
        for key, spec in wanted.items():
            if key not in self._children:
                self._children[key] = Child(spec)
        self._forget_the_gone()

    def _discover(self, living: Iterable[ChildKey], now_s: float) -> None:
        self._living_known = True
        for key in living:
            child = self._children.get(key, Child(None))
            if child.attempt == 0 and isinstance(child.state, Absent):
                self._children[key] = _running_as_found(replace(child, state=self._up(key, now_s), was_up=True))

    def _operator_restart(self, key: ChildKey, now_s: float) -> list[Command]:
        child = self._children.get(key)
        if child is None or child.spec is None:
            return []
        self._released.add(key)
        child = replace(child, history=RestartHistory())
        match child.state:
            case Up():
                self._children[key] = replace(child, state=Ending(now_s))
                return [Stop(key, child.attempt)]
            case Ending():
                child = replace(child, state=replace(child.state, death=None, quarantine=None))
            case Backoff() | InQuarantine() | Pending():
                child = replace(child, state=Absent())
        self._children[key] = child
        return []

    def _still_in_quarantine(self, key: ChildKey, reason: str, now_s: float) -> list[Command]:
        """End a child that came up before its quarantine was known. One that was found living, or that a person has
        restarted since, is left alone."""
        child = self._children.get(key)
        if child is None or child.spec is None or key in self._released:
            return []
        match child.state:
            case Absent() | Backoff() | Pending():
                self._children[key] = replace(child, state=InQuarantine(reason))
            case Ending():
                self._children[key] = replace(child, state=replace(child.state, quarantine=reason))
            case Starting() | Up() if child.attempt:
                self._children[key] = replace(child, state=Ending(now_s, quarantine=reason))
                return [Kill(key, child.attempt, f"it is in quarantine: {reason}")]
        return []

    # Nodes

    def _is_lost(self, node: str | None) -> bool:
        return node in self._gone

    def _nowhere(self, child: Child) -> str | None:
        """Why no node can place a child; ``None`` where one can, or where the nodes are not known."""
        if child.spec is None or self._nodes is None:
            return None
        return nowhere(child.spec.place, self._nodes)

    def _see_nodes(self, nodes: Nodes, now_s: float) -> list[Command]:
        self._gone = {node.name: node for node in nodes.lost}
        if any(self._is_lost(node.name) for node in self._nodes or ()):
            self._lost_s = now_s
        self._nodes = nodes.living
        commands: list[Command] = []
        for key, child in list(self._children.items()):
            if child.spec is not None:
                commands += self._after_nodes(key, child, now_s)
        return commands

    def _after_nodes(self, key: ChildKey, child: Child, now_s: float) -> list[Command]:
        """The effect of the present nodes on a desired child."""
        commands: list[Command] = []
        if self._is_lost(child.blamed):
            child, commands = self._forgiven(key, child, now_s)
        match child.state:
            case Up() if self._is_lost(child.node):
                words = self._lost_words(child.node)
                self._children[key] = replace(child, state=Ending(now_s, words, lost=True))
                commands.append(Kill(key, child.attempt, words))
            case Starting() if (why := self._nowhere(child)) is not None:
                self._children[key] = replace(child, state=Ending(now_s, why, lost=True))
                commands.append(Kill(key, child.attempt, why))
            case Ending(death=str()) if self._is_lost(child.node) and child.blamed is None:
                words = self._lost_words(child.node)
                self._children[key] = replace(child, state=replace(child.state, death=words, lost=True))
            case Pending():
                why = self._nowhere(child)
                self._children[key] = replace(child, state=Absent() if why is None else Pending(why))
        return commands

    def _forgiven(self, key: ChildKey, child: Child, now_s: float) -> tuple[Child, list[Command]]:
        """Forgive a death on a node that is now known to be lost; not one long before, which had another cause."""
        died_s = child.history.restarts_s[-1:]
        late = not died_s or now_s - died_s[0] > FORGIVEN_WITHIN_S
        if late:
            child = self._children[key] = replace(child, blamed=None)
            return child, []
        words = self._lost_words(child.blamed)
        restarts = max(0, child.restarts - 1)
        history = RestartHistory(child.history.restarts_s[:-1])
        state = Absent() if isinstance(child.state, InQuarantine) else child.state
        child = replace(child, state=state, restarts=restarts, history=history, blamed=None)
        self._children[key] = child
        return child, [NodeLost(key, words, restarts, forgives=True)]

    def _lost_words(self, node: str | None) -> str:
        return f"node lost: {self._gone.get(node or '', node)}"

    def _without_place(self, now_s: float) -> list[Command]:
        """The children that would start now and that no node can place."""
        commands: list[Command] = []
        for key, child in list(self._children.items()):
            why = self._nowhere(child) if self._is_due(child, now_s) else None
            if why is not None:
                self._children[key] = replace(child, state=Pending(why))
                commands.append(NoPlace(key, why))
        return commands

    def _hand_overs(self, now_s: float) -> list[Command]:
        """Stop the next child that leaves a draining node, or the next that are to run another version."""
        ended = self._see_replaced(now_s)
        if self._replaced or self._is_moving(now_s):
            return ended
        return ended + (self._leave_nodes(now_s) or self._replace(now_s))

    def _leave_nodes(self, now_s: float) -> list[Command]:
        draining = {node.name: node for node in self._nodes or () if node.draining}
        if not draining:
            return []
        for key in sorted(self._children, key=lambda key: (key.account, key.kind, key.name)):
            child = self._children[key]
            goes = key.kind in _GO_ELSEWHERE and isinstance(child.state, Up) and child.node in draining
            if goes and child.spec is not None and self._nowhere(child) is None:
                self._moved = key
                self._children[key] = replace(child, state=Ending(now_s))
                reason = f"moved, as its node is to go: {draining[child.node or '']}"
                return [HandedOver(key, reason, child.restarts), Stop(key, child.attempt)]
        return []

    def _is_moving(self, now_s: float) -> bool:
        """Whether the child that was moved last is still to be at work again."""
        child = None if self._moved is None else self._children.get(self._moved)
        if child is None or child.spec is None:
            return False
        match child.state:
            case Up(since_s=since_s, at_work=at_work):
                return not at_work and now_s < since_s + child.spec.hung_after_s
            case InQuarantine() | Pending():
                return False
        return True

    # Versions

    def _replace(self, now_s: float) -> list[Command]:
        """Stop the next children that are to run another version; where there is none left, the roll has ended. Nobody
        is replaced while another is on its way, for whatever reason."""
        if self._roll is None or any(map(_is_on_its_way, self._children.values())):
            return []
        wanted = [key for key in sorted(self._children, key=_in_rolling_order) if self._is_to_be_replaced(key)]
        if not wanted:
            rolled, self._roll = Rolled(self._roll), None
            return [rolled]
        commands: list[Command] = []
        for key in self._of_one_step(wanted):
            child = self._children[key]
            assert isinstance(child.state, Up)  # noqa: S101 - checked by _is_to_be_replaced
            self._replaced[key] = child.state.well
            self._children[key] = replace(child, state=Ending(now_s))
            before, after = child.program or "an earlier version", str(self._roll)
            reason = f"replaced: {before} → {after}"
            commands += [HandedOver(key, reason, child.restarts, (before, after)), Stop(key, child.attempt)]
        return commands

    def _is_to_be_replaced(self, key: ChildKey) -> bool:
        child = self._children[key]
        other = self._roll is not None and child.program not in (None, self._roll)
        return other and child.spec is not None and isinstance(child.state, Up)

    def _of_one_step(self, wanted: Sequence[ChildKey]) -> Sequence[ChildKey]:
        """One process; of those that share theirs, some of one account."""
        first = wanted[0]
        if not self._is_carried(first):
            return [first]
        beside = (key for key in wanted if key.account == first.account and self._is_carried(key))
        return list(islice(beside, self._policy.carried_at_once))

    def _is_carried(self, key: ChildKey) -> bool:
        spec = self._children[key].spec
        return spec is not None and spec.carried

    def _see_replaced(self, now_s: float) -> list[Command]:
        """Look at those that are being replaced: who has come up is done with; the first that has not ends the roll."""
        for key, was_well in list(self._replaced.items()):
            child = self._children.get(key)
            if child is None or child.spec is None:
                del self._replaced[key]
                continue
            done, why = self._came_up(child, now_s, was_well=was_well)
            if done or why is not None:
                del self._replaced[key]
            if why is not None and self._roll is not None:
                rolled, self._roll = Rolled(self._roll, key, why), None
                return [rolled]
        return []

    def _came_up(self, child: Child, now_s: float, *, was_well: bool) -> tuple[bool, str | None]:
        """Whether a child that was replaced is as well as it was before; else why it will not be, if that is known."""
        assert child.spec is not None  # noqa: S101 - checked by _see_replaced
        program = self._roll or self._program
        match child.state:
            case Up() if child.program not in (None, program):
                which = child.program or "an earlier version"
                return False, f"it came up with {which}: {program} is not installed where it runs"
            case Up(since_s, at_work=at_work, well=well):
                if child.program == program and (not was_well or (at_work and well)):
                    return True, None
                within_s = max(self._policy.well_within_s, child.spec.hung_after_s)
                late = now_s >= since_s + within_s
                what = "is not as well as it was" if child.program == program else "has not reported its version"
                return False, f"it {what} {within_s:g} s after it came up" if late else None
            case Backoff(reason=reason) | InQuarantine(reason=reason) | Pending(reason=reason):
                return False, reason
        return False, None

    # Answers to commands

    def _answer(self, event: Answer, child: Child, now_s: float) -> list[Command]:
        key = event.key
        match event, child.state:
            case PlacedOn(node=node), _:
                self._children[key] = child = replace(child, node=node)
                if isinstance(child.state, Up) and child.spec is not None:
                    return self._after_nodes(key, child, now_s)
            case Started(), Starting():
                self._children[key] = replace(child, state=self._up(key, now_s), was_up=True)
            case StartFailed(permanent=True), Starting():
                return self._quarantine(key, child, event.reason)
            case StartFailed(), Starting(since_s):
                return self._dead(key, child, event.reason, now_s, lost=self._lost_s >= since_s)
            case Died(), Up():
                lost = self._is_lost(child.node)
                reason = self._lost_words(child.node) if lost else event.reason
                return self._dead(key, child, reason, now_s, lost=lost)
            # The answer to a pending start or end reports a death during it: until then a new start could collide with
            # the end of the old one.
            case Ended(), Ending(quarantine=str(reason)) if child.spec is not None:
                self._children[key] = replace(child, state=InQuarantine(reason))
            case Ended(), Ending(death=death, lost=lost):
                return self._ended(key, child, death, now_s, lost=lost)
            case ProbeAnswered(), Up():
                return self._probe_answered(event, child, child.state, now_s)
            case ProbeFailed(), Up(asked_s=asked_s, silent_since_s=silent_since_s):
                silent = silent_since_s if silent_since_s is not None else asked_s
                self._children[key] = replace(child, state=replace(child.state, asked_s=None, silent_since_s=silent))
            case _:
                pass  # too late to matter
        return []

    def _probe_answered(self, answer: ProbeAnswered, child: Child, up: Up, now_s: float) -> list[Command]:
        up = replace(up, asked_s=None, silent_since_s=None)
        if answer.cycle_due and answer.cycle_age_s is None:
            up = replace(up, next_probe_s=next_probe_s(now_s, self._policy.first_probe_s, self._uniform()))
        up = replace(up, at_work=up.at_work or answer.verified or not answer.cycle_due, well=answer.well)
        child = replace(child, state=up, program=answer.program)
        comparable = answer.program in (None, self._program)
        self._children[answer.key] = _running_as_reported(child, answer.fingerprint) if comparable else child
        idle_s = hung_for_s(child.spec, up, answer, now_s) if child.spec is not None else None
        return [] if idle_s is None else [self._kill(answer.key, f"hung: no cycle finished for {idle_s:.1f} s", now_s)]

    def _ended(
        self, key: ChildKey, child: Child, death: str | None, now_s: float, *, lost: bool = False
    ) -> list[Command]:
        if death is not None and child.spec is not None:
            return self._dead(key, child, death, now_s, lost=lost)
        self._children[key] = replace(child, state=Absent())
        self._forget_the_gone()
        return []

    def _dead(self, key: ChildKey, child: Child, reason: str, now_s: float, *, lost: bool = False) -> list[Command]:
        if child.spec is None:
            return self._ended(key, child, None, now_s)
        if lost:
            self._children[key] = replace(child, state=Backoff(now_s, reason))
            return [NodeLost(key, reason, child.restarts)]
        history, verdict = after_death(self._policy.restart, child.history, now_s, self._uniform())
        child = replace(child, history=history, blamed=child.node)
        if isinstance(verdict, Quarantine):
            return self._quarantine(key, child, f"{verdict.reason}: {reason}")
        restarts = child.restarts + 1
        self._children[key] = replace(child, state=Backoff(now_s + verdict.delay_s, reason), restarts=restarts)
        return [RestartScheduled(key, reason, verdict.delay_s, restarts)]

    def _quarantine(self, key: ChildKey, child: Child, reason: str) -> list[Command]:
        self._children[key] = replace(child, state=InQuarantine(reason))
        self._forget_the_gone()
        return [Quarantined(key, reason)]

    def _kill(self, key: ChildKey, death: str, now_s: float) -> Kill:
        child = self._children[key]
        self._children[key] = replace(child, state=Ending(now_s, death))
        return Kill(key, child.attempt, death)

    def _up(self, key: ChildKey, now_s: float) -> Up:
        """The state after a start. An instrument is probed at once, as it answers when its first cycle has finished."""
        if key.kind is Kind.INSTRUMENT:
            return Up(now_s, now_s)
        return Up(now_s, next_probe_s(now_s, self._policy.first_probe_s, self._uniform()))

    def _forget_the_gone(self) -> None:
        for key in [k for k, c in self._children.items() if c.spec is None and not isinstance(c.state, LIVING)]:
            del self._children[key]

    # Commands that are due

    def _overdue(self, now_s: float) -> list[Command]:
        commands: list[Command] = []
        for key, child in list(self._children.items()):
            limit_s = self._limit_s(child)
            if limit_s is None or now_s < limit_s:
                continue
            match child.state:
                case Starting():
                    commands.append(self._kill(key, "hung: it did not come up in time", now_s))
                case Up():
                    commands.append(self._kill(key, "hung: it does not answer probes", now_s))
                case Ending():
                    self._children[key] = replace(child, state=replace(child.state, since_s=now_s))
                    commands.append(Kill(key, child.attempt, "it did not end in time"))
        return commands

    def _stops(self, now_s: float) -> list[Command]:
        commands: list[Command] = []
        may_stop = [key for key, child in self._children.items() if self._is_to_stop(child)]
        for key in sorted(may_stop, reverse=True):
            child = self._children[key]
            if child.spec is not None or self._childless(key):
                starting = isinstance(child.state, Starting)
                self._children[key] = replace(child, state=Ending(now_s))
                attempt = child.attempt
                commands.append(Kill(key, attempt, "no longer wanted") if starting else Stop(key, attempt))
        return commands

    def _is_to_stop(self, child: Child) -> bool:
        """Whether it lives and is not desired, or not in its present form."""
        changed = child.running is not None and child.running != child.spec
        return isinstance(child.state, Starting | Up) and (changed or child.spec is None)

    def _childless(self, key: ChildKey) -> bool:
        """Whether everything that has to stop before it has ended."""
        return not any(
            other.kind > key.kind and isinstance(child.state, LIVING)
            for other, child in self._children.items()
            if key.kind is Kind.AUDIT or other.account == key.account
        ) and not (key.kind in _READ_WHAT_OTHERS_WRITE and self._others_are_ending())

    def _others_are_ending(self) -> bool:
        """Whether accounts or instruments are ending: sinks and alerts still have to read what they write."""
        return any(
            child.spec is None and key.kind in (Kind.ACCOUNT, Kind.INSTRUMENT) and isinstance(child.state, LIVING)
            for key, child in self._children.items()
        )

    def _begins(self, now_s: float) -> list[Command]:
        commands: list[Command] = []
        for key, child in list(self._children.items()):
            waits = isinstance(child.state, Starting) and child.state.waiting and child.spec is not None
            if not waits or self._ground_comes_up(key):
                continue
            if self._has_ground(key):
                self._children[key] = replace(child, state=Starting(now_s))
                commands.append(Begin(key, child.attempt))
            else:
                self._children[key] = replace(child, state=Ending(now_s))
                commands.append(Kill(key, child.attempt, "what it depends on did not come up"))
        return commands

    def _starts(self, now_s: float) -> list[Command]:
        begun = sum(self._weight(child) for child in self._children.values() if _is_starting(child, waiting=False))
        waits = sum(self._weight(child) for child in self._children.values() if _is_starting(child, waiting=True))
        # Kept apart: children that wait for a slow account must not hold up the others.
        rooms = {False: self._policy.wave_size - begun, True: self._policy.ahead - waits}
        commands: list[Command] = []
        ready = [key for key, child in self._children.items() if self._is_due(child, now_s)]
        for key in sorted(ready, key=lambda key: key.kind):
            waiting = self._ground_comes_up(key)
            if rooms[waiting] > 0 and (self._may_come_up(key) if waiting else self._has_ground(key)):
                rooms[waiting] -= self._weight(self._children[key])
                commands.append(self._start(key, now_s, waiting=waiting))
        return commands

    def _weight(self, child: Child) -> float:
        """How much of the room for starting children it takes."""
        spec = child.spec if child.running is None else child.running
        return 1 / self._policy.carried_at_once if spec is not None and spec.carried else 1

    def _is_due(self, child: Child, now_s: float) -> bool:
        match child.state:
            case Absent():
                due = True
            case Backoff(until_s=until_s):
                due = until_s <= now_s
            case _:
                due = False
        if child.spec is None or (child.spec.place and self._nodes is None):
            return False  # the nodes that may place it are not known yet
        return due

    def _ground_of(self, key: ChildKey) -> tuple[Child | None, Child | None]:
        """The audit actor and the account it depends on; either may be the child itself."""
        return self._children.get(AUDIT), self._children.get(_account_of(key))

    def _ground_comes_up(self, key: ChildKey) -> bool:
        """Whether something it depends on is starting for the first time."""
        others = [child for child in self._ground_of(key) if child is not self._children.get(key)]
        return any(child and isinstance(child.state, Starting) and not child.was_up for child in others)

    def _has_ground(self, key: ChildKey) -> bool:
        """Whether what it depends on is there. An account that was up once and is down now does not keep an instrument
        from starting: the instrument reports that it cannot verify anything."""
        audit, account = self._ground_of(key)
        if key.kind is Kind.AUDIT:
            return True
        if audit is None or not isinstance(audit.state, Up):
            return False
        return key.kind in _ON_THE_JOURNAL_ALONE or (account is not None and account.was_up)

    def _may_come_up(self, key: ChildKey) -> bool:
        """Whether what it depends on is up or starting."""
        audit, account = self._ground_of(key)
        comes_up = audit is not None and isinstance(audit.state, Starting) and not audit.was_up
        if audit is None or not (comes_up or isinstance(audit.state, Up)):
            return False
        if key.kind in _ON_THE_JOURNAL_ALONE:
            return True
        return account is not None and (account.was_up or isinstance(account.state, Starting))

    def _start(self, key: ChildKey, now_s: float, *, waiting: bool) -> Start:
        child = self._children[key]
        assert child.spec is not None  # noqa: S101 - checked by _is_due
        # Numbered across all children: one that is removed and added again does not repeat an old attempt.
        self._attempts += 1
        state = Starting(now_s, waiting)
        # Its node is not known again before it reports it: it must not be taken for lost, or moved, with its last one.
        self._children[key] = replace(
            child, state=state, running=child.spec, attempt=self._attempts, node=None, program=None
        )
        return Start(child.spec, self._attempts, waiting)

    def _probes(self, now_s: float) -> list[Command]:
        commands: list[Command] = []
        carried = sum(child.spec is not None and child.spec.carried for child in self._children.values())
        alone_s = (len(self._children) - carried) / self._policy.probes_per_s
        period_s = max(self._policy.probe_period_s, alone_s, carried / self._policy.carried_probes_per_s)
        for key, child in self._children.items():
            up = child.state
            if isinstance(up, Up) and up.asked_s is None and up.next_probe_s <= now_s:
                after_s = next_probe_s(now_s, period_s, self._uniform())
                if child.spec is not None and child.spec.carried:
                    after_s = math.ceil(after_s / CARRIED_TOGETHER_S) * CARRIED_TOGETHER_S
                self._children[key] = replace(child, state=replace(up, asked_s=now_s, next_probe_s=after_s))
                commands.append(Probe(key, child.attempt))
        return commands

    # Due times

    def _limit_s(self, child: Child) -> float | None:
        """When the present state times out."""
        match child.state:
            case Starting(since_s, waiting):
                return None if waiting else since_s + self._policy.start_timeout_s
            case Ending(since_s):
                return since_s + self._policy.stop_timeout_s
            case Up(asked_s=asked_s, silent_since_s=silent_since_s) if child.spec is not None:
                unanswered_s = silent_since_s if silent_since_s is not None else asked_s
                return None if unanswered_s is None else unanswered_s + child.spec.hung_after_s
        return None

    def _due_s(self, child: Child) -> Iterable[float]:
        limit_s = self._limit_s(child)
        if limit_s is not None:
            yield limit_s
        match child.state:
            case Backoff(until_s=until_s):
                yield until_s
            case Up(asked_s=None, next_probe_s=due_s):
                yield due_s
