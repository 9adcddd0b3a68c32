"""The vocabulary of the supervision tree: children, their states, events and commands.

All times are seconds of one monotonic clock. The table at the head of :mod:`supervisor.tree.tree` shows which events
answer each command.
"""

from __future__ import annotations

from dataclasses import field
from enum import IntEnum

from actors import names
from actors.runtime.nodes import EVERYWHERE, Nodes, Place
from brokers.frozen import dataclass
from supervisor.tree.restart import RestartHistory, RestartPolicy

PROBE_TIMEOUT_S = 3.0
STOP_CALL_TIMEOUT_S = 8.0
START_TIMEOUT_S = 120.0


class Kind(IntEnum):
    """The kind of a child. The order is that of starting."""

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
        """The account a child belongs to; for an account, itself."""
        return names.account_of(self.name)


AUDIT = ChildKey(Kind.AUDIT, names.AUDIT)
ALERTS = ChildKey(Kind.ALERTS, names.ALERTS)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A desired child. ``interval_s`` and ``timeout_s`` determine when it counts as hung. ``fingerprint`` covers
    everything else it is started with; a child whose spec changes is restarted in an orderly way. A ``carried`` child
    shares its process with others, so it costs less to start and to probe. It may run only on the nodes of its
    ``place``."""

    key: ChildKey
    interval_s: float
    timeout_s: float
    fingerprint: str = ""
    carried: bool = False
    place: Place = EVERYWHERE

    @property
    def hung_after_s(self) -> float:
        """How long it may go without a finished cycle or an answer before it counts as hung."""
        return 3 * self.interval_s + self.timeout_s


@dataclass(frozen=True, slots=True)
class TreePolicy:
    """Bounds on what happens at once. ``wave_size``: how many children may start at once; ``ahead``: how many more may
    start while what they depend on starts too, so that no core is idle. ``probe_period_s``: the mean time between
    probes of a child, longer where all children together would exceed ``probes_per_s`` (``carried_probes_per_s`` for
    carried ones); ``first_probe_s``: the same while its first cycle has not finished or its connection is new, since
    people wait for that. ``carried_at_once`` carried children count as one that starts. ``start_timeout_s`` and
    ``stop_timeout_s``: how long a command may stay unanswered before the child is killed (again). ``well_within_s``:
    how long one that was replaced by another version may take to be as well as it was, or as long as it takes to count
    as hung, if that is longer."""

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
    well_within_s: float = 60.0


# States of a child.


@dataclass(frozen=True, slots=True)
class Absent:
    """Not running, and free to start when its turn comes."""


@dataclass(frozen=True, slots=True)
class Starting:
    """Its Start was commanded and has not been answered. ``waiting``: its process starts while what it depends on
    starts too, and its work begins after that; then ``since_s`` is when its work was begun."""

    since_s: float
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Up:
    """It lives. ``asked_s`` is when the pending probe was sent, ``silent_since_s`` when the first probe after its last
    answer was sent that got none; ``next_probe_s`` is when the next probe is due. ``at_work``: it has answered since it
    came up and, where it has a book, found that in step. ``well``: so it was when it last answered, or, where it has no
    book, it had all it needs."""

    since_s: float
    next_probe_s: float
    asked_s: float | None = None
    silent_since_s: float | None = None
    at_work: bool = False
    well: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """Its Stop or Kill was commanded and has not been answered. ``death`` is the reason where it counts as a death,
    ``quarantine`` the reason where it stays down; otherwise it is absent afterwards, and starts again if still desired.
    ``lost``: it died with its node, which is no fault of its own."""

    since_s: float
    death: str | None = None
    quarantine: str | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Backoff:
    """Dead; to be started again at ``until_s``."""

    until_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class InQuarantine:
    """Dead; stays down until an operator restarts it or its configuration changes."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pending:
    """Not running, since no node can place it: it starts as soon as one can."""

    reason: str


State = Absent | Starting | Up | Ending | Backoff | InQuarantine | Pending
LIVING = Starting | Up | Ending


@dataclass(frozen=True, slots=True)
class Child:
    """Everything known of a child. ``spec`` is the desired one, ``None`` when it is not desired; ``running`` is the one
    it was started with, ``None`` when it was found living. ``attempt`` numbers its starts, ``restarts`` counts those
    after a death; ``was_up`` is whether it was ever up. ``node`` is its current or last node, ``blamed`` the node of
    its last death that counts; both as far as they are known. ``program`` is the version that its present process runs:
    ``None`` until that has reported it, empty where it reports none."""

    spec: ChildSpec | None
    state: State = field(default_factory=Absent)
    running: ChildSpec | None = None
    history: RestartHistory = field(default_factory=RestartHistory)
    attempt: int = 0
    restarts: int = 0
    was_up: bool = False
    node: str | None = None
    blamed: str | None = None
    program: str | None = None


