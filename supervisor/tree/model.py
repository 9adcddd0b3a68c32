"""The vocabulary of the supervision tree: its children, their states, what happens, and what is to be done.

All times are seconds of one monotonic clock. The table at the head of :mod:`supervisor.tree.tree` says which event
answers which command.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from actors import names
from actors.runtime.nodes import EVERYWHERE, Nodes, Place
from supervisor.tree.restart import RestartHistory, RestartPolicy

PROBE_TIMEOUT_S = 3.0
STOP_CALL_TIMEOUT_S = 8.0
START_TIMEOUT_S = 120.0


class Kind(IntEnum):
    """What a child is, in the order of starting."""

    AUDIT = 0
    ACCOUNT = 1
    INSTRUMENT = 2
    SINK = 3
    ALERTS = 4


@dataclass(frozen=True, slots=True, order=True)
class ChildKey:
    """A child and the name of its actor: ``audit``, ``fx``, ``fx/GBP_JPY``."""

    kind: Kind
    name: str

    @property
    def account(self) -> str:
        """The account it belongs to; an account's is itself."""
        return names.account_of(self.name)


AUDIT = ChildKey(Kind.AUDIT, names.AUDIT)
ALERTS = ChildKey(Kind.ALERTS, names.ALERTS)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A child as it is desired. ``interval_s`` and ``timeout_s`` say when it hangs; ``fingerprint`` stands for all
    else it is started with, and a child whose spec changes is restarted in order. One that is ``carried`` shares its
    process with others: it costs less to start and to ask than a process of its own. It may be on the nodes of its
    ``place`` alone."""

    key: ChildKey
    interval_s: float
    timeout_s: float
    fingerprint: str = ""
    carried: bool = False
    place: Place = EVERYWHERE

    @property
    def hung_after_s(self) -> float:
        """How long it may go without a finished cycle or an answer."""
        return 3 * self.interval_s + self.timeout_s


@dataclass(frozen=True, slots=True)
class TreePolicy:
    """``wave_size`` bounds how many come up at once, ``ahead`` how many more may do so while what they stand on does,
    so that no core is idle meanwhile. ``probe_period_s`` is the mean time between probes of a child, or more where all
    of them together would be more than ``probes_per_s`` (``carried_probes_per_s`` of those that are carried),
    ``first_probe_s`` that while its first cycle has not finished or its connection is new, as that is what people wait
    for;
    of those that are carried, ``carried_at_once`` count as one that comes up;
    ``start_timeout_s`` and ``stop_timeout_s`` are the longest a command may stay unanswered before the child is
    killed (again)."""

    restart: RestartPolicy = field(default_factory=RestartPolicy)
    wave_size: int = 8
    ahead: int = 4
    probe_period_s: float = 2.0
    probes_per_s: float = 10.0
    carried_probes_per_s: float = 250.0
    carried_at_once: int = 16
    first_probe_s: float = 0.3
    start_timeout_s: float = 60.0
    stop_timeout_s: float = 15.0


# What is known of a child.


@dataclass(frozen=True, slots=True)
class Absent:
    """Not there, and free to start when its turn comes."""


@dataclass(frozen=True, slots=True)
class Starting:
    """Its start was commanded and has not been answered. ``waiting``: its process comes up while what it stands on
    does, and its work begins after that; then ``since_s`` is that time."""

    since_s: float
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Up:
    """It lives. ``asked_s`` is when the probe that is out was sent, ``silent_since_s`` when the first of those was
    that nobody answered since the last answer; ``next_probe_s`` is when the next is due."""

    since_s: float
    next_probe_s: float
    asked_s: float | None = None
    silent_since_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """Its stop or kill was commanded and has not been answered. ``death`` is why, where it counts as a death, and
    ``quarantine`` where it is left dead; otherwise it is gone after this, and starts again when it is still desired.
    ``lost``: it died with its node, which says nothing of itself."""

    since_s: float
    death: str | None = None
    quarantine: str | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Backoff:
    """Dead, and to be started again at ``until_s``."""

    until_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class InQuarantine:
    """Dead, and left so until an operator restarts it or its configuration changes."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pending:
    """Not there, and no node is in its place: it starts as soon as one is."""

    reason: str


State = Absent | Starting | Up | Ending | Backoff | InQuarantine | Pending
LIVING = Starting | Up | Ending