# Events.


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class DesiredChanged:
    """Exactly these children should run. An empty one stops everything."""

    specs: tuple[ChildSpec, ...]


@dataclass(frozen=True, slots=True)
class Discovered:
    """These actors live under names of ours. Desired ones are taken over; the others are orphans and are stopped."""

    living: tuple[ChildKey, ...]


@dataclass(frozen=True, slots=True)
class NodesSeen:
    """The nodes of the cluster, as it now reports them."""

    nodes: Nodes


@dataclass(frozen=True, slots=True)
class PlacedOn:
    """The actor is on this node."""

    key: ChildKey
    attempt: int
    node: str


@dataclass(frozen=True, slots=True)
class Started:
    """The actor itself answered its start."""

    key: ChildKey
    attempt: int


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The start failed and nothing of it lives. ``permanent``: trying again cannot help."""

    key: ChildKey
    attempt: int
    reason: str
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class ProbeAnswered:
    """The actor answered. ``cycle_age_s`` is how long ago, by its own clock, it last finished a cycle; ``None`` before
    the first. ``cycle_due`` is false where it need not run cycles: an account, the audit actor, a paused instrument.
    ``fingerprint`` is that of what it was started with, as it reports it; ``None`` where it does not. ``verified``: its
    book was found in step since it was started. ``program`` is the version that its process runs, empty where it
    reports none, ``None`` where that is not looked at. ``well``: it checks its book and finds it in step now, is
    connected to its broker, can write the journal."""

    key: ChildKey
    attempt: int
    cycle_age_s: float | None = None
    cycle_due: bool = True
    fingerprint: str | None = None
    verified: bool = False
    program: str | None = None
    well: bool = False


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """The actor did not answer in time. It may be busy."""

    key: ChildKey
    attempt: int


@dataclass(frozen=True, slots=True)
class Died:
    """The actor is dead, by Ray or by its process."""

    key: ChildKey
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing of the child lives after its Stop or Kill."""

    key: ChildKey
    attempt: int


@dataclass(frozen=True, slots=True)
class OperatorRestart:
    """A person requests its restart, whatever its history; this ends a quarantine."""

    key: ChildKey


@dataclass(frozen=True, slots=True)
class Roll:
    """A person requests that every child runs this version: those that run another are replaced one after another."""

    program: str


@dataclass(frozen=True, slots=True)
class GiveUpRoll:
    """The roll ends where it is."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """The restarts of these children under former supervisors. Those in ``quarantined`` were left down, each with its
    reason."""

    restarts: tuple[tuple[ChildKey, int], ...]
    quarantined: tuple[tuple[ChildKey, str], ...] = ()


Answer = PlacedOn | Started | StartFailed | ProbeAnswered | ProbeFailed | Died | Ended
Event = Tick | DesiredChanged | Discovered | NodesSeen | OperatorRestart | Roll | GiveUpRoll | Remembered | Answer


# Commands.


@dataclass(frozen=True, slots=True)
class Start:
    """Create the actor and begin its work; one that is ``waiting`` begins its work only with :class:`Begin`."""

    spec: ChildSpec
    attempt: int
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """What it depends on is up: begin its work."""

    key: ChildKey
    attempt: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End the actor in an orderly way."""

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
    """Report that it died of ``reason`` and is started again after ``delay_s``, for the ``restarts``-th time."""

    key: ChildKey
    reason: str
    delay_s: float
    restarts: int


@dataclass(frozen=True, slots=True)
class NodeLost:
    """Report that it died with its node, which does not count as a restart: its count stays ``restarts``. With
    ``forgives``, the death was already reported as one that counts, before the node was known to be lost."""

    key: ChildKey
    reason: str
    restarts: int
    forgives: bool = False


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Make known that it is ended in order, to be made anew on another node or by another version, because of the
    ``reason``. There are ``restarts`` of it, and this is none. ``programs`` are the two versions, where that is it."""

    key: ChildKey
    reason: str
    restarts: int
    programs: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Rolled:
    """Make known that a roll has ended: every child runs the version, or ``failed`` did not come up for that
    ``reason``, and those that run another are left as they are."""

    program: str
    failed: ChildKey | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class NoPlace:
    """Alert that no node can place it, and that it waits for one."""

    key: ChildKey
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Alert that it stays down."""

    key: ChildKey
    reason: str


Command = (
    Start | Begin | Stop | Kill | Probe | RestartScheduled | NodeLost | HandedOver | Rolled | NoPlace | Quarantined
)