@dataclass(frozen=True, slots=True)
class Child:
    """All that is known of a child. ``spec`` is the desired one, ``None`` when it is not desired; ``running`` is the
    one it was started with, ``None`` when it was found living. ``attempt`` numbers its starts, ``restarts`` counts
    those after a death; ``was_up`` says whether it ever started. ``node`` is where it is, or last was, and ``blamed``
    where its last death was that counts, as far as that is known."""

    spec: ChildSpec | None
    state: State = field(default_factory=Absent)
    running: ChildSpec | None = None
    history: RestartHistory = field(default_factory=RestartHistory)
    attempt: int = 0
    restarts: int = 0
    was_up: bool = False
    node: str | None = None
    blamed: str | None = None


# What happens.


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class DesiredChanged:
    """These children, and no others, shall run. None at all is the stop of everything."""

    specs: tuple[ChildSpec, ...]


@dataclass(frozen=True, slots=True)
class Discovered:
    """These live under names of ours. Desired ones are taken over, the others are orphans and swept."""

    living: tuple[ChildKey, ...]


@dataclass(frozen=True, slots=True)
class NodesSeen:
    """The cluster's machines, as it says now."""

    nodes: Nodes


@dataclass(frozen=True, slots=True)
class PlacedOn:
    """The actor is on this node."""

    key: ChildKey
    attempt: int
    node: str


@dataclass(frozen=True, slots=True)
class Started:
    """The start was answered by the actor itself."""

    key: ChildKey
    attempt: int


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The start failed and nothing of it lives. ``permanent``: it will fail again, whatever we do."""

    key: ChildKey
    attempt: int
    reason: str
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class ProbeAnswered:
    """The actor answered. ``cycle_age_s`` is how long ago, by its own clock, it last finished a cycle; ``None`` when
    it never did. ``cycle_due`` is false while it need not run any: an account, the audit actor, a paused instrument.
    ``fingerprint`` stands for what it says it was started with, ``None`` where it does not say."""

    key: ChildKey
    attempt: int
    cycle_age_s: float | None = None
    cycle_due: bool = True
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """The actor did not answer in time. It may be busy."""

    key: ChildKey
    attempt: int


@dataclass(frozen=True, slots=True)
class Died:
    """The actor is dead, as Ray or its process says."""

    key: ChildKey
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing of the child lives after a Stop or a Kill."""

    key: ChildKey
    attempt: int


@dataclass(frozen=True, slots=True)
class OperatorRestart:
    """A person wants it restarted, whatever its history; this ends a quarantine."""

    key: ChildKey


@dataclass(frozen=True, slots=True)
class Remembered:
    """So often were these children restarted under supervisors before this one; those in ``quarantined`` were left
    dead, each with the reason."""

    restarts: tuple[tuple[ChildKey, int], ...]
    quarantined: tuple[tuple[ChildKey, str], ...] = ()


Answer = PlacedOn | Started | StartFailed | ProbeAnswered | ProbeFailed | Died | Ended
Event = Tick | DesiredChanged | Discovered | NodesSeen | OperatorRestart | Remembered | Answer


# What to do.


@dataclass(frozen=True, slots=True)
class Start:
    """Create the actor and begin its work, which for one that is ``waiting`` takes a :class:`Begin` besides."""

    spec: ChildSpec
    attempt: int
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """What it stands on has come up: begin its work."""

    key: ChildKey
    attempt: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End the actor in order."""

    key: ChildKey
    attempt: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End the actor at once."""

    key: ChildKey
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the actor for its health."""

    key: ChildKey
    attempt: int


@dataclass(frozen=True, slots=True)
class RestartScheduled:
    """Make known that it died of ``reason`` and comes back after ``delay_s``, for the ``restarts``-th time."""

    key: ChildKey
    reason: str
    delay_s: float
    restarts: int


@dataclass(frozen=True, slots=True)
class NodeLost:
    """Make known that it died with its node, which counts as no restart: there are ``restarts`` of it. ``forgives``:
    that death was told as one that counts, before it was known that the node is lost."""

    key: ChildKey
    reason: str
    restarts: int
    forgives: bool = False


@dataclass(frozen=True, slots=True)
class NoPlace:
    """Make known, as an alert, that no node is in its place, and that it waits for one."""

    key: ChildKey
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Make known, as an alert, that it stays down."""

    key: ChildKey
    reason: str


Command = Start | Begin | Stop | Kill | Probe | RestartScheduled | NodeLost | NoPlace | Quarantined
